"""A backup as a file: written so that half of one never looks whole, read so that no flipped bit passes.

Owns: the format and its checks. Leaves to others: where the parts come from (``client``), what the state means
(``restore``). The rule: the name appears only when everything, checksum included, is on disk; a file is what its last
32 bytes say or it is refused.

    "RAFTBAK1", length of the head (u32, little endian), head (protobuf BackupHead), state, SHA-256 of all before
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError

from orchestrator.contract import codec
from orchestrator.contract.answers import BackupHead, BackupPart
from orchestrator.contract.errors import CorruptError, ExistsError, NotFoundError, StartupError
from orchestrator.contract.v1 import control_pb2 as pb

FORMAT = 1
"""Of the state within; a newer one is refused."""

_MAGIC = b"RAFTBAK1"
_LENGTH = struct.Struct("<I")
_SHA_BYTES = 32
_MAX_HEAD = 64 * 1024


def write(path: Path, parts: Iterable[BackupPart], *, force: bool) -> BackupHead:
    """Store the parts (a head begins anew) as ``path``, mode 0600, durable when it returns.

    Raises ``ExistsError`` if the file is there (unless ``force``), ``NotFoundError`` without a directory for it,
    ``OSError`` as the disk does, and ``CorruptError`` if the parts are not what their
    head and checksum say; whatever happens, an older file stays as it is until the new one is whole.
    """
    if path.exists() and not force:
        raise ExistsError(f"{path} exists: name another file, or replace it with -f")
    if not path.parent.is_dir():
        raise NotFoundError(f"there is no directory {path.parent}: make it first")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w+b") as file:
            head = _write_parts(file, parts)
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and not force:
            raise ExistsError(f"{path} was made meanwhile: name another file, or replace it with -f")
        temporary.replace(path)
        _sync_directory(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # of which file, people know
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    return head


def _write_parts(file: BinaryIO, parts: Iterable[BackupPart]) -> BackupHead:
    head: BackupHead | None = None
    whole, state, size = hashlib.sha256(), hashlib.sha256(), 0
    for part in parts:
        if part.head is not None:
            head = part.head
            file.seek(0)
            file.truncate()
            whole, state, size = hashlib.sha256(), hashlib.sha256(), 0
            encoded = codec.encode(head, pb.BackupHead()).SerializeToString(deterministic=True)
            for piece in (_MAGIC, _LENGTH.pack(len(encoded)), encoded):
                file.write(piece)
                whole.update(piece)
        if head is None:
            raise CorruptError("the peer began a backup without saying what it is: use the peer's version of raftsman")
        if part.data:
            file.write(part.data)
            whole.update(part.data)
            state.update(part.data)
            size += len(part.data)
        if part.sha256:
            if size != head.size_bytes or state.digest() != part.sha256:
                raise CorruptError(f"the backup arrived damaged ({size} of {head.size_bytes} bytes): try again")
            file.write(whole.digest())
            return head
    raise CorruptError("the backup ended before its checksum came: try again")


def read(path: Path) -> tuple[BackupHead, bytes]:
    """What the backup holds, and its state's bytes, checked.

    Raises ``NotFoundError`` (no such file), ``CorruptError`` (no backup, cut short or damaged), ``StartupError`` (newer
    format).
    """
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise NotFoundError(f"{path} is a directory: name the file that 'raftsman backup' wrote") from None


def _read(path: Path, file: BinaryIO) -> tuple[BackupHead, bytes]:
    begin = file.read(len(_MAGIC) + _LENGTH.size)
    if begin[: len(_MAGIC)] != _MAGIC:
        raise CorruptError(f"{path} is no backup: name a file that 'raftsman backup' wrote")
    length = _LENGTH.unpack_from(begin, len(_MAGIC))[0] if len(begin) == len(_MAGIC) + _LENGTH.size else _MAX_HEAD + 1
    encoded = file.read(length) if length <= _MAX_HEAD else b""
    rest = file.read()
    digest = hashlib.sha256(begin + encoded)
    state = rest[:-_SHA_BYTES]
    digest.update(state)
    if len(rest) < _SHA_BYTES or digest.digest() != rest[-_SHA_BYTES:]:
        raise CorruptError(f"{path} is cut short or damaged: its checksum is wrong; use another backup")
    try:
        head = codec.decode(BackupHead, pb.BackupHead.FromString(encoded))
    except (DecodeError, codec.CodecError) as error:
        raise CorruptError(f"{path}: its head cannot be read ({error})") from error
    if head.format > FORMAT:
        raise StartupError(
            f"{path} was made by a newer raftsman ({head.version or 'unknown'}; backup format {head.format}, this one "
            f"reads {FORMAT}): use that version"
        )
    if len(state) != head.size_bytes:
        raise CorruptError(f"{path} holds {len(state)} bytes of state where its head says {head.size_bytes}")
    return head, state


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
