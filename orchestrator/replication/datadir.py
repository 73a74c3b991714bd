"""The data directory of a peer: whose it is, which disk it is, and that only one process uses it.

Owns: the lock, ``identity.json`` and the paths below. Leaves what is stored there to ``journal`` and ``snapshots``. The
one rule: a peer runs only on its own disk. The disk incarnation is minted with the directory and never changes; a peer
that lost its entries must come back with another one, so that it does not vote as if it remembered (RAFT.md, S10).

    lock            held (flock) by the process that uses the directory; holds its pid
    identity.json   peer, cluster, incarnation, format; checked by a CRC32C of its own
    journal/ (later journal-N, of configuration epoch N)        snapshots/
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import google_crc32c
import structlog

from orchestrator.contract.errors import CorruptError, StartupError
from orchestrator.replication import journal, journals, snapshots
from orchestrator.replication.disk import Disk, RealDisk, write_atomically

FORMAT_VERSION = 1

LOCK = "lock"
IDENTITY = "identity.json"
RESTORING = "restoring"
"""Marks a directory that ``raftsman restore`` fills; the identity comes last."""
_log = structlog.get_logger("raftsman.datadir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    format: int
    peer_id: str
    cluster_name: str  # as configured when the directory was made
    cluster_id: str  # the replicated one; "" until it is known
    incarnation: str
    members: str = ""  # ids of the cluster's peers, sorted, with commas between; "" until they are known
    removed_epoch: int = 0  # in which the peer was removed, and has no further use for this directory

    def encode(self) -> bytes:
        fields = asdict(self)
        fields["crc32c"] = _checksum(fields)
        return (json.dumps(fields, indent=2) + "\n").encode()


def _checksum(fields: dict[str, object]) -> str:
    return f"{google_crc32c.value(json.dumps(fields, sort_keys=True).encode()):08x}"


class DataDirectory:
    """An open, locked data directory. ``close`` (or the end of the process) unlocks it."""

    def __init__(self, path: Path, identity: Identity, *, fresh: bool, lock: int, disk: Disk) -> None:
        self.path = path
        self.fresh = fresh
        """Nothing was ever stored here: neither a vote or entry nor a snapshot."""
        self._identity = identity
        self._lock = lock
        self._disk = disk

    @property
    def peer_id(self) -> str:
        return self._identity.peer_id

    @property
    def incarnation(self) -> str:
        """Random identity of this disk, minted with the directory."""
        return self._identity.incarnation

    @property
    def cluster_id(self) -> str:
        """Replicated cluster id that this disk belongs to; "" before the first start was complete."""
        return self._identity.cluster_id

    @property
    def snapshots_path(self) -> Path:
        return self.path / "snapshots"

    @property
    def members(self) -> tuple[str, ...]:
        """Ids of the peers of the cluster that this disk belongs to; () before the first start was complete."""
        return tuple(self._identity.members.split(",")) if self._identity.members else ()

    def bind_cluster_id(self, cluster_id: str, members: Sequence[str] = ()) -> None:
        """Remember, durably, which cluster this disk belongs to; nothing is done if it is known already.

        Raises ``StartupError`` if the disk belongs to another one, ``ValueError`` for an empty id.
        """
        if not cluster_id:
            raise ValueError("a cluster id is not empty")
        known = ",".join(sorted(members)) or self._identity.members
        if self._identity.cluster_id == cluster_id and self._identity.members == known:
            return
        if self._identity.cluster_id not in ("", cluster_id):
            raise StartupError(
                f"{self.path} belongs to cluster {self._identity.cluster_id}, but the peers it was told to join form "
                f"cluster {cluster_id}: correct the peer list, or give this peer an empty data directory"
            )
        self._identity = replace(self._identity, cluster_id=cluster_id, members=known)
        write_atomically(self._disk, self.path / IDENTITY, self._identity.encode())

    def mark_removed(self, epoch: int) -> None:
        """Remember, durably, that this peer was removed from its cluster: nobody opens this directory again."""
        self._identity = replace(self._identity, removed_epoch=epoch)
        write_atomically(self._disk, self.path / IDENTITY, self._identity.encode())

    def displaced(self) -> str:
        """What became of the directory under this process, "" while it is where it was.

        Files that are open can be written and flushed whatever becomes of their names: a peer whose directory was
        deleted or moved would go on, acknowledge, and have nothing when it starts again. Raises ``OSError`` where that
        cannot be told.
        """
        try:
            named = (self.path / LOCK).stat()
        except (FileNotFoundError, NotADirectoryError):
            return f"{self.path} (or the lock in it) was deleted or moved while this peer ran"
        held = os.fstat(self._lock)
        if (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
            return f"{self.path} was replaced by another directory while this peer ran"
        return ""

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def open_data_directory(
    path: Path, *, peer_id: str, cluster_name: str, mint: Callable[[], str], disk: Disk | None = None
) -> DataDirectory:
    """Open the directory for this peer, or make it; ``mint`` gives the random incarnation of a new one.

    Raises ``StartupError`` (not usable, in use by another process, another peer's or cluster's, newer format) and
    ``CorruptError`` (damaged, or parts of it are gone); every message says how to proceed. ``disk`` does the durable
    writing; the lock is always the operating system's.
    """
    disk = disk if disk is not None else RealDisk()
    path = path.absolute()
    lock = lock_directory(path, disk)
    try:
        stored = holds_anything(path, disk)
        if IDENTITY in disk.listdir(path):
            identity = read_identity(path, disk)
            _check_owner(path, identity, peer_id, cluster_name)
            _check_removed(path, identity)
            check_parts(path, identity, disk)
            disk.fsync_dir(path)  # what was read here is about to be relied on, and a sync may have failed before
        elif RESTORING in disk.listdir(path):
            raise StartupError(f"a restore into {path} was not finished: repeat `raftsman restore`")
        elif stored:
            raise CorruptError(f"{path} holds a journal or snapshots, but {IDENTITY} is gone. {journal.WAY_BACK}")
        else:
            identity = Identity(
                format=FORMAT_VERSION, peer_id=peer_id, cluster_name=cluster_name, cluster_id="", incarnation=mint()
            )
            write_atomically(disk, path / IDENTITY, identity.encode())
            disk.fsync_dir(path.parent)
            _log.info("datadir.created", path=str(path), peer=peer_id, incarnation=identity.incarnation)
        return DataDirectory(path, identity, fresh=not stored, lock=lock, disk=disk)
    except BaseException:
        os.close(lock)
        raise


def holds_anything(path: Path, disk: Disk) -> bool:
    """Whether a vote, an entry or a snapshot was ever stored in the directory."""
    return journals.any_holds_anything(path, disk) or snapshots.holds_anything(path / "snapshots", disk)


def check_parts(path: Path, identity: Identity, disk: Disk) -> None:
    """Raises ``CorruptError`` if the directory was part of a cluster and what it must remember of it is gone."""
    if identity.cluster_id and not journals.any_holds_anything(path, disk):
        # Terms, votes and the newest entries are in the journal alone: a snapshot does not stand for it.
        gone = "its journal is gone" if holds_anything(path, disk) else "its journal and snapshots are gone"
        raise CorruptError(f"{path} took part in cluster {identity.cluster_id}, but {gone}. {journal.WAY_BACK}")


def lock_directory(path: Path, disk: Disk) -> int:
    """The descriptor that holds the directory's lock; the kernel drops it with the process, however that ends.

    The directory is made if there is none. Raises ``StartupError`` (in use, not usable).
    """
    try:
        disk.makedirs(path)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileExistsError, NotADirectoryError) as error:
        raise StartupError(f"the data directory {path} is not a directory: name another one") from error
    except PermissionError as error:
        raise StartupError(
            f"the data directory {path} cannot be written by user {os.geteuid()} ({error.strerror}): "
            f"change its owner, or name another one"
        ) from error
    except OSError as error:
        raise StartupError(f"the data directory {path} cannot be used: {error.strerror}") from error
    _claim(path, lock)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def hold_directory(path: Path) -> int:
    """Like ``lock_directory``, to look at the data of a stopped peer: makes and writes nothing.

    Without a lock file no process has ever used the directory; -1 then. Raises ``StartupError``.
    """
    try:
        lock = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise StartupError(f"the data directory {path} cannot be used: {error.strerror}") from error
    _claim(path, lock)
    return lock


def release(lock: int) -> None:
    """Give the lock back."""
    if lock >= 0:
        os.close(lock)


def _claim(path: Path, lock: int) -> None:
    """Take the lock, or close the descriptor and raise ``StartupError``."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
        os.close(lock)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise StartupError(f"the data directory {path} cannot be locked: {error.strerror}") from error
        raise StartupError(
            f"the data directory {path} is in use by process {holder or '(unknown)'}: "
            f"stop that one, or give this peer a data directory of its own",
            pid=holder,
        ) from error


