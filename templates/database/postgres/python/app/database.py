"""Documents, passages and search in PostgreSQL with pgvector. Without DATABASE_URL, an embedded server runs."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, LiteralString, TypeVar
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from pydantic_settings import BaseSettings
from sqlalchemy.exc import OperationalError

from app import embeddings
from app.models import Chunk, Document, Hit, UserError
from app.settings import FROM_ENVIRONMENT, ROOT, settings

T = TypeVar("T")
Query = LiteralString | sql.Composed
PATIENCE = 5  # seconds that it may take to connect, or to see whether a connection is still good


class DatabaseSettings(BaseSettings):
    model_config = FROM_ENVIRONMENT

    database_url: str = ""
    """A PostgreSQL with pgvector 0.8.4 or later, `postgresql://user:password@host/name`."""


_pool: AsyncConnectionPool[psycopg.AsyncConnection] | None = None
_embedded_url: Callable[[], str] | None = None


@contextmanager
def server() -> Iterator[None]:
    """Run the embedded server, for this process and its children, unless DATABASE_URL names one.

    It starts in the background: `url` waits for it.
    """
    global _embedded_url
    # To libpq itself, since DBOS and Alembic connect as well: give up soon, and only take a server that can write.
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(PATIENCE))
    os.environ.setdefault("PGTARGETSESSIONATTRS", "read-write")
    if DatabaseSettings().database_url or _embedded_url:
        yield
        return
    from embedded import postgres  # not needed in production

    with postgres.serve(settings.data_dir / "postgres") as _embedded_url:
        try:
            yield
        finally:
            _embedded_url = None
            os.environ.pop("DATABASE_URL", None)


def is_embedded() -> bool:
    """Whether this process runs the embedded server."""
    return _embedded_url is not None


def url() -> str:
    """In libpq's form; SQLAlchemy's and Heroku's are understood as well. Raises `UserError`, without the password."""
    if _embedded_url and "DATABASE_URL" not in os.environ:
        os.environ["DATABASE_URL"] = _embedded_url()
    given = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", DatabaseSettings().database_url)
    if given and not re.fullmatch(r"postgresql://(([^@/?#%]|%[\da-fA-F]{2})*@)?[^@]*", given):
        form = "postgresql://user:password@host/name, with %40 for @ in a password, %2F for / and %25 for %"
        raise UserError(f"DATABASE_URL is not of the form {form}.")
    return given


def migrate() -> None:
    """Bring the schema up to date; several processes may do so at once. Raises `UserError` where it cannot."""
    from alembic import command
    from alembic.config import Config

    command.upgrade(Config(ROOT / "alembic.ini"), "head")


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    global _pool
    await asyncio.to_thread(migrate)
    # Enough for the nearest of 100,000 passages; with a filter, on through the index until enough of them match.
    options = {"options": "-c hnsw.ef_search=400 -c hnsw.iterative_scan=strict_order"}
    size: dict[str, Any] = {"min_size": 1, "max_size": 10}
    async with AsyncConnectionPool(url(), kwargs=options, open=False, check=_check, timeout=PATIENCE, **size) as _pool:
        yield


async def ping() -> None:
    """Raise unless the database answers."""
    async with _transaction():
        pass


def is_retryable(error: BaseException) -> bool:
    """Whether the database could not do its part, for now: no answer, no connection left, no space, no writes."""
    return isinstance(getattr(error, "orig", error), UNAVAILABLE)  # SQLAlchemy's errors have an original


def explain(error: BaseException) -> str:
    """What a retryable error says, in a line; up to the colon, for everybody."""
    original = getattr(error, "orig", error)
    wrong = "is full" if isinstance(original, psycopg.errors.DiskFull) else "does not answer"
    return f"The database {wrong}: {' '.join(str(original).split())}"


