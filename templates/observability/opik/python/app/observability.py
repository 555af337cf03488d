"""Traces, by Opik. Nothing goes there without OPIK_API_KEY, or the address of one's own in OPIK_URL_OVERRIDE.

It collects the OpenTelemetry spans of the API and the workflow engine; those of calls to models are made here.
"""

import asyncio
import json
import logging
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx2
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from pydantic import BaseModel
from pydantic_core import to_json

from app import opik
from app.models import Answer, Fault, UserError
from app.settings import settings

if TYPE_CHECKING:
    from app.agent import Question
    from app.llm import Completion

Input = TypeVar("Input")
Output = TypeVar("Output")

log = logging.getLogger("app")
provider = TracerProvider(
    id_generator=opik.Ids(),
    resource=Resource.create({"service.name": "app"}),
    span_limits=None if settings.trace_content else SpanLimits(max_events=0),  # exceptions, whose messages may quote it
)
tracer = provider.get_tracer("app")


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """Collect spans, and send them in the background. At the end, what is left to send gets 5 seconds."""
    if trace.get_tracer_provider() is not provider:
        trace.set_tracer_provider(provider)
        propagate.set_global_textmap(opik.OwnTraces())
    if settings.trace_console:
        console = ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: f"{span.to_json(indent=None)}\n")
        provider.add_span_processor(SimpleSpanProcessor(console))
    if not opik.configured:
        log.info("Traces are not kept: OPIK_API_KEY is not set.")
        yield
        return
    processor = opik.Processor(exporter := opik.Exporter(), schedule_delay_millis=1000)
    provider.add_span_processor(processor)
    try:
        yield
    finally:  # in a thread: it waits longer for a server that does not answer
        stopping = Thread(target=processor.shutdown, daemon=True)
        stopping.start()
        stopping.join(timeout=5)
        if lost := processor.ended - exporter.sent:
            log.warning("%d spans and scores have not reached Opik.", lost)


def trace_url(traceparent: str | None) -> str | None:
    """The page of a trace, found by its id in Opik; None where nothing is sent."""
    if not opik.configured or not traceparent or not opik.is_own(int(traceparent[3:35], 16)):
        return None
    path = b64encode(f"{opik.url}/".encode()).decode()
    return f"{opik.url}/v1/session/redirect/projects/?trace_id={UUID(traceparent[3:35])}&path={path}"


def span(name: str, **attributes: str) -> AbstractContextManager[trace.Span]:
    return tracer.start_as_current_span(name, attributes=attributes)


@contextmanager
def asking(question: "Question") -> Iterator[None]:
    """Put on the span at hand what is asked and, on it and all spans in the block, by whom in which conversation."""
    _show("input", question.question)
    given = {"thread_id": question.session, "opik.metadata.user": question.user, "opik.tags": question.tags}
    labels = {name: value for name, value in given.items() if value}
    trace.get_current_span().set_attributes(labels)
    token = opik.labels.set(labels)
    try:
        yield
    finally:
        opik.labels.reset(token)


def answered(result: object) -> None:
    """Put on the span at hand what was answered, once it is."""
    if isinstance(result, Answer):
        _show("output", result.text)


def _show(field: str, text: str) -> None:
    if settings.trace_content:
        trace.get_current_span().set_attribute(field, text)


def score(traceparent: str | None, name: str, value: float, comment: str = "") -> None:
    """Tell what a trace was worth. Raises `UserError` where nothing is sent."""
    if not opik.configured or not traceparent:
        raise UserError("Feedback is kept by Opik: set OPIK_API_KEY.")
    if not opik.is_own(int(traceparent[3:35], 16)):
        raise UserError("Opik has no trace of this run, which is older than its use.")
    told = {"id": str(UUID(traceparent[3:35])), "name": name, "value": float(value), "reason": comment or None}
    attributes = {"score": json.dumps(told | {"source": "sdk"} | opik.project)}
    context = opik.OwnTraces().extract({"traceparent": traceparent})
    tracer.start_span(f"feedback: {name}", context, attributes=attributes).end()  # it waits among the other spans


async def experiment(
    name: str,
    cases: Sequence[Input],
    task: Callable[[Input], Awaitable[Output]],
    scores: Callable[[Output], Mapping[str, float]],
) -> tuple[list[Output], str | None]:
    """Do a task for each case. With a key, it is an experiment of Opik's; then also returns where it shows."""
    if not opik.configured or not settings.trace_content:
        return list(await asyncio.gather(*map(task, cases))), None

    async def evaluate(case: Input) -> tuple[Output, UUID]:
        carrier: dict[str, str] = {}
        with tracer.start_as_current_span(f"evaluate {name}", Context()):  # a trace of its own
            propagate.inject(carrier)
            output = await task(case)
        for metric, value in scores(output).items():
            score(carrier["traceparent"], metric, value)
        return output, UUID(carrier["traceparent"][3:35])

    done = await asyncio.gather(*map(evaluate, cases))
    try:
        traces = [(to_json(case).decode(), trace_id) for case, (_, trace_id) in zip(cases, done, strict=True)]
        return [output for output, _ in done], await asyncio.to_thread(_keep_experiment, name, traces)
    except Exception as error:  # no answer, a refusal, or nonsense: the outputs are there all the same
        log.warning("Opik has not kept the experiment: %s", error)
        return [output for output, _ in done], None


