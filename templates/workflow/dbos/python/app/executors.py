"""Which process runs what. DBOS recovers the runs under its own executor id, so no two processes may share one, and the
runs of a process that died for good must go to another.

An executor id is a session lock in PostgreSQL: held while its process lives, freed when it dies, however it dies. (A
pooler in transaction mode breaks session locks; connect past it.)
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import psycopg
from dbos import DBOS, WorkflowStatus

CHECK_SECONDS = 5
"""An id that is free at two checks in a row is dead: its runs move after 5 to 10 seconds."""

LOCKS = 4_150_713  # first key of the locks, to stay clear of other users of the database
# A machine that vanishes without a word frees its locks after half a minute, not after hours.
KEEPALIVES = "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"

log = logging.getLogger("app")


@asynccontextmanager
async def claim(database_url: str) -> AsyncIterator[str]:
    """The first free id, for as long as the block runs."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True, options=KEEPALIVES) as locks:
        for number in count():
            if await _lock(locks, number):
                yield str(number)
                return


async def adopt_orphans(database_url: str, own_id: str) -> None:
    """For as long as it runs: put the runs of dead processes back into the queue."""
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                database_url, autocommit=True, options=KEEPALIVES
            ) as locks:
                await _adopt(locks, own_id)
        except psycopg.Error as error:
            log.warning("Looking for orphaned runs failed, and is tried again: %s", error)
            await asyncio.sleep(CHECK_SECONDS)


async def _adopt(locks: psycopg.AsyncConnection, own_id: str) -> None:
    suspects: set[str] = set()
    while True:
        running = await _running()
        free: set[str] = set()
        for executor_id in sorted({run.executor_id or "" for run in running}):
            if not executor_id.isdecimal() or not await _lock(locks, int(executor_id)):
                continue
            if executor_id == own_id:
                continue  # the connection that held it was lost; from now on this one does
            free.add(executor_id)
            if executor_id in suspects:
                # Asked again under the lock: another process may have taken them over meanwhile.
                orphans = [run.workflow_id for run in await _running() if run.executor_id == executor_id]
                log.warning("Taking over %d runs of executor %s, which is gone.", len(orphans), executor_id)
                await DBOS.resume_workflows_async(orphans)
            await locks.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCKS, int(executor_id)])
        suspects = free
        await asyncio.sleep(CHECK_SECONDS)


async def _running() -> list[WorkflowStatus]:
    return await DBOS.list_workflows_async(status="PENDING", load_input=False, load_output=False)


async def _lock(locks: psycopg.AsyncConnection, number: int) -> bool:
    got = await locks.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCKS, number])
    return await got.fetchone() == (True,)
