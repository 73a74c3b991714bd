"""Many instances of one plain wish where no closed form is known: the best node each time, by a heap.

Owns: the loop. Leaves to others: scores (``policies``). The rule: the same as as many single choices; of equal scores
the lowest node. It is for policies whose score of a node depends on nothing but that node.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np

from orchestrator.scheduling.policy import NOWHERE
from orchestrator.scheduling.wish import Int64Array

BLOCK = 32
"""Scores of one node that are worked out at once: those that it would have after so many further instances."""


def place_one_by_one(
    scores: Int64Array, times: Int64Array, wanted: int, score: Callable[[int, Int64Array], Int64Array]
) -> Int64Array:
    """int64: the nodes of up to ``wanted`` instances, in order. scores, times: per node, now, and how often it fits;
    ``score(node, placed)``: int64 like ``placed``, once so many instances were placed there."""
    heap = [(-scores[node], node) for node in np.flatnonzero(scores != NOWHERE).tolist()]
    heapq.heapify(heap)
    room = times.tolist()
    placed: dict[int, int] = {}
    known: dict[int, list[int]] = {}
    found: list[int] = []
    while heap and len(found) < wanted:
        node = heap[0][1]
        found.append(node)
        count = placed[node] = placed.get(node, 0) + 1
        if count >= room[node]:
            heapq.heappop(heap)
            continue
        if count % BLOCK == 1 or node not in known:
            until = min(room[node], count + BLOCK)
            known[node] = score(node, np.arange(count, until, dtype=np.int64)).tolist()
        heapq.heapreplace(heap, (-known[node][(count - 1) % BLOCK], node))
    return np.array(found, dtype=np.int64)
