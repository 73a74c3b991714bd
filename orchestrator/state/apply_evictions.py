"""Evictions of a plan: what must still hold when they are applied.

The rule: a plan is older than the state, so each victim is judged again, one by one and in the plan's order: its
priority is still lower than that of the job which gets the room, that job still wants any, and the victim's disruption
budget still allows it after the evictions before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.contract.model import Desired
from orchestrator.contract.priorities import describe as described
from orchestrator.state.apply_rows import describe, emit, set_reason
from orchestrator.state.commands import ApplyPlan
from orchestrator.state.disruption import refusal_of
from orchestrator.state.state import State


def evict(state: State, command: ApplyPlan, evicted: Sequence[tuple[int, int]]) -> list[str]:
    """``evicted``: (live row, place in the plan's actions); returns a reason for each that was stale."""
    stale = []
    for row, place in evicted:
        problem = _problem(state, command, row, place)
        if problem:
            stale.append(f"{describe(state, row)[2]} {problem}")
            continue
        rows = np.array([row], dtype=np.int32)
        reason = command.reasons[int(command.actions.reason[place])]
        state.table.desired[row] = int(Desired.STOP)
        state.stamp(rows)
        set_reason(state, row, reason)
        state.tell(rows)
        emit(state, "alloc.preempted", rows, reason)
    return stale


def _problem(state: State, command: ApplyPlan, row: int, place: int) -> str:
    by_column = command.actions.by
    by = -1 if by_column is None else int(by_column[place])
    job = state.jobs.get(command.jobs[by]) if by >= 0 else None
    victim = state.job_at[int(state.table.job[row])].spec
    if not state.settings.preemption:
        return "cannot be preempted: the cluster's preemption is off"
    if job is None or job.stopped:
        return "need not make room: the job that was to get it is stopped or gone"
    if state.table.desired[row] == int(Desired.STOP):
        return "was already told to stop"
    if victim.unpreemptible:
        return f"cannot be preempted: {victim.name} is not preemptible"
    if victim.priority >= job.spec.priority:
        return (
            f"cannot be preempted: its priority {described(victim.priority)} is not below "
            f"{described(job.spec.priority)} of {job.spec.name}"
        )
    held = refusal_of(state, row)
    return f"cannot be preempted: {held}" if held else ""
