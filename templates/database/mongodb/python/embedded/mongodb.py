"""An emulated MongoDB, SecantusDB, for when no DATABASE_URL is set: a development dependency, not in the image.

It is a process of its own, this file run in a session of its own, shared by all who serve the same folder. Each holds a
connection to it for as long as it lives. When the last one is gone, however it ended, the server ends. So Ctrl-C in the
terminal leaves the database up until the application has drained.
"""

import os
import secrets
import select
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # on Windows; keeps a Ctrl-C in the console away
TIMEOUT = 60.0
PATIENCE = 10  # seconds that a server waits for somebody to hold it
# The server works inside its folder.
LOG, DATA, PASSWORD, RUNNING = Path("log"), Path("data"), Path("password"), Path("running")


@contextmanager
def serve(directory: Path) -> Iterator[Callable[[], str]]:
    """Start the server in `directory`, shared by all who do, and give a function that waits for its URL."""
    from app.models import UserError  # here, since the server has no path to them
    from embedded import make_folder

    if not find_spec("secantus"):
        raise UserError(
            "No MongoDB: set DATABASE_URL. (The one that is emulated comes with `uv sync`, for Python 3.13 and older.)"
        )
    make_folder(directory, "MongoDB")
    name, held, server = secrets.token_hex(16), hold(directory), None
    if not held:
        server = launch(directory, name)

    def url() -> str:
        nonlocal held, server
        deadline = time.monotonic() + TIMEOUT
        while not (held := held or hold(directory)):
            if (server and server.poll()) or time.monotonic() > deadline:
                reason = (directory / LOG).read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
                raise UserError(f"MongoDB does not start in {directory} (DATABASE_URL can name another): {reason}")
            if not server or server.poll() is not None:  # nobody held the one that was there any more
                server = launch(directory, name)
            time.sleep(0.05)
        if server and held[2] != name:
            server.terminate()  # another was quicker, whose end it waits for
        return held[1]

    try:
        yield url
    finally:
        if held:
            let_go(held[0])


def launch(directory: Path, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-X", "utf8", str(Path(__file__).resolve()), name]
    with (directory / LOG).open("ab") as log:
        return subprocess.Popen(
            command, cwd=directory, start_new_session=True, creationflags=NO_WINDOW,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def hold(directory: Path) -> tuple[socket.socket, str, str] | None:
    """A connection that keeps the server up, its URL and name; None where none runs yet."""
    try:
        port, name, url, _ = (directory / RUNNING).read_text(encoding="utf-8").split()
        connection = socket.create_connection(("127.0.0.1", int(port)), timeout=3)
    except (OSError, ValueError):
        return None
    with suppress(OSError):
        if connection.recv(len(name)) == name.encode():  # else the file is a dead one's, and the port another program's
            return connection, url, name
    connection.close()
    return None


def let_go(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        connection.recv(1)  # the end: of the server, where nobody else holds it


def run(name: str) -> None:
    # SQLite's lock: one server at a time. It goes with its process, however that ends.
    lock = sqlite3.connect("lock", timeout=TIMEOUT, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    LOG.write_text("", encoding="utf-8")
    server = import_module("secantus.server").SecantusDBServer(
        storage_path=str(DATA), enable_test_commands=False, sync_on_commit=True, cache_size="256M"
    )
    server.start()
    if not PASSWORD.exists():
        create_user(server.uri)
    server.require_auth = True  # for each command; nobody knows the port before
    with socket.create_server(("127.0.0.1", 0)) as door:
        host, port = server.address
        url = f"mongodb://app:{PASSWORD.read_text(encoding='utf-8')}@{host}:{port}/app?authSource=admin"
        write(RUNNING, f"{door.getsockname()[1]} {name} {url} {os.getpid()}")
        last = wait_for_all(door, name.encode())
        RUNNING.unlink()
    server.storage.close()  # what `stop` does, without its wait of two seconds
    for each in last:
        each.close()  # by which the last one sees the end
    os._exit(0)


def wait_for_all(door: socket.socket, name: bytes) -> list[socket.socket]:
    """Return when nobody holds the server any more, with the connection of the last one, if somebody came."""
    holders: list[socket.socket] = []
    while True:
        ready = select.select([door, *holders], [], [], None if holders else PATIENCE)[0]
        for each in ready:
            if each is door:
                holders.append(door.accept()[0])
                with suppress(OSError):
                    holders[-1].sendall(name)
            elif holders == [each]:
                return holders
            else:  # they say nothing, so this is the end of one
                holders.remove(each)
                each.close()
        if not holders:
            return []


def create_user(uri: str) -> None:
    from pymongo import MongoClient

    password = secrets.token_urlsafe(24)
    with MongoClient[dict[str, object]](uri) as client:
        known = client.admin.command("usersInfo", "app")["users"]  # where a start was cut off here
        client.admin.command("updateUser" if known else "createUser", "app", pwd=password, roles=["root"])
    write(PASSWORD, password)


def write(path: Path, text: str) -> None:
    """All or nothing, for the eyes of its owner."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text, encoding="utf-8")
    new.replace(path)


if __name__ == "__main__":
    try:
        run(sys.argv[1])
    except (OSError, RuntimeError, sqlite3.Error) as error:
        sys.exit(str(error))
