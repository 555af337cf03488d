"""How processes share runs: how many each works on, and what one that works on none can see and do."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app import database, main, workflows
from app.agent import Question
from app.ingestion import Upload
from app.models import Run
from tests.fake_openai import MODEL, FakeOpenAI, Reply, search_and_quote

pytestmark = pytest.mark.anyio

OTHER = """
import asyncio
import sys
from app import main, workflows
from app.agent import Question
async def other() -> None:
    async with main.stack(0):
        print(await workflows.start_question(Question(question="Who is paid?")), flush=True)
        for run_id in sys.stdin.readline().split():
            print((await workflows.get_run(run_id)).model_dump_json(), flush=True)
            async for event in workflows.events(run_id, after=1):
                print(event.model_dump_json(), flush=True)
        await workflows.cancel_run(sys.stdin.readline().strip())
asyncio.Runner(loop_factory=asyncio.SelectorEventLoop).run(other())
"""


class Turnstile:
    """Holds each answer of the model until it is let through, and counts those that it holds at once."""

    def __init__(self) -> None:
        self.came, self.may_go = threading.Semaphore(0), threading.Semaphore(0)
        self.held = self.most = 0

    def __call__(self, messages: list[Any]) -> Reply:
        self.held += 1
        self.most = max(self.most, self.held)
        self.came.release()
        self.may_go.acquire(timeout=60)
        self.held -= 1
        return search_and_quote(messages)

    async def someone_came(self) -> None:
        assert await asyncio.to_thread(self.came.acquire, timeout=60)


@pytest.fixture
def turnstile(model: FakeOpenAI) -> Iterator[Turnstile]:
    model.reply = turnstile = Turnstile()
    yield turnstile
    turnstile.may_go.release(100)


@pytest.fixture
def other(model: FakeOpenAI, database_server: None) -> Iterator[subprocess.Popen[str]]:
    """A process of the application that works on no runs."""
    environment = {**os.environ, "LLM_MODEL": MODEL, "LLM_BASE_URL": model.url}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", OTHER], env=environment, stdin=pipe, stdout=pipe, text=True) as other:
        yield other
        other.kill()


async def statuses(run_ids: list[str]) -> list[str]:
    return [run.status for run in [await workflows.get_run(run_id) for run_id in run_ids] if run]


async def ended(run_id: str) -> Run:
    run = await workflows.wait(run_id, 60)
    assert run and run.status not in ("queued", "running")
    return run


async def test_a_process_works_on_as_many_runs_at_once_as_it_is_told(
    turnstile: Turnstile, database_server: None
) -> None:
    async with main.stack(2, sample=True):
        asked = [Question(question=f"How long are invoices kept? ({number})") for number in range(5)]
        run_ids = [await workflows.start_question(question) for question in asked]
        for _ in range(2):
            await turnstile.someone_came()
        assert sorted(await statuses(run_ids)) == ["queued"] * 3 + ["running"] * 2
        queued = [run_id for run_id in run_ids if await statuses([run_id]) == ["queued"]]
        cancelled, _, resumed = queued
        for run_id in (cancelled, resumed):
            await workflows.cancel_run(run_id)
            assert (await ended(run_id)).status == "cancelled"
        await workflows.resume_run(resumed)
        for _ in range(8):  # turns of the four others, the two that came included
            turnstile.may_go.release()
        for run_id in run_ids:
            assert (await ended(run_id)).status == ("cancelled" if run_id == cancelled else "succeeded")
        run = await workflows.get_run(cancelled)
        assert run and run.steps == []
    assert turnstile.most == 2


def test_a_database_that_is_away_is_told_as_such() -> None:
    for kind in database.UNAVAILABLE:
        assert issubclass(kind, workflows.UNAVAILABLE)
    error = database.UNAVAILABLE[0]("at 10.0.0.1")
    assert workflows.is_retryable(error) and not workflows.is_retryable(ValueError())
    assert workflows.explain(error) == database.explain(error)


async def test_a_process_that_works_on_none_sees_all_and_what_it_starts_is_worked_on_elsewhere(
    turnstile: Turnstile, other: subprocess.Popen[str]
) -> None:
    def tell(*run_ids: str) -> None:
        assert other.stdin
        print(*run_ids, file=other.stdin, flush=True)

    async def read() -> str:
        assert other.stdout
        return (await asyncio.to_thread(other.stdout.readline)).strip()

    async with main.stack(8, sample=True):
        there = await read()
        await turnstile.someone_came()
        assert await statuses([there]) == ["running"]
        turnstile.may_go.release(2)
        assert (await ended(there)).status == "succeeded"

        unreadable = await ended(await workflows.start_ingestion(Upload(source="a.pdf", content=b"no PDF")))
        here = await workflows.start_question(Question(question="How long are invoices kept?"))
        await turnstile.someone_came()  # the second turn of the first one
        await turnstile.someone_came()
        tell(unreadable.id, here)
        assert Run.model_validate_json(await read()) == unreadable
        assert json.loads(await read())["number"] == 2
        told = Run.model_validate_json(await read())
        assert (told.status, [step.name for step in told.steps]) == ("running", ["llm 1"])
        turnstile.may_go.release()  # it reads while the run goes on
        assert [json.loads(await read())["number"] for _ in range(2)] == [2, 3]
        await turnstile.someone_came()
        assert (await statuses([here])) == ["running"]
        turnstile.may_go.release()
        run = await ended(here)
        events = [event async for event in workflows.events(here)]
        rest = [json.loads(await read()) for _ in events[3:]]
        assert rest == [event.model_dump(mode="json") for event in events[3:]]

        held = await workflows.start_question(Question(question="Who pays?"))
        await turnstile.someone_came()
        tell(held)
        assert (await ended(held)).status == "cancelled" and run.status == "succeeded"
        turnstile.may_go.release()
        assert await asyncio.to_thread(other.wait, 30) == 0
