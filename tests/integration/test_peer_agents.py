"""Real peers and a real agent (process driver): the whole road of one job, at every peer, and while leaders die."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract.v1 import control_pb2 as pb
from tests.integration.peer_processes import PeerCluster, agent, eventually, peer_cluster

pytestmark = pytest.mark.cluster


def job(name: str, script: str, **fields: Any) -> dict[str, Any]:
    task = {"name": "main", "command": ["sh", "-c", script], "resources": {"cpu_millis": 50, "memory_mib": 16}}
    return {"name": name, "groups": [{"name": "main", "count": 1, "tasks": [task]}], **fields}


async def running(cluster: PeerCluster, peer: str, name: str, count: int) -> None:
    stub = cluster.control(peer)

    async def all_run() -> bool:
        answer = await stub.GetJob(pb.GetJobRequest(job={"name": name}), timeout=10)
        return bool(answer.job.groups[0].running == count)

    await eventually(all_run, within_s=30)


async def output(cluster: PeerCluster, peer: str, name: str, **fields: Any) -> bytes:
    request = pb.LogsRequest(id={"job": name, "group": "main"}, **{"tail_lines": -1, "offset": -1, **fields})
    stream = cluster.control(peer).Logs(request, timeout=15)
    return b"".join([chunk.data async for chunk in stream])


async def test_a_job_runs_through_leaders_and_its_output_is_read_at_every_peer(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, secure=True) as cluster, agent(cluster):
        first = cluster.ids[0]
        await cluster.control(first).SubmitJob(
            pb.SubmitJobRequest(job=job("web", "echo up; exec sleep 1000")), timeout=10
        )
        await running(cluster, first, "web", 1)
        for peer in cluster.ids:
            assert await output(cluster, peer, "web") == b"up\n"
        leader = await cluster.leader()
        await cluster.kill(leader)
        survivors = [peer for peer in cluster.ids if peer != leader]
        await cluster.leader(among=survivors)
        for peer in survivors:
            assert await output(cluster, peer, "web") == b"up\n"
        await cluster.control(survivors[0]).ScaleJob(pb.ScaleJobRequest(job={"name": "web"}, count=2), timeout=10)
        await running(cluster, survivors[0], "web", 2)
        listed = await cluster.control(survivors[1]).ListAllocations(pb.ListAllocationsRequest(job="web"), timeout=10)
        # Nobody was restarted, and nobody was placed twice.
        assert [(one.id.ordinal, one.attempt, one.restarts) for one in listed.allocations] == [(0, 1, 0), (1, 1, 0)]
        await cluster.control(survivors[0]).StopJob(pb.StopJobRequest(job={"name": "web"}), timeout=10)

        async def stopped() -> bool:
            answer = await cluster.control(survivors[0]).GetJob(pb.GetJobRequest(job={"name": "web"}), timeout=10)
            return bool(answer.job.state == "stopped")

        await eventually(stopped)


async def test_without_a_majority_output_can_still_be_read(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path) as cluster, agent(cluster):
        stub = cluster.control(cluster.ids[0])
        await stub.SubmitJob(pb.SubmitJobRequest(job=job("web", "echo up; exec sleep 1000")), timeout=10)
        await running(cluster, cluster.ids[0], "web", 1)
        leader = await cluster.leader()
        last = next(peer for peer in cluster.ids if peer != leader)
        assert await output(cluster, last, "web") == b"up\n"
        for peer in cluster.ids:
            if peer != last:
                await cluster.kill(peer)

        async def left_alone() -> bool:
            status = await cluster.control(last).ClusterStatus(pb.ClusterStatusRequest(read={"stale": True}), timeout=5)
            return not status.leader_id

        await eventually(left_alone)
        assert await output(cluster, last, "web") == b"up\n"


async def test_a_batch_job_completes_and_its_whole_output_stays(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, count=1) as cluster, agent(cluster):
        stub = cluster.control("p1")
        lines = 20_000
        script = f"i=0; while [ $i -lt {lines} ]; do echo line-$i; i=$((i+1)); done"
        await stub.SubmitJob(pb.SubmitJobRequest(job=job("count", script, type=2)), timeout=10)

        async def complete() -> bool:
            answer = await stub.GetJob(pb.GetJobRequest(job={"name": "count"}), timeout=10)
            return bool(answer.job.state == "complete")

        await eventually(complete, within_s=60)
        text = await output(cluster, "p1", "count")
        assert text == b"".join(b"line-%d\n" % number for number in range(lines))
        half = len(text) // 2
        assert await output(cluster, "p1", "count", offset=half) == text[half:]
        assert await output(cluster, "p1", "count", tail_lines=2) == b"line-19998\nline-19999\n"
