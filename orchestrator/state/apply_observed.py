"""What agents observed, as columns: the same meaning as ``apply_statuses``, for hundreds of rows at once.

Owns: finding the rows of many observations, and moving them forward with array operations. Leaves to others: what one
observation means (``apply_statuses``, which also takes what is not plain). The rule: the outcome, the state and the
events are exactly those of the same observations one after the other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import AllocState
from orchestrator.contract.transitions import EDGES, TERMINAL
from orchestrator.state.allocations import put
from orchestrator.state.apply_rows import MAX_REASON
from orchestrator.state.apply_statuses import MAX_HEALTH, Seen, note_progress, observe, told
from orchestrator.state.check import MAX_INT32
from orchestrator.state.commands import ObservationColumns, Outcome, RecordObserved
from orchestrator.state.distinct import distinct
from orchestrator.state.events import HEALTH, MAX_MESSAGE, OBSERVED
from orchestrator.state.model import MAX_COMMAND_ROWS
from orchestrator.state.state import Rows, State

Bools = npt.NDArray[np.bool_]

_STATES = 128
_KNOWN = np.zeros(_STATES, dtype=np.bool_)
_KNOWN[[int(state) for state in AllocState]] = True
_ENDED = np.zeros(_STATES, dtype=np.bool_)
_ENDED[[int(state) for state in TERMINAL]] = True
_EDGE = np.zeros((_STATES, _STATES), dtype=np.bool_)
for _before, _after in EDGES.items():
    _EDGE[int(_before), [int(state) for state in _after]] = True


def record_observed(state: State, command: RecordObserved) -> Outcome:
    problem = _shape_problem(command)
    if problem:
        return state.reject("INVALID", problem)
    if command.node_id not in state.nodes:
        return state.reject("NOT_FOUND", f"there is no node {command.node_id[:128]!r}: register first")
    found = _find_rows(state, command)
    changed = _observe_all(state, command, found) if _plain(state, found) else _observe_each(state, command)
    return state.changed(changed)


def _shape_problem(command: RecordObserved) -> str:
    rows = command.rows
    if len(rows) > MAX_COMMAND_ROWS:
        return f"number of observations: {len(rows)}; expected 0 to {MAX_COMMAND_ROWS}"
    for name in rows.__slots__:
        column = getattr(rows, name)
        if name == "health":
            if column is not None and (column.shape != (len(rows),) or column.dtype != np.int64):
                return f"column health has {column.dtype} values of shape {column.shape} for {len(rows)} rows"
            continue
        if column.shape != (len(rows),) or column.dtype != np.int32:
            return f"column {name} has {column.dtype} values of shape {column.shape} for {len(rows)} rows"
    if not len(rows):
        return ""
    for what, column, bound in (
        ("job", rows.job, len(command.jobs)),
        ("group", rows.group, len(command.groups)),
        ("reason", rows.reason, len(command.reasons)),
        ("state", rows.state, _STATES),
    ):
        if int(column.min()) < 0 or int(column.max()) >= bound:
            return f"an observation's {what} is outside of the {bound} that there are"
    if not bool(_KNOWN[rows.state].all()):
        return "an observation's state is unknown"
    return ""


def _find_rows(state: State, command: RecordObserved) -> Rows:
    """int32 per observation: the row of exactly this attempt on this node, or -1."""
    columns, table, ordinals = command.rows, state.table, state.ordinals
    pairs, inverse = np.unique(columns.job.astype(np.int64) << 32 | columns.group, return_inverse=True)
    gids = np.full(len(pairs), -1, dtype=np.int64)
    for place, pair in enumerate(pairs.tolist()):
        job = state.jobs.get(command.jobs[pair >> 32])
        if job is not None:
            gids[place] = ordinals.gids.get((job.slot, command.groups[pair & 0xFFFFFFFF]), -1)
    gid = gids[inverse]
    inside = (gid >= 0) & (columns.ordinal >= 0)
    inside &= columns.ordinal < ordinals.size[np.maximum(gid, 0)]
    rows = np.full(len(columns), -1, dtype=np.int32)
    rows[inside] = ordinals.newest[ordinals.base[gid[inside]] + columns.ordinal[inside]]
    while True:  # as long as the longest history of an ordinal is, which is short
        other = (rows >= 0) & (table.attempt[rows] != columns.attempt)
        if not bool(other.any()):
            break
        rows[other] = table.prev[rows[other]]
    there = np.flatnonzero(rows >= 0)
    slots, at = np.unique(table.node[rows[there]], return_inverse=True)
    mine = np.array([state.node_at[slot].spec.id == command.node_id for slot in slots.tolist()], dtype=np.bool_)
    rows[there[~mine[at]]] = -1
    return rows


def _plain(state: State, found: Rows) -> bool:
    """Whether no observation depends on what another one of the same command did, and none is of a LOST row."""
    rows = found[found >= 0]
    if len(distinct(rows)) != len(rows) or bool((state.table.state[rows] == int(AllocState.LOST)).any()):
        return False
    return not any(state.job_at[slot].removing for slot in distinct(state.table.job[rows]))


def _observe_each(state: State, command: RecordObserved) -> bool:
    columns = command.rows
    changed = False
    for job, group, reason, ordinal, attempt, restarts, after, exit_code, start_failed, health in zip(
        columns.job.tolist(),
        columns.group.tolist(),
        columns.reason.tolist(),
        columns.ordinal.tolist(),
        columns.attempt.tolist(),
        columns.restarts.tolist(),
        columns.state.tolist(),
        columns.exit_code.tolist(),
        columns.start_failed.tolist(),
        _healths(columns).tolist(),
        strict=True,
    ):
        seen = Seen(
            job_uid=command.jobs[job],
            group=command.groups[group],
            ordinal=ordinal,
            attempt=attempt,
            restarts=restarts,
            state=AllocState(after),
            exit_code=exit_code,
            reason=command.reasons[reason],
            start_failed=start_failed != 0,
            health=health,
        )
        changed = observe(state, command.node_id, seen) or changed
    return changed


def _observe_all(state: State, command: RecordObserved, found: Rows) -> bool:
    columns, table = command.rows, state.table
    before = table.state[found].astype(np.int64)
    newer = columns.restarts > table.restarts[found]
    same = columns.restarts == table.restarts[found]
    follows = newer | (same & _EDGE[before, columns.state])
    health, checked = _healths(columns), np.zeros(len(columns), dtype=np.bool_)
    if columns.health is not None:
        runs = (before == int(AllocState.RUNNING)) & (columns.state == int(AllocState.RUNNING))
        checked = same & runs & (health >> 1 > table.health[found] >> 1)
        follows |= checked
    good = (found >= 0) & (columns.restarts >= 0) & ~_ENDED[before] & follows
    # LOST and PENDING are the control plane's words, not an agent's.
    good &= (columns.state != int(AllocState.LOST)) & (columns.state != int(AllocState.PENDING))
    places = np.flatnonzero(good)
    if not len(places):
        return False
    rows, after, reason = found[places], columns.state[places], columns.reason[places]
    put(table.restarts, rows, columns.restarts[places])
    put(table.exit_code, rows, np.maximum(columns.exit_code[places], -MAX_INT32))
    _set_reasons(state, rows, after, [command.reasons[one] for one in reason.tolist()])
    failed = rows[(after == int(AllocState.FAILED)) & (columns.start_failed[places] != 0)]
    table.start_failed[failed] = True
    table.failures[failed] = np.minimum(table.failures[failed].astype(np.int64) + 1, MAX_INT32)
    ended = _ENDED[after]
    for number in distinct(after[ended]):
        state.end_rows(rows[after == number], AllocState(number))
    live = rows[~ended]
    table.state[live] = after[~ended]
    put(table.health, live, health[places][~ended])
    state.stamp(live)
    state.moved(live)
    _emit(state, command, places, rows, np.where(checked[places], 1 + (health[places] & 1), 0))
    note_progress(state, live)
    return True


def _healths(columns: ObservationColumns) -> npt.NDArray[np.int64]:
    """int64 per observation: what the table keeps of its word (``health_of``)."""
    if columns.health is None:
        return np.zeros(len(columns), dtype=np.int64)
    fits = (columns.state == int(AllocState.RUNNING)) & (columns.health > 0) & (columns.health <= MAX_HEALTH)
    return np.where(fits, columns.health, 0).astype(np.int64)


def _set_reasons(state: State, rows: Rows, after: npt.NDArray[np.int32], texts: list[str]) -> None:
    reasons = state.table.reasons
    if not reasons and not any(texts):
        return
    for row, now, said in zip(rows.tolist(), after.tolist(), texts, strict=True):
        before = reasons.get(row)
        text = told(before, AllocState(now), said) if before else said
        if text:
            reasons[row] = text[:MAX_REASON]
        else:
            reasons.pop(row, None)


def _emit(
    state: State, command: RecordObserved, places: npt.NDArray[np.intp], rows: Rows, checked: npt.NDArray[np.int64]
) -> None:
    """``checked``: per place 1 or 2 where only health was told, bad or good; 0 elsewhere."""
    columns = command.rows
    specs = {slot: state.job_at[slot].spec for slot in distinct(state.table.job[rows])}
    names = {slot: (spec.namespace, spec.name) for slot, spec in specs.items()}
    kinds = {int(one): OBSERVED[one] for one in AllocState}
    texts = [text[:MAX_MESSAGE] for text in command.reasons]
    groups, node_id = command.groups, command.node_id
    events = []
    for slot, group, ordinal, after, reason, attempt, told_health in zip(
        state.table.job[rows].tolist(),
        columns.group[places].tolist(),
        columns.ordinal[places].tolist(),
        columns.state[places].tolist(),
        columns.reason[places].tolist(),
        columns.attempt[places].tolist(),
        checked.tolist(),
        strict=True,
    ):
        namespace, name = names[slot]
        allocation = f"{name}/{groups[group]}/{ordinal}"
        kind = HEALTH[told_health - 1] if told_health else kinds[after]
        events.append((kind, namespace, name, allocation, node_id, texts[reason], attempt))
    state.events.emit_each(events)
