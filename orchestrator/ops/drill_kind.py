"""What a drill is: ``Kind``, what it breaks and mends, and ``Strike``, what it broke.

Owns: the base class and its choices. Leaves to others: the kinds themselves (``drill_kinds`` lists them), what they
need from the machine (``drill_needs``), rounds and load (``drill``). The rule: a kind that sees the broken thing behave
otherwise than promised raises ``BrokenPromiseError``; it never looks away.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from pathlib import Path

from orchestrator.contract.errors import PreconditionError, RaftsmanError
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.drill_cluster import FaultyCluster
from orchestrator.ops.drill_lives import Life
from orchestrator.ops.drill_needs import Need
from orchestrator.ops.drill_strace import Tracer
from orchestrator.ops.drill_target import Target

HOLD_S = 3.0
"""How long a fault lasts that nothing has to end: several elections."""


class BrokenPromiseError(RaftsmanError):
    """What was broken did not do what the manual says it does then."""

    reason = "PROMISE_BROKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """``at_ns``: monotonic, just before the first signal was sent. ``how``: details for people."""

    at_ns: int
    peers: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    how: str = ""
    tracer: Tracer | None = None
    """What is still attached to a process, and ends with the mending."""
    life: Life | None = None
    """The mending begins another life of the cluster: how the one before ended."""
    restarts: tuple[str, ...] = ()
    """Instances (``namespace/job/group/ordinal``, as the engine's labels have it) that it made start once more."""
    file: Path | None = None
    """The backup that the mending restores."""


class Kind(abc.ABC):
    """One drill; stateless, so one object serves every run."""

    loses_node = False
    """The node is gone for good as far as the cluster can know, so its services move."""
    mends_first = False
    """Mended at once, not after the cluster has got over it."""
    strikes_agent = False
    watches_engine = False
    """What the engine runs is held against what the control plane believes until both are the same again."""
    gradual = False
    """Bites late or more than once: unavailable is the longest time without an acknowledged write until all is whole
    again, not the time from the strike to the next one."""
    hold_s = 0.0
    """The fault lasts at least so long, under load."""
    peers = 3
    """Of a throw-away cluster, unless the operator says otherwise."""
    needs: frozenset[Need] = frozenset()

    @abc.abstractmethod
    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        """``agent``: one that runs an instance of the service, for kinds that strike one ("" for others). ``number``:
        of the round, from 1."""

    async def mend(self, target: Target, strike: Strike) -> None:
        """Start again what was ended."""
        for name in (*strike.peers, *strike.agents):
            await target.restart(name)


def local(target: Target) -> LocalCluster:
    """The cluster, if its processes and files are this machine's."""
    if not isinstance(target, LocalCluster):
        raise PreconditionError("this drill works on processes and files of this machine; --throwaway makes them")
    return target


def faulty(target: Target) -> FaultyCluster:
    """The cluster, if it was made to have its links and disks hurt."""
    if not isinstance(target, FaultyCluster):
        raise PreconditionError("this drill needs links or disks of its own; --throwaway makes a cluster that has them")
    return target
