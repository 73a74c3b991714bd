"""Why a wish has no node: the first thing that rules each node out, the nearest miss, and what would change it.

Owns: the words and the amounts. Leaves to others: what fits (the checks here are those of ``filters``, one node at a
time, and a test holds the two together), whether there is anything to explain (``plan.explain``). The rule: every
refusal names the thing that was wanted and what there is instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.contract.answers import Rejection
from orchestrator.contract.constraints import attribute_of, describe, satisfied
from orchestrator.contract.model import DeviceRequest, NodeStatus
from orchestrator.scheduling import explain_devices
from orchestrator.scheduling.conditions import (
    Condition,
    changing_condition,
    custom_shortages,
    hint_for_condition,
    hint_for_room,
    hint_for_taint,
    untolerated,
)
from orchestrator.scheduling.explain_devices import device_shortage
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import CPU, DIMENSIONS, DISK, Wish
from orchestrator.state.model import Node

MIB_PER_GIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why one node is out. ``constraint`` and ``key`` group equal refusals; ``short`` orders the nearest misses: what
    is missing as a share of what was asked, 0 where it is not about amounts; ``text`` is about this node alone."""

    node: int
    constraint: str
    key: str
    text: str
    short: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    """``fits``: on how many nodes the wish fits as it is."""

    fits: int
    rejections: tuple[Rejection, ...]
    summary: str
    nearest: str
    hint: str


def explain_wish(problem: Problem, wish: Wish, only: Sequence[int] | None = None) -> Reasons:
    """Against what is free in ``problem`` now. ``only``: of a system job, the numbers of the nodes that lack it."""
    refusals: list[Refusal] = []
    fits = 0
    nodes = range(len(problem)) if only is None else only
    for node in nodes:
        refusal = first_refusal(problem, wish, node)
        if refusal is None:
            fits += 1
        else:
            refusals.append(refusal)
    rejections = tuple(_histogram(problem, refusals))
    nearest, near_node = _nearest(problem, wish, nodes)
    what = "nodes" if only is None else "nodes that lack it"
    return Reasons(
        fits=fits,
        rejections=rejections,
        summary=_summary(len(nodes), what, rejections) if len(problem) else "there are no nodes",
        nearest=nearest,
        hint=_hint(problem, wish, refusals, near_node),
    )


def held_text(problem: Problem, wish: Wish, node: int) -> str:
    """Which waiting gang a node is kept for, if that keeps the wish out; "" = none."""
    number = int(problem.held_for[node])
    return "" if number < 0 or wish.everywhere else f"kept for gang {problem.waiting[number]}"


def first_refusal(problem: Problem, wish: Wish, node: int) -> Refusal | None:
    """The first check that fails on a node, in the order of ``filters``; None: it fits."""
    return _unsuitable(problem, wish, node) or next(iter(_shortages(problem, wish, node)), None)


# ---------------------------------------------------------------------------- checks


def _unsuitable(problem: Problem, wish: Wish, node: int) -> Refusal | None:
    record = problem.nodes[node]
    closed = _closed(record)
    if closed:
        return Refusal(node=node, constraint=closed, key="", text=closed)
    held = held_text(problem, wish, node)
    if held:
        return Refusal(node=node, constraint="gang", key=held, text=held)
    missing = sorted(set(wish.drivers) - problem.drivers[node])
    if missing:
        name = ", ".join(missing)
        return Refusal(node=node, constraint="driver", key=name, text=f"driver {name} missing")
    tainted = untolerated(problem, wish, node) if record.taints else None
    if tainted is not None:
        return Refusal(node=node, constraint=tainted.kind, key=tainted.key, text=tainted.text)
    for constraint in wish.constraints:
        value = attribute_of(record.spec, constraint.attribute)
        if not satisfied(constraint, value):
            said = describe(constraint)
            there = "missing" if value is None else f"it is {value}"
            return Refusal(node=node, constraint="label", key=said, text=f"{said}: {there}")
    return None


def _closed(node: Node) -> str:
    if node.status is not NodeStatus.READY:
        return "lost"
    if node.draining:
        return "draining"
    return "cordoned" if node.cordoned else ""


