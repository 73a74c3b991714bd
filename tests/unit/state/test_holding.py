"""Which groups of a job are held at the version before, and how, while the newest version must not spread.

The jobs are made by commands. What the leader makes of it: ``tests/properties/test_canaries.py``; what apply refuses:
``test_plan_rows.py`` and ``test_steering.py``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import Constraint, ConstraintOperator, GangSpec, GroupSpec, JobSpec, JobType
from orchestrator.contract.rollouts import Rollout, RolloutStatus, UpdateSpec
from orchestrator.state.commands import JobSubmission, RemoveJob, SetFeatureLevel, StopJob, SubmitJobs
from orchestrator.state.features import HELD_VERSIONS
from orchestrator.state.holding import (
    Hold,
    base_record,
    base_refusal,
    base_spec,
    differs,
    hold_of,
    is_held_back,
    is_of_base,
    may_ask_for_ports,
    may_be_placed,
    remains,
)
from orchestrator.state.model import Job
from tests.unit.state.kit import Kit, Placement, group, job, node

RUNNING, PAUSED, FAILED, SUCCEEDED = (
    RolloutStatus.RUNNING,
    RolloutStatus.PAUSED,
    RolloutStatus.FAILED,
    RolloutStatus.SUCCEEDED,
)
CAREFUL = UpdateSpec(canaries=1)  # one at a time, in place of another
BESIDE = UpdateSpec(canaries=2, max_surge=2)
ELSEWHERE = (Constraint(attribute="zone", operator=ConstraintOperator.EQUAL, values=("b",)),)


def api(image: str = "one", *, count: int = 3, update: UpdateSpec | None = CAREFUL) -> GroupSpec:
    return replace(group("api", count, image=image), update=update)


def ring(image: str = "one", *, count: int = 2, update: UpdateSpec | None = None) -> GroupSpec:
    return replace(group("ring", count, image=image, gang=GangSpec()), update=update)


class World(Kit):
    """Versions of one job, each submitted with canaries as they are asked for; rows keep older versions known."""

    def __init__(self, *versions: JobSpec, level: int = HELD_VERSIONS) -> None:
        super().__init__()
        self.ok(SetFeatureLevel(level=level))
        self.register(node("n1", cpu=100_000, memory=100_000))
        for spec in versions:
            self.next(spec)

    def next(self, spec: JobSpec) -> Job:
        self.ok(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="uid-web", remember=True),)))
        return self.job

    @property
    def job(self) -> Job:
        return self.state.jobs["uid-web"]

    def stands(self, status: RolloutStatus = RUNNING, *, promoted: bool) -> Job:
        """The job where its rollout stands so."""
        assert self.job.rollout is not None
        self.state.put_job(replace(self.job, rollout=replace(self.job.rollout, status=status, promoted=promoted)))
        return self.job


def waits(before: JobSpec, now: JobSpec) -> Job:
    found = World(before, now).job
    assert found.rollout is not None
    assert not found.rollout.promoted
    return found


def hold(found: Job, name: str = "api") -> Hold | None:
    place = [one.name for one in found.spec.groups].index(name)
    return hold_of(found, place, base_record(found))


# ---------------------------------------------------------------------------- whether


@pytest.mark.parametrize(
    ("status", "promoted", "held"),
    [
        (RUNNING, False, True),
        (PAUSED, False, True),
        (FAILED, False, True),
        (RUNNING, True, False),
        (SUCCEEDED, True, False),
        (PAUSED, True, True),
        (FAILED, True, True),
    ],
)
def test_a_version_is_held_back_until_its_promotion_and_while_it_does_not_go_on(
    status: RolloutStatus, promoted: bool, held: bool
) -> None:
    assert is_held_back(World(job("web", api()), job("web", api("two"))).stands(status, promoted=promoted)) is held


def test_nothing_is_held_of_a_job_without_a_version_before_or_one_that_is_to_end() -> None:
    world = World(job("web", api()))
    assert world.job.rollout is not None
    assert not is_held_back(world.stands(PAUSED, promoted=True)), "it is the first"
    assert not is_held_back(replace(world.job, rollout=None))
    assert base_spec(replace(world.job, rollout=None)) is None
    before = World(job("web", api()), job("web", api("two")), level=HELD_VERSIONS - 1)
    assert not is_held_back(before.job), "peers of older versions do not know of it"
    for end in (StopJob(namespace="default", name="web"), RemoveJob(namespace="default", name="web")):
        world = World(job("web", api()))
        world.place("web/api/0", "n1")
        world.next(job("web", api("two")))
        assert is_held_back(world.job)
        world.ok(end)
        assert not is_held_back(world.job)
        assert may_be_placed(world.job, 0, 1) is False


# ---------------------------------------------------------------------------- the version before


def test_the_version_before_is_seen_with_the_counts_of_now_and_its_own_content() -> None:
    """A gang's count is content; what is asked of all groups comes with the version, what is no content is of now."""
    before = replace(job("web", api(count=3), ring(count=2), group("old", 4)), constraints=ELSEWHERE)
    now = replace(job("web", ring("two", count=3), api("two", count=5)), priority=before.priority + 1)
    found = waits(before, now)
    seen = base_record(found)
    assert seen is not None
    assert (seen.version, seen.group_versions, seen.twins) == (1, (1, 1, 1), ())
    assert seen.spec.groups == (api(count=5), ring(count=2), group("old", 4))
    assert (seen.spec.constraints, seen.spec.priority) == (ELSEWHERE, now.priority)
    assert (seen.uid, seen.slot, seen.rollout) == (found.uid, found.slot, found.rollout)


