"""What `doctor` asks of a MongoDB. It reads, and writes nothing."""

import asyncio
from collections.abc import AsyncIterator

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from app import database, embeddings
from app.memory import Memory
from app.models import Fault
from app.storage import Row
from app.vector_search import VectorSearch


async def diagnose() -> AsyncIterator[str]:
    """The server, its vector search, the schema, and whose vectors it has. Raises `UserError`."""
    from migrations import pending

    url = await asyncio.to_thread(database.url)
    try:
        async with AsyncMongoClient[Row](url, **database.options()) as client:
            found = client.get_default_database("app")
            server = await found.command("buildInfo")
            if server["versionArray"] < [7]:
                raise Fault(f"MongoDB {server['version']} is too old.", "Let DATABASE_URL name one of 7.0 or later.")
            emulated = ", emulated by SecantusDB" if "secantusVersion" in server else ""
            await found.migrations.find_one()  # as somebody who may read
            yield f"MongoDB {server['version']}{emulated or ', of DATABASE_URL'}"
            has_index = await VectorSearch(found.chunks).is_supported()
            yield VectorSearch.METHOD if has_index else f"{Memory.METHOD}: the server has no {VectorSearch.METHOD}"
            recorded = {each["_id"] async for each in found.migrations.find()}
            if not recorded and database.is_embedded():
                raise Fault("There is none yet.", "Nothing: the first start makes it.", "warning")
            if missing := pending(recorded):
                raise Fault(f"Migration {missing[0]} has not run.", "Run `migrate`, as every start does.")
            yield f"migrated to {max(recorded)}"
            stored = (await found.state.find_one() or {}).get("model", {}).get("name")
            if stored and stored != (wanted := embeddings.model_name()):
                cause = f"The documents are indexed with {stored}, but the embedding model now is {wanted}."
                raise Fault(cause, "Set EMBEDDING_MODEL back, or run `reindex` to compute them anew.")
            yield f"of {stored}" if stored else "none yet"
    except PyMongoError as error:
        cause = f"The database of DATABASE_URL cannot be used: {database.reason(error)}"
        raise Fault(cause, "Start the server, or correct DATABASE_URL in .env.") from None
