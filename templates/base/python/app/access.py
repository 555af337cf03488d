"""Who may call the server: holders of the API key or, without one, programs on this machine."""

import hmac
import re
from http import HTTPStatus
from typing import Any

from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.settings import LOOPBACK, settings

OPEN_PATHS = {"/", "/healthz", "/readyz", "/docs", "/openapi.json"}


class AccessMiddleware:
    """Limits bodies and asks for the API key. Where none is set, it refuses other hosts and origins: a web page that
    the user visits can send requests to a local server, or point a host name of its own at it, but it cannot forge the
    Host and Origin headers that its browser adds."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = RequestBodyLimitMiddleware(app, settings.max_upload_bytes)  # counts what comes without a length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] == "lifespan" or scope["path"] in OPEN_PATHS
        app = self.app if is_open else _refusal(HTTPConnection(scope)) or self.app
        await app(scope, receive, send)


def problem(status: int, detail: str, headers: Any = None) -> JSONResponse:
    """An error as RFC 9457 has it."""
    content = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(content, status, headers, "application/problem+json")


def _refusal(request: HTTPConnection) -> JSONResponse | None:
    headers, client = request.headers, request.client.host if request.client else ""
    if int(headers.get("content-length", 0)) > settings.max_upload_bytes:
        return problem(413, f"The body is larger than MAX_UPLOAD_BYTES, {settings.max_upload_bytes}.")
    if settings.api_key:
        given = headers.get("authorization", "").encode("latin-1")
        if hmac.compare_digest(given, f"Bearer {settings.api_key}".encode()):
            return None
        return problem(401, "Send the API key as `Authorization: Bearer <key>`.", {"WWW-Authenticate": "Bearer"})
    if client not in LOOPBACK:
        return problem(403, f"Client {client!r} is not this machine. Set API_KEY to serve others.")
    host, origin = headers.get("host", ""), headers.get("origin")
    if not re.fullmatch(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", host, re.IGNORECASE):
        return problem(403, f"Host {host!r} is not this machine. Set API_KEY to serve other hosts.")
    if origin and origin not in settings.cors_origins and origin.partition("://")[2] != host:
        return problem(403, f"Origin {origin!r} may not call. Add it to CORS_ORIGINS if it should.")
    return None
