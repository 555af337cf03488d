"""The documents of a PostgreSQL with all that they consist of, as migrate_data.py reads and writes them."""

import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg.types.json import Jsonb

from app.models import Chunk, Document, UserError

Store = psycopg.Connection
Stored = tuple[Document, list[Chunk], list["array[float]"]]
NAME, FOLDER, SCHEMA = "PostgreSQL", "postgres", "0001"


@contextmanager
def connect(url: str, setting: str) -> Iterator[Store]:
    """Raises `UserError`, also for what goes wrong with the database inside the block."""
    url = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)
    if not re.fullmatch(r"postgresql://(([^@/?#%]|%[\da-fA-F]{2})*@)?[^@]*", url):
        form = "postgresql://user:password@host/name, with %40 for @ in a password, %2F for / and %25 for %"
        raise UserError(f"{setting} is not of the form {form}.")
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            yield connection
    except psycopg.Error as error:
        raise UserError(f"{NAME}, at {setting}: {' '.join(str(error).split())}") from error


def check_schema(store: Store) -> None:
    """Raise `UserError` where it is not the one that is read here."""
    table = store.execute("SELECT to_regclass('alembic_version')").fetchone()
    if table == (None,):
        raise UserError(f"The {NAME} to move from has no documents of this project: no migration has run there.")
    [found] = store.execute("SELECT string_agg(version_num, ', ') FROM alembic_version").fetchone() or [None]
    if found != SCHEMA:
        raise UserError(f"The schema to move from is {found}, not {SCHEMA}: adapt migrate_data_parts/old.py.")


def model(store: Store) -> tuple[str, int] | None:
    """The embedding model and its dimensions; None where no document was ever stored."""
    found = store.execute("SELECT name, dimensions FROM embedding_model").fetchone()
    return found and (found[0], found[1])


def count(store: Store) -> int:
    [found] = store.execute("SELECT count(*) FROM documents").fetchone() or [0]
    return int(found)


def sizes(store: Store) -> Iterator[tuple[str, int]]:
    """The source of each document, in their order, and how many passages it has."""
    query, after = "SELECT source, chunks FROM documents WHERE source > %s ORDER BY source LIMIT 1000", ""
    while page := store.execute(query, [after]).fetchall():
        yield from page
        after = page[-1][0]


def read(store: Store, sources: Sequence[str]) -> dict[str, Stored]:
    """By source. A vector that is missing is empty."""
    found: dict[str, Stored] = {}
    rows = store.execute(
        "SELECT id, source, content_hash, metadata, documents.chunks, position, heading, text, embedding::real[]"
        " FROM documents LEFT JOIN chunks ON document_id = id WHERE source = ANY(%s) ORDER BY source, position",
        [list(sources)],
        binary=True,  # exact
    )
    for id, source, content_hash, metadata, size, position, heading, text, embedding in rows:
        if source not in found:
            fields = {"id": id, "source": source, "content_hash": content_hash, "metadata": metadata, "chunks": size}
            found[source] = Document.model_validate(fields), [], []
        _, chunks, vectors = found[source]
        if position is not None:
            chunks.append(Chunk(position=position, heading=heading, text=text))
            vectors.append(array("f", embedding or []))
    return found


def write(store: Store, documents: Sequence[Stored]) -> None:
    """All or none, where there are none of these sources."""
    with store.transaction(), store.cursor() as cursor:
        with cursor.copy("COPY documents (id, source, content_hash, metadata, chunks) FROM STDIN") as copy:
            for document, _, _ in documents:
                copy.write_row(list((document.model_dump() | {"metadata": Jsonb(document.metadata)}).values()))
        with cursor.copy("COPY chunks (document_id, position, heading, text, embedding) FROM STDIN") as copy:
            for document, chunks, vectors in documents:
                for chunk, vector in zip(chunks, vectors, strict=True):
                    copy.write_row([document.id, chunk.position, chunk.heading, chunk.text, str(list(vector))])
