"""Who may talk to a gateway that speaks plain HTTP on loopback: only pages and programs of this machine.

Owns: the check of Host (against DNS rebinding) and Origin (against other sites' scripts). Tokens come later, here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class HostCheck:
    """ASGI middleware: 403 for a Host or Origin whose host name is not allowed."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str] = LOOPBACK) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if _name(host) not in self._hosts:
            await _refuse(send, f"host {host!r} is not served here; start the gateway with --allow-host to serve it")
            return
        origin = headers.get(b"origin")
        if origin is not None and not self._own(origin, host):
            await _refuse(send, f"origin {origin!r} may not call this gateway")
            return
        await self._app(scope, receive, send)

    def _own(self, origin: str, host: str) -> bool:
        """Only the gateway's own pages: another port of this machine is another program."""
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _name(host: str) -> str:
    host = host.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if ":" in host else host


async def _refuse(send: Send, message: str) -> None:
    body = json.dumps({"error": message, "code": "FORBIDDEN"}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
