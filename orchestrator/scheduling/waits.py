"""Who waits for room, who goes for it, and how that is said.

Owns: these records and words. Leaves to others: finding the room (``preempt``, ``preempt_gangs``). The rule: what a
victim is told names whom it makes room for, and the next round reads that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.state.disruption import PREEMPTED
from orchestrator.state.model import Job
from orchestrator.state.views import ClusterView


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """``position`` in the view's allocations; ``by``: whose room it becomes; ``reason``: what the victim is told."""

    position: int
    by: Job
    reason: str


@dataclass(slots=True, kw_only=True)
class Wait:
    """Instances of one group that wait for room: by node name, how many and how many allocations have to stop there
    first; ``evicted``: names of those that are evicted for it now; ``unmet``: instances for which there is nothing to
    wait for; ``budgets``: what stood in the way of evicting more."""

    nodes: dict[str, int] = field(default_factory=dict)
    evicted: list[str] = field(default_factory=list)
    budgets: dict[str, str] = field(default_factory=dict)
    unmet: int = 0


def title(view: ClusterView, position: int) -> str:
    """``web/api/0``."""
    columns = view.allocations
    job = view.jobs_by_slot[int(columns.job[position])]
    version, place = int(columns.version[position]), int(columns.group[position])
    spec = next((spec for number, spec in job.specs if number == version), job.spec)
    return f"{job.spec.name}/{spec.groups[min(place, len(spec.groups) - 1)].name}/{columns.ordinal[position]}"


NAMES_MAX = 3


def remarks_on_waits(wait: Wait | None) -> list[str]:
    """What instances wait for, for reading: the most important first."""
    if wait is None:
        return []
    told = [
        f"waiting for {count} {'allocation' if count == 1 else 'allocations'} to stop on {node}"
        for node, count in sorted(wait.nodes.items())
        if count  # else a member of a gang has room there, and the others have none yet
    ]
    texts = ["; ".join(told[:NAMES_MAX]) + (f" and on {len(told) - NAMES_MAX} more nodes" * (len(told) > NAMES_MAX))]
    texts = texts if told else []
    if wait.evicted:
        more = len(wait.evicted) - NAMES_MAX
        names = ", ".join(wait.evicted[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
        texts.append(f"preempting {names}")
    if wait.unmet:
        held = [f"{name} ({said})" for name, said in sorted(wait.budgets.items())]
        if held:
            texts.append(f"disruption budgets forbid to preempt {', '.join(held[:NAMES_MAX])}")
    return texts


def copy(wait: Wait) -> Wait:
    return Wait(nodes=dict(wait.nodes), evicted=list(wait.evicted), budgets=dict(wait.budgets), unmet=wait.unmet)


def group_in(reason: str) -> str:
    """The preemptor's group (and its namespace) in a reason: instances of one group may use each other's room."""
    name, _, _ = reason.removeprefix(PREEMPTED).partition(" (priority")
    first, space, rest = name.partition(" ")
    return first.rpartition("/")[0] + space + rest