async def save_document(document: Document, chunks: Sequence[Chunk], vectors: Sequence[list[float]]) -> Document:
    """Store a document and its passages, all or nothing, in place of an older one of its source. Where another source
    has the same content, its document stays and is returned. Raises `UserError` for another model's vectors."""
    async with _transaction() as connection:
        # One at a time: the same content can come in twice at once, and the first vectors decide on the model.
        await connection.execute("LOCK TABLE embedding_model IN SHARE ROW EXCLUSIVE MODE")
        await connection.execute("DELETE FROM documents WHERE id = %s", [document.id])
        same_content = "SELECT * FROM documents WHERE content_hash = %s"
        for stored in await _fetch(connection, Document, same_content, [document.content_hash]):
            return stored
        if not await _same_model(connection, len(vectors[0])):
            await _build_index(connection, len(vectors[0]))
        saved = document.model_copy(update={"chunks": len(chunks)})
        await connection.execute(
            "INSERT INTO documents (id, source, content_hash, metadata, chunks)"
            " VALUES (%(id)s, %(source)s, %(content_hash)s, %(metadata)s, %(chunks)s)",
            saved.model_dump() | {"metadata": Jsonb(saved.metadata)},
        )
        await connection.cursor().executemany(
            "INSERT INTO chunks (document_id, position, heading, text, embedding) VALUES (%s, %s, %s, %s, %s::vector)",
            [(document.id, c.position, c.heading, c.text, str(v)) for c, v in zip(chunks, vectors, strict=True)],
        )
    return saved


async def search(text: str, vector: list[float], filters: dict[str, str], limit: int = 8) -> list[Hit]:
    """The passages nearest in meaning and those that share words, fused by reciprocal rank, of documents whose metadata
    contain the pairs in `filters`. Raises `UserError` for another model's vectors."""
    async with _transaction() as connection:
        if not await _same_model(connection, len(vector)):
            return []  # no document either
        query = sql.SQL(SEARCH).format(dimensions=sql.Literal(len(vector)))
        values = {"text": text, "vector": str(vector), "filters": Jsonb(filters), "limit": limit}
        return await _fetch(connection, Hit, query, values)


async def read_passages(source: str, position: int, filters: dict[str, str], limit: int = 4) -> list[Hit]:
    """The passages of a document from `position` on."""
    query: LiteralString = """
        SELECT document_id, source, position, heading, text, 0.0 AS score
        FROM chunks JOIN documents ON documents.id = document_id
        WHERE source = %s AND position >= %s AND metadata @> %s ORDER BY position LIMIT %s
    """
    async with _transaction() as connection:
        return await _fetch(connection, Hit, query, [source, position, Jsonb(filters), limit])


async def get_document(document_id: UUID) -> Document | None:
    async with _transaction() as connection:
        query: LiteralString = "SELECT * FROM documents WHERE id = %s"
        return next(iter(await _fetch(connection, Document, query, [document_id])), None)


async def list_documents(limit: int, after: str = "") -> list[Document]:
    """By source; `after` is the last source of the page before."""
    query: LiteralString = "SELECT * FROM documents WHERE source > %s ORDER BY source LIMIT %s"
    async with _transaction() as connection:
        return await _fetch(connection, Document, query, [after, limit])


async def delete_document(document_id: UUID) -> bool:
    async with _transaction() as connection:
        return (await connection.execute("DELETE FROM documents WHERE id = %s", [document_id])).rowcount > 0


async def reindex(embed: Callable[[list[str]], Awaitable[list[list[float]]]]) -> None:
    """Compute all vectors anew, for another embedding model. Searches wait until it is done."""
    async with _transaction() as connection:
        await connection.execute("LOCK TABLE chunks, embedding_model")
        await connection.execute("DELETE FROM embedding_model")
        await connection.execute("DROP INDEX IF EXISTS chunks_embedding")
        texts = "SELECT heading || E'\\n' || text, document_id, position FROM chunks"  # as ingestion embeds them
        chunks = await (await connection.execute(texts)).fetchall()
        for start in range(0, len(chunks), 256):
            batch = chunks[start : start + 256]
            vectors = await embed([chunk[0] for chunk in batch])
            await connection.cursor().executemany(
                "UPDATE chunks SET embedding = %s::vector WHERE document_id = %s AND position = %s",
                [(str(vector), *chunk[1:]) for vector, chunk in zip(vectors, batch, strict=True)],
            )
        if chunks:
            await _build_index(connection, len(vectors[0]))


