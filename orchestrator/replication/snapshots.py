"""``FileSnapshots``: the newest snapshot of the replicated state, in one checked file.

Owns: the file's format and its atomic replacement. Leaves the state's encoding to the state machine and trimming the
journal to the engine. The one rule: the older snapshot stays whole until the newer one is durable, and a damaged one is
refused, never guessed around: the entries that it covers are gone from the journal.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable
from pathlib import Path

import structlog

from orchestrator.contract.errors import CorruptError, InvalidError, StartupError
from orchestrator.replication.disk import Disk, RealDisk
from orchestrator.replication.journal import WAY_BACK
from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.snapshotting import checksum

DEFAULT_MAX_BYTES = 1 << 30
FORMAT_VERSION = 2
"""1: of epoch 1, which it does not say. 2: the header ends with the configuration epoch."""
FILE_NAME = "state.snapshot"

_MAGIC = b"RAFTSNAP"
# magic, version, last index, last term, command index, length and checksum of the data; then the header's own checksum
_HEAD = struct.Struct("<8sHxxQQQQI")
_VERSION = struct.Struct("<H")
_VERSION_AT = len(_MAGIC)
_EPOCH = struct.Struct("<Q")  # in version 2, between the rest of the header and its checksum
_CRC = struct.Struct("<I")
_FLUSH_BYTES = 4 * 1024 * 1024
"""A snapshot is flushed as it is written: all at once would hold up the journal's own flushes for as long."""

_log = structlog.get_logger("raftsman.snapshots")


def holds_anything(directory: Path, disk: Disk) -> bool:
    """Whether a snapshot was ever saved in this directory."""
    return FILE_NAME in disk.listdir(directory)


class FileSnapshots:
    """Implements ``SnapshotStore`` (see ``log``). Opening removes what an interrupted ``save`` left behind.

    ``save`` and ``load`` may be called from any thread; they wait for each other. ``max_bytes`` caps the encoded state.
    """

    def __init__(self, directory: Path, *, disk: Disk | None = None, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._directory = directory
        self._path = directory / FILE_NAME
        self._disk: Disk = disk if disk is not None else RealDisk()
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._newest = (0, -1)  # epoch and last index of the stored snapshot, as far as it was looked at
        leftovers = [name for name in self._disk.listdir(directory) if name.endswith(".tmp")]
        for name in leftovers:
            self._disk.unlink(directory / name)
        if leftovers:
            self._disk.fsync_dir(directory)

    def save(self, meta: SnapshotMeta, parts: Iterable[bytes]) -> None:
        """Store durably in place of the older one; ``parts`` one after the other are the encoded state.

        One that is older than the stored one is dropped, which is logged: a snapshot from the leader was installed
        while this one was being encoded.

        Raises ``OSError`` (fatal for the caller) and ``InvalidError`` if the data is larger than ``max_bytes``.
        """
        with self._lock:
            if (meta.epoch, meta.last_index) < self._newest:
                _log.info("snapshots.older_dropped", last_index=meta.last_index, stored=self._newest)
                return
            if self._newest[1] < 0:
                self._disk.makedirs(self._directory)
                self._disk.fsync_dir(self._directory.parent)
            self._replace(meta, parts)
            self._newest = (meta.epoch, meta.last_index)

    def _replace(self, meta: SnapshotMeta, parts: Iterable[bytes]) -> None:
        """A crash at any point leaves the old file or the new one, whole: as ``disk.write_atomically``, in steps."""
        temporary = self._path.with_name(FILE_NAME + ".tmp")
        if temporary.name in self._disk.listdir(self._directory):
            self._disk.unlink(temporary)
        version = 1 if meta.epoch == 1 else 2  # an older raftsman reads what it can understand
        start = _start_of(version)
        file = self._disk.open(temporary)
        size = crc = unflushed = 0
        try:
            for part in parts:
                if size + len(part) > self._max_bytes:
                    raise InvalidError(
                        f"a snapshot of more than {size + len(part)} bytes is larger than the limit of "
                        f"{self._max_bytes}: remove jobs, variables or stopped allocations"
                    )
                file.write(start + size, part)
                size, crc, unflushed = size + len(part), checksum(part, crc), unflushed + len(part)
                if unflushed > _FLUSH_BYTES:
                    file.fdatasync()
                    unflushed = 0
            head = _HEAD.pack(_MAGIC, version, meta.last_index, meta.last_term, meta.index, size, crc)
            if version > 1:
                head += _EPOCH.pack(meta.epoch)
            file.write(0, head + _CRC.pack(checksum(head)))
            file.fdatasync()
        finally:
            file.close()
        self._disk.rename(temporary, self._path)
        self._disk.fsync_dir(self._directory)

    def load(self) -> tuple[SnapshotMeta, bytes] | None:
        """The stored snapshot, ``None`` if there is none.

        Raises ``CorruptError`` (file and way back in the message), ``StartupError`` for a newer format, ``OSError``.
        """
        with self._lock:
            if not holds_anything(self._directory, self._disk):
                return None
            try:
                meta, data = self._read()
            except _DamageError as error:
                raise CorruptError(f"{self._path} is damaged: {error}. {WAY_BACK}") from error
            if self._newest[1] < 0:
                # Its name may be only in the page cache (the process ended between rename and sync), and journals of
                # earlier epochs are about to be removed because of what it says.
                self._disk.fsync_dir(self._directory)
            self._newest = (meta.epoch, meta.last_index)
            return meta, data

    def _read(self) -> tuple[SnapshotMeta, bytes]:
        stored = self._disk.read(self._path, 0, _start_of(FORMAT_VERSION))
        if len(stored) < _start_of(1):
            raise _DamageError(f"it ends after {len(stored)} bytes, within its header")
        magic, version, last_index, last_term, index, length, data_crc = _HEAD.unpack_from(stored)
        if magic == _MAGIC and version > FORMAT_VERSION:
            if any(_is_whole(stored, known) for known in range(1, FORMAT_VERSION + 1)):
                raise _DamageError("its header has a wrong format number")
            raise StartupError(
                f"{self._path} was written by a newer raftsman (snapshot format {version}; this one reads "
                f"{FORMAT_VERSION}): start the newer version on this data directory"
            )
        start = _start_of(version)
        head = stored[:start]
        if magic != _MAGIC or len(head) < start or _CRC.unpack(head[-_CRC.size :])[0] != checksum(head[: -_CRC.size]):
            raise _DamageError("its header has a wrong checksum")
        data = self._disk.read(self._path, start)
        if len(data) != length:
            raise _DamageError(f"it holds {len(data)} bytes of state where {length} are due")
        if checksum(data) != data_crc:
            raise _DamageError("its state has a wrong checksum")
        epoch = int(_EPOCH.unpack_from(stored, _HEAD.size)[0]) if version == 2 else 1
        return SnapshotMeta(last_index=last_index, last_term=last_term, index=index, epoch=epoch), data


def _start_of(version: int) -> int:
    """Where the state begins in a file of this version."""
    return _HEAD.size + _CRC.size + (_EPOCH.size if version > 1 else 0)


def _is_whole(stored: bytes, version: int) -> bool:
    """Whether this would be the header of a file of that version, with the checksum that it has."""
    head = bytearray(stored[: _start_of(version)])
    if len(head) < _start_of(version):
        return False
    _VERSION.pack_into(head, _VERSION_AT, version)
    return bool(_CRC.unpack(head[-_CRC.size :])[0] == checksum(bytes(head[: -_CRC.size])))


class _DamageError(Exception):
    pass
