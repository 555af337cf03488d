"""Traces, by Pydantic Logfire. Without LOGFIRE_TOKEN nothing goes there.

It collects the OpenTelemetry spans of the API and the workflow engine; those of calls to models are made here.
"""

import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any

import logfire
from logfire.types import ServerResponseCallbackHelper

from app.settings import FromEnvironment

if TYPE_CHECKING:
    from app.llm import Completion

span = logfire.span


class ObservabilitySettings(FromEnvironment):
    logfire_token: str | None = None
    """Write token of a Logfire project."""
    logfire_environment: str = "development"
    """Environment that the traces are filed under."""
    logfire_base_url: str | None = None
    """Where the traces go. Empty: to Logfire, in the token's region."""
    trace_console: bool = False
    """Print the spans. `dev --trace` sets it."""


settings = ObservabilitySettings()
project_url: str | None = None


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """Collect spans, and send them in the background. At the end, what is left to send gets 5 seconds."""
    logfire.configure(
        service_name="app",
        token=settings.logfire_token,
        environment=settings.logfire_environment,
        send_to_logfire=bool(settings.logfire_token),
        console=logfire.ConsoleOptions(output=sys.stderr) if settings.trace_console else False,
        metrics=False,
        inspect_arguments=False,
        distributed_tracing=True,  # where a client sends its trace, ours is a part of that
        advanced=logfire.AdvancedOptions(base_url=settings.logfire_base_url, server_response_hook=_learn_project_url),
    )
    # Logfire says once a minute that sending fails; this logger, at each attempt.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    if not settings.logfire_token:
        logging.getLogger("app").info("Traces are not kept: LOGFIRE_TOKEN is not set.")
    try:
        yield
    finally:  # in a thread: where the server does not answer, it ignores its own timeout
        stopping = Thread(target=logfire.shutdown, kwargs={"flush": False}, daemon=True)
        stopping.start()
        stopping.join(timeout=5)


def trace_url(traceparent: str | None) -> str | None:
    """The page of a trace; None without a token, and until Logfire has told the project's address."""
    return f"{project_url}?q=trace_id%3D%27{traceparent[3:35]}%27" if traceparent and project_url else None


def _learn_project_url(answer: ServerResponseCallbackHelper) -> None:
    global project_url
    if answer.response.ok and answer.response.url.endswith("/v1/info"):  # it checks the token, in the background
        project_url = answer.response.json().get("project_url")
    answer.default_hook()


@contextmanager
def llm_call(model: str, provider: str, messages: Sequence[Any]) -> Iterator[Callable[["Completion"], None]]:
    """The span of a call to a model, by OpenTelemetry's GenAI conventions. Call what it gives with the completion."""
    sent: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.input.messages": [_message(**message) for message in messages],
    }
    with span(f"chat {model}", **sent) as call:

        def record(completion: "Completion") -> None:
            text = completion.draft.text if completion.draft else completion.text or None
            received = {
                "gen_ai.response.model": completion.model,
                "gen_ai.usage.input_tokens": completion.input_tokens,
                "gen_ai.usage.output_tokens": completion.output_tokens,
                "gen_ai.output.messages": [_message("assistant", text, completion.tool_calls)],
                "operation.cost": completion.cost_usd,
            }
            call.set_attributes({name: value for name, value in received.items() if value is not None})  # no price

        yield record


def _message(role: str, content: str | None = None, tool_calls: Sequence[Any] = (), **_: Any) -> dict[str, Any]:
    calls = [{"type": "tool_call", "id": call["id"], **call["function"]} for call in tool_calls]
    return {"role": role, "parts": [*calls, *([{"type": "text", "content": content}] if content else [])]}
