"""One stream to the leader (``Agents.Attend``): heartbeats go up, their answers and the assignments come down.

Owns: one call: whose turn it is to write, which answer is whose, putting updates together from their pieces, saying
marks back. Leaves to others: when to beat, what an answer means and taking up updates (``session``). The rule: nothing
that is taken up keeps an answer waiting, and what the peer sends ahead is bounded by the marks: those of updates that
wait are said back once they were taken up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from orchestrator.contract.status import BROKE
from orchestrator.contract.v1 import agent_pb2

MOST_BYTES = 64 * 1024 * 1024
"""Of one update."""
STATUS_S = 0.01
STATUS_TRIES = 50
"""How often, and how many times, a call that has ended is asked again why."""


class TooLargeError(Exception):
    """An update has more than ``MOST_BYTES``."""


class UnexplainedError(Exception):
    """The stream ended, and gRPC does not tell why."""


class Attending:
    """``call`` is a new one of ``Agents.Attend``; ``read`` must run while the other methods are used."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._writing = asyncio.Lock()
        self._answer: asyncio.Future[agent_pb2.HeartbeatResponse] | None = None
        self._whole: asyncio.Queue[tuple[bytes, int]] = asyncio.Queue()  # updates and their last marks

    async def beat(self, request: agent_pb2.HeartbeatRequest) -> agent_pb2.HeartbeatResponse:
        """One at a time."""
        self._answer = asyncio.get_running_loop().create_future()
        await self._write(agent_pb2.AttendUp(heartbeat=request))
        return await self._answer

    async def updates(self) -> AsyncIterator[agent_pb2.AssignmentsUpdate]:
        """One after the other, as they were taken up: who asks for the next one has done so."""
        while True:
            raw, mark = await self._whole.get()
            yield agent_pb2.AssignmentsUpdate.FromString(raw)
            if mark:
                await self._write(agent_pb2.AttendUp(arrived=mark))

    async def read(self) -> None:
        """Until the peer ends the stream; raises what gRPC does, ``UnexplainedError`` and ``TooLargeError``."""
        parts = bytearray()
        while isinstance(down := await self._next(), agent_pb2.AttendDown):
            if down.HasField("acknowledged"):
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(down.acknowledged)
                continue
            piece = down.piece
            parts += piece.data
            if len(parts) > MOST_BYTES:
                raise TooLargeError(f"assignments of more than {MOST_BYTES >> 20} MiB at once")
            if piece.last:
                self._whole.put_nowait((bytes(parts), piece.mark))
                parts.clear()
            elif piece.mark:
                await self._write(agent_pb2.AttendUp(arrived=piece.mark))

    def cancel(self) -> None:
        self._call.cancel()

    async def _next(self) -> Any:
        """A call that ends while something is written has ended for an ``INTERNAL`` reason, says ``grpc.aio``, until it
        has taken in the status that the peer sent: that it does not know the method, or has too much to do. Where it
        took that in first, the write's failure has replaced it for good."""
        tries = 0
        while True:
            try:
                return await self._call.read()
            except grpc.aio.AioRpcError as error:
                if error.details() != BROKE:
                    raise
                tries += 1
                if tries > STATUS_TRIES:
                    raise UnexplainedError(f"the stream broke: {BROKE}") from None
                await asyncio.sleep(STATUS_S)

    async def _write(self, up: agent_pb2.AttendUp) -> None:
        async with self._writing:
            try:
                await self._call.write(up)
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError):  # the call has ended; ``read`` says why
                await asyncio.get_running_loop().create_future()
