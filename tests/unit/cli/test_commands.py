"""Every command against a fake peer: what it prints where, and what it exits with."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli import rollout
from orchestrator.client import contexts
from orchestrator.contract import answers, model
from orchestrator.contract.batch import PeriodicSpec
from orchestrator.contract.errors import (
    InvalidError,
    NoLeaderError,
    NotFoundError,
    OutOfRangeError,
    PreconditionError,
)
from orchestrator.contract.model import AllocationId, AllocState, Revision
from orchestrator.contract.rollouts import Rollout, RolloutStatus
from tests.unit.cli.conftest import Cli
from tests.unit.client.fake import FakePeer, World, job_spec

JOB = "name: web\nimage: nginx\n"


def allocation(ordinal: int = 0, state: AllocState = AllocState.RUNNING, **more: object) -> model.Allocation:
    return replace(
        model.Allocation(
            id=AllocationId(namespace="default", job="web", group="main", ordinal=ordinal),
            job_uid="u1",
            attempt=1,
            node_id="n1",
            node_name="one",
            node_address="127.0.0.1",
            state=state,
            ready=state is AllocState.RUNNING,
            ports=(model.PortBinding(label="http", host_port=20001, to=80),),
        ),
        **more,  # type: ignore[arg-type]
    )


def job(state: str = "running", spec: model.JobSpec | None = None, **counts: int) -> answers.JobStatus:
    said: dict[str, Any] = {"count": 1, "ready": counts.get("running", 0), **counts}
    return answers.JobStatus(
        spec=spec or job_spec(),
        uid="u1",
        version=1,
        state=state,
        groups=(answers.GroupStatus(group="main", **said),),
    )


@pytest.fixture
def running(world: World) -> World:
    world.jobs[("default", "web")] = job(running=1)
    world.allocations = [allocation()]
    world.logs["web/main/0"] = b"one\ntwo\nthree\n"
    return world


@pytest.fixture
def job_file(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return str(path)


# ---------------------------------------------------------------------------- ps and status


def test_ps_shows_jobs_and_allocations(cli: Cli, running: World) -> None:
    code, out, err = cli("ps")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["JOB", "TYPE", "STATE", "RUNNING", "VERSION", "AGE"] or "JOB" in out
    assert "web/main/0" in out
    assert "http=127.0.0.1:20001" in out


def test_ps_hides_what_is_finished(cli: Cli, running: World) -> None:
    running.jobs[("default", "old")] = job("stopped", job_spec("old"))
    assert "old" not in cli("ps")[1]
    assert "old" in cli("ps", "--all")[1]


@pytest.mark.parametrize(("output", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_structured_output_is_parseable(cli: Cli, running: World, output: str, load: object) -> None:
    code, out, _ = cli("ps", "-o", output)
    value = load(out)  # type: ignore[operator]
    assert code == 0
    assert value["jobs"][0]["spec"]["name"] == "web"
    assert value["jobs"][0]["spec"]["type"] == "service"
    assert value["allocations"][0]["state"] == "running"


def test_names_are_one_a_line(cli: Cli, running: World) -> None:
    assert cli("-o", "name", "ps")[1] == "web\n"
    assert cli("status", "web", "-o", "name")[1] == "web/main/0\n"
    running.allocations += [replace(one, attempt=one.attempt + 1) for one in running.allocations]
    assert cli("status", "web", "-o", "name")[1] == "web/main/0\n"


def test_the_columns_of_a_job_stand_below_their_names(cli: Cli, running: World) -> None:
    """Memory stood below GPUS and processors below MEMORY: one column had no name."""
    where, job = next(iter(running.jobs.items()))
    running.jobs[where] = replace(job, groups=(replace(job.groups[0], skipped=7, lost=8),))
    lines = cli("status", "web")[1].splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("GROUP")]
    found = dict(zip(lines[at].split(), lines[at + 1].split(), strict=True))
    assert (found["SKIPPED"], found["LOST"]) == ("7", "8")
    assert found["CPU"] == "0.1" and found["MEMORY"].endswith("Mi")


def test_status_shows_why_something_is_pending(cli: Cli, world: World) -> None:
    world.jobs[("default", "web")] = job("pending", pending=1)
    world.explanation = answers.Explanation(
        summary="nothing fits",
        groups=(
            answers.GroupExplanation(
                group="main",
                pending=1,
                rejections=(answers.Rejection(constraint="memory", text="memory: short by 2 GiB", nodes=2),),
                nearest="one: 2 GiB short",
                hint="ask for less memory",
            ),
        ),
    )
    for command in ("status", "why"):
        _, out, _ = cli(command, "web")
        assert "2 nodes: memory: short by 2 GiB" in out
        assert "to change it: ask for less memory" in out


def test_status_has_a_heading_over_every_column(cli: Cli, world: World) -> None:
    group = answers.GroupStatus(
        group="main",
        count=12,
        running=1,
        ready=2,
        starting=3,
        pending=4,
        complete=5,
        failed=6,
        skipped=7,
        lost=8,
        outdated=9,
    )
    world.jobs[("default", "web")] = replace(job(), groups=(group,))
    lines = cli("status", "web")[1].splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("GROUP"))
    table = dict(zip(lines[at].split(), lines[at + 1].split(), strict=True))
    assert table["RUNNING"] == "1"
    assert (table["FAILED"], table["SKIPPED"], table["LOST"], table["OUTDATED"]) == ("6", "7", "8", "9")
    assert table["CPU"] == "0.1"
    assert table["MEMORY"] == "128Mi"


def test_an_unknown_job_is_said(cli: Cli) -> None:
    code, out, err = cli("status", "nope")
    assert (code, out, err) == (1, "", "raftsman: no job 'nope'\n")


def test_without_quorum_reads_are_stale_and_say_so(cli: Cli, running: World, peer: FakePeer) -> None:
    peer.no_quorum = True
    code, out, err = cli("ps")
    assert code == 0
    assert "web/main/0" in out
    assert "warning: no leader" in err
    assert "4.2 s old" in err
    # The promise is two seconds in all; only one of the two reads may wait for a leader.
    linearizable = [request for method, request in peer.calls if not request.read.stale]
    assert {type(request).__name__ for request in linearizable} == {"ListJobsRequest"}


def test_without_quorum_writes_exit_with_six_and_say_what_to_do(cli: Cli, running: World, peer: FakePeer) -> None:
    peer.no_quorum = True
    code, _, err = cli("stop", "web", "--timeout", "300ms")
    assert code == 6
    assert "raftsman peers" in err
    assert "Traceback" not in err


# ---------------------------------------------------------------------------- run


def finish(world: World, state: str, allocations: list[model.Allocation], **counts: int) -> None:
    """What the cluster makes of the next submitted job."""

    def on_submit(spec: model.JobSpec) -> None:
        world.jobs[(spec.namespace, spec.name)] = job(state, spec, **counts)
        world.allocations = [
            replace(one, id=replace(one.id, job=spec.name, group=spec.groups[0].name)) for one in allocations
        ]

    world.on_submit = on_submit


def test_run_waits_until_a_service_runs(cli: Cli, world: World, job_file: str) -> None:
    finish(world, "running", [allocation()], running=1)
    code, out, err = cli("run", job_file)
    assert code == 0
    assert "web/main/0" in out
    assert "web: submitted (version 1)" in err


def test_run_of_a_service_that_fails_in_its_first_second_exits_with_four(
    cli: Cli, world: World, peer: FakePeer, job_file: str
) -> None:
    finish(world, "running", [allocation()], running=1)
    looks = 0

    def fail_after_the_first_look(method: str) -> None:
        nonlocal looks
        looks += method == "ListAllocations"
        if looks == 1 and method == "GetJob":
            spec = world.jobs[("default", "web")].spec
            world.jobs[("default", "web")] = job("failed", spec, failed=1)
            world.allocations = [allocation(state=AllocState.FAILED, reason="exit code 3", exit_code=3)]

    peer.on_call = fail_after_the_first_look
    code, out, err = cli("run", job_file, "-o", "json")
    assert code == 4
    assert "web/main/0 on one: exit code 3" in err
    assert json.loads(out)["exit_code"] == 4  # a number, as that of an allocation


def test_run_of_a_service_that_fails_between_two_questions_exits_with_four(
    cli: Cli, world: World, peer: FakePeer, job_file: str
) -> None:
    """It said that it runs and exited with 0: the job still ran when it was asked for, and no instance of it did just
    after that."""
    finish(world, "running", [allocation()], running=1)

    def fail_before_the_first_look(method: str) -> None:
        if method == "ListAllocations" and world.jobs[("default", "web")].state == "running":
            spec = world.jobs[("default", "web")].spec
            world.jobs[("default", "web")] = job("failed", spec, failed=1)
            world.allocations = [allocation(state=AllocState.FAILED, reason="out of memory", exit_code=137)]

    peer.on_call = fail_before_the_first_look
    code, _, err = cli("run", job_file)
    assert code == 4
    assert "web/main/0 on one: out of memory" in err


def test_run_of_a_service_that_is_restarted_goes_on_waiting_until_it_has_settled(
    cli: Cli, world: World, peer: FakePeer, job_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "SETTLED_S", 0.3)
    finish(world, "running", [allocation()], running=1)
    looks: list[int] = []

    def restart_twice(method: str) -> None:
        if method == "ListAllocations":
            looks.append(world.allocations[0].restarts)
            world.allocations = [allocation(restarts=min(2, len(looks)))]

    peer.on_call = restart_twice
    assert cli("run", job_file)[0] == 0
    assert looks[:3] == [0, 1, 2]
    assert len(looks) > 3  # and once more at least, after which it had not been restarted again


def test_run_of_a_canary_that_fails_as_soon_as_it_is_up_exits_with_four(
    cli: Cli, world: World, peer: FakePeer, job_file: str
) -> None:
    """It said that the canaries wait, and exited with 0, in the moment in which the canary was seen running."""
    finish(world, "running", [allocation()], running=1, outdated=1)
    waits = Rollout(version=1, began_version=1, status=RolloutStatus.RUNNING, promoted=False)
    failed = replace(waits, status=RolloutStatus.FAILED, reason="web/main/0 failed: exit code 9")
    told: list[str] = []

    def fail_after_the_first_look(method: str) -> None:
        known = world.jobs.get(("default", "web"))
        if method == "GetJob" and known is not None:
            told.append(method)
            world.jobs[("default", "web")] = replace(known, rollout=waits if len(told) == 1 else failed)

    peer.on_call = fail_after_the_first_look
    code, _, err = cli("run", job_file)
    assert code == 4 and "exit code 9" in err


def test_run_with_a_short_timeout_takes_what_runs_then(
    cli: Cli, world: World, job_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "SETTLED_S", 1_000.0)
    finish(world, "running", [allocation()], running=1)
    assert cli("run", job_file, "--timeout", "300ms")[0] == 0


def test_run_with_detach_returns_at_once(cli: Cli, world: World, job_file: str) -> None:
    code, out, _ = cli("apply", job_file, "--detach")
    assert (code, out) == (0, "web\n")


def test_run_says_why_there_is_no_room_and_exits_with_three(cli: Cli, world: World, job_file: str) -> None:
    finish(world, "pending", [], pending=1)
    world.explanation = answers.Explanation(
        groups=(answers.GroupExplanation(group="main", pending=1, summary="0 of 2 nodes", hint="a larger node"),)
    )
    code, _, err = cli("run", job_file, "--timeout", "300ms")
    assert code == 3
    assert "to change it: a larger node" in err


@pytest.mark.parametrize(("version", "exit_code"), [(0, 3), (1, 5)])
def test_what_an_older_version_failed_of_is_no_reason_why_this_one_waits(
    cli: Cli, world: World, job_file: str, version: int, exit_code: int
) -> None:
    """It gave the reason of a failure that the new version had mended, and not what that waited for."""
    finish(
        world,
        "pending",
        [replace(allocation(state=AllocState.FAILED, reason="denied"), job_version=version)],
        pending=1,
    )
    world.explanation = answers.Explanation(
        groups=(answers.GroupExplanation(group="main", pending=1, summary="variable pw missing"),)
    )
    code, _, err = cli("run", job_file, "--timeout", "300ms")
    last = err.partition("after 0 s")[2]
    assert (code, "variable pw missing" in last, "denied" in last) == (exit_code, version == 0, version == 1)


def test_run_says_what_it_waits_for_each_reason_once(cli: Cli, world: World, job_file: str) -> None:
    finish(world, "pending", [allocation(state=AllocState.BACKOFF, reason="no such image: ngnix")], starting=1)
    code, _, err = cli("run", job_file, "--timeout", "4s")
    assert code == 5
    assert err.count("web/main/0: backoff: no such image: ngnix") == 1


def test_run_exits_with_five_when_it_only_takes_too_long(cli: Cli, world: World, job_file: str) -> None:
    finish(world, "pending", [allocation(state=AllocState.STARTING)], starting=1)
    code, _, err = cli("run", job_file, "--timeout", "300ms")
    assert code == 5
    assert "1 starting" in err


def test_run_shows_the_last_lines_of_what_failed_and_exits_with_four(cli: Cli, world: World, tmp_path: Path) -> None:
    file = tmp_path / "b.yaml"
    file.write_text("name: sums\ntype: batch\ncommand: [false]\n")
    finish(world, "failed", [allocation(state=AllocState.FAILED, reason="exit code 3", exit_code=3)], failed=1)
    world.logs["sums/main/0"] = b"".join(b"line %d\n" % number for number in range(30))
    code, _, err = cli("run", str(file))
    assert code == 4
    assert "sums/main/0 on one: exit code 3" in err
    assert "| line 29" in err
    assert "| line 20" in err
    assert "line 19" not in err


def test_run_shows_what_a_run_said_that_was_taken_back_while_it_began_again(
    cli: Cli, world: World, tmp_path: Path
) -> None:
    file = tmp_path / "b.yaml"
    file.write_text("name: sums\ntype: batch\ncommand: [false]\n")
    finish(world, "failed", [replace(allocation(state=AllocState.FAILED, reason="stopped"), restarts=1)], failed=1)
    world.previous_logs["sums/main/0"] = b"cannot reach the database\n"
    code, _, err = cli("run", str(file))
    assert code == 4
    assert "| cannot reach the database" in err


def test_run_of_a_command_prints_what_it_wrote(cli: Cli, world: World) -> None:
    finish(world, "complete", [allocation(state=AllocState.COMPLETE)], complete=1)
    world.logs["hello/main/0"] = b"hello\n"
    code, out, _ = cli("run", "--name", "hello", "--cpu", "200m", "--", "echo", "hello", "--version")
    assert (code, out) == (0, "hello\n")
    (spec,) = [job.spec for job in world.jobs.values()]
    assert spec.type is model.JobType.BATCH
    assert spec.groups[0].tasks[0].command == ("echo", "hello", "--version")
    assert spec.groups[0].tasks[0].resources.cpu_millis == 200
    assert spec.groups[0].restart.attempts == 0


def test_a_command_that_failed_has_its_output_on_stdout_too(cli: Cli, world: World) -> None:
    """All of it, as of one that did well: it is what somebody looks for who reads the log of a build."""
    finish(world, "failed", [allocation(state=AllocState.FAILED, reason="exit code 3", exit_code=3)], failed=1)
    wrote = "".join(f"line {number}\n" for number in range(30))
    world.logs["tests/main/0"] = wrote.encode()
    code, out, err = cli("run", "--name", "tests", "--", "make", "test")
    assert (code, out) == (4, wrote)
    assert "exit code 3" in err and "line 29" not in err


def test_a_command_that_failed_before_it_wrote_anything_says_why(cli: Cli, world: World, peer: FakePeer) -> None:
    finish(world, "failed", [allocation(state=AllocState.FAILED, reason="no such command")], failed=1)
    peer.fail("Logs", NotFoundError("it never ran"))
    code, out, err = cli("run", "--name", "tests", "--", "nosuch")
    assert (code, out) == (4, "")
    assert "no such command" in err and "it never ran" not in err
    finish(world, "failed", [allocation(state=AllocState.FAILED, reason="exit code 1")], failed=1)
    peer.fail("Logs", PreconditionError("its node is gone"))
    assert "no output of tests/main/0: its node is gone" in cli("run", "--name", "tests", "--", "nosuch")[2]


def test_run_and_why_say_whose_end_a_rollout_waits_for(
    cli: Cli, world: World, job_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "REASONS_S", 0.0)
    old = replace(allocation(state=AllocState.STOPPING, reason="told to stop"), desired=model.Desired.STOP)
    finish(world, "running", [old, replace(allocation(), attempt=2)], running=1, outdated=1, surplus=1)
    said = "web/main/0 (attempt 1) on one was told to stop and still runs"
    code, _, err = cli("run", job_file, "--timeout", "300ms")
    assert (code, said in err) == (5, True)
    assert "told to stop" in cli("why", "web")[1]


@pytest.mark.parametrize(
    ("told", "updated", "code"),
    [
        (model.Desired.STOP, 1, 0),
        (model.Desired.RUN, 1, 5),  # its turn has yet to come
        (model.Desired.STOP, 0, 5),  # the new one is not ready
    ],
)
def test_run_waits_no_longer_for_old_ones_that_do_not_end(
    cli: Cli, world: World, job_file: str, monkeypatch: pytest.MonkeyPatch, told: model.Desired, updated: int, code: int
) -> None:
    """All was ready, and one process that no signal ends kept 'run' for ever."""
    monkeypatch.setattr(rollout, "LEAVING_S", -10.0)  # and the grace is 10 s
    old = replace(allocation(state=AllocState.STOPPING, reason="told to stop"), desired=told)
    finish(world, "running", [old, replace(allocation(), attempt=2)], running=1, updated=updated, outdated=1, surplus=1)
    found, _, err = cli("run", job_file, "--timeout", "5s" if code == 0 else "300ms")
    said = "raftsman: warning: web: web/main/0 (attempt 1) on one was told to stop and still runs"
    assert (found, said in err) == (code, code == 0)


def test_ctrl_c_while_run_waits_says_that_the_job_goes_on(
    cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rollout.Rollout, "wait", interrupted)
    code, _, err = cli("run", "--name", "tests", "--", "sleep", "9")
    assert code == 130
    assert "tests goes on without you: 'raftsman stop tests' ends it" in err


def test_run_invents_a_name_for_a_command(cli: Cli, world: World) -> None:
    code, out, _ = cli("run", "-d", "--", "/bin/My_Prog")
    assert code == 0
    assert out.startswith("my-prog-")


def test_a_bad_job_file_exits_with_two_and_its_place(cli: Cli, peer: FakePeer, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("name: web\nimge: nginx\n")
    code, _, err = cli("run", str(file))
    assert code == 2
    assert f"raftsman: {file}:2:1: unknown key 'imge'; did you mean 'image'?" in err
    assert peer.calls == []


def test_what_the_server_refuses_exits_with_two(cli: Cli, peer: FakePeer, job_file: str) -> None:
    peer.fail("SubmitJob", InvalidError("groups[0].tasks[0].privileged: the policy refuses it"))
    code, _, err = cli("run", job_file)
    assert (code, err) == (2, "raftsman: groups[0].tasks[0].privileged: the policy refuses it\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run"], "expected either a job FILE"),
        (["run", "--"], "expected a command after '--'"),
        (["run", "/nowhere/job.yaml"], "cannot read /nowhere/job.yaml: No such file"),
        (["run", "x.yaml", "--cpu", "2"], "--cpu goes with '-- COMMAND...'"),
        (["run", "--env", "x", "--", "ls"], "expected NAME=VALUE"),
        (["run", "--memory", "5", "--", "ls"], "expected an amount with its unit"),
        (["scale", "web", "many"], "expected a count such as 3"),
        (["ps", "--timeout", "0"], "more than 0"),
        (["lgos"], "did you mean 'logs'?"),
        (["logs", "web", "-f", "--previous"], "it cannot be followed"),
        (["var", "cas", "x"], "expected: raftsman var cas NAME EXPECT VALUE"),
        (["context", "add", "x", "--endpoint", "nowhere"], "expected HOST:PORT"),
        (["context", "add", "x", "--endpoint", "http://10.0.0.1:7400"], "without a scheme such as http://"),
        (["context", "add", "x", "--endpoint", "10.0.0.1:99999"], "expected HOST:PORT"),
        (["logs", "web/main/\xb2"], "expected JOB, JOB/GROUP or JOB/GROUP/ORDINAL"),
        (["exec", "web/main/\xb2", "--", "ls"], "expected JOB, JOB/GROUP, JOB/ORDINAL or JOB/GROUP/ORDINAL"),
        (["scale", "web", "\xb2"], "expected a count such as 3"),
    ],
)
def test_wrong_usage_exits_with_two(cli: Cli, arguments: list[str], expected: str) -> None:
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert expected in err


# ---------------------------------------------------------------------------- changes


@pytest.mark.parametrize(
    ("counts", "others"),
    [
        ({"outdated": 2}, {}),  # canaries wait for a promotion, or the rollout is paused or has failed
        ({}, {"running": 1, "ready": 0}),  # another group is not ready, and was not asked about
    ],
)
def test_scale_waits_for_the_count_and_for_nothing_else(
    cli: Cli, running: World, counts: dict[str, Any], others: dict[str, Any]
) -> None:
    """It waited two minutes, and failed, though all were there."""
    status = job(running=1, **counts)
    aside = answers.GroupStatus(group="aside", **({"count": 1, "running": 1, "ready": 1} | others))
    running.jobs[("default", "web")] = replace(status, groups=(*status.groups, aside))
    assert cli("scale", "web", "main=2", "--timeout", "500ms") == (0, "", "web: main = 2\n")


def test_scale_down_waits_until_the_others_are_gone(cli: Cli, running: World, peer: FakePeer) -> None:
    left = [3, 2, 1]

    def on_call(method: str) -> None:
        if method == "GetJob":
            status = running.jobs[("default", "web")]
            groups = (replace(status.groups[0], running=left.pop(0)),)
            running.jobs[("default", "web")] = replace(status, groups=groups)

    peer.on_call = on_call
    assert cli("scale", "web", "1")[0] == 0
    assert left == []


def test_stop_scale_restart_and_rm(cli: Cli, running: World) -> None:
    assert cli("scale", "web", "3")[0] == 0
    assert running.jobs[("default", "web")].groups[0].count == 3
    assert cli("restart", "web")[2] == "web: restarting\nweb: restarted\n"
    code, _, err = cli("rm", "web")
    assert code == 2
    assert "Repeat with -y" in err
    assert cli("stop", "web")[2] == "web: stopping\nweb: stopped\n"
    assert cli("rm", "-y", "web")[0] == 0
    assert running.jobs == {}


def test_quiet_says_nothing(cli: Cli, running: World) -> None:
    assert cli("-q", "stop", "web") == (0, "", "")


# ---------------------------------------------------------------------------- logs


def test_logs_of_one_instance_are_raw(cli: Cli, running: World) -> None:
    assert cli("logs", "web") == (0, "one\ntwo\nthree\n", "")
    assert cli("logs", "web/main/0", "--tail", "1")[1] == "three\n"
    assert cli("logs", "web/0", "--tail", "2")[1] == "two\nthree\n"


def test_logs_of_several_instances_carry_their_names(cli: Cli, running: World) -> None:
    running.allocations.append(allocation(1))
    running.logs["web/main/1"] = b"eins\nzwei"
    _, out, _ = cli("logs", "web")
    assert sorted(out.splitlines()) == [
        "web/main/0 | one",
        "web/main/0 | three",
        "web/main/0 | two",
        "web/main/1 | eins",
        "web/main/1 | zwei",
    ]


def test_following_ends_with_a_complete_allocation(cli: Cli, running: World) -> None:
    running.allocations = [allocation(state=AllocState.COMPLETE)]
    assert cli("logs", "-f", "web")[1] == "one\ntwo\nthree\n"


def test_following_goes_on_through_a_restart_without_repeating(cli: Cli, running: World, peer: FakePeer) -> None:
    steps = [
        (allocation(), b""),  # ended, and nothing new yet
        (allocation(restarts=1), b"four\n"),
        (allocation(restarts=1, attempt=2), b"five\n"),
        (allocation(restarts=1, attempt=2, state=AllocState.FAILED), b"five\n"),
    ]

    def on_call(method: str) -> None:
        if method == "GetAllocation":
            now, running.logs["web/main/0"] = steps.pop(0)
            running.allocations = [now]
            if now.state is AllocState.FAILED:
                running.jobs[("default", "web")] = job("failed", failed=1)

    peer.on_call = on_call
    assert cli("logs", "-f", "web")[:2] == (0, "one\ntwo\nthree\nfour\nfive\n")
    assert steps == []


def test_logs_of_nothing_say_where_to_look(cli: Cli, world: World) -> None:
    world.jobs[("default", "web")] = job("pending", pending=1)
    code, _, err = cli("logs", "web")
    assert code == 1
    assert "raftsman why web" in err


def test_logs_of_a_template_are_those_of_its_runs(cli: Cli, world: World) -> None:
    spec = replace(job_spec("tick"), type=model.JobType.BATCH, periodic=PeriodicSpec(cron=("@daily",)))
    world.jobs[("default", "tick")] = job("scheduled", spec)
    said = "tick is a template, of which nothing runs: its runs have logs (raftsman job runs tick)"
    assert cli("logs", "tick") == (1, "", f"raftsman: {said}\n")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("web/main/7", "group 'main' of job 'web' has no instance 7; it has only 0"),
        ("web/api", "job 'web' has no group 'api'; it has main"),
    ],
)
@pytest.mark.parametrize("command", [("logs",), ("exec",)])
def test_an_instance_that_the_job_does_not_have_is_not_called_waiting(
    cli: Cli, running: World, command: tuple[str, ...], place: str, said: str
) -> None:
    words = [*command, place] + (["--", "ls"] if command == ("exec",) else [])
    assert cli(*words) == (1, "", f"raftsman: {said}\n")


# ---------------------------------------------------------------------------- nodes, peers, events, variables


def test_nodes_show_state_and_use(cli: Cli, world: World) -> None:
    world.nodes = [
        answers.NodeInfo(
            spec=model.NodeSpec(id="abc", name="one", capacity=model.Resources(cpu_millis=4000, memory_mib=8192)),
            used=model.Resources(cpu_millis=500, memory_mib=512),
            draining=True,
            devices=(
                answers.DeviceUse(device=model.Device(id="GPU-1", model="A100", pcie=2), used_millis=500),
                answers.DeviceUse(device=model.Device(id="MIG-2", mig="1g.10gb"), cordoned=True),
            ),
        )
    ]
    _, out, _ = cli("nodes")
    assert "draining" in out
    assert "0.5/4" in out
    assert "512Mi/8Gi" in out
    assert "0.5/2 (1 cordoned)" in out
    _, wide, _ = cli("nodes", "-o", "wide")
    assert "GPU-1 (A100, island 0, switch 2, numa 0, 0.5 used)" in wide
    assert "MIG-2 (? MIG 1g.10gb, island 0, numa 0, 0 used, cordoned)" in wide
    assert cli("node", "drain", "one")[2] == "one: draining\n"
    assert cli("node", "device", "cordon", "one", "GPU-1") == (0, "", "one GPU-1: cordoned\n")
    assert cli("node", "device", "uncordon", "one", "GPU-1") == (0, "", "one GPU-1: in use again\n")
    assert cli("node", "cordon", "two") == (1, "", "raftsman: no node 'two'\n")
    assert cli("node", "forget", "one")[0] == 2
    assert cli("node", "forget", "one", "-y")[0] == 0


def test_a_node_is_shown_with_all_that_is_known_of_it(cli: Cli, world: World) -> None:
    capacity = model.Resources(cpu_millis=4000, memory_mib=8192, custom=(("licenses", 5),))
    only = model.Taint(key="gpu", value="only", effect=model.TaintEffect.NO_SCHEDULE)
    world.nodes = [
        answers.NodeInfo(
            spec=model.NodeSpec(
                id="abc",
                name="one",
                capacity=capacity,
                arch="arm64",
                os="linux",
                kernel="6.8.0",
                region="eu",
                datacenter="dc1",
                zone="z1",
                rack="r7",
                labels=(("disk", "ssd"),),
                images=tuple(f"image-{n}:1" for n in range(12)),
                datasets=("imagenet",),
            ),
            used=model.Resources(custom=(("licenses", 2),)),
            devices=(
                answers.DeviceUse(device=model.Device(id="GPU-1", model="A100"), cordoned=True),
                answers.DeviceUse(device=model.Device(id="GPU-2", model="A100"), used_millis=500, sick="XID 79"),
            ),
            taints=(model.NodeTaint(taint=only, declared=True),),
        )
    ]
    for name in ("one", "abc", "ab"):
        code, out, _ = cli("node", "show", name)
        assert code == 0
        words = [" ".join(line.split()) for line in out.splitlines()]
        for line in (
            "resources licenses 2/5",
            "device GPU-1 (A100, island 0, numa 0, 0 used, cordoned)",
            "device GPU-2 (A100, island 0, numa 0, 0.5 used, sick: XID 79)",
            "datacenter dc1",
            "rack r7",
            "system linux arm64 6.8.0",
            "taint gpu=only:NoSchedule (declared by its agent)",
            "label disk=ssd",
            "image and 2 more (-o wide)",
            "dataset imagenet",
        ):
            assert line in words
    assert cli("node", "show", "two") == (1, "", "raftsman: no node 'two'\n")
    _, out, _ = cli("nodes", "-o", "wide")
    assert "gpu=only:NoSchedule" in out
    assert "licenses 2/5" in out
    assert "eu/dc1/z1/r7" in out


def test_taints_are_put_on_and_taken_off(cli: Cli, world: World) -> None:
    world.nodes = [answers.NodeInfo(spec=model.NodeSpec(id="abc", name="one"))]
    assert cli("node", "taint", "one", "gpu=only:NoSchedule", "old-") == (
        0,
        "",
        "one: old taken off, gpu=only:NoSchedule\n",
    )
    assert cli("node", "taint", "two", "gpu:NoExecute")[0] == 1
    code, _, said = cli("node", "taint", "one", "gpu:Never")
    assert code == 2
    assert "expected key=value:Effect" in said
    assert cli("node", "taint", "one")[0] == 2


def test_peers_warn_of_certificates_that_end_soon(cli: Cli, world: World) -> None:
    day = 24 * 3600 * 1000
    now = int(time.time() * 1000)
    world.status = answers.ClusterStatus(
        cluster_name="dev",
        leader_id="n1",
        term=7,
        peers=(
            answers.PeerInfo(id="n1", role="leader", lag=0, cert_expires_ms=now + 29 * day),
            answers.PeerInfo(id="n2", role="follower", lag=3, cert_expires_ms=now + 300 * day),
        ),
    )
    _, out, err = cli("peers")
    assert "leader n1, term 7" in out
    assert "the certificate of peer n1 expires in 29 days" in err
    assert "n2" not in err


def test_an_unknown_word_after_peers_is_a_usage_error_and_lists_nothing(cli: Cli, world: World) -> None:
    world.status = answers.ClusterStatus(cluster_name="dev", leader_id="n1", term=7)
    code, out, err = cli("peers", "p1")
    assert (code, out) == (2, "")
    assert "p1" in err
    assert cli("peers", "-o", "json")[0] == 0


def test_peers_wait_says_who_is_missing_and_returns_when_nobody_is(cli: Cli, world: World) -> None:
    leader = answers.PeerInfo(id="n1", role="leader", connected=True, lag=0)
    follower = answers.PeerInfo(id="n2", role="follower", connected=True, lag=0, voter=False)
    world.status = answers.ClusterStatus(leader_id="n1", peers=(leader, follower))
    code, out, err = cli("peers", "wait", "--timeout", "100ms")
    assert (code, out) == (5, "")
    assert "n2 has no vote yet" in err
    world.status = answers.ClusterStatus(leader_id="n1", peers=(leader, replace(follower, voter=True)))
    assert cli("peers", "wait", "-q") == (0, "", "")


def test_peers_restart_wants_one_or_all(cli: Cli) -> None:
    for arguments in ([], ["p1", "--rolling"]):
        code, _, err = cli("peers", "restart", *arguments)
        assert code == 2
        assert "name a PEER, or say --rolling" in err


def test_peers_say_that_a_cluster_is_for_development(cli: Cli, world: World) -> None:
    world.status = answers.ClusterStatus(cluster_name="blue")
    assert cli("peers")[1].startswith("cluster blue: leader none")
    world.status = answers.ClusterStatus(cluster_name="blue", dev=True)
    assert cli("peers")[1].startswith("cluster blue (development): leader none")


def test_events_end_with_the_stored_ones(cli: Cli, world: World) -> None:
    world.events = [model.Event(index=n, sequence=0, time_ms=1, kind="job.submitted", job="web") for n in range(1, 11)]
    _, out, _ = cli("events", "-o", "name")
    assert out.splitlines() == [f"{n}.0" for n in range(1, 11)]
    assert cli("events", "-o", "name", "--tail", "2")[1] == "9.0\n10.0\n"
    assert cli("events", "-o", "name", "--after", "8")[1] == "9.0\n10.0\n"
    assert json.loads(cli("events", "-o", "json", "--tail", "1")[1])["kind"] == "job.submitted"


def test_the_last_events_are_asked_for_near_the_end_first(cli: Cli, world: World, peer: FakePeer) -> None:
    """Of a full ring there are 100,000, and all would have to come here."""

    def asked(*arguments: str) -> tuple[list[int], list[str]]:
        peer.calls.clear()
        out = cli("events", "-o", "name", *arguments)[1]
        return [request.after_index for method, request in peer.calls if method == "WatchEvents"], out.split()

    def event(index: int) -> model.Event:
        return model.Event(index=index, sequence=0, time_ms=1, kind="job.submitted", job="web")

    world.index = 5_000
    world.events = [event(index) for index in (7, *range(4_990, 5_001))]
    assert asked("--tail", "3") == ([4_900], ["4998.0", "4999.0", "5000.0"])
    assert asked("--tail", "12")[0] == [4_900, 0]
    assert asked("--tail", "12")[1][:2] == ["7.0", "4990.0"]
    assert asked("--tail", "2", "--job", "web")[0] == [0]  # what is looked for may lie anywhere
    assert asked("--tail", "2", "--after", "10") == ([10], ["4999.0", "5000.0"])
    peer.fail("WatchEvents", OutOfRangeError("index 4900 is collected"))
    assert asked("--tail", "1") == ([4_900, 0], ["5000.0"])


def test_a_tail_of_no_events_is_none(cli: Cli, world: World) -> None:
    world.events = [model.Event(index=1, sequence=0, time_ms=1, kind="job.submitted", job="web")]
    assert cli("events", "--tail", "0") == (0, "", "")
    assert cli("events", "--tail", "0", "--after", "0") == (0, "", "")


ENDLESS = "9" * 5_000  # more digits than Python turns into a number


@pytest.mark.parametrize(
    "arguments",
    [
        ("scale", "web", ENDLESS),
        ("scale", "web", "1", "2"),
        ("scale", "web", "api=1", "api=2"),
        ("port-forward", "web", ENDLESS),
        ("port-forward", "web", f"{ENDLESS}:80"),
        ("why", "web", "--at", ENDLESS),
        ("logs", "web", "--since", ENDLESS),
        ("what-if", "add-node", f"cpu=1,memory=1Gi,gpus={ENDLESS}"),
        ("workload", f"web/main/{ENDLESS}"),
        ("run", "--count", ENDLESS, "--", "true"),
    ],
)
def test_a_number_that_will_not_do_is_refused_in_few_words(cli: Cli, arguments: tuple[str, ...]) -> None:
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert len(err) < 700, err


def test_an_ordinal_without_end_is_nobodys(cli: Cli, world: World) -> None:
    code, _, err = cli("logs", f"web/{ENDLESS}")
    assert code == 1
    assert len(err) < 700, err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("top", "nodes", "--job", "web"), "--job is about tasks: it does not go with 'nodes'"),
        (("top", "devices", "--sort", "memory"), "--sort is about tasks: it does not go with 'devices'"),
        (("backup", "--check", "FILE", "--stale"), "neither -f nor --stale goes with it"),
        (("backup", "--check", "FILE", "-f"), "neither -f nor --stale goes with it"),
        (("context", "add", "", "--endpoint", "a:1"), "expected a name for the context"),
        (("context", "add", "q", "--endpoint", "a:1", "--tls-dir", ".", "--ca", "x"), "in the place of --tls-dir"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(cli: Cli, arguments: tuple[str, ...], text: str) -> None:
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert text in err


def test_no_placement_is_no_default(cli: Cli) -> None:
    code, _, err = cli("placements", "default", "")
    assert code == 2
    assert "expected a placement, or 'auto', got ''" in err


def test_events_name_nodes(cli: Cli, world: World) -> None:
    world.nodes = [answers.NodeInfo(spec=model.NodeSpec(id="id-1", name="n1"))]
    world.events = [
        model.Event(index=1, sequence=0, time_ms=1, kind="node.registered", node_id="id-1", message="n1"),
        model.Event(index=2, sequence=0, time_ms=1, kind="alloc.placed", allocation="web/api/0", node_id="id-1"),
        model.Event(index=3, sequence=0, time_ms=1, kind="node.forgotten", node_id="id-2"),
    ]
    _, out, _ = cli("events")
    assert [line.split()[3:] for line in out.splitlines()] == [
        ["node.registered", "n1"],
        ["alloc.placed", "web/api/0", "on", "n1"],
        ["node.forgotten", "id-2"],
    ]


def test_variables_by_command(cli: Cli) -> None:
    assert cli("var", "put", "a", "1")[0] == 0
    assert cli("var", "get", "a")[1] == "1\n"
    assert cli("var", "create", "a", "2")[0] == 1
    code, _, err = cli("var", "cas", "a", "9", "2")
    assert (code, err) == (1, "raftsman: variable 'a' was not set: it is '1'\n")
    assert cli("var", "cas", "a", "1", "2")[0] == 0
    assert cli("var", "cas", "--absent", "b", "3")[0] == 0
    assert cli("var", "list", "-o", "name")[1] == "a\nb\n"
    assert cli("var", "delete", "a")[0] == 0
    assert cli("var", "delete", "a") == (1, "", "raftsman: no variable 'a' in namespace 'default'\n")
    assert cli("var", "get", "a") == (1, "", "raftsman: no variable 'a' in namespace 'default'\n")
    assert cli("var", "get", "b", "-n", "other")[0] == 1


# ---------------------------------------------------------------------------- contexts and the rest


def test_contexts_by_command(cli: Cli, tmp_path: Path, peer: FakePeer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("")
    added = cli("context", "add", "far", "--endpoint", "a:1", "--tls-dir", str(tmp_path))
    assert added == (0, "", "context far (selected): a:1\n")
    code, _, err = cli("context", "add", "near", "--endpoint", peer.address, "--no-use")
    assert code == 0
    assert err.startswith(f"context near: {peer.address}\n") and "plain text" in err
    assert cli("context", "list", "-o", "name")[1] == "far\nnear\n"
    _, line, _ = cli("context", "show", "far", "--grpcurl")
    assert line == (
        f"grpcurl -cacert {tmp_path}/ca.pem -cert {tmp_path}/cert.pem -key {tmp_path}/key.pem "
        "-authority peer.raftsman -d '{}' a:1 orchestrator.contract.v1.Control/ListJobs\n"
    )
    monkeypatch.delenv("RAFTSMAN_ENDPOINTS")
    assert cli("context", "use", "near")[0] == 0
    assert cli("ps")[0] == 0
    assert cli("--context", "nope", "ps")[0] == 1
    assert cli("context", "remove", "near")[0] == 0
    assert cli("context", "list", "-o", "name")[1] == "far\n"


def test_the_schema_is_json(cli: Cli) -> None:
    assert json.loads(cli("schema")[1])["title"] == "Raftsman job file"


def test_the_version_is_shown_as_asked(cli: Cli) -> None:
    number = json.loads(cli("version", "-o", "json")[1])["version"]
    assert cli("version")[1] == f"raftsman {number}\n"


def test_dev_names_the_cluster_of_the_context(
    cli: Cli, peer: FakePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAFTSMAN_ENDPOINTS")
    monkeypatch.delenv("RAFTSMAN_DEV_DATA", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    contexts.add(contexts.Context(name="mine", endpoints=(peer.address,), kind="dev", data=str(tmp_path / "there")))
    code, _, err = cli("dev", "stop")
    assert code == 1
    assert f"no cluster in {tmp_path / 'state' / 'raftsman' / 'dev'}" in err
    assert f"--data {tmp_path / 'there'}" in err


@pytest.mark.parametrize(
    "where", [("--data", "A", "stop"), ("stop", "--data", "A"), ("--data", "B", "stop", "--data", "A")]
)
def test_dev_stops_the_cluster_that_is_named_wherever_that_is_said(
    cli: Cli, where: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the subcommand it was left unread: another cluster was stopped, the user's own."""
    monkeypatch.setenv("RAFTSMAN_DEV_DATA", str(tmp_path / "mine"))
    code, _, err = cli("dev", *(str(tmp_path / word) if len(word) == 1 else word for word in where))
    assert (code, f"no cluster in {tmp_path / 'A'}" in err) == (1, True)


