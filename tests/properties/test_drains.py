"""Drains of groups that may surge: nobody is missing while there is room, and no drain waits for room that never comes.

The world is that of the rollouts: agents that obey late, leaders that are deposed (plans from an older view) and that
begin anew from a snapshot. What is held against the bound is every entry, whoever proposed it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import plan
from orchestrator.contract.model import AllocState, Disruption, JobSpec, NodeSpec, Resources
from orchestrator.contract.rollouts import RolloutAction, UpdateSpec, surge
from orchestrator.foresight import drains
from orchestrator.foresight.settle import settle
from orchestrator.state import views
from orchestrator.state.commands import (
    ApplyPlan,
    Command,
    CordonNode,
    DrainNode,
    Outcome,
    RegisterNode,
    RollbackJob,
    SetFeatureLevel,
    SteerRollout,
)
from orchestrator.state.features import SURGING_DRAINS
from orchestrator.state.invariants import check
from tests.effort import examples
from tests.properties.test_rollouts import STOP, World

NODES = ("n1", "n2", "n3")


class Drains(World):
    """``level``: the feature level; ``room``: instances that fit on a node."""

    def __init__(
        self,
        seed: int,
        update: UpdateSpec | None,
        count: int,
        *,
        room: int = 40,
        level: int = SURGING_DRAINS,
        budget: Disruption | None = None,
        nodes: tuple[str, ...] = NODES,
    ) -> None:
        self.budget = budget
        super().__init__(seed, update, count, room=room)
        for name in nodes[2:]:
            capacity = Resources(cpu_millis=room * 50, memory_mib=10_000, disk_mib=1_000)
            self.do(
                RegisterNode(node=NodeSpec(id=name, name=name, drivers=("docker",), capacity=capacity), identity=name)
            )
        self.do(SetFeatureLevel(level=level))
        self.submit(0)
        self.settle()
        assert self.ready() == count

    def spec(self) -> JobSpec:
        return replace(super().spec(), disruption=self.budget)

    def held_against_the_bounds(self, command: Command) -> None:
        self.do(command)
        most = surge(self.update, self.count)
        assert self.live() <= self.count + most, "too many live"
        assert not check(self.state)

    def drain(self, node: str, *, cancel: bool = False, deadline_after_ms: int = 0) -> Outcome:
        return self.do(DrainNode(node_id=node, cancel=cancel, deadline_after_ms=deadline_after_ms))

    def on(self, node: str) -> list[int]:
        return [row for row in self.rows() if self.state.node_at[int(self.state.table.node[row])].spec.id == node]

    def node_of_most(self) -> str:
        return max(NODES, key=lambda name: len(self.on(name)))

    def drained(self) -> list[str]:
        return [node.spec.id for node in self.state.nodes.values() if node.draining]

    def reasons(self) -> set[str]:
        return {event.message for event in self.state.events.after(0) if event.kind == "alloc.stop"}

    def said(self, node: str) -> dict[int, tuple[str, str]]:
        view = views.cluster_view(self.state)
        steps = drains.left_on(view, self.state.nodes[node].slot, self.now_ms)
        return {step.id.ordinal: (step.kind, step.why) for step in steps}

    def play(self, rounds: int = 80) -> None:
        for _ in range(rounds):
            self.now_ms += 1_000
            self.lead()
            for row in self.rows():
                self.obey(row)


surging = st.one_of(
    st.builds(
        UpdateSpec,
        max_surge=st.integers(1, 3),
        max_unavailable=st.integers(0, 2),
        min_ready_ms=st.sampled_from([0, 3_000]),
    ),
    st.builds(UpdateSpec, max_surge=st.sampled_from([25, 50]), surge_percent=st.just(True)),
)
budgets = st.sampled_from([None, Disruption(max_unavailable=0), Disruption(max_unavailable=1)])


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), update=surging, budget=budgets, count=st.integers(1, 6), steps=st.integers(20, 120))
def test_nobody_is_missing_at_any_entry_while_there_is_room(
    seed: int, update: UpdateSpec, budget: Disruption | None, count: int, steps: int
) -> None:
    world = Drains(seed, update, count, budget=budget)
    dice = world.random
    for _ in range(steps):
        world.now_ms += dice.choice([0, 100, 1_000, 5_000])
        step, drained, rows = dice.random(), world.drained(), world.rows()
        if step < 0.45:
            world.lead(stale=dice.random() < 0.3)
        elif step < 0.85:
            world.obey(dice.choice(rows))
        elif step < 0.91 and len(drained) < 2:  # one node takes work, and holds all of them and those that surge
            world.drain(dice.choice(NODES))
        elif step < 0.94 and drained:
            world.drain(dice.choice(drained), cancel=True)
        elif step < 0.96 and drained:
            world.do(CordonNode(node_id=dice.choice(drained), cordoned=False))
        elif step < 0.97:
            world.do(SteerRollout(namespace="default", name="web", action=dice.choice(list(RolloutAction))))
        else:
            world.again()
        assert world.ready() == count, "an instance went before its successor was ready"
    world.play()
    assert world.ready() == world.live() == count
    assert not any(world.on(node) for node in world.drained())


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), update=surging, count=st.integers(1, 6), room=st.integers(2, 6))
def test_a_drain_comes_to_its_end_whatever_room_there_is(seed: int, update: UpdateSpec, count: int, room: int) -> None:
    """Two nodes of which one holds all of them, or hardly."""
    world = Drains(seed, update, min(count, room), room=room, nodes=NODES[:2])
    world.drain("n1")
    world.play()
    assert not world.on("n1")
    assert world.ready() == world.live() == world.count


@pytest.mark.soak
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), update=surging, count=st.integers(1, 6), steps=st.integers(20, 120))
def test_drains_and_rollouts_at_once_come_to_their_end(seed: int, update: UpdateSpec, count: int, steps: int) -> None:
    """New versions, rollbacks, attempts that fail, checks that flap: no instance is left with two attempts or none."""
    world = Drains(seed, update, count)
    dice = world.random
    for _ in range(steps):
        world.now_ms += dice.choice([0, 100, 1_000, 5_000])
        step, drained, rows = dice.random(), world.drained(), world.rows()
        row = dice.choice(rows) if rows else -1
        if step < 0.4:
            world.lead(stale=dice.random() < 0.3)
        elif step < 0.75 and row >= 0:
            world.obey(row)
        elif step < 0.79 and row >= 0 and world.state.table.state[row] == int(AllocState.RUNNING):
            world.observe(row, AllocState.RUNNING, ready=False)
        elif step < 0.82 and row >= 0:
            world.observe(row, AllocState.FAILED, start_failed=dice.random() < 0.5)
        elif step < 0.86:
            world.submit(dice.randint(0, 3))
        elif step < 0.88:
            world.do(RollbackJob(namespace="default", name="web"))
        elif step < 0.92 and len(drained) < 2:
            world.drain(dice.choice(NODES))
        elif step < 0.95 and drained:
            world.drain(dice.choice(drained), cancel=True)
        elif step < 0.98:
            world.do(SteerRollout(namespace="default", name="web", action=dice.choice(list(RolloutAction))))
        else:
            world.again()
        assert not check(world.state)
    world.submit(7)  # of which nothing has failed yet
    world.play(200)
    assert world.ready() == world.live() == count
    assert {int(world.state.table.version[one]) for one in world.rows()} == {world.job.version}
    assert not any(world.on(node) for node in world.drained())


@pytest.mark.parametrize("budget", [None, Disruption(max_unavailable=0), Disruption(max_unavailable=1)])
def test_a_successor_is_ready_before_the_old_one_is_told_to_stop(budget: Disruption | None) -> None:
    world = Drains(1, UpdateSpec(max_surge=1, max_unavailable=0), 3, budget=budget)
    node = world.node_of_most()
    before = {int(world.state.table.ordinal[row]) for row in world.on(node)}
    world.drain(node)
    first = min(before)
    assert world.said(node)[first] == ("next", "its successor gets a node now")
    world.lead()
    (successor,) = [row for row in world.rows() if world.state.table.state[row] == int(AllocState.PENDING)]
    assert int(world.state.table.ordinal[successor]) == first
    kind, why = world.said(node)[first]
    assert kind == "waits"
    assert why.startswith("its successor on n") and "is not taken up yet" in why
    assert not plan.decide(views.cluster_view(world.state), world.now_ms).plans, "one at a time, as max_surge says"
    world.observe(successor, AllocState.RUNNING)
    assert world.said(node)[first] == ("next", "it is told to stop now")
    world.play()
    assert world.reasons() == {"its node is being drained"}
    assert not world.on(node)


def test_a_drain_waits_for_min_ready_and_says_so() -> None:
    world = Drains(2, UpdateSpec(max_surge=1, max_unavailable=0, min_ready_ms=5_000), 1)
    (node,) = {world.state.node_at[int(world.state.table.node[row])].spec.id for row in world.rows()}
    world.drain(node)
    world.lead()
    world.observe(world.rows()[-1], AllocState.RUNNING)
    assert "has to stay so for min_ready" in world.said(node)[0][1]
    decision = plan.decide(views.cluster_view(world.state), world.now_ms)
    assert not decision.plans
    assert decision.wake_at_ms == world.now_ms + 5_000
    world.now_ms += 5_000
    world.lead()
    assert [int(world.state.table.desired[row]) for row in world.on(node)] == [STOP]


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (None, ("next", "it is told to stop now: nowhere is room for a successor first")),
        (Disruption(max_unavailable=0), ("budget", "nowhere is room for a successor first; its disruption budget")),
    ],
)
def test_without_room_for_a_successor_a_drain_goes_on_as_before_and_says_why(
    budget: Disruption | None, said: tuple[str, str]
) -> None:
    world = Drains(3, UpdateSpec(max_surge=1, max_unavailable=0), 4, room=4, budget=budget, nodes=NODES[:2])
    for row in world.on("n2"):  # all of them on the first
        world.observe(row, AllocState.FAILED)
    world.do(CordonNode(node_id="n2", cordoned=True))
    world.settle()
    assert len(world.on("n1")) == 4
    world.drain("n1")
    kind, why = world.said("n1")[0]
    assert (kind, why[: len(said[1])]) == said
    (explained,) = plan.explain(views.cluster_view(world.state), world.job.uid, world.now_ms)
    assert explained.pending == 0, "all of them have a node"
    world.play(5)
    down = 0 if budget is not None else 1
    assert world.ready() == 4 - down
    assert world.reasons() == (
        set() if budget else {"its node is being drained, and nowhere is room for a successor first"}
    )
    world.do(CordonNode(node_id="n2", cordoned=False))
    world.play()
    assert not world.on("n1")
    assert world.ready() == 4


def test_who_runs_stays_until_the_deadline_while_its_successor_does_not_come_up() -> None:
    world = Drains(4, UpdateSpec(max_surge=1, max_unavailable=0), 1)
    (node,) = {world.state.node_at[int(world.state.table.node[row])].spec.id for row in world.rows()}
    world.drain(node, deadline_after_ms=60_000)
    world.lead()
    world.observe(world.rows()[-1], AllocState.RUNNING, ready=False)
    for _ in range(5):
        world.now_ms += 10_000
        world.lead()
        assert world.ready() == 1
    world.now_ms += 10_000
    world.lead()
    assert [int(world.state.table.desired[row]) for row in world.on(node)] == [STOP]


def test_a_successor_that_fails_is_tried_again_and_at_last_the_drain_goes_on_without() -> None:
    world = Drains(5, UpdateSpec(max_surge=1, max_unavailable=0), 1)
    (node,) = {world.state.node_at[int(world.state.table.node[row])].spec.id for row in world.rows()}
    world.drain(node)
    tries = 0
    for _ in range(30):
        world.now_ms += 300_000  # beyond every backoff
        world.lead()
        for row in world.rows():
            if world.state.table.state[row] == int(AllocState.PENDING) and world.ready():
                tries += 1
                world.observe(row, AllocState.FAILED, start_failed=True)
        if any(world.state.table.desired[row] == STOP for row in world.on(node)):
            break
        assert world.ready() == 1, "it went although nobody had taken its place"
    else:
        pytest.fail("the drain hangs")
    assert tries == 3, "a first try, and as many more as the job allows"


def test_a_cancelled_drain_leaves_the_old_one_and_ends_its_successor() -> None:
    world = Drains(6, UpdateSpec(max_surge=1, max_unavailable=0), 1)
    old = int(world.state.table.attempt[world.rows()[0]])
    world.drain(world.node_of_most())
    world.lead()
    assert world.live() == 2
    world.drain(world.node_of_most(), cancel=True)
    world.play(5)
    assert [int(world.state.table.attempt[row]) for row in world.rows()] == [old]
    assert world.reasons() == {"no drain needs two attempts of it any more"}


def test_below_the_feature_level_nothing_is_as_it_will_be() -> None:
    """What peers of before would refuse is refused, and the leader does not ask for it."""
    after = Drains(7, UpdateSpec(max_surge=1, max_unavailable=0), 2)
    before = Drains(7, UpdateSpec(max_surge=1, max_unavailable=0), 2, level=SURGING_DRAINS - 1)
    node = after.node_of_most()
    after.drain(node)
    before.drain(node)
    (asked,) = plan.decide(views.cluster_view(after.state), after.now_ms).plans
    assert len(asked.placements) == 1
    (stops,) = plan.decide(views.cluster_view(before.state), before.now_ms).plans
    assert len(stops.actions) == 1
    assert not len(stops.placements)
    before.do(asked)
    assert before.live() == 2
    told = [event.message for event in before.state.events.after(0) if event.kind == "plan.rejected"]
    assert "an attempt of it is live" in told[-1]
    after.do(asked)
    assert after.live() == 3


@pytest.mark.parametrize("update", [None, UpdateSpec(max_surge=0, max_unavailable=1)])
def test_a_group_that_may_not_surge_has_no_two_attempts(update: UpdateSpec | None) -> None:
    world = Drains(8, update, 3)
    world.drain(world.node_of_most())
    world.play()
    assert world.ready() == world.live() == 3


def test_foresight_plays_such_a_drain_to_its_end() -> None:
    world = Drains(9, UpdateSpec(max_surge=2, max_unavailable=0), 5)
    node = world.node_of_most()
    world.drain(node)
    assert settle(world.state, world.now_ms).settled
    assert not world.on(node)
    assert world.ready() == world.live() == 5


def plans_of(world: Drains) -> tuple[ApplyPlan, ...]:
    return plan.decide(views.cluster_view(world.state), world.now_ms).plans


def refusals(world: Drains) -> list[str]:
    return [event.message for event in world.state.events.after(0) if event.kind == "plan.rejected"]


def test_the_plan_of_a_deposed_leader_stops_nobody_whose_successor_has_gone() -> None:
    world = Drains(10, UpdateSpec(max_surge=1, max_unavailable=0), 1)
    node = world.node_of_most()
    world.drain(node)
    world.lead()
    world.observe(world.rows()[-1], AllocState.RUNNING)
    (late,) = plans_of(world)  # the old one may go
    world.drain(node, cancel=True)
    world.lead()  # the new one goes instead
    world.held_against_the_bounds(late)
    assert world.ready() == 1
    assert "web/api/0 stays" in refusals(world)[-1]


def test_the_plan_of_a_deposed_leader_stops_nobody_whose_successor_is_ill_by_now() -> None:
    world = Drains(11, UpdateSpec(max_surge=1, max_unavailable=0), 1)
    world.drain(world.node_of_most())
    world.lead()
    successor = world.rows()[-1]
    world.observe(successor, AllocState.RUNNING)
    (late,) = plans_of(world)
    world.observe(successor, AllocState.RUNNING, ready=False)
    world.held_against_the_bounds(late)
    assert world.ready() == 1
    assert "stays: its other attempt is not ready" in refusals(world)[-1]


def test_two_who_believe_to_lead_bring_no_more_successors_than_may_surge() -> None:
    world = Drains(12, UpdateSpec(max_surge=1, max_unavailable=0), 2, nodes=NODES[:2])
    for row in world.on("n2"):
        world.observe(row, AllocState.FAILED)
    world.do(CordonNode(node_id="n2", cordoned=True))
    world.settle()
    world.do(CordonNode(node_id="n2", cordoned=False))
    world.drain("n1")
    first, second = world.on("n1")
    world.observe(first, AllocState.RUNNING, ready=False)
    (old,) = plans_of(world)
    world.observe(first, AllocState.RUNNING)
    (new,) = plans_of(world)
    assert second != first
    for one in (new, old):
        world.held_against_the_bounds(one)
    assert world.live() == 3
    assert "1 of its group have a successor already" in refusals(world)[-1]


def test_a_cancelled_drain_ends_the_one_that_is_not_ready() -> None:
    world = Drains(13, UpdateSpec(max_surge=1, max_unavailable=0), 1)
    node = world.node_of_most()
    (old,) = world.rows()
    world.drain(node)
    world.lead()
    successor = world.rows()[-1]
    world.observe(successor, AllocState.RUNNING)
    world.observe(old, AllocState.RUNNING, ready=False)
    world.drain(node, cancel=True)
    world.play(3)
    assert world.rows() == [successor]
    assert world.ready() == 1
