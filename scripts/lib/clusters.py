"""Clusters to measure: three processes on loopback, of Raftsman or of etcd, behind one face.

Owns: starting, killing and finding the leader of each, and one write (or many in one call) through gRPC's asyncio
client, the same for both. Leaves to others: what is measured, and to end all when the measurement is killed
(``keeper.kept``). The rule: both keep every acknowledged write on disk (fsync), both speak plain text on loopback, and
each process is ended by its id, which is noted in the cluster's folder while it runs.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import importlib
import os
import platform
import shutil
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio

from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1 import control_pb2_grpc as rpc
from scripts.lib.keeper import note

VALUE = "x" * 64
KEYS = 1_000
READY_S = 30.0
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # what one attempt may take
    ("grpc.max_reconnect_backoff_ms", 200),
)
INSTALL_ETCD = "apt-get update && apt-get install etcd-server"
MEMBERS = ("p1", "p2", "p3")

Write = Callable[[int, float], Awaitable[object]]
"""``write(number, timeout_s)``: one call; raises ``grpc.aio.AioRpcError``."""


class Cluster(Protocol):
    name: str

    async def start(self) -> None: ...
    async def start_member(self, member: str) -> None: ...
    async def kill_member(self, member: str) -> None: ...
    async def leader(self) -> str: ...
    def write(self, channel: grpc.aio.Channel) -> Write: ...
    def write_many(self, channel: grpc.aio.Channel, count: int) -> Write: ...
    def channel(self, member: str) -> grpc.aio.Channel: ...
    def cpu_s(self) -> float: ...
    async def stop(self) -> None: ...


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


async def eventually(check: Callable[[], Awaitable[str]], what: str) -> str:
    """The first non-empty answer."""
    try:
        async with asyncio.timeout(READY_S):
            while not (found := await check()):
                await asyncio.sleep(0.02)
            return found
    except TimeoutError:
        raise SystemExit(f"{what} within {READY_S:g} s") from None


def _environment() -> dict[str, str]:
    """Ours, but with byte code kept: an installed package has it, and a start without it costs half as much again.

    Whatever is missing is written by the first start, before anything is measured.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class _Processes(abc.ABC):
    """Three processes with a folder each; ``argv`` says how to start one."""

    name = ""

    def __init__(self, folder: Path, *, members: Sequence[str] = MEMBERS) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        ports = free_ports(2 * len(members))
        self.port = dict(zip(members, ports, strict=False))
        self.other_port = dict(zip(members, ports[len(members) :], strict=True))
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._notes: dict[str, Path] = {}
        self._channels: list[grpc.aio.Channel] = []

    @abc.abstractmethod
    def argv(self, member: str) -> list[str]: ...

    @abc.abstractmethod
    async def leader_seen_by(self, channel: grpc.aio.Channel) -> str: ...

    async def start(self) -> None:
        for member in self.port:
            await self.start_member(member)
        await self.leader()

    async def start_member(self, member: str) -> None:
        with (self.folder / f"{member}.log").open("ab") as log:
            self._running[member] = await asyncio.create_subprocess_exec(
                *self.argv(member), stdout=log, stderr=log, start_new_session=True, env=_environment()
            )
        self._notes[member] = note(member, self._running[member].pid, self.folder)

    async def kill_member(self, member: str) -> None:
        process = self._running.pop(member)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        self._notes.pop(member).unlink(missing_ok=True)

    def channel(self, member: str) -> grpc.aio.Channel:
        made = grpc.aio.insecure_channel(f"127.0.0.1:{self.port[member]}", options=CHANNEL_OPTIONS)
        self._channels.append(made)
        return made

    async def leader(self) -> str:
        """Once all running members name the same one."""
        channels = {member: self.channel(member) for member in self._running}

        async def agreed() -> str:
            found = set()
            for channel in channels.values():
                try:
                    found.add(await self.leader_seen_by(channel))
                except grpc.aio.AioRpcError:
                    return ""
            return found.pop() if len(found) == 1 else ""

        return await eventually(agreed, f"{self.name}: no leader that all members name")

    def cpu_s(self) -> float:
        """Processor seconds that the running members have used."""
        return sum(self.cpu_s_of_each().values())

    def cpu_s_of_each(self) -> dict[str, float]:
        """The same, by member."""
        used = {}
        for member, process in self._running.items():
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            used[member] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return used

    async def stop(self) -> None:
        for channel in self._channels:
            await channel.close(None)
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        for file in self._notes.values():
            file.unlink(missing_ok=True)
        self._running.clear()
        self._notes.clear()


