"""The smallest change that would place one more instance of a wish: found by trying, node by node.

Owns: how each refusal is lifted, choosing. Leaves to others: what refuses (``explain.first_refusal``, and ``filters``
for the last word), words and costs (``remedy_steps``), gangs (``remedy_gangs``). The rule: a remedy is told only if the
changed wish passes every check on the (perhaps changed) node.

A new check becomes remediable by one entry in ``_LIFTERS``, keyed by the first word of the ``constraint`` of its
refusals; until then a node that fails it is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from orchestrator.contract.answers import RemedyStep
from orchestrator.contract.constraints import describe
from orchestrator.contract.model import DeviceRequest, NodeStatus, Toleration
from orchestrator.contract.taints import repelling
from orchestrator.scheduling import remedy_steps as steps
from orchestrator.scheduling.explain import Refusal, first_refusal
from orchestrator.scheduling.filters import has_room, suitable
from orchestrator.scheduling.preferences import describe_affinity, describe_spread
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.remedy_steps import Remedy
from orchestrator.scheduling.wanted import Preferences
from orchestrator.scheduling.wish import DIMENSIONS, Wish


@dataclass(slots=True, kw_only=True)
class _Trial:
    """One node, and the wish as it has been changed for it so far. ``least``: as of ``steps.least``."""

    problem: Problem
    node: int
    wish: Wish
    least: tuple[int, int, int]
    steps: list[RemedyStep]
    cost: float = 0.0
    uncordoned: list[int] = field(default_factory=list)  # devices, by number

    @property
    def name(self) -> str:
        return self.problem.nodes[self.node].spec.name

    def add(self, made: tuple[float, RemedyStep]) -> None:
        self.cost += made[0]
        self.steps.append(made[1])


def smallest_change(
    problem: Problem, wish: Wish, only: Sequence[int] | None = None, *, tasks: int = 1
) -> Remedy | None:
    """What is cheapest over all nodes, on what is free in ``problem`` now (which is left as it is); None: no node can
    be made to fit. ``only``: of a system job, the numbers of the nodes that lack it; ``tasks``: of the wish's group."""
    best: Remedy | None = None
    least = steps.least(tasks)
    nodes = range(len(problem)) if only is None else only
    closed = [node for node in nodes if not problem.open[node]]
    for node in nodes:
        if problem.open[node]:
            best = _better(_Trial(problem=problem, node=node, wish=wish, least=least, steps=[]), best)
    # Which nodes are open decides over what is spread, so where that matters each is opened by itself.
    apart = wish.preferences is not None and wish.preferences.binding
    for some in [[node] for node in closed] if apart else [closed]:
        opening = {node: steps.opened(problem, node) for node in some}
        if best is not None and all(cost >= best.cost for cost, _ in opening.values()):
            continue
        with _opened(problem, some):
            for node in some:
                trial = _Trial(problem=problem, node=node, wish=wish, least=least, steps=[])
                trial.add(opening[node])
                best = _better(trial, best)
    return best


def _better(trial: _Trial, best: Remedy | None) -> Remedy | None:
    """The trial's remedy if it has one that costs less, else ``best``."""
    found = _lift_all(trial, limit=best.cost if best is not None else float("inf"))
    trial.problem.devices.closed[trial.node, trial.uncordoned] = True
    return Remedy(steps=tuple(trial.steps), node=trial.name, cost=trial.cost) if found else best


@contextmanager
def _opened(problem: Problem, nodes: Sequence[int]) -> Iterator[None]:
    """Meanwhile these nodes are ready and open."""
    records, is_open = problem.nodes, problem.open
    changed, problem.open = list(records), is_open.copy()
    for node in nodes:
        changed[node] = replace(records[node], status=NodeStatus.READY, cordoned=False, draining=False)
        problem.open[node] = True
    problem.nodes = tuple(changed)
    problem.presence.forget_verdicts()
    try:
        yield
    finally:
        problem.nodes, problem.open = records, is_open
        problem.presence.forget_verdicts()


