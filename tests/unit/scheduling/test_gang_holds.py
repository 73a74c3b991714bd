"""Which nodes are kept for a gang that waits, as a small job behind it sees it: it goes where nothing is kept.

Whole queues: ``test_gangs.py``.
"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract.model import DeviceRequest, GangDomain, GangSpec, JobType
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec
from tests.unit.scheduling.test_gangs import placed

BATCH, SERVICE = JobType.BATCH, JobType.SERVICE


def busy(cluster: Cluster, name: str, *, cpu: int = 1000, takes: int = 0, kind: JobType = BATCH, **more: Any) -> None:
    """A node, and what runs there."""
    node = cluster.node(name, cpu=cpu, **more.pop("node", {}))
    row = {key: more.pop(key) for key in ("device_mask", "gpu_millis") if key in more}
    if takes:
        job = cluster.job(f"on-{name}", group_spec(cpu=takes, **more), type=kind)
        cluster.alloc(job, node, ports=more.get("ports", ()), **row)


def waits(cluster: Cluster, count: int, cpu: int = 1000, domain: GangDomain = GangDomain.CLUSTER, **more: Any) -> None:
    cluster.job("gang", group_spec(count=count, cpu=cpu, gang=GangSpec(domain=domain), **more))


def free_for(cluster: Cluster, cpu: int, count: int = 9) -> list[str]:
    """Where small jobs go that come after the gang."""
    cluster.job("small", group_spec(count=count, cpu=cpu))
    found = placed(cluster)
    assert "gang" not in found
    return sorted(found.get("small", []))


def test_the_nodes_with_the_largest_share_free_are_kept_wherever_they_stand() -> None:
    cluster = Cluster()
    for name, takes in (("a", 900), ("b", 400), ("c", 700)):
        busy(cluster, name, takes=takes)
    waits(cluster, 2)
    assert free_for(cluster, 100) == ["a"]


def test_and_those_that_lack_the_fewest_devices() -> None:
    cluster = Cluster()
    for name, mask in (("a", 0b1111), ("b", 0b0111), ("c", 0b0001)):
        busy(
            cluster, name, cpu=9000, takes=10, node={"devices": gpus(4)}, device_mask=mask, gpu_millis=1000,
            gpu=DeviceRequest(count=mask.bit_count()),
        )  # fmt: skip
    waits(cluster, 2, cpu=10, gpu=DeviceRequest(count=4))
    assert set(free_for(cluster, 1000)) == {"a"}


def test_of_nodes_as_near_those_that_take_most_of_it_later_are_kept() -> None:
    cluster = Cluster()
    busy(cluster, "one", cpu=1000, takes=500)
    busy(cluster, "two", cpu=2500, takes=2000)
    waits(cluster, 2)
    assert free_for(cluster, 500) == ["one"]


def test_a_node_that_can_never_take_a_member_is_not_kept_however_free_it_is() -> None:
    cluster = Cluster()
    busy(cluster, "a", takes=100, kind=SERVICE)
    for name in ("b", "c"):
        busy(cluster, name, takes=1000)
    waits(cluster, 2)
    assert free_for(cluster, 900) == ["a"]


def test_the_domain_with_most_room_now_is_kept() -> None:
    cluster = Cluster()
    for name, takes in (("a-1", 600), ("a-2", 600), ("b-1", 0), ("b-2", 1000)):
        busy(cluster, name, takes=takes, node={"labels": {"rack": name[0]}})
    waits(cluster, 2, domain=GangDomain.RACK)
    assert free_for(cluster, 400) == ["a-1", "a-2"]


@pytest.mark.parametrize("ports", [(8080,), (0, 8080), (8080, 0)])
def test_nothing_is_kept_on_one_host_where_each_member_wants_the_same_port(ports: tuple[int, ...]) -> None:
    cluster = Cluster()
    for name in ("a", "b"):
        busy(cluster, name, takes=500, node={"engine_id": "host"})
    waits(cluster, 2, ports=ports)
    assert free_for(cluster, 500) == ["a", "b"]


def test_a_port_comes_back_with_the_one_that_holds_it_whichever_row_that_is() -> None:
    cluster = Cluster()
    busy(cluster, "a", takes=500, kind=SERVICE)
    busy(cluster, "b", takes=500, ports=(8080,))
    busy(cluster, "c", takes=500, ports=(9090,), kind=SERVICE)
    waits(cluster, 1, ports=(8080, 9090))
    assert free_for(cluster, 500) == ["a", "c"], "only on b nothing is in the way for ever"


def test_an_island_that_is_large_enough_counts_also_beside_a_small_one() -> None:
    one = DeviceRequest(count=1)
    cluster = Cluster()
    busy(
        cluster, "n", cpu=9000, takes=10, node={"devices": gpus(4, islands=(0, 1, 1, 1))}, device_mask=0b0010,
        gpu_millis=1000, gpu=one,
    )  # fmt: skip
    waits(cluster, 3, cpu=10, gpu=one, domain=GangDomain.ISLAND)
    assert free_for(cluster, 100) == []


@pytest.mark.parametrize(("licences", "kept"), [(1, True), (2, False)])
def test_of_custom_resources_as_much_comes_back_as_was_taken(licences: int, *, kept: bool) -> None:
    cluster = Cluster()
    custom = {"licence": 1}
    busy(cluster, "n", takes=100, node={"custom": {"licence": 2}}, custom=custom)
    service = cluster.job("service", group_spec(cpu=100, custom=custom))
    cluster.alloc(service, cluster.nodes[0])
    waits(cluster, 1, cpu=100, custom={"licence": licences})
    assert free_for(cluster, 100, count=1) == ([] if kept else ["n"])


def test_where_nothing_runs_and_no_node_is_there_nothing_is_kept() -> None:
    cluster = Cluster()
    waits(cluster, 2)
    assert free_for(cluster, 100) == []
    busy(cluster, "a", cpu=500)
    assert placed(cluster) == {"small": ["a"] * 5}
