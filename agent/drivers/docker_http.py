"""The Docker engine's HTTP interface for streams both ways, awaited instead of blocked on.

Owns: one request on a connection of its own: over a unix socket, TCP or TLS, as ``DOCKER_HOST``, ``DOCKER_TLS_VERIFY``
and ``DOCKER_CERT_PATH`` say (as the SDK reads them); chunked bodies; upgraded connections. Leaves to others: the plain
calls (the SDK, in ``docker``), meaning. The rule: bodies are read and written as the other side of a session takes
them, which the SDK's blocking sockets cannot do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from agent.driver import DriverUnavailableError

LIMIT = 64 * 1024
CONNECT_S = 10.0
ANSWER_S = 30.0
FRESH_S = 1.0
PULSE_S = 2.5
"""One lost answer must be over before the engine is asked again (``answering.LOOK_S``), or it would count twice."""
UNIX = "/var/run/docker.sock"


class EngineError(Exception):
    """The engine said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Answer:
    """An answer whose body has not been read; ``close`` it. ``reader`` and ``writer`` are the connection itself."""

    def __init__(
        self, status: int, headers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.status = status
        self.headers = headers
        self.reader = reader
        self.writer = writer

    async def body(self) -> AsyncIterator[bytes]:
        """Pieces of at most ``LIMIT`` bytes. Raises ``DriverUnavailableError`` when it breaks off."""
        try:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                while size := int((await self.reader.readline()).split(b";")[0] or b"0", 16):
                    while size:
                        piece = await self.reader.read(min(size, LIMIT))
                        if not piece:
                            raise DriverUnavailableError("the engine broke off its answer")
                        size -= len(piece)
                        yield piece
                    await self.reader.readline()
                return
            left = int(self.headers.get("content-length", -1))
            while left and (piece := await self.reader.read(LIMIT if left < 0 else min(left, LIMIT))):
                left -= len(piece) if left > 0 else 0
                yield piece
            if left > 0:
                raise DriverUnavailableError("the engine broke off its answer")
        except (OSError, ValueError) as error:
            raise DriverUnavailableError(f"the engine's answer broke off: {error}") from error

    async def json(self) -> Any:
        raw = b"".join([piece async for piece in self.body()])
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            raise DriverUnavailableError("the engine's answer is no JSON") from None

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


async def begin(
    method: str,
    path: str,
    *,
    query: dict[str, str] | None = None,
    value: Any = None,
    stream: bool = False,
    upgrade: bool = False,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request: ``value`` as JSON; or, ``stream``, its head only: a chunked body follows. Raises
    ``DriverUnavailableError``."""
    host = os.environ.get("DOCKER_HOST") or f"unix://{UNIX}"
    parts = urlsplit(host if "://" in host else f"tcp://{host}")
    try:
        async with asyncio.timeout(CONNECT_S):
            if parts.scheme in ("unix", "http+unix"):
                reader, writer = await asyncio.open_unix_connection(parts.path or UNIX, limit=LIMIT)
            elif parts.scheme in ("tcp", "http", "https"):
                reader, writer = await asyncio.open_connection(
                    parts.hostname, parts.port or 2375, ssl=_tls(parts.scheme), limit=LIMIT
                )
            else:
                raise DriverUnavailableError(f"DOCKER_HOST {host}: expected unix:// or tcp://")
    except (OSError, TimeoutError) as error:
        raise DriverUnavailableError(f"the Docker engine does not answer: {error}") from error
    raw = b"" if value is None else json.dumps(value).encode()
    target = quote(path) + (f"?{urlencode(query)}" if query else "")
    lines = [f"{method} {target} HTTP/1.1", "Host: docker", "User-Agent: raftsman"]
    if upgrade:
        lines += ["Connection: Upgrade", "Upgrade: tcp"]
    else:
        lines.append("Connection: close")
    if stream:
        lines += ["Content-Type: application/x-tar", "Transfer-Encoding: chunked"]
    else:
        lines += ["Content-Type: application/json", f"Content-Length: {len(raw)}"]
    writer.write("\r\n".join([*lines, "", ""]).encode() + raw)
    return reader, writer


async def answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, patience_s: float | None, head_only: bool = False
) -> Answer:
    """The head of the engine's answer. Raises ``EngineError``, ``DriverUnavailableError``; the connection is closed
    then."""
    try:
        async with asyncio.timeout(patience_s):
            await writer.drain()
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                status = int(head[0].split(" ", 2)[1])
                if status != 100:
                    break
        pairs = [line.partition(":") for line in head[1:] if line]
        headers = {name.strip().lower(): content.strip() for name, _, content in pairs}
        found = Answer(status, headers, reader, writer)
        if status >= 400:
            async with asyncio.timeout(ANSWER_S if patience_s is None else patience_s):  # its words follow at once
                said = b"" if head_only else b"".join([piece async for piece in found.body()])
            try:
                message = str(json.loads(said)["message"])
            except (ValueError, KeyError, TypeError):
                message = said.decode("utf-8", "replace").strip() or f"HTTP status {status}"
            raise EngineError(status, message)
        return found
    except TimeoutError as error:
        writer.close()
        raise DriverUnavailableError("the Docker engine does not answer: it takes calls and says nothing") from error
    except (OSError, ValueError, IndexError, asyncio.IncompleteReadError) as error:
        writer.close()
        raise DriverUnavailableError(
            f"the Docker engine does not answer: {str(error) or type(error).__name__}"
        ) from error
    except BaseException:
        writer.close()
        raise


async def call(
    method: str,
    path: str,
    *,
    query: dict[str, str] | None = None,
    value: Any = None,
    upgrade: bool = False,
    patience_s: float | None = ANSWER_S,
) -> Answer:
    """One request and the head of its answer."""
    reader, writer = await begin(method, path, query=query, value=value, upgrade=upgrade)
    return await answer(reader, writer, patience_s=patience_s, head_only=method == "HEAD")


async def ask(
    method: str, path: str, *, query: dict[str, str] | None = None, value: Any = None, patience_s: float = ANSWER_S
) -> Any:
    """One request and the whole of its answer, which is JSON."""
    found = await call(method, path, query=query, value=value, patience_s=patience_s)
    try:
        async with asyncio.timeout(patience_s):
            return await found.json()
    except TimeoutError:
        raise DriverUnavailableError("the Docker engine does not answer in time") from None
    finally:
        await found.close()


class Pulse:
    """Whether the engine says anything at all, asked once for all who want to know at about the same time."""

    def __init__(self) -> None:
        self._heard_s = -FRESH_S
        self._asking: asyncio.Future[None] | None = None

    async def __call__(self) -> None:
        """Return when it does, or has just done so. Raises ``DriverUnavailableError``."""
        if time.monotonic() - self._heard_s < FRESH_S:
            return
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
            self._asking.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(PULSE_S):
                with contextlib.suppress(EngineError):  # that is an answer, too
                    await (await call("GET", "/_ping")).close()
        except TimeoutError:
            raise DriverUnavailableError(f"the Docker engine does not answer (no word for {PULSE_S:g} s)") from None
        self._heard_s = time.monotonic()


def _tls(scheme: str) -> ssl.SSLContext | None:
    if scheme != "https" and not os.environ.get("DOCKER_TLS_VERIFY"):
        return None
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    context = ssl.create_default_context(cafile=str(folder / "ca.pem") if (folder / "ca.pem").exists() else None)
    if (folder / "cert.pem").exists():
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
