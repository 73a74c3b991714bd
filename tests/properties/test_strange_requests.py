"""Whatever comes in, the answer is an answer: no method fails inside, and no state of the cluster is hurt by it.

Each request goes through everything that a peer has between the wire and the log (``api.forward.Service``: parsing,
permission, admission, errors as status), with the leader planning in between.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2

from orchestrator.api import agents, control
from orchestrator.api.admission import Admission
from orchestrator.api.forward import Service
from orchestrator.api.workload import Workloads
from orchestrator.contract import codec
from orchestrator.contract.channel import INSECURE
from orchestrator.contract.errors import PreconditionError
from orchestrator.contract.status import DETAILS_KEY
from orchestrator.contract.v1 import agent_pb2, types_pb2
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.jobfile.file import load
from orchestrator.replication.machine import ClusterMachine
from orchestrator.state.invariants import check
from tests.effort import seeds
from tests.properties.strange import Strange
from tests.unit.api.harness import Api, job, node

REQUESTS = 250
OPEN_S = 0.02
"""A stream that has said nothing by then is open."""
FITTING = {
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "ABORTED", "FAILED_PRECONDITION", "OUT_OF_RANGE",
    "RESOURCE_EXHAUSTED", "PERMISSION_DENIED",
}  # fmt: skip
ELSEWHERE = {"ChangePeers", "Backup", "StateHash"}
"""They need peers, or a disk (``tests/integration/test_contract.py``)."""
PATIENT = {"GetWorkload"}
"""It waits for an agent that is not there."""
OTHER_WORDS = {"body", "resource", "taints"}
"""For the whole message, for a name in ``custom``, for ``put`` and ``drop``."""
EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
IT = {"job": "web", "group": "main", "ordinal": 0}
KEY = {"id": IT, "job_uid": "x", "attempt": 1}


class Context:
    """What gRPC gives a call, as far as it is used."""

    def __init__(self) -> None:
        self.code = grpc.StatusCode.OK
        self.beside: dict[str, Any] = {}
        self.said = asyncio.Event()

    def invocation_metadata(self) -> tuple[Any, ...]:
        return ()

    def auth_context(self) -> dict[str, Any]:
        return {}

    def time_remaining(self) -> float:
        return 5.0

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.beside = dict(metadata)

    async def write(self, _answer: bytes) -> None:
        self.said.set()

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, _details: str) -> None:
        pass


class Peer:
    """Every part of a peer that answers, on an in-memory log."""

    def __init__(self) -> None:
        self.api = Api()
        self.entries: list[bytes] = []
        apply = self.api.machine.apply

        def noted(payload: bytes) -> Any:
            self.entries.append(payload)
            return apply(payload)

        self.api.machine.apply = noted  # type: ignore[method-assign]
        api = self.api
        parts = (
            api.writes, api.reads, api.explain, api.foresight, api.namespaces, api.watch, api.logs, api.sessions,
            api.drains, api.usages, api.services, Workloads(api.logs),
        )  # fmt: skip
        self._handlers: dict[str, Any] = {}
        self.methods: list[MethodDescriptor] = []
        for descriptor, servicers, routes in (
            (pb.DESCRIPTOR.services_by_name["Control"], (*parts, _Elsewhere()), control.ROUTES),
            (
                agent_pb2.DESCRIPTOR.services_by_name["Agents"],
                (api.agents, api.hub, api.sessions, api.services),
                agents.ROUTES,
            ),
        ):
            service = Service(
                descriptor, servicers, routes, log=api.log, forwarder=api.forwarder, admission=Admission(), secure=False
            )
            for method in service._methods:
                self._handlers[method.name] = service._method_handler(method)
            self.methods += [one for one in descriptor.methods if one.name not in ELSEWHERE]

    async def ask(self, method: MethodDescriptor, raw: bytes) -> tuple[str, str]:
        """(status, message)"""
        context, handler = Context(), self._handlers[method.name]
        work: asyncio.Future[Any]
        if method.client_streaming:
            work = asyncio.ensure_future(handler.stream_stream(_once(raw), context))
        elif method.server_streaming:
            work = asyncio.ensure_future(handler.unary_stream(raw, context))
        else:
            work = asyncio.ensure_future(handler.unary_unary(raw, context))
        if method.client_streaming or method.server_streaming or method.name in PATIENT:
            said = asyncio.ensure_future(context.said.wait())
            await asyncio.wait({work, said}, timeout=OPEN_S, return_when=asyncio.FIRST_COMPLETED)
            said.cancel()
            work.cancel()
        outcome: object = (await asyncio.gather(work, return_exceptions=True))[0]
        if context.code is grpc.StatusCode.OK:
            assert not isinstance(outcome, Exception), f"{method.name}: {outcome!r}"
            return "OK", ""
        rich = status_pb2.Status.FromString(context.beside[DETAILS_KEY])
        return context.code.name, rich.message


class _Elsewhere:
    async def change_peers(self, request: Any, call: Any) -> Any: ...
    async def backup(self, request: Any, call: Any) -> Any: ...
    async def state_hash(self, request: Any, call: Any) -> Any: ...


async def _once(raw: bytes) -> AsyncIterator[bytes]:
    yield raw


def good_requests(rng: random.Random) -> dict[str, Callable[[], Any]]:
    """Requests that are right, or nearly: others are taken from what their fields are called."""
    files = [codec.encode(load(one.read_text()), types_pb2.JobSpec()) for one in sorted(EXAMPLES.glob("*.yaml"))]
    jobs = [*files, job("web", count=2), job("web", count=3, priority=80)]
    changes = [
        *(pb.Change(submit=one) for one in jobs),
        *(pb.Change(add_node=node("new", taints=[{"key": "k", "effect": 1}]), count=2) for _ in jobs),
        pb.Change(drain="n1"),
    ]
    return {
        "SubmitJob": lambda: pb.SubmitJobRequest(job=rng.choice(jobs)),
        "SubmitJobs": lambda: pb.SubmitJobsRequest(jobs=rng.sample(jobs[:-1], 2)),
        "PlanJob": lambda: pb.PlanJobRequest(job=rng.choice(jobs)),
        "WhatIf": lambda: pb.WhatIfRequest(changes=[rng.choice(changes)]),
        "MoveAllocation": lambda: pb.MoveAllocationRequest(id=IT, attempt=1),
        "TaintNode": lambda: pb.TaintNodeRequest(node="n1", put=[{"key": "k", "value": "v", "effect": 1}]),
        "SetLimits": lambda: pb.SetLimitsRequest(change={"events": 2000}),
        "PutVariables": lambda: pb.PutVariablesRequest(writes=[{"name": "a", "value": "b"}]),
        "Register": lambda: agent_pb2.RegisterRequest(node=node("n1")),
        "ReportStatuses": lambda: agent_pb2.ReportStatusesRequest(
            node_id="n1", observations=[{"key": KEY, "state": types_pb2.ALLOC_STATE_RUNNING}]
        ),
        "ReportProgress": lambda: agent_pb2.ReportProgressRequest(node_id="n1", progress=[{"key": KEY, "text": "x"}]),
        "PinImage": lambda: agent_pb2.PinImageRequest(node_id="n1", key=KEY, job_version=1, image="x", digest="y"),
    }


def by_its_fields(method: MethodDescriptor) -> Any:
    made: Any = GetMessageClass(method.input_type)()
    for name, value in (("node", "n1"), ("node_id", "n1"), ("name", "a"), ("id", IT), ("job", {"name": "web"})):
        field = method.input_type.fields_by_name.get(name)
        if field is None:
            continue
        if isinstance(value, str) and field.message_type is None:
            setattr(made, name, value)
        elif isinstance(value, dict) and field.message_type is not None:
            setter = getattr(made, name)
            setter.CopyFrom(type(setter)(**value))
    return made


def names_of(descriptor: Descriptor, depth: int = 0) -> Iterator[str]:
    """Every word of the fields of a message and of those in it."""
    for field in descriptor.fields:
        yield from field.name.split("_")
        if field.message_type is not None and depth < 6:
            yield from names_of(field.message_type, depth + 1)


@pytest.mark.parametrize("seed", seeds([1, 2], fast={1}))
async def test_no_request_fails_inside_and_none_hurts_the_state(seed: int) -> None:
    rng = random.Random(seed)
    peer, strange, good = Peer(), Strange(rng, ["n1", "n2"]), good_requests(rng)
    words = {method.name: set(names_of(method.input_type)) for method in peer.methods}
    heard: Counter[str] = Counter()
    for number in range(REQUESTS):
        if number % 50 == 0:
            for name in ("n1", "n2"):
                await peer.api.register(name, identity=str(INSECURE), drivers=["process", "docker", "fake"])
            with suppress(PreconditionError):  # it is just being removed
                await peer.api.submit("web", count=rng.choice([2, 3]))
        if number % 10 == 0:
            peer.api.now_ms += 1000
            await peer.api.place()
        method = rng.choice(peer.methods)
        made = good.get(method.name, lambda method=method: by_its_fields(method))()
        way = rng.random()
        if way < 0.25:
            raw = strange.message(method.input_type).SerializeToString()
        elif way < 0.9:
            raw = strange.changed(made, rng.choice([1, 1, 1, 2, 3])).SerializeToString()
        else:
            raw = strange.raw(made.SerializeToString())
        code, message = await peer.ask(method, raw)
        told = f"seed {seed}, request {number}, {method.name} {raw!r}: {code} {message}"
        assert code in FITTING, told
        if code == "INVALID_ARGUMENT":
            assert set(re.findall(r"[a-z]+", message.lower())) & (words[method.name] | OTHER_WORDS), told
            assert "is not a valid" not in message, told
        assert message.isprintable() or not message, told
        heard[code] += 1
    assert heard["OK"] > REQUESTS / 10 and heard["INVALID_ARGUMENT"] > REQUESTS / 10, heard
    assert check(peer.api.state) == []
    other = ClusterMachine()
    for entry in peer.entries:
        other.apply(entry)
    assert (other.index, other.state_hash()) == (peer.api.machine.index, peer.api.machine.state_hash())
    third = ClusterMachine()
    third.restore(b"".join(peer.api.machine.capture()()))
    assert third.state_hash() == other.state_hash()
