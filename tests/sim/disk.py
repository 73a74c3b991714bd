"""``SimDisk``: a disk in memory that forgets what was not flushed, and fails where a test wants it to.

Owns: the model of what survives. Two worlds are kept, what a running process sees and what is durable. Bytes become
durable by ``fdatasync``, names by ``fsync_dir``; ``crash`` (a power cut) goes back to the durable world, while the end
of a process alone (kill -9) needs no call: the next one sees what was written, durable or not.

Every operation that changes something is counted and goes through ``_step``, where ``fail_at`` and ``crash_at`` apply.
The one rule: equal seeds give equal disks.
"""

from __future__ import annotations

import errno
import functools
import os
import random
from collections.abc import Callable
from pathlib import Path

StepAction = Callable[[float], object]
"""Does the given part (0 to 1, 1 is all) of a changing call."""


@functools.cache
def _directory(path: Path) -> str:
    """Of a file; there are few of them, and each is asked about for every flush of a name."""
    return str(path.parent)


class PowerCutError(BaseException):
    """The machine lost power in the middle of a disk call: whoever was running is gone."""


class _Inode:
    __slots__ = ("durable", "written")

    def __init__(self) -> None:
        self.written = bytearray()
        self.durable = b""


class _SimFile:
    def __init__(self, disk: SimDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode

    def write(self, offset: int, data: bytes) -> None:
        def put(part: float) -> None:
            done = data[: int(len(data) * part)]
            written = self._inode.written
            written.extend(bytes(max(0, offset + len(done) - len(written)) if done else 0))
            written[offset : offset + len(done)] = done

        self._disk.step("write", put)

    def truncate(self, size: int) -> None:
        def cut(part: float) -> None:
            if part == 1:
                del self._inode.written[size:]

        self._disk.step("truncate", cut)

    def fdatasync(self) -> None:
        def sync(part: float) -> None:
            if part == 1:
                self._inode.durable = bytes(self._inode.written)

        self._disk.step("fdatasync", sync)

    def close(self) -> None:
        pass


class SimDisk:
    """Implements ``orchestrator.replication.disk.Disk``.

    ``crash_at``: number of the changing call (from 1) in whose middle power is lost: ``PowerCutError`` is raised, and
    the test calls ``crash``. ``fail_at``: number of the call that raises ``OSError(fail_errno)`` after doing a random
    part.
    ``calls`` counts them all, ``trace`` names them.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._seen: dict[Path, _Inode] = {}  # names as the running process sees them
        self._durable: dict[Path, _Inode] = {}  # names that survive a power cut
        self._directories: set[Path] = set()
        self.calls = 0
        self.trace: list[str] = []
        self.crash_at = 0
        self.fail_at = 0
        self.fail_errno = errno.ENOSPC

    # ------------------------------------------------------------------ faults

    def step(self, name: str, act: StepAction) -> None:
        """One changing call: done wholly, or (crash, failure) by a random part from 0 to below 1."""
        self.calls += 1
        self.trace.append(name)
        if self.calls == self.crash_at:
            act(self._random.random())
            raise PowerCutError(f"power cut in call {self.calls}, {name}")
        if self.calls == self.fail_at:
            act(self._random.random())
            raise OSError(self.fail_errno, os.strerror(self.fail_errno))
        act(1)

    def crash(self, *, torn: bool = True) -> None:
        """Power is lost: only what was flushed is left and, with ``torn``, random parts of what was not.

        Torn means: of what was written to a file and not flushed, a prefix (to the byte) or some sectors are there, and
        its length may be the old or the new one; of a directory's unflushed changes of names, each did or did not
        happen.
        """
        chance = self._random
        names = dict(self._durable)
        if torn:
            for path in sorted(set(self._seen) | set(self._durable)):
                if self._seen.get(path) is not self._durable.get(path) and chance.random() < 0.5:
                    if path in self._seen:
                        names[path] = self._seen[path]
                    else:
                        del names[path]
        for path in sorted(names):
            inode = names[path]
            inode.durable = self._after_power_cut(inode, torn=torn)
            inode.written = bytearray(inode.durable)
        self._seen = dict(names)
        self._durable = dict(names)
        self.crash_at = self.fail_at = 0

    def _after_power_cut(self, inode: _Inode, *, torn: bool) -> bytes:
        old, new = inode.durable, bytes(inode.written)
        if not torn or old == new:
            return old
        chance = self._random
        if len(new) < len(old):  # cutting a file is a change of metadata: done or not
            return chance.choice([old, new])
        longest = len(new)
        size = chance.choice([len(old), longest, chance.randint(len(old), longest)])
        old = old.ljust(longest, b"\0")
        if chance.random() < 0.5:
            differ = [at for at in range(longest) if old[at] != new[at]] or [0]
            cut = chance.randint(differ[0], differ[-1] + 1)
            return (new[:cut] + old[cut:])[: max(size, cut)]
        share = chance.choice([0.3, 0.7, 0.95])
        sectors = range(0, longest, 512)
        mixed = b"".join((new if chance.random() < share else old)[at : at + 512] for at in sectors)
        return mixed[:size]

    def flip(self, path: Path, offset: int, mask: int = 0x01) -> None:
        """Bit rot: change one byte of a stored file."""
        inode = self._seen[path]
        inode.written[offset] ^= mask
        inode.durable = bytes(inode.written)

    def cut(self, path: Path, size: int) -> None:
        """Shorten a stored file, as a torn write does."""
        inode = self._seen[path]
        del inode.written[size:]
        inode.durable = bytes(inode.written)

    def copy(self) -> SimDisk:
        """An independent disk with the same durable and seen content, to crash at another call."""
        twin = SimDisk()
        twin._random.setstate(self._random.getstate())
        inodes: dict[int, _Inode] = {}
        for names, target in ((self._seen, twin._seen), (self._durable, twin._durable)):
            for path, inode in names.items():
                if id(inode) not in inodes:
                    fresh = inodes[id(inode)] = _Inode()
                    fresh.written, fresh.durable = bytearray(inode.written), inode.durable
                target[path] = inodes[id(inode)]
        twin._directories = set(self._directories)
        return twin

    # ------------------------------------------------------------------ Disk

    def makedirs(self, directory: Path) -> None:
        self._directories.add(directory)

    def listdir(self, directory: Path) -> list[str]:
        inside = (path for path in self._seen if directory in path.parents)
        return sorted({path.relative_to(directory).parts[0] for path in inside})

    def size(self, path: Path) -> int:
        return len(self._inode(path).written)

    def read(self, path: Path, start: int = 0, size: int = -1) -> bytes:
        return bytes(self._inode(path).written[start : None if size < 0 else start + size])

    def open(self, path: Path) -> _SimFile:
        if path not in self._seen:

            def create(part: float) -> None:
                if part == 1:
                    self._seen[path] = _Inode()

            self.step("create", create)
        return _SimFile(self, self._seen[path])

    def rename(self, source: Path, target: Path) -> None:
        def move(part: float) -> None:
            if part == 1:
                self._seen[target] = self._seen.pop(source)

        self._inode(source)
        self.step("rename", move)

    def unlink(self, path: Path) -> None:
        def remove(part: float) -> None:
            if part == 1:
                del self._seen[path]

        self._inode(path)
        self.step("unlink", remove)

    def rmdir(self, directory: Path) -> None:
        self._directories.discard(directory)

    def fsync_dir(self, directory: Path) -> None:
        def sync(part: float) -> None:
            if part == 1:
                name = str(directory)
                for path in [path for path in self._durable if _directory(path) == name]:
                    del self._durable[path]
                self._durable.update({path: inode for path, inode in self._seen.items() if _directory(path) == name})

        self.step("fsync_dir", sync)

    def _inode(self, path: Path) -> _Inode:
        if path not in self._seen:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._seen[path]
