"""No test sees the settings, keys or data of a user, and none needs a network."""

import asyncio
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_openai import MODEL, FakeOpenAI

# Before the first import of the application, which reads them.
EXAMPLE = Path(__file__).parent.parent / ".env.example"
for name in re.findall(r"^#? ?([A-Z_]+)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE):
    os.environ.pop(name, None)
data = tempfile.TemporaryDirectory(prefix="app ü ", ignore_cleanup_errors=True)
os.environ |= {"ENV_FILE": os.devnull, "DATA_DIR": data.name}


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": asyncio.SelectorEventLoop}  # the one that psycopg accepts on Windows


@pytest.fixture(scope="session")
def database_server() -> Iterator[None]:
    from app import servers

    with servers.running():
        yield


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    """The language model of the application; a test may set its `reply`."""
    from app import llm

    with FakeOpenAI() as server:
        threading.Thread(target=server.serve_forever, args=[0.05]).start()
        monkeypatch.setattr("app.settings.settings.llm_model", MODEL)
        monkeypatch.setattr("app.settings.settings.llm_base_url", server.url)
        llm.client.cache_clear()
        yield server
        llm.client.cache_clear()
        server.shutdown()
