"""The HTTP API, with the embedded database, real runs and a fake language model."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from app import api, main, workflows
from app.access import OPEN_PATHS
from app.ingestion import Upload
from app.settings import settings
from tests.fake_openai import FakeOpenAI, Reply, search_and_quote

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("model")]

BILLING = "# Billing\n\n## Invoices\n\nInvoices are kept for ten\nyears, as the law demands.\n"
KEPT = {"question": "How long are invoices kept?"}


@pytest.fixture(scope="module", autouse=True)
async def stack(database_server: None) -> AsyncIterator[None]:
    async with main.stack(8):
        upload = Upload(source="billing.md", content=BILLING.encode())
        await workflows.wait(await workflows.start_ingestion(upload), 60)
        yield


async def call(request: str, **options: Any) -> httpx2.Response:
    """Of an application with the settings as they are now."""
    transport = httpx2.ASGITransport(api.create_app(main.lifespan))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=60) as client:
        return await client.request(*request.split(" ", 1), **options)


def events(response: httpx2.Response) -> list[dict[str, str]]:
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in response.text.strip().split("\n\n")]


async def test_an_answer_cites_what_it_rests_on_and_a_key_starts_one_run() -> None:
    key = {"Idempotency-Key": "first"}
    response = await call("POST /ask", json=KEPT, headers=key)
    citation = (run := response.json())["result"]["citations"][0]
    assert (response.status_code, run["status"], citation["source"]) == (200, "succeeded", "billing.md")
    assert "kept for ten\nyears" in citation["quote"]
    assert (await call("POST /ask", json=KEPT, headers=key)).json() == run
    assert (await call(f"GET {response.headers['Location']}")).json() == run
    refused = await call("POST /ask/stream", json={"question": "Where?"}, headers=key)
    assert (refused.status_code, "'first'" in refused.json()["detail"]) == (409, True)


async def test_events_are_numbered_and_can_be_taken_up_again() -> None:
    first, *middle, last = events(await call("POST /ask/stream", json=KEPT))
    assert (first["event"], last["event"]) == ("run", "run")
    assert [event["id"] for event in middle] == [str(number) for number in range(1, len(middle) + 1)]
    run = json.loads(last["data"])
    text = [json.loads(event["data"])["text"] for event in middle if event["event"] == "text"]
    assert "".join(text) == run["result"]["text"]
    again = await call(f"GET /runs/{run['id']}/events", headers={"Last-Event-ID": "2"})
    assert events(again) == [*middle[2:], last]


async def test_documents_come_and_go() -> None:
    put = await call("PUT /documents/notes/a b.md?metadata=team:ops", content="# Door\n\nThe code of the door is 4711.")
    document = put.json()["result"]
    assert (document["source"], document["metadata"]) == ("notes/a b.md", {"team": "ops"})
    assert (await call("GET /documents?limit=1&after=notes")).json() == [document]
    path, question = f"/documents/{document['id']}", {"question": "What is the code?", "filters": {"team": "ops"}}
    assert "4711" in (await call("POST /ask", json=question)).json()["result"]["text"]
    assert [(await call(f"DELETE {path}")).status_code for _ in range(2)] == [204, 404]
    assert (await call("POST /ask", json=question)).json()["result"]["refused"]


@pytest.mark.parametrize(
    ("request_line", "body", "status", "detail"),
    [
        ("POST /ask", json.dumps({"question": "x" * 4001}), 422, r"body\.question: .* at most 4000"),
        ("POST /ask", '{"question"', 422, "JSON"),
        ("POST /ask", " " * 10_001, 413, "MAX_UPLOAD_BYTES, 10000"),
        ("PUT /documents/a.pdf", "x", 422, r"a\.pdf: not a \.pdf file"),
        ("PUT /documents/a.md?metadata=x", "x", 422, r"query\.metadata\.0"),
        ("GET /runs/1/events", "", 404, "no run 1"),
    ],
)
async def test_errors_name_what_is_wrong(
    request_line: str, body: str, status: int, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "max_upload_bytes", 10_000)
    response = await call(request_line, content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json")
    assert re.search(detail, response.json()["detail"])


async def test_a_run_is_cancelled_and_resumed(model: FakeOpenAI) -> None:
    held, released = threading.Event(), threading.Event()

    def hold(messages: list[Any]) -> Reply:
        held.set()
        released.wait(30)
        return search_and_quote(messages)

    model.reply = hold
    path = f"/runs/{(await call('POST /ask?wait=0', json=KEPT)).json()['id']}"
    assert await asyncio.to_thread(held.wait, 30)
    assert (await call(f"POST {path}/cancel")).json()["status"] == "cancelled"
    released.set()
    await call(f"POST {path}/resume")
    assert (await call(f"GET {path}?wait=30")).json()["status"] == "succeeded"


async def test_with_a_key_every_route_but_health_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {*(await call("GET /openapi.json")).json()["paths"], "/docs", "/openapi.json", "/nowhere"}
    monkeypatch.setattr(settings, "api_key", "secret")
    assert {path for path in paths if (await call(f"GET {path}")).status_code == 401} == paths - OPEN_PATHS
    for key, status in (("wrong", 401), ("secret", 200)):
        headers = {"Authorization": f"Bearer {key}", "Host": "app.example.com"}
        assert (await call("GET /documents", headers=headers)).status_code == status


async def test_without_a_key_only_this_machine_and_allowed_origins_may_call(monkeypatch: pytest.MonkeyPatch) -> None:
    friend = {"Origin": "https://app.example.com"}
    monkeypatch.setattr(settings, "cors_origins", [friend["Origin"]])
    for headers in ({"Host": "app.example.com"}, {"Origin": "https://evil.example.com"}, {"Origin": "null"}):
        assert (await call("GET /documents", headers=headers)).status_code == 403
    for headers in (friend, {"Host": "localhost:1", "Origin": "http://localhost:1"}):
        assert (await call("GET /documents", headers=headers)).status_code == 200
    preflight = await call("OPTIONS /ask", headers=friend | {"Access-Control-Request-Method": "POST"})
    assert preflight.headers["Access-Control-Allow-Origin"] == friend["Origin"]
    assert {(await call(f"GET {path}", headers={"Host": "balancer"})).status_code for path in OPEN_PATHS} == {200}
