"""Documents, passages and search in PostgreSQL with pgvector. Without DATABASE_URL, an embedded server runs."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, LiteralString, TypeVar
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from app import embeddings
from app.models import Chunk, Document, Hit, UserError
from app.settings import ROOT, FromEnvironment, settings

T = TypeVar("T")
PATIENCE = 5  # seconds that it may take to connect, or to see whether a connection is still good
# Enough for the nearest of 100,000 passages; with a filter, on through the index until enough of them match.
OPTIONS = "-c hnsw.ef_search=400 -c hnsw.iterative_scan=strict_order"
PASSAGES: LiteralString = """
    SELECT document_id, source, position, heading, text, 0.0 AS score
    FROM chunks JOIN documents ON documents.id = document_id WHERE """


class DatabaseSettings(FromEnvironment):
    database_url: str = ""
    """A PostgreSQL with pgvector 0.8.4 or later, `postgresql://user:password@host/name`."""


_pool: AsyncConnectionPool[psycopg.AsyncConnection]  # there is one inside `lifespan`
_embedded_url: Callable[[], str] | None = None


@contextmanager
def server() -> Iterator[None]:
    """Run the embedded server, for this process and its children, unless DATABASE_URL names one; `url` waits for it."""
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
    if _embedded_url and not DatabaseSettings().database_url:
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
    kwargs = {"autocommit": True, "options": f"{OPTIONS} {conninfo_to_dict(url()).get('options', '')}"}
    _pool = AsyncConnectionPool(
        url(), min_size=1, max_size=10, kwargs=kwargs, open=False, check=_check, timeout=PATIENCE
    )
    async with _pool:
        yield


async def ping() -> str:
    """Raise unless the database answers. Returns how it searches by meaning."""
    async with _pool.connection():  # has been checked
        return "HNSW index"


def diagnose() -> AsyncIterator[str]:
    from app import database_check  # it imports this module

    return database_check.diagnose()


def is_retryable(error: BaseException) -> bool:
    """Whether the database could not do its part, for now: no answer, no connection left, no space, no writes."""
    return isinstance(error, UNAVAILABLE) and not isinstance(error, psycopg.errors.ProgramLimitExceeded)


def explain(error: BaseException) -> str:
    """What a retryable error says, in a line; up to the colon, for everybody."""
    wrong = "is full" if isinstance(error, psycopg.errors.DiskFull) else "does not answer"
    return f"The database {wrong}: {' '.join(str(error).split())}"


async def save_document(document: Document, chunks: Sequence[Chunk], vectors: Sequence[list[float]]) -> Document:
    """Store a document and its passages, all or nothing, in place of an older one of its source. Raises `UserError`
    for vectors of another model."""
    saved = document.model_copy(update={"chunks": len(chunks)})
    async with _storing(len(vectors[0])) as connection:
        await connection.execute(
            "INSERT INTO documents (id, source, content_hash, metadata, chunks)"
            " VALUES (%(id)s, %(source)s, %(content_hash)s, %(metadata)s, %(chunks)s) ON CONFLICT (id) DO UPDATE"
            " SET content_hash = excluded.content_hash, metadata = excluded.metadata, chunks = excluded.chunks",
            saved.model_dump() | {"metadata": Jsonb(saved.metadata)},
        )
        await connection.execute("DELETE FROM chunks WHERE document_id = %s", [document.id])
        await connection.cursor().executemany(
            "INSERT INTO chunks (document_id, position, heading, text, embedding) VALUES (%s, %s, %s, %s, %s::vector)",
            [(document.id, c.position, c.heading, c.text, str(v)) for c, v in zip(chunks, vectors, strict=True)],
        )
    return saved


async def search(text: str, vector: list[float], filters: dict[str, str], limit: int = 8) -> list[Hit]:
    """The passages nearest in meaning and those that share words, fused by reciprocal rank, of documents whose metadata
    contain the pairs in `filters`. Raises `UserError` for another model's vector."""
    query = sql.SQL(SEARCH).format(dimensions=sql.Literal(len(vector)))
    values = {"text": text, "vector": str(vector), "filters": Jsonb(filters), "limit": limit}
    hits = await _fetch(Hit, query, values | {"model": embeddings.model_name()})
    if not hits:
        async with _pool.connection() as connection:
            await _check_model(connection, len(vector))
    return hits


async def read_passages(source: str, position: int, filters: dict[str, str], limit: int = 4) -> list[Hit]:
    """The passages of a document from `position` on."""
    query = PASSAGES + "source = %s AND position >= %s AND metadata @> %s ORDER BY position LIMIT %s"
    return await _fetch(Hit, query, [source, position, Jsonb(filters), limit])


async def get_document(document_id: UUID) -> Document | None:
    return next(iter(await _fetch(Document, "SELECT * FROM documents WHERE id = %s", [document_id])), None)


async def list_documents(limit: int, after: str = "") -> list[Document]:
    """By source; `after` is the last source of the page before."""
    return await _fetch(Document, "SELECT * FROM documents WHERE source > %s ORDER BY source LIMIT %s", [after, limit])


