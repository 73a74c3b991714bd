"""Nothing grows for ever: answers, events, rows, jobs; and time."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract.errors import OutOfRangeError
from orchestrator.contract.model import AllocState, JobType, Limits, LimitsChange
from orchestrator.state import events
from orchestrator.state.answers import Answers, Remembered
from orchestrator.state.apply import MAX_TIME_MS, apply, apply_malformed
from orchestrator.state.commands import (
    Applied,
    Collect,
    CordonNode,
    Entry,
    ForgetNode,
    MarkNodes,
    NodeMark,
    Rejected,
    RemoveJob,
    SetLimits,
    StopJob,
    WriteAnswer,
    WriteVariable,
)
from orchestrator.state.events import KINDS, EventLog
from orchestrator.state.housekeeping import needs_collection
from tests.unit.state.kit import Kit, group, job, node

NOTHING = CordonNode(node_id="nowhere", cordoned=True)


def variable(name: str, value: str | None = "x") -> WriteVariable:
    return WriteVariable(namespace="default", name=name, value=value)


def collect(kit: Kit) -> bool:
    """Collect; the leader's question and the command must agree."""
    needed = needs_collection(kit.state, kit.now_ms + 1)
    outcome = kit.ok(Collect())
    changed = getattr(outcome.answer, "changed", None)
    assert changed == needed
    return needed


def test_every_command_moves_the_index_also_a_refused_and_a_malformed_one() -> None:
    kit = Kit()
    assert kit.refused(NOTHING).index == 1
    assert apply_malformed(kit.state, "garbage") == Rejected(index=2, reason="MALFORMED", message="garbage")
    assert kit.state.index == 2


def test_cluster_time_never_falls_and_a_broken_clock_does_not_hold_it() -> None:
    kit = Kit()
    for time_ms, expected in ((500, 500), (400, 500), (MAX_TIME_MS + 1, 500), (-5, 500), (600, 600)):
        apply(kit.state, Entry(identity="", request_id="", digest=b"", time_ms=time_ms, command=variable("v")))
        assert kit.state.time_ms == expected


@pytest.mark.parametrize(
    ("named", "wrong"),
    [
        ("identity", {"identity": "i" * 257}),
        ("request id", {"request_id": "r" * 257}),
        ("digest", {"digest": b"d" * 65}),
        ("time", {"time_ms": -1}),
        ("time", {"time_ms": MAX_TIME_MS + 1}),
    ],
)
def test_an_envelope_out_of_bounds_is_refused_and_not_remembered(named: str, wrong: dict[str, Any]) -> None:
    for least in (True, False):
        kit = Kit()
        entry = Entry(
            identity="" if least else "i", request_id="" if least else "r", digest=b"" if least else b"d",
            time_ms=0 if least else 1, command=variable("v"),
        )  # fmt: skip
        outcome = apply(kit.state, replace(entry, **wrong))
        assert isinstance(outcome, Rejected)
        assert (outcome.reason, outcome.index, kit.state.index) == ("INVALID", 1, 1), "it takes its place in the log"
        assert named in outcome.message
        assert not len(kit.state.answers)
        assert not kit.state.variables


def test_the_largest_envelope_is_taken() -> None:
    kit = Kit()
    kit.now_ms = MAX_TIME_MS - 1  # a command takes one more
    outcome = kit.do(variable("v"), identity="i" * 256, request_id="r" * 256, digest=b"d" * 64)
    assert isinstance(outcome, Applied)
    assert len(kit.state.answers) == 1
    assert kit.state.time_ms == MAX_TIME_MS


def test_a_request_id_means_something_only_together_with_who_chose_it() -> None:
    kit = Kit()
    kit.do(variable("v", "a"), request_id="r", identity="client:a")
    kit.do(variable("v", "b"), request_id="r", identity="client:b")
    assert kit.state.variables[("default", "v")].value == "b"


