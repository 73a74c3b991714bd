"""``Confinement``: control groups for the process driver, so that a task gets what it asked for and no more.

Owns: finding out what this machine lets an agent use (cgroup v2, else v1, else only rlimits), the directories, the
limits in them, ending everything in them. Leaves to others: entering (``process_shim``, just before the task's program
begins), which limits (``process``). The rules:

- One group per run, named like it, below ``raftsman``: of the hierarchy's root where that can be written (then it is
  none of a service manager's business, and tasks survive a restart of the agent's own service), else of the agent's own
  group.
- What cannot be limited is not pretended: ``limits`` names what is, ``missing`` what is not.
- An empty group costs nothing and is removed with its run; one that holds a process cannot be removed by mistake.

Sources: Linux ``Documentation/admin-guide/cgroup-v2.rst`` and ``cgroup-v1/``; the conversion of shares to weights is
that of the OCI runtimes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.drivers import process_shim
from agent.inventory import cgroups

ROOT_NAME = "raftsman"
KILL_S = 5.0
POLL_S = 0.01
LIMITS = ("memory", "cpu", "pids")
"""In the order in which people are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """memory_bytes, pids: 0 = none; cpu_millis: the share when cores are short; cpu_quota_millis: a ceiling, 0 =
    none."""

    memory_bytes: int = 0
    cpu_millis: int = 0
    cpu_quota_millis: int = 0
    pids: int = 0


class BusyError(Exception):
    """The task uses ``used_bytes`` of memory, which is more than it may have."""

    def __init__(self, used_bytes: int) -> None:
        super().__init__(used_bytes)
        self.used_bytes = used_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """``parents``: by controller ("" = membership alone), the directory in which groups are made; of v2 all are the
    same. ``version``: 2, 1, or 0 where there are no groups."""

    version: int
    parents: Mapping[str, Path]

    @property
    def limits(self) -> tuple[str, ...]:
        return tuple(name for name in LIMITS if name in self.parents)

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in LIMITS if name not in self.parents)

    def directories(self, name: str) -> tuple[Path, ...]:
        """Of one run's group, each once."""
        return tuple(dict.fromkeys(parent / name for parent in self.parents.values()))

    def create(self, name: str, limits: Limits) -> tuple[Path, ...]:
        """The run's group with its limits; the directories that its task must enter. Raises ``OSError``."""
        for directory in self.directories(name):
            directory.mkdir(exist_ok=True)
        for controller, parent in self.parents.items():
            _set(self.version, controller, parent / name, limits)
        return self.directories(name)

    @property
    def resizes(self) -> bool:
        """Whether the memory of what runs can be changed. Where cpu is not limited there is nothing to change of it."""
        return "memory" in self.parents

    def resize(self, name: str, limits: Limits) -> None:
        """Give the run's group new limits of memory and cpu. Raises ``OSError`` where the kernel refuses, ``BusyError``
        where the task uses more memory than that: version 2 would end it."""
        memory = self.parents["memory"] / name
        if limits.memory_bytes:
            used = cgroups.read({"" if self.version == 2 else "memory": memory})
            if used is not None and used.memory_bytes > limits.memory_bytes:
                raise BusyError(used.memory_bytes)
        for controller in ("memory", "cpu"):
            parent = self.parents.get(controller)
            if parent is not None:
                _set(self.version, controller, parent / name, limits, changes=True)

    def members(self, name: str) -> list[int]:
        return members(self.directories(name))

    def kill(self, name: str) -> None:
        """End every process of the group, also those that it starts meanwhile. Blocks for a moment."""
        kill(self.directories(name))

    def remove(self, name: str) -> None:
        """The empty group; one in use stays."""
        for directory in self.directories(name):
            with contextlib.suppress(OSError):
                directory.rmdir()


def find(mounts: Path = Path("/proc/self/mountinfo"), own: Path = Path("/proc/self/cgroup")) -> Confinement:
    """What this agent may use. Makes the parent directory, and nothing else."""
    try:
        mounted, joined = _mounted(mounts.read_text()), _joined(own.read_text())
    except OSError:
        return Confinement(version=0, parents={})
    unified = mounted.get("")
    if unified is not None:
        parents = _version_2(unified, joined.get("", "/"))
        if len(parents) > 1:
            return Confinement(version=2, parents=parents)
    parents = {}
    for controller in LIMITS:
        mount = mounted.get(controller)
        parent = None if mount is None else _parent(mount, joined.get(controller, "/"))
        if parent is not None and os.access(parent / _PROBE[controller], os.W_OK):
            parents[controller] = parent
    return Confinement(version=1 if parents else 0, parents=parents)


