"""Search among many passages, against bare SQL on the same index. Run in a created project: it fills its database.

    uv run python bench/search.py FOLDER_OF_DOCUMENTS [PASSAGES]

Embedding 100,000 passages would take hours, so a vector is made of three real ones, of sentences from the folder, mixed
at random with some noise; a text is five such sentences. The queries are other sentences, with their real vectors.
"""

import asyncio
import json
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from app import database, embeddings
from embedded import minilm

PER_DOCUMENT = 50
FILTERS: list[dict[str, str]] = [{}, {"team": "3"}]  # all, and one passage in ten
INDEX = "CREATE INDEX chunks_embedding ON chunks USING hnsw ((embedding::halfvec(384)) halfvec_cosine_ops)"
NEAREST = """
    SELECT document_id, position FROM chunks JOIN documents ON documents.id = document_id
    WHERE metadata @> %s ORDER BY embedding::halfvec(384) <=> %s::halfvec LIMIT 10
"""


async def main(folder: Path, passages: int) -> None:
    random.seed(1)
    sentences = read_sentences(folder)
    queries = [(text, minilm.embed([text])[0]) for text in random.sample(sentences, 100)]
    with database.server():
        async with database.lifespan():
            started = time.perf_counter()
            await fill(sentences, passages)
            result: dict[str, Any] = {"passages": passages, "fill_seconds": round(time.perf_counter() - started)}
            for filters in FILTERS:
                result["filtered" if filters else "all"] = await compare(queries, filters)
            print(json.dumps(result))


def read_sentences(folder: Path) -> list[str]:
    texts = [path.read_text("utf-8") for path in sorted(folder.glob("*.txt"))]
    found = {" ".join(sentence.split()) for text in texts for sentence in re.split(r"(?<=[.:])\s+", text)}
    return sorted(sentence for sentence in found if 30 < len(sentence) < 300)


async def fill(sentences: list[str], passages: int) -> None:
    numbers = np.random.default_rng(1)
    real = np.array(minilm.embed(random.sample(sentences, 1000)))
    shares = numbers.dirichlet((3, 1, 0.5), passages)
    mixed = sum(shares[:, [i]] * real[numbers.integers(0, len(real), passages)] for i in range(3))
    vectors = mixed + numbers.normal(0, 0.025, (passages, 384))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    documents = [uuid4() for _ in range(passages // PER_DOCUMENT)]
    async with await psycopg.AsyncConnection.connect(database.url()) as connection, connection.cursor() as cursor:
        async with cursor.copy("COPY documents (id, source, content_hash, metadata, chunks) FROM STDIN") as copy:
            for i, document in enumerate(documents):
                await copy.write_row((document, f"{i}.md", str(i), Jsonb({"team": str(i % 10)}), PER_DOCUMENT))
        async with cursor.copy("COPY chunks (document_id, position, heading, text, embedding) FROM STDIN") as copy:
            for i, vector in enumerate(vectors):
                text, numerals = " ".join(random.sample(sentences, 5)), ",".join(f"{x:.5f}" for x in vector)
                await copy.write_row((documents[i // PER_DOCUMENT], i % PER_DOCUMENT, "", text, f"[{numerals}]"))
        await cursor.execute("SET LOCAL maintenance_work_mem = '1GB'")
        await cursor.execute("INSERT INTO embedding_model VALUES (%s, 384)", [embeddings.model_name()])
        await cursor.execute(INDEX)
    async with await psycopg.AsyncConnection.connect(database.url(), autocommit=True) as connection:
        await connection.execute("VACUUM ANALYZE")


async def compare(queries: list[tuple[str, list[float]]], filters: dict[str, str]) -> dict[str, Any]:
    """Each query both ways, one after the other; the first rounds warm the caches."""
    options = database.OPTIONS
    async with await psycopg.AsyncConnection.connect(database.url(), autocommit=True, options=options) as bare:
        statement = sql.SQL(database.SEARCH).format(dimensions=sql.Literal(384))

        async def ours(text: str, vector: list[float]) -> None:
            await database.search(text, vector, filters)

        async def theirs(text: str, vector: list[float]) -> None:
            values = {"text": text, "vector": str(vector), "filters": Jsonb(filters), "limit": 8}
            values |= {"model": embeddings.model_name()}
            await (await bare.execute(statement, values)).fetchall()

        times: dict[str, list[float]] = {"search": [], "bare": []}
        for round_ in range(3):
            for number, query in enumerate(queries):
                pair = [("search", ours), ("bare", theirs)]
                for name, function in pair if (number + round_) % 2 else reversed(pair):
                    seconds = await clock(function, query)
                    if round_:
                        times[name].append(seconds)
        found = [await nearest(bare, vector, filters, exact=False) for _, vector in queries]
        exact = [await nearest(bare, vector, filters, exact=True) for _, vector in queries]
    recall = statistics.mean(len(a & b) / 10 for a, b in zip(found, exact, strict=True))
    return {"recall": round(recall, 3)} | {name: percentiles(values) for name, values in times.items()}


async def clock(function: Callable[..., Coroutine[Any, Any, None]], query: tuple[str, list[float]]) -> float:
    started = time.perf_counter()
    await function(*query)
    return time.perf_counter() - started


async def nearest(
    connection: psycopg.AsyncConnection, vector: list[float], filters: dict[str, str], exact: bool
) -> set[tuple[Any, ...]]:
    async with connection.transaction():
        if exact:
            await connection.execute("SET LOCAL enable_indexscan = off")
        # Not prepared: a plan that is kept would not ask for the setting.
        rows = await connection.execute(NEAREST, [Jsonb(filters), str(vector)], prepare=False)
        return set(await rows.fetchall())


def percentiles(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=20)
    return {"p50_ms": round(cuts[9] * 1000, 1), "p95_ms": round(cuts[18] * 1000, 1)}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(main(Path(arguments[0]), int(arguments[1]) if arguments[1:] else 100_000))
