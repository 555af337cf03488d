"""Traces, by Langfuse. Without LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY nothing goes there.

Spans are OpenTelemetry's: those of the API and the workflow engine, and those of calls to models and tools, which are
made here with the attributes that Langfuse documents. Its SDK sends them, and is imported only where it does.
"""

import asyncio
import json
import logging
import os
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from functools import cache
from threading import Thread
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from uuid import NAMESPACE_URL, uuid5

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import Span, Status
from pydantic import BaseModel, Field
from pydantic_core import to_json, to_jsonable_python

from app.models import Answer, Fault, UserError
from app.settings import FromEnvironment, settings

if TYPE_CHECKING:
    from httpx import Response
    from langfuse import Langfuse
    from langfuse.api import DatasetItem

    from app.agent import Question
    from app.llm import Completion

Input = TypeVar("Input")
Output = TypeVar("Output")

log = logging.getLogger("app")
tracer = trace.get_tracer("app")

HARMLESS = ["name", "context", "parent", "resource", "attributes", "links", "kind", "start_time", "end_time"]


class ObservabilitySettings(FromEnvironment):
    langfuse_public_key: str | None = None
    """Public key of a Langfuse project."""
    langfuse_secret_key: str | None = None
    """Secret key of the same project."""
    langfuse_base_url: str = "https://cloud.langfuse.com"
    """Where the traces go."""
    langfuse_tracing_environment: Annotated[str, Field(pattern="^[a-z0-9_-]{1,40}$")] = "development"
    """Environment that the traces are filed under."""


tool = ObservabilitySettings()
client: "Langfuse | None" = None
score_counts = Counter[str]()
said = set[str]()
traces_url: str | None = None


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """Collect spans, and send them in the background. At the end, what is left to send gets 5 seconds."""
    global client
    missing = [name.upper() for name in ("langfuse_public_key", "langfuse_secret_key") if not getattr(tool, name)]
    provider = _provider()
    if missing:
        log.info("Traces are not kept: %s is not set.", " and ".join(missing))
        yield
        return
    import httpx
    from langfuse import Langfuse

    logging.getLogger("langfuse").addFilter(_is_new)
    exporter = _Exporter()
    client = Langfuse(
        public_key=tool.langfuse_public_key,
        secret_key=tool.langfuse_secret_key,
        base_url=tool.langfuse_base_url.rstrip("/"),
        environment=tool.langfuse_tracing_environment,
        tracer_provider=provider,
        span_exporter=exporter,
        should_export_span=exporter.wants,
        httpx_client=httpx.Client(timeout=5, event_hooks={"response": [_count_scores]}),
        flush_interval=1,  # what a process has not sent when it is killed is lost
    )
    Thread(target=_learn_address, args=[client], daemon=True).start()
    try:
        yield
    finally:  # in a thread: it has no timeout
        stopping = Thread(target=client.shutdown, daemon=True)
        stopping.start()
        stopping.join(timeout=5)
        lost = exporter.ended - exporter.taken, score_counts["given"] - score_counts["taken"]
        if any(lost):
            log.warning("%s spans and %s scores did not reach Langfuse.", *lost)


def trace_url(traceparent: str | None) -> str | None:
    """The page of a trace; None without keys, and until Langfuse has told the project's id."""
    return f"{traces_url}{traceparent[3:35]}" if traceparent and traces_url else None


def span(name: str, **attributes: Any) -> AbstractContextManager[Span]:
    return tracer.start_as_current_span(name, attributes=attributes)


def asking(question: "Question") -> AbstractContextManager[None]:
    """Put on the span at hand what is asked and, on it and all spans in the block, by whom in which conversation."""
    _show(trace.get_current_span(), "input", question.question)
    if not client:
        return nullcontext()
    from langfuse import propagate_attributes

    return propagate_attributes(session_id=question.session, user_id=question.user, tags=question.tags or None)


def answered(result: object) -> None:
    """Put on the span at hand what was answered, once it is."""
    if isinstance(result, Answer):
        _show(trace.get_current_span(), "output", result.text)


