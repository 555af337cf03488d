"""What every API layer keeps: health, the page, who may call, and how large a request may be."""

import re
from types import ModuleType
from typing import Any

import httpx2
import pytest

from app import api, database, main, workflows
from app.settings import settings

pytestmark = pytest.mark.anyio


async def call(request: str, **options: Any) -> httpx2.Response:
    """Of an application with the settings as they are now."""
    transport = httpx2.ASGITransport(api.create_app(main.lifespan))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        return await client.request(*request.split(" ", 1), **options)


@pytest.mark.parametrize("part", [database, workflows])
async def test_health_and_readiness_are_open_and_tell_what_is_lost(
    part: ModuleType, database_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost() -> None:
        raise workflows.UNAVAILABLE[0]("at 10.0.0.1")

    monkeypatch.setattr(settings, "api_key", "secret")
    async with main.stack(0):
        healthy = await call("GET /healthz", headers={"Host": "balancer"})
        assert (healthy.status_code, healthy.json()) == (200, {"status": "ok"})
        ready = await call("GET /readyz", headers={"Host": "balancer"})
        assert (ready.status_code, ready.json()) == (200, {"status": "ok", "search": await database.ping()})
        monkeypatch.setattr(part, "ping", lost)
        assert (await call("GET /healthz")).status_code == 200
        unready = await call("GET /readyz")
    assert (unready.status_code, unready.headers["Retry-After"]) == (503, "5")
    assert unready.json()["detail"] == "The database does not answer. Try again later."


async def test_the_page_loads_nothing_from_elsewhere_and_runs_no_script_but_its_own() -> None:
    page = await call("GET /")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["Content-Security-Policy"]
    nonce = re.findall(r"^default-src 'nonce-(\w+)'; connect-src 'self'; img-src data:;", policy)[0]
    assert re.findall(r"<(?:style|script[^>]*?) nonce=\"(\w+)\">", page.text) == [nonce, nonce]
    assert not re.search(r"(src|href)=\"(https?:)?//", page.text)
    assert nonce not in (await call("GET /")).text


@pytest.mark.parametrize(("key", "status"), [("", 401), ("Bearer wrong", 401), ("secret", 401), ("Bearer secret", 404)])
async def test_all_else_wants_the_key(key: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "api_key", "secret")
    response = await call("GET /nowhere", headers={"Authorization": key, "Host": "app.example.com"})
    assert response.status_code == status
    assert (response.headers.get("WWW-Authenticate") == "Bearer") == (status == 401)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "app.example.com"}, 403),
        ({"Origin": "https://evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8001"}, 403),
        ({"Origin": "https://app.example.com"}, 404),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 404),
    ],
)
async def test_without_a_key_only_this_machine_and_allowed_origins_may_call(
    headers: dict[str, str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "cors_origins", ["https://app.example.com"])
    assert (await call("GET /nowhere", headers=headers)).status_code == status


async def test_a_body_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "max_upload_bytes", 10)
    response = await call("POST /nowhere", content=" " * 11)
    assert (response.status_code, "MAX_UPLOAD_BYTES, 10" in response.json()["detail"]) == (413, True)
