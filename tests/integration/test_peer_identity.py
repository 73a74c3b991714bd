"""Who may say what, proven by certificates: real peers with mutual TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from orchestrator.contract.channel import FORWARDED_IDENTITY, TlsFiles
from orchestrator.contract.errors import PermissionError_
from orchestrator.contract.status import from_rpc_error
from orchestrator.contract.v1 import agent_pb2, agent_pb2_grpc
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.ops import certs
from orchestrator.replication.v1 import peer_pb2_grpc
from tests.integration.peer_processes import PeerCluster, peer_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

NODE = {"port_min": 20000, "port_max": 20010, "capacity": {"cpu_millis": 1000}}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PeerCluster]:
    directory = tmp_path_factory.mktemp("peers")
    async with peer_cluster(directory, secure=True) as running:
        for name in ("n1", "n2"):
            certs.issue(directory / "certs", "agent", name)
        yield running


def agents(cluster: PeerCluster, peer: str, name: str) -> agent_pb2_grpc.AgentsStub:
    return agent_pb2_grpc.AgentsStub(cluster.channel(peer, cluster.tls("agent", name)))


async def refused(call: object) -> PermissionError_:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    error = from_rpc_error(caught.value)
    assert isinstance(error, PermissionError_), error
    return error


async def test_an_agent_cannot_speak_for_another_node_on_any_peer(cluster: PeerCluster) -> None:
    for peer in cluster.ids:
        mine, other = agents(cluster, peer, "n1"), agents(cluster, peer, "n2")
        name = f"node-{peer}"
        node = {"id": name, "name": name, **NODE}
        await mine.Register(agent_pb2.RegisterRequest(node=node), timeout=10)
        await mine.Heartbeat(agent_pb2.HeartbeatRequest(node_id=name), timeout=10)
        await refused(other.Register(agent_pb2.RegisterRequest(node=node), timeout=10))
        await refused(other.Heartbeat(agent_pb2.HeartbeatRequest(node_id=name), timeout=10))
        await refused(other.ReportStatuses(agent_pb2.ReportStatusesRequest(node_id=name), timeout=10))
        await refused(other.Assignments(agent_pb2.AssignmentsRequest(node_id=name), timeout=10).read())
        logs = other.ServeLogs(timeout=10)
        await logs.write(agent_pb2.LogsUp(hello={"node_id": name}))
        await refused(logs.read())


async def test_an_agent_may_not_use_the_control_service(cluster: PeerCluster) -> None:
    for peer in cluster.ids:
        stub = cluster.control(peer, cluster.tls("agent", "n1"))
        error = await refused(stub.PutVariable(pb.PutVariableRequest(name="a", value="1"), timeout=10))
        assert "agent:n1" in error.message
        await refused(stub.WatchEvents(pb.WatchEventsRequest(), timeout=10).read())


async def test_a_client_may_not_speak_as_an_agent(cluster: PeerCluster) -> None:
    stub = agent_pb2_grpc.AgentsStub(cluster.channel(cluster.ids[0]))
    await refused(stub.Register(agent_pb2.RegisterRequest(node={"id": "x", "name": "x", **NODE}), timeout=10))


async def test_peer_methods_answer_only_peers(cluster: PeerCluster) -> None:
    for kind, name in (("client", "admin"), ("agent", "n1")):
        stub = peer_pb2_grpc.PeersStub(cluster.channel(cluster.ids[0], cluster.tls(kind, name)))
        await refused(stub.Raft(timeout=10).read())


async def test_a_forwarded_identity_is_believed_only_from_a_peer(cluster: PeerCluster) -> None:
    metadata = ((FORWARDED_IDENTITY, "agent:n2"),)
    stub = agents(cluster, cluster.ids[0], "n1")
    request = agent_pb2.RegisterRequest(node={"id": "forged", "name": "forged", **NODE})
    await refused(stub.Register(request, timeout=10, metadata=metadata))
    leader = await cluster.leader()
    follower = next(peer for peer in cluster.ids if peer != leader)
    believed = agent_pb2_grpc.AgentsStub(cluster.channel(leader, cluster.tls("peer", follower)))
    await believed.Register(request, timeout=10, metadata=metadata)
    owner = agents(cluster, leader, "n2")
    await owner.Heartbeat(agent_pb2.HeartbeatRequest(node_id="forged"), timeout=10)


async def test_a_certificate_of_another_authority_does_not_get_in(cluster: PeerCluster, tmp_path: Path) -> None:
    certs.create_authority(tmp_path, "raftsman")
    foreign = TlsFiles.in_directory(certs.issue(tmp_path, "client", "admin"))
    ours = cluster.tls()
    assert ours is not None
    stub = cluster.control(cluster.ids[0], TlsFiles(ours.ca, foreign.cert, foreign.key))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListJobs(pb.ListJobsRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
