"""Turning a change of fragmentation into points, as fragmentation gradient descent does.

Owns: floor(100 * sigmoid(shrinkage / width)), exactly and without a float in the deciding. Leaves to others: what
breaks a tie (``policies``). The rule: the same points on every machine.
"""

from __future__ import annotations

from math import ceil, log

import numpy as np

from orchestrator.scheduling.wish import Int64Array

POINTS = 100


def point_limits(width_millis: int, weights: int) -> Int64Array:
    """int64 (POINTS - 1,): from which shrinkage of F times ``weights`` on there are 1, 2, ... points."""
    limits = [ceil(width_millis * log(points / (POINTS - points)) * weights) for points in range(1, POINTS)]
    return np.array(limits, dtype=np.int64)


def points(shrinkage: Int64Array, limits: Int64Array) -> Int64Array:
    """int64 of the same shape: floor(POINTS * sigmoid(shrinkage / width))."""
    return limits.searchsorted(shrinkage, "right")
