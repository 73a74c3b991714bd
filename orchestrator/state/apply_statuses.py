"""What agents observed: each observation moves its allocation forward, or does nothing.

Observations come as columns now (``apply_observed``, which asks ``observe`` here about what is not plain). ``record``
takes them one by one: from logs of formats 1 and 2, and from ``foresight``.

Observations of what is unknown, of an older attempt, of another node's allocation, or that do not follow
(``contract.transitions``) are ignored: an agent repeats itself after a reconnect, and that is no error.

``failures`` counts failed starts of an ordinal in a row, for the leader's backoff: FAILED without ever having run adds
1, and an attempt begins with the count of the attempt before it if that one failed to start (and the job's version did
not change in between). RUNNING resets nothing: an engine's init may live a moment before it finds no command to run.

A LOST allocation never comes back to life here. Its agent, when it says that it still runs, is told again that nothing
may run under this key (``views.assignments_for``); how it really ended is added to the reason.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from orchestrator.contract.model import AllocState, Observation
from orchestrator.contract.transitions import TERMINAL, follows
from orchestrator.state.allocations import LAST_LIVE
from orchestrator.state.apply_rows import MAX_REASON, describe, finish_jobs, set_reason
from orchestrator.state.check import MAX_INT32, range_problem
from orchestrator.state.commands import Outcome, RecordStatuses
from orchestrator.state.disruption import PREEMPTED
from orchestrator.state.distinct import distinct
from orchestrator.state.events import HEALTH, OBSERVED
from orchestrator.state.model import MAX_COMMAND_ROWS
from orchestrator.state.rollouts import ready_rows
from orchestrator.state.state import Rows, State, under_way
from orchestrator.state.versions import is_current, place_of

MAX_HEALTH = 2**62


def record(state: State, command: RecordStatuses) -> Outcome:
    problem = range_problem("number of observations", len(command.observations), 0, MAX_COMMAND_ROWS)
    if problem:
        return state.reject("INVALID", problem)
    if command.node_id not in state.nodes:
        return state.reject("NOT_FOUND", f"there is no node {command.node_id[:128]!r}: register first")
    changed = False
    for observation in command.observations:
        changed = observe(state, command.node_id, _seen(observation)) or changed
    return state.changed(changed)


class Seen(NamedTuple):
    """One observation, as far as the state has a use for it. ``group`` is a name."""

    job_uid: str
    group: str
    ordinal: int
    attempt: int
    restarts: int
    state: AllocState
    exit_code: int
    reason: str
    start_failed: bool
    health: int


def _seen(observation: Observation) -> Seen:
    key = observation.key
    return Seen(
        job_uid=key.job_uid,
        group=key.id.group,
        ordinal=key.id.ordinal,
        attempt=key.attempt,
        restarts=observation.restarts,
        state=observation.state,
        exit_code=observation.exit_code,
        reason=observation.reason,
        start_failed=observation.start_failed,
        health=observation.health,
    )


def find_row(state: State, seen: Seen) -> int:
    """The row of exactly this attempt, or -1."""
    job = state.jobs.get(seen.job_uid)
    if job is None:
        return -1
    gid = state.ordinals.gids.get((job.slot, seen.group))
    if gid is None:
        return -1
    row = state.ordinals.find(gid, seen.ordinal)
    while row >= 0 and state.table.attempt[row] != seen.attempt:
        row = int(state.table.prev[row])
    return row


def observe(state: State, node_id: str, observation: Seen) -> bool:
    """Move one allocation forward; whether that changed anything."""
    table = state.table
    row = find_row(state, observation)
    if row < 0 or not 0 <= observation.restarts <= MAX_INT32:
        return False
    if state.node_at[int(table.node[row])].spec.id != node_id:
        return False
    before = AllocState(int(table.state[row]))
    if before is AllocState.LOST:
        return _observe_lost(state, row, observation)
    attempt = observation.attempt
    after = observation.state
    if after is before is AllocState.RUNNING and observation.restarts == int(table.restarts[row]):
        return _observe_health(state, row, observation)
    if not follows((attempt, int(table.restarts[row]), before), (attempt, observation.restarts, after)):
        return False
    if after is AllocState.LOST or after is AllocState.PENDING:
        return False  # the control plane's words, not an agent's
    table.restarts[row] = observation.restarts
    table.exit_code[row] = max(-MAX_INT32, min(MAX_INT32, observation.exit_code))
    set_reason(state, row, told(table.reasons.get(row, ""), after, observation.reason))
    if after is AllocState.FAILED and observation.start_failed:
        table.start_failed[row] = True
        table.failures[row] = min(int(table.failures[row]) + 1, MAX_INT32)
    if after in TERMINAL:
        rows = np.array([row], dtype=np.int32)
        state.end_rows(rows, after)
        _emit(state, row, after, observation.reason)
        finish_jobs(state, rows)
    else:
        table.state[row] = int(after)
        table.health[row] = health_of(after, observation.health)
        table.modify_index[row] = state.index
        table.modify_time_ms[row] = state.time_ms
        rows = np.array([row], dtype=np.int32)
        state.moved(rows)
        _emit(state, row, after, observation.reason)
        note_progress(state, rows)
    return True


def health_of(state: AllocState, health: int) -> int:
    """What the table keeps of a word of ``contract.health``."""
    return health if state is AllocState.RUNNING and 0 < health <= MAX_HEALTH else 0


def _observe_health(state: State, row: int, observation: Seen) -> bool:
    """It goes on running, and its checks say something newer."""
    table = state.table
    health = health_of(AllocState.RUNNING, observation.health)
    if health >> 1 <= int(table.health[row]) >> 1:
        return False
    rows = np.array([row], dtype=np.int32)
    table.health[row] = health
    set_reason(state, row, told(table.reasons.get(row, ""), AllocState.RUNNING, observation.reason))
    state.stamp(rows)
    state.moved(rows)
    _emit(state, row, AllocState.RUNNING, observation.reason, kind=HEALTH[health & 1])
    note_progress(state, rows)
    return True


def note_progress(state: State, rows: Rows) -> None:
    """Of rows that were heard of: whoever is ready now, at the version that is rolled out, is progress."""
    if not any(under_way(state.job_at[slot].rollout) for slot in distinct(state.table.job[rows])):
        return
    table = state.table
    for row in rows[ready_rows(state, rows)].tolist():
        job = state.job_at[int(table.job[row])]
        rollout = job.rollout
        place = place_of(job, state.ordinals.names[int(table.gid[row])][1])
        if rollout is None or not under_way(rollout) or rollout.progress_ms == state.time_ms or place < 0:
            continue
        if is_current(job, place, int(table.version[row])):
            state.put_job(replace(job, rollout=replace(rollout, progress_ms=state.time_ms)))


def told(before: str, state: AllocState, reason: str) -> str:
    """What the reason is from now on. Why somebody had to make room outlasts the agent's "stopped as told"."""
    if not before.startswith(PREEMPTED):
        return reason
    if state in (AllocState.STOPPING, AllocState.STOPPED) or not reason:
        return before
    return f"{before.partition('; ')[0]}; {reason}"


def _observe_lost(state: State, row: int, observation: Seen) -> bool:
    table = state.table
    if int(observation.state) <= LAST_LIVE:
        # Still running under a fenced attempt: its agent hears once more that it must stop.
        state.tell(np.array([row], dtype=np.int32))
        state.ledger.lost_touched[table.node[row]] = state.index
        return False
    said = f"; its agent says: {observation.state.name.lower()}"
    reason = table.reasons.get(row, "")
    if observation.state is AllocState.LOST or "; its agent says: " in reason:
        return False
    set_reason(state, row, reason[: MAX_REASON - len(said)] + said)  # whole, or it would be said again and again
    table.exit_code[row] = max(-MAX_INT32, min(MAX_INT32, observation.exit_code))
    table.modify_index[row] = state.index
    return True


def _emit(state: State, row: int, after: AllocState, reason: str, *, kind: str = "") -> None:
    namespace, job, allocation, node_id = describe(state, row)
    state.events.emit(
        kind or OBSERVED[after],
        namespace=namespace,
        job=job,
        allocation=allocation,
        node_id=node_id,
        message=reason,
        attempt=int(state.table.attempt[row]),
    )
