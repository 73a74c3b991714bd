"""From a backup to the data directory of one peer, which begins a new life of the cluster.

Owns: loading a backup's state and making the directory. Leaves to others: the file (``backup_file``), which numbers
move on (``state.renewal``). The rule: ``identity.json`` comes last. Until it is there a peer refuses the directory, and
the marker of an unfinished restore lets the next one clear what this one left.

The cluster keeps its id, so certificates, contexts, agents and the labels of containers stay valid; the new
configuration epoch tells the lives apart, and a peer of the old life that meets this one finds itself removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.contract.answers import BackupHead
from orchestrator.contract.errors import CorruptError, PreconditionError
from orchestrator.ops.reset import ASIDE
from orchestrator.replication.datadir import FORMAT_VERSION, IDENTITY, RESTORING, Identity, lock_directory, release
from orchestrator.replication.disk import Disk, RealDisk, write_atomically
from orchestrator.replication.journals import FileJournals
from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.machine import ClusterMachine
from orchestrator.replication.snapshots import FileSnapshots
from orchestrator.state.renewal import renew
from orchestrator.state.state import State

_IGNORED = ("lock", "lost+found", f"{RESTORING}.tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What the new directory holds."""

    cluster_id: str
    cluster_name: str
    epoch: int
    index: int


def load(file: Path, data: bytes) -> State:
    """The state in a backup's bytes. Raises ``CorruptError``."""
    return _machine(file, data).state


def _machine(file: Path, data: bytes) -> ClusterMachine:
    machine = ClusterMachine()
    try:
        machine.restore(data)
    except CorruptError as error:
        raise CorruptError(f"{file} holds no state that this raftsman can use: {error.__cause__}") from error
    return machine


def restore(
    file: Path,
    head: BackupHead,
    data: bytes,
    path: Path,
    *,
    peer_id: str,
    address: str,
    cluster_name: str,
    mint: Callable[[], str],
    disk: Disk | None = None,
) -> Restored:
    """Make the directory (absent, empty, or left by a restore that was interrupted); durable when it returns.

    ``mint`` gives the random incarnation of the new disk. Raises ``PreconditionError`` (the directory holds something),
    ``StartupError`` (in use, cannot be written), ``CorruptError`` (no state in ``data``), ``OSError``.
    """
    disk = disk if disk is not None else RealDisk()
    require_empty(path, disk)
    machine = _machine(file, data)
    state, incarnation = machine.state, mint()
    cause = f"restored from a backup at index {head.index}"
    try:
        renew(state, peer_id=peer_id, incarnation=incarnation, address=address, cause=cause)
    except ValueError as error:
        raise PreconditionError(f"{file} cannot be restored: {error}") from error
    lock = lock_directory(path, disk)
    try:
        require_empty(path, disk)
        write_atomically(disk, path / RESTORING, b"an unfinished `raftsman restore`: repeat it\n")
        _clear(path, disk)
        meta = SnapshotMeta(
            last_index=max(1, head.entry_index), last_term=head.term, index=state.index, epoch=state.epoch
        )
        FileJournals(path, disk=disk).prepare(meta.epoch, max(1, meta.last_term))
        FileSnapshots(path / "snapshots", disk=disk).save(meta, machine.capture()())
        identity = Identity(
            format=FORMAT_VERSION, peer_id=peer_id, cluster_name=cluster_name, cluster_id=state.cluster_id,
            incarnation=incarnation, members=peer_id,
        )  # fmt: skip
        write_atomically(disk, path / IDENTITY, identity.encode())
        disk.fsync_dir(path.parent)
        disk.unlink(path / RESTORING)
        disk.fsync_dir(path)
    finally:
        release(lock)
    return Restored(cluster_id=state.cluster_id, cluster_name=cluster_name, epoch=state.epoch, index=state.index)


def require_empty(path: Path, disk: Disk) -> None:
    """Raises ``PreconditionError`` unless the directory may be filled."""
    if path.exists() and not path.is_dir():
        raise PreconditionError(f"{path} is not a directory: name another one")
    names = [name for name in disk.listdir(path) if name not in _IGNORED and not name.startswith(ASIDE)]
    if names and (RESTORING not in names or IDENTITY in names):
        raise PreconditionError(
            f"{path} is not empty ({', '.join(sorted(names)[:3])}): name an empty directory; `raftsman peers reset` "
            "puts the data of a peer aside"
        )


def _clear(path: Path, disk: Disk) -> None:
    """Remove what an interrupted restore had made; it began with an empty directory."""
    FileJournals(path, disk=disk).keep_only(0)  # no epoch has that number: all of them go
    for name in sorted(disk.listdir(path / "snapshots")):
        disk.unlink(path / "snapshots" / name)
    for name in sorted(disk.listdir(path)):
        if name.endswith(".tmp"):
            disk.unlink(path / name)
    disk.fsync_dir(path)
