"""``FaultyCluster``: a throw-away ``LocalCluster`` whose links, disks and engine can be hurt.

Owns: making links, disks and an engine before the cluster starts, and taking them down after it has stopped. Leaves to
others: how each is hurt (``drill_links``, ``drill_disks``, ``own_engine``). The rule: it runs in namespaces of its own
(``drill_needs.prepare``).

    DATA/disks/p1.ext4   mounted at DATA/disks/p1;   DATA/peers/p1 -> DATA/disks/p1/data
    DATA/engine/         of the engine; ``DOCKER_HOST`` of this process and its children says so while it runs
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence

from orchestrator.contract.errors import PreconditionError
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.drill_disks import Disk
from orchestrator.ops.drill_links import Links
from orchestrator.ops.own_engine import OwnEngine
from orchestrator.ops.processes import gone, send

HOST = "DOCKER_HOST"


class FaultyCluster(LocalCluster):
    """``links``: each direction between two peers can be cut; ``disks``: each peer's data is on a disk of its own;
    ``engine``: its containers run on an engine of its own, that keeps them over a restart or (``live_restore`` False)
    does not."""

    def __init__(
        self,
        peers: int = 3,
        agents: int = 2,
        *,
        driver: str = "process",
        fast_failover: bool = False,
        links: bool = False,
        disks: bool = False,
        engine: bool = False,
        live_restore: bool = True,
    ) -> None:
        super().__init__(peers, agents, driver=driver, fast_failover=fast_failover, links=links)
        self._links = Links() if links else None
        names = [f"p{number}" for number in range(1, peers + 1)] if disks else []
        self._disks = {name: Disk(self.data / "disks" / f"{name}.ext4", self.data / "disks" / name) for name in names}

        self._engine = None
        if engine:
            self._engine = OwnEngine(self.data / "engine", live_restore=live_restore, logs=self.data / "logs")
        self._host_before = os.environ.get(HOST)

    @property
    def engine(self) -> OwnEngine:
        if self._engine is None:
            raise PreconditionError("this cluster was made without an engine of its own")
        return self._engine

    @property
    def links(self) -> Links:
        if self._links is None:
            raise PreconditionError("this cluster was made without links that can be cut")
        return self._links

    def disk(self, peer: str) -> Disk:
        found = self._disks.get(peer)
        if found is None:
            raise PreconditionError(f"{peer} has no disk of its own in this cluster")
        return found

    async def start(self) -> tuple[str, ...]:
        for name, disk in self._disks.items():
            if not disk.root.exists():
                await asyncio.to_thread(disk.make)
                directory = self.peer_directory(name)
                directory.parent.mkdir(parents=True, exist_ok=True)
                directory.symlink_to(disk.home)
        if self._engine is not None and not self._engine.pid:
            await self._engine.start()
            os.environ[HOST] = self._engine.host
        return await super().start()

    async def stop(self) -> None:
        if self._engine is not None and self._engine.pid:
            self._engine.resume()  # or its containers cannot be removed through it
        try:
            await super().stop()
        finally:
            if self._engine is not None:
                await self._engine.stop()
                if self._host_before is None:
                    os.environ.pop(HOST, None)
                else:
                    os.environ[HOST] = self._host_before

    def _remove_data(self) -> None:
        for disk in self._disks.values():
            disk.unmount()
        super()._remove_data()

    async def cut_power(self, peers: Sequence[str]) -> None:
        """Of these machines at one moment. Nobody is told: their connections do not end, they fall silent."""
        members = [member for member in self.peers if member.name in peers]
        for member in members:
            others = [name for name in self.peer_names() if name != member.name]
            self.links.silence(member.name, int(member.address.rpartition(":")[2]), others)
        for member in members:
            self.disk(member.name).lose_power()
        for member in members:
            send(member.process, signal.SIGKILL)  # it may have noticed its disk, and be gone already
        for member in members:
            await gone(member.process)

    async def boot(self, peers: Sequence[str]) -> None:
        """These machines after a power cut, with what their disks kept. Raises ``RaftsmanError`` where that is all."""
        for peer in peers:
            await asyncio.to_thread(self.disk(peer).power_on)
        await asyncio.to_thread(self.links.heal)
        for peer in peers:
            await self.restart(peer)
