"""What is forgotten and when: by age, by number, in portions; which limits there may be; the feature level.

Also ``test_bounds.py`` (answers, events), ``tests/properties/test_periodic.py``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.batch import ParameterizedSpec
from orchestrator.contract.model import AllocState, JobSpec, JobType, Limits, LimitsChange
from orchestrator.state.commands import (
    Collect,
    DispatchJob,
    RegisterNode,
    RemoveJob,
    SetFeatureLevel,
    SetLimits,
    StopJob,
)
from orchestrator.state.housekeeping import needs_collection
from tests.unit.state.kit import Kit, group, job, node

AGE_MS = 100_000
NEVER_MS = 3_650 * 24 * 3600 * 1000
DAY_MS = 24 * 3600 * 1000


def kit_with(*specs: JobSpec, **limits: int) -> Kit:
    """Jobs and runs are forgotten after ``AGE_MS``, rows never, unless ``limits`` say otherwise."""
    ages = Limits(allocation_age_ms=NEVER_MS, stopped_job_age_ms=AGE_MS, child_age_ms=AGE_MS)
    kit = Kit(replace(ages, **limits))  # type: ignore[arg-type]
    kit.register(node("n1", cpu=100_000, memory=100_000))
    if specs:
        kit.submit(*specs)
    return kit


def ends(kit: Kit, alloc: str, state: AllocState = AllocState.FAILED, times: int = 1) -> None:
    kit.checked = False  # its invariants are not what is looked at here, and take most of the time
    for _ in range(times):
        kit.place(alloc, "n1")
        kit.observe(alloc, state)
    kit.checked = True


def collect(kit: Kit, *, at_ms: int = 0, max_rows: int | None = None) -> bool:
    """Whether anything was forgotten; the leader's question, asked of the same moment, must agree."""
    if at_ms:
        kit.now_ms = at_ms - 1
    needed = needs_collection(kit.state, kit.now_ms + 1)
    outcome = kit.ok(Collect() if max_rows is None else Collect(max_rows=max_rows))
    assert outcome.answer.changed is needed  # type: ignore[union-attr]
    return needed


def names(kit: Kit) -> set[str]:
    return {known.spec.name for known in kit.state.jobs.values()}


# ---------------------------------------------------------------------------- jobs


def test_a_stopped_job_goes_once_it_is_older_than_the_limit() -> None:
    kit = kit_with(job("a"))
    kit.ok(StopJob(namespace="default", name="a"))
    stopped_ms = kit.now_ms
    assert not collect(kit, at_ms=stopped_ms + AGE_MS)
    assert collect(kit, at_ms=stopped_ms + AGE_MS + 1)
    assert names(kit) == set()


def test_and_once_the_last_end_of_what_ran_is() -> None:
    kit = kit_with(job("a", group(count=2)))
    ends(kit, "a/api/1")
    kit.place("a/api/0", "n1")
    kit.ok(StopJob(namespace="default", name="a"))
    kit.now_ms += AGE_MS
    kit.observe("a/api/0", AllocState.STOPPED)
    ended_ms = kit.now_ms
    assert not collect(kit, at_ms=ended_ms + AGE_MS)
    assert collect(kit, at_ms=ended_ms + AGE_MS + 1)


@pytest.mark.parametrize("state", [AllocState.PENDING, AllocState.RUNNING, AllocState.STOPPING])
def test_nothing_is_forgotten_of_what_may_still_run(state: AllocState) -> None:
    """Nor its newest row, if its group is no more."""
    kit = kit_with(job("a", group(count=2)), job("b"), allocation_age_ms=AGE_MS)
    for alloc in ("a/api/0", "a/api/1", "b/api/0"):
        kit.place(alloc, "n1")
        if state is not AllocState.PENDING:
            kit.observe(alloc, state)
    kit.submit(job("b", group("other")))
    kit.ok(StopJob(namespace="default", name="a"))
    assert not collect(kit, at_ms=kit.now_ms + 10 * AGE_MS)


def test_a_job_that_is_being_removed_goes_with_what_lives_of_it_and_not_before() -> None:
    kit = kit_with(job("a"))
    kit.place("a/api/0", "n1")
    kit.ok(RemoveJob(namespace="default", name="a"))
    assert not collect(kit, at_ms=kit.now_ms + 10 * AGE_MS)
    kit.observe("a/api/0", AllocState.STOPPED)
    assert names(kit) == set()


def test_a_batch_job_goes_when_it_is_over_and_a_service_only_when_it_was_stopped() -> None:
    kit = kit_with(job("done", kind=JobType.BATCH), job("failed", kind=JobType.BATCH), job("again", kind=JobType.BATCH),
                   job("service"))  # fmt: skip
    ends(kit, "done/api/0", AllocState.COMPLETE)
    ends(kit, "failed/api/0", AllocState.FAILED)
    ends(kit, "again/api/0", AllocState.STOPPED)
    ends(kit, "service/api/0", AllocState.FAILED)
    assert collect(kit, at_ms=kit.now_ms + 2 * AGE_MS)
    assert names(kit) == {"again", "service"}


# ---------------------------------------------------------------------------- portions


