"""Durable runs, by Prefect. Its server keeps their state, see `servers`.

A run is a flow run; each call to a model or a tool in it is a task run. A step that is
recorded never runs again; one that was cut off runs again when the run is recovered.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from app import records, worker  # isort: split

from opentelemetry import propagate
from prefect import Flow, flow, task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run as current_run
from prefect.serializers import JSONSerializer
from prefect.states import Cancelling, Scheduled
from prefect.tasks import exponential_backoff
from prefect.utilities.urls import url_for
from pydantic import BaseModel

from app import agent, database, ingestion, llm, observability
from app.agent import Question
from app.ingestion import Upload
from app.models import Answer, Document, Event, Run, Step, UserError
from app.worker import state

T = TypeVar("T")

STATUS = {"SCHEDULED": "queued", "PENDING": "queued", "COMPLETED": "succeeded"}
STATUS |= {name: name.lower() for name in ("FAILED", "CANCELLED")}  # else running: what has crashed goes on


class KeyReusedError(UserError):
    """An idempotency key came again with other content."""


class StepError(Exception):
    """Why a step failed, in words: not every error can be recorded as it is."""


UNAVAILABLE = (*database.UNAVAILABLE, *records.UNAVAILABLE)
ping, diagnose = records.ping, records.diagnose
is_retryable, explain = records.is_retryable, records.explain
delete_runs = worker.delete_runs


def lifespan(concurrency: int | None) -> AbstractAsyncContextManager[None]:
    return worker.launch(concurrency, [value for value in globals().values() if isinstance(value, Flow)])


async def start_question(question: Question, key: str | None = None) -> str:
    """Start a run and return its id; with the key of an earlier run, that one's. Raises `KeyReusedError`."""
    with observability.asking(question):
        return await _start(_question, question, question.question, key)


async def start_ingestion(upload: Upload, key: str | None = None) -> str:
    return await _start(_ingestion, upload, upload.source, key)


async def get_run(run_id: str) -> Run | None:
    found = await _find(run_id)
    return await _read(found, await records.read_steps(found.id)) if found else None


async def list_runs(limit: int) -> list[Run]:
    """The newest first, without their steps."""
    sort = FlowRunSort.EXPECTED_START_TIME_DESC
    found = await records.client().read_flow_runs(flow_run_filter=worker.ours(), sort=sort, limit=limit)
    return [await _read(run, []) for run in found]


async def wait(run_id: str, seconds: float) -> Run | None:
    """The run as it is when it ends, or after that many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for _ in events(run_id):
                pass
    return await get_run(run_id)


async def events(run_id: str, after: int = 0) -> AsyncIterator[Event]:
    """What happens in a run, from any process, until it ends. A new attempt at a step shows."""
    while found := await _find(run_id):
        for entry in await records.read_entries(found.id, records.TEXT, records.STEP, after):
            after += 1
            kind: Any = "step" if entry.level == records.STEP else "text"
            yield Event(number=after, type=kind, data=json.loads(entry.message))
        if state(found).is_final() and not state(found).is_crashed():
            return
        await asyncio.sleep(0.1)


async def cancel_run(run_id: str) -> None:
    if found := await _find(run_id):  # who works on it ends it
        await records.client().set_flow_run_state(found.id, Cancelling())
        await wait(run_id, 5)


async def resume_run(run_id: str) -> None:
    """Carry on a cancelled run behind its last recorded step, a failed one with the step that failed; no other."""
    found = await _find(run_id)
    stopped = found and (state(found).is_failed() or state(found).is_cancelled())
    if found and stopped and (await records.give(found.id, "", f"resumed-{state(found).id}"))[0]:  # of several, one
        await worker.hand_out(found)


async def fork_run(run_id: str, step: int) -> str:
    """Start a new run that has the steps of another before `step`, and go on from there. Raises `UserError`."""
    found = await _find(run_id)
    steps = await records.read_steps(found.id) if found else []
    if not found or not found.deployment_id or step not in [begun.number for begun in steps]:
        known_steps = f"Its steps are {[begun.number for begun in steps]}." if found else "There is no such run."
        raise UserError(f"Run {run_id} has no step {step}. {known_steps}")
    forked = await _create(found.deployment_id, found.labels)
    await records.copy(found.id, forked.id, [begun for begun in steps if begun.number < step])
    await worker.hand_out(forked)
    return str(forked.id)


@flow(name="question")
async def _question(question: Question) -> Answer:
    run_id = UUID(current_run.id)

    async def on_text(text: str) -> None:
        await records.note(run_id, records.TEXT, text=text)

    return await agent.answer(question, run_step, on_text)


@flow(name="ingestion")
async def _ingestion(upload: Upload) -> Document:
    return await ingestion.ingest(upload, run_step)


async def run_step(name: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run a step of the flow; up to five attempts where the error may pass by itself."""
    run_id, number, passes = UUID(current_run.id), next(worker.step_numbers.get()), False

    @task(
        name=name,
        task_run_name=lambda: name,
        persist_result=True,
        cache_policy=CacheKeyFnPolicy(cache_key_fn=lambda *_: records.result_key(name)),
        retries=4,
        retry_delay_seconds=exponential_backoff(1),
        retry_jitter_factor=0.5,
        retry_condition_fn=lambda *_: passes,
    )
    async def step() -> T:
        return await worker.in_main_loop(attempt())

    async def attempt() -> T:
        nonlocal passes
        await records.note(run_id, records.STEP, number=number, name=name, started_at=datetime.now(UTC).isoformat())
        llm.idempotency_key.set(f"{run_id}:{number}")
        try:
            result = await function(*args)
        except Exception as error:
            known = isinstance(error, ingestion.UnreadableError)
            why = str(error) if known else f"{type(error).__name__}: {error}"
            await records.note(run_id, records.STEP_END, number=number, error=why)
            if known:
                raise
            wait = error.wait if isinstance(error, llm.ModelError) else None
            passes = wait is not None or is_retryable(error)
            await asyncio.sleep(wait or 0)
            raise StepError(why) from None if passes or isinstance(error, UserError) else error
        await records.note(run_id, records.STEP_END, number=number, error=None)
        return result

    return await step()


