"""The HTTP API, by FastAPI. Errors are problem details (RFC 9457)."""

import logging
from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Annotated, Any, TypeVar
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBearer
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import StringConstraints
from starlette.exceptions import HTTPException

from app import database, ingestion, observability, workflows
from app.access import OPEN_PATHS, AccessMiddleware, problem
from app.agent import Question
from app.ingestion import Upload
from app.models import Chunk, Document, Feedback, Run, Text, UserError
from app.settings import ROOT, settings

T = TypeVar("T")

Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]
Wait = Annotated[float, Query(ge=0, le=300, description="Seconds to wait for the run to end")]
Limit = Annotated[int, Query(ge=1, le=100)]
RunId = Annotated[Text, Path(max_length=500)]
DocumentId = Annotated[UUID, Path(alias="document", description="Its id")]
Source = Annotated[Text, Path(alias="document", max_length=500, description="Its name")]
Pair = Annotated[str, StringConstraints(pattern=r"^[^:\x00]+:[^\x00]*$", max_length=500)]
BODY = {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
POLICY = "default-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"

PROBLEM = {"type": "object", "properties": {"status": {"type": "integer"}, "detail": {"type": "string"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": {"application/problem+json": {"schema": PROBLEM}}}
    for status in (400, 401, 403, 404, 409, 413, 422, 502, 503)
}
ENDED: dict[int | str, dict[str, Any]] = {200: {"model": Run}}
ERRORS = (UserError, RequestValidationError, HTTPException, *workflows.UNAVAILABLE, Exception)

probes = APIRouter(responses={503: PROBLEMS[503]})
routes = APIRouter(responses=PROBLEMS)


def create_app(lifespan: Callable[[Any], AbstractAsyncContextManager[None]]) -> FastAPI:
    app = FastAPI(
        title="Answers from documents",
        lifespan=lifespan,
        telemetry={"exclude": lambda scope: scope["path"] in OPEN_PATHS, "operation_spans": False},
        exception_handlers=dict.fromkeys(ERRORS, _as_problem),
    )
    app.include_router(probes)
    app.include_router(routes, dependencies=[Depends(HTTPBearer(auto_error=False))] if settings.api_key else [])
    app.add_middleware(AccessMiddleware)
    app.add_middleware(CORSMiddleware, allow_origins=settings.cors_origins, allow_methods=["*"], allow_headers=["*"])
    # A stream that is open when the server stops is cut off, which needs no traceback.
    logging.getLogger("uvicorn.error").addFilter(lambda log: (log.exc_info or [None])[0] is not CancelledError)
    return app


@routes.get("/", include_in_schema=False)
async def page() -> HTMLResponse:
    """For people. It loads nothing from elsewhere, and no script but its own runs in it."""
    nonce = uuid4().hex
    html = (ROOT / "app" / "page.html").read_text(encoding="utf-8").replace("{nonce}", nonce)
    return HTMLResponse(html, headers={"Content-Security-Policy": POLICY.format(nonce=nonce)})


@probes.get("/healthz")
async def health() -> dict[str, str]:
    """This process runs."""
    return {"status": "ok"}


@probes.get("/readyz")
async def ready() -> dict[str, str]:
    """It can answer: the database is there and migrated, and the runs can be worked on."""
    search = await database.ping()
    await workflows.ping()
    return {"status": "ok", "search": search}


@routes.put("/documents/{document:path}", status_code=202, responses=ENDED, openapi_extra={"requestBody": BODY})
async def put_document(
    source: Source,
    request: Request,
    response: Response,
    metadata: Annotated[Sequence[Pair], Query(examples=["team:support"])] = (),
    key: Key = None,
    wait: Wait = 30,
) -> Run:
    """Take in a document, in place of an earlier one of that name. Of two at once, the last to end stays."""
    pairs = dict(pair.split(":", 1) for pair in metadata)
    upload = Upload(source=source, content=await request.body(), metadata=pairs)
    ingestion.check(upload)
    return await _finished(await workflows.start_ingestion(upload, key), wait, response)


@routes.get("/documents")
async def list_documents(limit: Limit = 50, after: Text = "") -> list[Document]:
    """By name; `after` is the last name of the page before."""
    return await database.list_documents(limit, after)


@routes.get("/documents/{document}")
async def get_document(document_id: DocumentId) -> Document:
    return _found(await database.get_document(document_id), "document", document_id)


@routes.get("/documents/{document}/passages")
async def list_passages(document_id: DocumentId, position: Annotated[int, Query(ge=0, le=10**9)] = 0) -> list[Chunk]:
    """Four of them, from `position` on."""
    document = await get_document(document_id)
    return [*await database.read_passages(document.source, position, {})]


@routes.delete("/documents/{document}", status_code=204)
async def delete_document(document_id: DocumentId) -> None:
    _found(await database.delete_document(document_id), "document", document_id)


@routes.post("/ask", status_code=202, responses=ENDED)
async def ask(question: Question, response: Response, key: Key = None, wait: Wait = 60) -> Run:
    """Ask the documents. 200 with the answer, or 202 when it takes longer than `wait`."""
    return await _finished(await workflows.start_question(question, key), wait, response)


async def started(question: Question, key: Key = None) -> Run:
    """Before a stream begins: inside it, an error could not be told any more."""
    return await get_run(await workflows.start_question(question, key))


@routes.post("/ask/stream", response_class=EventSourceResponse)
async def ask_stream(run: Annotated[Run, Depends(started)]) -> AsyncIterator[ServerSentEvent]:
    """Ask, and follow the run: `run` first and last, `step` and `text` between."""
    yield ServerSentEvent(event="run", data=run)
    async for event in follow_run(run):
        yield event


@routes.get("/runs")
async def list_runs(limit: Limit = 20) -> list[Run]:
    return await workflows.list_runs(limit)


@routes.get("/runs/{run_id}")
async def get_run(run_id: RunId, wait: Wait = 0) -> Run:
    return _found(await workflows.wait(run_id, wait), "run", run_id)


async def existing(run_id: RunId) -> Run:
    return await get_run(run_id)


Existing = Annotated[Run, Depends(existing)]


@routes.get("/runs/{run_id}/events", response_class=EventSourceResponse)
async def follow_run(
    run: Existing,
    last_event_id: Annotated[int, Header(alias="Last-Event-ID", ge=0, le=10**9)] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """The events of a run, from behind `Last-Event-ID` on, until it ends."""
    async for event in workflows.events(run.id, last_event_id):
        yield ServerSentEvent(id=str(event.number), event=event.type, data=event.data)
    ended = await workflows.get_run(run.id)
    observability.answered(ended and ended.result)
    yield ServerSentEvent(event="run", data=ended)


@routes.post("/runs/{run_id}/cancel")
async def cancel_run(run: Existing) -> Run:
    await workflows.cancel_run(run.id)
    return await get_run(run.id)


@routes.post("/runs/{run_id}/resume")
async def resume_run(run: Existing) -> Run:
    """Carry on a cancelled or failed run behind its last recorded step."""
    await workflows.resume_run(run.id)
    return await get_run(run.id)


@routes.post("/runs/{run_id}/feedback", status_code=204)
async def give_feedback(run: Existing, feedback: Feedback) -> None:
    """Whether the answer has helped, for the trace of the run."""
    comment = feedback.comment if settings.trace_content else ""
    observability.score(run.traceparent, "helpful", feedback.helpful, comment)


async def _finished(run_id: str, seconds: float, response: Response) -> Run:
    run = await get_run(run_id, seconds)
    observability.answered(run.result)
    response.headers["Location"] = f"/runs/{run_id}"
    if not seconds:
        return run  # not waited for, so what becomes of it is no answer to this request
    if run.unreadable:
        raise HTTPException(422, run.error)
    if run.status == "failed":
        raise HTTPException(502, f"Run {run_id} failed: {run.error}")
    if run.finished_at:
        response.status_code = 200
    return run


def _found(value: T | None, what: str, key: object) -> T:
    if not value:
        raise HTTPException(404, f"There is no {what} {key}.")
    return value


async def _as_problem(_: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        return problem(422, "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
    if isinstance(error, HTTPException):
        return problem(error.status_code, error.detail, error.headers)
    if isinstance(error, workflows.KeyReusedError):
        return problem(409, str(error))
    if isinstance(error, UserError):
        return problem(422, str(error))
    if workflows.is_retryable(error):
        detail = f"{workflows.explain(error).partition(':')[0]}. Try again later."
        return problem(503, detail, {"Retry-After": "5"})
    return problem(500, "The server failed; its log says why.")
