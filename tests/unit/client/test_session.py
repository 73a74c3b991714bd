"""One open session: what is said at once is said in turn, and what came is not lost when something is said too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.client.sessions import Session
from orchestrator.contract.answers import SessionStarted
from orchestrator.contract.errors import PreconditionError
from orchestrator.contract.model import AllocationId
from orchestrator.contract.v1.session_pb2 import AgentFrame, ClientFrame, SessionEnd

STARTED = SessionStarted(id=AllocationId(namespace="default", job="web", group="main", ordinal=0))


class OneAtATime:
    """A stream as gRPC's: a second write during the first ends it."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.busy = False
        self.broken = False

    async def write(self, frame: Any) -> None:
        if self.busy or self.broken:
            self.broken = True
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "TOO_MANY_OPERATIONS", None
            )
        self.busy = True
        for _ in range(3):
            await asyncio.sleep(0)
        self.busy = False
        self.frames.append(frame.WhichOneof("frame"))


async def test_typing_and_resizing_at_once_do_not_end_the_call() -> None:
    """CI found it: the command line ended with "Internal error from Core" in the middle of a session."""
    call = OneAtATime()
    session = Session(call, "a:1", STARTED)
    await asyncio.gather(session.send(b"ls\n"), session.resize(24, 80), session.signal("SIGINT"), session.end_input())
    assert not call.broken
    assert call.frames == ["data", "size", "signal", "end_of_data"]


async def test_after_its_end_nobody_hears_what_is_said_and_nothing_is_raised() -> None:
    call = OneAtATime()
    call.broken = True
    session = Session(call, "a:1", STARTED)
    await session.send(b"ls\n")
    await session.resize(24, 80)
    assert call.frames == []


# ---------------------------------------------------------------------------- a real call that is over already


@pytest.fixture
async def calls() -> AsyncIterator[dict[str, Any]]:
    """Started calls of a peer that says everything at once and listens to nothing."""

    async def whole(_ups: Any, _context: Any) -> AsyncIterator[AgentFrame]:
        for piece in (b"one", b"two"):
            yield AgentFrame(data=piece)
        yield AgentFrame(end=SessionEnd(exit_code=3))

    async def lost(_ups: Any, context: Any) -> AsyncIterator[AgentFrame]:
        yield AgentFrame(data=b"one")
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the agent went away")

    server = grpc.aio.server()
    coding = ClientFrame.FromString, AgentFrame.SerializeToString
    methods = {"Whole": whole, "Lost": lost}
    handlers = {name: grpc.stream_stream_rpc_method_handler(made, *coding) for name, made in methods.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    back = ClientFrame.SerializeToString, AgentFrame.FromString
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        made: Any = channel.stream_stream
        try:
            yield {name: made(f"/test/{name}", *back)() for name in methods}
        finally:
            await server.stop(None)


async def said_too_late(call: Any) -> Session:
    """A session that writes until gRPC refuses, with nothing read yet."""
    session = Session(call, "a:1", STARTED)
    async with asyncio.timeout(30):
        while not call.done():
            await session.send(b"x" * 1000)
    return session


async def test_what_came_is_read_though_something_was_said_after_the_end(calls: dict[str, Any]) -> None:
    """It ended with "Internal error from Core" and exit code 1, without the output that had come: a terminal says its
    size when it begins, and ``echo`` is done by then."""
    session = await said_too_late(calls["Whole"])
    assert [await session.read() for _ in range(3)] == [(False, b"one"), (False, b"two"), None]
    assert session.exit_code == 3


async def test_why_it_was_lost_is_heard_though_something_was_said_after_that(calls: dict[str, Any]) -> None:
    session = await said_too_late(calls["Lost"])
    assert await session.read() == (False, b"one")
    with pytest.raises(PreconditionError, match="the agent went away"):
        await session.read()