def _keep_experiment(name: str, traces: Sequence[tuple[str, UUID]]) -> str:
    """Of each case, in JSON, the trace. Returns where it shows."""
    dataset = {"dataset_name": name} | opik.project
    experiment_id, at = str(UUID(int=provider.id_generator.generate_trace_id())), datetime.now(UTC)
    items = [{"id": _item_id(case), "source": "sdk", "data": {"input": json.loads(case)}} for case, _ in traces]
    links = [
        {"experiment_id": experiment_id, "dataset_item_id": _item_id(case), "trace_id": str(id)} for case, id in traces
    ]
    opik.send("PUT", "datasets/items", dataset | {"items": items})  # makes the dataset, if there is none
    opik.send("POST", "experiments", dataset | {"id": experiment_id, "name": f"{name} {at:%Y-%m-%d %H:%M:%S}"})
    opik.send("POST", "experiments/items", {"experiment_items": links})
    dataset_id = opik.send("POST", "datasets/retrieve", dataset).json()["id"]
    page = f"{opik.url.removesuffix('/api')}/{opik.tool.opik_workspace}/experiments/{dataset_id}/compare"
    return f"{page}?experiments={quote(json.dumps([experiment_id]))}"


def _item_id(case: str) -> str:
    """The same for a case each time."""
    return str(opik.uuid7(0, int.from_bytes(sha256(case.encode()).digest(), "big")))


@contextmanager
def tool_call(name: str, arguments: BaseModel) -> Iterator[Callable[[object], None]]:
    """The span of a tool that runs, a retrieval for one. Call what it gives with what was found."""
    with span(f"execute_tool {name}", **{"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}) as call:
        if settings.trace_content:
            call.set_attribute("gen_ai.tool.call.arguments", arguments.model_dump_json())

        def record(result: object) -> None:
            if settings.trace_content:
                call.set_attribute("gen_ai.tool.call.result", to_json(result).decode())

        yield record


@contextmanager
def llm_call(model: str, provider: str, messages: Sequence[Any]) -> Iterator[Callable[["Completion"], None]]:
    """The span of a call to a model, by OpenTelemetry's GenAI conventions. Call what it gives with the completion."""
    sent = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": provider, "gen_ai.request.model": model}
    if settings.trace_content:
        sent["gen_ai.input.messages"] = json.dumps([_message(**message) for message in messages])
    with span(f"chat {model}", **sent) as call:

        def record(completion: "Completion") -> None:
            text = completion.draft.text if completion.draft else completion.text or None
            said = json.dumps([_message("assistant", text, completion.tool_calls)])
            received: dict[str, Any] = {
                "gen_ai.response.model": completion.model,
                "gen_ai.usage.input_tokens": completion.input_tokens,
                "gen_ai.usage.cache_read_input_tokens": completion.cached_tokens,  # Opik's name, not OpenTelemetry's
                "gen_ai.usage.output_tokens": completion.output_tokens,
                "gen_ai.usage.reasoning_tokens": completion.reasoning_tokens,
                "gen_ai.usage.cost": completion.cost_usd,
                "gen_ai.output.messages": said if settings.trace_content else None,
            }
            call.set_attributes({name: value for name, value in received.items() if value is not None})  # no price

        yield record


def _message(role: str, content: str | None = None, tool_calls: Sequence[Any] = (), **_: Any) -> dict[str, Any]:
    calls = [{"type": "tool_call", "id": call["id"], **call["function"]} for call in tool_calls]
    return {"role": role, "parts": [*calls, *([{"type": "text", "content": content}] if content else [])]}


async def diagnose() -> AsyncIterator[str]:
    """What `doctor` tells: whether Opik takes the key for the workspace. Raises `UserError`."""
    if not opik.configured:
        yield "They are not kept: neither OPIK_API_KEY nor OPIK_URL_OVERRIDE is set."
        return
    try:
        await asyncio.to_thread(opik.send, "POST", "auth", {})
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        remedy = "Correct OPIK_API_KEY, OPIK_WORKSPACE or OPIK_URL_OVERRIDE in .env."
        raise Fault(f"{opik.url} does not take OPIK_API_KEY: {error!r}", remedy) from None
    yield f"Opik takes the key for workspace {opik.tool.opik_workspace}"
