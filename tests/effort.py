"""How much of a test ``scripts/test fast`` does: some of the seeds, a tenth of the generated examples and of the places
that a test goes through one by one. What then still takes more than a second of a processor is marked ``soak``,
unless it is what its module is there for; so is what starts the same program once more than another test beside it.

The rule: ``scripts/test`` does all of it. Fast is told by Hypothesis' profile ``fast`` (``conftest``) and the mark
``soak``; nothing is left out by the machine or the time of day. Every module of tests that starts no containers,
browsers or many processes keeps a test in fast, but the two that try the simulator itself (``sim/test_bites``,
``sim/test_determinism``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import settings

USUAL = 100
"""Hypothesis' own number of examples, that of profile ``raftsman``."""
FAST = 10
STRIDE = 11
"""About a tenth, and prime: every alignment within words, fields and sectors has its turn."""

T = TypeVar("T")


def examples(count: int) -> int:
    """So many examples of a generated test, in proportion to the profile."""
    return max(1, count * settings().max_examples // USUAL)


def places(every: Sequence[T]) -> Sequence[T]:
    """Where a test cuts, flips or stops, one after the other: all of them; in fast every eleventh and the last."""
    if settings().max_examples >= USUAL:
        return every
    return [*every[:-1:STRIDE], *every[-1:]]


def seeds(numbers: Iterable[Any], *, fast: Collection[Any]) -> list[Any]:
    """Parameters of a test; those not in ``fast`` are for ``scripts/test`` only."""
    return [number if number in fast else pytest.param(number, marks=pytest.mark.soak) for number in numbers]