async def _start(workflow: Flow[Any, Any], argument: BaseModel, subject: str, key: str | None) -> str:
    trace, given = dict[str, str](), argument.model_dump_json()
    deployment = next(id for id, known in worker.flows.items() if known.name == workflow.name)
    with observability.span(f"start {workflow.name}"):
        propagate.inject(trace)
        labels = {records.SUBJECT: subject, records.TRACEPARENT: trace.get("traceparent", "")}
        run = await _create(deployment, labels, key)
        is_new, has = await records.give(run.id, given)
        if is_new:
            await worker.hand_out(run)
    if has != given:
        raise KeyReusedError(f"The key {key!r} belongs to a {workflow.name} with other content.")
    return str(run.id)


async def _create(deployment: UUID, labels: dict[str, Any], key: str | None = None) -> FlowRun:
    """A run that waits to be handed out or, should this process end before that, for a minute."""
    later: Any = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(minutes=1))
    return await records.client().create_flow_run_from_deployment(
        deployment, name=worker.flows[deployment].name, state=later, idempotency_key=key, labels=labels
    )


async def _find(run_id: str) -> FlowRun | None:
    with suppress(ObjectNotFound, ValueError):
        run = await records.client().read_flow_run(UUID(run_id))
        return run if run.deployment_id in worker.flows else None
    return None


async def _read(found: FlowRun, steps: list[Step]) -> Run:
    outcome: Any = None
    recorded = getattr(state(found).data, "storage_key", None)
    if recorded and (content := await records.read_input(found.id, recorded)):
        outcome = JSONSerializer().loads(content.encode())
    error = outcome if isinstance(outcome, Exception) else state(found).message
    traceparent = str(found.labels.get(records.TRACEPARENT) or "") or None
    run = {
        "id": str(found.id),
        "kind": worker.flows[found.deployment_id].name if found.deployment_id else "",
        "subject": found.labels.get(records.SUBJECT, ""),
        "status": STATUS.get(state(found).type.value, "running"),
        "created_at": str(found.created),  # its own type is not a plain datetime
        "finished_at": str(found.end_time) if found.end_time and state(found).is_final() else None,
        "steps": steps,
        "result": outcome if state(found).is_completed() else None,
        "error": str(error) if state(found).is_failed() else None,
        "unreadable": isinstance(error, ingestion.UnreadableError),
        "traceparent": traceparent,
        "trace_url": observability.trace_url(traceparent),
        "url": url_for(found),
    }
    return Run.model_validate(run)


def _brief(record: logging.LogRecord) -> bool:
    """Of what Prefect logs of a run that failed, one line is enough, or a traceback where the reason is not known."""
    error = record.exc_info and record.exc_info[1]
    if isinstance(error, StepError | UserError) and not error.__cause__:
        record.msg, record.args, record.exc_info = f"A run failed: {error}", (), None
    return bool(error)


logging.getLogger("prefect.flow_runs").addFilter(_brief)
for tells_more in ("prefect.task_runs", "prefect._internal", "prefect.events"):
    logging.getLogger(tells_more).setLevel(logging.CRITICAL)
