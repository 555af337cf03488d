"""Documents and search on a real PostgreSQL; each test has a database of its own."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
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


async def test_the_same_content_is_stored_once(opened: None) -> None:
    for text in ("alpha", "beta", "gamma", "delta"):
        saved = await asyncio.gather(*(save(f"{text} {number}.md", {text: X}) for number in range(8)))
        assert saved == [await save("later.md", {text: X})] * 8
    assert len(await database.list_documents(10)) == 4
    assert len(await found("alpha", X)) == 4


async def test_a_changed_document_replaces_its_passages_all_or_none(opened: None) -> None:
    old = await save("a.md", {"old one": X, "old two": Y})
    with pytest.raises(psycopg.Error):
        await save("a.md", {"new one": X, "new two": [1.0]})
    assert await database.list_documents(10) == [old]
    assert await found("", X) == ["old one", "old two"]
    await save("a.md", {"new one": X})
    assert await found("", X) == ["new one"]


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
    with pytest.raises(UserError, match=r"3 dimensions.*2 dimensions.*`reindex`"):
        await found("alpha", [1.0, 0.0])
    monkeypatch.setattr(embeddings, "model_name", lambda: "model-b")
    with pytest.raises(UserError, match=r"model-a.*model-b.*`reindex`"):
        await save("b.md", {"gamma": Z})

    async def embed(texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0] if text == "\nbeta" else [0.0, 1.0] for text in texts]

    await database.reindex(embed)
    assert await found("nothing", [1.0, 0.0]) == ["beta", "alpha"]


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
