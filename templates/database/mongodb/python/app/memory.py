"""Search without $vectorSearch: all passages, in memory, compared one by one, and their words by BM25."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray
from pymongo.asynchronous.database import AsyncDatabase

from app.storage import Row

MOST = 20_000
"""Passages, of which each takes about 2 KB of memory with 384 dimensions, beside its text."""
BATCH = 50  # documents that are read at once
STOP_WORDS = re.compile(
    "a|about|an|and|are|as|at|be|by|can|do|does|for|from|had|has|have|how|i|if|in|into|is|it|its|me|my|no|not|of|on|or|our"
    "|so|than|that|the|their|them|then|there|these|they|this|to|was|we|were|what|when|where|which|who|why|will|with|would"
    "|you|your"
)
ENDING = re.compile(r"(?<=\w{3})(ies|y|es|ed|e|(?<!s)s)$|(?<=\w{4})ing$")

logger = logging.getLogger("app")


@dataclass
class _Document:
    generation: int
    tags: set[str]
    passages: list[Row]
    vectors: NDArray[np.float32]
    terms: NDArray[np.int32]  # word, passage, how often


class Memory:
    """What is read of a database. Documents that have changed are read anew, whoever changed them."""

    METHOD = f"exact, up to {MOST:,} passages"

    def __init__(self, database: AsyncDatabase[Row]) -> None:
        self._database, self._count, self._lock = database, -1, asyncio.Lock()
        self._documents: dict[int, _Document] = {}  # by version
        self._words: dict[str, int] = {}

    async def prepare(self, state: Row, wait: bool) -> None:
        """There is nothing to prepare."""

    async def rank(
        self, count: int, generation: int, text: str, vector: list[float], tags: Sequence[str], limit: int
    ) -> list[list[Row]]:
        """The passages nearest in meaning, and those that share words. `count`: of the changes that they have seen."""
        async with self._lock:
            if self._count != count:
                await self._read()
                documents = list(self._documents.values())
                self._passages = await asyncio.to_thread(_Passages, documents, generation, len(vector))
                self._count = count
            passages = self._passages
        words = {self._words[word] for word in _words(text) if word in self._words}
        return await asyncio.to_thread(passages.rank, words, vector, tags, limit)

    async def _read(self) -> None:
        versions, room = {}, MOST
        async for document in self._database.documents.find({"source": {"$exists": True}}).sort("source"):
            room -= document["chunks"]
            if room < 0:
                logger.warning("Search sees the first %d passages alone: more take a server with $vectorSearch.", MOST)
                break
            versions[document["version"]] = document["chunks"]
        self._documents = {version: known for version, known in self._documents.items() if version in versions}
        missing = [version for version in versions if version not in self._documents]
        for start in range(0, len(missing), BATCH):
            batch = {version: list[Row]() for version in missing[start : start + BATCH]}
            found = self._database.chunks.find({"version": {"$in": list(batch)}})
            async for row in found.sort(["version", "position"]):
                batch[row["version"]].append(row)
            for version, rows in batch.items():
                if len(rows) == versions[version]:  # else a newer one has taken its place meanwhile
                    self._documents[version] = await asyncio.to_thread(self._prepare, rows)

    def _prepare(self, rows: list[Row]) -> _Document:
        field = next(name for name in rows[0] if name.startswith("vector_"))
        # BSON has them behind two bytes, for their type; to read each by its `as_vector` takes twenty times as long.
        vectors = np.stack([np.frombuffer(row.pop(field), "<f4", offset=2) for row in rows]).astype(np.float32)
        counts = [Counter(_words(f"{row['heading']} {row['text']}")) for row in rows]
        terms = [
            (self._words.setdefault(word, len(self._words)), passage, count)
            for passage, counted in enumerate(counts)
            for word, count in counted.items()
        ]
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        shaped = np.array(terms, np.int32).reshape(-1, 3)
        return _Document(rows[0]["generation"], set(rows[0]["tags"]), rows, vectors, shaped)


class _Passages:
    """Those of all documents, as arrays."""

    def __init__(self, documents: list[_Document], generation: int, dimensions: int) -> None:
        self._tags = [document.tags for document in documents]
        self._rows = [row for document in documents for row in document.passages]
        sizes = [len(document.passages) for document in documents]
        self._owners = np.repeat(np.arange(len(documents)), sizes)
        is_current = np.array([document.generation == generation for document in documents], bool)
        self._with_vector = np.flatnonzero(is_current[self._owners])
        vectors = [document.vectors for document in documents if document.generation == generation]
        self._vectors = np.concatenate([np.empty((0, dimensions), np.float32), *vectors])
        starts = np.cumsum([0, *sizes])
        moved = [each.terms + np.array([0, start, 0], np.int32) for each, start in zip(documents, starts, strict=False)]
        terms = np.concatenate([np.empty((0, 3), np.int32), *moved])
        self._lengths = np.bincount(terms[:, 1], terms[:, 2], len(self._rows))
        self._terms = terms[np.argsort(terms[:, 0], kind="stable")]

    def rank(self, words: set[int], vector: list[float], tags: Sequence[str], limit: int) -> list[list[Row]]:
        fits = np.array([each.issuperset(tags) for each in self._tags], bool)[self._owners]
        likeness = np.full(len(self._rows), -np.inf)
        likeness[self._with_vector] = self._vectors @ np.array(vector, np.float32)
        rankings = []
        for scores in (likeness, self._relevance(words)):
            best = np.argsort(-np.where(fits, scores, -np.inf), kind="stable")[:limit]
            rankings.append([self._rows[each] for each in best if fits[each] and scores[each] > -np.inf])
        return rankings

    def _relevance(self, words: set[int]) -> NDArray[np.float64]:
        """By BM25. A word that over half of many passages have does not count."""
        total, scores = len(self._rows), np.zeros(len(self._rows))
        for word in words:
            begin, end = np.searchsorted(self._terms[:, 0], [word, word + 1])
            _, passages, counts = self._terms[begin:end].T
            if len(passages) <= max(20, total / 2):
                weight = log(1 + (total - len(passages) + 0.5) / (len(passages) + 0.5))
                share = 0.25 + 0.75 * self._lengths[passages] / self._lengths.mean()
                scores[passages] += weight * 2.2 * counts / (counts + 1.2 * share)
        return np.where(scores > 0, scores, -np.inf)


def _words(text: str) -> list[str]:
    return [ENDING.sub("", word) for word in re.findall(r"\w+", text.lower()) if not STOP_WORDS.fullmatch(word)]
