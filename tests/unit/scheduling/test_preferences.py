"""Preferences by example, each a sentence of the manual's chapter "Where tasks go"."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from orchestrator.contract.answers import GroupExplanation
from orchestrator.contract.model import (
    Affinity,
    Constraint,
    ConstraintOperator,
    GroupSpec,
    JobType,
    NodeTaint,
    Spread,
    Taint,
    TaintEffect,
    Toleration,
)
from orchestrator.contract.rollouts import Rollout, RolloutStatus, UpdateSpec
from orchestrator.plan import decide, explain
from orchestrator.reconcile.rounds import reconcile
from orchestrator.scheduling import registry
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import Ways, solve
from tests.unit.scheduling.cluster import Cluster, group_spec


def placed(cluster: Cluster, job: str) -> list[str]:
    """Where the instances of a job go, in order."""
    view = cluster.view()
    found = []
    for plan in decide(view, 0).plans:
        uids = [plan.jobs[place] for place in plan.placements.job.tolist()]
        where = [plan.nodes[place] for place in plan.placements.node.tolist()]
        found += [node for uid, node in zip(uids, where, strict=True) if uid == f"uid-{job}"]
    return found


def why(cluster: Cluster, job: str) -> GroupExplanation:
    return explain(cluster.view(), f"uid-{job}", 0)[0]


def test_an_instance_of_a_system_job_waits_where_it_must_not_be_because_of_others() -> None:
    """It was proposed all the same, refused when it was applied, and proposed again without end."""
    cluster = Cluster()
    _, b, _ = (cluster.node(name, labels={"disk": "ssd"}) for name in ("a", "b", "c"))
    cluster.alloc(cluster.job("db"), b)
    near, away = Affinity(job="db", required=True, weight=100), Affinity(job="db", required=True, weight=-100)
    cluster.job("backup", group_spec(affinity=(near,)), type=JobType.SYSTEM)
    cluster.job("scan", group_spec(affinity=(away,)), type=JobType.SYSTEM)
    cluster.job("one", group_spec(spread=(Spread(attribute="disk"),)), type=JobType.SYSTEM)
    assert placed(cluster, "backup") == ["b"]
    assert sorted(placed(cluster, "scan")) == ["a", "c"]
    assert sorted(placed(cluster, "one")) == ["a", "b", "c"]
    said = why(cluster, "backup")
    assert said.pending == 2
    assert [(one.constraint, one.nodes) for one in said.rejections] == [("affinity", 2)]


def three_nodes(**more: object) -> Cluster:
    cluster = Cluster()
    for name in ("a", "b", "c"):
        cluster.node(name, **more)
    return cluster


def test_instances_that_avoid_each_other_spread_evenly_also_when_every_node_has_one() -> None:
    cluster = three_nodes()
    cluster.job("web", group_spec(count=6, affinity=(Affinity(weight=-50),)))
    assert Counter(placed(cluster, "web")) == {"a": 2, "b": 2, "c": 2}


def test_instances_that_like_each_other_fill_one_node_first() -> None:
    cluster = three_nodes()
    cluster.job("web", group_spec(count=6, affinity=(Affinity(weight=50),)), placement="spread")
    assert Counter(placed(cluster, "web")) == {"a": 6}


def test_distinct_hosts_leave_what_has_no_node_of_its_own_waiting() -> None:
    cluster = three_nodes()
    cluster.job("web", group_spec(count=4, affinity=(Affinity(weight=-100, required=True),)))
    assert sorted(placed(cluster, "web")) == ["a", "b", "c"]
    said = why(cluster, "web")
    assert (said.pending, said.rejections[0].constraint) == (1, "affinity")
    assert (
        said.summary == "1 without a node: 3 of 3 nodes: not on the same node as its own instances; 3 being placed now"
    )
    assert said.hint == ("add a node, or make the affinity a preference (required: false, or without distinct_hosts)")
    assert "required: false" in said.hint


def test_a_job_goes_where_another_runs_by_rack_and_sees_what_the_same_round_places() -> None:
    cluster = Cluster()
    for name, rack in (("a", "r1"), ("b", "r2"), ("c", "r2")):
        cluster.node(name, rack=rack, cpu=1000)
    cluster.job("db", group_spec(cpu=1000, constraints=(_is("node.name", "b"),)), priority=90)
    cluster.job("web", group_spec(affinity=(Affinity(job="db", topology="node.rack"),)))
    assert placed(cluster, "web") == ["c"]


def test_a_weight_is_stronger_than_packing_and_packing_decides_between_equals() -> None:
    cluster = Cluster()
    cluster.node("full", labels={"disk": "hdd"})
    cluster.node("half", labels={"disk": "ssd"})
    cluster.node("idle", labels={"disk": "ssd"})
    cluster.alloc(cluster.job("other", group_spec(cpu=3000)), cluster.nodes[0])
    cluster.alloc(cluster.job("more", group_spec(cpu=1000)), cluster.nodes[1])
    cluster.job("web", group_spec(affinity=(Affinity(constraint=_is("disk", "ssd"), weight=1),)))
    assert placed(cluster, "web") == ["half"]


def test_images_and_datasets_on_a_node_draw_work_there() -> None:
    cluster = three_nodes()
    spec = cluster.nodes[1].spec
    cluster.change(cluster.nodes[1], spec=_with(spec, images=("nginx:1.27@0123456789ab",), datasets=("imagenet",)))
    image = "docker.io/library/nginx@sha256:0123456789abcdef"
    cluster.job("web", group_spec(count=2, image=image, datasets=("imagenet",), locality=50))
    assert placed(cluster, "web") == ["b", "b"]


def test_a_discouraging_taint_is_a_last_resort_and_no_refusal() -> None:
    cluster = three_nodes(cpu=1000)
    old = NodeTaint(taint=Taint(key="old", effect=TaintEffect.PREFER_NO_SCHEDULE))
    cluster.change(cluster.nodes[0], taints=(old,))
    cluster.job("web", group_spec(count=3, cpu=1000))
    assert placed(cluster, "web") == ["b", "c", "a"]


def test_a_taint_that_is_not_tolerated_is_named_with_its_way_out() -> None:
    cluster = three_nodes()
    only = Taint(key="gpu", value="only", effect=TaintEffect.NO_SCHEDULE)
    for node in cluster.nodes[:2]:
        cluster.change(node, taints=(NodeTaint(taint=only),))
    cluster.change(cluster.nodes[2], cordoned=True)
    cluster.job("web", group_spec())
    said = why(cluster, "web")
    assert said.summary == "1 without a node: 2 of 3 nodes: taint gpu=only:NoSchedule not tolerated; 1: cordoned"
    assert said.hint == "raftsman node uncordon c"
    cluster.change(cluster.nodes[2], taints=(NodeTaint(taint=only, declared=True),))
    expected = "tolerate it (tolerations: ['gpu=only:NoSchedule']), or raftsman node taint a gpu-"
    assert why(cluster, "web").hint == expected
    cluster.job("tolerant", group_spec(tolerations=(Toleration(key="gpu"),)))
    assert placed(cluster, "tolerant") == ["a"]


def test_a_toleration_with_a_delay_brings_nothing_new() -> None:
    cluster = three_nodes()
    broken = NodeTaint(taint=Taint(key="broken", effect=TaintEffect.NO_EXECUTE))
    cluster.change(cluster.nodes[0], taints=(broken,))
    cluster.job("web", group_spec(tolerations=(Toleration(key="broken", delay_ms=60_000),)), placement="round-robin")
    assert placed(cluster, "web") == ["b"]


def test_a_custom_resource_is_counted_and_its_shortage_told() -> None:
    cluster = three_nodes(custom={"licenses": 5})
    cluster.job("sim", group_spec(count=8, custom={"licenses": 2}), placement="spread")
    assert Counter(placed(cluster, "sim")) == {"a": 2, "b": 2, "c": 2}
    said = why(cluster, "sim")
    assert said.pending == 2
    assert said.rejections[0].text == "resource licenses: short by 1 at best (a)"
    assert said.hint == "ask for 1 less licenses, free 1 of licenses on a, or add a node"


def test_a_custom_resource_that_nobody_has_is_told() -> None:
    cluster = three_nodes()
    cluster.job("sim", group_spec(custom={"licenses": 2}))
    assert why(cluster, "sim").rejections[0].text == "resource licenses: the node has none"


def test_a_hard_spread_waits_for_the_emptier_zone_and_says_so() -> None:
    cluster = Cluster()
    cluster.node("a", zone="z1", cpu=10_000)
    cluster.node("b", zone="z2", cpu=500)
    cluster.node("nowhere", cpu=10_000)
    cluster.job("web", group_spec(count=4, spread=(Spread(attribute="node.zone"),)))
    assert sorted(placed(cluster, "web")) == ["a", "a", "b"]
    said = why(cluster, "web")
    texts = {rejection.constraint: rejection.text for rejection in said.rejections}
    assert texts == {"cpu": "cpu: short by 500m at best (b)", "spread": texts["spread"]}
    assert said.nearest.startswith("a: spread over node.zone with max_skew 1: one more there would make it 2")
    assert "max_skew" in said.hint


def test_a_zone_without_a_suitable_node_does_not_hold_the_others_back() -> None:
    cluster = Cluster()
    cluster.node("a", zone="z1", cpu=10_000)
    cluster.node("b", zone="z2", cordoned=True)
    cluster.job("web", group_spec(count=4, spread=(Spread(attribute="node.zone"),)))
    assert placed(cluster, "web") == ["a"] * 4


def test_a_soft_spread_goes_on_where_the_emptier_zone_is_full() -> None:
    cluster = Cluster()
    cluster.node("a", zone="z1", cpu=10_000)
    cluster.node("b", zone="z2", cpu=500)
    cluster.job("web", group_spec(count=4, spread=(Spread(attribute="node.zone", required=False),)))
    assert Counter(placed(cluster, "web")) == {"a": 3, "b": 1}


LIKED = [
    group_spec(count=4, spread=(Spread(attribute="node.zone", required=False),)),
    group_spec(count=4, affinity=(Affinity(weight=-50, topology="node.zone"),)),
]


@pytest.mark.parametrize("surge", [1, 2])
@pytest.mark.parametrize("group", LIKED, ids=["spread", "apart"])
def test_what_is_preferred_of_a_group_s_own_instances_holds_after_a_rollout_as_before(
    group: GroupSpec, surge: int
) -> None:
    """Whoever went counted, so that its successor went to the other zone, and two by two became three and one."""
    cluster = Cluster()
    nodes = [cluster.node(name, zone=f"z-{name}", cpu=10_000) for name in "ab"]
    policy = UpdateSpec(max_surge=surge, max_unavailable=0, progress_deadline_ms=0)
    job = cluster.job("web", replace(group, update=policy))
    for ordinal in range(4):
        cluster.alloc(job, nodes[ordinal % 2], ordinal)
    cluster.new_version(job, replace(job.spec, groups=(replace(job.spec.groups[0], tasks=group_spec(cpu=501).tasks),)))
    cluster.change(job, rollout=Rollout(version=2, began_version=2, status=RolloutStatus.RUNNING))
    for _ in range(4 // surge):
        (plan,) = decide(cluster.view(), 0).plans
        assert len(plan.placements.node) == surge
        for ordinal, place in zip(plan.placements.ordinal.tolist(), plan.placements.node.tolist(), strict=True):
            (old,) = (row for row in cluster.rows if row["ordinal"] == ordinal)
            cluster.rows.remove(old)
            cluster.alloc(job, nodes["ab".index(plan.nodes[place])], ordinal, attempt=2)
    assert Counter(row["node"] for row in cluster.rows) == {0: 2, 1: 2}
    assert {row["version"] for row in cluster.rows} == {2}


def test_a_required_spread_counts_whoever_is_still_there() -> None:
    """It holds at every moment, also while a successor and the one that it replaces run beside each other."""
    cluster = Cluster()
    nodes = [cluster.node(name, zone=f"z-{name}", cpu=10_000) for name in "ab"]
    policy = UpdateSpec(max_surge=1, max_unavailable=0, progress_deadline_ms=0)
    job = cluster.job("web", group_spec(count=2, update=policy, spread=(Spread(attribute="node.zone"),)))
    cluster.alloc(job, nodes[0], 0)
    cluster.alloc(job, nodes[0], 1)
    cluster.new_version(job, replace(job.spec, groups=(replace(job.spec.groups[0], tasks=group_spec(cpu=501).tasks),)))
    cluster.change(job, rollout=Rollout(version=2, began_version=2, status=RolloutStatus.RUNNING))
    (plan,) = decide(cluster.view(), 0).plans
    assert [plan.nodes[place] for place in plan.placements.node.tolist()] == ["b"]


def _is(attribute: str, value: str) -> Constraint:
    return Constraint(attribute=attribute, operator=ConstraintOperator.EQUAL, values=(value,))


def _with(spec: object, **changes: object) -> object:
    from dataclasses import replace

    return replace(spec, **changes)  # type: ignore[type-var]


@pytest.mark.parametrize("policy", registry.names())
@pytest.mark.parametrize("apart", [Affinity(weight=-100, required=True), Affinity(job="web", weight=-1, required=True)])
def test_distinct_hosts_in_one_go_are_those_of_one_by_one(policy: str, apart: Affinity) -> None:
    cluster = Cluster()
    for at in range(9):
        cluster.node(f"n{at}", cpu=1000 + 500 * (at * 7 % 4), memory=2000, labels={"disk": "ssd" if at % 3 else ""})
    liked = Affinity(constraint=_is("disk", "ssd"), weight=10)
    group = group_spec(count=8, cpu=600, affinity=(apart, liked))
    web = cluster.job("web", group, group_spec("other", count=0), placement=policy)
    cluster.alloc(web, cluster.nodes[4], ordinal=7)
    if apart.job:
        cluster.alloc(web, cluster.nodes[2], group=1)
    view = cluster.view()
    asks = reconcile(view, 0).asks
    results = []
    for closed_form_from in (1, 1000):
        found = solve(Problem(view), asks, ways=Ways(closed_form_from=closed_form_from))
        results.append((list(found.node), list(found.unplaced)))
    assert results[0] == results[1]
    free = set(range(9)) - {4} - ({2} if apart.job else set())
    assert len(results[0][0]) == 7
    assert set(results[0][0]) <= free
