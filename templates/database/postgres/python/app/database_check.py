"""What `doctor` asks of a PostgreSQL, and what the migrations ask of its pgvector."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, LiteralString

import psycopg
from alembic.config import Config
from alembic.script import ScriptDirectory

from app import database, embeddings
from app.models import Fault
from app.settings import ROOT

PGVECTOR = "SELECT coalesce(installed_version, default_version) FROM pg_available_extensions WHERE name = 'vector'"
NEWER = "A newer version of this code has migrated the database: deploy that one."


async def diagnose() -> AsyncIterator[str]:
    """The server, its vector search, the schema, and whose vectors it has. Raises `UserError`."""
    url = await asyncio.to_thread(database.url)
    try:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

            async def ask(query: LiteralString) -> Any:
                return await (await connection.execute(query)).fetchone() or [None]

            [version] = await ask("SELECT current_setting('server_version')")
            yield f"PostgreSQL {version}, {'embedded' if database.is_embedded() else 'of DATABASE_URL'}"
            yield check_pgvector((await ask(PGVECTOR))[0])
            [is_migrated] = await ask("SELECT to_regclass('alembic_version') IS NOT NULL")
            yield _check_schema((await ask("SELECT version_num FROM alembic_version"))[0] if is_migrated else None)
            [stored] = await ask("SELECT name FROM embedding_model")
            if stored and stored != (wanted := embeddings.model_name()):
                cause = f"The documents are indexed with {stored}, but the embedding model now is {wanted}."
                raise Fault(cause, "Set EMBEDDING_MODEL back, or run `reindex` to compute them anew.")
            yield f"of {stored}" if stored else "none yet"
    except psycopg.Error as error:
        cause = f"The database of DATABASE_URL cannot be used: {' '.join(str(error).split())}"
        raise Fault(cause, "Start the server, or correct DATABASE_URL in .env.") from None


def check_pgvector(found: str | None) -> str:
    if not found or tuple(map(int, found.split("."))) < (0, 8, 4):
        remedy = "Install it on the server, then `ALTER EXTENSION vector UPDATE` where there is an older one."
        raise Fault(f"The database needs pgvector 0.8.4 or later, and has {found or 'none'}.", remedy)
    return f"pgvector {found}"


def _check_schema(found: str | None) -> str:
    migrations = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    head = migrations.get_current_head()
    if not found and database.is_embedded():
        raise Fault("There is none yet.", "Nothing: the first start makes it.", "warning")
    if found and found not in [each.revision for each in migrations.walk_revisions()]:
        raise Fault(f"It is at {found}, which this code does not know.", NEWER)
    if found != head:
        raise Fault(f"It has {found or 'none'}, and this code has {head}.", "Run `migrate`, as every start does.")
    return f"migrated to {head}"
