"""The command line."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import wraps
from importlib import import_module, util
from io import TextIOWrapper
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app import database, servers
from app.doctor import doctor
from app.models import Answer, Run, UserError
from app.settings import LOOPBACK, ROOT, settings

commands = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # Windows may know only 256 characters
    try:
        if util.find_spec("app.commands"):  # the API has some of its own
            for function in import_module("app.commands").commands:
                command(function)
        commands()
    except UserError as error:
        sys.exit(str(error))
    except Exception as error:
        from app import workflows

        if not workflows.is_retryable(error):
            raise
        sys.exit(workflows.explain(error))


def command(function: Callable[..., Coroutine[Any, Any, None]]) -> None:
    """Make an asynchronous function a command. The servers start while its imports run."""

    @commands.command(function.__name__)
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        with servers.running(), asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(function(*args, **kwargs))


@commands.command("dev")
def dev(trace: Annotated[bool, typer.Option(help="Print the spans of each request.")] = False) -> None:
    """Serve on this machine, and again after each edit. The servers stay up meanwhile."""
    os.environ |= {"HOST": "127.0.0.1", "LOAD_SAMPLE": "true", "DRAIN_SECONDS": "0"}
    os.environ |= {"TRACE_CONSOLE": "true"} if trace else {}
    with servers.running():
        database.migrate()  # says here what is wrong with a database
        _serve("127.0.0.1", patience=1, reload_dirs=[str(ROOT / "app")])


@commands.command("serve")
def serve() -> None:
    """Serve as in production, at HOST and PORT."""
    if settings.host not in LOOPBACK and not settings.api_key:
        raise typer.BadParameter(f"HOST {settings.host} needs an API_KEY. Set one in .env.")
    settings.drain_seconds //= 2  # for requests, and again for the runs that are left
    _serve(settings.host, patience=max(1, settings.drain_seconds))


@command
async def worker() -> None:
    """Work on runs that other processes take in, until it is stopped."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: loop.call_soon_threadsafe(stopped.set))
    async with _stack(settings.worker_concurrency or 8):
        print("Working on runs.", flush=True)
        await stopped.wait()


@command
async def ask(question: str) -> None:
    """Ask the documents a question."""
    from app import agent, observability, workflows

    try:
        asked = agent.Question(question=question)
    except ValidationError as error:
        raise UserError(f"question: {error.errors()[0]['msg']}") from None
    async with _stack():
        with observability.span("ask"):
            run = await workflows.wait(await workflows.start_question(asked), 300)
            observability.answered(run and run.result)
        _show(run)


@command
async def ingest(paths: Annotated[list[Path], typer.Argument(exists=True)]) -> None:
    """Take in documents: files, or folders with all that is in them."""
    from app import ingestion

    files, slots = ingestion.find_files(paths), asyncio.Semaphore(4)
    async with _stack():
        logging.disable(logging.ERROR)  # what fails is said once, and not into the bar
        work = asyncio.as_completed([_take_in(source, path, slots) for source, path in files.items()])
        with typer.progressbar(work, len(files), "Taking in", show_pos=True, file=sys.stderr) as bar:
            outcomes = [await done for done in bar]
    for outcome, line in sorted(told for told in outcomes if told[1]):
        print(f"{outcome:9}  {line}")
    counts = Counter(outcome for outcome, _ in outcomes)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "There is no file.")
    sys.exit(counts["failed"] > 0 or counts["skipped"] == len(files))


@command
async def runs(run_id: Annotated[str, typer.Argument()] = "") -> None:
    """List the latest runs, or show the steps of one."""
    from app import workflows

    async with _stack():
        found = [await workflows.get_run(run_id)] if run_id else await workflows.list_runs(20)
    for run in found:
        if run is None:
            sys.exit(f"There is no run {run_id}.")
        subject = shorten(run.subject, 50, placeholder="...")
        print(f"{run.id}  {run.status:9}  {run.kind:9}  {run.created_at:%Y-%m-%d %H:%M:%S}  {subject}")
        for step in run.steps:
            print(f"    {step.number:3}  {step.name:24}  attempts: {step.attempts}  {step.error or ''}")
        for what, url in {"Run": run.url, "Trace": run.trace_url}.items():
            if run_id and url:
                print(f"    {what}: {url}")


