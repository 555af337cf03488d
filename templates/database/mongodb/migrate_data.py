"""The documents of a MongoDB with all that they consist of, as migrate_data.py reads and writes them."""

import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from bson.binary import Binary, BinaryVectorDtype
from pymongo import MongoClient, ReplaceOne, ReturnDocument
from pymongo.database import Database
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.uri_parser import parse_uri

from app.models import Chunk, Document, UserError

Row = dict[str, Any]
Store = Database[Row]
Stored = tuple[Document, list[Chunk], list["array[float]"]]
NAME, FOLDER, SCHEMA = "MongoDB", "mongodb", "0001_documents"


@contextmanager
def connect(url: str, setting: str) -> Iterator[Store]:
    """Raises `UserError`, also for what goes wrong with the database inside the block."""
    try:
        if not url.startswith("mongodb+srv:"):  # it is asked for its hosts when it is opened
            parse_uri(url)
    except (PyMongoError, ValueError):
        form = "mongodb://user:password@host/name, with %40 for @ in a password, %2F for / and %25 for %"
        raise UserError(f"{setting} is not of the form {form}.") from None
    try:
        with MongoClient[Row](url, serverSelectionTimeoutMS=5000) as client:
            client.admin.command("ping")
            yield client.get_default_database("app")
    except BulkWriteError as error:
        raise UserError(f"{NAME}, at {setting}: {error.details['writeErrors'][0]['errmsg']}") from error
    except PyMongoError as error:
        reason = re.split(r" \(configured timeouts|, Timeout: |, full error: ", " ".join(str(error).split()))[0]
        raise UserError(f"{NAME}, at {setting}: {reason}") from error


def check_schema(store: Store) -> None:
    """Raise `UserError` where it is not the one that is read here."""
    found = ", ".join(sorted(each["_id"] for each in store.migrations.find()))
    if not found:
        raise UserError(f"The {NAME} to move from has no documents of this project: no migration has run there.")
    if found != SCHEMA:
        raise UserError(f"The schema to move from is {found}, not {SCHEMA}: adapt migrate_data_parts/old.py.")


def model(store: Store) -> tuple[str, int] | None:
    """The embedding model and its dimensions; None where no document was ever stored."""
    found = (store.state.find_one() or {}).get("model")
    return found and (found["name"], found["dimensions"])


def count(store: Store) -> int:
    return store.documents.count_documents({"source": {"$exists": True}})  # others are deleted


def sizes(store: Store) -> Iterator[tuple[str, int]]:
    """The source of each document, in their order, and how many passages it has."""
    after = ""
    while page := store.documents.find({"source": {"$gt": after}}).sort("source").limit(1000).to_list():
        yield from ((row["source"], row["chunks"]) for row in page)
        after = page[-1]["source"]


def read(store: Store, sources: Sequence[str]) -> dict[str, Stored]:
    """By source. A vector that is missing is empty."""
    rows = {row["version"]: row for row in store.documents.find({"source": {"$in": list(sources)}})}
    if not rows:
        return {}
    found: dict[str, Stored] = {}
    for row in rows.values():
        metadata = {pair["key"]: pair["value"] for pair in row["metadata"]}
        found[row["source"]] = Document.model_validate(row | {"id": row["_id"], "metadata": metadata}), [], []
    current = _model(store)
    for row in store.chunks.find({"version": {"$in": list(rows)}}).sort(["version", "position"]):
        _, chunks, vectors = found[rows[row["version"]]["source"]]
        chunks.append(Chunk.model_validate(row))
        stored = row.get(f"vector_{current['dimensions']}") if row["generation"] == current["generation"] else None
        vectors.append(array("f", stored.as_vector().data if stored else []))
    return found


def write(store: Store, documents: Sequence[Stored]) -> None:
    """Passages first, then the documents, which make them count, where there are none of these sources."""
    if not documents:
        return
    counting = {"$inc": {"count": len(documents)}}
    state = store.state.find_one_and_update({}, counting, return_document=ReturnDocument.AFTER)
    assert state  # since the first migration
    first, generation = state["count"] - len(documents) + 1, state["model"]["generation"]
    rows, replacing = list[Row](), list[ReplaceOne[Row]]()
    for version, (document, chunks, vectors) in enumerate(documents, first):
        numbers = {"version": version, "generation": generation}
        tags = [f"{quote(key, safe='')}:{value}" for key, value in document.metadata.items()]
        shared = {"document_id": str(document.id), "tags": tags, **numbers}
        for chunk, vector in zip(chunks, vectors, strict=True):
            field = {f"vector_{len(vector)}": Binary.from_vector(list(vector), BinaryVectorDtype.FLOAT32)}
            rows.append({"_id": f"{version}:{chunk.position}", **shared, **chunk.model_dump(), **field})
        pairs = [{"key": key, "value": value} for key, value in document.metadata.items()]
        row = {**document.model_dump(exclude={"id"}), "metadata": pairs, **numbers}
        replacing.append(ReplaceOne({"_id": str(document.id), "source": {"$exists": False}}, row, upsert=True))
    store.chunks.insert_many(rows)
    store.documents.bulk_write(replacing)
    ids = [str(document.id) for document, _, _ in documents]
    store.chunks.delete_many({"document_id": {"$in": ids}, "version": {"$lt": first}})  # of what was cut off
    store.state.update_one({}, {"$inc": {"count": 1}})  # readers look again


def _model(store: Store) -> Row:
    state = store.state.find_one()
    assert state  # since the first migration
    return dict(state["model"])
