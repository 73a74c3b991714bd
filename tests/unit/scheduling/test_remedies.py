"""The smallest change that ``why`` names for taints, affinity, spreading and custom resources, made: it places one."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.contract.answers import GroupExplanation
from orchestrator.contract.model import (
    Affinity,
    GroupSpec,
    NodeTaint,
    Resources,
    Spread,
    Taint,
    TaintEffect,
    Toleration,
)
from orchestrator.plan import decide, explain
from tests.unit.scheduling.cluster import Cluster, group_spec

APART = Affinity(weight=-100, required=True)
ZONES = Spread(attribute="node.zone")


def why(cluster: Cluster) -> GroupExplanation:
    """Of the last job."""
    return explain(cluster.view(), cluster.jobs[-1].uid, 0)[0]


def placed(cluster: Cluster, **changes: object) -> int:
    """How many instances of the last job find a node once its group is changed so."""
    job = cluster.jobs[-1]
    group = replace(job.spec.groups[0], **changes)  # type: ignore[arg-type]
    cluster.change(job, spec=replace(job.spec, groups=(group,)))
    return sum(len(plan.placements) for plan in decide(cluster.view(), 0).plans)


def one_job(cluster: Cluster, group: GroupSpec) -> Cluster:
    cluster.job("web", group)
    return cluster


def test_a_taint_to_tolerate() -> None:
    cluster = Cluster()
    cluster.node("a", taints=(NodeTaint(taint=Taint(key="gpu", value="only", effect=TaintEffect.NO_SCHEDULE)),))
    one_job(cluster, group_spec())
    (step,) = why(cluster).remedy
    assert (step.kind, step.what, step.text) == (
        "toleration",
        "gpu=only:NoSchedule",
        "tolerate the taint gpu=only:NoSchedule",
    )
    assert placed(cluster) == 0
    tolerated = Toleration(key="gpu", value="only", effect=TaintEffect.NO_SCHEDULE)
    assert placed(cluster, tolerations=(tolerated,)) == 1


def test_an_affinity_to_make_a_preference() -> None:
    cluster = Cluster()
    cluster.node("a")
    one_job(cluster, group_spec(count=2, affinity=(APART,)))
    (step,) = why(cluster).remedy
    assert (step.kind, step.what) == ("affinity", "not on the same node as its own instances")
    assert step.text == "make `not on the same node as its own instances` a preference (required: false)"
    assert placed(cluster) == 1
    assert placed(cluster, affinity=(replace(APART, required=False),)) == 2


def test_a_spread_to_make_a_preference() -> None:
    cluster = Cluster()
    cluster.node("a", zone="a")
    cluster.node("b", zone="b", cpu=400)
    one_job(cluster, group_spec(count=2, cpu=1000, spread=(ZONES,)))
    assert [step.kind for step in why(cluster).remedy] == ["request"], "asking for less is the smaller change"
    cluster.change(cluster.nodes[1], spec=replace(cluster.nodes[1].spec, capacity=Resources(memory_mib=8192)))
    (step,) = why(cluster).remedy
    assert (step.kind, step.what) == ("spread", "spread over node.zone with max_skew 1")
    assert placed(cluster) == 1
    assert placed(cluster, spread=(replace(ZONES, required=False),)) == 2


def test_a_spread_over_what_a_node_does_not_have() -> None:
    cluster = Cluster()
    cluster.node("a")
    one_job(cluster, group_spec(spread=(ZONES,)))
    (step,) = why(cluster).remedy
    assert (step.kind, step.what) == ("spread", "spread over node.zone with max_skew 1")
    assert "when_unsatisfiable: place-anyway" in step.text
    assert placed(cluster) == 0
    assert placed(cluster, spread=(replace(ZONES, required=False),)) == 1


def test_less_of_a_custom_resource() -> None:
    cluster = Cluster()
    cluster.node("a", custom={"licenses": 3})
    one_job(cluster, group_spec(custom={"licenses": 5}))
    (step,) = why(cluster).remedy
    assert (step.kind, step.what, step.before, step.after) == ("resource", "licenses", "5", "3")
    assert placed(cluster) == 0
    group = group_spec(custom={"licenses": 3})
    assert placed(cluster, tasks=group.tasks) == 1


def test_a_change_of_several_steps() -> None:
    cluster = Cluster()
    cluster.node("a", cpu=400, taints=(NodeTaint(taint=Taint(key="old", effect=TaintEffect.NO_SCHEDULE)),))
    one_job(cluster, group_spec(cpu=500))
    assert [step.kind for step in why(cluster).remedy] == ["toleration", "request"]