def test_help_names_every_command_without_loading_any(cli: Cli) -> None:
    code, out, _ = cli("--help")
    assert code == 0
    for name in ("run", "ps", "context", "dev", "drill", "doctor"):
        assert f"\n  {name} " in out


def test_ctrl_c_exits_with_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.client.sync import Client

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "list_jobs", interrupted)
    assert cli("ps")[0] == 130


def test_a_dead_cluster_exits_with_six(cli: Cli, peer: FakePeer) -> None:
    peer.kill()
    code, _, err = cli("ps")
    assert code == 6
    assert "no peer could be reached" in err
    assert "Traceback" not in err


def test_a_transient_election_is_not_seen(cli: Cli, running: World, peer: FakePeer) -> None:
    peer.fail("ListJobs", NoLeaderError("electing"), NoLeaderError("electing"))
    assert cli("ps")[2] == ""


def test_limits_are_shown_and_changed(cli: Cli, world: World) -> None:
    code, out, _ = cli("limits", "get")
    assert code == 0
    assert "answers" in out
    assert "100000" in out
    code, out, err = cli("limits", "set", "events=20000", "answers=500")
    assert (code, out) == (0, "")
    assert "events: 20000 (was 100000)" in err
    assert (world.limits.events, world.limits.answers) == (20_000, 500)
    code, out, _ = cli("limits", "get", "-o", "json")
    assert json.loads(out)["answers"] == 500
    code, _, err = cli("limits", "set", "event=1")
    assert code == 2
    assert "one of allocations_per_ordinal" in err
    code, _, err = cli("limits", "set", "events=0")
    assert code == 2
    assert "from 100" in err