@pytest.mark.parametrize(
    ("before", "now"),
    [(JobType.BATCH, JobType.SERVICE), (JobType.SERVICE, JobType.BATCH), (JobType.BATCH, JobType.BATCH)],
)
def test_nothing_is_placed_at_a_version_of_another_type(before: JobType, now: JobType) -> None:
    found = waits(job("web", api()), job("web", api("two")))
    specs = tuple((version, replace(spec, type=before if version == 1 else now)) for version, spec in found.specs)
    found = replace(found, specs=specs, spec=replace(found.spec, type=now))
    assert base_record(found) is None
    assert not remains(found, "api")


def test_nothing_is_placed_at_a_version_that_nobody_knows_any_more() -> None:
    found = waits(job("web", api(), group("old")), job("web", api("two")))
    forgotten = replace(found, specs=found.specs[1:])
    assert base_record(forgotten) is None
    assert hold(forgotten) == Hold(at=-1, canaries=1, growing=True, beside=False)
    assert not is_of_base(forgotten, "api", 1)
    assert not remains(forgotten, "old")
    assert hold(World(job("web", api()), job("web", api("two"))).job) is not None


# ---------------------------------------------------------------------------- how a group is held


@pytest.mark.parametrize(
    ("update", "count", "expected"),
    [
        (CAREFUL, 3, Hold(at=0, canaries=1, growing=True, beside=False)),
        (BESIDE, 3, Hold(at=0, canaries=2, growing=True, beside=True)),
        (replace(BESIDE, max_surge=1), 3, Hold(at=0, canaries=2, growing=True, beside=False)),
        (replace(BESIDE, max_surge=1), 1, Hold(at=0, canaries=1, growing=True, beside=True)),
        (UpdateSpec(canaries=5), 2, Hold(at=0, canaries=2, growing=True, beside=False)),
    ],
    ids=["in place", "beside", "no room beside for all", "as many as there are", "no more than there are"],
)
def test_of_a_group_that_waits_only_canaries_are_of_the_newer_version(
    update: UpdateSpec, count: int, expected: Hold
) -> None:
    found = waits(job("web", api(update=update, count=count)), job("web", api("two", update=update, count=count)))
    assert hold(found) == expected


@pytest.mark.parametrize(("status", "growing"), [(RUNNING, True), (PAUSED, False), (FAILED, False)])
def test_no_canary_is_made_while_its_rollout_does_not_go_on(status: RolloutStatus, growing: bool) -> None:
    world = World(job("web", api()), job("web", api("two")))
    found = hold(world.stands(status, promoted=False))
    assert found is not None
    assert found.growing is growing


