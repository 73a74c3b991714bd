"""PURE: ``Record``, what an agent knows of one allocation, and what it becomes when something is told of it.

Owns: the record; what an assignment, the outcome of an action, a check, or an engine's end makes of it; what the
control plane is told of it. Leaves to others: what follows (``agent.reconcile``), keeping it (``agent.store``). The
rule: values only, and what was said of another run of the allocation changes nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from agent.health import next_word
from orchestrator.contract.model import (
    AllocState,
    Assignment,
    AssignmentKey,
    Desired,
    Observation,
    StrMap,
    TaskObservation,
)
from orchestrator.contract.transitions import is_terminal

WITH_ENGINE = "ended with its engine, which was restarted (without live-restore)"


class Hold(enum.IntEnum):
    """Why the agent itself keeps an allocation from running, whatever is desired."""

    NONE = 0
    DISCONNECTED = 1  # on_disconnect: stop; runs again once a full set says that it should
    FORGOTTEN = 2  # the control plane knows nothing of it (any more): stop, remove, forget


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why the present run of the group failed; the first failing task decides. ``at_once``: it starts again without a
    wait, and that counts for nothing."""

    reason: str
    exit_code: int = 0
    never_ran: bool = False
    permanent: bool = False
    at_once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything the agent knows of one allocation; kept on disk for as long as it is of interest."""

    assignment: Assignment
    state: AllocState = AllocState.PENDING
    restarts: int = 0
    used: int = 0  # restarts counted against the policy
    reason: str = ""
    exit_code: int = 0
    start_failed: bool = False
    digests: StrMap = ()  # image -> digest, as settled for this version of the job (``agent.pins``)
    sized_version: int = 0  # of the job: whose cpu and memory what runs has (0: they never changed)
    launched: tuple[str, ...] = ()  # tasks whose start succeeded in this run
    cause: Cause | None = None
    due_ms: int = 0  # BACKOFF: not before (unix milliseconds)
    running_since_ms: int = 0
    init_task: str = ""  # the last one with a timeout that was seen to run, and since when
    init_since_ms: int = 0
    overdue: str = ""  # the task that ran beyond its timeout in this run
    ended_ms: int = 0
    hold: Hold = Hold.NONE
    tasks: tuple[TaskObservation, ...] = ()
    health: int = 0  # the last word of ``contract.health``; 0: nobody checks

    @property
    def key(self) -> AssignmentKey:
        return self.assignment.key

    @property
    def live(self) -> bool:
        return not is_terminal(self.state)

    @property
    def wanted(self) -> bool:
        """Whether its containers may run: fencing spares exactly these."""
        return self.live and self.assignment.desired is Desired.RUN and self.hold is Hold.NONE


# ---------------------------------------------------------------------------- what is told of it


def resized(record: Record, version: int) -> Record:
    """What runs has the cpu and memory of this version of the job."""
    return replace(record, sized_version=version)


def not_resized(record: Record, task: str, reason: str) -> Record:
    """It cannot be done while it runs, so the group starts again, with the new limits: no fault of its own."""
    text = f"task {task} cannot be given its new limits while it runs: {reason}"
    return replace(record, cause=Cause(reason=text, at_once=True))


def settled(record: Record, image: str, digest: str) -> Record:
    """All instances of this version run this digest of the image."""
    return replace(record, digests=tuple(sorted({**dict(record.digests), image: digest}.items())))


def ended_with_engine(record: Record, now_ms: int) -> Record:
    """An end that was taken for a failure was its engine's doing, as is known only now: nothing to wait for, to count.

    Asked for each task of a group; the second time changes nothing.
    """
    if record.cause is not None and not record.cause.permanent:
        return replace(record, cause=None)  # judged anew, from how its tasks ended
    if record.state is not AllocState.BACKOFF or record.hold is not Hold.NONE or record.reason.endswith(WITH_ENGINE):
        return record
    return replace(record, used=max(0, record.used - 1), due_ms=now_ms, reason=WITH_ENGINE)


def started(record: Record, task: str) -> Record:
    return replace(record, launched=tuple(sorted({*record.launched, task})))


def start_failed(record: Record, task: str, reason: str, *, permanent: bool) -> Record:
    """A start was refused. The group never ran, unless another of its tasks did and this one might yet, too."""
    several = len(record.assignment.group.tasks) > 1
    text = f"task {task}: {reason}" if several else reason
    never_ran = permanent or not record.launched
    return replace(record, cause=Cause(reason=text, never_ran=never_ran, permanent=permanent))


def checked(record: Record, restarts: int, *, ready: bool, reason: str, now_ms: int) -> Record:
    """Its checks say something new; what they said of another run is void."""
    if record.restarts != restarts or record.state is not AllocState.RUNNING:
        return record
    return replace(record, health=next_word(record.health, ready, now_ms), reason=reason)


def unwell(record: Record, restarts: int, *, reason: str, now_ms: int) -> Record:
    """A check says that this run must end: the restart policy decides what follows."""
    if record.restarts != restarts or record.state is not AllocState.RUNNING or record.cause is not None:
        return record
    if record.health:
        record = replace(record, health=next_word(record.health, False, now_ms))
    return replace(record, cause=Cause(reason=reason, exit_code=-1), reason=reason)


def assigned(record: Record | None, assignment: Assignment) -> Record:
    """What an assignment makes of what was known; an older version of it changes nothing. An attempt keeps the values
    of variables that it was placed with: else a restart would bring others or not, by whether the agent happened to
    hear everything anew in between."""
    if record is None:
        return Record(assignment=assignment, sized_version=assignment.job_version)
    if assignment.modify_index < record.assignment.modify_index:
        return record
    hold = record.hold if record.hold is Hold.DISCONNECTED else Hold.NONE
    known = record.assignment.variables
    if known != assignment.variables:
        both = dict(assignment.variables) | dict(known)
        assignment = replace(assignment, variables=tuple(sorted(both.items())))
    return replace(record, assignment=assignment, hold=hold)


def disconnected(record: Record) -> Record:
    return replace(record, hold=Hold.DISCONNECTED) if record.live and record.hold is Hold.NONE else record


def reconnected(record: Record) -> Record:
    """A full set wants an allocation that was stopped for lack of contact: it runs again, and that costs no attempt."""
    return replace(record, hold=Hold.NONE) if record.hold is Hold.DISCONNECTED else record


def forgotten(record: Record) -> Record:
    return replace(record, hold=Hold.FORGOTTEN)


def observation(record: Record) -> Observation:
    return Observation(
        key=record.key,
        restarts=record.restarts,
        state=record.state,
        exit_code=record.exit_code if record.state not in (AllocState.STARTING, AllocState.RUNNING) else 0,
        reason=record.reason,
        start_failed=record.start_failed,
        tasks=record.tasks,
        health=record.health if record.state is AllocState.RUNNING else 0,
    )
