"""Timeouts of runs: what takes too long is stopped and has failed, whoever was away meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.driver import Exit, Instance
from agent.reconcile import Stop, step
from agent.records import Cause, Record
from agent.runspec import NodeFacts, run_spec
from agent.steady import SteadyClock
from agent.store import Store
from orchestrator.contract.batch import Origin
from orchestrator.contract.model import AllocState, JobType, RestartPolicy, TaskRole, TaskSpec
from tests.unit.agent.test_reconcile import NOW, instance, record, task

ONCE = RestartPolicy(attempts=0)


def timed(timeout_ms: int = 5_000, *others: str, policy: RestartPolicy = ONCE) -> Record:
    tasks = (replace(task(), timeout_ms=timeout_ms), *(task(name) for name in others))
    return record(
        *tasks,
        job_type=JobType.BATCH,
        policy=policy,
        state=AllocState.RUNNING,
        running_since_ms=NOW,
        launched=("main",),
    )


def test_it_looks_again_when_the_time_is_up_and_stops_what_still_runs() -> None:
    result = step(timed(), [instance()], NOW + 1_000)
    assert (result.wake_ms, result.actions) == (NOW + 5_000, ())
    late = step(result.record, [instance()], NOW + 5_000)
    (stop,) = late.actions
    assert isinstance(stop, Stop) and (stop.signal, stop.timeout_ms) == ("SIGINT", 7_000)
    assert late.record.state is AllocState.RUNNING


def test_what_was_stopped_has_failed_with_its_reason_and_exit_code() -> None:
    late = step(timed(), [instance()], NOW + 5_000).record
    ended = step(late, [instance(exit_=Exit(code=137, signal=9, ended_ms=NOW + 5_100))], NOW + 5_200).record
    assert (ended.state, ended.reason, ended.exit_code) == (AllocState.FAILED, "timed out after 5 s", 137)
    # Also where it took the signal for a wish to end well, or the engine's clock is slow.
    for exit_ in (Exit(code=0, ended_ms=NOW + 5_100), Exit(code=0, ended_ms=NOW + 4_000)):
        assert step(late, [instance(exit_=exit_)], NOW + 5_200).record.state is AllocState.FAILED


def test_an_agent_that_was_away_comes_to_the_same_end() -> None:
    exit_ = Exit(code=0, ended_ms=NOW + 6_000)
    ended = step(timed(), [instance(exit_=exit_)], NOW + 60_000).record
    assert (ended.state, ended.reason) == (AllocState.FAILED, "timed out after 5 s")
    in_time = Exit(code=0, ended_ms=NOW + 4_000)
    assert step(timed(), [instance(exit_=in_time)], NOW + 60_000).record.state is AllocState.COMPLETE


def test_each_run_has_its_own_time() -> None:
    late = step(timed(policy=RestartPolicy(attempts=1, delay_ms=1_000)), [instance()], NOW + 5_000).record
    old = instance(exit_=Exit(code=143, signal=15, ended_ms=NOW + 5_100))
    waits = step(late, [old], NOW + 5_200)
    assert waits.record.state is AllocState.BACKOFF and waits.record.reason == "timed out after 5 s"
    again = step(waits.record, [old], waits.wake_ms).record
    running = step(again, [old, instance(restarts=1)], NOW + 9_000)
    assert running.record.state is AllocState.RUNNING and running.wake_ms == NOW + 14_000


def test_a_task_that_ended_in_time_does_not_wake_anybody() -> None:
    found = [instance(exit_=Exit(code=0, ended_ms=NOW + 1_000)), instance("side")]
    result = step(timed(5_000, "side"), found, NOW + 9_000)
    assert result.record.state is AllocState.RUNNING and not result.wake_ms and not result.actions


def test_an_init_task_has_a_time_of_its_own() -> None:
    init = replace(task("init"), timeout_ms=3_000, role=TaskRole.INIT)
    made = record(init, task(), job_type=JobType.BATCH, policy=ONCE, state=AllocState.STARTING, launched=("init",))
    first = step(made, [instance("init")], NOW)
    assert first.wake_ms == NOW + 3_000
    late = step(first.record, [instance("init")], NOW + 3_000)
    assert [type(action) for action in late.actions] == [Stop]
    exit_ = Exit(code=143, signal=15, ended_ms=NOW + 3_010)
    ended = step(late.record, [instance("init", exit_=exit_)], NOW + 3_020).record
    assert (ended.state, ended.reason) == (AllocState.FAILED, "task init: timed out after 3 s")


def test_only_an_init_task_that_runs_and_has_a_timeout_is_timed_before_the_rest_runs() -> None:
    def wakes(*tasks: TaskSpec, found: list[Instance]) -> tuple[int, str]:
        result = step(record(*tasks, policy=ONCE, state=AllocState.STARTING), found, NOW)
        return result.wake_ms, result.record.init_task

    init, patient = (replace(task(name), timeout_ms=3_000, role=TaskRole.INIT) for name in ("init", "patient"))
    ended = instance("init", exit_=Exit(code=0, ended_ms=NOW))
    assert wakes(init, patient, task(), found=[instance("init")]) == (NOW + 3_000, "init")
    assert wakes(init, patient, task(), found=[ended]) == (0, "")
    assert wakes(init, patient, task(), found=[ended, instance("patient")]) == (NOW + 3_000, "patient")
    assert wakes(replace(init, timeout_ms=0), task(), found=[instance("init")]) == (0, "")
    assert wakes(replace(task(), timeout_ms=3_000), task("other"), found=[instance()]) == (0, "")


def test_the_task_that_was_late_first_is_named_and_an_init_task_judges_no_other() -> None:
    init = replace(task("init"), timeout_ms=3_000, role=TaskRole.INIT)
    made = record(
        init, replace(task(), timeout_ms=10_000), task("side"), job_type=JobType.BATCH, policy=ONCE,
        state=AllocState.RUNNING, running_since_ms=NOW, init_task="init", init_since_ms=NOW - 60_000,
    )  # fmt: skip
    in_time = instance("init", exit_=Exit(code=0, ended_ms=NOW - 58_000))
    found = [in_time, instance(), instance("side")]
    assert step(made, found, NOW + 9_999).record.overdue == ""
    assert step(made, found, NOW + 10_000).record.overdue == "main"
    too_late = instance("init", exit_=Exit(code=0, ended_ms=NOW - 57_000))
    assert step(made, [too_late, *found[1:]], NOW).record.overdue == "init"
    assert step(replace(made, overdue="side"), found, NOW + 10_000).record.overdue == "side"
    failed = replace(made, cause=Cause(reason="no such image"))
    assert step(failed, found, NOW + 10_000).record.overdue == "", "it has failed already"


def test_a_late_run_has_the_exit_code_of_the_task_that_was_late() -> None:
    late = replace(timed(5_000, "side"), overdue="main")
    ends = [instance("side", exit_=Exit(code=3, ended_ms=NOW)), instance(exit_=Exit(code=143, signal=15, ended_ms=NOW))]
    assert step(late, ends, NOW + 6_000).record.exit_code == 143
    gone = step(late, [instance(created=True), *ends[:1]], NOW + 6_000).record
    assert (gone.state, gone.exit_code, gone.reason) == (AllocState.FAILED, 0, "task main: timed out after 5 s")


def test_a_clock_that_was_set_back_gives_no_more_than_one_timeout() -> None:
    result = step(timed(), [instance()], NOW - 86_400_000)
    assert result.wake_ms == NOW - 86_400_000 + 5_000


def test_a_restarted_agent_knows_what_took_too_long(tmp_path: Path) -> None:
    late = step(timed(), [instance()], NOW + 5_000).record
    store = Store(tmp_path)
    store.save(late)
    (known,), damaged = store.load()
    store.close()
    assert not damaged and known.overdue == "main"
    ended = step(known, [instance(exit_=Exit(code=0, ended_ms=NOW + 1))], NOW + 9_000).record
    assert ended.state is AllocState.FAILED


@pytest.mark.parametrize(("payload", "text"), [(b"a=1", "a=1"), (b"\xff\x00", None)])
def test_a_run_is_told_where_it_came_from(payload: bytes, text: str | None) -> None:
    made = timed()
    origin = Origin(job="work", uid="u", version=3, due_ms=90_000, meta=(("in-put", "x"),), payload=payload)
    made = replace(made, assignment=replace(made.assignment, origin=origin))
    facts = NodeFacts(node_id="n", name="n1", address="", api="")
    env = dict(run_spec(made, made.assignment.group.tasks[0], "cluster", facts).env)
    assert (env["RAFTSMAN_PARENT_JOB"], env["RAFTSMAN_DUE_TIME"], env["RAFTSMAN_META_IN_PUT"]) == ("work", "90", "x")
    assert (env["RAFTSMAN_ARRAY_INDEX"], env["RAFTSMAN_ARRAY_SIZE"]) == ("0", "1")
    assert env.get("RAFTSMAN_PAYLOAD") == text and env["RAFTSMAN_PAYLOAD_BASE64"]


def test_a_payload_is_a_file_of_a_container_and_the_drivers_to_place_beside_a_process() -> None:
    made = timed()
    origin = Origin(job="work", uid="u", version=3, payload=b"a=1")
    facts = NodeFacts(node_id="n", name="n1", address="", api="")
    (task,) = made.assignment.group.tasks
    for payload in (b"a=1", b""):
        brought = replace(made.assignment, origin=replace(origin, payload=payload))
        record = replace(made, assignment=brought)
        process = run_spec(record, replace(task, driver="process"), "cluster", facts)
        assert (process.payload, process.files, "RAFTSMAN_PAYLOAD_FILE" in dict(process.env)) == (payload, (), False)
        container = run_spec(record, replace(task, driver="docker", image="x"), "cluster", facts)
        files = [(one.target, one.data) for one in container.files]
        assert files == ([("/raftsman/payload", payload)] if payload else [])
        assert dict(container.env).get("RAFTSMAN_PAYLOAD_FILE") == ("/raftsman/payload" if payload else None)
        assert container.payload == b""


def test_an_end_that_a_clock_set_ahead_has_noted_is_not_late() -> None:
    """The clock was set ahead by an hour while it ran; the agent measures by one that does not move."""
    exit_ = Exit(code=0, ended_ms=NOW + 3_600_000 + 4_000)
    assert step(timed(), [instance(exit_=exit_)], NOW + 4_100).record.state is AllocState.COMPLETE


def test_the_agents_clock_does_not_move_with_the_machines_not_even_over_its_restart() -> None:
    wall, boot = [NOW], [10_000]
    kept: list[dict[str, object]] = []

    def begin(boot_id: str = "a") -> SteadyClock:
        return SteadyClock(
            boot_id,
            saved=kept[-1] if kept else None,
            save=kept.append,
            wall_ms=lambda: wall[0],
            boot_ms=lambda: boot[0],
        )

    clock = begin()
    assert clock() == NOW
    wall[0] += 86_400_000
    boot[0] += 1_000
    assert clock() == begin()() == NOW + 1_000
    boot[0] = 5
    assert begin("b")() == wall[0], "after a boot the clock on the wall is all there is"
