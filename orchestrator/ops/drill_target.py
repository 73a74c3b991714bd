"""Clusters that a drill may hurt: what it needs to do to one, and compose's containers as such a cluster.

Owns: the ``Target`` protocol and ``ComposeCluster``. ``LocalCluster`` is a target as it is. The rule: a drill names the
process that it kills, and finds it by what the operator's tools recorded, never by searching for something similar.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Protocol

from orchestrator.client.aio import Client
from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.errors import NotFoundError, RaftsmanError, TimeoutError_
from orchestrator.ops.engine import Container, Engine
from orchestrator.ops.leftovers import CLUSTER_LABEL, NODE_LABEL, running

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
AGENT_FILE = "/data/agent.json"
"""Where an agent in a container says which node it is."""


class Target(Protocol):
    """A cluster whose processes can be hurt. Peers and agents go by the names that the API shows."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """``host:port`` of every peer, as clients reach it."""

    @property
    def tls(self) -> TlsFiles: ...

    def new_client(self) -> Client: ...

    def peer_names(self) -> tuple[str, ...]: ...

    def agent_names(self) -> tuple[str, ...]: ...

    async def leader(self, timeout_s: float = 30.0) -> str: ...

    async def kill_peer(self, peer: str) -> None: ...

    async def pause_peer(self, peer: str) -> None: ...

    async def resume_peer(self, peer: str) -> None: ...

    async def kill_agent(self, agent: str) -> None: ...

    async def lose_node(self, agent: str) -> None:
        """As a power cut: the agent and all that it runs."""

    async def restart(self, name: str) -> None: ...

    def last_words(self, peer: str) -> str:
        """With what it ended, if its process has ended and where its log can be read; else nothing."""


class ComposeCluster:
    """The containers of a compose project, found by compose's own labels; hurt through the engine."""

    def __init__(self, project: str, endpoints: tuple[str, ...], tls: TlsFiles) -> None:
        self.project = project
        self.endpoints, self.tls = endpoints, tls
        self._engine = Engine()
        self._peers: dict[str, str] = {}
        self._agents: dict[str, str] = {}
        self._node_ids: dict[str, str] = {}
        self._cluster_id = ""

    @classmethod
    async def find(cls, endpoints: tuple[str, ...], tls: TlsFiles) -> ComposeCluster:
        """The project that wrote the operator's certificate: its one-shot service mounts that folder.

        Raises ``NotFoundError``.
        """
        folder = str(tls.cert.resolve().parent)
        async with Engine() as engine:
            found = await engine.containers({PROJECT_LABEL: ""})
        project = next((c.labels[PROJECT_LABEL] for c in found if folder in c.mounts), None)
        if project is None:
            raise NotFoundError(f"no compose project on this engine uses {folder}; drill where compose runs it")
        here = [c for c in found if c.labels[PROJECT_LABEL] == project]
        cluster = cls(project, endpoints, tls)
        await cluster._look(here)
        return cluster

    async def _look(self, containers: list[Container]) -> None:
        async with self.new_client() as client:
            status = await client.cluster_status()
            nodes = (await client.list_nodes()).nodes
        self._cluster_id = status.cluster_id
        by_service = {c.labels.get(SERVICE_LABEL, ""): c.id for c in containers}
        self._peers = {peer.id: by_service[peer.id] for peer in status.peers if peer.id in by_service}
        names = {node.spec.id: node.spec.name for node in nodes}
        for container in containers:
            if container.running and container.labels.get(SERVICE_LABEL, "").startswith("agent"):
                node_id = json.loads(await self._engine.read_file(container.id, AGENT_FILE))["node_id"]
                if node_id in names:
                    self._agents[names[node_id]] = container.id
                    self._node_ids[names[node_id]] = node_id
        if len(self._peers) != len(status.peers):
            raise NotFoundError(f"compose project {self.project} does not contain every peer of the cluster")

    def new_client(self) -> Client:
        return Client(self.endpoints, tls=self.tls)

    def peer_names(self) -> tuple[str, ...]:
        return tuple(sorted(self._peers))

    def agent_names(self) -> tuple[str, ...]:
        return tuple(sorted(self._agents))

    async def leader(self, timeout_s: float = 30.0) -> str:
        deadline = time.monotonic() + timeout_s
        async with self.new_client() as client:
            while True:
                with contextlib.suppress(RaftsmanError):
                    leader = (await client.cluster_status()).leader_id
                    if leader in self._peers:
                        return leader
                if time.monotonic() > deadline:
                    raise TimeoutError_(f"no leader within {timeout_s:g} s")
                await asyncio.sleep(0.05)

    async def kill_peer(self, peer: str) -> None:
        await self._engine.kill(self._peers[peer])

    async def pause_peer(self, peer: str) -> None:
        await self._engine.pause(self._peers[peer])

    async def resume_peer(self, peer: str) -> None:
        await self._engine.unpause(self._peers[peer])

    async def kill_agent(self, agent: str) -> None:
        await self._engine.kill(self._agents[agent])

    async def lose_node(self, agent: str) -> None:
        await self.kill_agent(agent)
        labels = {CLUSTER_LABEL: self._cluster_id, NODE_LABEL: self._node_ids[agent]}
        tasks = running(await self._engine.containers(labels))
        await asyncio.gather(*(self._engine.kill(container.id) for container in tasks))

    async def restart(self, name: str) -> None:
        await self._engine.start((self._peers | self._agents)[name])

    def last_words(self, peer: str) -> str:
        return ""

    async def close(self) -> None:
        await self._engine.__aexit__()
