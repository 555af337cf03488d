"""Who may call the server: holders of the API key or, without one, programs on this machine."""

import hmac
import json
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from app.settings import settings

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
OPEN_PATHS = {"/", "/healthz", "/readyz", "/docs", "/openapi.json"}

Channel = Callable[..., Awaitable[Any]]


class AccessMiddleware:
    """ASGI middleware that limits bodies and asks for the API key. Where none is set, it refuses other hosts and
    origins: a web page that the user visits can send requests to a local server, or point a host name of its own at it,
    but it cannot forge the Host and Origin headers that its browser adds."""

    def __init__(self, app: Callable[[Any, Channel, Channel], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Channel, send: Channel) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            sent = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
            status, detail = check(sent, (scope["client"] or [""])[0])
            if status:
                body = json.dumps({"title": HTTPStatus(status).phrase, "status": status, "detail": detail})
                headers = [(b"content-type", b"application/problem+json"), (b"www-authenticate", b"Bearer")]
                await send({"type": "http.response.start", "status": status, "headers": headers})
                await send({"type": "http.response.body", "body": body.encode()})
                return
        await self.app(scope, receive, send)


def check(headers: dict[str, str], client: str) -> tuple[int, str]:
    """Status 0 where the request may pass. `client` is its address, told by a proxy if there is one."""
    if int(headers.get("content-length", 0)) > settings.max_upload_bytes:
        return 413, f"The body is larger than MAX_UPLOAD_BYTES, {settings.max_upload_bytes}."
    if settings.api_key:
        given = headers.get("authorization", "").encode("latin-1")
        if hmac.compare_digest(given, f"Bearer {settings.api_key}".encode()):
            return 0, ""
        return 401, "Send the API key as `Authorization: Bearer <key>`."
    if client not in LOOPBACK:
        return 403, f"Client {client!r} is not this machine. Set API_KEY to serve others."
    host = headers.get("host", "")
    if re.sub(r":\d+$", "", host).strip("[]").lower() not in LOOPBACK:
        return 403, f"Host {host!r} is not this machine. Set API_KEY to serve other hosts."
    origin = headers.get("origin")
    if origin and origin not in settings.cors_origins and origin.partition("://")[2] != host:
        return 403, f"Origin {origin!r} may not call. Add it to CORS_ORIGINS if it should."
    return 0, ""
