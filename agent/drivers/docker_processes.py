"""The processes of a container as this machine's kernel shows them, where the agent and the engine share one.

Owns: reading ``/proc``. The rule: a process id of the engine means nothing here until the control group of that process
names the container: an engine in another machine or in a container of its own counts its processes differently.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
_CONTAINER = re.compile(r"\b[0-9a-f]{64}\b")


def is_of(pid: int, container_id: str, proc: Path = PROC) -> bool:
    """Whether that process is one of the container's, and its children can be listed here."""
    if pid <= 0 or not container_id:
        return False
    try:
        return container_id in (proc / str(pid) / "cgroup").read_text() and _children(pid, proc) is not None
    except (OSError, ValueError):
        return False


def containers_of(pids: Iterable[int], proc: Path = PROC) -> dict[int, str]:
    """The container that each process is in, by the name of its control group; those in none are left out."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # it has just ended
            if name := _CONTAINER.search((proc / str(pid) / "cgroup").read_text()):
                found[pid] = name[0]
    return found


def commands(pid: int, proc: Path = PROC) -> set[bytes]:
    """The different command lines of that process and its children, dead ones left out; nothing when it has ended."""
    found = set()
    for one in (pid, *(_children(pid, proc) or ())):
        with contextlib.suppress(OSError), open(f"{proc}/{one}/cmdline", "rb", buffering=0) as file:
            if line := file.read():  # a dead one has none; one that has just ended no file
                found.add(line)
    return found


def _children(pid: int, proc: Path) -> list[int] | None:
    try:
        with open(f"{proc}/{pid}/task/{pid}/children", "rb", buffering=0) as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return None
