"""Quotas over a real log: callers at every peer at the same time get exactly what there is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc.aio
import pytest

from orchestrator.contract.status import from_rpc_error
from orchestrator.contract.v1 import control_pb2 as pb
from tests.integration.peer_processes import peer_cluster

pytestmark = pytest.mark.cluster

CALLERS = 60
FITS = 23


async def test_of_submits_at_all_peers_at_once_exactly_the_quota_goes_in(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path) as cluster:
        stubs = [cluster.control(peer) for peer in cluster.ids]
        create = pb.NamespaceRequest(request_id="c", name="team", quota={"cpu_millis": FITS * 100 + 99})
        await stubs[0].CreateNamespace(create, timeout=15)

        async def submit(number: int) -> str:
            task = {"name": "main", "command": ["true"], "resources": {"cpu_millis": 100, "memory_mib": 1}}
            job = {"namespace": "team", "name": f"j{number}", "groups": [{"name": "main", "count": 1, "tasks": [task]}]}
            request = pb.SubmitJobRequest(request_id=f"r{number}", job=job)
            try:
                await stubs[number % len(stubs)].SubmitJob(request, timeout=15)
            except grpc.aio.AioRpcError as error:
                return from_rpc_error(error).reason
            return "OK"

        told = await asyncio.gather(*(submit(number) for number in range(CALLERS)))
        assert sorted(told) == ["OK"] * FITS + ["QUOTA_EXCEEDED"] * (CALLERS - FITS)
        again = await asyncio.gather(*(submit(number) for number in range(CALLERS)))
        assert again == told  # a repeated request gets its first answer, also a refusal
        for stub in stubs:
            listed = await stub.ListNamespaces(pb.ListNamespacesRequest(), timeout=15)
            (team,) = [one for one in listed.namespaces if one.namespace.name == "team"]
            assert (team.used.jobs, team.used.cpu_millis) == (FITS, FITS * 100)
        hashes = [
            await stub.StateHash(pb.StateHashRequest(peer_id=peer), timeout=15)
            for stub, peer in zip(stubs, cluster.ids, strict=True)
        ]
        assert len({one.hash for one in hashes if one.index == hashes[0].index}) == 1
