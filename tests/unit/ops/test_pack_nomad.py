"""What Nomad prints as a cluster: amounts, devices by id, what waits, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.contract.model import DeviceRequest
from orchestrator.ops.pack_cluster import WAITING, PackCluster, PackError
from orchestrator.ops.pack_read import read
from tests.unit.ops.pack_samples import Item, nomad_allocation, nomad_job, nomad_node, written

MODEL = "<nvidia/gpu/NVIDIA A10>"


def cluster_of(tmp_path: Path, nodes: list[Item], *pods: object) -> PackCluster:
    return read(written(tmp_path / "nodes.json", nodes), written(tmp_path / "allocs.json", *pods))


def test_a_node_gives_its_resources_less_what_is_reserved(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, [nomad_node("a", cpu=8000, memory=16_384, gpus=2)], [nomad_allocation("j", "a")])
    (node,) = cluster.nodes
    assert (node.capacity.cpu_millis, node.capacity.memory_mib, node.capacity.disk_mib) == (7500, 16_000, 50_000)
    assert [(device.id, device.model, device.memory_mib) for device in node.devices] == [
        ("GPU-a-0", MODEL, 24_576),
        ("GPU-a-1", MODEL, 24_576),
    ]
    assert (cluster.format, cluster.cpu_unit) == ("nomad", "MHz")


def test_an_allocation_holds_the_devices_that_it_names(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, [nomad_node("a", gpus=4)], [nomad_allocation("j", "a", gpus=(1, 3))])
    (pod,) = cluster.pods
    assert pod.devices == (1, 3)
    assert pod.request.gpus == DeviceRequest(count=2, models=(MODEL,))
    assert (pod.request.cpu_millis, pod.request.memory_mib, pod.request.disk_mib) == (500, 256, 300)


def test_tasks_that_run_one_after_the_other_hold_the_greater_of_both(tmp_path: Path) -> None:
    one = nomad_allocation("j", "a", cpu=500)
    tasks = one["AllocatedResources"]["Tasks"]
    tasks["prepare"] = {"Cpu": {"CpuShares": 900}, "Memory": {"MemoryMB": 64}, "Devices": None}
    tasks["side"] = {"Cpu": {"CpuShares": 100}, "Memory": {"MemoryMB": 64}, "Devices": None}
    hooks = {
        "t": None,
        "prepare": {"Hook": "prestart", "Sidecar": False},
        "side": {"Hook": "prestart", "Sidecar": True},
    }
    one["AllocatedResources"]["TaskLifecycles"] = hooks
    (pod,) = cluster_of(tmp_path, [nomad_node("a")], [one]).pods
    assert (pod.request.cpu_millis, pod.request.memory_mib) == (900, 320)


@pytest.mark.parametrize("status", ["complete", "failed", "lost"])
def test_what_ended_holds_nothing(tmp_path: Path, status: str) -> None:
    allocations = [nomad_allocation("j", "a", ClientStatus=status), nomad_allocation("k", "a", ClientStatus="unknown")]
    cluster = cluster_of(tmp_path, [nomad_node("a")], allocations)
    assert (len(cluster.pods), cluster.ended) == (1, 1)


@pytest.mark.parametrize(
    "more",
    [{"SchedulingEligibility": "ineligible"}, {"Status": "down"}, {"Drain": True}],
    ids=lambda more: next(iter(more)),
)
def test_nodes_that_take_no_work_are_closed(tmp_path: Path, more: Item) -> None:
    cluster = cluster_of(tmp_path, [nomad_node("a", **more), nomad_node("b")], [nomad_allocation("j", "b")])
    assert [node.open for node in cluster.nodes] == [False, True]


@pytest.mark.parametrize(
    ("kind", "daemon"), [("system", True), ("sysbatch", True), ("service", False), ("batch", False)]
)
def test_system_jobs_belong_to_their_node(tmp_path: Path, kind: str, daemon: bool) -> None:
    (pod,) = cluster_of(tmp_path, [nomad_node("a")], [nomad_allocation("j", "a", JobType=kind)]).pods
    assert pod.daemon is daemon


def test_a_job_waits_for_its_count_less_what_lives(tmp_path: Path) -> None:
    job = nomad_job("j", 4, cpu=700, gpus=1)
    lives = [nomad_allocation("j", "a"), nomad_allocation("j", "b", ClientStatus="failed"), nomad_allocation("k", "a")]
    cluster = cluster_of(tmp_path, [nomad_node("a"), nomad_node("b")], lives, job)
    waiting = [pod for pod in cluster.pods if pod.node == WAITING]
    assert len(waiting) == 3
    assert waiting[0].request.gpus == DeviceRequest(count=1, models=("<nvidia/gpu/",))
    assert (waiting[0].request.cpu_millis, waiting[0].priority) == (700, 50)


def test_reserved_cores_of_what_waits_are_named(tmp_path: Path) -> None:
    job = nomad_job("j", 1)
    job["Job"]["TaskGroups"][0]["Tasks"][0]["Resources"] |= {"Cores": 2, "CPU": 0}
    cluster = cluster_of(tmp_path, [nomad_node("a")], [], job)
    assert "tasks that wait ask for whole cores, which are not counted: t" in cluster.notes


def test_what_a_batch_job_completed_does_not_wait(tmp_path: Path) -> None:
    done = nomad_allocation("j", "a", JobType="batch", ClientStatus="complete")
    cluster = cluster_of(tmp_path, [nomad_node("a")], [done], nomad_job("j", 3, Type="batch"))
    assert len(cluster.pods) == 2


@pytest.mark.parametrize(
    "more", [{"Stop": True}, {"Status": "dead"}, {"Periodic": {"Spec": "@daily"}}, {"Type": "system"}]
)
def test_jobs_that_want_nothing_now_do_not_wait(tmp_path: Path, more: Item) -> None:
    cluster = cluster_of(tmp_path, [nomad_node("a")], [nomad_allocation("x", "a")], nomad_job("j", 3, **more))
    assert len(cluster.pods) == 1


def test_data_centres_and_pools_are_kept_to_and_constraints_are_named(tmp_path: Path) -> None:
    nodes = [nomad_node("a"), nomad_node("b", Datacenter="eu-2"), nomad_node("c", NodePool="gpu", Datacenter="eu-1")]
    job = nomad_job("j", 1, Datacenters=["eu-*"], Constraints=[{"LTarget": "${attr.arch}", "RTarget": "arm64"}])
    cluster = cluster_of(tmp_path, nodes, job, nomad_job("any", 1, NodePool="all"))
    assert [pod.nodes for pod in cluster.pods] == [None, frozenset({1})]  # in the order of their names
    assert any("constraints" in note and ": j" in note for note in cluster.notes)


def test_other_devices_are_carried(tmp_path: Path) -> None:
    node, one = nomad_node("a"), nomad_allocation("x", "a")
    fpga = {"Vendor": "acme", "Type": "fpga", "Name": "F1"}
    node["NodeResources"]["Devices"] = [
        {**fpga, "Instances": [{"ID": "1", "Healthy": True}, {"ID": "2", "Healthy": False}]}
    ]
    one["AllocatedResources"]["Tasks"]["t"]["Devices"] = [{**fpga, "DeviceIDs": ["1"]}]
    job = nomad_job("j", 1)
    job["Job"]["TaskGroups"][0]["Tasks"][0]["Resources"]["Devices"] = [{"Name": "fpga", "Count": 1}]
    cluster = cluster_of(tmp_path, [node], [one], job)
    assert cluster.carried == ("acme/fpga/F1",)
    assert [pod.request.custom for pod in cluster.pods] == [(("acme/fpga/F1", 1),)] * 2
    assert cluster.nodes[0].capacity.custom == (("acme/fpga/F1", 1),)


def test_lists_without_resources_are_refused_with_what_to_ask_for(tmp_path: Path) -> None:
    bare = nomad_node("a")
    del bare["NodeResources"]
    with pytest.raises(PackError, match=r"nodes\.json, \$\[0\]: has no NodeResources.*resources=true"):
        cluster_of(tmp_path, [bare], [nomad_allocation("j", "a")])
    thin = nomad_allocation("j", "a")
    del thin["AllocatedResources"]
    with pytest.raises(PackError, match=r"allocs\.json, \$\[0\]: has no AllocatedResources.*resources=true"):
        cluster_of(tmp_path, [nomad_node("a")], [thin])


def test_a_wrong_amount_is_named_with_its_place(tmp_path: Path) -> None:
    node = nomad_node("a")
    node["NodeResources"]["Memory"]["MemoryMB"] = "16GB"
    with pytest.raises(
        PackError, match=r"\$\[0\]\.NodeResources\.Memory\.MemoryMB: is a string, expected a whole number"
    ):
        cluster_of(tmp_path, [node], [nomad_allocation("j", "a")])
