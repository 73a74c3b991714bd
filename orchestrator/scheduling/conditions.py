"""Refusals that are about taints, custom resources, affinity and spreading: their words, for ``explain``.

Owns: what is said of them and the change that would help. Leaves to others: the judgement itself (``filters``,
``preferences``). The rule: each names what was wanted and what there is instead.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.contract.taints import describe, repelling
from orchestrator.scheduling.filters import suitable
from orchestrator.scheduling.preferences import DISTINCT_HOSTS, disallowed
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import Wish


class Condition(NamedTuple):
    """``kind`` and ``key`` group equal ones; ``short``: what is missing as a share of what was asked."""

    kind: str
    key: str
    text: str
    short: float = 0.0


def untolerated(problem: Problem, wish: Wish, node: int) -> Condition | None:
    taint = repelling(problem.nodes[node].taints, wish.tolerations)
    if taint is None:
        return None
    said = describe(taint)
    return Condition("taint", said, f"taint {said} not tolerated")


def custom_shortages(problem: Problem, wish: Wish, node: int) -> list[Condition]:
    found = []
    for name, wanted in wish.custom:
        free = problem.custom.free_of(node, name)
        if free >= wanted:
            continue
        capacity = problem.custom.capacity_of(node, name)
        if not capacity:
            found.append(Condition(f"resource {name}", "absent", "the node has none", 1.0 + wanted))
        else:
            found.append(
                Condition(f"resource {name}", "", f"short by {wanted - free}", (wanted - free) / max(wanted, 1))
            )
    return found


def changing_condition(problem: Problem, wish: Wish, node: int) -> Condition | None:
    """An affinity or a spread that rules a node out which would do otherwise."""
    if wish.preferences is None or not wish.preferences.changing:
        return None
    known = problem.presence.verdicts(wish)
    if known is None:
        known = disallowed(problem, wish, suitable(problem, wish))
        problem.presence.remember(wish, known)
    return Condition(*known[node]) if node in known else None


def hint_for_taint(problem: Problem, wish: Wish, node: int) -> str:
    taint = repelling(problem.nodes[node].taints, wish.tolerations)
    name = problem.nodes[node].spec.name
    said = describe(taint) if taint is not None else ""
    declared = any(one.taint == taint and one.declared for one in problem.nodes[node].taints)
    away = (
        "start its agent without --taint" if declared else f"raftsman node taint {name} {taint.key if taint else ''}-"
    )
    return f"tolerate it (tolerations: ['{said}']), or {away}"


def hint_for_room(problem: Problem, wish: Wish, node: int, condition: Condition) -> tuple[str, str]:
    """What to ask for instead, and what would have to be freed on the node ("": freeing does not help)."""
    name = condition.kind.removeprefix("resource ")
    wanted = dict(wish.custom)[name]
    free, capacity = problem.custom.free_of(node, name), problem.custom.capacity_of(node, name)
    return f"{wanted - max(free, 0)} less {name}", f"{wanted - free} of {name}" if wanted <= capacity else ""


def hint_for_condition(condition: Condition) -> str:
    if condition.kind == "spread":
        if condition.text.endswith("missing") or ": it has no " in condition.text:
            return "tell more agents where they are (--zone, --rack, --label), or spread over something else"
        return "add room where there are fewer instances, raise max_skew, or write when_unsatisfiable: place-anyway"
    way = ", or without distinct_hosts" if DISTINCT_HOSTS in condition.text else ""
    return f"add a node, or make the affinity a preference (required: false{way})"
