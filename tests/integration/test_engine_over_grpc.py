"""Three engines over gRPC on loopback, with real journals, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from orchestrator.contract.errors import NoLeaderError, NotLeaderError
from orchestrator.replication.engine import EngineLog
from orchestrator.replication.journal import FileJournal
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.snapshots import FileSnapshots
from orchestrator.replication.transport import SERVER_OPTIONS, GrpcNetwork
from tests.sim.machine import ListMachine, admission_payload


@dataclass(slots=True)
class Peer:
    directory: Path
    log: EngineLog
    machine: ListMachine
    server: grpc.aio.Server


class Cluster:
    def __init__(self, directory: Path, config: EngineConfig) -> None:
        self.directory = directory
        self.config = config
        self.addresses: dict[str, str] = {}
        self.peers: dict[str, Peer] = {}

    def reserve(self, count: int) -> None:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        for number, held in enumerate(sockets, start=1):
            self.addresses[f"p{number}"] = f"127.0.0.1:{held.getsockname()[1]}"
            held.close()

    async def start(self, peer_id: str, *, addresses: dict[str, str] | None = None) -> Peer:
        directory = self.directory / peer_id
        fresh = not directory.exists()
        machine = ListMachine()
        network = GrpcNetwork()
        server = grpc.aio.server(options=SERVER_OPTIONS)
        network.add_to_server(server)
        server.add_insecure_port(self.addresses[peer_id])
        await server.start()
        log = EngineLog(
            peer_id=peer_id,
            peers=addresses or self.addresses,
            machine=machine,
            journal=FileJournal(directory / "journal"),
            snapshots=FileSnapshots(directory / "snapshots"),
            network=network,
            incarnation=f"disk-of-{peer_id}",
            fresh=fresh,
            admission_payload=admission_payload,
            config=self.config,
        )
        await log.start()
        peer = self.peers[peer_id] = Peer(directory, log, machine, server)
        return peer

    async def stop(self, peer_id: str) -> None:
        peer = self.peers.pop(peer_id)
        await peer.log.stop()
        await peer.server.stop(None)

    async def leader(self) -> Peer:
        await until(lambda: any(peer.log.is_leader() for peer in self.peers.values()))
        return next(peer for peer in self.peers.values() if peer.log.is_leader())

    async def write(self, payload: bytes) -> None:
        """Through whoever leads: on a busy machine that may change at any time, and then nothing was done."""
        while True:
            leader = await self.leader()
            with contextlib.suppress(NotLeaderError, NoLeaderError):
                await leader.log.propose(payload)
                return


async def until(condition: Callable[[], bool], *, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        await asyncio.sleep(0.005)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path, EngineConfig(compact_entries=200, tail_entries=20))
    cluster.reserve(3)
    yield cluster
    for peer_id in list(cluster.peers):
        await cluster.stop(peer_id)


async def test_nothing_is_lost_when_leaders_stop_and_restart(cluster: Cluster) -> None:
    for peer_id in cluster.addresses:
        await cluster.start(peer_id)
    written: list[bytes] = []
    for round_number in range(3):
        for number in range(40):
            payload = f"{round_number}-{number}".encode()
            await cluster.write(payload)
            written.append(payload)
        stopped = (await cluster.leader()).log.status().peer_id
        await cluster.stop(stopped)
        await cluster.write(b"between")
        written.append(b"between")
        await cluster.start(stopped)
    await until(lambda: len({peer.machine.index for peer in cluster.peers.values()}) == 1)
    assert [peer.machine.applied for peer in cluster.peers.values()] == [written] * 3
    leader = await cluster.leader()
    assert await leader.log.read_barrier() == leader.machine.index


async def test_follower_refuses_writes_and_serves_linearizable_reads(cluster: Cluster) -> None:
    for peer_id in cluster.addresses:
        await cluster.start(peer_id)
    leader = await cluster.leader()
    follower = next(peer for peer in cluster.peers.values() if peer is not leader)
    await until(lambda: follower.log.leader_id == leader.log.status().peer_id)
    with pytest.raises(NotLeaderError) as caught:
        await follower.log.propose(b"x")
    assert caught.value.leader_id == leader.log.status().peer_id
    for number in range(20):
        done = await leader.log.propose(f"{number}".encode())
        assert await follower.log.read_barrier() >= done.index


async def test_all_peers_restart_from_their_journals(cluster: Cluster) -> None:
    for peer_id in cluster.addresses:
        await cluster.start(peer_id)
    leader = await cluster.leader()
    await asyncio.gather(*(leader.log.propose(f"{number}".encode()) for number in range(500)))
    state = leader.machine.state_hash()
    for peer_id in list(cluster.peers):
        await cluster.stop(peer_id)
    for peer_id in cluster.addresses:
        await cluster.start(peer_id)
    await cluster.leader()
    await until(lambda: {peer.machine.state_hash() for peer in cluster.peers.values()} == {state})


async def test_peer_with_another_peer_list_is_refused_with_the_reason(cluster: Cluster) -> None:
    await cluster.start("p1")
    odd = await cluster.start("p2", addresses={key: cluster.addresses[key] for key in ("p1", "p2")})
    await until(lambda: "p1" in odd.log.refusals)
    assert "peer list" in odd.log.refusals["p1"]