def _shortages(problem: Problem, wish: Wish, node: int) -> list[Refusal]:
    """Everything that a suitable node is short of."""
    found: list[Refusal] = []
    for dimension, wanted in enumerate(wish.request):
        free = int(problem.free[node, dimension])
        if free < wanted:
            name = DIMENSIONS[dimension]
            found.append(
                Refusal(
                    node=node,
                    constraint=name,
                    key="",
                    text=f"short by {amount(dimension, wanted - free)}",
                    short=(wanted - free) / max(wanted, 1),
                )
            )
    if wish.gpus is not None:
        found.extend(_device_shortage(problem, wish.gpus, node))
    for one in custom_shortages(problem, wish, node):
        found.append(Refusal(node=node, constraint=one.kind, key=one.key, text=one.text, short=one.short))
    if wish.ports:
        found.extend(_port_shortage(problem, wish.ports, node))
    kept_off = changing_condition(problem, wish, node) if not found else None
    if kept_off is not None:
        found.append(Refusal(node=node, constraint=kept_off.kind, key=kept_off.key, text=kept_off.text))
    return found


def _device_shortage(problem: Problem, request: DeviceRequest, node: int) -> list[Refusal]:
    found = device_shortage(problem, request, node)
    if found is None:
        return []
    return [Refusal(node=node, constraint="gpus", key=found.key, text=found.text, short=found.missing)]


def _port_shortage(problem: Problem, wanted: tuple[int, ...], node: int) -> list[Refusal]:
    taken = problem.ports.taken(node, wanted)
    if taken:
        name = ", ".join(str(port) for port in taken)
        return [Refusal(node=node, constraint="port", key=name, text=f"{name} is taken", short=1.0)]
    missing = problem.ports.missing(node, wanted)
    if missing:
        text = f"{missing} more needed than are left of the node's range"
        return [Refusal(node=node, constraint="port", key="range", text=text, short=missing / wanted.count(0))]
    return []


# ---------------------------------------------------------------------------- words


def amount(dimension: int, value: int) -> str:
    """An amount as users write it: ``500m`` or ``2`` of cpu, ``512 MiB`` or ``2.1 GiB`` of the rest."""
    if dimension == CPU:
        return f"{value}m" if value % 1000 else f"{value // 1000} cpu"
    return f"{value} MiB" if value < MIB_PER_GIB else f"{value / MIB_PER_GIB:.1f} GiB"


def less_of(dimension: int, value: int) -> str:
    """``500m less cpu``, ``2 cpu less``, ``512 MiB less memory``."""
    return _said_of(dimension, value, " less")


def _amount_of(dimension: int, value: int) -> str:
    """``500m of cpu``, ``2 cpu``, ``512 MiB of memory``."""
    return _said_of(dimension, value, "", " of")


def _said_of(dimension: int, value: int, *words: str) -> str:
    said, name = amount(dimension, value), DIMENSIONS[dimension]
    return f"{said}{words[0]}" if said.endswith(f" {name}") else f"{said}{''.join(words)} {name}"


def _histogram(problem: Problem, refusals: Sequence[Refusal]) -> list[Rejection]:
    """One per (constraint, key), the most frequent first; amounts are those of the node that comes closest."""
    groups: dict[tuple[str, str], list[Refusal]] = {}
    for refusal in refusals:
        groups.setdefault((refusal.constraint, refusal.key), []).append(refusal)
    rejections = []
    for (constraint, key), members in groups.items():
        best = min(members, key=lambda refusal: (refusal.short, refusal.node))
        where = problem.nodes[best.node].spec.name
        if constraint in ("lost", "draining", "cordoned"):
            text = constraint
        elif constraint == "gang":
            text = key
        elif constraint == "label":
            missing = all(member.text.endswith(": missing") for member in members)
            text = f"label {key}: " + ("missing" if missing else "not so")
        elif constraint == "taint":
            text = best.text
        elif constraint in ("affinity", "spread"):
            text = best.key
        elif key == "absent":
            text = f"{constraint}: {best.text}"
        elif constraint == "driver" or (best.constraint == "port" and key != "range"):
            text = f"port {best.text}" if constraint == "port" else best.text
        else:
            text = f"{constraint}: {best.text} at best ({where})"
        rejections.append(Rejection(constraint=constraint, text=text, nodes=len(members)))
    rejections.sort(key=lambda rejection: (-rejection.nodes, rejection.constraint, rejection.text))
    return rejections


def _summary(nodes: int, what: str, rejections: Sequence[Rejection]) -> str:
    parts = [f"{rejection.nodes} of {nodes} {what}: {rejection.text}" for rejection in rejections[:1]]
    parts.extend(f"{rejection.nodes}: {rejection.text}" for rejection in rejections[1:])
    return "; ".join(parts)


