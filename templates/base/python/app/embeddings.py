"""Vectors that stand for the meaning of texts, by the model that EMBEDDING_MODEL names or by a built-in one."""

import asyncio
from collections.abc import Sequence

from app.models import Chunk
from app.settings import settings
from embedded import minilm


def model_name() -> str:
    """Vectors of one name can be compared with each other, and with no others."""
    return settings.embedding_model or "all-MiniLM-L6-v2"


async def embed(chunks: Sequence[Chunk]) -> list[list[float]]:
    """A vector for each passage below its heading, in their order."""
    texts = [f"{chunk.heading}\n{chunk.text}" for chunk in chunks]
    if settings.embedding_model:
        return await _ask_server(texts)
    return await asyncio.get_running_loop().run_in_executor(minilm.WORKER, minilm.embed, texts)


async def embed_query(text: str) -> list[float]:
    if settings.embedding_model:
        return (await _ask_server([text]))[0]
    return (await asyncio.to_thread(minilm.embed, [text]))[0]  # past the documents that wait for the model


async def _ask_server(texts: list[str]) -> list[list[float]]:
    from app import llm  # not needed for the built-in model

    with llm.explain("EMBEDDING_MODEL"):
        async with asyncio.timeout(settings.llm_timeout_seconds):
            response = await llm.client().embeddings.create(
                model=settings.embedding_model, input=texts, encoding_format="float"
            )
    return [item.embedding for item in sorted(response.data, key=lambda item: item.index)]
