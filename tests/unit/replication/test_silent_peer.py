"""A peer that stops (SIGSTOP, a hung host) while frames wait for it is dialled again when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from orchestrator.replication import transport
from orchestrator.replication.transport import GrpcNetwork
from orchestrator.replication.v1 import peer_pb2 as pb
from orchestrator.replication.v1 import peer_pb2_grpc as rpc


class _Stopped(rpc.PeersServicer):
    """Welcomes each session, then neither reads nor answers."""

    def __init__(self) -> None:
        self.sessions = 0
        self.second = asyncio.Event()

    async def Raft(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[pb.Welcome]:  # noqa: N802
        await anext(requests)
        self.sessions += 1
        if self.sessions == 2:
            self.second.set()
        yield pb.Welcome(hello=pb.Hello(peer_id="b"))
        await asyncio.Event().wait()


class _Receiver:
    def __init__(self) -> None:
        self.up = asyncio.Event()

    def hello(self) -> pb.Hello:
        return pb.Hello(peer_id="a")

    def judge(self, hello: pb.Hello) -> str:
        return ""

    def peer_up(self, peer_id: str, hello: pb.Hello) -> None:
        self.up.set()

    def peer_down(self, peer_id: str) -> None: ...
    def session_began(self, peer_id: str, hello: pb.Hello, *, cert_expires_ms: int) -> None: ...
    def session_ended(self, peer_id: str) -> None: ...
    def received(self, peer_id: str, frame: pb.Frame) -> None: ...
    def refused(self, peer_id: str, reason: str, hello: pb.Hello | None = None) -> None: ...


async def test_a_write_that_waits_for_a_silent_peer_does_not_end_dialling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_SILENT_S", 0.2)
    servicer = _Stopped()
    server = grpc.aio.server()
    rpc.add_PeersServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    network, receiver = GrpcNetwork(), _Receiver()
    try:
        await network.start("a", {"b": f"127.0.0.1:{port}"}, receiver)
        async with asyncio.timeout(10):
            await receiver.up.wait()
            while not servicer.second.is_set():
                # As heartbeats do: there is nearly always a write under way, also when the session is given up.
                network.send("b", [pb.Frame(snapshot_chunk=pb.SnapshotChunk(data=b"x" * 10_000))])
                await asyncio.sleep(0)
    finally:
        await network.stop()
        await server.stop(None)
