"""With the majority gone nothing hangs: every method of every service ends by itself, with a reason or a stale answer.

The methods come from the descriptors, so a new one is tested from the day that it exists: what its row does not say is
that it must answer NO_LEADER.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from orchestrator.contract.status import from_rpc_error
from orchestrator.contract.v1 import agent_pb2 as agent
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.replication.v1 import peer_pb2 as peer
from tests.integration.peer_processes import PeerCluster, peer_cluster

pytestmark = pytest.mark.cluster

END: Any = vars(grpc.aio)["EOF"]
METHODS: list[MethodDescriptor] = [
    method
    for file, service in ((pb, "Control"), (agent, "Agents"), (peer, "Peers"))
    for method in file.DESCRIPTOR.services_by_name[service].methods
]
KEY = {"name": "web"}
REQUESTS: dict[str, dict[str, Any]] = {
    "GetJob": {"job": KEY},
    "GetAllocation": {"id": {"job": "web", "group": "main"}},
    "Logs": {"id": {"job": "web", "group": "main"}},
    "GetVariable": {"name": "a"},
    "GetWorkload": {"id": {"job": "web", "group": "main"}},
    "ListJobVersions": {"job": KEY},
    "DrainStatus": {"node": "nowhere"},
    "WatchEvents": {"after_index": 0, "namespace": "*"},
}
"""Only what a request must say to get past the first look at it."""
REASONS: dict[str, set[str]] = {
    # Known to be unknown, whoever leads: as far as this peer knows.
    "Logs": {"NOT_FOUND"},
    "GetWorkload": {"NOT_FOUND"},
    # Serves what agents send to any peer; without a first word there is nobody to serve.
    "ServeLogs": {"INVALID", "OK"},
    "JoinSession": {"INVALID", "OK"},
    "Services": {"INVALID", "OK"},
    "Session": {"INVALID"},
    # Asked of the agents that are connected here: none.
    "GetUsage": {"OK"},
    # Answered by whoever is asked; an empty request is refused before anybody else is.
    "ExplainPast": {"INVALID"},
    "PlanJob": {"INVALID"},
    "WhatIf": {"INVALID"},
    # A stream of heartbeats that ends before the first one asked for nothing.
    "Attend": {"OK", "NO_LEADER", "NOT_LEADER"},
    "Heartbeats": {"OK", "NO_LEADER", "NOT_LEADER"},
    # Passed on to the peer that led a moment ago; the agent tries the next one.
    "Assignments": {"NO_LEADER", "NOT_LEADER", "UNKNOWN_OUTCOME", "UNCONNECTED", "INVALID", "NOT_FOUND"},
}
NOBODY_LEADS = {"NO_LEADER", "NOT_LEADER", "UNKNOWN_OUTCOME"}
"""A peer that led until now, or that passed the call to one that has just died, cannot say that it was not done."""
AT_ONCE = {"INVALID", "NOT_FOUND"}
"""What a peer that believes itself the leader says of an empty request, before it asks anybody."""
JOB = {"name": "web", "groups": [{"name": "g", "count": 1, "tasks": [{"name": "main", "command": ["true"]}]}]}
READS: dict[str, dict[str, Any]] = {
    "ExplainJob": {"job": {"namespace": "default", "name": "web"}},
    "PlanJob": {"job": JOB},
    "WhatIf": {"changes": [{"submit": JOB}]},
}
"""Requests of reads that a state in which nothing is can answer."""
PATIENCE_S = 30.0
"""Of the client: a method that needs all of it hangs, and its status is then DEADLINE_EXCEEDED."""
STALE_S = 2.0


async def outcome(channel: grpc.aio.Channel, method: MethodDescriptor, *, stale: bool = False) -> tuple[str, Any]:
    """The reason of the error, or "OK" and the answer."""
    asked = (READS if stale else {}).get(method.name) or REQUESTS.get(method.name, {})
    request: Any = GetMessageClass(method.input_type)(**asked)
    if stale:
        request.read.stale = True
    path = f"/{method.containing_service.full_name}/{method.name}"
    serialize, parse = type(request).SerializeToString, GetMessageClass(method.output_type).FromString
    timeout_s = STALE_S if stale else PATIENCE_S
    try:
        if method.client_streaming:
            open_: Any = channel.stream_stream(path, serialize, parse)
            call = open_(timeout=timeout_s)
            await call.done_writing()
        elif method.server_streaming:
            call = channel.unary_stream(path, serialize, parse)(request, timeout=timeout_s)
        else:
            return "OK", await channel.unary_unary(path, serialize, parse)(request, timeout=timeout_s)
        first = None
        while (message := await call.read()) is not END:
            first = first or message
        return "OK", first
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason, error.details()


async def without_majority(cluster: PeerCluster, *, survivor_led: bool) -> grpc.aio.Channel:
    leader = await cluster.leader()
    survivor = leader if survivor_led else next(name for name in cluster.ids if name != leader)
    for name in cluster.ids:
        if name != survivor:
            await cluster.kill(name)
    return cluster.channel(survivor)


@pytest.mark.parametrize("survivor_led", [True, False], ids=["the leader is left", "a follower is left"])
async def test_every_method_ends_by_itself_with_a_reason(tmp_path: Path, survivor_led: bool) -> None:
    async with peer_cluster(tmp_path) as cluster:
        channel = await without_majority(cluster, survivor_led=survivor_led)
        wrong = {}
        answers = await asyncio.gather(*(outcome(channel, method) for method in METHODS))  # most wait their time out
        for method, (reason, said) in zip(METHODS, answers, strict=True):
            expected = REASONS.get(method.name, NOBODY_LEADS | (AT_ONCE if survivor_led else set()))
            if method.containing_service.name == "Peers":
                ended = reason != "TIMEOUT"  # between peers; no question for a leader
            else:
                ended = reason in expected
            if not ended:
                wrong[method.name] = (reason, said)
        assert not wrong


async def test_every_read_answers_stale_within_two_seconds_and_says_how_old_it_is(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path) as cluster:
        channel = await without_majority(cluster, survivor_led=False)
        reads = [method for method in METHODS if "read" in method.input_type.fields_by_name]
        assert {"ListJobs", "ListNodes", "ClusterStatus", "ListAllocations"} <= {method.name for method in reads}
        for method in reads:
            reason, answer = await outcome(channel, method, stale=True)
            if method.name in ("GetJob", "GetAllocation", "ListJobVersions", "DrainStatus", "ExplainJob"):
                assert reason == "NOT_FOUND", (method.name, reason, answer)  # also an answer
                continue
            assert reason == "OK", (method.name, reason, answer)
            if method.name == "PlanJob":
                answer = answer.what_if
            said = answer.head if method.name == "Backup" else answer.read
            assert said.stale, method.name
            assert said.age_ms >= 0, method.name
