"""Periodic jobs in the simulator: each due time comes to one run at most, over elections, crashes and clocks that jump;
and the judge of that sees when it is not so."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.contract.batch import Origin
from orchestrator.state.commands import Launch, LaunchRuns
from orchestrator.state.state import State
from tests.effort import seeds
from tests.sim.run import run_seed
from tests.sim.schedule import FAULTS, Schedule
from tests.sim.ticks import Ticks

CLOCKS = {name: FAULTS[name] for name in ("kill", "isolate", "flap", "depose", "power_all")} | {"wall_clock": 4.0}
"""Leaders that change, and clocks that jump, more often than in other runs."""


@pytest.mark.parametrize("seed", seeds(range(20_000, 20_020), fast=range(20_000, 20_001)))
def test_each_due_time_comes_to_one_run_whoever_leads_and_whatever_the_clocks_say(seed: int) -> None:
    peers = 3 + seed % 2 * 2
    schedule = replace(Schedule.draw(seed, peers), every_s=1, faults=CLOCKS)
    outcome = run_seed(seed, peers, schedule=schedule)
    assert not outcome.error, outcome.error + "\n" + "\n".join(outcome.last_lines)
    assert outcome.ticks, "nothing was due"


@pytest.mark.soak
def test_such_a_run_is_a_function_of_its_seed() -> None:
    schedule = replace(Schedule.draw(20_001, 3), every_s=1, faults=CLOCKS)
    assert run_seed(20_001, 3, schedule=schedule).trace == run_seed(20_001, 3, schedule=schedule).trace


class Judged:
    """A judge, and states as far as it looks at them."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.ticks = Ticks(self.said.append, every_ms=1_000)
        self.index = 0

    def launch(
        self, due_ms: int, run: str = "", *, now_ms: int = 10_000, of: int = 0, last_ms: int | None = None
    ) -> None:
        """``run``: the uid of what was made ("": nothing); ``last_ms``: as the template's record has it."""
        self.index += 1
        schedule = SimpleNamespace(last_ms=due_ms if last_ms is None else last_ms)
        jobs: dict[str, Any] = {"t": SimpleNamespace(schedule=schedule)}
        if run:
            origin = Origin(job="tick", uid="t", version=1, due_ms=of or due_ms)
            jobs[run] = SimpleNamespace(
                create_index=self.index, spec=SimpleNamespace(name=f"tick/{run}", origin=origin)
            )
        state = cast(State, SimpleNamespace(jobs=jobs, index=self.index, time_ms=now_ms))
        one = Launch(uid="t", version=1, after_ms=0, due_ms=due_ms, child_uid=run or "none")
        self.ticks.launched(state, LaunchRuns(launches=(one,)))


def test_the_judge_takes_runs_skips_and_repetitions_for_what_they_are() -> None:
    judged = Judged()
    judged.launch(1_000, "a")
    judged.launch(1_000)  # of a second leader, which comes to nothing
    judged.launch(2_000)  # skipped
    judged.launch(2_000)
    judged.launch(1_000, last_ms=2_000)
    judged.launch(4_000, "b")
    assert judged.said == []
    assert (judged.ticks.runs, judged.ticks.skipped, judged.ticks.again) == (
        {("t", 1_000): "a", ("t", 4_000): "b"},
        1,
        3,
    )


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"due_ms": 1_000, "run": "b"}, "1000 came to two runs: a and b"),
        ({"due_ms": 12_000, "run": "b"}, "12000 is not due at 10000"),
        ({"due_ms": 2_500, "run": "b"}, "2500 is not due at 10000"),
        ({"due_ms": 2_000, "run": "b", "of": 3_000}, "run tick/b says that it is of"),
    ],
)
def test_the_judge_sees_what_must_not_be(second: dict[str, Any], said: str) -> None:
    judged = Judged()
    judged.launch(1_000, "a")
    assert judged.said == []
    judged.launch(**second)
    assert judged.said[0].startswith(said)


def test_the_judge_sees_a_time_that_comes_after_a_later_one() -> None:
    judged = Judged()
    judged.launch(3_000, "a")
    judged.launch(2_000, "b")
    assert judged.said == ["2000 is dealt with after 3000"]
