"""What apply rechecks of required affinity and required spreading: what other placements may have changed meanwhile.

Owns: counting who is where, for the groups of one plan that ask, and the two judgements. Leaves to others: which row is
judged when, and refusing (``apply_plan``); choosing (``scheduling.preferences``, which means the same). The rule: rows
are judged in the order of the plan, each with those before it that went in.

Spreading is judged only where the plan may be stale: something of the group changed after the index that the plan was
made from, or a row of it was refused. Which values may still take an instance the planner knows better (nodes kept for
a gang are no part of the state), and a refusal that the next round repeats would keep the group waiting for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orchestrator.contract.constraints import attribute_of
from orchestrator.contract.model import Affinity, GroupSpec, JobSpec, Spread
from orchestrator.state.allocations import LAST_LIVE
from orchestrator.state.matching import may_take
from orchestrator.state.model import Job, Node
from orchestrator.state.state import State

_Key = tuple[str, str, str]
"""Namespace, job, group; group "" is all of the job's."""


def asks_for_neighbours(job: JobSpec, group: GroupSpec) -> bool:
    """Whether where others are decides where its instances may be at all."""
    return any(one.required and one.constraint is None for one in (*job.affinity, *group.affinity)) or any(
        one.required for one in (*job.spread, *group.spread)
    )


class Near:
    """Who is where while the rows of one plan go in, which was made from the state at ``based_on``."""

    def __init__(self, state: State, based_on: int) -> None:
        self._state = state
        self._based_on = based_on
        self._counts: dict[_Key, dict[int, int]] = {}  # by slot of the node
        self._added: dict[_Key, dict[int, int]] = {}
        self._stale: dict[tuple[int, str], bool] = {}
        self._by_value: dict[str, dict[str, list[Node]]] = {}

    def add(self, job: Job, group: GroupSpec, slot: int) -> None:
        """A row went in."""
        for name in (group.name, ""):
            key = job.spec.namespace, job.spec.name, name
            for counts in (self._added.setdefault(key, {}), self._counts.get(key)):
                if counts is not None:
                    counts[slot] = counts.get(slot, 0) + 1

    def refused(self, job: Job, group: GroupSpec) -> None:
        """A row of the group did not go in."""
        self._stale[job.slot, group.name] = True

    def refusal(self, job: Job, group: GroupSpec, node: Node) -> str:
        """Why one more instance may not be there, or ""."""
        spec = job.spec
        for one in spec.affinity + group.affinity:
            if one.required and one.constraint is None and not self._permitted(spec, group, one, node):
                return self._words(group, one, node)
        for spread in spec.spread + group.spread:
            if spread.required and self._is_stale(job, group, node):
                after = self._skew_after(spec, group, spread, node)
                if after is None or after > spread.max_skew:
                    said = "has no value of it" if after is None else f"would make the skew {after}"
                    return (
                        f"it is spread over {spread.attribute} with max_skew {spread.max_skew}, and one more on node "
                        f"{node.spec.id} {said} by now"
                    )
        return ""

    # ------------------------------------------------------------------------ affinity

    def _permitted(self, spec: JobSpec, group: GroupSpec, one: Affinity, node: Node) -> bool:
        counts = self._of(spec.namespace, one.job or spec.name, _whom(group, one))
        value = attribute_of(node.spec, one.topology)
        near = value is not None and any(
            attribute_of(self._state.node_at[slot].spec, one.topology) == value for slot in counts
        )
        if one.weight < 0:
            return not near
        own = one.job in ("", spec.name) and one.group in ("", group.name)
        if own and not counts:
            return value is not None  # somebody has to begin
        return near

    def _words(self, group: GroupSpec, one: Affinity, node: Node) -> str:
        whom = "/".join(part for part in (one.job, one.group or ("" if one.job else group.name)) if part)
        if one.weight < 0:
            return f"it must not share {one.topology} with {whom}, which is on that of node {node.spec.id} by now"
        return f"it must share {one.topology} with {whom}, which is not on that of node {node.spec.id} by now"

    # ------------------------------------------------------------------------ spreading

    def _is_stale(self, job: Job, group: GroupSpec, node: Node) -> bool:
        key = job.slot, group.name
        known = self._stale.get(key)
        if known is None:
            rows = self._state.rows_that_count([self._state.ordinals.gids[key]])
            known = bool((self._state.table.modify_index[rows] > self._based_on).any())
            self._stale[key] = known
        return known or node.modify_index > self._based_on

    def _skew_after(self, spec: JobSpec, group: GroupSpec, spread: Spread, node: Node) -> int | None:
        """None: the node has no value."""
        value = attribute_of(node.spec, spread.attribute)
        if value is None:
            return None
        sums: dict[str, int] = {}
        for slot, count in self._of(spec.namespace, spec.name, group.name).items():
            there = attribute_of(self._state.node_at[slot].spec, spread.attribute)
            if there is not None:
                sums[there] = sums.get(there, 0) + count
        nodes = self._nodes(spread.attribute)
        least = 0
        for other in sorted(nodes, key=lambda one: (sums.get(one, 0), one)):
            if _any_may_take(nodes[other], spec, group):
                least = sums.get(other, 0)
                break
        return sums.get(value, 0) + 1 - least

    def _nodes(self, attribute: str) -> dict[str, list[Node]]:
        known = self._by_value.get(attribute)
        if known is None:
            known = self._by_value[attribute] = {}
            for node in self._state.nodes.values():
                value = attribute_of(node.spec, attribute)
                if value is not None:
                    known.setdefault(value, []).append(node)
        return known

    def _of(self, namespace: str, name: str, group: str) -> dict[int, int]:
        """Live instances by the slot of the node that they are on; only nodes that have any."""
        key = namespace, name, group
        known = self._counts.get(key)
        if known is None:
            known = self._counts[key] = self._count(key)
            for slot, count in self._added.get(key, {}).items():
                known[slot] = known.get(slot, 0) + count
        return known

    def _count(self, key: _Key) -> dict[int, int]:
        state = self._state
        namespace, name, group = key
        job = state.find_job(namespace, name)
        if job is None:
            return {}
        gids = state.ordinals.by_job.get(job.slot, ())
        rows = state.rows_that_count([gid for gid in gids if group in ("", state.ordinals.names[gid][1])])
        rows = rows[state.table.state[rows] <= LAST_LIVE]
        slots, counts = np.unique(state.table.node[rows], return_counts=True)
        return dict(zip(slots.tolist(), counts.tolist(), strict=True))


def _whom(group: GroupSpec, one: Affinity) -> str:
    return one.group if one.job or one.group else group.name


def _any_may_take(nodes: Iterable[Node], spec: JobSpec, group: GroupSpec) -> bool:
    return any(may_take(node, spec, group) for node in nodes)
