"""Real peer processes for the integration tests: start, kill, restart, and wait until they are ready.

The rule: every process is ended by the test that started it, and waiting is always for a condition.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio
import psutil

from orchestrator.contract.channel import TlsFiles, dial
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1 import control_pb2_grpc as rpc
from orchestrator.ops import certs

T = TypeVar("T")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


async def eventually(check: Callable[[], Awaitable[T | None]], *, within_s: float = 20.0) -> T:
    """The first true answer of ``check``."""
    deadline = time.monotonic() + within_s
    while True:
        found = await check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing of the kind within {within_s} s (last: {found!r})")
        await asyncio.sleep(0.05)


class PeerCluster:
    """``count`` peers on loopback, insecure or with certificates below ``directory/certs``."""

    def __init__(self, directory: Path, *, count: int = 3, secure: bool = False, flags: Sequence[str] = ()) -> None:
        self.directory = directory
        self.secure = secure
        self.flags = tuple(flags)
        ports = free_ports(2 * count)
        self.ids = [f"p{number + 1}" for number in range(count)]
        self.addresses = {peer: f"127.0.0.1:{ports[number]}" for number, peer in enumerate(self.ids)}
        self.http = {peer: f"127.0.0.1:{ports[count + number]}" for number, peer in enumerate(self.ids)}
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.channels: list[grpc.aio.Channel] = []
        if secure:
            certs.create_authority(directory / "certs", "raftsman")
            for peer in self.ids:
                certs.issue(directory / "certs", "peer", peer)
            certs.issue(directory / "certs", "client", "admin")

    def tls(self, kind: str = "client", name: str = "admin") -> TlsFiles | None:
        return TlsFiles.in_directory(self.directory / "certs" / f"{kind}s" / name) if self.secure else None

    def argv(self, peer: str) -> list[str]:
        security = ["--tls", str(self.directory / "certs" / "peers" / peer)] if self.secure else ["--insecure"]
        everybody = ",".join(f"{one}={address}" for one, address in self.addresses.items())
        return [
            sys.executable, "-m", "orchestrator.daemon", "--id", peer, "--peers", everybody,
            "--listen", self.addresses[peer], "--http", self.http[peer],
            "--data", str(self.directory / peer), *security, *self.flags,
        ]  # fmt: skip

    async def place(self, peer: str) -> str:
        """Start a newcomer with an empty data directory, which lists the present peers and itself; its address, once it
        has found out that it must wait to be taken in (one with the id of a peer: once it answers)."""
        port, http = free_ports(2)
        self.http[peer] = f"127.0.0.1:{http}"
        self.addresses[peer] = f"127.0.0.1:{port}"
        known = peer in self.ids
        if not known:
            self.ids.append(peer)
            if self.secure:
                certs.issue(self.directory / "certs", "peer", peer)
        await self.start(peer)
        stub = self.control(peer)

        async def waits() -> bool:
            try:
                answer = await stub.ClusterStatus(
                    pb.ClusterStatusRequest(read={"stale": True}), timeout=2, wait_for_ready=True
                )
            except grpc.aio.AioRpcError:
                return False
            return known or "`raftsman peers add" in answer.waits_for

        await eventually(waits)
        return self.addresses[peer]

    def dismiss(self, peer: str) -> None:
        """The peer was removed: whoever is started from now on does not list it."""
        self.ids.remove(peer)
        del self.addresses[peer]

    async def ended(self, peer: str, *, within_s: float = 30.0) -> int:
        """The exit status of a process that ends by itself."""
        process = self.processes.pop(peer)
        try:
            async with asyncio.timeout(within_s):
                return await process.wait()
        except TimeoutError:
            process.kill()
            raise AssertionError(f"{peer} did not end:\n{self.log(peer)[-3000:]}") from None

    async def start(self, peer: str) -> None:
        log = (self.directory / f"{peer}.log").open("ab")
        try:
            self.processes[peer] = await asyncio.create_subprocess_exec(
                *self.argv(peer), stdout=log, stderr=log, start_new_session=True
            )
        finally:
            log.close()

    async def kill(self, peer: str) -> None:
        process = self.processes.pop(peer)
        process.kill()
        await process.wait()

    def log(self, peer: str) -> str:
        return (self.directory / f"{peer}.log").read_text()

    def channel(self, peer: str, tls: TlsFiles | None = None) -> grpc.aio.Channel:
        channel = dial(self.addresses[peer], tls if tls is not None else self.tls())
        self.channels.append(channel)
        return channel

    def control(self, peer: str, tls: TlsFiles | None = None) -> rpc.ControlStub:
        return rpc.ControlStub(self.channel(peer, tls))

    async def leader(self, *, among: Sequence[str] | None = None, within_s: float = 30.0) -> str:
        """The peer that every asked peer calls leader, once they agree and it answers fresh reads."""
        peers = list(among or self.ids)
        stubs = {peer: self.control(peer) for peer in peers}

        async def agreed() -> str | None:
            found: set[str] = set()
            for peer in peers:
                try:
                    answer = await stubs[peer].ClusterStatus(
                        pb.ClusterStatusRequest(read={"stale": True}), timeout=2, wait_for_ready=True
                    )
                except grpc.aio.AioRpcError:
                    return None
                found.add(answer.leader_id)
            if len(found) != 1 or not (name := found.pop()) or name not in peers:
                return None
            try:
                await stubs[name].ClusterStatus(pb.ClusterStatusRequest(), timeout=2)
            except grpc.aio.AioRpcError:
                return None
            return name

        return await eventually(agreed, within_s=within_s)

    async def stop(self) -> None:
        for channel in self.channels:
            await channel.close(None)
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for peer, process in self.processes.items():
            try:
                async with asyncio.timeout(10):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
                raise AssertionError(f"{peer} did not end after SIGTERM:\n{self.log(peer)[-3000:]}") from None


@contextlib.asynccontextmanager
async def peer_cluster(
    directory: Path, *, count: int = 3, secure: bool = False, flags: Sequence[str] = ()
) -> AsyncIterator[PeerCluster]:
    """A started cluster with a leader."""
    cluster = PeerCluster(directory, count=count, secure=secure, flags=flags)
    try:
        for peer in cluster.ids:
            await cluster.start(peer)
        await cluster.leader()
        yield cluster
    finally:
        await cluster.stop()


@contextlib.asynccontextmanager
async def agent(cluster: PeerCluster, name: str = "n1") -> AsyncIterator[asyncio.subprocess.Process]:
    """A running agent with the process driver, 2 cores and 2 GiB."""
    directory = cluster.directory
    security = ["--insecure"]
    if cluster.secure:
        security = ["--tls", str(certs.issue(directory / "certs", "agent", name))]
    log = (directory / f"{name}.log").open("ab")
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent.daemon", "--name", name, "--peers", ",".join(cluster.addresses.values()),
            "--data", str(directory / name), "--driver", "process", "--cpu", "2", "--memory", "2Gi", *security,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    finally:
        log.close()
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        kill_tasks(directory / name)


def kill_tasks(data: Path) -> None:
    """End what an agent on this data directory has left running, as agents do: its tasks outlive it."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(word.startswith(f"{data}/") for word in process.cmdline()):
                for child in (*process.children(recursive=True), process):
                    child.kill()