def _lift_all(trial: _Trial, *, limit: float) -> bool:
    """Change the wish until nothing on the node refuses it; False: it cannot be, or not for less than ``limit``."""
    while (refusal := first_refusal(trial.problem, trial.wish, trial.node)) is not None:
        lifter = _LIFTERS.get(refusal.constraint.partition(" ")[0])  # what a resource is called follows a space
        before = len(trial.steps)
        if lifter is None or before >= steps.STEPS_MAX or not lifter(trial, refusal) or len(trial.steps) == before:
            return False
    if trial.cost >= limit or not trial.steps:
        return False
    node = np.array([trial.node], dtype=np.int64)
    return bool(suitable(trial.problem, trial.wish)[trial.node] and has_room(trial.problem, trial.wish, node)[0])


# ---------------------------------------------------------------------------- one refusal each


def _lift_amount(trial: _Trial, refusal: Refusal) -> bool:
    dimension = DIMENSIONS.index(refusal.constraint)
    wanted, free = trial.wish.request[dimension], int(trial.problem.free[trial.node, dimension])
    if free < trial.least[dimension] or wanted <= free:
        return False
    request = list(trial.wish.request)
    request[dimension] = free
    trial.wish = trial.wish._replace(request=(request[0], request[1], request[2]))
    trial.add(steps.less(dimension, wanted, free))
    return True


def _lift_label(trial: _Trial, refusal: Refusal) -> bool:
    left = tuple(one for one in trial.wish.constraints if describe(one) != refusal.key)
    if len(left) == len(trial.wish.constraints):
        return False
    trial.wish = trial.wish._replace(constraints=left)
    trial.add(steps.without_constraint(refusal.key))
    return True


def _lift_driver(trial: _Trial, refusal: Refusal) -> bool:
    missing = sorted(set(trial.wish.drivers) - trial.problem.drivers[trial.node])
    left = tuple(driver for driver in trial.wish.drivers if driver not in missing)
    if not missing:
        return False
    # A node with the driver and a wish without it pass the same checks.
    trial.wish = trial.wish._replace(drivers=left)
    trial.add(steps.with_driver(trial.name, missing))
    return True


def _lift_port(trial: _Trial, refusal: Refusal) -> bool:
    ports = trial.wish.ports
    if refusal.key == "range":
        if 0 not in ports:
            return False
        at = len(ports) - 1 - ports[::-1].index(0)
        trial.wish = trial.wish._replace(ports=ports[:at] + ports[at + 1 :])
        trial.add(steps.one_port_less())
        return True
    taken = set(trial.problem.ports.taken(trial.node, ports))
    if not taken:
        return False
    trial.wish = trial.wish._replace(ports=tuple(0 if port in taken else port for port in ports))
    for port in sorted(taken):
        trial.add(steps.any_port(port))
    return True


def _lift_gpus(trial: _Trial, refusal: Refusal) -> bool:
    request = trial.wish.gpus
    if request is None:
        return False
    uncordoned = _uncordon(trial, request)
    for changed in _smaller(trial, request):
        cost, made = steps.other_gpus(request, changed)
        if uncordoned and cost >= len(uncordoned) * steps.COST_CLOSED:
            break
        if _gpus_do(trial, changed):
            trial.wish = trial.wish._replace(gpus=changed)
            trial.cost += cost
            trial.steps += made
            return True
    _close(trial, uncordoned, False)
    trial.uncordoned += uncordoned
    for number in uncordoned:
        trial.add(steps.uncordoned(trial.name, trial.problem.nodes[trial.node].spec.devices[number].id))
    return bool(uncordoned)


def _gpus_do(trial: _Trial, request: DeviceRequest | None) -> bool:
    nodes = np.array([trial.node], dtype=np.int64)
    return request is None or bool(trial.problem.devices.enough(request, nodes)[0])


def _smaller(trial: _Trial, request: DeviceRequest) -> list[DeviceRequest | None]:
    """Smaller wishes for devices, the least change first."""
    devices, node = trial.problem.devices, trial.node
    found: list[DeviceRequest | None] = [*steps.smaller_requests(request), None]
    for changed in (request, *found[:-1]):
        if changed is None or changed.count > 1:
            continue  # a share is of one device
        there = devices.matching(changed)[node] & ~devices.closed[node]
        share = int(devices.free[node][there].max(initial=0))
        if 0 < share < request.gpu_millis:
            found.append(replace(changed, gpu_millis=share))
    return sorted(found, key=lambda changed: steps.other_gpus(request, changed)[0])


