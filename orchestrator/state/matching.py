"""Whether a node may take a group at all: its state, drivers, constraints and taints. Room is another matter.

Owns: this one judgement, so that ``reconcile`` (system jobs: which nodes should run one) and ``scheduling`` (where
anything fits) cannot differ; ``scheduling.filters`` asks the same parts of it for many nodes at once, and a test holds
the two together.
"""

from __future__ import annotations

from orchestrator.contract.constraints import matches
from orchestrator.contract.model import GroupSpec, JobSpec, NodeStatus
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
