"""Where DBOS keeps its state: in the application's own PostgreSQL, which also knows what processes live.

An executor id is the name of its process's connections. (A pooler hides the names; connect past it.)
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from importlib.metadata import version

import psycopg
from psycopg.conninfo import conninfo_to_dict

from app import database
from app.models import Fault

# A machine that vanishes without a word is gone after half a minute, not after hours.
KEEPALIVES = "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"

url = database.url
ping = database.ping


async def diagnose() -> AsyncIterator[str]:
    """What `doctor` tells of the engine. Raises `UserError`."""
    allowed = "SELECT to_regnamespace('dbos') IS NOT NULL OR has_database_privilege(current_database(), 'CREATE')"
    try:
        async with await psycopg.AsyncConnection.connect(await asyncio.to_thread(url)) as connection:
            if await (await connection.execute(allowed)).fetchone() == (False,):
                user, name = connection.info.user, connection.info.dbname
                raise Fault(f"{user} may not create the schema `dbos`.", f"`GRANT CREATE ON DATABASE {name} TO {user}`")
    except psycopg.Error as error:
        cause = f"The database of DATABASE_URL cannot be used: {' '.join(str(error).split())}"
        raise Fault(cause, "Start the server, or correct DATABASE_URL in .env.") from None
    yield f"DBOS {version('dbos')}, in this process, with its state in the database"


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
