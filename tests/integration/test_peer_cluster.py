"""Three real peers: any of them answers, killing the leader loses nothing, and equal logs give equal states."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.contract.errors import InvalidError, NoLeaderError, PreconditionError, RaftsmanError
from orchestrator.contract.status import from_rpc_error
from orchestrator.contract.v1 import control_pb2 as pb
from tests.integration.peer_processes import PeerCluster, agent, eventually, peer_cluster

pytestmark = pytest.mark.cluster

TASK = {"name": "main", "command": ["true"], "resources": {"cpu_millis": 1, "memory_mib": 1}}
CONTAINER = {"name": "main", "image": "busybox", "resources": {"cpu_millis": 1, "memory_mib": 1}}
GROUP = {"name": "main", "count": 1, "tasks": [TASK]}


async def answer(cluster: PeerCluster, method: str, request: Any, *, peers: list[str], within_s: float = 15.0) -> Any:
    """Ask the peers in turn until one answers; a request id makes that safe."""
    stubs = [cluster.control(peer) for peer in peers]
    turn = iter(range(10_000))

    async def one() -> Any:
        try:
            return await getattr(stubs[next(turn) % len(stubs)], method)(request, timeout=5)
        except grpc.aio.AioRpcError as error:
            if not from_rpc_error(error).retryable:
                raise
            return None

    return await eventually(one, within_s=within_s)


async def test_a_repeated_write_gets_its_first_answer_at_any_peer(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path) as cluster:
        request = pb.PutVariableRequest(request_id="once", name="a", value="1")
        answers = [await cluster.control(peer).PutVariable(request, timeout=10) for peer in cluster.ids]
        assert {one.index for one in answers} == {answers[0].index}
        assert answers[0].variable.version == answers[2].variable.version == 1
        other = pb.PutVariableRequest(request_id="once", name="a", value="2")
        for peer in cluster.ids:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await cluster.control(peer).PutVariable(other, timeout=10)
            assert from_rpc_error(caught.value).reason == "REQUEST_ID_REUSED"
        # Written at one peer, read at another at once: linearizable.
        for number, peer in enumerate(cluster.ids):
            await cluster.control(peer).PutVariable(pb.PutVariableRequest(name="a", value=str(number)), timeout=10)
            for reader in cluster.ids:
                read = await cluster.control(reader).GetVariable(pb.GetVariableRequest(name="a"), timeout=10)
                assert read.variable.value == str(number)


async def test_killing_the_leader_loses_no_acknowledged_write(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path) as cluster:
        written = 0
        for _ in range(3):
            leader = await cluster.leader()
            survivors = [peer for peer in cluster.ids if peer != leader]
            for number in range(20):
                if number == 10:
                    await cluster.kill(leader)
                name = f"v{written}"
                request = pb.PutVariableRequest(request_id=uuid.uuid4().hex, name=name, value=name)
                await answer(cluster, "PutVariable", request, peers=survivors)
                written += 1
            await cluster.start(leader)
        await cluster.leader()
        for peer in cluster.ids:
            found = await cluster.control(peer).ListVariables(pb.ListVariablesRequest(), timeout=10)
            assert {variable.name for variable in found.variables} == {f"v{number}" for number in range(written)}
        first = await cluster.control(cluster.ids[0]).StateHash(pb.StateHashRequest(), timeout=10)
        for peer in cluster.ids:
            # Asked of one peer about each: forwarded to it, which waits until it is exactly there.
            about = pb.StateHashRequest(at_index=first.index, peer_id=peer)
            same = await cluster.control(cluster.ids[0]).StateHash(about, timeout=10)
            assert (same.hash, same.index, same.peer_id) == (first.hash, first.index, peer)


async def test_without_a_majority_reads_are_stale_and_writes_are_refused(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path) as cluster:
        stub = cluster.control(cluster.ids[0])
        await stub.PutVariable(pb.PutVariableRequest(name="a", value="1"), timeout=10)
        await stub.GetVariable(pb.GetVariableRequest(name="a"), timeout=10)  # so that this peer has it
        for peer in cluster.ids[1:]:
            await cluster.kill(peer)

        async def left_alone() -> bool:
            status = await stub.ClusterStatus(pb.ClusterStatusRequest(read={"stale": True}), timeout=5)
            return not status.leader_id

        await eventually(left_alone)
        for request, method in (
            (pb.PutVariableRequest(name="a", value="2"), stub.PutVariable),
            (pb.GetVariableRequest(name="a"), stub.GetVariable),
            (pb.ListNodesRequest(), stub.ListNodes),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(request, timeout=10)
            assert isinstance(from_rpc_error(caught.value), NoLeaderError)
        stale = await stub.GetVariable(pb.GetVariableRequest(name="a", read={"stale": True}), timeout=5)
        assert stale.variable.value == "1"
        assert stale.read.stale and stale.read.age_ms > 0
        nodes = await stub.ListNodes(pb.ListNodesRequest(read={"stale": True}), timeout=5)
        assert nodes.read.stale


async def test_a_follower_watches_events_on_and_resumes_after_an_index(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path) as cluster:
        leader = await cluster.leader()
        follower = next(peer for peer in cluster.ids if peer != leader)
        stub = cluster.control(follower)
        kinds = ["peers.admitted", "variable.changed"]
        watch = stub.WatchEvents(pb.WatchEventsRequest(after_index=0, namespace="*", kinds=kinds), timeout=30)
        assert (await watch.read()).kind == "peers.admitted"
        for number in range(3):
            await stub.PutVariable(pb.PutVariableRequest(name=f"v{number}", value="x"), timeout=10)
            assert (await watch.read()).message == f"v{number}"
        middle = await watch_one(stub, after=2)
        again = stub.WatchEvents(pb.WatchEventsRequest(after_index=middle.index, namespace="*"), timeout=30)
        assert (await again.read()).index > middle.index
        new = stub.WatchEvents(pb.WatchEventsRequest(after_index=-1, kinds=["variable.changed"]), timeout=30)
        reading = asyncio.ensure_future(new.read())
        numbers = iter(range(1000))

        async def arrived() -> bool:
            await stub.PutVariable(pb.PutVariableRequest(name=f"new{next(numbers)}", value="x"), timeout=10)
            return bool(reading.done())

        await eventually(arrived)
        assert reading.result().message.startswith("new")


async def watch_one(stub: object, *, after: int) -> pb.Event:
    stream = stub.WatchEvents(pb.WatchEventsRequest(after_index=after, namespace="*"), timeout=30)  # type: ignore[attr-defined]
    event: pb.Event = await stream.read()
    stream.cancel()
    return event


async def test_bad_jobs_are_refused_with_the_place_by_every_peer(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path) as cluster:
        bad: list[tuple[dict[str, object], type[RaftsmanError], str]] = [
            ({"name": "../x", "groups": [GROUP]}, InvalidError, "name"),
            ({"name": "x", "groups": [GROUP, GROUP]}, InvalidError, "groups"),
            ({"name": "x", "placement": "bogus", "groups": [GROUP]}, InvalidError, "placement"),
            ({"name": "x", "groups": [{**GROUP, "count": -1}]}, InvalidError, "count"),
            (
                {"name": "x", "groups": [{**GROUP, "tasks": [{**CONTAINER, "privileged": True}]}]},
                PreconditionError,
                "--allow",
            ),
            (
                {
                    "name": "x",
                    "groups": [{**GROUP, "tasks": [{**CONTAINER, "mounts": [{"source": "/", "target": "/h"}]}]}],
                },
                PreconditionError,
                "--allow-host-paths",
            ),
            ({"name": "x", "groups": [GROUP], "metadata": {"a": "x" * (1 << 20)}}, InvalidError, "bytes"),
        ]
        for peer in cluster.ids:
            stub = cluster.control(peer)
            for spec, kind, named in bad:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.SubmitJob(pb.SubmitJobRequest(job=spec), timeout=10)
                error = from_rpc_error(caught.value)
                assert isinstance(error, kind), (spec, error)
                assert named in error.message
        listed = await cluster.control(cluster.ids[0]).ListJobs(pb.ListJobsRequest(), timeout=10)
        assert not listed.jobs


@pytest.mark.slow
async def test_20000_jobs_in_one_submit_change_no_term(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path) as cluster, agent(cluster):
        leader = await cluster.leader()
        follower = next(peer for peer in cluster.ids if peer != leader)
        stub = cluster.control(follower)

        async def registered() -> bool:
            return bool((await stub.ListNodes(pb.ListNodesRequest(), timeout=10)).nodes)

        await eventually(registered)
        before = await stub.ClusterStatus(pb.ClusterStatusRequest(), timeout=10)
        processes = dict(cluster.processes)
        # Ten at once fit on the only node: the others wait.
        group = {**GROUP, "tasks": [{**TASK, "resources": {"cpu_millis": 200, "memory_mib": 16}}]}
        jobs = [{"name": f"job-{number:05}", "type": 2, "groups": [group]} for number in range(20_000)]
        request = pb.SubmitJobsRequest(request_id="many", jobs=jobs)
        response = await stub.SubmitJobs(request, timeout=600)
        assert len(response.jobs) == 20_000
        again = await stub.SubmitJobs(request, timeout=120)
        assert [job.uid for job in again.jobs] == [job.uid for job in response.jobs]
        listed = await stub.ListJobs(pb.ListJobsRequest(), timeout=60)
        assert len(listed.jobs) == 20_000

        async def some_complete() -> bool:
            done = (await metrics(cluster, follower))['raftsman_jobs{state="complete"}']
            return done > 10

        await eventually(some_complete, within_s=60)
        after = await stub.ClusterStatus(pb.ClusterStatusRequest(), timeout=10)
        assert (after.term, after.leader_id) == (before.term, before.leader_id)
        assert [process.returncode for process in processes.values()] == [None] * 3


async def test_the_status_tells_of_every_peer_wherever_it_is_asked(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, secure=True) as cluster:
        leader = await cluster.leader()
        for peer in cluster.ids:
            status = await cluster.control(peer).ClusterStatus(pb.ClusterStatusRequest(), timeout=10)
            assert status.leader_id == status.read.peer_id == leader
            assert {one.id: one.role for one in status.peers} == {
                one: "leader" if one == leader else "follower" for one in cluster.ids
            }
            for one in status.peers:
                assert one.connected and one.voter
                assert one.lag >= 0
                assert one.version
                assert one.cert_expires_ms > 0


async def test_metrics_move_with_writes_and_elections(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path) as cluster:
        leader = await cluster.leader()
        before = {peer: await metrics(cluster, peer) for peer in cluster.ids}
        assert {peer for peer in cluster.ids if before[peer]["raftsman_leader"] == 1} == {leader}
        await cluster.control(leader).PutVariable(pb.PutVariableRequest(name="a", value="1"), timeout=10)
        await cluster.control(leader).SubmitJob(pb.SubmitJobRequest(job={"name": "x", "groups": [GROUP]}), timeout=10)
        after = await metrics(cluster, leader)
        for name in (
            'raftsman_proposals_total{command="WriteVariable"}',
            "raftsman_commit_latency_seconds_count",
            "raftsman_apply_seconds_count",
            "raftsman_plan_seconds_count",
            "raftsman_index",
            "raftsman_commit_index",
            'raftsman_jobs{state="pending"}',
        ):
            assert after[name] > before[leader].get(name, 0.0), name
        await cluster.kill(leader)
        survivors = [peer for peer in cluster.ids if peer != leader]
        new = await cluster.leader(among=survivors)
        later = await metrics(cluster, new)
        assert later["raftsman_term"] > before[new]["raftsman_term"]
        assert later["raftsman_elections_total"] > before[new]["raftsman_elections_total"]


async def metrics(cluster: PeerCluster, peer: str) -> dict[str, float]:
    """What the peer shows on /metrics, by name and labels."""
    host, port = cluster.http[peer].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    body = (await reader.read()).decode().partition("\r\n\r\n")[2]
    writer.close()
    rows = (line.rpartition(" ") for line in body.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}
