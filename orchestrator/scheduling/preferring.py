"""Choosing nodes for instances that prefer some: the best preferred ones first, and among them the policy's choice.

Owns: narrowing the nodes down for one instance, and the closed form for many where nothing that is preferred changes.
Leaves to others: the preferences themselves (``preferences``), what fits (``solve``'s scores). The rule: ``many`` gives
exactly what as many calls of ``one`` would.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.filters import times_that_fit
from orchestrator.scheduling.policy import NOWHERE, Policy, Turn
from orchestrator.scheduling.preferences import moving, steady
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import BoolArray, Int64Array, Wish


class Preferring:
    """For one ask. ``changing``: each placement may change what the next one prefers."""

    def __init__(self, problem: Problem, wish: Wish, policy: Policy, suitable: BoolArray) -> None:
        self._problem, self._wish, self._policy, self._suitable = problem, wish, policy, suitable
        self._steady = steady(problem, wish)
        self.changing = wish.preferences is not None and wish.preferences.changing

    def one(self, scores: Int64Array, avoid: int, turn: Turn) -> int:
        """The node for one instance, or -1. ``scores``: the policy's, NOWHERE where it does not fit; ``avoid``: a node
        to use only when no other is left, or -1."""
        left = scores != NOWHERE
        preferred = self._steady
        if self.changing:
            score, allowed = moving(self._problem, self._wish, self._suitable)
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
        for level in np.unique(self._steady[scores != NOWHERE])[::-1].tolist():
            if wanted <= 0:
                break
            here = np.where(self._steady == level, scores, NOWHERE)
            nodes = many(problem, wish, self._policy, here, wanted, turn)
            if len(nodes):
                wanted -= len(nodes)
                found.append(nodes)
        return np.concatenate(found) if found else everybody[:0]


def many(problem: Problem, wish: Wish, policy: Policy, scores: Int64Array, wanted: int, turn: Turn) -> Int64Array:
    """The nodes for up to ``wanted`` instances of a plain wish, in order, as the policy alone chooses; takes their
    room. ``scores``: the policy's, NOWHERE where it does not fit."""
    nodes = policy.place_many(problem, wish, scores, times_that_fit(problem, wish), wanted, turn)
    if len(nodes):
        taken = np.bincount(nodes, minlength=len(problem))
        for free, amount in zip(problem.free.T, wish.request, strict=True):
            if amount:
                free -= taken * amount
        turn.counts += taken
        turn.last = int(nodes[-1])
    return nodes
