"""Where a wish fits: one feasibility test that placing and explaining share.

Owns: the checks and their order. Leaves to others: words for a refusal (``explain``). The rule: what never changes in a
round (status, drivers, constraints) is checked once per wish, what placements use up is checked again for the nodes
they touched.
"""

from __future__ import annotations

import numpy as np

from orchestrator.contract.taints import repelling
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import BoolArray, Int64Array, Wish

ENDLESS = np.iinfo(np.int64).max
"""How often a wish fits that asks for nothing."""


def suitable(problem: Problem, wish: Wish) -> BoolArray:
    """bool per node: open, not kept for a gang, with the drivers, constraints satisfied and taints tolerated; room is
    another matter. But for what is kept the same as ``state.matching.may_take``, for all nodes at once."""
    mask = problem.open.copy() if wish.everywhere else problem.open & (problem.held_for < 0)
    for number in problem.tainted.tolist():
        mask[number] &= repelling(problem.nodes[number].taints, wish.tolerations) is None
    if wish.drivers:
        wanted = frozenset(wish.drivers)
        mask &= np.array([wanted <= drivers for drivers in problem.driver_sets], dtype=np.bool_)[problem.driver_set]
    for constraint in wish.constraints:
        mask &= problem.labels.mask(constraint)
    return mask


def has_room(problem: Problem, wish: Wish, nodes: Int64Array) -> BoolArray:
    """bool per given node: one more instance fits into what is free."""
    # Also what is not asked for: apply takes nothing onto a node that shrank below what it has given away.
    free_cpu, free_memory, free_disk = problem.free.T
    cpu, memory, disk = wish.request
    mask: BoolArray = (free_cpu.take(nodes) >= cpu) & (free_memory.take(nodes) >= memory)
    mask &= free_disk.take(nodes) >= disk
    if wish.gpus is not None:
        mask &= problem.devices.enough(wish.gpus, nodes)
    if wish.custom:
        mask &= problem.custom.fits(wish.custom, nodes)
    if wish.ports:
        ports = problem.ports
        mask &= np.array([ports.fit(node, wish.ports) for node in nodes.tolist()], dtype=np.bool_)
    return mask


def times_that_fit(problem: Problem, wish: Wish) -> Int64Array:
    """int64 per node: how often a plain wish fits into what is free."""
    times = np.full(len(problem), ENDLESS, dtype=np.int64)
    for free, amount in zip(problem.free.T, wish.request, strict=True):
        if amount:
            np.minimum(times, np.maximum(free, 0) // amount, out=times)
        if int(free.min(initial=0)) < 0:
            times[free < 0] = 0
    return times
