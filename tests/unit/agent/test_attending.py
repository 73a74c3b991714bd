"""The agent's half of ``Agents.Attend``, against a call that is played by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from agent import attending
from agent.attending import Attending, TooLargeError, UnexplainedError
from orchestrator.contract.v1 import agent_pb2 as pb

END = object()


class Call:
    """What ``grpc.aio`` gives; a second write beside one that is under way is refused, as there."""

    def __init__(self) -> None:
        self.downs: asyncio.Queue[Any] = asyncio.Queue()
        self.ups: asyncio.Queue[pb.AttendUp] = asyncio.Queue()
        self.ended: Exception | None = None
        self._writing = False

    async def read(self) -> Any:
        down = await self.downs.get()
        if isinstance(down, Exception):
            raise down
        return down

    async def write(self, up: pb.AttendUp) -> None:
        if self.ended is not None:
            raise self.ended
        assert not self._writing, "two writes at a time"
        self._writing = True
        await asyncio.sleep(0)
        self._writing = False
        self.ups.put_nowait(up)

    def say(self, data: bytes, *, last: bool = False, mark: int = 0) -> None:
        self.downs.put_nowait(pb.AttendDown(piece=pb.AssignmentsPiece(data=data, last=last, mark=mark)))

    def answer(self, sequence: int) -> None:
        self.downs.put_nowait(pb.AttendDown(acknowledged=pb.HeartbeatResponse(sequence=sequence)))

    async def heard(self) -> pb.AttendUp:
        async with asyncio.timeout(5):
            return await self.ups.get()


async def test_pieces_become_updates_and_the_last_ones_mark_is_said_back_once_it_was_taken_up() -> None:
    call = Call()
    stream = Attending(call)
    reading = asyncio.ensure_future(stream.read())
    updates = stream.updates()
    first = pb.AssignmentsUpdate(index=7, full=True, removed=[pb.AssignmentKey(job_uid="x" * 90)])
    more = pb.AssignmentsUpdate(removed=[pb.AssignmentKey(job_uid="y")])
    raw = first.SerializeToString() + more.SerializeToString()
    for start in range(0, len(raw), 40):
        call.say(raw[start : start + 40], last=start + 40 >= len(raw), mark=start + 40)
    call.say(pb.AssignmentsUpdate(index=8).SerializeToString(), last=True)
    update = await anext(updates)
    assert (update.index, update.full, [one.job_uid for one in update.removed]) == (7, True, ["x" * 90, "y"])
    assert [(await call.heard()).arrived for _ in range(2)] == [40, 80]
    for _ in range(20):
        await asyncio.sleep(0)
    assert call.ups.empty(), "it has not been taken up yet"
    assert (await anext(updates)).index == 8
    assert (await call.heard()).arrived == 120
    reading.cancel()


async def test_an_answer_comes_though_updates_wait_to_be_taken_up() -> None:
    call = Call()
    stream = Attending(call)
    reading = asyncio.ensure_future(stream.read())
    for index in range(1, 4):
        call.say(pb.AssignmentsUpdate(index=index).SerializeToString(), last=True, mark=index)
    beating = asyncio.ensure_future(stream.beat(pb.HeartbeatRequest(sequence=5)))
    assert (await call.heard()).heartbeat.sequence == 5
    call.answer(5)
    async with asyncio.timeout(5):
        assert (await beating).sequence == 5
    reading.cancel()


async def test_heartbeats_and_marks_are_not_written_at_once() -> None:
    call = Call()
    stream = Attending(call)
    reading = asyncio.ensure_future(stream.read())
    beating = asyncio.ensure_future(stream.beat(pb.HeartbeatRequest(sequence=1)))
    call.say(b"\x08", mark=1)
    assert {(await call.heard()).WhichOneof("message") for _ in range(2)} == {"heartbeat", "arrived"}
    call.answer(1)
    await beating
    reading.cancel()


def rpc_error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, None)


CORE = rpc_error(grpc.StatusCode.INTERNAL, "Internal error from Core")


@pytest.mark.parametrize("ended", [asyncio.InvalidStateError(), CORE])
async def test_the_end_of_the_stream_is_what_read_says(ended: Exception) -> None:
    call = Call()
    stream = Attending(call)
    call.ended = ended
    beating = asyncio.ensure_future(stream.beat(pb.HeartbeatRequest(sequence=1)))
    call.downs.put_nowait(END)
    await stream.read()
    assert not beating.done()
    beating.cancel()


async def test_a_refusal_is_heard_though_it_came_while_something_was_written() -> None:
    call = Call()
    for error in (CORE, CORE, rpc_error(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")):
        call.downs.put_nowait(error)
    with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
        await Attending(call).read()


async def test_an_error_that_stays_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attending, "STATUS_TRIES", 2)
    call = Call()
    for _ in range(3):
        call.downs.put_nowait(CORE)
    with pytest.raises(UnexplainedError, match="Internal error from Core"):
        await Attending(call).read()


async def test_an_update_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attending, "MOST_BYTES", 1000)
    call = Call()
    for _ in range(11):
        call.say(bytes(100))
    with pytest.raises(TooLargeError):
        await Attending(call).read()
