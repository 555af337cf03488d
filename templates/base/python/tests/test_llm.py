"""The real client against a server that answers, stumbles, breaks off or does not answer at all."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from unittest.mock import AsyncMock

import pytest

from app import llm, observability
from app.llm import Draft, Quote, complete
from app.settings import settings
from app.tools import DESCRIPTIONS
from tests.fake_openai import MODEL, FakeOpenAI, Reply, content, draft, serve, tool_call

pytestmark = pytest.mark.anyio

LONG = "Refunds are paid out within five days. " * 8
ANSWER = draft(LONG, (1, "within five days"))
QUESTION: llm.Messages = [{"role": "user", "content": "When are refunds paid out?"}]


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeOpenAI]:
    async with observability.lifespan():
        with serve(lambda _: ANSWER) as server:
            monkeypatch.setattr(settings, "llm_model", MODEL)
            monkeypatch.setattr(settings, "llm_base_url", server.url)
            llm.connect.cache_clear()
            yield server
            llm.connect.cache_clear()


async def test_an_answer_arrives_in_pieces_and_is_parsed_counted_and_priced(server: FakeOpenAI) -> None:
    completion = await complete(QUESTION, DESCRIPTIONS, on_text := AsyncMock())
    assert completion.draft == Draft(answered=True, text=LONG, quotes=[Quote(passage=1, quote="within five days")])
    assert on_text.await_count > 3
    assert "".join(piece.args[0] for piece in on_text.await_args_list) == LONG
    assert (completion.model, completion.input_tokens, completion.output_tokens) == (MODEL, 1000, 100)
    assert completion.cost_usd == pytest.approx(0.00021)
    assert server.requests[0]["messages"] == QUESTION


async def test_a_tool_call_is_put_together_from_its_pieces(server: FakeOpenAI) -> None:
    server.reply = lambda _: tool_call("search_documents", query="refunds, paid out")
    completion = await complete(QUESTION, DESCRIPTIONS, AsyncMock())
    (function,) = [call["function"] for call in completion.tool_calls]
    assert (function["name"], json.loads(function["arguments"])) == ("search_documents", {"query": "refunds, paid out"})
    assert completion.draft is None


@pytest.mark.parametrize(
    ("reply", "retryable"),
    [
        pytest.param(429, True, id="rate limit"),
        pytest.param(500, True, id="server error"),
        pytest.param(400, False, id="bad request"),
        pytest.param(401, False, id="wrong key"),
        pytest.param(ANSWER[:9], True, id="connection breaks"),
        pytest.param([*ANSWER[:9], ""], True, id="stream ends early"),
        pytest.param([*ANSWER[:9], "data: {oops\n\n", ""], True, id="malformed event"),
        pytest.param(['data: {"error": {"message": "overloaded"}}\n\n', ""], True, id="error in the stream"),
        pytest.param(content('{"answered": true, "text"'), True, id="malformed JSON"),
        pytest.param(content('{"answered": true}'), True, id="JSON of another form"),
        pytest.param(content('{"answered": true, "text"', "length"), True, id="too long"),
        pytest.param(content(""), True, id="nothing"),
    ],
)
async def test_errors_that_may_pass_are_worth_a_retry(server: FakeOpenAI, reply: Reply, retryable: bool) -> None:
    server.reply = lambda _: reply
    with pytest.raises(Exception) as caught:
        await complete(QUESTION, DESCRIPTIONS, AsyncMock())
    assert llm.is_retryable(caught.value) is retryable
    assert len(server.requests) == 1  # the workflow retries, and nothing below it


def drip() -> Iterator[str]:
    for piece in ANSWER:
        yield piece
        time.sleep(0.1)


@pytest.mark.parametrize("reply", [lambda _: time.sleep(2), lambda _: drip()], ids=["silent", "dripping"])
async def test_a_slow_server_is_given_up(
    server: FakeOpenAI, reply: Callable[[object], Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "llm_timeout_seconds", 0.5)
    server.reply = reply
    started = time.monotonic()
    with pytest.raises(Exception) as caught:
        await complete(QUESTION, DESCRIPTIONS, AsyncMock())
    assert llm.is_retryable(caught.value)
    assert time.monotonic() - started < 1.5