def score(traceparent: str | None, name: str, value: float, comment: str = "") -> None:
    """Tell what a trace was worth; a later one of the same name takes its place. Raises `UserError` without keys."""
    if not client or not traceparent:
        raise UserError("Feedback is kept by Langfuse: set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY.")
    score_counts["given"] += 1
    client.create_score(
        trace_id=traceparent[3:35],
        score_id=f"{traceparent[3:52]}-{name}",  # a client's trace may have several questions
        name=name,
        value=value,
        data_type=_kind(value),
        comment=comment or None,
    )


async def experiment(
    name: str,
    cases: Sequence[Input],
    task: Callable[[Input], Awaitable[Output]],
    scores: Callable[[Output], Mapping[str, float]],
) -> tuple[list[Output], str | None]:
    """Do a task for each case. With keys, it is an experiment of Langfuse's; then also returns where it shows."""
    keys = [str(uuid5(NAMESPACE_URL, f"{name} {to_json(case).decode()}")) for case in cases]  # always the same
    by_id = dict(zip(keys, cases, strict=True)) if client and settings.trace_content else {}
    items = await asyncio.to_thread(_keep, client, name, by_id) if client and by_id else []
    if not client or not items:
        return list(await asyncio.gather(*map(task, cases))), None
    from langfuse import Evaluation

    loop = asyncio.get_running_loop()

    async def work(key: str) -> Output:
        return await task(by_id[key])

    async def run(*, item: Any, **_: Any) -> Output:  # in a loop of Langfuse's own; the task needs this one
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(item.id), loop))

    def evaluate(*, output: Output, **_: Any) -> list[Evaluation]:
        given = scores(output)
        score_counts["given"] += len(given)
        return [Evaluation(name=each, value=value, data_type=_kind(value)) for each, value in given.items()]

    result = await asyncio.to_thread(client.run_experiment, name=name, data=items, task=run, evaluators=[evaluate])
    return [each.output for each in result.item_results], result.experiment_url


def _keep(langfuse: "Langfuse", name: str, cases: Mapping[str, object]) -> "list[DatasetItem]":
    """The cases as items of a dataset. What is there already, the dataset or an item of the same id, is taken again."""
    try:
        langfuse.create_dataset(name=name)
        kept = {key: to_jsonable_python(case) for key, case in cases.items()}
        return [langfuse.create_dataset_item(dataset_name=name, id=key, input=case) for key, case in kept.items()]
    except Exception as error:  # the cases are measured all the same
        log.warning("Langfuse does not keep this evaluation: %s", type(error).__name__)
        return []


def _count_scores(response: "Response") -> None:
    if response.is_success and response.request.url.path.endswith("/api/public/scores"):
        score_counts["taken"] += len(json.loads(response.request.content))


def _is_new(record: logging.LogRecord) -> bool:
    """Whether it is not said yet: there would be one for each batch of scores."""
    is_new = record.msg not in said
    said.add(record.msg)
    return is_new


def _kind(value: float) -> Literal["BOOLEAN", "NUMERIC"]:
    return "BOOLEAN" if isinstance(value, bool) else "NUMERIC"


@contextmanager
def tool_call(name: str, arguments: BaseModel) -> Iterator[Callable[[object], None]]:
    """The span of a tool that runs, a retrieval for one. Call what it gives with what was found."""
    sent = {"langfuse.observation.type": "tool", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    with span(f"execute_tool {name}", **sent) as call:
        _show(call, "input", arguments)
        yield lambda result: _show(call, "output", result)


@contextmanager
def llm_call(model: str, provider: str, messages: Sequence[Any]) -> Iterator[Callable[["Completion"], None]]:
    """The span of a call to a model, a generation to Langfuse. Call what it gives with the completion."""
    sent = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": model,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
    }
    with span(f"chat {model}", **sent) as call:
        _show(call, "input", messages)

        def record(completion: "Completion") -> None:
            call.set_attribute("gen_ai.response.model", completion.model)
            text = completion.draft.text if completion.draft else completion.text
            _show(call, "output", {"role": "assistant", "content": text, "tool_calls": completion.tool_calls})
            usage = {  # each token counts once
                "input": completion.input_tokens - completion.cached_tokens,
                "input_cached_tokens": completion.cached_tokens,
                "output": completion.output_tokens - completion.reasoning_tokens,
                "output_reasoning_tokens": completion.reasoning_tokens,
                "total": completion.input_tokens + completion.output_tokens,
            }
            call.set_attribute("langfuse.observation.usage_details", json.dumps(usage))
            if completion.cost_usd is not None:
                cost = json.dumps({"total": completion.cost_usd})
                call.set_attribute("langfuse.observation.cost_details", cost)

        yield record


