"""A server that speaks OpenAI's chat completions, streamed, for tests."""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "gpt-4o-mini"
Reply = int | Iterable[str]
"""The status of an error, or the pieces of a stream. The last of these is empty, or else the connection breaks."""


class FakeOpenAI(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.reply: Callable[[list[Any]], Reply] = search_and_quote
        self.asked: list[list[Any]] = []  # the messages of each request
        self.keys: list[str] = []  # the idempotency key of each request


def search_and_quote(messages: list[Any]) -> Reply:
    """Look the question up, then answer with the whole of the first passage."""
    if messages[-1]["role"] == "user":
        return tool_call("search_documents", query=messages[-1]["content"])
    passages = json.loads(messages[-1]["content"])
    return draft(passages[0]["text"], (1, passages[0]["text"])) if passages else draft("Nothing fits.")


def draft(text: str, *quotes: tuple[int, str]) -> list[str]:
    cited = [{"passage": passage, "quote": quote} for passage, quote in quotes]
    return tool_call("answer", answered=bool(quotes), text=text, quotes=cited)


def tool_call(name: str, **arguments: object) -> list[str]:
    first: dict[str, Any] = {"id": "1", "type": "function", "function": {"name": name}}
    calls = [first, *({"function": {"arguments": part}} for part in _cut(json.dumps(arguments)))]
    return _stream([{"tool_calls": [{"index": 0, **call}]} for call in calls], "tool_calls")


def prose(text: str) -> list[str]:
    return _stream([{"content": part} for part in _cut(text)], "stop")


def _stream(deltas: list[dict[str, Any]], finish: str) -> list[str]:
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    chunks.append({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}})
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return [*(f"data: {json.dumps(head | chunk)}\n\n" for chunk in chunks), "data: [DONE]\n\n", ""]


def _cut(text: str) -> list[str]:
    return [text[start : start + 7] for start in range(0, len(text), 7)]


class Handler(BaseHTTPRequestHandler):
    server: FakeOpenAI
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        messages = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
        self.server.asked.append(messages)
        self.server.keys.append(self.headers["Idempotency-Key"])
        reply = self.server.reply(messages)
        status, pieces = (reply, ['{"error": {"message": "as told"}}', ""]) if isinstance(reply, int) else (200, reply)
        self.send_response_only(status)
        self.send_header("Content-Type", "text/event-stream" if status == 200 else "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        with suppress(ConnectionError):  # the client has gone
            for piece in pieces:
                self.wfile.write(f"{len(piece.encode()):x}\r\n{piece}\r\n".encode())
