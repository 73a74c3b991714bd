"""The smallest change that ``why`` names for a gang, made: it places all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.contract.answers import RemedyStep
from orchestrator.contract.model import (
    Affinity,
    AllocState,
    Constraint,
    ConstraintOperator,
    DeviceRequest,
    GangDomain,
    GangFailure,
    GangSpec,
    GroupSpec,
    NodeStatus,
    NodeTaint,
    Spread,
    Taint,
    TaintEffect,
    Toleration,
)
from orchestrator.reconcile.rounds import reconcile
from orchestrator.scheduling import gangs, remedy_gangs
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.remedy_gangs import smallest_change_for_gang
from orchestrator.scheduling.wish import wish_of
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec
from tests.unit.scheduling.test_remedies import placed, why

ANYWHERE = GangSpec()
IN_A_RACK = GangSpec(domain=GangDomain.RACK)
OLD = Taint(key="old", effect=TaintEffect.NO_SCHEDULE)
ML = Taint(key="team", value="ml", effect=TaintEffect.NO_SCHEDULE)


def racks(*names: str, **more: Any) -> Cluster:
    """A node of two cores in each of these racks, all of zone z."""
    cluster = Cluster()
    for at, name in enumerate(names):
        cluster.node(f"n{at}", **{"cpu": 2000, "zone": "z", "rack": name} | more)
    return cluster


def gang(cluster: Cluster, group: GroupSpec, **more: Any) -> tuple[RemedyStep, ...]:
    cluster.job("gang", group, **more)
    said = why(cluster)
    assert said.pending == group.count
    assert placed(cluster) == 0
    return said.remedy


def test_a_gang_is_not_told_to_ask_for_nothing() -> None:
    cluster = racks("r1", "r1")
    for node in cluster.nodes:
        cluster.alloc(cluster.job(f"on-{node.spec.name}", group_spec(cpu=2000, memory=1)), node)
    assert not [step for step in gang(cluster, group_spec(count=2, cpu=500, gang=ANYWHERE)) if step.kind == "request"]


def test_a_wider_domain() -> None:
    cluster = racks("r1", "r2")
    (step,) = gang(cluster, group_spec(count=4, cpu=1000, gang=IN_A_RACK))
    assert (step.kind, step.what, step.before, step.after) == ("gang", "domain", "rack", "zone")
    assert step.text == "let it be spread wider (gang: zone instead of rack)"
    assert why(cluster).remedy_node == "n0, n1"
    assert placed(cluster, gang=GangSpec(domain=GangDomain.ZONE)) == 4


def test_the_largest_number_of_instances_that_fits() -> None:
    cluster = racks("r1", "r1", "r1")
    (step,) = gang(cluster, group_spec(count=7, cpu=1000, gang=IN_A_RACK))
    assert (step.kind, step.before, step.after) == ("count", "7", "6")
    assert step.text == "ask for 6 instances instead of 7"
    assert placed(cluster, count=6) == 6


def test_the_most_that_each_can_ask_for() -> None:
    cluster = racks("r1", "r2")
    (step,) = gang(cluster, group_spec(count=4, cpu=1100, gang=ANYWHERE))
    assert (step.kind, step.what, step.after) == ("request", "cpu_millis", "1000")
    assert step.text == "ask for 100m less cpu (1 cpu)"
    assert placed(cluster, tasks=group_spec(cpu=1000).tasks) == 4


def test_less_of_a_custom_resource() -> None:
    cluster = racks("r1", custom={"licenses": 5})
    (step,) = gang(cluster, group_spec(count=1, custom={"licenses": 6}, gang=ANYWHERE))
    assert (step.kind, step.what, step.before, step.after) == ("resource", "licenses", "6", "5")
    assert placed(cluster, tasks=group_spec(custom={"licenses": 5}).tasks) == 1


def test_fewer_gpus_or_a_smaller_share_for_each() -> None:
    whole = DeviceRequest(count=4)
    cluster = racks("r1", devices=gpus(7))
    (step,) = gang(cluster, group_spec(count=2, gpu=whole, gang=ANYWHERE))
    assert (step.kind, step.what, step.before, step.after) == ("gpus", "count", "4", "3")
    assert placed(cluster, tasks=group_spec(gpu=replace(whole, count=3)).tasks) == 2

    share = DeviceRequest(count=1, gpu_millis=600)
    cluster = racks("r1", devices=gpus(1))
    (step,) = gang(cluster, group_spec(count=2, gpu=share, gang=ANYWHERE))
    assert (step.kind, step.what, step.before, step.after) == ("gpus", "gpu_millis", "600", "500")
    assert placed(cluster, tasks=group_spec(gpu=replace(share, gpu_millis=500)).tasks) == 2


def test_gpus_of_any_model_but_never_no_gpu_where_an_island_of_them_is_asked_for() -> None:
    request = DeviceRequest(count=1, models=("a100",))
    group = group_spec(count=2, gpu=request, gang=GangSpec(domain=GangDomain.ISLAND))
    cluster = racks("r1", devices=gpus(4))
    (step,) = gang(cluster, group)
    assert (step.kind, step.what) == ("gpus", "models")
    assert placed(cluster, tasks=group_spec(gpu=replace(request, models=())).tasks) == 2
    assert gang(racks("r1"), group) == ()


def test_constraints_to_leave_out() -> None:
    ssd = Constraint(attribute="disk", operator=ConstraintOperator.EQUAL, values=("ssd",))
    fast = Constraint(attribute="net", operator=ConstraintOperator.EQUAL, values=("fast",))
    cluster = racks("r1", "r1", labels={"net": "fast"})
    (step,) = gang(cluster, group_spec(count=4, cpu=1000, constraints=(ssd, fast), gang=IN_A_RACK))
    assert (step.kind, step.what) == ("constraint", "disk = ssd")
    assert placed(cluster, constraints=(fast,)) == 4
    several = gang(racks("r1", "r1"), group_spec(count=4, cpu=1000, constraints=(ssd, fast), gang=IN_A_RACK))
    assert [step.what for step in several] == ["disk = ssd", "net = fast"]


def test_all_the_taints_in_the_way_and_no_others() -> None:
    cluster = Cluster()
    for at, taints in enumerate([(OLD,), (ML,), (Taint(key="else", effect=TaintEffect.NO_SCHEDULE),)]):
        found = tuple(NodeTaint(taint=taint) for taint in taints)
        cluster.node(f"n{at}", cpu=500 if at == 2 else 2000, taints=found)
    steps = gang(cluster, group_spec(count=3, cpu=1000, gang=ANYWHERE))
    assert [(step.kind, step.what) for step in steps] == [
        ("toleration", "old:NoSchedule"),
        ("toleration", "team=ml:NoSchedule"),
    ]
    tolerated = tuple(Toleration(key=one.key, value=one.value, effect=one.effect) for one in (OLD, ML))
    assert placed(cluster, tolerations=tolerated) == 3


def test_a_condition_on_neighbours_to_make_a_preference() -> None:
    apart = Affinity(weight=-100, required=True)
    zones = Spread(attribute="zone")
    cluster = racks("r1", "r1", "r1", "r2", labels={"zone": "x"}, cpu=40_000)
    group = group_spec(count=20, cpu=1000, gang=IN_A_RACK, affinity=(apart,), spread=(zones,))
    (step,) = gang(cluster, group)
    assert (step.kind, step.what) == ("count", "count")
    group = replace(group, count=2)
    cluster = racks("r1", "r2", cpu=40_000)
    both = gang(cluster, replace(group, affinity=(apart,), spread=(zones,), gang=GangSpec(domain=GangDomain.NODE)))
    assert [(step.kind, step.what) for step in both] == [
        ("affinity", "not on the same node as its own instances"),
        ("spread", "spread over zone with max_skew 1"),
    ]
    assert placed(cluster, affinity=(replace(apart, required=False),), spread=(replace(zones, required=False),)) == 2


def test_another_host_port() -> None:
    cluster = racks("r1", "r2", engine_id="shared")
    cluster.alloc(cluster.job("holder", group_spec(ports=(80,))), cluster.nodes[0], ports=(80,))
    (step,) = gang(cluster, group_spec(count=1, ports=(80, 81), gang=ANYWHERE))
    assert (step.kind, step.what, step.after) == ("port", "80", "0")
    assert placed(cluster, ports=group_spec(ports=(0, 81)).ports) == 1

    cluster = racks("r1", port_min=20_000, port_max=20_002)
    steps = gang(cluster, group_spec(count=1, ports=(0, 0, 0, 0, 0), gang=ANYWHERE))
    assert [step.text for step in steps] == ["ask for one port less"] * 2
    assert placed(cluster, ports=group_spec(ports=(0, 0, 0)).ports) == 1


def test_as_few_nodes_to_open_as_do() -> None:
    cluster = racks("r1", "r1", "r2", "r2", cordoned=True)
    cluster.node("small", cpu=1000, zone="z", rack="r2")
    steps = gang(cluster, group_spec(count=5, cpu=1000, gang=IN_A_RACK))
    assert [(step.kind, step.what, step.after) for step in steps] == [("count", "count", "1")]
    cluster.change(cluster.nodes[-1], cordoned=True)
    steps = why(cluster).remedy
    assert [(step.kind, step.what, step.after) for step in steps] == [
        ("node", "uncordon", "n2"),
        ("node", "uncordon", "n3"),
        ("node", "uncordon", "small"),
    ]
    assert steps[0].text == "`raftsman node uncordon n2`"
    for at in (2, 3, 4):
        cluster.change(cluster.nodes[at], cordoned=False)
    assert placed(cluster) == 5


def test_a_machine_to_bring_back_and_an_agent_to_give_a_driver() -> None:
    cluster = racks("r1", status=NodeStatus.LOST)
    (step,) = gang(cluster, group_spec(count=2, cpu=1000, gang=ANYWHERE))
    assert (step.kind, step.what, step.after, step.text) == ("node", "back", "n0", "bring node n0 back")
    cluster.change(cluster.nodes[0], status=NodeStatus.READY)
    assert placed(cluster) == 2

    cluster = racks("r1", "r1")
    for node in list(cluster.nodes):
        cluster.change(node, spec=replace(node.spec, drivers=("docker",)))
    steps = gang(cluster, group_spec(count=3, cpu=1000, gang=ANYWHERE))
    assert [step.text for step in steps] == [
        "give the agent of n0 driver process",
        "give the agent of n1 driver process",
    ]
    for node in list(cluster.nodes):
        cluster.change(node, spec=replace(node.spec, drivers=("docker", "process")))
    assert placed(cluster) == 3


def test_of_a_gang_of_which_some_run_only_nodes_are_changed() -> None:
    """Any other job would be another version, and all of it be placed anew."""
    cluster = racks("r1", "r1", "r2")
    spec = GangSpec(domain=GangDomain.RACK, on_failure=GangFailure.REPLACE)
    job = cluster.job("gang", group_spec(count=2, cpu=1500, gang=spec))
    cluster.alloc(job, cluster.nodes[0])
    cluster.alloc(job, cluster.nodes[1], 1, state=AllocState.LOST)
    cluster.change(cluster.nodes[1], cordoned=True)
    said = why(cluster)
    assert said.pending == 1
    assert [(step.kind, step.what, step.after) for step in said.remedy] == [("node", "uncordon", "n1")]
    cluster.change(cluster.nodes[1], spec=replace(cluster.nodes[1].spec, rack="r3"))
    assert why(cluster).remedy == ()


def test_trying_leaves_the_problem_as_it_is_and_ends_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = racks("r1", "r1", "r2", custom={"licenses": 9}, devices=gpus(8))
    group = group_spec(
        count=14, cpu=300, gpu=DeviceRequest(count=1), custom={"licenses": 1}, ports=(0,), gang=IN_A_RACK
    )
    job = cluster.job("gang", group)
    view = cluster.view()
    problem, (ask,) = Problem(view), reconcile(view, 0).asks
    wish = wish_of(job.spec, group, policy=lambda placement, devices: "binpack")
    held = (problem.free, problem.devices.free, problem.devices.closed, problem.custom.free, problem.open)
    before = [array.copy() for array in held]
    calls = 0
    place = gangs.place

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return place(*arguments)

    monkeypatch.setattr(gangs, "place", counted)
    found = smallest_change_for_gang(problem, wish, ask)
    assert found is not None
    assert [(step.what, step.after) for step in found.steps] == [("cpu_millis", "285")]
    now_held = (problem.free, problem.devices.free, problem.devices.closed, problem.custom.free, problem.open)
    for now, was in zip(now_held, before, strict=True):
        np.testing.assert_array_equal(now, was)
    assert all(not engine.taken for engine in problem.ports._engine)
    assert calls > 2
    monkeypatch.setattr(remedy_gangs, "EFFORT", 0)
    monkeypatch.setattr(remedy_gangs, "TRIES_MIN", 2)
    calls = 0
    smallest_change_for_gang(problem, wish, ask)
    assert calls == 2
