"""Decisions one at a time, each on what the earlier ones left, on a problem that lives on.

Owns: the score rows of the wishes seen so far, and taking and giving back. Leaves to others: scores (``policies``),
where an instance fits (``filters``). The rule: the same nodes and devices as ``solve`` gives for the same wishes in the
same order.

A row is refreshed only where something was placed or ended since it was last used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.scheduling import registry
from orchestrator.scheduling.filters import has_room, suitable
from orchestrator.scheduling.policy import NOWHERE, Policy, Turn, picked
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import BoolArray, Int64Array, Wish


@dataclass(frozen=True, slots=True)
class Placed:
    wish: Wish
    node: int
    devices: tuple[int, ...]
    ports: tuple[int, ...]


@dataclass(slots=True)
class _Row:
    """``scores``: as of ``seen`` touches, NOWHERE where the wish does not fit."""

    wish: Wish  # held, so that its id stays its own
    policy: Policy
    suitable: BoolArray
    scores: Int64Array
    seen: int


class Sequence:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._rows: dict[int, _Row] = {}
        self._touched: Int64Array = np.zeros(1024, dtype=np.int64)
        self._touches = 0
        self._turn = Turn(counts=np.zeros(len(problem), dtype=np.int64), last=-1)

    def place(self, wish: Wish) -> Placed | None:
        """Place one instance; None: it fits nowhere. Pass equal wishes as one object: rows go by identity."""
        row = self._row(wish)
        scores = row.scores
        if not len(scores):
            return None
        node = row.policy.choose(scores, self._turn)
        if scores[node] == NOWHERE:
            return None
        picks = picked(row.policy, self.problem, wish, node) if wish.gpus is not None else ()
        devices, ports = self.problem.take(node, wish, picks)
        self._touch(node)
        return Placed(wish, node, devices, ports)

    def release(self, placed: Placed) -> None:
        """Give back what a placement took; it must not hold ports."""
        problem, wish = self.problem, placed.wish
        problem.free[placed.node] += wish.request
        if wish.gpus is not None:
            problem.devices.take(placed.node, placed.devices, -wish.gpus.gpu_millis)
        self._touch(placed.node)

    def forget(self) -> None:
        """Score everything anew: what policies judge by has changed."""
        self.problem.tables.clear()
        self._rows.clear()

    def _touch(self, node: int) -> None:
        if self._touches == len(self._touched):
            self._touched = np.concatenate([self._touched, np.zeros_like(self._touched)])
        self._touched[self._touches] = node
        self._touches += 1

    def _row(self, wish: Wish) -> _Row:
        row = self._rows.get(id(wish))
        if row is None:
            mask = suitable(self.problem, wish)
            scores = np.full(len(self.problem), NOWHERE, dtype=np.int64)
            row = self._rows[id(wish)] = _Row(wish, registry.get(wish.policy), mask, scores, self._touches)
            self._refresh(row, np.flatnonzero(mask))
        elif row.seen < self._touches:
            nodes = self._touched[row.seen : self._touches]
            if len(nodes) > len(self.problem) // 4:
                nodes = np.unique(nodes)
            row.seen = self._touches
            self._refresh(row, nodes[row.suitable[nodes]])
        return row

    def _refresh(self, row: _Row, nodes: Int64Array) -> None:
        if not len(nodes):
            return
        room = has_room(self.problem, row.wish, nodes)
        row.scores[nodes] = NOWHERE
        fitting = nodes[room]
        if len(fitting):
            row.scores[fitting] = row.policy.scores(self.problem, row.wish, fitting)
