"""What processes a local cluster should consist of: names, ports, certificates, command lines.

Owns: turning what was asked for, and what the record says, into the next record. Leaves to others: starting anything
(``dev``). The rule: what runs is never changed; what does not run is planned anew from the record and the options,
so an option given for a stopped cluster holds from its next start on.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from orchestrator.contract.errors import InvalidError, PreconditionError
from orchestrator.ops import certs
from orchestrator.ops.cluster_file import ClusterRecord, Member, MemberKind
from orchestrator.ops.ports import LOOPBACK, Ports
from orchestrator.ops.processes import raftsman_argv

DRIVERS = ("auto", "docker", "process", "fake")
GRPC_PORT, PEER_HTTP_PORT, AGENT_HTTP_PORT, GATEWAY_PORT = 7400, 7480, 7490, 8080
MAX_PEERS, MAX_AGENTS = 9, 20
EVERY = "0.0.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for; None: as it was, or the default. Raises ``InvalidError``."""

    name: str
    peers: int | None = None
    agents: int | None = None
    driver: str | None = None
    fast_failover: bool | None = None
    gpu: str | None = None
    gateway: bool = False
    predictable_ports: bool = False
    links: bool = False
    log_level: str = "info"

    def __post_init__(self) -> None:
        if self.driver is not None and self.driver not in DRIVERS:
            raise InvalidError(f"driver {self.driver!r}: expected one of {', '.join(DRIVERS)}")
        if self.peers is not None and not 1 <= self.peers <= MAX_PEERS:
            raise InvalidError(f"{self.peers} peers: expected 1 to {MAX_PEERS} (three or five are right)")
        if self.agents is not None and not 0 <= self.agents <= MAX_AGENTS:
            raise InvalidError(f"{self.agents} agents: expected 0 to {MAX_AGENTS}")


def plan(data: Path, record: ClusterRecord | None, wanted: Wanted, ports: Ports) -> ClusterRecord:
    """The next record. Issues certificates. Raises ``PreconditionError`` when it would contradict what is there."""
    if record is None:
        record = ClusterRecord(name=wanted.name, driver="auto", fast_failover=False, gpu="", members=())
    have = len(record.of_kind("peer"))
    if have and wanted.peers is not None and wanted.peers != have:
        raise PreconditionError(
            f"{data} holds a cluster of {have} peers, not {wanted.peers}; use another --data, "
            f"or `raftsman dev stop --data {data}` and remove the directory"
        )
    record = _with_options(data, record, wanted)
    idle = not any(member.alive for member in record.members)
    if not idle:
        ports.avoid(_ports(record.members))
    planner = _Planner(data, wanted, ports, idle)
    record = planner.with_members(record)
    members = tuple(m if m.alive else dataclasses.replace(m, argv=planner.argv(m, record)) for m in record.members)
    return dataclasses.replace(record, members=members)


def newcomer(data: Path, record: ClusterRecord, wanted: Wanted, ports: Ports) -> Member:
    """A further peer, on free ports and with a data directory that nobody used; it lists the others and itself."""
    used = {member.name for member in record.members}
    names = (f"p{n}" for n in itertools.count(1))
    name = next(name for name in names if name not in used and not peer_directory(data, name).exists())
    ports.avoid(_ports(record.members))
    address, http = (f"{LOOPBACK}:{ports.pick(None)}" for _ in range(2))
    log = str(data / "logs" / f"{name}.log")
    member = Member(kind="peer", name=name, address=address, http=http, argv=(), log=log)
    planner = _Planner(data, wanted, ports, idle=False)
    return dataclasses.replace(member, argv=planner.argv(member, record.replacing(member)))


