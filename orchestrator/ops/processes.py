"""Processes of a local cluster: start, recognise, signal, wait.

Owns: one process at a time, known by pid and start time (a pid alone may be somebody else's by now). Leaves to others:
which processes a cluster has (``cluster_file``), when they start (``dev``). The rule: what we start belongs to no event
loop, so it can outlive us; therefore ``posix_spawn`` into its own session and not asyncio's transports, which kill
their child when they are collected.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from orchestrator.contract.errors import TimeoutError_

INHERITED_FD = 3
"""Where a child finds the one descriptor that it may inherit."""
EPOCH_SECONDS = 1e9
"""No machine is up for 31 years: such a start is a time of day, as versions before 2026-11-27 noted it. This one stops
and upgrades their clusters."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    pid: int
    started: float  # seconds after boot, as the kernel says; above EPOCH_SECONDS: since the epoch


def raftsman_argv(*arguments: str) -> tuple[str, ...]:
    """The command line that runs ``raftsman`` with this very interpreter."""
    return (sys.executable, "-m", "orchestrator.cli.main", *arguments)


def spawn(argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, inherit: int = -1) -> ProcessId:
    """Start ``argv`` in its own session, stdout and stderr appended to ``log``. Raises ``OSError``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    if inherit >= 0:
        actions.append((os.POSIX_SPAWN_DUP2, inherit, INHERITED_FD))
    environment = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0", "PYTHONUNBUFFERED": "1", **(env or {})}
    pid = os.posix_spawn(argv[0], list(argv), environment, file_actions=actions, setsid=True)
    return ProcessId(pid, started_s(pid))


def started_s(pid: int) -> float:
    """Seconds after boot at which that process began; 0.0: there is none.

    Not the time of day that ``psutil`` tells: whenever the clock is set, that is another one for every process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def is_alive(process: ProcessId) -> bool:
    """Whether that very process still runs (a zombie does not); reaps it if it was our child."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    try:
        found = psutil.Process(process.pid)
        if process.started > EPOCH_SECONDS:
            began = abs(found.create_time() - process.started) < 0.1
        else:
            began = started_s(process.pid) == process.started
        return began and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def listens(process: ProcessId, port: int) -> bool:
    """Whether that very process takes connections there: once a process has ended, its port may be anybody's."""
    try:
        found = psutil.Process(process.pid)
        sockets = getattr(found, "net_connections", None) or found.connections  # its name before psutil 6
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets("tcp"))
    except psutil.Error:
        return False


def send(process: ProcessId, number: signal.Signals) -> bool:
    """Signal that very process; False when it is gone."""
    if not is_alive(process):
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


async def gone(process: ProcessId, timeout_s: float = 10.0) -> None:
    """Wait until it has ended. Raises ``TimeoutError_``."""
    deadline = time.monotonic() + timeout_s
    while is_alive(process):
        if time.monotonic() > deadline:
            raise TimeoutError_(f"process {process.pid} still runs after {timeout_s:g} s")
        await asyncio.sleep(0.01)


async def end(processes: Sequence[ProcessId], grace_s: float = 5.0) -> None:
    """SIGTERM to all, SIGKILL to those that are left after ``grace_s``; returns when all have ended."""
    for process in processes:
        if send(process, signal.SIGTERM):
            send(process, signal.SIGCONT)  # a paused process does not hear SIGTERM
    deadline = time.monotonic() + grace_s
    for process in processes:
        with contextlib.suppress(TimeoutError_):
            await gone(process, max(0.0, deadline - time.monotonic()))
    for process in processes:
        if send(process, signal.SIGKILL):
            await gone(process)


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log file, for messages about a process that died."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-count:])
    except OSError:
        return ""
