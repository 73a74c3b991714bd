"""Affinity, spreading, taints, custom resources and locality against a reading of the manual that looks at every node.

The oracle below is written from the manual's chapter, one instance and one node at a time, without a line of the
scheduler's code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import (
    Affinity,
    Constraint,
    ConstraintOperator,
    JobSpec,
    JobType,
    NodeStatus,
    NodeTaint,
    Spread,
    Taint,
    TaintEffect,
    Toleration,
)
from orchestrator.reconcile.rounds import reconcile
from orchestrator.scheduling import registry
from orchestrator.scheduling.explain import first_refusal
from orchestrator.scheduling.filters import has_room, suitable
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import Ways, solve
from orchestrator.scheduling.wish import wish_of
from orchestrator.state.commands import Action
from orchestrator.state.matching import lacks, may_take
from orchestrator.state.model import Node
from orchestrator.state.views import ClusterView
from tests.effort import examples
from tests.unit.scheduling.cluster import Cluster, group_spec

QUICK = settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
MILLION = 1_000_000

EFFECTS = st.sampled_from(list(TaintEffect))
TAINTS = st.builds(Taint, key=st.sampled_from(["gpu", "old"]), value=st.sampled_from(["", "x"]), effect=EFFECTS)
TOLERATIONS = st.builds(
    Toleration,
    key=st.sampled_from(["", "gpu", "old"]),
    value=st.sampled_from([None, "", "x"]),
    effect=st.none() | EFFECTS,
    delay_ms=st.sampled_from([None, 60_000]),
)
WEIGHTS = st.sampled_from([-100, -50, -1, 1, 50, 100])
AFFINITIES = st.one_of(
    st.builds(
        Affinity,
        constraint=st.sampled_from(
            [
                Constraint(attribute="disk", operator=ConstraintOperator.EQUAL, values=("ssd",)),
                Constraint(attribute="node.zone", operator=ConstraintOperator.IN, values=("a", "b")),
            ]
        ),
        weight=WEIGHTS,
    ),
    st.builds(
        Affinity,
        job=st.sampled_from(["", "j0", "j1", "nobody"]),
        group=st.sampled_from(["", "g0"]),
        topology=st.sampled_from(["node.id", "node.zone"]),
        weight=WEIGHTS,
        required=st.sampled_from([False, False, True]),
    ),
)
SPREADS = st.builds(
    Spread,
    attribute=st.sampled_from(["node.zone", "node.name"]),
    max_skew=st.integers(1, 2),
    required=st.booleans(),
    weight=st.sampled_from([1, 50]),
)


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    cluster = Cluster()
    for at in range(draw(st.integers(1, 6))):
        node = cluster.node(
            f"n{at}",
            cpu=draw(st.sampled_from([1000, 2000, 4000])),
            zone=draw(st.sampled_from(["", "a", "b", "c"])),
            labels=draw(st.sampled_from([{}, {"disk": "ssd"}])),
            custom=draw(st.sampled_from([{}, {"licenses": 2}, {"licenses": 5, "cards": 1}])),
            images=draw(st.sampled_from([(), ("nginx:1.27@0123456789ab",), ("redis:latest", "nginx:1.27")])),
            datasets=draw(st.sampled_from([(), ("imagenet",)])),
            cordoned=draw(st.integers(0, 9)) == 0,
            status=draw(st.sampled_from([NodeStatus.READY] * 9 + [NodeStatus.LOST])),
        )
        taints = {(taint.key, taint.effect): taint for taint in draw(st.lists(TAINTS, max_size=2))}
        cluster.change(node, taints=tuple(NodeTaint(taint=taint) for taint in taints.values()))
    for at in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from([JobType.SERVICE] * 5 + [JobType.SYSTEM]))
        system = kind is JobType.SYSTEM
        job = cluster.job(
            f"j{at}",
            *(
                group_spec(
                    f"g{number}",
                    count=draw(st.integers(0, 12)),
                    cpu=draw(st.sampled_from([0, 200, 500])),
                    image=draw(st.sampled_from(["nginx:1.27", "redis", "other:2"])),
                    custom=draw(st.sampled_from([{}, {}, {"licenses": 1}, {"licenses": 2, "cards": 1}])),
                    affinity=() if system else tuple(draw(st.lists(AFFINITIES, max_size=2))),
                    spread=() if system else tuple(draw(st.lists(SPREADS, max_size=1))),
                    tolerations=tuple(draw(st.lists(TOLERATIONS, max_size=1))),
                    datasets=draw(st.sampled_from([(), ("imagenet",)])),
                    locality=0 if system else draw(st.sampled_from([0, 0, 30])),
                )
                for number in range(draw(st.integers(1, 2)))
            ),
            placement=draw(st.sampled_from(["", *registry.names()])),
            affinity=() if system else tuple(draw(st.lists(AFFINITIES, max_size=1))),
            tolerations=tuple(draw(st.lists(TOLERATIONS, max_size=1))),
            type=kind,
        )
        if not system:
            for group, spec in enumerate(job.spec.groups):
                for ordinal in range(draw(st.integers(0, min(2, spec.count)))):
                    cluster.alloc(
                        job, cluster.nodes[draw(st.integers(0, len(cluster.nodes) - 1))], ordinal, group=group
                    )
    return cluster


# ---------------------------------------------------------------------------- the oracle


def tolerated(taint: Taint, tolerations: tuple[Toleration, ...], *, lasting: bool) -> bool:
    for one in tolerations:
        if one.key and one.key != taint.key:
            continue
        if one.value is not None and one.value != taint.value:
            continue
        if one.effect is not None and one.effect != taint.effect:
            continue
        if lasting and one.delay_ms is not None:
            continue
        return True
    return False


def may(node: Node, job: JobSpec, place: int) -> bool:
    group = job.groups[place]
    if node.status is not NodeStatus.READY or node.cordoned or node.draining:
        return False
    tolerations = job.tolerations + group.tolerations
    for one in node.taints:
        effect = one.taint.effect
        if effect is TaintEffect.NO_SCHEDULE and not tolerated(one.taint, tolerations, lasting=False):
            return False
        if effect is TaintEffect.NO_EXECUTE and not tolerated(one.taint, tolerations, lasting=True):
            return False
    return all(task.driver_name in node.spec.drivers for task in group.tasks)


def value_of(node: Node, attribute: str) -> str:
    return {"node.id": node.spec.id, "node.zone": node.spec.zone, "node.name": node.spec.name}[attribute]


class Manual:
    """Where instances are: (job, group) per node, and what the chapter says of one more on a node."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes
        self.there: dict[tuple[str, str], list[int]] = {}

    def at(self, job: str, group: str) -> list[int]:
        return [
            sum(counts[number] for (name, part), counts in self.there.items() if name == job and group in ("", part))
            for number in range(len(self.nodes))
        ]

    def add(self, job: str, group: str, node: int) -> None:
        self.there.setdefault((job, group), [0] * len(self.nodes))[node] += 1

    def near(self, counts: list[int], node: int, attribute: str) -> int:
        mine = value_of(self.nodes[node], attribute)
        if not mine:
            return 0
        return sum(n for other, n in zip(self.nodes, counts, strict=True) if value_of(other, attribute) == mine)

    def whom(self, job: JobSpec, place: int, one: Affinity) -> tuple[str, str]:
        if one.job:
            return one.job, one.group
        return job.name, one.group or job.groups[place].name

    def allowed(self, job: JobSpec, place: int, node: int) -> bool:
        group = job.groups[place]
        for one in job.affinity + group.affinity:
            if one.constraint is not None or not one.required:
                continue
            name, part = self.whom(job, place, one)
            counts = self.at(name, part)
            near = self.near(counts, node, one.topology)
            if one.weight < 0 and near:
                return False
            if one.weight > 0 and not near:
                first = name == job.name and part in ("", group.name) and not sum(counts)
                if not first or not value_of(self.nodes[node], one.topology):
                    return False
        return all(self.skew(job, place, node, one) <= one.max_skew for one in group.spread if one.required)

    def skew(self, job: JobSpec, place: int, node: int, one: Spread) -> int:
        if not value_of(self.nodes[node], one.attribute):
            return 10**9
        counts = self.at(job.name, job.groups[place].name)
        taking = [n for n, other in enumerate(self.nodes) if may(other, job, place) and value_of(other, one.attribute)]
        least = min((self.near(counts, n, one.attribute) for n in taking), default=0)
        return self.near(counts, node, one.attribute) + 1 - least

    def preference(self, job: JobSpec, place: int, node: int) -> int:
        group, record = job.groups[place], self.nodes[node]
        total = 0
        for one in job.affinity + group.affinity:
            if one.constraint is not None:
                has = dict(record.spec.labels) | {"node.zone": record.spec.zone}
                total += one.weight * MILLION * (has.get(one.constraint.attribute, "") in one.constraint.values)
            elif not one.required:
                near = self.near(self.at(*self.whom(job, place, one)), node, one.topology)
                total += one.weight * (MILLION * near // (near + 1))
        for spread in group.spread:
            if not spread.required and value_of(record, spread.attribute):
                beyond = max(0, self.skew(job, place, node, spread) - spread.max_skew)
                total += spread.weight * (MILLION // (1 + beyond))
        if group.locality:
            tags = {image.split("@")[0] for image in record.spec.images}
            images = {task.image if ":" in task.image else f"{task.image}:latest" for task in group.tasks}
            have = len(images & tags) + len(set(group.datasets) & set(record.spec.datasets))
            total += group.locality * (MILLION * have // (len(images) + len(set(group.datasets))))
        for one_taint in record.taints:
            soft = one_taint.taint.effect is TaintEffect.PREFER_NO_SCHEDULE
            if soft and not tolerated(one_taint.taint, job.tolerations + group.tolerations, lasting=False):
                total -= 100 * MILLION
        return total


def problem_of(view: ClusterView) -> Problem:
    """As the planner makes it: what the round gives up as lost holds and counts nothing."""
    actions = reconcile(view, 0).actions
    return Problem(view, actions.positions[actions.actions == Action.LOSE])


# ---------------------------------------------------------------------------- the claims


@given(cluster=clusters())
@QUICK
def test_where_a_group_may_go_is_one_judgement(cluster: Cluster) -> None:
    """The scheduler's filter, the function that system jobs use and the manual agree on every node."""
    problem = Problem(cluster.view())
    for job in cluster.jobs:
        for place, group in enumerate(job.spec.groups):
            mask = suitable(problem, wish_of(job.spec, group, policy=registry.chooser("binpack"))).tolist()
            assert mask == [may_take(node, job.spec, group) for node in problem.nodes]
            assert mask == [may(node, job.spec, place) for node in problem.nodes]


@given(cluster=clusters())
@QUICK
def test_what_a_node_lacks_were_it_empty_is_one_judgement(cluster: Cluster) -> None:
    """Rollouts, which stop nobody for what no node could take, and the scheduler agree on every empty node."""
    cluster.rows.clear()
    problem = Problem(cluster.view())
    everywhere = np.arange(len(problem), dtype=np.int64)
    for job in cluster.jobs:
        for group in job.spec.groups:
            wish = wish_of(job.spec, group, policy=registry.chooser("binpack"))._replace(ports=())
            mask = (suitable(problem, wish) & has_room(problem, wish, everywhere)).tolist()
            assert mask == [not lacks(node, job.spec, group) for node in problem.nodes]


@given(cluster=clusters())
@settings(QUICK, max_examples=examples(150))
def test_every_placement_is_allowed_and_on_a_most_preferred_node(cluster: Cluster) -> None:
    """Replays the round: each instance went where it fits, is allowed and is preferred most; what was left out had no
    such node."""
    view = cluster.view()
    asks = reconcile(view, 0).asks
    problem = problem_of(view)
    fresh = problem_of(view)
    found = solve(problem, asks)
    manual = Manual(problem.nodes)
    for row in cluster.rows:
        job = cluster.jobs[row["job"]].spec
        if cluster.nodes[row["node"]].status is NodeStatus.READY:
            manual.add(job.name, job.groups[row["group"]].name, row["node"])
    last = -1
    for at in range(len(found)):
        ask, node = asks[found.ask[at]], found.node[at]
        spec, place = ask.job.spec, ask.group
        wish = wish_of(spec, spec.groups[place], policy=registry.chooser("binpack"))
        fits = has_room(fresh, wish, np.arange(len(fresh)))
        open_to = [
            n
            for n in range(len(fresh))
            if fits[n] and may(fresh.nodes[n], spec, place) and manual.allowed(spec, place, n)
        ]
        assert node in open_to
        if not ask.pinned:
            others = [n for n in open_to if fresh.nodes[n].slot != ask.avoid] or open_to
            best = max(manual.preference(spec, place, n) for n in others)
            assert manual.preference(spec, place, node) == best
        fresh.take(node, wish)
        manual.add(spec.name, spec.groups[place].name, node)
        last = found.ask[at]
    if last >= 0 and found.unplaced[last] and not asks[last].pinned and last == len(asks) - 1:
        spec, place = asks[last].job.spec, asks[last].group
        fits = has_room(
            fresh, wish_of(spec, spec.groups[place], policy=registry.chooser("binpack")), np.arange(len(fresh))
        )
        assert not any(
            fits[n] and may(fresh.nodes[n], spec, place) and manual.allowed(spec, place, n) for n in range(len(fresh))
        )


@pytest.mark.parametrize("policy", registry.names())
@given(cluster=clusters())
@settings(QUICK, max_examples=examples(25))
def test_many_at_once_go_where_they_would_go_one_by_one(policy: str, cluster: Cluster) -> None:
    for job in cluster.jobs:
        cluster.change(job, spec=replace(job.spec, placement=policy))
    view = cluster.view()
    asks = reconcile(view, 0).asks
    results: list[list[tuple[Any, ...]]] = []
    for closed_form_from in (1, 10**9):
        ways = Ways(closed_form_from=closed_form_from, shelves_from=10**9, fill_from=10**9)
        found = solve(problem_of(view), asks, ways=ways)
        results.append(sorted(zip(found.ask, found.at, found.node, strict=True)))
    assert results[0] == results[1]


@given(
    zones=st.lists(st.sampled_from("abc"), min_size=1, max_size=8),
    count=st.integers(0, 30),
    skew=st.integers(1, 3),
    cpus=st.lists(st.sampled_from([500, 1000, 3000]), min_size=8, max_size=8),
    policy=st.sampled_from(registry.names()),
)
@QUICK
def test_a_spread_never_exceeds_its_skew(zones: list[str], count: int, skew: int, cpus: list[int], policy: str) -> None:
    cluster = Cluster()
    for at, zone in enumerate(zones):
        cluster.node(f"n{at}", zone=zone, cpu=cpus[at], memory=100_000)
    cluster.job(
        "web", group_spec(count=count, spread=(Spread(attribute="node.zone", max_skew=skew),)), placement=policy
    )
    view = cluster.view()
    problem = problem_of(view)
    found = solve(problem, reconcile(view, 0).asks)
    counts = dict.fromkeys(zones, 0)
    for node in found.node:
        counts[problem.nodes[node].spec.zone] += 1
        assert max(counts.values()) - min(counts.values()) <= skew


@given(cluster=clusters())
@QUICK
def test_custom_resources_are_never_promised_twice(cluster: Cluster) -> None:
    view = cluster.view()
    asks = reconcile(view, 0).asks
    problem = problem_of(view)
    before = problem_of(view)
    found = solve(problem, asks)
    for node in set(found.node):
        rows = [asks[found.ask[at]] for at in range(len(found)) if found.node[at] == node]
        for name in ("licenses", "cards"):
            given_away = sum(dict(ask.job.spec.groups[ask.group].resources.custom).get(name, 0) for ask in rows)
            assert given_away == 0 or given_away <= before.custom.free_of(node, name)


@given(cluster=clusters())
@QUICK
def test_an_explanation_refuses_exactly_the_nodes_that_placing_refuses(cluster: Cluster) -> None:
    view = cluster.view()
    asks = reconcile(view, 0).asks
    problem = problem_of(view)
    solve(problem, asks)
    manual = Manual(problem.nodes)
    for row in cluster.rows:
        spec = cluster.jobs[row["job"]].spec
        if cluster.nodes[row["node"]].status is NodeStatus.READY:
            manual.add(spec.name, spec.groups[row["group"]].name, row["node"])
    placed = problem_of(view)
    found = solve(placed, asks)
    for at in range(len(found)):
        ask = asks[found.ask[at]]
        manual.add(ask.job.spec.name, ask.job.spec.groups[ask.group].name, found.node[at])
    for job in cluster.jobs:
        for place, group in enumerate(job.spec.groups):
            wish = wish_of(job.spec, group, policy=registry.chooser("binpack"))
            fits = has_room(problem, wish, np.arange(len(problem)))
            for number, node in enumerate(problem.nodes):
                good = bool(fits[number]) and may(node, job.spec, place) and manual.allowed(job.spec, place, number)
                assert (first_refusal(problem, wish, number) is None) == good
