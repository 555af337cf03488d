"""Vectors that stand for the meaning of texts, by the model that EMBEDDING_MODEL names or by a built-in one."""

import asyncio
from collections.abc import Sequence

from app.settings import settings

BATCH = 32
"""Texts that a server gets at once."""


def model_name() -> str:
    """Vectors of one name can be compared with each other, and with no others."""
    return settings.embedding_model or "all-MiniLM-L6-v2"


async def embed(texts: Sequence[str]) -> list[list[float]]:
    """A vector for each text, in their order. The built-in model takes one such call at a time."""
    if not settings.embedding_model:
        from embedded import minilm  # not needed where EMBEDDING_MODEL is set

        return await asyncio.get_running_loop().run_in_executor(minilm.WORKER, minilm.embed, texts)
    vectors: list[list[float]] = []
    for start in range(0, len(texts), BATCH):
        vectors += await _embed_remotely(list(texts[start : start + BATCH]))
    return vectors


async def embed_query(text: str) -> list[float]:
    vectors = await (_embed_remotely([text]) if settings.embedding_model else embed_built_in([text]))
    return vectors[0]


async def embed_built_in(texts: Sequence[str]) -> list[list[float]]:
    """By the built-in model, past the documents that wait for it."""
    from embedded import minilm

    return await asyncio.to_thread(minilm.embed, texts)


async def _embed_remotely(batch: list[str]) -> list[list[float]]:
    from app import llm  # not needed for the built-in model

    with llm.explain("EMBEDDING_MODEL"):
        async with asyncio.timeout(settings.llm_timeout_seconds):
            response = await llm.client().embeddings.create(
                model=settings.embedding_model, input=batch, encoding_format="float"
            )
    return [item.embedding for item in sorted(response.data, key=lambda item: item.index)]
