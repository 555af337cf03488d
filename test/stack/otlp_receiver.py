"""A backend for traces: OTLP over HTTP below any path, decoded by the published protobuf.

Run in an environment that has opentelemetry-proto, with a vendor as its argument: `<vendor>_api.answer` gives what its
backend answers to other requests, in JSON; None where there is nothing. This prints its address, and ends when its
input does. Below /test/ a test tells it how to behave, and reads what came.
"""

import gzip
import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from threading import Event, Lock, Thread
from typing import Any

from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SIGNALS: dict[str, tuple[type[Any], type[Any]]] = {
    "/v1/traces": (traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse),
    "/v1/logs": (logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse),
    "/v1/metrics": (metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse),
}
PROTOBUF = "application/x-protobuf"


class Backend:
    """`behaviour`: ok, hang (until it changes), garbage, or the status of a refusal."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.behaviour = "ok"
        self.changed = Event()
        self.requests: list[dict[str, Any]] = []
        self.spans: list[dict[str, Any]] = []

    def behave(self, behaviour: str) -> None:
        self.behaviour = behaviour
        self.changed.set()
        self.changed = Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    backend: Backend
    api: Callable[[str, str, Any, str], Any]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        signal = next((SIGNALS[suffix] for suffix in SIGNALS if self.path.endswith(suffix)), None)
        if self.path == "/test/seen":
            with self.backend.lock:
                self.reply(200, json.dumps({"requests": self.backend.requests, "spans": self.backend.spans}).encode())
        elif self.path == "/test/behave":
            self.backend.behave(body.decode())
            self.reply(200, b"")
        elif signal:
            assert self.headers["Content-Type"] == PROTOBUF
            request, response = signal
            decoded = request()
            decoded.ParseFromString(body)
            self.serve(body, response().SerializeToString(), PROTOBUF, decoded)
        else:
            decoded = json.loads(body) if body and "json" in self.headers["Content-Type"] else body
            answer = self.api(self.command, self.path, decoded, f"http://{self.headers['Host']}")
            self.serve(
                body, b"" if answer is None else json.dumps(answer).encode(), status=404 if answer is None else 200
            )

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def serve(
        self, body: bytes, answer: bytes, kind: str = "application/json", decoded: Any = None, status: int = 200
    ) -> None:
        """Note what came; keep it and answer as told to."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        behaviour, changed = self.backend.behaviour, self.backend.changed
        noted = {"method": self.command, "path": self.path, "headers": headers, "behaviour": behaviour}
        noted["body"] = body.decode("latin-1")
        with self.backend.lock:
            self.backend.requests.append(noted)
        if behaviour == "hang":
            changed.wait()
            self.close_connection = True
        elif behaviour == "garbage":
            self.reply(200, b"<html>This is not the page you are looking for.</html>", "text/html")
        elif behaviour != "ok":
            refusal = Status(code=14, message="told to refuse").SerializeToString()
            self.reply(int(behaviour), refusal, PROTOBUF, **{"Retry-After": "30"})
        else:
            if isinstance(decoded, traces.ExportTraceServiceRequest):
                with self.backend.lock:
                    self.backend.spans += flatten(decoded)
            self.reply(status, answer, kind)

    def reply(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def flatten(request: Any) -> list[dict[str, Any]]:
    return [
        {
            "trace": span.trace_id.hex(),
            "id": span.span_id.hex(),
            "parent": span.parent_span_id.hex(),
            "name": span.name,
            "kind": Span.SpanKind.Name(span.kind),
            "status": span.status.code,
            "message": span.status.message,
            "start": span.start_time_unix_nano,
            "end": span.end_time_unix_nano,
            "attributes": attributes(span.attributes),
            "events": [{"name": event.name, "attributes": attributes(event.attributes)} for event in span.events],
            "resource": attributes(resource_spans.resource.attributes),
            "scope": scope_spans.scope.name,
        }
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def attributes(pairs: list[KeyValue]) -> dict[str, Any]:
    return {pair.key: plain(pair.value) for pair in pairs}


def plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


if __name__ == "__main__":
    Handler.backend, Handler.api = Backend(), staticmethod(import_module(f"{sys.argv[1]}_api").answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
