"""How much of a test ``scripts/test fast`` does: some of the seeds, a tenth of the generated examples.

The rule: ``scripts/test`` does all of it. Fast is told by Hypothesis' profile ``fast`` (``conftest``) and the mark
``soak``; nothing is left out by the machine or the time of day.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest
from hypothesis import settings

USUAL = 100
"""Hypothesis' own number of examples, that of profile ``raftsman``."""
FAST = 10


def examples(count: int) -> int:
    """So many examples of a generated test, in proportion to the profile."""
    return max(1, count * settings().max_examples // USUAL)


def seeds(numbers: Iterable[Any], *, fast: Collection[Any]) -> list[Any]:
    """Parameters of a test; those not in ``fast`` are for ``scripts/test`` only."""
    return [number if number in fast else pytest.param(number, marks=pytest.mark.soak) for number in numbers]
