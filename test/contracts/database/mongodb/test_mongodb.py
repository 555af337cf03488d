"""What MongoDB alone has: versions in place of transactions, two ways to search, and errors of its own."""

import asyncio
from uuid import uuid4

import pytest
from documents import X, Y, Z, found, save
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure, ServerSelectionTimeoutError

from app import database
from app.memory import Memory
from app.models import UserError
from app.storage import Row

pytestmark = pytest.mark.anyio


async def test_how_is_searched_is_told(opened: None, request: pytest.FixtureRequest) -> None:
    assert await database.ping() in request.node.name + "exact, up to 20,000 passages"


async def test_what_a_save_that_was_cut_off_left_is_not_found_and_goes_with_the_next_one(
    opened: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save("a.md", {"old": X})

    async def killed(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr("pymongo.asynchronous.collection.AsyncCollection.replace_one", killed)
        with pytest.raises(asyncio.CancelledError):
            await save("a.md", {"new": X, "newer": Y})
    assert await database._database.chunks.count_documents({}) == 3
    assert await found("new", X) == ["old"]
    await save("a.md", {"newest": Y})
    assert await database._database.chunks.count_documents({}) == 1
    assert await found("new", X) == ["newest"]


async def test_a_version_that_began_before_a_newer_one_or_a_deletion_does_not_come_to_count(
    opened: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, begun, go = database._store.save, asyncio.Event(), asyncio.Event()

    async def slow(*args: object) -> None:
        begun.set()
        await go.wait()
        await store(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(database._store, "save", slow)
        first = [asyncio.create_task(save(name, {"first": X})) for name in ("a.md", "b.md")]
        await begun.wait()
    newer, deleted = await save("a.md", {"newer": Y}), await save("b.md", {"gone": Y})
    assert await database.delete_document(deleted.id)
    go.set()
    await asyncio.gather(*first)
    assert await database.list_documents(10) == [newer]
    assert await found("first", X) == ["newer"]
    assert await database._database.chunks.count_documents({}) == 1


async def test_readers_see_a_document_whole_while_it_is_replaced(opened: None) -> None:
    async def read() -> None:
        while not writer.done():
            texts = [hit.text for hit in await database.read_passages("a.md", 0, {}, limit=50)]
            assert len(texts) == 30 and len({text.split()[0] for text in texts}) == 1
            texts = await found("", X)
            assert len({text.split()[0] for text in texts}) == 1

    async def write() -> None:
        for number in range(6):
            await save("a.md", {f"v{number} {position}": X for position in range(30)})

    await save("a.md", {f"v {position}": X for position in range(30)})
    writer = asyncio.create_task(write())
    await asyncio.gather(writer, read())


async def test_metadata_of_any_form_are_kept_and_told_apart(opened: None) -> None:
    metadata = {"$where": "1", "a.b": "c", "": "", "a": "b:c", "team": "ä" * 1000}
    document = await save("a.md", {"alpha": X}, **metadata)
    assert await database.get_document(document.id) == document
    assert await found("alpha", X, **metadata) == ["alpha"]
    await save("b.md", {"beta": X}, **{"a:b": "c"})
    assert await found("beta", X, **{"a:b": "c"}) == ["beta"]
    assert await found("beta", X, a="b:c") == ["alpha"]
    assert await database.read_passages("a.md", 0, {"a": "b"}) == []


async def test_what_another_process_changes_is_seen_by_the_next_search(opened: None) -> None:
    await save("a.md", {"alpha": X})
    if isinstance(database._passages, Memory):
        other = Memory(database._database)
        assert [row["text"] for row in (await rank(other))[0]] == ["alpha"]
        await save("b.md", {"beta": X})
        assert [row["text"] for row in (await rank(other))[0]] == ["alpha", "beta"]


async def rank(memory: Memory) -> list[list[Row]]:
    state = await database._store.state()
    return await memory.rank(state["count"], state["model"]["generation"], "alpha", X, [], 8)


async def test_more_passages_than_fit_are_left_out_and_told(
    opened: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.memory.MOST", 2)
    await save("a.md", {"alpha": X, "beta": Y})
    await save("b.md", {"gamma": Z})
    told = isinstance(database._passages, Memory)
    assert await found("gamma", Z) == (["alpha", "beta"] if told else ["gamma", "alpha", "beta"])
    assert (caplog.text.count("Search sees the first 2 passages alone") == 1) is told


async def test_a_validator_refuses_what_the_code_would_not_write(opened: None) -> None:
    with pytest.raises(OperationFailure) as refused:
        await database._database.chunks.insert_one({"text": 7})
    assert refused.value.code == 121


def test_a_schema_of_a_newer_version_is_refused(empty_database: None) -> None:
    database.migrate()
    with MongoClient[Row](database.url()) as client:
        client.get_default_database().migrations.insert_one({"_id": "9999_future"})
    with pytest.raises(UserError, match=r"9999_future.*deploy that one"):
        database.migrate()


WRONG = ("mysql://a:sEcret@b/c", "mongodb://a:sEcret/@h/a", "mongodb://a:sEc@ret@h/a", "mongodb://a:b@h:sEcret/a")


@pytest.mark.parametrize("given", WRONG)
def test_an_address_of_another_form_is_refused_without_its_password(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", given)
    with pytest.raises(UserError, match="DATABASE_URL is not of the form") as refused:
        database.url()
    assert "sEc" not in str(refused.value)
    monkeypatch.setenv("DATABASE_URL", "mongodb+srv://app:p%40ss@cluster.example.net/app?retryWrites=true")
    assert database.url().startswith("mongodb+srv://")


def test_a_wrong_password_is_told_at_the_start(empty_database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url().replace("app:", "app:sEcret"))
    with pytest.raises(UserError, match=r"DATABASE_URL cannot be used: .*(?i:authentication failed)") as refused:
        database.migrate()
    assert "sEcret" not in str(refused.value)


FULL = {"code": 14031, "errmsg": "No space left on device"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ServerSelectionTimeoutError("h:1: refused, Timeout: 5s, Topology ..."), "does not answer: h:1: refused"),
        (AutoReconnect("gone"), "does not answer: gone"),
        (OperationFailure("No space left", 14031, FULL), "is full: No space left"),
        (BulkWriteError({"writeErrors": [FULL]}), "is full: batch op errors occurred"),
        (OperationFailure("internal server error", 1, {"code": 1}), "does not answer: internal server error"),
        (OperationFailure("bad", 2, {"code": 2}), None),
        (ValueError(str(uuid4())), None),
    ],
)
def test_errors_that_may_pass_are_told_from_others(error: Exception, told: str | None) -> None:
    assert database.is_retryable(error) is (told is not None)
    assert told is None or database.explain(error) == f"The database {told}"
