"""What moving one allocation does: it is told to stop, and its row remembers that the next attempt goes elsewhere.

Owns: when an instance may move. Leaves to others: where it goes (``scheduling``, which avoids its node), placing it
(the next plan). The rule: how many of a group may be down is judged here, where it is committed, so that any number of
callers together take down no more than one, and none that a disruption budget keeps.

What survives. The intent is the row: ``moved`` stays on it until the next attempt takes its place, through elections,
restarts and snapshots, and whoever leads then finds an instance missing that should be elsewhere. Nothing else has to
be finished or cleaned up, so a mover may die at any point. The old node is avoided, not forbidden: if room elsewhere is
gone by then, the instance comes back rather than wait.
"""

from __future__ import annotations

import numpy as np

from orchestrator.contract.model import AllocState, Desired, GroupSpec, JobType
from orchestrator.state.apply_rows import emit, set_reason
from orchestrator.state.commands import MoveAllocation, Outcome
from orchestrator.state.disruption import refusal_of
from orchestrator.state.features import COUNTED_MOVES
from orchestrator.state.model import Job
from orchestrator.state.state import State

REASON = "moved to another node by rebalance"


def move(state: State, command: MoveAllocation) -> Outcome:
    job = state.find_job(command.namespace, command.name)
    what = f"{command.name[:64]}/{command.group[:64]}/{command.ordinal}"
    if job is None:
        return state.reject(
            "NOT_FOUND", f"there is no job {command.name[:128]!r} in namespace {command.namespace[:64]!r}"
        )
    gid = state.ordinals.gids.get((job.slot, command.group))
    if gid is None or (row := state.ordinals.find(gid, command.ordinal)) < 0 or not state.table.is_live(row):
        return state.reject("NOT_FOUND", f"there is no live allocation {what}")
    table = state.table
    if int(table.attempt[row]) != command.attempt:
        return state.reject(
            "CONFLICT",
            f"{what} is at attempt {int(table.attempt[row])}, not {command.attempt}: look at it again",
            attempt=str(int(table.attempt[row])),
        )
    if table.moved[row]:  # and told to stop, for good
        return state.changed(False)
    problem = _problem(state, job, gid, row)
    if problem:
        return state.reject("FAILED_PRECONDITION", f"{what} cannot move: {problem}")
    rows = np.array([row], dtype=np.int32)
    table.desired[rows] = int(Desired.STOP)
    table.moved[rows] = True
    state.stamp(rows)
    set_reason(state, row, REASON)
    state.tell(rows)
    emit(state, "alloc.moving", rows, REASON)
    return state.changed()


def may_move(job: Job, group: GroupSpec) -> str:
    """Why instances of a group never move for the sake of balance, or "". What shares its fate with others (a gang)
    belongs here."""
    if job.stopped:
        return "its job is stopped"
    if job.spec.type is not JobType.SERVICE:
        kind = job.spec.type.name.lower()
        return f"it belongs to a {kind} job, which would begin anew" if kind == "batch" else "it belongs to its node"
    if group.gang is not None:
        return "it belongs to a gang, which runs whole or not at all"
    return "" if group.count else "its group has no instances any more"


def _problem(state: State, job: Job, gid: int, row: int) -> str:
    name = state.ordinals.names[gid][1]
    group = next((one for one in job.spec.groups if one.name == name), None)
    if group is None:
        return "its group was removed from the job"
    why = may_move(job, group)
    if why:
        return why
    table = state.table
    if table.desired[row] == int(Desired.STOP):
        return "it is being stopped"
    live = state.live_rows(job.slot)
    mine = live[table.gid[live] == gid]
    well = mine[(table.desired[mine] == int(Desired.RUN)) & (table.state[mine] == int(AllocState.RUNNING))]
    if row not in well:
        return "it does not run yet"
    running = len(well)  # as a peer of before counts
    if state.feature_level >= COUNTED_MOVES:
        ordinals = np.unique(table.ordinal[well])
        running = int((ordinals < group.count).sum())
        if int(table.ordinal[row]) >= group.count:
            return f"its group has {group.count} instances by now"
    missing = group.count - running
    if missing > 0:
        return f"{missing} of {group.count} of its group do not run: one at a time"
    return refusal_of(state, row)
