"""Completions: one call to a language model, with tools, streamed, and what it cost."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from typing import Protocol

import openai
from genai_prices import Usage, calc_price
from openai.types.chat import (
    ChatCompletionFunctionToolParam,
    ChatCompletionMessageFunctionToolCallParam,
    ChatCompletionMessageParam,
    ParsedChatCompletion,
)
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from app import observability
from app.settings import settings

OnText = Callable[[str], Awaitable[None]]
Messages = Sequence[ChatCompletionMessageParam]
Tools = Sequence[ChatCompletionFunctionToolParam]

PIECE = 40  # characters that are passed on at once: each piece is a write to the database

idempotency_key: ContextVar[str] = ContextVar("idempotency_key", default="")
"""Set around a step: the same when it runs again, so that a provider that knows such keys does not bill twice."""


class Quote(BaseModel):
    passage: int = Field(description="Number of the passage")
    quote: str = Field(description="Sentences copied word for word from that passage")


class Draft(BaseModel):
    """The final answer, as the model writes it."""

    answered: bool = Field(description="False when the passages do not answer the question")
    text: str = Field(description="The answer, or what is missing to give one")
    quotes: list[Quote] = Field(description="What the answer rests on")


class Completion(BaseModel):
    """What one call gave: either tool calls or a draft. `seconds` is its wall time."""

    model: str
    tool_calls: list[ChatCompletionMessageFunctionToolCallParam] = []
    draft: Draft | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0


class LanguageModel(Protocol):
    name: str
    provider: str

    async def complete(self, messages: Messages, tools: Tools, on_text: OnText) -> Completion: ...


class BrokenResponseError(Exception):
    """The model's answer cannot be used: cut off, empty, or not of the agreed form."""


async def complete(messages: Messages, tools: Tools, on_text: OnText) -> Completion:
    """Ask the configured model. `on_text` gets the answer's text in pieces, as it grows.

    Raises `TimeoutError`, `openai.APIError` or `BrokenResponseError`; `is_retryable` tells which are worth a retry.
    """
    model = connect()
    started = time.monotonic()
    with observability.llm_call(model.name, model.provider, messages) as record:
        async with asyncio.timeout(settings.llm_timeout_seconds):
            completion = await model.complete(messages, tools, on_text)
        completion.seconds = time.monotonic() - started
        record(completion)
    return completion


@cache
def connect() -> LanguageModel:
    if settings.llm_model:
        return OpenAIModel(settings.llm_model)
    from app.extractive import ExtractiveModel  # it imports this module

    return ExtractiveModel()


def is_retryable(error: BaseException) -> bool:
    """Rate limits, server errors, timeouts and broken answers; no other refusal by the server."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    return isinstance(error, openai.APIError | TimeoutError | BrokenResponseError)


class OpenAIModel:
    """Any server that speaks OpenAI's chat completions."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.client = openai.AsyncOpenAI(
            api_key=settings.llm_api_key or "none",
            base_url=settings.llm_base_url or None,
            max_retries=0,  # the workflow retries, so that each attempt shows
        )
        self.provider = self.client.base_url.host

    async def complete(self, messages: Messages, tools: Tools, on_text: OnText) -> Completion:
        shown = ""
        try:
            async with self.client.chat.completions.stream(
                model=self.name,
                messages=messages,
                tools=tools,
                response_format=Draft,
                stream_options={"include_usage": True},
                extra_headers={"Idempotency-Key": key} if (key := idempotency_key.get()) else None,
            ) as stream:
                async for event in stream:
                    if event.type == "content.delta":
                        # Not `event.parsed`: it leaves out a string that has not ended.
                        draft = from_json(event.snapshot, allow_partial="trailing-strings")
                        text = str(draft.get("text") or "") if isinstance(draft, dict) else ""
                        if len(text) - len(shown) >= PIECE:
                            await on_text(text[len(shown) :])
                            shown = text
                response = await stream.get_final_completion()
        except (ValidationError, ValueError, openai.LengthFinishReasonError) as error:
            raise BrokenResponseError(f"{self.name} sent a malformed answer: {error}") from error
        completion = self._read(response)
        if completion.draft and completion.draft.text != shown:
            await on_text(completion.draft.text[len(shown) :])
        return completion

    def _read(self, response: ParsedChatCompletion[Draft]) -> Completion:
        choice = response.choices[0] if response.choices else None
        if choice is None or choice.finish_reason is None:
            raise BrokenResponseError(f"{self.name} stopped in the middle of its answer")
        calls: list[ChatCompletionMessageFunctionToolCallParam] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in choice.message.tool_calls or []
        ]
        if not calls and choice.message.parsed is None:
            raise BrokenResponseError(f"{self.name} sent neither an answer nor a tool call")
        completion = Completion(model=response.model or self.name, tool_calls=calls)
        if not calls:
            completion.draft = choice.message.parsed
        if response.usage:
            completion.input_tokens = response.usage.prompt_tokens
            completion.output_tokens = response.usage.completion_tokens
            completion.cost_usd = self._price(completion)
        return completion

    def _price(self, completion: Completion) -> float:
        """US dollars by the published price list; 0 for a model that is not on it."""
        usage = Usage(input_tokens=completion.input_tokens, output_tokens=completion.output_tokens)
        for provider in (str(self.client.base_url), None):
            with suppress(LookupError):
                return float(calc_price(usage, self.name, provider_api_url=provider).total_price)
        return 0.0