@command
async def fork(run_id: str, step: Annotated[int, typer.Option("--from", help="Number of a step.")]) -> None:
    """Run a question again from one of its steps on, in a new run that keeps the steps before it."""
    from app import workflows

    async with _stack():
        forked = await workflows.fork_run(run_id, step)
        print(f"Run {forked}:", flush=True)
        _show(await workflows.wait(forked, 300))


@command
async def prune(days: Annotated[float, typer.Argument(min=0, max=36_500)]) -> None:
    """Delete the runs that ended so many days ago or earlier, with the text that they worked on."""
    from app import workflows

    async with _stack():
        print(f"Deleted {await workflows.delete_runs(days)} runs.")


@command
async def eval(
    paths: Annotated[list[Path] | None, typer.Argument(exists=True, dir_okay=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Ask the questions of evals/*.jsonl, and measure the answers. Exit code 1: worse than the settings allow."""
    from app import evaluation

    cases = evaluation.read_cases(paths or sorted(ROOT.glob("evals/*.jsonl")))
    async with _stack():
        report = await evaluation.evaluate(cases)
    print(report.model_dump_json(indent=2, ensure_ascii=True) if as_json else evaluation.table(report))
    sys.exit(bool(report.missed))


@command
async def migrate() -> None:
    """Bring the database's schema up to date, as every start does."""
    await asyncio.to_thread(database.migrate)


@command
async def reindex() -> None:
    """Compute the vectors of all documents anew, with the embedding model that is set."""
    async with database.lifespan():
        await database.reindex()


commands.command()(doctor)


def _stack(concurrency: int | None = None) -> AbstractAsyncContextManager[None]:
    from app.main import stack

    return stack(concurrency, sample=concurrency is None and database.is_embedded())


def _show(run: Run | None) -> None:
    if not run or not isinstance(run.result, Answer):
        sys.exit(f"Run {run.id} {run.status}: {run.error or 'no answer'}" if run else "The run is gone.")
    print(run.result.text)
    for number, citation in enumerate(run.result.citations, 1):
        print(f'\n[{number}] {citation.source} ({citation.heading})\n    "{citation.quote}"')
    if run.trace_url:
        print(f"\nTrace: {run.trace_url}")


async def _take_in(source: str, path: Path, slots: asyncio.Semaphore) -> tuple[str, str]:
    """What became of a file and, where it was not taken in, why."""
    from app import ingestion, workflows

    if path.suffix.lower() not in ingestion.SIGNATURES:
        return "skipped", f"{source}  {path.suffix or 'no suffix'} is not supported"
    async with slots:
        try:
            with path.open("rb") as file:
                content = file.read(settings.max_upload_bytes + 1)  # one more, which is too many
            upload = ingestion.Upload(source=source, content=content)
            ingestion.check(upload)
            run = await workflows.wait(await workflows.start_ingestion(upload), 24 * 3600)
            if run and run.status == "succeeded":
                return "succeeded" if any(step.name == "store" for step in run.steps) else "unchanged", ""
            why = run.error or run.status if run else "its run is gone"
        except (UserError, OSError, ValidationError, *workflows.UNAVAILABLE) as error:
            why = workflows.explain(error) if workflows.is_retryable(error) else str(error)
    return "failed", f"{source}  {' '.join(why.split()).removeprefix(f'{source}: ')}"


def _serve(host: str, patience: int, reload_dirs: list[str] | None = None) -> None:
    import uvicorn

    try:  # uvicorn would do so after all else has started, and on Windows share a port with others
        socket.create_server((host, settings.port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise UserError(f"HOST={host}, PORT={settings.port}: {error.strerror}. Set another.") from None
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=host,
        port=settings.port,
        reload=bool(reload_dirs),
        reload_dirs=reload_dirs,
        loop="asyncio:SelectorEventLoop",  # on Windows, psycopg needs this one
        timeout_graceful_shutdown=patience,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
