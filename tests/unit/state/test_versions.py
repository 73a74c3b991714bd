"""What the next version of a job takes along: which older ones stay current, which was good, and from which one its
rollout begins. How a rollout is steered from there: ``test_steering.py``; what waits meanwhile: ``test_holding.py``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator import plan
from orchestrator.contract.model import (
    AllocState,
    Constraint,
    ConstraintOperator,
    Disruption,
    GangSpec,
    GroupSpec,
    JobSpec,
    JobType,
)
from orchestrator.contract.rollouts import Rollout, RolloutStatus, UpdateSpec
from orchestrator.state import views
from orchestrator.state.commands import (
    JobSubmission,
    PlanAnswer,
    RestartJob,
    ScaleJob,
    SetFeatureLevel,
    StopJob,
    SubmitJobs,
)
from orchestrator.state.disruption import Budgets, refusal_of
from orchestrator.state.features import HELD_VERSIONS, SAME_CONTENT
from orchestrator.state.model import MAX_GANG
from orchestrator.state.snapshot import capture, restore
from orchestrator.state.versions import counted, current, follows_policy, is_current, place_of
from tests.unit.state.kit import Kit, Placement, group, job, node
from tests.unit.state.test_steering import CAREFUL, run, stand, submit, the, web

RUNNING, PAUSED, FAILED = RolloutStatus.RUNNING, RolloutStatus.PAUSED, RolloutStatus.FAILED
ELSEWHERE = (Constraint(attribute="zone", operator=ConstraintOperator.EQUAL, values=("b",)),)


def kit_of(*versions: JobSpec, level: int = HELD_VERSIONS) -> Kit:
    """One instance of each group of the first version is placed; the others follow."""
    kit = Kit()
    kit.ok(SetFeatureLevel(level=level))
    kit.register(node("n1", cpu=100_000, memory=100_000))
    for number, spec in enumerate(versions):
        submit(kit, spec)
        if not number:
            kit.plan(*(Placement(f"web/{one.name}/0", "n1") for one in spec.groups))
    return kit


def fresh(kit: Kit, place: int = 0) -> list[int]:
    """The versions that are current for a group."""
    found = the(kit)
    numbers = np.arange(1, found.version + 1, dtype=np.int32)
    one_by_one = [version for version in numbers.tolist() if is_current(found, place, version)]
    assert numbers[current(found, place, numbers)].tolist() == one_by_one
    return one_by_one


def rollout(kit: Kit) -> Rollout:
    found = the(kit).rollout
    assert found is not None
    return found


def scale(kit: Kit, name: str, count: int) -> None:
    kit.ok(ScaleJob(namespace="default", name="web", group=name, count=count))


# ---------------------------------------------------------------------------- which are current


def test_going_back_leaves_alone_what_runs_the_same_group_by_group_and_a_count_changes_nothing_of_it() -> None:
    def of(api: str, db: str) -> JobSpec:
        return job("web", group("api", image=api), group("db", image=db))

    kit = kit_of(of("one", "one"), of("two", "one"), of("one", "one"))
    assert (fresh(kit, 0), fresh(kit, 1)) == ([1, 3], [1, 2, 3])
    scale(kit, "db", 3)
    assert (fresh(kit, 0), fresh(kit, 1)) == ([1, 3, 4], [1, 2, 3, 4])
    submit(kit, of("one", "two"))
    assert (fresh(kit, 0), fresh(kit, 1)) == ([1, 3, 4, 5], [5])


@pytest.mark.parametrize(
    "first",
    [
        replace(job("web", group(image="one")), constraints=ELSEWHERE),
        replace(job("web", group(image="one")), type=JobType.BATCH),
    ],
    ids=["other constraints", "another type"],
)
def test_a_version_that_was_placed_by_other_rules_is_not_the_same(first: JobSpec) -> None:
    kit = kit_of(first, job("web", group(image="two")), job("web", group(image="one")))
    assert fresh(kit) == [3]


def test_a_job_that_does_not_remember_replaces_what_it_goes_back_to() -> None:
    """As all did before rollouts were remembered: peers of any version agree on it."""
    kit = Kit()
    kit.register(node("n1"))
    for image in ("one", "two", "one"):
        kit.submit(web(image))
        if image == "one":
            kit.place("web/api/0", "n1")
    assert (the(kit).twins, the(kit).rollout, the(kit).history) == ((), None, ())
    assert not is_current(the(kit), 0, 1)


def test_a_job_that_is_submitted_so_remembers_from_then_on_and_is_not_made_to_forget() -> None:
    kit = Kit()
    kit.submit(web("one"))
    submit(kit, web("two"))
    assert (the(kit).tracked, [one.version for one in the(kit).history]) == (True, [1])
    kit.submit(web("three"))
    assert (the(kit).tracked, [one.version for one in the(kit).history]) == (True, [1, 2])


# ---------------------------------------------------------------------------- what was good


@pytest.mark.parametrize("ready", [True, False])
def test_the_version_that_is_left_was_good_if_all_of_it_was_ready(ready: bool) -> None:
    kit = kit_of()
    submit(kit, web("one"))
    run(kit)
    if not ready:
        kit.observe("web/api/1", AllocState.FAILED)
    scale(kit, "api", 3)
    assert the(kit).stable_version == (2 if ready else 0), "a count makes no other version"
    submit(kit, web("two"))
    assert the(kit).stable_version == (2 if ready else 0)
    assert [one.version for one in the(kit).history if one.stable] == ([1, 2] if ready else [])
    submit(kit, web("three"))
    assert the(kit).stable_version == (2 if ready else 0), "nothing of version 3 was ever ready"


# ---------------------------------------------------------------------------- the first rollout


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (job("web", group("api"), replace(group("db"), update=UpdateSpec())), True),
        (job("web", group("api")), False),
        (job("web", replace(group("api"), update=UpdateSpec()), kind=JobType.SYSTEM), False),
        (job("web", replace(group("api"), update=UpdateSpec()), kind=JobType.BATCH), False),
    ],
    ids=["a policy of one group", "none", "a system job", "a batch job"],
)
def test_a_new_job_is_rolled_out_only_where_it_has_a_deadline_to_keep(spec: JobSpec, expected: bool) -> None:
    kit = Kit()
    submit(kit, spec)
    now_ms = kit.state.time_ms
    begun = Rollout(version=1, began_version=1, status=RUNNING, began_ms=now_ms, progress_ms=now_ms)
    assert the(kit).rollout == (begun if expected else None)


# ---------------------------------------------------------------------------- where a rollout begins


@pytest.mark.parametrize(
    ("status", "promoted", "base", "expected"),
    [
        (RUNNING, True, 1, 2),
        (PAUSED, True, 1, 2),
        (FAILED, True, 1, 1),
        (RUNNING, False, 1, 1),
        (FAILED, False, 1, 1),
        (FAILED, True, 0, 2),
        (RUNNING, False, 0, 0),
    ],
    ids=[
        "what is promoted", "and paused", "what has failed is none to go back to", "nor is what waits",
        "or has failed waiting", "the first has failed", "what waits since before all peers knew",
    ],
)  # fmt: skip
def test_a_rollout_begins_from_the_version_that_was_promoted_last(
    status: RolloutStatus, promoted: bool, base: int, expected: int
) -> None:
    kit = kit_of(web("one"), web("two"))
    stand(kit, status=status, promoted=promoted, base_version=base)
    submit(kit, web("three"))
    assert rollout(kit).base_version == expected


def test_nothing_is_held_or_compared_with_what_was_stopped() -> None:
    kit = kit_of(web("one", update=CAREFUL))
    kit.ok(StopJob(namespace="default", name="web"))
    submit(kit, web("two", update=CAREFUL))
    assert (rollout(kit).promoted, rollout(kit).base_version) == (True, 0)


# ---------------------------------------------------------------------------- whether canaries are asked for


def careful(api: str, db: str, *, ring: int = 0) -> JobSpec:
    """The first two groups want canaries; ``ring``: so many are a gang."""
    groups = [replace(group("api", image=api), update=CAREFUL), replace(group("db", image=db), update=CAREFUL)]
    return job("web", *groups, *([group("ring", ring, gang=GangSpec())] if ring else []))


def test_only_a_change_of_a_group_that_wants_canaries_asks_for_them() -> None:
    plain = group("plain")
    kit = kit_of(job("web", *careful("one", "one").groups, plain))
    submit(kit, job("web", *careful("one", "one").groups, group("plain", image="two")))
    assert rollout(kit).promoted
    submit(kit, job("web", *careful("one", "two").groups, group("plain", image="two")))
    assert not rollout(kit).promoted


def test_what_was_promoted_is_not_waited_for_again_when_something_else_changes() -> None:
    kit = kit_of(job("web", *careful("one", "one").groups, group("plain")))
    submit(kit, job("web", *careful("two", "one").groups, group("plain")))
    stand(kit, promoted=True)
    submit(kit, job("web", *careful("two", "one").groups, group("plain", image="two")))
    assert (rollout(kit).version, rollout(kit).promoted) == (3, True)


def test_what_waits_goes_on_waiting_whatever_else_changes() -> None:
    """A count of another group, and the size of a gang, which is a version of its own though it runs the same."""
    kit = kit_of(careful("one", "one", ring=2), careful("two", "one", ring=2))
    assert not rollout(kit).promoted
    scale(kit, "db", 2)
    assert not rollout(kit).promoted
    scale(kit, "ring", 3)
    assert the(kit).group_versions == (2, 1, 4)
    assert (rollout(kit).promoted, rollout(kit).base_version) == (False, 1)


def test_a_count_leaves_what_was_promoted_promoted() -> None:
    kit = kit_of(careful("one", "one"), careful("two", "one"))
    stand(kit, promoted=True)
    scale(kit, "db", 2)
    assert (rollout(kit).version, rollout(kit).began_version, rollout(kit).promoted) == (3, 2, True)


def test_a_gang_that_grows_and_a_restart_bring_nothing_new_to_look_at() -> None:
    kit = kit_of(careful("one", "one", ring=1))
    scale(kit, "ring", 3)
    assert the(kit).group_versions == (1, 1, 2)
    assert rollout(kit).promoted
    assert kit.alloc("web/ring/0").job_version == 1, "its members know how many they are"
    kit.ok(RestartJob(namespace="default", name="web"))
    assert (the(kit).group_versions, rollout(kit).promoted) == ((3, 3, 3), True)


def test_a_gang_has_no_more_members_than_one_entry_holds() -> None:
    kit = kit_of(careful("one", "one", ring=2))
    refused = kit.refused(ScaleJob(namespace="default", name="web", group="ring", count=MAX_GANG + 1))
    assert (refused.reason, f"at most {MAX_GANG} instances" in refused.message) == ("INVALID", True)
    assert the(kit).version == 1


# ---------------------------------------------------------------------------- restarts


@pytest.mark.parametrize(
    ("level", "status", "promoted", "refused"),
    [
        (HELD_VERSIONS, RUNNING, False, True),
        (HELD_VERSIONS, PAUSED, False, True),
        (HELD_VERSIONS, FAILED, False, True),
        (HELD_VERSIONS, RUNNING, True, False),
        (HELD_VERSIONS, PAUSED, True, False),
        (HELD_VERSIONS - 1, RUNNING, False, False),
    ],
)
def test_a_restart_would_spread_a_version_that_waits_so_it_is_refused(
    level: int, status: RolloutStatus, promoted: bool, refused: bool
) -> None:
    kit = kit_of(careful("one", "one"), careful("two", "one"), level=level)
    stand(kit, status=status, promoted=promoted)
    restart = RestartJob(namespace="default", name="web")
    if refused:
        said = kit.refused(restart)
        assert (said.reason, "raftsman promote web" in said.message) == ("FAILED_PRECONDITION", True)
        assert the(kit).version == 2
    else:
        kit.ok(restart)
        assert (the(kit).version, the(kit).group_versions) == (3, (3, 3))


def test_a_job_that_starts_again_is_another_though_only_its_size_has_changed() -> None:
    """What is still stopping of it does not become part of the new one."""
    kit = kit_of(web("one"))
    kit.observe("web/api/0", AllocState.RUNNING)
    kit.ok(StopJob(namespace="default", name="web"))
    larger = JobSubmission(spec=web("one", cpu=200), uid="uid-web", remember=True, in_place=True)
    kit.ok(SubmitJobs(jobs=(larger,)))
    old = kit.alloc("web/api/0")
    assert (old.job_version, old.resources.cpu_millis) == (1, 100)


# ---------------------------------------------------------------------------- work that was done before


def done_before(level: int, *, gang: GangSpec | None = None, ends: tuple[AllocState, AllocState]) -> Kit:
    """A batch job of two ended so; version 2 was another, and version 3 is what version 1 was."""
    kit = Kit()
    kit.ok(SetFeatureLevel(level=level))
    kit.register(node("n1"))
    for image in ("one", "two", "one"):
        spec = job("work", group("w", 2, image=image, gang=gang), group("side", 2), kind=JobType.BATCH)
        spec = replace(spec, disruption=Disruption(max_unavailable=1))
        kit.ok(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="uid-work", remember=True),)))
        if kit.state.jobs["uid-work"].version == 1:
            names = [f"work/{name}/{ordinal}" for name in ("w", "side") for ordinal in (0, 1)]
            kit.plan(*(Placement(name, "n1") for name in names))
            for name in names:
                kit.observe(name, AllocState.RUNNING)
            for name, end in zip(names, ends, strict=False):
                kit.observe(name, end)
    assert kit.state.jobs["uid-work"].twins == ((1,), ())
    return kit


BEFORE, SINCE = SAME_CONTENT - 1, SAME_CONTENT
COMPLETE = (AllocState.COMPLETE, AllocState.COMPLETE)


def test_what_was_done_at_the_content_of_now_asks_for_nothing_of_a_quota() -> None:
    kit = done_before(BEFORE, ends=COMPLETE)
    assert kit.state.usage.of("default").allocations == 4, "as peers of before count"
    kit.ok(SetFeatureLevel(level=SINCE))
    assert kit.state.usage.of("default").allocations == 2
    assert restore(capture(kit.state)).usage.of("default") == kit.state.usage.of("default")
    assert done_before(SINCE, ends=COMPLETE).state.usage.of("default").allocations == 2
    assert done_before(SINCE, ends=(AllocState.COMPLETE, AllocState.STOPPED)).state.usage.of("default").allocations == 3


def test_who_is_done_is_not_down_and_costs_no_budget() -> None:
    for level, refused in ((BEFORE, True), (SINCE, False)):
        kit = done_before(level, ends=(AllocState.COMPLETE, AllocState.RUNNING))
        assert bool(refusal_of(kit.state, kit.row("work/w/1"))) is refused
        budgets = Budgets(views.cluster_view(kit.state), np.zeros(0, dtype=np.int64))
        slot = kit.state.jobs["uid-work"].slot
        assert [budgets.left((slot, name)) for name in ("w", "side")] == [0 if refused else 1, 1]


def test_a_gang_of_which_a_member_is_done_goes_in_without_it() -> None:
    """The leader asked for the others alone, and its plan was refused, round after round."""
    for level, placed in ((BEFORE, 0), (SINCE, 1)):
        kit = done_before(level, gang=GangSpec(), ends=(AllocState.COMPLETE, AllocState.STOPPED))
        (plan_,) = plan.decide(views.cluster_view(kit.state), kit.now_ms).plans
        assert plan_.placements.ordinal.tolist() == [1]
        answer = kit.ok(plan_).answer
        assert isinstance(answer, PlanAnswer)
        assert answer.placed == placed


# ---------------------------------------------------------------------------- as values


def test_what_is_judged_at_commit_knows_of_twins_only_from_a_level_on() -> None:
    found = replace(the(kit_of(job("web", group()), job("web", group("api"), group("side")))), version=5)
    found = replace(found, group_versions=(4, 2), twins=((1, 2), ()))
    numbers = np.arange(1, 6, dtype=np.int32)

    def known(place: int, level: int, **more: int) -> list[int]:
        counts: list[int] = numbers[counted(found, place, numbers, level, **more)].tolist()
        return counts

    assert known(0, SAME_CONTENT) == [1, 2, 4, 5] == known(0, 7, known_from=7)
    assert known(0, SAME_CONTENT - 1) == [4, 5] == known(0, 6, known_from=7)
    assert known(1, SAME_CONTENT) == [2, 3, 4, 5]


def test_a_group_is_found_by_its_name() -> None:
    found = the(kit_of(job("web", group("api"), group("side"))))
    assert [place_of(found, name) for name in ("api", "side", "none")] == [0, 1, -1]


@pytest.mark.parametrize(
    ("kind", "one", "remembers", "follows"),
    [
        (JobType.SERVICE, group(), True, True),
        (JobType.SERVICE, group(), False, False),
        (JobType.SERVICE, group(gang=GangSpec()), True, False),
        (JobType.BATCH, group(), True, False),
        (JobType.SYSTEM, group(), True, False),
    ],
)
def test_rollouts_are_of_services_that_remember_and_of_no_gang(
    kind: JobType, one: GroupSpec, *, remembers: bool, follows: bool
) -> None:
    other = group("other") if one.gang is not None or kind is JobType.SYSTEM else group("other", gang=GangSpec())
    found = the(kit_of(job("web", other, one, kind=kind)))
    record = Rollout(version=1, began_version=1, status=RUNNING) if remembers else None
    assert follows_policy(replace(found, rollout=record), 1) is follows
