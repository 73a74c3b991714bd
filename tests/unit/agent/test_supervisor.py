"""The supervisor on the fake driver: what is started, stopped, adopted, reported, and what waits for what."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from agent import across, clearing
from agent.driver import DriverUnavailableError, Exit, Instance, InstanceState, LogsGoneError, RunId, RunSpec, run_name
from agent.lookout import RETRY_S
from agent.output import LOOK_S
from agent.reconcile import Resize
from agent.records import Record
from agent.steady import wall_ms
from orchestrator.contract.model import (
    AllocState,
    AssignmentKey,
    Desired,
    JobType,
    OnDisconnect,
    RestartPolicy,
    TaskSpec,
)
from tests.integration.agent_fakes import CLUSTER, assignment_of, key_of, task_of, until
from tests.unit.agent.conftest import NODE, Bench


def fake_task(name: str = "main", **env: str) -> TaskSpec:
    return task_of("run", name=name, driver="fake", env=env)


def name_of(key: AssignmentKey, *, restarts: int = 0, task: str = "main") -> str:
    return run_name(CLUSTER, RunId(key=key, restarts=restarts, task=task))


def planted(key: AssignmentKey, *, node: str = NODE, cluster: str = CLUSTER) -> Instance:
    run = RunId(key=key, restarts=0, task="main")
    return Instance(
        name=run_name(cluster, run),
        driver="fake",
        cluster_id=cluster,
        node_id=node,
        run=run,
        runtime_id="planted",
        state=InstanceState.RUNNING,
    )


async def read_all(bench: Bench, key: AssignmentKey, *, follow: bool) -> bytes:
    said = bench.supervisor.logs(key, "main", previous=False, follow=follow, tail_lines=0, offset=0)
    return b"".join([chunk.data async for chunk in said])


async def test_an_assignment_is_started_and_its_states_are_reported_in_order(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task("a"), fake_task("b")))
    await bench.wait_state(key, AllocState.RUNNING)
    assert bench.states(key) == [(0, AllocState.STARTING), (0, AllocState.RUNNING)]
    assert bench.driver.starts == [name_of(key, task="a"), name_of(key, task="b")]


async def test_all_has_started_once_the_last_one_runs(bench: Bench) -> None:
    first, second = key_of("first"), key_of("second")
    assert bench.supervisor.all_started()
    await bench.assign(assignment_of(first, fake_task()))
    await bench.wait_state(first, AllocState.RUNNING)
    assert bench.supervisor.all_started()
    await bench.assign(assignment_of(first, fake_task()), assignment_of(second, fake_task()))
    assert not bench.supervisor.all_started()
    await bench.wait_state(second, AllocState.RUNNING)
    assert bench.supervisor.all_started()


async def test_a_failure_is_restarted_by_policy_and_then_reported_as_failed(bench: Bench) -> None:
    key = key_of()
    spec = fake_task(FAKE_EXIT_AFTER_MS="1", FAKE_EXIT_CODE="3")
    await bench.assign(assignment_of(key, spec, restart=RestartPolicy(attempts=2, delay_ms=1)))
    failed = await bench.wait_state(key, AllocState.FAILED, restarts=2)
    assert (failed.exit_code, failed.reason) == (3, "exit code 3 (restarted 2 times)")
    assert [state for state in bench.states(key) if state[1] is AllocState.BACKOFF] == [
        (0, AllocState.BACKOFF),
        (1, AllocState.BACKOFF),
    ]
    assert len(bench.driver.starts) == 3


async def test_a_size_that_changes_while_it_is_given_is_the_newest_ones(bench: Bench) -> None:
    key = key_of()
    newest = task_of("run", driver="fake", memory_mib=128)
    await bench.assign(assignment_of(key, newest))
    await bench.wait_state(key, AllocState.RUNNING)
    of_the_step = replace(newest, resources=replace(newest.resources, memory_mib=64))
    await bench.supervisor._resize(key, [Resize(task=of_the_step)])
    assert bench.driver.resizes == [(name_of(key), newest.resources.cpu_millis, 128)]


async def test_a_size_that_is_refused_costs_a_restart_on_the_spot_and_no_attempt(bench: Bench) -> None:
    key = key_of()
    bench.driver.refuse_resize = "it uses more"
    for version, mib in ((1, 64), (2, 32)):
        made = assignment_of(
            key,
            task_of("run", driver="fake", memory_mib=mib),
            restart=RestartPolicy(attempts=0, delay_ms=3_600_000),
            modify_index=version,
        )
        await bench.assign(replace(made, job_version=version))
        await bench.wait_state(key, AllocState.RUNNING, restarts=version - 1)
    (said,) = {one.reason for one in bench.reported if one.state is AllocState.BACKOFF}
    assert said == "task main cannot be given its new limits while it runs: it uses more"
    assert bench.driver.starts == [name_of(key), name_of(key, restarts=1)]


async def test_a_run_that_somebody_starts_again_is_seen_and_ended(bench: Bench) -> None:
    key = key_of()
    spec = fake_task(FAKE_EXIT_AFTER_MS="1", FAKE_EXIT_CODE="3")
    await bench.assign(assignment_of(key, spec, restart=RestartPolicy(attempts=0)))
    await bench.wait_state(key, AllocState.FAILED)
    bench.driver.revive(name_of(key))
    await until(lambda: bench.driver.stops, "the stop of what should not run")
    assert bench.driver.stops[0][0] == name_of(key)


async def test_a_run_that_somebody_starts_again_during_its_backoff_is_ended(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task(), restart=RestartPolicy(attempts=1, delay_ms=3_600_000)))
    await bench.wait_state(key, AllocState.RUNNING)
    bench.driver.end(name_of(key), Exit(code=1))
    await bench.wait_state(key, AllocState.BACKOFF)
    bench.driver.revive(name_of(key))
    await bench.until_running(set())
    assert [name for name, *_ in bench.driver.stops] == [name_of(key)]
    assert bench.driver.starts == [name_of(key)]
    assert bench.states(key)[-1] == (0, AllocState.BACKOFF)


async def test_an_old_answer_that_a_run_is_not_started_yet_changes_nothing(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task()))
    await bench.wait_state(key, AllocState.RUNNING)
    (now,) = await bench.driver.list(CLUSTER)
    bench.supervisor.see(replace(now, state=InstanceState.CREATED))
    await bench.assign(assignment_of(key_of("next"), fake_task()))
    await bench.wait_state(key_of("next"), AllocState.RUNNING)
    assert bench.states(key) == [(0, AllocState.STARTING), (0, AllocState.RUNNING)]
    assert bench.driver.starts == [name_of(key), name_of(key_of("next"))]


async def test_what_is_known_of_an_allocation_is_on_disk_before_and_after_its_start(bench: Bench) -> None:
    key, several = key_of(), key_of("several")
    saved: list[tuple[AssignmentKey, AllocState, tuple[str, ...], int]] = []
    real = bench.store.save

    def save(record: Record) -> None:
        real(record)
        saved.append((record.key, record.state, record.launched, len(bench.driver.starts)))

    bench.store.save = save  # type: ignore[method-assign]
    await bench.assign(assignment_of(key, fake_task()))
    await bench.wait_state(key, AllocState.RUNNING)
    assert saved == [
        (key, AllocState.PENDING, (), 0),
        (key, AllocState.STARTING, (), 0),
        (key, AllocState.RUNNING, ("main",), 1),
    ]
    saved.clear()
    await bench.assign(assignment_of(several, fake_task("a"), fake_task("b")))
    await bench.wait_state(several, AllocState.RUNNING)
    assert saved == [
        (several, AllocState.PENDING, (), 1),
        (several, AllocState.STARTING, (), 1),
        (several, AllocState.STARTING, ("a",), 2),
        (several, AllocState.STARTING, ("a", "b"), 3),
        (several, AllocState.RUNNING, ("a", "b"), 3),
    ]


async def test_a_start_error_is_the_reason_and_says_that_nothing_ran(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task(FAKE_START_ERROR="image x:1 not found: no such host")))
    failed = await bench.wait_state(key, AllocState.FAILED)
    assert failed.start_failed
    assert failed.reason == "image x:1 not found: no such host"


async def test_a_driver_that_this_node_lacks_is_named(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, task_of("run", driver="podman"), restart=RestartPolicy()))
    failed = await bench.wait_state(key, AllocState.FAILED)
    assert failed.reason == "this node has no driver 'podman' (it has fake)"


async def test_a_variable_that_does_not_exist_is_named_with_the_command_that_makes_it(bench: Bench) -> None:
    key = key_of()
    spec = replace(fake_task(), variables=(("PASSWORD", "db-password"),))
    await bench.assign(assignment_of(key, spec))
    failed = await bench.wait_state(key, AllocState.FAILED)
    assert "raftsman var put db-password" in failed.reason


async def test_a_slow_image_holds_up_nobody_else(bench: Bench) -> None:
    slow, quick = key_of("slow"), key_of("quick")
    gate = bench.driver.hold_prepare = asyncio.Event()
    await bench.assign(assignment_of(slow, fake_task()))
    await bench.wait_state(slow, AllocState.STARTING)
    bench.driver.hold_prepare = None
    await bench.assign(assignment_of(quick, fake_task()))
    await bench.wait_state(quick, AllocState.RUNNING)
    assert bench.states(slow) == [(0, AllocState.STARTING)]
    gate.set()
    await bench.wait_state(slow, AllocState.RUNNING)


async def test_told_to_stop_during_a_slow_start_it_never_starts(bench: Bench) -> None:
    key = key_of()
    bench.driver.hold_prepare = asyncio.Event()
    await bench.assign(assignment_of(key, fake_task()))
    await bench.wait_state(key, AllocState.STARTING)
    await bench.assign(assignment_of(key, fake_task(), desired=Desired.STOP, modify_index=1))
    await bench.wait_state(key, AllocState.STOPPED)
    assert bench.driver.starts == []


async def test_stop_uses_the_tasks_signal_and_time(bench: Bench) -> None:
    key = key_of()
    spec = fake_task()
    spec = replace(spec, stop=replace(spec.stop, signal="SIGINT", timeout_ms=1234))
    await bench.assign(assignment_of(key, spec))
    await bench.wait_state(key, AllocState.RUNNING)
    await bench.assign(assignment_of(key, spec, desired=Desired.STOP, modify_index=1))
    await bench.wait_state(key, AllocState.STOPPED)
    assert bench.driver.stops == [(name_of(key), "SIGINT", 1234)]


async def test_a_batch_job_completes(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task(FAKE_EXIT_AFTER_MS="1"), job_type=JobType.BATCH))
    await bench.wait_state(key, AllocState.COMPLETE)


async def test_a_restarted_agent_adopts_what_runs_without_any_control_plane(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task(), restart=RestartPolicy(attempts=1, delay_ms=1)))
    await bench.wait_state(key, AllocState.RUNNING)
    await bench.restart()
    assert bench.driver.starts == [name_of(key)]
    bench.driver.end(name_of(key), Exit(code=1))
    await bench.wait_state(key, AllocState.RUNNING, restarts=1)
    assert bench.driver.starts == [name_of(key), name_of(key, restarts=1)]


async def test_what_ended_while_the_agent_was_dead_is_noticed(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task()))
    await bench.wait_state(key, AllocState.RUNNING)
    await bench.supervisor.close()
    bench.driver.end(name_of(key), Exit(code=9))
    await bench.restart()
    assert (await bench.wait_state(key, AllocState.FAILED)).reason == "exit code 9"


async def test_a_newer_attempt_waits_until_the_older_has_ended(bench: Bench) -> None:
    old, new = key_of(attempt=1), key_of(attempt=2)
    await bench.assign(assignment_of(old, fake_task()))
    await bench.wait_state(old, AllocState.RUNNING)
    bench.driver.ignore_stop = True
    await bench.assign(
        assignment_of(old, fake_task(), desired=Desired.STOP, modify_index=1), assignment_of(new, fake_task())
    )
    await bench.wait_state(old, AllocState.STOPPING)
    await until(lambda: bench.driver.stops, "the stop")
    assert bench.driver.starts == [name_of(old)]
    bench.driver.end(name_of(old), Exit(code=0))
    await bench.wait_state(new, AllocState.RUNNING)


async def test_a_run_of_an_older_attempt_that_nobody_recorded_is_ended_first(bench: Bench) -> None:
    old, new = key_of(attempt=1), key_of(attempt=2)
    bench.driver.plant(planted(old))
    await until(lambda: bench.supervisor.running_count(), "the refresh to see it")
    await bench.assign(assignment_of(new, fake_task()))
    await bench.wait_state(new, AllocState.RUNNING)
    assert bench.driver.removals == [name_of(old)]


async def test_nobodys_runs_are_removed_only_after_a_full_set_and_only_this_nodes(bench: Bench) -> None:
    mine, nobodys = key_of("mine"), key_of("nobodys")
    neighbours, foreign = planted(key_of("neighbours"), node="node-2"), planted(key_of("foreign"), cluster="other")
    for one in (planted(nobodys), neighbours, foreign):
        bench.driver.plant(one)
    await until(lambda: bench.supervisor.running_count(), "the refresh to see it")
    await bench.assign(assignment_of(mine, fake_task()))
    await bench.wait_state(mine, AllocState.RUNNING)
    assert bench.driver.removals == []
    await bench.assign(assignment_of(mine, fake_task()), full=True)
    await until(lambda: bench.driver.removals, "the removal")
    assert bench.driver.removals == [name_of(nobodys)]
    assert await bench.driver.list("other") == (foreign,)
    assert neighbours in await bench.driver.list(CLUSTER)


async def test_what_a_node_left_that_does_not_come_back_is_taken_away_in_the_end(bench: Bench) -> None:
    now_ms, week_ms = wall_ms(), across.LEFT_MS + 60_000

    def left(job: str, ended_ms: int, *, node: str = "gone", restarts: int = 0) -> Instance:
        one = planted(key_of(job), node=node)
        run = replace(one.run, restarts=restarts)
        exit_ = Exit(code=1, ended_ms=ended_ms) if ended_ms else None
        state = InstanceState.EXITED if ended_ms else InstanceState.RUNNING
        return replace(one, name=run_name(CLUSTER, run), run=run, state=state, exit=exit_)

    goes_on = [left("again", now_ms - week_ms), left("again", 0, restarts=1)]
    kept = [*goes_on, left("lately", now_ms - week_ms // 2), left("mine", now_ms - week_ms, node=NODE)]
    gone = [left("old", now_ms - week_ms - 1), left("old", now_ms - week_ms, restarts=1)]
    for one in (*kept, *gone):
        bench.driver.plant(one)
    await until(lambda: len(bench.driver.removals) == 2, "the removals")
    before = len(bench.driver.removals)
    await bench.supervisor.lookout.refresh("fake")
    assert len(bench.driver.removals) == before
    assert set(bench.driver.removals) == {one.name for one in gone}
    assert {one.name for one in await bench.driver.list(CLUSTER)} == {one.name for one in kept}


async def test_what_a_full_set_no_longer_names_is_stopped_removed_and_forgotten(bench: Bench) -> None:
    kept, dropped = key_of("kept"), key_of("dropped")
    await bench.assign(assignment_of(kept, fake_task()), assignment_of(dropped, fake_task()))
    await bench.wait_state(dropped, AllocState.RUNNING)
    await bench.assign(assignment_of(kept, fake_task()), full=True)
    await until(lambda: dropped not in bench.supervisor.records, "it to be forgotten")
    assert bench.driver.removals == [name_of(dropped)]
    assert [record.key for record in bench.store.load()[0]] == [kept]


async def test_what_an_update_takes_away_is_stopped_removed_and_forgotten_and_the_rest_runs_on(bench: Bench) -> None:
    kept, dropped = key_of("kept"), key_of("dropped")
    await bench.assign(assignment_of(kept, fake_task()), assignment_of(dropped, fake_task()))
    for key in (kept, dropped):
        await bench.wait_state(key, AllocState.RUNNING)
    bench.index += 1
    removed = (dropped, key_of("never-heard-of"))
    assert await bench.supervisor.apply(index=bench.index, full=False, assignments=(), removed=removed)
    await until(lambda: dropped not in bench.supervisor.records, "it to be forgotten")
    assert bench.driver.removals == [name_of(dropped)]
    await bench.until_running({name_of(kept)})
    assert [record.key for record in bench.store.load()[0]] == [kept]


async def test_nobodys_runs_that_are_known_are_removed_with_the_full_set_itself(bench: Bench) -> None:
    """Not only with the next look at everything."""
    bench.refresh_s = 3600.0
    nobodys = planted(key_of("nobodys"))
    bench.driver.plant(nobodys)
    await bench.restart()
    assert bench.supervisor.running_count() == 1
    await bench.assign(full=True)
    await bench.until_running(set())
    await until(lambda: bench.driver.removals, "the removal")
    assert bench.driver.removals == [nobodys.name]


async def test_output_of_an_ended_job_stays_readable_after_a_full_set_without_it(bench: Bench) -> None:
    key = key_of()
    await bench.assign(
        assignment_of(key, fake_task(FAKE_EXIT_AFTER_MS="1", FAKE_OUTPUT="42\n"), job_type=JobType.BATCH)
    )
    await bench.wait_state(key, AllocState.COMPLETE)
    await bench.assign(full=True)
    options = {"previous": False, "follow": False, "tail_lines": 0, "offset": 0}
    text = [chunk.data async for chunk in bench.supervisor.logs(key, "main", **options)]  # type: ignore[arg-type]
    assert text == [b"42\n"]


async def test_an_older_update_is_ignored(bench: Bench) -> None:
    key = key_of()
    assert await bench.assign(assignment_of(key, fake_task()))
    bench.index = -5
    assert not await bench.assign(full=True)
    await bench.wait_state(key, AllocState.RUNNING)


async def test_superseded_runs_end_before_anything_new_starts(bench: Bench) -> None:
    replaced, new = key_of("moved", attempt=1), key_of("moved", attempt=2)
    theirs = planted(replaced, node="node-2")
    bench.driver.plant(theirs)
    bench.driver.ignore_stop = True
    await bench.assign(assignment_of(new, fake_task()), superseded=(replaced,))
    await until(lambda: bench.driver.stops, "the stop of the other agent's run")
    assert bench.driver.starts == []
    bench.driver.end(theirs.name, Exit(code=143))
    await bench.wait_state(new, AllocState.RUNNING)


async def test_a_replaced_run_that_cannot_be_ended_keeps_only_its_own_successor_from_starting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clearing, "CLEAR_S", 0.05)
    stuck, new, other, ended = key_of("moved"), key_of("moved", attempt=2), key_of("other"), key_of("quick")
    for one in (planted(stuck, node="node-2"), planted(ended, node="node-2")):
        bench.driver.plant(one)
    really = bench.driver.stop

    async def stop(name: str, *, signal: str, timeout_ms: int) -> None:
        if name == name_of(stuck):
            bench.driver.stops.append((name, signal, timeout_ms))
            raise DriverUnavailableError("it did not receive an exit event")
        await really(name, signal=signal, timeout_ms=timeout_ms)

    monkeypatch.setattr(bench.driver, "stop", stop)
    quick = replace(ended, attempt=2)
    wanted = [assignment_of(one, fake_task()) for one in (new, other, quick)]
    await bench.assign(*wanted, superseded=(stuck, ended))
    for key in (other, quick):
        await bench.wait_state(key, AllocState.RUNNING)
    await until(lambda: len([one for one in bench.driver.stops if one[0] == name_of(stuck)]) > 1, "another try")
    assert name_of(new) not in bench.driver.starts
    monkeypatch.setattr(bench.driver, "stop", really)
    await bench.wait_state(new, AllocState.RUNNING)


async def test_an_engine_that_is_down_loses_no_task_and_reports_nothing(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task(), restart=RestartPolicy(attempts=1, delay_ms=1)))
    await bench.wait_state(key, AllocState.RUNNING)
    said = len(bench.reported)
    bench.driver.set_available(False)
    await until(lambda: not bench.supervisor.lookout.available["fake"], "the outage to be seen")
    assert len(bench.reported) == said
    assert bench.supervisor.records[key].state is AllocState.RUNNING
    bench.driver.set_available(True)
    await until(lambda: bench.supervisor.lookout.available["fake"], "the engine's return")
    bench.driver.end(name_of(key), Exit(code=1))
    await bench.wait_state(key, AllocState.RUNNING, restarts=1)


async def test_what_is_assigned_during_an_outage_of_the_engine_starts_afterwards(bench: Bench) -> None:
    bench.driver.set_available(False)
    await until(lambda: not bench.supervisor.lookout.available["fake"], "the outage to be seen")
    key = key_of()
    await bench.assign(assignment_of(key, fake_task()))
    bench.driver.set_available(True)
    await bench.wait_state(key, AllocState.RUNNING)


async def test_lost_contact_stops_only_what_asked_for_it_and_a_full_set_brings_it_back(bench: Bench) -> None:
    careful, other = key_of("careful"), key_of("other")
    careful_assignment = assignment_of(careful, fake_task(), on_disconnect=OnDisconnect.STOP)
    await bench.assign(careful_assignment, assignment_of(other, fake_task()))
    await bench.wait_state(careful, AllocState.RUNNING)
    await bench.wait_state(other, AllocState.RUNNING)
    bench.supervisor.contact_lost()
    held = await bench.wait_state(careful, AllocState.BACKOFF)
    assert "on_disconnect: stop" in held.reason
    assert [name for name, _, _ in bench.driver.stops] == [name_of(careful)]
    await bench.assign(careful_assignment, assignment_of(other, fake_task()), full=True)
    await bench.wait_state(careful, AllocState.RUNNING, restarts=1)


async def test_an_agent_that_starts_without_contact_stops_it_before_anything_else(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task(), on_disconnect=OnDisconnect.STOP))
    await bench.wait_state(key, AllocState.RUNNING)
    await bench.restart(without_contact=True)
    await bench.wait_state(key, AllocState.BACKOFF)
    assert [name for name, _, _ in bench.driver.stops] == [name_of(key)]


async def test_a_container_removed_behind_the_agents_back_is_restarted_by_policy(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task(), restart=RestartPolicy(attempts=1, delay_ms=1)))
    await bench.wait_state(key, AllocState.RUNNING)
    bench.driver.vanish(name_of(key))
    await bench.wait_state(key, AllocState.RUNNING, restarts=1)


async def test_ended_allocations_are_forgotten_once_their_end_is_acknowledged(bench: Bench) -> None:
    keys = [key_of(attempt=attempt) for attempt in (1, 2, 3)]
    for key in keys:
        await bench.assign(assignment_of(key, fake_task(FAKE_EXIT_AFTER_MS="1"), job_type=JobType.BATCH))
        await bench.wait_state(key, AllocState.COMPLETE)
    bench.supervisor.expire()
    await until(lambda: keys[0] not in bench.supervisor.records, "the oldest to be forgotten")
    assert bench.driver.removals == [name_of(keys[0])]
    assert set(bench.supervisor.records) == set(keys[1:])


async def test_logs_of_what_is_not_here_say_why(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task()))
    await bench.wait_state(key, AllocState.RUNNING)

    async def read(of: AssignmentKey, task: str, *, previous: bool = False) -> None:
        async for _ in bench.supervisor.logs(of, task, previous=previous, follow=False, tail_lines=0, offset=0):
            pass

    with pytest.raises(LogsGoneError, match="unknown on node n1"):
        await read(key_of("nothing"), "main")
    with pytest.raises(LogsGoneError, match="has no task 'side'; it has main"):
        await read(key, "side")
    with pytest.raises(LogsGoneError, match="was not restarted"):
        await read(key, "main", previous=True)


async def test_who_follows_a_run_that_has_yet_to_begin_gets_all_of_it(bench: Bench) -> None:
    key = key_of()
    unknown = asyncio.create_task(
        read_all(bench, key, follow=True)
    )  # the peer knows of the placement, the agent does not yet
    bench.driver.hold_prepare = asyncio.Event()
    await bench.assign(assignment_of(key, fake_task(FAKE_OUTPUT="42\n"), job_type=JobType.BATCH))
    await bench.wait_state(key, AllocState.STARTING)
    begun = asyncio.create_task(read_all(bench, key, follow=True))
    await asyncio.wait({begun, unknown}, timeout=3 * LOOK_S)
    assert not begun.done() and not unknown.done()
    bench.driver.hold_prepare.set()
    await bench.wait_state(key, AllocState.RUNNING)
    bench.driver.end(name_of(key), Exit(code=0))
    assert await begun == await unknown == b"42\n"


async def test_who_follows_a_run_that_is_only_created_waits_for_its_output(bench: Bench) -> None:
    key = key_of()
    bench.driver.hold_prepare = asyncio.Event()
    bench.driver.plant(replace(planted(key), state=InstanceState.CREATED))
    await bench.assign(assignment_of(key, fake_task()))
    await bench.wait_state(key, AllocState.STARTING)
    reader = asyncio.create_task(read_all(bench, key, follow=True))
    await asyncio.wait({reader}, timeout=3 * LOOK_S)
    assert not reader.done()
    assert await read_all(bench, key, follow=False) == b""
    bench.driver.revive(name_of(key))
    bench.driver.say(name_of(key), b"42\n")
    bench.driver.end(name_of(key), Exit(code=0))
    assert await reader == b"42\n"


async def test_who_follows_what_never_begins_hears_why(bench: Bench) -> None:
    key = key_of()
    await bench.assign(
        assignment_of(key, fake_task(FAKE_START_NEVER="no such image"), restart=RestartPolicy(attempts=0))
    )
    await bench.wait_state(key, AllocState.FAILED)
    with pytest.raises(LogsGoneError, match="no such image"):
        await read_all(bench, key, follow=True)


async def test_starts_stops_and_what_runs_are_counted(bench: Bench) -> None:
    def value(name: str, **labels: str) -> float | None:
        return bench.metrics.registry.get_sample_value(f"raftsman_agent_{name}", labels)

    key = key_of()
    await bench.assign(assignment_of(key, fake_task()))
    await bench.wait_state(key, AllocState.RUNNING)
    assert (value("container_starts_total", driver="fake"), value("container_running")) == (1, 1)
    await bench.assign(assignment_of(key, fake_task(), desired=Desired.STOP, modify_index=1))
    await bench.wait_state(key, AllocState.STOPPED)
    assert (value("container_stops_total", driver="fake"), value("container_running")) == (1, 0)
    assert value("allocations", state="stopped") == 1


async def test_what_an_agent_finds_running_is_counted_as_adopted_and_no_end_a_second_time(bench: Bench) -> None:
    def value(name: str) -> float | None:
        return bench.metrics.registry.get_sample_value(f"raftsman_agent_container_{name}_total", {"driver": "fake"})

    runs, ends = key_of("runs"), key_of("ends")
    await bench.assign(assignment_of(runs, fake_task()), assignment_of(ends, fake_task(), job_type=JobType.BATCH))
    for key in (runs, ends):
        await bench.wait_state(key, AllocState.RUNNING)
    bench.driver.end(name_of(ends), Exit(code=0))
    await bench.wait_state(ends, AllocState.COMPLETE)
    assert (value("adoptions"), value("exits")) == (None, 1)
    await bench.restart()
    assert (value("adoptions"), value("exits")) == (1, 1)


@pytest.mark.soak
async def test_heartbeats_go_on_while_hundreds_of_allocations_are_taken_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = 0
    saves: Counter[int] = Counter()
    starts: Counter[int] = Counter()
    save, start = bench.store.save, bench.driver.start

    def counted_save(record: Record) -> None:
        saves[turn] += 1
        save(record)

    async def counted_start(spec: RunSpec) -> Instance:
        starts[turn] += 1
        return await start(spec)

    async def heartbeats() -> None:
        nonlocal turn
        while True:  # as often as the loop lets anybody
            turn += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(bench.store, "save", counted_save)
    monkeypatch.setattr(bench.driver, "start", counted_start)
    beating = asyncio.ensure_future(heartbeats())
    keys = [key_of(ordinal=ordinal) for ordinal in range(500)]
    assert await bench.assign(*(assignment_of(key, fake_task()) for key in keys), full=True)
    await until(lambda: bench.supervisor.running_count() == len(keys), "all run", deadline_s=60)
    beating.cancel()
    assert starts.total() == len(keys)
    # A few workers at different stages of their rounds, however many there are.
    assert max(saves.values()) <= 5
    assert max(starts.values()) <= 5


AN_HOUR = RestartPolicy(attempts=1, delay_ms=3_600_000)
TERMINATED = Exit(code=143, signal=15)


async def test_engine_down_is_not_task_lost(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task()))
    await bench.wait_state(key, AllocState.RUNNING)
    bench.driver.go()
    await until(lambda: not bench.supervisor.lookout.available["fake"], "the engine to be missed")
    assert bench.supervisor.records[key].state is AllocState.RUNNING
    bench.driver.set_available(True)
    await until(lambda: bench.supervisor.lookout.available["fake"], "the engine to be found again")
    assert bench.driver.starts == [name_of(key)]
    assert bench.states(key) == [(0, AllocState.STARTING), (0, AllocState.RUNNING)]


async def test_what_a_restarted_engine_took_along_starts_again_at_once_and_once(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task(), restart=AN_HOUR))
    await bench.wait_state(key, AllocState.RUNNING)
    bench.driver.keeps_runs = False
    bench.driver.go()
    await until(lambda: not bench.supervisor.lookout.available["fake"], "the engine to be missed")
    bench.driver.end(name_of(key), TERMINATED)
    bench.driver.set_available(True)
    await bench.wait_state(key, AllocState.RUNNING, restarts=1)
    assert bench.driver.starts == [name_of(key), name_of(key, restarts=1)]
    assert bench.supervisor.records[key].used == 0


async def test_a_late_notice_of_an_end_does_not_make_it_the_tasks_own(bench: Bench) -> None:
    """A look at everything had found whose doing it was, the notice came before the worker acted, and the task waited
    out its delay."""
    key = key_of()
    await bench.assign(assignment_of(key, fake_task(), restart=AN_HOUR))
    await bench.wait_state(key, AllocState.RUNNING)
    bench.driver.end(name_of(key), TERMINATED)
    (ended,) = await bench.driver.list(CLUSTER)
    assert ended.exit is not None
    bench.supervisor.see(replace(ended, exit=replace(ended.exit, with_engine=True)))
    bench.supervisor.see(ended)
    await bench.wait_state(key, AllocState.RUNNING, restarts=1)
    assert bench.supervisor.records[key].used == 0


async def test_an_engine_that_ends_its_tasks_first_and_then_itself_is_known_for_it(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task(), restart=AN_HOUR))
    await bench.wait_state(key, AllocState.RUNNING)
    bench.driver.keeps_runs = False
    bench.driver.end(name_of(key), TERMINATED)
    await bench.wait_state(key, AllocState.BACKOFF)
    bench.driver.go()
    await until(lambda: not bench.supervisor.lookout.available["fake"], "the engine to be missed")
    bench.driver.set_available(True)
    await bench.wait_state(key, AllocState.RUNNING, restarts=1)
    assert bench.supervisor.records[key].used == 0


async def test_a_task_that_fails_while_an_engine_is_down_that_keeps_tasks_failed_by_itself(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, fake_task(), restart=AN_HOUR))
    await bench.wait_state(key, AllocState.RUNNING)
    bench.driver.go()
    await until(lambda: not bench.supervisor.lookout.available["fake"], "the engine to be missed")
    bench.driver.end(name_of(key), TERMINATED)
    bench.driver.set_available(True)
    waiting = await bench.wait_state(key, AllocState.BACKOFF)
    assert waiting.reason == "killed by signal 15"
    assert bench.supervisor.records[key].used == 1


async def test_what_a_call_left_behind_that_was_given_up_is_found_and_removed(bench: Bench) -> None:
    """The engine hung, the job was removed, and then the engine carried out what it had been asked."""
    await bench.assign(full=True)
    late, neighbours = planted(key_of("late")), planted(key_of("neighbours"), node="node-2")
    bench.driver.plant(late)
    bench.driver.plant(neighbours)
    await bench.until_running({neighbours.name})
    assert bench.driver.removals == [late.name]


async def test_nothing_is_taken_for_nobodys_before_the_control_plane_has_said_everything(bench: Bench) -> None:
    one = planted(key_of())
    bench.driver.plant(one)
    await until(lambda: bench.supervisor.running_count() == 1, "it to be seen")
    await bench.restart()
    assert bench.driver.removals == []


async def test_a_notice_about_everything_makes_it_look_at_everything(bench: Bench) -> None:
    bench.refresh_s = 3600.0
    await bench.restart()
    one = planted(key_of())
    bench.driver.plant(one)
    bench.driver.tell("")
    await until(lambda: bench.supervisor.running_count() == 1, "it to be seen")


async def test_a_bug_in_looking_does_not_end_the_looking(bench: Bench) -> None:
    bench.driver.fail_list = KeyError("a row without a name")
    await until(lambda: bench.driver.fail_list is None, "the looking to fail")
    one = planted(key_of())
    bench.driver.plant(one)
    await until(lambda: bench.supervisor.running_count() == 1, "it to be seen")


async def test_a_driver_that_answers_but_starts_nothing_is_asked_again_after_a_pause_and_told_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at it woke who had just failed: hundreds of tries, and lines, a second."""
    seen: list[str] = []
    sleep = asyncio.sleep

    async def noted(delay: float, result: object = None) -> object:
        if delay == RETRY_S:
            seen.append("pause")
            delay = 0.01
        return await sleep(delay, result)

    async def refusing(spec: RunSpec) -> Instance:
        seen.append("start")
        raise DriverUnavailableError("no more processes")

    monkeypatch.setattr(asyncio, "sleep", noted)
    monkeypatch.setattr(bench.driver, "start", refusing)
    with capture_logs() as told:
        await bench.supervisor.start()
        await bench.assign(assignment_of(key_of(), fake_task()))
        await until(lambda: seen.count("start") >= 5, "some tries")
    assert seen[:9] == ["start", "pause"] * 4 + ["start"]
    assert sum(line["event"] == "driver_unavailable" for line in told) == 1
