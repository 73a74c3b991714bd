"""Runs with one guard switched off break a promise, and so do runs with a peer whose state differs: so a run without
violation means something.

The schedules are drawn as always, and keep only the faults that the hole needs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator.replication.machine import ClusterMachine
from orchestrator.replication.settings import Guards
from orchestrator.state.state import State
from tests.sim.run import run_seed
from tests.sim.schedule import Schedule
from tests.sim.watched import WatchedMachine
from tests.sim.witness import INDEXES_EVERY


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


def _in_a_row(state: State) -> bool:
    """A number that no answer and no event shows."""
    rows = state.table.used()
    if len(rows):
        state.table.exit_code[rows[-1]] += 1
    return bool(len(rows))


def _in_place(state: State) -> bool:
    """Against the rule of ``state.model``: no fingerprint looks twice at a record."""
    for job in state.jobs.values():
        object.__setattr__(job, "stable_version", job.stable_version + 1)
        return True
    return False


@pytest.mark.parametrize(
    ("diverge", "stride", "found"),
    [
        pytest.param(_in_a_row, 10**9, lambda index: f"at index {index}: columns", id="in a row, at once"),
        pytest.param(_in_place, 7, lambda index: f"at index {-(-index // 7) * 7}", id="in place, by the full hash"),
    ],
)
def test_a_peer_whose_state_diverges_is_found(
    diverge: Callable[[State], bool], stride: int, found: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, at = ClusterMachine.apply, list[int]()

    def apply(machine: WatchedMachine, payload: bytes) -> Any:
        outcome = real(machine, payload)
        if not at and machine._name == "p2" and machine.index > 20 and diverge(machine.state):
            at.append(machine.index)
        return outcome

    monkeypatch.setattr(ClusterMachine, "apply", apply)
    schedule = replace(Schedule.draw(102, 3), stride=stride)
    error = run_seed(102, 3, schedule=schedule).error
    assert at and error.endswith(found(at[0])), (at, error)


def test_a_mistake_that_all_peers_make_alike_is_found_where_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    real, at = ClusterMachine.apply, list[int]()

    def apply(machine: ClusterMachine, payload: bytes) -> Any:
        outcome = real(machine, payload)
        index, table = machine.index, machine.state.table
        if not at and index > 20 and index % INDEXES_EVERY and len(table.live_rows()):
            at.append(index)
        if at == [index]:
            table.cpu_millis[table.live_rows()[0]] = 1_000_000
        return outcome

    monkeypatch.setattr(ClusterMachine, "apply", apply)
    error = run_seed(102, 3).error
    assert at and f"at index {at[0]}: node" in error and "gives away" in error, (at, error)
