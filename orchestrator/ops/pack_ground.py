"""A packed cluster as the scheduler's own values: nodes, jobs of equal pods, the typical classes of its pods.

Owns: that translation, done once for all placements. Leaves to others: placing (``pack``). The rule: pods that nothing
tells apart are one job, so that many equal ones cost the scheduler as little as they do in a live cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.contract.model import (
    WHOLE_DEVICE,
    Constraint,
    ConstraintOperator,
    GroupSpec,
    JobSpec,
    NodeId,
    NodeSpec,
    NodeStatus,
    Resources,
    TaskSpec,
)
from orchestrator.ops.pack_cluster import PackCluster, PackPod
from orchestrator.reconcile.work import Ask
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.scoring import SCALE
from orchestrator.scheduling.typical import TypicalClass, typical_classes
from orchestrator.scheduling.wish import Wish, wish_of
from orchestrator.state import views
from orchestrator.state.model import Job, Node
from orchestrator.state.state import new_state
from orchestrator.state.typical import shape_of

_DRIVER = "process"
_NONE = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Alike:
    """Pods that differ in nothing that matters: their numbers in the cluster, in its order."""

    pods: tuple[int, ...]
    group: GroupSpec
    priority: int

    def job(self, placement: str, number: int) -> JobSpec:
        return JobSpec(name=f"pods-{number}", groups=(self.group,), priority=self.priority, placement=placement)


class Ground:
    """The nodes in the cluster's order, and how its pods ask. ``classes``: typical of all pods but those that belong to
    their node, without the prior of an unknown cluster, as placements know them; ``classes_by_model``: to measure by.
    """

    def __init__(self, cluster: PackCluster) -> None:
        self.cluster = cluster
        self._label_of: dict[frozenset[int], str] = {}
        for pod in cluster.pods:
            if pod.nodes is not None:
                self._label_of.setdefault(pod.nodes, f"pack-{len(self._label_of)}")
        nodes = self._nodes()
        self.view = replace(
            views.cluster_view(new_state()),
            nodes={NodeId(node.spec.id): node for node in nodes},
            nodes_by_slot={node.slot: node for node in nodes},
        )
        cpu = sum(node.capacity.cpu_millis for node in cluster.nodes) or 1
        memory = sum(node.capacity.memory_mib for node in cluster.nodes) or 1
        self._totals = cpu, memory, cluster.gpus * WHOLE_DEVICE or 1
        # Few different ones, made once: a cluster has many more pods than kinds of pods.
        made: dict[tuple[Resources, frozenset[int] | None], GroupSpec] = {}
        keys = [(pod.request, pod.nodes) for pod in cluster.pods]
        for key, pod in zip(keys, cluster.pods, strict=True):
            if key not in made:
                made[key] = self._group(pod)
        self._group_of = [made[key] for key in keys]
        self._wishes: dict[int, Wish] = {}
        shapes = [
            (shape_of(group), 1) for group, pod in zip(self._group_of, cluster.pods, strict=True) if not pod.daemon
        ]
        self.classes: tuple[TypicalClass, ...] = typical_classes(shapes, prior=False)
        self.classes_by_model: tuple[TypicalClass, ...] = typical_classes(shapes, prior=False, by_model=True)

    def problem(self) -> Problem:
        """All nodes empty."""
        return Problem(self.view)

    def alike(self, numbers: Sequence[int]) -> list[Alike]:
        """The pods with these numbers in classes, in the order in which they are to be placed: by priority, then those
        with GPUs, which have fewer places to go (on the openb trace those without would take the cpu beside free GPUs),
        then big first, by the shares of the whole cluster's cpu, memory and GPUs added up, as ``solve`` sizes them for
        policies with ``big_first``; equal ones as they came."""
        found: dict[tuple[int, int], list[int]] = {}
        pods = self.cluster.pods
        for number in numbers:
            found.setdefault((id(self._group_of[number]), pods[number].priority), []).append(number)
        classes = [
            Alike(tuple(members), self._group_of[members[0]], priority) for (_, priority), members in found.items()
        ]
        return sorted(classes, key=self._order)

    def wish(self, number: int) -> Wish:
        """What a pod holds; the placement plays no part."""
        group = self._group_of[number]
        found = self._wishes.get(id(group))
        if found is None:
            found = self._wishes[id(group)] = wish_of(
                Alike((), group, 0).job("", 0), group, policy=lambda name, devices: name
            )
        return found

    def _order(self, one: Alike) -> tuple[int, bool, int]:
        asked = one.group.resources
        return -one.priority, asked.gpus is None, -self._size(asked)

    def _size(self, asked: Resources) -> int:
        cpu, memory, devices = self._totals
        size = asked.cpu_millis * SCALE // cpu + asked.memory_mib * SCALE // memory
        return size + (asked.gpus.count * asked.gpus.gpu_millis * SCALE // devices if asked.gpus is not None else 0)

    def _group(self, pod: PackPod) -> GroupSpec:
        where: tuple[Constraint, ...] = ()
        if pod.nodes is not None:
            where = (Constraint(attribute=self._label_of[pod.nodes], operator=ConstraintOperator.EXISTS),)
        task = TaskSpec(name="pod", driver=_DRIVER, command=("pod",), resources=pod.request)
        return GroupSpec(name="pods", tasks=(task,), constraints=where)

    def _nodes(self) -> list[Node]:
        labels: list[list[tuple[str, str]]] = [[] for _ in self.cluster.nodes]
        for numbers, label in self._label_of.items():
            for number in numbers:
                labels[number].append((label, "yes"))
        made = []
        for slot, node in enumerate(self.cluster.nodes):
            spec = NodeSpec(
                id=f"node-{slot}",
                name=node.name,
                drivers=(_DRIVER,),
                labels=tuple(sorted(labels[slot])),
                capacity=node.capacity,
                devices=node.devices,
            )
            made.append(
                Node(
                    slot=slot, spec=spec, status=NodeStatus.READY, cordoned=not node.open, identity="pack",
                    register_index=0, modify_index=0, status_time_ms=0, ceiling=node.capacity,
                )
            )  # fmt: skip
        return made


def asks_of(classes: Sequence[Alike], placement: str) -> list[Ask]:
    """One ask per class, as ``reconcile`` hands them on for a job that was just submitted."""
    asks = []
    for number, one in enumerate(classes):
        spec = one.job(placement, number)
        job = Job(
            slot=number, uid=f"pods-{number}", spec=spec, version=1, group_versions=(1,), specs=((1, spec),),
            submit_index=number, create_index=number, modify_index=number, create_time_ms=0, modify_time_ms=0,
        )  # fmt: skip
        ordinals = np.arange(len(one.pods), dtype=np.int32)
        asks.append(Ask(job=job, group=0, ordinals=ordinals, attempts=np.ones_like(ordinals), peers=_NONE))
    return asks
