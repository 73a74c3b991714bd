"""An open stream keeps nothing of what it has sent: there are thousands, and they wait for long."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator
from typing import Any

from orchestrator.api import forward
from orchestrator.api.admission import Admission
from orchestrator.api.agents import ROUTES
from orchestrator.api.forward import Call, Service
from orchestrator.api.identity import AGENTS
from orchestrator.contract.v1 import agent_pb2 as pb
from tests.unit.api.harness import Api


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


async def test_what_was_sent_is_free_while_the_stream_waits_for_more() -> None:
    api, servicer, context = Api(), Servicer(), Context()
    descriptor = pb.DESCRIPTOR.services_by_name["Agents"]
    assert descriptor.full_name == AGENTS
    service = Service(
        descriptor, (servicer,), ROUTES, log=api.log, forwarder=api.forwarder, admission=Admission(), secure=False
    )
    method = next(method for method in service._methods if method.name == "Assignments")
    handler: Any = service._method_handler(method)
    serving = asyncio.ensure_future(
        handler.unary_stream(pb.AssignmentsRequest(node_id="a").SerializeToString(), context)
    )
    async with asyncio.timeout(10):
        await servicer.waiting.wait()
    gc.collect()
    assert context.written == 1000
    assert Sent.alive == 0
    around = [
        one for one in gc.get_objects() if inspect.isasyncgen(one) and one.ag_code.co_filename == forward.__file__
    ]
    assert not around, "each generator around the method's own costs a kilobyte, and there are thousands of streams"
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
