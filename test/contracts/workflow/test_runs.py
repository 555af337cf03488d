"""What every workflow engine keeps, whichever it is: runs, their steps, and what can be done with them."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

from app import ingestion, llm, main, workflows
from app.agent import Question
from app.ingestion import Upload
from app.models import Answer, Document, Event, Run, UserError
from tests.fake_openai import FakeOpenAI, Reply, search_and_quote

pytestmark = pytest.mark.anyio

NAMES = ["llm 1", "search_documents 1.1", "llm 2"]
HOSTILE = [
    "Wie lange? 你好 🙂 \u202eright to left\u202c e\u0301",
    "'; DROP TABLE documents; -- \" ` $(id) ${HOME} {{ 7 * 7 }} {0} %s %(x)s \\x00 \\u0000",
    "<script>alert(1)</script>\r\n\ttwo lines\x1b[31m\x7f\ufeff",
    "../../etc/passwd/" + "x" * 400,
]


class Hold:
    """Keeps the model's answer to one turn of all runs back, until it is opened."""

    def __init__(self, turn: int) -> None:
        self.turn, self.asked, self.opened = turn, threading.Semaphore(0), threading.Event()

    def __call__(self, messages: list[Any]) -> Reply:
        if turn(messages) == self.turn:
            self.asked.release()
            self.opened.wait(60)
        return search_and_quote(messages)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.asked.acquire, timeout=60)


@pytest.fixture(scope="module")
async def stack(database_server: None) -> AsyncIterator[None]:
    async with main.stack(8, sample=True):
        yield


@pytest.fixture
def hold(stack: None, model: FakeOpenAI) -> Iterator[Hold]:
    """Of the second turn, so in the middle of the third step."""
    model.reply = hold = Hold(2)
    yield hold
    hold.opened.set()


@pytest.fixture
def question() -> Question:
    return Question(question=f"How long are invoices kept? ({uuid4()})")


def turn(messages: list[Any]) -> int:
    return [message["role"] for message in messages].count("assistant") + 1


def turns(model: FakeOpenAI, question: Question) -> list[int]:
    """Of the model, as it was asked for them."""
    return [turn(messages) for messages in model.asked if messages[1]["content"] == question.question]


def attempts(run: Run) -> dict[str, int]:
    return {step.name: step.attempts for step in run.steps}


async def ended(run_id: str) -> Run:
    run = await workflows.wait(run_id, 60)
    assert run and run.status not in ("queued", "running")
    return run


async def events(run_id: str, after: int = 0) -> list[Event]:
    async with asyncio.timeout(60):
        return [event async for event in workflows.events(run_id, after)]


async def test_a_run_tells_what_it_was_given_its_steps_and_its_result(
    stack: None, model: FakeOpenAI, question: Question
) -> None:
    run = await ended(await workflows.start_question(question))
    assert (run.kind, run.subject, run.status) == ("question", question.question, "succeeded")
    assert (run.error, run.unreadable) == (None, False)
    assert attempts(run) == dict.fromkeys(NAMES, 1)
    times = [run.created_at, *(time for step in run.steps for time in (step.started_at, step.finished_at) if time)]
    assert len(times) == 7 and times == sorted(times)
    assert run.finished_at and run.finished_at >= times[-1].replace(microsecond=0)  # some stores keep whole seconds
    numbers = [step.number for step in run.steps]
    assert numbers == sorted(set(numbers)) and {step.error for step in run.steps} == {None}
    assert isinstance(run.result, Answer) and run.result.citations[0].source == "sample/billing.md"
    assert await workflows.get_run(run.id) == run

    upload = Upload(source="gate.md", content=b"# Gate\n\nThe gate is green.\n", metadata={"team": "garden"})
    ingested = await ended(await workflows.start_ingestion(upload))
    assert (ingested.kind, ingested.subject, ingested.status) == ("ingestion", "gate.md", "succeeded")
    assert isinstance(ingested.result, Document)
    assert (ingested.result.chunks, ingested.result.metadata) == (1, {"team": "garden"})
    assert [step.name for step in ingested.steps] == ["look up", "split", "embed 1", "store"]