_PROBE = {"memory": "memory.limit_in_bytes", "cpu": "cpu.shares", "pids": "cgroup.procs"}


def _version_2(mount: Path, own: str) -> dict[str, Path]:
    parent = _parent(mount, own)
    if parent is None:
        return {}
    # A controller is there for children once every group above passes it down.
    for above in reversed([parent, *parent.parents]):
        if above == mount or mount in above.parents:
            for controller in LIMITS:
                with contextlib.suppress(OSError):
                    _write(above / "cgroup.subtree_control", f"+{controller}")
    try:
        passed = (parent / "cgroup.subtree_control").read_text().split()
    except OSError:
        return {}
    return {"": parent, **{controller: parent for controller in LIMITS if controller in passed}}


def _parent(mount: Path, own: str) -> Path | None:
    for base in (mount, mount / own.lstrip("/")):
        parent = base / ROOT_NAME
        with contextlib.suppress(OSError):
            parent.mkdir(exist_ok=True)
            if os.access(parent, os.W_OK | os.X_OK):
                return parent
    return None


def _mounted(mountinfo: str) -> dict[str, Path]:
    """Where each v1 controller is mounted; "": the unified hierarchy."""
    found: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        where = Path(fields[4].replace("\\040", " "))
        if kind[0] == "cgroup2":
            found.setdefault("", where)
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                found.setdefault(option, where)
    return found


def _joined(text: str) -> dict[str, str]:
    """The group of this process, by v1 controller; "": in the unified hierarchy."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            found[controller] = path
    return found


# ---------------------------------------------------------------------------- limits


def _set(version: int, controller: str, directory: Path, limits: Limits, *, changes: bool = False) -> None:
    """``changes``: there are limits already."""
    values = list((_values_2 if version == 2 else _values_1)(controller, limits))
    if changes and version == 1 and controller == "memory" and _grows(directory, limits):
        values.reverse()  # memory alone never has the higher limit of the two
    for file, value in values:
        try:
            _write(directory / file, value)
        except FileNotFoundError:
            if file not in _OPTIONAL:
                raise


def _grows(directory: Path, limits: Limits) -> bool:
    now = int((directory / "memory.limit_in_bytes").read_text())
    return not limits.memory_bytes or limits.memory_bytes > now


def _values_2(controller: str, limits: Limits) -> Iterable[tuple[str, str]]:
    if controller == "memory":
        yield "memory.max", str(limits.memory_bytes or "max")
        yield "memory.swap.max", "0" if limits.memory_bytes else "max"
        yield "memory.oom.group", "1"
    elif controller == "cpu":
        yield "cpu.weight", str(1 + (shares_of(limits.cpu_millis) - 2) * 9999 // 262142)
        quota = limits.cpu_quota_millis
        yield "cpu.max", f"{quota * _PERIOD_US // 1000 if quota else 'max'} {_PERIOD_US}"
    elif controller == "pids":
        yield "pids.max", str(limits.pids or "max")


def _values_1(controller: str, limits: Limits) -> Iterable[tuple[str, str]]:
    if controller == "memory":
        amount = str(limits.memory_bytes or -1)
        yield "memory.limit_in_bytes", amount
        yield "memory.memsw.limit_in_bytes", amount
    elif controller == "cpu":
        yield "cpu.shares", str(shares_of(limits.cpu_millis))
        quota = limits.cpu_quota_millis
        yield "cpu.cfs_period_us", str(_PERIOD_US)
        yield "cpu.cfs_quota_us", str(quota * _PERIOD_US // 1000 if quota else -1)
    elif controller == "pids":
        yield "pids.max", str(limits.pids or "max")


_PERIOD_US = 100_000
_OPTIONAL = {"memory.swap.max", "memory.oom.group", "memory.memsw.limit_in_bytes", "cpu.cfs_period_us",
             "cpu.cfs_quota_us", "cpu.max"}  # fmt: skip
"""Kernels are built without these, or have no swap to account for."""


def shares_of(cpu_millis: int) -> int:
    """CPU shares as Docker counts them: 1024 a core."""
    return min(262_144, max(2, cpu_millis * 1024 // 1000))


# ---------------------------------------------------------------------------- members


def members(directories: Iterable[Path]) -> list[int]:
    return process_shim.members([str(directory) for directory in directories])


def kill(directories: Iterable[Path]) -> None:
    where = tuple(directories)
    until = time.monotonic() + KILL_S
    while (left := members(where)) and time.monotonic() < until:
        for directory in where:
            with contextlib.suppress(OSError):
                _write(directory / "cgroup.kill", "1")  # v2, Linux 5.14
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def _write(file: Path, text: str) -> None:
    """Never creates: a file that is not there is a limit that this kernel does not have."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
