"""Documents, passages and search in PostgreSQL with pgvector.

Without DATABASE_URL, a PostgreSQL of the project's own runs in the data folder.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from alembic import command
from alembic.config import Config
from pgvector import HalfVector, Vector
from pgvector.psycopg import register_vector_async
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from pydantic_settings import BaseSettings

from app import embeddings, postgres_server
from app.models import Chunk, Document, Hit
from app.settings import FROM_ENVIRONMENT, ROOT, settings


class DatabaseSettings(BaseSettings):
    model_config = FROM_ENVIRONMENT

    database_url: str = ""
    """A PostgreSQL with pgvector 0.8 or later, `postgresql://user:password@host/name`."""


class IndexMismatchError(Exception):
    """The stored vectors are of another embedding model than the one that is set."""


_pool: AsyncConnectionPool[psycopg.AsyncConnection] | None = None


@contextmanager
def server() -> Iterator[None]:
    """Run the embedded server, for this process and its children, unless DATABASE_URL names one."""
    if DatabaseSettings().database_url:
        yield
        return
    with postgres_server.serve(settings.data_dir / "postgres") as embedded:
        os.environ["DATABASE_URL"] = embedded
        try:
            yield
        finally:
            del os.environ["DATABASE_URL"]


def url() -> str:
    return DatabaseSettings().database_url


def migrate() -> None:
    """Bring the schema up to date; several processes may do so at once."""
    command.upgrade(Config(ROOT / "alembic.ini"), "head")


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    global _pool
    await asyncio.to_thread(migrate)
    async with AsyncConnectionPool(
        url(), open=False, min_size=1, max_size=10, timeout=10, configure=_configure
    ) as _pool:
        await _pool.wait()
        yield
    _pool = None


async def ping() -> None:
    """Raise unless the database answers."""
    async with _transaction() as connection:
        await connection.execute("SELECT 1")


def is_retryable(error: BaseException) -> bool:
    return isinstance(error, psycopg.OperationalError | PoolTimeout)


async def save_document(
    document: Document, chunks: Sequence[Chunk], vectors: Sequence[list[float]]
) -> Document:
    """Store a document and its passages, all or nothing, in place of an older one of its source.

    Content that is there already is kept as it is: the document that holds it is returned.
    """
    async with _transaction() as connection:
        await connection.execute("LOCK TABLE embedding_model IN SHARE ROW EXCLUSIVE MODE")
        if stored := await find_document(document.content_hash):
            return stored
        if vectors and not await _same_model(connection, len(vectors[0])):
            await _build_index(connection, len(vectors[0]))
        await connection.execute(
            """
            INSERT INTO documents (id, source, content_hash, metadata, chunks)
            VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (id) DO UPDATE SET content_hash = excluded.content_hash,
                metadata = excluded.metadata, chunks = excluded.chunks
            """,
            [
                document.id,
                document.source,
                document.content_hash,
                Jsonb(document.metadata),
                len(chunks),
            ],
        )
        await connection.execute("DELETE FROM chunks WHERE document_id = %s", [document.id])
        await connection.cursor().executemany(
            "INSERT INTO chunks (document_id, position, heading, text, embedding)"
            " VALUES (%s, %s, %s, %s, %s)",
            [
                (document.id, chunk.position, chunk.heading, chunk.text, Vector(vector))
                for chunk, vector in zip(chunks, vectors, strict=True)
            ],
        )
    return document.model_copy(update={"chunks": len(chunks)})


async def search(
    text: str, vector: list[float], filters: dict[str, str], limit: int = 8
) -> list[Hit]:
    """The passages nearest in meaning and those that share words, fused by reciprocal rank.

    `filters` are pairs that a document's metadata must contain. Raises `IndexMismatchError`.
    """
    async with _transaction() as connection:
        if not await _same_model(connection, len(vector)):
            return []  # nothing is stored yet
        query = SEARCH.format(dimensions=sql.Literal(len(vector)))
        values = {
            "text": text,
            "vector": HalfVector(vector),
            "filters": Jsonb(filters),
            "limit": limit,
        }
        return await _hits(connection, query, values)


async def read_passages(
    source: str, position: int, filters: dict[str, str], limit: int = 4
) -> list[Hit]:
    async with _transaction() as connection:
        values = {"source": source, "position": position, "filters": Jsonb(filters), "limit": limit}
        return await _hits(connection, READ, values)


async def find_document(content_hash: str) -> Document | None:
    return await _document("content_hash = %s", content_hash)


async def get_document(document_id: UUID) -> Document | None:
    return await _document("id = %s", document_id)


async def list_documents(limit: int, after: str = "") -> list[Document]:
    """By source; `after` is the last source of the page before."""
    async with _transaction() as connection:
        cursor = connection.cursor(row_factory=class_row(Document))
        await cursor.execute(
            "SELECT * FROM documents WHERE source > %s ORDER BY source LIMIT %s", [after, limit]
        )
        return await cursor.fetchall()


async def delete_document(document_id: UUID) -> bool:
    async with _transaction() as connection:
        deleted = await connection.execute("DELETE FROM documents WHERE id = %s", [document_id])
        return deleted.rowcount > 0


async def reindex(embed: Callable[[list[str]], Awaitable[list[list[float]]]]) -> None:
    """Compute all vectors anew, for another embedding model. Searches wait until it is done."""
    async with _transaction() as connection:
        await connection.execute("LOCK TABLE chunks, embedding_model")
        await connection.execute("DELETE FROM embedding_model")
        await connection.execute("DROP INDEX IF EXISTS chunks_embedding")
        vectors: list[list[float]] = []
        chunks = await connection.execute("SELECT document_id, position, text FROM chunks")
        while rows := await chunks.fetchmany(256):
            vectors = await embed([text for _, _, text in rows])
            await connection.cursor().executemany(
                "UPDATE chunks SET embedding = %s WHERE document_id = %s AND position = %s",
                [(Vector(v), row[0], row[1]) for v, row in zip(vectors, rows, strict=True)],
            )
        if vectors:
            await _build_index(connection, len(vectors[0]))


SEARCH = sql.SQL(
    """
    WITH semantic AS (
        SELECT *, row_number() OVER (ORDER BY distance) AS rank FROM (
            SELECT document_id, position,
                   embedding::halfvec({dimensions}) <=> %(vector)s AS distance
            FROM chunks JOIN documents ON documents.id = document_id
            WHERE metadata @> %(filters)s ORDER BY distance LIMIT 40) nearest
    ), words AS (
        SELECT replace(plainto_tsquery('english', %(text)s)::text, '&', '|')::tsquery AS query
    ), keyword AS (
        SELECT *, row_number() OVER (ORDER BY relevance DESC) AS rank FROM (
            SELECT document_id, position, ts_rank_cd(chunks.words, query, 1) AS relevance
            FROM words, chunks JOIN documents ON documents.id = document_id
            WHERE chunks.words @@ query AND metadata @> %(filters)s
            ORDER BY relevance DESC LIMIT 40) matching
    ), fused AS (
        SELECT document_id, position, sum(1.0 / (60 + rank))::float AS score
        FROM (SELECT document_id, position, rank FROM semantic
              UNION ALL SELECT document_id, position, rank FROM keyword) ranked
        GROUP BY document_id, position
    )
    SELECT document_id, source, position, heading, text, score
    FROM fused JOIN chunks USING (document_id, position)
    JOIN documents ON documents.id = document_id
    ORDER BY score DESC, source, position LIMIT %(limit)s
    """
)

READ = sql.SQL(
    """
    SELECT document_id, source, position, heading, text, 0.0 AS score
    FROM chunks JOIN documents ON documents.id = document_id
    WHERE source = %(source)s AND position >= %(position)s AND metadata @> %(filters)s
    ORDER BY position LIMIT %(limit)s
    """
)


async def _configure(connection: psycopg.AsyncConnection) -> None:
    await register_vector_async(connection)
    # With a filter, go on through the index until there are enough that match.
    await connection.execute("SET hnsw.iterative_scan = strict_order")
    await connection.commit()


@asynccontextmanager
async def _transaction() -> AsyncIterator[psycopg.AsyncConnection]:
    assert _pool, "the database is open only inside `lifespan`"
    async with _pool.connection() as connection, connection.transaction():
        yield connection


async def _hits(
    connection: psycopg.AsyncConnection, query: sql.SQL | sql.Composed, values: dict[str, Any]
) -> list[Hit]:
    cursor = connection.cursor(row_factory=class_row(Hit))
    await cursor.execute(query, values)
    return await cursor.fetchall()


async def _document(condition: LiteralString, value: Any) -> Document | None:
    async with _transaction() as connection:
        cursor = connection.cursor(row_factory=class_row(Document))
        await cursor.execute(sql.SQL("SELECT * FROM documents WHERE " + condition), [value])
        return await cursor.fetchone()


async def _same_model(connection: psycopg.AsyncConnection, dimensions: int) -> bool:
    """False where no vector is stored yet. Raises when those stored are of another model."""
    wanted = (embeddings.model_name(), dimensions)
    found = await connection.execute("SELECT name, dimensions FROM embedding_model")
    stored = await found.fetchone()
    if stored and stored != wanted:
        raise IndexMismatchError(
            f"The documents are indexed with {stored[0]} ({stored[1]} dimensions), but the"
            f" embedding model now is {wanted[0]} ({wanted[1]} dimensions)."
            " Set EMBEDDING_MODEL back, or run `reindex` to compute their vectors anew."
        )
    return stored is not None


async def _build_index(connection: psycopg.AsyncConnection, dimensions: int) -> None:
    await connection.execute(
        "INSERT INTO embedding_model (name, dimensions) VALUES (%s, %s)",
        [embeddings.model_name(), dimensions],
    )
    create = sql.SQL(
        "CREATE INDEX chunks_embedding ON chunks USING hnsw"
        " ((embedding::halfvec({})) halfvec_cosine_ops)"
    )
    await connection.execute(create.format(sql.Literal(dimensions)))
