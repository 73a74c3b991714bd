"""The drills: those that end, pause and lose whole processes, and the table of all.

Owns: those kinds and ``KINDS``. Leaves to others: partitions, storage, lost majorities and engines
(``drill_partitions``, ``drill_storage``, ``drill_rescue``, ``drill_engines``), how a process is hurt
(``drill_target``), load and rounds (``drill``). A new drill is one class and one line in ``KINDS``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from orchestrator.ops.drill_engines import ContainerRemoved, EngineKill, EnginePause
from orchestrator.ops.drill_kind import Kind, Strike, local
from orchestrator.ops.drill_needs import Need
from orchestrator.ops.drill_partitions import PartitionDeaf, PartitionHalf, PartitionLeader, PartitionOneWay
from orchestrator.ops.drill_rescue import BackupRestore, Recover
from orchestrator.ops.drill_storage import (
    DiskFull,
    FlipBit,
    FsyncError,
    PowerCutAll,
    PowerCutOne,
    SlowDisk,
    WipePeer,
)
from orchestrator.ops.drill_target import Target


class KillLeader(Kind):
    """The leader dies by SIGKILL and comes back once another one leads."""

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        leader = await target.leader()
        at_ns = time.monotonic_ns()
        await target.kill_peer(leader)
        return Strike(at_ns=at_ns, peers=(leader,))


class KillAll(Kind):
    """Every peer dies at once; all are started again."""

    mends_first = True

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        peers = target.peer_names()
        at_ns = time.monotonic_ns()
        await asyncio.gather(*(target.kill_peer(peer) for peer in peers))
        return Strike(at_ns=at_ns, peers=peers)


class PauseLeader(Kind):
    """The leader stops hearing and speaking (SIGSTOP) until another one leads, and then goes on where it was."""

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        leader = await target.leader()
        at_ns = time.monotonic_ns()
        await target.pause_peer(leader)
        return Strike(at_ns=at_ns, peers=(leader,))

    async def mend(self, target: Target, strike: Strike) -> None:
        for peer in strike.peers:
            await target.resume_peer(peer)


class KillAgent(Kind):
    """An agent dies by SIGKILL and is back within the bound: what it ran must go on untouched."""

    mends_first = strikes_agent = True

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        at_ns = time.monotonic_ns()
        await target.kill_agent(agent)
        return Strike(at_ns=at_ns, agents=(agent,))


class LoseNode(Kind):
    """A machine loses power: agent and tasks are gone; its services must run elsewhere."""

    loses_node = strikes_agent = True

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        at_ns = time.monotonic_ns()
        await target.lose_node(agent)
        return Strike(at_ns=at_ns, agents=(agent,))


class KillHost(Kind):
    """A machine that held the leader and an agent loses power."""

    loses_node = strikes_agent = True

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        leader = await target.leader()
        at_ns = time.monotonic_ns()
        await asyncio.gather(target.kill_peer(leader), target.lose_node(agent))
        return Strike(at_ns=at_ns, peers=(leader,), agents=(agent,))


class ReplacePeer(Kind):
    """A peer's machine is lost for ever, the leader's in every other round; a new peer takes its place."""

    needs = frozenset({Need.FILES})

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        leader = await target.leader()
        followers = [peer for peer in local(target).peer_names() if peer != leader]
        peer = leader if number % 2 or not followers else followers[number % len(followers)]
        at_ns = time.monotonic_ns()
        await target.kill_peer(peer)
        return Strike(at_ns=at_ns, peers=(peer,))

    async def mend(self, target: Target, strike: Strike) -> None:
        for peer in strike.peers:
            await local(target).replace_peer(peer)


KINDS: Mapping[str, Kind] = {
    "kill-leader": KillLeader(),
    "kill-all": KillAll(),
    "pause-leader": PauseLeader(),
    "kill-agent": KillAgent(),
    "lose-node": LoseNode(),
    "kill-host": KillHost(),
    "partition-half": PartitionHalf(),
    "partition-leader": PartitionLeader(),
    "partition-one-way": PartitionOneWay(),
    "partition-deaf": PartitionDeaf(),
    "power-cut-one": PowerCutOne(),
    "power-cut-all": PowerCutAll(),
    "disk-full": DiskFull(),
    "fsync-error": FsyncError(),
    "slow-disk": SlowDisk(),
    "flip-bit": FlipBit(),
    "wipe-peer": WipePeer(),
    "replace-peer": ReplacePeer(),
    "backup-restore": BackupRestore(),
    "recover": Recover(),
    "engine-kill": EngineKill(),
    "engine-pause": EnginePause(),
    "container-removed": ContainerRemoved(),
}