def test_a_group_is_found_where_the_version_before_has_it_and_one_that_did_not_change_is_not_held() -> None:
    found = waits(job("web", group("db"), api()), job("web", api("two"), group("db")))
    assert hold(found, "api") == Hold(at=1, canaries=1, growing=True, beside=False)
    assert hold(found, "db") is None


def test_a_changed_group_without_canaries_waits_as_well() -> None:
    side = group("side", 2)
    found = waits(job("web", api(), side), job("web", api("two"), group("side", 2, image="two")))
    assert hold(found, "side") == Hold(at=1, canaries=0, growing=True, beside=True)


def test_a_group_that_is_new_has_only_canaries_and_has_them_beside_nothing() -> None:
    new = replace(group("new", 3), update=BESIDE)
    found = waits(job("web", api()), job("web", api(), new))
    assert hold(found, "new") == Hold(at=-1, canaries=2, growing=True, beside=False)


def test_a_gang_has_no_canaries_and_becomes_a_gang_or_none_only_once_all_is_promoted() -> None:
    found = waits(job("web", api(), ring(update=CAREFUL)), job("web", api("two"), ring("two", update=CAREFUL)))
    assert hold(found, "ring") == Hold(at=1, canaries=0, growing=True, beside=True)
    loose = replace(ring(), gang=None)
    for before, now in ((loose, ring("two")), (ring(), replace(loose, update=CAREFUL))):
        # At the first place of the version before, and at another one.
        for order in (1, -1):
            found = waits(job("web", *(api(), before)[::order]), job("web", api("two"), now))
            held = hold(found, "ring")
            assert held is not None
            assert (held.at, held.beside) == (-1, False)


@pytest.mark.parametrize("status", [PAUSED, FAILED])
def test_what_was_promoted_stays_where_it_is_while_its_rollout_does_not_go_on(status: RolloutStatus) -> None:
    before = job("web", api(), ring())
    now = job("web", api("two"), ring("two"), replace(group("new"), update=CAREFUL))
    found = World(before, now).stands(status, promoted=True)
    held = hold(found, "api")
    assert held is not None
    assert (held.at, held.growing, held.beside) == (0, False, False)
    assert held.canaries >= 3, "any number may stay"
    assert hold(found, "ring") is None, "a gang is whole or not at all, so it is of the newest version"
    assert hold(found, "new") is None, "there is no other version to place it at"


# ---------------------------------------------------------------------------- which rows are of the version before


def older(first: JobSpec, second: JobSpec, third: JobSpec) -> Job:
    """Instances of the first version are left while the second was promoted and the third waits."""
    world = World(first)
    world.plan(*(Placement(f"web/{one.name}/0", "n1") for one in first.groups))
    world.next(second)
    world.stands(promoted=True)
    found = world.next(third)
    assert [version for version, _ in found.specs] == [1, 2, 3]
    assert found.rollout is not None
    assert (found.rollout.base_version, found.rollout.promoted) == (2, False)
    return found


def test_an_older_version_with_the_same_content_is_as_good_as_the_version_before() -> None:
    first = job("web", group("db"), api("one"), group("side"))
    second = job("web", api("two"), group("side", 2), group("more"), group("db"))
    found = older(first, second, job("web", api("three"), group("side", image="three"), group("db", image="three")))
    for name, as_first in (("api", False), ("side", True), ("db", True), ("more", False)):
        assert is_of_base(found, name, 1) is as_first, name
        assert is_of_base(found, name, 2), name
        assert not is_of_base(found, name, 3), name
    assert not is_of_base(found, "nobody", 2)
    assert not is_of_base(found, "db", 7)
    # What may be placed: what is current, and what is as the version before.
    assert [may_be_placed(found, 0, version) for version in (1, 2, 3)] == [False, True, True]
    assert [may_be_placed(found, 1, version) for version in (1, 2, 3)] == [True, True, True]


