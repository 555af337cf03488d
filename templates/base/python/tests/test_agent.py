"""The agent's loop, with a scripted model and no workflow engine: a step is just a call."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
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
QUESTION = Question(question="When are refunds paid out?")


@dataclass
class Played:
    """What happened: the steps, what the model was shown in each turn, what was looked up with which filters."""

    steps: list[str] = field(default_factory=list)
    shown: list[list[Any]] = field(default_factory=list)
    looked_up: list[tuple[object, dict[str, str]]] = field(default_factory=list)


async def play(question: Question, *turns: Completion | Callable[[Any], Completion]) -> tuple[Answer, Played]:
    """Each turn of the script is an answer of the model, or decides on one from what the last call gave."""
    played, script = Played(), cycle(turns)

    async def run_step(name: str, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        played.steps.append(name)
        if function is not llm.complete:
            return await function(*args)
        played.shown.append([message.get("content") for message in args[0]])
        turn = next(script)
        return turn(json.loads(args[0][-1]["content"])) if callable(turn) else turn

    async def look_up(arguments: object, filters: dict[str, str]) -> list[Hit]:
        played.looked_up.append((arguments, filters))
        return [READ] if isinstance(arguments, ReadDocument) else [FOUND]

    with patch.dict(TOOLS, {name: (model, look_up) for name, (model, _) in TOOLS.items()}):
        return await agent.answer(question, run_step, AsyncMock()), played


def call(name: str, arguments: str, seconds: float = 0, cost_usd: float = 0) -> Completion:
    function: Any = {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return Completion(model="script", tool_calls=[function], seconds=seconds, cost_usd=cost_usd)


def reply(text: str, *quotes: tuple[int, str]) -> Completion:
    cited = [Quote(passage=passage, quote=quote) for passage, quote in quotes]
    return Completion(model="script", draft=Draft(answered=bool(quotes), text=text, quotes=cited))


SEARCH = call("search_documents", '{"query": "refunds"}')


async def test_three_turns_in_which_results_decide_what_comes_next() -> None:
    def read_on(hits: Any) -> Completion:
        place = {"source": hits[0]["source"], "position": hits[0]["position"] + 3}
        return call("read_document", json.dumps(place))

    def cite(hits: Any) -> Completion:
        return reply("Five days.", (hits[0]["passage"], "paid out within five days"))

    answer, played = await play(QUESTION, SEARCH, read_on, cite)
    assert played.steps == ["llm 1", "search_documents 1.1", "llm 2", "read_document 2.1", "llm 3"]
    assert played.looked_up[0] == (SearchDocuments(query="refunds"), {})
    assert played.looked_up[1] == (ReadDocument(source="refunds.md", position=3), {})
    assert [(citation.source, citation.position) for citation in answer.citations] == [("refunds.md", 3)]
    assert (answer.text, answer.refused, answer.stopped) == ("Five days.", False, None)


async def test_earlier_messages_and_filters_are_passed_on() -> None:
    earlier = [Message(role="user", content="Refunds?"), Message(role="assistant", content="Yes.")]
    question = Question(question="When?", messages=earlier, filters={"team": "support"})
    answer, played = await play(question, SEARCH, reply("Nothing."))
    assert played.shown[0][1:] == ["Refunds?", "Yes.", "When?"]
    assert played.looked_up == [(SearchDocuments(query="refunds"), {"team": "support"})]
    assert answer.refused


async def test_what_is_wrong_with_a_call_is_told_to_the_model_and_the_loop_goes_on() -> None:
    malformed = call("search_documents", '{"quest": 1')
    answer, played = await play(QUESTION, call("drop_tables", "{}"), malformed, reply("Nothing."))
    assert "no tool 'drop_tables'" in played.shown[1][-1]
    assert "do not fit search_documents" in played.shown[2][-1]
    assert (answer.text, played.looked_up) == ("Nothing.", [])


async def test_a_quote_that_does_not_stand_in_its_passage_is_dropped() -> None:
    quotes = [(1, "See below."), (1, "paid out within a day"), (2, "See below."), (0, "See below.")]
    answer, _ = await play(QUESTION, SEARCH, reply("So.", *quotes))
    assert [citation.quote for citation in answer.citations] == ["See below."]


@pytest.mark.parametrize(
    ("limit", "setting", "value"),
    [("steps", "agent_max_steps", 3), ("time", "agent_max_seconds", 25), ("cost", "agent_max_cost_usd", 0.25)],
)
async def test_each_limit_ends_the_loop(
    limit: str, setting: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, setting, value)
    answer, played = await play(QUESTION, call("search_documents", '{"query": "x"}', seconds=10, cost_usd=0.1))
    assert (answer.stopped, len(played.shown)) == (limit, 3)
    assert limit in answer.text
