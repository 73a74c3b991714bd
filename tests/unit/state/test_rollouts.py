"""What a rollout and a drain may do to a group now: who may be told to stop, who may get a successor, at which version.

The jobs and rows are made by commands; what the leader makes of it: ``tests/unit/reconcile/test_rollouts.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.contract import health
from orchestrator.contract.model import AllocState, GangSpec, GroupSpec, NodeStatus, Observation, Revision
from orchestrator.contract.rollouts import RolloutStatus, UpdateSpec
from orchestrator.state.allocations import FREE
from orchestrator.state.commands import (
    Action,
    DrainNode,
    JobSubmission,
    MarkNodes,
    NodeMark,
    PlanAnswer,
    RecordStatuses,
    RemoveJob,
    ScaleJob,
    SetFeatureLevel,
    SubmitJobs,
)
from orchestrator.state.features import HIGHEST, SURGING_DRAINS
from orchestrator.state.model import MAX_REVISIONS, Job
from orchestrator.state.rollouts import (
    is_ready,
    newer_ordinals,
    pairs,
    ready_count,
    ready_rows,
    remembered,
    spread_refusal,
    status_text,
    target,
)
from tests.unit.state.kit import Kit, Placement, group, job, node

RUNNING, PAUSED = RolloutStatus.RUNNING, RolloutStatus.PAUSED
IN_PLACE = UpdateSpec()  # one at a time, stopped before it is replaced
BESIDE = UpdateSpec(max_surge=1, max_unavailable=0)
LIVE = "an attempt of it is live"


def api(image: str = "one", count: int = 2, update: UpdateSpec | None = IN_PLACE) -> GroupSpec:
    return replace(group("api", count, image=image), update=update)


class World(Kit):
    """A job ``web`` that remembers, on two large nodes: ``run`` places at its newest version."""

    def __init__(self, *groups: GroupSpec, level: int = HIGHEST) -> None:
        super().__init__()
        self.ok(SetFeatureLevel(level=level))
        for name in ("n1", "n2"):
            self.register(node(name, cpu=100_000, memory=100_000))
        if groups:
            self.next(*groups)

    def next(self, *groups: GroupSpec) -> None:
        self.ok(SubmitJobs(jobs=(JobSubmission(spec=job("web", *groups), uid="uid-web", remember=True),)))

    @property
    def job(self) -> Job:
        return self.state.jobs["uid-web"]

    @property
    def gid(self) -> int:
        return self.state.ordinals.gids[(self.job.slot, "api")]

    def stands(self, status: RolloutStatus = RUNNING, *, promoted: bool = True) -> None:
        assert self.job.rollout is not None
        self.state.put_job(replace(self.job, rollout=replace(self.job.rollout, status=status, promoted=promoted)))

    def run(self, *ordinals: int, node_id: str = "n1", version: int | None = None) -> None:
        """New attempts of these run."""
        for ordinal in ordinals:
            name = f"web/api/{ordinal}"
            answer = self.place(name, node_id, version=version)
            assert answer.placed == 1, answer
            self.observe(name, AllocState.RUNNING, attempt=self.newest(ordinal))

    def newest(self, ordinal: int) -> int:
        return int(self.state.ordinals.attempts(self.gid)[ordinal])

    def is_sick(self, name: str, attempt: int) -> None:
        """It runs, and its checks say that it is not ready."""
        seen = Observation(
            key=self.key(name, attempt), restarts=0, state=AllocState.RUNNING, health=health.word(9, False)
        )
        self.ok(RecordStatuses(node_id=self.alloc(name, attempt).node_id, observations=(seen,)))

    def drain(self, node_id: str = "n1") -> None:
        self.ok(DrainNode(node_id=node_id))

    def undrain(self, node_id: str = "n1") -> None:
        self.ok(DrainNode(node_id=node_id, cancel=True))

    def replaces(self, *allocs: str) -> tuple[str, ...]:
        """Why some of them (``web/api/0#1``: of this attempt) may not be told to stop by a rollout."""
        return self.plan(actions=[(Action.REPLACE, alloc, "outdated") for alloc in allocs]).rejected

    def fill(self) -> None:
        """The table has no row left, and its last one is ready, a second attempt, and of a high version."""
        self.checked = False  # it is checked again after the next command
        for version in range(1, 9):
            self.submit(job("filler", group("fill", 100, image=f"v{version}")))
        self.place("filler/fill/0", "n2")
        self.observe("filler/fill/0", AllocState.STOPPED)
        for ordinal in range(1, len(self.state.table.job) - self.state.table.high):
            self.place(f"filler/fill/{ordinal}", "n2")
        self.place("filler/fill/0", "n2")
        self.checked = True
        self.observe("filler/fill/0", AllocState.RUNNING)
        assert self.state.table.job[-1] != FREE
        assert is_ready(self.state, -1)


def rolling(update: UpdateSpec = IN_PLACE, count: int = 2, level: int = HIGHEST) -> World:
    """Version 2 is rolled out; all of version 1 is ready, the first one in row 0."""
    world = World(api(count=count, update=update), level=level)
    world.run(*range(count))
    world.next(api("two", count, update))
    return world


def surging(level: int = HIGHEST) -> World:
    """The first instance has an attempt of version 1 in row 0, and one of version 2 on the other node."""
    world = rolling(BESIDE, level=level)
    world.run(0, node_id="n2")
    return world


def leaving() -> World:
    """The first instance has two attempts of one version: its node is draining. Nothing is rolled out."""
    world = World(api(update=BESIDE))
    world.run(0, 1)
    world.drain()
    world.run(0, node_id="n2")
    world.stands(RolloutStatus.SUCCEEDED)
    return world


# ---------------------------------------------------------------------------- ready


def test_who_runs_is_meant_to_has_good_checks_and_a_node_that_is_there_is_ready() -> None:
    world = World(api(count=6))
    world.run(0, 1, 2)
    world.run(3, node_id="n2")
    world.place("web/api/4", "n1")
    world.is_sick("web/api/1", 1)
    world.stop("web/api/2")
    lost = NodeMark(node_id="n2", register_index=world.state.nodes["n2"].register_index)
    world.ok(MarkNodes(lost=(lost,)))
    assert world.state.nodes["n2"].status is NodeStatus.LOST
    rows = world.state.ordinals.rows(world.gid)[:5]
    assert ready_rows(world.state, rows).tolist() == [True, False, False, False, False]
    assert [is_ready(world.state, row) for row in rows.tolist()] == [True, False, False, False, False]
    assert ready_rows(world.state, rows[1:]).tolist() == [False] * 4
    assert ready_count(world.state, world.gid, 6) == 1


@pytest.mark.parametrize("filled", [False, True])
def test_of_an_instance_with_two_attempts_either_may_be_the_one_that_is_ready(filled: bool) -> None:
    world = rolling(replace(BESIDE, max_surge=4), count=5)
    world.run(0, 1, 2, node_id="n2")
    world.place("web/api/3", "n2")
    if filled:
        world.fill()
    assert ready_count(world.state, world.gid, 5) == 5
    for ordinal, attempt in ((0, 2), (1, 1), (2, 1), (2, 2), (4, 1)):
        world.is_sick(f"web/api/{ordinal}", attempt)
    assert ready_count(world.state, world.gid, 5) == 3, "0 by its first attempt, 1 by its second, 3 by its first"
    assert [ready_count(world.state, world.gid, count) for count in (0, 1, 3)] == [0, 1, 2]


# ---------------------------------------------------------------------------- who may be told to stop


def test_only_what_is_rolled_out_is_replaced_and_once() -> None:
    ring = group("ring", 2, gang=GangSpec())
    world = World(api(), group("old"), ring)
    world.run(0, 1)
    world.place("web/old/0", "n1")
    world.plan(*(Placement(f"web/ring/{ordinal}", "n1") for ordinal in (0, 1)))
    world.submit(job("plain"))
    world.place("plain/api/0", "n1")
    world.next(replace(ring, tasks=group(image="two").tasks), api("two"))  # a group that is gone has no place
    assert world.replaces("web/api/0") == ()
    assert world.replaces("web/api/0") == ("web/api/0 was already told to stop",)
    for alloc in ("plain/api/0", "web/old/0", "web/ring/0"):
        assert world.replaces(alloc) == (f"{alloc} is not part of a rollout",)


def test_nobody_is_replaced_while_the_rollout_stands_still_or_by_what_it_is() -> None:
    world = rolling()
    world.stands(PAUSED)
    assert world.replaces("web/api/0") == ("web/api/0 stays: its rollout does not go on",)
    world.stands()
    assert world.replaces("web/api/0") == ()
    world.observe("web/api/0", AllocState.STOPPED)
    world.run(0)
    assert world.replaces("web/api/0") == ("web/api/0 is of the current version",)
    world.observe("web/api/0", AllocState.STOPPED)
    world.run(0)
    assert world.replaces("web/api/0") == ("web/api/0 is of the current version",), "what has ended is beside nobody"


def test_who_is_not_ready_may_go_whoever_else_is_missing_and_counts_for_nobody() -> None:
    world = rolling(UpdateSpec(max_unavailable=2), count=5)
    for ordinal in (1, 2):
        world.is_sick(f"web/api/{ordinal}", 1)
    world.fill()
    assert world.replaces("web/api/3", "web/api/1", "web/api/2", "web/api/4") == (
        "web/api/3 stays: 3 of 5 are ready, and 3 have to be",
        "web/api/4 stays: 3 of 5 are ready, and 3 have to be",
    )
    world = rolling(UpdateSpec(max_unavailable=2), count=4)
    world.is_sick("web/api/1", 1)
    world.fill()
    assert world.replaces("web/api/0", "web/api/1", "web/api/2") == (
        "web/api/2 stays: 2 of 4 are ready, and 2 have to be",
    )


def test_each_that_goes_leaves_one_less_of_its_own_group() -> None:
    world = rolling(UpdateSpec(max_unavailable=2), count=4)
    world.fill()
    assert world.replaces(*(f"web/api/{ordinal}" for ordinal in range(4))) == (
        "web/api/2 stays: 2 of 4 are ready, and 2 have to be",
        "web/api/3 stays: 2 of 4 are ready, and 2 have to be",
    )


def test_whose_successor_is_ready_may_go_and_leaves_as_many_as_there_were() -> None:
    asked = ("web/api/3", "web/api/0#1", "web/api/1#1", "web/api/2")
    world = rolling(UpdateSpec(max_surge=2, max_unavailable=1), count=4)
    world.run(0, 1, node_id="n2")
    world.is_sick("web/api/1", 2)
    stay = "stays: 3 of 4 are ready, and 3 have to be"
    assert world.replaces(*asked) == (f"web/api/1 {stay}", f"web/api/2 {stay}")
    world = rolling(UpdateSpec(max_surge=2, max_unavailable=2), count=4)
    world.run(0, 1, node_id="n2")
    world.is_sick("web/api/1", 2)
    assert world.replaces(*asked) == ("web/api/2 stays: 2 of 4 are ready, and 2 have to be",)


def recycled(update: UpdateSpec, level: int = HIGHEST) -> World:
    """Version 2 is rolled out. The successor of the first instance is in row 0; the second was never placed."""
    world = World(level=level)
    world.submit(job("first"))
    world.place("first/api/0", "n1")
    world.next(api(count=4, update=update))
    world.run(0, 2, 3)
    world.ok(RemoveJob(namespace="default", name="first"))
    world.observe("first/api/0", AllocState.STOPPED)
    world.next(api("two", 4, update))
    world.run(0, node_id="n2")
    assert world.row("web/api/0") == 0
    return world


def test_a_successor_counts_in_whatever_row_it_is() -> None:
    assert recycled(BESIDE).replaces("web/api/0#1") == ()
    world = recycled(UpdateSpec(max_surge=1, max_unavailable=2))
    assert world.replaces("web/api/2", "web/api/0#1", "web/api/3") == (
        "web/api/3 stays: 2 of 4 are ready, and 2 have to be",
    )
    world = recycled(BESIDE, level=SURGING_DRAINS - 1)
    world.state.put_job(replace(world.job, twins=((1,),)))
    assert world.replaces("web/api/0#1") == ()


def test_what_is_above_the_count_may_go() -> None:
    world = rolling(count=4)
    world.ok(ScaleJob(namespace="default", name="web", group="api", count=2))
    world.is_sick("web/api/1", 1)
    assert world.replaces("web/api/2", "web/api/3", "web/api/0") == (
        "web/api/0 stays: 1 of 2 are ready, and 1 have to be",
    )


def test_a_successor_is_not_replaced_by_the_one_that_it_replaces() -> None:
    world = surging(level=SURGING_DRAINS)
    assert world.replaces("web/api/0#2") == ("web/api/0 is of the current version",)
    world.stands(PAUSED)
    for attempt in (1, 2):
        assert world.replaces(f"web/api/0#{attempt}") == ("web/api/0 stays: its rollout does not go on",)


def test_what_is_current_again_stays_beside_the_successor_that_was_to_replace_it() -> None:
    world = surging()
    world.next(api("one", update=BESIDE))
    assert world.replaces("web/api/0#1") == ("web/api/0 is of the current version",)
    assert world.replaces("web/api/0#2") == ()


def test_of_two_of_the_current_version_the_older_one_goes() -> None:
    """As after a version that is taken back: both have the content of now. Peers before drains that surge ask so."""
    world = surging(level=SURGING_DRAINS - 1)
    world.state.put_job(replace(world.job, twins=((1,),)))
    assert world.replaces("web/api/0#2") == ("web/api/0 is of the current version",)
    assert world.replaces("web/api/1") == ("web/api/1 is of the current version",)
    world.fill()
    assert world.replaces("web/api/1") == ("web/api/1 is of the current version",)
    assert world.replaces("web/api/0#1") == ()


# ---------------------------------------------------------------------------- drains


@pytest.mark.parametrize("attempt", [1, 2])
def test_after_a_drain_either_of_two_may_go_while_the_other_is_ready(attempt: int) -> None:
    world = leaving()
    world.undrain()
    world.is_sick("web/api/0", 3 - attempt)
    assert world.replaces(f"web/api/0#{attempt}") == ("web/api/0 stays: its other attempt is not ready",)
    world.is_sick("web/api/0", attempt)
    assert world.replaces(f"web/api/0#{attempt}") == (), "neither is ready"


@pytest.mark.parametrize("attempt", [1, 2])
def test_after_a_drain_one_of_two_that_are_ready_is_enough(attempt: int) -> None:
    world = leaving()
    world.undrain()
    assert world.replaces(f"web/api/0#{attempt}") == ()
    assert world.replaces(f"web/api/0#{3 - attempt}") == ("web/api/0 stays: its rollout does not go on",)


def test_whoever_has_no_other_attempt_waits_for_the_rollout_though_its_node_is_draining() -> None:
    world = leaving()
    world.fill()
    assert world.replaces("web/api/1") == ("web/api/1 stays: its rollout does not go on",)


@pytest.mark.parametrize(("level", "goes"), [(SURGING_DRAINS - 1, False), (SURGING_DRAINS, True)])
def test_a_drain_takes_what_is_outdated_though_its_rollout_stands_still(level: int, goes: bool) -> None:
    world = surging(level=level)
    world.stands(PAUSED)
    world.drain()
    assert world.replaces("web/api/0#1") == (() if goes else ("web/api/0 stays: its rollout does not go on",))


# ---------------------------------------------------------------------------- successors


def successor(world: World, alloc: str = "web/api/0", version: int | None = None) -> str:
    """Why it gets none beside it, or ""."""
    answer = world.place(alloc, "n2", version=version)
    assert answer.placed == (not answer.rejected)
    return "".join(answer.rejected).removeprefix(f"{alloc}: ")


def test_a_rollout_brings_as_many_successors_as_may_surge_in_one_plan_or_in_several() -> None:
    world = rolling(replace(BESIDE, max_surge=2), count=4)
    world.run(0, node_id="n2")
    asked = [Placement(f"web/api/{ordinal}", "n2") for ordinal in (1, 2, 3)]
    assert world.plan(*asked).rejected == tuple(
        f"web/api/{ordinal}: {LIVE}, and 2 of its group have a successor already" for ordinal in (2, 3)
    )
    assert successor(world, "web/api/1") == "two attempts of it are live"
    assert successor(world, "web/api/3") == f"{LIVE}, and 2 of its group have a successor already"


def test_an_instance_has_no_third_attempt_however_many_may_surge() -> None:
    world = rolling(replace(BESIDE, max_surge=4))
    world.run(0, node_id="n2")
    world.next(api("three", update=replace(BESIDE, max_surge=4)))
    assert successor(world) == "two attempts of it are live"


def test_an_attempt_that_has_ended_is_in_nobodys_way() -> None:
    world = World(api(update=BESIDE))
    world.run(0, 1)
    world.observe("web/api/0", AllocState.STOPPED)
    world.run(0)
    world.next(api("two", update=BESIDE))
    world.fill()
    assert successor(world, "web/api/1") == ""
    world.observe("web/api/1", AllocState.STOPPED, attempt=2)
    assert successor(world) == ""


def test_whoever_is_told_to_stop_counts_as_a_successor_until_it_has() -> None:
    world = surging()
    world.plan(actions=[(Action.STOP, "web/api/0#2", "no more")])
    world.observe("web/api/0", AllocState.STOPPING, attempt=2)
    assert pairs(world.state, world.gid) == 1
    assert successor(world, "web/api/1") == f"{LIVE}, and 1 of its group have a successor already"
    world.observe("web/api/0", AllocState.STOPPED, attempt=2)
    assert pairs(world.state, world.gid) == 0
    assert successor(world, "web/api/1") == ""


def test_a_pair_is_counted_in_whatever_rows_it_lies() -> None:
    world = recycled(BESIDE)
    assert pairs(world.state, world.gid) == 1
    assert successor(world, "web/api/2") == f"{LIVE}, and 1 of its group have a successor already"
    assert successor(world, "web/api/0") == "two attempts of it are live"


def test_what_is_not_rolled_out_gets_no_successor() -> None:
    ring = replace(group("ring", 2, gang=GangSpec()), update=BESIDE)
    world = World(api(update=BESIDE), ring)
    world.plan(*(Placement(f"web/ring/{ordinal}", "n1") for ordinal in (0, 1)))
    world.next(api(update=BESIDE), replace(ring, tasks=group(image="two").tasks))
    plan = world.plan(*(Placement(f"web/ring/{ordinal}", "n2") for ordinal in (0, 1)))
    assert plan.rejected == tuple(f"web/ring/{ordinal}: {LIVE}" for ordinal in (0, 1))
    world.submit(job("plain"))
    world.place("plain/api/0", "n1")
    assert successor(world, "plain/api/0") == LIVE
    world.run(0)
    assert successor(world) == LIVE, "it is of the current version, and its node stays"
    world.next(api("two", update=BESIDE), ring)
    world.stands(PAUSED)
    assert successor(world) == f"{LIVE}, and its rollout does not go on"


@pytest.mark.parametrize(("level", "may"), [(SURGING_DRAINS - 1, False), (SURGING_DRAINS, True)])
def test_a_drain_brings_a_successor_of_the_same_version_of_whoever_is_ready(level: int, may: bool) -> None:
    world = World(api(update=BESIDE), level=level)
    world.run(0, 1)
    assert successor(world) == LIVE
    world.drain()
    world.is_sick("web/api/1", 1)
    assert successor(world, "web/api/1") == LIVE
    assert successor(world) == ("" if may else LIVE)


# ---------------------------------------------------------------------------- versions that wait

CANARY = UpdateSpec(canaries=1, max_surge=2, max_unavailable=0)


def test_canaries_come_beside_and_the_rest_leave_a_drained_node_at_the_version_that_they_have() -> None:
    world = World(replace(group("old"), update=CANARY), api(count=3, update=CANARY))
    world.run(0, 1, 2)
    world.place("web/old/0", "n1")
    world.observe("web/old/0", AllocState.RUNNING)
    world.next(api("two", 3, CANARY))
    assert before(world, "n2", 1) == LIVE, "its node stays"
    assert successor(world) == ""
    world.observe("web/api/0", AllocState.RUNNING, attempt=2)
    world.observe("web/api/0", AllocState.STOPPED, attempt=1)
    world.drain()
    assert successor(world, "web/old/0", version=1) == LIVE, "nothing of it is rolled out"
    assert before(world, "n2", 1) == ""
    world.undrain()
    world.drain("n2")
    assert before(world, "n1", 0) == LIVE, "a canary does not go back"
    assert world.place("web/api/0", "n1").rejected == ()


def test_what_is_older_than_the_version_before_is_replaced_by_that() -> None:
    world = World(api(update=CANARY))
    world.run(0)
    world.next(api("two", update=replace(CANARY, canaries=0)))
    world.next(api("three", update=CANARY))
    assert world.job.rollout is not None
    assert (world.job.rollout.base_version, world.job.rollout.promoted) == (2, False)
    assert successor(world, version=2) == ""


def before(world: World, node_id: str, ordinal: int) -> str:
    """Why an instance gets no successor of version 1, in which its group is the second, or ""."""
    plan = world.make_plan(Placement(f"web/api/{ordinal}", node_id, version=1))
    at = np.array([1], dtype=np.int32)
    answer = world.ok(replace(plan, placements=replace(plan.placements, group=at))).answer
    assert isinstance(answer, PlanAnswer)
    return "".join(answer.rejected).removeprefix(f"web/api/{ordinal}: ")


def waiting(*canaries: int) -> World:
    """Version 2 waits for its promotion: 2 is a canary, in row 0, and perhaps others; 0 is of version 1."""
    world = World(api(count=4, update=replace(CANARY, canaries=2)))
    world.next(api("two", 4, replace(CANARY, canaries=2)))
    world.run(2, *canaries)
    world.run(0, version=1)
    return world


def test_of_the_newer_version_is_what_lives_of_it() -> None:
    world = waiting()
    assert newer_ordinals(world.state, world.job, 0) == {2}
    world.fill()
    assert newer_ordinals(world.state, world.job, 0) == {2}
    world.stop("web/api/2")
    world.observe("web/api/2", AllocState.STOPPING)
    assert newer_ordinals(world.state, world.job, 0) == {2}
    world.observe("web/api/2", AllocState.STOPPED)
    assert newer_ordinals(world.state, world.job, 0) == set()


def test_as_many_canaries_as_may_be_and_one_may_come_again() -> None:
    world = waiting()
    waits = "the version waits for its promotion: 2 of 4 may be of it until then"
    asked = [((), 1, ""), ((2,), 1, ""), ((2, 3), 1, waits), ((2, 3), 3, ""), ((0, 2, 3), 3, waits)]
    for newer, ordinal, text in asked:
        assert spread_refusal(world.state, world.job, 0, ordinal, set(newer)) == text


def test_a_group_that_did_not_change_waits_for_nothing() -> None:
    db = replace(group("db", 2), update=CANARY)
    world = World(api(update=CANARY), db)
    world.next(api("two", update=CANARY), db)
    assert world.place("web/db/1", "n1").rejected == ()


def test_while_a_promoted_version_stands_still_only_what_was_of_it_comes_back_at_it() -> None:
    world = waiting()
    world.stands(PAUSED)
    spreads = "the version must not spread: its rollout does not go on"

    def said(world: World) -> list[str]:
        return [spread_refusal(world.state, world.job, 0, ordinal, set()) for ordinal in range(4)]

    assert said(world) == [spreads, spreads, "", spreads]
    world.fill()
    assert said(world) == [spreads, spreads, "", spreads]
    for ordinal in (0, 2):
        world.stop(f"web/api/{ordinal}")
        world.observe(f"web/api/{ordinal}", AllocState.STOPPED)
    assert said(world) == [spreads, spreads, "", spreads]
    world = waiting(3)
    world.stands(PAUSED)
    assert said(world) == [spreads, spreads, "", ""]


def test_the_attempt_that_came_last_decides_at_which_version_it_comes_back() -> None:
    """A newer one that ended lies behind the older one that lives; else before it."""
    for first_ends in (False, True):
        world = rolling(BESIDE)
        world.run(0, node_id="n2")
        world.observe("web/api/0", AllocState.STOPPED, attempt=1 if first_ends else 2)
        assert world.alloc("web/api/0").attempt == (2 if first_ends else 1)
        world.stands(PAUSED)
        assert spread_refusal(world.state, world.job, 0, 0, set()) == ""


# ---------------------------------------------------------------------------- the past


@pytest.mark.parametrize(
    ("base", "promoted", "ready", "stable"),
    [(0, False, True, True), (1, True, True, True), (1, False, True, False), (1, True, False, False)],
)
def test_a_version_was_good_if_all_of_it_was_ready_and_nobody_waits_for_its_promotion(
    base: int, promoted: bool, ready: bool, stable: bool
) -> None:
    world = World(api(count=2))
    world.run(0, 1)
    if not ready:
        world.is_sick("web/api/1", 1)
    world.next(api("two", 2))
    world.state.put_job(replace(world.job, twins=((1,),)))
    assert world.job.rollout is not None
    now = replace(world.job, rollout=replace(world.job.rollout, base_version=base, promoted=promoted))
    assert [one.version for one in remembered(world.state, now)] == [1, 2]
    assert remembered(world.state, now)[-1].stable is stable
    without = replace(now, rollout=None)
    assert remembered(world.state, without)[-1].stable is ready
    known = replace(now, stable_version=2)
    assert remembered(world.state, known)[-1].stable, "it was good once"


def test_what_was_good_last_is_remembered_however_many_came_after_it() -> None:
    world = World(api(count=2))
    spec = world.job.spec

    def after(*stable: bool) -> list[int]:
        history = tuple(Revision(version=at, spec=spec, stable=good) for at, good in enumerate(stable, start=1))
        found = replace(world.job, version=len(stable) + 1, history=history)
        return [one.version for one in remembered(world.state, found)]

    bad = (False,) * MAX_REVISIONS
    assert after(True, True, *bad) == [2, *range(4, 14)]
    assert after(*bad, True) == list(range(3, 13))
    assert after(False, *bad) == list(range(3, 13))


def test_what_is_gone_back_to_and_why_there_is_nothing() -> None:
    world = World(api("one"))
    for image in ("two", "three"):
        world.next(api(image))
    one, two = (spec for _, spec in ((item.version, item) for item in world.job.history))
    found = world.job

    def gone_back(history: Sequence[Revision], version: int = 0) -> tuple[int, str]:
        revision, why = target(replace(found, history=tuple(history)), version)
        return (0 if revision is None else revision.version), why

    def good(revision: Revision) -> Revision:
        return replace(revision, stable=True)

    same = Revision(version=9, spec=found.spec, stable=True)
    assert gone_back([one, two]) == (2, "")
    assert gone_back([good(one), two]) == (1, "")
    assert gone_back([good(one), good(two)]) == (2, "")
    assert gone_back([one, same]) == (1, ""), "what has the content of now is nothing to go back to"
    assert gone_back([same]) == (0, "job 'web' remembers no version with other content")
    assert gone_back([one, two], 1) == (1, "")
    assert gone_back([one, two], 3) == (0, "version 3 is the current one")
    assert gone_back([one, two], 7) == (0, "version 7 of job 'web' is not remembered; there are: 1, 2")
    assert gone_back([], 7) == (0, "version 7 of job 'web' is not remembered; there are: none")


def test_where_a_rollout_stands_is_said_in_words() -> None:
    world = rolling()
    assert status_text(replace(world.job, rollout=None)) == "nothing is being rolled out"
    for status, word in (
        (RUNNING, "goes on"),
        (PAUSED, "is paused"),
        (RolloutStatus.SUCCEEDED, "has succeeded"),
        (RolloutStatus.FAILED, "has failed"),
    ):
        world.stands(status)
        assert status_text(world.job) == f"the rollout of version 2 {word}"
