"""A peer's data directory as the peer itself would have left it, and a disk that stops in the middle."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from orchestrator.contract.model import str_map
from orchestrator.replication import batches
from orchestrator.replication.codec import encode_entry
from orchestrator.replication.datadir import open_data_directory
from orchestrator.replication.disk import DiskFile, RealDisk
from orchestrator.replication.journal import FileJournal
from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.machine import ClusterMachine
from orchestrator.replication.snapshots import FileSnapshots
from orchestrator.replication.storage import NO_OP
from orchestrator.replication.turns import apply_entry
from orchestrator.state.commands import AdmitPeers, Command, Entry, WriteVariable

CLUSTER_ID = "c-1"
ADMISSION = AdmitPeers(cluster_id=CLUSTER_ID, incarnations=str_map({"p1": "d-p1", "p2": "d-p2", "p3": "d-p3"}))


def put(name: str, value: str = "x") -> WriteVariable:
    return WriteVariable(namespace="default", name=name, value=value)


def entry(*commands: Command, request_id: str = "") -> bytes:
    payloads = [
        encode_entry(Entry(identity="client:a", request_id=request_id, digest=b"", time_ms=1_000, command=command))
        for command in commands
    ]
    return batches.encode(payloads)


def make(
    path: Path,
    commands: Sequence[Command],
    *,
    peer_id: str = "p1",
    committed: int = -1,
    snapshot_after: int = 0,
    term: int = 2,
) -> ClusterMachine:
    """A directory of cluster ``c-1`` whose log is the admission and ``commands``, one entry each.

    Of these entries ``committed`` are known to be (all when negative); a snapshot covers ``snapshot_after`` of them.
    Returns the state with all of them applied.
    """
    directory = open_data_directory(path, peer_id=peer_id, cluster_name="home", mint=lambda: f"d-{peer_id}")
    journal = FileJournal(directory.path / "journal")
    journal.set_vote(term, peer_id)
    rows = [(1, 0, NO_OP), (2, term, NO_OP)]
    rows += [(3 + place, term, entry(command)) for place, command in enumerate((ADMISSION, *commands))]
    journal.append(rows)
    journal.set_commit_hint(2 + (committed if committed >= 0 else len(commands) + 1))
    machine = ClusterMachine()
    for index, _, command in rows:
        apply_entry(machine, command, epoch=1)
        if snapshot_after and index == 2 + snapshot_after:
            meta = SnapshotMeta(last_index=index, last_term=term, index=machine.index)
            FileSnapshots(directory.snapshots_path).save(meta, machine.capture()())
            journal.trim_before(index)
    journal.flush()
    journal.close()
    directory.bind_cluster_id(CLUSTER_ID, ["p1", "p2", "p3"])
    directory.close()
    return machine


def flip(file: Path, offset: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 0xFF
    file.write_bytes(bytes(data))


def break_journal(path: Path) -> None:
    """Damage before the last frame, which no restart may pass over."""
    flip(next((path / "journal").glob("*.journal")), 10)


def tree(path: Path) -> dict[str, bytes]:
    """Every file below the directory, but for the lock, with its bytes."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != "lock"
    }


class StoppedError(BaseException):
    """The process is gone."""


class StoppingDisk(RealDisk):
    """The real disk, until the process ends before its ``stop_at``-th change (from 1)."""

    def __init__(self, stop_at: int) -> None:
        self.left = stop_at

    def _step(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise StoppedError

    def makedirs(self, directory: Path) -> None:
        self._step()
        super().makedirs(directory)

    def open(self, path: Path) -> DiskFile:
        self._step()
        return super().open(path)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)

    def fsync_dir(self, directory: Path) -> None:
        self._step()
        super().fsync_dir(directory)


def copied(path: Path, target: Path) -> Path:
    shutil.copytree(path, target)
    return target
