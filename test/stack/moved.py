"""Documents for the test of migrate_data.py. They follow from their numbers, and so does what a database must hold.

Run in a project: moved.py fill END, check END, wait COUNT, save NUMBER, cut_off NUMBER, spoil, drop NUMBER ...
"""

import asyncio
import sys
import time
from collections.abc import Iterable
from hashlib import sha256
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from app import database
from app.models import Chunk, Document

Passage = tuple[int, str, str, bytes]  # position, heading, text, vector
ODD = [0.1, -0.0, 1e-45, 1 / 3, -1e-38]  # what is easily lost on the way
METADATA: list[dict[str, str]] = [
    {},
    {"team": "Ärzte", "日本": "東京 🗼"},
    {"a.b": "dots", "$where": "dollar", "": "empty", "quote": "\"'\\\n\t"},
]


def make(number: int) -> tuple[Document, list[Chunk], list[list[float]]]:
    source = f"notes/{number:05} é.md"
    size = 40 if number % 500 == 7 else 1 + (number % 5 == 0)
    random = np.random.default_rng(number)
    vectors = random.standard_normal((size, 384)).astype(np.float32)
    vectors[0, : len(ODD)] = ODD
    document = Document(
        id=uuid5(NAMESPACE_URL, source),
        source=source,
        content_hash=sha256(source.encode()).hexdigest(),
        metadata=METADATA[number % len(METADATA)],
        chunks=size,
    )
    text = "A passage: ✓ naïve  two spaces\n\nand a new line 👩‍👩‍👧"
    chunks = [Chunk(position=each, heading=f"Part {each}", text=f"{text} {word(number, each)}") for each in range(size)]
    return document, chunks, [list(map(float, vector)) for vector in vectors]


def word(number: int, position: int) -> str:
    """Which only this passage has."""
    return f"zq{number:05}p{position}"


async def fill(end: int) -> None:
    """A PostgreSQL, by the application as far as that takes no minutes, and else by COPY."""
    async with database.lifespan():
        for number in range(min(end, 100)):
            await database.save_document(*make(number))
    await asyncio.to_thread(copy, range(100, end))


def copy(numbers: range) -> None:
    import psycopg
    from psycopg.types.json import Jsonb

    with psycopg.connect(database.url()) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY documents (id, source, content_hash, metadata, chunks) FROM STDIN") as rows:
            for d, _, _ in map(make, numbers):
                rows.write_row([d.id, d.source, d.content_hash, Jsonb(d.metadata), d.chunks])
        with cursor.copy("COPY chunks (document_id, position, heading, text, embedding) FROM STDIN") as rows:
            for d, chunks, vectors in map(make, numbers):
                for c, vector in zip(chunks, vectors, strict=True):
                    rows.write_row([d.id, c.position, c.heading, c.text, str(vector)])


async def check(end: int) -> None:
    """Compare all, then search by one."""
    async with database.lifespan():
        stored, number, after = passages(), 0, ""
        while page := await database.list_documents(1000, after):
            for document in page:
                expected, chunks, vectors = make(number)
                assert document == expected, (document, expected)
                bits = [np.array(vector, "<f4").tobytes() for vector in vectors]
                made = [(c.position, c.heading, c.text, v) for c, v in zip(chunks, bits, strict=True)]
                assert stored.pop(str(document.id)) == made, document.source
                number, after = number + 1, document.source
        assert (number, stored) == (end, {})
        for number in {7, end - 1}:
            document, _, vectors = make(number)
            [hit] = await database.search(word(number, 0), vectors[0], document.metadata, limit=1)
            assert (hit.source, hit.position) == (document.source, 0), hit
    print(f"{end} are as they were")


def passages() -> dict[str, list[Passage]]:
    """Of each document, by its id, as they lie in the database: the vectors bit by bit."""
    found: dict[str, list[Passage]] = {}
    for owner, *passage in rows():
        found.setdefault(owner, []).append(tuple(passage))
    return found


def rows() -> Iterable[tuple[str, int, str, str, bytes]]:
    if database.url().startswith("postgresql:"):
        import psycopg

        query = "SELECT document_id::text, position, heading, text, vector_send(embedding) FROM chunks ORDER BY 1, 2"
        with psycopg.connect(database.url()) as connection:
            for *fields, sent in connection.execute(query):
                yield *fields, np.frombuffer(sent, ">f4", offset=4).astype("<f4").tobytes()
    else:
        for each in mongodb().chunks.find().sort(["document_id", "position"]):
            vector = bytes(each["vector_384"])[2:]
            yield each["document_id"], each["position"], each["heading"], each["text"], vector


def mongodb():
    from pymongo import MongoClient

    return MongoClient(database.url()).get_default_database("app")


async def wait(count: int) -> None:
    """Until a MongoDB has so many documents."""
    await asyncio.to_thread(database.migrate)
    documents = mongodb().documents
    while documents.count_documents({}) < count:
        time.sleep(0.05)  # noqa: ASYNC251 (nothing else runs here)


async def save(number: int) -> None:
    async with database.lifespan():
        await database.save_document(*make(number))


async def cut_off(number: int) -> None:
    """What `reindex` leaves where it is cut off."""
    owner = str(make(number)[0].id)
    if database.url().startswith("postgresql:"):
        import psycopg

        with psycopg.connect(database.url()) as connection:
            connection.execute("UPDATE chunks SET embedding = NULL WHERE document_id = %s", [owner])
    else:
        mongodb().chunks.update_many({"document_id": owner}, {"$set": {"generation": 0}})


async def spoil() -> None:
    """In a MongoDB, change a text and one bit of a vector, and take in another version of a document."""
    async with database.lifespan():
        chunks, ids = mongodb().chunks, [str(make(number)[0].id) for number in range(3)]
        chunks.update_one({"document_id": ids[0], "position": 0}, {"$set": {"text": "changed"}})
        stored = chunks.find_one({"document_id": ids[1]})["vector_384"]
        changed = type(stored)(stored[:-4] + bytes([stored[-4] ^ 1]) + stored[-3:], stored.subtype)
        chunks.update_one({"document_id": ids[1]}, {"$set": {"vector_384": changed}})
        document, *rest = make(2)
        await database.save_document(document.model_copy(update={"content_hash": "newer"}), *rest)


async def drop(*numbers: int) -> None:
    async with database.lifespan():
        for number in numbers:
            assert await database.delete_document(make(number)[0].id)


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    function = {each.__name__: each for each in (fill, check, wait, save, cut_off, spoil, drop)}[name]
    with database.server(), asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(function(*map(int, arguments)))
