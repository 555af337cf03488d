"""Completions: one call to a language model, with tools, streamed, and what it cost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from difflib import get_close_matches
from functools import cache
from json import JSONDecodeError
from typing import Annotated, Any
from uuid import uuid4

import openai
from genai_prices import Usage, calc_price
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from app import observability
from app.models import Fault, UserError
from app.settings import settings

OnText = Callable[[str], Awaitable[None]]
Messages = Sequence[ChatCompletionMessageParam]
Tools = Sequence[ChatCompletionFunctionToolParam]
ToolCall = dict[str, Any]
"""As the protocol has it, with whatever else the server put there: Gemini wants its signatures back."""

WITHOUT = {"LLM_MODEL": "answers are quoted from the documents", "EMBEDDING_MODEL": "one that is built in is used"}
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
    """What one call gave: tool calls, a draft, or text that is neither. `cost_usd` is None where no price is known.

    Input tokens include those that the server had cached, output tokens those of its reasoning.
    """

    model: str
    tool_calls: list[ToolCall] = []
    draft: Draft | None = None
    text: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None


class ModelError(UserError):
    """The model's server did not do what was asked. `wait`: seconds until it is worth another attempt; None: never."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


async def complete(messages: Messages, tools: Tools, on_text: OnText) -> Completion:
    """Ask the configured model. `on_text` gets the answer's text in pieces, as it grows. Raises `ModelError`."""
    name = settings.llm_model or "extractive"
    provider = client().base_url.host if settings.llm_model else "built-in"
    with observability.llm_call(name, provider, messages) as record, explain("LLM_MODEL"):
        async with asyncio.timeout(settings.llm_timeout_seconds):
            if settings.llm_model:
                completion = await _ask(messages, tools, on_text)
            else:
                from embedded import extractive  # it imports this module

                completion = await extractive.complete(messages, on_text)
        record(completion)
    return completion


@cache
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
        code, wait, most = error.status_code, 0.0, settings.agent_max_seconds
        with suppress(ValueError):  # a date; models' servers send seconds
            wait = float(error.response.headers.get("retry-after", 0))
        detail = error.body.get("message") if isinstance(error.body, dict) else error.message
        hints = {401: " LLM_API_KEY is missing or wrong.", 404: f" Are {model_setting} and LLM_BASE_URL right?"}
        message = f"{server} answered {code}: {_without_key(detail)[:500]}{hints.get(code, '')}"
        message += f" It says to wait for {wait:.0f} s; AGENT_MAX_SECONDS allows less." if wait > most else ""
        passes = (code in (408, 409, 429) or code >= 500) and wait <= most
        raise ModelError(message, wait=wait if passes else None) from None
    except openai.APIConnectionError as error:
        raise ModelError(f"No connection to {server}: {error.__cause__}. Is LLM_BASE_URL right?", wait=0) from None
    except (openai.APIError, JSONDecodeError, UnicodeDecodeError) as error:  # inside the stream
        raise ModelError(f"{server} broke off its answer: {_without_key(error)}", wait=0) from None


def _without_key(said: object) -> str:
    """What a server says; some repeat the key that they were sent."""
    return str(said).replace(settings.llm_api_key, "***") if settings.llm_api_key else str(said)


async def diagnose(setting: str, model: str) -> AsyncIterator[str]:
    """Whether the server takes the key and has the model that a setting names, at no cost. Raises `UserError`."""
    server, listed = settings.llm_base_url or "OpenAI", None
    if not model:
        yield f"{setting} is not set: {WITHOUT[setting]}."
        return
    with explain(setting):
        try:
            listed = await client().with_options(timeout=10).models.list()
        except openai.APITimeoutError:
            raise Fault(f"{server} does not answer.", "Start it, or correct LLM_BASE_URL in .env.") from None
        except openai.APIStatusError as error:
            if error.status_code not in (404, 405, 501):
                raise
        except AttributeError:  # what the client does with a page that is no JSON
            pass
    known = [each.id for each in getattr(listed, "data", None) or []]
    if not known:
        cause = f"{server} does not list its models, so {model} and LLM_API_KEY are not checked."
        raise Fault(cause, "Ask a question. If that fails, correct LLM_BASE_URL.", "warning")
    if not {model, f"models/{model}", f"{model}:latest", model.rpartition(":")[0]} & set(known):
        close = ", ".join(get_close_matches(model, known, 3) or known[:3])
        raise Fault(f"{server} does not list {setting}, {model}.", f"Set one that it has, such as {close}.")
    yield f"{server} lists {model}, and takes LLM_API_KEY."


