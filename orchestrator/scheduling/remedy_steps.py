"""One step of a remedy in words and amounts, and what it costs: the same for one instance and for a gang.

Owns: the texts, the fields of a step, the costs. Leaves to others: which steps help (``remedy``, ``remedy_gangs``). The
rule: costs are against 1 for a condition given up, and for an amount the share by which it shrinks: opening a node that
somebody closed is cheaper than giving up a condition, bringing a machine back is dearer than both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

from orchestrator.contract.answers import RemedyStep
from orchestrator.contract.model import DeviceRequest, Link, NodeStatus
from orchestrator.scheduling.explain import amount, less_of
from orchestrator.scheduling.preferences import DISTINCT_HOSTS
from orchestrator.scheduling.problem import Problem

UNITS = ("cpu_millis", "memory_mib", "disk_mib")
STEPS_MAX = 12
"""What needs more is not a small change."""
COST_CONDITION, COST_CLOSED, COST_DRIVER, COST_LOST, COST_NO_GPU = 1.0, 0.75, 2.0, 2.5, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """``node``: the name of the node on which it would then fit; of a gang, of all of its nodes."""

    steps: tuple[RemedyStep, ...]
    node: str
    cost: float


def least(tasks: int) -> tuple[int, int, int]:
    """The smallest request that a group of so many tasks can make: each asks for some cpu and some memory."""
    return tasks, tasks, 0


def less(dimension: int, wanted: int, left: int) -> tuple[float, RemedyStep]:
    text = f"ask for {less_of(dimension, wanted - left)} ({amount(dimension, left)})"
    return (wanted - left) / wanted, RemedyStep(
        kind="request", what=UNITS[dimension], before=str(wanted), after=str(left), text=text
    )


def less_custom(name: str, wanted: int, left: int) -> tuple[float, RemedyStep]:
    text = f"ask for {wanted - left} less {name} ({left})"
    step = RemedyStep(kind="resource", what=name, before=str(wanted), after=str(left), text=text)
    return (wanted - left) / wanted, step


def without_constraint(key: str) -> tuple[float, RemedyStep]:
    text = f"leave out the constraint {key}"
    return COST_CONDITION, RemedyStep(kind="constraint", what=key, before=key, text=text)


def tolerating(key: str) -> tuple[float, RemedyStep]:
    return COST_CONDITION, RemedyStep(kind="toleration", what=key, after=key, text=f"tolerate the taint {key}")


def preferring(kind: Literal["affinity", "spread"], what: str) -> tuple[float, RemedyStep]:
    """What was a condition, as a preference."""
    way = "required: false" if kind == "affinity" else "when_unsatisfiable: place-anyway"
    if what == DISTINCT_HOSTS:
        way = "required: false, or without distinct_hosts"
    text = f"make `{what}` a preference ({way})"
    return COST_CONDITION, RemedyStep(kind=kind, what=what, before=what, text=text)


def any_port(port: int) -> tuple[float, RemedyStep]:
    text = f"let any host port do instead of {port}"
    return COST_CONDITION, RemedyStep(kind="port", what=str(port), before=str(port), after="0", text=text)


def one_port_less() -> tuple[float, RemedyStep]:
    return COST_CONDITION, RemedyStep(kind="port", what="any", before="0", text="ask for one port less")


OF_GPUS: dict[str, tuple[Any, str]] = {
    "models": ((), "let any model of GPU do"),
    "memory_mib": (0, "let GPUs with less memory do"),
    "compute_capability": ("", "let any compute capability do"),
    "driver_version": ("", "let any driver version of the GPUs do"),
    "mig": ("", "take whole GPUs instead of MIG slices"),
    "link": (Link.ANY, "let the GPUs be linked in any way"),
}
"""Conditions on GPUs: what a request says that has none, and the words for giving it up."""
CONDITIONS_MAX = 2
"""So many of them are given up at most: more cost as much as doing without GPUs."""


def smaller_requests(request: DeviceRequest) -> list[DeviceRequest]:
    """Fewer devices, conditions given up, or both; the least change first. Smaller shares are not among them, for how
    small they must be depends on what is free."""
    given = [name for name, (nothing, _) in OF_GPUS.items() if getattr(request, name) != nothing]
    found = []
    for many in range(min(CONDITIONS_MAX, len(given)) + 1):
        for some in combinations(given, many):
            for count in range(1, request.count + 1):
                if count == 1 and "link" in some:
                    continue  # one alone is linked as anybody asks
                changed = replace(request, count=count, **{name: OF_GPUS[name][0] for name in some})
                if changed != request:
                    found.append(changed)
    return sorted(found, key=lambda changed: other_gpus(request, changed)[0])


def other_gpus(request: DeviceRequest, changed: DeviceRequest | None) -> tuple[float, tuple[RemedyStep, ...]]:
    """None: without GPUs. A step for each thing in which they differ, and the cost of all."""
    if changed is None:
        step = RemedyStep(kind="gpus", what="count", before=str(request.count), after="0", text="ask for no GPU")
        return COST_NO_GPU, (step,)
    cost, made = 0.0, []
    if changed.count < request.count:
        cost += (request.count - changed.count) / request.count
        text = f"ask for {changed.count} GPU{'s' if changed.count > 1 else ''} instead of {request.count}"
        made.append(_gpu_step("count", request.count, changed.count, text))
    if changed.gpu_millis < request.gpu_millis:
        cost += (request.gpu_millis - changed.gpu_millis) / request.gpu_millis
        text = f"ask for {changed.gpu_millis / 1000:g} of each GPU instead of {request.gpu_millis / 1000:g}"
        made.append(_gpu_step("gpu_millis", request.gpu_millis, changed.gpu_millis, text))
    for name, (_, text) in OF_GPUS.items():
        before, after = getattr(request, name), getattr(changed, name)
        if before != after:
            cost += COST_CONDITION
            if isinstance(before, Link):
                before, after = before.name.lower(), after.name.lower()
            made.append(_gpu_step(name, before, after, text))
    return cost, tuple(made)


def _gpu_step(what: str, before: object, after: object, text: str) -> RemedyStep:
    return RemedyStep(kind="gpus", what=what, before=str(before), after=str(after), text=text)


def uncordoned(node_name: str, device_id: str) -> tuple[float, RemedyStep]:
    text = f"`raftsman node device uncordon {node_name} {device_id}`"
    return COST_CLOSED, RemedyStep(kind="device", what=device_id, text=text)


def with_driver(node_name: str, missing: list[str]) -> tuple[float, RemedyStep]:
    names = ", ".join(missing)
    text = f"give the agent of {node_name} driver {names}"
    return COST_DRIVER * len(missing), RemedyStep(kind="driver", what=names, after=names, text=text)


def opened(problem: Problem, node: int) -> tuple[float, RemedyStep]:
    """Of a node that is lost, draining or cordoned."""
    record = problem.nodes[node]
    name = record.spec.name
    if record.status is not NodeStatus.READY:
        return COST_LOST, RemedyStep(kind="node", what="back", text=f"bring node {name} back")
    return COST_CLOSED, RemedyStep(kind="node", what="uncordon", text=f"`raftsman node uncordon {name}`")
