"""Durable runs, by DBOS. Its state lives in schema `dbos` of the application's own database.

A run is a workflow; each call to a model or a tool in it is a step. A step that is
recorded never runs again; one that was cut off runs again when the run is recovered.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, uuid4, uuid5
from weakref import WeakValueDictionary

from dbos import DBOS, EnqueueOptions, StepOptions, WorkflowStatus
from dbos import error as dbos_error
from opentelemetry.context import get_current
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError

from app import agent, database, executors, ingestion, llm, observability, system_database
from app.agent import Question
from app.ingestion import Upload
from app.models import Answer, Document, Event, Run, Step, UserError

T = TypeVar("T")

STATUS = {"ENQUEUED": "queued", "PENDING": "running", "SUCCESS": "succeeded", "CANCELLED": "cancelled"}  # else failed

_tasks: WeakValueDictionary[str, Any] = WeakValueDictionary()
"""Of runs that this process works on. When one is done, the end of its run is recorded."""


class KeyReusedError(UserError):
    """An idempotency key came again with other content."""


class StepError(Exception):
    """Why a step failed, in words: not every error can be recorded as it is."""


lifespan = executors.launch
delete_runs = executors.delete_runs
ping, diagnose = system_database.ping, system_database.diagnose
UNAVAILABLE = (*database.UNAVAILABLE, OperationalError)


def is_retryable(error: BaseException) -> bool:
    """Whether the database of the documents or that of the runs could not do its part, for now."""
    return database.is_retryable(getattr(error, "orig", error)) or isinstance(error, OperationalError)


def explain(error: BaseException) -> str:
    """What a retryable error says, in a line; up to the colon, for everybody."""
    return database.explain(getattr(error, "orig", error))


async def start_question(question: Question, key: str | None = None) -> str:
    """Start a run and return its id; with the key of an earlier run, that one's. Raises `KeyReusedError`."""
    with observability.asking(question):
        return await _start(_question, question, question.question, key)


async def start_ingestion(upload: Upload, key: str | None = None) -> str:
    return await _start(_ingestion, upload, upload.source, key)


async def get_run(run_id: str) -> Run | None:
    await ping()
    return await asyncio.to_thread(_read, run_id)


async def list_runs(limit: int) -> list[Run]:
    """The newest first, without their steps."""
    await ping()
    found = await DBOS.list_workflows_async(limit=limit, sort_desc=True, load_input=False)
    return [_run(status, []) for status in found]


async def wait(run_id: str, seconds: float) -> Run | None:
    """The run as it is when it ends, or after that many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                await asyncio.sleep(0.1)
                if (task := _tasks.get(run_id)) and not task.done():
                    await asyncio.wait([task])
                elif await DBOS.list_queued_workflows_async(workflow_ids=[run_id], load_input=False):
                    continue
                run = await asyncio.to_thread(_read, run_id)
                if not run or run.status not in ("queued", "running"):  # else it moved to another process
                    return run
    return await get_run(run_id)


async def events(run_id: str, after: int = 0) -> AsyncIterator[Event]:
    """What happens in a run, from any process, until it ends. A new attempt at a step shows."""
    with suppress(dbos_error.DBOSNonExistentWorkflowError):
        # The end of a run is seen by polling alone.
        async for value in DBOS.read_stream_async(run_id, "events", offset=after, polling_interval_sec=0.1):
            after += 1
            yield Event(number=after, **value)


async def cancel_run(run_id: str) -> None:
    await executors.client.cancel_workflow_async(run_id)


async def resume_run(run_id: str) -> None:
    """Carry on a cancelled run behind its last recorded step, a failed one with the step that failed; no other."""
    run = await get_run(run_id)
    if run and run.status == "failed" and run.steps:  # its error is recorded, so DBOS has to forget it first
        failed = next((step for step in run.steps if step.error), run.steps[-1])
        await executors.client.rewind_workflow_async(run_id, start_step=failed.number, queue_name=executors.queue)
    elif run and run.status in ("failed", "cancelled"):
        await executors.client.resume_workflow_async(run_id, queue_name=executors.queue)


async def fork_run(run_id: str, step: int) -> str:
    """Start a new run that has the steps of another before `step`, and go on from there. Raises `UserError`."""
    run = await get_run(run_id)
    steps = [begun.number for begun in run.steps] if run else []
    if step not in steps:
        known_steps = f"Its steps are {steps}." if run else "There is no such run."
        raise UserError(f"Run {run_id} has no step {step}. {known_steps}")
    return (await executors.client.fork_workflow_async(run_id, step, queue_name=executors.queue)).workflow_id


@DBOS.workflow(name="question")
async def _question(question: Question) -> Answer:
    async def on_text(text: str) -> None:
        await DBOS.write_stream_async("events", {"type": "text", "data": {"text": text}})

    return await agent.answer(question, run_step, on_text)


@DBOS.workflow(name="ingestion")
async def _ingestion(upload: Upload) -> Document:
    return await ingestion.ingest(upload, run_step)


async def run_step(name: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run a step of the workflow; up to five attempts where the error may pass by itself."""
    _tasks[str(DBOS.workflow_id)] = asyncio.current_task()
    passes = False

    async def attempt() -> T:
        nonlocal passes
        begun = {"number": DBOS.step_id, "name": name, "started_at": datetime.now(UTC).isoformat()}
        await DBOS.write_stream_async("events", {"type": "step", "data": begun})
        llm.idempotency_key.set(f"{DBOS.workflow_id}:{DBOS.step_id}")
        try:
            return await function(*args)
        except ingestion.UnreadableError:
            raise
        except Exception as error:
            wait = error.wait if isinstance(error, llm.ModelError) else None
            passes = wait is not None or database.is_retryable(error)
            await asyncio.sleep(wait or 0)
            cause = None if passes or isinstance(error, UserError) else error
            raise StepError(f"{type(error).__name__}: {error}") from cause

    options: StepOptions = {
        "name": name,
        "retries_allowed": True,
        "max_attempts": 5,
        "interval_seconds": random.uniform(0.5, 1.5),  # jitter
        "backoff_rate": 2,
        "should_retry": lambda _: passes,
        "preemptible": True,  # by `cancel_run`
    }
    try:
        return await DBOS.run_step_async(options, attempt)
    except dbos_error.DBOSMaxStepRetriesExceeded as error:
        raise error.errors[-1] from None


