"""The trace format (``trace``) as a cluster to pack.

Owns: that translation. Leaves to others: reading the CSV (``trace``). The rule: every row counts, whatever a column
``pod_phase`` says: a trace is a load, and its phases are those of the day on which it was written.

The published traces do not say where pods ran. A file that does has a column ``node`` with the node's ``sn``, empty
for a pod that waits.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orchestrator.contract.model import Device, Resources
from orchestrator.ops.pack_cluster import AMOUNT_MAX, WAITING, PackCluster, PackError, PackNode, PackPod
from orchestrator.ops.trace import TraceError, TracePod, read_nodes, read_pods
from orchestrator.ops.trace_cluster import gpus_of_pod, whole_model


def read(nodes_path: Path, pods_path: Path) -> PackCluster:
    """Raises ``PackError``."""
    try:
        rows, pods = read_nodes(nodes_path), read_pods(pods_path)
    except TraceError as error:
        raise PackError(f"{error}{_mixed_up(str(error))}") from None
    except OSError as error:
        raise PackError(f"{error.filename}: {error.strerror or error}") from None
    for node in rows:
        _check(nodes_path, node.name, max(node.cpu_millis, node.memory_mib))
    for pod in pods:
        _check(pods_path, pod.name, max(pod.cpu_millis, pod.memory_mib))
    number_of: dict[str, int] = {}
    nodes: list[PackNode] = []
    for row in rows:
        if row.name in number_of:
            raise PackError(f"{nodes_path}: two nodes are called {row.name!r}")
        number_of[row.name] = len(nodes)
        devices = tuple(Device(id=str(at), model=whole_model(row.model)) for at in range(row.gpus))
        capacity = Resources(cpu_millis=row.cpu_millis, memory_mib=row.memory_mib)
        nodes.append(PackNode(name=row.name, capacity=capacity, devices=devices))
    placed = any(pod.node is not None for pod in pods)
    made = tuple(_pod(pod, number_of, pods_path) for pod in pods)
    notes = ("the trace does not say where pods run (no column 'node'): there is no 'now', and all are placed anew",)
    cluster = PackCluster(format="trace", nodes=tuple(nodes), pods=made, placed=placed)
    return cluster if placed else replace(cluster, notes=notes)


def _check(path: Path, name: str, most: int) -> None:
    if most > AMOUNT_MAX:
        raise PackError(f"{path}, {name}: cpu_milli or memory_mib is more than {AMOUNT_MAX}, the most that is packed")


def _pod(pod: TracePod, number_of: dict[str, int], path: Path) -> PackPod:
    request = Resources(cpu_millis=pod.cpu_millis, memory_mib=pod.memory_mib, gpus=gpus_of_pod(pod))
    node = WAITING
    if pod.node:
        if pod.node not in number_of:
            raise PackError(f"{path}, pod {pod.name}, column node: there is no node {pod.node[:80]!r}")
        node = number_of[pod.node]
    return PackPod(name=pod.name, request=request, node=node)


def _mixed_up(error: str) -> str:
    if "it has: sn" in error or ("has no column sn" in error and "num_gpu" in error):
        return " (are --nodes and --pods mixed up?)"
    return ""
