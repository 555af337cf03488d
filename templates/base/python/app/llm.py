"""Completions: one call to a language model, with tools, streamed, and what it cost."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from json import JSONDecodeError
from typing import Annotated, Any, Protocol, TypeVar
from uuid import uuid4

import openai
from genai_prices import Usage, calc_price
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from app import observability
from app.models import UserError
from app.settings import settings

Form = TypeVar("Form", bound=BaseModel)
OnText = Callable[[str], Awaitable[None]]
Messages = Sequence[ChatCompletionMessageParam]
Tools = Sequence[ChatCompletionFunctionToolParam]
ToolCall = dict[str, Any]
"""As the protocol has it, with whatever else the server put there: Gemini wants its signatures back."""

PIECE = 40  # characters that are passed on at once: each piece is a write to the database

idempotency_key: ContextVar[str] = ContextVar("idempotency_key", default="")
"""Set around a step: the same when it runs again, so that a provider that knows such keys does not bill twice."""


class Quote(BaseModel):
    passage: int = Field(description="Number of the passage")
    quote: str = Field(description="Sentences copied word for word from that passage")


class Draft(BaseModel):
    """Give the final answer."""

    answered: bool = Field(description="False when the passages do not answer the question")
    text: str = Field(description="The answer, or what is missing to give one")
    quotes: list[Annotated[Quote, Field(description="A quote")]] = Field(description="What the answer rests on")


# Not the response format: where tools are given too, Gemini refuses it, and Ollama and vLLM then call no tool.
ANSWER = openai.pydantic_function_tool(Draft, name="answer")
ANSWER["function"]["parameters"].pop("$defs")  # they stand in place as well, and Gemini does not know them


class Completion(BaseModel):
    """What one call gave: tool calls, a draft, or text that is neither. `cost_usd` is None where no price is known."""

    model: str
    tool_calls: list[ToolCall] = []
    draft: Draft | None = None
    text: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


class LanguageModel(Protocol):
    name: str
    provider: str

    async def complete(self, messages: Messages, tools: Tools, on_text: OnText) -> Completion: ...


class ModelError(UserError):
    """The model's server did not do what was asked. `wait`: seconds until it is worth another attempt; None: never."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


async def complete(messages: Messages, tools: Tools, on_text: OnText) -> Completion:
    """Ask the configured model. `on_text` gets the answer's text in pieces, as it grows. Raises `ModelError`."""
    model = connect()
    with explain("LLM_MODEL"), observability.llm_call(model.name, model.provider, messages) as record:
        async with asyncio.timeout(settings.llm_timeout_seconds):
            completion = await model.complete(messages, tools, on_text)
        record(completion)
    return completion


async def fill(form: type[Form], name: str, instructions: str, text: str) -> tuple[Form, Completion]:
    """Have a model fill in a form. No workflow tries this again, so the client does.

    Raises `ModelError` and, where the form is filled in wrongly, `ValidationError`.
    """
    model, completion = OpenAIModel(name), Completion(model=name)
    patient = model.client.with_options(max_retries=3, timeout=settings.llm_timeout_seconds)
    messages: Messages = [{"role": "system", "content": instructions}, {"role": "user", "content": text}]
    with explain(f"the model {name}"), observability.llm_call(name, model.provider, messages) as record:
        response = await patient.chat.completions.parse(model=name, messages=messages, response_format=form)
        if response.usage:
            model.count(completion, response.usage)
        record(completion)
    if not response.choices or not response.choices[0].message.parsed:
        raise ModelError(f"{name} did not fill in the form.")
    return response.choices[0].message.parsed, completion


@cache
def connect() -> LanguageModel:
    if settings.llm_model:
        return OpenAIModel(settings.llm_model)
    from embedded.extractive import ExtractiveModel  # it imports this module

    return ExtractiveModel()


def client() -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        api_key=settings.llm_api_key or "none",
        base_url=settings.llm_base_url or None,
        max_retries=0,  # the workflow retries, so that each attempt shows
    )


