"""A restored and a recovered directory begin to work: the real log on the real files, without a network."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.contract.answers import BackupHead, BackupPart
from orchestrator.contract.errors import UnknownOutcomeError
from orchestrator.ops import backup_file, recovery
from orchestrator.ops.restore import restore
from orchestrator.replication.datadir import open_data_directory
from orchestrator.replication.epochs import EpochLog
from orchestrator.replication.journals import FileJournals
from orchestrator.replication.link import Host, Receiver
from orchestrator.replication.machine import ClusterMachine, admission_payload
from orchestrator.replication.propose import Proposer
from orchestrator.replication.snapshots import FileSnapshots
from orchestrator.replication.v1 import peer_pb2 as pb
from orchestrator.state.commands import Applied
from orchestrator.state.renewal import EPOCH_STEP, INDEX_STEP
from tests.unit.ops.peer_data import make, put

PEERS = {"p1": "h:1", "p2": "h:2", "p3": "h:3"}  # as in --peers of the old life


class Nobody:
    """Implements ``EpochNetwork``: there is nobody else. Remembers whom the log wanted to reach."""

    def __init__(self) -> None:
        self.dialled: list[str] = []

    def serve(self, host: Host) -> None:
        """Nobody calls."""

    async def start(self, peer_id: str, peers: dict[str, str], receiver: Receiver) -> None:
        self.dialled += sorted(peers)

    def send(self, peer_id: str, frames: Sequence[pb.Frame]) -> None:
        raise AssertionError("there is nobody")

    async def stop(self) -> None:
        """Nothing was begun."""

    async def fetch(self, address: str, request: pb.FetchRequest) -> tuple[pb.SnapshotHeader, bytes]:
        raise UnknownOutcomeError("there is nobody")

    async def invite(self, address: str, invitation: pb.Invitation) -> pb.InvitationReply:
        raise UnknownOutcomeError("there is nobody")


@asynccontextmanager
async def peer(path: Path) -> AsyncIterator[tuple[EpochLog, ClusterMachine, Nobody]]:
    """The log of the directory's peer, started as ``daemon`` does and leading."""
    directory = open_data_directory(path, peer_id="p1", cluster_name="home", mint=lambda: "other")
    machine, network = ClusterMachine(), Nobody()
    log = EpochLog(
        peer_id="p1", peers=PEERS, machine=machine, journals=FileJournals(path),
        snapshots=FileSnapshots(path / "snapshots"), network=network, incarnation=directory.incarnation,
        fresh=directory.fresh, admission_payload=admission_payload,
    )  # fmt: skip
    await log.start()
    try:
        await log.leadership_changed(was=False)
        yield log, machine, network
    finally:
        await log.stop()
        directory.close()


@pytest.fixture(params=["restored", "recovered"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    machine = make(tmp_path / "p1", [put("a"), put("b")], committed=2, snapshot_after=2)
    if request.param == "recovered":
        recovery.recover(recovery.survey(tmp_path / "p1"), "h:1", "now")
        return tmp_path / "p1"
    state = b"".join(machine.capture()())
    head = BackupHead(format=1, index=machine.index, size_bytes=len(state), term=2, entry_index=5)
    parts = [BackupPart(head=head), BackupPart(data=state), BackupPart(sha256=hashlib.sha256(state).digest())]
    backup_file.write(tmp_path / "backup", parts, force=False)
    read, data = backup_file.read(tmp_path / "backup")
    restore(
        tmp_path / "backup", read, data, tmp_path / "new",
        peer_id="p1", address="h:1", cluster_name="home", mint=lambda: "new",
    )  # fmt: skip
    return tmp_path / "new"


async def test_its_peer_leads_alone_writes_go_on_and_nothing_is_lost_with_a_restart(directory: Path) -> None:
    async with peer(directory) as (log, machine, network):
        assert (log.epoch, log.peers, network.dialled) == (EPOCH_STEP, {"p1": "h:1"}, [])
        assert {name for _, name in machine.state.variables} == {"a", "b"}
        outcome = await Proposer(log).propose(put("c"), identity="client:a", request_id="r", digest=b"", timeout_s=5)
        assert isinstance(outcome, Applied)
        assert outcome.index == INDEX_STEP + 1
        assert await log.read_barrier() == INDEX_STEP + 1
        before = machine.state_hash()
    async with peer(directory) as (log, machine, _):
        assert machine.state_hash() == before
        assert log.status().index == INDEX_STEP + 1
