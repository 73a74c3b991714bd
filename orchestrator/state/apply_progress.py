"""How far the starts of allocations have come, as their agents tell now and then: a reason for a while, and an event.

The rule: a text for people and no observation; it moves nothing, and what does not wait to start any more ignores it.
"""

from __future__ import annotations

import numpy as np

from orchestrator.contract.model import AllocState
from orchestrator.state.apply_rows import MAX_REASON, describe, set_reason
from orchestrator.state.check import range_problem
from orchestrator.state.commands import Outcome, RecordProgress
from orchestrator.state.model import MAX_COMMAND_ROWS
from orchestrator.state.state import State


def record(state: State, command: RecordProgress) -> Outcome:
    problem = range_problem("number of texts", len(command.progress), 0, MAX_COMMAND_ROWS)
    if problem:
        return state.reject("INVALID", problem)
    if command.node_id not in state.nodes:
        return state.reject("NOT_FOUND", f"there is no node {command.node_id[:128]!r}: register first")
    table = state.table
    changed = False
    for one in command.progress:
        job = state.jobs.get(one.job_uid)
        gid = state.ordinals.gids.get((job.slot, one.group)) if job is not None else None
        if gid is None or (row := state.ordinals.find(gid, one.ordinal)) < 0:
            continue
        if int(table.attempt[row]) != one.attempt or int(table.state[row]) > int(AllocState.STARTING):
            continue
        if state.node_at[int(table.node[row])].spec.id != command.node_id:
            continue
        text = one.text[:MAX_REASON]
        if table.reasons.get(row, "") == text:
            continue
        set_reason(state, row, text)
        state.stamp(np.array([row], dtype=np.int32))
        namespace, name, allocation, node_id = describe(state, row)
        state.events.emit(
            "alloc.progress",
            namespace=namespace,
            job=name,
            allocation=allocation,
            node_id=node_id,
            message=text,
            attempt=one.attempt,
        )
        changed = True
    return state.changed(changed)
