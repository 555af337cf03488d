"""The command line."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvicorn
from pydantic import ValidationError

from app import database, embeddings, workflows
from app.access import LOOPBACK
from app.agent import Question
from app.client import Client, ServiceError
from app.ingestion import SUFFIXES, UnreadableError, Upload
from app.models import Answer, Run
from app.settings import ROOT, settings

T = TypeVar("T")
ADDRESS = settings.data_dir / "address"
"""Where the server of this project answers, while it runs."""

main = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@main.command()
def dev(trace: Annotated[bool, typer.Option(help="Print the spans of each request.")] = False) -> None:
    """Serve on this machine, and again after each edit. The database stays up meanwhile."""
    os.environ |= {"HOST": "127.0.0.1", "LOAD_SAMPLE": "true", "TRACE_CONSOLE": str(trace).lower()}
    with database.server():
        _serve("127.0.0.1", reload=True)


@main.command()
def serve() -> None:
    """Serve as in production, at HOST and PORT."""
    if settings.host not in LOOPBACK and not settings.api_key:
        raise typer.BadParameter(f"HOST {settings.host} needs an API_KEY. Set one in .env.")
    _serve(settings.host, reload=False)


@main.command()
def ask(question: str) -> None:
    """Ask the documents a question."""
    run = _run(_ask(question))
    if not isinstance(run.result, Answer):
        sys.exit(f"Run {run.id} {run.status}: {run.error}")
    print(run.result.text)
    for number, citation in enumerate(run.result.citations, 1):
        print(f'\n[{number}] {citation.source} ({citation.heading})\n    "{citation.quote}"')


@main.command()
def ingest(paths: Annotated[list[Path], typer.Argument(exists=True)]) -> None:
    """Take in documents: files, or folders with all that is in them."""
    taken_in = _run(_ingest(paths))
    for run in taken_in:
        print(f"{run.status}  {getattr(run.result, 'source', run.error)}")
    if any(run.status == "failed" for run in taken_in):
        raise typer.Exit(1)


@main.command()
def runs(run_id: Annotated[str, typer.Argument()] = "") -> None:
    """List the latest runs, or show the steps of one."""
    for run in _run(_runs(run_id)):
        print(f"{run.id}  {run.status:9}  {run.kind:9}  {run.created_at:%Y-%m-%d %H:%M:%S}")
        for step in run.steps:
            times = f"{step.attempts} attempt{'s' * (step.attempts > 1)}"
            print(f"    {step.number:3}  {step.name:20}  {times}  {step.error or ''}")


@main.command()
def migrate() -> None:
    """Bring the database's schema up to date."""
    with database.server():
        database.migrate()


@main.command()
def reindex() -> None:
    """Compute the vectors of all documents anew, with the embedding model that is set."""
    _run(_reindex())


async def _ask(question: str) -> Run:
    async with _service() as service:
        run_id = await service.start_question(Question(question=question))
        run: Run = await service.wait(run_id, 300)
        return run


async def _ingest(paths: list[Path]) -> list[Run]:
    async with _service() as service:
        run_ids = [
            await service.start_ingestion(Upload(source=source, content=path.read_bytes()))
            for source, path in _files(paths)
        ]
        return [await service.wait(run_id, 3600) for run_id in run_ids]


async def _runs(run_id: str) -> list[Run]:
    async with _service() as service:
        if not run_id:
            runs: list[Run] = await service.list_runs(20)
            return runs
        run = await service.wait(run_id, 0)
        return [run] if run else sys.exit(f"There is no run {run_id}.")


async def _reindex() -> None:
    with database.server():
        async with database.lifespan():
            await database.reindex(embeddings.embed)


@asynccontextmanager
async def _service() -> AsyncIterator[Any]:
    """The running server of this project or else, in this process, the parts themselves."""
    client = Client(ADDRESS.read_text()) if ADDRESS.exists() else None
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
            inside = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
            yield from ((p.relative_to(path).as_posix(), p) for p in inside)
        else:
            yield path.name, path


def _serve(host: str, reload: bool) -> None:
    with socket.socket() as probe:
        if probe.connect_ex((host, settings.port)) == 0:
            raise typer.BadParameter(f"PORT {settings.port} is in use. Set another: PORT=8001.")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    ADDRESS.write_text(f"http://{host}:{settings.port}")
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
    ADDRESS.unlink(missing_ok=True)


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        try:
            return runner.run(work)
        except (ServiceError, UnreadableError, RuntimeError, ValidationError) as error:
            sys.exit(f"{error}")
        except Exception as error:
            if database.is_retryable(error):
                sys.exit(f"The database does not answer: {error}")
            raise


if __name__ == "__main__":
    main()
