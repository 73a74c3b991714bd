"""Templates and their runs as values: what a run is, since when times count, when the next one is due."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract import cron
from orchestrator.contract.batch import After, Origin, ParameterizedSpec, PeriodicSpec
from orchestrator.contract.model import GroupSpec, JobSpec, JobType
from orchestrator.state.batch import has_batch, moment, next_run, next_schedule, run_spec
from orchestrator.state.model import Job, Schedule
from tests.unit.state.kit import Kit, group, job

HOUR_MS = 3_600_000
HOURLY = PeriodicSpec(cron=("0 * * * *",))
DAILY = PeriodicSpec(cron=("0 0 * * *",))
ORIGIN = Origin(job="nightly", uid="uid", version=1)
PLAIN = job("web", group("a"), group("b"), kind=JobType.BATCH)
TEMPLATE = replace(PLAIN, periodic=HOURLY)


def last(**changes: object) -> JobSpec:
    """``PLAIN`` with another last group."""
    changed: GroupSpec = replace(PLAIN.groups[1], **changes)  # type: ignore[arg-type]
    return replace(PLAIN, groups=(PLAIN.groups[0], changed))


def slow(timeout_ms: int) -> JobSpec:
    (task,) = PLAIN.groups[1].tasks
    return last(tasks=(task, replace(task, name="second", timeout_ms=timeout_ms)))


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        (PLAIN, False),
        (TEMPLATE, True),
        (replace(PLAIN, parameterized=ParameterizedSpec()), True),
        (replace(PLAIN, origin=ORIGIN), True),
        (last(after=(After(group="a"),)), True),
        (slow(1), True),
        (slow(0), False),
    ],
    ids=["plain", "periodic", "parameterized", "run", "order", "timeout", "no timeout"],
)
def test_what_a_peer_without_templates_would_misread(spec: JobSpec, *, needs: bool) -> None:
    assert has_batch(spec) is needs


def test_a_run_is_its_template_once_under_another_name() -> None:
    template = replace(TEMPLATE, parameterized=ParameterizedSpec(), priority=70)
    assert run_spec(template, "nightly-1", ORIGIN) == replace(PLAIN, name="nightly-1", priority=70, origin=ORIGIN)


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01 00:00:00 UTC"),
        (1_769_824_800_999, "2026-01-31 02:00:00 UTC"),
        (cron.END_MS - 1, "9892-03-08 12:26:39 UTC"),
        (cron.END_MS, f"{cron.END_MS} ms"),
        (-1, "-1 ms"),
    ],
)
def test_a_time_for_people_whatever_a_clock_says(time_ms: int, text: str) -> None:
    assert moment(time_ms) == text


def known(spec: JobSpec, **more: object) -> Job:
    kit = Kit()
    kit.submit(spec)
    (found,) = kit.state.jobs.values()
    return replace(found, **more)  # type: ignore[arg-type]


RAN = Schedule(since_ms=5, last_ms=7, last_job="nightly-3", runs=3, skipped=1)


@pytest.mark.parametrize(
    ("before", "after", "schedule"),
    [
        (None, PLAIN, None),
        (None, TEMPLATE, Schedule(since_ms=1000)),
        (known(PLAIN), TEMPLATE, Schedule(since_ms=1000)),
        (known(TEMPLATE, schedule=RAN), PLAIN, None),
        (known(TEMPLATE, schedule=RAN), TEMPLATE, RAN),
        (known(TEMPLATE, schedule=RAN), replace(TEMPLATE, priority=70), RAN),
        (known(TEMPLATE, schedule=RAN), replace(TEMPLATE, periodic=DAILY), replace(RAN, since_ms=1000)),
        (known(TEMPLATE, schedule=RAN, stopped=True), TEMPLATE, replace(RAN, since_ms=1000)),
        (known(TEMPLATE, schedule=None), TEMPLATE, Schedule(since_ms=1000)),
    ],
    ids=["none", "new", "becomes one", "is none now", "same", "same times", "other times", "stopped", "unknown"],
)
def test_times_count_from_now_on_where_the_schedule_is_another_one_or_did_not_run(
    before: Job | None, after: JobSpec, schedule: Schedule | None
) -> None:
    assert next_schedule(1000, before, after) == schedule


@pytest.mark.parametrize(
    ("job_", "due_ms", "why"),
    [
        (known(PLAIN), 0, ""),
        (known(replace(PLAIN, parameterized=ParameterizedSpec())), 0, ""),
        (known(TEMPLATE, schedule=Schedule(since_ms=0)), HOUR_MS, ""),
        (known(TEMPLATE, schedule=Schedule(since_ms=HOUR_MS - 1)), HOUR_MS, ""),
        (known(TEMPLATE, schedule=Schedule(since_ms=HOUR_MS)), 2 * HOUR_MS, ""),
        (known(TEMPLATE, schedule=Schedule(since_ms=0, last_ms=5 * HOUR_MS)), 6 * HOUR_MS, ""),
        (known(TEMPLATE, schedule=None), 0, ""),
        (
            known(replace(TEMPLATE, periodic=replace(HOURLY, paused=True)), schedule=Schedule(since_ms=0)),
            0,
            "its schedule is paused",
        ),
        (known(TEMPLATE, schedule=Schedule(since_ms=cron.END_MS)), 0, "no time is due any more"),
    ],
)
def test_the_next_run_is_due_after_all_that_was_dealt_with(job_: Job, due_ms: int, why: str) -> None:
    assert next_run(job_) == (due_ms, why)


def test_times_that_nobody_can_read_are_said_to_be_so() -> None:
    broken = known(TEMPLATE, schedule=Schedule(since_ms=0))
    broken = replace(broken, spec=replace(TEMPLATE, periodic=replace(HOURLY, cron=("what",))))
    due_ms, why = next_run(broken)
    assert due_ms == 0 and "what" in why
