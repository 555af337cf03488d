"""The real client against a server that answers, stumbles, breaks off or takes too long."""

import time
from collections.abc import Iterator
from unittest.mock import AsyncMock

import pytest

from app import llm, observability
from app.llm import Draft, Quote
from app.settings import settings
from app.tools import DESCRIPTIONS
from tests.fake_openai import FakeOpenAI, Reply, content, draft, tool_call

pytestmark = pytest.mark.anyio

LONG = "Refunds are paid out within five days. " * 8
ANSWER = draft(LONG, (1, "within five days"))
QUESTION: llm.Messages = [{"role": "user", "content": "When are refunds paid out?"}]


async def complete(on_text: llm.OnText) -> llm.Completion:
    async with observability.lifespan():
        return await llm.complete(QUESTION, DESCRIPTIONS, on_text)


async def test_calls_and_answers_arrive_in_pieces_and_are_put_together_and_priced(model: FakeOpenAI) -> None:
    (call,) = (await complete(AsyncMock())).tool_calls  # the fake searches first
    assert call["function"] == {"name": "search_documents", "arguments": '{"query": "When are refunds paid out?"}'}
    model.reply = lambda _: ANSWER
    completion = await complete(on_text := AsyncMock())
    assert completion.draft == Draft(answered=True, text=LONG, quotes=[Quote(passage=1, quote="within five days")])
    assert on_text.await_count > 3
    assert "".join(piece.args[0] for piece in on_text.await_args_list) == LONG
    assert (completion.input_tokens, completion.output_tokens) == (1000, 100)
    assert completion.cost_usd == pytest.approx(0.00021)


STUMBLES: dict[str, tuple[Reply, bool]] = {
    "rate limit": (429, True),
    "server error": (500, True),
    "bad request": (400, False),
    "wrong key": (401, False),
    "connection breaks": (ANSWER[:9], True),
    "stream ends early": ([*ANSWER[:9], ""], True),
    "call ends early": ([*tool_call("search_documents", query="refunds")[:3], ""], True),
    "malformed event": ([*ANSWER[:9], "data: {oops\n\n", ""], True),
    "error in the stream": (['data: {"error": {"message": "overloaded"}}\n\n', ""], True),
    "malformed JSON": (content('{"answered": true, "text"'), True),
    "cut off by a limit on tokens": (content('{"answered": true, "text"', "length"), True),
    "neither an answer nor a call": (content(""), True),
}


@pytest.mark.parametrize(("reply", "retryable"), STUMBLES.values(), ids=STUMBLES)
async def test_errors_that_may_pass_are_worth_a_retry(model: FakeOpenAI, reply: Reply, retryable: bool) -> None:
    model.reply = lambda _: reply
    with pytest.raises(Exception) as caught:
        await complete(AsyncMock())
    assert llm.is_retryable(caught.value) is retryable
    assert len(model.asked) == 1  # the workflow retries, and nothing below it


async def test_a_server_that_drips_is_given_up(model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip() -> Iterator[str]:
        for piece in ANSWER:
            yield piece
            time.sleep(0.1)

    model.reply = lambda _: drip()
    monkeypatch.setattr(settings, "llm_timeout_seconds", 0.5)
    with pytest.raises(TimeoutError) as caught:
        await complete(AsyncMock())
    assert llm.is_retryable(caught.value)
