"""What tasks of the process driver use: their control groups where they have their own, else their processes.

The rule: one pass over the machine's processes answers for all tasks.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from agent.inventory import cgroups
from agent.usage import Counters


def measure(pids: Mapping[str, int]) -> dict[str, Counters]:
    """By name, given the pid of each run's first process. Blocks for about 50 us per process of the machine."""
    found: dict[str, Counters] = {}
    own = cgroups.of_process(os.getpid())
    rest: dict[str, int] = {}
    for name, pid in pids.items():
        groups = cgroups.of_process(pid)
        used = cgroups.read(groups) if groups and groups != own and not _shared(groups, own) else None
        if used is None:
            rest[name] = pid
        else:
            found[name] = Counters(
                cpu_ns=used.cpu_ns,
                memory_bytes=used.memory_bytes,
                limit_bytes=used.limit_bytes,
                processes=used.processes,
                source="cgroup",
            )
    if rest:
        found |= _by_processes(rest)
    return found


def whose(pids: Iterable[int], firsts: Mapping[str, int]) -> dict[int, str]:
    """Names by process, given the pid of each run's first process: by descent, else by control group or session, for
    one that was left by its parent. Strangers are left out."""
    names = {first: name for name, first in firsts.items()}
    groups = {name: _group(first) for name, first in firsts.items()}
    alone = {group for group, count in Counter(groups.values()).items() if count == 1} - {_group(os.getpid()), ""}
    by_group = {group: name for name, group in groups.items() if group in alone}
    sessions: dict[int, str] = {}
    for name, first in firsts.items():
        with contextlib.suppress(OSError):
            sessions[os.getsid(first)] = name
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError, psutil.Error):  # it has just ended
            line = (pid, *(one.pid for one in psutil.Process(pid).parents()))
            name = next((names[one] for one in line if one in names), "")
            name = name or by_group.get(_group(pid), "") or sessions.get(os.getsid(pid), "")
            if name:
                found[pid] = name
    return found


def _group(pid: int) -> str:
    """The paths of its control groups, empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def _shared(groups: cgroups.Directories, own: cgroups.Directories) -> bool:
    """Whether what counts is counted together with the agent itself."""
    return any(own.get(name) == path for name, path in groups.items() if name in ("", "cpuacct", "memory"))


def _by_processes(pids: Mapping[str, int]) -> dict[str, Counters]:
    children: dict[int, list[int]] = {}
    facts: dict[int, tuple[float, int]] = {}
    for process in psutil.process_iter(["pid", "ppid", "cpu_times", "memory_info"]):
        one = process.info
        children.setdefault(one["ppid"], []).append(one["pid"])
        times, memory = one["cpu_times"], one["memory_info"]
        if times is not None and memory is not None:
            # With what its ended children used, or a shell's pipeline would count for nothing.
            ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
            facts[one["pid"]] = (times.user + times.system + ended, memory.rss)
    found = {}
    for name, pid in pids.items():
        seconds, memory_bytes, count = 0.0, 0, 0
        waiting = [pid]
        while waiting:
            here = waiting.pop()
            if here in facts:
                seconds += facts[here][0]
                memory_bytes += facts[here][1]
                count += 1
            waiting += children.get(here, ())
        if count:
            found[name] = Counters(
                cpu_ns=round(seconds * 1e9), memory_bytes=memory_bytes, processes=count, source="processes"
            )
    return found
