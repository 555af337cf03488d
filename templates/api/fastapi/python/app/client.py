"""Calls a running server. Its functions are those of `workflows`, over HTTP."""

import asyncio
import json
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

from app.agent import Question
from app.ingestion import Upload
from app.models import Run, UserError
from app.settings import settings


class ServiceError(UserError):
    """The server refused a call; the message is its reason."""


class Client:
    def __init__(self, url: str) -> None:
        self.url = url
        self.opener = build_opener(ProxyHandler({}))  # the server is on this machine

    async def answers(self) -> bool:
        """Whether it is this project's server that runs there."""
        try:
            health = await self._call("GET", "/healthz", patience=2)
        except (OSError, ValueError, ServiceError):
            return False
        return isinstance(health, dict) and health.get("project") == settings.project

    async def start_question(self, question: Question) -> str:
        run = await self._call("POST", "/ask?wait=0", question.model_dump_json().encode(), "application/json")
        return Run.model_validate(run).id

    async def start_ingestion(self, upload: Upload) -> str:
        path = f"/documents/{quote(upload.source)}?wait=0"
        return Run.model_validate(await self._call("PUT", path, upload.content, "text/plain")).id

    async def wait(self, run_id: str, seconds: float) -> Run:
        while True:  # in short pieces: a thread that waits cannot be interrupted
            run = Run.model_validate(await self._call("GET", f"/runs/{run_id}?wait={min(seconds, 2)}"))
            seconds -= 2
            if run.finished_at or seconds <= 0:
                return run

    async def list_runs(self, limit: int) -> list[Run]:
        return [Run.model_validate(run) for run in await self._call("GET", f"/runs?limit={limit}")]

    async def _call(self, method: str, path: str, body: bytes | None = None, kind: str = "", patience: int = 30) -> Any:
        request = Request(self.url + path, body, {"Content-Type": kind}, method=method)
        request.add_header("Authorization", f"Bearer {settings.api_key}")
        try:
            with await asyncio.to_thread(self.opener.open, request, timeout=patience) as response:
                return json.load(response)
        except HTTPError as error:
            with suppress(ValueError):
                raise ServiceError(json.load(error)["detail"]) from error
            raise ServiceError(f"{self.url} answers {error.code} {error.reason}.") from error
