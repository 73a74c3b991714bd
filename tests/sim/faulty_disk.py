"""``FaultyDisk``: a simulated disk on which a power cut, an error or a delay waits at a chosen step.

Owns: where on the disk a fault strikes. Leaves what survives to ``disk``, and what becomes of the machine to ``peer``.
The one rule: every step that the journal and the snapshots take can be struck.

A step is named after its area and its call: ``journal:fdatasync``, ``snapshots:rename``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.replication.disk import DiskFile
from tests.sim.disk import PowerCutError, SimDisk, StepAction

JOURNAL_STEPS = ("write", "fdatasync", "create", "fsync_dir", "unlink", "truncate")
SNAPSHOT_STEPS = ("create", "write", "fdatasync", "rename", "fsync_dir", "unlink")
STEPS = (
    *(f"journal:{name}" for name in JOURNAL_STEPS),
    *(f"snapshots:{name}" for name in SNAPSHOT_STEPS),
    "data:fsync_dir",
)


@dataclass(slots=True)
class Trap:
    """Strikes at the ``skip + 1``-th call of this step, once a step called ``after`` was done ("": from now on).

    ``error`` 0: the power goes; else the errno to fail with.
    """

    step: str
    skip: int = 0
    error: int = 0
    after: str = ""


class _AreaFile:
    def __init__(self, disk: FaultyDisk, area: str, file: DiskFile) -> None:
        self._disk = disk
        self._area = area
        self._file = file

    def write(self, offset: int, data: bytes) -> None:
        self._disk.area = self._area
        self._file.write(offset, data)

    def truncate(self, size: int) -> None:
        self._disk.area = self._area
        self._file.truncate(size)

    def fdatasync(self) -> None:
        self._disk.area = self._area
        self._file.fdatasync()

    def close(self) -> None:
        self._file.close()


class FaultyDisk(SimDisk):
    """``power_went`` is called when a trap takes the power, ``flushed`` after every flush that went well."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.trap: Trap | None = None
        self.power_went: Callable[[], None] = lambda: None
        self.flushed: Callable[[str], None] = lambda _step: None
        self.struck: dict[str, int] = {}  # step -> faults that struck there
        self.lossy = 0  # power cuts that found something unflushed
        self.area = ""  # what is being worked on

    def touch(self, path: Path) -> None:
        directory = path if path.suffix == "" else path.parent
        # Each epoch's journal is a directory of its own; what is above them is the data directory.
        self.area = directory.name.partition("-")[0] if directory.parent.name else "data"

    def step(self, name: str, act: StepAction) -> None:
        label = f"{self.area}:{name}"
        trap = self.trap
        if trap is not None and not trap.after and trap.step == label:
            if trap.skip == 0:
                self.trap = None
                self._strike(trap, label, act)
            trap.skip -= 1
        act(1)
        if trap is not None and trap.after == label:
            trap.after = ""
        if name in ("fdatasync", "fsync_dir"):
            self.flushed(label)

    def _strike(self, trap: Trap, label: str, act: StepAction) -> None:
        self.struck[label] = self.struck.get(label, 0) + 1
        # Also the two ends: power goes just before the call, or just after it and before anybody knew.
        act(self._random.choice((0.0, self._random.random(), 1.0)) if not trap.error else self._random.random())
        if trap.error:
            raise OSError(trap.error, os.strerror(trap.error))
        self.power_went()
        raise PowerCutError(f"power cut in {label}")

    def crash(self, *, torn: bool = True) -> None:
        self.lossy += self.unflushed()
        self.trap = None
        super().crash(torn=torn)

    def unflushed(self) -> bool:
        """Whether something would be lost without power now."""
        return self._seen != self._durable or any(
            bytes(inode.written) != inode.durable for inode in self._seen.values()
        )

    def files(self) -> list[Path]:
        return sorted(self._seen)

    # ------------------------------------------------------------------ Disk

    def open(self, path: Path) -> _AreaFile:  # type: ignore[override]  # as good as the base's for ``Disk``
        self.touch(path)
        return _AreaFile(self, self.area, super().open(path))

    def rename(self, source: Path, target: Path) -> None:
        self.touch(source)
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self.touch(path)
        super().unlink(path)

    def fsync_dir(self, directory: Path) -> None:
        self.touch(directory)
        super().fsync_dir(directory)


DISK_ERRORS = (errno.EIO, errno.ENOSPC)
