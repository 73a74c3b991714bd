"""Choosing nodes for instances that prefer some: the best preferred ones first, and among them the policy's choice.

Owns: narrowing the nodes down for one instance, and the closed forms for many where nothing that is preferred changes,
or nothing but that a node takes one instance (``Preferences.apart``).
Leaves to others: the preferences themselves (``preferences``), what fits (``solve``'s scores). The rule: ``many`` gives
exactly what as many calls of ``one`` would.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.filters import ENDLESS, times_that_fit
from orchestrator.scheduling.policy import NOWHERE, Policy, Turn
from orchestrator.scheduling.preferences import moving, steady, together
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import BoolArray, Int64Array, Wish


class Preferring:
    """For one ask, or several of one wish."""

    def __init__(self, problem: Problem, wish: Wish, policy: Policy, suitable: BoolArray) -> None:
        self._problem, self._wish, self._policy, self._suitable = problem, wish, policy, suitable
        self._steady = steady(problem, wish)
        self._changing = wish.preferences is not None and wish.preferences.changing

    def one(self, scores: Int64Array, avoid: int, turn: Turn) -> int:
        """The node for one instance, or -1. ``scores``: the policy's, NOWHERE where it does not fit; ``avoid``: a node
        to use only when no other is left, or -1; ``turn``: the group's."""
        left = scores != NOWHERE
        preferred = self._steady
        if self._changing:
            score, allowed = moving(self._problem, self._wish, self._suitable, turn.counts)
            preferred = preferred + score
            left &= allowed
        if avoid >= 0 and left[avoid]:
            left[avoid] = False
            left[avoid] = not left.any()
        if not left.any():
            return -1
        best = left & (preferred == preferred[left].max())
        return self._policy.choose(np.where(best, scores, NOWHERE), turn)

    def many(self, scores: Int64Array, wanted: int, turn: Turn) -> Int64Array:
        """The nodes for up to ``wanted`` instances of a plain wish, in order; takes their room. The better preferred
        nodes fill up before the next ones are looked at, so each level of preference is a case of ``place_many``."""
        problem, wish = self._problem, self._wish
        everybody = np.arange(len(problem), dtype=np.int64)
        found: list[Int64Array] = []
        apart = wish.preferences.apart if wish.preferences is not None else None
        if wish.preferences is not None and apart is not None:
            scores = np.where(together(problem, wish.preferences, apart) == 0, scores, NOWHERE)
        for level in np.unique(self._steady[scores != NOWHERE])[::-1].tolist():
            if wanted <= 0:
                break
            here = np.where(self._steady == level, scores, NOWHERE)
            nodes = many(problem, wish, self._policy, here, wanted, turn, times_max=1 if apart is not None else ENDLESS)
            if len(nodes):
                wanted -= len(nodes)
                found.append(nodes)
        return np.concatenate(found) if found else everybody[:0]


def many(
    problem: Problem,
    wish: Wish,
    policy: Policy,
    scores: Int64Array,
    wanted: int,
    turn: Turn,
    *,
    times_max: int = ENDLESS,
) -> Int64Array:
    """The nodes for up to ``wanted`` instances of a plain wish, in order, as the policy alone chooses; takes their
    room. ``scores``: the policy's, NOWHERE where it does not fit; ``times_max``: so many on a node at most."""
    times = np.minimum(times_that_fit(problem, wish), times_max)
    nodes = policy.place_many(problem, wish, scores, times, wanted, turn)
    if len(nodes):
        taken = np.bincount(nodes, minlength=len(problem))
        for free, amount in zip(problem.free.T, wish.request, strict=True):
            if amount:
                free -= taken * amount
        turn.counts += taken
        turn.last = int(nodes[-1])
    return nodes