def _with_options(data: Path, record: ClusterRecord, wanted: Wanted) -> ClusterRecord:
    said = {"driver": wanted.driver, "fast_failover": wanted.fast_failover, "gpu": wanted.gpu}
    changed = {key: value for key, value in said.items() if value is not None and value != getattr(record, key)}
    running = [member.name for member in record.members if member.alive]
    if changed and running:
        options = ", ".join(key.replace("_", "-") for key in changed)
        raise PreconditionError(
            f"the cluster in {data} runs with another {options} ({', '.join(running)} are up); "
            f"stop it first: `raftsman dev stop --data {data}`"
        )
    return dataclasses.replace(record, **changed)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Planner:
    data: Path
    wanted: Wanted
    ports: Ports
    idle: bool  # nothing runs, so ports may still change

    def with_members(self, record: ClusterRecord) -> ClusterRecord:
        # Peers may have been replaced: the names are not always p1 and on.
        peers = [peer.name for peer in record.of_kind("peer")] or [f"p{i + 1}" for i in range(self.wanted.peers or 3)]
        agents = self.wanted.agents
        if agents is None:
            agents = len(record.of_kind("agent")) or (0 if record.members else 2)
        for i, name in enumerate(peers):
            record = self._member(record, "peer", name, GRPC_PORT + i, PEER_HTTP_PORT + i)
        for i in range(max(agents, len(record.of_kind("agent")))):
            record = self._member(record, "agent", f"n{i + 1}", None, AGENT_HTTP_PORT + i)
        if self.wanted.gateway or record.of_kind("gateway"):
            record = self._member(record, "gateway", "gateway", GATEWAY_PORT, None)
        return record

    def _member(
        self, record: ClusterRecord, kind: MemberKind, name: str, port: int | None, http: int | None
    ) -> ClusterRecord:
        """With that member, on the ports that it had if they are free, else on the wanted ones or the next."""
        old = record.find(name)
        if old is not None and not self.idle:
            return record
        address = self._address(old.address if old else "", port)
        metrics = self._address(old.http if old else "", http) if http is not None else address
        log = str(self.data / "logs" / f"{name}.log")
        made = old or Member(kind=kind, name=name, address="", http="", argv=(), log=log)
        return record.replacing(dataclasses.replace(made, address=address, http=metrics))

    def _address(self, had: str, preferred: int | None) -> str:
        if preferred is None:
            return ""
        if had:
            return f"{LOOPBACK}:{self.ports.pick(_port(had))}"
        return f"{LOOPBACK}:{self.ports.pick(preferred if self.wanted.predictable_ports else None)}"

    def argv(self, member: Member, record: ClusterRecord) -> tuple[str, ...]:
        if member.kind == "peer":
            return self._peer(member, record)
        if member.kind == "agent":
            return self._agent(member, record)
        return raftsman_argv(
            *("gateway", "--listen", member.address, "--endpoints", _endpoints(record)),
            *("--tls", str(certs.issue(self._tls, "gateway", member.name)), "--dev-data", str(self.data)),
        )

    @property
    def _tls(self) -> Path:
        return self.data / "tls"

    def _peer(self, member: Member, record: ClusterRecord) -> tuple[str, ...]:
        certs.create_authority(self._tls, record.name)
        certs.issue(self._tls, "client", "admin")
        everyone = ",".join(f"{peer.name}={self._reached(member, peer)}" for peer in record.of_kind("peer"))
        listen = f"{EVERY}:{_port(member.address)}" if self.wanted.links else member.address
        tls = certs.issue(self._tls, "peer", member.name, [LOOPBACK, "localhost"])
        argv = raftsman_argv(
            *("peer", "--id", member.name, "--peers", everyone, "--listen", listen, "--http", member.http),
            *("--data", str(peer_directory(self.data, member.name)), "--cluster", record.name, "--tls", str(tls)),
            *("--log-level", self.wanted.log_level, "--dev"),
        )
        return (*argv, "--fast-failover") if record.fast_failover else argv

    def _reached(self, member: Member, peer: Member) -> str:
        """Where ``member`` dials ``peer``; itself it knows by the address that clients and agents use."""
        if not self.wanted.links or peer.name == member.name:
            return peer.address
        return f"{link_address(member.name, peer.name)}:{_port(peer.address)}"

    def _agent(self, member: Member, record: ClusterRecord) -> tuple[str, ...]:
        # The agents share this machine: each offers every core (they are shared, as on a laptop), memory in parts.
        memory_mib = psutil.virtual_memory().total // (1024 * 1024) * 3 // 4 // len(record.of_kind("agent"))
        argv = raftsman_argv(
            *("agent", "--name", member.name, "--peers", _endpoints(record)),
            *("--tls", str(certs.issue(self._tls, "agent", member.name))),
            *("--data", str(self.data / "agents" / member.name), "--driver", record.driver),
            *("--cpu", str(os.cpu_count() or 1), "--memory", f"{memory_mib}Mi"),
            *("--address", LOOPBACK, "--http", member.http),
        )
        # A device is given out once, so the first agent has those of the machine.
        first = member.name == record.of_kind("agent")[0].name
        gpu = record.gpu or ("" if first else "none")
        return (*argv, "--gpu", gpu) if gpu else argv


def peer_directory(data: Path, peer: str) -> Path:
    """Where that peer keeps its identity, journal and snapshots."""
    return data / "peers" / peer


def link_address(peer: str, other: str) -> str:
    """``127.1.2.3``: where p2 dials p3, and nobody else, so that this one direction can be cut."""
    return f"127.1.{int(peer[1:])}.{int(other[1:])}"


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _endpoints(record: ClusterRecord) -> str:
    return ",".join(peer.address for peer in record.of_kind("peer"))


def _ports(members: Iterable[Member]) -> set[int]:
    """The ports that are given away, so that a further process gets another."""
    addresses = [address for member in members for address in (member.address, member.http) if address]
    return {_port(address) for address in addresses}