async def test_a_key_starts_one_run_and_belongs_to_its_content(
    stack: None, model: FakeOpenAI, question: Question
) -> None:
    key = f"{uuid4()} {HOSTILE[0]} {HOSTILE[1]}"
    run_ids = await asyncio.gather(*(workflows.start_question(question, key) for _ in range(5)))
    assert len(set(run_ids)) == 1
    await ended(run_ids[0])
    assert await workflows.start_question(question, key) == run_ids[0]
    assert turns(model, question) == [1, 2]
    for other in (Question(question="Who is paid?"), question.model_copy(update={"filters": {"team": "sales"}})):
        with pytest.raises(workflows.KeyReusedError, match=key[:36]):
            await workflows.start_question(other, key)
    assert (await ended(await workflows.start_ingestion(Upload(source="a.md", content=b"a"), key))).id != run_ids[0]
    without = await ended(await workflows.start_question(question))
    assert without.id != run_ids[0] and turns(model, question) == [1, 2, 1, 2]


async def test_what_is_not_there_is_told_and_nothing_happens(stack: None) -> None:
    before = await workflows.list_runs(100)
    for run_id in ("nobody", str(uuid4()), *HOSTILE):
        assert await workflows.get_run(run_id) is None
        assert await workflows.wait(run_id, 5) is None
        assert await events(run_id) == []
        await workflows.cancel_run(run_id)
        await workflows.resume_run(run_id)
        with pytest.raises(UserError, match=r"no such run"):
            await workflows.fork_run(run_id, 1)
    assert await workflows.list_runs(100) == before


async def test_what_may_pass_is_tried_again_later_and_what_lasts_is_not(stack: None, model: FakeOpenAI) -> None:
    replies: dict[str, list[Any]] = {"passes": [429, 503, None, None], "lasts": [401], "stays": [503] * 9}
    asked: dict[str, list[float]] = {what: [] for what in replies}

    def reply(messages: list[Any]) -> Reply:
        what = messages[1]["content"]
        asked[what].append(time.monotonic())
        return replies[what].pop(0) or search_and_quote(messages)

    model.reply = reply
    run_ids = [await workflows.start_question(Question(question=what)) for what in replies]
    passes, lasts, stays = await asyncio.gather(*map(ended, run_ids))
    assert (passes.status, attempts(passes)) == ("succeeded", dict(zip(NAMES, [3, 1, 1], strict=True)))
    assert (lasts.status, attempts(lasts)) == ("failed", {"llm 1": 1})
    assert (stays.status, attempts(stays)) == ("failed", {"llm 1": 5})
    assert "401" in str(lasts.error) and "503" in str(stays.error)
    assert lasts.steps[0].error and lasts.result is None
    waits = [later - earlier for earlier, later in zip(asked["stays"], asked["stays"][1:], strict=False)]
    assert min(waits) > 0.2 and waits[0] < waits[-1]  # each waits longer


async def test_a_failed_run_is_resumed_at_the_step_that_failed(
    stack: None, model: FakeOpenAI, question: Question
) -> None:
    replies: list[Any] = [None, 401, 401, None]
    model.reply = lambda messages: replies.pop(0) or search_and_quote(messages)
    run_id = await workflows.start_question(question)
    for _ in range(2):
        failed = await ended(run_id)
        assert (failed.status, failed.steps[-1].name) == ("failed", "llm 2")
        assert failed.steps[-1].error and "401" in failed.steps[-1].error
        await workflows.resume_run(run_id)
    resumed = await ended(run_id)
    assert (resumed.status, resumed.error, [step.name for step in resumed.steps]) == ("succeeded", None, NAMES)
    assert {step.error for step in resumed.steps} == {None}
    assert turns(model, question) == [1, 2, 2, 2]