async def _start(workflow: Callable[..., Any], argument: BaseModel, subject: str, key: str | None) -> str:
    await ping()  # DBOS would wait for it without end
    kind = workflow.__name__.lstrip("_")
    run_id = str(uuid5(NAMESPACE_URL, f"{kind}:{key}") if key else uuid4())
    if key and (earlier := await DBOS.get_workflow_status_async(run_id)):
        if isinstance(earlier.input, dict) and earlier.input["args"] != (argument,):
            raise KeyReusedError(f"The key {key!r} belongs to a {kind} with other content.")
        return run_id
    with observability.span(f"start {kind}", run_id=run_id):
        options: EnqueueOptions = {
            "workflow_name": kind,
            "workflow_id": run_id,
            "queue_name": executors.queue,
            "app_version": executors.APPLICATION_VERSION,
            "attributes": {"subject": subject},
            "otel_context": get_current(),
        }
        await executors.client.enqueue_async(options, argument)
    return run_id


def _read(run_id: str) -> Run | None:
    status = DBOS.get_workflow_status(run_id)
    return _run(status, _steps(status)) if status else None


def _steps(status: WorkflowStatus) -> list[Step]:
    """Recorded steps come from DBOS; attempts, and the step under way, from the events."""
    steps: dict[int, dict[str, Any]] = {}
    with suppress(dbos_error.DBOSStreamTimeoutError):
        for event in DBOS.read_stream(status.workflow_id, "events", timeout_seconds=0):
            if event["type"] == "step":
                steps.setdefault(event["data"]["number"], event["data"] | {"attempts": 0})["attempts"] += 1
    has_errors = status.status != "SUCCESS"  # else there is no need to load what the steps gave
    for recorded in DBOS.list_workflow_steps(status.workflow_id, load_output=has_errors):
        if step := steps.get(recorded["function_id"]):
            error: Any = recorded["error"]  # of several attempts, the last one's
            step["error"] = str(getattr(error, "errors", [error])[-1]) if error else None
            step["finished_at"] = recorded["completed_at_epoch_ms"]
    return [Step.model_validate(step) for step in steps.values()]


def _run(status: WorkflowStatus, steps: list[Step]) -> Run:
    attributes = status.attributes or {}
    traceparent = attributes.get("dbos.otelContext", {}).get("traceparent")
    run = {
        "id": status.workflow_id,
        "kind": status.name,
        "subject": attributes.get("subject", ""),
        "status": STATUS.get(status.status, "failed"),
        "created_at": status.created_at,
        "finished_at": status.completed_at,
        "steps": steps,
        "result": None if isinstance(status.output, str) else status.output,  # DBOS's form of what it cannot read
        "error": str(status.error) if status.error else None,
        "unreadable": isinstance(status.error, ingestion.UnreadableError),
        "traceparent": traceparent,
        "trace_url": observability.trace_url(traceparent),
    }
    return Run.model_validate(run)


def _brief(record: logging.LogRecord) -> bool:
    error = record.exc_info and record.exc_info[1]
    known = "cancelled" in record.msg or "logger provider not set" in record.msg  # no logs go to OpenTelemetry
    if isinstance(error, StepError | UserError) and not error.__cause__:  # a known reason needs no traceback
        record.msg, record.exc_info = f"{record.msg} {error}", None
    return not (known or isinstance(error, dbos_error.DBOSAwaitedWorkflowCancelledError))  # the run says so itself


logging.getLogger("dbos").addFilter(_brief)