def test_only_so_many_answers_are_remembered() -> None:
    kit = Kit(Limits(answers=3))
    for number in range(5):
        kit.do(variable(f"v{number}"), request_id=f"r{number}")
    assert len(kit.state.answers) == 3
    again = kit.do(variable("v0"), request_id="r0")
    assert isinstance(again, Applied)
    assert not again.repeated


def test_large_answers_are_bounded_by_their_bytes() -> None:
    kit = Kit(Limits(answer_bytes=100_000))
    for number in range(20):
        kit.do(variable(f"v{number}", "x" * 20_000), request_id=f"r{number}")
    assert 0 < len(kit.state.answers) <= 5


def test_idle_answers_are_collected_after_a_day() -> None:
    kit = Kit()
    kit.do(variable("v"), request_id="r")
    assert not collect(kit)
    kit.now_ms += kit.state.limits.answer_age_ms + 1
    assert collect(kit)
    assert not len(kit.state.answers)


def test_a_watch_that_fell_behind_is_told_so() -> None:
    kit = Kit(Limits(events=10))
    for number in range(30):
        kit.ok(variable(f"v{number}"))
    assert len(kit.state.events) == 10
    assert [event.message for event in kit.state.events.after(0)] == [f"v{number}" for number in range(20, 30)]
    assert [event.index for event in kit.state.events.after(20)] == list(range(21, 31))
    with pytest.raises(OutOfRangeError) as raised:
        kit.state.events.after(19)
    assert raised.value.metadata["first_index"] == "21"


def _events() -> Callable[[int], int]:
    log = EventLog(2_000)

    def add(number: int) -> int:
        log.begin(number, number)
        log.emit("alloc.placed", job=f"job {number}", allocation=f"an allocation of job {number}")
        log.trim()
        return len(log)

    return add


def _answers() -> Callable[[int], int]:
    answers, limits = Answers(), Limits(answers=2_000)

    def add(number: int) -> int:
        outcome = Applied(index=number, answer=WriteAnswer(changed=True))
        remembered = Remembered(digest=b"%032d" % number, time_ms=0, outcome=outcome)
        answers.put(("client:a", f"request {number}"), remembered, limits)
        return len(answers)

    return add


@pytest.mark.parametrize("make", [_events, _answers])
def test_what_was_forgotten_takes_next_to_no_memory(make: Callable[[], Callable[[int], int]]) -> None:
    """It did take as much again as what is kept: of 100,000 events 30 MiB, on every peer."""
    tracemalloc.start()
    try:
        add = make()
        for number in range(2_000):
            add(number)
        full, most = tracemalloc.get_traced_memory()[0], 0
        for number in range(2_000, 8_000):
            assert add(number) == 2_000
            most = max(most, tracemalloc.get_traced_memory()[0])
        assert most < 1.3 * full
    finally:
        tracemalloc.stop()


def test_events_come_in_whole_indexes() -> None:
    kit = Kit()
    kit.submit(*(job(f"j{number}") for number in range(10)))
    kit.ok(variable("v"))
    events = kit.state.events.after(0, limit=3)
    assert [event.sequence for event in events] == list(range(10))
    assert [event.kind for event in kit.state.events.after(events[-1].index, limit=3)] == ["variable.changed"]


def test_every_kind_of_event_is_documented() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a"))
    for state in (AllocState.STARTING, AllocState.RUNNING, AllocState.BACKOFF, AllocState.STOPPING, AllocState.STOPPED):
        kit.place("a/api/0", "n1")
        kit.observe("a/api/0", state)
    kit.ok(RemoveJob(namespace="default", name="a"))
    kit.ok(MarkNodes(lost=(NodeMark(node_id="n1", register_index=1),)))
    kit.ok(ForgetNode(node_id="n1"))
    assert {event.kind for event in kit.state.events.after(0)} <= set(KINDS)