async def test_a_run_is_cancelled_in_the_middle_of_a_step_and_resumed_there(
    hold: Hold, model: FakeOpenAI, question: Question, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = await workflows.start_question(question)
    await hold.reached()
    await workflows.cancel_run(run_id)
    cancelled = await ended(run_id)
    assert (cancelled.status, cancelled.result) == ("cancelled", None)
    assert [step.finished_at is not None for step in cancelled.steps] == [True, True, False]
    await workflows.cancel_run(run_id)
    assert (await ended(run_id)).steps == cancelled.steps
    hold.opened.set()
    assert turns(model, question) == [1, 2]
    await workflows.resume_run(run_id)
    resumed = await ended(run_id)
    assert (resumed.status, [step.name for step in resumed.steps]) == ("succeeded", NAMES)
    assert turns(model, question) == [1, 2, 2]
    assert "Traceback" not in caplog.text


async def test_a_run_that_has_ended_is_neither_resumed_nor_cancelled(
    stack: None, model: FakeOpenAI, question: Question
) -> None:
    run_id = await workflows.start_question(question)
    before = await ended(run_id), await events(run_id)
    await workflows.resume_run(run_id)
    await workflows.cancel_run(run_id)
    await workflows.resume_run(run_id)
    assert (await ended(run_id), await events(run_id)) == before
    assert turns(model, question) == [1, 2]


async def test_a_run_under_way_is_not_resumed(hold: Hold, model: FakeOpenAI, question: Question) -> None:
    run_id = await workflows.start_question(question)
    await hold.reached()
    await workflows.resume_run(run_id)
    hold.opened.set()
    assert (await ended(run_id)).status == "succeeded"
    assert turns(model, question) == [1, 2]


async def test_a_fork_keeps_the_steps_before_it_and_runs_the_others(
    stack: None, model: FakeOpenAI, question: Question
) -> None:
    run = await ended(await workflows.start_question(question))
    for step, expected in zip(run.steps, ([1, 2], [2], [2]), strict=True):
        del model.asked[:]
        forked = await ended(await workflows.fork_run(run.id, step.number))
        assert turns(model, question) == expected
        assert forked.id != run.id and (forked.status, forked.result) == ("succeeded", run.result)
        assert (forked.kind, forked.subject) == (run.kind, run.subject)
        assert attempts(forked) == attempts(run)
        numbers = [event.number for event in await events(forked.id)]
        assert numbers == list(range(1, len(numbers) + 1))
    assert await workflows.get_run(run.id) == run
    known = [step.number for step in run.steps]
    for wrong in (0, -1, max(known) + 1, 10**6):
        with pytest.raises(UserError) as raised:
            await workflows.fork_run(run.id, wrong)
        assert str(known) in str(raised.value)


async def test_a_failed_run_is_forked_before_its_failure(stack: None, model: FakeOpenAI, question: Question) -> None:
    replies: list[Any] = [None, 401, None]
    model.reply = lambda messages: replies.pop(0) or search_and_quote(messages)
    failed = await ended(await workflows.start_question(question))
    forked = await ended(await workflows.fork_run(failed.id, failed.steps[-1].number))
    assert (failed.status, forked.status) == ("failed", "succeeded")
    assert turns(model, question) == [1, 2, 2]
    assert await workflows.get_run(failed.id) == failed


async def test_events_are_numbered_without_a_gap_and_end_with_the_run(
    hold: Hold, model: FakeOpenAI, question: Question
) -> None:
    replies: list[Any] = [None, 429]
    model.reply = lambda messages: (replies.pop(0) if replies else None) or hold(messages)
    run_id = await workflows.start_question(question)
    early, late = asyncio.create_task(events(run_id)), asyncio.create_task(events(run_id, after=2))
    await hold.reached()
    assert not early.done()
    hold.opened.set()
    run, told = await ended(run_id), await early
    assert [event.number for event in told] == list(range(1, len(told) + 1))
    assert await late == told[2:]
    assert await events(run_id) == told
    assert await events(run_id, after=len(told)) == await events(run_id, after=10**6) == []
    begun = [event.data for event in told if event.type == "step" and "finished_at" not in event.data]
    assert [step["name"] for step in begun] == [*NAMES, NAMES[-1]]  # the last one in two attempts
    assert [step["number"] for step in begun[:-1]] == [step.number for step in run.steps]
    text = [event.data["text"] for event in told if event.type == "text"]
    assert isinstance(run.result, Answer) and "".join(text) == run.result.text


async def test_waiting_ends_with_its_time_or_with_the_run(hold: Hold, question: Question) -> None:
    run_id = await workflows.start_question(question)
    await hold.reached()
    for seconds in (0, 0.2):
        run = await workflows.wait(run_id, seconds)
        assert run and (run.status, run.result, run.finished_at) == ("running", None, None)
        assert [step.finished_at is not None for step in run.steps] == [True, True, False]
    waits = [asyncio.create_task(workflows.wait(run_id, 60)) for _ in range(3)]
    hold.opened.set()
    assert {run.status for run in await asyncio.gather(*waits) if run} == {"succeeded"}


@pytest.mark.parametrize("subject", HOSTILE)
async def test_any_text_may_be_asked_and_any_name_taken_in(stack: None, model: FakeOpenAI, subject: str) -> None:
    question = Question(question=subject, filters={subject: subject})
    asked = await ended(await workflows.start_question(question, key=f"{uuid4()}{subject}"))
    assert (asked.subject, asked.status, turns(model, question)) == (subject, "succeeded", [1, 2])
    upload = Upload(source=f"{subject}.md", content=subject.encode(), metadata={subject: subject})
    taken_in = await ended(await workflows.start_ingestion(upload))
    assert (taken_in.subject, taken_in.status) == (upload.source, "succeeded"), taken_in.error
    assert isinstance(taken_in.result, Document) and taken_in.result.metadata == upload.metadata
    assert {asked.subject, taken_in.subject} <= {run.subject for run in await workflows.list_runs(5)}


async def test_a_large_document_is_taken_in_whole(stack: None) -> None:
    content = b"\n" * 8_000_000 + b"The last line of all is violet.\n"
    upload = Upload(source="large.txt", content=content)
    run = await ended(await workflows.start_ingestion(upload, key=f"large {len(content)}"))
    assert (run.status, run.error) == ("succeeded", None)
    assert isinstance(run.result, Document) and run.result.content_hash == upload.digest
    assert await workflows.start_ingestion(upload, key=f"large {len(content)}") == run.id
    with pytest.raises(workflows.KeyReusedError):
        changed = upload.model_copy(update={"content": content + b"!"})
        await workflows.start_ingestion(changed, key=f"large {len(content)}")


async def test_a_document_that_cannot_be_read_is_told_in_its_words(stack: None) -> None:
    run = await ended(await workflows.start_ingestion(Upload(source="ü.pdf", content=b"no PDF")))
    assert (run.status, run.unreadable, run.result) == ("failed", True, None)
    assert run.error == "ü.pdf: not a .pdf file, whatever its name says"
    assert [(step.name, step.attempts) for step in run.steps] == [("look up", 1), ("split", 1)]


async def test_what_an_edit_has_made_unreadable_keeps_no_other_run_from_being_shown(
    stack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("renamed")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    renamed = {kind: type(kind.__name__, (kind,), {"__module__": module.__name__}) for kind in (Upload, Document)}
    for kind in renamed.values():
        setattr(module, kind.__name__, kind)

    async def ingest(upload: Upload, _: Any) -> Document:
        found = renamed[Document](id=uuid4(), source=upload.source, content_hash=upload.digest)
        assert isinstance(found, Document)
        return found

    monkeypatch.setattr(ingestion, "ingest", ingest)
    upload = renamed[Upload](source="renamed.md", content=b"x")
    assert isinstance(upload, Upload)
    run = await ended(await workflows.start_ingestion(upload, "renamed"))
    assert run.status == "succeeded"
    monkeypatch.delitem(sys.modules, module.__name__)
    read = await workflows.get_run(run.id)
    assert read and (read.status, read.subject) == ("succeeded", "renamed.md")
    assert run.id in [listed.id for listed in await workflows.list_runs(10)]
    assert await workflows.start_ingestion(Upload(source="renamed.md", content=b"x"), "renamed") == run.id


async def test_an_error_of_any_kind_ends_the_run_with_its_words(
    stack: None, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OddError(Exception):
        """That can be neither copied nor pickled."""

        def __init__(self, first: object, second: object) -> None:
            super().__init__(f"{first} 日本")
            self.lock = threading.Lock()

    async def complete(*_: object) -> None:
        raise OddError("odd", 2)

    monkeypatch.setattr(llm, "complete", complete)
    run = await ended(await workflows.start_question(question))
    assert (run.status, run.unreadable, attempts(run)) == ("failed", False, {"llm 1": 1})
    assert run.error == run.steps[0].error == "OddError: odd 日本"


async def test_runs_are_listed_from_the_newest_on_and_deleted_when_they_have_ended(
    hold: Hold, model: FakeOpenAI, question: Question
) -> None:
    first = await workflows.start_question(question, "first")
    await hold.reached()
    model.reply = search_and_quote
    second, third = [await workflows.start_question(question, key) for key in ("second", "third")]
    run, _ = await ended(second), await ended(third)
    listed = await workflows.list_runs(3)
    assert {each.id for each in listed} == {third, second, first}
    assert [each.created_at for each in listed] == sorted((each.created_at for each in listed), reverse=True)
    assert run.model_copy(update={"steps": []}) in listed
    assert await workflows.delete_runs(days=1) == 0
    assert await workflows.delete_runs(days=0) >= 2
    assert [each.id for each in await workflows.list_runs(100)] == [first]
    assert await workflows.get_run(second) is None and await events(second) == []
    with pytest.raises(UserError, match=r"no such run"):
        await workflows.fork_run(second, 1)
    other = Question(question="What was asked under this key is forgotten.")
    await ended(await workflows.start_question(other, "second"))
    hold.opened.set()
    assert (await ended(first)).status == "succeeded"


async def test_doctor_is_told_of_the_engine(database_server: None) -> None:
    assert len([found async for found in workflows.diagnose()]) == 1
