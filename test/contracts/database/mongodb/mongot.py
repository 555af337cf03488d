"""Stands in for a MongoDB with mongot: what the server behind it has not got it does itself, as the documentation of
MongoDB Vector Search and MongoDB Search has it. It refuses, and notes, what does not stand there."""

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import bson
import numpy as np
from pymongo import MongoClient

Row = dict[str, Any]
VECTOR_SEARCH = {"index", "path", "queryVector", "numCandidates", "limit", "filter"}


class Refused(Exception):
    """What a server answers, with its code."""


def must(condition: bool, why: str) -> None:
    if not condition:
        raise Refused(why)


class Mongot:
    def __init__(self, url: str) -> None:
        self._client = MongoClient[Row](url)
        self._database = self._client.get_default_database()
        self._behind = self._client.address or ("", 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = re.sub(r"@[^/]+(/\w+\?)", rf"@{address}\1directConnection=true&", url)
        self.indexes: dict[str, Row] = {}
        self.asked: list[str] = []
        self.refused: list[str] = []

    def __enter__(self) -> "Mongot":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._client.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=[self._listener.accept()[0]], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._behind) as server, suppress(OSError, EOFError):
            while True:
                message = _read(client)
                command = _command(message)
                answer = self._answer(command) if command else None
                if answer is None:
                    server.sendall(message)
                    client.sendall(_read(server))
                else:
                    body = b"\0\0\0\0\0" + bson.encode(answer)
                    request_id = message[4:8]
                    client.sendall(struct.pack("<ii", 16 + len(body), 0) + request_id + struct.pack("<i", 2013) + body)

    def _answer(self, command: Row) -> Row | None:
        """None where the server behind is to answer."""
        try:
            name = next(iter(command))
            if name == "createSearchIndexes":
                return self._create(command)
            if name == "dropSearchIndex":
                must(self.indexes.pop(command["name"], None) is not None, "there is no such index")
                return {"ok": 1}
            stage, value = next(iter((command.get("pipeline") or [{"": 0}])[0].items()))
            if name != "aggregate" or stage not in ("$listSearchIndexes", "$vectorSearch", "$search"):
                return None
            self.asked.append(stage)
            if stage == "$listSearchIndexes":
                rows = list(self.indexes.values())
            else:
                rows = self._vector_search(value) if stage == "$vectorSearch" else self._search(value)
                rows = list(_on(rows, command["pipeline"][1:]))
            namespace = f"{command['$db']}.{command['aggregate']}"
            return {"cursor": {"id": bson.Int64(0), "ns": namespace, "firstBatch": rows}, "ok": 1}
        except (Refused, KeyError, TypeError) as error:
            self.refused.append(repr(error))
            return {"ok": 0, "errmsg": repr(error), "code": 8, "codeName": "UnknownError"}

    def _create(self, command: Row) -> Row:
        for index in command["indexes"]:
            must(index.keys() == {"name", "type", "definition"}, f"an index has {index.keys()}")
            if index["name"] in self.indexes:
                return {"ok": 0, "errmsg": "Index already exists", "code": 68, "codeName": "IndexAlreadyExists"}
            if index["type"] == "vectorSearch":
                _check_vector_index(index["definition"])
            else:
                must(index["type"] == "search", index["type"])
                _check_search_index(index["definition"])
            self.indexes[index["name"]] = {
                "id": index["name"],
                "name": index["name"],
                "type": index["type"],
                "status": "READY",
                "queryable": True,
                "latestDefinition": index["definition"],
            }
        created = [{"id": index["name"], "name": index["name"]} for index in command["indexes"]]
        return {"ok": 1, "indexesCreated": created}

    def _vector_search(self, stage: Row) -> list[Row]:
        must(stage.keys() <= VECTOR_SEARCH, f"$vectorSearch has {stage.keys()}")
        must(stage["limit"] <= stage["numCandidates"] <= 10_000, "numCandidates is from limit to 10,000")
        if stage["index"] not in self.indexes:
            return []
        fields = self.indexes[stage["index"]]["latestDefinition"]["fields"]
        [vector] = [field for field in fields if field["type"] == "vector" and field["path"] == stage["path"]]
        must(len(stage["queryVector"]) == vector["numDimensions"], "the vector has other dimensions than the index")
        paths = {field["path"] for field in fields if field["type"] == "filter"}
        conditions = stage.get("filter", {}).get("$and", [])
        must(stage.get("filter", {"$and": 0}).keys() == {"$and"}, "the filter is not of a form that is known here")
        for condition in conditions:
            [(path, operator)] = condition.items()
            must(path in paths and operator.keys() == {"$eq"}, f"{condition} is no filter on a declared path")
        rows = self._database.chunks.find({stage["path"]: {"$exists": True}, "$and": [{}, *conditions]})
        asked = np.array(stage["queryVector"])

        def likeness(row: Row) -> float:
            stored = np.array(row[stage["path"]].as_vector().data)
            return float(stored @ asked / (np.linalg.norm(stored) * np.linalg.norm(asked)))

        return sorted(rows, key=likeness, reverse=True)[: stage["limit"]]

    def _search(self, stage: Row) -> list[Row]:
        must(stage.keys() == {"index", "compound"}, f"$search has {stage.keys()}")
        must(stage["compound"].keys() <= {"must", "mustNot", "should", "filter"}, "not of compound")
        must(all(stage["compound"].values()), "a clause cannot be empty")
        if stage["index"] not in self.indexes:
            return []
        fields = self.indexes[stage["index"]]["latestDefinition"]["mappings"]["fields"]
        [clause] = stage["compound"]["must"]
        must(clause.keys() == {"text"} and clause["text"].keys() == {"query", "path"}, f"{clause} is no text clause")
        must(all(fields[path]["type"] == "string" for path in clause["text"]["path"]), "text wants a path of strings")
        must(clause["text"]["query"] != "", '"query" cannot be empty')
        wanted: Row = {}
        for condition in stage["compound"].get("filter", []):
            equals = condition["equals"]
            must(equals.keys() == {"path", "value"} and fields[equals["path"]]["type"] == "token", f"{condition}")
            wanted.setdefault(equals["path"], {"$all": []})["$all"].append(equals["value"])
        words = _words(clause["text"]["query"])

        def shared(row: Row) -> int:
            return len(words & _words(" ".join(row[path] for path in clause["text"]["path"])))

        return sorted(filter(shared, self._database.chunks.find(wanted)), key=shared, reverse=True)


