"""Documents, passages and search in MongoDB. Without DATABASE_URL, an emulated server runs."""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pymongo
from pymongo import AsyncMongoClient, MongoClient, ReadPreference
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConnectionFailure, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from app import embeddings
from app.memory import Memory
from app.models import Chunk, Document, Hit, UserError
from app.settings import FromEnvironment, settings
from app.storage import EXISTS, Row, Store, document_of, hit_of, metadata_of, tags_of
from app.vector_search import VectorSearch

PATIENCE = 5  # seconds that it may take to find the server
BEST = 40  # passages of each ranking
INTERNAL, DISK_FULL = 1, 14031  # codes of errors

log = logging.getLogger("app")


class DatabaseSettings(FromEnvironment):
    database_url: str = ""
    """A MongoDB, `mongodb://user:password@host/name` or `mongodb+srv://...`."""


# There is one of each inside `lifespan`.
_database: AsyncDatabase[Row]
_store: Store
_passages: VectorSearch | Memory
_embedded_url: Callable[[], str] | None = None


@contextmanager
def server() -> Iterator[None]:
    """Run the emulated server, for this process and its children, unless DATABASE_URL names one; `url` waits for it."""
    global _embedded_url
    if DatabaseSettings().database_url or _embedded_url:
        yield
        return
    from embedded import mongodb  # not needed in production

    with mongodb.serve(settings.data_dir / "mongodb") as _embedded_url:
        try:
            yield
        finally:
            _embedded_url = None
            os.environ.pop("DATABASE_URL", None)


def is_embedded() -> bool:
    """Whether this process runs the emulated server."""
    return _embedded_url is not None


def url() -> str:
    """Raises `UserError`, without the password."""
    if _embedded_url and not DatabaseSettings().database_url:
        os.environ["DATABASE_URL"] = _embedded_url()
    given = DatabaseSettings().database_url
    try:
        if not given.startswith("mongodb+srv:"):  # it is asked for its hosts when it is opened
            parse_uri(given)
    except (PyMongoError, ValueError):
        form = "mongodb://user:password@host/name, with %40 for @ in a password, %2F for / and %25 for %"
        raise UserError(f"DATABASE_URL is not of the form {form}.") from None
    return given


def migrate() -> None:
    """Bring the schema up to date; several processes may do so at once. Raises `UserError` where it cannot."""
    from migrations import upgrade

    try:
        with MongoClient[Row](url(), **options()) as client:
            with pymongo.timeout(PATIENCE):
                client.admin.command("ping")
            upgrade(client.get_default_database("app"))
    except PyMongoError as error:
        raise UserError(f"The database of DATABASE_URL cannot be used: {reason(error)}") from error


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    global _database, _store, _passages
    await asyncio.to_thread(migrate)
    async with AsyncMongoClient[Row](url(), **options()) as client:
        _database = client.get_default_database("app", read_preference=ReadPreference.PRIMARY)
        _store, index = Store(_database), VectorSearch(_database.chunks)
        _passages = index if await index.is_supported() else Memory(_database)
        await _passages.prepare(await _store.state(), wait=False)  # the data may come from another server
        emulated = "secantusVersion" in await _database.command("buildInfo")
        log.info("MongoDB%s, search: %s", ", emulated by SecantusDB" if emulated else "", await ping())
        yield


async def ping() -> str:
    """How the database searches by meaning. Raises unless it answers."""
    with pymongo.timeout(PATIENCE):
        await _database.command("ping")
    return _passages.METHOD


def diagnose() -> AsyncIterator[str]:
    from app import database_check  # it imports this module

    return database_check.diagnose()


def is_retryable(error: BaseException) -> bool:
    """Whether the database could not do its part, for now: no answer, no space, a fault of its own."""
    codes = _codes(error) & {INTERNAL, DISK_FULL}
    return isinstance(error, UNAVAILABLE) and (isinstance(error, ConnectionFailure) or error.timeout or codes != set())


def explain(error: BaseException) -> str:
    """What a retryable error says, in a line; up to the colon, for everybody."""
    return f"The database {'is full' if DISK_FULL in _codes(error) else 'does not answer'}: {reason(error)}"


async def save_document(document: Document, chunks: Sequence[Chunk], vectors: Sequence[list[float]]) -> Document:
    """Store a document and its passages, all or nothing, in place of an older one of its source. Raises `UserError`
    for vectors of another model."""
    saved = document.model_copy(update={"chunks": len(chunks)})
    version = await _store.count()
    generation = await _generation(len(vectors[0]), version)
    numbers = {"version": version, "generation": generation}
    with suppress(DuplicateKeyError):  # there is one that began later
        await _store.save(saved, chunks, vectors, numbers, {"version": {"$lt": version}})
    await _store.clean_up(saved.id)
    if await _generation(len(vectors[0]), version) != generation:  # `reindex` began meanwhile, and may be past it
        return await save_document(document, chunks, vectors)
    return saved


