"""W: how much of a device is expected to stay unused for ever, given what is left of it now.

Owns: the dynamic programme over the shared classes. Leaves to others: what the figure is worth (``policies``). The
rule: whole numbers, so that every machine computes the same.

Of the shared typical classes that still fit into ``x`` millis one arrives next, each as often as it is popular; once
none fits, what is left is wasted: W(x) = sum over fitting classes of p(m) W(x - m) / sum of their p(m), else W(x) = x.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.contract.model import WHOLE_DEVICE
from orchestrator.scheduling.typical import TypicalClass
from orchestrator.scheduling.wish import Int64Array

MICROS = 1000
"""Of one milli: W is in millionths of a device."""


def expected_waste(classes: Sequence[TypicalClass]) -> Int64Array:
    """int64 (WHOLE_DEVICE + 1,): W by the millis that are left, in millionths of a device, rounded down."""
    weights: dict[int, int] = {}
    for one in classes:
        if one.shared and one.gpus is not None and one.gpus.gpu_millis > 0:
            weights[one.gpus.gpu_millis] = weights.get(one.gpus.gpu_millis, 0) + one.weight
    shares = sorted(weights.items())
    waste = [0] * (WHOLE_DEVICE + 1)
    for left in range(WHOLE_DEVICE + 1):
        fitting = [(millis, weight) for millis, weight in shares if millis <= left]
        if fitting:
            total = sum(weight for _, weight in fitting)
            waste[left] = sum(weight * waste[left - millis] for millis, weight in fitting) // total
        else:
            waste[left] = left * MICROS
    return np.array(waste, dtype=np.int64)
