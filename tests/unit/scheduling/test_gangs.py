"""Gangs by example: which domain, what is kept for those that wait, and what ``why`` says of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.contract.answers import GroupExplanation
from orchestrator.contract.model import (
    Affinity,
    AllocState,
    Constraint,
    ConstraintOperator,
    Desired,
    DeviceRequest,
    GangDomain,
    GangFailure,
    GangSpec,
    JobSpec,
    JobType,
    Link,
    NodeTaint,
    Spread,
    Taint,
    TaintEffect,
)
from orchestrator.jobfile import limits
from orchestrator.plan import ROWS_MAX, decide, explain, explain_many
from orchestrator.reconcile.rounds import reconcile
from orchestrator.scheduling import gangs
from orchestrator.scheduling.gang_holds import HELD_GANGS
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import solve
from orchestrator.scheduling.wish import wish_of
from orchestrator.state import views
from orchestrator.state.commands import Action, PlanAnswer, RegisterNode
from orchestrator.state.model import MAX_GANG
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec, node_spec
from tests.unit.state.kit import Kit

REPLACE = GangFailure.REPLACE
SOFT_TAINT = NodeTaint(taint=Taint(key="old", effect=TaintEffect.PREFER_NO_SCHEDULE))


def placed(cluster: Cluster) -> dict[str, list[str]]:
    """Nodes by job, in the order of placing."""
    view = cluster.view()
    work = reconcile(view, 0)
    problem = Problem(view)
    found = solve(problem, work.asks)
    nodes: dict[str, list[str]] = {}
    for ask, node in zip(found.ask, found.node, strict=True):
        nodes.setdefault(work.asks[ask].job.spec.name, []).append(problem.nodes[node].spec.name)
    return nodes


def why(cluster: Cluster, job: str) -> GroupExplanation:
    return explain(cluster.view(), f"uid-{job}", 0)[0]


def in_racks(cluster: Cluster, *racks: str, cpu: int = 2000) -> None:
    for at, rack in enumerate(racks):
        cluster.node(f"{rack}-{at}", cpu=cpu, labels={"rack": rack})


# ---------------------------------------------------------------------------- where


def test_a_rack_that_holds_all_is_better_than_more_room_in_two() -> None:
    cluster = Cluster()
    in_racks(cluster, "a", "b", "b", "c", "c", "c")
    cluster.job("gang", group_spec(count=4, cpu=1000, gang=GangSpec()))
    assert placed(cluster)["gang"] == ["b-1", "b-1", "b-2", "b-2"], "c holds it, too, but would have more to spare"


def test_custom_resources_are_counted_before_a_domain_is_chosen() -> None:
    cluster = Cluster()
    for name in ("n1", "n2"):
        cluster.node(name, cpu=2000, custom={"licenses": 1})
    cluster.job("gang", group_spec(count=2, cpu=100, custom={"licenses": 1}, gang=GangSpec()))
    assert sorted(placed(cluster)["gang"]) == ["n1", "n2"]

    cluster = Cluster()
    cluster.node("n1", cpu=2000, custom={"licenses": 3})
    cluster.job("too-much", group_spec(count=2, cpu=100, custom={"licenses": 2}, gang=GangSpec()))
    cluster.job("next", group_spec(count=3, cpu=100, custom={"licenses": 1}, gang=GangSpec()))
    assert placed(cluster) == {"next": ["n1"] * 3}, "what was tried in vain is given back"


@pytest.mark.parametrize("ends", [True, False], ids=["batch", "service"])
def test_nodes_are_kept_for_a_gang_when_custom_resources_come_free_by_themselves(ends: bool) -> None:
    cluster = Cluster()
    node = cluster.node("n1", cpu=2000, custom={"licenses": 2})
    one = group_spec(cpu=100, custom={"licenses": 1})
    cluster.alloc(cluster.job("old", one, type=JobType.BATCH if ends else JobType.SERVICE), node)
    cluster.job("gang", group_spec(count=2, cpu=100, custom={"licenses": 1}, gang=GangSpec()))
    cluster.job("next", one)
    assert placed(cluster) == ({} if ends else {"next": ["n1"]})


def test_ports_that_are_in_the_way_of_a_gang_give_back_its_custom_resources() -> None:
    """Only a try shows what is in the way beside amounts."""
    cluster = Cluster()
    cluster.node("n1", cpu=2000, custom={"licenses": 2})
    cluster.job("gang", group_spec(count=2, cpu=100, custom={"licenses": 1}, ports=(21_000,), gang=GangSpec()))
    view = cluster.view()
    problem, work = Problem(view), reconcile(view, 0)
    ask = work.asks[0]
    wish = wish_of(ask.job.spec, ask.job.spec.groups[ask.group], policy=lambda name, gpus: "binpack")
    found, stuck = gangs._try(problem, wish, gangs._Chosen([0], [2]))
    assert (len(found), stuck) == (1, 0)
    assert problem.custom.free.tolist() == [[2]]


def test_one_node_is_better_than_a_rack_and_one_island_better_than_a_node() -> None:
    cluster = Cluster()
    cluster.node("split", devices=gpus(4, islands=(0, 0, 1, 1)), labels={"rack": "r"})
    cluster.node("island", devices=gpus(4), labels={"rack": "r"})
    cluster.job("gang", group_spec(count=4, cpu=10, gpu=DeviceRequest(count=1), gang=GangSpec()))
    assert placed(cluster)["gang"] == ["island"] * 4


def test_a_gang_of_one_island_takes_no_device_of_another() -> None:
    cluster = Cluster()
    cluster.node("n", devices=gpus(8, islands=(0, 0, 1, 1, 1, 1, 2, 2)))
    gang = GangSpec(domain=GangDomain.ISLAND)
    cluster.job("gang", group_spec(count=2, cpu=10, gpu=DeviceRequest(count=2, link=Link.ISLAND), gang=gang))
    (plan,) = decide(cluster.view(), 0).plans
    assert sorted(plan.placements.device_mask.tolist()) == [0b001100, 0b110000]


def test_nodes_that_say_no_rack_are_no_rack_together() -> None:
    cluster = Cluster()
    for name in ("a", "b"):
        cluster.node(name, cpu=1000)
    cluster.job("gang", group_spec(count=2, cpu=1000, gang=GangSpec(domain=GangDomain.RACK)))
    assert placed(cluster) == {}
    cluster.job("wide", group_spec(count=2, cpu=1000, gang=GangSpec()))
    assert placed(cluster) == {"wide": ["a", "b"]}


def test_a_rack_that_the_agent_was_told_counts_and_goes_before_a_label() -> None:
    cluster = Cluster()
    cluster.node("a", cpu=1000, rack="r1")
    cluster.node("b", cpu=1000, rack="r2", labels={"rack": "r1"})
    cluster.job("gang", group_spec(count=2, cpu=1000, gang=GangSpec(domain=GangDomain.RACK)))
    assert placed(cluster) == {}
    cluster.node("c", cpu=1000, rack="r1")
    assert placed(cluster) == {"gang": ["a", "c"]}


def test_equal_rack_names_in_two_zones_are_two_racks() -> None:
    cluster = Cluster()
    for zone in ("x", "y"):
        cluster.node(zone, cpu=1000, labels={"zone": zone, "rack": "r1"})
    cluster.job("gang", group_spec(count=2, cpu=1000, gang=GangSpec(domain=GangDomain.RACK)))
    assert placed(cluster) == {}


def test_a_fixed_port_spreads_a_gang_and_a_shared_engine_counts_once() -> None:
    cluster = Cluster()
    cluster.node("a1", engine_id="host")
    cluster.node("a2", engine_id="host")
    cluster.node("b")
    cluster.job("gang", group_spec(count=3, ports=(80,), gang=GangSpec()))
    assert placed(cluster) == {}
    cluster.node("c")
    assert sorted(placed(cluster)["gang"]) == ["a1", "b", "c"]


def test_a_replaced_member_joins_the_rack_of_those_that_run() -> None:
    cluster = Cluster()
    in_racks(cluster, "a", "a", "b")
    gang = GangSpec(domain=GangDomain.RACK, on_failure=GangFailure.REPLACE)
    job = cluster.job("gang", group_spec(count=2, cpu=1500, gang=gang))
    cluster.alloc(job, cluster.nodes[0])
    cluster.alloc(job, cluster.nodes[1], 1, state=AllocState.LOST)
    assert placed(cluster)["gang"] == ["a-1"]
    cluster.change(cluster.nodes[1], cordoned=True)
    assert placed(cluster) == {}


def test_a_gang_that_could_not_start_on_a_node_goes_elsewhere_if_all_of_it_can() -> None:
    cluster = Cluster()
    for name in ("a", "b"):
        cluster.node(name, cpu=2000)
    job = cluster.job("gang", group_spec(count=2, cpu=1000, gang=GangSpec(domain=GangDomain.NODE)))
    assert placed(cluster)["gang"] == ["a", "a"]
    for ordinal in range(2):
        cluster.alloc(job, cluster.nodes[0], ordinal, state=AllocState.STOPPED, moved=True)
    assert placed(cluster)["gang"] == ["b", "b"]
    cluster.change(cluster.nodes[1], cordoned=True)
    assert placed(cluster)["gang"] == ["a", "a"]


ISLAND_OF_THREE = GangSpec(domain=GangDomain.ISLAND, on_failure=REPLACE)


def one_of_an_island_is_missing(gang: GangSpec = ISLAND_OF_THREE) -> Cluster:
    """Node b, with two islands of three: a member runs on 0, device 3 and 4 are taken; the other member was lost."""
    cluster = Cluster()
    for name in ("a", "b"):
        cluster.node(name, devices=gpus(6, islands=(0, 0, 0, 1, 1, 1)))
    gpu = DeviceRequest(count=1)
    job = cluster.job("gang", group_spec("old"), group_spec(count=2, cpu=10, gpu=gpu, gang=gang))
    node = cluster.nodes[1]
    cluster.alloc(job, node, 0, group=1, device_mask=1 << 0, gpu_millis=1000)
    cluster.alloc(job, node, 1, group=1, device_mask=1 << 5, gpu_millis=1000, state=AllocState.LOST)
    # The group has another place since; what runs of it is current.
    spec = replace(job.spec, groups=job.spec.groups[1:])
    cluster.change(job, spec=spec, version=2, group_versions=(1,), specs=((1, job.spec), (2, spec)))
    other = cluster.job("other", group_spec(count=2, cpu=10, gpu=gpu), type=JobType.BATCH)
    for ordinal in range(2):
        cluster.alloc(other, node, ordinal, device_mask=1 << 3 + ordinal, gpu_millis=1000)
    return cluster


def devices_given(cluster: Cluster) -> list[tuple[str, int]]:
    """(node, device mask) of each placement of the next round."""
    return [
        (one.nodes[node], mask)
        for one in decide(cluster.view(), 0).plans
        for node, mask in zip(one.placements.node.tolist(), one.placements.device_mask.tolist(), strict=True)
    ]


def test_a_missing_member_joins_the_others_in_their_island_though_it_fits_tighter_into_another() -> None:
    assert devices_given(one_of_an_island_is_missing()) == [("b", 1 << 1)]
    wider = GangSpec(domain=GangDomain.NODE, on_failure=REPLACE)
    assert devices_given(one_of_an_island_is_missing(wider)) == [("b", 1 << 1)], "the smallest domain, too"


@pytest.mark.parametrize("ends", [True, False], ids=["batch", "service"])
def test_a_missing_member_waits_for_its_own_island_and_room_is_kept_and_made_only_there(ends: bool) -> None:
    cluster = one_of_an_island_is_missing()
    kind = JobType.BATCH if ends else JobType.SERVICE
    near = cluster.job("near", group_spec(count=2, cpu=10, gpu=DeviceRequest(count=1)), type=kind, priority=50)
    for ordinal in range(2):
        cluster.alloc(near, cluster.nodes[1], ordinal, device_mask=1 << 1 + ordinal, gpu_millis=1000)
    cluster.job("small", group_spec(cpu=10))
    cluster.change(cluster.nodes[0], cordoned=True)
    assert placed(cluster) == ({} if ends else {"small": ["b"]}), "what is free in the other island is of no use"
    gang = cluster.jobs[0]
    cluster.change(gang, spec=replace(gang.spec, priority=80))
    actions = [
        (plan.jobs[job], Action(action))
        for plan in decide(cluster.view(), 0).plans
        for job, action in zip(plan.actions.job.tolist(), plan.actions.action.tolist(), strict=True)
    ]
    assert actions == [("uid-near", Action.EVICT)]


def test_a_missing_member_may_join_another_island_where_the_gang_may_be_so_far_apart() -> None:
    cluster = one_of_an_island_is_missing(GangSpec(domain=GangDomain.NODE, on_failure=REPLACE))
    near = cluster.job("near", group_spec(count=2, cpu=10, gpu=DeviceRequest(count=1)))
    for ordinal in range(2):
        cluster.alloc(near, cluster.nodes[1], ordinal, device_mask=1 << 1 + ordinal, gpu_millis=1000)
    assert devices_given(cluster) == [("b", 1 << 5)]


def test_members_of_one_island_that_must_be_apart_wait() -> None:
    for affinity, expected in (((), {"gang": ["a", "a"]}), ((Affinity(weight=-100, required=True),), {})):
        cluster = Cluster()
        cluster.node("a", devices=gpus(4, islands=(0, 0, 1, 1)))
        spec = GangSpec(domain=GangDomain.ISLAND)
        cluster.job("gang", group_spec(count=2, cpu=10, gpu=DeviceRequest(count=1), affinity=affinity, gang=spec))
        assert placed(cluster) == expected


def test_where_a_node_takes_fewer_than_amounts_say_all_of_it_goes_elsewhere() -> None:
    """Nodes of one engine share its ports, which only a try shows; the first of all nodes is such a one."""
    cluster = Cluster()
    cluster.node("a0", cpu=3000, engine_id="shared")
    cluster.node("a1", cpu=1000, engine_id="shared")  # the fullest, so it comes first
    cluster.job("gang", group_spec(count=2, cpu=1000, ports=(8080,), gang=GangSpec()))
    assert placed(cluster) == {}
    cluster.node("b", cpu=4000)
    assert sorted(placed(cluster)["gang"]) == ["a1", "b"]


def test_an_island_holds_as_many_as_have_all_their_devices_in_it() -> None:
    """Two of two devices each: the smaller island has three."""
    cluster = Cluster()
    cluster.node("n", devices=gpus(7, islands=(0, 0, 0, 1, 1, 1, 1)))
    gang = GangSpec(domain=GangDomain.ISLAND)
    cluster.job("gang", group_spec(count=2, cpu=10, gpu=DeviceRequest(count=2), gang=gang))
    given = [mask for _, mask in devices_given(cluster)]
    assert (len(given), given[0] | given[1]) == (2, 0b1111000)


def test_few_nodes_and_few_racks_are_used() -> None:
    cluster = Cluster()
    for name, rack, cpu in (("a", "r1", 1000), ("b", "r2", 3000), ("c", "r2", 2000), ("d", "r1", 3000)):
        cluster.node(name, cpu=cpu, labels={"rack": rack})
    cluster.job("gang", group_spec(count=8, cpu=1000, gang=GangSpec()))
    # All of rack r2, which has the most room; of r1 the node that holds the rest.
    assert Counter(placed(cluster)["gang"]) == {"b": 3, "c": 2, "d": 3}


def test_why_counts_what_fits_beside_the_members_that_run() -> None:
    cluster = Cluster()
    in_racks(cluster, "a", "b", "b", cpu=1000)
    spec = GangSpec(domain=GangDomain.RACK, on_failure=REPLACE)
    gang = cluster.job("gang", group_spec(count=2, cpu=1000, gang=spec))
    cluster.alloc(gang, cluster.nodes[0], 0)
    assert "no node takes any" in why(cluster, "gang").summary, "though the other rack has room"
    cluster.node("a-3", cpu=1000, labels={"rack": "a"}, cordoned=True)
    assert placed(cluster) == {}


# ---------------------------------------------------------------------------- who is beside whom

APART = Affinity(weight=-100, required=True)
ONE_A_NODE = GangSpec()


def test_members_that_must_not_share_a_node_get_one_each_or_wait_and_say_why() -> None:
    cluster = Cluster()
    in_racks(cluster, "a", "b", "b", cpu=4000)
    cluster.job("gang", group_spec(count=2, affinity=(APART,), gang=ONE_A_NODE))
    assert placed(cluster) == {"gang": ["b-1", "b-2"]}, "the smallest domain that holds two apart is rack b"
    cluster = Cluster()
    in_racks(cluster, "b", "b", cpu=4000)
    cluster.job("gang", group_spec(count=3, affinity=(APART,), gang=ONE_A_NODE))
    assert placed(cluster) == {}
    said = why(cluster, "gang")
    assert (
        "all 3 together, not on the same node as its own instances: the cluster takes 2, 1 are missing" in said.summary
    )


def test_a_plan_with_a_gang_whose_members_must_be_apart_goes_in() -> None:
    """Apply rechecks it row by row, and refuses the whole gang for one."""
    kit = Kit()
    for name in ("n0", "n1"):
        kit.ok(RegisterNode(node=node_spec(name, rack="r"), identity=f"agent:{name}"))
    group = group_spec(count=2, affinity=(APART,), spread=(Spread(attribute="node.id"),), gang=ONE_A_NODE)
    kit.submit(JobSpec(name="gang", groups=(group,)))
    (plan,) = decide(views.cluster_view(kit.state), 0).plans
    answer = kit.ok(plan).answer
    assert isinstance(answer, PlanAnswer)
    assert (answer.placed, answer.rejected) == (2, ())


def test_members_on_racks_of_their_own_take_one_of_each_and_reuse_no_rack_of_another_node() -> None:
    cluster = Cluster()
    in_racks(cluster, "a", "a", "b", "c", cpu=4000)
    apart = Affinity(weight=-100, required=True, topology="rack")
    cluster.job("gang", group_spec(count=3, affinity=(apart,), gang=ONE_A_NODE))
    assert sorted(name[0] for name in placed(cluster)["gang"]) == ["a", "b", "c"]
    cluster.change(cluster.nodes[3], cordoned=True)
    assert placed(cluster) == {}
    assert why(cluster, "gang").nearest == "the cluster: 2 of 3 fit"


def test_members_spread_over_zones_within_the_skew_though_one_zone_would_hold_all() -> None:
    cluster = Cluster()
    for name, zone in (("a", "x"), ("b", "x"), ("c", "y")):
        cluster.node(name, cpu=8000, zone=zone)
    cluster.job("gang", group_spec(count=6, spread=(Spread(attribute="node.zone"),), gang=ONE_A_NODE))
    assert Counter(placed(cluster)["gang"]) == {"a": 3, "c": 3}


def test_who_crosses_two_conditions_makes_way_for_the_next() -> None:
    """Rack r is in both zones: who went there first must leave it to the zone that has no other."""
    cluster = Cluster()
    for name, zone, rack in (("a", "x", "r"), ("b", "x", "s"), ("c", "y", "r")):
        cluster.node(name, cpu=1000, zone=zone, rack=rack)
    apart = Affinity(weight=-100, required=True, topology="node.rack")
    zones = Spread(attribute="node.zone")
    cluster.job("gang", group_spec(count=2, cpu=900, affinity=(apart,), spread=(zones,), gang=ONE_A_NODE))
    assert sorted(placed(cluster)["gang"]) == ["b", "c"]


def test_members_that_must_be_in_one_place_go_where_all_of_them_fit() -> None:
    cluster = Cluster()
    for name, hall in (("a", "h1"), ("b", "h2"), ("c", "h2")):
        cluster.node(name, cpu=2000 if hall == "h1" else 1000, labels={"hall": hall})
    one_hall = Affinity(weight=100, required=True, topology="hall")
    cluster.job("gang", group_spec(count=2, cpu=1000, affinity=(APART, one_hall), gang=ONE_A_NODE))
    assert placed(cluster) == {"gang": ["b", "c"]}


def test_a_gang_goes_beside_another_job_and_keeps_away_from_a_third() -> None:
    cluster = Cluster()
    in_racks(cluster, "a", "b", "b", cpu=4000)
    for name, node in (("cache", 1), ("noisy", 2)):
        cluster.alloc(cluster.job(name, group_spec(cpu=100)), cluster.nodes[node])
    near = Affinity(job="cache", weight=100, required=True, topology="rack")
    away = Affinity(job="noisy", weight=-100, required=True)
    cluster.job("gang", group_spec(count=2, affinity=(near, away), gang=ONE_A_NODE))
    assert placed(cluster) == {"gang": ["b-1", "b-1"]}


def test_a_replaced_member_stays_apart_from_those_that_run() -> None:
    cluster = Cluster()
    in_racks(cluster, "a", "a", "b", cpu=4000)
    gang = GangSpec(domain=GangDomain.RACK, on_failure=GangFailure.REPLACE)
    job = cluster.job("gang", group_spec(count=2, affinity=(APART,), gang=gang))
    cluster.alloc(job, cluster.nodes[0])
    cluster.alloc(job, cluster.nodes[2], 1, state=AllocState.LOST)
    assert placed(cluster)["gang"] == ["a-1"]
    cluster.change(cluster.nodes[1], cordoned=True)
    assert placed(cluster) == {}


@pytest.mark.parametrize("apart", [True, False])
def test_as_many_nodes_are_kept_as_a_gang_needs_whose_members_must_be_apart(apart: bool) -> None:
    cluster = Cluster()
    for at in range(3):
        node = cluster.node(f"n{at}", cpu=2000)
        cluster.alloc(cluster.job(f"old-{at}", group_spec(cpu=1500), type=JobType.BATCH), node)
    cluster.job("gang", group_spec(count=2, cpu=1000, affinity=(APART,) if apart else (), gang=ONE_A_NODE))
    cluster.job("small", group_spec(count=3, cpu=500))
    assert placed(cluster) == {"small": ["n2"] if apart else ["n1", "n2"]}


def test_nodes_are_kept_where_batch_work_ends_that_a_gang_must_not_be_beside() -> None:
    cluster = Cluster()
    node = cluster.node("n", cpu=2000)
    cluster.alloc(cluster.job("old", group_spec(cpu=100), type=JobType.BATCH), node)
    away = Affinity(job="old", weight=-100, required=True)
    cluster.job("gang", group_spec(count=2, cpu=1000, affinity=(away,), gang=ONE_A_NODE))
    cluster.job("small", group_spec(cpu=500))
    assert placed(cluster) == {}


# ---------------------------------------------------------------------------- what it would like

SSD = Constraint(attribute="ssd", operator=ConstraintOperator.EXISTS)


@pytest.mark.parametrize(
    ("wishes", "nodes"),
    [
        ({"affinity": (Affinity(constraint=SSD, weight=1),)}, {"ssd": {"labels": {"rack": "b", "ssd": "1"}}}),
        ({"affinity": (Affinity(constraint=SSD, weight=-1),)}, {"hdd": {"labels": {"rack": "a", "ssd": "1"}}}),
        ({"locality": 10, "datasets": ("d",)}, {"ssd": {"labels": {"rack": "b"}, "datasets": ("d",)}}),
        ({}, {"hdd": {"labels": {"rack": "a"}, "taints": (SOFT_TAINT,)}}),
        ({"affinity": (Affinity(job="other", topology="rack", weight=10),)}, {}),
        ({"affinity": (Affinity(constraint=SSD, weight=1), APART)}, {"ssd": {"labels": {"rack": "b", "ssd": "1"}}}),
    ],
    ids=["liked", "disliked", "data", "discouraged", "beside another job", "and apart"],
)
def test_of_equal_domains_that_of_the_preferred_nodes_is_taken(
    wishes: dict[str, Any], nodes: dict[str, dict[str, Any]]
) -> None:
    """Rack ``a`` is the tighter one, and comes first."""
    cluster = Cluster()
    for rack, kind in (("a", "hdd"), ("b", "ssd")):
        for at in range(2):
            more = nodes.get(kind, {"labels": {"rack": rack}})
            cluster.node(f"{kind}-{at}", cpu=2000 if kind == "hdd" else 3000, **more)
    cluster.alloc(cluster.job("other", group_spec(cpu=100)), cluster.nodes[2])
    cluster.job("gang", group_spec(count=2, cpu=2000, gang=GangSpec(domain=GangDomain.RACK), **wishes))
    assert placed(cluster)["gang"] == ["ssd-0", "ssd-1"]


def test_a_smaller_domain_comes_before_what_is_preferred_and_few_preferred_nodes_before_none() -> None:
    cluster = Cluster()
    in_racks(cluster, "a", cpu=4000)
    for at in range(2):
        cluster.node(f"ssd-{at}", cpu=2000, labels={"rack": "b", "ssd": "1"})
    like = Affinity(constraint=SSD, weight=100)
    cluster.job("gang", group_spec(count=2, cpu=2000, affinity=(like,), gang=GangSpec(domain=GangDomain.RACK)))
    assert placed(cluster)["gang"] == ["a-0", "a-0"]
    cluster.job("next", group_spec(count=2, cpu=2000, affinity=(like,), gang=GangSpec(domain=GangDomain.RACK)))
    assert placed(cluster)["next"] == ["ssd-0", "ssd-1"]


def test_what_its_own_members_would_change_decides_no_domain_of_a_gang() -> None:
    cluster = Cluster()
    in_racks(cluster, "a", "a", cpu=2000)
    away = Affinity(weight=-100)
    cluster.job("gang", group_spec(count=2, cpu=1000, affinity=(away,), gang=GangSpec(domain=GangDomain.RACK)))
    assert placed(cluster)["gang"] == ["a-0", "a-0"]


@pytest.mark.parametrize(
    ("wishes", "spread_over"),
    [
        ({}, {"a-0": 4, "a-1": 2}),
        ({"spread": (Spread(attribute="node.id", required=False),)}, {"a-0": 2, "a-1": 2, "a-2": 2}),
        ({"affinity": (Affinity(weight=-100),)}, {"a-0": 2, "a-1": 2, "a-2": 2}),
        ({"affinity": (Affinity(weight=100),)}, {"a-0": 4, "a-1": 2}),
        # Apart by 50, together by 100: the second outweighs the first.
        ({"affinity": (Affinity(weight=100), Affinity(weight=-50))}, {"a-0": 4, "a-1": 2}),
    ],
)
def test_inside_its_domain_a_gang_heeds_what_its_members_would_rather(
    wishes: dict[str, Any], spread_over: dict[str, int]
) -> None:
    cluster = Cluster()
    in_racks(cluster, "a", "a", "a", cpu=4000)
    cluster.job("gang", group_spec(count=6, cpu=1000, gang=GangSpec(domain=GangDomain.RACK), **wishes))
    assert Counter(placed(cluster)["gang"]) == spread_over


def test_who_runs_counts_for_what_a_new_member_would_rather() -> None:
    cluster = Cluster()
    cluster.node("a", cpu=5000)
    cluster.node("b", cpu=3000)
    spread = Spread(attribute="node.id", required=False)
    gang = cluster.job("gang", group_spec(count=6, cpu=1000, spread=(spread,), gang=GangSpec(on_failure=REPLACE)))
    for ordinal in range(2):
        cluster.alloc(gang, cluster.nodes[0], ordinal, state=AllocState.RUNNING)
    assert Counter(placed(cluster)["gang"]) == {"a": 1, "b": 3}


def test_nobody_waits_for_what_the_members_would_only_rather() -> None:
    """Spread over zones first, three members stand where no move of one makes room for the fourth (found by trying)."""
    cluster = Cluster()
    places = zip("yzxxyyyy", "tvurrtvs", "ijhhikih", (2, 1, 1, 2, 2, 1, 1, 1), strict=True)
    for at, (zone, rack, hall, fits) in enumerate(places):
        cluster.node(f"n{at}", cpu=1000 * fits, zone=zone, rack=rack, labels={"hall": hall})
    apart = tuple(Affinity(weight=-100, required=True, topology=one) for one in ("hall", "node.rack"))
    zones = Spread(attribute="node.zone", required=False)
    cluster.job("gang", group_spec(count=4, cpu=1000, affinity=apart, spread=(zones,), gang=ONE_A_NODE))
    found = [int(name[1:]) for name in placed(cluster)["gang"]]
    assert len({"ijhhikih"[at] for at in found}) == len({"tvurrtvs"[at] for at in found}) == 4


# ---------------------------------------------------------------------------- who ends, stops all


def test_the_others_stop_when_a_member_has_ended_and_all_come_back_together() -> None:
    cluster = Cluster()
    node = cluster.node("n", cpu=8000)
    job = cluster.job("gang", group_spec(count=3, gang=GangSpec()))
    rows = [cluster.alloc(job, node, at) for at in range(3)]
    rows[1] |= {"state": AllocState.LOST}
    (plan,) = decide(cluster.view(), 0).plans
    assert (plan.actions.action.tolist(), len(plan.placements)) == ([Action.STOP, Action.STOP], 0)
    assert plan.reasons == ("a member of its gang has ended: all of it starts again",)
    for at in (0, 2):
        rows[at] |= {"desired": Desired.STOP}
    assert decide(cluster.view(), 0).plans == ()
    assert "2 of its gang are stopping first" in why(cluster, "gang").summary
    for at in (0, 2):
        rows[at] |= {"state": AllocState.STOPPED}
    (plan,) = decide(cluster.view(), 0).plans
    assert plan.placements.ordinal.tolist() == [0, 1, 2]
    assert plan.placements.attempt.tolist() == [2, 2, 2]


def test_members_of_a_batch_gang_that_completed_stay_done() -> None:
    cluster = Cluster()
    node = cluster.node("n", cpu=8000)
    job = cluster.job("gang", group_spec(count=3, gang=GangSpec()), type=JobType.BATCH)
    cluster.alloc(job, node, 0, state=AllocState.COMPLETE)
    cluster.alloc(job, node, 1, state=AllocState.LOST)
    cluster.alloc(job, node, 2, state=AllocState.STOPPED, desired=Desired.STOP)
    (plan,) = decide(cluster.view(), 0).plans
    assert plan.placements.ordinal.tolist() == [1, 2]


def test_a_gang_of_which_one_failed_for_good_stays_down_and_says_so() -> None:
    cluster = Cluster()
    node = cluster.node("n", cpu=8000)
    job = cluster.job("gang", group_spec(count=2, gang=GangSpec()), type=JobType.BATCH)
    cluster.alloc(job, node, 0, state=AllocState.FAILED, exit_code=1)
    cluster.alloc(job, node, 1, state=AllocState.STOPPED, desired=Desired.STOP)
    assert decide(cluster.view(), 0).plans == ()
    assert "1 of its gang failed for good" in why(cluster, "gang").summary


def test_a_gang_waits_for_the_longest_backoff_of_any_member() -> None:
    cluster = Cluster()
    node = cluster.node("n", cpu=8000)
    job = cluster.job("gang", group_spec(count=2, gang=GangSpec()))
    cluster.alloc(job, node, 0, state=AllocState.FAILED, start_failed=True, failures=1, modify_time_ms=1_000_000)
    cluster.alloc(job, node, 1, state=AllocState.FAILED, start_failed=True, failures=3, modify_time_ms=1_000_000)
    assert decide(cluster.view(), 1_003_000).plans == ()
    assert len(decide(cluster.view(), 1_008_001).plans[0].placements) == 2


@pytest.mark.parametrize("change", ["drain", "version"])
def test_a_drain_or_a_rollout_stops_all_of_it_at_once(change: str) -> None:
    cluster = Cluster()
    nodes = [cluster.node(name) for name in ("a", "b")]
    job = cluster.job("gang", group_spec(count=2, gang=GangSpec()))
    for at, node in enumerate(nodes):
        cluster.alloc(job, node, at)
    if change == "drain":
        cluster.change(nodes[0], cordoned=True, draining=True)
    else:
        cluster.new_version(job, JobSpec(name="gang", groups=(group_spec(count=2, cpu=600, gang=GangSpec()),)))
    (plan,) = decide(cluster.view(), 0).plans
    assert (plan.actions.ordinal.tolist(), len(plan.placements)) == ([1, 0], 0)


# ---------------------------------------------------------------------------- the queue


def waiting_cluster(kind: JobType) -> Cluster:
    """Two nodes of 2 cores, half taken by jobs of this type; a gang that needs all; a small job behind it."""
    cluster = Cluster()
    for at in range(2):
        node = cluster.node(f"n{at}", cpu=2000)
        cluster.alloc(cluster.job(f"old-{at}", group_spec(cpu=1000), type=kind), node)
    cluster.job("gang", group_spec(count=2, cpu=2000, gang=GangSpec()))
    cluster.job("small", group_spec(cpu=1000))
    return cluster


def test_small_jobs_behind_a_waiting_gang_do_not_take_the_room_that_it_waits_for() -> None:
    cluster = waiting_cluster(JobType.BATCH)
    assert placed(cluster) == {}
    said = why(cluster, "small")
    assert {rejection.text: rejection.nodes for rejection in said.rejections} == {"kept for gang gang/main": 2}
    assert said.hint.startswith("wait for gang gang/main")
    cluster.node("elsewhere", cpu=1000)
    assert placed(cluster) == {"small": ["elsewhere"]}


def test_nothing_is_kept_where_only_services_could_give_way() -> None:
    assert placed(waiting_cluster(JobType.SERVICE)) == {"small": ["n0"]}


@pytest.mark.parametrize("ends", [True, False], ids=["batch", "service"])
def test_nothing_is_kept_where_a_service_has_the_port_that_the_gang_asks_for(ends: bool) -> None:
    """It would be kept for ever: nothing that ends by itself gives the port back."""
    cluster = Cluster()
    cluster.node("a"), cluster.node("b")
    old = cluster.job("old", group_spec(cpu=100, ports=(8080,)), type=JobType.BATCH if ends else JobType.SERVICE)
    cluster.alloc(old, cluster.nodes[0], ports=(8080,))
    cluster.job("gang", group_spec(count=2, cpu=100, ports=(8080,), gang=GangSpec()))
    cluster.job("small", group_spec(cpu=100))
    assert placed(cluster) == ({} if ends else {"small": ["a"]})


def test_nothing_is_kept_for_a_fixed_port_twice_on_one_host_nor_for_more_ports_than_a_node_has() -> None:
    cluster = Cluster()
    for name in ("a", "b"):
        cluster.node(name, engine_id="host", port_min=30_000, port_max=30_001)
    cluster.alloc(cluster.job("old", group_spec(cpu=3500), type=JobType.BATCH), cluster.nodes[0])
    cluster.job("twice", group_spec(count=2, cpu=1000, ports=(8080,), gang=GangSpec()))
    cluster.job("many", group_spec(count=3, cpu=1000, ports=(0,), gang=GangSpec(domain=GangDomain.NODE)))
    cluster.job("small", group_spec(cpu=100))
    assert placed(cluster) == {"small": ["a"]}


def test_nothing_is_kept_on_a_node_of_which_no_island_is_large_enough() -> None:
    gpu = DeviceRequest(count=1)
    for count, kept in ((4, False), (2, True)):
        cluster = Cluster()
        node = cluster.node("n", devices=gpus(4, islands=(0, 0, 1, 1)))
        old = cluster.job("old", group_spec(count=2, cpu=100, gpu=gpu), type=JobType.BATCH)
        for at in range(2):
            cluster.alloc(old, node, at, device_mask=1 << 2 * at, gpu_millis=1000)
        cluster.job("gang", group_spec(count=count, cpu=100, gpu=gpu, gang=GangSpec(domain=GangDomain.ISLAND)))
        cluster.job("small", group_spec(cpu=100))
        assert placed(cluster) == ({} if kept else {"small": ["n"]}), count


def test_a_system_job_runs_also_where_room_is_kept() -> None:
    cluster = waiting_cluster(JobType.BATCH)
    cluster.job("agent", group_spec(cpu=100), type=JobType.SYSTEM)
    assert placed(cluster) == {"agent": ["n0", "n1"]}


def test_who_comes_before_the_gang_is_not_held_up() -> None:
    cluster = waiting_cluster(JobType.BATCH)
    cluster.job("urgent", group_spec(cpu=1000), priority=90, type=JobType.BATCH)
    assert placed(cluster) == {"urgent": ["n0"]}, "and the small one behind is, for the urgent one ends by itself"


def test_only_as_many_nodes_are_kept_as_the_gang_needs_the_nearest_first() -> None:
    cluster = Cluster()
    for at, used in enumerate((2000, 1000, 1500)):
        node = cluster.node(f"n{at}", cpu=2000)
        cluster.alloc(cluster.job(f"old-{at}", group_spec(cpu=used), type=JobType.BATCH), node)
    cluster.job("gang", group_spec(count=1, cpu=2000, gang=GangSpec()))
    cluster.job("small", group_spec(count=3, cpu=500))
    assert placed(cluster) == {"small": ["n2"]}


@pytest.mark.parametrize(
    ("used", "free"),
    [((2000, 1000, 1500), []), ((0, 1000, 1500), ["n2"]), ((1000, 0, 1500), ["n2"])],
    ids=["which lacks least", "what is free", "wherever that is"],
)
def test_of_several_nodes_of_one_domain_the_nearest_are_kept(used: tuple[int, ...], free: list[str]) -> None:
    cluster = Cluster()
    for at, cpu in enumerate(used):
        node = cluster.node(f"n{at}", cpu=2000)
        if cpu:
            cluster.alloc(cluster.job(f"old-{at}", group_spec(cpu=cpu), type=JobType.BATCH), node)
    cluster.job("gang", group_spec(count=2, cpu=2000, gang=GangSpec()))
    cluster.job("small", group_spec(count=4, cpu=500))
    assert placed(cluster) == ({"small": free} if free else {})


def test_of_nodes_whose_devices_come_free_those_that_lack_fewest_are_kept() -> None:
    cluster = Cluster()
    for at, taken in enumerate((2, 1, 1)):
        node = cluster.node(f"n{at}", devices=gpus(2))
        old = cluster.job(f"old-{at}", group_spec(cpu=10, gpu=DeviceRequest(count=taken)), type=JobType.BATCH)
        cluster.alloc(old, node, device_mask=(1 << taken) - 1, gpu_millis=1000)
    cluster.job("gang", group_spec(count=2, cpu=10, gpu=DeviceRequest(count=2), gang=GangSpec()))
    cluster.job("small", group_spec(cpu=10))
    assert placed(cluster) == {"small": ["n0"]}


def test_a_port_that_a_gang_could_have_later_is_given_to_nobody_meanwhile() -> None:
    cluster = Cluster()
    node = cluster.node("a")
    cluster.alloc(cluster.job("old", group_spec(ports=(8080,)), type=JobType.BATCH), node, ports=(8080,))
    cluster.job("gang", group_spec(count=2, ports=(9090,), gang=GangSpec()))  # there is one node: nothing is kept
    cluster.job("same", group_spec(ports=(8080,)))
    cluster.job("other", group_spec(ports=(7070,)))
    assert placed(cluster) == {"other": ["a"]}


def test_only_the_first_gangs_of_the_queue_keep_nodes() -> None:
    cluster = Cluster()
    for at in range(HELD_GANGS + 1):
        node = cluster.node(f"n{at}", cpu=2000)
        cluster.alloc(cluster.job(f"old-{at}", group_spec(cpu=1000), type=JobType.BATCH), node)
        cluster.job(f"gang-{at}", group_spec(cpu=2000, gang=GangSpec()))
    cluster.job("small", group_spec(count=4, cpu=500))
    assert placed(cluster) == {"small": [f"n{HELD_GANGS}"] * 2}


@pytest.mark.parametrize(("homes", "free"), [((2, 2), ["a-0", "a-1"]), ((0, 2), ["a-1", "b-3"])])
def test_a_missing_member_keeps_a_node_in_the_rack_of_those_that_run_or_none(
    homes: tuple[int, int], free: list[str]
) -> None:
    cluster = Cluster()
    in_racks(cluster, "a", "a", "b", "b")
    spec = GangSpec(domain=GangDomain.RACK, on_failure=GangFailure.REPLACE)
    gang = cluster.job("gang", group_spec(count=3, cpu=2000, gang=spec))
    for ordinal, home in enumerate(homes):
        cluster.alloc(gang, cluster.nodes[home], ordinal, cpu_millis=500)
    for at, node in enumerate(cluster.nodes):
        cluster.alloc(cluster.job(f"old-{at}", group_spec(cpu=500), type=JobType.BATCH), node)
    cluster.job("small", group_spec(count=4, cpu=1500))
    assert sorted(placed(cluster)["small"]) == free


# ---------------------------------------------------------------------------- words


def test_why_names_the_best_domain_and_how_many_are_missing() -> None:
    cluster = Cluster()
    in_racks(cluster, "a", "b", "b", cpu=2000)
    cluster.job("gang", group_spec(count=6, cpu=1000, gang=GangSpec(domain=GangDomain.RACK)))
    said = why(cluster, "gang")
    assert said.pending == 6
    assert "all 6 together in one rack: rack b takes 4, 2 are missing" in said.summary
    assert said.nearest == "rack b: 4 of 6 fit"
    assert "allow a larger gang.domain" in said.hint


def test_why_names_the_nodes_that_are_kept_for_a_gang() -> None:
    said = why(waiting_cluster(JobType.BATCH), "gang")
    assert "all 2 together: no node takes any" in said.summary
    assert said.hint.startswith("waits for 2 node(s) that are kept for it to empty (n0, n1)")


@pytest.mark.parametrize("order", [("gang", "small"), ("small", "gang")])
def test_why_says_the_same_of_who_is_kept_off_whoever_is_explained_before(order: tuple[str, str]) -> None:
    """As ``what-if`` asks for all who wait: from one round."""
    view = waiting_cluster(JobType.BATCH).view()
    found = explain_many(view, [f"uid-{name}" for name in order], 0)
    for name in order:
        assert found[("default", name, "main")] == explain(view, f"uid-{name}", 0)[0]


@pytest.mark.parametrize(
    ("request_", "devices", "text"),
    [
        (DeviceRequest(count=2, models=("a100",)), {}, "has 0 of 2 GPUs of model a100 (4 of another model)"),
        (DeviceRequest(count=2, memory_mib=90_000), {}, "with 87.9 GiB memory (4 with less memory)"),
        (DeviceRequest(count=2, compute_capability=">= 9.0"), {}, "(4 with another compute capability)"),
        (DeviceRequest(count=1, mig="1g.10gb"), {}, "has 0 of 1 MIG slices 1g.10gb (4 of another MIG profile)"),
        (DeviceRequest(count=4), {"cordoned_devices": ("gpu-1",)}, "3 of 4 usable, 1 cordoned"),
        (DeviceRequest(count=4), {"sick_devices": (("gpu-1", "XID 79"),)}, "3 of 4 usable, 1 sick"),
        (
            DeviceRequest(count=4),
            {"sick_devices": (("gpu-1", "XID 79"), ("gpu-2", "XID 48")), "cordoned_devices": ("gpu-2",)},
            "2 of 4 usable, 1 cordoned, 1 sick",
        ),
        (DeviceRequest(count=3, link=Link.ISLAND), {}, "2 of 3 free in one island, as it is built"),
    ],
)
def test_why_says_what_the_devices_lack(request_: DeviceRequest, devices: dict[str, Any], text: str) -> None:
    cluster = Cluster()
    cluster.node("n", devices=gpus(4, islands=(0, 0, 1, 1)), **devices)
    cluster.job("train", group_spec(gpu=request_))
    assert text in why(cluster, "train").summary


# ---------------------------------------------------------------------------- entries


def test_an_entry_holds_the_largest_gang_and_never_a_part_of_one() -> None:
    assert ROWS_MAX >= MAX_GANG == limits.MAX_GANG
    cluster = Cluster()
    cluster.node("n", cpu=10**8, memory=10**8)
    cluster.job("single", group_spec(count=5, cpu=1, memory=1))
    for name in ("one", "two"):
        cluster.job(name, group_spec(count=MAX_GANG, cpu=1, memory=1, gang=GangSpec()))
    cluster.job("last", group_spec(count=7, cpu=1, memory=1))
    plans = decide(cluster.view(), 0, steps_max=10**6).plans
    assert [len(plan.placements) for plan in plans] == [5, MAX_GANG, MAX_GANG, 7]
    for plan in plans[1:3]:
        assert len(plan.jobs) == 1
        np.testing.assert_array_equal(plan.placements.ordinal, np.arange(MAX_GANG))
