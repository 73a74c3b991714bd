"""Leaders die, all peers die, and yet: every request is done once, and every watcher sees everything once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.client.aio import Client
from orchestrator.contract.errors import OutOfRangeError
from orchestrator.contract.model import LimitsChange
from orchestrator.contract.v1 import control_pb2 as pb
from tests.integration.peer_processes import PeerCluster, eventually, peer_cluster

pytestmark = pytest.mark.cluster

ROUNDS = 3
REQUESTS = 8  # a round


async def answered(cluster: PeerCluster, peer: str, request: pb.PutVariableRequest) -> pb.VariableResponse:
    """What that peer answers, however often it must be asked."""
    stub: Any = cluster.control(peer)

    async def ask() -> pb.VariableResponse | None:
        try:
            answer: pb.VariableResponse = await stub.PutVariable(request, timeout=3, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            assert error.code() in (
                grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED
            ), error  # fmt: skip
            return None
        return answer

    return await eventually(ask, within_s=60)


async def test_a_request_repeated_at_every_peer_is_done_once_while_leaders_die_and_after_all_restarted(
    tmp_path: Path,
) -> None:
    async with peer_cluster(tmp_path) as cluster:
        requests: list[pb.PutVariableRequest] = []
        first: dict[str, pb.VariableResponse] = {}
        for round_ in range(ROUNDS):
            fresh = [
                pb.PutVariableRequest(request_id=f"r{round_}-{number}", name=f"v{round_}-{number}", value="x")
                for number in range(REQUESTS)
            ]
            requests += fresh
            leader = await cluster.leader()
            sending = [
                (request.request_id, asyncio.ensure_future(answered(cluster, peer, request)))
                for request in fresh
                for peer in cluster.ids
            ]
            await asyncio.wait([task for _, task in sending], return_when=asyncio.FIRST_COMPLETED)
            await cluster.kill(leader)  # while most of them are on their way
            await cluster.leader(among=[peer for peer in cluster.ids if peer != leader])
            await cluster.start(leader)
            for request_id, task in sending:
                answer = await task
                known = first.setdefault(request_id, answer)
                assert (answer.index, answer.variable) == (known.index, known.variable), request_id
        for peer in cluster.ids:
            await cluster.kill(peer)
        for peer in cluster.ids:
            await cluster.start(peer)
        await cluster.leader()
        for request in requests:
            for peer in cluster.ids:
                answer = await answered(cluster, peer, request)
                known = first[request.request_id]
                assert (answer.index, answer.variable) == (known.index, known.variable), request.request_id
        async with Client(list(cluster.addresses.values())) as client:
            variables = (await client.list_variables("v")).variables
            assert {variable.name: variable.version for variable in variables} == {
                request.name: 1 for request in requests
            }


async def test_a_watch_sees_everything_once_while_leaders_die(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path) as cluster, Client(list(cluster.addresses.values()), timeout_s=60) as client:
        seen: list[tuple[int, int, str]] = []
        start = (await client.cluster_status()).read.index

        async def follow() -> None:
            async for event in client.watch_events(start, namespace="*", kinds=["variable.changed"]):
                seen.append((event.index, event.sequence, event.message))

        following = asyncio.create_task(follow())
        names = []
        for round_ in range(ROUNDS):
            for number in range(REQUESTS):
                names.append(f"w{round_}-{number}")
                await client.put_variable(names[-1], "x")
            leader = await cluster.leader()
            await cluster.kill(leader)
            names.append(f"w{round_}-after")
            await client.put_variable(names[-1], "x")
            await cluster.start(leader)

        async def all_seen() -> bool:
            return len(seen) >= len(names)

        await eventually(all_seen, within_s=60)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert [message for _, _, message in seen] == names
        assert seen == sorted(set(seen))

        # And what is collected is not passed over in silence.
        await client.set_limits(LimitsChange(events=100))
        for number in range(120):
            await client.put_variable(f"x{number}", "x")
        with pytest.raises(OutOfRangeError):
            await anext(client.watch_events(start, namespace="*"))
