"""A Prefect server of the project's own, with its web interface, for when no PREFECT_API_URL is set.

All who use it hold a lock, which the system takes from those that are killed. The server, this file run in a session
of its own, is there once and stops when nobody holds the lock any more.
"""

import os
import runpy
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import urlopen

NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # on Windows; keeps a Ctrl-C in the console away
TIMEOUT = 60.0  # for a start: the first one takes a quarter of a minute, and longer on a busy machine
USERS, SERVER = Path("users.lock"), Path("server.lock")
ADDRESS, LOG = Path("address"), Path("log")
SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_HOME": ".",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_API_KEEPALIVE_TIMEOUT": "60",
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "",  # by default, every page that the user visits may call it
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_UI_STATIC_DIRECTORY": "ui",
}


@contextmanager
def serve(directory: Path) -> Iterator[Callable[[], str]]:
    """Start the server in `directory`, shared by all who do, and give a function that waits for its address."""
    from app.models import UserError  # here, since the server has no path to them
    from embedded import make_folder

    make_folder(directory, "Prefect")
    users = _locked(directory / USERS, "BEGIN", "SELECT * FROM sqlite_master")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | SETTINGS
    command = [sys.executable, "-P", "-X", "utf8", str(Path(__file__).resolve())]
    server = subprocess.Popen(
        command, cwd=directory, env=environment, start_new_session=True, creationflags=NO_WINDOW, encoding="utf-8",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )  # fmt: skip
    assert server.stdout
    told = server.stdout

    def url() -> str:
        address, deadline = told.readline().strip(), time.monotonic() + TIMEOUT
        while not _answers(address):
            if server.poll() or time.monotonic() > deadline:
                log = [*told] or (directory / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
                reason = ([line.strip() for line in log if "Error" in line] or ["it does not answer"])[-1]
                raise UserError(f"Prefect does not start in {directory} (PREFECT_API_URL can name another): {reason}")
            time.sleep(0.1)
        return address

    try:
        yield url
    finally:
        users.close()
        with suppress(subprocess.TimeoutExpired):  # others may hold on to it
            server.wait(timeout=3)
        told.close()


def run() -> None:
    """Be the server, unless there is one; print its address."""
    deadline = time.monotonic() + TIMEOUT
    while not (lock := _try_lock(SERVER)):  # it begins, runs, or ends
        if ADDRESS.exists() or time.monotonic() > deadline:
            print(ADDRESS.read_text(encoding="utf-8"))
            return
        time.sleep(0.1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = os.environ["PREFECT_SERVER_UI_API_URL"] = f"http://127.0.0.1:{port}/api"
    ADDRESS.write_text(address, encoding="utf-8")
    print(address, flush=True)
    with LOG.open("w", encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    _let_writers_wait()
    Thread(target=_stop_when_unused, daemon=True).start()
    sys.argv = ["prefect", "server", "start", "--port", str(port)]
    runpy.run_module("prefect", run_name="__main__")
    lock.close()


def _let_writers_wait() -> None:
    """Have Prefect's transactions begin as writers. SQLite refuses one that reads first if another writes meanwhile,
    see prefect#23051."""
    from sqlalchemy import Engine, event  # here, since they are slow to import

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def begin(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return statement.replace("BEGIN DEFERRED", "BEGIN IMMEDIATE"), parameters


def _stop_when_unused() -> None:
    while True:
        time.sleep(0.2)
        if lock := _try_lock(USERS):  # who comes now waits for the end
            ADDRESS.unlink()
            signal.raise_signal(signal.SIGTERM)
            time.sleep(TIMEOUT)
            lock.close()


def _try_lock(path: Path) -> sqlite3.Connection | None:
    with suppress(sqlite3.OperationalError):
        return _locked(path, "BEGIN EXCLUSIVE", timeout=0)
    return None


def _locked(path: Path, *statements: str, timeout: float = TIMEOUT) -> sqlite3.Connection:
    lock = sqlite3.connect(path, timeout, isolation_level=None, check_same_thread=False)
    for statement in statements:
        lock.execute(statement)
    return lock


def _answers(address: str) -> bool:
    with suppress(OSError, ValueError):
        return bool(urlopen(f"{address}/health", timeout=3).read())
    return False


if __name__ == "__main__":
    run()
