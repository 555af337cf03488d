"""Which process runs what: each has an executor id of its own, and the runs of a dead one go to another.

To DBOS, an id is a name. Here it is also a session lock in PostgreSQL, held while its process lives and freed when that
dies, however it dies. (A pooler in transaction mode breaks session locks; connect past it.)
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import psycopg
from dbos import DBOS, WorkflowStatus

CHECK_SECONDS = 5
"""An id that is free at two checks in a row is dead: its runs move after 5 to 10 seconds."""

# A machine that vanishes without a word frees its locks after half a minute, not after hours.
KEEPALIVES = "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"

log = logging.getLogger("app")


@asynccontextmanager
async def claim(database_url: str) -> AsyncIterator[str]:
    """An id for this process, for as long as the block runs."""
    executor_id = str(uuid4())
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True, options=KEEPALIVES) as locks:
        await _lock(locks, executor_id)
        yield executor_id


async def adopt_orphans(database_url: str, own_id: str, queue: str) -> None:
    """Put the runs of dead processes into the queue: at once when this one starts, then again and again."""
    suspects: set[str] | None = None
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as locks:
                while True:
                    suspects = await _adopt(locks, own_id, queue, suspects)
                    await asyncio.sleep(CHECK_SECONDS)
        except psycopg.Error as error:
            log.warning("Looking for orphaned runs failed, and is tried again: %s", error)
            await asyncio.sleep(CHECK_SECONDS)


async def _adopt(locks: psycopg.AsyncConnection, own_id: str, queue: str, suspects: set[str] | None) -> set[str]:
    free: set[str] = set()
    for executor_id in {run.executor_id or "" for run in await _running()}:
        # The own id is free only if the connection that held it was lost: this one keeps it then.
        if not await _lock(locks, executor_id) or executor_id == own_id:
            continue
        free.add(executor_id)
        if suspects is None or executor_id in suspects:
            # Asked again under the lock: another process may have taken them over meanwhile.
            orphans = [run.workflow_id for run in await _running() if run.executor_id == executor_id]
            log.warning("Taking over %d runs of a process that is gone.", len(orphans))
            await DBOS.resume_workflows_async(orphans, queue_name=queue)
        await locks.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [executor_id])
    return free


async def _running() -> list[WorkflowStatus]:
    return await DBOS.list_workflows_async(status="PENDING", load_input=False, load_output=False)


async def _lock(locks: psycopg.AsyncConnection, executor_id: str) -> bool:
    got = await locks.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [executor_id])
    return await got.fetchone() == (True,)
