"""Prefect, connected: which process works on which runs, and for how long they are kept.

Each process is a worker of one work pool, and tells Prefect's server every second that it lives: the runs of one
that does not go on in another. It works on them in a thread with a loop of its own, since in the main one Prefect's
engine takes SIGTERM for itself.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar, get_type_hints
from uuid import UUID, uuid4

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from app import records, servers  # isort: split

from prefect import Flow
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import AsyncClientContext
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.flow_engine import run_flow_async
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import AwaitingRetry, Cancelled, Failed, Pending, Running, Scheduled
from prefect.telemetry.run_telemetry import LABELS_TRACEPARENT_KEY

from app.models import UserError
from app.settings import settings

T = TypeVar("T")

POOL = servers.PrefectSettings().prefect_default_work_pool_name
TURN_SECONDS, CHECK_TURNS = 0.2, 5
SILENCE = 8.0
"""Seconds. A process that was silent so long at two checks in a row is dead: its runs move after 9 to 11 seconds."""
CANCELLING, LOST = "cancelling", "lost"  # why a run is broken off, where it is not to go on
WORKED_ON = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.CRASHED]

log = logging.getLogger("app")
step_numbers: ContextVar[Iterator[int]] = ContextVar("step_numbers")

flows: dict[UUID, Flow[Any, Any]] = {}
"""By their deployment."""
name: str
"""Of this process, among the workers."""
_limit: int | None
_storage: records.RunInputs
_main_loop: asyncio.AbstractEventLoop
_portal: BlockingPortal
_runs: dict[UUID, asyncio.Task[None]] = {}


@asynccontextmanager
async def launch(limit: int | None, known: Iterable[Flow[Any, Any]]) -> AsyncIterator[None]:
    """Prefect, for as long as the block runs. It works on so many runs of all processes at once or, with None, as a
    command, just on those that this process starts."""
    global name, _limit, _main_loop, _portal
    name, _limit, _main_loop = str(uuid4()), limit, asyncio.get_running_loop()
    async with records.connect():
        await _register(known)
        with start_blocking_portal() as _portal:
            work = _portal.start_task_soon(_work)
            try:
                yield
            finally:
                _limit = 0  # nothing new
                await _in_worker(_drain(settings.drain_seconds if limit else 0))
                work.cancel()


async def hand_out(run: FlowRun) -> None:
    """Let a run be worked on: here, if there is room or this is a command, or else by the first that has some."""
    if _limit is not None and len(_runs) >= _limit:
        await records.client().set_flow_run_state(run.id, Scheduled(), force=True)
        return
    await records.client().set_flow_run_state(run.id, Pending(message=name), force=True)
    await _in_worker(_begin(run))


async def in_main_loop(work: Coroutine[Any, Any, T]) -> T:
    """For a step: the database's pool, and whatever else is open, belongs there."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, _main_loop))


async def delete_runs(days: float) -> int:
    """Delete what is kept of the runs that ended so many days ago or earlier, the text they worked on included."""
    before, deleted = datetime.now(UTC) - timedelta(days), 0
    while runs := await records.client().read_flow_runs(flow_run_filter=ours(end_time={"before_": before})):
        for run in runs:
            with suppress(ObjectNotFound):
                await records.client().delete_flow_run(run.id)
        deleted += len(runs)
    return deleted


def ours(**filters: Any) -> FlowRunFilter:
    return FlowRunFilter.model_validate({"deployment_id": {"any_": list(flows)}, **filters})


def state(run: FlowRun) -> State[Any]:
    assert run.state  # by its type it may have none
    return run.state


async def _in_worker(work: Coroutine[Any, Any, T]) -> T:
    return await asyncio.wrap_future(_portal.start_task_soon(lambda: work))


async def _register(known: Iterable[Flow[Any, Any]]) -> None:
    global _storage
    try:
        with suppress(ObjectAlreadyExists):
            await records.client().create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        for flow in known:
            flow_id = await records.client().create_flow(flow)
            flows[await records.client().create_deployment(flow_id, POOL, work_pool_name=POOL)] = flow
        _storage = records.RunInputs()  # Prefect wants to know it
        while True:
            with suppress(ObjectAlreadyExists):  # else another process names it at this moment
                await _storage.asave("app", overwrite=True, client=records.client())
                break
        await records.client().send_worker_heartbeat(POOL, name, 1)
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (401, 403):
            reason = "PREFECT_API_KEY, or PREFECT_API_AUTH_STRING of a server of one's own, is missing or wrong"
            raise UserError(f"{records.client().api_url} answered {error.response.status_code}: {reason}.") from None
        raise


