"""A trace's nodes and pods as what the scheduler works on: a view of an empty cluster, and wishes.

Owns: that translation. Leaves to others: reading (``trace``), placing (``scheduling``). The rule: a trace names a model
exactly, while a job may write a part of its name, so names are enclosed here: A10 is not a part of A100.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.contract.model import Device, DeviceRequest, NodeSpec, Resources
from orchestrator.ops.trace import TraceNode, TracePod
from orchestrator.scheduling.wish import Wish
from orchestrator.state import views
from orchestrator.state.apply import apply
from orchestrator.state.commands import Applied, Entry, RegisterNode
from orchestrator.state.state import new_state
from orchestrator.state.typical import Shape
from orchestrator.state.views import ClusterView


def view_of(nodes: Sequence[TraceNode]) -> ClusterView:
    """The nodes registered in this order with an empty cluster. Raises ``ValueError`` for a node that it refuses."""
    state = new_state()
    for at, node in enumerate(nodes):
        devices = tuple(Device(id=f"{at}-{number}", model=whole_model(node.model)) for number in range(node.gpus))
        capacity = Resources(cpu_millis=node.cpu_millis, memory_mib=node.memory_mib)
        spec = NodeSpec(id=f"trace-{at}", name=f"trace-{at}", capacity=capacity, devices=devices)
        entry = Entry(
            identity="trace", request_id="", digest=b"", time_ms=1, command=RegisterNode(node=spec, identity="trace")
        )
        outcome = apply(state, entry)
        if not isinstance(outcome, Applied):
            raise ValueError(f"node {node.name}: {outcome.message}")
    return views.cluster_view(state)


def wish_of_pod(pod: TracePod, policy: str) -> Wish:
    request = (pod.cpu_millis, pod.memory_mib, 0)
    return Wish(request=request, gpus=gpus_of_pod(pod), ports=(), drivers=(), constraints=(), policy=policy)


def gpus_of_pod(pod: TracePod) -> DeviceRequest | None:
    if not pod.gpus:
        return None
    models = tuple(whole_model(model) for model in pod.models)
    return DeviceRequest(count=pod.gpus, gpu_millis=pod.gpu_millis, models=models)


def shapes_of(pods: Iterable[TracePod]) -> tuple[tuple[Shape, int], ...]:
    """How many pods have each shape, in no particular order."""
    counts: dict[Shape, int] = {}
    for pod in pods:
        shape = shape_of_pod(pod)
        counts[shape] = counts.get(shape, 0) + 1
    return tuple(counts.items())


def shape_of_pod(pod: TracePod) -> Shape:
    if not pod.gpus:
        return Shape(pod.cpu_millis, 0, 0, 0, ())
    return Shape(pod.cpu_millis, pod.gpus, pod.gpu_millis, 0, tuple(whole_model(model) for model in pod.models))


def whole_model(model: str) -> str:
    return f"<{model}>"
