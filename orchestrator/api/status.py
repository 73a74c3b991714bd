"""``/metrics`` and ``/healthz`` of a peer: a small HTTP/1.1 server for scrapers and health checks.

Owns: the wire (GET and HEAD of two paths, bounded requests, one answer per connection). Leaves to others: what is
measured (``metrics`` and whoever counts). The rule: read-only, and nothing here says anything that needs a secret.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from orchestrator.contract.errors import NoLeaderError
from orchestrator.replication.log import LogStatus

logger = structlog.get_logger(__name__)

MAX_REQUEST_BYTES = 8 * 1024
REQUEST_TIMEOUT_S = 5.0


class StatusServer:
    """Serves until ``stop``. ``host`` and ``port`` as configured; port 0 picks one, see ``port``."""

    def __init__(self, *, status: Callable[[], LogStatus], registry: CollectorRegistry) -> None:
        self._status = status
        self._registry = registry
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Raises ``OSError`` if the address cannot be listened on."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_REQUEST_BYTES)

    @property
    def port(self) -> int:
        assert self._server is not None, "not started"
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
                path = rest.split(" ", 1)[0].split("?", 1)[0]
                status, kind, body = self._answer(method, path)
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                    "Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode("latin-1")
                )
                if method != "HEAD":
                    writer.write(body)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # not HTTP, too slow or gone: there is nobody to tell
        except Exception:
            logger.exception("status request failed")
        finally:
            writer.close()

    def _answer(self, method: str, path: str) -> tuple[str, str, bytes]:
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", "text/plain; charset=utf-8", b"only GET and HEAD\n"
        try:
            status = self._status()
        except NoLeaderError:
            return "503 Service Unavailable", "application/json", b'{"healthy": false, "reason": "starting"}\n'
        if path == "/metrics":
            return "200 OK", CONTENT_TYPE_LATEST, generate_latest(self._registry)
        if path == "/healthz":
            healthy = bool(status.leader_id)
            body = {
                "healthy": healthy,
                "reason": ""
                if healthy
                else status.waits_for or "no leader is known: a majority of the peers must be up",
                "peer": status.peer_id,
                "role": str(status.role),
                "epoch": status.epoch,
                "leader": status.leader_id,
                "term": status.term,
                "index": status.index,
            }
            line = "200 OK" if healthy else "503 Service Unavailable"
            return line, "application/json", (json.dumps(body) + "\n").encode()
        return "404 Not Found", "text/plain; charset=utf-8", b"there are /metrics and /healthz\n"
