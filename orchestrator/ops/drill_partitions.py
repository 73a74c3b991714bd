"""Drills that cut links between peers: which directions, per kind.

Owns: the kinds and their plans, which are pure. Leaves to others: dropping packets (``drill_links``). The rule:
clients, agents and services reach every peer all the while, so whatever goes wrong is the peers' doing; a cut that
swallowed nothing is no drill.
"""

from __future__ import annotations

import abc
import asyncio
import time
from collections.abc import Sequence

from orchestrator.ops.drill_kind import HOLD_S, BrokenPromiseError, Kind, Strike, faulty
from orchestrator.ops.drill_needs import Need
from orchestrator.ops.drill_target import Target

Way = tuple[str, str]
"""What the first peer says to the second."""


class Partition(Kind):
    """Cut at once, healed together."""

    gradual = True
    hold_s = HOLD_S
    needs = frozenset({Need.FILES, Need.LINKS})

    @abc.abstractmethod
    def ways(self, leader: str, others: Sequence[str]) -> list[Way]:
        """What to cut. ``others`` in a stable order."""

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        cluster = faulty(target)
        leader = await cluster.leader()
        others = [peer for peer in cluster.peer_names() if peer != leader]
        ways = self.ways(leader, others)
        at_ns = time.monotonic_ns()
        await asyncio.to_thread(cluster.links.cut, ways)
        return Strike(at_ns=at_ns, peers=(leader,), how=f"{len(ways)} ways cut")

    async def mend(self, target: Target, strike: Strike) -> None:
        links = faulty(target).links
        dropped = await asyncio.to_thread(links.dropped)
        await asyncio.to_thread(links.heal)
        if not dropped:
            raise BrokenPromiseError("the cut swallowed not one packet: peers did not use the links that were cut")


class PartitionHalf(Partition):
    """The leader with as many others as make no majority on one side, the majority on the other."""

    peers = 5

    def ways(self, leader: str, others: Sequence[str]) -> list[Way]:
        beside = max(0, len(others) // 2 - 1)  # of 5 peers one, of 3 none
        return both_ways([leader, *others[:beside]], others[beside:])


class PartitionLeader(Partition):
    """The leader alone; clients still reach it."""

    def ways(self, leader: str, others: Sequence[str]) -> list[Way]:
        return both_ways([leader], others)


class PartitionOneWay(Partition):
    """One direction of one link: what the leader says does not reach one follower, whose votes and calls reach all."""

    def ways(self, leader: str, others: Sequence[str]) -> list[Way]:
        return [(leader, others[0])]


class PartitionDeaf(Partition):
    """The leader is heard and hears nobody: its heartbeats hold back elections, its entries are never acknowledged."""

    def ways(self, leader: str, others: Sequence[str]) -> list[Way]:
        return [(other, leader) for other in others]


def both_ways(some: Sequence[str], others: Sequence[str]) -> list[Way]:
    return [way for one in some for other in others for way in ((one, other), (other, one))]
