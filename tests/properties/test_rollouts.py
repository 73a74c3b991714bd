"""Random rollouts with crashes, flapping checks, lost nodes and changes of the leader: the bounds hold at every entry.

The leader keeps nothing between rounds, so each of its rounds is that of a new leader; stale plans (made from a view of
some entries ago) are those of a deposed one. What the world does by itself (crashes, checks that fail) may take ready
instances away; what is held against the bound is every step by which an instance was told to stop.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import plan
from orchestrator.contract import health
from orchestrator.contract.model import (
    AllocState,
    AssignmentKey,
    Desired,
    Disruption,
    GroupSpec,
    JobSpec,
    JobType,
    NodeSpec,
    Observation,
    Resources,
    RestartPolicy,
    TaskSpec,
)
from orchestrator.contract.rollouts import RolloutAction, RolloutStatus, UpdateSpec, surge, unavailable
from orchestrator.foresight.settle import settle
from orchestrator.state import views
from orchestrator.state.apply import apply
from orchestrator.state.commands import (
    Applied,
    Command,
    CordonNode,
    DrainNode,
    EndRollouts,
    Entry,
    JobSubmission,
    MarkNodes,
    NodeMark,
    Outcome,
    RecordStatuses,
    RegisterNode,
    RollbackJob,
    ScaleJob,
    SetFeatureLevel,
    SteerRollout,
    SubmitJobs,
)
from orchestrator.state.features import PAUSED_PROMOTIONS
from orchestrator.state.invariants import check
from orchestrator.state.model import Job
from orchestrator.state.rollouts import ready_count
from orchestrator.state.snapshot import capture, restore
from orchestrator.state.state import State, new_state
from tests.effort import examples

RUN, STOP = int(Desired.RUN), int(Desired.STOP)


class World:
    """One service on nodes with room; agents that do what they are told, late and badly."""

    def __init__(self, seed: int, update: UpdateSpec | None, count: int, *, room: int = 40) -> None:
        self.random = random.Random(seed)
        self.state: State = new_state()
        self.now_ms = 1_000_000
        self.update = update
        self.count = count
        self.image = 0
        self.sequence = 0
        self.old_view: views.ClusterView | None = None
        self.bounded = True
        for name in ("n1", "n2"):
            spec = NodeSpec(
                id=name,
                name=name,
                drivers=("docker",),
                capacity=Resources(cpu_millis=room * 50, memory_mib=10_000, disk_mib=1_000),
            )
            self.do(RegisterNode(node=spec, identity=f"agent:{name}"))

    # -------------------------------------------------------------------- commands

    def do(self, command: Command) -> Outcome:
        entry = Entry(identity="t", request_id="", digest=b"", time_ms=self.now_ms, command=command)
        return apply(self.state, entry)

    def spec(self) -> JobSpec:
        task = TaskSpec(name="main", image=f"web:{self.image}", resources=Resources(cpu_millis=50, memory_mib=10))
        group = GroupSpec(
            name="api", count=self.count, tasks=(task,), update=self.update, restart=RestartPolicy(attempts=2)
        )
        return JobSpec(name="web", groups=(group,))

    def submit(self, image: int) -> None:
        self.image = image
        self.done(self.do(SubmitJobs(jobs=(JobSubmission(spec=self.spec(), uid="u", remember=True),))))

    def done(self, outcome: Outcome) -> None:
        assert isinstance(outcome, Applied), outcome

    @property
    def job(self) -> Job:
        (job,) = self.state.jobs.values()
        return job

    # -------------------------------------------------------------------- what there is

    def ready(self) -> int:
        return ready_count(self.state, 0, self.count)

    def live(self) -> int:
        return len(self.state.table.live_rows())

    def rows(self) -> list[int]:
        found: list[int] = self.state.table.live_rows().tolist()
        return found

    # -------------------------------------------------------------------- the leader

    def lead(self, *, stale: bool = False) -> bool:
        """One round; each entry of it is held against the bounds. ``stale``: from an older view."""
        view = views.cluster_view(self.state)
        if stale and self.old_view is not None:
            view = self.old_view
        self.old_view = views.cluster_view(self.state)
        decision = plan.decide(view, self.now_ms)
        for one in decision.plans:
            self.held_against_the_bounds(one)
        if decision.verdicts:
            self.do(EndRollouts(verdicts=decision.verdicts))
        return bool(decision.plans)

    def held_against_the_bounds(self, command: Command) -> None:
        before, surplus = self.ready(), max(0, self.live() - self.count)
        self.do(command)
        if not self.bounded:
            return
        floor = self.count - unavailable(self.update, self.count)
        assert self.ready() >= min(before, floor), "an instance was stopped that was needed"
        most = surge(self.update, self.count)
        assert self.live() <= self.count + max(most, surplus), "too many live"
        assert not check(self.state)

    # -------------------------------------------------------------------- the agents

    def observe(self, row: int, after: AllocState, *, ready: bool = True, start_failed: bool = False) -> None:
        seen = views.allocation(self.state, row)
        key = AssignmentKey(id=seen.id, job_uid=seen.job_uid, attempt=seen.attempt)
        self.sequence += 1
        word = health.word(self.sequence, ready) if after is AllocState.RUNNING else 0
        one = Observation(key=key, restarts=seen.restarts, state=after, start_failed=start_failed, health=word)
        self.do(RecordStatuses(node_id=seen.node_id, observations=(one,)))

    def obey(self, row: int) -> None:
        table = self.state.table
        if table.desired[row] == STOP:
            self.observe(row, AllocState.STOPPED)
        elif table.state[row] == int(AllocState.PENDING):
            self.observe(row, AllocState.RUNNING, ready=self.random.random() < 0.5)
        elif table.state[row] == int(AllocState.RUNNING) and not table.health[row] & 1:
            self.observe(row, AllocState.RUNNING)

    def settle(self, rounds: int = 200) -> None:
        for _ in range(rounds):
            self.now_ms += 1_000
            decided = self.lead()
            busy = False
            for row in self.rows():
                index = self.state.index
                self.obey(row)
                busy = busy or self.state.index > index
            rollout = self.job.rollout
            if not decided and not busy and (rollout is None or rollout.status is not RolloutStatus.RUNNING):
                return

    def again(self) -> None:
        """Another peer leads, from a snapshot."""
        self.state = restore(capture(self.state))


updates = st.one_of(
    st.none(),
    st.builds(
        UpdateSpec,
        max_surge=st.integers(0, 3),
        max_unavailable=st.integers(0, 3),
        min_ready_ms=st.sampled_from([0, 0, 3_000]),
        progress_deadline_ms=st.sampled_from([0, 30_000]),
        auto_revert=st.booleans(),
    ),
    st.builds(UpdateSpec, max_surge=st.sampled_from([0, 25, 50]), surge_percent=st.just(True)),
)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), update=updates, count=st.integers(1, 6), steps=st.integers(20, 90))
def test_no_step_of_a_rollout_breaks_its_bounds(seed: int, update: UpdateSpec | None, count: int, steps: int) -> None:
    world = World(seed, update, count)
    world.submit(0)
    world.settle()
    for _ in range(steps):
        world.now_ms += world.random.choice([0, 100, 1_000, 5_000])
        step = world.random.random()
        rows = world.rows()
        row = world.random.choice(rows) if rows else -1
        if step < 0.45:
            world.lead(stale=world.random.random() < 0.3)
        elif step < 0.8 and row >= 0:
            world.obey(row)
        elif step < 0.86 and row >= 0 and world.state.table.state[row] == int(AllocState.RUNNING):
            world.observe(row, AllocState.RUNNING, ready=False)
        elif step < 0.89 and row >= 0:
            world.observe(row, AllocState.FAILED, start_failed=world.random.random() < 0.5)
        elif step < 0.93:
            world.submit(world.random.randint(0, 3))
        elif step < 0.95:
            world.do(SteerRollout(namespace="default", name="web", action=world.random.choice(list(RolloutAction))))
        elif step < 0.97:
            world.do(RollbackJob(namespace="default", name="web"))
        else:
            world.again()
    assert not check(world.state)


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), update=updates, count=st.integers(0, 6))
def test_a_rollout_of_what_works_comes_to_its_end_whoever_leads(
    seed: int, update: UpdateSpec | None, count: int
) -> None:
    world = World(seed, update, count)
    world.submit(0)
    world.settle()
    world.submit(1)
    for _ in range(world.random.randint(0, 12)):
        world.lead()
        for row in world.rows():
            if world.random.random() < 0.5:
                world.obey(row)
        if world.random.random() < 0.3:
            world.again()
    world.settle()
    job = world.job
    assert job.rollout is not None and job.rollout.status is RolloutStatus.SUCCEEDED
    table, live = world.state.table, world.state.table.live_rows()
    assert len(live) == count and (table.version[live] == job.version).all() and world.ready() == count
    assert job.stable_version == job.version


def test_a_surge_brings_the_successor_before_the_old_one_goes_and_nothing_is_ever_missing() -> None:
    world = World(1, UpdateSpec(max_surge=1, max_unavailable=0), 3)
    world.submit(0)
    world.settle()
    world.submit(1)
    most = 0
    for _ in range(60):
        world.now_ms += 1_000
        world.lead()
        most = max(most, world.live())
        assert world.ready() == 3
        for row in world.rows():
            world.obey(row)
            assert world.ready() == 3
    assert most == 4, "it never surged"
    assert world.job.stable_version == 2


def test_without_a_surge_no_instance_ever_has_two_attempts() -> None:
    world = World(2, UpdateSpec(max_surge=0, max_unavailable=2), 5)
    world.submit(0)
    world.settle()
    world.submit(1)
    fewest = 5
    for _ in range(60):
        world.now_ms += 1_000
        world.lead()
        assert world.live() <= 5
        fewest = min(fewest, world.ready())
        for row in world.rows():
            world.obey(row)
    assert fewest == 3 and world.job.stable_version == 2


def test_where_there_is_no_room_for_a_successor_one_is_stopped_first_after_a_while() -> None:
    world = World(3, UpdateSpec(max_surge=1, max_unavailable=1), 4, room=2)
    world.submit(0)
    world.settle()
    world.submit(1)
    world.settle()
    assert world.job.stable_version == 2


def test_a_version_that_does_not_come_up_is_given_up_and_the_rest_of_the_old_one_stays_untouched() -> None:
    world = World(4, UpdateSpec(max_surge=1, max_unavailable=0, progress_deadline_ms=30_000, auto_revert=True), 3)
    world.submit(0)
    world.settle()
    before = {(int(world.state.table.ordinal[row]), int(world.state.table.attempt[row])) for row in world.rows()}
    world.submit(1)
    world.lead()
    (successor,) = [row for row in world.rows() if world.state.table.version[row] == 2]
    world.observe(successor, AllocState.RUNNING, ready=False)
    world.now_ms += 29_000
    world.lead()
    assert world.job.version == 2
    world.now_ms += 2_000
    world.again()
    world.lead()
    job = world.job
    assert job.version == 3 and job.rollout is not None and job.rollout.reverts == 2
    assert job.spec.groups[0].tasks[0].image == "web:0"
    world.settle()
    after = {(int(world.state.table.ordinal[row]), int(world.state.table.attempt[row])) for row in world.rows()}
    assert after == before, "what ran the version before was restarted"
    assert world.job.rollout is not None and world.job.rollout.status is RolloutStatus.SUCCEEDED


def test_an_instance_that_fails_for_good_fails_the_rollout_and_says_why() -> None:
    world = World(5, UpdateSpec(max_surge=1, max_unavailable=0), 2)
    world.submit(0)
    world.settle()
    world.submit(1)
    world.lead()
    (successor,) = [row for row in world.rows() if world.state.table.version[row] == 2]
    world.observe(successor, AllocState.FAILED)
    world.lead()
    rollout = world.job.rollout
    assert rollout is not None and rollout.status is RolloutStatus.FAILED and "web/api/0 failed" in rollout.reason
    world.settle()
    assert world.ready() == 2 and world.job.version == 2, "nothing more is touched"


def test_a_successor_that_could_not_start_is_followed_by_another_after_a_pause_and_elsewhere() -> None:
    """The round that finds it waiting says when to look again: nothing else may happen until then."""
    world = World(5, UpdateSpec(max_surge=1, max_unavailable=0), 1)
    world.submit(0)
    world.settle()
    world.submit(1)
    world.lead()
    (first,) = [row for row in world.rows() if world.state.table.version[row] == 2]
    world.observe(first, AllocState.FAILED, start_failed=True)
    decision = plan.decide(views.cluster_view(world.state), world.now_ms)
    assert (decision.plans, decision.wake_at_ms) == ((), world.now_ms + 2_000)
    world.now_ms += 1_999
    assert not world.lead()
    world.now_ms += 1
    assert world.lead()
    (second,) = [row for row in world.rows() if world.state.table.version[row] == 2]
    assert world.state.table.node[second] != world.state.table.node[first]
    assert world.state.table.ordinal[second] == world.state.table.ordinal[first]


@pytest.mark.parametrize(
    "update",
    [
        UpdateSpec(max_surge=1, max_unavailable=0, min_ready_ms=5_000),
        UpdateSpec(max_surge=0, max_unavailable=1, min_ready_ms=5_000),
    ],
    ids=["surge", "in place"],
)
def test_who_has_not_been_ready_for_long_enough_lets_nobody_else_go(update: UpdateSpec) -> None:
    world = World(7, update, 2)
    world.submit(0)
    world.settle()
    world.submit(1)
    ready_at: dict[int, int] = {}  # of version 2, by ordinal
    begun: list[int] = []  # when an instance of version 2 was placed
    for _ in range(40):
        world.lead()
        assert world.job.rollout is not None
        if world.job.rollout.status is not RolloutStatus.RUNNING:
            break
        table = world.state.table
        for row in world.rows():
            if table.state[row] == int(AllocState.PENDING):
                begun.append(world.now_ms)
                world.observe(row, AllocState.RUNNING)
                ready_at[int(table.ordinal[row])] = world.now_ms
            elif table.desired[row] == STOP:
                world.obey(row)
        decision = plan.decide(views.cluster_view(world.state), world.now_ms)
        if not decision.plans and not decision.verdicts:  # else there is more to do now
            assert decision.wake_at_ms is not None
            world.now_ms = decision.wake_at_ms
    assert world.job.stable_version == 2
    first, second = sorted(ready_at.values())
    assert (begun[1] - first, world.now_ms - second) == (5_000, 5_000)


def test_a_budget_holds_up_a_rollout_only_while_a_drain_needs_it() -> None:
    class Budgeted(World):
        def spec(self) -> JobSpec:
            return replace(super().spec(), disruption=Disruption(max_unavailable=1))

    world = Budgeted(8, UpdateSpec(max_surge=0, max_unavailable=2), 4)
    world.submit(0)
    world.settle()
    (node,) = {world.state.node_at[slot].spec.id for slot in world.state.table.node[world.rows()].tolist()}
    world.submit(1)
    world.do(DrainNode(node_id=node))
    assert world.lead()
    assert world.ready() == 3, "two may be missing for the rollout, and one for all else: that is the drain's"
    world.settle()
    assert world.job.stable_version == 2
    assert {world.state.node_at[slot].spec.id for slot in world.state.table.node[world.rows()].tolist()} == (
        {"n1", "n2"} - {node}
    )
    world.submit(2)
    assert world.lead()
    assert world.ready() == 2
    world.settle()
    assert world.job.stable_version == 3


def test_a_rollout_for_which_there_is_no_room_fails_and_says_so() -> None:
    world = World(6, UpdateSpec(max_surge=1, max_unavailable=0, progress_deadline_ms=30_000), 4, room=2)
    world.submit(0)
    world.settle()
    world.submit(1)
    world.settle()
    rollout = world.job.rollout
    assert rollout is not None
    assert (rollout.status, rollout.reason) == (
        RolloutStatus.FAILED,
        "nothing became ready for 30 s; there is no room for the next",
    )
    assert world.ready() == 4


@pytest.mark.parametrize(("max_surge", "live"), [(2, 6), (0, 4)])
def test_canaries_wait_for_a_promotion_and_beside_the_old_ones_where_they_fit(max_surge: int, live: int) -> None:
    world = World(6, UpdateSpec(max_surge=max_surge, max_unavailable=1, canaries=2), 4)
    world.submit(0)
    world.settle()
    world.submit(1)
    for _ in range(30):
        world.now_ms += 60_000
        world.lead()
        for row in world.rows():
            world.obey(row)
    table = world.state.table
    fresh = [row for row in world.rows() if table.version[row] == 2]
    assert len(fresh) == 2 and world.live() == live and world.ready() == 4
    rollout = world.job.rollout
    assert rollout is not None and rollout.status is RolloutStatus.RUNNING, "waiting for people is no failure"
    world.done(world.do(SteerRollout(namespace="default", name="web", action=RolloutAction.PROMOTE)))
    world.settle()
    assert world.job.stable_version == 2 and world.live() == 4


def waiting_for_a_promotion() -> World:
    """A canary of four is ready, and was for an hour; it is alone on its node."""
    update = UpdateSpec(max_surge=1, max_unavailable=0, canaries=1, progress_deadline_ms=30_000, auto_revert=True)
    world = World(6, update, 4)
    world.submit(0)
    world.settle()
    world.done(world.do(CordonNode(node_id="n1", cordoned=True)))
    world.submit(1)
    world.settle(20)
    world.done(world.do(CordonNode(node_id="n1", cordoned=False)))
    world.now_ms += 3_600_000
    return world


def goes_on(world: World) -> bool:
    rollout = world.job.rollout
    assert rollout is not None
    return rollout.status is RolloutStatus.RUNNING and not rollout.promoted and not rollout.reverts


@pytest.mark.parametrize("what", ["scaled", "drained", "lost", "unready"])
def test_what_happens_while_canaries_wait_for_a_promotion_is_no_failure_of_the_rollout(what: str) -> None:
    """The deadline counted the time of waiting, too: the first thing that was on its way then failed the rollout."""
    world = waiting_for_a_promotion()
    table = world.state.table
    (canary,) = [row for row in world.rows() if table.version[row] == 2]
    match what:
        case "scaled":
            world.count = 6
            world.done(world.do(ScaleJob(namespace="default", name="web", group="api", count=6)))
        case "drained":
            node = world.state.node_at[int(table.node[canary])].spec.id
            world.done(world.do(DrainNode(node_id=node)))
            world.bounded = False  # a drain takes down one at a time
        case "lost":
            gone = world.state.node_at[int(table.node[canary])]
            mark = NodeMark(node_id=gone.spec.id, register_index=gone.register_index)
            world.done(world.do(MarkNodes(lost=(mark,))))
        case _:
            world.observe(canary, AllocState.RUNNING, ready=False)
    world.lead()
    assert goes_on(world)
    world.now_ms += 1_000
    world.again()
    world.settle(60)
    assert goes_on(world)


def test_a_canary_that_was_ready_and_does_not_become_so_again_has_its_deadline_from_then_on() -> None:
    world = waiting_for_a_promotion()
    (canary,) = [row for row in world.rows() if world.state.table.version[row] == 2]
    world.observe(canary, AllocState.RUNNING, ready=False)
    world.now_ms += 29_000
    world.lead()
    assert goes_on(world)
    world.now_ms += 2_000
    world.lead()
    assert world.job.rollout is not None and world.job.rollout.reverts == 2


@pytest.mark.parametrize("level", [PAUSED_PROMOTIONS - 1, PAUSED_PROMOTIONS])
def test_canaries_promoted_in_a_pause_are_followed_once_it_ends(level: int) -> None:
    """A peer of before took a promotion for the end of the pause, so the rule waits until there is none."""
    world = World(6, UpdateSpec(max_surge=1, max_unavailable=0, canaries=1), 3)
    world.do(SetFeatureLevel(level=level))
    world.submit(0)
    world.settle()
    world.submit(1)
    world.settle()
    for action in (RolloutAction.PAUSE, RolloutAction.PROMOTE):
        world.done(world.do(SteerRollout(namespace="default", name="web", action=action)))
    world.settle()
    if level >= PAUSED_PROMOTIONS:
        rollout = world.job.rollout
        assert rollout is not None and rollout.status is RolloutStatus.PAUSED and rollout.promoted
        assert world.job.stable_version == 1, "nothing more is replaced in a pause"
        world.done(world.do(SteerRollout(namespace="default", name="web", action=RolloutAction.RESUME)))
        world.settle()
    assert world.job.stable_version == 2


def test_a_paused_rollout_stands_still_and_goes_on_where_it_was() -> None:
    world = World(7, UpdateSpec(max_surge=0, max_unavailable=1), 4)
    world.submit(0)
    world.settle()
    world.submit(1)
    for _ in range(3):
        world.lead()
        for row in world.rows():
            world.obey(row)
    world.done(world.do(SteerRollout(namespace="default", name="web", action=RolloutAction.PAUSE)))
    world.settle()
    versions = sorted(int(world.state.table.version[row]) for row in world.rows())
    assert versions[0] == 1 and versions[-1] == 2, "it was in the middle"
    world.again()
    world.settle()
    assert sorted(int(world.state.table.version[row]) for row in world.rows()) == versions
    world.done(world.do(SteerRollout(namespace="default", name="web", action=RolloutAction.RESUME)))
    world.settle()
    assert {int(world.state.table.version[row]) for row in world.rows()} == {2}


def test_a_rollback_keeps_the_count_and_leaves_alone_what_is_as_it_should_be() -> None:
    world = World(8, UpdateSpec(max_surge=1, max_unavailable=0), 3)
    world.submit(0)
    world.settle()
    world.submit(1)
    world.settle()
    world.count = 4
    world.done(world.do(ScaleJob(namespace="default", name="web", group="", count=4)))
    world.settle()
    assert world.job.version == 3 and world.job.stable_version == 3
    world.done(world.do(RollbackJob(namespace="default", name="web", version=1)))
    assert world.job.spec.groups[0].count == 4 and world.job.spec.groups[0].tasks[0].image == "web:0"
    world.settle()
    assert world.ready() == 4 and world.job.stable_version == 4
    assert [one.version for one in world.job.history] == [1, 2, 3]


def test_changing_only_the_policy_or_the_count_replaces_nobody() -> None:
    world = World(9, UpdateSpec(), 3)
    world.submit(0)
    world.settle()
    before = {int(world.state.table.attempt[row]) for row in world.rows()}
    world.update = replace(UpdateSpec(), max_surge=2)
    world.submit(0)
    world.settle()
    assert world.job.version == 2 and {int(world.state.table.attempt[row]) for row in world.rows()} == before


def plans_of(world: World) -> tuple[Command, ...]:
    return plan.decide(views.cluster_view(world.state), world.now_ms).plans


def test_a_plan_that_comes_after_a_check_failed_elsewhere_stops_nobody_who_is_needed() -> None:
    world = World(10, UpdateSpec(max_surge=0, max_unavailable=1), 3)
    world.submit(0)
    world.settle()
    world.submit(1)
    (late,) = plans_of(world)
    world.observe(world.rows()[2], AllocState.RUNNING, ready=False)
    assert world.ready() == 2
    world.held_against_the_bounds(late)
    assert world.ready() == 2, "the plan of before stopped another one"
    told = [event.message for event in world.state.events.after(0) if event.kind == "plan.rejected"]
    assert "2 of 3 are ready, and 2 have to be" in told[-1]


def test_the_plans_of_two_who_believe_to_lead_bring_no_more_successors_than_may_surge() -> None:
    world = World(11, UpdateSpec(max_surge=1, max_unavailable=0), 3)
    world.submit(0)
    world.settle()
    world.submit(1)
    world.observe(world.rows()[2], AllocState.RUNNING, ready=False)
    (old,) = plans_of(world)  # begins with the one that is not ready
    world.observe(world.rows()[2], AllocState.RUNNING)
    (new,) = plans_of(world)
    for one in (new, old):
        world.held_against_the_bounds(one)
    assert world.live() == 4
    told = [event.message for event in world.state.events.after(0) if event.kind == "plan.rejected"]
    assert "1 of its group have a successor already" in told[-1]


def test_why_says_what_is_not_ready_and_what_halts_a_rollout() -> None:
    world = World(12, UpdateSpec(max_surge=1, max_unavailable=0), 2)
    world.submit(0)
    world.settle()
    world.submit(1)
    world.lead()
    (successor,) = [row for row in world.rows() if world.state.table.version[row] == 2]
    world.observe(successor, AllocState.RUNNING, ready=False)
    world.do(SteerRollout(namespace="default", name="web", action=RolloutAction.PAUSE))
    (said,) = plan.explain(views.cluster_view(world.state), world.job.uid, world.now_ms)
    assert "1 not ready on" in said.summary
    assert (
        "the rollout is halted: it is paused (raftsman resume lets it go on); 2 still run the version" in said.summary
    )


def test_foresight_plays_a_rollout_to_its_end_as_what_is_late_becomes_ready() -> None:
    world = World(13, UpdateSpec(max_surge=1, max_unavailable=0), 3)
    world.submit(0)
    world.settle()
    world.submit(1)
    world.lead()
    for row in world.rows():
        if world.state.table.state[row] == int(AllocState.PENDING):
            world.observe(row, AllocState.RUNNING, ready=False)
    assert settle(world.state, world.now_ms).settled
    table, live = world.state.table, world.state.table.live_rows()
    assert len(live) == 3 and set(table.version[live].tolist()) == {2}


def test_a_service_that_becomes_a_batch_job_amid_a_rollout_keeps_one_attempt_of_each() -> None:
    world = World(14, UpdateSpec(max_surge=1, max_unavailable=0), 2)
    world.submit(0)
    world.settle()
    world.submit(1)
    world.lead()
    assert world.live() == 3
    world.update = None
    batch = replace(world.spec(), type=JobType.BATCH)
    world.done(world.do(SubmitJobs(jobs=(JobSubmission(spec=batch, uid="u", remember=True),))))
    world.settle()
    assert world.live() == 2 and not check(world.state)
    table = world.state.table
    assert {int(table.version[row]) for row in world.rows()} == {3}


@pytest.mark.parametrize("kind", [JobType.BATCH, JobType.SYSTEM])
def test_a_service_that_fails_and_was_a_job_of_another_type_before_stays_and_every_peer_lives_on(kind: JobType) -> None:
    world = World(15, None, 2)
    (group,) = world.spec().groups
    before = replace(world.spec(), type=kind, groups=(replace(group, count=1),))
    world.done(world.do(SubmitJobs(jobs=(JobSubmission(spec=before, uid="u", remember=True),))))
    world.settle()
    world.update = UpdateSpec(max_surge=1, max_unavailable=0, progress_deadline_ms=30_000, auto_revert=True)
    world.submit(1)
    for _ in range(3):
        world.lead()
        world.again()
        world.now_ms += 31_000
    job = world.job
    assert job.rollout is not None and job.rollout.status is RolloutStatus.FAILED
    assert (job.version, job.spec.type) == (2, JobType.SERVICE)
    events = world.state.events.after(0)
    assert any(one.kind == "rollout.not-reverted" and kind.name.lower() in one.message for one in events)
    assert not check(world.state)
