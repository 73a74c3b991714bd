"""What every driver promises, asked of all of them: fake, process and, where an engine answers, docker."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.driver import Driver, Instance, InstanceState, LogsGoneError, RunId, RunsInside, RunSpec, StartError
from agent.drivers.docker import DockerDriver
from agent.drivers.fake import FakeDriver
from agent.drivers.process import ProcessDriver
from orchestrator.contract.model import StopPolicy, TaskSpec, str_map
from tests.integration.agent_fakes import key_of, task_of, until

ROOT = Path(__file__).parents[2]
IMAGE = "raftsman-test:busybox"


@dataclass
class Kit:
    """A driver, and how to tell it to do the same things as the others."""

    driver: Driver
    cluster: str

    def spec(self, task: TaskSpec, *, restarts: int = 0, attempt: int = 1) -> RunSpec:
        run = RunId(key=key_of(attempt=attempt), restarts=restarts, task=task.name)
        env = str_map(dict(task.env) | {"RAFTSMAN_ALLOC_ID": "web/main/0"})
        return RunSpec(cluster_id=self.cluster, node_id="node-1", run=run, task=task, env=env)

    @property
    def image(self) -> str:
        return IMAGE if self.driver.name == "docker" else ""

    def sleeper(self, **options: int) -> RunSpec:
        return self.spec(task_of("sleep", "1000", image=self.image), **options)

    def exits(self, code: int) -> RunSpec:
        env = {"FAKE_EXIT_AFTER_MS": "1", "FAKE_EXIT_CODE": str(code)}
        return self.spec(task_of("sh", "-c", f"exit {code}", image=self.image, env=env))

    def talks(self, script: str, output: str) -> RunSpec:
        env = {"FAKE_OUTPUT": output, "FAKE_EXIT_AFTER_MS": "1"}
        return self.spec(task_of("sh", "-c", script, image=self.image, env=env))

    def cannot_start(self) -> RunSpec:
        env = {"FAKE_START_NEVER": "command 'no-such-command' not found"}
        return self.spec(task_of("no-such-command", image=self.image, env=env))

    async def start(self, spec: RunSpec) -> Instance:
        await self.driver.prepare(spec)
        return await self.driver.start(spec)

    async def ended(self, name: str) -> Instance:
        async def look() -> Instance | None:
            found = await self.driver.inspect(name)
            return found if found is not None and found.state is InstanceState.EXITED else None

        found = await until(look, f"{name} to end")
        assert isinstance(found, Instance)
        return found

    async def text(self, name: str, **options: int | bool) -> bytes:
        asked = {"follow": False, "tail_lines": 0, "offset": 0} | options
        return b"".join([chunk.data async for chunk in self.driver.logs(name, **asked)])  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def test_image() -> str:
    made = subprocess.run([ROOT / "scripts/lib/test_image.sh"], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no Docker engine, or no image: {made.stderr.strip()}")
    return made.stdout.strip()


@pytest.fixture(params=["fake", "process", pytest.param("docker", marks=pytest.mark.docker)])
async def kit(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kit]:
    driver: Driver
    if request.param == "docker":
        request.getfixturevalue("test_image")
        driver = DockerDriver()
    elif request.param == "process":
        driver = ProcessDriver(tmp_path / "process")
    else:
        driver = FakeDriver()
    info = await driver.probe()
    assert info.available, info.reason
    one = Kit(driver, f"{uuid.uuid4().hex[:8]}-contract")
    yield one
    for instance in await driver.list(one.cluster):
        await driver.remove(instance.name)
    await driver.close()


async def test_a_started_task_runs_and_is_listed_with_its_identity(kit: Kit) -> None:
    spec = kit.sleeper(restarts=2)
    started = await kit.start(spec)
    assert started.running
    assert started.runtime_id
    assert (started.name, started.run, started.node_id) == (spec.name, spec.run, "node-1")
    assert await kit.driver.list(kit.cluster) == (started,)
    assert await kit.driver.list("another-cluster") == ()


async def test_starting_twice_starts_once(kit: Kit) -> None:
    spec = kit.sleeper()
    first, second = await kit.start(spec), await kit.start(spec)
    assert first == second


async def test_an_ended_run_is_not_started_again_under_its_name(kit: Kit) -> None:
    spec = kit.exits(3)
    await kit.start(spec)
    ended = await kit.ended(spec.name)
    again = await kit.start(spec)
    assert (again.runtime_id, again.state) == (ended.runtime_id, InstanceState.EXITED)


@pytest.mark.parametrize("code", [0, 3, 127])
async def test_the_exit_code_is_kept(kit: Kit, code: int) -> None:
    spec = kit.exits(code)
    await kit.start(spec)
    ended = await kit.ended(spec.name)
    assert ended.exit is not None
    assert (ended.exit.code, ended.exit.signal, ended.exit.oom_killed) == (code, 0, False)
    assert ended.exit.ended_ms > 0


async def test_an_end_is_announced(kit: Kit) -> None:
    changes = kit.driver.changes()

    async def named() -> str:
        async for name in changes:
            if name:  # "" says that anything may have changed
                return name
        raise AssertionError("the changes ended")

    waiting = asyncio.ensure_future(named())
    # Docker's stream begins a little after it was asked for, so end runs until one is heard of.
    names = set()
    for attempt in range(1, 50):
        spec = kit.exits(0)
        spec = replace(spec, run=replace(spec.run, key=replace(spec.run.key, attempt=attempt)))
        names.add(spec.name)
        await kit.start(spec)
        await kit.ended(spec.name)
        with contextlib.suppress(TimeoutError):
            assert await asyncio.wait_for(asyncio.shield(waiting), 0.5) in names
            break
    else:
        pytest.fail("no end was announced")
    await changes.aclose()  # type: ignore[attr-defined]


async def test_stop_ends_a_task_and_says_by_which_signal(kit: Kit) -> None:
    spec = kit.sleeper()
    await kit.start(spec)
    await kit.driver.stop(spec.name, signal="SIGTERM", timeout_ms=5000)
    found = await kit.driver.inspect(spec.name)
    assert found is not None
    assert found.exit is not None
    assert (found.exit.code, found.exit.signal) == (143, 15)
    await kit.driver.stop(spec.name, signal="SIGTERM", timeout_ms=5000)


async def test_a_task_that_ignores_the_signal_is_killed(kit: Kit) -> None:
    if isinstance(kit.driver, FakeDriver):
        pytest.skip("the fake driver's tasks ignore nothing")
    script = "trap '' TERM; echo ready; while true; do sleep 1; done"
    spec = kit.spec(task_of("sh", "-c", script, image=kit.image, stop=StopPolicy(timeout_ms=1000)))
    await kit.start(spec)
    await until(lambda: kit.text(spec.name), "the trap to be set")
    await kit.driver.stop(spec.name, signal="SIGTERM", timeout_ms=1000)
    found = await kit.driver.inspect(spec.name)
    assert found is not None
    assert found.exit is not None
    assert found.exit.code == 137


async def test_unknown_runs_are_nothing_to_stop_remove_or_inspect(kit: Kit) -> None:
    await kit.driver.stop("raftsman-unknown", signal="SIGTERM", timeout_ms=0)
    await kit.driver.remove("raftsman-unknown")
    assert await kit.driver.inspect("raftsman-unknown") is None
    with pytest.raises(LogsGoneError):
        await kit.text("raftsman-unknown")


async def test_removing_a_running_task_kills_and_forgets_it(kit: Kit) -> None:
    spec = kit.sleeper()
    await kit.start(spec)
    await kit.driver.remove(spec.name)
    assert await kit.driver.list(kit.cluster) == ()


async def test_a_command_that_does_not_exist_never_ran_and_is_named(kit: Kit) -> None:
    """Where an init starts the command, the engine takes the failure for an exit; elsewhere the start fails."""
    spec = kit.cannot_start()
    try:
        await kit.start(spec)
    except StartError as error:
        assert "no-such-command" in error.reason
        assert error.permanent
        assert await kit.driver.list(kit.cluster) == ()
    else:
        ended = await kit.ended(spec.name)
        assert ended.exit is not None
        assert ended.exit.never_ran
        assert "no-such-command" in ended.exit.reason


async def test_output_is_kept_in_order_with_offsets(kit: Kit) -> None:
    spec = kit.talks("echo one; echo two; echo three", "one\ntwo\nthree\n")
    await kit.start(spec)
    await kit.ended(spec.name)
    assert await kit.text(spec.name) == b"one\ntwo\nthree\n"
    assert await kit.text(spec.name, offset=5) == b"wo\nthree\n"
    assert await kit.text(spec.name, tail_lines=2) == b"two\nthree\n"
    chunks = [chunk async for chunk in kit.driver.logs(spec.name, follow=False, tail_lines=1, offset=0)]
    assert chunks[0].offset == len("one\ntwo\n")


async def test_following_output_ends_with_the_task(kit: Kit) -> None:
    spec = kit.talks("echo one; sleep 1; echo two", "one\ntwo\n")
    await kit.start(spec)
    async with asyncio.timeout(20):
        assert await kit.text(spec.name, follow=True) == b"one\ntwo\n"
        assert await kit.text(spec.name, follow=True, tail_lines=1) == b"two\n"


async def test_a_follower_that_leaves_disturbs_nobody(kit: Kit) -> None:
    spec = kit.sleeper()
    await kit.start(spec)
    following = asyncio.ensure_future(kit.text(spec.name, follow=True))
    await asyncio.sleep(0)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await following
    found = await kit.driver.inspect(spec.name)
    assert found is not None
    assert found.running


async def test_error_output_is_told_apart(kit: Kit) -> None:
    if isinstance(kit.driver, FakeDriver):
        pytest.skip("the fake driver's tasks write no errors")
    spec = kit.spec(task_of("sh", "-c", "echo out; echo err >&2", image=kit.image))
    await kit.start(spec)
    await kit.ended(spec.name)
    chunks = [chunk async for chunk in kit.driver.logs(spec.name, follow=False, tail_lines=0, offset=0)]
    assert {(chunk.data, chunk.stderr) for chunk in chunks} == {(b"out\n", False), (b"err\n", True)}


async def test_the_task_sees_its_environment(kit: Kit) -> None:
    spec = kit.talks("echo $RAFTSMAN_ALLOC_ID", "web/main/0\n")
    await kit.start(spec)
    await kit.ended(spec.name)
    assert await kit.text(spec.name) == b"web/main/0\n"


async def test_a_command_runs_where_its_task_runs_and_its_code_and_words_come_back(kit: Kit) -> None:
    assert isinstance(kit.driver, RunsInside)
    task = replace(kit.sleeper().task, env=(("MINE", "x"), ("FAKE_CHECK", "7")))
    spec = kit.spec(task)
    await kit.start(spec)
    ran = await kit.driver.run_in(
        spec.name, ("sh", "-c", 'echo "$MINE from $RAFTSMAN_ALLOC_ID"; exit 7'), timeout_ms=10_000
    )
    assert ran.code == 7
    if kit.driver.name != "fake":
        assert ran.output == "x from web/main/0\n"
        missing = await kit.driver.run_in(spec.name, ("no-such-command",), timeout_ms=10_000)
        assert missing.code != 0 and "no-such-command" in missing.output
    await kit.driver.stop(spec.name, signal="SIGKILL", timeout_ms=0)
    assert (await kit.driver.run_in(spec.name, ("true",), timeout_ms=10_000)).code != 0


async def test_a_command_that_does_not_end_is_killed_at_its_deadline_and_the_task_goes_on(kit: Kit) -> None:
    if kit.driver.name == "fake":
        pytest.skip("its commands end at once")
    assert isinstance(kit.driver, RunsInside)
    spec = kit.sleeper()
    await kit.start(spec)
    with pytest.raises(TimeoutError):
        await kit.driver.run_in(spec.name, ("sh", "-c", "echo begins; sleep 1000"), timeout_ms=200)

    async def answers() -> bool:
        assert isinstance(kit.driver, RunsInside)
        return (await kit.driver.run_in(spec.name, ("true",), timeout_ms=10_000)).code == 0

    await until(answers, "the next command")
    found = await kit.driver.inspect(spec.name)
    assert found is not None and found.running
