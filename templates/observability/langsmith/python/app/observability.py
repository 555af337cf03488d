"""Traces, by LangSmith. Without LANGSMITH_API_KEY nothing goes there.

It gets the OpenTelemetry spans of the API and the workflow engine; those of calls to models are made here.
"""

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from copy import copy
from datetime import UTC, datetime
from functools import cache
from queue import Empty, Full, Queue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4, uuid5

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import export as sdk
from pydantic import BaseModel
from pydantic_core import to_json, to_jsonable_python

from app.models import Answer, Fault, Hit, UserError
from app.settings import FromEnvironment, settings

if TYPE_CHECKING:
    from langsmith import Client
    from langsmith.schemas import TracerSession

    from app.agent import Question
    from app.llm import Completion

Input = TypeVar("Input")
Output = TypeVar("Output")

log = logging.getLogger("app")
warn_once = cache(log.warning)


class ObservabilitySettings(FromEnvironment):
    langsmith_api_key: str | None = None
    """API key of LangSmith."""
    langsmith_project: str = "default"
    """Project that the traces are filed under."""
    langsmith_environment: str = "development"
    """Environment that the traces tell."""
    langsmith_endpoint: str = "https://api.smith.langchain.com"
    """LangSmith's API."""
    langsmith_workspace_id: str | None = None
    """Workspace, where the key has several."""


tool = ObservabilitySettings()
resource = Resource.create({"service.name": "app", "deployment.environment.name": tool.langsmith_environment})
provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # that would wait for LangSmith longer than we do
tracer = provider.get_tracer("app")

project: "TracerSession | None" = None
feedback: Queue[dict[str, Any] | None] = Queue(maxsize=100)
score_counts = Counter[str]()
told = 0.0
asked: ContextVar[dict[str, str] | None] = ContextVar("asked", default=None)


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """Collect spans, and send them in the background. At the end, what is left to send gets 5 seconds."""
    if trace.get_tracer_provider() is not provider:  # tests have one lifespan after another
        trace.set_tracer_provider(provider)
        provider.add_span_processor(Labels())
        if settings.trace_console:
            provider.add_span_processor(sdk.SimpleSpanProcessor(Exporter(sdk.ConsoleSpanExporter(out=sys.stderr))))
    if not tool.langsmith_api_key:
        log.info("Traces are not kept: LANGSMITH_API_KEY is not set.")
    with _sending(tool.langsmith_api_key) if tool.langsmith_api_key else nullcontext():
        yield


@contextmanager
def _sending(key: str) -> Iterator[None]:
    from langsmith.integrations.otel import OtelExporter  # not before it is needed: it takes its time

    logging.getLogger("langsmith").setLevel(logging.CRITICAL)  # it is raised as well
    logging.getLogger("opentelemetry.sdk._shared_internal").setLevel(logging.CRITICAL)  # what is lost, we count
    logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").addFilter(_once_a_minute)
    workspace = {"X-Tenant-Id": tool.langsmith_workspace_id} if tool.langsmith_workspace_id else None
    url = f"{tool.langsmith_endpoint.rstrip('/')}/otel/v1/traces"
    exporter = Exporter(OtelExporter(url, key, tool.langsmith_project, workspace))
    sender = Sender(exporter, schedule_delay_millis=1000)
    provider.add_span_processor(sender)
    talking = Thread(target=_talk, args=[_client()], daemon=True)
    talking.start()
    try:
        yield
    finally:  # in threads: where LangSmith does not answer, they take longer
        deadline = monotonic() + 5
        with suppress(Full):
            feedback.put_nowait(None)
        stopping = Thread(target=sender.shutdown, daemon=True)
        stopping.start()
        for thread in (stopping, talking):
            thread.join(max(0, deadline - monotonic()))
        lost = sender.ended - exporter.taken, score_counts["given"] - score_counts["taken"]
        if any(lost):
            log.warning("%s spans and %s scores did not reach LangSmith.", *lost)


def _client(**options: Any) -> "Client":
    from langsmith import Client

    url, key, workspace = tool.langsmith_endpoint, tool.langsmith_api_key, tool.langsmith_workspace_id
    return Client(url, api_key=key, workspace_id=workspace, timeout_ms=10_000, auto_batch_tracing=False, **options)


def _once_a_minute(record: logging.LogRecord) -> bool:
    """Whether to log it: there is one for each attempt."""
    global told
    if passes := record.created > told + 60:
        told = record.created
    return passes


