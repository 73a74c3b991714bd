"""An agent behind a line that takes seconds for its assignments: it hears its answers meanwhile, and all of its set."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.contract.v1 import control_pb2 as pb
from tests.integration.agent_fakes import until
from tests.integration.peer_processes import PeerCluster
from tests.integration.test_agent_session import Stack

pytestmark = pytest.mark.cluster

BYTES_PER_S = 48 * 1024
CHUNK = 2 * 1024
INSTANCES, LONG = 30, 12_000
"""Together five times what goes through within the time that an agent waits for an answer."""


class SlowLine:
    """Passes bytes on to ``port``: those that come back no faster than ``BYTES_PER_S``."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            back, there = await asyncio.open_connection("127.0.0.1", self._port, limit=CHUNK)
            ways = [self._pass(reader, there, 0.0), self._pass(back, writer, CHUNK / BYTES_PER_S)]
            tasks = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            there.close()
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause_s: float) -> None:
        while data := await reader.read(CHUNK):
            await asyncio.sleep(pause_s * len(data) / CHUNK)
            writer.write(data)
            await writer.drain()


class Behind(PeerCluster):
    """One peer, which the others (nobody) and agents know by the line's address."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, count=1)
        self.listens = self.addresses["p1"]

    def argv(self, peer: str) -> list[str]:
        argv = super().argv(peer)
        argv[argv.index("--listen") + 1] = self.listens
        return argv


async def test_a_node_behind_a_slow_line_hears_its_answers_and_all_of_a_large_set(tmp_path: Path) -> None:
    cluster = Behind(tmp_path)
    port = int(cluster.listens.rpartition(":")[2])
    async with SlowLine(port).open() as address:
        cluster.addresses["p1"] = address
        try:
            await cluster.start("p1")
            await cluster.leader()
            task = {
                "name": "main", "driver": "fake", "command": ["run"], "env": {"LONG": "x" * LONG},
                "resources": {"cpu_millis": 10, "memory_mib": 8},
            }  # fmt: skip
            job = {"name": "wide", "groups": [{"name": "main", "count": INSTANCES, "tasks": [task]}]}
            control = cluster.control("p1")
            await control.SubmitJob(pb.SubmitJobRequest(job=job), timeout=30)
            agent = Stack(tmp_path / "data", (address,))
            await agent.start()
            try:
                await until(lambda: len(agent.driver.starts) == INSTANCES, "all of the set", deadline_s=60)
                (node,) = (await control.ListNodes(pb.ListNodesRequest(), timeout=30)).nodes
                assert (node.status, node.spec.id) == (1, agent.store.node_id)
                marked = await control.ListAllocations(pb.ListAllocationsRequest(job="wide"), timeout=30)
                assert {one.attempt for one in marked.allocations} == {1}, "none was placed anew"
            finally:
                await agent.close()
        finally:
            await cluster.stop()
