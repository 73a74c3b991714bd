"""An open-loop load generator for one gRPC method that costs almost nothing: HTTP/2 frames by hand.

Calls are begun on a fixed schedule, whether or not earlier ones were answered, and latency counts from when a call was
due (no coordinated omission). A Python gRPC client spends more processor time on a call than a peer spends on refusing
one, and here both share two cores; this one writes ready-made frames (RFC 9113: HEADERS with literals that need no
compression state, DATA, END_STREAM) and reads no more of an answer than it must: a message that is not empty (all
answers that are counted here have an index) means that the call was done, else it was refused. It keeps to the
server's flow control and gives the server none to wait for.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
LARGEST_WINDOW = 2**31 - 1
EMPTY = 5
"""Bytes of a message that has none: what ``grpc.aio`` sends before the trailers of a refusal."""


@dataclass
class Tally:
    """What became of the calls that were due within the measured time. Seconds."""

    offered: int = 0
    done: int = 0
    refused: int = 0
    late: int = 0  # no answer before the deadline
    unsent: int = 0  # the server's flow control, or a connection that is gone, held them back
    latencies: list[float] = field(default_factory=list)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """A literal field that is not indexed (RFC 7541, 6.2.2); both shorter than 127 bytes."""
    assert len(name) < 127
    assert len(value) < 127
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


class Connection(asyncio.Protocol):
    def __init__(self, path: str, authority: str, deadline_s: float) -> None:
        self._headers = b"".join(
            header(name, value)
            for name, value in (
                (b":method", b"POST"),
                (b":scheme", b"https"),
                (b":path", path.encode()),
                (b":authority", authority.encode()),
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
                (b"grpc-timeout", b"%dm" % int(deadline_s * 1000)),
            )
        )
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._stream = 1
        self._window = 65_535  # what the server lets us send on the connection
        self._open: dict[int, tuple[float, Tally]] = {}
        self._answered: set[int] = set()
        self._out: list[bytes] = []
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = struct.pack(">HIHI", 0x4, LARGEST_WINDOW, 0x1, 0)  # window of each stream; no header table
        transport.write(PREFACE + frame(SETTINGS, 0, 0, settings) + self._more_window(LARGEST_WINDOW - 65_535))

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True

    def _more_window(self, size: int) -> bytes:
        return frame(WINDOW, 0, 0, struct.pack(">I", size))

    def call(self, due: float, message: bytes, tally: Tally) -> None:
        """Begin one call with the next ``flush``."""
        size = len(message) + 5
        if self.gone or size > self._window:
            tally.unsent += 1
            return
        self._window -= size
        stream, self._stream = self._stream, self._stream + 2
        self._open[stream] = (due, tally)
        self._out.append(frame(HEADERS, END_HEADERS, stream, self._headers))
        self._out.append(frame(DATA, END_STREAM, stream, b"\x00" + struct.pack(">I", len(message)) + message))

    def flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def expire(self, before: float) -> None:
        """Calls that were due before then and have no answer are late."""
        for stream in [stream for stream, (due, _) in self._open.items() if due < before]:
            _, tally = self._open.pop(stream)
            tally.late += 1
            self._answered.discard(stream)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = taken = 0
        while len(buffer) - at >= 9:
            length = buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2]
            end = at + 9 + length
            if end > len(buffer):
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big") & 0x7FFFFFFF
            if kind == DATA:
                taken += length
                if length > EMPTY:
                    self._answered.add(stream)
            elif kind == WINDOW and stream == 0:
                self._window += int.from_bytes(buffer[at + 9 : end], "big")
            elif kind == SETTINGS and not flags & ACK:
                self._out.append(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                self._out.append(frame(PING, ACK, 0, bytes(buffer[at + 9 : end])))
            elif kind == GOAWAY:
                self.gone = True
            if (kind in (DATA, HEADERS) and flags & END_STREAM) or kind == RESET:
                self._end(stream)
            at = end
        del buffer[:at]
        if taken:
            self._out.append(self._more_window(taken))
        self.flush()

    def _end(self, stream: int) -> None:
        found = self._open.pop(stream, None)
        done = stream in self._answered
        self._answered.discard(stream)
        if found is None:
            return  # late
        due, tally = found
        if done:
            tally.done += 1
            tally.latencies.append(time.perf_counter() - due)
        else:
            tally.refused += 1


class Generator:
    """``connections`` to each address; calls go to them in turn."""

    def __init__(
        self, addresses: list[str], tls: Path | None, path: str, *, deadline_s: float, connections: int
    ) -> None:
        self._addresses = addresses
        self._tls = tls
        self._path = path
        self._deadline_s = deadline_s
        self._per_address = connections
        self._connections: list[Connection] = []
        self._next = 0

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        context = None
        if self._tls is not None:
            context = ssl.create_default_context(cafile=str(self._tls / "ca.pem"))
            context.load_cert_chain(self._tls / "cert.pem", self._tls / "key.pem")
            context.set_alpn_protocols(["h2"])
        for _ in range(self._per_address):
            for address in self._addresses:
                host, _, port = address.rpartition(":")
                _, connection = await loop.create_connection(
                    lambda address=address: Connection(self._path, address, self._deadline_s),
                    host, int(port), ssl=context, server_hostname="peer.raftsman" if context else None,
                )  # fmt: skip
                self._connections.append(connection)
        await asyncio.sleep(0.2)  # the servers' settings

    async def run(self, rate: float, seconds: float, warm_s: float, message: Callable[[], bytes]) -> Tally:
        """Offer ``rate`` calls a second; those due in the first ``warm_s`` are not counted."""
        thrown_away, tally = Tally(), Tally()
        began = time.perf_counter()
        begun = 0
        while (now := time.perf_counter()) < began + warm_s + seconds:
            while (due := began + begun / rate) <= now:
                mine = tally if due >= began + warm_s else thrown_away
                mine.offered += 1
                self._connections[self._next].call(due, message(), mine)
                self._next = (self._next + 1) % len(self._connections)
                begun += 1
            for connection in self._connections:
                connection.flush()
                if begun % 16 == 0:
                    connection.expire(now - self._deadline_s)
            await asyncio.sleep(0.002)
        until = time.perf_counter() + self._deadline_s
        while any(connection._open for connection in self._connections) and time.perf_counter() < until:
            await asyncio.sleep(0.01)
        for connection in self._connections:
            connection.expire(float("inf"))
        return tally

    def close(self) -> None:
        for connection in self._connections:
            if connection._transport is not None:
                connection._transport.abort()
