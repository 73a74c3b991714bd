"""``LocalCluster``: a real cluster of processes on this machine, to use, to test with and to hurt.

Owns: which processes a local cluster has, their directories, ports and certificates; starting, killing, pausing and
stopping them. Leaves to others: one process (``processes``), the file that lets others find it (``cluster_file``), what
its tasks leave behind (``leftovers``). The rule: the record on disk is the truth. It is read before and written after
every change, so ``dev`` in one terminal and a drill in another can change the same cluster.

    DATA/cluster.json  tls/  logs/p1.log ...  peers/p1/  agents/n1/
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import secrets
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from orchestrator.client.aio import Client
from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.errors import (
    InvalidError,
    NotFoundError,
    PreconditionError,
    RaftsmanError,
    StartupError,
    TimeoutError_,
)
from orchestrator.contract.model import NodeStatus
from orchestrator.ops import certs, leftovers
from orchestrator.ops.cluster_file import ClusterFile, ClusterRecord, Member
from orchestrator.ops.http import probe
from orchestrator.ops.ports import LOOPBACK, PortBlock, Ports
from orchestrator.ops.processes import end, gone, last_lines, raftsman_argv, send, spawn

DRIVERS = ("auto", "docker", "process", "fake")
GRPC_PORT, PEER_HTTP_PORT, AGENT_HTTP_PORT, GATEWAY_PORT = 7400, 7480, 7490, 8080
READY_TIMEOUT_S = 60.0


class LocalCluster:
    """Peers, agents and, if wanted, a gateway, as processes that belong to nobody's event loop.

    ``data`` None: a temporary directory, removed at the end. A directory that holds a cluster already is picked up:
    what runs is kept, what does not is started. Counts that are None are those of the record (3 peers, 2 agents at
    first). ``predictable_ports``: 7400 and on, 8080 for the gateway, else free ports anywhere.

        async with LocalCluster(peers=3, agents=2) as cluster:
            await cluster.client.put_variable("greeting", "hello")
            await cluster.kill_leader()
    """

    keep_data: bool
    """Whether the data directory outlives ``stop``; a temporary one does not, unless somebody wants to look at it."""

    def __init__(
        self,
        peers: int | None = None,
        agents: int | None = None,
        *,
        driver: str = "auto",
        data: Path | str | None = None,
        gateway: bool = False,
        fast_failover: bool = False,
        gpu: str = "",
        predictable_ports: bool = False,
        name: str = "",
        log_level: str = "info",
    ) -> None:
        if driver not in DRIVERS:
            raise InvalidError(f"driver {driver!r}: expected one of {', '.join(DRIVERS)}")
        if peers is not None and not 1 <= peers <= 9:
            raise InvalidError(f"{peers} peers: expected 1 to 9 (three or five are right)")
        if agents is not None and not 0 <= agents <= 100:
            raise InvalidError(f"{agents} agents: expected 0 to 100")
        self._peers, self._agents = peers, agents
        self._driver, self._gateway, self._fast_failover, self._gpu = driver, gateway, fast_failover, gpu
        self._predictable, self._log_level = predictable_ports, log_level
        temporary = data is None
        self.keep_data = not temporary
        if data is None:
            data = Path(tempfile.gettempdir()) / f"raftsman-{secrets.token_hex(6)}"
        # Resolved, since the processes and those who look for them may live in other directories.
        self.data = Path(data).expanduser().resolve()
        self._name = name or (self.data.name if temporary else "dev")
        self._file = ClusterFile(self.data)
        self._blocks: dict[str, PortBlock] = {}
        self._ports = Ports()
        self._client: Client | None = None

    @classmethod
    def attach(cls, data: Path | str) -> LocalCluster:
        """A cluster that some other process started; entering it starts nothing. Raises ``NotFoundError``."""
        cluster = cls(data=data)
        if cluster._file.load() is None:
            raise NotFoundError(f"no cluster in {cluster.data}; `raftsman dev --data {cluster.data}` starts one")
        return cluster

    # ------------------------------------------------------------------------ what there is

    @property
    def record(self) -> ClusterRecord:
        """Read afresh. Raises ``NotFoundError`` before the first start."""
        record = self._file.load()
        if record is None:
            raise NotFoundError(f"no cluster in {self.data}; `raftsman dev --data {self.data}` starts one")
        return record

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def peers(self) -> tuple[Member, ...]:
        return self.record.of_kind("peer")

    @property
    def agents(self) -> tuple[Member, ...]:
        return self.record.of_kind("agent")

    def peer_names(self) -> tuple[str, ...]:
        return tuple(peer.name for peer in self.peers)

    def agent_names(self) -> tuple[str, ...]:
        return tuple(agent.name for agent in self.agents)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """``host:port`` of every peer."""
        return tuple(peer.address for peer in self.peers)

    @property
    def tls(self) -> TlsFiles:
        """The administrator's certificate."""
        return TlsFiles.in_directory(self.tls_directory)

    @property
    def tls_directory(self) -> Path:
        return self.data / "tls" / "clients" / "admin"

    @property
    def gateway_url(self) -> str:
        """``http://127.0.0.1:8080``; "" without a gateway."""
        gateways = self.record.of_kind("gateway")
        return f"http://{gateways[0].address}" if gateways else ""

    @property
    def client(self) -> Client:
        """One client, made on first use on the running loop, closed at the end."""
        if self._client is None:
            self._client = self.new_client()
        return self._client

    def new_client(self) -> Client:
        """A further client with connections of its own; the caller closes it."""
        return Client(self.endpoints, tls=self.tls)

    # ------------------------------------------------------------------------ start and stop

    async def __aenter__(self) -> Self:
        try:
            await self.start()
            await self.wait_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> tuple[str, ...]:
        """Start every process that does not run; returns their names. Does not wait until they are ready."""
        started = []
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._file.lock():
            record = self._plan(self._file.load())
            for member in record.members:
                if not member.alive:
                    member = self._spawn(member)
                    record = record.replacing(member)
                    started.append(member.name)
                    self._file.save(record)
        return tuple(started)

    async def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until a leader is known, every peer is connected and every agent's node is ready.

        Raises ``StartupError`` with the last log lines of a process that died, ``TimeoutError_`` with what is missing.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            missing = await self._missing()
            if not missing:
                self._ports.release()
                return
            for member in self.record.members:
                if not member.alive:
                    raise StartupError(
                        f"{member.name} ended while the cluster started; the end of {member.log}:\n"
                        + last_lines(Path(member.log))
                    )
            if time.monotonic() > deadline:
                raise TimeoutError_(f"not ready after {timeout_s:g} s: {missing}; logs in {self.data}/logs")
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """End every process, then the containers and processes that its agents had started. The data stays, unless
        the cluster is temporary."""
        await self.close()
        record = self._file.load()
        if record is not None:
            # Peers first, so that nobody reschedules what is about to end.
            for kind in ("gateway", "peer", "agent"):
                await end([member.process for member in record.members if member.kind == kind and member.alive])
            await leftovers.remove(self.data, record.cluster_id)
        self._ports.release()
        for block in self._blocks.values():
            block.release()
        self._blocks.clear()
        if not self.keep_data:
            shutil.rmtree(self.data, ignore_errors=True)

    async def close(self) -> None:
        """Let go of the cluster without stopping it."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    # ------------------------------------------------------------------------ hurting it

    async def leader(self, timeout_s: float = 30.0) -> str:
        """The id of the peer that leads and lives. Raises ``TimeoutError_``."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(RaftsmanError):
                status = await self.client.at_most(min(2.0, timeout_s)).cluster_status()
                member = self.record.find(status.leader_id)
                if member is not None and member.alive:
                    return member.name
            if time.monotonic() > deadline:
                raise TimeoutError_(f"no leader within {timeout_s:g} s; logs in {self.data}/logs")
            await asyncio.sleep(0.05)

    async def kill_leader(self) -> str:
        """SIGKILL the peer that leads; returns its id."""
        leader = await self.leader()
        await self.kill_peer(leader)
        return leader

    async def kill_peer(self, peer: str) -> None:
        await self._kill(peer, "peer")

    async def kill_agent(self, agent: str) -> None:
        """SIGKILL the agent alone; what it had started goes on."""
        await self._kill(agent, "agent")

    async def lose_node(self, agent: str) -> None:
        """As if the agent's machine had lost power: the agent and all that it had started are killed."""
        member = self._member(agent, "agent")
        await self._kill(agent, "agent")
        await leftovers.kill(self.data, agent, self.record.cluster_id, member.node_id)

    async def pause_peer(self, peer: str) -> None:
        """SIGSTOP: it holds its connections and hears nothing."""
        self._signal(peer, "peer", signal.SIGSTOP)

    async def resume_peer(self, peer: str) -> None:
        self._signal(peer, "peer", signal.SIGCONT)

    async def restart(self, name: str) -> None:
        """Start the process again with the same command, directory and ports; ends it first if it runs."""
        member = self._member(name)
        if member.alive:
            await end([member.process])
        with self._file.lock():
            record = self.record
            self._file.save(record.replacing(self._spawn(member)))

    restart_peer = restart
    restart_agent = restart

    # ------------------------------------------------------------------------ inside

    def _plan(self, record: ClusterRecord | None) -> ClusterRecord:
        """The record with everything that was asked for. Raises ``PreconditionError`` if it contradicts."""
        if record is None:
            self._ports = ports = Ports()
            members = self._new_peers(self._peers or 3, ports)
            record = ClusterRecord(
                name=self._name, driver=self._driver, fast_failover=self._fast_failover, members=members
            )
        else:
            have = len(record.of_kind("peer"))
            if self._peers is not None and self._peers != have:
                raise PreconditionError(
                    f"{self.data} holds a cluster of {have} peers, not {self._peers}; use another --data, "
                    f"or `raftsman dev stop --data {self.data}` and remove the directory"
                )
            self._ports = ports = Ports(_ports(record))
        wanted = self._agents if self._agents is not None else len(record.of_kind("agent")) or 2
        for number in range(1, wanted + 1):
            if record.find(f"n{number}") is None:
                record = record.replacing(self._new_agent(number, record, ports))
        if self._gateway and not record.of_kind("gateway"):
            record = record.replacing(self._new_gateway(record, ports))
        return record

    def _new_peers(self, count: int, ports: Ports) -> tuple[Member, ...]:
        tls = self.data / "tls"
        certs.create_authority(tls, self._name)
        certs.issue(tls, "client", "admin")
        names = [f"p{number}" for number in range(1, count + 1)]
        addresses = {name: f"{LOOPBACK}:{self._port(ports, GRPC_PORT, i)}" for i, name in enumerate(names)}
        everyone = ",".join(f"{name}={address}" for name, address in addresses.items())
        members = []
        for i, name in enumerate(names):
            http = f"{LOOPBACK}:{self._port(ports, PEER_HTTP_PORT, i)}"
            argv = [
                *raftsman_argv("peer", "--id", name, "--peers", everyone),
                *("--listen", addresses[name], "--http", http, "--data", str(self.data / "peers" / name)),
                *("--cluster", self._name, "--tls", str(certs.issue(tls, "peer", name, [LOOPBACK, "localhost"]))),
                *("--log-level", self._log_level, "--dev"),
            ]
            if self._fast_failover:
                argv.append("--fast-failover")
            members.append(self._new_member("peer", name, addresses[name], http, argv))
        return tuple(members)

    def _new_agent(self, number: int, record: ClusterRecord, ports: Ports) -> Member:
        name = f"n{number}"
        count = self._agents if self._agents is not None else max(2, number)
        # The agents share this machine: each offers every core (they are shared, as on a laptop), memory in parts.
        memory_mib = psutil.virtual_memory().total // (1024 * 1024) * 3 // 4 // max(1, count)
        http = f"{LOOPBACK}:{self._port(ports, AGENT_HTTP_PORT, number - 1)}"
        argv = [
            *raftsman_argv("agent", "--name", name, "--peers", ",".join(p.address for p in record.of_kind("peer"))),
            *("--tls", str(certs.issue(self.data / "tls", "agent", name))),
            *("--data", str(self.data / "agents" / name), "--driver", record.driver),
            *("--cpu", str(os.cpu_count() or 1), "--memory", f"{memory_mib}Mi"),
            *("--address", LOOPBACK, "--http", http),
        ]
        if self._gpu:
            argv += ["--gpu", self._gpu]
        return self._new_member("agent", name, "", http, argv)

    def _new_gateway(self, record: ClusterRecord, ports: Ports) -> Member:
        address = f"{LOOPBACK}:{self._port(ports, GATEWAY_PORT, 0)}"
        argv = [
            *raftsman_argv("gateway", "--listen", address),
            *("--endpoints", ",".join(peer.address for peer in record.of_kind("peer"))),
            *("--tls", str(certs.issue(self.data / "tls", "gateway", "gateway"))),
            *("--dev-data", str(self.data)),
        ]
        return self._new_member("gateway", "gateway", address, address, argv)

    def _new_member(self, kind: str, name: str, address: str, http: str, argv: list[str]) -> Member:
        log = str(self.data / "logs" / f"{name}.log")
        return Member(kind=kind, name=name, address=address, http=http, argv=tuple(argv), log=log)  # type: ignore[arg-type]

    def _port(self, ports: Ports, first: int, place: int) -> int:
        return ports.pick(first + place if self._predictable else None)

    def _spawn(self, member: Member) -> Member:
        argv, inherit = list(member.argv), -1
        if member.kind == "agent":
            block = self._blocks.get(member.name)
            if block is None or block.descriptor < 0:
                block = self._blocks[member.name] = PortBlock.take(member.task_ports or None)
            argv += ["--ports", block.text]
            member = dataclasses.replace(member, task_ports=block.first)
            inherit = block.descriptor
        process = spawn(argv, Path(member.log), inherit=inherit)
        return dataclasses.replace(member, pid=process.pid, started=process.started)

    def _member(self, name: str, kind: str = "") -> Member:
        member = self.record.find(name)
        if member is None or (kind and member.kind != kind):
            names = ", ".join(one.name for one in self.record.members if not kind or one.kind == kind)
            raise NotFoundError(f"no {kind or 'process'} {name!r} in this cluster; there are {names}")
        return member

    async def _kill(self, name: str, kind: str) -> None:
        member = self._member(name, kind)
        if not send(member.process, signal.SIGKILL):
            raise PreconditionError(f"{name} does not run; restart it first")
        await gone(member.process)

    def _signal(self, name: str, kind: str, number: signal.Signals) -> None:
        if not send(self._member(name, kind).process, number):
            raise PreconditionError(f"{name} does not run; restart it first")

    async def _missing(self) -> str:
        """What is not ready yet, "" when all is."""
        client = self.client.at_most(2.0)
        try:
            status = await client.cluster_status()
            nodes = (await client.list_nodes()).nodes
        except RaftsmanError as error:
            return error.message
        connected = {peer.id for peer in status.peers if peer.role in ("leader", "follower")}
        absent = [peer.name for peer in self.peers if peer.name not in connected]
        if absent:
            return f"peers not connected: {', '.join(absent)}"
        ready = {node.spec.name: node.spec.id for node in nodes if node.status == NodeStatus.READY}
        absent = [agent.name for agent in self.agents if agent.name not in ready]
        for gateway in self.record.of_kind("gateway"):
            if problem := await probe(gateway.address, 1.0, "/healthz"):
                return f"gateway: {problem}"
        if absent:
            return f"nodes not ready: {', '.join(absent)}"
        with self._file.lock():
            record = self.record
            members = tuple(
                dataclasses.replace(member, node_id=ready.get(member.name, member.node_id)) for member in record.members
            )
            self._file.save(dataclasses.replace(record, cluster_id=status.cluster_id, members=members))
        return ""


def _ports(record: ClusterRecord) -> set[int]:
    """The ports that the record gives away, so that a further process gets another."""
    addresses = [address for member in record.members for address in (member.address, member.http) if address]
    return {int(address.rpartition(":")[2]) for address in addresses}
