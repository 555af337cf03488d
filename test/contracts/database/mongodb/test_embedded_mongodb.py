"""The emulated server outlives what happens to its users: one is killed, several come at once, a stale file stays."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from app.models import UserError
from embedded import mongodb
from embedded.mongodb import serve

OTHER_USER = """
import sys
from pathlib import Path
from embedded.mongodb import serve
with serve(Path(sys.argv[1])) as url:
    print(url(), flush=True)
    sys.stdin.read()
"""
WRITER = """
import sys
from pathlib import Path
from embedded.mongodb import serve
from pymongo import MongoClient
with serve(Path(sys.argv[1])) as url:
    kept = MongoClient(url()).get_default_database().kept
    for number in range(100_000):
        kept.insert_one({"_id": number})
        print(number, flush=True)
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("Mein Projekt ü") / "mongodb"


@contextmanager
def other_user(directory: Path, code: str = OTHER_USER) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-c", code, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process, process.stdout.readline().strip()


@contextmanager
def opened(url: str) -> Iterator[Any]:
    with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=2000) as client:
        yield client.get_default_database()


def test_what_was_acknowledged_survives_the_kill_of_user_and_server(directory: Path) -> None:
    with other_user(directory, WRITER) as (process, _):
        assert process.stdout
        for line in process.stdout:
            if (last := int(line)) == 200:
                break
        server = int((directory / mongodb.RUNNING).read_text(encoding="utf-8").split()[3])
        os.kill(server, 9 if sys.platform != "win32" else 15)
        process.kill()
        last = max([last, *map(int, process.stdout.read().split("\n")[:-1])])
    with serve(directory) as url, opened(url()) as database:
        assert database.kept.count_documents({"_id": {"$lte": last}}) == last + 1


def test_a_shared_server_runs_until_its_last_user_leaves(directory: Path) -> None:
    with other_user(directory) as (starter, starters_url), serve(directory) as url:
        assert url() == starters_url
        starter.kill()
        starter.wait()
        with opened(starters_url) as database:
            database.command("ping")
    with opened(starters_url) as database, pytest.raises(PyMongoError):
        database.command("ping")


def test_several_that_come_at_once_share_one_server(directory: Path) -> None:
    with other_user(directory) as (_, one), other_user(directory) as (_, two), other_user(directory) as (_, three):
        assert one == two == three != ""


def test_the_address_of_one_that_is_gone_does_not_prevent_a_start(directory: Path) -> None:
    (directory / mongodb.RUNNING).write_text("1 name mongodb://localhost:1/app 1", encoding="utf-8")
    with serve(directory) as url, opened(url()) as database:
        database.command("ping")


def test_a_password_is_asked_for_and_only_its_owner_can_read_it(directory: Path) -> None:
    with serve(directory) as url:
        for wrong in (url().replace("app:", "app:wrong"), url().replace(url().partition("@")[0], "mongodb://")):
            with opened(wrong.replace("//@", "//").replace("authSource=admin", "")) as database:
                with pytest.raises(OperationFailure) as refused:
                    database.kept.find_one()
                assert refused.value.code in (13, 18)
        if sys.platform != "win32":
            for secret in (mongodb.PASSWORD, mongodb.RUNNING):
                assert (directory / secret).stat().st_mode & 0o077 == 0


def test_without_the_package_it_says_what_to_do(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongodb, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="set DATABASE_URL"), serve(directory):
        pass


def test_why_it_does_not_start_is_told(tmp_path: Path) -> None:
    (tmp_path / mongodb.DATA).write_text("no folder", encoding="utf-8")
    with pytest.raises(UserError, match=r"does not start in .*: .+"), serve(tmp_path) as url:
        url()
