"""Looking only at what changed leaves nothing undone, and sees the same room as looking at everything."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from orchestrator import plan
from orchestrator.reconcile import sight
from orchestrator.reconcile.sight import Sight, StateViews
from orchestrator.scheduling.problem import Problem
from orchestrator.state import views
from orchestrator.state.commands import PlanAnswer
from orchestrator.state.invariants import check
from tests.effort import examples
from tests.properties.test_plan import World, disturb, some_node


class Sighted(World):
    """A world whose leader remembers what it has seen to. ``by_what_is_left``: and what of a backlog it has left."""

    def __init__(self, *, steps_max: int = plan.ROUND_STEPS, by_what_is_left: bool = True) -> None:
        super().__init__()
        self.steps_max = steps_max
        self.by_what_is_left = by_what_is_left
        self.sight = Sight(StateViews(lambda: self.state))
        self.planner = plan.Planner()
        self.rounds: Counter[str] = Counter()

    def round(self) -> bool:
        """Whether there was anything to decide about."""
        view = self.sight.look(self.now_ms)
        if view is None:
            self.rounds["nothing"] += 1
            return False
        self.rounds["everything" if view.held is None else "some jobs"] += 1
        if view.held is not None:
            self.compare(view)
        decision = self.planner.decide(view, self.now_ms, steps_max=self.steps_max)
        if decision.blind:
            self.sight.forget()
            view = self.sight.look(self.now_ms)
            assert view is not None
            self.rounds["everything"] += 1
            decision = self.planner.decide(view, self.now_ms, steps_max=self.steps_max)
        self.sight.decided(
            view,
            pending=decision.pending,
            more=decision.more,
            left=decision.left if self.by_what_is_left else None,
            wake_at_ms=decision.wake_at_ms,
        )
        for one in decision.plans:
            outcome = self.do(one)
            assert outcome is not None
            assert isinstance(outcome.answer, PlanAnswer)
            assert outcome.answer.rejected == ()
        return True

    def compare(self, view: views.ClusterView) -> None:
        """The nodes as the few jobs' view has them are those that everything in view gives."""
        ways = [Problem(view)]
        latest = self.planner._latest
        if latest is not None and latest[0] is view.nodes:
            ways.append(latest[1].again(view))
        for few in ways:
            whole = Problem(views.cluster_view(self.state))
            np.testing.assert_array_equal(few.free, whole.free)
            np.testing.assert_array_equal(few.devices.free, whole.devices.free)
            np.testing.assert_array_equal(few.slots, whole.slots)
            if any(group.ports for job in view.jobs.values() for group in job.spec.groups):
                assert [engine.taken for engine in few.ports._engine] == [e.taken for e in whole.ports._engine]


@given(data=st.data())
@settings(
    max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_once_there_is_nothing_to_look_at_a_look_at_everything_finds_nothing(data: st.DataObject) -> None:
    world = Sighted(steps_max=data.draw(st.sampled_from([2, plan.ROUND_STEPS])))  # a round may end before all is seen
    for name in ("n0", "n1", "n2"):
        world.do(some_node(name, data.draw(st.sampled_from([1000, 4000, 40_000]))))
    for _ in range(data.draw(st.integers(1, 14))):
        for _ in range(data.draw(st.integers(1, 2))):
            disturb(world, data)
        while data.draw(st.booleans()) and world.agents_obey():
            world.round()
        for _ in range(50):
            if not world.round():
                break
        else:
            raise AssertionError("the rounds do not come to rest")
        assert check(world.state) == []
        assert plan.decide(views.cluster_view(world.state), world.now_ms).plans == ()
    event("some jobs alone" if world.rounds["some jobs"] else "always everything")


def test_a_round_that_ended_at_its_bound_is_followed_by_another_though_nothing_changed() -> None:
    from orchestrator.contract.model import JobSpec
    from orchestrator.state.commands import JobSubmission, SubmitJobs
    from tests.unit.scheduling.cluster import group_spec

    world = Sighted(steps_max=10)
    world.do(some_node("n0", 100_000))
    for number in range(6):
        spec = JobSpec(name=f"job-{number}", groups=(group_spec("a", count=8, cpu=10, memory=10),))
        world.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"u{number}"),)))
    while world.round():
        pass
    assert len(list(world.live())) == 48
    assert world.rounds == {"everything": 1, "some jobs": 4, "nothing": 1}


