"""Where tasks speak to their agent: HTTP over a Unix socket that processes find by its path and containers in a mount.

Owns: the socket, reading requests within bounds, routes. Leaves to others: what was said (``board``), ports
(``ports``), services (``discovery``). The rules: a request says with its token which run it is of and learns nothing of
others; one request per connection, so that a task which was killed leaves nothing behind; any language can do it.

    POST   /api/v1/ready        {"ready": true}
    POST   /api/v1/heartbeat    {}
    POST   /api/v1/metrics      {"requests": 17, "queue": 3}
    GET    /api/v1/shutdown?wait=30      answers once the task is told to stop, or after so many seconds; with
                                         &hold=true that is as saying "draining" at once
    POST   /api/v1/shutdown     {"status": "draining"} or {"status": "done"}
    POST   /api/v1/ports        {"first": 10000, "end": 20000, "protocols": ["tcp", "udp"]}
    DELETE /api/v1/ports/10017?protocols=tcp,udp
    GET    /api/v1/services/NAME?namespace=other
    GET    /api/v1/allocation
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import structlog

from agent.dns.zone import Known
from agent.driver import RunId
from agent.workload import ports as leases
from agent.workload.board import Board, SaysError
from agent.workload.ports import NoPortError, PortLeases
from orchestrator.contract.model import Protocol, ServiceName
from orchestrator.contract.plain import plain

SOCKET = "agent.sock"
HEAD_BYTES = 8 * 1024
BODY_BYTES = 64 * 1024
REQUEST_S = 5.0
WAIT_MAX_S = 60.0
CONNECTIONS = 1_024
BAD_TOKEN_S = 0.2
"""Whoever guesses tokens is slowed down."""
PROTOCOLS = {"tcp": Protocol.TCP, "udp": Protocol.UDP}

log = structlog.get_logger("agent.workload")


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
    409: "Conflict", 413: "Content Too Large", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip

Request = tuple[RunId, dict[str, str], dict[str, Any]]
Answer = Mapping[str, Any]


class NotKeptError(Exception):
    """What was said could not be saved; the text says why."""


class Endpoint:
    """``kept`` returns once what was said survives this agent, True: it is news. Only then is a task told that it was
    heard; ``NotKeptError`` is told it, too. ``lookup`` asks for a service."""

    def __init__(
        self,
        board: Board,
        ports: PortLeases,
        *,
        lookup: Callable[[ServiceName], Awaitable[Known | None]],
        kept: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._board = board
        self._ports = ports
        self._lookup = lookup
        self._kept = kept
        self._server: asyncio.Server | None = None
        self._connections = 0
        self._routes: dict[tuple[str, str], Callable[[RunId, dict[str, str], dict[str, Any]], Awaitable[Answer]]] = {
            ("POST", "ready"): self._ready,
            ("POST", "heartbeat"): self._heartbeat,
            ("POST", "metrics"): self._metrics,
            ("GET", "shutdown"): self._shutdown_notice,
            ("POST", "shutdown"): self._shutdown,
            ("POST", "ports"): self._lease,
            ("DELETE", "ports"): self._release,
            ("GET", "services"): self._service,
            ("GET", "allocation"): self._allocation,
        }

    async def start(self, directory: Path) -> None:
        """Listen in ``directory``. Whatever user a container runs as may connect: the token decides."""
        path = directory / SOCKET
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._server = await asyncio.start_unix_server(self._serve, path, limit=HEAD_BYTES, backlog=128)
        path.chmod(0o666)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    # ------------------------------------------------------------------------ one request

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            status, answer = await self._answer(reader)
            body = json.dumps(answer).encode() + b"\n"
            head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            async with asyncio.timeout(REQUEST_S):
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, Answer]:
        try:
            if self._connections > CONNECTIONS:
                raise _Refused(503, "too many requests at once")
            async with asyncio.timeout(REQUEST_S):
                method, target, token, body = await _read(reader)
            run = self._board.find(token)
            if run is None:
                await asyncio.sleep(BAD_TOKEN_S)
                raise _Refused(401, "the token in RAFTSMAN_WORKLOAD_TOKEN is of no run that is here now")
            parts = urlsplit(target)
            words = parts.path.strip("/").split("/")
            if words[:2] != ["api", "v1"] or len(words) < 3:
                raise _Refused(404, "routes begin with /api/v1/")
            route = self._routes.get((method, words[2]))
            if route is None:
                known = words[2] in {name for _, name in self._routes}
                raise _Refused(405 if known else 404, f"there is no {method} {parts.path[:100]}")
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            query["path"] = unquote("/".join(words[3:]))
            return 200, await self._unless_gone(reader, route(run, query, body))
        except _Refused as error:
            return error.status, {"error": error.text}
        except (SaysError, UnicodeDecodeError, RecursionError) as error:
            return 400, {"error": str(error)}
        except NoPortError as error:
            return 409, {"error": str(error)}
        except NotKeptError as error:
            return 503, {"error": f"this node cannot keep what was said: {error}"}
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            raise
        except Exception:
            log.exception("workload_request_failed")
            return 500, {"error": "a defect in the agent: its log says more"}

    @staticmethod
    async def _unless_gone(reader: asyncio.StreamReader, work: Awaitable[Answer]) -> Answer:
        """What waits, waits for somebody: it ends when the task has closed its end."""
        doing = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise ConnectionResetError
            return doing.result()
        finally:
            for one in (doing, gone):
                one.cancel()
            await asyncio.gather(doing, gone, return_exceptions=True)

    # ------------------------------------------------------------------------ routes

    async def _ready(self, run: RunId, _query: dict[str, str], body: dict[str, Any]) -> Answer:
        ready = body.get("ready", body.get("status", "ready") == "ready")
        if not isinstance(ready, bool):
            raise _Refused(400, "ready: expected true or false")
        await self._kept(self._board.ready(run, ready))
        return {"ready": ready}

    async def _heartbeat(self, run: RunId, _query: dict[str, str], _body: dict[str, Any]) -> Answer:
        self._board.beat(run)
        return {}

    async def _metrics(self, run: RunId, _query: dict[str, str], body: dict[str, Any]) -> Answer:
        self._board.report(run, body)
        return {"metrics": len(self._board.of(run).metrics)}

    async def _shutdown_notice(self, run: RunId, query: dict[str, str], _body: dict[str, Any]) -> Answer:
        said = self._board.of(run)
        wait_s = _number(query.get("wait", "0"), "wait", 0, WAIT_MAX_S)
        if wait_s > 0 and not said.listens:
            said.listens = True
            await self._kept(True)
        if wait_s > 0 and not said.notice.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await said.notice.wait()
        if said.deadline_s is None:
            return {"stopping": False}
        if said.heard_s is None:
            said.heard_s = time.monotonic()
            said.changed.set()
        if query.get("hold") == "true":
            self._board.drains(run)
        return {"stopping": True, "grace_s": round(max(0.0, said.deadline_s - time.monotonic()), 3)}

    async def _shutdown(self, run: RunId, _query: dict[str, str], body: dict[str, Any]) -> Answer:
        status = body.get("status", "done")
        if status == "draining":
            self._board.drains(run)
        elif status == "done":
            await self._kept(self._board.is_done(run))
        else:
            raise _Refused(400, "status: expected 'draining' or 'done'")
        return {"status": status}

    async def _lease(self, run: RunId, _query: dict[str, str], body: dict[str, Any]) -> Answer:
        first, end = body.get("first", leases.FIRST), body.get("end", leases.END)
        if type(first) is not int or type(end) is not int:
            raise _Refused(400, "first, end: expected port numbers")
        wanted = body.get("protocols", ["tcp"])
        if not isinstance(wanted, list) or not wanted or any(one not in PROTOCOLS for one in wanted):
            raise _Refused(400, "protocols: expected a list of 'tcp' and 'udp'")
        protocols = sorted({PROTOCOLS[one] for one in wanted})
        port = self._ports.lease(run, first=first, end=end, protocols=protocols)
        try:
            await self._kept(True)
        except NotKeptError:
            self._ports.release(run, port, protocols)  # the task does not hear of it
            raise
        return {"port": port, "protocols": [one.name.lower() for one in protocols]}

    async def _release(self, run: RunId, query: dict[str, str], _body: dict[str, Any]) -> Answer:
        port = int(_number(query["path"], "port", 1, 65_535))
        words = query.get("protocols", "tcp,udp").split(",")
        released = self._ports.release(run, port, [PROTOCOLS[one] for one in words if one in PROTOCOLS])
        await self._kept(bool(released))
        return {"released": released}

    async def _service(self, run: RunId, query: dict[str, str], _body: dict[str, Any]) -> Answer:
        name = ServiceName(namespace=query.get("namespace", run.key.id.namespace), name=query["path"])
        known = await self._lookup(name)
        if known is None:
            raise _Refused(503, f"no peer has answered yet what service {name.name[:80]!r} is")
        if not known.service.declared and not known.service.instances:
            raise _Refused(404, f"no job in namespace {name.namespace[:80]!r} offers service {name.name[:80]!r}")
        return {**plain(known.service), "age_ms": known.age_ms}

    async def _allocation(self, run: RunId, _query: dict[str, str], _body: dict[str, Any]) -> Answer:
        said = self._board.of(run)
        return {
            "allocation": plain(run.key.id),
            "attempt": run.key.attempt,
            "restarts": run.restarts,
            "task": run.task,
            "ready": said.ready,
            "stopping": said.deadline_s is not None,
            "ports": [plain(port) for port in self._ports.of(run)],
        }


async def _read(reader: asyncio.StreamReader) -> tuple[str, str, str, dict[str, Any]]:
    """Method, target, token, body."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _Refused(413, f"a head of more than {HEAD_BYTES} bytes") from None
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Refused(400, "expected an HTTP/1.1 request")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or "transfer-encoding" in headers:
        raise _Refused(400, "expected a body with Content-Length")
    if len(length) > 9 or int(length) > BODY_BYTES:
        raise _Refused(413, f"a body has at most {BODY_BYTES} bytes")
    raw = await reader.readexactly(int(length))
    body: Any = {}
    if raw.strip():
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            raise _Refused(400, "the body is not JSON") from None
        if not isinstance(body, dict):
            raise _Refused(400, "expected a JSON object")
    kind, _, token = headers.get("authorization", "").partition(" ")
    return words[0], words[1], token.strip() if kind.lower() == "bearer" else "", body


def _number(text: str, name: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not low <= value <= high:
        raise _Refused(400, f"{name}: expected a number from {low:g} to {high:g}")
    return value
