"""The MCP server, by FastMCP: over streamable HTTP at /mcp or, by commands.py, over stdin and stdout."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from html import escape
from typing import Annotated, Any
from uuid import uuid4

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.utilities.lifespan import combine_lifespans
from pydantic import Field
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount

from app import database, ingestion, observability, tools, workflows
from app.access import AccessMiddleware, problem
from app.agent import Question
from app.models import Hit, Run, Text, UserError
from app.settings import LOOPBACK, ROOT, settings

Words = Annotated[Text, Field(min_length=1, max_length=4_000)]
Name = Annotated[Text, Field(min_length=1, max_length=500)]
Pairs = Annotated[dict[Text, Text], Field(description="Metadata of documents, such as team: support")]
Key = Annotated[Text | None, Field(max_length=200, description="Calls with the same key make one run")]
Wait = Annotated[float, Field(ge=0, le=300, description="Seconds to wait for the run to end")]

READS = {"readOnlyHint": True, "openWorldHint": False}
WRITES = {"readOnlyHint": False, "destructiveHint": False, "openWorldHint": False}
POLICY = "default-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"

mcp = FastMCP(
    "Answers from documents",
    instructions="""\
Answers questions from a team's own documents, and quotes them. Questions and new documents are runs, which go on
whatever becomes of a call: look at a run that is `queued` or `running` again with `get_run` and its `id`.""",
    mask_error_details=True,
)


def create_app(lifespan: Callable[[Any], AbstractAsyncContextManager[None]]) -> Starlette:
    # Without sessions, any replica can answer any request, and a restart loses nothing.
    served = mcp.http_app(path="/mcp", stateless_http=True)
    # A stream that is open when the server stops is cut off, which needs no traceback.
    logging.getLogger("uvicorn.error").addFilter(lambda log: (log.exc_info or [None])[0] is not asyncio.CancelledError)
    cors = Middleware(CORSMiddleware, allow_origins=settings.cors_origins, allow_methods=["*"], allow_headers=["*"])
    return Starlette(
        routes=[Mount("/", served)],
        middleware=[cors, Middleware(AccessMiddleware)],
        lifespan=combine_lifespans(lifespan, served.lifespan),
    )


@asynccontextmanager
async def explained() -> AsyncIterator[None]:
    """Errors in words that a model can act on; any other is a bug, and is masked."""
    try:
        yield
    except UserError as error:
        raise ValidationError(str(error), log_level=logging.DEBUG) from error
    except workflows.UNAVAILABLE as error:
        if not workflows.is_retryable(error):
            raise
        wrong = workflows.explain(error).partition(":")[0]
        raise ToolError(f"{wrong}. Try again later.", log_level=logging.DEBUG) from error


@mcp.tool(annotations=WRITES)
@explained()
async def ask(question: Words, context: Context, filters: Pairs | None = None, key: Key = None, wait: Wait = 50) -> Run:
    """Ask the documents. The result has the answer with its citations or, after `wait` seconds, a run that goes on."""
    run_id = await workflows.start_question(Question(question=question, filters=filters or {}), key)
    return succeeding(await follow(run_id, wait, context))


@mcp.tool(annotations=READS)
@explained()
async def search_documents(query: Words, filters: Pairs | None = None) -> list[Hit]:
    """Find the passages that fit a query best, by meaning and by words."""
    return await tools.search_documents(tools.SearchDocuments(query=query), filters or {})


@mcp.tool(annotations=READS)
@explained()
async def read_document(source: Name, position: Annotated[int, Field(ge=0, le=10**9)] = 0) -> list[Hit]:
    """Read four passages of a document, from a position on."""
    return await tools.read_document(tools.ReadDocument(source=source, position=position), {})


@mcp.tool(annotations=WRITES | {"destructiveHint": True, "idempotentHint": True})
@explained()
async def add_document(
    source: Annotated[Name, Field(description="Its name, which ends in .md, .txt or .html")],
    text: str,
    context: Context,
    metadata: Pairs | None = None,
    key: Key = None,
    wait: Wait = 50,
) -> Run:
    """Take in a document, in place of an earlier one of that name."""
    upload = ingestion.Upload(source=source, content=text.encode(), metadata=metadata or {})
    ingestion.check(upload)
    return succeeding(await follow(await workflows.start_ingestion(upload, key), wait, context))


@mcp.tool(annotations=READS)
@explained()
async def get_run(run_id: Name, context: Context, wait: Wait = 0) -> Run:
    """What became of a run: its steps and, when it has succeeded, its result."""
    return await follow(run_id, wait, context)


@mcp.tool(annotations=READS)
@explained()
async def list_runs(limit: Annotated[int, Field(ge=1, le=100)] = 20) -> list[Run]:
    """The latest runs, without their steps and results."""
    return [run.model_copy(update={"result": None}) for run in await workflows.list_runs(limit)]


@mcp.tool(annotations=WRITES | {"idempotentHint": True})
@explained()
async def cancel_run(run_id: Name) -> Run:
    """Stop a run. `resume_run` carries it on."""
    await workflows.cancel_run((await _known(run_id)).id)
    return await _known(run_id)


@mcp.tool(annotations=WRITES | {"idempotentHint": True})
@explained()
async def resume_run(run_id: Name) -> Run:
    """Carry on a cancelled or failed run behind its last recorded step."""
    await workflows.resume_run(run_id)
    return await _known(run_id)


@mcp.tool(annotations=WRITES)
@explained()
async def give_feedback(run_id: Name, helpful: bool, comment: Annotated[Text, Field(max_length=4_000)] = "") -> Run:
    """Tell whether an answer has helped, as the person who asked says."""
    run = await _known(run_id)
    observability.score(run.traceparent, "helpful", helpful, comment if settings.trace_content else "")
    return run


@mcp.resource("app://documents", mime_type="application/json")
@explained()
async def documents() -> str:
    """The first 100 documents, by name."""
    return to_json(await database.list_documents(100)).decode()


@mcp.resource("app://documents/{source*}", mime_type="text/plain")
@explained()
async def document(source: str) -> str:
    """The text of a document."""
    passages = await database.read_passages(source, 0, {}, limit=10_000)
    if not passages:
        raise UserError(f"There is no document {source}.")
    return "\n\n".join(f"{passage.heading}\n{passage.text}" for passage in passages)


@mcp.resource("app://runs", mime_type="application/json")
@explained()
async def runs() -> str:
    """The latest 20 runs."""
    return to_json(await workflows.list_runs(20)).decode()


@mcp.resource("app://runs/{run_id}", mime_type="application/json")
@explained()
async def run(run_id: str) -> str:
    """A run with its steps and its result."""
    return (await _known(run_id)).model_dump_json()


@mcp.custom_route("/", ["GET"])
async def page(request: Request) -> Response:
    """For people. It loads nothing from elsewhere, and no script but its own runs in it."""
    nonce = uuid4().hex
    html = (ROOT / "app" / "page.html").read_text(encoding="utf-8").replace("{nonce}", nonce)
    # Others may see the page, and need not know what is where on this machine.
    local = not settings.api_key and request.url.hostname in LOOPBACK
    html = html.replace("{python}", escape(sys.executable) if local else "")
    return HTMLResponse(html, headers={"Content-Security-Policy": POLICY.format(nonce=nonce)})


@mcp.custom_route("/healthz", ["GET"])
async def health(_: Request) -> Response:
    """This process runs."""
    return JSONResponse({"status": "ok"})


@mcp.custom_route("/readyz", ["GET"])
async def ready(_: Request) -> Response:
    """It can answer: the database is there and migrated, and the runs can be worked on."""
    try:
        search = await database.ping()
        await workflows.ping()
    except workflows.UNAVAILABLE as error:
        return problem(503, f"{workflows.explain(error).partition(':')[0]}. Try again later.", {"Retry-After": "5"})
    return JSONResponse({"status": "ok", "search": search})


async def follow(run_id: str, seconds: float, context: Context) -> Run:
    """Tell the run's id and each of its steps as they begin, until it ends or so many seconds have passed."""
    await context.report_progress(0, message=f"run {run_id}")
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for event in workflows.events(run_id):
                if event.type == "step":
                    await context.report_progress(event.number, message=event.data["name"])
    run = await _known(run_id)
    observability.answered(run.result)
    return run


def succeeding(run: Run) -> Run:
    if run.status == "failed":
        advice = "" if run.unreadable else f"\nCall `resume_run` with {run.id} to try again."
        raise ToolError(f"Run {run.id} failed: {run.error}{advice}", log_level=logging.DEBUG)
    return run


async def _known(run_id: str) -> Run:
    if run := await workflows.get_run(run_id):
        return run
    raise UserError(f"There is no run {run_id}.")