def test_placements_are_listed_with_their_default_which_can_be_changed(cli: Cli, world: World) -> None:
    code, out, _ = cli("placements")
    assert code == 0
    assert "the fullest node" in out
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "default without GPUs" in lines["binpack"]
    assert "default with GPUs" in lines["fragmentation"]
    code, _, err = cli("placements", "default", "spread")
    assert code == 0
    assert "default placement: spread" in err
    assert world.limits.default_placement == "spread"
    listed = json.loads(cli("placements", "-o", "json")[1])
    assert [one["name"] for one in listed if one["default"]] == ["spread"]
    assert cli("placements", "default", "auto")[0] == 0
    assert world.limits.default_placement == ""
    assert cli("placements", "-o", "name")[1] == "binpack\nfragmentation\nspread\n"


def test_peers_are_changed_after_a_question_and_shown(cli: Cli, world: World, peer: FakePeer) -> None:
    world.status = answers.ClusterStatus(
        cluster_name="dev", leader_id="p1", peers=(answers.PeerInfo(id="p1", role="leader", address=peer.address),)
    )
    assert cli("peers", "add", "p2=h:2")[0] == 2, "not asked"
    code, out, err = cli("peers", "add", "-y", "p2=h:2", "p3=h:3")
    assert code == 0 and "epoch 1: the peers are p1, p2, p3" in err
    assert "epoch 1" in out and "h:3" in out
    assert cli("peers", "replace", "-y", "p3", "p4=h:4")[0] == 0
    code, out, _ = cli("peers", "remove", "-y", "p2", "p4", "-o", "name")
    assert (code, out) == (0, "p1\n")