class Raftsman(_Processes):
    name = "raftsman"

    def __init__(self, folder: Path, *, fast_failover: bool = False, members: int = len(MEMBERS)) -> None:
        super().__init__(folder, members=[f"p{number + 1}" for number in range(members)])
        self._flags = ["--fast-failover"] if fast_failover else []

    def argv(self, member: str) -> list[str]:
        everybody = ",".join(f"{one}=127.0.0.1:{port}" for one, port in self.port.items())
        return [
            sys.executable, "-m", "orchestrator.daemon", "--id", member, "--peers", everybody, "--insecure",
            "--listen", f"127.0.0.1:{self.port[member]}", "--http", f"127.0.0.1:{self.other_port[member]}",
            "--data", str(self.folder / member), *self._flags,
        ]  # fmt: skip

    async def leader_seen_by(self, channel: grpc.aio.Channel) -> str:
        status = rpc.ControlStub(channel).ClusterStatus
        answer = await status(pb.ClusterStatusRequest(read=pb.ReadOptions(stale=True)), timeout=1)
        return answer.leader_id if all(peer.voter for peer in answer.peers) else ""

    def write(self, channel: grpc.aio.Channel) -> Write:
        put = rpc.ControlStub(channel).PutVariable

        def write(number: int, timeout_s: float) -> Awaitable[object]:
            name = f"bench-{number % KEYS}"
            called: Awaitable[object] = put(
                pb.PutVariableRequest(request_id=uuid.uuid4().hex, name=name, value=VALUE), timeout=timeout_s
            )
            return called

        return write

    def write_many(self, channel: grpc.aio.Channel, count: int) -> Write:
        put = rpc.ControlStub(channel).PutVariables

        def write(number: int, timeout_s: float) -> Awaitable[object]:
            writes = [{"name": f"bench-{at % KEYS}", "value": VALUE} for at in range(number, number + count)]
            called: Awaitable[object] = put(
                pb.PutVariablesRequest(request_id=uuid.uuid4().hex, writes=writes), timeout=timeout_s
            )
            return called

        return write


class Etcd(_Processes):
    """``election_ms`` and ``heartbeat_ms`` 0: etcd's defaults (1000 and 100)."""

    name = "etcd"

    def __init__(self, folder: Path, *, election_ms: int = 0, heartbeat_ms: int = 0) -> None:
        super().__init__(folder)
        self._flags = (
            [f"--election-timeout={election_ms}", f"--heartbeat-interval={heartbeat_ms}"] if election_ms else []
        )
        self._kv, self._kv_rpc = etcd_messages(folder)

    def argv(self, member: str) -> list[str]:
        def url(port: int) -> str:
            return f"http://127.0.0.1:{port}"

        cluster = ",".join(f"{one}={url(port)}" for one, port in self.other_port.items())
        client, peer = url(self.port[member]), url(self.other_port[member])
        return [
            "etcd", "--name", member, "--data-dir", str(self.folder / member), *self._flags,
            "--logger", "zap", "--log-level", "error", "--initial-cluster", cluster,
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        ]  # fmt: skip

    async def leader_seen_by(self, channel: grpc.aio.Channel) -> str:
        if not hasattr(self, "_ids"):
            self._ids: dict[int, str] = {}
        answer = await self._kv_rpc.MaintenanceStub(channel).Status(self._kv.StatusRequest(), timeout=1)
        if len(self._ids) < len(MEMBERS):
            await self._learn_ids()
        return self._ids.get(answer.leader, "")

    async def _learn_ids(self) -> None:
        for member in MEMBERS:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port[member]}") as channel:
                answer = await self._kv_rpc.MaintenanceStub(channel).Status(self._kv.StatusRequest(), timeout=1)
            self._ids[answer.header.member_id] = member

    def write(self, channel: grpc.aio.Channel) -> Write:
        put, kv = self._kv_rpc.KVStub(channel).Put, self._kv

        def write(number: int, timeout_s: float) -> Awaitable[object]:
            called: Awaitable[object] = put(
                kv.PutRequest(key=b"bench-%d" % (number % KEYS), value=VALUE.encode()), timeout=timeout_s
            )
            return called

        return write

    def write_many(self, channel: grpc.aio.Channel, count: int) -> Write:
        """As many puts, sent at once, each answered by itself: what is nearest to ``PutVariables``."""
        one = self.write(channel)

        async def write(number: int, timeout_s: float) -> object:
            return await asyncio.gather(*(one(at, timeout_s) for at in range(number, number + count)))

        return write

    def write_transaction(self, channel: grpc.aio.Channel, count: int) -> Write:
        """All in one transaction: one entry of the log, all or none, of different keys."""
        txn, kv = self._kv_rpc.KVStub(channel).Txn, self._kv

        def write(number: int, timeout_s: float) -> Awaitable[object]:
            puts = (
                kv.PutRequest(key=b"bench-%d" % (at % KEYS), value=VALUE.encode())
                for at in range(number, number + count)
            )
            called: Awaitable[object] = txn(
                kv.TxnRequest(success=[kv.RequestOp(request_put=put) for put in puts]), timeout=timeout_s
            )
            return called

        return write


def etcd_messages(folder: Path) -> tuple[Any, Any]:
    """The messages and stubs of ``kv.proto``, compiled into ``folder``."""
    if "kv_pb2" not in sys.modules:
        from grpc_tools import protoc

        made = Path(tempfile.mkdtemp(dir=folder))
        here = Path(__file__).parent
        if protoc.main(["", f"-I{here}", f"--python_out={made}", f"--grpc_python_out={made}", str(here / "kv.proto")]):
            raise SystemExit("scripts/lib/kv.proto does not compile")
        sys.path.insert(0, str(made))
    return importlib.import_module("kv_pb2"), importlib.import_module("kv_pb2_grpc")


def has_etcd() -> bool:
    """Whether etcd can be measured, too; says on stderr when not."""
    if shutil.which("etcd"):
        return True
    print(f"etcd is not installed: measuring Raftsman alone ({INSTALL_ETCD})", file=sys.stderr)
    return False


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is at least as large as ``share`` of all (exact, nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(share * 1000) // 1000) - 1)]


def machine(load: tuple[float, float, float]) -> dict[str, object]:
    """What to tell beside every figure; ``load`` as ``os.getloadavg`` gave it before."""
    return {"cpus": os.cpu_count(), "python": platform.python_version(), "load_before": round(load[0], 2)}
