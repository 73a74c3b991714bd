"""Which numbers there are, as a list.

``numpy.unique`` costs ten microseconds and more for a handful of numbers, which is what nearly every command has, and
several times in each; and its first call loads ``numpy.ma``, which holds up the loop that applies the first plan.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FEW = 512
"""From here on sorting the array is quicker than a set of Python numbers."""


def distinct(values: npt.NDArray[np.integer[Any]]) -> list[int]:
    """Each of ``values`` (one dimension) once, ascending."""
    if len(values) < FEW:
        return sorted(set(values.tolist()))
    ordered = np.sort(values)
    first = np.empty(len(ordered), dtype=np.bool_)
    first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    found: list[int] = ordered[first].tolist()
    return found
