"""Scores that several policies share: utilisation after the placement, and filling nodes in order.

Owns: the formulas, in whole numbers, so that they are the same on every machine. The formula: each resource's share in
use once the instance is placed, in millionths of the node's capacity, rounded down; then

- without devices: (cpu + memory) // 2
- with devices: (cpu + memory + 2 * gpu) // 4, where gpu counts shares of devices given away

Disk is a limit, not a score: it says little about how busy a node is.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import CPU, MEMORY, Int64Array, Wish

SCALE = 1_000_000


def utilisation(problem: Problem, wish: Wish, nodes: Int64Array, times: Int64Array | int = 1) -> Int64Array:
    """int64 per given node, 0 to SCALE: how full it is after ``times`` more instances."""
    size_cpu, size_memory, _ = problem.capacity.T
    free_cpu, free_memory, _ = problem.free.T
    cpu = size_cpu.take(nodes) - free_cpu.take(nodes) + wish.request[CPU] * times
    cpu = cpu * SCALE // problem.divisor_cpu.take(nodes)
    memory = size_memory.take(nodes) - free_memory.take(nodes) + wish.request[MEMORY] * times
    memory = memory * SCALE // problem.divisor_memory.take(nodes)
    if wish.gpus is None:
        both: Int64Array = (cpu + memory) // 2
        return both
    capacity = np.maximum(problem.devices.capacity[nodes], 1)
    held = problem.devices.used(nodes) + wish.gpus.count * wish.gpus.gpu_millis * times
    gpu: Int64Array = held * SCALE // capacity
    all_three: Int64Array = (cpu + memory + 2 * gpu) // 4
    return all_three


def fill_in_order(order: Int64Array, times: Int64Array, wanted: int) -> Int64Array:
    """``wanted`` instances (fewer if they do not fit) poured into nodes in the given order: the node of each."""
    room = np.minimum(times[order], wanted)
    before = np.cumsum(room) - room
    return np.repeat(order, np.clip(wanted - before, 0, room))
