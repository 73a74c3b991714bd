"""Priorities, preemption, budgets and quotas over random sequences of what users, machines and agents do."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import (
    AllocState,
    DeviceRequest,
    Disruption,
    GangSpec,
    JobSpec,
    JobType,
    NodeStatus,
    Quota,
    SettingsChange,
)
from orchestrator.plan import decide
from orchestrator.state import views
from orchestrator.state.allocations import well
from orchestrator.state.commands import (
    Action,
    Applied,
    ApplyPlan,
    CordonNode,
    DrainNode,
    JobSubmission,
    MarkNodes,
    NamespaceWrite,
    NodeMark,
    PlanAnswer,
    RegisterNode,
    RestartJob,
    ScaleJob,
    SetSettings,
    StopJob,
    SubmitJobs,
    WriteNamespace,
)
from orchestrator.state.disruption import is_up, may_go_down, standing
from orchestrator.state.invariants import check
from orchestrator.state.usage import RESOURCES
from tests.effort import examples
from tests.properties.test_plan import World
from tests.unit.scheduling.cluster import gpus, group_spec, node_spec

SEEDS = st.integers(0, 2**32)
"""What happens is drawn by a seeded generator: Hypothesis' own draws prefer small and equal values, so that hardly
anything would ever be preempted. A failure prints its seed."""
JOBS = ["a", "b", "c", "d"]
ONE, HALF = Disruption(max_unavailable=1), Disruption(max_unavailable=50, percent=True)
QUOTA = Quota(cpu_millis=4_000, allocations=7, jobs=2, gpu_millis=2_000)


def specs(dice: Random) -> JobSpec:
    gpu = dice.choice([None, None, None, 1])
    kind = dice.choice([JobType.SERVICE, JobType.SERVICE, JobType.BATCH, JobType.SYSTEM])
    return JobSpec(
        name=dice.choice(JOBS),
        namespace=dice.choice(["default", "team"]),
        type=kind,
        priority=dice.choice([20, 50, 80]),
        unpreemptible=dice.randint(0, 5) == 0,
        disruption=dice.choice([None, None, ONE, HALF]),
        groups=(
            group_spec(
                count=1 if kind is JobType.SYSTEM else dice.randint(0, 4),
                cpu=dice.choice([300, 900, 2000]),
                memory=dice.choice([0, 200]),
                gpu=None if gpu is None else gpus_wanted(dice),
                ports=dice.choice([(), (), (8080,)]),
                gang=None if kind is JobType.SYSTEM else dice.choice([None, None, None, GangSpec()]),
            ),
        ),
    )


def gpus_wanted(dice: Random) -> DeviceRequest:
    return dice.choice([DeviceRequest(count=1), DeviceRequest(count=1, gpu_millis=400)])


def up_by_group(world: World) -> dict[tuple[str, str], tuple[int, int]]:
    """(wanted, up) of every group."""
    state, found = world.state, {}
    for job in state.jobs.values():
        for place, group in enumerate(job.spec.groups):
            rows = state.ordinals.rows(state.ordinals.gids[(job.slot, group.name)])
            rows = rows[rows >= 0]
            table = state.table
            lost = np.array([state.node_at[int(s)].status is NodeStatus.LOST for s in table.node[rows]], dtype=np.bool_)
            found[(job.uid, group.name)] = standing(
                job,
                place,
                ordinal=table.ordinal[rows],
                version=table.version[rows],
                state=table.state[rows],
                up=is_up(well(table.state[rows], table.health[rows]), table.desired[rows], lost),
                preempted=np.array(
                    [table.reasons.get(int(row), "").startswith("preempted by ") for row in rows], dtype=np.bool_
                ),
                level=state.feature_level,
            )
    return found


def one_round(world: World) -> list[ApplyPlan]:
    """Decide and apply, judging every eviction; nothing of a fresh plan is stale."""
    before = up_by_group(world)
    view = views.cluster_view(world.state)
    plans = list(decide(view, world.now_ms).plans)
    taken: Counter[tuple[str, str]] = Counter()
    for plan in plans:
        actions = plan.actions
        for place in range(len(actions)):
            kind, reason = int(actions.action[place]), plan.reasons[int(actions.reason[place])]
            job = world.state.jobs[plan.jobs[int(actions.job[place])]]
            if kind == Action.EVICT:
                assert actions.by is not None
                preemptor = world.state.jobs[plan.jobs[int(actions.by[place])]].spec
                assert job.spec.priority < preemptor.priority
                assert not job.spec.unpreemptible
                assert world.state.settings.preemption
                assert reason.startswith(f"preempted by {preemptor.name}/")
            if kind == Action.EVICT or reason == "its node is being drained":
                row = row_of(world, job.slot, int(actions.group[place]), int(actions.ordinal[place]))
                if world.state.table.state[row] == AllocState.RUNNING:
                    taken[(job.uid, job.spec.groups[0].name)] += 1
    for key, count in taken.items():
        budget = world.state.jobs[key[0]].spec.disruption
        wanted, up = before[key]
        assert count <= may_go_down(budget, wanted=wanted, up=up), (key, count, wanted, up)
    for plan in plans:
        outcome = world.do(plan)
        assert isinstance(outcome, Applied)
        assert isinstance(outcome.answer, PlanAnswer)
        assert outcome.answer.rejected == ()
    assert check(world.state) == []
    assert_quotas(world)
    return plans


def row_of(world: World, slot: int, group: int, ordinal: int) -> int:
    job = world.state.job_at[slot]
    gid = world.state.ordinals.gids[(slot, job.spec.groups[group].name)]
    return world.state.ordinals.find(gid, ordinal)


def assert_quotas(world: World) -> None:
    used = world.state.usage.of("team")
    for name in RESOURCES:
        limit = getattr(QUOTA, name)
        assert limit is None or getattr(used, name) <= limit, name


def disturb(world: World, dice: Random) -> None:
    kinds = [
        "submit",
        "submit",
        "submit",
        "submit",
        "scale",
        "stop",
        "restart",
        "drain",
        "uncordon",
        "lose",
        "back",
        "obey",
        "obey",
        "end",
    ]
    node, namespace = dice.choice(["n0", "n1", "n2"]), dice.choice(["default", "team"])
    name = dice.choice(JOBS)
    match dice.choice(kinds):
        case "submit":
            submission = JobSubmission(spec=specs(dice), uid=f"u{world.state.index}")
            world.do(SubmitJobs(jobs=(submission,)))
        case "scale":
            world.do(ScaleJob(namespace=namespace, name=name, group="main", count=dice.randint(0, 5)))
        case "stop":
            world.do(StopJob(namespace=namespace, name=name))
        case "restart":
            world.do(RestartJob(namespace=namespace, name=name))
        case "drain":
            world.do(DrainNode(node_id=node))
        case "uncordon":
            world.do(CordonNode(node_id=node, cordoned=False))
        case "lose" | "back" as kind:
            mark = NodeMark(node_id=node, register_index=world.state.nodes[node].register_index)
            world.do(MarkNodes(lost=(mark,)) if kind == "lose" else MarkNodes(back=(mark,)))
        case "obey":
            world.agents_obey()
        case "end":
            rows = [row for row in world.live() if world.state.table.state[row] == AllocState.RUNNING]
            if rows:
                after = dice.choice([AllocState.COMPLETE, AllocState.FAILED])
                world.observe(dice.choice(rows), after)
    world.now_ms += dice.choice([10, 3_000, 700_000])


@given(SEEDS)
@example(291)  # a gang becomes an ordinary group, and is replaced one by one
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_nobody_is_preempted_who_may_not_be_and_the_cluster_settles(seed: int) -> None:
    """Capacity, quotas, budgets and priorities hold after every round; once agents report and users are quiet, the
    rounds come to rest without any room being added."""
    dice = Random(seed)
    world = World()
    for at, name in enumerate(("n0", "n1", "n2")):
        spec = node_spec(name, cpu=dice.choice([1000, 4000]), memory=1000, devices=gpus(at))
        world.do(RegisterNode(node=spec, identity=name))
    world.do(WriteNamespace(name="team", kind=NamespaceWrite.CREATE, quota=QUOTA))
    if dice.randint(0, 7) == 0:
        world.do(SetSettings(change=SettingsChange(preemption=False)))
    for name in JOBS[:2]:
        group = group_spec(count=4, cpu=dice.choice([300, 900]))
        filler = JobSpec(name=name, priority=20, disruption=dice.choice([None, ONE, HALF]), groups=(group,))
        world.do(SubmitJobs(jobs=(JobSubmission(spec=filler, uid=f"filler-{name}"),)))
    one_round(world)
    world.agents_obey()
    for _ in range(dice.randint(1, 20)):
        disturb(world, dice)
        if dice.choice((True, False)):
            one_round(world)
    for _ in range(60):
        world.now_ms += 700_000
        plans = one_round(world)
        changed = world.agents_obey()
        if not plans and not changed:
            break
    else:
        raise AssertionError("the rounds do not come to rest")


@given(SEEDS)
@settings(max_examples=examples(60), deadline=None)
def test_who_waits_with_a_higher_priority_finds_nothing_that_it_could_have_preempted(seed: int) -> None:
    """At rest, an instance without a node has, on every node, too little room even if everything lower went; a gang has
    too little on all nodes together."""
    dice = Random(seed)
    world = World()
    for name in ("n0", "n1"):
        world.do(RegisterNode(node=node_spec(name, cpu=2000, memory=10_000), identity=name))
    for at in range(dice.randint(1, 5)):
        gang = dice.choice([None, None, GangSpec()])
        group = group_spec(count=dice.randint(1, 3), cpu=dice.choice([300, 700, 1000, 1900]), gang=gang)
        spec = JobSpec(name=f"j{at}", priority=dice.choice([20, 50, 80]), groups=(group,))
        world.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"u{at}"),)))
        if dice.choice((True, False)):
            one_round(world)
            world.agents_obey()
    for _ in range(60):
        plans = one_round(world)
        changed = world.agents_obey()
        if not plans and not changed:
            break
    table = world.state.table
    for job in world.state.jobs.values():
        live = world.state.live_rows(job.slot)
        group = job.spec.groups[0]
        if len(live) == group.count:
            continue
        fits = []
        for node in world.state.nodes.values():
            others = [
                row
                for row in world.live()
                if table.node[row] == node.slot
                and world.state.job_at[int(table.job[row])].spec.priority >= job.spec.priority
            ]
            held = int(table.cpu_millis[others].sum())
            fits.append((node.spec.capacity.cpu_millis - held) // group.resources.cpu_millis)
        assert sum(fits) == 0 if group.gang is None else sum(fits) < group.count