async def delete_document(document_id: UUID) -> bool:
    async with _pool.connection() as connection:
        return (await connection.execute("DELETE FROM documents WHERE id = %s", [document_id])).rowcount > 0


async def reindex() -> None:
    """Compute all vectors anew, for another embedding model. A passage whose turn is to come is found by its words."""
    [vector] = await embeddings.embed([Chunk(position=0, heading="", text="one for its length")])
    async with _storing(len(vector), anew=True):
        pass
    update: LiteralString = "UPDATE chunks SET embedding = %s::vector WHERE document_id = %s AND position = %s"
    while passages := await _fetch(Hit, PASSAGES + "embedding IS NULL LIMIT 32", []):
        vectors = await embeddings.embed(passages)
        values = [(str(v), p.document_id, p.position) for p, v in zip(passages, vectors, strict=True)]
        async with _storing(len(vectors[0])) as connection:  # but not where a newer document has its own meanwhile
            await connection.cursor().executemany(update + " AND embedding IS NULL", values)


UNAVAILABLE = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction, PoolTimeout)
SEARCH = """
    WITH semantic AS (
        SELECT document_id, position, embedding::halfvec({dimensions}) <=> %(vector)s::halfvec AS distance
        FROM chunks JOIN documents ON documents.id = document_id
        WHERE metadata @> %(filters)s AND embedding IS NOT NULL ORDER BY distance LIMIT 40
    ), words AS (
        SELECT string_agg(quote_literal(lexeme), '|')::tsquery AS query
        FROM unnest(to_tsvector('english', %(text)s)) WHERE lexeme NOT IN (SELECT lexeme FROM common_words)
    ), keyword AS (
        SELECT document_id, position, ts_rank_cd(chunks.words, query, 1) AS relevance
        FROM words, chunks JOIN documents ON documents.id = document_id
        WHERE chunks.words @@ query AND metadata @> %(filters)s ORDER BY relevance DESC LIMIT 40
    ), fused AS (
        SELECT document_id, position, sum(1.0 / (60 + rank))::float AS score FROM (
            SELECT document_id, position, row_number() OVER (ORDER BY distance) AS rank FROM semantic
            UNION ALL SELECT document_id, position, row_number() OVER (ORDER BY relevance DESC) FROM keyword) ranked
        GROUP BY document_id, position
    )
    SELECT document_id, source, position, heading, text, score
    FROM fused JOIN chunks USING (document_id, position) JOIN documents ON documents.id = document_id
    WHERE EXISTS (SELECT FROM embedding_model WHERE name = %(model)s AND dimensions = {dimensions})
    ORDER BY score DESC, source, position LIMIT %(limit)s
"""


async def _check(connection: psycopg.AsyncConnection) -> None:
    """Of a connection from the pool: its server may be gone, or hang."""
    answer = asyncio.create_task(AsyncConnectionPool.check_connection(connection))
    if not (await asyncio.wait([answer], timeout=PATIENCE))[0]:
        answer.cancel()  # is not waited for: where the server hangs, that takes long as well
        raise PoolTimeout
    await answer


async def _fetch(row: type[T], query: LiteralString | sql.Composed, values: Any) -> list[T]:
    async with _pool.connection() as connection, connection.cursor(row_factory=class_row(row)) as cursor:
        return await (await cursor.execute(query, values)).fetchall()


@asynccontextmanager
async def _storing(dimensions: int, anew: bool = False) -> AsyncIterator[psycopg.AsyncConnection]:
    """A transaction that stores vectors, one at a time: the first ones, also of those `anew`, decide on the model."""
    name = embeddings.model_name()
    if dimensions > 4000:
        most = "the most that PostgreSQL can search by are 4,000"
        raise UserError(f"EMBEDDING_MODEL {name} gives vectors of {dimensions:,} dimensions; {most}. Set another one.")
    async with _pool.connection() as connection, connection.transaction():
        await connection.execute("LOCK TABLE embedding_model IN SHARE ROW EXCLUSIVE MODE")
        if anew or not await _check_model(connection, dimensions):
            await connection.execute("ALTER TABLE chunks DROP embedding, ADD embedding vector")  # takes no time
            await connection.execute("DELETE FROM embedding_model")
            await connection.execute("INSERT INTO embedding_model VALUES (%s, %s)", [name, dimensions])
            index = "CREATE INDEX chunks_embedding ON chunks USING hnsw ((embedding::halfvec({})) halfvec_cosine_ops)"
            await connection.execute(sql.SQL(index).format(sql.Literal(dimensions)))
        yield connection


async def _check_model(connection: psycopg.AsyncConnection, dimensions: int) -> bool:
    """False where no vector is stored yet. Raises when those stored are of another model."""
    wanted = (embeddings.model_name(), dimensions)
    stored = await (await connection.execute("SELECT name, dimensions FROM embedding_model")).fetchone()
    if stored and stored != wanted:
        raise UserError(
            f"The documents are indexed with {stored[0]} ({stored[1]} dimensions), but the embedding model now is"
            f" {wanted[0]} ({wanted[1]} dimensions). Set EMBEDDING_MODEL back, or run `reindex` to compute them anew."
        )
    return stored is not None
