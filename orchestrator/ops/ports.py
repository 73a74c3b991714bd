"""Loopback ports for clusters on one machine: predictable for ``dev``, out of everybody's way for tests.

The rule: never from the kernel's ephemeral range. A port there can be taken as the source of some outgoing connection
while a killed peer is down, and a client that keeps dialling it can even connect to itself.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from orchestrator.contract.errors import StartupError

LOOPBACK = "127.0.0.1"
SEARCH = range(10_000, 19_999)
TASK_PORTS = range(20_000, 32_000)
BLOCK = 500
"""Task ports of one agent on this machine; 24 blocks of them."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        # As gRPC does it: remains of closed connections do not count, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


class Ports:
    """Hands out ports that are free now, none twice, also not to another cluster that starts at the same time."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._locks: list[int] = []

    def avoid(self, ports: Iterable[int]) -> None:
        """Never hand out these."""
        self._taken.update(ports)

    def pick(self, preferred: int | None = None) -> int:
        """``preferred`` or the next free one after it; without a preference any free one. Raises ``StartupError``."""
        for port in range(preferred, preferred + 500) if preferred is not None else _shuffled(SEARCH):
            if port in self._taken or not is_free(port):
                continue
            descriptor = _lock(port)
            if descriptor < 0:
                continue
            self._locks.append(descriptor)
            self._taken.add(port)
            return port
        raise StartupError(f"no free port on {LOOPBACK} from {preferred or SEARCH.start} on; stop what uses them")

    def release(self) -> None:
        """Call it once the ports are listened on: from then on that keeps others away."""
        while self._locks:
            os.close(self._locks.pop())


def _lock(number: int) -> int:
    """A descriptor that holds the lock on a port or block of ports; -1 when another process holds it."""
    directory = Path(tempfile.gettempdir()) / f"raftsman-ports-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(directory / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


def _shuffled(ports: range) -> Iterator[int]:
    while True:
        yield random.choice(ports)  # clusters that start at once should not race for the same


class PortBlock:
    """One agent's range of task ports, held by a file lock that the agent process inherits.

    The lock lives as long as any process has it open, so no bookkeeping is left behind by a crash.
    """

    def __init__(self, first: int, descriptor: int) -> None:
        self.first = first
        self.descriptor = descriptor

    @property
    def text(self) -> str:
        return f"{self.first}-{self.first + BLOCK - 1}"

    @classmethod
    def take(cls, preferred: int | None = None) -> PortBlock:
        """The first block that no other cluster of this user holds. Raises ``StartupError``."""
        firsts = list(TASK_PORTS[::BLOCK])
        if preferred in firsts:
            firsts.insert(0, preferred)
        for first in firsts:
            descriptor = _lock(first)
            if descriptor >= 0:
                return cls(first, descriptor)
        raise StartupError(
            f"all {len(firsts)} blocks of task ports are in use by clusters on this machine; stop one of them"
        )

    def release(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
