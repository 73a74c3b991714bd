"""What a placement policy is, and what it is given.

Owns: the protocol. Leaves to others: feasibility, committing, caching (``solve``), each policy's idea (``policies``).
The rule for a new policy: one file in ``policies`` and one line in ``registry``; ``place_many`` gives exactly what as
many calls of ``choose`` would, only faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import Int64Array, Wish

NOWHERE = np.iinfo(np.int64).min
"""The score of a node on which a wish does not fit."""


@dataclass(slots=True, kw_only=True)
class Turn:
    """What a policy may know of the job group that is being placed; the solver keeps it up to date.

    counts: int64 per node, live allocations of the group there; last: number of the node that the group's latest
    placement went to, -1 = none.
    """

    counts: Int64Array
    last: int


class Policy(Protocol):
    """A way of choosing nodes. Scores are whole numbers, higher is better; of equal ones the lowest node wins."""

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str:
        """What it does, in one short line without a full stop."""
        ...

    @property
    def knows_groups(self) -> bool:
        """Whether ``Turn`` matters. If not, equal wishes of different jobs are placed in one go."""
        ...

    @property
    def big_first(self) -> bool:
        """Whether asks of one priority are served by size, largest first, and not as they came."""
        ...

    @property
    def fullest_first(self) -> bool:
        """Whether instances that want cpu, memory and disk alone go to the node that is fullest afterwards
        (``scoring.utilisation``), to nodes with devices only when no other has room: those are placed in batches."""
        ...

    def scores(self, problem: Problem, wish: Wish, nodes: Int64Array) -> Int64Array:
        """Of the given nodes, on each of which one more instance fits, before it is placed. Must depend on nothing but
        the node's own capacity and free room, because it is cached until the node is touched."""
        ...

    def choose(self, scores: Int64Array, turn: Turn) -> int:
        """The node for one instance, given the scores of all (NOWHERE where it does not fit, somewhere it does)."""
        ...

    def place_many(
        self, problem: Problem, wish: Wish, scores: Int64Array, times: Int64Array, wanted: int, turn: Turn
    ) -> Int64Array:
        """The nodes for up to ``wanted`` instances of a plain wish, in order; ``times``: how often it fits on each."""
        ...


@runtime_checkable
class PicksDevices(Protocol):
    """A policy that chooses the devices inside the node, too; of others the best-linked ones are taken."""

    def devices(self, problem: Problem, wish: Wish, node: int) -> tuple[int, ...]:
        """Numbers of the devices for one instance, which fits there and is placed there next; () leaves them to the
        links."""
        ...


def picked(policy: Policy, problem: Problem, wish: Wish, node: int) -> tuple[int, ...]:
    """The devices that the policy picks; () leaves them to the links."""
    return policy.devices(problem, wish, node) if isinstance(policy, PicksDevices) else ()
