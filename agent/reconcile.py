"""PURE: what should happen to one allocation now: (what is assigned, what was found running) -> actions, observation.

Owns: the restart policy, stopping, adoption, when an allocation is complete, failed or stopped. Leaves to others: doing
it (``agent.supervisor``), remembering it (``agent.store``), what is told of it between two steps (``agent.records``),
allocations together (``agent.across``). The rule: level-triggered. Every step starts from the whole record and
everything found, so a lost notice costs a tick and a repeated step does nothing.

The restart policy: a failure (service: any exit; batch: an exit other than 0) ends the whole group, waits ``delay_ms``
and starts it again, ``attempts`` times. After that ``fail`` gives up, and ``delay`` waits one whole interval
(``attempts * delay_ms``, at least one second) and begins to count again. A service that ran longer than
``STABLE_MS`` and the interval has proved itself: its count begins at 0. A batch job's never does. What could not be
started for a reason that stays (no such image or command) fails at once: the leader tries again, elsewhere if it can.

A task's timeout holds for each run of its group, from when all of it ran: what then still runs is stopped (and killed
after its grace), and has failed. What ended after that time has failed likewise, so that an agent that was away
meanwhile comes to the same end.

What ended with its engine, which was restarted, starts again at once, and that counts for nothing; so does what was
ended because it could not be given its new limits while it ran.

Within a group init tasks run first, one after the other and each to its end, then sidecars start, then main tasks; they
stop in the opposite order. A batch job is done when its main tasks are: its sidecars are stopped then. Containers that
share a network get a container first that holds it (``SANDBOX``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent import timeouts
from agent.driver import SANDBOX, Instance, InstanceState, exit_reason
from agent.health import is_checked, next_word
from agent.records import WITH_ENGINE, Cause, Hold, Record
from orchestrator.contract.containers import CONTAINERS, shares_network, stage_of
from orchestrator.contract.model import (
    AllocState,
    Desired,
    JobType,
    RestartMode,
    StopPolicy,
    TaskObservation,
    TaskRole,
    TaskSpec,
)

STABLE_MS = 60_000
DISCONNECT_GRACE_MS = 5_000
SANDBOX_TASK = TaskSpec(name=SANDBOX, driver=CONTAINERS, stop=StopPolicy(signal="SIGKILL", timeout_ms=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    task: TaskSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    instance: Instance
    signal: str
    timeout_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    instance: Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """Give what runs the cpu and memory that the job's new version asks for."""

    task: TaskSpec


