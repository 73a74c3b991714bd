"""Runs with one guard switched off break a promise: so a run without violation means something.

The schedules are drawn as always, and keep only the faults that the hole needs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator.replication.settings import Guards
from tests.sim.run import run_seed
from tests.sim.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Hole:
    guard: str
    peers: int
    faults: dict[str, float]
    seeds: range  # one of them fails
    details: dict[str, Any] = field(default_factory=dict)


HOLES = {
    "S1": Hole("cap_snapshot_commit", 3, {"depose": 5.0, "isolate": 2.0, "kill": 1.0}, range(10)),
    "S2": Hole(
        "keep_matching_entries", 3, {"lag": 5.0, "slow_link": 1.0, "kill": 1.0}, range(20),
        {"append_bytes": 2500, "large": 0},
    ),
    "S4": Hole(
        "count_voters_once", 5, {"kill": 3.0, "power_all": 3.0, "isolate": 1.0, "one_way": 1.0, "depose": 2.0},
        range(37, 41), {"duplicate_votes": 1.0},
    ),
    "S10": Hole("disk_incarnations", 3, {"wipe": 4.0, "isolate": 3.0, "kill": 3.0}, range(12)),
    "S19": Hole(
        "keep_log_over_snapshot", 3, {"lag": 3.0, "break": 4.0, "isolate": 1.0, "kill": 1.0}, range(36, 40),
        {"late_commits": 0.97},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet_pysyncobj() -> Iterator[None]:
    """It says itself that it truncates what is applied; that is what these tests are about."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def first_failure(hole: Hole, guards: Guards) -> str:
    for seed in hole.seeds:
        schedule = replace(Schedule.draw(seed, hole.peers), faults=hole.faults, **hole.details)
        outcome = run_seed(seed, hole.peers, guards=guards, schedule=schedule)
        if outcome.error:
            return f"seed {seed}: {outcome.error}"
    return ""


@pytest.mark.soak
@pytest.mark.parametrize("name", HOLES)
def test_without_its_guard_a_hole_is_found(name: str) -> None:
    hole = HOLES[name]
    assert first_failure(hole, Guards(**{hole.guard: False}))