def _uncordon(trial: _Trial, request: DeviceRequest) -> list[int]:
    """The numbers of the fewest devices that would do if they were no longer cordoned; [] = they would not."""
    devices, record = trial.problem.devices, trial.problem.nodes[trial.node]
    sick = dict(record.spec.sick_devices)
    matching = np.flatnonzero(devices.matching(request)[trial.node] & devices.closed[trial.node]).tolist()
    free = devices.free[trial.node]
    order = sorted(
        (number for number in matching if record.spec.devices[number].id not in sick),
        key=lambda number: (-int(free[number]), number),
    )[: steps.STEPS_MAX]
    opened: list[int] = []
    for number in order:
        opened.append(number)
        _close(trial, opened, False)
        enough = _gpus_do(trial, request)
        _close(trial, opened, True)
        if enough:
            return _needed(trial, request, opened)
    return []


def _needed(trial: _Trial, request: DeviceRequest, opened: list[int]) -> list[int]:
    for number in reversed(opened[:-1]):
        fewer = [other for other in opened if other != number]
        _close(trial, fewer, False)
        if _gpus_do(trial, request):
            opened = fewer
        _close(trial, [number, *fewer], True)
    return opened


def _close(trial: _Trial, numbers: list[int], closed: bool) -> None:
    trial.problem.devices.closed[trial.node, numbers] = closed


def _lift_taint(trial: _Trial, refusal: Refusal) -> bool:
    taint = repelling(trial.problem.nodes[trial.node].taints, trial.wish.tolerations)
    if taint is None:
        return False
    toleration = Toleration(key=taint.key, value=taint.value, effect=taint.effect)
    trial.wish = trial.wish._replace(tolerations=(*trial.wish.tolerations, toleration))
    trial.add(steps.tolerating(refusal.key))
    return True


def _lift_affinity(trial: _Trial, refusal: Refusal) -> bool:
    wanted = trial.wish.preferences
    if wanted is None:
        return False
    affinity = tuple(
        replace(one, required=False) if describe_affinity(one) == refusal.key else one for one in wanted.affinity
    )
    return _prefer(trial, replace(wanted, affinity=affinity), "affinity", refusal.key)


def _lift_spread(trial: _Trial, refusal: Refusal) -> bool:
    wanted = trial.wish.preferences
    if wanted is None:
        return False
    spread = tuple(
        replace(one, required=False) if refusal.key.startswith(describe_spread(one)) else one for one in wanted.spread
    )
    return _prefer(trial, replace(wanted, spread=spread), "spread", refusal.key.removesuffix(": missing"))


def _prefer(trial: _Trial, changed: Preferences, kind: Literal["affinity", "spread"], what: str) -> bool:
    """Make a preference of what was a condition; what is kept of other conditions decides whether that helps."""
    if changed == trial.wish.preferences:
        return False
    trial.wish = trial.wish._replace(preferences=changed)
    trial.add(steps.preferring(kind, what))
    return True


def _lift_resource(trial: _Trial, refusal: Refusal) -> bool:
    name = refusal.constraint.partition(" ")[2]
    wanted, free = dict(trial.wish.custom).get(name, 0), trial.problem.custom.free_of(trial.node, name)
    if wanted <= max(free, 0):
        return False
    left = max(free, 0)
    custom = tuple((one, left if one == name else amount) for one, amount in trial.wish.custom if one != name or left)
    trial.wish = trial.wish._replace(custom=custom)
    trial.add(steps.less_custom(name, wanted, left))
    return True


_Lifter = Callable[[_Trial, Refusal], bool]
_LIFTERS: dict[str, _Lifter] = {
    **dict.fromkeys(DIMENSIONS, _lift_amount),
    "label": _lift_label,
    "driver": _lift_driver,
    "gpus": _lift_gpus,
    "port": _lift_port,
    "taint": _lift_taint,
    "affinity": _lift_affinity,
    "spread": _lift_spread,
    "resource": _lift_resource,
}
"""By the refusal's ``constraint``: changes the trial's wish, notes the step, and says whether it could."""
