"""The real client against a server that answers, stumbles, breaks off or takes too long."""

from unittest.mock import AsyncMock

import pytest

from app import llm, observability
from app.llm import Draft, ModelError, Quote
from app.tools import DESCRIPTIONS
from tests.fake_openai import FakeOpenAI, Reply, draft, prose, tool_call

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


async def test_prose_and_half_an_answer_are_no_answer(model: FakeOpenAI) -> None:
    for reply, text in [(prose("Five days."), "Five days."), (tool_call("answer", text="Five"), '{"text": "Five"}')]:
        model.reply = lambda _, reply=reply: reply  # type: ignore[misc]
        completion = await complete(AsyncMock())
        assert (completion.draft, completion.tool_calls, completion.text) == (None, [], text)


STUMBLES: dict[str, tuple[Reply, bool]] = {
    "rate limit": (429, True),
    "server error": (500, True),
    "bad request": (400, False),
    "wrong key": (401, False),
    "connection breaks": (ANSWER[:9], True),
    "stream ends early": ([*ANSWER[:9], ""], True),
    "malformed event": ([*ANSWER[:9], "data: {oops\n\n", ""], True),
    "error in the stream": (['data: {"error": {"message": "overloaded"}}\n\n', ""], True),
}


@pytest.mark.parametrize(("reply", "passes"), STUMBLES.values(), ids=STUMBLES)
async def test_errors_that_may_pass_are_worth_a_retry(model: FakeOpenAI, reply: Reply, passes: bool) -> None:
    model.reply = lambda _: reply
    with pytest.raises(ModelError) as caught:
        await complete(AsyncMock())
    assert (caught.value.wait is not None) is passes
    assert len(model.asked) == 1  # the workflow retries, and nothing below it
