"""Documents, their passages, and what all of them share."""

from contextlib import suppress
from typing import Any

from pymongo.database import Database
from pymongo.errors import CollectionInvalid, OperationFailure

NUMBER, TEXT = {"bsonType": ["int", "long"]}, {"bsonType": "string"}
PAIR = {"bsonType": "object", "required": ["key", "value"], "properties": {"key": TEXT, "value": TEXT}}
SCHEMAS: dict[str, dict[str, Any]] = {
    "documents": {
        "required": ["version"],  # alone, of one that was deleted
        "properties": {
            "_id": TEXT,
            "version": NUMBER,  # of its passages, those that count
            "generation": NUMBER,  # of their vectors
            "source": TEXT,
            "content_hash": TEXT,
            "metadata": {"bsonType": "array", "items": PAIR},
            "chunks": NUMBER,
            "deleted_at": {"bsonType": "date"},
        },
    },
    "chunks": {
        "required": ["document_id", "version", "generation", "tags", "position", "heading", "text"],
        "properties": {
            "_id": TEXT,
            "document_id": TEXT,
            "version": NUMBER,
            "generation": NUMBER,
            "tags": {"bsonType": "array", "items": TEXT},  # the document's metadata, to filter by
            "position": NUMBER,
            "heading": TEXT,
            "text": TEXT,
        },
        # A vector of 384 dimensions is the field `vector_384`: an index is for one number of them.
        "patternProperties": {"^vector_[0-9]+$": {"bsonType": "binData"}},
    },
    # One document: a count of all changes, and the model that new vectors come from.
    "state": {
        "required": ["count"],
        "properties": {
            "count": NUMBER,
            "model": {
                "bsonType": "object",
                "required": ["name", "dimensions", "generation"],
                "properties": {"name": TEXT, "dimensions": NUMBER, "generation": NUMBER},
            },
        },
    },
}


def upgrade(database: Database[dict[str, Any]]) -> None:
    for name, schema in SCHEMAS.items():
        with suppress(CollectionInvalid, OperationFailure):  # it is there, or another process makes it
            database.create_collection(name)
        database.command("collMod", name, validator={"$jsonSchema": {"bsonType": "object", **schema}})
    database.documents.create_index("source", unique=True, sparse=True)
    database.documents.create_index("version", unique=True)
    database.documents.create_index("deleted_at", expireAfterSeconds=3600)
    database.chunks.create_index(["version", "position"], unique=True)
    database.chunks.create_index(["document_id", "version"])
    database.state.update_one({"_id": "state"}, {"$setOnInsert": {"count": 0}}, upsert=True)
