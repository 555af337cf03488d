"""Where DBOS keeps its state: in the application's own PostgreSQL, which also knows what processes live.

An executor id is the name of its process's connections. (A pooler hides the names; connect past it.)
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict

from app import database

# A machine that vanishes without a word is gone after half a minute, not after hours.
KEEPALIVES = "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"

url = database.url
ping = database.ping


@contextmanager
def enlist(executor_id: str) -> Iterator[dict[str, str]]:
    """Gives what DBOS has to connect with for `living` to count this process, inside the block."""
    options = conninfo_to_dict(url()).get("options", "")
    yield {"application_name": executor_id, "options": f"{KEEPALIVES} {options}"}


@contextmanager
def living() -> Iterator[set[str]]:
    """The executors whose processes live. Of all processes, one at a time is in the block."""
    with psycopg.connect(url()) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('orphaned runs'))")
        yield {name for (name,) in connection.execute("SELECT application_name FROM pg_stat_activity")}
