"""Changes of the peers over gRPC on loopback, with real journals and snapshots, in one process."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from orchestrator.contract.errors import PreconditionError, RaftsmanError
from orchestrator.replication.epochs import EpochLog
from orchestrator.replication.journals import FileJournals
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.snapshots import FileSnapshots
from orchestrator.replication.transport import SERVER_OPTIONS, GrpcNetwork
from tests.integration.test_engine_over_grpc import until
from tests.sim.machine import ListMachine, admission_payload, change_payload


@dataclass(slots=True)
class Peer:
    address: str
    log: EpochLog
    machine: ListMachine
    server: grpc.aio.Server
    retired: list[int] = field(default_factory=list)


class Cluster:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.addresses: dict[str, str] = {}
        self.peers: dict[str, Peer] = {}

    async def start(self, *names: str, called: str = "") -> None:
        """Start peers; each lists all that were ever named. ``called``: by this id, on a disk of its own."""
        for name in names:
            if name not in self.addresses:
                with socket.create_server(("127.0.0.1", 0)) as held:
                    self.addresses[name] = f"127.0.0.1:{held.getsockname()[1]}"
        for name in names:
            fresh = not (self.directory / name).exists()
            machine, network, retired = ListMachine(), GrpcNetwork(), list[int]()
            server = grpc.aio.server(options=SERVER_OPTIONS)
            network.add_to_server(server)
            server.add_insecure_port(self.addresses[name])
            await server.start()
            log = EpochLog(
                peer_id=called or name, peers=self._listed(name, called), machine=machine,
                journals=FileJournals(self.directory / name),
                snapshots=FileSnapshots(self.directory / name / "snapshots"), network=network,
                incarnation=f"disk-of-{name}", fresh=fresh, admission_payload=admission_payload,
                config=EngineConfig(compact_entries=50, tail_entries=10), retired=retired.append,
            )  # fmt: skip
            self.peers[name] = Peer(self.addresses[name], log, machine, server, retired)
            await log.start()

    def _listed(self, name: str, called: str) -> dict[str, str]:
        if not called:
            return dict(self.addresses)
        return {other: at for other, at in self.addresses.items() if other != name} | {called: self.addresses[name]}

    async def stop(self, name: str) -> None:
        peer = self.peers.pop(name)
        await peer.log.stop()
        await peer.server.stop(None)

    async def leader(self, *, epoch: int) -> Peer:
        def found() -> Peer | None:
            leading = [peer for peer in self.peers.values() if peer.log.is_leader() and peer.log.epoch == epoch]
            return leading[0] if leading else None

        await until(lambda: found() is not None)
        peer = found()
        assert peer is not None
        return peer

    async def change(self, *, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> None:
        leader = await self.leader(epoch=max(peer.log.epoch for peer in self.peers.values()))
        addresses = {name: at for name, at in leader.log.peers.items() if name not in remove}
        disks = {name: disk for name, disk in leader.machine.admitted().items() if name not in remove}
        for name in add:
            addresses[name] = self.addresses[name]
            disks[name] = await leader.log.rehearse(name, self.addresses[name])
        await leader.log.propose(change_payload(leader.log.epoch, addresses, disks), alone=True)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    for name in list(cluster.peers):
        await cluster.stop(name)


async def test_one_peer_becomes_three_and_those_two_go_on_alone(cluster: Cluster) -> None:
    await cluster.start("p1")
    leader = await cluster.leader(epoch=1)
    for number in range(120):
        await leader.log.propose(b"%d" % number)
    await cluster.start("p2", "p3")
    await cluster.change(add=("p2", "p3"))
    leader = await cluster.leader(epoch=2)
    await leader.log.propose(b"three")
    await until(lambda: len({peer.machine.state_hash() for peer in cluster.peers.values()}) == 1)

    await cluster.change(remove=("p1",))
    leader = await cluster.leader(epoch=3)
    await leader.log.propose(b"two")
    await until(lambda: cluster.peers["p1"].retired == [3])
    await cluster.stop("p1")
    assert leader.machine.applied == [*(b"%d" % number for number in range(120)), b"three", b"two"]
    for name in ("p2", "p3"):
        await cluster.stop(name)
        await cluster.start(name)
    leader = await cluster.leader(epoch=3)
    assert await leader.log.read_barrier() and leader.machine.applied[-1] == b"two"


async def test_a_peer_that_missed_two_epochs_fetches_the_newest_snapshot(cluster: Cluster) -> None:
    await cluster.start("p1", "p2", "p3")
    leader = await cluster.leader(epoch=1)
    await leader.log.propose(b"first")
    late = next(name for name in cluster.peers if cluster.peers[name] is not leader)
    await cluster.stop(late)
    await cluster.start("p4")
    await cluster.change(add=("p4",))
    await cluster.leader(epoch=2)
    await cluster.start("p5")
    await cluster.change(add=("p5",))
    leader = await cluster.leader(epoch=3)
    await leader.log.propose(b"last")
    await cluster.start(late)
    await until(lambda: cluster.peers[late].log.epoch == 3)
    await until(lambda: cluster.peers[late].machine.applied == [b"first", b"last"])
    assert all(row.voter for row in leader.log.status().peers)


async def test_the_only_peer_is_replaced_by_another(cluster: Cluster) -> None:
    await cluster.start("p1")
    leader = await cluster.leader(epoch=1)
    await leader.log.propose(b"kept")
    await cluster.start("p2")
    await cluster.change(add=("p2",), remove=("p1",))
    leader = await cluster.leader(epoch=2)
    assert leader is cluster.peers["p2"]
    assert leader.machine.applied == [b"kept"]
    await until(lambda: cluster.peers["p1"].retired == [2])


async def test_a_newcomer_that_does_not_answer_or_is_another_is_named(cluster: Cluster) -> None:
    await cluster.start("p1")
    leader = await cluster.leader(epoch=1)
    with pytest.raises(PreconditionError, match=r"p2 at 127\.0\.0\.1:1 does not answer"):
        await leader.log.rehearse("p2", "127.0.0.1:1")
    await cluster.start("p2")
    with pytest.raises(PreconditionError, match="'p2' answers there"):
        await leader.log.rehearse("p3", cluster.addresses["p2"])
    assert await leader.log.rehearse("p2", cluster.addresses["p2"]) == "disk-of-p2"


async def test_a_stranger_gets_no_snapshot(cluster: Cluster) -> None:
    await cluster.start("p1")
    leader = await cluster.leader(epoch=1)
    hello = leader.log._hello()
    hello.peer_id, hello.cluster_id = "p9", "another"
    with pytest.raises(RaftsmanError, match="it has no snapshot for you"):
        await leader.log.newest_snapshot(hello)


async def test_a_living_peer_moves_to_another_machine_under_its_id(cluster: Cluster) -> None:
    """The new disk is kept off while the old one lives; the old one ends when the new one has taken over."""
    await cluster.start("p1", "p2", "p3")
    leader = await cluster.leader(epoch=1)
    await leader.log.propose(b"kept")
    moving = next(name for name in cluster.peers if cluster.peers[name] is not leader)
    await cluster.start("new", called=moving)
    await until(lambda: "peers replace" in cluster.peers["new"].log.refusals.get(leader.log.status().peer_id, ""))
    disks = {**leader.machine.admitted(), moving: await leader.log.rehearse(moving, cluster.addresses["new"])}
    assert disks[moving] == "disk-of-new"
    addresses = {**leader.log.peers, moving: cluster.addresses["new"]}
    await leader.log.propose(change_payload(1, addresses, disks), alone=True)
    await until(lambda: cluster.peers[moving].retired == [2])
    leader = await cluster.leader(epoch=2)
    await leader.log.propose(b"after")
    await until(lambda: cluster.peers["new"].machine.applied == [b"kept", b"after"])
    assert all(row.voter for row in leader.log.status().peers)
