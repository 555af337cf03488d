"""Runs outlive the process that runs them. That is a real one here, killed while the model holds back its answer."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app import main, worker, workflows
from app.agent import Question
from app.models import Run
from tests.fake_openai import MODEL, FakeOpenAI, Reply, search_and_quote

pytestmark = pytest.mark.anyio

ASK = """
import asyncio
from app import main, workflows
from app.agent import Question
async def ask() -> None:
    async with main.stack(8):
        print(await workflows.start_question(Question(question="When?")), flush=True)
        await asyncio.Event().wait()
asyncio.Runner(loop_factory=asyncio.SelectorEventLoop).run(ask())
"""


def attempts(run: Run | None) -> dict[str, int]:
    return {step.name: step.attempts for step in run.steps} if run else {}


@pytest.fixture
def process(model: FakeOpenAI, database_server: None) -> Iterator[subprocess.Popen[str]]:
    """Another process of the application. It has asked a question, and prints the id of the run."""
    environment = {**os.environ, "LLM_MODEL": MODEL, "LLM_BASE_URL": model.url}
    with subprocess.Popen([sys.executable, "-c", ASK], env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("killed", ["before another starts", "while another runs"])
async def test_a_killed_run_goes_on_in_another_process_behind_its_last_recorded_step(
    killed: str, model: FakeOpenAI, process: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held, released = threading.Semaphore(0), threading.Event()

    def hold_the_answer(messages: list[Any]) -> Reply:
        if len(messages) > 2:
            held.release()
            released.wait(30)
        return search_and_quote(messages)

    model.reply = hold_the_answer
    monkeypatch.setattr(worker, "SILENCE", 2)
    assert await asyncio.to_thread(held.acquire, timeout=30)
    if killed == "before another starts":
        process.kill()
    async with main.stack(8):
        if killed == "while another runs":
            assert not await asyncio.to_thread(held.acquire, timeout=1.5)  # a run of a living process stays there
            process.kill()
        assert await asyncio.to_thread(held.acquire, timeout=30)
        released.set()
        run = await workflows.wait(process.communicate()[0].strip(), 30)
    assert attempts(run) == {"llm 1": 1, "search_documents 1.1": 1, "llm 2": 2}
    assert run and run.status == "succeeded"
    assert [len(messages) for messages in model.asked] == [2, 4, 4]
    assert model.keys[0] != model.keys[1] == model.keys[2]


async def test_a_step_is_tried_again_and_a_failed_run_is_resumed(model: FakeOpenAI, database_server: None) -> None:
    replies: list[Any] = [429, None, 401, None]
    model.reply = lambda messages: replies.pop(0) or search_and_quote(messages)
    async with main.stack(8):
        run_id = await workflows.start_question(Question(question="When?"))
        failed = await workflows.wait(run_id, 30)
        assert attempts(failed) == {"llm 1": 2, "search_documents 1.1": 1, "llm 2": 1}
        assert failed and failed.status == "failed" and "answered 401" in str(failed.error)
        await workflows.resume_run(run_id)
        resumed = await workflows.wait(run_id, 30)
    assert resumed and resumed.status == "succeeded"
    assert [len(messages) for messages in model.asked] == [2, 2, 4, 4]
