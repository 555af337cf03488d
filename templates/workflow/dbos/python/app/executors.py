"""Who runs what: DBOS recovers the runs of its own executor id, so no two processes may share one.

An id is a session lock in PostgreSQL. It is held as long as its process lives and freed when that
dies, however it dies. So a free id tells that the runs under it are orphans.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from dbos import DBOS

CHECK_SECONDS = 5
"""How long the runs of a dead process wait at most until another one takes them over."""

LOCKS = 4_150_713  # first key of the advisory locks, to stay clear of other users of the database


@asynccontextmanager
async def claim(database_url: str) -> AsyncIterator[str]:
    """The first free id, for as long as the block runs."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as locks:
        number = 0
        while not await _lock(locks, number):
            number += 1
        yield f"executor-{number}"


async def adopt_orphans(database_url: str) -> None:
    """For ever: find runs whose process is gone and put them back into the queue."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as locks:
        while True:
            running = await DBOS.list_workflows_async(
                status="PENDING", load_input=False, load_output=False
            )
            for executor in {run.executor_id for run in running}:
                number = int(executor.removeprefix("executor-"))
                if await _lock(locks, number):
                    orphans = [run.workflow_id for run in running if run.executor_id == executor]
                    await DBOS.resume_workflows_async(orphans)
                    await _unlock(locks, number)
            await asyncio.sleep(CHECK_SECONDS)


async def _lock(locks: psycopg.AsyncConnection, number: int) -> bool:
    got = await locks.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCKS, number])
    return (await got.fetchone()) == (True,)


async def _unlock(locks: psycopg.AsyncConnection, number: int) -> None:
    await locks.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCKS, number])
