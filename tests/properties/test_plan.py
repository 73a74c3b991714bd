"""Plans against the replicated state: what is planned goes in whole, and rounds without faults come to rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import (
    AllocState,
    AssignmentKey,
    Desired,
    DeviceRequest,
    GroupSpec,
    JobSpec,
    JobType,
    NodeStatus,
    Observation,
    OnDisconnect,
)
from orchestrator.contract.transitions import EDGES, TERMINAL
from orchestrator.plan import ROWS_MAX, decide
from orchestrator.scheduling import registry
from orchestrator.state import views
from orchestrator.state.apply import apply
from orchestrator.state.commands import (
    Action,
    Applied,
    ApplyPlan,
    Command,
    CordonNode,
    DrainNode,
    Entry,
    ForgetNode,
    JobSubmission,
    MarkNodes,
    NodeMark,
    PlanAnswer,
    RecordStatuses,
    RegisterNode,
    RestartJob,
    ScaleJob,
    StopJob,
    SubmitJobs,
)
from orchestrator.state.invariants import check
from orchestrator.state.state import State, new_state
from tests.effort import examples
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec, node_spec

LIVELY = [state for state in AllocState if state not in TERMINAL]


class World:
    """A state, its leader and its agents, all in one thread and one clock."""

    def __init__(self) -> None:
        self.state: State = new_state()
        self.now_ms = 1_000_000
        self.rejected: list[str] = []

    def do(self, command: Command) -> Applied | None:
        entry = Entry(identity="test", request_id="", digest=b"", time_ms=self.now_ms, command=command)
        outcome = apply(self.state, entry)
        return outcome if isinstance(outcome, Applied) else None

    def decide_and_apply(self) -> list[ApplyPlan]:
        plans = list(decide(views.cluster_view(self.state), self.now_ms).plans)
        for plan in plans:
            outcome = self.do(plan)
            assert outcome is not None
            assert isinstance(outcome.answer, PlanAnswer)
            assert outcome.answer.rejected == ()
            assert outcome.answer.placed == len(plan.placements)
            assert outcome.answer.acted == len(plan.actions)
        return plans

    def live(self) -> Iterator[int]:
        yield from self.state.table.live_rows().tolist()

    def observe(self, row: int, after: AllocState, *, start_failed: bool = False) -> None:
        allocation = views.allocation(self.state, row)
        key = AssignmentKey(id=allocation.id, job_uid=allocation.job_uid, attempt=allocation.attempt)
        seen = Observation(key=key, restarts=allocation.restarts, state=after, start_failed=start_failed)
        self.do(RecordStatuses(node_id=allocation.node_id, observations=(seen,)))

    def agents_obey(self) -> bool:
        """Every reachable agent brings its allocations to where they should be; whether anything changed."""
        changed = False
        for row in list(self.live()):
            table = self.state.table
            if self.state.node_at[int(table.node[row])].status is NodeStatus.LOST:
                continue
            if table.desired[row] == Desired.STOP:
                self.observe(row, AllocState.STOPPED)
            elif table.state[row] == AllocState.BACKOFF:
                self.observe(row, AllocState.FAILED)
            elif table.state[row] != AllocState.RUNNING:
                self.observe(row, AllocState.STOPPED if table.state[row] == AllocState.STOPPING else AllocState.RUNNING)
            else:
                continue
            changed = True
        return changed


@st.composite
def specs(draw: st.DrawFn) -> JobSpec:
    def group(name: str) -> GroupSpec:
        gpu = draw(st.sampled_from([None, None, DeviceRequest(count=1), DeviceRequest(count=1, gpu_millis=400)]))
        return group_spec(
            name,
            count=draw(st.integers(0, 4)),
            cpu=draw(st.sampled_from([0, 300, 900])),
            memory=draw(st.sampled_from([0, 200])),
            gpu=gpu,
            ports=draw(st.sampled_from([(), (0,), (8080, 0)])),
        )

    names = draw(st.sampled_from([("a",), ("a", "b"), ("b", "a")]))
    return JobSpec(
        name=draw(st.sampled_from(["web", "sum", "log"])),
        type=draw(st.sampled_from([JobType.SERVICE, JobType.SERVICE, JobType.BATCH, JobType.SYSTEM])),
        priority=draw(st.sampled_from([50, 80])),
        groups=tuple(group(name) for name in names),
        placement=draw(st.sampled_from(["", *registry.names()])),
        on_disconnect=draw(st.sampled_from(list(OnDisconnect))),
    )


def some_node(name: str, capacity: int) -> RegisterNode:
    spec = node_spec(name, cpu=capacity, memory=capacity, devices=gpus(2), engine_id="host" if name != "n2" else "")
    return RegisterNode(node=spec, identity=name)


NODES = st.sampled_from(["n0", "n1", "n2"])
JOBS = st.sampled_from(["web", "sum", "log"])


def disturb(world: World, data: st.DataObject) -> None:
    """One thing that users, machines or agents do."""
    kind = data.draw(
        st.sampled_from(["submit", "scale", "stop", "restart", "lose", "back", "drain", "cordon", "agent"])
    )
    node = data.draw(NODES)
    match kind:
        case "submit":
            spec = data.draw(specs())
            world.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"u{world.state.index}"),)))
        case "scale":
            world.do(ScaleJob(namespace="default", name=data.draw(JOBS), group="a", count=data.draw(st.integers(0, 5))))
        case "stop":
            world.do(StopJob(namespace="default", name=data.draw(JOBS)))
        case "restart":
            world.do(RestartJob(namespace="default", name=data.draw(JOBS)))
        case "lose" | "back":
            record = world.state.nodes.get(node)
            if record is not None:
                mark = NodeMark(node_id=node, register_index=record.register_index)
                world.do(MarkNodes(lost=(mark,)) if kind == "lose" else MarkNodes(back=(mark,)))
                if kind == "lose" and data.draw(st.integers(0, 5)) == 0:
                    world.do(ForgetNode(node_id=node))
            else:
                world.do(some_node(node, 4000))
        case "drain":
            world.do(DrainNode(node_id=node))
        case "cordon":
            world.do(CordonNode(node_id=node, cordoned=data.draw(st.booleans())))
        case "agent":
            rows = list(world.live())
            if rows:
                row = data.draw(st.sampled_from(rows))
                after = data.draw(st.sampled_from(sorted(EDGES[AllocState(int(world.state.table.state[row]))])))
                world.observe(row, after, start_failed=after is AllocState.FAILED and data.draw(st.booleans()))
    world.now_ms += data.draw(st.sampled_from([10, 3_000, 700_000]))


@given(data=st.data())
@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_whatever_happens_every_plan_goes_in_whole_and_the_rounds_come_to_rest(data: st.DataObject) -> None:
    """Disturbances and rounds in any order: no row of a fresh plan is ever stale, and no invariant breaks. Once the
    disturbances end and nodes have room, everything wanted runs or has ended for good, and no plan is made any more."""
    world = World()
    for name in ("n0", "n1", "n2"):
        world.do(some_node(name, data.draw(st.sampled_from([1000, 4000]))))
    for _ in range(data.draw(st.integers(1, 12))):
        disturb(world, data)
        if data.draw(st.booleans()):
            world.decide_and_apply()
            assert check(world.state) == []

    for name in ("n0", "n1", "n2"):
        world.do(some_node(name, 1_000_000))
        world.do(CordonNode(node_id=name, cordoned=False))
    for _ in range(200):
        world.now_ms += 700_000
        plans = world.decide_and_apply()
        changed = world.agents_obey()
        if not plans and not changed:
            break
    else:
        raise AssertionError("the rounds do not come to rest")
    assert check(world.state) == []
    assert_at_rest(world)


def assert_at_rest(world: World) -> None:
    decision = decide(views.cluster_view(world.state), world.now_ms)
    table, columns = world.state.table, views.cluster_view(world.state).allocations
    for job in world.state.jobs.values():
        mine = columns.job == job.slot
        live = mine & np.isin(columns.state, [int(state) for state in LIVELY])
        if job.stopped:
            assert not live.any()
        elif job.spec.type is not JobType.SYSTEM and decision.unplaced.no_room == 0:
            ended = mine & np.isin(columns.state, [int(AllocState.FAILED), int(AllocState.COMPLETE)])
            wanted = sum(group.count for group in job.spec.groups)
            assert int(live.sum()) + int(ended.sum()) >= wanted
            assert int(live.sum()) <= wanted
    assert all(int(table.desired[row]) == Desired.RUN for row in world.live())


# ---------------------------------------------------------------------------- cutting


def rows_of(plans: tuple[ApplyPlan, ...]) -> list[tuple[str, int, int]]:
    return [
        (plan.jobs[job], ordinal, attempt)
        for plan in plans
        for job, ordinal, attempt in zip(
            plan.placements.job.tolist(),
            plan.placements.ordinal.tolist(),
            plan.placements.attempt.tolist(),
            strict=True,
        )
    ]


def test_a_large_plan_is_cut_into_entries_that_each_go_in_alone() -> None:
    world = World()
    for at in range(4):
        world.do(RegisterNode(node=node_spec(f"n{at}", cpu=10**7, memory=10**7), identity="x"))
    spec = JobSpec(name="big", groups=(group_spec(count=ROWS_MAX + 500, cpu=10, memory=10),))
    world.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="u"),)))
    decision = decide(views.cluster_view(world.state), world.now_ms)
    assert [len(plan.placements) for plan in decision.plans] == [ROWS_MAX, 500]
    # The second one first: each is valid alone.
    for plan in reversed(decision.plans):
        outcome = world.do(plan)
        assert outcome is not None
        assert isinstance(outcome.answer, PlanAnswer)
        assert outcome.answer.placed == len(plan.placements)
    assert decide(views.cluster_view(world.state), world.now_ms).plans == ()


def test_many_small_jobs_with_long_names_stay_below_the_size_of_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = ROWS_MAX * 100
    monkeypatch.setattr("orchestrator.plan.BYTES_MAX", limit)
    cluster = Cluster()
    cluster.node("n", cpu=10**8, memory=10**8)
    for at in range(ROWS_MAX):
        cluster.job(f"job-{at}", group_spec(cpu=1, memory=1))
        cluster.change(cluster.jobs[at], uid=f"{at:0>60}")
    plans = decide(cluster.view(), 0).plans
    assert len(plans) == 2
    assert sorted(rows_of(plans)) == [(f"{at:0>60}", 0, 1) for at in range(ROWS_MAX)]
    for plan in plans:
        columns = plan.placements
        size = sum(getattr(columns, name).nbytes for name in columns.__slots__) + sum(len(uid) + 8 for uid in plan.jobs)
        assert size <= limit


def test_losses_come_before_the_placements_that_they_allow_in_the_same_entry() -> None:
    cluster = Cluster()
    for name in ("a", "b"):
        cluster.node(name)
    job = cluster.job("web", group_spec(ports=(8080,)))
    cluster.alloc(job, cluster.nodes[0], ports=(8080,))
    cluster.change(cluster.nodes[0], status=NodeStatus.LOST)
    (plan,) = decide(cluster.view(), 0).plans
    assert plan.actions.action.tolist() == [Action.LOSE]
    assert [plan.nodes[node] for node in plan.placements.node.tolist()] == ["b"]
    assert plan.placements.attempt.tolist() == [2]
    assert plan.placements.ports.tolist() == [8080]
    assert plan.based_on == cluster.index


def test_a_round_with_nothing_to_do_makes_no_plan() -> None:
    cluster = Cluster()
    cluster.alloc(cluster.job("web"), cluster.node("a"))
    decision = decide(cluster.view(), 0)
    assert decision.plans == ()
    assert decision.wake_at_ms is None


def test_what_has_no_room_is_counted_and_placed_when_room_appears() -> None:
    cluster = Cluster()
    small = cluster.node("small", cpu=100)
    cluster.job("web", group_spec(count=3, cpu=1000))
    decision = decide(cluster.view(), 0)
    assert decision.plans == ()
    assert decision.unplaced.no_room == 3
    cluster.change(small, spec=replace(small.spec, capacity=replace(small.spec.capacity, cpu_millis=3000)))
    decision = decide(cluster.view(), 0)
    assert len(decision.plans[0].placements) == 3
    assert decision.unplaced.no_room == 0
