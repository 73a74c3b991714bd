"""Let a copy of the state come to rest: the leader's rounds, and agents that start and stop at once.

Owns: ``settle`` and the simulated agents. Leaves to others: what a round looks at (``reconcile.sight``), deciding
(``plan``), applying (``state``). The rule: nothing is judged here a second time: rounds look, decide and apply as the
leader's do, so that the answer is what the leader then does, and costs no more than that. Time passes only where the
leader would sleep until a deadline (``min_ready``, a backoff, a drain's or a rollout's deadline), and as much of it at
most as the caller grants: what waits for longer goes on waiting.

The agents: on every node that is not lost, what is told to stop has stopped, and what was placed runs. Batch tasks do
not end, and what its agent restarts locally (BACKOFF) stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from orchestrator import plan
from orchestrator.contract.health import word
from orchestrator.contract.model import AllocationId, AllocState, AssignmentKey, Desired, NodeStatus, Observation
from orchestrator.reconcile.sight import Sight, StateViews
from orchestrator.state.allocations import FREE, LAST_LIVE, well
from orchestrator.state.apply import apply
from orchestrator.state.commands import (
    ApplyPlan,
    Command,
    EndRollouts,
    Entry,
    Outcome,
    PlanAnswer,
    RecordStatuses,
    WriteAnswer,
)
from orchestrator.state.model import MAX_COMMAND_ROWS
from orchestrator.state.state import Rows, State
from orchestrator.state.views import ClusterView, allocation_id, cluster_view

ROUNDS_MAX = 5_000
"""A drain of n instances of one group takes 2 n rounds."""

_NEW = (int(AllocState.PENDING), int(AllocState.STARTING))


def _always() -> bool:
    return True


@dataclass(slots=True, kw_only=True)
class Ran:
    """``now_ms``: when it came to rest; ``acted_ms``: when something was done for the last time; ``reasons``: by
    instance, the last one that a plan gave for an action on it."""

    now_ms: int
    acted_ms: int
    rounds: int = 0
    settled: bool = False
    reasons: dict[AllocationId, str] = field(default_factory=dict)


def perform(state: State, command: Command, now_ms: int) -> Outcome:
    """Apply a command to a copy that is nobody else's."""
    return apply(state, Entry(identity="", request_id="", digest=b"", time_ms=now_ms, command=command))


def settle(
    state: State,
    now_ms: int,
    *,
    go_on: Callable[[], bool] = _always,
    rounds_max: int = ROUNDS_MAX,
    horizon_ms: int = 0,
) -> Ran:
    """Change ``state`` until nothing is left to do, for so much time at most. ``go_on`` is asked before every round:
    False ends it there."""
    ran = Ran(now_ms=now_ms, acted_ms=now_ms)
    end_ms = now_ms + horizon_ms
    sight, planner = Sight(StateViews(lambda: state)), plan.Planner()
    told = -1  # agents have done what they were told up to here
    while ran.rounds < rounds_max and go_on():
        view = sight.look(ran.now_ms)
        plans: Sequence[ApplyPlan] = ()
        ended = False
        if view is not None:
            decision = planner.decide(view, ran.now_ms)
            if decision.blind:
                sight.forget()
                view = sight.look(ran.now_ms)
                assert view is not None
                decision = planner.decide(view, ran.now_ms)
            plans = decision.plans
            sight.decided(
                view,
                pending=decision.pending,
                more=decision.more,
                left=decision.left,
                wake_at_ms=decision.wake_at_ms,
            )
            if decision.verdicts:
                ended = _changed(perform(state, EndRollouts(verdicts=decision.verdicts), ran.now_ms))
                sight.forget()
        for one in plans:
            _note_reasons(state, one, ran.reasons)
        answers = [perform(state, one, ran.now_ms) for one in plans]
        if not all(map(_is_whole, answers)):
            sight.forget()
        index = state.index
        obeyed = obey(state, ran.now_ms, since=told)
        told = index
        ran.rounds += 1
        if any(map(_went_in, answers)) or obeyed:
            ran.acted_ms = ran.now_ms
        elif ended:
            continue  # it is another state by that, also where it made what was planned besides stale
        elif plans:
            return ran  # refused whole: the same state would only bring the same plan again
        elif not _sleep(ran, sight, view, end_ms):
            ran.rounds -= 1  # it only found that there is nothing to do
            ran.settled = True
            return ran
    return ran


def _sleep(ran: Ran, sight: Sight, view: ClusterView | None, end_ms: int) -> bool:
    """Whether the leader would look again by itself, in time: that time it is then."""
    at_ms = sight.wake_at_ms
    if at_ms is None or at_ms > end_ms:
        return False
    if at_ms <= ran.now_ms:
        return view is not None and view.held is not None  # who looked at some jobs alone looks at everything
    ran.now_ms = at_ms
    return True


