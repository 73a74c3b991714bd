"""``FaultyCluster``: a throw-away ``LocalCluster`` whose links and disks can be hurt.

Owns: making links and disks before the cluster starts, and taking them down after it has stopped. Leaves to others: how
each is hurt (``drill_links``, ``drill_disks``). The rule: it runs in namespaces of its own (``drill_needs.prepare``).

    DATA/disks/p1.ext4   mounted at DATA/disks/p1;   DATA/peers/p1 -> DATA/disks/p1/data
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

from orchestrator.contract.errors import PreconditionError
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.drill_disks import Disk
from orchestrator.ops.drill_links import Links
from orchestrator.ops.processes import gone, send


class FaultyCluster(LocalCluster):
    """``links``: each direction between two peers can be cut; ``disks``: each peer's data is on a disk of its own."""

    def __init__(
        self,
        peers: int = 3,
        agents: int = 2,
        *,
        driver: str = "process",
        fast_failover: bool = False,
        links: bool = False,
        disks: bool = False,
    ) -> None:
        super().__init__(peers, agents, driver=driver, fast_failover=fast_failover, links=links)
        self._links = Links() if links else None
        names = [f"p{number}" for number in range(1, peers + 1)] if disks else []
        self._disks = {name: Disk(self.data / "disks" / f"{name}.ext4", self.data / "disks" / name) for name in names}

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
        return await super().start()

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
