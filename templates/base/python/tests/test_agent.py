"""The agent's loop, with a scripted model and no workflow engine: a step is just a call."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import date
from itertools import cycle
from typing import Any
from unittest.mock import AsyncMock, patch
from uuid import UUID

import pytest

from app import agent, llm
from app.agent import Message, Question
from app.llm import Completion, Draft, Quote
from app.models import Answer, Hit
from app.settings import settings
from app.tools import TOOLS, ReadDocument, SearchDocuments

pytestmark = pytest.mark.anyio

FOUND = Hit(source="refunds.md", position=0, heading="", text="See below.", document_id=UUID(int=1), score=1)
READ = FOUND.model_copy(update={"position": 3, "text": "Refunds are paid out\nwithin five days."})
WHEN = Question(question="When are refunds paid out?")


class Stage:
    """Plays a script and notes the steps, what the model was shown, and what was looked up with which filters."""

    def __init__(self, *turns: Completion | Callable[[Any], Completion]) -> None:
        self.script = cycle(turns)  # each an answer of the model, or a decision on one by what the last tool gave
        self.steps: list[str] = []
        self.shown: list[list[str]] = []
        self.looked_up: list[tuple[object, dict[str, str]]] = []

    async def play(self, question: Question) -> Answer:
        tools = {name: (arguments, self.look_up) for name, (arguments, _) in TOOLS.items()}
        with patch.dict(TOOLS, tools), patch.object(llm, "complete", self.complete):
            return await agent.answer(question, self.run_step, AsyncMock())

    async def run_step(self, name: str, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        self.steps.append(name)
        return await function(*args)

    async def complete(self, messages: Any, tools: llm.Tools, on_text: llm.OnText) -> Completion:
        self.shown.append([message.get("content") for message in messages])
        await asyncio.sleep(0)
        turn = next(self.script)
        return turn(json.loads(self.shown[-1][-1])) if callable(turn) else turn

    async def look_up(self, arguments: object, filters: dict[str, str]) -> list[Hit]:
        self.looked_up.append((arguments, filters))
        return [READ] if isinstance(arguments, ReadDocument) else [FOUND]


def call(tool: str, **arguments: object) -> Completion:
    made: Any = {"id": "1", "type": "function", "function": {"name": tool, "arguments": json.dumps(arguments)}}
    return Completion(model="script", tool_calls=[made], cost_usd=0.1)


def reply(text: str, *quotes: tuple[int, str]) -> Completion:
    cited = [Quote(passage=passage, quote=quote) for passage, quote in quotes]
    return Completion(model="script", draft=Draft(answered=bool(quotes), text=text, quotes=cited))


SEARCH = call("search_documents", query="refunds")


async def test_three_turns_in_which_results_decide_what_comes_next() -> None:
    stage = Stage(
        SEARCH,
        lambda hits: call("read_document", source=hits[0]["source"], position=hits[0]["position"] + 3),
        lambda hits: reply("Five days.", (hits[0]["passage"], "paid out within five days")),
    )
    answer = await stage.play(WHEN)
    assert stage.steps == ["llm 1", "search_documents 1.1", "llm 2", "read_document 2.1", "llm 3"]
    assert stage.looked_up[1] == (ReadDocument(source="refunds.md", position=3), {})
    assert [(citation.source, citation.position) for citation in answer.citations] == [("refunds.md", 3)]
    assert (answer.text, answer.refused, answer.stopped) == ("Five days.", False, None)


async def test_earlier_messages_and_filters_are_passed_on() -> None:
    earlier = [Message(role="user", content="Refunds?"), Message(role="assistant", content="Yes.")]
    stage = Stage(SEARCH, reply("Nothing."))
    answer = await stage.play(Question(question="When?", messages=earlier, filters={"team": "support"}))
    assert stage.shown[0][1:] == ["Refunds?", "Yes.", "When?"]
    assert stage.looked_up == [(SearchDocuments(query="refunds"), {"team": "support"})]
    assert answer.refused


async def test_what_a_tool_returns_is_shown_as_json() -> None:
    stage = Stage(SEARCH, reply("In May."))
    with patch.object(stage, "look_up", AsyncMock(return_value={"due": date(2026, 5, 31)})):
        await stage.play(WHEN)
    assert stage.shown[1][-1] == '{"due":"2026-05-31"}'


async def test_what_is_wrong_with_a_call_is_told_to_the_model_and_the_loop_goes_on() -> None:
    stage = Stage(call("drop_tables"), call("search_documents", quest=1), reply("Nothing."))
    assert (await stage.play(WHEN)).text == "Nothing."
    assert "no tool 'drop_tables'" in stage.shown[1][-1]
    assert "do not fit search_documents" in stage.shown[2][-1]


async def test_prose_is_answered_with_a_reminder_once() -> None:
    prose = Completion(model="script", text="Five days.")
    stage = Stage(prose, reply("Nothing."))
    assert (await stage.play(WHEN)).refused
    assert stage.shown[1][2:] == ["Five days.", agent.REMINDER["content"]]
    with pytest.raises(llm.ModelError, match=r"script calls no tools; .* It says: Five days\."):
        await Stage(prose).play(WHEN)


async def test_a_quote_that_does_not_stand_in_its_passage_is_dropped() -> None:
    quotes = [(1, "See below."), (1, "paid out within a day"), (2, "See below."), (0, "See below.")]
    answer = await Stage(SEARCH, reply("So.", *quotes)).play(WHEN)
    assert [citation.quote for citation in answer.citations] == ["See below."]


@pytest.mark.parametrize(("limit", "value", "turns"), [("steps", 3, 3), ("seconds", 0, 1), ("cost_usd", 0.25, 3)])
async def test_each_limit_ends_the_loop(limit: str, value: float, turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, f"agent_max_{limit}", value)
    answer = await (stage := Stage(SEARCH)).play(WHEN)
    assert (answer.stopped, len(stage.shown)) == (limit.replace("seconds", "time").removesuffix("_usd"), turns)