def _show(call: Span, field: str, value: object) -> None:
    if settings.trace_content:
        call.set_attribute(f"langfuse.observation.{field}", to_json(value, fallback=str).decode())


@cache
def _provider() -> TracerProvider:
    """The one that the API and the workflow engine use: there is one to a process, and it cannot be replaced."""
    environment = {"langfuse.environment": tool.langfuse_tracing_environment}
    resource = Resource.create({"service.name": "app", "process.pid": os.getpid(), **environment})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # `lifespan` ends it, in less time
    if settings.trace_console:
        console = ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: f"{_allowed(span).to_json()}\n")
        provider.add_span_processor(SimpleSpanProcessor(console))
    trace.set_tracer_provider(provider)
    return provider


class _Exporter(OTLPSpanExporter):
    """Sends spans to Langfuse. Counts those that end, and those of them that it takes; the queue for it holds 2,048."""

    def __init__(self) -> None:
        keys = b64encode(f"{tool.langfuse_public_key}:{tool.langfuse_secret_key}".encode()).decode()
        super().__init__(
            endpoint=f"{tool.langfuse_base_url.rstrip('/')}/api/public/otel/v1/traces",
            headers={"Authorization": f"Basic {keys}", "x-langfuse-ingestion-version": "4"},  # 4: shown at once
            compression=Compression.Gzip,
            timeout=5,
        )
        self.ended = self.taken = 0
        # Each attempt that fails would be logged, and each span that finds the queue full.
        self.failures = iter(["Traces do not reach Langfuse. "])
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(self.is_first)
        logging.getLogger("opentelemetry.sdk._shared_internal").setLevel(logging.CRITICAL)

    def is_first(self, record: logging.LogRecord) -> bool:
        beginning = next(self.failures, "") if record.levelno >= logging.ERROR else ""
        record.msg = beginning + record.msg
        return bool(beginning)

    def wants(self, span: ReadableSpan) -> bool:
        """All. By itself, Langfuse would leave out those of the API and the workflow engine."""
        self.ended += span.end_time is not None  # it asks at the beginning as well
        return True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export([_allowed(span) for span in spans])
        self.taken += len(spans) if result is SpanExportResult.SUCCESS else 0
        return result


def _allowed(span: ReadableSpan) -> ReadableSpan:
    """A span as it may be shown. What an exception says may quote content, so it stays away together with that."""
    if settings.trace_content:
        return span
    return ReadableSpan(status=Status(span.status.status_code), **{name: getattr(span, name) for name in HARMLESS})


def _learn_address(langfuse: "Langfuse") -> None:
    global traces_url
    while not traces_url:
        with suppress(Exception):  # that traces do not arrive is told elsewhere
            address = langfuse.get_trace_url(trace_id="-")  # asks for the project's id
            traces_url = address.removesuffix("-") if address else None
        sleep(0 if traces_url else 60)


async def diagnose() -> AsyncIterator[str]:
    """What `doctor` tells: whether Langfuse takes the keys. Raises `UserError`."""
    names = ["LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"]
    missing = [name for name in names if not getattr(tool, name.lower())]
    if missing == names:
        yield f"They are not kept: {' and '.join(names)} are not set."
        return
    if missing:
        raise Fault(f"{missing[0]} is not set, but the other key is: nothing is sent.", "Set both keys, or none.")
    from langfuse.api import AsyncLangfuseAPI

    url, keys = tool.langfuse_base_url.rstrip("/"), (tool.langfuse_public_key, tool.langfuse_secret_key)
    try:
        api = AsyncLangfuseAPI(base_url=url, username=keys[0], password=keys[1], timeout=10)
        projects = [project.name for project in (await api.projects.get(request_options={"max_retries": 0})).data]
    except Exception as error:  # no answer, a refusal, or nonsense
        remedy = "Set both keys of one project, and LANGFUSE_BASE_URL to the region that it is in."
        why = getattr(error, "status_code", None) or repr(error)
        raise Fault(f"{url} does not take LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY: {why}", remedy) from None
    yield f"Langfuse takes the keys: project {', '.join(projects)}"