def stopped_jobs(kit: Kit, *names_: str, rows: int) -> None:
    for name in names_:
        ends(kit, f"{name}/api/0", times=rows)
        kit.ok(StopJob(namespace="default", name=name))
    kit.now_ms += 2 * AGE_MS


@pytest.mark.parametrize(
    ("max_rows", "left"),
    [
        (1, [{"b", "c"}, {"c"}, set()]),
        (2, [{"b", "c"}, {"c"}, set()]),
        (3, [{"b", "c"}, {"c"}, set()]),
        (4, [{"c"}, set()]),
        (5, [{"c"}, set()]),
        (6, [set()]),
    ],
)
def test_jobs_go_whole_as_many_as_one_command_may_forget_and_one_that_is_larger_alone(
    max_rows: int, left: list[set[str]]
) -> None:
    kit = kit_with(job("a"), job("b"), job("c"))
    stopped_jobs(kit, "a", "b", "c", rows=2)
    for names_ in left:
        assert collect(kit, max_rows=max_rows)
        assert names(kit) == names_
    assert not collect(kit, max_rows=max_rows)


@pytest.mark.parametrize(
    ("max_rows", "left"), [(-1, [4, 3]), (0, [4, 3]), (1, [4, 3]), (2, [3, 1]), (10**9, [1]), (4, [1])]
)
def test_rows_go_the_oldest_place_first_and_at_least_one(max_rows: int, left: list[int]) -> None:
    kit = kit_with(job("a"), allocations_per_ordinal=1)
    ends(kit, "a/api/0", times=5)
    for number in left:
        assert collect(kit, max_rows=max_rows)
        assert len(kit.attempts("a/api/0")) == number


def test_what_is_left_of_a_portion_after_the_jobs_is_for_rows() -> None:
    for max_rows, left in ((1, 4), (3, 3)):
        kit = kit_with(job("a"), job("b"), allocations_per_ordinal=1)
        ends(kit, "b/api/0", times=4)
        stopped_jobs(kit, "a", rows=2)
        assert collect(kit, max_rows=max_rows)
        assert names(kit) == {"b"} and len(kit.attempts("b/api/0")) == left


# ---------------------------------------------------------------------------- rows


@pytest.mark.parametrize(("kept", "left"), [(1, [3]), (2, [3, 2]), (3, [3, 2, 1])])
def test_of_an_ordinal_so_many_attempts_are_kept(kept: int, left: list[int]) -> None:
    kit = kit_with(job("a"), allocations_per_ordinal=kept)
    ends(kit, "a/api/0", times=3)
    assert collect(kit) is (kept < 3)
    assert kit.attempts("a/api/0") == left


def test_older_rows_go_and_the_newest_of_an_ordinal_that_there_is_stays() -> None:
    kit = kit_with(job("a"), allocation_age_ms=AGE_MS)
    ends(kit, "a/api/0", times=2)
    first_ms = kit.now_ms - 2  # when the first one ended
    assert not collect(kit, at_ms=first_ms + AGE_MS)
    assert collect(kit, at_ms=first_ms + AGE_MS + 1)
    assert kit.attempts("a/api/0") == [2]
    assert not collect(kit, at_ms=first_ms + NEVER_MS)


def test_of_an_ordinal_that_is_no_more_not_even_the_newest_stays() -> None:
    kit = kit_with(job("a", group("api", count=3), group("side"), group("gone")), allocation_age_ms=AGE_MS)
    for alloc in ("a/api/0", "a/api/1", "a/api/2", "a/side/0", "a/gone/0"):
        ends(kit, alloc)
    kit.submit(job("a", group("api", count=1), group("side", count=2)))
    assert collect(kit, at_ms=kit.now_ms + 2 * AGE_MS)
    table = kit.state.table
    left = {
        (kit.state.ordinals.names[int(table.gid[row])][1], int(table.ordinal[row]))
        for row in range(table.high)
        if table.job[row] >= 0
    }
    assert left == {("api", 0), ("side", 0)}


def test_a_system_job_has_an_ordinal_for_every_node() -> None:
    kit = kit_with(job("agent", kind=JobType.SYSTEM), allocation_age_ms=AGE_MS)
    kit.ok(RegisterNode(node=node("n2"), identity="agent:n2"))
    slot = kit.state.nodes["n2"].slot
    kit.place(f"agent/api/{slot}", "n2")
    kit.observe(f"agent/api/{slot}", AllocState.FAILED)
    assert not collect(kit, at_ms=kit.now_ms + 10 * AGE_MS)


# ---------------------------------------------------------------------------- runs of templates


def uid_of(number: int) -> str:
    return f"{number:08x}".ljust(32, "0")


def runs_of(kit: Kit, *ends_: AllocState | None) -> None:
    """Runs of ``work``, one after the other: how each ended, None: it has not begun."""
    for number, state in enumerate(ends_):
        kit.ok(DispatchJob(namespace="default", name="work", uid=uid_of(number)))
        name = kit.state.jobs[uid_of(number)].spec.name
        if state is not None:
            ends(kit, f"{name}/api/0", state)