def _nearest(problem: Problem, wish: Wish, nodes: Sequence[int]) -> tuple[str, int]:
    """The suitable node that lacks least, in words, and its number (-1: none is suitable)."""
    best: tuple[float, int] | None = None
    listed: list[Refusal] = []
    for node in nodes:
        if _unsuitable(problem, wish, node) is not None:
            continue
        shortages = _shortages(problem, wish, node)
        lack = (sum(refusal.short for refusal in shortages), node)
        if shortages and (best is None or lack < best):
            best, listed = lack, shortages
    if best is None:
        return "", -1
    parts = ", ".join(f"{refusal.constraint} {refusal.text}" for refusal in listed)
    return f"{problem.nodes[best[1]].spec.name}: {parts}", best[1]


def _hint(problem: Problem, wish: Wish, refusals: Sequence[Refusal], nearest: int) -> str:
    """The smallest change that would place one instance."""
    if not len(problem):
        return "start an agent: `raftsman agent`"
    if nearest >= 0:
        kept_off = changing_condition(problem, wish, nearest)
        if kept_off is not None and _shortages(problem, wish, nearest)[0].constraint == kept_off.kind:
            return hint_for_condition(kept_off)
        return _hint_for_room(problem, wish, nearest)
    reopenable = [
        refusal
        for refusal in refusals
        if refusal.constraint in ("cordoned", "draining")
        and untolerated(problem, wish, refusal.node) is None
        and not _would_lack(problem, wish, refusal.node)
    ]
    if reopenable:
        return f"raftsman node uncordon {problem.nodes[reopenable[0].node].spec.name}"
    tainted = [
        refusal
        for refusal in refusals
        if refusal.constraint == "taint" and not _would_lack(problem, wish, refusal.node)
    ]
    if tainted:
        return hint_for_taint(problem, wish, tainted[0].node)
    for constraint, words in (
        ("label", "give a node what it asks for ({}), or change the constraint"),
        ("driver", "start an agent with driver {}, or name another driver"),
        ("taint", "tolerate the taint {}, or add a node with enough room"),
    ):
        found = next((refusal for refusal in refusals if refusal.constraint == constraint), None)
        if found is not None:
            return words.format(found.key)
    held = next((refusal for refusal in refusals if refusal.constraint == "gang"), None)
    if held is not None:
        return f"wait for {held.key.removeprefix('kept for ')}, raise the job's priority above its, or add a node"
    lost = next((refusal for refusal in refusals if refusal.constraint == "lost"), None)
    if lost is not None:
        return f"bring node {problem.nodes[lost.node].spec.name} back, or add a node"
    return "add a node with enough room"


def _would_lack(problem: Problem, wish: Wish, node: int) -> bool:
    """Whether a closed node would refuse it also when opened."""
    labels = all(
        satisfied(constraint, attribute_of(problem.nodes[node].spec, constraint.attribute))
        for constraint in wish.constraints
    )
    drivers = set(wish.drivers) <= problem.drivers[node]
    return not (labels and drivers) or bool(_shortages(problem, wish, node))


_DEVICE_HINTS = {
    explain_devices.KIND: ("other GPUs", ""),
    explain_devices.CORDONED: ("fewer GPUs", "(`raftsman node device uncordon`) a GPU"),
    explain_devices.FREE: ("fewer or smaller GPUs", "a GPU"),
    explain_devices.LINK: ("another link", "GPUs that are linked so"),
}


def _hint_for_room(problem: Problem, wish: Wish, node: int) -> str:
    name = problem.nodes[node].spec.name
    asks: list[str] = []
    frees: list[str] = []
    all_of_it = False
    for dimension, wanted in enumerate(wish.request):
        free = int(problem.free[node, dimension])
        if free < wanted:
            asks.append(less_of(dimension, wanted - max(free, 0)))
            all_of_it |= free <= 0 and dimension != DISK  # a task without any cpu or memory there is none
            if wanted <= int(problem.capacity[node, dimension]):
                frees.append(_amount_of(dimension, wanted - free))
            else:
                frees.append("")
    for shortage in _shortages(problem, wish, node):
        if shortage.constraint == "gpus":
            wish_for, free_up = _DEVICE_HINTS[shortage.key]
            asks.append(wish_for)
            frees.append(free_up)
        if shortage.constraint.startswith("resource "):
            ask, free_there = hint_for_room(
                problem, wish, node, Condition(shortage.constraint, shortage.key, shortage.text)
            )
            asks.append(ask)
            frees.append(free_there)
        if shortage.constraint == "port":
            asks.append("another host port" if shortage.key != "range" else "fewer ports")
            frees.append(f"port {shortage.key}" if shortage.key != "range" else "ports")
    ways = [] if all_of_it else [f"ask for {' and '.join(asks)}"]
    if all(frees):
        ways.append(f"free {' and '.join(frees)} on {name}")
    last = "add a node" if all(frees) else "add a larger node"
    return f"{', '.join(ways)}, or {last}" if ways else last
