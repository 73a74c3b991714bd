"""``PeerDisk``: the data directory of a peer that is stopped, looked at by the peer's own code.

Owns: holding the directory's lock while somebody looks, and what journal and snapshot say together. Leaves to others:
every format (``replication``), what to do about it (``recovery``, ``reset``). The rule: looking changes nothing. All
reads go through a disk that drops writes, so a torn end stays torn, and a read-only image of a dead machine will do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.contract.errors import CorruptError, NotFoundError, StartupError
from orchestrator.replication import datadir
from orchestrator.replication.datadir import Identity, hold_directory, read_identity, release
from orchestrator.replication.disk import DiskFile, RealDisk
from orchestrator.replication.journals import FileJournals
from orchestrator.replication.log import FutureFormatError, SnapshotMeta
from orchestrator.replication.machine import ClusterMachine
from orchestrator.replication.snapshots import FileSnapshots
from orchestrator.replication.storage import RaftStorage, TruncationError


class _Dropped:
    """A file open for writing, to nowhere."""

    def write(self, offset: int, data: bytes) -> None:
        pass

    def truncate(self, size: int) -> None:
        pass

    def fdatasync(self) -> None:
        pass

    def close(self) -> None:
        pass


class ReadOnlyDisk(RealDisk):
    """This machine's file system, of which nothing is changed: whoever writes believes that it worked."""

    def makedirs(self, directory: Path) -> None:
        pass

    def open(self, path: Path) -> DiskFile:
        return _Dropped()

    def rename(self, source: Path, target: Path) -> None:
        pass

    def unlink(self, path: Path) -> None:
        pass

    def rmdir(self, directory: Path) -> None:
        pass

    def fsync_dir(self, directory: Path) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PeerDisk:
    """What is on the disk. ``machine`` holds the state of the snapshot; entries behind it are not applied."""

    path: Path
    identity: Identity
    term: int
    snapshot: SnapshotMeta | None
    storage: RaftStorage
    machine: ClusterMachine

    @property
    def commit_index(self) -> int:
        """Up to here it is certain, from this disk alone, that a majority holds the entries."""
        return self.storage.commit_index

    @property
    def last_index(self) -> int:
        return self.storage.last_index

    @property
    def last_term(self) -> int:
        return self.storage.last_term

    @property
    def uncertain(self) -> int:
        """Entries behind the known commit point."""
        return self.last_index - self.commit_index


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The directory's lock, while its peer is stopped. Raises ``NotFoundError`` (no peer's data), ``StartupError``."""
    require_data(path)
    lock = hold_directory(path)
    try:
        yield
    finally:
        release(lock)


def require_data(path: Path) -> None:
    """Raises ``NotFoundError`` unless ``path`` holds at least part of a peer's data."""
    names = set(ReadOnlyDisk().listdir(path)) if path.is_dir() else set()
    if not names & {datadir.IDENTITY, "journal", "snapshots"}:
        raise NotFoundError(f"{path} is no peer's data directory: name what the peer was started with (--data)")


def read(path: Path) -> PeerDisk:
    """Open everything as the peer would. Raises ``CorruptError`` (damage or missing parts), ``StartupError`` (newer
    format). The caller holds the directory (``held``)."""
    disk = ReadOnlyDisk()
    identity = read_identity(path, disk)
    datadir.check_parts(path, identity, disk)
    machine = ClusterMachine()
    stored = FileSnapshots(path / "snapshots", disk=disk).load()
    meta = None
    if stored is not None:
        meta, data = stored
        try:
            machine.restore(data)
        except CorruptError as error:
            if isinstance(error.__cause__, FutureFormatError):
                raise StartupError(f"{path}: {error.message}: use the newer raftsman") from error
            raise
    journal = FileJournals(path, disk=disk).open(meta.epoch if meta is not None else 1)
    try:
        storage = RaftStorage(journal, meta)
    except TruncationError as error:
        raise CorruptError(f"{path}: {error}") from error
    return PeerDisk(
        path=path, identity=identity, term=journal.term, snapshot=meta, storage=storage, machine=machine
    )  # fmt: skip


def damage(path: Path) -> str:
    """Why the peer would refuse to start because of what is stored, "" if it would not. Raises ``StartupError`` for
    anything but damage (a newer format). The caller holds the directory."""
    try:
        read(path)
    except CorruptError as error:
        return error.message
    except OSError as error:
        return f"{error.filename or path} cannot be read: {error.strerror}"
    return ""


def recollect(path: Path) -> tuple[int, dict[str, str]]:
    """The newest epoch that left a trace, and the peers' addresses (id -> host:port; {} in epoch 1) as far as the
    snapshot tells them: damage makes it know less, and never raises."""
    disk = ReadOnlyDisk()
    epoch, addresses = 0, dict[str, str]()
    with suppress(CorruptError, StartupError, OSError):
        stored = FileSnapshots(path / "snapshots", disk=disk).load()
        if stored is not None:
            machine = ClusterMachine()
            machine.restore(stored[1])
            epoch, addresses = stored[0].epoch, dict(machine.addresses())
    return epoch, addresses


def identity_of(path: Path) -> Identity | None:
    """Whose the directory is, None if that cannot be read any more."""
    try:
        return read_identity(path, ReadOnlyDisk())
    except (CorruptError, OSError):
        return None
