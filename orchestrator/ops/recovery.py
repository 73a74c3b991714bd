"""The majority is lost for good: what one surviving disk holds, and how its peer goes on alone.

Owns: putting snapshot and log of one disk together, comparing disks, and the switch. Leaves to others: reading a disk
(``peer_disk``), which numbers move on (``state.renewal``). The rule: nothing that this disk holds is dropped. Entries
behind the known commit point stay: a majority may have had them, and then somebody was told that they were done. What
nobody was told of may be among them too, and counts from now on.

The switch is that of any configuration epoch (``replication.epochs``): the next epoch's journal, then the snapshot's
rename, then the older journals go; a crash on either side of the rename finds one whole epoch. Before it, everything
is copied aside.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.contract.errors import PreconditionError, StartupError
from orchestrator.ops import peer_disk
from orchestrator.ops.peer_disk import PeerDisk
from orchestrator.replication.datadir import read_identity
from orchestrator.replication.disk import Disk, RealDisk
from orchestrator.replication.journals import FileJournals
from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.snapshots import FileSnapshots
from orchestrator.replication.turns import apply_entry
from orchestrator.state.renewal import renew
from orchestrator.state.state import State

ASIDE = ".before-recover-"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Survivor:
    """What one disk would go on with. Entry indexes are those of the replicated log."""

    disk: PeerDisk
    state: State  # with every entry of the disk applied
    known_index: int  # command index at the known commit point

    @property
    def epoch(self) -> int:
        """Configuration epoch of the log on this disk."""
        return self.disk.snapshot.epoch if self.disk.snapshot is not None else 1

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(sorted(self.state.admitted))

    @property
    def voter(self) -> bool:
        """Whether this disk had a vote: else it may miss anything, however new its last entry is."""
        identity = self.disk.identity
        return self.state.admitted.get(identity.peer_id) == identity.incarnation

    @property
    def rank(self) -> tuple[bool, int, int, int]:
        """Raft's own measure of the more complete log, within the newest epoch, voters first."""
        return self.voter, self.epoch, self.disk.last_term, self.disk.last_index


def survey(path: Path) -> Survivor:
    """Read the disk and apply all that it holds, in memory. Raises as ``peer_disk.read``, and ``PreconditionError`` if
    there is no cluster in it. The caller holds the directory."""
    # First: the epoch that removed it has left no journal here, which would be called damage.
    identity = read_identity(path, peer_disk.ReadOnlyDisk())
    if identity.removed_epoch:
        raise PreconditionError(
            f"{path}: its peer was removed from the cluster in epoch {identity.removed_epoch}, so others went on "
            "without it: look for one of their disks, or restore a backup"
        )
    disk = peer_disk.read(path)
    machine, storage = disk.machine, disk.storage
    epoch = disk.snapshot.epoch if disk.snapshot is not None else 1
    after = disk.snapshot.last_index if disk.snapshot is not None else 0
    known = machine.index
    for command, index, _ in storage[:]:
        if index <= after:
            continue
        apply_entry(machine, command, epoch=epoch)
        if index <= storage.commit_index:
            known = machine.index
    if not machine.state.epoch:
        raise PreconditionError(
            f"{path}: the first start of this cluster was never complete, so there is nothing to recover; start all "
            "peers, or begin with empty directories"
        )
    return Survivor(disk=disk, state=machine.state, known_index=known)


def best(survivors: Sequence[Survivor]) -> Survivor:
    """The one that holds the most. Raises ``PreconditionError`` if they are not of one cluster."""
    clusters = {one.state.cluster_id for one in survivors}
    if len(clusters) > 1:
        raise PreconditionError(f"these are disks of different clusters: {', '.join(sorted(clusters))}")
    return max(survivors, key=lambda one: one.rank)


def address_of(survivor: Survivor, given: str | None) -> str:
    """Where the others and clients find the peer: as given, or as the cluster knew it. Raises ``StartupError``."""
    address = given or survivor.state.addresses.get(survivor.disk.identity.peer_id, "")
    if not address:
        raise StartupError(
            f"where peer {survivor.disk.identity.peer_id} is reached is not on its disk (its peers never changed): "
            "say --address HOST:PORT, as in its --peers"
        )
    return address


def recover(survivor: Survivor, address: str, stamp: str, disk: Disk | None = None) -> Path:
    """Make the peer the only one of the next life; returns where a copy of what was there before is.

    The caller holds the directory. Raises ``StartupError`` if the copy cannot be made (nothing was changed then),
    ``OSError`` as the disk does.
    """
    disk = disk if disk is not None else RealDisk()
    on_disk, state = survivor.disk, survivor.state
    identity = on_disk.identity
    aside = copy_aside(on_disk.path, stamp)
    cause = f"recovered from the disk of peer {identity.peer_id} alone, up to index {state.index}"
    renew(state, peer_id=identity.peer_id, incarnation=identity.incarnation, address=address, cause=cause)
    meta = SnapshotMeta(
        last_index=on_disk.last_index, last_term=on_disk.last_term, index=state.index, epoch=state.epoch
    )
    journals = FileJournals(on_disk.path, disk=disk)
    journals.prepare(meta.epoch, max(1, on_disk.term, meta.last_term))
    store = FileSnapshots(on_disk.path / "snapshots", disk=disk)
    store.save(meta, on_disk.machine.capture()())
    journals.keep_only(meta.epoch)
    return aside


def copy_aside(path: Path, stamp: str) -> Path:
    """A copy of the directory beside it, or within it where there is no room for one beside it (a mounted volume).

    Files are linked where that can be: recovery replaces and removes them, and never writes into one.
    """
    beside, within = path.with_name(path.name + ASIDE + stamp), path / (ASIDE + stamp)
    places = [within] if path.is_mount() else [beside, within]
    problem: OSError | None = None
    for aside in places:
        try:
            _copy(path, aside)
            return aside
        except OSError as error:
            problem = error
            shutil.rmtree(aside, ignore_errors=True)
    assert problem is not None
    raise StartupError(f"{path} cannot be copied aside ({problem.strerror}): nothing was changed") from problem


def _copy(path: Path, aside: Path) -> None:
    names = [name for name in RealDisk().listdir(path) if name != "lock" and not name.startswith(ASIDE)]
    aside.mkdir(mode=0o700)
    for name in names:
        source = path / name
        if source.is_dir():
            shutil.copytree(source, aside / name, copy_function=_link_or_copy)
        else:
            _link_or_copy(str(source), str(aside / name))
    for directory in (aside, *(found for found in aside.rglob("*") if found.is_dir()), aside.parent):
        RealDisk().fsync_dir(directory)


def _link_or_copy(source: str, target: str) -> str:
    with contextlib.suppress(OSError):
        os.link(source, target)
        return target
    copied: str = shutil.copy2(source, target)
    with Path(copied).open("rb") as file:
        os.fsync(file.fileno())
    return copied
