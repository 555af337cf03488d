"""Documents and search on a real PostgreSQL; each test has a database of its own."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from uuid import NAMESPACE_URL, uuid4, uuid5

import psycopg
import pytest

from app import database, embeddings
from app.models import Chunk, Document, UserError

pytestmark = pytest.mark.anyio

X, Y, Z = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]


@pytest.fixture
def empty_database(database_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    server, name = database.url().rpartition("/")[0], f"test_{uuid4().hex}"
    with psycopg.connect(database.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    # With so little data, PostgreSQL would not use the vector index if it had a choice.
    options = "?options=-c%20enable_seqscan%3Doff%20-c%20enable_sort%3Doff"
    monkeypatch.setenv("DATABASE_URL", f"{server}/{name}{options}")
    monkeypatch.setattr(embeddings, "model_name", lambda: "model-a")


@pytest.fixture
async def opened(empty_database: None) -> AsyncIterator[None]:
    async with database.lifespan():
        yield


async def save(source: str, passages: dict[str, list[float]], **metadata: str) -> Document:
    content_hash = sha256("".join(passages).encode()).hexdigest()
    document = Document(id=uuid5(NAMESPACE_URL, source), source=source, content_hash=content_hash, metadata=metadata)
    chunks = [Chunk(position=position, heading="", text=text) for position, text in enumerate(passages)]
    return await database.save_document(document, chunks, list(passages.values()))


async def found(text: str, vector: list[float], **filters: str) -> list[str]:
    return [hit.text for hit in await database.search(text, vector, filters)]


async def test_sources_with_the_same_content_are_documents_of_their_own(opened: None) -> None:
    saved = await asyncio.gather(*(save(f"{number}.md", {"alpha": X}) for number in range(8)))
    assert await database.list_documents(10) == list(saved)
    assert await found("alpha", X) == ["alpha"] * 8


async def test_a_document_that_comes_twice_at_once_is_stored_once(opened: None) -> None:
    for text in ("alpha", "beta", "gamma"):
        saved = await asyncio.gather(*(save("a.md", {text: X, "more": Y}) for _ in range(8)))
        assert await database.list_documents(10) == saved[:1]
        assert sorted(await found(text, X)) == [text, "more"]


async def test_a_changed_document_replaces_its_passages_all_or_none(opened: None) -> None:
    old = await save("a.md", {"old one": X, "old two": Y})
    with pytest.raises(psycopg.Error):
        await save("a.md", {"new one": X, "new two": [1.0]})
    assert await database.list_documents(10) == [old]
    assert await found("", X) == ["old one", "old two"]
    await save("a.md", {"new one": X})
    assert await found("", X) == ["new one"]


async def test_a_document_can_be_deleted_while_it_changes(opened: None) -> None:
    for number in range(10):
        document = await save("a.md", {f"{number}": X})
        changed, deleted = await asyncio.gather(save("a.md", {f"{number} changed": Y}), _delete_soon(document))
        assert deleted
        assert await database.get_document(document.id) in (None, changed)


async def _delete_soon(document: Document) -> bool:
    await asyncio.sleep(0.003)
    return await database.delete_document(document.id)


async def test_search_fuses_meaning_and_words(opened: None) -> None:
    await save("a.md", {"apples": X, "pears": Y, "plums": Z})
    assert await found("nothing", [0.5, 1.0, 0.8]) == ["pears", "plums", "apples"]
    assert await found("an apple", [0.5, 1.0, 0.8]) == ["apples", "pears", "plums"]


async def test_words_that_thousands_of_passages_have_do_not_count(opened: None) -> None:
    passages = {f"ordinary {number}": [1.0, number / 3000, 0.0] for number in range(2100)}
    await save("many.md", passages | {"it's an ordinary gem": Y})
    with psycopg.connect(database.url(), autocommit=True) as connection:
        connection.execute("ANALYZE")
        assert connection.execute("SELECT lexeme FROM common_words").fetchall() == [("ordinari",)]
    assert "it's an ordinary gem" in (await found("an ordinary gem, isn't it?", X))[:2]
    assert (await found("ordinary", Y))[0] == "it's an ordinary gem"  # by meaning alone


async def test_a_filter_finds_what_lies_behind_many_documents_that_do_not_match(opened: None) -> None:
    await save("other.md", {f"other {number}": [1.0, number / 1000, 0.0] for number in range(300)}, team="sales")
    await save("wanted.md", {"wanted": Y}, team="support", language="en")
    assert await found("nothing", X, team="support") == ["wanted"]
    assert [hit.text for hit in await database.read_passages("wanted.md", 0, {"team": "sales"})] == []


async def test_another_embedding_model_is_refused_until_the_documents_are_indexed_anew(
    opened: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save("a.md", {"alpha": X, "beta": Y})
    await save("changed.md", {"old": X})
    deleted = await save("deleted.md", {"deleted": X})
    with pytest.raises(UserError, match=r"3 dimensions.*2 dimensions.*`reindex`"):
        await found("alpha", [1.0, 0.0])
    monkeypatch.setattr(embeddings, "model_name", lambda: "model-b")
    with pytest.raises(UserError, match=r"model-a.*model-b.*`reindex`"):
        await save("b.md", {"gamma": Z})

    async def embed(chunks: Sequence[Chunk]) -> list[list[float]]:
        if "old" in [chunk.text for chunk in chunks]:  # half-way, all is as ever, but that it is found by words alone
            await database.ping()
            assert (await found("alpha", [1.0, 0.0]))[0] == "alpha"
            await save("changed.md", {"new": [0.9, 0.1]})
            await database.delete_document(deleted.id)
        return [[1.0, 0.0] if chunk.text == "beta" else [0.0, 1.0] for chunk in chunks]

    monkeypatch.setattr(embeddings, "embed", embed)
    async with asyncio.timeout(20):
        await database.reindex()
    assert await found("nothing", [1.0, 0.0]) == ["beta", "new", "alpha"]


async def test_more_dimensions_than_can_be_searched_are_refused_with_the_limit(opened: None) -> None:
    with pytest.raises(UserError, match=r"EMBEDDING_MODEL model-a .* 4,001 dimensions.* 4,000"):
        await save("a.md", {"alpha": [1.0] * 4001})


async def test_options_of_the_url_are_kept_beside_those_of_search(opened: None) -> None:
    async with database._pool.connection() as connection:
        shown = "SELECT current_setting('enable_sort'), current_setting('hnsw.iterative_scan')"
        assert await (await connection.execute(shown)).fetchone() == ("off", "strict_order")


async def test_connections_that_the_server_has_ended_are_replaced(opened: None) -> None:
    await database.ping()
    with psycopg.connect(database.url(), autocommit=True) as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(f"SELECT pg_terminate_backend(pid) {others}".encode())
    assert await database.list_documents(10) == []


async def test_documents_are_listed_in_pages_and_deleted_with_their_passages(opened: None) -> None:
    b, a, c = [await save(f"{name}.md", {name: X}) for name in "bac"]
    assert await database.list_documents(2) == [a, b]
    assert await database.list_documents(2, after="b.md") == [c]
    assert await database.delete_document(a.id)
    assert not await database.delete_document(a.id)
    assert (await database.get_document(a.id), await database.get_document(b.id)) == (None, b)
    assert sorted(await found("a", X)) == ["b", "c"]


def test_two_processes_migrate_at_once(empty_database: None) -> None:
    command = [sys.executable, "-c", "from app import database; database.migrate()"]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
