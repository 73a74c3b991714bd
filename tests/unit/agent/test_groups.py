"""Groups of several tasks: what starts first, who holds the network, what a new size does; as tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent import health, records
from agent.driver import SANDBOX, Exit, Instance
from agent.reconcile import Resize, Start, Step, Stop, step
from agent.records import Record
from agent.store import Store
from orchestrator.contract.model import (
    AllocState,
    ContainerSpec,
    Desired,
    JobType,
    TaskRole,
    TaskSpec,
    WorkloadSpec,
)
from tests.unit.agent.test_reconcile import NOW, instance, record, task

DONE = Exit(code=0, ended_ms=1)


def init(name: str) -> TaskSpec:
    return replace(task(name), role=TaskRole.INIT)


def sidecar(name: str) -> TaskSpec:
    return replace(task(name), role=TaskRole.SIDECAR)


def container(name: str) -> TaskSpec:
    return replace(task(name), image="x")


def starts(result: Step) -> list[str]:
    return [action.task.name for action in result.actions if isinstance(action, Start)]


def stops(result: Step) -> list[str]:
    return [action.instance.run.task for action in result.actions if isinstance(action, Stop)]


def test_init_tasks_run_one_after_the_other_and_to_their_end_then_sidecars_then_main_tasks() -> None:
    group = (task("main"), sidecar("side"), init("one"), init("two"))
    began = step(record(*group), [], NOW)
    assert (starts(began), began.record.reason) == (["one"], "init task one comes first")
    waits = step(began.record, [instance("one")], NOW)
    assert (starts(waits), waits.record.state, waits.record.reason) == (
        [],
        AllocState.STARTING,
        "init task one runs",
    )
    second = step(waits.record, [instance("one", exit_=DONE)], NOW)
    assert starts(second) == ["two"]
    ended = [instance("one", exit_=DONE), instance("two", exit_=DONE)]
    rest = step(second.record, ended, NOW)
    assert (starts(rest), rest.record.reason) == (["side", "main"], "")
    whole = step(rest.record, [*ended, instance("side"), instance("main")], NOW)
    assert (whole.record.state, whole.actions) == (AllocState.RUNNING, ())


def test_an_init_task_that_fails_ends_the_run_and_it_begins_with_the_first_again() -> None:
    failed = step(record(init("one"), task("main")), [instance("one", exit_=Exit(code=3, ended_ms=1))], NOW)
    assert (failed.record.state, failed.record.reason) == (AllocState.BACKOFF, "task one: exit code 3")
    again = step(failed.record, [instance("one", exit_=Exit(code=3, ended_ms=1))], failed.record.due_ms)
    assert starts(again) == ["one"]


def test_a_service_whose_init_task_ended_goes_on_after_its_agent_was_restarted() -> None:
    found = [instance("one", exit_=DONE), instance("main")]
    assert step(record(init("one"), task("main")), found, NOW).record.state is AllocState.RUNNING


@pytest.mark.parametrize("job_type", [JobType.SERVICE, JobType.BATCH])
def test_a_sidecar_that_fails_ends_the_run(job_type: JobType) -> None:
    found = [instance("side", exit_=Exit(code=1, ended_ms=1)), instance("main")]
    result = step(record(sidecar("side"), task("main"), job_type=job_type), found, NOW)
    assert stops(result) == ["main"]
    assert result.record.cause is not None
    assert result.record.cause.reason == "task side: exit code 1"


def test_a_batch_group_is_done_with_its_main_tasks_and_its_sidecars_stop_then() -> None:
    group = (task("main"), sidecar("side"))
    running = record(*group, job_type=JobType.BATCH, state=AllocState.RUNNING)
    ending = step(running, [instance("main", exit_=DONE), instance("side")], NOW)
    assert (stops(ending), ending.record.state) == (["side"], AllocState.RUNNING)
    killed = Exit(code=143, signal=15, ended_ms=2)
    done = step(ending.record, [instance("main", exit_=DONE), instance("side", exit_=killed)], NOW)
    assert (done.record.state, done.record.exit_code) == (AllocState.COMPLETE, 0)


def test_what_started_last_stops_first_but_all_at_once_where_there_is_a_time_to_keep() -> None:
    group = (init("one"), container("main"), replace(container("side"), role=TaskRole.SIDECAR))
    found = [instance(SANDBOX), instance("one", exit_=DONE), instance("side"), instance("main")]
    going = record(*group, desired=Desired.STOP, state=AllocState.RUNNING, launched=(SANDBOX, "main", "one", "side"))
    order = []
    for _ in range(3):
        now = step(going, found, NOW)
        order.append(stops(now))
        found = [one if one.run.task not in order[-1] else instance(one.run.task, exit_=DONE) for one in found]
    assert order == [["main"], ["side"], [SANDBOX]]
    alone = step(going, [instance(SANDBOX)], NOW)
    assert alone.actions == (Stop(instance=instance(SANDBOX), signal="SIGKILL", timeout_ms=0),), "it has nothing to end"
    assert step(going, found, NOW).record.state is AllocState.STOPPED
    lost = records.disconnected(replace(going, assignment=replace(going.assignment, desired=Desired.RUN)))
    running = [instance(SANDBOX), instance("side"), instance("main")]
    assert sorted(stops(step(lost, running, NOW))) == [SANDBOX, "main", "side"]


def test_containers_that_share_a_network_get_one_that_holds_it_first() -> None:
    pair = record(container("a"), container("b"))
    began = step(pair, [], NOW)
    assert starts(began) == [SANDBOX, "a", "b"]
    assert starts(step(began.record, [instance(SANDBOX)], NOW)) == ["a", "b"]
    assert starts(step(record(container("a"), task("process")), [], NOW)) == ["a", "process"]
    mixed = record(container("a"), container("b"), task("process"))
    assert starts(step(mixed, [instance("process")], NOW)) == [SANDBOX, "a", "b"]
    assert starts(step(mixed, [instance("a")], NOW)) == ["b", "process"], "it runs without one already"
    host = replace(pair, assignment=replace(pair.assignment, group=replace(pair.assignment.group, network_mode="host")))
    assert starts(step(host, [], NOW)) == ["a", "b"]


def test_tasks_from_before_there_were_sandboxes_run_on_without() -> None:
    found = [instance("a"), instance("b")]
    result = step(record(container("a"), container("b"), state=AllocState.RUNNING), found, NOW)
    assert (result.actions, result.record.state) == ((), AllocState.RUNNING)


@pytest.mark.parametrize("gone", [[instance(SANDBOX, exit_=Exit(code=137, signal=9, ended_ms=1))], []])
def test_without_the_container_that_holds_the_network_all_of_it_starts_again(gone: list[Instance]) -> None:
    running = record(container("a"), container("b"), state=AllocState.RUNNING, launched=(SANDBOX, "a", "b"))
    result = step(running, [*gone, instance("a"), instance("b")], NOW)
    assert sorted(stops(result)) == ["a", "b"]
    assert result.record.cause is not None
    assert result.record.cause.reason.startswith("the container that held the group's network")
    assert result.record.cause.exit_code == -1


def test_the_container_that_holds_the_network_ends_with_its_engine_as_any_does() -> None:
    running = record(container("a"), container("b"), state=AllocState.RUNNING, launched=(SANDBOX, "a", "b"), used=1)
    taken = Exit(code=137, signal=9, ended_ms=1, with_engine=True)
    over = step(running, [instance(name, exit_=taken) for name in (SANDBOX, "a", "b")], NOW).record
    assert (over.state, over.due_ms, over.used) == (AllocState.BACKOFF, NOW, 1)


# ---------------------------------------------------------------------------- a new size


def resizes(result: Step) -> list[str]:
    return [action.task.name for action in result.actions if isinstance(action, Resize)]


def sized(version: int) -> Record:
    """What runs has version 1, and ``version`` is assigned."""
    first = records.assigned(None, record(task("a"), task("b")).assignment)
    running = replace(first, state=AllocState.RUNNING, launched=("a", "b"))
    return records.assigned(running, replace(running.assignment, job_version=version, modify_index=9))


def test_a_new_size_reaches_every_task_that_runs_once() -> None:
    found = [instance("a"), instance("b")]
    due = step(sized(3), found, NOW)
    assert resizes(due) == ["a", "b"]
    assert resizes(step(due.record, found, NOW)) == ["a", "b"]  # until it is said to be done
    assert step(records.resized(due.record, 3), found, NOW).actions == ()
    assert step(sized(1), found, NOW).actions == ()
    known = sized(3)
    group = replace(known.assignment.group, tasks=(init("one"), *known.assignment.group.tasks))
    begun = replace(known, assignment=replace(known.assignment, group=group))
    assert resizes(step(begun, [instance("one", exit_=DONE), *found], NOW)) == ["a", "b"]


def test_checks_are_not_good_before_the_first_answer_and_without_any_there_is_no_word() -> None:
    asking = replace(task("a"), workload=WorkloadSpec(ready=True))
    for tasks, word in (((task("a"),), 0), ((asking,), health.next_word(5, False, NOW))):
        assert step(record(*tasks, health=5), [instance("a")], NOW).record.health == word


def test_what_starts_again_or_for_the_first_time_has_the_new_size_already() -> None:
    found = [instance("a", exit_=Exit(code=1, ended_ms=1)), instance("b", exit_=DONE)]
    waiting = step(sized(3), found, NOW).record
    again = step(waiting, found, waiting.due_ms).record
    assert step(again, [instance("a", restarts=1), instance("b", restarts=1)], NOW).actions == ()
    fresh = replace(sized(3), state=AllocState.PENDING, launched=())
    assert step(step(fresh, [], NOW).record, [instance("a"), instance("b")], NOW).actions == ()


def test_a_size_that_cannot_be_had_while_it_runs_is_had_by_starting_again_at_once_and_uncounted() -> None:
    due = step(sized(3), [instance("a"), instance("b")], NOW).record
    refused = records.not_resized(due, "a", "no")
    assert stops(step(refused, [instance("a"), instance("b")], NOW)) == ["a", "b"]
    ended = [instance(name, exit_=Exit(code=143, signal=15, ended_ms=2)) for name in ("a", "b")]
    after = step(refused, ended, NOW).record
    assert (after.state, after.reason, after.used) == (
        AllocState.BACKOFF,
        "task a cannot be given its new limits while it runs: no",
        0,
    )
    again = step(after, ended, NOW)
    assert (again.record.restarts, again.record.used, again.record.sized_version) == (1, 0, 3)
    assert [action.task.name for action in again.actions if isinstance(action, Start)] == ["a", "b"]


def test_a_killed_containers_reason_names_the_limit_that_it_had() -> None:
    one = replace(container("main"), container=ContainerSpec(memory_max_mib=512))
    ended = instance("main", exit_=Exit(code=137, signal=9, oom_killed=True, ended_ms=1))
    assert step(record(one), [ended], NOW).record.reason == "out of memory (limit 512 MiB)"


def test_digests_and_sizes_survive_the_agent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = records.settled(sized(3), "nginx", "sha256:1")
    store.save(kept)
    (loaded,), damaged = store.load()
    assert damaged == []
    assert (loaded.digests, loaded.sized_version) == ((("nginx", "sha256:1"),), 1)
    store.close()
