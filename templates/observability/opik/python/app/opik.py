"""What Opik wants of OpenTelemetry's spans: ids of its own kind, and beside them traces and scores at its REST API."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from random import getrandbits
from time import time
from typing import Any
from uuid import UUID

import httpx2
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import CarrierT, Getter, default_getter
from opentelemetry.sdk.trace import ReadableSpan, Span
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.settings import FromEnvironment, settings


class ObservabilitySettings(FromEnvironment):
    opik_api_key: str | None = None
    """API key of Comet, where it hosts Opik."""
    opik_workspace: str = "default"
    """Workspace that the key belongs to."""
    opik_project_name: str = "Default Project"
    """Project that the traces are filed under."""
    opik_environment: str = "development"
    """Environment that the traces are filed under."""
    opik_url_override: str | None = None
    """API of an Opik of one's own. Empty: Comet's."""


tool = ObservabilitySettings()
configured = bool(tool.opik_api_key or tool.opik_url_override)
url = (tool.opik_url_override or "https://www.comet.com/opik/api").rstrip("/")
project = {"project_name": tool.opik_project_name}
headers = {"Comet-Workspace": tool.opik_workspace} | ({"Authorization": tool.opik_api_key} if tool.opik_api_key else {})
labels: ContextVar[Mapping[str, Any] | None] = ContextVar("labels", default=None)
"""Attributes of each span that begins."""


def send(method: str, path: str, body: object) -> httpx2.Response:
    """To the REST API. Raises `httpx2.HTTPError`."""
    answer = httpx2.request(method, f"{url}/v1/private/{path}", json=body, headers=headers, timeout=5)
    return answer.raise_for_status()


def uuid7(milliseconds: int, bits: int) -> UUID:
    """Of the bits, the lower 74 are behind the time."""
    return UUID(int=milliseconds << 80 | 7 << 76 | (bits >> 62 & 0xFFF) << 64 | 2 << 62 | bits & (1 << 62) - 1)


def is_own(trace_id: int) -> bool:
    return UUID(int=trace_id).version == 7 and trace_id >> 80 < time() * 1000 + 60_000  # clocks differ


class Ids(RandomIdGenerator):
    """Ids of traces as Opik wants them, UUIDs of version 7: so a traceparent tells the trace's id in Opik as well."""

    def generate_trace_id(self) -> int:
        return uuid7(int(time() * 1000), getrandbits(74)).int


class OwnTraces(TraceContextTextMapPropagator):
    """Takes up no trace of a client's: Opik has not got it, and would show nothing that is in it."""

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        found = super().extract(carrier, context, getter)
        return found if is_own(trace.get_current_span(found).get_span_context().trace_id) else context or Context()


class Processor(BatchSpanProcessor):
    """Puts on each span its ids in Opik, which any process can tell from a traceparent. Counts them; the queue has room
    for 2048, or OTEL_BSP_MAX_QUEUE_SIZE, and more are dropped."""

    ended = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if (context := span.context) and is_own(context.trace_id):
            ids = {"trace_id": UUID(int=context.trace_id), "span_id": _span_id(context)}
            ids |= {"parent_span_id": _span_id(span.parent)} if span.parent else {}
            span.set_attributes({f"opik.{name}": str(id) for name, id in ids.items()})
        span.set_attributes(labels.get() or {})

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1
        if not settings.trace_content:  # an exception's message may quote it
            span._status = trace.Status(span.status.status_code)
        super().on_end(span)


def _span_id(context: trace.SpanContext) -> UUID:
    return uuid7(context.trace_id >> 80, context.span_id)


class Exporter(OTLPSpanExporter):
    """Sends spans, and then what Opik does not take from them: that there is a trace, what it is about, its scores."""

    sent = 0

    def __init__(self) -> None:
        named = headers | {"projectName": tool.opik_project_name}
        super().__init__(f"{url}/v1/private/otel/v1/traces", headers=named, timeout=5, compression=Compression.Gzip)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if super().export(spans) is not SpanExportResult.SUCCESS:
            return SpanExportResult.FAILURE
        scores = [span.attributes["score"] for span in spans if span.attributes and "score" in span.attributes]
        self.sent += len(spans) - len(scores)
        try:
            for each in _traces(spans):
                send("POST", "traces", each)
            if scores:
                send("PUT", "traces/feedback-scores", {"scores": [json.loads(str(score)) for score in scores]})
            self.sent += len(scores)
        except httpx2.HTTPError as error:
            log.error("Failed to export traces: %s", error)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS


def _traces(spans: Sequence[ReadableSpan]) -> list[dict[str, Any]]:
    """What spans tell of their traces. Of each field, Opik keeps what it is told first, by whatever process."""
    traces: dict[str, dict[str, Any]] = {}
    for span in spans:
        attributes: Mapping[str, Any] = span.attributes or {}
        told = traces.setdefault(attributes.get("opik.trace_id", ""), {})
        if not span.parent:
            told |= {"name": span.name, "end_time": _time((span.end_time or 0) / 1e9)}
        if "thread_id" in attributes:
            told["thread_id"] = attributes["thread_id"]
        if "opik.tags" in attributes:
            told["tags"] = list(attributes["opik.tags"])
        if "opik.metadata.user" in attributes:
            told["metadata"] = {"user": attributes["opik.metadata.user"]}
        told |= {field: {field: attributes[field]} for field in ("input", "output") if field in attributes}
    known = {"environment": tool.opik_environment} | project
    begun = {id: _time((UUID(id).int >> 80) / 1e3) for id in traces if id}
    return [{"id": id, "start_time": begun[id]} | known | told for id, told in traces.items() if id and told]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


last_told = 0.0


def _once_a_minute(record: logging.LogRecord) -> bool:
    global last_told
    if is_due := record.created > last_told + 60:
        last_told = record.created
    return is_due


log = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
log.addFilter(_once_a_minute)  # it would tell of each attempt
logging.getLogger("opentelemetry.sdk._shared_internal").setLevel(logging.CRITICAL)  # what is lost, we count
