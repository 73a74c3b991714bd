"""Who has to leave a node because of a NoExecute taint, and when the next one has to.

Owns: the deadlines: from the taint's time on (cluster time) each allocation stays as long as the tolerations of its own
version allow. Leaves to others: matching (``contract.taints``), stopping (``rounds``). The rule: all of a node leave
when their time has come, also of a system job and several of one group together: the taint says that the node is no
place to be.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.contract.model import Desired, TaintEffect
from orchestrator.contract.taints import describe, leaving
from orchestrator.reconcile.table import Scene
from orchestrator.state.distinct import distinct


def evictions(scene: Scene, now_ms: int) -> tuple[Mapping[int, str], int | None]:
    """Positions of live rows that have to stop now, each with the reason, and the next deadline (unix ms, or None)."""
    columns = scene.view.allocations
    there = scene.view.nodes_by_slot
    # Most rounds look at few rows or none, and most nodes have no taint: they cost next to nothing here.
    slots = distinct(columns.node) if len(columns) < len(there) else there
    nodes = {
        slot: there[slot]
        for slot in slots
        if slot in there
        and there[slot].taints
        and any(one.taint.effect is TaintEffect.NO_EXECUTE for one in there[slot].taints)
    }
    if not nodes:
        return {}, None
    here = scene.live & (columns.desired == Desired.RUN) & np.isin(columns.node, np.array(sorted(nodes)))
    found: dict[int, str] = {}
    wake_at_ms: int | None = None
    for position in np.flatnonzero(here).tolist():
        job = scene.view.jobs_by_slot.get(int(columns.job[position]))
        if job is None:
            continue
        spec = next((spec for version, spec in job.specs if version == int(columns.version[position])), job.spec)
        place = int(columns.group[position])
        own = spec.groups[place].tolerations if place < len(spec.groups) else ()
        verdict = leaving(nodes[int(columns.node[position])].taints, spec.tolerations + own)
        if verdict is None:
            continue
        due_ms, taint = verdict
        if due_ms <= now_ms:
            found[position] = f"its node has the taint {describe(taint)}"
        elif wake_at_ms is None or due_ms < wake_at_ms:
            wake_at_ms = due_ms
    return found, wake_at_ms
