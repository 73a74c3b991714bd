"""What this machine has to give: cpu, memory, disk; measured, within the cgroup's limits, less a reserve.

Owns: measuring, and the reserve. Leaves to others: GPUs (``inventory.gpu``), declared values (``agent.config``). The
rule: the lower of machine and cgroup counts, and one part in ten stays with the system and the agent.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

MIB = 1024 * 1024
RESERVE_PARTS = 10
"""One part in this many is not given away."""
UNLIMITED = 1 << 60
"""cgroup v1 says "no limit" with a number near 2^63."""


def cpu_millis(root: Path = Path("/sys/fs/cgroup"), self_cgroup: Path = Path("/proc/self/cgroup")) -> int:
    """Thousandths of a core that may be given away."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    millis = available * 1000
    for directory in _directories(root, self_cgroup, "cpu"):
        v2 = _words(directory / "cpu.max")
        if len(v2) == 2 and v2[0] != "max":
            millis = min(millis, int(v2[0]) * 1000 // max(1, int(v2[1])))
        quota, period = _number(directory / "cpu.cfs_quota_us"), _number(directory / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            millis = min(millis, quota * 1000 // period)
    return _less_reserve(millis)


def memory_mib(root: Path = Path("/sys/fs/cgroup"), self_cgroup: Path = Path("/proc/self/cgroup")) -> int:
    """Memory that may be given away, whatever is in use now."""
    total = psutil.virtual_memory().total
    for directory in _directories(root, self_cgroup, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _number(directory / name)
            if limit is not None and 0 < limit < UNLIMITED:
                total = min(total, limit)
    return _less_reserve(total // MIB)


def disk_mib(directory: Path) -> int:
    """Free space of the file system that holds the agent's data, less the reserve."""
    return _less_reserve(shutil.disk_usage(directory).free // MIB)


class System(NamedTuple):
    """``arch`` in the names of images' platforms (amd64, arm64); ``kernel``: the numbers of its release (6.8.0)."""

    arch: str
    os: str
    kernel: str


_ARCHES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "arm", "i686": "386"}


def system(uname: Callable[[], platform.uname_result] = platform.uname) -> System:
    """What this machine is, as images and version constraints name it."""
    found = uname()
    machine = found.machine.lower()
    numbers = re.match(r"[0-9]+(?:\.[0-9]+)*", found.release)
    return System(
        arch=_ARCHES.get(machine, machine), os=found.system.lower(), kernel=numbers[0] if numbers is not None else ""
    )


def _less_reserve(amount: int) -> int:
    return amount - amount // RESERVE_PARTS


def _directories(root: Path, self_cgroup: Path, controller: str) -> list[Path]:
    """This process's cgroup and every one above it: any of them may hold the limit."""
    found = []
    try:
        lines = self_cgroup.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = root  # version 2
        elif controller in controllers.split(","):
            base = root / controllers if (root / controllers).is_dir() else root / controller
        else:
            continue
        here = base / path.lstrip("/")
        while True:
            found.append(here)
            if here == base or base not in here.parents:
                break
            here = here.parent
    return found


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if words and words[0].lstrip("-").isdigit() else None