@given(data=st.data())
@settings(max_examples=examples(40), deadline=None)
def test_a_backlog_goes_where_it_would_if_every_round_looked_at_everything(data: st.DataObject) -> None:
    """With priorities, jobs that come while the backlog is served, and nodes that run full."""
    from orchestrator.contract.model import JobSpec
    from orchestrator.state.commands import JobSubmission, SubmitJobs
    from tests.unit.scheduling.cluster import group_spec

    waves = data.draw(
        st.lists(
            st.lists(
                st.tuples(
                    st.sampled_from([20, 50, 80]), st.integers(1, 9), st.sampled_from([10, 30]), st.integers(0, 2)
                ),
                max_size=4,
            ),
            min_size=1,
            max_size=6,
        )
    )
    sizes = data.draw(st.lists(st.sampled_from([200, 600]), min_size=1, max_size=4))
    found = []
    for by_what_is_left in (True, False):
        world = Sighted(steps_max=5, by_what_is_left=by_what_is_left)
        for number, size in enumerate(sizes):
            world.do(some_node(f"n{number}", size))
        for at, wave in enumerate(waves):
            for number, (priority, count, cpu, port) in enumerate(wave):
                groups = (group_spec("a", count=count, cpu=cpu, memory=1, ports=(0,) * port),)
                spec = JobSpec(name=f"job-{at}-{number}", priority=priority, groups=groups)
                world.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=spec.name),)))
            world.round()
        for _ in range(400):
            if not world.round():
                break
        event(f"by what is left: {by_what_is_left}, some jobs alone: {world.rounds['some jobs'] > 0}")
        table = world.state.table
        found.append(
            [
                (views.allocation(world.state, row).id, int(table.node[row]), table.ports.get(row))
                for row in range(table.high)
            ]
        )
    assert found[0] == found[1]


def test_who_finds_no_room_in_a_quiet_cluster_has_room_made_though_nothing_else_changes() -> None:
    """The round that the submit brings looks at the new job alone, and sees nobody whom it might evict."""
    from orchestrator.contract.model import JobSpec
    from orchestrator.state.commands import JobSubmission, SubmitJobs
    from tests.unit.scheduling.cluster import group_spec

    def submit(name: str, priority: int, count: int) -> None:
        groups = (group_spec("a", count=count, cpu=900, memory=10),)
        spec = JobSpec(name=name, priority=priority, groups=groups)
        world.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=name),)))
        while world.round():
            pass

    def living() -> Counter[str]:
        return Counter(views.allocation(world.state, row).id.job for row in world.live())

    world = Sighted()
    world.do(some_node("n0", 2_000))
    while world.round():
        pass
    submit("low", 20, 2)
    assert world.agents_obey()
    assert not world.round()
    world.rounds.clear()
    submit("high", 80, 1)
    assert world.rounds == {"some jobs": 1, "everything": 1, "nothing": 1}
    assert world.agents_obey()
    while world.round():
        pass
    assert living() == {"low": 1, "high": 1}

    world.rounds.clear()
    submit("another-low", 20, 1)  # there is nobody to evict for it
    assert world.rounds == {"everything": 1, "nothing": 1}


def test_a_quiet_cluster_is_looked_at_job_by_job_and_what_begins_to_run_not_at_all() -> None:
    from orchestrator.contract.model import JobSpec
    from orchestrator.state.commands import JobSubmission, SubmitJobs
    from tests.unit.scheduling.cluster import group_spec

    world = Sighted()
    world.do(some_node("n0", 100_000))
    while world.round():
        pass
    world.rounds.clear()
    for number in range(5):
        spec = JobSpec(name=f"job-{number}", groups=(group_spec("a", count=3, cpu=10, memory=10),))
        world.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"u{number}"),)))
        while world.round():
            pass
    assert world.rounds == {"some jobs": 5, "nothing": 5}
    assert len(list(world.live())) == 15
    assert world.agents_obey()
    assert not world.round()


