"""``Disk``: the few file operations that durable storage is built from, and the real one.

Owns: the protocol that the journal, the snapshots and the data directory write through, so that the simulator can put a
disk below them that forgets what was not flushed; and ``RealDisk``. Leaves to others: every format, and the order in
which things are flushed. The one rule: nothing is durable before ``fdatasync`` (bytes and length of a file) or
``fsync_dir`` (that a name exists, moved or is gone) returned.

Every method raises ``OSError`` as the operating system does. Paths are absolute or relative to the process, as usual.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol


class DiskFile(Protocol):
    """A file that is open for writing."""

    def write(self, offset: int, data: bytes) -> None:
        """Write all of ``data`` at the offset; after an ``OSError`` some of it may be there."""

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes; durable after ``fdatasync``."""

    def fdatasync(self) -> None: ...

    def close(self) -> None: ...


class Disk(Protocol):
    def makedirs(self, directory: Path) -> None:
        """Create the directory (mode 0700) and its parents; fine if it exists."""

    def listdir(self, directory: Path) -> list[str]:
        """Names in the directory, in no order; empty if there is no such directory."""

    def size(self, path: Path) -> int: ...

    def read(self, path: Path, start: int = 0, size: int = -1) -> bytes:
        """At most ``size`` bytes from ``start`` on; -1: all that follow."""

    def open(self, path: Path) -> DiskFile:
        """Open for writing; created (mode 0600) if it is not there, else left as it is."""

    def rename(self, source: Path, target: Path) -> None:
        """Replace ``target`` atomically; durable after ``fsync_dir``."""

    def unlink(self, path: Path) -> None: ...

    def rmdir(self, directory: Path) -> None:
        """Remove an empty directory."""

    def fsync_dir(self, directory: Path) -> None: ...


class _RealFile:
    __slots__ = ("_fd",)

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, offset: int, data: bytes) -> None:
        written = os.pwrite(self._fd, data, offset)
        while written < len(data):  # a short write is legal (signals, a disk that fills up): the next one says why
            written += os.pwrite(self._fd, data[written:], offset + written)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def fdatasync(self) -> None:
        _sync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class RealDisk:
    """The file system of this machine."""

    def makedirs(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def listdir(self, directory: Path) -> list[str]:
        try:
            return os.listdir(directory)  # noqa: PTH208 - names are wanted, not paths
        except FileNotFoundError:
            return []

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def read(self, path: Path, start: int = 0, size: int = -1) -> bytes:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            return file.read() if size < 0 else file.read(size)

    def open(self, path: Path) -> DiskFile:
        return _RealFile(path)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def rmdir(self, directory: Path) -> None:
        directory.rmdir()

    def fsync_dir(self, directory: Path) -> None:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


if sys.platform == "darwin":
    import fcntl

    def _sync(fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync alone leaves the data in the drive's cache there

else:
    _sync = os.fdatasync


def write_atomically(disk: Disk, path: Path, data: bytes) -> None:
    """Replace the file so that a crash at any point leaves the old or the new one, whole; durable when it returns.

    The new bytes go through ``<name>.tmp`` beside it, which a crash may leave behind.
    """
    temporary = path.with_name(path.name + ".tmp")
    if temporary.name in disk.listdir(path.parent):
        disk.unlink(temporary)  # a leftover's end must not become the new one's
    file = disk.open(temporary)
    try:
        file.write(0, data)
        file.fdatasync()
    finally:
        file.close()
    disk.rename(temporary, path)
    disk.fsync_dir(path.parent)
