"""An open stream keeps nothing of what it has sent: there are thousands, and they wait for long."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.api import forward
from orchestrator.api.admission import Admission
from orchestrator.api.agents import ROUTES
from orchestrator.api.forward import Call, Service
from orchestrator.api.identity import AGENTS
from orchestrator.contract.v1 import agent_pb2 as pb
from tests.unit.api.harness import Api, call

PARSED = forward._parsed.__code__
"""Beneath the method's own generator, where it takes a stream."""


class Sent(bytes):
    """Bytes whose end is seen."""

    alive = 0

    def __new__(cls, data: bytes) -> Sent:
        cls.alive += 1
        return super().__new__(cls, data)

    def __del__(self) -> None:
        Sent.alive -= 1


class Context:
    """What gRPC gives a stream, as far as it is used."""

    def __init__(self) -> None:
        self.written = 0

    def invocation_metadata(self) -> tuple[Any, ...]:
        return ()

    def auth_context(self) -> dict[str, Any]:
        return {}

    def time_remaining(self) -> None:
        return None

    async def write(self, message: Sent) -> None:
        assert Sent.alive == 1
        self.written += len(message)


class Servicer:
    """Sends one message and then waits."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()

    async def assignments(self, request: pb.AssignmentsRequest, call: Call) -> AsyncIterator[bytes]:
        yield Sent(b"x" * 1000)
        self.waiting.set()
        await asyncio.Event().wait()

    def __getattr__(self, name: str) -> Any:
        if name in (
            "attend",
            "register",
            "heartbeat",
            "heartbeats",
            "report_statuses",
            "serve_logs",
            "join_session",
            "pin_image",
            "report_progress",
            "services",
        ):
            return self.assignments
        raise AttributeError(name)


async def never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


@pytest.mark.parametrize("name", ["Assignments", "Attend"])
async def test_what_was_sent_is_free_while_the_stream_waits_for_more(name: str) -> None:
    api, servicer, context = Api(), Servicer(), Context()
    descriptor = pb.DESCRIPTOR.services_by_name["Agents"]
    assert descriptor.full_name == AGENTS
    service = Service(
        descriptor, (servicer,), ROUTES, log=api.log, forwarder=api.forwarder, admission=Admission(), secure=False
    )
    handler: Any = service.handlers()[name]
    begun = (
        handler.stream_stream(never(), context)
        if handler.request_streaming
        else handler.unary_stream(pb.AssignmentsRequest(node_id="a").SerializeToString(), context)
    )
    serving = asyncio.ensure_future(begun)
    async with asyncio.timeout(10):
        await servicer.waiting.wait()
    gc.collect()
    assert context.written == 1000
    assert Sent.alive == 0
    around = [
        one
        for one in gc.get_objects()
        if inspect.isasyncgen(one) and one.ag_code.co_filename == forward.__file__ and one.ag_code is not PARSED
    ]
    assert not around, "each generator around the method's own costs a kilobyte, and there are thousands of streams"
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_an_agent_that_waits_holds_nothing_of_what_it_was_told() -> None:
    api = Api()
    await api.register("a")
    await api.submit("web", count=30)
    assert await api.place() == 30
    told = 0

    async def ups() -> AsyncIterator[pb.AttendUp]:
        yield pb.AttendUp(heartbeat={"node_id": "a"})
        await asyncio.Event().wait()

    downs = api.agents.attend(ups(), call("agent:n1"))
    while not (answered := (await anext(downs)).HasField("acknowledged")) or not told:
        told += not answered
    waiting = asyncio.ensure_future(anext(downs))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    known = dict(downs.ag_frame.f_locals)  # type: ignore[attr-defined]
    agent = known.pop("agent")
    known |= {name: getattr(agent, name) for name in agent.__slots__}
    pieces = known.pop("_pieces")
    known |= {name: getattr(pieces, name) for name in pieces.__slots__}
    kinds = (pb.AssignmentsUpdate, pb.AssignmentsPiece, pb.AttendDown, pb.HeartbeatRequest)
    assert not [name for name, value in known.items() if isinstance(value, kinds)]
    assert not [name for name, value in known.items() if isinstance(value, bytes) and value]
    assert next(known["_parts"], None) is None
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
