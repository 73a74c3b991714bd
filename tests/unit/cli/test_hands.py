"""``top``, ``node drain``, ``logs`` of several instances, and what ``exec``, ``cp`` and ``port-forward`` refuse."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from orchestrator.cli import terminal
from orchestrator.contract import answers, model
from tests.unit.cli.conftest import Cli
from tests.unit.cli.test_commands import running
from tests.unit.client.fake import FakePeer, World

__all__ = ["running"]

MIB = 1024 * 1024


def id_of(job: str, ordinal: int = 0) -> model.AllocationId:
    return model.AllocationId(namespace="default", job=job, group="main", ordinal=ordinal)


def step(ordinal: int, kind: str, why: str = "") -> answers.DrainStep:
    return answers.DrainStep(id=id_of("web", ordinal), attempt=1, state=model.AllocState.RUNNING, kind=kind, why=why)


def drain(*left: answers.DrainStep, **more: object) -> answers.DrainStatus:
    return answers.DrainStatus(node="one", left=left, **{"draining": True, **more})  # type: ignore[arg-type]


@pytest.fixture
def one(world: World) -> World:
    world.nodes = [answers.NodeInfo(spec=model.NodeSpec(id="abc", name="one"))]
    return world


# ---------------------------------------------------------------------------- drains


def test_a_drain_says_what_is_left_and_why(cli: Cli, one: World) -> None:
    one.drains = [
        drain(
            step(0, "stopping", "its node is being drained"),
            step(1, "budget", "0 of 2"),
            deadline_ms=9_000,
            now_ms=4_000,
        )
    ]
    assert cli("node", "drain", "one", "--deadline", "5s") == (
        0,
        "",
        "one: draining\n"
        "one: 2 left, at most 5s more; --wait shows how it goes on\n"
        "  web/main/0: stopping: its node is being drained\n"
        "  web/main/1: budget: 0 of 2\n",
    )


def test_a_drain_that_is_waited_for_tells_what_changes(cli: Cli, one: World) -> None:
    one.drains = [
        drain(step(0, "next"), step(1, "waits", "x")),
        drain(step(1, "waits", "x")),
        drain(step(1, "next")),
        drain(),
    ]
    assert cli("node", "drain", "one", "--wait") == (
        0,
        "",
        "one: draining\n"
        "one: web/main/0 next\n"
        "one: web/main/1 waits: x\n"
        "one: web/main/0 is gone (1 left)\n"
        "one: web/main/1 next\n"
        "one: web/main/1 is gone (0 left)\n"
        "one: nothing runs there any more\n",
    )


def test_a_drain_that_takes_too_long_or_is_cancelled_ends_the_waiting(cli: Cli, one: World) -> None:
    one.drains = [drain(step(0, "budget", "0 of 2 may be down"))]
    code, _, err = cli("node", "drain", "one", "--wait", "--timeout", "100ms")
    assert code == 5
    assert "1 still there after" in err
    assert "web/main/0: budget: 0 of 2 may be down" in err
    one.drains = [drain(step(0, "stays"), draining=False)]
    code, _, err = cli("node", "drain", "one", "--wait")
    assert (code, "the drain was cancelled; 1 stay there" in err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cancel", "--deadline", "5s"], "neither --deadline nor --wait"),
        (["--cancel", "--wait"], "neither --deadline nor --wait"),
        (["--keep-cordoned"], "goes with --cancel"),
        (["--deadline", "soon"], "--deadline"),
    ],
)
def test_drain_options_that_do_not_go_together_are_refused(
    cli: Cli, one: World, arguments: list[str], said: str
) -> None:
    code, _, err = cli("node", "drain", "one", *arguments)
    assert code == 2
    assert said in err


def test_a_drain_is_cancelled(cli: Cli, one: World) -> None:
    assert cli("node", "drain", "one", "--cancel") == (0, "", "one: the drain is cancelled, in use again\n")
    assert "still cordoned" in cli("node", "drain", "one", "--cancel", "--keep-cordoned")[2]


# ---------------------------------------------------------------------------- top


def test_top_shows_nodes_tasks_and_devices(cli: Cli, world: World) -> None:
    world.nodes = [
        answers.NodeInfo(spec=model.NodeSpec(id="abc", name="one"), used=model.Resources(cpu_millis=500, memory_mib=64))
    ]
    tasks = (
        answers.TaskUsage(id=id_of("idle"), task="main", cpu_millis=10, memory_bytes=200 * MIB, source="cgroup"),
        answers.TaskUsage(
            id=id_of("busy"), task="main", cpu_millis=1500, memory_bytes=8 * MIB, memory_limit_bytes=16 * MIB,
            processes=3, source="processes", device_ids=("GPU-1", "GPU-2"),
            devices=(
                answers.TaskDeviceUsage(device_id="GPU-1", percent=90, memory_bytes=2 * MIB),
                answers.TaskDeviceUsage(device_id="GPU-2", percent=31, memory_bytes=3 * MIB),
            ),
        ),
        answers.TaskUsage(
            id=id_of("hidden"), task="main", cpu_millis=5, memory_bytes=MIB, source="cgroup", device_ids=("GPU-2",)
        ),
        answers.TaskUsage(id=id_of("dark"), task="main", source="none", why="it does not tell"),
    )  # fmt: skip
    device = answers.DeviceUsage(device_id="GPU-1", percent=42, memory_bytes=MIB, memory_total_bytes=4 * MIB)
    world.usage = answers.UsageAnswer(
        nodes=(
            answers.NodeUsage(
                node_id="abc", cpu_millis=1600, cpu_total_millis=4000, memory_bytes=512 * MIB,
                memory_total_bytes=1024 * MIB, tasks=tasks, devices=(device,),
            ),
        ),
        unknown=(answers.UnknownUsage(node_id="x", node="two", why="it is lost"),),
    )  # fmt: skip
    for name, namespace in (("busy", "default"), ("far", "other")):
        world.jobs[(namespace, name)] = answers.JobStatus(
            spec=model.JobSpec(name=name, namespace=namespace), version=1, uid=name, state="running"
        )
    code, out, err = cli("top")
    assert (code, err) == (
        0,
        "raftsman: warning: two: unknown: it is lost\nraftsman: warning: one: 1 of 4 tasks unknown: it does not tell\n",
    )
    nodes, listed, devices = out.split("\n\n")
    assert nodes.splitlines()[1].split() == ["one", "1.60/4", "40%", "0.5", "512Mi/1Gi", "50%", "64Mi", "4"]
    names = ["busy/main/0", "idle/main/0", "hidden/main/0", "dark/main/0"]
    assert [row.split()[0] for row in listed.splitlines()[1:]] == names
    assert listed.splitlines()[1].split()[2:] == ["1.50", "8Mi", "60%", "5Mi", "GPU-1,GPU-2", "one"]
    assert listed.splitlines()[3].split()[2:] == ["0.01", "1Mi", "?", "?", "GPU-2", "one"]
    assert listed.splitlines()[4].split()[2:4] == ["?", "?"]
    assert devices.splitlines()[1].split() == ["GPU-1", "one", "42%", "1Mi/4Mi", "busy/main/0"]
    by_memory = cli("top", "tasks", "--sort", "memory")[1].splitlines()
    assert by_memory[1].startswith("idle/main/0")
    assert len(cli("top", "tasks", "--job", "busy")[1].splitlines()) == 2
    assert len(cli("top", "tasks", "--job", "busy", "-n", "*")[1].splitlines()) == 2
    for namespace in ("default", "*"):
        code, out, err = cli("top", "--job", "nosuch", "-n", namespace)
        assert (code, out) == (1, "") and "nosuch" in err
    assert cli("top", "--job", "far")[0] == 1
    assert "none: it does not tell" in cli("top", "tasks", "-o", "wide")[1]
    assert cli("top", "tasks", "-n", "other")[1] == "Nothing runs there.\n"
    assert cli("top", "-o", "name")[1] == "one\n"


# ---------------------------------------------------------------------------- logs


def placed(ordinal: int, attempt: int, *, ended_ms: int = 0) -> model.Allocation:
    return model.Allocation(
        id=id_of("web", ordinal),
        job_uid="u",
        attempt=attempt,
        state=model.AllocState.STOPPED if ended_ms else model.AllocState.RUNNING,
        modify_time_ms=ended_ms,
    )


def test_logs_of_all_instances_are_in_the_order_of_time(cli: Cli, running: World) -> None:
    running.allocations = [placed(0, 1), placed(1, 1)]
    running.timed_logs = {
        ("web/main/0", 0): [(1_000, b"a\n"), (3_000, b"c\n")],
        ("web/main/1", 0): [(2_000, b"b\n"), (4_000, b"d\n")],
    }
    assert cli("logs", "web")[1] == ("web/main/0 | a\nweb/main/1 | b\nweb/main/0 | c\nweb/main/1 | d\n")
    assert cli("logs", "web/0", "-t")[1] == "1970-01-01T00:00:01.000Z a\n1970-01-01T00:00:03.000Z c\n"
    assert cli("logs", "web", "--since", "1970-01-01T00:00:03+00:00")[1] == "web/main/0 | c\nweb/main/1 | d\n"


def test_logs_go_back_through_earlier_attempts(cli: Cli, running: World) -> None:
    running.allocations = [placed(0, 1, ended_ms=1_500), placed(0, 2, ended_ms=2_500), placed(0, 3)]
    running.timed_logs = {
        ("web/main/0", 1): [(1_000, b"first\n")],
        ("web/main/0", 2): [(2_000, b"second\n")],
        ("web/main/0", 0): [(3_000, b"third\n")],
    }
    assert cli("logs", "web")[1] == "third\n"
    assert cli("logs", "web", "--all")[1] == "first\nsecond\nthird\n"
    assert cli("logs", "web", "--since", "1970-01-01T00:00:01.800+00:00")[1] == "second\nthird\n"


def test_logs_of_what_a_rollout_gave_up_are_there_beside_those_of_what_runs_on(cli: Cli, running: World) -> None:
    """An attempt that is newer than the one that runs was left out by ``--all``, ``--since`` and ``--previous``."""
    running.allocations = [placed(0, 1, ended_ms=1_500), placed(0, 2), placed(0, 3, ended_ms=3_500)]
    running.timed_logs = {
        ("web/main/0", 1): [(1_000, b"first\n")],
        ("web/main/0", 0): [(2_000, b"runs\n"), (4_000, b"on\n")],
        ("web/main/0", 3): [(3_000, b"given up\n")],
    }
    assert cli("logs", "web")[1] == "runs\non\n"
    assert cli("logs", "web", "--all")[1] == "first\nruns\ngiven up\non\n"
    assert cli("logs", "web", "--since", "1970-01-01T00:00:01.800+00:00")[1] == "runs\ngiven up\non\n"
    assert cli("logs", "web", "--since", "1970-01-01T00:00:03.800+00:00")[1] == "on\n"


def test_previous_logs_are_of_the_tasks_of_what_a_rollout_gave_up(cli: Cli, renamed: World) -> None:
    renamed.allocations = [
        replace(placed(0, 1), job_version=1),
        replace(placed(0, 2, ended_ms=2_500), job_version=2),
    ]
    renamed.task_logs, renamed.previous_logs = {}, {"web/main/0": b"given up\n"}
    assert cli("logs", "web", "--previous", "--task", "z")[:2] == (0, "given up\n")
    assert "has no task 'y' (it has: x, z)" in cli("logs", "web", "--previous", "--task", "y")[2]


def test_logs_until_a_time_end_there_whatever_the_attempt(cli: Cli, running: World) -> None:
    running.allocations = [placed(0, 1, ended_ms=2_000), placed(0, 2), placed(1, 1)]
    running.timed_logs = {
        ("web/main/0", 1): [(1_000, b"a\n"), (1_500, b"b\n")],
        ("web/main/0", 0): [(3_000, b"c\n"), (5_000, b"d\n")],
        ("web/main/1", 0): [(2_000, b"x\n"), (4_000, b"y\n")],
    }
    until = ("--until", "1970-01-01T00:00:03+00:00")
    assert cli("logs", "web/0", *until)[1] == "a\nb\nc\n"
    assert cli("logs", "web/0", *until, "--tail", "2")[1] == "b\nc\n"
    assert cli("logs", "web/0", *until, "--since", "1970-01-01T00:00:01.2+00:00")[1] == "b\nc\n"
    assert cli("logs", "web", *until, "--tail", "1")[1] == "web/main/1 | x\nweb/main/0 | c\n"
    assert cli("logs", "web/1", "--until", "1970-01-01T00:00:01+00:00")[:2] == (0, "")


@pytest.mark.parametrize("lines", range(1, 8))
def test_the_last_lines_of_all_attempts_are_no_more_than_were_asked_for(cli: Cli, running: World, lines: int) -> None:
    """It printed all of the earlier attempts, and the last lines of the newest."""
    running.allocations = [placed(0, 1, ended_ms=1_500), placed(0, 2, ended_ms=2_500), placed(0, 3)]
    said = {1: [(1_000, b"a\n"), (1_100, b"b\n")], 2: [(2_000, b"c\n")], 3: [(3_000, b"d\n"), (3_100, b"e\n")]}
    running.timed_logs = {("web/main/0", attempt): of for attempt, of in said.items()}
    running.timed_logs[("web/main/0", 0)] = said[3]
    everything = ["a", "b", "c", "d", "e"]
    assert cli("logs", "web", "--all", "--tail", str(lines))[1].split() == everything[-lines:]
    since = "1970-01-01T00:00:01.800+00:00"
    assert cli("logs", "web", "--since", since, "--tail", str(lines))[1].split() == everything[2:][-lines:]


def spec_of(*tasks: str) -> model.JobSpec:
    listed = tuple(model.TaskSpec(name=name, command=("true",)) for name in tasks)
    return model.JobSpec(name="web", groups=(model.GroupSpec(name="main", tasks=listed),))


@pytest.fixture
def renamed(running: World) -> World:
    """Version 2 calls the second task ``z``, and an attempt of version 1 is remembered."""
    versions = [model.Revision(version=2, spec=spec_of("x", "z")), model.Revision(version=1, spec=spec_of("x", "y"))]
    running.versions = versions
    running.jobs[("default", "web")] = replace(running.jobs[("default", "web")], spec=versions[0].spec, version=2)
    running.allocations = [
        replace(placed(0, 1, ended_ms=1_500), job_version=1),
        replace(placed(0, 2), job_version=2),
    ]
    running.task_logs = {
        ("web/main/0", 1, "x"): b"old x\n",
        ("web/main/0", 1, "y"): b"old y\n",
        ("web/main/0", 0, "x"): b"new x\n",
        ("web/main/0", 0, "z"): b"new z\n",
    }
    return running


def test_logs_of_earlier_versions_are_those_of_the_tasks_of_then(cli: Cli, renamed: World) -> None:
    """A task that the newest version does not have any more had no logs at all."""
    assert sorted(cli("logs", "web", "--all")[1].splitlines()) == [
        "web/main/0 x | new x",
        "web/main/0 x | old x",
        "web/main/0 y | old y",
        "web/main/0 z | new z",
    ]
    assert cli("logs", "web", "--all", "--task", "y")[:2] == (0, "old y\n")
    assert cli("logs", "web", "--attempt", "1", "--task", "y")[:2] == (0, "old y\n")
    code, _, err = cli("logs", "web", "--task", "y")
    assert (code, "has no task 'y' (it has: x, z)" in err) == (1, True)


def test_logs_of_what_runs_an_older_version_are_those_of_its_tasks(cli: Cli, renamed: World) -> None:
    """As while a rollout is paused, or of a group that is gone."""
    renamed.allocations = [replace(placed(0, 1), job_version=1)]
    renamed.task_logs = {("web/main/0", 0, "x"): b"old x\n", ("web/main/0", 0, "y"): b"old y\n"}
    assert sorted(cli("logs", "web")[1].splitlines()) == ["web/main/0 x | old x", "web/main/0 y | old y"]
    gone = model.GroupSpec(name="other", tasks=spec_of("a").groups[0].tasks)
    renamed.jobs[("default", "web")] = replace(
        renamed.jobs[("default", "web")], spec=replace(spec_of("x"), groups=(gone,))
    )
    assert sorted(cli("logs", "web")[1].splitlines()) == ["web/main/0 x | old x", "web/main/0 y | old y"]


def test_who_follows_a_run_that_has_yet_to_begin_hears_it(cli: Cli, running: World, peer: FakePeer) -> None:
    """It ended for good: an attempt is known before its node has heard of it, and its log is empty until it runs."""
    starting = replace(placed(0, 1), state=model.AllocState.STARTING)
    running.allocations = [starting]
    running.task_logs = {("web/main/0", 0, "other"): b""}  # the agent knows nothing of it
    steps = [
        (starting, {("web/main/0", 1, "main"): b""}),  # made, not begun
        (placed(0, 1), {("web/main/0", 1, "main"): b"hello\n"}),
        (placed(0, 2), {("web/main/0", 2, "other"): b""}),  # the next attempt, likewise
        (replace(placed(0, 2), state=model.AllocState.STARTING), {("web/main/0", 2, "main"): b"again\n"}),
        (replace(placed(0, 2), state=model.AllocState.COMPLETE), {}),
    ]
    asked = 0

    def on_call(method: str) -> None:
        nonlocal asked
        if method == "GetAllocation":
            asked += 1
            if asked > 1:
                now, running.task_logs = steps.pop(0)
                running.allocations = [now]

    peer.on_call = on_call
    assert cli("logs", "-f", "web") == (0, "hello\nagain\n", "")
    assert steps == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["logs", "web", "--all", "--previous"], "--all shows every attempt"),
        (["logs", "web", "--since", "17"], "--since 17: expected a time"),
        (["logs", "web", "--until", "17"], "--until 17: expected a time"),
        (["logs", "web", "-f", "--until", "5m"], "--until ends somewhere: it does not go with -f"),
        (["logs", "web", "--since", "yore"], "--since 'yore'"),
        (["exec", "web"], "which command?"),
        (["exec", "web", "ls", "-l"], "Put '--' before the command"),
        (["exec", "-it", "web", "--", "sh"], "-t needs a terminal"),
        (["cp", "a", "b"], "neither is"),
        (["cp", "web:/a", "web:/b"], "both are"),
        (["cp", "web:", "b"], "which path?"),
        (["port-forward", "web"], "Missing argument"),
        (["port-forward", "web", "x:80"], "expected [LOCAL:]REMOTE"),
        (["port-forward", "web", "80:"], "expected [LOCAL:]REMOTE"),
        (["port-forward", "web", "99999"], "from 1 to 65535"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(cli: Cli, arguments: list[str], said: str) -> None:
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_nothing_runs_is_said_with_how_things_stand(cli: Cli, running: World) -> None:
    running.allocations = [placed(0, 1, ended_ms=5)]
    code, _, err = cli("port-forward", "web", "80")
    assert code == 1
    assert "nothing of web runs: web/main/0 stopped" in err
    assert cli("port-forward", "nosuch", "80")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["web", "nonsense"], "web/main/0 has no port 'nonsense' (its ports: http, dns)\n"),
        (["web", "0:80", "0:nonsense"], "web/main/0 has no port 'nonsense' (its ports: http, dns)\n"),
        (["web/1", "http"], "web/main/1 has no port 'http' (its ports: none)\n"),
        (["web", "dns"], "port 'dns' of web/main/0 is udp: only tcp is forwarded\n"),
        (["web", "http", "--task", "side"], "web/main/0 has no task 'side' (its tasks: main)\n"),
    ],
)
def test_a_port_that_no_connection_could_reach_is_refused_at_the_start(
    cli: Cli, running: World, arguments: list[str], said: str
) -> None:
    ports = (
        model.PortBinding(label="http", host_port=20_000, to=80),
        model.PortBinding(label="dns", host_port=20_001, to=53, protocol=model.Protocol.UDP),
    )
    running.allocations = [replace(placed(0, 1), ports=ports, job_uid="u1"), placed(1, 1)]
    code, out, err = cli("port-forward", *arguments)
    assert code == 2
    assert err == f"raftsman: {said}"
    assert "nonsense" not in out


def test_a_label_that_another_group_has_is_pointed_to(cli: Cli, running: World) -> None:
    other = replace(placed(0, 1), id=replace(id_of("web"), group="shop"))
    other = replace(other, ports=(model.PortBinding(label="http", host_port=20_000),))
    running.allocations = [placed(0, 1), other]
    assert "(its ports: none); web/shop/0 has one" in cli("port-forward", "web", "http")[2]


def test_a_local_file_that_is_not_there_is_named(cli: Cli, running: World) -> None:
    running.allocations = [placed(0, 1)]
    code, _, err = cli("cp", "nosuch", "web:/x")
    assert (code, err) == (2, "raftsman: there is no nosuch\n")


# ---------------------------------------------------------------------------- the keyboard


def test_who_types_on_while_the_command_ends_sees_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """``yes | raftsman exec -i web -- head -1`` printed one: the thread waits for its turn when the loop ends."""
    found: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", found.append)
    monkeypatch.setattr("orchestrator.cli.terminal.os.read", lambda *_: b"y")
    before = set(threading.enumerate())

    async def one_key() -> None:
        async for _ in terminal.standard_input():
            waits = False
            while not waits:  # one more is in the queue then, and another one waits for its place in it
                others = asyncio.all_tasks() - {asyncio.current_task()}
                for _ in range(10):
                    await asyncio.sleep(0)
                waits = any(not other.done() for other in others)
            return

    asyncio.run(one_key())
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()
    assert not found
