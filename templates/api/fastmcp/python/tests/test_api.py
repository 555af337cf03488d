"""The MCP server, in memory, over HTTP and over stdio, with the embedded database and a fake language model."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from fastmcp import Client
from fastmcp.client.auth import BearerAuth

from app import api, main, workflows
from app.ingestion import Upload
from app.settings import settings
from tests.fake_openai import MODEL, FakeOpenAI, Reply, search_and_quote

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("model")]

BILLING = "# Billing\n\n## Invoices\n\nInvoices are kept for ten\nyears, as the law demands.\n"
KEPT = {"question": "How long are invoices kept?"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
HEADERS = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module", autouse=True)
async def stack(database_server: None) -> AsyncIterator[None]:
    async with main.stack(8):
        upload = Upload(source="notes/billing 1.md", content=BILLING.encode())
        await workflows.wait(await workflows.start_ingestion(upload), 60)
        yield


async def call(tool: str, **arguments: Any) -> Any:
    async with Client(api.mcp) as client:
        result = await client.call_tool(tool, arguments, raise_on_error=False)
        return result.content[0].text if result.is_error else result.structured_content


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    """The address of a server with the settings as they are now."""

    @asynccontextmanager
    async def is_open(_: Any) -> AsyncIterator[None]:
        yield

    server = uvicorn.Server(uvicorn.Config(api.create_app(is_open), log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await serving


async def test_an_answer_cites_what_it_rests_on_tells_its_steps_and_a_key_makes_one_run() -> None:
    told: list[tuple[float, str | None]] = []

    async def tell(progress: float, _: float | None, message: str | None) -> None:
        told.append((progress, message))

    async with Client(api.mcp) as client:
        first = await client.call_tool("ask", {**KEPT, "key": "first"}, progress_handler=tell)
        run = first.structured_content
        passage = await client.read_resource("app://documents/notes/billing%201.md")
        stored = await client.read_resource(f"app://runs/{run['id']}")
    assert (run["status"], run["result"]["citations"][0]["source"]) == ("succeeded", "notes/billing 1.md")
    assert [message for _, message in told] == [f"run {run['id']}", "llm 1", "search_documents 1.1", "llm 2"]
    assert sorted(told) == told
    assert "kept for ten\nyears" in passage[0].text
    assert json.loads(stored[0].text) == run == await call("ask", **KEPT, key="first")
    assert "'first'" in await call("ask", question="Where?", key="first")


async def test_a_run_outlives_its_call_and_is_picked_up_cancelled_and_resumed(model: FakeOpenAI) -> None:
    held, released = threading.Event(), threading.Event()

    def hold(messages: list[Any]) -> Reply:
        held.set()
        released.wait(30)
        return search_and_quote(messages)

    model.reply = hold
    run = await call("ask", **KEPT, wait=0.2)
    assert run["status"] in ("queued", "running")
    assert run["id"] in [listed["id"] for listed in (await call("list_runs"))["result"]]
    assert await asyncio.to_thread(held.wait, 30)
    assert (await call("cancel_run", run_id=run["id"]))["status"] == "cancelled"
    released.set()
    await call("resume_run", run_id=run["id"])
    assert (await call("get_run", run_id=run["id"], wait=30))["status"] == "succeeded"


async def test_a_document_is_added_and_found() -> None:
    door = {"source": "door.md", "text": "# Door\n\nThe code of the door is 4711.", "metadata": {"team": "ops"}}
    assert (await call("add_document", **door))["result"]["chunks"] == 1
    found = await call("search_documents", query="Which code opens the door?", filters={"team": "ops"})
    assert [hit["source"] for hit in found["result"]] == ["door.md"]
    assert "4711" in (await call("read_document", source="door.md"))["result"][0]["text"]


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("ask", {"question": "x" * 4001}, r"question\n.* at most 4000"),
        ("ask", {}, r"question\n.*[Mm]issing"),
        ("add_document", {"source": "a.pdf", "text": "x"}, r"a\.pdf: not a \.pdf file"),
        ("get_run", {"run_id": "1"}, "no run 1"),
        ("cancel_run", {"run_id": "1"}, "no run 1"),
    ],
)
async def test_errors_name_what_is_wrong(tool: str, arguments: dict[str, Any], message: str) -> None:
    assert re.search(message, await call(tool, **arguments))


async def test_a_failed_run_says_why_and_what_tries_it_again(model: FakeOpenAI) -> None:
    model.reply = lambda _: 401
    answer = await call("ask", **KEPT)
    run_id = re.findall(r"Run (\S+) failed", answer)[0]
    assert "answered 401" in answer and f"`resume_run` with {run_id}" in answer
    assert (await call("get_run", run_id=run_id))["status"] == "failed"


async def test_a_bug_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "get_run", None)
    assert await call("get_run", run_id="1") == "Error calling tool 'get_run'"


async def test_over_http_with_a_key_every_route_but_health_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "api_key", "secret")
    async with served() as url, httpx2.AsyncClient(base_url=url) as http:
        paths = {"/": 200, "/healthz": 200, "/readyz": 200, "/mcp": 401, "/nowhere": 401}
        assert {path: (await http.get(path)).status_code for path in paths} == paths
        assert sys.executable not in (await http.get("/")).text
        for _ in range(2):  # each as if by another replica: no session is asked for
            headers = {"Authorization": "Bearer secret", "Host": "app.example.com", **HEADERS}
            assert (await http.post("/mcp", json=PING, headers=headers)).status_code == 200
        async with Client(f"{url}/mcp", auth=BearerAuth("secret")) as client:
            assert (await client.call_tool("ask", KEPT)).structured_content["status"] == "succeeded"


async def test_over_http_without_a_key_only_this_machine_and_allowed_origins_may_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    friend = {"Origin": "https://app.example.com"}
    monkeypatch.setattr(settings, "cors_origins", [friend["Origin"]])
    async with served() as url, httpx2.AsyncClient(base_url=url, headers=HEADERS) as http:
        for headers in ({"Host": "app.example.com"}, {"Origin": "https://evil.example.com"}, {"Origin": "null"}):
            assert (await http.post("/mcp", json=PING, headers=headers)).status_code == 403
        allowed = await http.post("/mcp", json=PING, headers=friend)
        assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (200, friend["Origin"])
        assert sys.executable in (await http.get("/")).text


async def test_over_stdio_nothing_but_the_protocol_is_written(model: FakeOpenAI) -> None:
    environment = {**os.environ, "LLM_MODEL": MODEL, "LLM_BASE_URL": model.url, "TRACE_CONSOLE": "true"}
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    asked = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "ask", "arguments": KEPT}},
    ]

    def talk() -> tuple[list[Any], str, int]:
        pipes: dict[str, Any] = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.PIPE)
        arguments = [sys.executable, "-m", "app", "mcp"]
        with subprocess.Popen(arguments, env=environment, encoding="utf-8", **pipes) as process:
            assert process.stdin and process.stdout
            process.stdin.write("".join(json.dumps(message) + "\n" for message in asked))
            process.stdin.flush()
            answers = [json.loads(process.stdout.readline()) for _ in range(2)]
            rest, _ = process.communicate(timeout=60)
            return answers, rest, process.returncode

    (_, answer), rest, code = await asyncio.to_thread(talk)
    assert (answer["result"]["structuredContent"]["status"], rest, code) == ("succeeded", "", 0)
