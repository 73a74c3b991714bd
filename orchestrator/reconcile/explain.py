"""What keeps a group from running that is no matter of room: backoff, failures, missing variables, halted rollouts.

Owns: these words. Leaves to others: room (``scheduling.explain``), joining both (``plan.explain``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.contract.model import AllocState, Desired, NodeStatus
from orchestrator.contract.transitions import TERMINAL
from orchestrator.reconcile.work import GroupWork
from orchestrator.state.batch import moment, next_run
from orchestrator.state.disruption import PREEMPTED
from orchestrator.state.failures import WITHOUT_LIMIT, retries_of
from orchestrator.state.model import Job
from orchestrator.state.views import ClusterView


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """Short statements, the most important first, and what would help ("" = nothing that anybody could do)."""

    texts: tuple[str, ...]
    hint: str


def remarks(view: ClusterView, job: Job, group: int, note: GroupWork, now_ms: int) -> Remarks:
    texts: list[str] = []
    hint = ""
    name = job.spec.name
    if job.removing:
        return Remarks(texts=("the job is being removed",), hint="")
    if job.stopped:
        return Remarks(texts=("the job is stopped",), hint=f"raftsman run its file again, or `raftsman rm {name}`")
    if job.spec.is_template:
        return Remarks(texts=(_template_remark(job),), hint="")
    if note.after:
        texts.append(f"skipped: {note.after}" if note.skipped else note.after)
        if note.skipped:
            hint = f"raftsman restart {name}"
    if note.blocked.startswith("waits"):
        texts.append(note.blocked)
    elif note.blocked:
        variable = note.blocked.removeprefix("variables ").removeprefix("variable ").split(",")[0].split(" ")[0]
        texts.append(note.blocked)
        hint = f"raftsman var put {variable} VALUE"
    if note.gang:
        texts.append(note.gang)
    if note.failed:
        texts.append(f"{note.failed} failed for good: {_why_failed(view, job, group, note.failed_at)}")
        hint = hint or f"change the job, or `raftsman restart {name}`"
    if note.waiting:
        seconds = max(0, note.wake_at_ms - now_ms) / 1000
        said = _said(view, note.waiting_at)
        which = _which_try(view, job, group, note.waiting_at)
        texts.append(f"{note.waiting} could not start: {said} ({which}; the next in {seconds:.0f} s)")
    if note.unpromoted:
        texts.append(f"{note.unpromoted} wait until version {job.version} is promoted (raftsman promote {name})")
    if note.halted:
        texts.append(f"the rollout is halted: {note.halted}; {note.outdated} still run the version before")
        hint = hint or f"run a corrected file, or the one before; `raftsman logs {name}` shows what failed"
    elif note.outdated:
        texts.append(f"the rollout goes on: {note.outdated} still run the version before")
    if note.held:
        texts.append(note.held)
        hint = hint or "wait until more of it runs, or raise disruption.max_unavailable in the job"
    texts.extend(_preempted_remarks(view, job, group))
    texts.extend(_live_remarks(view, job, group))
    return Remarks(texts=tuple(texts), hint=hint)


def _template_remark(job: Job) -> str:
    if job.spec.parameterized is not None:
        return f"nothing of it runs by itself: each `raftsman job dispatch {job.spec.name}` makes a run"
    due_ms, problem = next_run(job)
    if not due_ms:
        return f"nothing of it runs by itself, and no run is due: {problem}"
    return f"nothing of it runs by itself: the next run is due at {moment(due_ms)}"


def _preempted_remarks(view: ClusterView, job: Job, group: int) -> list[str]:
    """Instances that had to make room and have no node yet: for whom."""
    columns = view.allocations
    newest: dict[int, int] = {}
    for position in np.flatnonzero(columns.job == job.slot).tolist():
        spec = next((spec for version, spec in job.specs if version == int(columns.version[position])), job.spec)
        place = int(columns.group[position])
        if place < len(spec.groups) and spec.groups[place].name == job.spec.groups[group].name:
            ordinal = int(columns.ordinal[position])
            before = newest.get(ordinal)
            if before is None or columns.attempt[before] < columns.attempt[position]:
                newest[ordinal] = position
    counts: dict[str, int] = {}
    for position in newest.values():
        reason = columns.reasons.get(int(columns.row[position]), "")
        if reason.startswith(PREEMPTED) and columns.desired[position] == Desired.STOP:
            counts[reason] = counts.get(reason, 0) + 1
    return [f"{count} {reason}" for reason, count in sorted(counts.items())]


def _why_failed(view: ClusterView, job: Job, group: int, position: int) -> str:
    said = _said(view, position)
    if not view.allocations.start_failed[position]:
        return said
    return f"{said} (it never started; {_which_try(view, job, group, position)}, as restart.attempts says)"


def _said(view: ClusterView, position: int) -> str:
    columns = view.allocations
    reason = columns.reasons.get(int(columns.row[position]), "")
    code = int(columns.exit_code[position])
    return reason or (f"exit code {code}" if code else "no reason was given")


def _which_try(view: ClusterView, job: Job, group: int, position: int) -> str:
    retries = retries_of(job.spec.groups[group].restart)
    number = int(view.allocations.failures[position])
    return f"try {number}" if retries == WITHOUT_LIMIT else f"try {number} of {retries + 1}"


def _live_remarks(view: ClusterView, job: Job, group: int) -> list[str]:
    """What has a node and does not run, or is not ready."""
    columns = view.allocations
    mine = np.flatnonzero(columns.job == job.slot)
    ready = columns.ready
    counts: dict[str, int] = {}
    for position in mine.tolist():
        state = AllocState(int(columns.state[position]))
        spec = next((spec for version, spec in job.specs if version == int(columns.version[position])), job.spec)
        place = int(columns.group[position])
        same = place < len(spec.groups) and spec.groups[place].name == job.spec.groups[group].name
        if not same or state in TERMINAL or (state is AllocState.RUNNING and ready[position]):
            continue
        node = view.nodes_by_slot.get(int(columns.node[position]))
        where = node.spec.name if node is not None else "a forgotten node"
        if node is not None and node.status is NodeStatus.LOST:
            text = f"on {where}, which is lost (`raftsman node forget {where}` if it is gone for good)"
        elif state is AllocState.BACKOFF:
            reason = columns.reasons.get(int(columns.row[position]), "")
            text = f"restarting on {where}" + (f": {reason}" if reason else "")
        elif state is AllocState.RUNNING:
            reason = columns.reasons.get(int(columns.row[position]), "")
            text = f"not ready on {where}" + (f": {reason}" if reason else "")
        elif state is AllocState.STOPPING:
            text = f"stopping on {where}"
        elif state is AllocState.PENDING:
            text = f"placed on {where}, not taken up by its agent yet"
        else:
            text = f"starting on {where}"
        counts[text] = counts.get(text, 0) + 1
    return [f"{count} {text}" for text, count in sorted(counts.items())]
