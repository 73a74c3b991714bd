"""Small clusters in the formats that ``raftsman pack`` reads: what the tools print, cut down to what matters.

Written by hand after the tools' documented output; no real cluster's file is among them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GPU = "nvidia.com/gpu"
Item = dict[str, Any]


def written(path: Path, *values: object) -> Path:
    """The values as JSON, one after the other."""
    path.write_text("\n".join(json.dumps(value, indent=1) for value in values), encoding="utf-8")
    return path


# ---------------------------------------------------------------------------- kubectl


def k8s_node(name: str, cpu: str = "8", memory: str = "32Gi", gpus: int = 0, **more: Any) -> Item:
    """``more``: labels, taints, unschedulable, ready, allocatable."""
    allocatable = {"cpu": cpu, "memory": memory, "pods": "110", "ephemeral-storage": "100Gi"}
    labels = {"kubernetes.io/hostname": name, **more.get("labels", {})}
    if gpus:
        allocatable[GPU] = str(gpus)
        labels |= {"nvidia.com/gpu.product": more.get("model", "NVIDIA-A10"), "nvidia.com/gpu.memory": "23028"}
    allocatable |= more.get("allocatable", {})
    spec: Item = {}
    if more.get("unschedulable"):
        spec |= {"unschedulable": True, "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}
    if "taints" in more:
        spec["taints"] = more["taints"]
    conditions = [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": more.get("ready", "True")}]
    status = {"allocatable": allocatable, "capacity": {**allocatable, "cpu": "64"}, "conditions": conditions}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": status,
    }


def k8s_pod(name: str, node: str = "", cpu: str = "1", memory: str = "1Gi", gpus: int = 0, **more: Any) -> Item:
    """``more``: phase, owner, requests (further ones), and fields of the spec under their own names."""
    requests = {"cpu": cpu, "memory": memory, **more.pop("requests", {})}
    container: Item = {"name": "main", "image": "app:1", "resources": {"requests": requests}}
    if gpus:
        container["resources"]["limits"] = {GPU: str(gpus)}
        requests[GPU] = str(gpus)
    phase = more.pop("phase", "Running" if node else "Pending")
    metadata: Item = {"name": name, "namespace": "team"}
    owner = more.pop("owner", "")
    if owner:
        metadata["ownerReferences"] = [{"kind": owner, "name": "owner", "controller": True}]
    spec = {"containers": [container], **more}
    if node:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": phase}}


def k8s_list(*items: Item) -> Item:
    return {"apiVersion": "v1", "kind": "List", "items": list(items), "metadata": {"resourceVersion": ""}}


def k8s_cluster() -> Item:
    """Four nodes with two GPUs each: two half used, one nearly empty, one cordoned; a pod with two GPUs waits, and one
    for which there never is room."""
    return k8s_list(
        *(k8s_node(f"gpu-{number}", gpus=2) for number in range(3)),
        k8s_node("gpu-old", gpus=2, unschedulable=True),
        k8s_pod("train-a", "gpu-0", cpu="3", gpus=1),
        k8s_pod("train-b", "gpu-1", cpu="3", gpus=1),
        k8s_pod("web", "gpu-2", cpu="500m", memory="512Mi"),
        k8s_pod("legacy", "gpu-old", gpus=1),
        *(
            k8s_pod(f"log-{number}", f"gpu-{number}", cpu="100m", memory="64Mi", owner="DaemonSet")
            for number in range(3)
        ),
        k8s_pod("done", "gpu-2", phase="Succeeded", gpus=2),
        k8s_pod("train-big", gpus=2),
        k8s_pod("train-huge", gpus=8),
        k8s_pod("dpu", cpu="1", requests={"example.com/dpu": "1"}),
    )


# ---------------------------------------------------------------------------- Nomad


def nomad_node(name: str, cpu: int = 8000, memory: int = 16_384, gpus: int = 0, **more: Any) -> Item:
    """As in ``/v1/nodes?resources=true``; keys of ``more`` take the place of the stub's."""
    instances = [{"ID": f"GPU-{name}-{at}", "Healthy": True, "HealthDescription": ""} for at in range(gpus)]
    memory_attribute = {"Int": 24_576, "Unit": "MiB"}
    devices = [
        {
            "Vendor": "nvidia", "Type": "gpu", "Name": "NVIDIA A10", "Instances": instances,
            "Attributes": {"memory": memory_attribute},
        }
    ]  # fmt: skip
    return {
        "ID": f"id-{name}", "Name": name, "Datacenter": "dc1", "NodePool": "default", "Status": "ready",
        "SchedulingEligibility": "eligible", "Drain": False,
        "NodeResources": {
            "Cpu": {"CpuShares": cpu, "TotalCpuCores": 4}, "Memory": {"MemoryMB": memory}, "Disk": {"DiskMB": 50_000},
            "Devices": devices if gpus else None,
        },
        "ReservedResources": {"Cpu": {"CpuShares": 500}, "Memory": {"MemoryMB": 384}, "Disk": {"DiskMB": 0}},
        **more,
    }  # fmt: skip


def nomad_allocation(
    job: str, node: str, cpu: int = 500, memory: int = 256, gpus: tuple[int, ...] = (), **more: Any
) -> Item:
    """One task in group ``g``; ``gpus``: which of the node's."""
    ids = [f"GPU-{node}-{at}" for at in gpus]
    devices = [{"Vendor": "nvidia", "Type": "gpu", "Name": "NVIDIA A10", "DeviceIDs": ids}] if ids else None
    task = {"Cpu": {"CpuShares": cpu}, "Memory": {"MemoryMB": memory, "MemoryMaxMB": 0}, "Devices": devices}
    return {
        "ID": f"alloc-{job}-{node}", "Name": f"{job}.g[0]", "Namespace": "default", "NodeID": f"id-{node}",
        "JobID": job, "JobType": "service", "TaskGroup": "g", "DesiredStatus": "run", "ClientStatus": "running",
        "AllocatedResources": {"Tasks": {"t": task}, "TaskLifecycles": {"t": None}, "Shared": {"DiskMB": 300}},
        **more,
    }  # fmt: skip


def nomad_job(name: str, count: int, cpu: int = 500, memory: int = 256, gpus: int = 0, **more: Any) -> Item:
    """As ``nomad job inspect`` prints it."""
    devices = [{"Name": "nvidia/gpu", "Count": gpus}] if gpus else None
    task = {"Name": "t", "Resources": {"CPU": cpu, "MemoryMB": memory, "Devices": devices}}
    group = {"Name": "g", "Count": count, "Tasks": [task], "EphemeralDisk": {"SizeMB": 300}}
    job = {
        "ID": name, "Name": name, "Namespace": "default", "Type": "service", "Priority": 50, "Status": "running",
        "Datacenters": ["*"], "NodePool": "default", "TaskGroups": [group], "Periodic": None, **more,
    }  # fmt: skip
    return {"Job": job}
