"""What kubectl prints as a cluster: amounts, who may run where, what is carried, what is ignored, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract.model import DeviceRequest
from orchestrator.ops.pack_cluster import WAITING, PackCluster, PackError
from orchestrator.ops.pack_read import read
from tests.unit.ops.pack_samples import GPU, Item, k8s_list, k8s_node, k8s_pod, written


def cluster_of(tmp_path: Path, *items: Item) -> PackCluster:
    path = written(tmp_path / "cluster.json", k8s_list(*items))
    return read(path, path)


def test_a_node_gives_what_is_allocatable_and_not_its_capacity(tmp_path: Path) -> None:
    node = k8s_node("a", cpu="7910m", memory="28Gi", gpus=2, allocatable={"hugepages-2Mi": "1Gi"})
    (made,) = cluster_of(tmp_path, node, k8s_pod("p")).nodes
    capacity = made.capacity
    assert (capacity.cpu_millis, capacity.memory_mib, capacity.disk_mib) == (7910, 28 * 1024, 100 * 1024)
    assert capacity.custom == (("hugepages-2Mi", 2**30), ("pods", 110))
    assert [device.model for device in made.devices] == ["<nvidia.com/gpu:NVIDIA-A10>"] * 2
    assert made.devices[0].memory_mib == 23028


def test_a_pod_asks_for_the_sum_of_its_containers(tmp_path: Path) -> None:
    pod = k8s_pod("p", "a", cpu="250m", memory="100Mi", gpus=1)
    pod["spec"]["containers"].append({"name": "side", "resources": {"limits": {"cpu": "1.5", "memory": "1G"}}})
    pod["spec"]["overhead"] = {"cpu": "10m"}
    (made,) = cluster_of(tmp_path, k8s_node("a", gpus=1), pod).pods
    assert made.request.cpu_millis == 250 + 1500 + 10
    assert made.request.memory_mib == 100 + 954  # 10^9 bytes, rounded up
    assert made.request.gpus == DeviceRequest(count=1, models=("<nvidia.com/gpu:",))
    assert (made.name, made.node) == ("team/p", 0)


def init(cpu: str, **more: Any) -> Item:
    return {"name": "i", "resources": {"requests": {"cpu": cpu}}, **more}


@pytest.mark.parametrize(
    ("inits", "cpu_millis"),
    [
        ([init("3"), init("2")], 3000),  # one after the other: the greatest
        ([init("500m")], 1000),  # less than the containers together
        ([init("500m", restartPolicy="Always")], 1500),  # runs on beside them
        ([init("500m", restartPolicy="Always"), init("2")], 2500),  # and beside the init containers after it
        ([init("2"), init("500m", restartPolicy="Always")], 2000),  # but not beside those before it
    ],
)
def test_init_containers_count_as_far_as_they_need_more_at_one_time(
    tmp_path: Path, inits: list[Item], cpu_millis: int
) -> None:
    (made,) = cluster_of(tmp_path, k8s_node("a"), k8s_pod("p", "a", cpu="1", initContainers=inits)).pods
    assert made.request.cpu_millis == cpu_millis


def test_finished_pods_hold_nothing(tmp_path: Path) -> None:
    pods = [k8s_pod("ok", "a", phase="Succeeded"), k8s_pod("bad", "a", phase="Failed"), k8s_pod("up", "a")]
    cluster = cluster_of(tmp_path, k8s_node("a"), *pods)
    assert ([pod.name for pod in cluster.pods], cluster.ended) == (["team/up"], 2)


def test_cordoned_and_unready_nodes_take_nothing(tmp_path: Path) -> None:
    nodes = [k8s_node("a"), k8s_node("b", unschedulable=True), k8s_node("c", ready="Unknown")]
    assert [node.open for node in cluster_of(tmp_path, *nodes, k8s_pod("p")).nodes] == [True, False, False]


def test_pods_of_daemon_sets_and_static_ones_belong_to_their_node(tmp_path: Path) -> None:
    pods = [
        k8s_pod("d", "a", owner="DaemonSet"),
        k8s_pod("s", "a", owner="Node"),
        k8s_pod("r", "a", owner="ReplicaSet"),
    ]
    assert [pod.daemon for pod in cluster_of(tmp_path, k8s_node("a"), *pods).pods] == [True, True, False]


TAINT = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}


def required(*expressions: Item, fields: tuple[Item, ...] = ()) -> Item:
    term: Item = {"matchExpressions": list(expressions), "matchFields": list(fields)}
    rule = {"nodeSelectorTerms": [{"matchExpressions": []}, term]}  # the empty one matches nothing
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": rule}}}


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({}, "ab"),
        ({"nodeSelector": {"disk": "ssd"}}, "a"),
        ({"nodeSelector": {"disk": "tape"}}, ""),
        ({"tolerations": [{"key": "dedicated", "value": "ml", "effect": "NoSchedule"}]}, "abc"),
        ({"tolerations": [{"key": "dedicated", "operator": "Exists"}]}, "abc"),
        ({"tolerations": [{"operator": "Exists"}]}, "abc"),
        ({"tolerations": [{"key": "dedicated", "value": "web"}]}, "ab"),
        ({"tolerations": [{"key": "dedicated", "value": "ml", "effect": "NoExecute"}]}, "ab"),
        (required({"key": "disk", "operator": "In", "values": ["ssd", "nvme"]}), "a"),
        (required({"key": "disk", "operator": "NotIn", "values": ["ssd"]}), "b"),
        (required({"key": "disk", "operator": "Exists"}), "a"),
        (required({"key": "disk", "operator": "DoesNotExist"}), "b"),
        (required({"key": "rank", "operator": "Gt", "values": ["3"]}), "b"),
        (required({"key": "rank", "operator": "Lt", "values": ["3"]}), "a"),
        (required(fields=({"key": "metadata.name", "operator": "In", "values": ["b"]},)), "b"),
    ],
)
def test_a_pod_may_run_where_kubernetes_would_let_it(tmp_path: Path, spec: Item, names: str) -> None:
    nodes = [
        k8s_node("a", labels={"disk": "ssd", "rank": "2"}),
        k8s_node("b", labels={"rank": "10"}, taints=[{"key": "x", "effect": "PreferNoSchedule"}]),
        k8s_node("c", taints=[TAINT]),
    ]
    cluster = cluster_of(tmp_path, *nodes, k8s_pod("p", **spec))
    (pod,) = cluster.pods
    there = range(3) if pod.nodes is None else sorted(pod.nodes)
    assert "".join(cluster.nodes[number].name for number in there) == names


def test_unknown_resources_are_carried_or_named(tmp_path: Path) -> None:
    cluster = cluster_of(
        tmp_path,
        k8s_node("a", allocatable={"rdma/hca": "4", "nvidia.com/mig-1g.5gb": "7"}),
        k8s_pod("one", "a", requests={"rdma/hca": "1", "example.com/gone": "2"}),
        k8s_pod("two", requests={"example.com/none": "1"}),
    )
    assert cluster.carried == ("rdma/hca",)
    assert cluster.ignored == ("example.com/gone",)
    assert any("example.com/none" in note for note in cluster.notes)
    assert cluster.pods[0].request.custom == (("pods", 1), ("rdma/hca", 1))
    assert cluster.pods[1].request.custom == (("example.com/none", 1), ("pods", 1))


def test_a_host_port_is_had_once_per_node(tmp_path: Path) -> None:
    pod = k8s_pod("p", "a")
    pod["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 8080}]
    cluster = cluster_of(tmp_path, k8s_node("a"), pod)
    assert ("port/TCP/8080", 1) in cluster.pods[0].request.custom
    assert ("port/TCP/8080", 1) in cluster.nodes[0].capacity.custom


def test_a_sidecar_has_its_host_port_as_long_as_the_pod_runs_and_an_init_container_has_not(tmp_path: Path) -> None:
    pod = k8s_pod("p", "a")
    pod["spec"]["initContainers"] = [
        init("1m", restartPolicy="Always", ports=[{"containerPort": 80, "hostPort": 8080}]),
        init("1m", ports=[{"containerPort": 80, "hostPort": 9090}]),
    ]
    request = cluster_of(tmp_path, k8s_node("a"), pod).pods[0].request
    assert [name for name, _ in request.custom if name.startswith("port/")] == ["port/TCP/8080"]


def test_what_waits_for_something_else_than_room_is_left_out_and_said(tmp_path: Path) -> None:
    gated = k8s_pod("gated", schedulingGates=[{"name": "example.com/quota"}])
    leaving = k8s_pod("leaving")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-31T12:03:00Z"
    ending = k8s_pod("ending", "a")
    ending["metadata"]["deletionTimestamp"] = "2026-01-31T12:03:00Z"
    claims = k8s_pod("claims", "a", resourceClaims=[{"name": "gpu"}])
    cluster = cluster_of(tmp_path, k8s_node("a"), gated, leaving, ending, claims)
    assert [pod.name for pod in cluster.pods] == ["team/ending", "team/claims"], "who runs holds its room until it ends"
    assert cluster.ended == 2
    text = "\n".join(cluster.notes)
    assert "1 pod waits behind scheduling gates" in text and "claims of devices (DRA)" in text


def test_what_is_not_kept_to_is_said(tmp_path: Path) -> None:
    spec: Item = {"affinity": {"podAntiAffinity": {}}, "topologySpreadConstraints": [{"maxSkew": 1}]}
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    cluster = cluster_of(tmp_path, k8s_node("a"), k8s_pod("p", "a", volumes=volumes, **spec), k8s_pod("q", "elsewhere"))
    text = "\n".join(cluster.notes)
    assert "affinity to other pods" in text
    assert "spread constraints" in text
    assert "volume claims" in text
    assert "elsewhere" in text
    assert len(cluster.pods) == 1


def test_the_lists_of_the_api_name_the_kind_once(tmp_path: Path) -> None:
    node, pod = k8s_node("a"), k8s_pod("p")
    del node["kind"], pod["kind"]
    nodes = written(tmp_path / "n", {"kind": "NodeList", "items": [node]})
    pods = written(tmp_path / "p", {"kind": "PodList", "items": [pod]})
    cluster = read(nodes, pods)
    assert (cluster.nodes[0].name, cluster.pods[0].node) == ("a", WAITING)


def broken(change: str) -> list[Item]:
    node, pod = k8s_node("a", gpus=1), k8s_pod("p", "a", gpus=1)
    container = pod["spec"]["containers"][0]
    if change == "quantity":
        container["resources"]["requests"]["cpu"] = "1 core"
    elif change == "huge":
        node["status"]["allocatable"]["memory"] = "9" * 29
    elif change == "array":
        pod["spec"]["containers"] = {"main": container}
    elif change == "two GPUs":
        container["resources"]["requests"]["amd.com/gpu"] = "1"
    elif change == "operator":
        pod["spec"] |= required({"key": "a", "operator": "Matches", "values": ["b"]})
        del pod["spec"]["nodeName"]
    elif change == "bound":
        pod["spec"] |= required({"key": "a", "operator": "Gt", "values": ["b"]})
    elif change == "no status":
        del node["status"]
    elif change == "many GPUs":
        node["status"]["allocatable"][GPU] = "100000000"
    elif change == "twice":
        return [node, node, pod]
    elif change == "name":
        pod["metadata"] = {"name": 5}
    return [node, pod]


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ("quantity", "$.items[1].spec.containers[0].resources.requests.cpu", "'1 core' is no quantity"),
        ("huge", "$.items[0].status.allocatable.memory", "more than can be packed"),
        ("array", "$.items[1].spec.containers", "is an object, expected an array"),
        ("two GPUs", "$.items[1]", "asks for nvidia.com/gpu and for amd.com/gpu"),
        ("operator", "nodeSelectorTerms[1].matchExpressions[0]", "operator 'Matches'"),
        ("bound", "nodeSelectorTerms[1].matchExpressions[0]", "expected one whole number"),
        ("no status", "$.items[0]", "neither status.allocatable nor status.capacity"),
        ("many GPUs", "$.items[0]", "more than 64 GPUs"),
        ("twice", "$.items[1]", "two nodes called 'a'"),
        ("name", "$.items[1].metadata.name", "is a number, expected a string"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, change: str, place: str, words: str) -> None:
    with pytest.raises(PackError) as error:
        cluster_of(tmp_path, *broken(change))
    assert "cluster.json" in str(error.value)
    assert place in str(error.value)
    assert words in str(error.value)
