"""``cluster.json``: what a local cluster consists of, so that other processes can find, stop and hurt it.

Owns: the file and its lock. Leaves to others: starting and stopping (``dev``). The rule: the file is replaced whole and
only under the lock; readers always see a complete one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator.contract.errors import CorruptError
from orchestrator.ops.processes import ProcessId, is_alive

FORMAT = 1
MemberKind = Literal["peer", "agent", "gateway"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One process of the cluster."""

    kind: MemberKind
    name: str
    address: str  # host:port that it serves ("" for agents)
    http: str  # host:port of its /metrics
    argv: tuple[str, ...]
    log: str  # absolute path
    pid: int = 0
    started: float = 0.0
    task_ports: int = 0  # first of an agent's block
    node_id: str = ""  # an agent's, once it has registered

    @property
    def process(self) -> ProcessId:
        return ProcessId(self.pid, self.started)

    @property
    def alive(self) -> bool:
        return self.pid != 0 and is_alive(self.process)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRecord:
    name: str
    driver: str
    fast_failover: bool
    gpu: str = ""  # devices that each agent declares
    cluster_id: str = ""  # once the cluster has one
    members: tuple[Member, ...]

    def of_kind(self, kind: MemberKind) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.kind == kind)

    def find(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)

    def replacing(self, member: Member) -> ClusterRecord:
        """With ``member`` in the place of the one with its name, or added."""
        if self.find(member.name) is None:
            return dataclasses.replace(self, members=(*self.members, member))
        members = tuple(member if old.name == member.name else old for old in self.members)
        return dataclasses.replace(self, members=members)

    def without(self, name: str) -> ClusterRecord:
        return dataclasses.replace(self, members=tuple(member for member in self.members if member.name != name))


class ClusterFile:
    """``cluster.json`` in a cluster's data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory / "cluster.json"

    def load(self) -> ClusterRecord | None:
        """The record; None when there never was a cluster here. Raises ``CorruptError``."""
        try:
            data: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CorruptError(f"{self._path} is not readable ({error}); remove it, and processes by hand") from None
        try:
            if data["format"] != FORMAT:
                raise CorruptError(f"{self._path} was written by another version of raftsman; use another --data")
            members = tuple(Member(**{**row, "argv": tuple(row["argv"])}) for row in data["members"])
            return ClusterRecord(
                name=data["name"],
                driver=data["driver"],
                fast_failover=data["fast_failover"],
                gpu=data["gpu"],
                cluster_id=data["cluster_id"],
                members=members,
            )
        except (KeyError, TypeError) as error:
            raise CorruptError(f"{self._path} does not describe a cluster: {error!r}; remove it") from None

    def save(self, record: ClusterRecord) -> None:
        """Replace the file; call it under ``lock``."""
        data = {"format": FORMAT, **dataclasses.asdict(record)}
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(data, indent=2) + "\n")
        fresh.replace(self._path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One changer at a time; short, blocking."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.directory / "cluster.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