def test_nodes_that_join_cost_a_round_only_where_something_waits_or_runs_everywhere() -> None:
    from orchestrator.contract.model import JobSpec, JobType
    from orchestrator.state.commands import JobSubmission, SubmitJobs
    from tests.unit.scheduling.cluster import group_spec

    def submit(name: str, cpu: int, kind: JobType = JobType.SERVICE) -> None:
        spec = JobSpec(name=name, type=kind, groups=(group_spec("a", cpu=cpu, memory=10),))
        world.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=name),)))

    def rounds() -> dict[str, int]:
        world.rounds.clear()
        while world.round():
            pass
        return dict(world.rounds)

    world = Sighted()
    world.do(some_node("n0", 1_000))
    rounds()
    for number in range(1, 6):
        world.do(some_node(f"n{number}", 1_000))
        assert rounds() == {"nothing": 1}
    world.do(some_node("large", 50_000))
    submit("fits-the-newest-alone", 40_000)
    assert rounds() == {"some jobs": 1, "nothing": 1}
    assert len(list(world.live())) == 1

    submit("waits", 90_000)
    rounds()
    assert len(list(world.live())) == 1
    world.do(some_node("larger", 100_000))
    assert rounds()["everything"] == 1
    assert len(list(world.live())) == 2

    submit("everywhere", 10, JobType.SYSTEM)
    rounds()
    before = len(list(world.live()))
    world.do(some_node("last", 1_000))
    assert rounds()["everything"] == 1
    assert len(list(world.live())) == before + 1


def test_a_node_that_joins_while_another_job_changes_gets_its_instance_of_a_system_job() -> None:
    """The round looks at what changed; at that job alone it would not see that the other one lacks an instance."""
    from orchestrator.contract.model import JobSpec, JobType
    from orchestrator.state.commands import JobSubmission, SubmitJobs
    from tests.unit.scheduling.cluster import group_spec

    world = Sighted()
    world.do(some_node("n0", 1_000))
    for name, kind in (("everywhere", JobType.SYSTEM), ("web", JobType.SERVICE)):
        spec = JobSpec(name=name, type=kind, groups=(group_spec("a", cpu=10, memory=10),))
        if kind is JobType.SERVICE:
            world.do(some_node("joins", 1_000))
        world.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=name),)))
        while world.round():
            pass
    found = Counter(views.allocation(world.state, row).id.job for row in world.live())
    assert found == {"everywhere": 2, "web": 1}


def test_a_round_that_asks_for_nothing_needs_no_nodes_as_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Sighted()
    world.do(some_node("n0", 1_000))
    monkeypatch.setattr(plan, "Problem", None)
    assert world.round()
    assert not world.round()


def test_room_for_a_look_at_everything_is_made_before_it_and_only_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.contract.model import JobSpec
    from orchestrator.state.commands import JobSubmission, SubmitJobs
    from tests.unit.scheduling.cluster import group_spec

    def made() -> bool:
        work = world.sight.make_room()
        if work is not None:
            work()
        return work is not None

    world = Sighted()
    world.do(some_node("n0", 40_000))
    assert not made()  # so few rows are copied without further ado
    monkeypatch.setattr(sight, "INLINE_ROWS", 0)
    monkeypatch.setattr(sight, "SPARE_ROWS", 8)
    assert made()
    assert not made()
    spec = JobSpec(name="a", groups=(group_spec("a", count=5, cpu=10, memory=10),))
    world.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="a"),)))
    while world.round():
        pass
    assert not made()  # nothing waits: only what changes will be looked at
    world.sight.forget()
    assert made()  # five of the eight are taken
    assert world.sight.look(world.now_ms) is not None
    world.sight.rest()
    assert made()