Action = Start | Stop | Remove | Resize


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``forget``: nothing is left to do or to know. ``wake_ms``: look again then, 0 = only when something changes."""

    record: Record
    actions: tuple[Action, ...] = ()
    wake_ms: int = 0
    forget: bool = False


def step(record: Record, found: Sequence[Instance], now_ms: int, *, blockers: Sequence[str] = ()) -> Step:
    """What to do for ``record`` given everything found under its key. ``blockers``: runs that must end first."""
    record = _adopt(record, found)
    current = _of(found, record.restarts)
    older = [one for one in found if one.run.restarts < record.restarts]
    running = [one for one in found if one.running]
    if record.hold is Hold.FORGOTTEN:
        if running:
            return Step(record=record, actions=_stops(record, running))
        return Step(record=record, actions=tuple(Remove(instance=one) for one in found), forget=True)
    if not record.live:
        return Step(record=record, actions=_stops(record, running) if running else _outdated(record, found))
    record = replace(record, tasks=_task_observations(record, current))
    if record.hold is Hold.DISCONNECTED and record.assignment.desired is Desired.RUN:
        return _disconnected(record, running)
    stale = [one for one in older if one.running]
    if stale:
        return Step(record=record, actions=_stops(record, stale))
    if record.assignment.desired is Desired.STOP:
        return _stopping(record, current, running, now_ms)
    if record.state is AllocState.BACKOFF:
        if running:  # started again behind our back: its run is over, and the next one must not run beside it
            return Step(record=record, actions=_stops(record, running))
        # A clock that was set back must not turn 15 s into a day.
        due = min(record.due_ms, now_ms + _longest_wait(record))
        if now_ms < due:
            return Step(record=replace(record, due_ms=due), wake_ms=due, actions=_outdated(record, found))
        record = _begin_again(record)
        current = _of(found, record.restarts)
    return _run(record, current, running, found, now_ms, blockers)


def _run(
    record: Record,
    current: Sequence[Instance],
    running: Sequence[Instance],
    found: Sequence[Instance],
    now_ms: int,
    blockers: Sequence[str],
) -> Step:
    record = _timed(record, current, now_ms)
    if record.cause is None and not record.overdue and _done(record, current):
        if running:
            return Step(record=record, actions=_stops(record, running))  # what only stood beside the main tasks
        return Step(record=replace(record, state=AllocState.COMPLETE, reason="", exit_code=0, ended_ms=now_ms))
    cause = record.cause or _too_late(record, current) or _failure(record, current)
    if cause is not None:
        record = replace(record, cause=cause if not record.overdue else record.cause)
        if running:
            return Step(record=record, actions=_stops(record, running))
        return _after_failure(record, cause, now_ms)
    tasks = record.assignment.group.tasks
    by_task = {one.run.task: one for one in current if one.state is not InstanceState.CREATED}
    missing = [task for task in tasks if task.name not in by_task]
    if not by_task:
        record = replace(record, sized_version=record.assignment.job_version)
    if missing and record.assignment.adopt_only and record.state is AllocState.PENDING and not found:
        # Its number may have been used and passed since: as a fencing token it must not come up again.
        reason = "made before the cluster was restored from a backup, and not running here: it is placed anew"
        return Step(record=replace(record, state=AllocState.FAILED, start_failed=True, reason=reason, ended_ms=now_ms))
    if missing and blockers:
        return Step(record=replace(record, reason="waits until " + ", ".join(blockers) + " has ended"))
    first, reason = _next_to_start(record, by_task, missing)
    actions: tuple[Action, ...] = (*_outdated(record, found), *(Start(task=task) for task in first))
    if missing or reason or not tasks:
        reason = reason if tasks else "the group has no tasks"
        state = AllocState.STARTING if tasks else AllocState.COMPLETE
        record, wake_ms = _timed_init(record, by_task, now_ms)
        return Step(record=replace(record, state=state, reason=reason), actions=actions, wake_ms=wake_ms)
    if record.state is not AllocState.RUNNING:
        record = replace(record, state=AllocState.RUNNING, reason="", running_since_ms=now_ms)
        record = replace(record, health=next_word(record.health, False, now_ms) if is_checked(tasks) else 0)
    if 0 < record.sized_version < record.assignment.job_version:
        actions += tuple(Resize(task=task) for task in tasks if by_task[task.name].running)
    return Step(
        record=record,
        actions=actions,
        wake_ms=timeouts.deadline_ms(record.assignment.group, record.running_since_ms, current),
    )


def _next_to_start(
    record: Record, by_task: Mapping[str, Instance], missing: Sequence[TaskSpec]
) -> tuple[list[TaskSpec], str]:
    """What may start now, in this order, and what the rest waits for ("": nothing)."""
    group = record.assignment.group
    first: list[TaskSpec] = []
    if missing and shares_network(group) and SANDBOX not in by_task:
        containers = {task.name for task in group.tasks if task.driver_name == CONTAINERS}
        if not containers & by_task.keys():  # else they were started before there were sandboxes
            first.append(SANDBOX_TASK)
    for task in group.tasks:
        if task.role is not TaskRole.INIT:
            continue
        one = by_task.get(task.name)
        if one is None:
            return [*first, task], f"init task {task.name} comes first"
        if one.running:
            return first, f"init task {task.name} runs"
    return first + sorted(missing, key=stage_of), ""


def _done(record: Record, current: Sequence[Instance]) -> bool:
    """Whether a batch job's main tasks have all ended well."""
    ended = {one.run.task for one in current if one.exit is not None and one.exit.code == 0}
    main = [task.name for task in record.assignment.group.tasks if task.role is TaskRole.MAIN]
    batch = record.assignment.job_type is JobType.BATCH
    oom = any(one.exit is not None and one.exit.oom_killed for one in current if one.run.task in main)
    return batch and bool(main) and not oom and ended.issuperset(main)


def _stopping(record: Record, current: Sequence[Instance], running: Sequence[Instance], now_ms: int) -> Step:
    if running:
        reason = record.reason if record.state is AllocState.STOPPING else "told to stop"
        return Step(
            record=replace(record, state=AllocState.STOPPING, reason=reason),
            actions=_stops(record, running),
        )
    exits = {one.run.task: one.exit.code for one in current if one.exit is not None and one.run.task != SANDBOX}
    # In BACKOFF it was ended by us (for lack of contact): what it then exited with is no result.
    if _done(record, current) and record.state is not AllocState.BACKOFF:
        return Step(record=replace(record, state=AllocState.COMPLETE, reason="", exit_code=0, ended_ms=now_ms))
    return Step(
        record=replace(
            record,
            state=AllocState.STOPPED,
            reason="stopped as told",
            exit_code=next((code for code in exits.values() if code), 0),
            ended_ms=now_ms,
        )
    )


