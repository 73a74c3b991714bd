"""What an entry of the log holds, as bytes: the proposals that share it.

Owns: the two formats, and reading both. Leaves to others: which proposals share an entry (``proposals``), whether every
peer reads the second format (``state.features``). The rule: what can be read is read alike by every peer and for ever;
what cannot is of a newer version, or holds no proposals.

Plans and reports are columns of numbers that repeat themselves: packed they take a tenth. Entries lie in the memory of
every peer until a snapshot has taken their place, and a little longer; they go to every peer and onto every disk.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import structlog
from google.protobuf.message import DecodeError

from orchestrator.replication.log import FutureFormatError
from orchestrator.replication.settings import BATCH_BYTES
from orchestrator.replication.storage import BATCH
from orchestrator.replication.v1 import peer_pb2 as pb

PLAIN, PACKED = 1, 2
MOST_BYTES = 2 * BATCH_BYTES
_LEVEL = 1
_log = structlog.get_logger("raftsman.replication")


def encode(payloads: Sequence[bytes], *, pack_from: int | None = None) -> bytes:
    """A command of the log; packed where it has at least so many bytes and takes less then. None: not every peer reads
    that."""
    plain = pb.Batch(format=PLAIN, payloads=payloads).SerializeToString()
    if pack_from is None or len(plain) < pack_from:
        return BATCH + plain
    packed = pb.Batch(format=PACKED, size=len(plain), packed=zlib.compress(plain, _LEVEL)).SerializeToString()
    return BATCH + min(plain, packed, key=len)  # plain where neither is shorter: it costs nothing to read


def decode(command: bytes) -> list[bytes]:
    """The proposals in a command of the log; none where it holds no batch. Raises ``FutureFormatError``."""
    if command[:1] != BATCH:
        return []
    try:
        batch = pb.Batch.FromString(command[1:])
        if batch.format == PACKED:
            batch = pb.Batch.FromString(_unpacked(batch))
    except (DecodeError, ValueError, zlib.error):
        batch = pb.Batch()
    if batch.format > PACKED:
        raise FutureFormatError(f"a batch of format {batch.format}; this version reads {PACKED}")
    if batch.format != PLAIN:
        # No leader of ours writes this. It is the same on every peer and after every restart, so it must stop none of
        # them (S14): it holds no commands.
        _log.error("replication.malformed_entry", size=len(command))
        return []
    return list(batch.payloads)


def weight(command: bytes) -> int:
    """The bytes of a command of the log before it was packed: what applying it again costs goes by these."""
    if command[:1] == BATCH and command[1:3] == _PACKED_HEAD:
        try:
            return max(len(command), min(int(pb.Batch.FromString(command[1:]).size), MOST_BYTES))
        except DecodeError:
            pass
    return len(command)


_PACKED_HEAD = pb.Batch(format=PACKED).SerializeToString()


def _unpacked(batch: pb.Batch) -> bytes:
    """Raises ``ValueError`` or ``zlib.error`` for what ``encode`` has not written."""
    if batch.size > MOST_BYTES:
        raise ValueError("too large")
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(batch.packed, max(1, batch.size))
    if len(data) != batch.size or not unpacker.eof or unpacker.unused_data:
        raise ValueError("of another size than it says")
    return data
