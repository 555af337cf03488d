"""DBOS, launched: which process works on which runs, and for how long they are kept.

To DBOS, an executor id is a name. `system_database` knows which of them live: the runs of the others go on elsewhere.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from dbos import DBOS, DBOSClient
from sqlalchemy.exc import DBAPIError

from app import system_database
from app.models import UserError
from app.settings import settings

APPLICATION_VERSION = "1"
"""Fixed, so that runs outlive an edit. Raise it with a change that runs under way must not meet."""

CHECK_SECONDS = 5
"""A process that is gone at two checks in a row is dead: its runs move after 5 to 10 seconds."""

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
    queue = executor_id if concurrency is None else QUEUE
    url = system_database.url()
    client = DBOSClient(system_database_url=url, application_name="app", retry_connection_errors=False, lazy=True)
    with system_database.enlist(executor_id) as connect_args:
        DBOS(
            config={
                "name": "app",
                "system_database_url": url,
                "application_version": APPLICATION_VERSION,
                "executor_id": executor_id,
                "log_level": "WARNING",
                # Parameters have documents in them, and would be logged.
                "db_engine_kwargs": {"connect_args": connect_args, "hide_parameters": True},
                "notification_coalesce_sec": 0.1,  # readers of events look that often themselves
                "enable_otlp": True,
                "otlp_log_level": "WARNING" if settings.trace_content else "CRITICAL",  # a warning may quote it
                "otel_attribute_format": "semconv",
            }
        )
        DBOS.listen_queues([] if concurrency == 0 else [queue])
        try:
            DBOS.migrate(url)
            if concurrency != 0:  # before the launch: later, DBOS would find it within a second only
                await client.register_queue_async(queue, worker_concurrency=concurrency, polling_interval_sec=0.1)
            DBOS.launch()
        except DBAPIError as error:  # it makes a schema of its own
            raise UserError(f"DBOS cannot use the database: {str(error.orig).splitlines()[0]}") from error
        care = asyncio.create_task(_look_after_runs())
        try:
            yield
        finally:
            care.cancel()
            await asyncio.to_thread(_stop, executor_id, settings.drain_seconds if concurrency else 0)


async def delete_runs(days: float) -> int:
    """Delete what is kept of the runs that ended so many days ago or earlier, the text they worked on included."""
    before, deleted = (datetime.now(UTC) - timedelta(days)).isoformat(), 0
    while ended := await client.list_workflows_async(completed_before=before, limit=500, load_input=False):
        await client.delete_workflows_async([run.workflow_id for run in ended])
        deleted += len(ended)
    return deleted


async def _look_after_runs() -> None:
    suspects: set[str] = set()
    while True:
        try:
            suspects = await asyncio.to_thread(_adopt_orphans, suspects)
            if settings.run_retention_days:
                await delete_runs(settings.run_retention_days)
        except Exception as error:
            suspects = set()
            log.warning("Orphaned and old runs were not looked after, the next time will do: %s", error)
        await asyncio.sleep(CHECK_SECONDS)


def _adopt_orphans(suspects: set[str]) -> set[str]:
    """Hand over what the suspects left that are still gone. Returns all that are: the next suspects."""
    with system_database.living() as living:
        runs = client.list_queued_workflows(load_input=False)
        owners = {owner for run in runs for owner in (run.executor_id, run.queue_name) if owner}
        owners |= {queue.name for queue in client.list_queues()}
        gone = owners - living - {QUEUE}
        for executor_id in gone & suspects:
            _hand_over(executor_id)
    return gone


def _hand_over(executor_id: str) -> None:
    """Put the runs that a process has left into the queue of all, and delete its own."""
    left = client.list_queued_workflows(executor_id=executor_id, status="PENDING", load_input=False)
    left += client.list_queued_workflows(queue_name=executor_id, status="ENQUEUED", load_input=False)
    if left:
        log.warning("%d runs that a process has left go on in another.", len(left))
        client.resume_workflows([run.workflow_id for run in left], queue_name=QUEUE)
    client.delete_queue(executor_id)


def _stop(executor_id: str, patience: int) -> None:
    DBOS.destroy(workflow_completion_timeout_sec=patience)
    with suppress(DBAPIError):  # others find them as well, a little later
        _hand_over(executor_id)
    client.destroy()
