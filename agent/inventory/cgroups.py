"""What a control group has used: version 2, version 1 and mixed, whichever this machine has.

Owns: finding the groups of a process or a container, and reading their counters. The rule: files only, so it costs
microseconds; what is not there is -1.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
CONTROLLERS = ("cpuacct", "memory", "pids")


class Used(NamedTuple):
    """``memory_bytes`` without cached files that can be dropped, as ``docker stats`` counts."""

    cpu_ns: int
    memory_bytes: int
    limit_bytes: int
    processes: int


Directories = dict[str, Path]
"""By controller; "" is the one directory of version 2."""


def of_process(pid: int, root: Path = ROOT, proc: Path = Path("/proc")) -> Directories:
    """The groups that account for a process; empty where none can be read."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return {}
    found: Directories = {}
    for line in lines:
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            base = root if not name else root / names if (root / names).is_dir() else root / name
            here = base / path.lstrip("/")
            if (name in CONTROLLERS or (not name and (here / "cpu.stat").exists())) and here.is_dir():
                found[name] = here
    return found


def of_container(id_: str, root: Path = ROOT) -> Directories:
    """Where Docker puts a container's groups by default, with either of its cgroup drivers."""
    for path in (f"docker/{id_}", f"system.slice/docker-{id_}.scope"):
        if (root / path / "cpu.stat").exists() and (root / path / "memory.current").exists():
            return {"": root / path}
        found = {name: root / name / path for name in CONTROLLERS if (root / name / path).is_dir()}
        if found:
            return found
    return {}


def read(groups: Directories) -> Used | None:
    """None where nothing is there (any more)."""
    if "memory" not in groups and "cpuacct" not in groups:
        here = groups.get("")
        if here is None or not here.is_dir():
            return None
        microseconds = _stat(here / "cpu.stat", "usage_usec")
        memory = _number(here / "memory.current")
        cached = _stat(here / "memory.stat", "inactive_file")
        return Used(
            microseconds * 1000 if microseconds >= 0 else -1,
            _less(memory, cached),
            _limit(here / "memory.max"),
            _number(here / "pids.current"),
        )
    cpu, memory_at, pids = (groups.get(name) for name in CONTROLLERS)
    cpu_ns = _number(cpu / "cpuacct.usage") if cpu is not None else -1
    memory = _number(memory_at / "memory.usage_in_bytes") if memory_at is not None else -1
    if cpu_ns < 0 and memory < 0:
        return None
    return Used(
        cpu_ns,
        _less(memory, _stat(memory_at / "memory.stat", "total_inactive_file")) if memory_at is not None else -1,
        _limit(memory_at / "memory.limit_in_bytes") if memory_at is not None else 0,
        _number(pids / "pids.current") if pids is not None else -1,
    )


def _less(memory: int, cached: int) -> int:
    return memory - min(memory, max(0, cached)) if memory >= 0 else -1


def _limit(path: Path) -> int:
    found = _number(path)
    return found if 0 < found < UNLIMITED else 0


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return -1


def _stat(path: Path, name: str) -> int:
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return -1