def _disconnected(record: Record, running: Sequence[Instance]) -> Step:
    if running:
        stops = tuple(  # all at once: there is a time to keep
            replace(stop, timeout_ms=min(stop.timeout_ms, DISCONNECT_GRACE_MS))
            for stop in _stops(record, running, at_once=True)
        )
        return Step(record=record, actions=stops)
    if record.state in (AllocState.PENDING, AllocState.STARTING, AllocState.RUNNING):
        record = replace(
            record,
            state=AllocState.BACKOFF,
            reason="stopped without contact to a majority (on_disconnect: stop); waits for the control plane",
        )
    return Step(record=record)


def _timed_init(record: Record, by_task: Mapping[str, Instance], now_ms: int) -> tuple[Record, int]:
    """With the time since which the init task that runs now does so, and its deadline (0: none)."""
    for task in record.assignment.group.tasks:
        if task.role is TaskRole.INIT and task.timeout_ms and task.name in by_task and by_task[task.name].running:
            if record.init_task != task.name:
                record = replace(record, init_task=task.name, init_since_ms=now_ms)
            return record, record.init_since_ms + task.timeout_ms
    return record, 0


def _timed(record: Record, current: Sequence[Instance], now_ms: int) -> Record:
    """With the task that took too long, if one did."""
    if record.running_since_ms > now_ms:
        record = replace(record, running_since_ms=now_ms)  # a clock that was set back must not give it a day more
    if record.init_since_ms > now_ms:
        record = replace(record, init_since_ms=now_ms)
    if record.cause is not None or record.overdue:
        return record
    group = record.assignment.group
    late = timeouts.overdue(group, record.running_since_ms, current, now_ms)
    if not late and record.init_task:
        init = [one for one in current if one.run.task == record.init_task]
        late = timeouts.overdue(group, record.init_since_ms, init, now_ms)
    return replace(record, overdue=late) if late else record


def _too_late(record: Record, current: Sequence[Instance]) -> Cause | None:
    """Stays what it is until all of the run has ended; then it has the exit code of the task that took too long."""
    if not record.overdue:
        return None
    codes = [one.exit.code for one in current if one.run.task == record.overdue and one.exit is not None]
    return Cause(reason=timeouts.reason(record.assignment.group, record.overdue), exit_code=codes[0] if codes else 0)


def _failure(record: Record, current: Sequence[Instance]) -> Cause | None:
    """The first reason why this run of the group cannot go on, or None."""
    batch = record.assignment.job_type is JobType.BATCH
    memory = {task.name: memory_limit(task) for task in record.assignment.group.tasks}
    init = {task.name for task in record.assignment.group.tasks if task.role is TaskRole.INIT}
    several = len(memory) > 1
    ended = sorted(
        ((one.exit.ended_ms, one.run.task, one.exit) for one in current if one.exit is not None),
        key=lambda entry: entry[:2],
    )
    for _, task, exit_ in ended:
        if (batch or task in init) and exit_.code == 0 and not exit_.oom_killed:
            continue
        if task == SANDBOX and not exit_.with_engine:
            return Cause(reason="the container that held the group's network has ended", exit_code=-1)
        reason = WITH_ENGINE if exit_.with_engine else exit_reason(exit_, memory.get(task, 0))
        text = f"task {task}: {reason}" if several else reason
        return Cause(
            reason=text,
            exit_code=exit_.code,
            never_ran=exit_.never_ran,
            permanent=exit_.never_ran,
            at_once=exit_.with_engine,
        )
    present = {one.run.task for one in current}
    vanished = [task for task in record.launched if task not in present]
    if vanished:
        what = "the container that held the group's network" if vanished[0] == SANDBOX else f"task {vanished[0]}"
        return Cause(reason=f"{what} was removed behind the agent's back", exit_code=-1)
    return None


