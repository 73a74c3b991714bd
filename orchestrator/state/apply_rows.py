"""What several commands do to rows: name them, end them, and tell what happened.

The rule: whoever makes a row terminal goes through here, so that resources, agents, events and jobs that wait for their
last allocation always hear of it.
"""

from __future__ import annotations

from orchestrator.contract.model import AllocState
from orchestrator.state.distinct import distinct
from orchestrator.state.events import OBSERVED
from orchestrator.state.state import Rows, State

MAX_REASON = 500


def describe(state: State, row: int) -> tuple[str, str, str, str]:
    """(namespace, job, ``web/api/0``, node id) of a row."""
    table = state.table
    spec = state.job_at[int(table.job[row])].spec
    group = state.ordinals.names[int(table.gid[row])][1]
    node = state.node_at[int(table.node[row])].spec.id
    return spec.namespace, spec.name, f"{spec.name}/{group}/{table.ordinal[row]}", node


def set_reason(state: State, row: int, reason: str) -> None:
    if reason:
        state.table.reasons[row] = reason[:MAX_REASON]
    else:
        state.table.reasons.pop(row, None)


def emit(state: State, kind: str, rows: Rows, reason: str) -> None:
    """One event of this kind for every row."""
    state.events.emit_rows(
        kind, ((*describe(state, row), reason, int(state.table.attempt[row])) for row in rows.tolist())
    )


def lose(state: State, rows: Rows, reason: str) -> None:
    """Live rows (each once) are LOST. Their agents, and others on the same engine, must hear of it."""
    state.end_rows(rows, AllocState.LOST)
    for row in rows.tolist():
        set_reason(state, row, reason)
    emit(state, OBSERVED[AllocState.LOST], rows, reason)
    state.tell(rows)
    for slot in distinct(state.table.node[rows]):
        state.ledger.lost_touched[slot] = state.index
        state.touch_engine(state.node_at[slot])
    finish_jobs(state, rows)


def finish_jobs(state: State, rows: Rows) -> None:
    """Forget jobs that are being removed and of which these were the last live rows."""
    for slot in distinct(state.table.job[rows]):
        state.remove_if_done(slot)
