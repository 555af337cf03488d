"""What every database does. The folder of each tool has the fixture that gives a test a database of its own."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence

import pytest
from documents import X, Y, Z, found, save

from app import database, embeddings
from app.models import Chunk, Document, Fault, UserError

pytestmark = pytest.mark.anyio


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
    with pytest.raises(Exception, match="dimensions"):
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
    with pytest.raises(UserError, match=r"EMBEDDING_MODEL model-a .* 9,001 dimensions.* \d,\d+"):
        await save("a.md", {"alpha": [1.0] * 9001})


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


async def test_doctor_is_told_what_there_is_and_what_is_amiss(
    empty_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):  # it changes nothing
        found, fault = await _diagnose()
        assert len(found) == 2  # the server and its vector search
        assert fault and fault.status == "warning"
    async with database.lifespan():
        assert [len((await _diagnose())[0]), (await _diagnose())[0][-1]] == [4, "none yet"]
        await save("a.md", {"alpha": X})
        assert (await _diagnose())[0][-1] == "of model-a"
        monkeypatch.setattr(embeddings, "model_name", lambda: "model-b")
        found, fault = await _diagnose()
        assert (len(found), fault and fault.status) == (3, "failed")
        assert "model-a" in str(fault) and "model-b" in str(fault)


async def _diagnose() -> tuple[list[str], Fault | None]:
    found, findings = list[str](), database.diagnose()
    try:
        while detail := await anext(findings, None):
            found.append(detail)
    except Fault as fault:
        return found, fault
    return found, None
