"""A database of its own for each test: on the server as it is, and behind what has $vectorSearch."""

import re
from collections.abc import Iterator
from uuid import uuid4

import pytest
from mongot import Mongot

from app import database, embeddings


@pytest.fixture(params=["exact", "$vectorSearch"])
def empty_database(
    request: pytest.FixtureRequest, database_server: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    url = re.sub(r"/\w+\?", f"/test_{uuid4().hex}?", database.url())
    monkeypatch.setattr(embeddings, "model_name", lambda: "model-a")
    if request.param == "exact":
        monkeypatch.setenv("DATABASE_URL", url)
        yield
        return
    with Mongot(url) as mongot:
        monkeypatch.setenv("DATABASE_URL", mongot.url)
        yield
        assert not mongot.refused
