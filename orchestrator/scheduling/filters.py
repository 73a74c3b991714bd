"""Where a wish fits: one feasibility test that placing and explaining share.

Owns: the checks and their order. Leaves to others: words for a refusal (``explain``). The rule: what never changes in a
round (status, drivers, constraints) is checked once per wish, what placements use up is checked again for the nodes
they touched.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import BoolArray, Int64Array, Wish

ENDLESS = np.iinfo(np.int64).max
"""How often a wish fits that asks for nothing."""


def suitable(problem: Problem, wish: Wish) -> BoolArray:
    """bool per node: open, not kept for a gang, with the drivers, satisfying every constraint; room is
    another matter."""
    mask = problem.open.copy() if wish.everywhere else problem.open & (problem.held_for < 0)
    if wish.drivers:
        wanted = frozenset(wish.drivers)
        mask &= np.array([wanted <= drivers for drivers in problem.drivers], dtype=np.bool_)
    for constraint in wish.constraints:
        mask &= problem.labels.mask(constraint)
    return mask


def has_room(problem: Problem, wish: Wish, nodes: Int64Array) -> BoolArray:
    """bool per given node: one more instance fits into what is free."""
    # Also what is not asked for: apply takes nothing onto a node that shrank below what it has given away.
    mask: BoolArray = np.all(problem.free[nodes] >= wish.request, axis=1)
    if wish.gpus is not None:
        mask &= problem.devices.enough(wish.gpus, nodes)
    if wish.ports:
        ports = problem.ports
        mask &= np.array([ports.fit(node, wish.ports) for node in nodes.tolist()], dtype=np.bool_)
    return mask


def times_that_fit(problem: Problem, wish: Wish, nodes: Int64Array) -> Int64Array:
    """int64 per given node: how often a plain wish fits into what is free."""
    free = problem.free[nodes]
    times = np.where((free < 0).any(axis=1), 0, ENDLESS)
    for dimension, amount in enumerate(wish.request):
        if amount:
            np.minimum(times, np.maximum(free[:, dimension], 0) // amount, out=times)
    return times
