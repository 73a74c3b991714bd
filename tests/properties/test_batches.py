"""Batches of plain instances: all or none, fair to whoever waits, dense, and the same plan for the same state."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import (
    Constraint,
    ConstraintOperator,
    NodeTaint,
    Taint,
    TaintEffect,
    Toleration,
)
from orchestrator.contract.taints import unwelcome
from orchestrator.plan import decide
from orchestrator.reconcile.rounds import reconcile
from orchestrator.reconcile.work import Ask
from orchestrator.scheduling.backlog import Wishes, backlog_of
from orchestrator.scheduling.placements import Placements
from orchestrator.scheduling.prefix_fill import big_first
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import Solver, Ways, solve
from orchestrator.scheduling.wish import Int64Array
from tests.effort import examples, seeds
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec
from tests.unit.scheduling.oracle import oracle_of

QUICK = settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
NEVER = 10**9
BATCHES = Ways(closed_form_from=4, shelves_from=0, fill_from=3)
IN_ZONE = Constraint(attribute="zone", operator=ConstraintOperator.EQUAL, values=("a",))


def cluster_of(seed: int) -> Cluster:
    """Up to 20 nodes of a few sizes, some with devices, some partly in use; jobs of all sizes, which may not all fit.

    From a seed and not drawn piece by piece: forty jobs are too much for hypothesis to shrink.
    """
    draw = random.Random(seed)
    cluster = Cluster()
    shapes = [(draw.randint(1, 40), draw.randint(1, 40)) for _ in range(draw.randint(1, 9))]
    for at in range(draw.randint(1, 20)):
        cores, blocks = draw.choice(shapes)
        cluster.node(
            f"n{at}",
            cpu=cores * 100,
            memory=blocks * 64,
            disk=draw.choice([100_000, 3000]),
            devices=gpus(2) if draw.randrange(5) == 0 else (),
            labels={"zone": draw.choice("ab")},
        )
    holder = cluster.job("holder", group_spec(count=0, cpu=draw.choice([50, 300]), memory=60))
    for node in cluster.nodes:
        if draw.random() < 0.5:
            cluster.alloc(holder, node, ordinal=node.slot)
    scale = draw.choice([5, 50])
    for at in range(draw.randint(1, 50)):
        group = group_spec(
            count=draw.choice([1, 1, 1, 3]),
            cpu=draw.randint(0, 20) * scale,
            memory=draw.randint(0, 20) * scale // 2,
            disk=draw.choice([0, 0, 0, 900]),
            constraints=(IN_ZONE,) if draw.randrange(5) == 0 else (),
        )
        cluster.job(f"j{at}", group, priority=draw.choice([50, 50, 50, 70]))
    return cluster


SEEDS = st.integers(0, 2**32)


def placed(cluster: Cluster, ways: Ways, steps_max: int = NEVER) -> tuple[Placements, tuple[Ask, ...], Problem]:
    view = cluster.view()
    asks = reconcile(view, 0).asks
    problem = Problem(view)
    return solve(problem, asks, ways=ways, steps_max=steps_max), asks, problem


def requests_of(asks: tuple[Ask, ...]) -> Int64Array:
    needs = [ask.job.spec.groups[ask.group].resources for ask in asks]
    return np.array([(need.cpu_millis, need.memory_mib, need.disk_mib) for need in needs], dtype=np.int64)


@given(seed=SEEDS)
@QUICK
def test_a_batch_takes_exactly_what_its_rows_ask_for_and_never_more_than_was_free(seed: int) -> None:
    cluster = cluster_of(seed)
    before = Problem(cluster.view())
    found, asks, problem = placed(cluster, BATCHES)
    expected = before.free.copy()
    np.subtract.at(
        expected, np.array(found.node, dtype=np.int64), requests_of(asks)[np.array(found.ask, dtype=np.int64)]
    )
    assert (problem.free == expected).all()
    used = np.unique(np.array(found.node, dtype=np.int64))
    assert (problem.free[used] >= 0).all()
    zones = [dict(node.spec.labels)["zone"] for node in problem.nodes]
    for ask, node in zip(found.ask, found.node, strict=True):
        assert not asks[ask].job.spec.groups[0].constraints or zones[node] == "a"


@given(seed=SEEDS)
@QUICK
def test_every_instance_is_placed_once_or_counted_as_unplaced(seed: int) -> None:
    cluster = cluster_of(seed)
    found, asks, _ = placed(cluster, BATCHES)
    assert not found.more
    seen = set(zip(found.ask, found.at, strict=True))
    assert len(seen) == len(found)
    for index, ask in enumerate(asks):
        rows = [at for of, at in seen if of == index]
        assert len(rows) + found.unplaced[index] == len(ask.ordinals)
        assert all(0 <= at < len(ask.ordinals) for at in rows)


@given(seed=SEEDS)
@QUICK
def test_whoever_is_left_fitted_nowhere_with_only_those_before_it_placed(seed: int) -> None:
    cluster = cluster_of(seed)
    found, asks, problem = placed(cluster, BATCHES)
    requests = requests_of(asks)
    free = Problem(cluster.view()).free
    zone = np.array([dict(node.spec.labels)["zone"] == "a" for node in problem.nodes])
    where = {(ask, at): node for ask, at, node in zip(found.ask, found.at, found.node, strict=True)}
    for index, ask in enumerate(asks):
        mine = [where[index, at] for at in range(len(ask.ordinals)) if (index, at) in where]
        for node in mine:
            free[node] -= requests[index]
        if found.unplaced[index]:
            suitable = zone if ask.job.spec.groups[0].constraints else np.ones(len(zone), dtype=np.bool_)
            assert not ((free >= requests[index]).all(axis=1) & suitable).any()


@given(seed=SEEDS, data=st.data())
@settings(QUICK, max_examples=examples(40))
def test_rounds_of_any_length_place_what_one_long_round_places_and_none_is_in_vain(
    seed: int, data: st.DataObject
) -> None:
    cluster = cluster_of(seed)
    view = cluster.view()
    asks = list(reconcile(view, 0).asks)
    whole = solve(Problem(view), asks, ways=Ways(closed_form_from=4, shelves_from=0, fill_from=NEVER))
    problem = Problem(view)
    counts: dict[int, int] = {}
    places = list(range(len(asks)))
    left = [len(ask.ordinals) for ask in asks]
    for _ in range(500):
        steps = data.draw(st.integers(1, 9))
        now = [at for at in places if left[at]]
        some = [_fewer(asks[at], left[at]) for at in now]
        ways = Ways(closed_form_from=4, shelves_from=0, fill_from=NEVER)
        found = solve(problem, some, ways=ways, steps_max=steps)
        for ask in found.ask:
            left[now[ask]] -= 1
            counts[now[ask]] = counts.get(now[ask], 0) + 1
        if not found.more:
            break
        assert len(found) > 0
    assert counts == {ask: whole.ask.count(ask) for ask in sorted(set(whole.ask))}


def _fewer(ask: Ask, count: int) -> Ask:
    return Ask(
        job=ask.job, group=ask.group, ordinals=ask.ordinals[-count:], attempts=ask.attempts[-count:], peers=ask.peers
    )


@pytest.mark.parametrize("ways", [Ways(), BATCHES], ids=["usual", "batches of few"])
def test_a_thousand_orders_of_the_mappings_give_one_plan(ways: Ways) -> None:
    draw = random.Random(4)
    cluster = Cluster()
    for at in range(6):
        cluster.node(f"n{at}", cpu=draw.choice([4000, 4000, 8000]), memory=draw.choice([8192, 16_384]))
    for at in range(70):
        cluster.job(f"j{at}", group_spec(cpu=draw.randrange(50, 800), memory=draw.randrange(10, 1500)))
    straight = cluster.view()
    wanted = solve(Problem(straight), reconcile(straight, 0).asks, ways=ways)
    for seed in range(examples(1000)):
        view = cluster.view(random.Random(seed))
        found = solve(Problem(view), reconcile(view, 0).asks, ways=ways)
        assert (found.ask, found.at, found.node) == (wanted.ask, wanted.at, wanted.node)


@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 9000), st.integers(0, 5)), min_size=1, max_size=80))
@QUICK
def test_the_order_of_a_fill_is_an_order_of_all_by_size(sizes: list[tuple[int, int, int]]) -> None:
    requests = np.array(sizes, dtype=np.int64)
    capacity = np.array([100_000, 100_000, 1000], dtype=np.int64)
    keys = big_first(requests.T, capacity.tolist())
    assert len(set(keys.tolist())) == len(sizes)
    shares = (requests * ((1 << 40) // capacity)).sum(axis=1)
    in_order = shares[np.argsort(keys)]
    step = int(shares.max()) // 15 + 2
    assert all(later <= earlier + step for earlier, later in pairwise(in_order))


def nodes_used(tasks: list[tuple[int, int]], fill: bool) -> int:
    """On 24 nodes of three sizes: by the fill, or by the oracle's best fit with the big ones first."""
    cluster = Cluster()
    for at in range(24):
        size = (32, 64, 96)[at % 3]
        cluster.node(f"n{at}", cpu=size * 1000, memory=size * 4096)
    if not fill:
        tasks = sorted(tasks, key=lambda task: (-(task[0] * 4096 + task[1] * 1000), task))
    for at, (cpu, memory) in enumerate(tasks):
        cluster.job(f"j{at:04}", group_spec(cpu=cpu, memory=memory))
    view = cluster.view()
    asks = reconcile(view, 0).asks
    if fill:
        found = solve(Problem(view), asks)
        assert len(found) == len(tasks)
        return len(set(found.node))
    return len({choice.node for choice in oracle_of(view).place(asks)})


