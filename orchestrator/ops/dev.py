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
import secrets
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.client.aio import Client
from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.errors import (
    NotFoundError,
    PreconditionError,
    RaftsmanError,
    StartupError,
    TimeoutError_,
)
from orchestrator.contract.model import NodeStatus
from orchestrator.ops import leftovers
from orchestrator.ops.cluster_file import ClusterFile, ClusterRecord, Member
from orchestrator.ops.dev_plan import Wanted, newcomer, peer_directory, plan
from orchestrator.ops.http import probe
from orchestrator.ops.ports import PortBlock, Ports
from orchestrator.ops.processes import end, gone, last_lines, listens, send, spawn
from orchestrator.ops.rolling import restart_all

READY_TIMEOUT_S = 60.0
RETIRE_S = 15.0
"""A removed peer ends by itself within this time, or it is told to."""


class LocalCluster:
    """Peers, agents and, if wanted, a gateway, as processes that belong to nobody's event loop.

    ``data`` None: a temporary directory, removed at the end. A directory that holds a cluster already is picked up:
    what runs is kept, what does not is started. Options that are None are as they were; at first 3 peers, 2 agents,
    driver auto (Docker where an engine answers, and processes), no declared GPUs (``gpu="count=2,model=A100"`` per
    agent). ``predictable_ports``: 7400 and on, 8080 for the gateway, else free ports anywhere. ``links``: peers dial
    each other at one address per direction (``dev_plan.link_address``) and listen on every address; for drills, in a
    network namespace of their own.

        async with LocalCluster(peers=3, agents=2) as cluster:
            await cluster.client.put_variable("greeting", "hello")
            await cluster.kill_leader()
    """

    keep_data: bool
    """Whether the data directory outlives ``stop``; a temporary one does not, unless somebody wants to look at it."""
    keep_after_failure = False
    """Keep it when ``async with`` is left by an exception (an interrupt is none)."""

    def __init__(
        self,
        peers: int | None = None,
        agents: int | None = None,
        *,
        driver: str | None = None,
        data: Path | str | None = None,
        gateway: bool = False,
        fast_failover: bool | None = None,
        gpu: str | None = None,
        predictable_ports: bool = False,
        links: bool = False,
        name: str = "",
        log_level: str = "info",
    ) -> None:
        temporary = data is None
        self.keep_data = not temporary
        if data is None:
            data = Path(tempfile.gettempdir()) / f"raftsman-{secrets.token_hex(6)}"
        # Resolved, since the processes and those who look for them may live in other directories.
        self.data = Path(data).expanduser().resolve()
        self._wanted = Wanted(
            name=name or (self.data.name if temporary else "dev"),
            peers=peers,
            agents=agents,
            driver=driver,
            fast_failover=fast_failover,
            gpu=gpu,
            gateway=gateway,
            predictable_ports=predictable_ports,
            links=links,
            log_level=log_level,
        )
        self._file = ClusterFile(self.data)
        self._blocks: dict[str, PortBlock] = {}
        self._ports = Ports()
        self._client: Client | None = None
        self._found_running = False

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

    def peer_directory(self, peer: str) -> Path:
        """Where that peer keeps its identity, journal and snapshots."""
        return peer_directory(self.data, peer)

    def address_of(self, peer: str) -> str:
        """``host:port`` of that peer. Raises ``NotFoundError``."""
        return self._member(peer, "peer").address

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
        except BaseException as error:
            self._note_failure(type(error))
            await self.give_up()
            raise
        return self

    def _note_failure(self, kind: type[BaseException] | None) -> None:
        if self.keep_after_failure and kind is not None and issubclass(kind, Exception):
            self.keep_data = True

    async def give_up(self) -> None:
        """After a start that failed: stop the cluster, unless some of it ran before (then it is somebody's)."""
        if self._found_running:
            await self.close()
        else:
            await self.stop()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._note_failure(kind)
        await self.stop()

    async def start(self) -> tuple[str, ...]:
        """Start every process that does not run; returns their names. Does not wait until they are ready."""
        started = []
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._file.lock():
            found = self._file.load()
            self._found_running = found is not None and any(member.alive for member in found.members)
            record = plan(self.data, found, self._wanted, self._ports)
            self._file.save(record)
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
            self._remove_data()

    def _remove_data(self) -> None:
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

    async def wait_serving(self, name: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until that process, and no other one at its address, accepts connections; whether there is a majority is
        another question.

        Raises ``StartupError`` with the last log lines of one that died, ``TimeoutError_``.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            member = self._member(name)
            if listens(member.process, int((member.address or member.http).rpartition(":")[2])):
                return
            if not member.alive:
                raise StartupError(f"{name} ended; the end of {member.log}:\n{last_lines(Path(member.log))}")
            if time.monotonic() > deadline:
                raise TimeoutError_(f"{name} does not serve after {timeout_s:g} s; its log is {member.log}")
            await asyncio.sleep(0.05)

    def last_words(self, peer: str) -> str:
        """The end of its log, if its process has ended; else nothing."""
        member = self._member(peer, "peer")
        return "" if member.alive else last_lines(Path(member.log), 3)

    restart_peer = restart
    restart_agent = restart

    async def rolling_restart(self, *, timeout_s: float = READY_TIMEOUT_S) -> tuple[str, ...]:
        """Restart every peer, the leader last, each only when all are back; see ``ops.rolling``. No call fails."""
        return await restart_all(self, timeout_s=timeout_s)

    # ------------------------------------------------------------------------ changing its peers

    async def add_peer(self) -> str:
        """One peer more; returns its id. Raises what ``Client.change_peers`` raises; then there is none."""
        member = self._place_peer()
        try:
            await self._change_peers({member.name: member.address}, [])
        except BaseException:
            await self._forget_peer(member.name)
            raise
        return member.name

    async def take_in(self, *peers: str) -> None:
        """Start these, whose directories are empty, and add them to the peers that the cluster has now."""
        added = {peer: self.address_of(peer) for peer in peers}
        for peer in peers:
            await self.restart(peer)
        await self.leader()
        if added:
            await self._change_peers(added, [])

    async def remove_peer(self, peer: str) -> None:
        """One peer less, dead or alive; it ends by itself. Its data stays."""
        self._member(peer, "peer")
        await self._change_peers({}, [peer])
        await self._forget_peer(peer)

    async def replace_peer(self, peer: str) -> str:
        """Another peer in the place of this one, which may be dead; returns the new one's id."""
        self._member(peer, "peer")
        member = self._place_peer()
        try:
            await self._change_peers({member.name: member.address}, [peer])
        except BaseException:
            await self._forget_peer(member.name)
            raise
        await self._forget_peer(peer)
        return member.name

    def _place_peer(self) -> Member:
        """Start a newcomer, which waits to be taken in."""
        with self._file.lock():
            record = self.record
            member = self._spawn(newcomer(self.data, record, self._wanted, self._ports))
            self._file.save(record.replacing(member))
        return member

    async def _change_peers(self, add: dict[str, str], remove: list[str]) -> None:
        """Repeated while the newcomer is still starting: until then nothing changes."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        request_id = secrets.token_hex(16)
        while True:
            try:
                await self.client.change_peers(add, remove, request_id=request_id)
                return
            except PreconditionError:
                if not add or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    async def _forget_peer(self, peer: str) -> None:
        member = self._member(peer, "peer")
        if member.alive:
            with contextlib.suppress(TimeoutError_):
                await gone(member.process, RETIRE_S)
            await end([member.process])
        with self._file.lock():
            self._file.save(self.record.without(peer))

    # ------------------------------------------------------------------------ inside

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
