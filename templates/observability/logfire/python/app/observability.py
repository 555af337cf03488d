"""Traces, by Pydantic Logfire. Without LOGFIRE_TOKEN nothing goes there.

It collects the OpenTelemetry spans of the API and the workflow engine; those of calls to models are made here.
"""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin
from urllib.request import Request, urlopen

import logfire
from logfire.experimental.annotations import record_feedback
from logfire.types import ServerResponseCallbackHelper
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import Status, get_current_span
from pydantic import BaseModel

from app.models import Answer, Fault, UserError
from app.settings import FromEnvironment, settings

if TYPE_CHECKING:
    from app.agent import Question
    from app.llm import Completion

Input = TypeVar("Input")
Output = TypeVar("Output")

CONTENT = ["gen_ai.tool.call.arguments", "gen_ai.tool.call.result"]

span = logfire.span


class ObservabilitySettings(FromEnvironment):
    logfire_token: str | None = None
    """Write token of a Logfire project."""
    logfire_environment: str = "development"
    """Environment that the traces are filed under."""
    logfire_base_url: str | None = None
    """Where the traces go. Empty: to Logfire, in the token's region."""


class Dropped(logging.Filter):
    """Counts what finds the queue full, of 2048 spans or OTEL_BSP_MAX_QUEUE_SIZE, and lets just the first be logged."""

    count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        is_full = record.msg.startswith("Queue full")
        self.count += is_full
        return not is_full or self.count == 1


tool = ObservabilitySettings()
project_url: str | None = None
dropped = Dropped()
logging.getLogger("opentelemetry.sdk._shared_internal").filters.insert(0, dropped)  # the next one hides repetitions


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """Collect spans, and send them in the background. At the end, what is left to send gets 5 seconds."""
    logfire.configure(
        service_name="app",
        token=tool.logfire_token,
        environment=tool.logfire_environment,
        send_to_logfire=bool(tool.logfire_token),
        console=logfire.ConsoleOptions(output=sys.stderr) if settings.trace_console else False,
        metrics=False,
        inspect_arguments=False,
        scrubbing=logfire.ScrubbingOptions(_keep),
        distributed_tracing=True,  # where a client sends its trace, ours is a part of that
        advanced=logfire.AdvancedOptions(
            base_url=tool.logfire_base_url,
            server_response_hook=_learn_project_url,
        ),
        additional_span_processors=[Withholding()],
    )
    # Logfire says once a minute that sending fails; this logger, at each attempt.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    if not tool.logfire_token:
        logging.getLogger("app").info("Traces are not kept: LOGFIRE_TOKEN is not set.")
    try:
        yield
    finally:  # in a thread: where the server does not answer, it ignores its own timeout
        stopping = Thread(target=logfire.shutdown, kwargs={"flush": False}, daemon=True)
        stopping.start()
        stopping.join(timeout=5)
        if dropped.count:
            logging.getLogger("app").warning("%s spans did not reach Logfire: its queue was full.", dropped.count)


def trace_url(traceparent: str | None) -> str | None:
    """The page of a trace; None without a token, and until Logfire has told the project's address."""
    return f"{project_url}?q=trace_id%3D%27{traceparent[3:35]}%27" if traceparent and project_url else None


def _learn_project_url(answer: ServerResponseCallbackHelper) -> None:
    global project_url
    if answer.response.ok and answer.response.url.endswith("/v1/info"):  # it checks the token, in the background
        project_url = answer.response.json().get("project_url")
    answer.default_hook()


def _keep(match: logfire.ScrubMatch) -> object:
    """What a tool found may speak of passwords. In messages, Logfire leaves such words by itself."""
    return match.value if match.path[1] in CONTENT else None


class Withholding(SpanProcessor):
    """Without content, spans do not tell what went wrong either: that may quote it."""

    def on_end(self, span: ReadableSpan) -> None:
        if not settings.trace_content:
            span._status, span._events = Status(span.status.status_code), []


def asking(question: "Question") -> AbstractContextManager[None]:
    """Put on the span at hand what is asked and, on it and all spans in the block, by whom in which conversation."""
    _show("input", "user", question.question)
    given = {"gen_ai.conversation.id": question.session, "user.id": question.user, "tags": ",".join(question.tags)}
    labels = {name: value for name, value in given.items() if value}
    get_current_span().set_attributes(labels)
    return logfire.set_baggage(**labels)


def answered(result: object) -> None:
    """Put on the span at hand what was answered, once it is."""
    if isinstance(result, Answer):
        _show("output", "assistant", result.text)


def _show(direction: str, role: str, text: str) -> None:
    if settings.trace_content:
        get_current_span().set_attribute(f"gen_ai.{direction}.messages", json.dumps([_message(role, text)]))