def test_no_kind_of_event_stands_in_the_state_that_is_not_documented() -> None:
    """Whoever watches may ask only for kinds that are listed; some are too rare to be made by the test above."""
    families = "|".join(sorted({kind.partition(".")[0] for kind in KINDS}))
    modules = Path(events.__file__).parent.glob("*.py")
    said = {
        kind for module in modules for kind in re.findall(rf'"((?:{families})\.[a-z-]+)"', module.read_text("utf-8"))
    }
    assert said == set(KINDS)


def test_only_the_newest_attempts_of_an_ordinal_are_kept() -> None:
    kit = Kit(Limits(allocations_per_ordinal=3))
    kit.register(node("n1"))
    kit.submit(job("a"))
    for _ in range(6):
        kit.place("a/api/0", "n1")
        kit.observe("a/api/0", AllocState.FAILED)
    assert collect(kit)
    assert kit.attempts("a/api/0") == [6, 5, 4]
    assert not collect(kit)


def test_one_command_forgets_at_most_so_many_rows() -> None:
    kit = Kit(Limits(allocations_per_ordinal=1))
    kit.register(node("n1"))
    kit.submit(job("a"))
    for _ in range(8):
        kit.place("a/api/0", "n1")
        kit.observe("a/api/0", AllocState.FAILED)
    kit.ok(Collect(max_rows=3))
    assert len(kit.attempts("a/api/0")) == 5
    kit.ok(Collect(max_rows=3))
    kit.ok(Collect(max_rows=3))
    assert kit.attempts("a/api/0") == [8]


def test_live_rows_are_never_collected() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a"))
    kit.place("a/api/0", "n1")
    kit.submit(job("a", group(count=0)))
    kit.now_ms += 100 * kit.state.limits.stopped_job_age_ms
    assert not collect(kit)
    assert kit.alloc("a/api/0").state is AllocState.PENDING


def test_stopped_and_ended_jobs_are_forgotten_after_a_week_and_services_never() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("stopped"), job("service"), job("done", kind=JobType.BATCH), job("waiting", kind=JobType.BATCH))
    kit.place("done/api/0", "n1")
    kit.observe("done/api/0", AllocState.COMPLETE)
    kit.ok(StopJob(namespace="default", name="stopped"))
    kit.now_ms += kit.state.limits.stopped_job_age_ms
    assert collect(kit)
    assert {known.spec.name for known in kit.state.jobs.values()} == {"service", "waiting"}
    assert not collect(kit)


def test_a_job_that_was_stopped_long_ago_but_ended_lately_is_kept() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a"))
    kit.place("a/api/0", "n1")
    kit.ok(StopJob(namespace="default", name="a"))
    kit.now_ms += kit.state.limits.stopped_job_age_ms
    kit.observe("a/api/0", AllocState.STOPPED)
    assert not collect(kit)


def test_lower_limits_forget_at_once_what_is_over_them() -> None:
    kit = Kit()
    for number in range(150):
        kit.do(variable(f"v{number}"), request_id=f"r{number}")
    assert (len(kit.state.events), len(kit.state.answers)) == (150, 150)
    outcome = kit.ok(SetLimits(change=LimitsChange(events=120, answers=100)))
    assert outcome.answer == WriteAnswer(changed=True)
    assert (len(kit.state.events), len(kit.state.answers)) == (120, 100)
    assert kit.state.limits == Limits(events=120, answers=100)
    assert kit.state.events.after(0)[-1].kind == "limits.changed"
    # And they hold from then on.
    kit.do(variable("w"), request_id="w")
    assert (len(kit.state.events), len(kit.state.answers)) == (120, 100)
    assert kit.ok(SetLimits(change=LimitsChange(events=120))).answer == WriteAnswer(changed=False)


@pytest.mark.parametrize("change", [LimitsChange(events=0), LimitsChange(answers=50), LimitsChange(answer_age_ms=-1)])
def test_absurd_limits_are_refused_and_change_nothing(change: LimitsChange) -> None:
    kit = Kit()
    assert kit.refused(SetLimits(change=change)).reason == "INVALID"
    assert kit.state.limits == Limits()
