"""A database of its own for each test."""

from uuid import uuid4

import psycopg
import pytest

from app import database, embeddings


@pytest.fixture
def empty_database(database_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    server, name = database.url().rpartition("/")[0], f"test_{uuid4().hex}"
    with psycopg.connect(database.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    # With so little data, PostgreSQL would not use the vector index if it had a choice.
    options = "?options=-c%20enable_seqscan%3Doff%20-c%20enable_sort%3Doff"
    monkeypatch.setenv("DATABASE_URL", f"{server}/{name}{options}")
    monkeypatch.setattr(embeddings, "model_name", lambda: "model-a")