def read_identity(directory: Path, disk: Disk) -> Identity:
    """Whose the directory is. Raises ``CorruptError`` (gone, damaged), ``StartupError`` (newer format)."""
    path = directory / IDENTITY

    def damaged(what: str) -> CorruptError:
        return CorruptError(f"{path} is damaged: {what}. {journal.WAY_BACK}")

    try:
        fields = json.loads(disk.read(path))
    except FileNotFoundError as error:
        raise CorruptError(f"{path} is gone. {journal.WAY_BACK}") from error
    except ValueError as error:
        raise damaged(f"it is not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise damaged("it is not a JSON object")
    checksum = fields.pop("crc32c", None)
    if checksum != _checksum(fields):
        raise damaged("its checksum is wrong (it must not be edited by hand)")
    version = fields.get("format")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise StartupError(
            f"{path} was written by a newer raftsman (data directory format {version}; this one reads "
            f"{FORMAT_VERSION}): start the newer version on this data directory"
        )
    names = ("peer_id", "cluster_name", "cluster_id", "incarnation")
    if version != FORMAT_VERSION or not all(isinstance(fields.get(name), str) for name in names):
        raise damaged("fields are missing")
    members, removed_epoch = fields.get("members", ""), fields.get("removed_epoch", 0)
    if not isinstance(members, str) or not isinstance(removed_epoch, int):
        raise damaged("the members are no text, or the epoch is no number")
    return Identity(
        format=version, members=members, removed_epoch=removed_epoch, **{name: fields[name] for name in names}
    )


def _check_removed(path: Path, identity: Identity) -> None:
    if identity.removed_epoch:
        raise StartupError(
            f"peer {identity.peer_id} was removed from cluster {identity.cluster_id} in configuration epoch "
            f"{identity.removed_epoch}, and {path} is of no more use: move it away; with an empty data directory "
            "`raftsman peers add` takes the peer in again"
        )


def _check_owner(path: Path, identity: Identity, peer_id: str, cluster_name: str) -> None:
    held, asked = (identity.peer_id, identity.cluster_name), (peer_id, cluster_name)
    if held != asked:
        raise StartupError(
            f"the data directory {path} belongs to peer {held[0]!r} of cluster {held[1]!r}, but this process was "
            f"started as peer {asked[0]!r} of cluster {asked[1]!r}: start it as the former, or name another "
            "data directory"
        )