UNAVAILABLE = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction, PoolTimeout, OperationalError)
SEARCH = """
    WITH semantic AS (
        SELECT *, row_number() OVER (ORDER BY distance) AS rank FROM (
            SELECT document_id, position, embedding::halfvec({dimensions}) <=> %(vector)s::halfvec AS distance
            FROM chunks JOIN documents ON documents.id = document_id
            WHERE metadata @> %(filters)s ORDER BY distance LIMIT 40) nearest
    ), words AS (
        SELECT string_agg(quote_literal(lexeme), '|')::tsquery AS query
        FROM unnest(to_tsvector('english', %(text)s)) WHERE lexeme NOT IN (SELECT lexeme FROM common_words)
    ), keyword AS (
        SELECT *, row_number() OVER (ORDER BY relevance DESC) AS rank FROM (
            SELECT document_id, position, ts_rank_cd(chunks.words, query, 1) AS relevance
            FROM words, chunks JOIN documents ON documents.id = document_id
            WHERE chunks.words @@ query AND metadata @> %(filters)s ORDER BY relevance DESC LIMIT 40) matching
    ), fused AS (
        SELECT document_id, position, sum(1.0 / (60 + rank))::float AS score
        FROM (SELECT document_id, position, rank FROM semantic
              UNION ALL SELECT document_id, position, rank FROM keyword) ranked
        GROUP BY document_id, position
    )
    SELECT document_id, source, position, heading, text, score
    FROM fused JOIN chunks USING (document_id, position) JOIN documents ON documents.id = document_id
    ORDER BY score DESC, source, position LIMIT %(limit)s
"""


@asynccontextmanager
async def _transaction() -> AsyncIterator[psycopg.AsyncConnection]:
    assert _pool, "the database is open only inside `lifespan`"
    async with _pool.connection() as connection, connection.transaction():
        yield connection


async def _check(connection: psycopg.AsyncConnection) -> None:
    """Of a connection from the pool: its server may be gone, or hang."""
    answer = asyncio.create_task(AsyncConnectionPool.check_connection(connection))
    if not (await asyncio.wait([answer], timeout=PATIENCE))[0]:
        answer.cancel()  # is not waited for: where the server hangs, that takes long as well
        raise PoolTimeout
    await answer


async def _fetch(connection: psycopg.AsyncConnection, row: type[T], query: Query, values: Any) -> list[T]:
    cursor = connection.cursor(row_factory=class_row(row))
    await cursor.execute(query, values)
    return await cursor.fetchall()


async def _same_model(connection: psycopg.AsyncConnection, dimensions: int) -> bool:
    """False where no vector is stored yet. Raises when those stored are of another model."""
    wanted = (embeddings.model_name(), dimensions)
    stored = await (await connection.execute("SELECT name, dimensions FROM embedding_model")).fetchone()
    if stored and stored != wanted:
        raise UserError(
            f"The documents are indexed with {stored[0]} ({stored[1]} dimensions), but the embedding model now is"
            f" {wanted[0]} ({wanted[1]} dimensions). Set EMBEDDING_MODEL back, or run `reindex` to compute them anew."
        )
    return stored is not None


async def _build_index(connection: psycopg.AsyncConnection, dimensions: int) -> None:
    await connection.execute("INSERT INTO embedding_model VALUES (%s, %s)", [embeddings.model_name(), dimensions])
    index = "CREATE INDEX chunks_embedding ON chunks USING hnsw ((embedding::halfvec({})) halfvec_cosine_ops)"
    await connection.execute(sql.SQL(index).format(sql.Literal(dimensions)))
