"""Which process works on which runs: DBOS launched under an id of its own, and the runs of a dead process adopted.

To DBOS, an executor id is a name. Here it is also a session lock in PostgreSQL, held while its process lives and freed
when that dies, however it dies. (A pooler in transaction mode breaks session locks; connect past it.)
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import psycopg
from dbos import DBOS, DBOSClient, EnqueueOptions, WorkflowStatus
from opentelemetry.context import get_current
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError

from app import database
from app.models import UserError
from app.settings import settings

APPLICATION_VERSION = "1"
"""Fixed, so that runs outlive an edit. Raise it with a change that runs under way must not meet."""

CHECK_SECONDS = 5
"""An id that is free at two checks in a row is dead: its runs move after 5 to 10 seconds."""

# A machine that vanishes without a word frees its locks after half a minute, not after hours.
KEEPALIVES = "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"

QUEUE = "runs"
queue = QUEUE
"""Where this process puts runs. A command has a queue of its own: its settings may differ from a server's."""
client: DBOSClient
"""What requests write through: where the database cannot write it raises, while DBOS itself waits without end."""

log = logging.getLogger("app")


@asynccontextmanager
async def launch(concurrency: int | None) -> AsyncIterator[None]:
    """DBOS, for as long as the block runs. It works on so many runs of all processes at once or, with None, as a
    command, just on those that this process starts."""
    global queue, client
    executor_id = str(uuid4())
    queue = f"command {executor_id}" if concurrency is None else QUEUE
    client = DBOSClient(system_database_url=database.url(), application_name="app", retry_connection_errors=False)
    async with await psycopg.AsyncConnection.connect(database.url(), autocommit=True, options=KEEPALIVES) as locks:
        await _lock(locks, executor_id)
        DBOS(
            config={
                "name": "app",
                "system_database_url": database.url(),
                "application_version": APPLICATION_VERSION,
                "executor_id": executor_id,
                "log_level": "WARNING",
                "db_engine_kwargs": {"hide_parameters": True},  # they have documents in them, and would be logged
                "enable_otlp": True,
                "otel_attribute_format": "semconv",
            }
        )
        DBOS.listen_queues([] if concurrency == 0 else [queue])
        try:
            DBOS.migrate(database.url())
            if concurrency != 0:  # before the launch: later, DBOS would find it within a second only
                await client.register_queue_async(queue, worker_concurrency=concurrency, polling_interval_sec=0.1)
            DBOS.launch()
        except DBAPIError as error:  # it makes a schema of its own
            raise UserError(f"DBOS cannot use the database: {str(error.orig).splitlines()[0]}") from error
        adoption = asyncio.create_task(_adopt_orphans(executor_id))
        try:
            yield
        finally:
            adoption.cancel()
            if queue != QUEUE:
                await client.delete_queue_async(queue)
            client.destroy()
            patience = settings.drain_seconds if concurrency else 0
            await asyncio.to_thread(DBOS.destroy, workflow_completion_timeout_sec=patience)


async def enqueue(workflow: str, run_id: str, attributes: dict[str, str], argument: BaseModel) -> None:
    options: EnqueueOptions = {
        "workflow_name": workflow,
        "workflow_id": run_id,
        "queue_name": queue,
        "app_version": APPLICATION_VERSION,
        "attributes": attributes,
        "otel_context": get_current(),
    }
    await client.enqueue_async(options, argument)


async def _adopt_orphans(own_id: str) -> None:
    """Put the runs of dead processes into the queue: at once when this one starts, then again and again."""
    suspects: set[str] | None = None
    while queue == QUEUE:
        try:
            async with await psycopg.AsyncConnection.connect(database.url(), autocommit=True) as locks:
                while True:
                    suspects = await _adopt(locks, own_id, suspects)
                    await asyncio.sleep(CHECK_SECONDS)
        except Exception as error:
            log.warning("Looking for orphaned runs failed, and is tried again: %s", error)
            await asyncio.sleep(CHECK_SECONDS)


async def _adopt(locks: psycopg.AsyncConnection, own_id: str, suspects: set[str] | None) -> set[str]:
    free: set[str] = set()
    for executor_id in {run.executor_id or "" for run in await _running()}:
        # The own id is free only if the connection that held it was lost: this one keeps it then.
        if not await _lock(locks, executor_id) or executor_id == own_id:
            continue
        free.add(executor_id)
        if suspects is None or executor_id in suspects:
            # Asked again under the lock: another process may have taken them over meanwhile.
            orphans = [run.workflow_id for run in await _running(executor_id)]
            log.warning("Taking over %d runs of a process that is gone.", len(orphans))
            await DBOS.resume_workflows_async(orphans, queue_name=QUEUE)
        await locks.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [executor_id])
    return free


async def _running(executor_id: str | None = None) -> list[WorkflowStatus]:
    return await DBOS.list_workflows_async(
        status="PENDING", executor_id=executor_id, load_input=False, load_output=False
    )


async def _lock(locks: psycopg.AsyncConnection, executor_id: str) -> bool:
    got = await locks.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [executor_id])
    return await got.fetchone() == (True,)