@pytest.mark.parametrize("moved", ["constraints", "type"])
def test_an_older_version_that_was_placed_by_other_rules_is_another_one(moved: str) -> None:
    plain = job("web", api("one"))
    first = replace(plain, constraints=ELSEWHERE) if moved == "constraints" else replace(plain, type=JobType.BATCH)
    first = replace(first, groups=(replace(first.groups[0], update=None),)) if moved == "type" else first
    assert is_of_base(older(plain, job("web", api("one"), group("side")), job("web", api("three"))), "api", 1)
    assert not is_of_base(older(first, plain, job("web", api("three"))), "api", 1)


def test_what_is_not_held_may_be_placed_only_as_it_is_now() -> None:
    world = World(job("web", api(), group("db")), job("web", api("two"), group("db")))
    assert may_be_placed(world.job, 0, 1)
    assert may_be_placed(world.job, 1, 1), "the group did not change"
    promoted = world.stands(promoted=True)
    assert [may_be_placed(promoted, 0, version) for version in (1, 2)] == [False, True]
    # A group that the version before has as something else is not placed at it.
    found = waits(job("web", api(), replace(ring(), gang=None)), job("web", api("two"), ring("two")))
    assert not may_be_placed(found, 1, 1)
    # Of two that do not go on, each as it was promoted: the gang is of the newest version.
    paused = World(job("web", api(), ring()), job("web", api("two"), ring("two"))).stands(PAUSED, promoted=True)
    assert [may_be_placed(paused, place, 1) for place in (0, 1)] == [True, False]


# ---------------------------------------------------------------------------- groups that come and go


def test_a_group_that_is_gone_stays_until_the_promotion() -> None:
    world = World(job("web", group("old"), api()), job("web", api("two")))
    assert remains(world.job, "old")
    assert not remains(world.job, "nobody")
    assert base_refusal(world.job, "old") == ""
    for status in (RUNNING, PAUSED):
        promoted = world.stands(status, promoted=True)
        assert not remains(promoted, "old")
        assert base_refusal(promoted, "old") == "the group is not part of the job any more"
    assert not remains(World(job("web", group("old"), api()), job("web", api())).job, "old"), "nothing waits"
    world = World(job("web", group("old"), api()), job("web", api("two")))
    world.ok(StopJob(namespace="default", name="web"))
    assert not remains(world.job, "old"), "nothing is wanted of a job that was stopped"


def test_a_group_is_placed_at_the_version_before_only_where_it_is_held_there() -> None:
    new = replace(group("new"), update=CAREFUL)
    found = waits(job("web", group("db"), api()), job("web", group("db"), api("two"), new))
    current = "the group is of the newest version by now"
    assert [base_refusal(found, name) for name in ("db", "api", "new")] == [current, "", current]


def test_a_group_differs_by_content_place_and_what_is_asked_of_the_whole_job() -> None:
    base = job("web", group("db"), api())
    assert not differs(base, base, api())
    assert not differs(base, job("web", api(count=7, update=None)), api(count=7, update=None))
    assert differs(base, base, api("two"))
    assert differs(base, base, group("new"))
    assert differs(base, replace(base, constraints=ELSEWHERE), api())
    assert differs(base, replace(base, type=JobType.BATCH), api())


def test_ports_may_be_asked_for_by_either_version() -> None:
    plain, open_ = group("db"), group("db", ports=(80,))
    for before, now, expected in ((plain, plain, False), (plain, open_, True), (open_, plain, True)):
        assert may_ask_for_ports(World(job("web", api(), before), job("web", api("two"), now)).job) is expected
    assert may_ask_for_ports(World(job("web", open_)).job)
    assert not may_ask_for_ports(World(job("web", plain)).job)


def test_the_version_before_is_the_one_that_the_rollout_names() -> None:
    found = waits(job("web", api()), job("web", api("two")))
    assert found.rollout is not None
    assert base_spec(found) == job("web", api())
    assert base_spec(replace(found, rollout=replace(found.rollout, base_version=0))) is None
    assert isinstance(found.rollout, Rollout)
