"""The embedded server outlives what happens to its users: one is killed, two come at once, a stale file stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from embedded.postgres import serve

OTHER_USER = """
import sys
from pathlib import Path
from embedded.postgres import serve
with serve(Path(sys.argv[1])) as url:
    print(url(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("Mein Projekt ü") / "postgres"


@contextmanager
def other_user(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-c", OTHER_USER, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process, process.stdout.readline().strip()


def serve_once(directory: Path) -> str:
    with serve(directory) as url:
        return url()


def test_what_was_committed_survives_the_kill_of_its_user(directory: Path) -> None:
    with other_user(directory) as (process, url), psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE kept AS SELECT '[1,2]'::vector AS embedding")
        process.kill()
    with serve(directory) as again, psycopg.connect(again()) as connection:
        assert connection.execute("SELECT embedding::text FROM kept").fetchall() == [("[1,2]",)]


def test_a_shared_server_runs_until_its_last_user_leaves(directory: Path) -> None:
    with other_user(directory) as (starter, starters_url), serve(directory) as url:
        assert url() == starters_url
        starter.communicate()
        with psycopg.connect(starters_url):
            pass
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(starters_url)


def test_a_stale_pid_file_with_the_id_of_a_living_process_does_not_prevent_a_start(directory: Path) -> None:
    with serve(directory) as url:
        url()
        pid_file = directory / "cluster/data/postmaster.pid"
        _, *rest = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *rest]))
    with serve(directory) as url, psycopg.connect(url()):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows halts no process")
def test_a_server_that_does_not_answer_for_a_while_is_waited_for(directory: Path) -> None:
    with serve(directory) as server, ThreadPoolExecutor() as thread:
        url = server()
        status = (directory / "cluster/data/postmaster.pid").read_text()
        os.kill(int(status.splitlines()[0]), signal.SIGSTOP)
        try:
            other_url = thread.submit(lambda: serve_once(directory))
            time.sleep(6)
            assert (directory / "cluster/data/postmaster.pid").read_text() == status
        finally:
            os.kill(int(status.splitlines()[0]), signal.SIGCONT)
        assert other_url.result(30) == url


def test_a_password_is_asked_for_and_only_its_owner_can_read_it(directory: Path) -> None:
    with serve(directory) as url, pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url(), password="wrong")
    if sys.platform != "win32":
        assert (directory / "cluster/password").stat().st_mode & 0o077 == 0