@contextmanager
def explain(model_setting: str) -> Iterator[None]:
    """Make a `ModelError` of what the client raises: what happened, where, and what to set."""
    server = settings.llm_base_url or "OpenAI"
    try:
        yield
    except (TimeoutError, openai.APITimeoutError):
        limit = f"LLM_TIMEOUT_SECONDS, {settings.llm_timeout_seconds:g}"
        raise ModelError(f"{server} did not answer within {limit}.", wait=0) from None
    except openai.APIStatusError as error:
        code, wait = error.status_code, _wait_seconds(error.response.headers)
        detail = error.body.get("message") if isinstance(error.body, dict) else error.message
        hints = {401: " LLM_API_KEY is missing or wrong.", 404: f" Are {model_setting} and LLM_BASE_URL right?"}
        message = f"{server} answered {code}: {str(detail)[:500]}{hints.get(code, '')}"
        message += f" It says to wait for {wait:.0f} s." if wait > 0 else ""
        passes = code in (408, 409, 429) or code >= 500
        raise ModelError(message, wait=wait if passes else None) from None
    except openai.APIConnectionError as error:
        raise ModelError(f"No connection to {server}: {error.__cause__}. Is LLM_BASE_URL right?", wait=0) from None
    except (openai.APIError, JSONDecodeError, UnicodeDecodeError) as error:  # inside the stream
        raise ModelError(f"{server} broke off its answer: {error}", wait=0) from None


def _wait_seconds(headers: Mapping[str, str]) -> float:
    with suppress(ValueError):  # a date; models' servers send seconds
        return float(headers.get("retry-after", 0))
    return 0.0


class OpenAIModel:
    """Any server that speaks OpenAI's chat completions."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.client = client()
        self.provider = self.client.base_url.host

    async def complete(self, messages: Messages, tools: Tools, on_text: OnText) -> Completion:
        completion, shown, finished = Completion(model=self.name), "", False
        answers: list[ToolCall] = []
        begun: dict[int | None, ToolCall] = {}  # the latest call at each index
        async with await self.client.chat.completions.create(
            model=self.name,
            messages=messages,
            tools=[*tools, ANSWER],
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"Idempotency-Key": key} if (key := idempotency_key.get()) else None,
            extra_body={"reasoning_effort": effort} if (effort := settings.llm_reasoning_effort) else None,
        ) as stream:
            async for chunk in stream:
                completion.model = chunk.model or self.name
                if chunk.usage:
                    self.count(completion, chunk.usage)
                for choice in chunk.choices or []:
                    finished = finished or choice.finish_reason is not None
                    completion.text += choice.delta.content or choice.delta.refusal or ""
                    for piece in choice.delta.tool_calls or []:
                        if call := _add(piece, begun):
                            (answers if call["function"]["name"] == "answer" else completion.tool_calls).append(call)
                text = _text_so_far(answers)
                if len(text) - len(shown) >= PIECE:
                    await on_text(text[len(shown) :])
                    shown = text
        if not finished:
            raise ModelError(f"{self.name} sent no whole answer. Is LLM_BASE_URL right?", wait=0)
        if answers:
            written = answers[0]["function"]["arguments"]
            completion.text = completion.text or written
            with suppress(ValidationError):
                completion.draft = Draft.model_validate_json(written)
        if completion.draft and completion.draft.text != shown:
            await on_text(completion.draft.text[len(shown) :])
        return completion

    def count(self, completion: Completion, usage: CompletionUsage) -> None:
        read, written, details = usage.prompt_tokens or 0, usage.completion_tokens or 0, usage.prompt_tokens_details
        cached = (details and details.cached_tokens) or 0
        completion.input_tokens, completion.output_tokens = read, written
        completion.cost_usd = getattr(usage, "cost", None)  # of OpenRouter
        for provider in (str(self.client.base_url), None):
            if completion.cost_usd is None:
                with suppress(LookupError):  # not on the published price list
                    tokens = Usage(input_tokens=read, cache_read_tokens=cached, output_tokens=written)
                    completion.cost_usd = float(calc_price(tokens, self.name, provider_api_url=provider).total_price)


def _add(piece: ChoiceDeltaToolCall, begun: dict[int | None, ToolCall]) -> ToolCall | None:
    """Add to a call, or begin one, and return that. Not all servers give each an id of its own, or an index."""
    name, call = (piece.function and piece.function.name) or "", begun.get(piece.index)
    is_new = call is None or (piece.id != call["id"] if piece.id else name != "")
    if call is None or is_new:
        call = {"id": piece.id or uuid4().hex, "type": "function", "function": {"name": name, "arguments": ""}}
        begun[piece.index] = call
    call["function"]["arguments"] += (piece.function and piece.function.arguments) or ""
    call |= piece.model_extra or {}
    return call if is_new else None


def _text_so_far(answers: list[ToolCall]) -> str:
    with suppress(ValueError, LookupError, AttributeError):  # it has not come so far, or is of another form
        answer = from_json(answers[0]["function"]["arguments"], allow_partial="trailing-strings")
        return str(answer.get("text") or "")
    return ""