def at_rest(state: State, now_ms: int, *, horizon_ms: int = 0) -> bool:
    """Whether neither the leader nor any agent has anything to do now, nor by itself within that time."""
    if len(_to_report(state)):
        return False
    decision = plan.decide(cluster_view(state), now_ms)
    later = decision.wake_at_ms is not None and now_ms < decision.wake_at_ms <= now_ms + horizon_ms
    return not decision.plans and not later


def obey(state: State, now_ms: int, *, since: int = -1) -> bool:
    """Every reachable agent has done what it was told after ``since``, and what runs has become ready; whether that
    changed anything."""
    rows = np.union1d(_to_report(state, since), _coming_up(state))
    table = state.table
    nodes = table.node[rows]
    for slot in np.unique(nodes).tolist():
        mine = rows[nodes == slot]
        for start in range(0, len(mine), MAX_COMMAND_ROWS):
            seen = tuple(_observation(state, row) for row in mine[start : start + MAX_COMMAND_ROWS].tolist())
            perform(state, RecordStatuses(node_id=state.node_at[slot].spec.id, observations=seen), now_ms)
    return len(rows) > 0


def _to_report(state: State, since: int = -1) -> Rows:
    """int32: live rows on reachable nodes of which an agent would have something to say, told after ``since``."""
    table = state.table
    if since < 0:
        live = table.live_rows()
    else:
        live = np.flatnonzero(table.told[: table.high] > since).astype(np.int32)
        live = live[(table.job[live] != FREE) & (table.state[live] <= LAST_LIVE)]
    if not len(live):
        return live
    to_stop = (table.desired[live] == int(Desired.STOP)) | (table.state[live] == int(AllocState.STOPPING))
    rows: Rows = live[to_stop | np.isin(table.state[live], _NEW)]
    lost = [slot for slot, node in state.node_at.items() if node.status is NodeStatus.LOST or slot in state.forgotten]
    if lost:
        rows = rows[~np.isin(table.node[rows], lost)]
    return rows


def _coming_up(state: State) -> Rows:
    """int32: what runs on reachable nodes and is not ready: here it is only late."""
    table = state.table
    live = table.live_rows()
    sick = (table.state[live] == int(AllocState.RUNNING)) & ~well(table.state[live], table.health[live])
    rows: Rows = live[sick & (table.desired[live] == int(Desired.RUN))]
    there = [state.node_at[slot].status is NodeStatus.READY for slot in table.node[rows].tolist()]
    found: Rows = rows[np.array(there, dtype=np.bool_)]
    return found


def _observation(state: State, row: int) -> Observation:
    table = state.table
    job = state.job_at[int(table.job[row])]
    key = AssignmentKey(id=allocation_id(state, row), job_uid=job.uid, attempt=int(table.attempt[row]))
    ends = table.desired[row] == int(Desired.STOP) or table.state[row] == int(AllocState.STOPPING)
    after = AllocState.STOPPED if ends else AllocState.RUNNING
    health = _next_word(int(table.health[row])) if after is AllocState.RUNNING else 0
    return Observation(key=key, restarts=int(table.restarts[row]), state=after, health=health)


def _next_word(health: int) -> int:
    """Ready, where anybody checks."""
    return word((health >> 1) + 1, True) if health else 0


def _is_whole(outcome: Outcome) -> bool:
    answer = getattr(outcome, "answer", None)
    return isinstance(answer, PlanAnswer) and not answer.rejected


def _changed(outcome: Outcome) -> bool:
    answer = getattr(outcome, "answer", None)
    return isinstance(answer, WriteAnswer) and answer.changed


def _went_in(outcome: Outcome) -> bool:
    answer = getattr(outcome, "answer", None)
    return isinstance(answer, PlanAnswer) and answer.placed + answer.acted > 0


def _note_reasons(state: State, one: ApplyPlan, reasons: dict[AllocationId, str]) -> None:
    actions = one.actions
    for place in range(len(actions)):
        job = state.jobs.get(one.jobs[int(actions.job[place])])
        if job is None:
            continue
        version = job.version if actions.version is None else int(actions.version[place])
        groups = state.spec_of(job, version).groups
        number = int(actions.group[place])
        if 0 <= number < len(groups):
            key = AllocationId(
                namespace=job.spec.namespace,
                job=job.spec.name,
                group=groups[number].name,
                ordinal=int(actions.ordinal[place]),
            )
            reasons[key] = one.reasons[int(actions.reason[place])]
