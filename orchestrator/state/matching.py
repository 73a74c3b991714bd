"""Whether a node may take a group at all: its state, drivers, constraints and taints. Room is another matter.

Owns: this one judgement, so that ``reconcile`` (system jobs: which nodes should run one) and ``scheduling`` (where
anything fits) cannot differ; ``scheduling.filters`` asks the same parts of it for many nodes at once, and a test holds
the two together. ``lacks`` also asks whether there would be room if nobody else were there: what it refuses, no
placement finds.
"""

from __future__ import annotations

from orchestrator.contract.constraints import matches
from orchestrator.contract.devices import circle_of, mismatch
from orchestrator.contract.model import DeviceRequest, GroupSpec, JobSpec, Link, NodeStatus
from orchestrator.contract.taints import repelling
from orchestrator.state.model import Node


def is_open(node: Node) -> bool:
    """Ready, and neither cordoned nor draining."""
    return node.status is NodeStatus.READY and not (node.cordoned or node.draining)


def suits(node: Node, job: JobSpec, group: GroupSpec) -> bool:
    """Whether its drivers and labels are what the group asks for, whatever state it is in."""
    drivers = {task.driver_name for task in group.tasks}
    return drivers <= set(node.spec.drivers) and matches(node.spec, job.constraints + group.constraints)


def may_take(node: Node, job: JobSpec, group: GroupSpec) -> bool:
    """Whether a new instance of the group may go there, if there is room."""
    return (
        is_open(node)
        and (not node.taints or repelling(node.taints, job.tolerations + group.tolerations) is None)
        and suits(node, job, group)
    )


def lacks(node: Node, job: JobSpec, group: GroupSpec) -> str:
    """What keeps the node from taking an instance even if nothing else ran there, in a few words, or ""."""
    if not is_open(node):
        return "not open for work"
    if not suits(node, job, group):
        return "other drivers or labels"
    if not may_take(node, job, group):
        return "taints"
    asked, there = group.resources, node.spec.capacity
    for amount, has, what in (
        (asked.cpu_millis, there.cpu_millis, "too little cpu"),
        (asked.memory_mib, there.memory_mib, "too little memory"),
        (asked.disk_mib, there.disk_mib, "too little disk"),
    ):
        if amount > has:
            return what
    custom = dict(there.custom)
    short = next((name for name, amount in asked.custom if amount > custom.get(name, 0)), "")
    if short:
        return f"too little {short}"
    if asked.gpus is not None and asked.gpus.count > 0:
        return _lacks_devices(node, asked.gpus)
    return ""


def _lacks_devices(node: Node, request: DeviceRequest) -> str:
    fit = [device for device in node.spec.devices if not mismatch(device, request)]
    if len(fit) < request.count:
        return "too few GPUs that match"
    closed = set(node.closed_devices)
    usable = [device for device in fit if device.id not in closed]
    if request.count > 1 and request.link is not Link.ANY:
        circles = [circle for device in usable if (circle := circle_of(device, request.link)) is not None]
        most = max(map(circles.count, circles), default=0)
        return "" if most >= request.count else "too few linked GPUs that are neither cordoned nor sick"
    return "" if len(usable) >= request.count else "too few GPUs that are neither cordoned nor sick"