async def search(text: str, vector: list[float], filters: dict[str, str], limit: int = 8) -> list[Hit]:
    """The passages nearest in meaning and those that share words, fused by reciprocal rank, of documents whose metadata
    contain the pairs in `filters`. Raises `UserError` for another model's vector."""
    rankings, sources = list[list[Row]](), dict[int, str]()
    for again in (0, -1, -2):  # where a document has got a newer version meanwhile, which may not be counted yet
        state = await _store.state()
        if not (generation := _store.check_model(state, len(vector))):
            return []
        rankings = await _passages.rank(again or state["count"], generation, text, vector, tags_of(filters), BEST)
        versions = list({row["version"] for rows in rankings for row in rows})
        found = _database.documents.find({"version": {"$in": versions}, **EXISTS})
        sources = {document["version"]: document["source"] async for document in found}
        if len(sources) == len(versions):
            break
    hits: dict[str, Hit] = {}
    for rows in rankings:
        for rank, row in enumerate((row for row in rows if row["version"] in sources), 1):
            hit = hits.setdefault(row["_id"], hit_of(row, sources[row["version"]]))
            hit.score += 1 / (60 + rank)
    return sorted(hits.values(), key=lambda hit: (-hit.score, hit.source, hit.position))[:limit]


async def read_passages(source: str, position: int, filters: dict[str, str], limit: int = 4) -> list[Hit]:
    """The passages of a document from `position` on."""
    while row := await _database.documents.find_one({"source": source}):
        if not filters.items() <= metadata_of(row).items():
            break
        query = {"version": row["version"], "position": {"$gte": position}}
        found = await _database.chunks.find(query).sort("position").limit(limit).to_list()
        if await _database.documents.find_one({"_id": row["_id"], "version": row["version"]}):
            return [hit_of(each, source) for each in found]  # else it has changed meanwhile
    return []


async def get_document(document_id: UUID) -> Document | None:
    row = await _database.documents.find_one({"_id": str(document_id), **EXISTS})
    return document_of(row) if row else None


async def list_documents(limit: int, after: str = "") -> list[Document]:
    """By source; `after` is the last source of the page before."""
    found = _database.documents.find({"source": {"$gt": after}}).sort("source").limit(limit)
    return [document_of(row) async for row in found]


async def delete_document(document_id: UUID) -> bool:
    key: Row = {"_id": str(document_id), **EXISTS}
    while await _database.documents.find_one(key):
        # Its number stays for an hour: a version that began before must not come to count.
        deleted = {"version": await _store.count(), "deleted_at": datetime.now(UTC)}
        older = {"version": {"$lt": deleted["version"]}}
        if await _database.documents.find_one_and_replace(key | older, deleted):
            await _store.clean_up(document_id)
            return True
    return False


async def reindex() -> None:
    """Compute all vectors anew, for another embedding model. A passage whose turn is to come is found by its words."""
    [vector] = await embeddings.embed([Chunk(position=0, heading="", text="one for its length")])
    generation = await _generation(len(vector), await _store.count(), anew=True)
    while row := await _database.documents.find_one({"generation": {"$ne": generation}, **EXISTS}):
        if (await _store.state())["model"]["generation"] != generation:
            raise UserError("Another `reindex` has begun since, and goes on.")
        document, vectors = document_of(row), list[list[float]]()
        numbers = {"version": await _store.count(), "generation": generation}
        found = _database.chunks.find({"version": row["version"]}).sort("position")
        chunks = [Chunk.model_validate(each) async for each in found]
        for start in range(0, len(chunks), 32):
            vectors += await embeddings.embed(chunks[start : start + 32])
        if len(chunks) == document.chunks:  # else it has changed meanwhile
            with suppress(DuplicateKeyError):  # there is one that began later
                await _store.save(document, chunks, vectors, numbers, {"version": row["version"]})
            await _store.clean_up(document.id)


UNAVAILABLE = (ConnectionFailure, OperationFailure)


async def _generation(dimensions: int, version: int, anew: bool = False) -> int:
    """That of the vectors to be stored now. The first ones, also of those `anew`, decide on the model."""
    if await _store.set_model(dimensions, version, anew):
        await _passages.prepare(await _store.state(), wait=True)
    return _store.check_model(await _store.state(), dimensions)


def options() -> Row:
    """What the URL does not say itself."""
    wanted = {"serverSelectionTimeoutMS": PATIENCE, "connectTimeoutMS": PATIENCE, "timeoutMS": 2 * PATIENCE}
    given = parse_qs(urlsplit(url().lower()).query)
    return {name: 1000 * seconds for name, seconds in wanted.items() if name.lower() not in given}


def _codes(error: BaseException) -> set[int]:
    details = (isinstance(error, OperationFailure) and error.details) or {}
    return {each.get("code", 0) for each in (details, *details.get("writeErrors", []))}


def reason(error: BaseException) -> str:
    """Without what pymongo adds: its timeouts, the state of each server, the reply as it came."""
    return re.split(r" \(configured timeouts|, Timeout: |, full error: ", " ".join(str(error).split()))[0]
