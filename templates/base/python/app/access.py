"""Who may call the server: holders of the API key or, without one, programs on this machine."""

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.settings import settings

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
OPEN_PATHS = {"/healthz", "/readyz"}


class AccessMiddleware:
    """Refuses requests without the API key. Where none is set, it refuses other hosts and origins:

    a web page that the user visits can send requests to a local server, or point a host name of
    its own at it, but it cannot forge the Host and Origin headers that its browser adds.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            status, detail = check(Headers(scope=scope))
            if status:
                body = {"title": "Not allowed", "status": status, "detail": detail}
                media_type = "application/problem+json"
                await JSONResponse(body, status, media_type=media_type)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def check(headers: Headers) -> tuple[int, str]:
    """Status 0 where the request may pass."""
    if settings.api_key:
        given = headers.get("authorization", "").encode()
        if hmac.compare_digest(given, f"Bearer {settings.api_key}".encode()):
            return 0, ""
        return 401, "Send the API key as `Authorization: Bearer <key>`."
    host = headers.get("host", "")
    if urlsplit(f"//{host}").hostname not in LOOPBACK:
        return 403, f"Host {host!r} is not this machine. Set API_KEY to serve other hosts."
    origin = headers.get("origin")
    if origin and origin not in settings.cors_origins and urlsplit(origin).netloc != host:
        return 403, f"Origin {origin!r} may not call. Add it to CORS_ORIGINS if it should."
    return 0, ""