class Labels(SpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        span.set_attributes(asked.get() or {})


class Sender(sdk.BatchSpanProcessor):
    """Counts what is to be sent. Its queue has room for 2048 spans, or OTEL_BSP_MAX_QUEUE_SIZE; more are dropped."""

    ended = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1
        super().on_end(span)


class Exporter(sdk.SpanExporter):
    """Passes spans on as LangSmith needs them, and counts those that were taken."""

    def __init__(self, to: sdk.SpanExporter) -> None:
        self.to, self.taken = to, 0

    def export(self, spans: Sequence[ReadableSpan]) -> sdk.SpanExportResult:
        result = self.to.export([_fit(span) for span in spans])
        self.taken += len(spans) if result is sdk.SpanExportResult.SUCCESS else 0
        return result

    def shutdown(self) -> None:
        self.to.shutdown()


def _fit(span: ReadableSpan) -> ReadableSpan:
    fitted = copy(span)
    if span.parent and span.parent.is_remote and span.kind is trace.SpanKind.SERVER:
        fitted._parent = None  # the client's: LangSmith drops spans whose parent it never gets
    if not settings.trace_content:  # what went wrong may quote it
        fitted._status = trace.Status(span.status.status_code)
        fitted._events = [Event(event.name, _kind(event), event.timestamp) for event in span.events]
    return fitted


def _kind(event: Event) -> dict[str, Any]:
    return {name: value for name, value in (event.attributes or {}).items() if name == "exception.type"}


def _talk(client: "Client") -> None:
    """Learn where the project is, then pass on feedback as it comes, until that is None."""
    global project
    given: dict[str, Any] | None = {}
    while given is not None:
        try:
            if not project:
                name = tool.langsmith_project
                known = client.has_project(name)  # else the first trace would make it
                project = client.read_project(project_name=name) if known else client.create_project(name, upsert=True)
            if given and project:
                client.create_feedback(**given, session_id=project.id, stop_after_attempt=3)
                score_counts["taken"] += 1
        except Exception as error:  # no answer, a refusal, or nonsense
            if given:
                warn_once("Feedback does not reach LangSmith: %s", type(error).__name__)
        try:
            given = feedback.get(timeout=None if project else 60)
        except Empty:
            given = {}


def trace_url(traceparent: str | None) -> str | None:
    """The page of a trace; None without a key, and until LangSmith has told where the project is."""
    return f"{project.url}/r/{_run_id(traceparent)}?poll=true" if traceparent and project else None


def _run_id(traceparent: str) -> str:
    """LangSmith's id of a span: that of OpenTelemetry behind zeros."""
    return f"00000000-0000-0000-{traceparent[36:40]}-{traceparent[40:52]}"


def span(name: str, **attributes: Any) -> AbstractContextManager[trace.Span]:
    """A span around a block; its attributes show as metadata."""
    sent = {f"langsmith.metadata.{key}": value for key, value in attributes.items()}
    return tracer.start_as_current_span(name, attributes=sent)


@contextmanager
def asking(question: "Question") -> Iterator[None]:
    """Put on the span at hand what is asked and, on it and all spans in the block, by whom in which conversation."""
    _show("prompt", "user", question.question)
    tags = ",".join(question.tags)
    given = {"metadata.thread_id": question.session, "metadata.user_id": question.user, "span.tags": tags}
    labels = {f"langsmith.{name}": value for name, value in given.items() if value}
    trace.get_current_span().set_attributes(labels)
    token = asked.set(labels)
    try:
        yield
    finally:
        asked.reset(token)


def answered(result: object) -> None:
    """Put on the span at hand what was answered, once it is."""
    if isinstance(result, Answer):
        _show("completion", "assistant", result.text)


def _show(field: str, role: str, text: str) -> None:
    if settings.trace_content:
        said = json.dumps({"messages": [{"role": role, "content": text}]})
        trace.get_current_span().set_attributes({"langsmith.span.kind": "chain", f"gen_ai.{field}": said})


def score(traceparent: str | None, name: str, value: float, comment: str = "") -> None:
    """Tell what a trace was worth. Raises `UserError` without a key."""
    if not tool.langsmith_api_key or not traceparent:
        raise UserError("Feedback is kept by LangSmith: set LANGSMITH_API_KEY.")
    score_counts["given"] += 1
    try:
        feedback.put_nowait({"run_id": _run_id(traceparent), "key": name, "score": value, "comment": comment or None})
    except Full:
        warn_once("Feedback does not reach LangSmith: too much of it waits.")


async def experiment(
    name: str,
    cases: Sequence[Input],
    task: Callable[[Input], Awaitable[Output]],
    scores: Callable[[Output], Mapping[str, float]],
) -> tuple[list[Output], str | None]:
    """Do a task for each case. With a key, it is an experiment of LangSmith's; then also returns where it shows."""

    async def measured(case: Input) -> tuple[Output, dict[str, Any]]:
        started = datetime.now(UTC)
        with span(f"evaluate {name}"):
            output = await task(case)
        times = {"start_time": started, "end_time": datetime.now(UTC)}
        return output, {"inputs": to_jsonable_python(case), "outputs": to_jsonable_python(output), **times}

    done, url = await asyncio.gather(*map(measured, cases)), None
    if tool.langsmith_api_key and settings.trace_content:
        try:
            url = await asyncio.to_thread(_report, name, [(run, scores(output)) for output, run in done])
        except Exception as error:  # no answer, a refusal, or nonsense: the outputs are there all the same
            log.warning("The experiment did not reach LangSmith: %s", type(error).__name__)
    return [output for output, _ in done], url


def _report(name: str, runs: Sequence[tuple[dict[str, Any], Mapping[str, float]]]) -> str:
    client = _client()
    known = client.has_dataset(dataset_name=name)
    dataset = client.read_dataset(dataset_name=name) if known else client.create_dataset(name)
    kept = {example.id for example in client.list_examples(dataset_id=dataset.id)}
    experiment = client.create_project(f"{name}-{uuid4().hex[:8]}", reference_dataset_id=dataset.id)
    where: dict[str, Any] = {"project_name": experiment.name, "run_type": "chain"}
    for run, scores in runs:
        run_id, example = uuid4(), uuid5(dataset.id, json.dumps(run["inputs"]))  # so it is the same the next time
        if example not in kept:
            client.create_example(run["inputs"], dataset_id=dataset.id, example_id=example)
            kept.add(example)
        client.create_run(name, **run, **where, id=run_id, reference_example_id=example)
        for key, value in scores.items():
            client.create_feedback(run_id, key, score=value, session_id=experiment.id)
    workspace, _, _ = str(experiment.url).partition("/projects/")
    return f"{workspace}/datasets/{dataset.id}/compare?selectedSessions={experiment.id}"


@contextmanager
def tool_call(name: str, arguments: BaseModel) -> Iterator[Callable[[object], None]]:
    """The span of a tool that runs, a retrieval for one. Call what it gives with what was found."""
    with tracer.start_as_current_span(f"execute_tool {name}", attributes={"langsmith.span.kind": "tool"}) as call:
        if settings.trace_content:
            call.set_attribute("gen_ai.prompt", arguments.model_dump_json())

        def record(result: object) -> None:
            found: dict[str, Any] = {"output": result}
            if isinstance(result, list) and all(isinstance(hit, Hit) for hit in result):
                call.set_attribute("langsmith.span.kind", "retriever")
                found = {"documents": [{"page_content": hit.text, "metadata": hit} for hit in result]}
            if settings.trace_content:
                call.set_attribute("gen_ai.completion", to_json(found).decode())

        yield record


@contextmanager
def llm_call(model: str, provider: str, messages: Sequence[Any]) -> Iterator[Callable[["Completion"], None]]:
    """The span of a call to a model. Call what it gives with the completion."""
    sent = {"langsmith.span.kind": "llm", "gen_ai.system": provider, "gen_ai.request.model": model}
    if settings.trace_content:
        sent["gen_ai.prompt"] = to_json({"messages": messages}).decode()
    with tracer.start_as_current_span(f"chat {model}", attributes=sent) as call:

        def record(completion: "Completion") -> None:
            text = completion.draft.text if completion.draft else completion.text
            said = {"role": "assistant", "content": text, "tool_calls": completion.tool_calls}
            usage = {
                "input_tokens": completion.input_tokens,
                "output_tokens": completion.output_tokens,
                "total_tokens": completion.input_tokens + completion.output_tokens,
                "input_token_details": {"cache_read": completion.cached_tokens},
                "output_token_details": {"reasoning": completion.reasoning_tokens},
            }
            if completion.cost_usd is not None:  # else LangSmith looks for a price
                usage["total_cost"] = completion.cost_usd
            call.set_attribute("gen_ai.response.model", completion.model)
            call.set_attribute("langsmith.usage_metadata", json.dumps(usage))
            if settings.trace_content:
                call.set_attribute("gen_ai.completion", to_json({"messages": [said]}).decode())

        yield record


async def diagnose() -> AsyncIterator[str]:
    """What `doctor` tells: whether LangSmith takes the key. Raises `UserError`."""
    if not tool.langsmith_api_key:
        yield "They are not kept: LANGSMITH_API_KEY is not set."
        return
    from urllib3 import Retry

    try:
        await asyncio.to_thread(lambda: list(_client(retry_config=Retry(0)).list_projects(limit=1)))
    except Exception as error:  # no answer, a refusal, or nonsense
        [why, *_] = str(error).splitlines() or [repr(error)]
        remedy = "Correct LANGSMITH_API_KEY, LANGSMITH_ENDPOINT for its region or LANGSMITH_WORKSPACE_ID in .env."
        raise Fault(f"{tool.langsmith_endpoint} does not take LANGSMITH_API_KEY: {why}", remedy) from None
    yield f"LangSmith takes LANGSMITH_API_KEY: project {tool.langsmith_project}"
