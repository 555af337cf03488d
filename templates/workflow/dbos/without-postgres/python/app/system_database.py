"""Where DBOS keeps its state: in the PostgreSQL of DBOS_SYSTEM_DATABASE_URL or, without one, in SQLite in DATA_DIR.

An executor lives as long as PostgreSQL has connections under its id. (A pooler hides the names; connect past it.)
With SQLite, it lives as long as it holds the lock of a file, so all processes are on one machine.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from app.models import Fault, UserError
from app.settings import FromEnvironment, settings

PATIENCE = 5  # seconds that the server may take to answer
CONNECT_ARGS = {
    "connect_timeout": str(PATIENCE),
    "target_session_attrs": "read-write",
    # A machine that vanishes without a word is gone after half a minute, not after hours.
    "options": "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
}
FOLDER = settings.data_dir / "dbos"


class SystemDatabaseSettings(FromEnvironment):
    dbos_system_database_url: str = ""
    """A PostgreSQL for the state of DBOS, `postgresql://user:password@host/name`. Empty: SQLite in DATA_DIR."""


def url() -> str:
    given = SystemDatabaseSettings().dbos_system_database_url
    if not given:
        FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
        return f"sqlite:///{FOLDER / 'state.sqlite'}"
    postgres = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+psycopg://", given)
    try:
        if make_url(postgres).drivername == "postgresql+psycopg":
            return postgres
    except ArgumentError:
        pass
    raise UserError("DBOS_SYSTEM_DATABASE_URL is not of the form postgresql://user:password@host/name.")


async def ping() -> None:
    """Raise unless the database answers."""
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.to_thread(lambda: _engine().connect().close())
    except TimeoutError as error:
        raise OperationalError("ping", None, error) from error


async def diagnose() -> AsyncIterator[str]:
    """What `doctor` tells of the engine. Raises `UserError`."""
    try:
        await ping()
    except (SQLAlchemyError, OSError) as error:
        cause = f"DBOS cannot keep its state: {getattr(error, 'orig', error)}"
        raise Fault(cause, "Correct DBOS_SYSTEM_DATABASE_URL or DATA_DIR in .env.") from None
    place = "SQLite" if _engine().dialect.name == "sqlite" else "the PostgreSQL of DBOS_SYSTEM_DATABASE_URL"
    yield f"DBOS {version('dbos')}, in this process, with its state in {place}"


@contextmanager
def enlist(executor_id: str) -> Iterator[dict[str, str]]:
    """Gives what DBOS has to connect with for `living` to count this process, inside the block."""
    if _engine().dialect.name == "postgresql":
        yield CONNECT_ARGS | {"application_name": executor_id}
        return
    with _census():
        lock = FileLock(FOLDER / f"{executor_id}.lock").acquire()
    with lock:
        yield {}


@contextmanager
def living() -> Iterator[set[str]]:
    """The executors whose processes live. Of all processes, one at a time is in the block."""
    if _engine().dialect.name == "postgresql":
        with _engine().begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('orphaned runs'))"))
            yield set(connection.scalars(text("SELECT application_name FROM pg_stat_activity")))
    else:
        with _census():
            yield {path.stem for path in FOLDER.glob("*.lock") if _is_held(path)}


@cache
def _engine() -> Engine:
    address = url()
    return create_engine(address, pool_pre_ping=True, connect_args={} if address.startswith("sqlite") else CONNECT_ARGS)


def _census() -> FileLock:
    return FileLock(FOLDER / "census")


def _is_held(path: Path) -> bool:
    try:
        with FileLock(path, blocking=False):
            pass
    except Timeout:
        return True
    path.unlink()  # of a process that is gone
    return False
