"""``agent.reconcile`` as a table: what is recorded and found -> what is done and said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import across, reconcile, records
from agent.driver import SANDBOX, Exit, Instance, InstanceState, RunId, run_name
from agent.reconcile import Remove, Start, Stop, step
from agent.records import Cause, Hold, Record
from orchestrator.contract.model import (
    AllocationId,
    AllocState,
    Assignment,
    AssignmentKey,
    Desired,
    GroupSpec,
    JobType,
    Resources,
    RestartMode,
    RestartPolicy,
    StopPolicy,
    TaskObservation,
    TaskRole,
    TaskSpec,
)
from orchestrator.contract.transitions import follows

NOW = 1_000_000_000
POLICY = RestartPolicy(attempts=2, delay_ms=15_000)


def key(*, attempt: int = 1, uid: str = "uid", ordinal: int = 0) -> AssignmentKey:
    return AssignmentKey(
        id=AllocationId(namespace="default", job="web", group="api", ordinal=ordinal), job_uid=uid, attempt=attempt
    )


def task(name: str = "main", memory_mib: int = 64) -> TaskSpec:
    return TaskSpec(
        name=name,
        command=("run",),
        resources=Resources(memory_mib=memory_mib),
        stop=StopPolicy(signal="SIGINT", timeout_ms=7000),
    )


def record(
    *tasks: TaskSpec,
    job_type: JobType = JobType.SERVICE,
    desired: Desired = Desired.RUN,
    policy: RestartPolicy = POLICY,
    at: AssignmentKey | None = None,
    **fields: Any,
) -> Record:
    assignment = Assignment(
        key=at or key(),
        desired=desired,
        group=GroupSpec(name="api", tasks=tasks or (task(),), restart=policy),
        job_type=job_type,
    )
    return replace(Record(assignment=assignment), **fields)


def instance(
    name: str = "main",
    *,
    restarts: int = 0,
    exit_: Exit | None = None,
    created: bool = False,
    at: AssignmentKey | None = None,
    node: str = "n1",
) -> Instance:
    run = RunId(key=at or key(), restarts=restarts, task=name)
    state = InstanceState.RUNNING if exit_ is None else InstanceState.EXITED
    return Instance(
        name=run_name("cluster", run),
        driver="fake",
        cluster_id="cluster",
        node_id=node,
        run=run,
        runtime_id=f"id-{name}-{restarts}",
        state=InstanceState.CREATED if created else state,
        exit=exit_,
    )


def kinds(result: reconcile.Step) -> list[str]:
    return [type(action).__name__ for action in result.actions]


def test_a_new_assignment_starts_every_task() -> None:
    result = step(record(task("a"), task("b")), [], NOW)
    assert [action.task.name for action in result.actions if isinstance(action, Start)] == ["a", "b"]
    assert result.record.state is AllocState.STARTING


def test_it_runs_when_every_task_runs() -> None:
    half = step(record(task("a"), task("b"), state=AllocState.STARTING), [instance("a")], NOW)
    assert (half.record.state, kinds(half)) == (AllocState.STARTING, ["Start"])
    whole = step(half.record, [instance("a"), instance("b")], NOW)
    assert (whole.record.state, whole.actions) == (AllocState.RUNNING, ())
    assert [one.runtime_id for one in whole.record.tasks] == ["id-a-0", "id-b-0"]


def test_what_runs_has_no_reason_and_what_is_complete_neither_nor_an_exit_code() -> None:
    waited = record(state=AllocState.STARTING, reason="waits until raftsman-old has ended", exit_code=3)
    running = step(waited, [instance()], NOW).record
    assert (running.state, running.reason, running.running_since_ms) == (AllocState.RUNNING, "", NOW)
    batch = record(job_type=JobType.BATCH, state=AllocState.BACKOFF, reason="exit code 3", exit_code=3)
    for desired, state in ((Desired.RUN, AllocState.STARTING), (Desired.STOP, AllocState.RUNNING)):
        before = replace(batch, state=state, assignment=replace(batch.assignment, desired=desired))
        done = step(before, [instance(exit_=Exit(code=0))], NOW).record
        assert (done.state, done.reason, done.exit_code, done.ended_ms) == (AllocState.COMPLETE, "", 0, NOW)


def test_a_failure_that_was_seen_is_one_whatever_is_found_when_all_has_ended() -> None:
    """What was stopped for its sake may exit with 0: a batch job is not done then."""
    failing = record(job_type=JobType.BATCH, state=AllocState.RUNNING, cause=Cause(reason="no such image", exit_code=9))
    stopping = step(failing, [instance()], NOW)
    assert (kinds(stopping), stopping.record.cause) == (["Stop"], failing.cause)
    over = step(stopping.record, [instance(exit_=Exit(code=0))], NOW).record
    assert (over.state, over.reason, over.exit_code, over.cause) == (AllocState.BACKOFF, "no such image", 9, None)


@pytest.mark.parametrize("job_type", [JobType.SERVICE, JobType.BATCH])
@pytest.mark.parametrize("adopt_only", [False, True])
def test_a_group_without_tasks_is_complete_at_once(adopt_only: bool, job_type: JobType) -> None:
    known = record(job_type=job_type).assignment
    none = replace(known.group, tasks=())
    done = step(Record(assignment=replace(known, group=none, adopt_only=adopt_only)), [], NOW)
    assert (done.record.state, done.record.reason, done.actions) == (
        AllocState.COMPLETE, "the group has no tasks", ()
    )  # fmt: skip


def test_a_step_that_is_repeated_does_nothing() -> None:
    running = step(record(), [instance()], NOW).record
    again = step(running, [instance()], NOW + 5)
    assert again == reconcile.Step(record=running)
    assert (again.actions, again.wake_ms, again.forget) == ((), 0, False)


def test_a_container_that_was_created_but_not_started_is_started() -> None:
    assert kinds(step(record(), [instance(created=True)], NOW)) == ["Start"]


def test_what_runs_already_is_adopted_without_a_start() -> None:
    """The records were lost: the assignment comes again and finds the third run of its attempt."""
    result = step(record(), [instance(restarts=2)], NOW)
    assert (result.actions, result.record.state, result.record.restarts) == ((), AllocState.RUNNING, 2)


@pytest.mark.parametrize(
    ("job_type", "code", "expected"),
    [
        (JobType.SERVICE, 0, AllocState.BACKOFF),
        (JobType.SERVICE, 3, AllocState.BACKOFF),
        (JobType.SYSTEM, 0, AllocState.BACKOFF),
        (JobType.BATCH, 0, AllocState.COMPLETE),
        (JobType.BATCH, 3, AllocState.BACKOFF),
    ],
)
def test_what_an_exit_means_depends_on_the_type(job_type: JobType, code: int, expected: AllocState) -> None:
    running = record(job_type=job_type, state=AllocState.RUNNING, launched=("main",))
    result = step(running, [instance(exit_=Exit(code=code))], NOW)
    assert result.record.state is expected
    assert result.actions == ()


@pytest.mark.parametrize(
    ("exit_", "reason"),
    [
        (Exit(code=3), "exit code 3"),
        (Exit(code=137, signal=9), "killed by signal 9"),
        (Exit(code=137, signal=9, oom_killed=True), "out of memory (limit 64 MiB)"),
        (Exit(code=-1, reason="its supervisor was killed"), "its supervisor was killed"),
    ],
)
def test_the_reason_says_how_it_ended(exit_: Exit, reason: str) -> None:
    result = step(record(state=AllocState.RUNNING, launched=("main",)), [instance(exit_=exit_)], NOW)
    assert (result.record.reason, result.record.exit_code) == (reason, exit_.code)


def test_one_failing_task_stops_the_whole_group_first_and_names_itself() -> None:
    running = record(task("a"), task("b"), state=AllocState.RUNNING, launched=("a", "b"))
    ended = instance("a", exit_=Exit(code=3, ended_ms=5))
    first = step(running, [ended, instance("b")], NOW)
    assert [(a.instance.run.task, a.signal, a.timeout_ms) for a in first.actions if isinstance(a, Stop)] == [
        ("b", "SIGINT", 7000)
    ]
    assert first.record.state is AllocState.RUNNING
    # The stopped one ends with another code, and earlier by a wrong clock: the cause stays.
    second = step(first.record, [ended, instance("b", exit_=Exit(code=130, signal=2, ended_ms=1))], NOW)
    assert (second.record.state, second.record.reason) == (AllocState.BACKOFF, "task a: exit code 3")
    assert second.wake_ms == NOW + 15_000


def test_batch_tasks_of_a_group_may_end_one_after_the_other() -> None:
    running = record(task("a"), task("b"), job_type=JobType.BATCH, state=AllocState.RUNNING, launched=("a", "b"))
    half = step(running, [instance("a", exit_=Exit(code=0)), instance("b")], NOW)
    assert (half.record.state, half.actions) == (AllocState.RUNNING, ())
    whole = step(half.record, [instance("a", exit_=Exit(code=0)), instance("b", exit_=Exit(code=0))], NOW)
    assert whole.record.state is AllocState.COMPLETE


def test_a_batch_group_of_which_one_was_killed_for_its_memory_is_not_done() -> None:
    """Also if it caught that and exited with 0."""
    running = record(task("a"), task("b"), job_type=JobType.BATCH, state=AllocState.RUNNING, launched=("a", "b"))
    found = [instance("a", exit_=Exit(code=0, oom_killed=True)), instance("b", exit_=Exit(code=0))]
    assert step(running, found, NOW).record.state is AllocState.BACKOFF


def test_a_batch_group_is_done_whatever_killed_a_sidecar() -> None:
    beside = replace(task("log"), role=TaskRole.SIDECAR)
    running = record(task("a"), beside, job_type=JobType.BATCH, state=AllocState.RUNNING, launched=("a", "log"))
    found = [instance("a", exit_=Exit(code=0)), instance("log", exit_=Exit(code=0, oom_killed=True))]
    assert step(running, found, NOW).record.state is AllocState.COMPLETE


def test_a_backoff_waits_its_time_and_then_starts_the_next_run() -> None:
    waiting = record(state=AllocState.BACKOFF, due_ms=NOW + 100, used=1, launched=("main",))
    found = [instance(exit_=Exit(code=3))]
    early = step(waiting, found, NOW + 99)
    assert (early.record.state, early.actions, early.wake_ms) == (AllocState.BACKOFF, (), NOW + 100)
    late = step(waiting, found, NOW + 100)
    assert (late.record.state, late.record.restarts, kinds(late)) == (AllocState.STARTING, 1, ["Start"])


@pytest.mark.parametrize("now_ms", [NOW, NOW + 100])
def test_what_somebody_starts_again_during_a_backoff_is_ended_before_the_next_run(now_ms: int) -> None:
    """After ``docker restart`` it went on beside its successor, with the same ports."""
    waiting = record(state=AllocState.BACKOFF, due_ms=NOW + 100, used=1, launched=("main",))
    revived = step(waiting, [instance()], now_ms)
    assert (revived.record.state, revived.record.due_ms, kinds(revived)) == (AllocState.BACKOFF, NOW + 100, ["Stop"])
    late = step(revived.record, [instance(exit_=Exit(code=143, signal=15))], NOW + 100)
    assert (late.record.restarts, late.record.used, kinds(late)) == (1, 1, ["Start"])


def test_a_clock_that_was_set_back_does_not_prolong_a_backoff() -> None:
    waiting = record(state=AllocState.BACKOFF, due_ms=NOW + 86_400_000, used=1)
    assert step(waiting, [], NOW).wake_ms == NOW + 30_000
    brief = record(state=AllocState.BACKOFF, due_ms=NOW + 86_400_000, policy=RestartPolicy(attempts=0, delay_ms=0))
    assert step(brief, [], NOW).wake_ms == NOW + 1_000


def test_the_next_run_begins_with_nothing_of_the_one_before() -> None:
    known = replace(record().assignment, job_version=4)
    over = Record(
        assignment=known, state=AllocState.BACKOFF, restarts=1, used=2, reason="exit code 1", exit_code=1,
        start_failed=True, sized_version=3, launched=("main",), due_ms=NOW, running_since_ms=5, init_task="i",
        init_since_ms=6, overdue="main", health=9,
    )  # fmt: skip
    assert step(over, [], NOW).record == replace(
        over, state=AllocState.STARTING, restarts=2, reason="", start_failed=False, sized_version=4, launched=(),
        due_ms=0, running_since_ms=0, init_task="", init_since_ms=0, overdue="",
    )  # fmt: skip


def test_the_policy_allows_so_many_restarts_and_then_fails() -> None:
    state = record(policy=RestartPolicy(attempts=2, delay_ms=10))
    now = NOW
    restarts = []
    for _ in range(3):
        state = step(state, [], now).record
        state = records.started(state, "main")
        state = step(state, [instance(restarts=state.restarts, exit_=Exit(code=7))], now).record
        restarts.append((state.restarts, state.state))
        now += 10
    assert restarts == [(0, AllocState.BACKOFF), (1, AllocState.BACKOFF), (2, AllocState.FAILED)]
    assert (state.reason, state.exit_code) == ("exit code 7 (restarted 2 times)", 7)


def test_delay_mode_waits_a_whole_interval_and_counts_anew() -> None:
    policy = RestartPolicy(attempts=2, delay_ms=10_000, mode=RestartMode.DELAY)
    exhausted = record(policy=policy, state=AllocState.RUNNING, launched=("main",), used=2, restarts=2)
    result = step(exhausted, [instance(restarts=2, exit_=Exit(code=1))], NOW)
    assert (result.record.state, result.record.used, result.wake_ms) == (AllocState.BACKOFF, 0, NOW + 20_000)
    at_once = RestartPolicy(attempts=0, delay_ms=0, mode=RestartMode.DELAY)
    result = step(record(policy=at_once, state=AllocState.RUNNING), [instance(exit_=Exit(code=1))], NOW)
    assert (result.record.state, result.wake_ms) == (AllocState.BACKOFF, NOW + 1_000), "a second at least"


def test_a_service_that_ran_long_enough_has_its_restarts_back() -> None:
    fields: dict[str, Any] = {"state": AllocState.RUNNING, "launched": ("main",), "used": 2, "restarts": 2}
    found = [instance(restarts=2, exit_=Exit(code=1))]
    brief = record(running_since_ms=NOW - 60_000 + 1, **fields)
    assert step(brief, found, NOW).record.state is AllocState.FAILED
    stable = record(running_since_ms=NOW - 60_000, **fields)
    assert (step(stable, found, NOW).record.state, step(stable, found, NOW).record.used) == (AllocState.BACKOFF, 1)
    batch = record(running_since_ms=NOW - 60_000, job_type=JobType.BATCH, **fields)
    assert step(batch, found, NOW).record.state is AllocState.FAILED


def test_a_start_that_fails_counts_as_a_failure_that_never_ran() -> None:
    failed = records.start_failed(record(state=AllocState.STARTING), "main", "image x not found", permanent=False)
    result = step(failed, [], NOW)
    assert (result.record.state, result.record.reason, result.record.start_failed) == (
        AllocState.BACKOFF,
        "image x not found",
        True,
    )
    again = step(result.record, [], NOW + 15_000)
    assert (again.record.restarts, again.record.start_failed, kinds(again)) == (1, False, ["Start"])


def test_a_start_that_can_never_succeed_fails_at_once() -> None:
    for mode in RestartMode:
        starting = record(state=AllocState.STARTING, policy=replace(POLICY, mode=mode))
        failed = records.start_failed(starting, "main", "refused by policy", permanent=True)
        result = step(failed, [], NOW)
        assert (result.record.state, result.record.reason) == (AllocState.FAILED, "refused by policy")
        assert result.record.start_failed


def test_a_group_whose_second_task_cannot_start_is_stopped_and_did_run() -> None:
    half = records.started(record(task("a"), task("b"), state=AllocState.STARTING), "a")
    failed = records.start_failed(half, "b", "no such command", permanent=False)
    stopping = step(failed, [instance("a")], NOW)
    assert kinds(stopping) == ["Stop"]
    over = step(stopping.record, [instance("a", exit_=Exit(code=130))], NOW)
    assert (over.record.reason, over.record.start_failed) == ("task b: no such command", False)


def test_a_group_whose_second_task_can_never_start_counts_as_one_that_never_ran() -> None:
    half = records.started(record(task("a"), task("b"), state=AllocState.STARTING), "a")
    failed = records.start_failed(half, "b", "no such command", permanent=True)
    over = step(step(failed, [instance("a")], NOW).record, [instance("a", exit_=Exit(code=130))], NOW)
    assert (over.record.state, over.record.start_failed) == (AllocState.FAILED, True)


def test_an_init_that_found_no_command_is_not_restarted_here() -> None:
    ended = Exit(code=127, reason="command not found in image x", never_ran=True)
    over = step(record(state=AllocState.RUNNING, launched=("main",)), [instance(exit_=ended)], NOW).record
    assert (over.state, over.reason, over.start_failed) == (AllocState.FAILED, "command not found in image x", True)


def test_a_container_that_somebody_removed_is_a_failure_not_a_fresh_start() -> None:
    result = step(record(state=AllocState.RUNNING, launched=("main",)), [], NOW)
    assert (result.record.state, result.record.exit_code) == (AllocState.BACKOFF, -1)
    assert result.record.reason == "task main was removed behind the agent's back"


def test_what_is_found_of_the_newest_run_was_started_by_this_agent_or_the_one_before() -> None:
    """So that whoever removes it later causes a failure, and not a second start beside nothing."""
    group = (task("a"), task("b"), task("c"))
    found = [instance("a"), instance("b", exit_=Exit(code=0)), instance("c", created=True)]
    assert step(record(*group), found, NOW).record.launched == ("a", "b")
    assert step(record(*group, launched=("c",)), found[:1], NOW).record.launched == ("a", "c")
    assert step(record(*group, launched=("b", "a")), found[:1], NOW).record.launched == ("b", "a"), "nothing new"
    waiting = record(*group, state=AllocState.BACKOFF, due_ms=NOW + 1)
    assert step(waiting, found[1:], NOW).record.launched == (), "that run is over"
    ended = record(*group, state=AllocState.FAILED)
    assert step(ended, found[1:], NOW).record == ended


def test_the_newest_run_counts_whatever_else_is_found_and_nothing_that_has_ended_begins_again() -> None:
    found = [instance(restarts=3), instance(restarts=1, exit_=Exit(code=1))]
    assert step(record(), found, NOW).record.restarts == 3
    ended = record(state=AllocState.FAILED)
    assert (step(ended, found, NOW).record, kinds(step(ended, found, NOW))) == (ended, ["Stop"])


def test_what_the_group_does_not_know_is_stopped_as_anything_is() -> None:
    told = record(desired=Desired.STOP, state=AllocState.RUNNING)
    assert step(told, [instance("ghost")], NOW).actions == (
        Stop(instance=instance("ghost"), signal="SIGTERM", timeout_ms=10_000),
    )


def test_every_task_is_observed_by_itself() -> None:
    names = ("created", "runs", "done", "failed", "killed", "missing")
    known = record(*(task(name) for name in names), state=AllocState.RUNNING, restarts=2, reason="before")
    found = [
        instance("created", restarts=2, created=True),
        instance("runs", restarts=2),
        instance("done", restarts=2, exit_=Exit(code=0)),
        instance("failed", restarts=2, exit_=Exit(code=3)),
        instance("killed", restarts=2, exit_=Exit(code=137, oom_killed=True)),
        instance("missing", restarts=1, exit_=Exit(code=9)),
    ]

    def seen(name: str, state: AllocState, code: int = 0, reason: str = "", oom: bool = False) -> TaskObservation:
        return TaskObservation(
            task=name, state=state, exit_code=code, reason=reason, restarts=2, runtime_id=f"id-{name}-2",
            oom_killed=oom,
        )  # fmt: skip

    assert step(known, found, NOW).record.tasks == (
        seen("created", AllocState.STARTING),
        seen("runs", AllocState.RUNNING),
        seen("done", AllocState.COMPLETE),
        seen("failed", AllocState.FAILED, 3, "exit code 3"),
        seen("killed", AllocState.FAILED, 137, "out of memory (limit 64 MiB)", True),
    )
    assert reconcile.memory_limit(task(memory_mib=0)) == 0, "without a limit none is named"


@pytest.mark.parametrize("state", [AllocState.PENDING, AllocState.STARTING, AllocState.RUNNING, AllocState.BACKOFF])
def test_told_to_stop_it_stops_what_runs_and_says_so(state: AllocState) -> None:
    told = record(desired=Desired.STOP, state=state)
    stopping = step(told, [instance()], NOW)
    assert (stopping.record.state, kinds(stopping)) == (AllocState.STOPPING, ["Stop"])
    done = step(stopping.record, [instance(exit_=Exit(code=143, signal=15))], NOW)
    assert (done.record.state, done.actions) == (AllocState.STOPPED, ())


@pytest.mark.parametrize(
    ("code", "expected"), [(0, 0), (143, 143), (None, 0)], ids=["ended well", "was killed", "never started"]
)
def test_its_exit_code_is_that_of_a_task_and_not_of_what_held_the_network(code: int | None, expected: int) -> None:
    held = instance(SANDBOX, exit_=Exit(code=137, signal=9))
    main = instance(created=True) if code is None else instance(exit_=Exit(code=code))
    first = instance("first", exit_=Exit(code=0))
    told = record(task("first"), task(), desired=Desired.STOP, state=AllocState.STOPPING)
    over = step(told, [held, first, main], NOW).record
    assert (over.state, over.exit_code, over.reason) == (AllocState.STOPPED, expected, "stopped as told")


def test_why_it_stops_is_said_until_it_has() -> None:
    told = record(desired=Desired.STOP, state=AllocState.RUNNING, reason="")
    assert step(told, [instance()], NOW).record.reason == "told to stop"
    superseded = replace(told, state=AllocState.STOPPING, reason="superseded")
    assert step(superseded, [instance()], NOW).record.reason == "superseded"


def test_told_to_stop_before_anything_ran_it_is_stopped_at_once() -> None:
    assert step(record(desired=Desired.STOP), [], NOW).record.state is AllocState.STOPPED


def test_a_batch_job_that_was_done_when_told_to_stop_is_complete() -> None:
    told = record(desired=Desired.STOP, job_type=JobType.BATCH, state=AllocState.RUNNING)
    assert step(told, [instance(exit_=Exit(code=0))], NOW).record.state is AllocState.COMPLETE


@pytest.mark.parametrize("state", [AllocState.COMPLETE, AllocState.FAILED, AllocState.STOPPED])
def test_what_has_ended_never_starts_again(state: AllocState) -> None:
    assert step(record(state=state), [], NOW).actions == ()
    assert kinds(step(record(state=state), [instance()], NOW)) == ["Stop"]


def test_the_previous_run_is_kept_for_its_output_and_older_ones_are_removed() -> None:
    found = [instance(restarts=n, exit_=Exit(code=1)) for n in (0, 1, 2)] + [instance(restarts=3)]
    result = step(record(state=AllocState.RUNNING, restarts=3, launched=("main",)), found, NOW)
    assert [a.instance.run.restarts for a in result.actions if isinstance(a, Remove)] == [0, 1]


def test_an_older_run_that_still_runs_is_stopped_before_anything_else() -> None:
    result = step(record(state=AllocState.STARTING, restarts=1), [instance(restarts=0)], NOW)
    assert kinds(result) == ["Stop"]


def test_nothing_starts_while_something_else_must_end_first() -> None:
    result = step(record(), [], NOW, blockers=["raftsman-old"])
    assert (result.actions, result.record.state) == ((), AllocState.PENDING)
    assert "raftsman-old" in result.record.reason
    running = step(record(), [instance()], NOW, blockers=["raftsman-old"])
    assert (running.actions, running.record.state, running.record.reason) == ((), AllocState.RUNNING, "")


# ---------------------------------------------------------------------------- on_disconnect: stop


def test_without_contact_it_stops_with_little_grace_and_waits() -> None:
    slow = replace(task(), stop=StopPolicy(signal="SIGTERM", timeout_ms=60_000))
    held = records.disconnected(record(slow, state=AllocState.RUNNING, launched=("main",)))
    stopping = step(held, [instance()], NOW)
    assert [a.timeout_ms for a in stopping.actions if isinstance(a, Stop)] == [5_000]
    over = step(stopping.record, [instance(exit_=Exit(code=143, signal=15))], NOW)
    assert (over.record.state, over.actions) == (AllocState.BACKOFF, ())
    later = step(over.record, [instance(exit_=Exit(code=143, signal=15))], NOW + 86_400_000)
    assert (later.record.state, later.actions) == (AllocState.BACKOFF, ())


def test_without_contact_what_was_told_to_stop_ends_as_it_was_told() -> None:
    told = record(desired=Desired.STOP, state=AllocState.STOPPING, hold=Hold.DISCONNECTED, launched=("main",))
    stopping = step(told, [instance()], NOW)
    assert [a.timeout_ms for a in stopping.actions if isinstance(a, Stop)] == [7_000]
    assert step(stopping.record, [instance(exit_=Exit(code=0))], NOW).record.state is AllocState.STOPPED


def test_without_contact_a_newer_run_that_is_found_has_no_reason_of_an_older_one() -> None:
    held = record(state=AllocState.BACKOFF, reason="exit code 1", hold=Hold.DISCONNECTED)
    found = step(held, [instance(restarts=1)], NOW).record
    assert (found.restarts, found.reason) == (1, "")


def test_back_in_contact_it_runs_again_and_that_costs_no_restart() -> None:
    found = [instance(exit_=Exit(code=143, signal=15))]
    over = step(records.disconnected(record(state=AllocState.RUNNING, launched=("main",))), found, NOW).record
    again = step(records.reconnected(over), found, NOW)
    assert (again.record.state, again.record.restarts, again.record.used) == (AllocState.STARTING, 1, 0)


def test_an_assignment_without_a_full_set_does_not_end_the_hold() -> None:
    held = records.disconnected(record(state=AllocState.RUNNING))
    assert records.assigned(held, held.assignment).hold is Hold.DISCONNECTED


def test_an_older_assignment_changes_nothing() -> None:
    known = record()
    newer = replace(known, assignment=replace(known.assignment, modify_index=5, desired=Desired.STOP))
    assert records.assigned(newer, known.assignment) == newer


def test_an_attempt_keeps_the_values_of_variables_that_it_was_placed_with() -> None:
    def told(*variables: tuple[str, str], index: int) -> Assignment:
        return replace(record().assignment, variables=variables, modify_index=index)

    first = records.assigned(None, told(("a", "1"), index=1))
    again = records.assigned(first, told(("a", "2"), ("b", "new"), index=1))
    assert again.assignment.variables == (("a", "1"), ("b", "new"))
    assert records.assigned(again, told(index=2)).assignment.variables == again.assignment.variables, "deleted since"


# ---------------------------------------------------------------------------- across allocations


def test_a_forgotten_allocation_is_stopped_removed_and_gone() -> None:
    lost = records.forgotten(record(state=AllocState.RUNNING))
    assert kinds(step(lost, [instance()], NOW)) == ["Stop"]
    over = step(lost, [instance(exit_=Exit(code=143))], NOW)
    assert (kinds(over), over.forget) == (["Remove"], True)


def test_an_older_attempt_must_end_before_a_newer_starts() -> None:
    newer, old = record(at=key(attempt=2)), instance(at=key(attempt=1))
    assert across.fenced(newer, [old], {}) == [old]
    told = record(at=key(attempt=1), desired=Desired.STOP)
    assert across.fenced(newer, [old], {told.key: told}) == [old]


def test_a_removed_jobs_container_must_end_before_its_namesakes() -> None:
    old = instance(at=key(attempt=9, uid="old-uid"))
    assert across.fenced(record(), [old], {}) == [old]


def test_two_attempts_that_are_both_wanted_run_beside_each_other() -> None:
    """Make before break: the control plane stops the older one itself."""
    older, newer = record(at=key(attempt=1)), record(at=key(attempt=2))
    assert across.fenced(newer, [instance(at=older.key)], {older.key: older}) == []


def test_neither_a_newer_attempt_nor_another_ordinal_nor_an_ended_run_is_in_the_way() -> None:
    found = [
        instance(at=key(attempt=3)),
        instance(at=key(attempt=1, ordinal=1)),
        instance(at=key(attempt=1), exit_=Exit(code=0)),
    ]
    assert across.fenced(record(at=key(attempt=2)), found, {}) == []


def test_a_full_set_makes_surplus_of_what_it_does_not_name_but_spares_the_ended_and_the_neighbours() -> None:
    live, ended = record(at=key(ordinal=1)), record(at=key(ordinal=2), state=AllocState.COMPLETE)
    unknown, neighbour = instance(at=key(ordinal=3)), instance(at=key(ordinal=4), node="n2")
    records = {one.key: one for one in (record(), live, ended)}
    found = [instance(), unknown, neighbour, instance(at=ended.key, exit_=Exit(code=0))]
    forget, stray = across.surplus([key()], records, found, "n1")
    assert (forget, stray) == ([live.key], [unknown])


def test_superseded_runs_are_found_whoever_started_them_up_to_the_replaced_attempt() -> None:
    theirs = instance(at=key(attempt=2), node="n2")
    earlier = instance(at=key(attempt=1), node="n3")
    replacement = instance(at=key(attempt=3), node="n2")
    other_job = instance(at=key(attempt=1, uid="another"), node="n2")
    found = [theirs, earlier, replacement, other_job]
    assert across.superseded([key(attempt=2)], found, {}) == [theirs, earlier]


def test_what_this_agent_should_run_is_never_superseded() -> None:
    mine = record(at=key(attempt=2))
    assert across.superseded([key(attempt=2)], [instance(at=mine.key)], {mine.key: mine}) == []


def test_ended_allocations_are_kept_for_a_while_and_not_for_ever() -> None:
    def ended(attempt: int, age_ms: int, ordinal: int = 0) -> Record:
        return record(at=key(attempt=attempt, ordinal=ordinal), state=AllocState.COMPLETE, ended_ms=NOW - age_ms)

    assert across.expired([ended(1, 30), ended(2, 20), ended(3, 10), record()], NOW) == [key(attempt=1)]
    assert across.expired([ended(1, across.KEPT_MS + 1)], NOW) == [key(attempt=1)]
    many = [ended(1, n, ordinal=n) for n in range(across.KEPT_TERMINAL + 3)]
    assert [one.id.ordinal for one in across.expired(many, NOW)] == [200, 201, 202]


def test_a_batch_run_that_was_ended_for_lack_of_contact_is_no_result_when_it_is_told_to_stop() -> None:
    """Found by hypothesis: BACKOFF -> COMPLETE, which the control plane does not take, so it would never hear the
    end."""
    ended = replace(instance(), state=InstanceState.EXITED, exit=Exit(code=0, ended_ms=NOW))
    waiting = record(job_type=JobType.BATCH, state=AllocState.BACKOFF, desired=Desired.STOP)
    assert step(waiting, [ended], NOW).record.state is AllocState.STOPPED


# ---------------------------------------------------------------------------- whatever happens


@given(st.data())
def test_observations_only_move_forward_whatever_happens(data: st.DataObject) -> None:
    """A random world: starts that fail or work, ends, removals, stops, lost contact; steps at any time."""
    job_type = data.draw(st.sampled_from(list(JobType)))
    mode = data.draw(st.sampled_from(list(RestartMode)))
    current = record(task("a"), task("b"), job_type=job_type, policy=RestartPolicy(attempts=2, delay_ms=50, mode=mode))
    world: dict[str, Instance] = {}
    now = NOW
    seen = (1, 0, AllocState.PENDING)
    for _ in range(data.draw(st.integers(1, 40))):
        result = step(current, list(world.values()), now)
        current = result.record
        now_seen = (1, current.restarts, current.state)
        if now_seen != seen:
            assert follows(seen, now_seen), (seen, now_seen)
            seen = now_seen
        for action in result.actions:
            if isinstance(action, Start):
                if data.draw(st.booleans(), label="start works"):
                    one = instance(action.task.name, restarts=current.restarts)
                    assert one.name not in world or world[one.name].state is InstanceState.CREATED
                    world[one.name] = one
                    current = records.started(current, action.task.name)
                else:
                    current = records.start_failed(current, action.task.name, "no", permanent=False)
                    break
            elif isinstance(action, Stop):
                code = data.draw(st.sampled_from([0, 143]), label="stopped with")
                world[action.instance.name] = replace(
                    action.instance, state=InstanceState.EXITED, exit=Exit(code=code, ended_ms=now)
                )
            elif isinstance(action, Remove):
                world.pop(action.instance.name, None)
        event = data.draw(st.sampled_from(["wait", "exit", "vanish", "disconnect", "reconnect", "stop", "nothing"]))
        names = sorted(world)
        if event == "wait":
            now += data.draw(st.integers(1, 100))
        elif event == "exit" and names:
            name = data.draw(st.sampled_from(names))
            if world[name].running:
                code = data.draw(st.sampled_from([0, 1, 137]))
                world[name] = replace(world[name], state=InstanceState.EXITED, exit=Exit(code=code, ended_ms=now))
        elif event == "vanish" and names:
            del world[data.draw(st.sampled_from(names))]
        elif event == "disconnect":
            current = records.disconnected(current)
        elif event == "reconnect":
            current = records.reconnected(current)
        elif event == "stop":
            current = replace(current, assignment=replace(current.assignment, desired=Desired.STOP))
    running = {one.run.restarts for one in world.values() if one.running}
    assert len(running) <= 1


# ---------------------------------------------------------------------------- after a restore


def adopted(**fields: Any) -> Record:
    made = record(**fields)
    return replace(made, assignment=replace(made.assignment, adopt_only=True))


def test_an_attempt_from_before_a_restore_is_never_started_where_it_does_not_run() -> None:
    result = step(adopted(), [], NOW)
    assert (result.actions, result.record.state, result.record.start_failed) == ((), AllocState.FAILED, True)
    assert "before the cluster was restored" in result.record.reason


def test_an_attempt_from_before_a_restore_is_taken_up_where_it_runs_and_keeps_its_restart_policy() -> None:
    result = step(adopted(), [instance()], NOW)
    assert (result.record.state, result.actions) == (AllocState.RUNNING, ())
    ended = step(result.record, [instance(exit_=Exit(code=1, ended_ms=NOW))], NOW)
    assert ended.record.state is AllocState.BACKOFF
    again = step(ended.record, [], NOW + POLICY.delay_ms)
    assert (again.record.restarts, kinds(again)) == (1, ["Start"])


def test_of_an_attempt_from_before_a_restore_that_runs_in_part_the_rest_is_started() -> None:
    half = adopted()
    group = replace(half.assignment.group, tasks=(task("a"), task("b")))
    result = step(replace(half, assignment=replace(half.assignment, group=group)), [instance("a")], NOW)
    assert [action.task.name for action in result.actions if isinstance(action, Start)] == ["b"]
    assert result.record.state is AllocState.STARTING


def test_an_attempt_from_before_a_restore_that_should_stop_is_stopped() -> None:
    assert step(adopted(desired=Desired.STOP), [], NOW).record.state is AllocState.STOPPED


TAKEN_ALONG = Exit(code=143, signal=15, with_engine=True)


@pytest.mark.parametrize("job_type", [JobType.SERVICE, JobType.BATCH])
def test_what_ended_with_its_engine_starts_again_at_once_and_that_counts_for_nothing(job_type: JobType) -> None:
    policy = RestartPolicy(attempts=0, delay_ms=15_000)
    before = record(job_type=job_type, policy=policy, state=AllocState.RUNNING, launched=("main",))
    ended = step(before, [instance(exit_=TAKEN_ALONG)], NOW)
    assert (ended.record.state, ended.record.used, ended.wake_ms) == (AllocState.BACKOFF, 0, NOW)
    assert ended.record.reason == records.WITH_ENGINE
    again = step(ended.record, [instance(exit_=TAKEN_ALONG)], NOW)
    assert (kinds(again), again.record.restarts) == (["Start"], 1)


def test_an_end_that_was_counted_before_its_engine_was_known_to_end_is_given_back_once() -> None:
    before = record(task("a"), task("b"), state=AllocState.RUNNING, launched=("a", "b"))
    exits = [instance("a", exit_=Exit(code=143, signal=15)), instance("b", exit_=Exit(code=143, signal=15))]
    counted = step(before, exits, NOW).record
    assert (counted.state, counted.used, counted.due_ms) == (AllocState.BACKOFF, 1, NOW + POLICY.delay_ms)
    given_back = records.ended_with_engine(counted, NOW + 7)
    assert (given_back.used, given_back.due_ms, given_back.reason) == (0, NOW + 7, records.WITH_ENGINE)
    assert records.ended_with_engine(replace(given_back, used=1), NOW + 9) == replace(given_back, used=1)


def test_a_failure_that_could_not_be_carried_out_is_judged_anew_once_its_engine_is_known_to_have_ended() -> None:
    before = record(task("a"), task("b"), state=AllocState.RUNNING, launched=("a", "b"))
    failing = step(before, [instance("a", exit_=Exit(code=143, signal=15)), instance("b")], NOW)
    assert kinds(failing) == ["Stop"]
    anew = records.ended_with_engine(failing.record, NOW)
    ended = step(anew, [instance("a", exit_=TAKEN_ALONG), instance("b", exit_=TAKEN_ALONG)], NOW)
    assert (ended.record.state, ended.record.used, ended.wake_ms) == (AllocState.BACKOFF, 0, NOW)


def test_an_ended_allocation_is_left_alone_whatever_its_engine_did() -> None:
    ended = record(state=AllocState.FAILED, reason="exit code 3")
    assert records.ended_with_engine(ended, NOW) == ended