def _after_failure(record: Record, cause: Cause, now_ms: int) -> Step:
    policy = record.assignment.group.restart
    interval = max(1000, policy.attempts * policy.delay_ms)
    ran_ms = now_ms - record.running_since_ms if record.running_since_ms else 0
    proved = record.assignment.job_type is not JobType.BATCH and ran_ms >= max(STABLE_MS, interval)
    used = 0 if proved else record.used
    failed = replace(record, exit_code=cause.exit_code, start_failed=cause.never_ran, cause=None, used=used)
    if cause.at_once:
        return _backoff(replace(failed, state=AllocState.BACKOFF, reason=cause.reason), now_ms)
    if not cause.permanent and used < policy.attempts:
        failed = replace(failed, state=AllocState.BACKOFF, reason=cause.reason, used=used + 1)
        return _backoff(failed, now_ms + policy.delay_ms)
    if not cause.permanent and policy.mode is RestartMode.DELAY:
        failed = replace(failed, state=AllocState.BACKOFF, reason=cause.reason, used=0)
        return _backoff(failed, now_ms + interval)
    times = f" (restarted {used} time{'s' if used != 1 else ''})" if used else ""
    return Step(record=replace(failed, state=AllocState.FAILED, reason=cause.reason + times, ended_ms=now_ms))


def _backoff(record: Record, due_ms: int) -> Step:
    return Step(record=replace(record, due_ms=due_ms), wake_ms=due_ms)


def _begin_again(record: Record) -> Record:
    return replace(
        record,
        state=AllocState.STARTING,
        restarts=record.restarts + 1,
        reason="",
        start_failed=False,
        launched=(),
        cause=None,
        due_ms=0,
        running_since_ms=0,
        overdue="",
        init_task="",
        init_since_ms=0,
        sized_version=record.assignment.job_version,
        tasks=(),
    )


def _longest_wait(record: Record) -> int:
    policy = record.assignment.group.restart
    return max(1000, policy.delay_ms, policy.attempts * policy.delay_ms)


def _adopt(record: Record, found: Sequence[Instance]) -> Record:
    """Take up what runs: the record may be older than the last start (the agent died in between), or lost."""
    newest = max((one.run.restarts for one in found), default=0)
    if newest > record.restarts and record.live:
        record = replace(_begin_again(record), restarts=newest)
    names = {one.run.task for one in _of(found, record.restarts) if one.state is not InstanceState.CREATED}
    if record.live and record.state is not AllocState.BACKOFF and names - set(record.launched):
        record = replace(record, launched=tuple(sorted(names | set(record.launched))))
    return record


def _of(found: Iterable[Instance], restarts: int) -> list[Instance]:
    return [one for one in found if one.run.restarts == restarts]


def _outdated(record: Record, found: Sequence[Instance]) -> tuple[Action, ...]:
    """Ended runs before the previous one: ``logs --previous`` needs that one, nobody the others."""
    return tuple(Remove(instance=one) for one in found if not one.running and one.run.restarts < record.restarts - 1)


def _stops(record: Record, running: Sequence[Instance], *, at_once: bool = False) -> tuple[Stop, ...]:
    """The last stage that runs; the others have their turn when it has ended."""
    policies = {task.name: task.stop for task in record.assignment.group.tasks} | {SANDBOX: SANDBOX_TASK.stop}
    stages = {task.name: stage_of(task) for task in record.assignment.group.tasks} | {SANDBOX: -1}
    last = max((stages.get(one.run.task, 0) for one in running), default=0)
    stops = []
    for one in running:
        if not at_once and stages.get(one.run.task, 0) < last:
            continue
        policy = policies.get(one.run.task)
        stops.append(
            Stop(
                instance=one,
                signal=policy.signal if policy else "SIGTERM",
                timeout_ms=policy.timeout_ms if policy else 10_000,
            )
        )
    return tuple(stops)


def _task_observations(record: Record, current: Sequence[Instance]) -> tuple[TaskObservation, ...]:
    by_task = {one.run.task: one for one in current}
    seen = []
    for task in record.assignment.group.tasks:
        one = by_task.get(task.name)
        if one is None:
            continue
        if one.exit is None:
            state, code, reason, oom = AllocState.STARTING, 0, "", False
            if one.running:
                state = AllocState.RUNNING
        else:
            code, oom = one.exit.code, one.exit.oom_killed
            state = AllocState.COMPLETE if code == 0 else AllocState.FAILED
            reason = exit_reason(one.exit, memory_limit(task)) if code else ""
        seen.append(
            TaskObservation(
                task=task.name,
                state=state,
                exit_code=code,
                reason=reason,
                restarts=record.restarts,
                runtime_id=one.runtime_id,
                oom_killed=oom,
            )
        )
    return tuple(seen)


def memory_limit(task: TaskSpec) -> int:
    """MiB at which it is killed."""
    return max(task.resources.memory_mib, task.container.memory_max_mib if task.container is not None else 0)