def _check_vector_index(definition: Row) -> None:
    must(definition.keys() == {"fields"}, f"a vectorSearch index has {definition.keys()}")
    for field in definition["fields"]:
        if field["type"] == "vector":
            must(field.keys() == {"type", "path", "numDimensions", "similarity"}, f"{field}")
            must(1 <= field["numDimensions"] <= 8192, f"{field}")
            must(field["similarity"] in ("euclidean", "cosine", "dotProduct"), f"{field}")
        else:
            must(field.keys() == {"type", "path"} and field["type"] == "filter", f"{field}")


def _check_search_index(definition: Row) -> None:
    must(definition.keys() == {"mappings"} and definition["mappings"].keys() == {"dynamic", "fields"}, f"{definition}")
    for field in definition["mappings"]["fields"].values():
        must(field in ({"type": "token"}, {"type": "string", "analyzer": "lucene.english"}), f"{field}")


def _on(rows: list[Row], stages: list[Row]) -> Iterator[Row]:
    for stage in stages:
        if "$limit" in stage:
            rows = rows[: stage["$limit"]]
        else:
            must(stage.keys() == {"$project"} and set(stage["$project"].values()) == {0}, f"{stage}")
    left_out = {name for stage in stages for name in stage.get("$project", {})}
    return ({name: value for name, value in row.items() if name not in left_out} for row in rows)


def _words(text: str) -> set[str]:
    return {re.sub("(e|e?s)$", "", word) for word in re.findall(r"\w+", text.lower())}


def _read(connection: socket.socket) -> bytes:
    message = b""
    while len(message) < 4 or len(message) < struct.unpack("<i", message[:4])[0]:
        size = struct.unpack("<i", message[:4])[0] - len(message) if len(message) >= 4 else 4 - len(message)
        if not (piece := connection.recv(size)):
            raise EOFError
        message += piece
    return message


def _command(message: bytes) -> Row | None:
    """The body of an OP_MSG; sections with documents to insert are not for us."""
    if struct.unpack("<i", message[12:16])[0] != 2013 or message[20] != 0:
        return None
    size = struct.unpack("<i", message[21:25])[0]
    return bson.decode(message[21 : 21 + size])
