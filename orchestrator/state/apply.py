"""``apply``: one committed command changes the state, on every peer alike.

Owns: the envelope (order, cluster time, exactly once) and the way to the part that owns the noun (``apply_*``). Leaves
to others: bytes (``replication.codec``), when (``replication``). The rule: total and deterministic. Whatever a command
says, apply answers ``Applied`` or ``Rejected``; it reads no clock, no randomness, no order of a set or a hash.

Every command, also a rejected or a malformed one, moves ``state.index`` on by one; ``WriteVariables`` is as many
commands as it has writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.state import (
    apply_batch,
    apply_jobs,
    apply_moves,
    apply_namespaces,
    apply_nodes,
    apply_observed,
    apply_plan,
    apply_progress,
    apply_rollouts,
    apply_statuses,
    apply_taints,
    apply_variables,
    housekeeping,
    images,
    peers,
)
from orchestrator.state.answers import Remembered
from orchestrator.state.check import range_problem
from orchestrator.state.commands import (
    AdmitPeers,
    Applied,
    ApplyPlan,
    ChangePeers,
    Collect,
    CordonDevice,
    CordonNode,
    DispatchJob,
    DrainNode,
    EndRollouts,
    Entry,
    ForceRun,
    ForgetNode,
    LaunchRuns,
    MarkNodes,
    MoveAllocation,
    Outcome,
    PinImage,
    RecordObserved,
    RecordProgress,
    RecordStatuses,
    RegisterNode,
    Rejected,
    RemoveJob,
    RestartJob,
    RollbackJob,
    ScaleJob,
    SetFeatureLevel,
    SetLimits,
    SetSettings,
    SingleCommand,
    SteerRollout,
    StopJob,
    SubmitJobs,
    TaintNode,
    VariablesAnswer,
    WriteNamespace,
    WriteVariable,
    WriteVariables,
)
from orchestrator.state.state import State

MAX_TIME_MS = 2**48
"""Year 10889. A clock beyond it is broken, and would hold cluster time there for ever."""


_OF_SOME_JOBS = (
    SubmitJobs,
    StopJob,
    ScaleJob,
    RestartJob,
    SteerRollout,
    RollbackJob,
    EndRollouts,
    LaunchRuns,
    DispatchJob,
    ForceRun,
    RemoveJob,
    ApplyPlan,
    RecordStatuses,
    RecordObserved,
    PinImage,
    RecordProgress,
    RegisterNode,
)
"""Commands that say themselves which jobs they concern (``state.changes``)."""


def apply(state: State, entry: Entry) -> Outcome:
    """Apply one command and answer it. Never raises, whatever the entry holds."""
    command = entry.command
    if isinstance(command, WriteVariables):
        return _apply_each(state, entry, command)
    return _apply_one(state, entry, entry.request_id, command)


def _apply_one(state: State, entry: Entry, request_id: str, command: SingleCommand) -> Outcome:
    """One command of ``entry``, under a request id of its own."""
    problem = _envelope_problem(entry, request_id)
    if problem:
        state.index += 1
        return state.reject("INVALID", problem)
    return _apply_checked(state, entry, request_id, command)


def _apply_checked(state: State, entry: Entry, request_id: str, command: SingleCommand) -> Outcome:
    state.index = index = state.index + 1
    if entry.time_ms > state.time_ms:
        state.time_ms = entry.time_ms
    state.events.begin(index, state.time_ms)
    key = (entry.identity, request_id)
    if request_id:
        first = state.answers.get(key)
        if first is not None:
            return _again(state, entry, request_id, first)
    names = len(state.variables)
    outcome = _APPLY[type(command)](state, command)
    if not isinstance(command, WriteVariable) or len(state.variables) != names:
        state.shown_index = index  # of variables a view shows the names alone
        if not isinstance(command, _OF_SOME_JOBS):
            state.changes.sweep(index)
    if request_id:
        state.answers.put(key, Remembered(digest=entry.digest, time_ms=state.time_ms, outcome=outcome), state.limits)
    state.events.trim()
    return outcome


def _apply_each(state: State, entry: Entry, command: WriteVariables) -> Outcome:
    if not command.writes:
        state.index += 1
        return state.reject("INVALID", "writes: is empty; expected at least one")
    request_ids = [f"{entry.request_id}/{place}" if entry.request_id else "" for place in range(len(command.writes))]
    # The last has the longest number: where nothing is wrong with its envelope, nothing is with the others'.
    one = _apply_one if _envelope_problem(entry, request_ids[-1]) else _apply_checked
    outcomes = [one(state, entry, request_ids[place], write) for place, write in enumerate(command.writes)]
    return state.answer(VariablesAnswer(outcomes=tuple(outcomes)))


def apply_malformed(state: State, message: str) -> Rejected:
    """What the log holds at this place is no command: it is answered, and the state goes on."""
    state.index += 1
    return state.reject("MALFORMED", message)


def _envelope_problem(entry: Entry, request_id: str) -> str:
    if (
        len(entry.identity) <= 256
        and len(request_id) <= 256
        and len(entry.digest) <= 64
        and 0 <= entry.time_ms <= MAX_TIME_MS
    ):
        return ""
    return (
        range_problem("length of the identity", len(entry.identity), 0, 256)
        or range_problem("length of the request id", len(request_id), 0, 256)
        or range_problem("length of the digest", len(entry.digest), 0, 64)
        or range_problem("the proposer's time in ms", entry.time_ms, 0, MAX_TIME_MS)
    )


def _again(state: State, entry: Entry, request_id: str, first: Remembered) -> Outcome:
    if first.digest != entry.digest:
        return state.reject(
            "REQUEST_ID_REUSED",
            f"request id {request_id!r} was used before with another body: take a fresh one for another request",
        )
    if isinstance(first.outcome, Applied):
        return Applied(index=first.outcome.index, answer=first.outcome.answer, repeated=True)
    return first.outcome


_APPLY: dict[type, Callable[[State, Any], Outcome]] = {
    SubmitJobs: apply_jobs.submit,
    StopJob: apply_jobs.stop,
    ScaleJob: apply_jobs.scale,
    RestartJob: apply_jobs.restart,
    SteerRollout: apply_rollouts.steer,
    RollbackJob: apply_rollouts.rollback,
    EndRollouts: apply_rollouts.end_rollouts,
    LaunchRuns: apply_batch.launch,
    DispatchJob: apply_batch.dispatch,
    ForceRun: apply_batch.force,
    RemoveJob: apply_jobs.remove,
    MoveAllocation: apply_moves.move,
    PinImage: images.pin,
    RecordProgress: apply_progress.record,
    RegisterNode: apply_nodes.register,
    CordonNode: apply_nodes.cordon,
    CordonDevice: apply_nodes.cordon_device,
    DrainNode: apply_nodes.drain,
    ForgetNode: apply_nodes.forget,
    TaintNode: apply_taints.change,
    MarkNodes: apply_nodes.mark,
    ApplyPlan: apply_plan.apply_plan,
    RecordStatuses: apply_statuses.record,
    RecordObserved: apply_observed.record_observed,
    WriteVariable: apply_variables.write,
    Collect: housekeeping.collect,
    AdmitPeers: peers.admit,
    ChangePeers: peers.change,
    SetFeatureLevel: housekeeping.raise_feature_level,
    SetLimits: housekeeping.set_limits,
    WriteNamespace: apply_namespaces.write,
    SetSettings: apply_namespaces.set_settings,
}
"""One for every ``SingleCommand``; by type, because the commands that come most would be the last of many cases."""
