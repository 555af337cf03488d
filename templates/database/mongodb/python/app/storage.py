"""How documents are stored, so that nobody sees half of one, without a transaction, which a lone server has not got.

A version of a document has passages of its own, which do not count before one write of the document says so. Numbers of
versions come from the server, in the order in which they begin: of two at once, the later one stays.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from uuid import UUID

from bson.binary import Binary, BinaryVectorDtype
from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

from app import embeddings
from app.models import Chunk, Document, Hit, UserError

Row = dict[str, Any]
EXISTS = {"source": {"$exists": True}}  # not of a document that was deleted
DIMENSIONS, VECTOR = 8192, "vector_"
BATCH = 1000  # passages that are written at once


def vector_field(dimensions: int) -> str:
    """Where vectors of so many dimensions are, and the name of the index over them."""
    return f"{VECTOR}{dimensions}"


def tags_of(metadata: dict[str, str]) -> list[str]:
    """One path that any metadata can be filtered by."""
    return [f"{quote(key, safe='')}:{value}" for key, value in metadata.items()]


def metadata_of(row: Row) -> dict[str, str]:
    return {pair["key"]: pair["value"] for pair in row["metadata"]}  # a key can be no name of a field


def document_of(row: Row) -> Document:
    return Document.model_validate(row | {"id": row["_id"], "metadata": metadata_of(row)})


def hit_of(row: Row, source: str) -> Hit:
    return Hit.model_validate(row | {"source": source, "score": 0})


class Store:
    def __init__(self, database: AsyncDatabase[Row]) -> None:
        self._database = database

    async def state(self) -> Row:
        state = await self._database.state.find_one()
        assert state  # since the first migration
        return state

    async def count(self) -> int:
        """Count a change. The number is that of a version, and tells readers to look."""
        counting, after = {"$inc": {"count": 1}}, ReturnDocument.AFTER
        state = await self._database.state.find_one_and_update({}, counting, return_document=after)
        assert state
        return int(state["count"])

    async def save(
        self, document: Document, chunks: Sequence[Chunk], vectors: Sequence[list[float]], numbers: Row, replaced: Row
    ) -> None:
        """Let a new version, of these `numbers`, count in place of one that `replaced` fits, or raise."""
        dimensions, *others = {len(vector) for vector in vectors}
        if others:
            raise ValueError(f"{document.source}: vectors of {dimensions} dimensions and of {others}")
        shared = {"document_id": str(document.id), "tags": tags_of(document.metadata), **numbers}
        rows = []
        for chunk, vector in zip(chunks, vectors, strict=True):
            stored = {vector_field(dimensions): Binary.from_vector(vector, BinaryVectorDtype.FLOAT32)}
            rows.append({"_id": f"{numbers['version']}:{chunk.position}", **shared, **chunk.model_dump(), **stored})
        for start in range(0, len(rows), BATCH):
            await self._database.chunks.insert_many(rows[start : start + BATCH])
        pairs = [{"key": key, "value": value} for key, value in document.metadata.items()]
        row = {**document.model_dump(exclude={"id"}), "metadata": pairs, **numbers}
        await self._database.documents.replace_one({"_id": str(document.id), **replaced}, row, upsert=True)

    async def clean_up(self, document_id: UUID) -> None:
        """Drop the passages that can count no more, those of a save that was cut off as well."""
        if row := await self._database.documents.find_one({"_id": str(document_id)}):
            older = {"$lt": row["version"]}
            await self._database.chunks.delete_many({"document_id": str(document_id), "version": older})
        await self.count()

    async def set_model(self, dimensions: int, version: int, anew: bool) -> bool:
        """The first vectors, also of those `anew`, decide on the model. Says whether these do."""
        name = embeddings.model_name()
        if dimensions > DIMENSIONS:
            most = f"the most that MongoDB can search by are {DIMENSIONS:,}"
            raise UserError(
                f"EMBEDDING_MODEL {name} gives vectors of {dimensions:,} dimensions; {most}. Set another one."
            )
        model = {"name": name, "dimensions": dimensions, "generation": version}
        undecided: Row = {} if anew else {"model": {"$exists": False}}
        change = {"$set": {"model": model}, "$inc": {"count": 1}}
        return (await self._database.state.update_one(undecided, change)).modified_count > 0

    def check_model(self, state: Row, dimensions: int) -> int:
        """The generation of the vectors that count, or 0. Raises when they are of another model."""
        if not (stored := state.get("model")):
            return 0
        wanted = embeddings.model_name()
        if (stored["name"], stored["dimensions"]) != (wanted, dimensions):
            raise UserError(
                f"The documents are indexed with {stored['name']} ({stored['dimensions']} dimensions), but the"
                f" embedding model now is {wanted} ({dimensions} dimensions). Set EMBEDDING_MODEL back, or run"
                " `reindex` to compute them anew."
            )
        return int(stored["generation"])
