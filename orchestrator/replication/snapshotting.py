"""Snapshots on their way between peers: ``SnapshotSenders`` on the leader, ``SnapshotReceiver`` on the others.

Owns: chunks, their order, the window, and the check of the whole (RAFT.md, S7). Leaves what a snapshot is to the state
machine, where it is kept to the store, and installing it to the engine. The one rule: what the receiver hands on is
complete and has the checksum that the sender stated first.

A peer that is sent a snapshot counts as disconnected for PySyncObj, which would otherwise send it empty snapshot
messages in a busy loop (S17); chunks, also empty ones, keep it from electing meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import google_crc32c

from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.v1 import peer_pb2 as pb

MAX_SNAPSHOT_BYTES = 4 * 1024 * 1024 * 1024


_CRC_BYTES = 1 << 20


def checksum(data: bytes, so_far: int = 0) -> int:
    """CRC32C of what gave ``so_far`` and ``data`` after it, in steps that do not keep other threads waiting."""
    for start in range(0, len(data), _CRC_BYTES):
        so_far = google_crc32c.extend(so_far, data[start : start + _CRC_BYTES])
    return so_far


@dataclass(slots=True)
class Snapshot:
    meta: SnapshotMeta
    data: bytes
    crc32c: int


@dataclass(slots=True)
class _Transfer:
    snapshot: Snapshot | None = None  # None while it is read from the store
    sent: int = 0  # bytes
    acknowledged: int = 0  # bytes
    whole: bool = False  # all of it was sent at least once
    stalled: int = 0  # heartbeats without progress


class SnapshotSenders:
    """``stamp`` gives the present term and commit index."""

    def __init__(
        self,
        *,
        send: Callable[[str, pb.Frame], None],
        stamp: Callable[[], tuple[int, int]],
        chunk_bytes: int,
        window: int,
    ) -> None:
        self._send = send
        self._stamp = stamp
        self._chunk_bytes = chunk_bytes
        self._window = window
        self._transfers: dict[str, _Transfer] = {}

    def __contains__(self, peer_id: str) -> bool:
        return peer_id in self._transfers

    def __bool__(self) -> bool:
        return bool(self._transfers)

    def begin(self, peer_id: str) -> None:
        self._transfers[peer_id] = _Transfer()

    @property
    def wanting(self) -> bool:
        """Whether a transfer waits for the snapshot to be read."""
        return any(transfer.snapshot is None for transfer in self._transfers.values())

    def provide(self, snapshot: Snapshot) -> None:
        """The newest snapshot was read."""
        for peer_id, transfer in self._transfers.items():
            if transfer.snapshot is None:
                transfer.snapshot = snapshot
                self._pump(peer_id, transfer)

    def progress(self, peer_id: str, progress: pb.SnapshotProgress) -> None:
        transfer = self._transfers.get(peer_id)
        if transfer is None or transfer.snapshot is None:
            return
        total = len(transfer.snapshot.data)
        if progress.last_index != transfer.snapshot.meta.last_index or progress.next_offset > total:
            return
        if progress.next_offset > transfer.acknowledged:
            transfer.stalled = 0
        if not transfer.acknowledged <= progress.next_offset <= transfer.sent:
            # Less than before: the receiver lost or refused it. More than was sent (again): it has that still.
            transfer.sent = progress.next_offset
            transfer.whole = transfer.sent == total
        transfer.acknowledged = progress.next_offset
        self._pump(peer_id, transfer)

    def keep_alive(self) -> None:
        """With every heartbeat: an empty chunk; and after many without progress, again from what was acknowledged."""
        for peer_id, transfer in self._transfers.items():
            transfer.stalled += 1
            snapshot = transfer.snapshot
            if snapshot is not None and transfer.stalled > 16 and transfer.acknowledged < len(snapshot.data):
                transfer.stalled = 0
                transfer.sent = transfer.acknowledged
                transfer.whole = False
                self._pump(peer_id, transfer)
            else:
                self._chunk(peer_id, transfer, b"")

    def delivered(self, peer_id: str, next_index: int, first_index: int) -> bool:
        """Whether a peer that acknowledged everything below ``next_index`` is done with its transfer.

        It has the snapshot, or all that it would need it for. If the journal here has moved on since (it begins at
        ``first_index``), the next transfer follows.
        """
        transfer = self._transfers.get(peer_id)
        if transfer is None:
            return False
        covered = transfer.snapshot is not None and next_index > transfer.snapshot.meta.last_index
        return covered or next_index > first_index

    def end(self, peer_id: str) -> None:
        self._transfers.pop(peer_id, None)

    def abort(self) -> list[str]:
        """End all transfers; returns whose."""
        peers = list(self._transfers)
        self._transfers.clear()
        return peers

    def _pump(self, peer_id: str, transfer: _Transfer) -> None:
        snapshot = transfer.snapshot
        assert snapshot is not None
        limit = transfer.acknowledged + self._window * self._chunk_bytes
        while not transfer.whole and transfer.sent < limit:
            data = snapshot.data[transfer.sent : transfer.sent + self._chunk_bytes]
            self._chunk(peer_id, transfer, data)
            transfer.sent += len(data)
            transfer.whole = transfer.sent == len(snapshot.data)

    def _chunk(self, peer_id: str, transfer: _Transfer, data: bytes) -> None:
        term, commit_index = self._stamp()
        chunk = pb.SnapshotChunk(term=term, commit_index=commit_index, offset=transfer.sent, data=data)
        if transfer.snapshot is not None:
            meta = transfer.snapshot.meta
            chunk.last_index, chunk.last_term, chunk.index = meta.last_index, meta.last_term, meta.index
            chunk.total_bytes, chunk.crc32c = len(transfer.snapshot.data), transfer.snapshot.crc32c
        self._send(peer_id, pb.Frame(snapshot_chunk=chunk))


@dataclass(slots=True)
class _Assembly:
    key: tuple[str, int, int, int, int]  # sender, last index, last term, size, checksum
    meta: SnapshotMeta
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    crc32c: int = 0


class SnapshotReceiver:
    """Puts chunks together. ``check``: refuse what does not have the stated checksum (S7)."""

    def __init__(self, *, check: bool) -> None:
        self._check = check
        self._assembly: _Assembly | None = None
        self.refused = 0

    def drop(self) -> None:
        """What came so far is not needed any more."""
        self._assembly = None

    def take(self, peer_id: str, chunk: pb.SnapshotChunk) -> tuple[int, SnapshotMeta, Sequence[bytes]] | int:
        """The offset that is wanted next; or ``(offset, meta, parts)`` of a snapshot that is now complete."""
        key = (peer_id, chunk.last_index, chunk.last_term, chunk.total_bytes, chunk.crc32c)
        assembly = self._assembly
        if assembly is None or assembly.key != key:
            if chunk.total_bytes > MAX_SNAPSHOT_BYTES or (chunk.offset and chunk.data):
                return 0
            meta = SnapshotMeta(last_index=chunk.last_index, last_term=chunk.last_term, index=chunk.index)
            assembly = self._assembly = _Assembly(key, meta)
        data = chunk.data
        if chunk.offset != assembly.size:
            return assembly.size
        if assembly.size + len(data) > chunk.total_bytes:
            self._assembly = None
            return 0
        assembly.parts.append(data)
        assembly.size += len(data)
        if self._check:
            assembly.crc32c = checksum(data, assembly.crc32c)  # now, for the whole at the end would take too long
        if assembly.size < chunk.total_bytes:
            return assembly.size
        self._assembly = None
        if self._check and assembly.crc32c != chunk.crc32c:
            self.refused += 1
            return 0
        return chunk.total_bytes, assembly.meta, assembly.parts
