"""``Disk``: a small ext4 disk for one peer of a throw-away cluster, which can lose power and be full.

Owns: the image file, its mount and what happens to it. Leaves to others: the process that uses it. The rule: only in a
mount namespace of the drill's own; whatever ends the drill, the kernel unmounts and frees the loop device.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from pathlib import Path

from orchestrator.contract.errors import PreconditionError, RaftsmanError
from orchestrator.ops.drill_namespaces import inside
from orchestrator.ops.drill_tools import MissingError, run_tool, tool

SIZE_BYTES = 256 * 1024 * 1024
"""The image is sparse: it takes what is written to it."""
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
"""Of ``EXT4_IOC_SHUTDOWN``: not even the file system's own journal is written out, as when power fails."""
FILLER = "filler"
MARK = "never-flushed"
_MARK_BYTES = b"this was written and never flushed\n"
UNMOUNT_S = 10.0


class Disk:
    """``image`` is the file behind it, ``root`` where it is mounted. Blocking calls of some ten milliseconds."""

    def __init__(self, image: Path, root: Path) -> None:
        self.image, self.root = image, root
        self._mounted = False

    @property
    def home(self) -> Path:
        """The peer's data directory."""
        return self.root / "data"

    def make(self) -> None:
        """Raises ``MissingError``."""
        if not inside("mounts"):
            raise PreconditionError("disks are only ever mounted in a mount namespace of the drill's own")
        self.root.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        # -m 0: root may not use blocks that others may not, or the disk would not be full for a peer that runs as root.
        run_tool([tool("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-b", "4096", "-m", "0", str(self.image)])
        self.mount()
        self.home.mkdir()
        _flush(self.root)

    def mount(self) -> None:
        run_tool([tool("mount", "mount"), "-t", "ext4", "-o", "loop", str(self.image), str(self.root)])
        self._mounted = True

    def unmount(self) -> None:
        """Raises ``MissingError`` while a process uses it."""
        if not self._mounted:
            return
        deadline = time.monotonic() + UNMOUNT_S
        while True:
            try:
                run_tool([tool("umount", "mount"), str(self.root)])
                break
            except MissingError:  # a process that has just been killed may still be on its way out
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self._mounted = False

    # ------------------------------------------------------------------------ losing power

    def lose_power(self) -> None:
        """From now on every write and flush fails; what was not flushed will be gone when it is mounted again."""
        (self.root / MARK).write_bytes(_MARK_BYTES)
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def power_on(self) -> None:
        """Mount it as the cut left it. Raises ``RaftsmanError`` if something survived that was never flushed."""
        self.unmount()
        self.mount()
        mark = self.root / MARK
        if mark.exists() and mark.read_bytes() == _MARK_BYTES:
            raise RaftsmanError(f"{self.image}: the power cut was none, for what was never flushed is still there")
        mark.unlink(missing_ok=True)

    # ------------------------------------------------------------------------ being full

    def fill(self) -> None:
        """Leave not one free block."""
        descriptor = os.open(self.root / FILLER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            end = 0
            for step in (1 << 24, 1 << 20, 1 << 12):
                while _allocate(descriptor, end, step):
                    end += step
        finally:
            os.close(descriptor)

    def make_room(self) -> None:
        (self.root / FILLER).unlink(missing_ok=True)


def _allocate(descriptor: int, offset: int, length: int) -> bool:
    """False when the disk is full."""
    try:
        os.posix_fallocate(descriptor, offset, length)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check(directory: Path) -> None:
    """Try all of it on a disk in ``directory``. Raises ``MissingError``."""
    disk = Disk(directory / "check.ext4", directory / "check")
    try:
        disk.make()
        disk.lose_power()
        disk.power_on()
    except OSError as error:
        raise MissingError(f"a power cut of ext4 on a loop device does not work here: {error}") from None
    finally:
        disk.unmount()
