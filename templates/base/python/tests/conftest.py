"""No test sees a user's settings, keys or data, and none needs a network."""

import asyncio
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETTINGS = re.findall(r"^#? ?([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)

# Before the first import of the application, which reads them.
data = tempfile.TemporaryDirectory(prefix="app ü ", ignore_cleanup_errors=True)
for name in SETTINGS:
    os.environ.pop(name, None)
os.environ |= {"ENV_FILE": os.devnull, "DATA_DIR": data.name}


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": asyncio.SelectorEventLoop}  # the one that psycopg needs on Windows


@pytest.fixture(scope="session")
def database_server() -> Iterator[None]:
    from app import database

    with database.server():
        yield
