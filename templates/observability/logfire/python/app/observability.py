"""Traces, by Pydantic Logfire. Without LOGFIRE_TOKEN nothing leaves this machine.

The API and the workflow engine make OpenTelemetry spans of their own, which Logfire collects once it is configured;
this module adds the calls to language models.
"""

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import logfire
from pydantic_settings import BaseSettings

from app.settings import FROM_ENVIRONMENT

if TYPE_CHECKING:
    from app.llm import Completion


class ObservabilitySettings(BaseSettings):
    model_config = FROM_ENVIRONMENT

    logfire_token: str = ""
    """Write token of a Logfire project."""
    logfire_environment: str = "development"
    """Environment that the traces are filed under."""
    trace_console: bool = False
    """Print the spans. `dev --trace` sets it."""


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    settings = ObservabilitySettings()
    logfire.configure(
        service_name="app",
        token=settings.logfire_token or None,
        environment=settings.logfire_environment,
        send_to_logfire=bool(settings.logfire_token),
        console=logfire.ConsoleOptions() if settings.trace_console else False,
        inspect_arguments=False,
    )
    if not settings.logfire_token:
        logging.getLogger("app").info("Traces are not kept: LOGFIRE_TOKEN is not set.")
    try:
        yield
    finally:
        logfire.shutdown()


@contextmanager
def llm_call(model: str, provider: str, messages: Sequence[Any]) -> Iterator[Callable[["Completion"], None]]:
    """The span of a call to a model, by OpenTelemetry's GenAI conventions. Call what it gives with the completion."""
    sent = [{"role": message["role"], "parts": [_text(message.get("content"))]} for message in messages]
    with logfire.span("chat {model}", _span_name=f"chat {model}", model=model) as span:
        span.set_attributes(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": provider,
                "gen_ai.request.model": model,
                "gen_ai.input.messages": json.dumps(sent),
            }
        )

        def record(completion: "Completion") -> None:
            parts = [{"type": "tool_call", "id": c["id"], **dict(c["function"].items())} for c in completion.tool_calls]
            parts += [_text(completion.draft.text)] if completion.draft else []
            span.set_attributes(
                {
                    "gen_ai.response.model": completion.model,
                    "gen_ai.usage.input_tokens": completion.input_tokens,
                    "gen_ai.usage.output_tokens": completion.output_tokens,
                    "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": parts}]),
                    "operation.cost": completion.cost_usd,
                }
            )

        yield record


def _text(content: str | None) -> dict[str, Any]:
    return {"type": "text", "content": content}
