"""Calls a running server. Its functions are those of `workflows`, over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx2

from app.agent import Question
from app.ingestion import Upload
from app.models import Run
from app.settings import settings


class ServiceError(Exception):
    """The server refused a call; the message is its reason."""


@asynccontextmanager
async def connect(url: str) -> AsyncIterator["Client | None"]:
    """None where this project's server does not answer."""
    headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=400) as http:
        try:
            health = await http.get("/healthz", timeout=2)
            ours = health.is_success and health.json().get("project") == settings.project
        except (httpx2.HTTPError, ValueError):
            ours = False
        yield Client(http) if ours else None


class Client:
    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def start_question(self, question: Question) -> str:
        run = await self._call("POST", "/ask?wait=0", json=question.model_dump())
        return Run.model_validate(run).id

    async def start_ingestion(self, upload: Upload) -> str:
        path = f"/documents/{quote(upload.source)}?wait=0"
        return Run.model_validate(await self._call("PUT", path, content=upload.content)).id

    async def wait(self, run_id: str, seconds: float) -> Run:
        path = f"/runs/{run_id}?wait={min(seconds, 300)}"
        return Run.model_validate(await self._call("GET", path))

    async def list_runs(self, limit: int) -> list[Run]:
        runs = await self._call("GET", f"/runs?limit={limit}")
        return [Run.model_validate(run) for run in runs]

    async def _call(self, method: str, path: str, **body: Any) -> Any:
        response = await self.http.request(method, path, **body)
        if response.is_error:
            raise ServiceError(response.json().get("detail", response.reason_phrase))
        return response.json()
