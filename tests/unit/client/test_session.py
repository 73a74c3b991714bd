"""One open session, of a call that is not there: what is said at once is said in turn."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from orchestrator.client.sessions import Session
from orchestrator.contract.answers import SessionStarted
from orchestrator.contract.model import AllocationId

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