def count(completion: Completion, model: str, usage: CompletionUsage) -> None:
    """Add the tokens and, where the server tells it or the model is on the published list, what they cost."""
    sent, received = usage.prompt_tokens_details, usage.completion_tokens_details
    completion.input_tokens, completion.output_tokens = usage.prompt_tokens, usage.completion_tokens
    completion.cached_tokens = cached = (sent and sent.cached_tokens) or 0
    completion.reasoning_tokens = (received and received.reasoning_tokens) or 0
    if (told := getattr(usage, "cost", None)) is not None:  # by OpenRouter
        completion.cost_usd = float(told)
        return
    tokens = Usage(input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, cache_read_tokens=cached)
    for provider in (str(client().base_url), None):  # None: the one that the model is known by
        with suppress(LookupError):
            completion.cost_usd = float(calc_price(tokens, model, provider_api_url=provider).total_price)
            return


async def _ask(messages: Messages, tools: Tools, on_text: OnText) -> Completion:
    completion, usage, finished = Completion(model=settings.llm_model), None, False
    calls: list[ToolCall] = []
    latest: dict[int | None, ToolCall] = {}  # at each index
    written = shown = ""  # as the answer, in JSON; of its text, what was passed on
    async with await client().chat.completions.create(
        model=settings.llm_model,
        messages=messages,
        tools=[*tools, ANSWER],
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={"Idempotency-Key": key} if (key := idempotency_key.get()) else None,
        extra_body={"reasoning_effort": effort} if (effort := settings.llm_reasoning_effort) else None,
    ) as stream:
        async for chunk in stream:
            completion.model, usage = chunk.model or completion.model, chunk.usage or usage
            for choice in chunk.choices or []:
                finished = finished or choice.finish_reason is not None
                completion.text += choice.delta.content or choice.delta.refusal or ""
                for piece in choice.delta.tool_calls or []:
                    _add(piece, calls, latest)
            answers = [call for call in calls if call["function"]["name"] == "answer"]
            completion.tool_calls = [call for call in calls if call not in answers]
            written = answers[0]["function"]["arguments"] if answers else ""
            text = _text_so_far(written)
            if len(text) - len(shown) >= PIECE:
                await on_text(text[len(shown) :])
                shown = text
    if not finished:
        raise ModelError(f"{settings.llm_model} sent no whole answer. Is LLM_BASE_URL right?", wait=0)
    if usage:
        count(completion, settings.llm_model, usage)
    try:
        completion.draft = Draft.model_validate_json(written)
        await on_text(completion.draft.text[len(shown) :])
    except ValidationError:
        completion.text = completion.text or written
    return completion


def _add(piece: ChoiceDeltaToolCall, calls: list[ToolCall], latest: dict[int | None, ToolCall]) -> None:
    """Add to the latest call at its index, or begin one. Not all servers give each an id of its own, or an index."""
    name, call = (piece.function and piece.function.name) or "", latest.get(piece.index)
    if call is None or ((piece.id or name) and piece.id != call["id"]):
        call = {"id": piece.id or uuid4().hex, "type": "function", "function": {"name": name, "arguments": ""}}
        calls.append(call)
        latest[piece.index] = call
    call["function"]["arguments"] += (piece.function and piece.function.arguments) or ""
    call |= piece.model_extra or {}


def _text_so_far(written: str) -> str:
    with suppress(ValueError, AttributeError):  # it has not come so far, or is of another form
        return str(from_json(written, allow_partial="trailing-strings").get("text") or "")
    return ""