@pytest.mark.parametrize("seed", seeds(range(2), fast=[0]))
@pytest.mark.parametrize("largest", seeds([2000, 4000, 12_000, 24_000], fast=[12_000, 24_000]))
def test_a_fill_uses_few_more_nodes_than_best_fit_decreasing(seed: int, largest: int) -> None:
    draw = random.Random(seed)
    count = min(120, 600_000 // largest)
    tasks = [(draw.randrange(100, largest), draw.randrange(100, largest * 4)) for _ in range(count)]
    best = nodes_used(tasks, fill=False)
    assert nodes_used(tasks, fill=True) <= best * 1.04 + 1


@given(seed=SEEDS)
@QUICK
def test_shelves_that_live_on_between_batches_still_choose_what_scores_choose(seed: int) -> None:
    """Singles and closed forms in turn, on one session, against a session that only looks at scores."""
    view = cluster_of(seed).view()
    asks = list(reconcile(view, 0).asks)
    draw = random.Random(seed)
    sessions = []
    for ways in (
        Ways(closed_form_from=2, shelves_from=0, fill_from=NEVER),
        Ways(closed_form_from=NEVER, shelves_from=NEVER, fill_from=NEVER),
    ):
        wishes = Wishes()
        sessions.append((Solver(Problem(view), wishes, ways), wishes))
    while asks:
        count = draw.randrange(1, 6)
        batch, asks = asks[:count], asks[count:]
        rows = []
        for solver, wishes in sessions:
            found = solver.place(backlog_of(batch, wishes))
            rows.append(list(zip(found.ask, found.at, found.node, strict=True)))
        assert rows[0] == rows[1]


def test_a_round_ends_at_its_bound_and_says_that_there_is_more() -> None:
    cluster = Cluster()
    cluster.node("n", cpu=1_000_000, memory=1_000_000)
    cluster.job("many", group_spec(count=300, cpu=1, memory=1))
    for at in range(200):
        cluster.job(f"j{at}", group_spec(cpu=2 + at, memory=3))
    decision = decide(cluster.view(), 0, steps_max=400)
    assert decision.more
    assert sum(len(plan.placements) for plan in decision.plans) == 400
    assert decision.unplaced.no_room == 0
    whole = decide(cluster.view(), 0)
    assert not whole.more
    assert sum(len(plan.placements) for plan in whole.plans) == 500


def test_what_finds_no_room_does_not_use_up_a_round() -> None:
    cluster = Cluster()
    cluster.node("n", cpu=1000, memory=1000)
    for at in range(200):
        cluster.job(f"large{at}", group_spec(cpu=5000 + at, memory=3))
    cluster.job("small", group_spec(cpu=100, memory=3))
    decision = decide(cluster.view(), 0, steps_max=10)
    assert sum(len(plan.placements) for plan in decision.plans) == 1
    assert decision.unplaced.no_room == 200


OLD = NodeTaint(taint=Taint(key="old", effect=TaintEffect.PREFER_NO_SCHEDULE))
WORN = NodeTaint(taint=Taint(key="worn", effect=TaintEffect.PREFER_NO_SCHEDULE))


def discouraging(seed: int) -> Cluster:
    """``cluster_of``, some of its nodes with taints that discourage, which some jobs tolerate."""
    cluster, draw = cluster_of(seed), random.Random(seed + 1)
    for node in list(cluster.nodes):
        cluster.change(node, taints=draw.choice([(), (), (OLD,), (OLD, WORN)]))
    for job in list(cluster.jobs[1:]):
        if draw.randrange(4) == 0:
            group = replace(job.spec.groups[0], tolerations=(Toleration(key="old"),))
            cluster.change(job, spec=replace(job.spec, groups=(group,)))
    return cluster


@given(seed=SEEDS)
@QUICK
def test_of_a_batch_nobody_is_where_taints_discourage_who_fits_elsewhere(seed: int) -> None:
    found, asks, problem = placed(discouraging(seed), BATCHES)
    requests = requests_of(asks)
    zone = np.array([dict(node.spec.labels)["zone"] == "a" for node in problem.nodes])
    for ask, node in zip(found.ask, found.node, strict=True):
        group = asks[ask].job.spec.groups[0]
        degree = np.array([unwelcome(one.taints, group.tolerations) for one in problem.nodes])
        better = (degree < degree[node]) & (zone if group.constraints else True)
        assert not ((problem.free >= requests[ask]).all(axis=1) & better).any()


@given(seed=SEEDS)
@QUICK
def test_one_by_one_from_shelves_heeds_taints_as_scores_do(seed: int) -> None:
    rows = []
    for ways in (
        Ways(closed_form_from=2, shelves_from=0, fill_from=NEVER),
        Ways(closed_form_from=NEVER, shelves_from=NEVER, fill_from=NEVER),
    ):
        found, _, _ = placed(discouraging(seed), ways)
        rows.append(list(zip(found.ask, found.at, found.node, strict=True)))
    assert rows[0] == rows[1]


@pytest.mark.parametrize("sizes", [1, 100], ids=["equal", "different"])
def test_taints_that_discourage_do_not_keep_jobs_out_of_batches(sizes: int) -> None:
    cluster = Cluster()
    for at in range(4):
        cluster.node(f"n{at}", cpu=100_000, memory=100_000, taints=(OLD,) if at % 2 else ())
    tolerations = (Toleration(key="other"),)
    for at in range(100):
        cluster.job(f"j{at}", group_spec(cpu=100 + at % sizes, memory=10, tolerations=tolerations))
    found, _, _ = placed(cluster, Ways(), steps_max=100)
    assert len(found) == 100  # one by one it would have been six
    assert not found.more
    assert set(found.node) == {0}
