"""The smallest change that ``why`` names for taints, affinity, spreading and custom resources, made: it places one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.contract.answers import GroupExplanation
from orchestrator.contract.model import (
    Affinity,
    DeviceRequest,
    GroupSpec,
    JobType,
    Link,
    NodeStatus,
    NodeTaint,
    Resources,
    Spread,
    Taint,
    TaintEffect,
    Toleration,
)
from orchestrator.plan import decide, explain
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec

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


def test_nobody_is_told_to_ask_for_nothing() -> None:
    cluster = Cluster()
    node = cluster.node("a", cpu=2000, memory=1000)
    cluster.alloc(cluster.job("other", group_spec(cpu=2000, memory=100)), node)
    one_job(cluster, group_spec(cpu=1, memory=100))
    said = why(cluster)
    assert said.remedy == ()
    assert said.hint == "free 1m of cpu on a, or add a node"


def test_each_task_is_left_something_to_ask_for() -> None:
    two = group_spec(cpu=300, memory=100)
    two = replace(two, tasks=(two.tasks[0], replace(two.tasks[0], name="second")))
    cluster = Cluster()
    cluster.alloc(cluster.job("other", group_spec(cpu=1998, memory=100)), cluster.node("a", cpu=2000, memory=1000))
    one_job(cluster, two)
    assert [step.after for step in why(cluster).remedy] == ["2"]
    full = Cluster()
    full.alloc(full.job("other", group_spec(cpu=1999, memory=100)), full.node("a", cpu=2000, memory=1000))
    one_job(full, two)
    assert why(full).remedy == ()


def test_an_affinity_to_make_a_preference() -> None:
    cluster = Cluster()
    cluster.node("a")
    one_job(cluster, group_spec(count=2, affinity=(APART,)))
    (step,) = why(cluster).remedy
    assert (step.kind, step.what) == ("affinity", "not on the same node as its own instances")
    assert step.text == (
        "make `not on the same node as its own instances` a preference (required: false, or without distinct_hosts)"
    )
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


# ---------------------------------------------------------------------------- GPUs


def asking(cluster: Cluster, **request: Any) -> GroupExplanation:
    cluster.job(f"web-{len(cluster.jobs)}", group_spec(gpu=DeviceRequest(**request)))
    return why(cluster)


def now_placed(cluster: Cluster, **request: Any) -> int:
    return placed(cluster, tasks=group_spec(gpu=DeviceRequest(**request)).tasks)


def of_gpus(said: GroupExplanation) -> list[tuple[str, str, str]]:
    assert {step.kind for step in said.remedy} == {"gpus"}
    return [(step.what, step.before, step.after) for step in said.remedy]


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ("models", ("A100",)),
        ("memory_mib", 90_000),
        ("compute_capability", ">= 9.0"),
        ("driver_version", ">= 550"),
        ("mig", "1g.10gb"),
    ],
)
def test_one_condition_on_gpus_is_given_up_before_the_gpu_is(what: str, asked: Any) -> None:
    cluster = Cluster()
    cluster.node("a", devices=gpus(1))
    said = asking(cluster, count=1, **{what: asked})
    ((name, before, _),) = of_gpus(said)
    assert (name, before) == (what, str(asked))
    assert now_placed(cluster, count=1) == 1


def test_two_conditions_on_gpus_and_fewer_of_them() -> None:
    cluster = Cluster()
    cluster.node("a", devices=gpus(1))
    said = asking(cluster, count=2, models=("A100",), memory_mib=90_000)
    assert [name for name, _, _ in of_gpus(said)] == ["count", "models", "memory_mib"]
    assert now_placed(cluster, count=2) == 0 and now_placed(cluster, count=1) == 1


def test_a_link_is_given_up_before_a_gpu_where_that_costs_less() -> None:
    cluster = Cluster()
    cluster.node("a", devices=gpus(4, islands=(0, 0, 1, 1)))
    said = asking(cluster, count=3, link=Link.ISLAND)
    assert of_gpus(said) == [("count", "3", "2")]
    cluster = Cluster()
    cluster.node("b", devices=gpus(4, islands=(0, 1, 2, 3)))
    assert of_gpus(asking(cluster, count=2, models=("A100",), link=Link.ISLAND)) == [
        ("count", "2", "1"),
        ("models", "('A100',)", "()"),
    ], "one alone needs no link"


def test_a_smaller_share_is_of_a_device_that_would_do_and_never_of_several() -> None:
    cluster = Cluster()
    node = cluster.node("a", devices=(*gpus(1), replace(gpus(1, model="T4")[0], id="other")))
    holder = cluster.job("old", group_spec(gpu=DeviceRequest(count=1, gpu_millis=600)))
    cluster.alloc(holder, node, device_mask=1, gpu_millis=600)
    assert of_gpus(asking(cluster, count=1, models=("H100",))) == [("gpu_millis", "1000", "400")]
    assert now_placed(cluster, count=1, gpu_millis=400, models=("H100",)) == 1

    cluster = Cluster()
    node = cluster.node("a", devices=gpus(2))
    holder = cluster.job("old", group_spec(count=2, gpu=DeviceRequest(count=1, gpu_millis=100)))
    for at in range(2):
        cluster.alloc(holder, node, at, device_mask=1 << at, gpu_millis=100)
    assert of_gpus(asking(cluster, count=2)) == [("count", "2", "1"), ("gpu_millis", "1000", "900")]


def test_as_few_cordoned_gpus_as_do_and_none_that_is_sick() -> None:
    cluster = Cluster()
    node = cluster.node("a", devices=gpus(4), cordoned_devices=("gpu-0", "gpu-1", "gpu-2", "gpu-3"))
    cluster.change(node, spec=replace(node.spec, sick_devices=(("gpu-0", "it is hot"),)))
    said = asking(cluster, count=1)
    assert [(step.kind, step.what) for step in said.remedy] == [("device", "gpu-1")]
    assert said.remedy[0].text == "`raftsman node device uncordon a gpu-1`"
    assert placed(cluster) == 0
    cluster.change(node, cordoned_devices=("gpu-0", "gpu-2", "gpu-3"))
    assert placed(cluster) == 1
    steps = asking(cluster, count=2).remedy
    assert [(step.kind, step.what) for step in steps] == [("device", "gpu-2"), ("device", "gpu-3")], "gpu-1 is taken"


# ---------------------------------------------------------------------------- which nodes


def test_other_closed_nodes_stay_closed_while_one_change_is_tried() -> None:
    """A lost zone does not take part in the spread, so room in another zone is all that is missing."""
    cluster = Cluster()
    for zone in "abc":
        cluster.node(zone, cpu=1000, zone=zone)
    group = group_spec(count=3, cpu=550, spread=(ZONES,))
    one_job(cluster, group)
    for at in range(2):
        cluster.alloc(cluster.jobs[0], cluster.nodes[at], at)
    cluster.change(cluster.nodes[2], status=NodeStatus.LOST)
    (step,) = why(cluster).remedy
    assert (step.kind, step.what, step.after) == ("request", "cpu_millis", "450")
    assert placed(cluster, tasks=group_spec(cpu=450).tasks) == 1


def test_of_a_system_job_only_the_nodes_that_lack_it_are_judged() -> None:
    cluster = Cluster()
    has, lacks = cluster.node("has", cpu=1000), cluster.node("lacks", cpu=1000)
    cluster.alloc(cluster.job("old", group_spec(cpu=950)), lacks)
    group = group_spec(cpu=100)
    cluster.job("log", group, type=JobType.SYSTEM)
    cluster.alloc(cluster.jobs[-1], has, 0)
    cluster.alloc(cluster.job("rest", group_spec(cpu=880)), has)
    said = explain(cluster.view(), "uid-log", 0)[0]
    assert said.summary == "1 without a node: 1 of 1 nodes that lack it: cpu: short by 50m at best (lacks)"
    assert [(one.constraint, one.nodes) for one in said.rejections] == [("cpu", 1)]
    assert said.nearest.startswith("lacks: ")
    assert (said.remedy_node, said.remedy[0].after) == ("lacks", "50")
