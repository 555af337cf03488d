"""What PostgreSQL alone has: statistics, options and a pool of connections."""

import psycopg
import pytest
from documents import X, Y, found, save

from app import database

pytestmark = pytest.mark.anyio


async def test_words_that_thousands_of_passages_have_do_not_count(opened: None) -> None:
    passages = {f"ordinary {number}": [1.0, number / 3000, 0.0] for number in range(2100)}
    await save("many.md", passages | {"it's an ordinary gem": Y})
    with psycopg.connect(database.url(), autocommit=True) as connection:
        connection.execute("ANALYZE")
        assert connection.execute("SELECT lexeme FROM common_words").fetchall() == [("ordinari",)]
    assert "it's an ordinary gem" in (await found("an ordinary gem, isn't it?", X))[:2]
    assert (await found("ordinary", Y))[0] == "it's an ordinary gem"  # by meaning alone


async def test_options_of_the_url_are_kept_beside_those_of_search(opened: None) -> None:
    async with database._pool.connection() as connection:
        shown = "SELECT current_setting('enable_sort'), current_setting('hnsw.iterative_scan')"
        assert await (await connection.execute(shown)).fetchone() == ("off", "strict_order")


async def test_connections_that_the_server_has_ended_are_replaced(opened: None) -> None:
    await database.ping()
    with psycopg.connect(database.url(), autocommit=True) as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(f"SELECT pg_terminate_backend(pid) {others}".encode())
    assert await database.list_documents(10) == []
