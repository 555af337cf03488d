"""Which process runs what. DBOS recovers the runs under its own executor id, so no two processes
may share one, and the runs of a process that died for good must go to another.

An executor id is a session lock in PostgreSQL: held while its process lives, freed when it dies,
however it dies. (A pooler in transaction mode breaks session locks; connect past it.)
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from dbos import DBOS

CHECK_SECONDS = 5
"""An id that is free at two checks in a row is dead: its runs move after 5 to 10 seconds."""

LOCKS = 4_150_713  # first key of the locks, to stay clear of other users of the database
PREFIX = "executor-"

log = logging.getLogger("app")


@asynccontextmanager
async def claim(database_url: str) -> AsyncIterator[str]:
    """The first free id, for as long as the block runs."""
    async with await _connect(database_url) as locks:
        number = 0
        while not await _lock(locks, number):
            number += 1
        yield f"{PREFIX}{number}"


async def adopt_orphans(database_url: str) -> None:
    """For as long as it runs: put the runs of dead processes back into the queue."""
    while True:
        try:
            async with await _connect(database_url) as locks:
                await _keep_adopting(locks)
        except psycopg.Error as error:
            log.warning("Looking for orphaned runs failed, and is tried again: %s", error)
            await asyncio.sleep(CHECK_SECONDS)


async def _keep_adopting(locks: psycopg.AsyncConnection) -> None:
    suspects: set[str] = set()
    while True:
        running = await DBOS.list_workflows_async(
            status="PENDING", load_input=False, load_output=False
        )
        owners = {run.executor_id for run in running if run.executor_id}
        free: set[str] = set()
        for owner in sorted(o for o in owners if o.startswith(PREFIX)):
            number = int(owner.removeprefix(PREFIX))
            if await _lock(locks, number):
                free.add(owner)
                if owner in suspects:
                    await _requeue(owner)
                await locks.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCKS, number])
        suspects = free
        await asyncio.sleep(CHECK_SECONDS)


async def _requeue(owner: str) -> None:
    """To be called with the owner's lock held, so that nobody else does the same."""
    orphans = await DBOS.list_workflows_async(
        status="PENDING", executor_id=owner, load_input=False, load_output=False
    )
    log.warning("Taking over %d runs of %s, which is gone.", len(orphans), owner)
    await DBOS.resume_workflows_async([run.workflow_id for run in orphans])


async def _connect(database_url: str) -> psycopg.AsyncConnection:
    locks = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
    # A machine that vanishes without a word frees its locks after half a minute, not after hours.
    for setting, seconds in (("idle", 15), ("interval", 5), ("count", 3)):
        name = f"tcp_keepalives_{setting}"
        await locks.execute("SELECT set_config(%s, %s, false)", [name, str(seconds)])
    return locks


async def _lock(locks: psycopg.AsyncConnection, number: int) -> bool:
    got = await locks.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCKS, number])
    return await got.fetchone() == (True,)