@pytest.mark.parametrize("word", ["p2", "p2=", "p2=host", "=h:1", "p2=h:x"])
def test_a_newcomer_without_an_address_is_wrong_use(cli: Cli, word: str) -> None:
    code, _, err = cli("peers", "add", "-y", word)
    assert code == 2 and "ID=HOST:PORT" in err


def test_a_saved_context_follows_a_change_of_the_peers(
    cli: Cli, world: World, peer: FakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.status = answers.ClusterStatus(
        leader_id="p1", peers=(answers.PeerInfo(id="p1", role="leader", address=peer.address),)
    )
    monkeypatch.delenv("RAFTSMAN_ENDPOINTS")
    assert cli("context", "add", "here", "--endpoint", peer.address, "--endpoint", "gone:1")[0] == 0
    _, _, err = cli("peers", "add", "-y", "p2=h:2")
    assert f"context here: {peer.address}, h:2" in err
    assert cli("context", "show", "here", "-o", "json")[1].count("h:2") == 1


def test_versions_mark_what_is_held_and_what_it_is_held_to(cli: Cli, world: World) -> None:
    one, two = job_spec("web"), replace(job_spec("web"), priority=60)
    world.versions = [Revision(version=2, spec=two), Revision(version=1, spec=one, stable=True)]
    world.held = (2, 1)
    lines = [line.split() for line in cli("versions", "web")[1].splitlines()]
    assert [line[:3] for line in lines[1:]] == [["2", "current", "held"], ["1", "base", "good"]]
    said = json.loads(cli("versions", "web", "-o", "json")[1])
    assert (said["held_version"], said["base_version"], said["versions"][0]["version"]) == (2, 1, 2)
    world.held = (0, 0)
    assert cli("versions", "web")[1].splitlines()[1].split()[:2] == ["2", "current"]
    assert "held" not in cli("versions", "web")[1]


def test_peers_shows_an_address_that_is_out_of_date(cli: Cli, world: World) -> None:
    moved = answers.PeerInfo(id="p1", role="leader", address="10.0.0.1:7400", found_at="10.1.0.1:7400")
    world.status = answers.ClusterStatus(cluster_name="dev", leader_id="p1", peers=(moved,))
    code, out, err = cli("peers")
    assert code == 0 and "10.0.0.1:7400 (out of date: 10.1.0.1:7400)" in out
    assert "warning: p1 answer elsewhere than the cluster remembers" in err
