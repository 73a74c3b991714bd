"""Real peers are added, removed and replaced while clients write: every acknowledged write is there in the end, and all
present peers have the same state."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from orchestrator.client.aio import Client
from orchestrator.contract.errors import PreconditionError, RaftsmanError
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.ops.dev import LocalCluster
from tests.integration.peer_processes import PeerCluster, agent, eventually, free_ports, peer_cluster

pytestmark = pytest.mark.cluster


PAUSE_S = 0.01
"""Between two writes of one writer, which take about as long: without it four writers take a whole processor, and the
peers that are to catch up get none."""


class Load:
    """Writers that never stop; each knows what was acknowledged to it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.acknowledged: dict[str, str] = {}
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(4)]

    async def _write(self, name: int) -> None:
        number = 0
        while True:
            number += 1
            key, value = f"w{name}-{number % 50}", f"{name}-{number}"
            await self.client.put_variable(key, value)
            self.acknowledged[key] = value
            await asyncio.sleep(PAUSE_S)

    async def stop(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()  # a write that failed in the end
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def loaded(cluster: PeerCluster) -> AsyncIterator[Client]:
    """A client while others write; in the end nothing acknowledged may be missing and all states must be equal."""
    first = list(cluster.addresses.values())
    async with Client(first, tls=cluster.tls(), timeout_s=60.0) as client:
        load = Load(client)
        try:
            yield client
            before = len(load.acknowledged)
            await eventually(lambda: _is(len(load.acknowledged) > min(before, 150)), within_s=30)
        finally:
            await load.stop()
        assert len(load.acknowledged) > 100
        found = {one.name: one.value for one in (await client.list_variables(prefix="w")).variables}
        # A write that was cut off by the end of the load may have taken the place of the last acknowledged one.
        lost = {key for key, value in load.acknowledged.items() if _number(found.get(key, "")) < _number(value)}
        assert not lost, f"acknowledged and lost: {sorted(lost)[:5]}"
        await _equal_hashes(client)


async def _is(value: bool) -> bool:
    return value


def _number(value: str) -> int:
    return int(value.rpartition("-")[2] or -1)


async def _equal_hashes(client: Client) -> None:
    async def compared() -> dict[str, str] | None:
        try:
            status = await client.cluster_status()
            index = (await client.state_hash()).index
            found = {peer.id: (await client.state_hash(index, peer.id)).hash for peer in status.peers}
        except RaftsmanError:  # a peer was past the index already, or is not connected yet
            return None
        return found

    hashes = await eventually(compared, within_s=30)
    assert len(set(hashes.values())) == 1, hashes


async def settled(client: Client, epoch: int, *names: str) -> None:
    """Until exactly these peers serve in that epoch."""

    async def there() -> bool:
        try:
            status = await client.cluster_status()
        except RaftsmanError:
            return False
        serving = {peer.id for peer in status.peers if peer.role in ("leader", "follower")}
        return status.epoch == epoch and serving == {peer.id for peer in status.peers} == set(names)

    await eventually(there, within_s=60)


async def test_one_peer_becomes_three_then_five_then_three(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, count=1, secure=True) as cluster, loaded(cluster) as client:
        added = {peer: await cluster.place(peer) for peer in ("p2", "p3")}
        changed = await client.change_peers(added)
        assert (changed.epoch, dict(changed.peers)) == (2, cluster.addresses)
        await settled(client, 2, "p1", "p2", "p3")

        added = {peer: await cluster.place(peer) for peer in ("p4", "p5")}
        await client.change_peers(added)
        await settled(client, 3, "p1", "p2", "p3", "p4", "p5")

        await client.change_peers(remove=["p1", "p2"])
        for peer in ("p1", "p2"):
            assert await cluster.ended(peer) == 0, cluster.log(peer)[-3000:]
            assert "was removed from the cluster in configuration epoch 4" in cluster.log(peer)
        await settled(client, 4, "p3", "p4", "p5")
        await cluster.start("p1")  # on the same data directory
        assert await cluster.ended("p1") == 1
        assert "was removed from cluster" in cluster.log("p1").splitlines()[-1]
        cluster.dismiss("p1")
        cluster.dismiss("p2")


async def test_a_dead_peer_is_replaced_and_the_leader_removed(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, secure=True) as cluster, loaded(cluster) as client:
        leader = await cluster.leader()
        dead = next(peer for peer in cluster.ids if peer != leader)
        await cluster.kill(dead)
        address = await cluster.place("p4")
        await client.change_peers({"p4": address}, [dead])
        cluster.dismiss(dead)
        await settled(client, 2, *cluster.ids)

        leader = (await client.cluster_status()).leader_id
        await client.change_peers(remove=[leader])
        assert await cluster.ended(leader) == 0
        cluster.dismiss(leader)
        await settled(client, 3, *cluster.ids)


async def test_a_dead_peer_is_replaced_under_its_own_id_at_another_address(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, secure=True) as cluster, loaded(cluster) as client:
        leader = await cluster.leader()
        dead = next(peer for peer in cluster.ids if peer != leader)
        await cluster.kill(dead)
        (tmp_path / dead).rename(tmp_path / "gone")
        address = await cluster.place(dead)
        changed = await client.change_peers({dead: address}, [dead])
        assert dict(changed.peers)[dead] == address
        await settled(client, 2, *cluster.ids)


async def test_all_peers_and_what_clients_and_agents_knew_are_replaced_one_by_one(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, secure=True) as cluster, agent(cluster), loaded(cluster) as client:
        await eventually(lambda: _node_ready(client))
        for number in (1, 2, 3):
            old, new = f"p{number}", f"p{number + 3}"
            address = await cluster.place(new)
            changed = await client.change_peers({new: address}, [old])
            assert await cluster.ended(old) == 0
            cluster.dismiss(old)
            await settled(client, changed.epoch, *cluster.ids)
        assert sorted(cluster.ids) == ["p4", "p5", "p6"]
        assert await _node_ready(client), "the agent did not follow"
        known = (tmp_path / "n1" / "node.json").read_text()
        assert all(address in known for address in cluster.addresses.values()), known


async def _node_ready(client: Client) -> bool:
    nodes = (await client.list_nodes()).nodes
    return [node.status.name for node in nodes] == ["READY"]


async def test_what_cannot_work_is_refused_and_the_old_peers_go_on(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(peer_cluster(tmp_path, secure=True))
        client = await stack.enter_async_context(Client(list(cluster.addresses.values()), tls=cluster.tls()))
        with pytest.raises(PreconditionError, match=r"p4 at 127\.0\.0\.1:1 does not answer"):
            await client.change_peers({"p4": "127.0.0.1:1"})
        address = await cluster.place("p4")
        with pytest.raises(PreconditionError, match="'p4' answers there"):
            await client.change_peers({"p5": address})
        leader = await cluster.leader(among=["p1", "p2", "p3"])
        others = [peer for peer in ("p1", "p2", "p3") if peer != leader]
        with pytest.raises(PreconditionError, match="is a peer already, with the disk that it has"):
            await client.change_peers({others[0]: cluster.addresses[others[0]].replace("127.0.0.1", "localhost")},
                                          [others[0]])  # fmt: skip
        await cluster.kill(others[0])
        await eventually(lambda: _seen_dead(client, others[0]))
        with pytest.raises(PreconditionError, match="of the 2 peers that there would be, 1 live"):
            await client.change_peers(remove=[others[1]])
        status = await client.cluster_status()
        assert (status.epoch, len(status.peers)) == (1, 3)
        stub = cluster.control("p4")
        waiting = await stub.ClusterStatus(pb.ClusterStatusRequest(read={"stale": True}), timeout=5)
        assert "`raftsman peers add p4=HOST:PORT` makes it one" in waiting.waits_for
        await client.change_peers({"p4": address}, [others[0]])
        cluster.dismiss(others[0])
        await settled(client, 2, *cluster.ids)


async def _seen_dead(client: Client, name: str) -> bool:
    return any(peer.id == name and not peer.connected for peer in (await client.cluster_status()).peers)


async def test_a_repeated_request_is_answered_as_the_first_time(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, count=1) as cluster:
        address = await cluster.place("p2")
        request = pb.ChangePeersRequest(request_id="r1", add={"p2": address})
        answers = []
        for _ in range(2):

            async def call() -> pb.ChangePeersResponse | None:
                try:
                    answer: pb.ChangePeersResponse = await cluster.control("p1").ChangePeers(request, timeout=20)
                except grpc.aio.AioRpcError:
                    return None
                return answer

            answers.append(await eventually(call))
        assert answers[0] == answers[1]
        assert answers[0].epoch == 2


async def test_a_local_cluster_grows_shrinks_and_replaces_a_dead_peer() -> None:
    async with LocalCluster(peers=1, agents=0) as cluster:
        await cluster.client.put_variable("kept", "1")
        assert [await cluster.add_peer(), await cluster.add_peer()] == ["p2", "p3"]
        await cluster.wait_ready()
        dead = await cluster.kill_leader()
        assert await cluster.replace_peer(dead) == "p4"
        await cluster.wait_ready()
        await cluster.remove_peer(await cluster.leader())
        await cluster.wait_ready()
        assert len(cluster.peers) == 2
        found = await cluster.client.get_variable("kept")
        assert found.variable is not None and found.variable.value == "1"


async def test_peers_that_all_get_other_addresses_find_each_other(tmp_path: Path) -> None:
    """A network is renumbered: from epoch 2 on nobody is where the log says, and nobody could change the log."""
    async with peer_cluster(tmp_path, secure=True) as cluster:
        async with Client(list(cluster.addresses.values()), tls=cluster.tls(), timeout_s=30) as client:
            await client.change_peers({}, ["p3"])
            await cluster.ended("p3")
            cluster.dismiss("p3")
            await client.put_variable("kept", "yes")
        for peer in cluster.ids:
            process = cluster.processes.pop(peer)
            process.terminate()
            await process.wait()
        for peer, port in zip(cluster.ids, free_ports(2), strict=True):
            cluster.addresses[peer] = f"127.0.0.1:{port}"
        for peer in cluster.ids:
            await cluster.start(peer)
        await cluster.leader()
        for peer in cluster.ids:  # one of them passes it on to the other
            async with Client([cluster.addresses[peer]], tls=cluster.tls(), timeout_s=30) as client:
                assert (await client.get_variable("kept")).variable is not None
                await client.put_variable(f"through-{peer}", "yes")
        async with agent(cluster, "n2"), Client(list(cluster.addresses.values()), tls=cluster.tls()) as client:

            async def beats() -> bool:  # whoever it asks tells it where the leader is now
                nodes = (await client.list_nodes()).nodes
                return any(one.spec.name == "n2" and one.heartbeat_age_ms >= 0 for one in nodes)

            await eventually(beats)
