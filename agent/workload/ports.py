"""Host ports that tasks lease while they run: each is somebody's, once on this host.

Owns: which ports are leased to which run, the locks that several agents on one machine see, and trying whether a port
can be bound. Leaves to others: who asks (``endpoint``), when a run has ended (``side``). The rule: the cluster's own
range and every port that an allocation here was given are left alone, so that a lease is never in a scheduler's way.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import socket
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from agent.driver import RunId
from orchestrator.contract.model import LeasedPort, Protocol

MOST = 64
"""Of one run."""
FIRST, END = 10_000, 20_000
"""Where to look when nothing is said; the end is not part of it."""


class NoPortError(Exception):
    """There is none to give; the text says why and what would change it."""


@dataclass(frozen=True, slots=True)
class _Lease:
    run: RunId
    locks: tuple[int, ...]


class PortLeases:
    """``reserved``: first and last of the host ports that schedulers hand out; ``given``: those that allocations here
    were given. ``locks``: a directory that all agents of this machine use; None: none is shared."""

    def __init__(
        self,
        *,
        reserved: Collection[tuple[int, int]],
        given: Callable[[], Collection[int]],
        locks: Path | None,
        can_bind: Callable[[int, Protocol], bool] | None = None,
    ) -> None:
        self._reserved = reserved
        self._given = given
        self._locks = locks
        self._can_bind = can_bind or bindable
        self._leases: dict[LeasedPort, _Lease] = {}

    def of(self, run: RunId) -> tuple[LeasedPort, ...]:
        return tuple(sorted((port for port, one in self._leases.items() if one.run == run), key=_order))

    def lease(self, run: RunId, *, first: int, end: int, protocols: Collection[Protocol]) -> int:
        """A free port from ``first`` up to, not including, ``end``: the same for all ``protocols``."""
        if not 1 <= first < end <= 65_536:
            raise NoPortError(
                f"expected a range such as 10000 to 20000 (the end is not part of it), got {first} to {end}"
            )
        if len(self.of(run)) + len(protocols) > MOST:
            raise NoPortError(f"a task leases at most {MOST} ports at once: release some")
        given = self._given()
        candidates = [
            port
            for port in range(first, end)
            if port not in given and not any(low <= port <= high for low, high in self._reserved)
        ]
        if not candidates:
            own = " and ".join(f"{low} to {high}" for low, high in self._reserved)
            raise NoPortError(
                f"ports {first} to {end - 1} are the cluster's own (it hands out {own}): declare a port in the job, or "
                "ask for others"
            )
        if len(candidates) > 1:  # not always the same first one, which its last owner's peers may still be talking to
            start = random.randrange(len(candidates))
            candidates = candidates[start:] + candidates[:start]
        for port in candidates:
            wanted = [LeasedPort(port=port, protocol=protocol) for protocol in protocols]
            if any(one in self._leases for one in wanted):
                continue
            if self._take(run, wanted, check=True):
                return port
        if end - first == 1:
            taken = any(LeasedPort(port=first, protocol=protocol) in self._leases for protocol in protocols)
            raise NoPortError(f"Port {first} already allocated" if taken else f"Port {first} unavailable")
        raise NoPortError(f"No available ports in range {first}-{end}")

    def restore(self, run: RunId, port: LeasedPort) -> None:
        """Of a run that this agent finds running: it may have bound the port already."""
        self._take(run, [port], check=False)

    def release(self, run: RunId, port: int, protocols: Collection[Protocol]) -> bool:
        """Whether it was this run's."""
        released = False
        for protocol in protocols:
            leased = LeasedPort(port=port, protocol=protocol)
            one = self._leases.get(leased)
            if one is not None and one.run == run:
                self._drop(leased)
                released = True
        return released

    def release_all(self, run: RunId) -> bool:
        ports = self.of(run)
        for port in ports:
            self._drop(port)
        return bool(ports)

    def close(self) -> None:
        """Runs go on, and so do their leases: the next agent restores them."""
        for port in list(self._leases):
            self._drop(port, keep_file=True)

    def _take(self, run: RunId, wanted: list[LeasedPort], *, check: bool) -> bool:
        held: list[tuple[LeasedPort, tuple[int, ...]]] = []
        for port in wanted:
            locks = self._lock(port)
            if locks is None or (check and not self._can_bind(port.port, port.protocol)):
                for descriptor in (one for _, ones in [*held, (port, locks or ())] for one in ones):
                    os.close(descriptor)
                return False
            held.append((port, locks))
        for port, locks in held:
            self._leases[port] = _Lease(run, locks)
        return True

    def _lock(self, port: LeasedPort) -> tuple[int, ...] | None:
        """None: another agent's task has it."""
        if self._locks is None:
            return ()
        path = self._locks / f"{port.protocol.name.lower()}-{port.port}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None  # another user's agent has it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return (descriptor,)

    def _drop(self, port: LeasedPort, *, keep_file: bool = False) -> None:
        one = self._leases.pop(port)
        if self._locks is not None and not keep_file:
            with contextlib.suppress(OSError):
                (self._locks / f"{port.protocol.name.lower()}-{port.port}").unlink()
        for descriptor in one.locks:
            os.close(descriptor)


def _order(port: LeasedPort) -> tuple[int, int]:
    return port.port, int(port.protocol)


def bindable(port: int, protocol: Protocol) -> bool:
    """Whether nothing on this host holds it now."""
    kind = socket.SOCK_DGRAM if protocol is Protocol.UDP else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:  # as servers do: what is only closing down does not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
                return False
            raise
    return True


def shared_locks(parent: Path) -> Path | None:
    """The directory of this machine's agents below ``parent``; None where it is not safe to use."""
    path = parent / f"raftsman-ports-{os.geteuid()}"
    with contextlib.suppress(OSError):
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            return path
    return None
