"""What a plan does: every action and every placement is checked again against the state that apply finds.

The rule: a plan was made from an older state, perhaps by a peer that no longer leads, so each row is judged alone: a
stale one is rejected with a reason, the others go in. Actions come first: what they free is free for the placements
(``apply_placements``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.contract.model import Desired, NodeStatus
from orchestrator.state.allocations import LAST_LIVE
from orchestrator.state.apply_evictions import evict
from orchestrator.state.apply_placements import Placing
from orchestrator.state.apply_rollouts import replace_outdated
from orchestrator.state.apply_rows import describe, emit, lose, set_reason
from orchestrator.state.commands import Action, ActionColumns, ApplyPlan, Outcome, PlanAnswer
from orchestrator.state.disruption import DRAINED, drain_refusal_of
from orchestrator.state.features import BUDGETED_DRAINS
from orchestrator.state.model import MAX_COMMAND_ROWS, Job
from orchestrator.state.state import Rows, State


def apply_plan(state: State, command: ApplyPlan) -> Outcome:
    problem = _shape_problem(command)
    if problem:
        return state.reject("INVALID", problem)
    acted, rejected = _act(state, command)
    if rejected:
        state.changes.sweep(state.index)  # rare, and no longer said of which job
    placed, stale = Placing(state, command).run()
    rejected += stale
    if rejected:
        many = "1 row was" if len(rejected) == 1 else f"{len(rejected)} rows were"
        state.events.emit("plan.rejected", message=f"{many} stale; the first: {rejected[0]}")
    return state.answer(PlanAnswer(placed=placed, acted=acted, rejected=tuple(rejected)))


def _shape_problem(command: ApplyPlan) -> str:
    actions, placements = command.actions, command.placements
    rows = len(actions) + len(placements)
    if rows > MAX_COMMAND_ROWS:
        return f"a plan has at most {MAX_COMMAND_ROWS} rows, not {rows}: cut it into chunks"
    if len(command.jobs) > MAX_COMMAND_ROWS or len(command.nodes) > MAX_COMMAND_ROWS:
        return f"a plan names at most {MAX_COMMAND_ROWS} jobs and nodes"
    if len(command.reasons) > MAX_COMMAND_ROWS:
        return f"a plan has at most {MAX_COMMAND_ROWS} reasons"
    for columns in (actions, placements):
        for name in columns.__slots__:
            column = getattr(columns, name)
            if column is None or name in ("ports", "port_offsets"):
                continue
            dtype = "uint64" if name == "device_mask" else "int32"
            if column.shape != (len(columns),) or column.dtype != dtype:
                return f"column {name} has {column.dtype} values of shape {column.shape} for {len(columns)} rows"
    offsets = placements.port_offsets
    if offsets.shape != (len(placements) + 1,) or placements.ports.ndim != 1:
        return "port_offsets must have one value more than there are placements"
    if offsets.dtype != "int32" or placements.ports.dtype != "int32":
        return "ports and port_offsets must be int32"
    if offsets[0] != 0 or offsets[-1] != len(placements.ports) or np.any(offsets[1:] < offsets[:-1]):
        return "port_offsets must rise from 0 to the number of ports"
    if actions.by is not None and len(actions) and (actions.by.min() < -1 or actions.by.max() >= len(command.jobs)):
        return f"an eviction is for a job outside of the plan's list of {len(command.jobs)}"
    for what, column, bound in (
        ("action's job", actions.job, len(command.jobs)),
        ("action's reason", actions.reason, len(command.reasons)),
        ("placement's job", placements.job, len(command.jobs)),
        ("placement's node", placements.node, len(command.nodes)),
    ):
        if len(column) and (int(column.min()) < 0 or int(column.max()) >= bound):
            return f"an {what} is outside of the plan's list of {bound}"
    return ""


# ---------------------------------------------------------------------------- actions


def _act(state: State, command: ApplyPlan) -> tuple[int, list[str]]:
    """Do what can be done; returns how many, and a reason for each row that was stale."""
    actions = command.actions
    if not len(actions):
        return 0, []
    found, rejected = _find_rows(state, command)
    table = state.table
    chosen: dict[tuple[int, str], list[int]] = {}
    evicted: list[tuple[int, int]] = []
    replaced: list[tuple[int, int]] = []
    drained: list[tuple[int, str]] = []
    budgeted = state.feature_level >= BUDGETED_DRAINS
    seen: set[int] = set()
    for place in range(len(actions)):
        row = int(found[place])
        if row < 0:
            continue
        reason = command.reasons[int(actions.reason[place])]
        problem = ""
        kind = int(actions.action[place])
        if row in seen:
            problem = "is in the plan twice"
        elif kind == Action.STOP:
            if table.desired[row] == int(Desired.STOP):
                problem = "was already told to stop"
        elif kind == Action.LOSE:
            node = state.node_at[int(table.node[row])]
            if node.status is not NodeStatus.LOST:
                problem = f"cannot be lost: node {node.spec.id} is ready"
        elif kind == Action.EVICT:
            evicted.append((row, place))
        elif kind == Action.REPLACE:
            replaced.append((row, place))
        else:
            problem = f"gets an unknown action {kind}"
        if problem:
            rejected.append(f"{describe(state, row)[2]} {problem}")
            continue
        seen.add(row)
        if kind in (Action.EVICT, Action.REPLACE):
            continue
        if budgeted and kind == Action.STOP and reason.startswith(DRAINED):
            drained.append((row, reason))
            continue
        chosen.setdefault((kind, reason), []).append(row)
    for (kind, reason), listed in chosen.items():
        rows = np.array(listed, dtype=np.int32)
        if kind == Action.STOP:
            _stop(state, rows, reason)
    for (kind, reason), listed in chosen.items():
        if kind == Action.LOSE:
            lose(state, np.array(listed, dtype=np.int32), reason)
    stale = evict(state, command, evicted)
    stale += replace_outdated(state, command, replaced)
    stale += _drain(state, drained)
    return len(seen) - len(stale), rejected + stale


def _stop(state: State, rows: Rows, reason: str) -> None:
    state.table.desired[rows] = int(Desired.STOP)
    state.stamp(rows)
    for row in rows.tolist():
        set_reason(state, row, reason)
    state.tell(rows)
    state.touch_jobs(rows)
    emit(state, "alloc.stop", rows, reason)


def _drain(state: State, drained: Sequence[tuple[int, str]]) -> list[str]:
    """``drained``: (live row, reason). One after the other, for each counts against the budget of the next; returns a
    reason for each that a budget keeps by now, such as that of one that was moved since the plan was made."""
    stale = []
    free: dict[str, list[int]] = {}
    for row, reason in drained:
        if state.job_at[int(state.table.job[row])].spec.disruption is None:
            free.setdefault(reason, []).append(row)
            continue
        problem = drain_refusal_of(state, row)
        if problem:
            stale.append(f"{describe(state, row)[2]} {problem}")
        else:
            _stop(state, np.array([row], dtype=np.int32), reason)
    for reason, rows in free.items():
        _stop(state, np.array(rows, dtype=np.int32), reason)
    return stale


def _find_rows(state: State, command: ApplyPlan) -> tuple[Rows, list[str]]:
    """int32 (actions): the live row that each action means, or -1; and a reason for each -1."""
    actions, table, ordinals = command.actions, state.table, state.ordinals
    found = np.full(len(actions), -1, dtype=np.int32)
    keys = actions.job.astype(np.int64) << 32 | (actions.group.astype(np.int64) & 0xFFFFFFFF)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    for part in np.split(order, starts[1:]):
        job = state.jobs.get(command.jobs[int(actions.job[part[0]])])
        if job is None:
            continue
        for gid in _candidates(state, job, int(actions.group[part[0]])):
            ordinal = actions.ordinal[part]
            inside = (ordinal >= 0) & (ordinal < ordinals.size[gid]) & (found[part] < 0)
            places = part[inside]
            rows = ordinals.newest[ordinals.base[gid] + actions.ordinal[places]]
            behind = np.where(rows >= 0, table.prev[rows], -1)  # two of an ordinal may live (``Ordinals.newest``)
            rows = np.where((behind >= 0) & (table.attempt[behind] == actions.attempt[places]), behind, rows)
            fits = (
                (rows >= 0)
                & (table.attempt[rows] == actions.attempt[places])
                & (table.group[rows] == actions.group[places])
                & (table.state[rows] <= LAST_LIVE)
            )
            if actions.version is not None:
                fits &= table.version[rows] == actions.version[places]
            found[places[fits]] = rows[fits]
    return found, [_action_refusal(state, command, actions, place) for place in np.flatnonzero(found < 0).tolist()]


def _candidates(state: State, job: Job, group: int) -> list[int]:
    """The gids whose group ever stood at this place, oldest version first."""
    names = [spec.groups[group].name for _, spec in job.specs if 0 <= group < len(spec.groups)]
    return [state.ordinals.gids[(job.slot, name)] for name in dict.fromkeys(names)]


def _action_refusal(state: State, command: ApplyPlan, actions: ActionColumns, place: int) -> str:
    uid = command.jobs[int(actions.job[place])]
    job = state.jobs.get(uid)
    if job is None:
        return f"job {uid[:64]} is gone"
    group = int(actions.group[place])
    names = [state.ordinals.names[gid][1] for gid in _candidates(state, job, group)]
    what = f"{job.spec.name}/{names[-1] if names else group}/{int(actions.ordinal[place])}"
    return f"{what}: attempt {int(actions.attempt[place])} is not live any more"
