"""Nothing grows for ever: the limits, what is collected, when; and the feature level.

The rule: what goes follows from the tables, the limits and cluster time. The newest attempt of an ordinal that still
exists in its job never goes, because reconcile reads from it what happened last.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import JobType
from orchestrator.state.allocations import LAST_LIVE
from orchestrator.state.check import name_problem, range_problem
from orchestrator.state.commands import Collect, Outcome, SetFeatureLevel, SetLimits
from orchestrator.state.features import LIMIT
from orchestrator.state.model import MAX_COMMAND_ROWS, MAX_COUNT, Job
from orchestrator.state.state import Rows, State
from orchestrator.state.status import has_ended

_DAY_MS = 24 * 3600 * 1000
LIMIT_RANGES: dict[str, tuple[int, int]] = {
    "allocations_per_ordinal": (1, 1_000),
    "allocation_age_ms": (60_000, 3_650 * _DAY_MS),
    "stopped_job_age_ms": (60_000, 3_650 * _DAY_MS),
    "events": (100, 10_000_000),
    "answers": (100, 10_000_000),
    "answer_age_ms": (60_000, 3_650 * _DAY_MS),
    "answer_bytes": (1024 * 1024, 16 * 1024**3),
    "variable_bytes": (1024, 1024 * 1024),
    "children_per_job": (1, 10_000),
    "child_age_ms": (60_000, 3_650 * _DAY_MS),
}
"""Lowest and highest value of each limit: below, retries would be forgotten before they come; above, nothing bounds."""


def collect(state: State, command: Collect) -> Outcome:
    changed = state.answers.expire(state.time_ms, state.limits) > 0
    budget = max(1, min(command.max_rows, MAX_COMMAND_ROWS))
    for job in _old_jobs(state, state.time_ms):
        rows = len(state.job_rows(job.slot))
        if rows > budget and changed:
            break  # a job goes as a whole: a large one alone in its command
        budget -= rows
        state.remove_job(job)
        changed = True
    rows_to_drop = _old_rows(state, state.time_ms)[: max(0, budget)]
    if len(rows_to_drop):
        state.drop_rows(rows_to_drop)
        changed = True
    return state.changed(changed)


def needs_collection(state: State, now_ms: int) -> bool:
    """Whether ``Collect`` at this time would forget something. Milliseconds with a million rows: ask now and then."""
    return (
        state.answers.has_expired(now_ms, state.limits)
        or bool(_old_jobs(state, now_ms))
        or len(_old_rows(state, now_ms)) > 0
    )


def _old_jobs(state: State, now_ms: int) -> list[Job]:
    """Jobs to forget, by slot: those that ended long ago. One that is being removed goes with its last live row."""
    oldest_ms = now_ms - state.limits.stopped_job_age_ms
    found = []
    for slot in sorted(state.job_at):
        job = state.job_at[slot]
        if not (job.stopped or job.spec.type is JobType.BATCH) or job.modify_time_ms >= oldest_ms:
            continue
        if job.spec.origin is not None:
            continue  # ``_old_runs``
        rows = state.ordinals.job_rows(slot)
        if np.any(state.table.state[rows] <= LAST_LIVE) or np.any(state.table.modify_time_ms[rows] >= oldest_ms):
            continue
        if job.stopped or has_ended(state, job):
            found.append(job)
    return found + _old_runs(state, now_ms)


def _old_runs(state: State, now_ms: int) -> list[Job]:
    """Of every template the ended runs beyond the number that is kept, and those that ended too long ago."""
    oldest_ms = now_ms - state.limits.child_age_ms
    found = []
    for namespace, name in sorted(state.children):
        kept = 0
        for job in reversed(state.runs_of(namespace, name)):
            rows = state.ordinals.job_rows(job.slot)
            if np.any(state.table.state[rows] <= LAST_LIVE) or not (job.stopped or has_ended(state, job)):
                continue
            ended_ms = max(job.modify_time_ms, int(state.table.modify_time_ms[rows].max(initial=0)))
            if kept >= state.limits.children_per_job or ended_ms < oldest_ms:
                found.append(job)
            else:
                kept += 1
    return found


def _old_rows(state: State, now_ms: int) -> Rows:
    """int32, ascending: terminal rows beyond the kept number of their ordinal, or too old."""
    table, ordinals = state.table, state.ordinals
    high = table.high
    terminal = (table.job[:high] >= 0) & (table.state[:high] > LAST_LIVE)
    if not terminal.any():
        return np.empty(0, dtype=np.int32)
    old = terminal & (table.modify_time_ms[:high] < now_ms - state.limits.allocation_age_ms)
    newest = ordinals.newest[ordinals.newest >= 0]
    recent = np.zeros(high, dtype=np.bool_)
    rows = newest
    for _ in range(max(1, state.limits.allocations_per_ordinal)):
        recent[rows] = True
        rows = table.prev[rows]
        rows = rows[rows >= 0]
    candidates = np.flatnonzero(terminal & (old | ~recent)).astype(np.int32)
    if not len(candidates):
        return candidates
    is_newest = np.zeros(high, dtype=np.bool_)
    is_newest[newest] = True
    kept: Rows = candidates[~(is_newest[candidates] & _exist(state, candidates))]
    return kept


def _exist(state: State, rows: Rows) -> npt.NDArray[np.bool_]:
    """bool (rows): whether the row's ordinal is one of its job's as it is now."""
    table = state.table
    unique, inverse = np.unique(table.gid[rows], return_inverse=True)
    bounds = np.zeros(len(unique), dtype=np.int32)
    for place, gid in enumerate(unique.tolist()):
        slot, name = state.ordinals.names[gid]
        spec = state.job_at[slot].spec
        counts = [group.count for group in spec.groups if group.name == name]
        if counts:
            # A system job has one ordinal for every node that ever matched.
            bounds[place] = MAX_COUNT if spec.type is JobType.SYSTEM else counts[0]
    exist: npt.NDArray[np.bool_] = table.ordinal[rows] < bounds[inverse]
    return exist


def raise_feature_level(state: State, command: SetFeatureLevel) -> Outcome:
    problem = range_problem("feature level", command.level, 0, LIMIT)
    if problem:
        return state.reject("INVALID", problem)
    if command.level < state.feature_level:
        return state.reject(
            "FAILED_PRECONDITION",
            f"the feature level is {state.feature_level} and never falls: use binaries that support it",
        )
    if command.level == state.feature_level:
        return state.changed(False)
    state.feature_level = command.level
    state.usage.rebuild(state)  # what counts as done may be more from now on
    state.events.emit("feature.raised", message=str(command.level))
    return state.changed()


def set_limits(state: State, command: SetLimits) -> Outcome:
    """What is over the new limits goes at once (events, answers) or with the next ``Collect``."""
    given = {
        field.name: value
        for field in fields(command.change)
        if (value := getattr(command.change, field.name)) is not None
    }
    for name, value in given.items():
        if isinstance(value, str):
            problem = name_problem(name, value) if value else ""
        else:
            problem = range_problem(name, value, *LIMIT_RANGES[name])
        if problem:
            return state.reject("INVALID", problem)
    limits = replace(state.limits, **given)
    if limits == state.limits:
        return state.changed(False)
    state.limits = limits
    state.events.limit = limits.events
    state.answers.expire(state.time_ms, limits)
    state.events.emit("limits.changed", message=", ".join(f"{name} {value}" for name, value in sorted(given.items())))
    return state.changed()
