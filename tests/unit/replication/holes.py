"""``HOLES``: the holes of PySyncObj 0.3.17 (S1 to S19 in docs/guarantees.md), each as a pair.

A pair is one schedule that runs twice: under the guard, and without exactly that guard. Without means a flag of
``Guards`` that is off, a subclass that leaves the guard out, or PySyncObj as it comes (``plain``) where the guard is
that we do not use a part of it. What comes out is compared with what must come out in both cases, so a pair fails when
the guard is broken, and also when the schedule no longer reaches the hole. ``test_holes`` runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.replication.settings import Guards

Schedule = Callable[[bool], object]
"""Runs with the guard (True) or without it (False); returns what happened."""


@dataclass(frozen=True, slots=True)
class Hole:
    name: str  # S1 to S19
    story: str  # the schedule in one line
    schedule: Schedule
    holds: object  # what happens under the guard
    fails: object  # and without


HOLES: list[Hole] = []


def hole(name: str, story: str, *, holds: object, fails: object) -> Callable[[Schedule], Schedule]:
    """Enter a schedule into the table."""
    assert holds != fails

    def enter(schedule: Schedule) -> Schedule:
        HOLES.append(Hole(name, story, schedule, holds, fails))
        return schedule

    return enter


def all_but(flag: str, guarded: bool) -> Guards:
    """All guards; without this one unless ``guarded``."""
    return Guards(**{flag: guarded})
