"""The command line."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn

from app import database, embeddings, workflows
from app.access import LOOPBACK
from app.agent import Question
from app.client import Client, ServiceError
from app.ingestion import SUFFIXES, Upload
from app.models import Answer, UserError
from app.settings import ROOT, settings

ADDRESS = settings.data_dir / "address"
"""Where the server of this project answers, while it runs."""

commands = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    try:
        commands()
    except UserError as error:
        sys.exit(str(error))
    except Exception as error:
        if not database.is_retryable(error):
            raise
        sys.exit(f"The database does not answer: {error}")


def command(function: Callable[..., Coroutine[Any, Any, None]]) -> None:
    """Make an asynchronous function a command."""

    @commands.command(function.__name__)
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(function(*args, **kwargs))


@commands.command()
def dev(trace: Annotated[bool, typer.Option(help="Print the spans of each request.")] = False) -> None:
    """Serve on this machine, and again after each edit. The database stays up meanwhile."""
    os.environ |= {"HOST": "127.0.0.1", "LOAD_SAMPLE": "true"} | ({"TRACE_CONSOLE": "true"} if trace else {})
    with database.server():
        database.migrate()  # says here what is wrong with a database
        _serve("127.0.0.1", reload=True)


@commands.command()
def serve() -> None:
    """Serve as in production, at HOST and PORT."""
    if settings.host not in LOOPBACK and not settings.api_key:
        raise typer.BadParameter(f"HOST {settings.host} needs an API_KEY. Set one in .env.")
    _serve(settings.host, reload=False)


@command
async def ask(question: str) -> None:
    """Ask the documents a question."""
    async with _service() as service:
        run = await service.wait(await service.start_question(Question(question=question)), 300)
    if not isinstance(run.result, Answer):
        sys.exit(f"Run {run.id} {run.status}: {run.error}")
    print(run.result.text)
    for number, citation in enumerate(run.result.citations, 1):
        print(f'\n[{number}] {citation.source} ({citation.heading})\n    "{citation.quote}"')


@command
async def ingest(paths: Annotated[list[Path], typer.Argument(exists=True)]) -> None:
    """Take in documents: files, or folders with all that is in them."""
    failed = False
    async with _service() as service:
        for source, path in _files(paths):
            try:
                run_id = await service.start_ingestion(Upload(source=source, content=path.read_bytes()))
                error = (await service.wait(run_id, 24 * 3600)).error
            except ServiceError as refusal:
                error = str(refusal)
            failed = failed or bool(error)
            print(f"failed  {source}  {error}" if error else f"succeeded  {source}")
    sys.exit(failed)


@command
async def runs(run_id: Annotated[str, typer.Argument()] = "") -> None:
    """List the latest runs, or show the steps of one."""
    async with _service() as service:
        found = [await service.wait(run_id, 0)] if run_id else await service.list_runs(20)
    for run in found:
        if run is None:
            sys.exit(f"There is no run {run_id}.")
        print(f"{run.id}  {run.status:9}  {run.kind:9}  {run.created_at:%Y-%m-%d %H:%M:%S}")
        for step in run.steps:
            print(f"    {step.number:3}  {step.name:24}  attempts: {step.attempts}  {step.error or ''}")


@commands.command()
def migrate() -> None:
    """Bring the database's schema up to date."""
    with database.server():
        database.migrate()


@command
async def reindex() -> None:
    """Compute the vectors of all documents anew, with the embedding model that is set."""
    with database.server():
        async with database.lifespan():
            await database.reindex(embeddings.embed)


@asynccontextmanager
async def _service() -> AsyncIterator[Any]:
    """The running server of this project or else, in this process, the parts themselves."""
    client = Client(ADDRESS.read_text(encoding="utf-8")) if ADDRESS.exists() else None
    if client and await client.answers():
        yield client
        return
    from app.main import stack  # it makes the application

    async with stack(sample=not database.url()):
        yield workflows


def _files(paths: list[Path]) -> Iterator[tuple[str, Path]]:
    """Files with their names: below a folder that was given, the path from there."""
    for path in paths:
        if path.is_dir():
            for name in sorted(p.relative_to(path) for p in path.rglob("*") if p.suffix.lower() in SUFFIXES):
                if not any(part.startswith(".") for part in name.parts):
                    yield name.as_posix(), path / name
        else:
            yield path.name, path


def _serve(host: str, reload: bool) -> None:
    with suppress(OSError), socket.create_connection((host, settings.port), timeout=1):
        raise typer.BadParameter(f"PORT {settings.port} is in use. Set another: PORT={settings.port + 1}.")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    address = f"http://localhost:{settings.port}"
    ADDRESS.write_text(address, encoding="utf-8")
    uvicorn.run(
        "app.main:app",
        host=host,
        port=settings.port,
        reload=reload,
        reload_dirs=[str(ROOT / "app")] if reload else None,
        loop="asyncio:SelectorEventLoop",  # on Windows, psycopg needs this one
        timeout_graceful_shutdown=5,
        log_level="warning",
    )
    if ADDRESS.exists() and ADDRESS.read_text(encoding="utf-8") == address:  # not of a server that came later
        ADDRESS.unlink()


if __name__ == "__main__":
    main()
