"""Which island, node, rack or zone a gang takes of several that hold it, and which nodes inside."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract.model import (
    Affinity,
    Constraint,
    ConstraintOperator,
    DeviceRequest,
    GangDomain,
    GangFailure,
    GangSpec,
    Spread,
)
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec
from tests.unit.scheduling.test_gangs import devices_given, placed

ISLAND = GangSpec(domain=GangDomain.ISLAND)
ANYWHERE = GangSpec(domain=GangDomain.CLUSTER)
SSD = Constraint(attribute="ssd", operator=ConstraintOperator.EXISTS)
APART = Affinity(weight=-100, required=True, topology="hall")
GPU = DeviceRequest(count=1)


def machines(**islands: tuple[int, ...]) -> Cluster:
    """By name: the island of each device."""
    cluster = Cluster()
    for name, where in islands.items():
        cluster.node(name, devices=gpus(len(where), islands=where))
    return cluster


def island_gang(cluster: Cluster, count: int = 2, gpu: DeviceRequest = GPU, **more: Any) -> list[tuple[str, int]]:
    cluster.job("gang", group_spec(count=count, cpu=10, gpu=gpu, gang=ISLAND, **more))
    return sorted(devices_given(cluster))


def used(cluster: Cluster, name: str, cpu: int, memory: int = 256) -> None:
    """So much of the node is in use."""
    node = next(one for one in cluster.nodes if one.spec.name == name)
    cluster.alloc(cluster.job(f"on-{name}", group_spec(cpu=cpu, memory=memory)), node)


# ---------------------------------------------------------------------------- islands


@pytest.mark.parametrize("tight", ["a", "b"])
def test_of_islands_the_tightest_is_taken(tight: str) -> None:
    cluster = machines(**{name: (0,) * (2 if name == tight else 4) for name in "ab"})
    assert island_gang(cluster) == [(tight, 1), (tight, 2)]


def test_of_equal_islands_the_first_is_taken() -> None:
    assert island_gang(machines(a=(0, 0, 1, 1), b=(0, 0, 1, 1))) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize("liked", ["a", "b"])
def test_an_island_of_a_node_that_is_preferred_comes_before_a_tighter_one(liked: str) -> None:
    cluster = Cluster()
    for name in "ab":
        labels = {"ssd": "1"} if name == liked else {}
        cluster.node(name, devices=gpus(4 if name == liked else 2), labels=labels)
    given = island_gang(cluster, affinity=(Affinity(constraint=SSD, weight=1),))
    assert [node for node, _ in given] == [liked] * 2


@pytest.mark.parametrize("full", ["a", "b"])
def test_of_islands_that_are_as_tight_the_policy_chooses_the_node(full: str) -> None:
    cluster = machines(a=(0, 0), b=(0, 0))
    used(cluster, full, cpu=3_000)
    cluster.job("gang", group_spec(count=2, cpu=10, gpu=GPU, gang=ISLAND), placement="binpack")
    assert {node for node, _ in devices_given(cluster)} == {full}


def test_an_island_holds_as_many_shares_as_its_devices_have() -> None:
    cluster = machines(a=(0, 1, 1, 1))
    half = DeviceRequest(count=1, gpu_millis=500)
    assert island_gang(cluster, gpu=half) == [("a", 1), ("a", 1)]


def test_devices_that_are_taken_or_cordoned_are_in_no_island() -> None:
    cluster = machines(a=(0, 0, 1, 1, 1, 2, 2))
    cluster.change(cluster.nodes[0], cordoned_devices=("gpu-5",))
    other = cluster.job("other", group_spec(cpu=10, gpu=GPU))
    cluster.alloc(other, cluster.nodes[0], device_mask=1 << 1, gpu_millis=1000)
    assert island_gang(cluster) == [("a", 1 << 2), ("a", 1 << 3)]


def test_a_missing_member_joins_the_island_of_the_others_wherever_their_devices_are() -> None:
    cluster = machines(a=(0, 0, 0, 1, 1, 1))
    gang = GangSpec(domain=GangDomain.ISLAND, on_failure=GangFailure.REPLACE)
    job = cluster.job("gang", group_spec(count=2, cpu=10, gpu=GPU, gang=gang))
    cluster.alloc(job, cluster.nodes[0], 0, device_mask=1 << 4, gpu_millis=1000)
    assert devices_given(cluster) == [("a", 1 << 3)]


def test_the_other_islands_are_free_for_the_next() -> None:
    cluster = machines(a=(0, 0, 1, 1))
    cluster.job("next", group_spec(count=2, cpu=10, gpu=GPU))
    assert [mask for _, mask in island_gang(cluster)] == [1, 2, 4, 8]


def test_members_whose_place_is_judged_one_by_one_are_in_one_island_where_that_is_allowed() -> None:
    over_zones = Spread(attribute="node.zone", max_skew=1)
    cluster = Cluster()
    cluster.node("a", zone="z1", devices=gpus(4, islands=(0, 1, 0, 1)))
    assert island_gang(cluster, spread=(over_zones,)) == [("a", 1), ("a", 4)]
    cluster = Cluster()
    for name in "ab":
        cluster.node(name, zone=name, devices=gpus(2))
    assert island_gang(cluster, spread=(over_zones,)) == []
    cluster.jobs.clear()
    cluster.job("gang", group_spec(count=2, cpu=10, gpu=GPU, gang=ANYWHERE, spread=(over_zones,)))
    assert sorted(placed(cluster)["gang"]) == ["a", "b"]


# ---------------------------------------------------------------------------- racks


@pytest.mark.parametrize("full", ["r1", "r2"])
def test_of_racks_with_as_much_room_the_policy_chooses(full: str) -> None:
    cluster = Cluster()
    for rack in ("r1", "r2"):
        for part in "ab":
            cluster.node(f"{rack}{part}", cpu=2_999, labels={"rack": rack})
    used(cluster, f"{full}b", cpu=900)
    cluster.job("gang", group_spec(count=4, cpu=1_000, gang=GangSpec(domain=GangDomain.RACK)), placement="binpack")
    assert sorted(placed(cluster)["gang"]) == [f"{full}a"] * 2 + [f"{full}b"] * 2


@pytest.mark.parametrize("extreme", ["r1", "r2"])
def test_and_by_the_best_node_of_each(extreme: str) -> None:
    """One rack has a node that is nearly full and one that is empty, the other two between."""
    cluster = Cluster()
    for rack in ("r1", "r2"):
        for part in "ab":
            cluster.node(f"{rack}{part}", cpu=2_999, labels={"rack": rack})
            cpu = (900 if part == "b" else 1) if rack == extreme else 400
            used(cluster, f"{rack}{part}", cpu=cpu)
    cluster.job("gang", group_spec(count=4, cpu=1_000, gang=GangSpec(domain=GangDomain.RACK)), placement="binpack")
    assert {name[:2] for name in placed(cluster)["gang"]} == {extreme}


def test_what_a_node_lacks_of_what_nobody_asks_for_does_not_matter() -> None:
    cluster = Cluster()
    cluster.node("a", cpu=2_000, memory=256)
    used(cluster, "a", cpu=0)
    cluster.job("gang", group_spec(count=2, cpu=1_000, memory=0, gang=GangSpec()))
    assert placed(cluster)["gang"] == ["a", "a"]


# ---------------------------------------------------------------------------- inside


def test_the_last_node_is_the_one_that_is_just_large_enough() -> None:
    cluster = Cluster()
    for name, cpu in (("a", 3_000), ("b", 3_000), ("c", 2_000), ("d", 1_000)):
        cluster.node(name, cpu=cpu)
    cluster.job("gang", group_spec(count=5, cpu=1_000, gang=ANYWHERE))
    assert placed(cluster)["gang"] == ["a"] * 3 + ["c"] * 2


@pytest.mark.parametrize("full", ["a", "b", "c"])
def test_of_nodes_with_as_much_room_the_policy_chooses_which_come_first(full: str) -> None:
    cluster = Cluster()
    for name in "abc":
        cluster.node(name, cpu=2_999)
    used(cluster, full, cpu=900)
    cluster.job("gang", group_spec(count=4, cpu=1_000, gang=ANYWHERE), placement="binpack")
    nodes = placed(cluster)["gang"]
    assert nodes[0] == full
    assert len(set(nodes)) == 2


def test_few_zones_are_used() -> None:
    """Zone one has more room in all, though no rack of it has as much as that of zone two."""
    cluster = Cluster()
    for name, zone, cpu in (("a", "z1", 2_000), ("b", "z1", 2_000), ("c", "z2", 3_000)):
        cluster.node(name, zone=zone, rack=name, cpu=cpu)
    cluster.job("gang", group_spec(count=5, cpu=1_000, gang=ANYWHERE))
    assert placed(cluster)["gang"] == ["a", "a", "b", "b", "c"]


def test_members_that_must_be_apart_are_in_few_zones_and_racks_and_on_the_nodes_that_the_policy_chooses() -> None:
    cluster = Cluster()
    places = (
        ("a", "z1", "r1"),
        ("b", "z2", "r2"),
        ("c", "z2", "r3"),
        ("d", "z2", "r3"),
        ("e", "z3", "r4"),
        ("f", "z3", "r4"),
    )
    for name, zone, rack in places:
        cluster.node(name, zone=zone, rack=rack, cpu=1_999, labels={"hall": name})
    used(cluster, "d", cpu=900)
    used(cluster, "f", cpu=900)
    group = group_spec(count=4, cpu=1_000, affinity=(APART,), gang=ANYWHERE)
    cluster.job("gang", group, placement="binpack")
    nodes = placed(cluster)["gang"]
    assert nodes == ["d", "c", "b", "f"]


def test_a_shared_engine_in_the_way_is_found_by_trying_and_all_is_given_back() -> None:
    """Nodes ``a`` and ``b`` share an engine, so one of them has no port left once the other has one."""
    cluster = Cluster()
    for name, engine in (("a", "one"), ("b", "one"), ("c", "two")):
        cluster.node(name, cpu=1_000, engine_id=engine, custom={"licence": 1})
    group = group_spec(count=2, cpu=1_000, ports=(8080,), custom={"licence": 1}, gang=ANYWHERE)
    cluster.job("gang", group)
    cluster.job("next", group_spec(cpu=1_000, custom={"licence": 1}))
    found = placed(cluster)
    assert len(found["gang"]) == 2
    assert "c" in found["gang"]
    assert len(found["next"]) == 1