def numbers(kit: Kit) -> list[int]:
    return sorted(int(uid[:8], 16) for uid, known in kit.state.jobs.items() if known.spec.origin is not None)


def template_kit(**limits: int) -> Kit:
    return kit_with(replace(job("work", kind=JobType.BATCH), parameterized=ParameterizedSpec()), **limits)


COMPLETE, FAILED = AllocState.COMPLETE, AllocState.FAILED


@pytest.mark.parametrize(
    ("kept", "left"), [(1, [0, 2, 5]), (2, [0, 2, 4, 5]), (3, [0, 2, 3, 4, 5]), (4, [0, 1, 2, 3, 4, 5])]
)
def test_of_the_runs_that_have_ended_the_newest_are_kept(kept: int, left: list[int]) -> None:
    kit = template_kit(children_per_job=kept)
    runs_of(kit, None, COMPLETE, None, FAILED, COMPLETE, COMPLETE)
    assert collect(kit) is (kept < 4)
    assert numbers(kit) == left


def test_a_run_that_was_stopped_has_ended_and_one_that_is_stopping_has_not() -> None:
    kit = template_kit(children_per_job=1)
    runs_of(kit, None, None, COMPLETE, COMPLETE)
    first, second = (kit.state.jobs[uid_of(number)].spec.name for number in (0, 1))
    kit.place(f"{second}/api/0", "n1")
    kit.observe(f"{second}/api/0", AllocState.STOPPING)
    for name in (first, second):
        kit.ok(StopJob(namespace="default", name=name))
    assert collect(kit)
    assert numbers(kit) == [1, 3]


def test_runs_that_ended_long_ago_go_however_few_they_are() -> None:
    kit = template_kit()
    runs_of(kit, COMPLETE)
    ended_ms = kit.now_ms
    assert not collect(kit, at_ms=ended_ms + AGE_MS)
    assert collect(kit, at_ms=ended_ms + AGE_MS + 1)
    assert numbers(kit) == [] and names(kit) == {"work"}


def test_of_two_ends_of_a_run_the_later_one_counts() -> None:
    kit = template_kit()
    runs_of(kit, COMPLETE, None)
    changed = kit.state.jobs[uid_of(0)].spec.name
    kit.now_ms += AGE_MS
    for name in (changed, kit.state.jobs[uid_of(1)].spec.name):
        kit.ok(StopJob(namespace="default", name=name))
    assert not collect(kit, at_ms=kit.now_ms + AGE_MS - 1)
    assert numbers(kit) == [0, 1]


# ---------------------------------------------------------------------------- limits and the feature level


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("allocations_per_ordinal", 1, 1_000),
        ("allocation_age_ms", 60_000, 3_650 * DAY_MS),
        ("stopped_job_age_ms", 60_000, 3_650 * DAY_MS),
        ("events", 100, 10_000_000),
        ("answers", 100, 10_000_000),
        ("answer_age_ms", 60_000, 3_650 * DAY_MS),
        ("answer_bytes", 2**20, 2**34),
        ("variable_bytes", 2**10, 2**20),
        ("children_per_job", 1, 10_000),
        ("child_age_ms", 60_000, 3_650 * DAY_MS),
    ],
)
def test_peers_of_all_versions_take_the_same_limits(name: str, lowest: int, highest: int) -> None:
    """Else their states would differ: other bounds need a feature level."""
    kit = Kit()
    for value in (lowest - 1, highest + 1, lowest, highest):
        change = LimitsChange(**{name: value})  # type: ignore[arg-type]
        if lowest <= value <= highest:
            kit.ok(SetLimits(change=change))
            assert kit.state.limits == Limits(**{name: value})  # type: ignore[arg-type]
        else:
            assert kit.refused(SetLimits(change=change)).reason == "INVALID"
            assert kit.state.limits == Limits()


@pytest.mark.parametrize(("name", "good"), [("", True), ("binpack", True), ("My policy!", False)])
def test_a_default_placement_is_a_name_or_none(name: str, *, good: bool) -> None:
    kit = Kit(Limits(default_placement="spread"))
    outcome = kit.do(SetLimits(change=LimitsChange(default_placement=name)))
    assert (getattr(outcome, "reason", "") == "INVALID") is not good
    assert kit.state.limits.default_placement == (name if good else "spread")


def test_the_feature_level_only_rises_and_each_rise_is_told() -> None:
    kit = Kit()
    assert kit.ok(SetFeatureLevel(level=0)).answer.changed is False  # type: ignore[union-attr]
    for level in (1, 3):
        assert kit.ok(SetFeatureLevel(level=level)).answer.changed is True  # type: ignore[union-attr]
    assert kit.ok(SetFeatureLevel(level=3)).answer.changed is False  # type: ignore[union-attr]
    assert kit.refused(SetFeatureLevel(level=2)).reason == "FAILED_PRECONDITION"
    for level in (-1, 1_000_001):
        assert kit.refused(SetFeatureLevel(level=level)).reason == "INVALID"
    assert kit.state.feature_level == 3
    assert [(one.kind, one.message) for one in kit.state.events.after(0)] == [
        ("feature.raised", "1"), ("feature.raised", "3"),
    ]  # fmt: skip
