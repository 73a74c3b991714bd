"""What members of a gang may do because of each other is what each of them may do once the others are there."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import Affinity, NodeStatus, Spread
from orchestrator.scheduling.filters import suitable
from orchestrator.scheduling.neighbours import neighbours_of
from orchestrator.scheduling.preferences import moving
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import wish_of
from tests.effort import examples
from tests.unit.scheduling.cluster import Cluster, group_spec

TOPOLOGIES = st.sampled_from(["node.id", "rack", "zone"])


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    cluster = Cluster()
    for at in range(draw(st.integers(1, 5))):
        labels = {key: draw(st.sampled_from("xy")) for key in ("rack", "zone") if draw(st.integers(0, 4))}
        status = draw(st.sampled_from([NodeStatus.READY, NodeStatus.READY, NodeStatus.LOST]))
        cluster.node(f"n{at}", labels=labels, status=status)
    affinity = st.builds(
        Affinity,
        job=st.sampled_from(["", "", "other", "mine"]),
        group=st.sampled_from(["", "main", "side"]),
        topology=TOPOLOGIES,
        weight=st.sampled_from([-50, 50]),
        required=st.sampled_from([True, True, False]),
    )
    spread = st.builds(
        Spread, attribute=TOPOLOGIES, max_skew=st.integers(1, 2), required=st.sampled_from([True, True, False])
    )
    mine = group_spec(
        affinity=tuple(draw(st.lists(affinity, max_size=2))), spread=tuple(draw(st.lists(spread, max_size=1)))
    )
    cluster.job("mine", mine, group_spec("side"))
    cluster.job("other", group_spec(), group_spec("side"))
    for ordinal in range(draw(st.integers(0, 3))):
        add(
            cluster,
            draw(st.integers(0, len(cluster.nodes) - 1)),
            ordinal,
            draw(st.integers(0, 1)),
            draw(st.integers(0, 1)),
        )
    return cluster


def add(cluster: Cluster, node: int, ordinal: int, job: int = 0, group: int = 0) -> None:
    cluster.alloc(cluster.jobs[job], cluster.nodes[node], ordinal, group=group)


@given(cluster=clusters(), data=st.data())
@settings(max_examples=examples(300), deadline=None)
def test_one_after_the_other_they_may_be_where_a_single_one_may_beside_the_others(
    cluster: Cluster, data: st.DataObject
) -> None:
    spec = cluster.jobs[0].spec
    wish = wish_of(spec, spec.groups[0], policy=lambda placement, devices: "binpack")
    problem = Problem(cluster.view())
    neighbours = neighbours_of(problem, wish, suitable(problem, wish))
    group = spec.groups[0]
    if neighbours is None:
        assert not any(one.required for one in group.affinity)
        assert not any(one.required for one in group.spread)
        return
    for ordinal in range(10, 14):
        problem = Problem(cluster.view())
        expected = moving(problem, wish, suitable(problem, wish))[1]
        np.testing.assert_array_equal(neighbours.allowed(), expected)
        if not expected.any():
            return
        node = data.draw(st.sampled_from(np.flatnonzero(expected).tolist()))
        neighbours.add(node)
        add(cluster, node, ordinal)


@given(cluster=clusters(), times=st.integers(1, 3), wanted=st.integers(1, 5))
@settings(max_examples=examples(200), deadline=None)
def test_all_at_once_they_go_where_they_may_in_that_order(cluster: Cluster, times: int, wanted: int) -> None:
    """An order in which apply takes them, which looks at one after the other; with one attribute that is counted."""
    spec = cluster.jobs[0].spec
    group = spec.groups[0]
    wish = wish_of(spec, group, policy=lambda placement, devices: "binpack")
    problem = Problem(cluster.view())
    mask = suitable(problem, wish)
    neighbours = neighbours_of(problem, wish, mask)
    counted = {one.topology for one in group.affinity if one.required} | {one.attribute for one in group.spread}
    if neighbours is None or len(counted - {"node.id"}) > 1:
        return
    limited = neighbours.limit(np.where(mask, times, 0))
    for ordinal, node in enumerate(neighbours.fill(np.arange(len(problem)), limited, wanted)):
        problem = Problem(cluster.view())
        assert moving(problem, wish, suitable(problem, wish))[1][node]
        add(cluster, node, 10 + ordinal)