def score(traceparent: str | None, name: str, value: float, comment: str = "") -> None:
    """Tell what a trace was worth. Raises `UserError` without a token."""
    if not tool.logfire_token or not traceparent:
        raise UserError("Feedback is kept by Logfire: set LOGFIRE_TOKEN.")
    record_feedback(traceparent, name, value, comment or None)


async def experiment(
    name: str,
    cases: Sequence[Input],
    task: Callable[[Input], Awaitable[Output]],
    scores: Callable[[Output], Mapping[str, float]],
) -> tuple[list[Output], str | None]:
    """Do a task for each case. With a token, it is an experiment of Logfire's; then also returns where it shows."""
    if not tool.logfire_token or not settings.trace_content:
        return list(await asyncio.gather(*map(task, cases))), None
    from pydantic_evals import Case, Dataset  # not needed in production
    from pydantic_evals.evaluators import Evaluator, EvaluatorContext

    @dataclass
    class Scores(Evaluator[Input, Output, None]):
        def evaluate(self, ctx: EvaluatorContext[Input, Output, None]) -> Mapping[str, float]:
            return scores(ctx.output)

    dataset = Dataset(name=name, cases=[Case(inputs=case) for case in cases], evaluators=[Scores()])
    with span(f"evaluate {name}"):
        report = await dataset.evaluate(task, name=name, progress=False)
    url = trace_url(f"00-{report.trace_id}-{report.span_id}-01")
    return [case.output for case in report.cases], url


@contextmanager
def tool_call(name: str, arguments: BaseModel) -> Iterator[Callable[[object], None]]:
    """The span of a tool that runs, a retrieval for one. Call what it gives with what was found."""
    sent = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    with span(f"execute_tool {name}") as call:
        call.set_attributes(sent)
        if settings.trace_content:
            call.set_attribute("gen_ai.tool.call.arguments", arguments)

        def record(result: object) -> None:
            if settings.trace_content:
                call.set_attribute("gen_ai.tool.call.result", result)

        yield record


@contextmanager
def llm_call(model: str, provider: str, messages: Sequence[Any]) -> Iterator[Callable[["Completion"], None]]:
    """The span of a call to a model, by OpenTelemetry's GenAI conventions. Call what it gives with the completion."""
    sent: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
    }
    if settings.trace_content:
        sent["gen_ai.input.messages"] = [_message(**message) for message in messages]
    with span(f"chat {model}", **sent) as call:

        def record(completion: "Completion") -> None:
            text = completion.draft.text if completion.draft else completion.text or None
            said = [_message("assistant", text, completion.tool_calls)]
            received = {
                "gen_ai.response.model": completion.model,
                "gen_ai.usage.input_tokens": completion.input_tokens,
                "gen_ai.usage.cache_read.input_tokens": completion.cached_tokens,
                "gen_ai.usage.output_tokens": completion.output_tokens,
                "gen_ai.usage.reasoning.output_tokens": completion.reasoning_tokens,
                "gen_ai.output.messages": said if settings.trace_content else None,
                "operation.cost": completion.cost_usd,
            }
            call.set_attributes({name: value for name, value in received.items() if value is not None})  # no price

        yield record


def _message(role: str, content: str | None = None, tool_calls: Sequence[Any] = (), **_: Any) -> dict[str, Any]:
    calls = [{"type": "tool_call", "id": call["id"], **call["function"]} for call in tool_calls]
    return {"role": role, "parts": [*calls, *([{"type": "text", "content": content}] if content else [])]}


async def diagnose() -> AsyncIterator[str]:
    """What `doctor` tells: whether Logfire takes the token. Raises `UserError`."""
    if not tool.logfire_token:
        yield "They are not kept: LOGFIRE_TOKEN is not set."
        return
    url = logfire.AdvancedOptions(base_url=tool.logfire_base_url).generate_base_url(tool.logfire_token)
    headers = {"Authorization": tool.logfire_token, "User-Agent": f"logfire/{logfire.VERSION}"}
    try:
        request = Request(urljoin(url, "/v1/info"), headers=headers)
        with await asyncio.to_thread(urlopen, request, timeout=10) as answer:
            project = json.load(answer)["project_url"]
    except (OSError, ValueError, KeyError, HTTPException) as error:
        remedy = "Set LOGFIRE_TOKEN to a write token, and LOGFIRE_BASE_URL only for a Logfire of your own."
        raise Fault(f"{url} does not take LOGFIRE_TOKEN: {error!r}", remedy) from None
    yield f"Logfire takes LOGFIRE_TOKEN: {project}"
