"""``GrpcNetwork`` against hand-made calls: who is let in, and what a session is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from orchestrator.replication.link import greeting_problem
from orchestrator.replication.transport import SERVER_OPTIONS, GrpcNetwork
from orchestrator.replication.v1 import peer_pb2 as pb
from orchestrator.replication.v1 import peer_pb2_grpc as rpc

PEERS = ["p1", "p2"]


class Heard:
    """A receiver that notes what the network tells it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []
        self.frames: list[pb.Frame] = []

    def hello(self) -> pb.Hello:
        return pb.Hello(peer_id="p1", incarnation="disk", epoch=1, peers=PEERS)

    def judge(self, hello: pb.Hello) -> str:
        return greeting_problem(self.hello(), hello)

    def peer_up(self, peer_id: str, hello: pb.Hello) -> None:
        self.events.append(("up", peer_id))

    def peer_down(self, peer_id: str) -> None:
        self.events.append(("down", peer_id))

    def session_began(self, peer_id: str, hello: pb.Hello, *, cert_expires_ms: int) -> None:
        self.events.append(("began", peer_id, str(hello.session)))

    def session_ended(self, peer_id: str) -> None:
        self.events.append(("ended", peer_id))

    def received(self, peer_id: str, frame: pb.Frame) -> None:
        self.frames.append(frame)

    def refused(self, peer_id: str, reason: str, hello: pb.Hello | None = None) -> None:
        self.events.append(("refused", peer_id, reason))


@asynccontextmanager
async def served(identify: Callable[[Any], str | None] | None = None) -> AsyncIterator[tuple[Heard, rpc.PeersStub]]:
    heard = Heard()
    network = GrpcNetwork(identify=identify)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    network.add_to_server(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await network.start("p1", {"p2": "127.0.0.1:1"}, heard)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield heard, rpc.PeersStub(channel)
    finally:
        await network.stop()
        await server.stop(None)


def hello(peer_id: str = "p2", *, session: int = 1) -> pb.Frames:
    said = pb.Hello(peer_id=peer_id, incarnation="other disk", epoch=1, session=session, peers=PEERS)
    return pb.Frames(frames=[pb.Frame(hello=said)])


async def greeted(stub: rpc.PeersStub, first: pb.Frames) -> Any:
    call: Any = stub.Raft()
    await call.write(first)
    assert (await call.read()).hello.peer_id == "p1"
    return call


async def refusal(stub: rpc.PeersStub, first: pb.Frames | None) -> grpc.aio.AioRpcError:
    """``first`` None: refused unheard. What one wrote then might meet the end of the call: gRPC tells only that."""
    call: Any = stub.Raft()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if first is not None:
            await call.write(first)
        await asyncio.wait_for(call.read(), 10)
    return caught.value


async def test_session_delivers_frames_in_order_and_answers_pings() -> None:
    async with served() as (heard, stub):
        call = await greeted(stub, hello())
        for term in range(1, 30):
            await call.write(pb.Frames(frames=[pb.Frame(stale_term=pb.StaleTerm(term=term))] * 2))
        await call.write(pb.Frames())
        assert (await asyncio.wait_for(call.read(), 10)) == pb.Welcome()
        assert [frame.stale_term.term for frame in heard.frames] == [term for term in range(1, 30) for _ in range(2)]
        assert heard.events[0] == ("began", "p2", "1")
        call.cancel()


async def test_new_session_of_a_peer_ends_its_older_one() -> None:
    async with served() as (heard, stub):
        old = await greeted(stub, hello(session=1))
        new = await greeted(stub, hello(session=2))
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            while await asyncio.wait_for(old.read(), 10) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                pass
            raise asyncio.CancelledError
        await new.write(pb.Frames(frames=[pb.Frame(stale_term=pb.StaleTerm(term=7))]))
        await new.write(pb.Frames())
        await asyncio.wait_for(new.read(), 10)
        assert [frame.stale_term.term for frame in heard.frames] == [7]
        assert heard.events == [("began", "p2", "1"), ("began", "p2", "2")]  # the peer was never gone
        new.cancel()


async def test_peer_that_is_not_in_the_list_is_refused_with_the_list_and_the_epoch() -> None:
    async with served() as (heard, stub):
        call: Any = stub.Raft()
        await call.write(hello("p9"))
        welcome = await asyncio.wait_for(call.read(), 10)
        assert "p1, p2" in welcome.refused
        assert (welcome.hello.peer_id, welcome.hello.epoch) == ("p1", 1)
        assert await asyncio.wait_for(call.read(), 10) is grpc.aio.EOF  # type: ignore[attr-defined]
        assert heard.events[0][:2] == ("refused", "p9")


async def test_certificate_of_another_peer_is_refused() -> None:
    async with served(lambda _: "p3") as (heard, stub):
        error = await refusal(stub, hello())
        assert "its certificate is for 'p3'" in str(error.details())
        assert heard.frames == []


async def test_certificate_of_no_peer_is_refused() -> None:
    async with served(lambda _: None) as (_, stub):
        assert "certificate is not a peer's" in str((await refusal(stub, None)).details())


async def test_session_without_a_hello_is_refused() -> None:
    async with served() as (heard, stub):
        error = await refusal(stub, pb.Frames(frames=[pb.Frame(append=pb.AppendEntries(term=99))]))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert heard.frames == []
