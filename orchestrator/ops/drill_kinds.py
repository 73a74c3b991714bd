"""The drills: what each one breaks, when it mends it, and what it must not cost.

Owns: the table of kinds. Leaves to others: how a process is hurt (``drill_target``), load and rounds (``drill``). A new
drill is one class and one line in ``KINDS``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from orchestrator.ops.drill_target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """``at_ns``: monotonic, just before the first signal was sent."""

    at_ns: int
    peers: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()


class Kind(Protocol):
    """``loses_node``: the node is gone for good as far as the cluster can know, so its services move.
    ``mends_first``: mended at once, not after the cluster has got over it."""

    loses_node: bool
    mends_first: bool
    strikes_agent: bool

    async def strike(self, target: Target, agent: str) -> Strike:
        """``agent`` is one that runs an instance of the service, for kinds that strike one ("" for others)."""

    async def mend(self, target: Target, strike: Strike) -> None: ...


class KillLeader:
    """The leader dies by SIGKILL and comes back once another one leads."""

    loses_node = mends_first = strikes_agent = False

    async def strike(self, target: Target, agent: str) -> Strike:
        leader = await target.leader()
        at_ns = time.monotonic_ns()
        await target.kill_peer(leader)
        return Strike(at_ns=at_ns, peers=(leader,))

    async def mend(self, target: Target, strike: Strike) -> None:
        for name in (*strike.peers, *strike.agents):
            await target.restart(name)


class KillAll(KillLeader):
    """Every peer dies at once; all are started again."""

    mends_first = True

    async def strike(self, target: Target, agent: str) -> Strike:
        peers = target.peer_names()
        at_ns = time.monotonic_ns()
        await asyncio.gather(*(target.kill_peer(peer) for peer in peers))
        return Strike(at_ns=at_ns, peers=peers)


class PauseLeader(KillLeader):
    """The leader stops hearing and speaking (SIGSTOP) until another one leads, and then goes on where it was."""

    async def strike(self, target: Target, agent: str) -> Strike:
        leader = await target.leader()
        at_ns = time.monotonic_ns()
        await target.pause_peer(leader)
        return Strike(at_ns=at_ns, peers=(leader,))

    async def mend(self, target: Target, strike: Strike) -> None:
        for peer in strike.peers:
            await target.resume_peer(peer)


class KillAgent(KillLeader):
    """An agent dies by SIGKILL and is back within the bound: what it ran must go on untouched."""

    mends_first = strikes_agent = True

    async def strike(self, target: Target, agent: str) -> Strike:
        at_ns = time.monotonic_ns()
        await target.kill_agent(agent)
        return Strike(at_ns=at_ns, agents=(agent,))


class LoseNode(KillLeader):
    """A machine loses power: agent and tasks are gone; its services must run elsewhere."""

    loses_node = strikes_agent = True

    async def strike(self, target: Target, agent: str) -> Strike:
        at_ns = time.monotonic_ns()
        await target.lose_node(agent)
        return Strike(at_ns=at_ns, agents=(agent,))


class KillHost(KillLeader):
    """A machine that held the leader and an agent loses power."""

    loses_node = strikes_agent = True

    async def strike(self, target: Target, agent: str) -> Strike:
        leader = await target.leader()
        at_ns = time.monotonic_ns()
        await asyncio.gather(target.kill_peer(leader), target.lose_node(agent))
        return Strike(at_ns=at_ns, peers=(leader,), agents=(agent,))


KINDS: Mapping[str, Kind] = {
    "kill-leader": KillLeader(),
    "kill-all": KillAll(),
    "pause-leader": PauseLeader(),
    "kill-agent": KillAgent(),
    "lose-node": LoseNode(),
    "kill-host": KillHost(),
}
