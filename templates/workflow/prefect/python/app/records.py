"""What Prefect's server keeps of a run beside its state: what it was given and what its steps gave, as inputs of the
flow run, and what happens in it, as log entries. All processes see them, and they are deleted with the run."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any
from uuid import UUID

import httpx

from app import servers  # isort: split

from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import LogFilter
from prefect.client.schemas.objects import Log
from prefect.context import refresh_global_settings_context
from prefect.filesystems import WritableFileSystem
from prefect.runtime import flow_run as current_run
from prefect.settings import PREFECT_API_URL

from app import database
from app.models import Fault, Step

PATIENCE = 5  # seconds that a request may take
TEXT, STEP, STEP_END = 11, 12, 13
"""Levels of log entries."""
SUBJECT, TRACEPARENT = "__subject", "__traceparent"  # labels; those without underscores, Prefect puts on its spans
GIVEN = "given"
"""The input that a run works on: its parameters may not be larger than 512 KiB."""

UNAVAILABLE = (httpx.TransportError, httpx.HTTPStatusError)
_clients: dict[asyncio.AbstractEventLoop, PrefectClient] = {}


class RunInputs(WritableFileSystem):
    """Prefect's storage for results: of the run that asks."""

    async def read_path(self, path: str) -> bytes:
        return (await client().read_flow_run_input(UUID(current_run.id), path)).encode()

    async def write_path(self, path: str, content: bytes) -> None:
        await client().create_flow_run_input(UUID(current_run.id), path, content.decode())


class Transport(httpx.AsyncHTTPTransport):
    """Repeats what a server on SQLite was too busy for, sooner than Prefect's client does."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for delay in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 0):
            response = await super().handle_async_request(request)
            if response.status_code != 503 or not delay:
                break
            await response.aclose()
            await asyncio.sleep(random.uniform(0.5, 1.5) * delay)
        return response


def httpx_settings() -> dict[str, Any]:
    if not PREFECT_API_URL.value().startswith("http:"):  # Prefect's own settings for TLS have to hold
        return {"timeout": PATIENCE}
    # A server may close after 5 seconds what is not in use, in the moment that it is used again.
    return {"timeout": PATIENCE, "transport": Transport(limits=httpx.Limits(keepalive_expiry=2))}


@asynccontextmanager
async def connect() -> AsyncIterator[None]:
    """Open `client`, for the thread that asks: the main one, and the one that works on runs."""
    await asyncio.to_thread(servers.connect)
    refresh_global_settings_context()
    async with get_client(httpx_settings=httpx_settings()) as _clients[asyncio.get_running_loop()]:
        yield


def client() -> PrefectClient:
    return _clients[asyncio.get_running_loop()]


async def ping() -> None:
    """Raise unless Prefect's server answers."""
    await client().hello()


async def diagnose() -> AsyncIterator[str]:
    """What `doctor` tells of Prefect's server. Raises `UserError`."""
    try:
        async with connect():
            await ping()
            where = "embedded" if servers.is_embedded() else "at PREFECT_API_URL"
            yield f"Prefect {await client().api_version()}, {where}"
    except UNAVAILABLE as error:
        names = "PREFECT_API_URL, PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
        raise Fault(explain(error), f"Start the server, or correct {names} in .env.") from None


def is_retryable(error: BaseException) -> bool:
    """Whether the database or Prefect's server could not do its part, for now."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500
    return isinstance(error, httpx.TransportError) or database.is_retryable(error)


def explain(error: BaseException) -> str:
    """What a retryable error says, in a line; up to the colon, for everybody."""
    if not isinstance(error, httpx.HTTPError):
        return database.explain(error)
    return f"Prefect's server does not answer: {str(error) or type(error).__name__}. Is PREFECT_API_URL right?"


async def give(run_id: UUID, given: str, key: str = GIVEN) -> tuple[bool, str]:
    """An input of a run, unless it has that. Returns whether it is new, and what the run has then."""
    try:
        await client().create_flow_run_input(run_id, key, given)
        return True, given
    except httpx.HTTPStatusError as error:
        if error.response.status_code != 409:
            raise
        return False, await client().read_flow_run_input(run_id, key)


async def read_input(run_id: UUID, key: str) -> str | None:
    try:
        return await client().read_flow_run_input(run_id, key)
    except httpx.HTTPStatusError as error:
        if error.response.status_code == 404:
            return None
        raise


def result_key(step: str) -> str:
    """The input that holds what a step gave. It may have letters, digits and dashes."""
    return f"step-{step.encode().hex()}"


async def note(run_id: UUID, level: int, **data: Any) -> None:
    await client().create_logs([_entry(run_id, level, json.dumps(data), datetime.now(UTC))])


async def read_entries(run_id: UUID, lowest: int, highest: int, after: int = 0) -> list[Log]:
    filters = {"flow_run_id": {"any_": [run_id]}, "level": {"ge_": lowest, "le_": highest}}
    found: list[Log] = []
    while page := await client().read_logs(LogFilter.model_validate(filters), offset=after + len(found)):
        found += page
    return found


async def read_steps(run_id: UUID) -> list[Step]:
    steps: dict[int, dict[str, Any]] = {}
    for entry in await read_entries(run_id, STEP, STEP_END):
        told = json.loads(entry.message)
        step = steps.setdefault(told["number"], told | {"attempts": 0})
        if entry.level == STEP:
            step |= {"attempts": step["attempts"] + 1, "finished_at": None, "error": None}
        else:
            step |= {"finished_at": str(entry.timestamp), "error": told["error"]}
    return [Step.model_validate(step) for step in steps.values()]


async def copy(origin: UUID, fork: UUID, steps: list[Step]) -> None:
    """What a run was given, and the first of its steps."""
    for key in (GIVEN, *(result_key(step.name) for step in steps)):
        if value := await read_input(origin, key):
            await client().create_flow_run_input(fork, key, value)
    entries, numbers = await read_entries(origin, TEXT, STEP_END), [step.number for step in steps]
    kept = takewhile(lambda entry: entry.level == TEXT or json.loads(entry.message)["number"] in numbers, entries)
    await client().create_logs([_entry(fork, each.level, each.message, each.timestamp) for each in kept])


def _entry(run_id: UUID, level: int, message: str, timestamp: datetime) -> dict[str, Any]:
    when = timestamp.isoformat()
    return {"name": "app", "level": level, "message": message, "timestamp": when, "flow_run_id": str(run_id)}
