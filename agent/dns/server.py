"""The DNS server of an agent: UDP and TCP on one address, for the tasks of its node.

Owns: sockets, bounds on what is served at once, passing other names on to a resolver when told one. Leaves to others:
bytes (``wire``), meaning (``zone``), what is known of services (``discovery``). The rule: it answers what it is asked
as well as it can, and nothing that comes in ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from agent.dns import wire, zone
from agent.dns.hosts import Ask, Hosts, ask_system
from agent.dns.wire import Answer, Code, Malformed, Query
from agent.dns.zone import Known
from orchestrator.contract.model import ServiceName

Lookup = Callable[[ServiceName], Awaitable[Known | None]]

TRIES = 8
AT_ONCE = 256
"""Questions over UDP; further ones are dropped, and asked again by who needs them."""
CONNECTIONS = 64
IDLE_S = 10.0
UPSTREAM_S = 3.0
CLUSTER_S = 1.0
"""Another agent of this machine answers within a moment, or not at all."""

log = structlog.get_logger("agent.dns")


class DnsServer:
    """``upstream``: host and port of a resolver for all other names; None: they are refused; ``ask``: of ``Hosts``."""

    def __init__(
        self,
        lookup: Lookup,
        *,
        upstream: tuple[str, int] | None = None,
        cluster_id: Callable[[], str] = lambda: "",
        ask: Ask = ask_system,
    ) -> None:
        self._lookup = lookup
        self._hosts = Hosts(ask)
        self._cluster_id = cluster_id
        self._upstream = upstream
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0
        self.answered = 0

    async def serve(self, tcp: socket.socket, udp: socket.socket) -> None:
        """Answer on sockets that are bound already."""
        self._server = await asyncio.start_server(self._serve_tcp, sock=tcp, limit=wire.MAX_BYTES + 2)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)

    async def start(self, host: str, port: int) -> str:
        """Listen on one port for both; 0: any that is free. Returns the address. Raises OSError where it is taken."""
        for _ in range(0 if port else TRIES):  # what is free for one protocol may be taken for the other
            with contextlib.suppress(OSError):
                return await self._listen(host, port)
        return await self._listen(host, port)

    async def _listen(self, host: str, port: int) -> str:
        self._server = await asyncio.start_server(self._serve_tcp, host, port, limit=wire.MAX_BYTES + 2)
        bound = self._server.sockets[0].getsockname()
        try:
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), bound[:2])
        except OSError:
            self._server.close()
            raise
        return f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def received(self, data: bytes, sender: object) -> None:
        """One datagram."""
        if len(self._tasks) >= AT_ONCE:
            return
        task = asyncio.get_running_loop().create_task(self._serve_udp(data, sender))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve_udp(self, data: bytes, sender: object) -> None:
        answer = await self.answer(data, udp=True)
        if answer and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, sender)  # type: ignore[arg-type]

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            while self._connections <= CONNECTIONS:
                async with asyncio.timeout(IDLE_S):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    data = await reader.readexactly(length)
                answer = await self.answer(data, udp=False)
                if not answer:
                    return
                writer.write(struct.pack("!H", len(answer)) + answer)
                async with asyncio.timeout(IDLE_S):
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def answer(self, data: bytes, *, udp: bool) -> bytes:
        """Empty: what came deserves no answer."""
        try:
            query = wire.read_query(data)
        except Malformed as error:
            return wire.write_error(error.id, error.code) if error.id is not None else b""
        self.answered += 1
        if not zone.inside(query.name):
            return await self._other(query, data, udp)
        try:
            answer = await self._inside(query)
        except Exception:
            log.exception("dns_answer_failed", name=b".".join(query.name).decode("latin-1"))
            answer = Answer(code=Code.SERVFAIL)
        return self._written(query, answer, udp)

    async def _inside(self, query: Query) -> Answer:
        if query.class_ not in (wire.CLASS_IN, wire.CLASS_ANY):
            return Answer(code=Code.REFUSED, authoritative=False)
        wanted = zone.target(query.name)
        if wanted is None:
            return zone.own(query, self._cluster_id())
        known = await self._lookup(wanted.service)
        hosts = await self._hosts.find(zone.hosts(known)) if known is not None else {}
        return zone.answer(query, wanted, known, hosts)

    def _written(self, query: Query, answer: Answer, udp: bool) -> bytes:
        limit = query.udp_limit if udp else wire.MAX_BYTES
        return wire.write(query, answer, limit=limit, recursion=self._upstream is not None)

    # ------------------------------------------------------------------------ other names

    async def _other(self, query: Query, data: bytes, udp: bool) -> bytes:
        if self._upstream is None:
            return self._written(query, Answer(code=Code.REFUSED, authoritative=False), udp)
        own = secrets.randbits(16)
        asked = struct.pack("!H", own) + data[2:]
        try:
            async with asyncio.timeout(UPSTREAM_S):
                found = await (_ask_udp if udp else _ask_tcp)(self._upstream, asked, query)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return self._written(query, Answer(code=Code.SERVFAIL, authoritative=False), udp)
        return data[:2] + found[2:]


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._server.received(data, addr)


class _Asked(asyncio.DatagramProtocol):
    """One question to the resolver above, from a port of its own."""

    def __init__(self, asked: bytes, query: Query) -> None:
        self._asked = asked
        self._query = query
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done() and _answers(data, self._asked, self._query):
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


def _answers(data: bytes, asked: bytes, query: Query) -> bool:
    """Whether it is the answer to this question: others may send what they like."""
    if len(data) < wire.HEADER.size or data[:2] != asked[:2] or not data[2] & 0x80:
        return False
    head = wire.HEADER.size
    return data[head : head + len(query.question)].lower() == query.question.lower() or data[4:6] == b"\0\0"


async def of_cluster(asking: socket.socket, cluster_id: str) -> bool:
    """Whether who answers at the other end of ``asking``, which is closed then, is an agent of this cluster."""
    query = wire.question((cluster_id.encode(), *zone.CLUSTER), secrets.randbits(16))
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: _Asked(query, wire.read_query(query)), sock=asking
        )
    except BaseException:
        asking.close()
        raise
    try:
        transport.sendto(query)
        async with asyncio.timeout(CLUSTER_S):
            return wire.exists(await protocol.answer)
    except (OSError, TimeoutError):
        return False
    finally:
        transport.close()


async def _ask_udp(upstream: tuple[str, int], asked: bytes, query: Query) -> bytes:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: _Asked(asked, query), remote_addr=upstream)
    try:
        transport.sendto(asked)
        return await protocol.answer
    finally:
        transport.close()


async def _ask_tcp(upstream: tuple[str, int], asked: bytes, query: Query) -> bytes:
    reader, writer = await asyncio.open_connection(*upstream)
    try:
        writer.write(struct.pack("!H", len(asked)) + asked)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        data = await reader.readexactly(length)
        if not _answers(data, asked, query):
            raise OSError("an answer to another question")
        return data
    finally:
        writer.close()


def system_resolver(path: Path = Path("/etc/resolv.conf")) -> tuple[str, int] | None:
    """The first one that this machine uses."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver":
                return words[1], 53
    return None