async def _work() -> None:
    suspects, failures = set[UUID](), 0
    async with records.connect():
        for turn in count():
            try:
                if turn % CHECK_TURNS == 0:
                    suspects = await _adopt_orphans(suspects)
                    if settings.run_retention_days:
                        await delete_runs(settings.run_retention_days)
                await _take_runs(_limit or 0)
                failures = 0
            except Exception as error:
                suspects, failures = set(), failures + 1
                if failures == 2:  # a server on SQLite is too busy now and then
                    log.warning("Runs are not looked after until Prefect's server does its part: %r", error)
            await asyncio.sleep(TURN_SECONDS)


async def _take_runs(limit: int) -> None:
    if (room := limit - len(_runs)) <= 0:
        return
    # Not by asking the pool: that is a write.
    due = ours(state={"type": {"any_": ["SCHEDULED"]}}, next_scheduled_start_time={"before_": datetime.now(UTC)})
    oldest = FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC
    for run in await records.client().read_flow_runs(flow_run_filter=due, sort=oldest, limit=room):
        # Of two claims, the server takes one. It names its worker, which has to be one write with it.
        claim: Any = await records.client().set_flow_run_state(run.id, Pending(message=name))
        if claim.status.value == "ACCEPT":
            await _begin(run)


async def _begin(run: FlowRun) -> None:
    while run.id in _runs:  # it is resumed as soon as it was cancelled
        await asyncio.wait([_runs[run.id]])
    _runs[run.id] = asyncio.create_task(_run(run))
    _runs[run.id].add_done_callback(lambda _: _runs.pop(run.id))


async def _run(run: FlowRun) -> None:
    flow = flows[run.deployment_id or UUID(int=0)]
    step_numbers.set(count(1))
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 5}):
            await records.client().update_flow_run(run.id, infrastructure_pid=name)
            if (given := await records.read_input(run.id, records.GIVEN)) is None:
                reason: Any = Failed(message="It has no input. Start runs by the API or the command line.")
                await records.client().set_flow_run_state(run.id, reason)
                return
            parameter, model = next(iter(get_type_hints(flow.fn).items()))
            durable = flow.with_options(persist_result=True, result_storage=_storage, result_serializer="json")
            parameters = {parameter: model.model_validate_json(given)}
            run.labels[LABELS_TRACEPARENT_KEY] = run.labels.get(records.TRACEPARENT, "")
            async with AsyncClientContext(httpx_settings=records.httpx_settings()):
                await run_flow_async(durable, flow_run=run, parameters=parameters, return_type="state")
    except asyncio.CancelledError as reason:  # Prefect's engine has called this a crash
        end: Any = Cancelled() if CANCELLING in reason.args else AwaitingRetry()
        if LOST in reason.args:
            end = Running()
            if not state(await records.client().read_flow_run(run.id)).is_crashed():
                return  # it has ended there
        await records.client().set_flow_run_state(run.id, end, force=True)
    except Exception as error:  # the next check finds it
        log.warning("Run %s was broken off, and goes on: %r", run.id, error)


async def _drain(patience: int) -> None:
    """Let runs end, and leave to others those that have not."""
    for seconds in (patience, records.PATIENCE):
        if _runs:
            await asyncio.wait(_runs.values(), timeout=seconds)
        for run in _runs.values():
            run.cancel()


async def _adopt_orphans(suspects: set[UUID]) -> set[UUID]:
    """Hand out the suspects that still have nobody who works on them. Returns all such runs: the next suspects."""
    try:
        await records.client().send_worker_heartbeat(POOL, name, 1)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != 404:
            raise
        await _register([*flows.values()])  # somebody has deleted the work pool
    workers = await records.client().read_workers_for_work_pool(POOL)
    heard = {each.name: each.last_heartbeat_time.timestamp() for each in workers if each.last_heartbeat_time}
    living, orphans = {each for each, time in heard.items() if time > heard[name] - SILENCE}, set()
    for run in await records.client().read_flow_runs(flow_run_filter=ours(state={"type": {"any_": WORKED_ON}})):
        owner = state(run).message if state(run).is_pending() else run.infrastructure_pid
        if owner == name and run.id in _runs:
            if state(run).is_cancelling():
                _runs[run.id].cancel(CANCELLING)
        elif run.id in _runs and owner in living:
            log.warning("Run %s goes on in another process, since this one was silent.", run.id)
            _runs[run.id].cancel(LOST)
        elif owner == name or (owner not in living and name == min(living)):
            orphans.add(run.id)
            if run.id in suspects:
                log.warning("Run %s, which a process has left, goes on in another.", run.id)
                end: Any = Cancelled() if state(run).is_cancelling() else AwaitingRetry()
                await records.client().set_flow_run_state(run.id, end)
    if name == min(living):
        for gone in heard.keys() - living:
            path = {"work_pool_name": POOL, "name": gone}
            await records.client().request("DELETE", "/work_pools/{work_pool_name}/workers/{name}", path_params=path)
    return orphans
