"""Control groups of the process driver: what is limited, what is told, and that nothing of a task gets away."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from agent.driver import RunSpec, StartError
from agent.drivers import confinement
from agent.drivers.confinement import Confinement
from agent.drivers.process import ProcessDriver
from orchestrator.contract.model import Resources
from tests.integration.agent_fakes import until
from tests.integration.test_process_driver import CLUSTER, ended, pids_of, spec_of, text

HERE = confinement.find()
UNIFIED = Path("/sys/fs/cgroup/unified")
needs_memory = pytest.mark.skipif("memory" not in HERE.parents, reason="no memory controller can be used here")
needs_pids = pytest.mark.skipif("pids" not in HERE.parents, reason="no pids controller can be used here")


def groups() -> Confinement:
    """What this machine has, at its best: control groups of any kind."""
    if not HERE.version:
        pytest.skip("no control groups can be used here")
    return HERE


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[ProcessDriver]:
    one = ProcessDriver(tmp_path / "process")
    yield one
    for found in await one.list(CLUSTER):
        await one.remove(found.name)
    await one.close()


def with_memory(spec: RunSpec, mib: int) -> RunSpec:
    return replace(spec, task=replace(spec.task, resources=Resources(cpu_millis=500, memory_mib=mib)))


@needs_memory
async def test_a_task_that_takes_more_memory_than_it_asked_for_is_ended_and_that_is_the_reason(
    driver: ProcessDriver,
) -> None:
    spec = with_memory(spec_of(sys.executable, "-c", "held = bytearray(200 << 20); input()"), 64)
    await driver.start(spec)
    found = await ended(driver, spec.name)
    assert found.exit is not None
    assert (found.exit.code, found.exit.oom_killed) == (137, True)


@needs_memory
async def test_memory_counts_for_all_processes_of_a_task_together(driver: ProcessDriver) -> None:
    take = f"{sys.executable} -c 'held = bytearray(40 << 20); import time; time.sleep(1000)'"
    spec = with_memory(spec_of("sh", "-c", f"{take} & {take} & {take} & wait; exit 3"), 64)
    await driver.start(spec)
    found = await until(lambda: _ended_or_short(driver, spec.name), "the kernel's verdict")
    assert found


async def _ended_or_short(driver: ProcessDriver, name: str) -> bool:
    """One of the three is gone: together they would hold 120 MiB."""
    takers = [pid for pid in HERE.members(driver._group_of(name)) if "bytearray" in " ".join(_command(pid))]
    directories = HERE.directories(driver._group_of(name))
    events = [(one / "memory.oom_control") for one in directories] + [(one / "memory.events") for one in directories]
    killed = any(
        "oom_kill 0" not in file.read_text() and "oom_kill" in file.read_text() for file in events if file.exists()
    )
    return killed and len(takers) < 3


def _command(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


@needs_memory
async def test_memory_and_cpu_change_while_it_runs(driver: ProcessDriver) -> None:
    """Up and down, and the kernel goes by the newest."""
    spec = with_memory(spec_of("sleep", "1000"), 200)
    assert (await driver.probe()).resizes
    before = await driver.start(spec)
    group = driver._group_of(spec.name)

    def limits() -> tuple[int, int]:
        memory, cpu = HERE.parents["memory"] / group, HERE.parents.get("cpu")
        name, shares = ("memory.max", "cpu.weight") if HERE.version == 2 else ("memory.limit_in_bytes", "cpu.shares")
        return int((memory / name).read_text()) >> 20, int((cpu / group / shares).read_text()) if cpu else 0

    began = limits()
    for mib, cpu in ((400, 1000), (64, 250), (200, 500)):
        await driver.resize(replace(spec, task=replace(spec.task, resources=Resources(cpu_millis=cpu, memory_mib=mib))))
        assert limits()[0] == mib
        if "cpu" in HERE.parents:
            assert (limits()[1] > began[1]) == (cpu > 500), limits()
    assert limits() == began
    assert await driver.inspect(spec.name) == before, "the same process goes on"


@needs_memory
async def test_less_memory_than_is_in_use_is_refused_and_nothing_is_ended(driver: ProcessDriver) -> None:
    spec = with_memory(
        spec_of(sys.executable, "-c", "held = bytearray(90 << 20); print('up', flush=True); input()"), 200
    )
    spec = replace(spec, task=replace(spec.task, command=("sh", "-c", f"sleep 1000 | {spec.task.command[0]} -c \"$0\""),
                                      args=(spec.task.command[2],)))  # fmt: skip
    before = await driver.start(spec)

    async def up() -> bool:
        return "up" in await text(driver, spec.name)

    await until(up, "the memory to be held")
    with pytest.raises(StartError, match=r"it uses \d+ MiB of memory, more than the 64 MiB that it may have"):
        await driver.resize(with_memory(spec, 64))
    assert await driver.inspect(spec.name) == before
    await driver.resize(with_memory(spec, 150))
    await driver.remove(spec.name)
    await driver.resize(with_memory(spec, 150))  # gone: nothing to do


async def test_without_control_groups_a_process_keeps_its_size_and_that_is_said(tmp_path: Path) -> None:
    bare = ProcessDriver(tmp_path / "bare", groups=Confinement(version=0, parents={}))
    try:
        spec = with_memory(spec_of("sleep", "1000"), 64)
        await bare.start(spec)
        assert not (await bare.probe()).resizes
        with pytest.raises(StartError, match="no control groups for memory, and a process keeps the limits"):
            await bare.resize(with_memory(spec, 128))
    finally:
        await bare.remove(spec.name)
        await bare.close()


@needs_pids
async def test_a_fork_bomb_ends_at_the_number_of_processes_that_a_task_may_have(
    driver: ProcessDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.drivers.process.PIDS_LIMIT", 8)
    bomb = """
import os, signal
for _ in range(30):
    try:
        if not os.fork():
            signal.pause()
    except BlockingIOError:
        signal.pause()
"""
    spec = spec_of(sys.executable, "-c", bomb)
    await driver.start(spec)
    await until(lambda: len(HERE.members(driver._group_of(spec.name))) == 8, "the limit")
    await driver.remove(spec.name)
    assert HERE.members(driver._group_of(spec.name)) == []


async def test_what_a_killed_supervisor_leaves_behind_is_found_by_its_group(
    driver: ProcessDriver, tmp_path: Path
) -> None:
    """Neither the parent nor the session leads to it any more."""
    here = groups()
    script = f"(setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000' &); sleep 1000"
    spec = spec_of("sh", "-c", script)
    await driver.start(spec)
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), "the stray")
    stray = int((tmp_path / "pid").read_text())
    os.kill(pids_of(driver, spec.name)[0], signal.SIGKILL)
    await ended(driver, spec.name)
    await until(lambda: not psutil.pid_exists(stray), "its end")
    await driver.remove(spec.name)
    assert not any(directory.exists() for directory in here.directories(driver._group_of(spec.name)))


async def test_a_group_goes_with_its_run_and_the_supervisor_was_never_in_it(driver: ProcessDriver) -> None:
    here = groups()
    spec = spec_of("sleep", "1000")
    await driver.start(spec)
    supervisor, task = pids_of(driver, spec.name)
    assert here.members(driver._group_of(spec.name)) == [task]
    assert supervisor not in here.members(driver._group_of(spec.name))
    await driver.stop(spec.name, signal="SIGTERM", timeout_ms=5000)
    await ended(driver, spec.name)
    assert not any(directory.exists() for directory in here.directories(driver._group_of(spec.name)))


@pytest.mark.skipif(
    not (UNIFIED / "cgroup.procs").exists() or not os.access(UNIFIED, os.W_OK), reason="no unified hierarchy to write"
)
async def test_membership_alone_is_enough_to_end_everything(tmp_path: Path) -> None:
    """As in the unified hierarchy of a machine whose controllers are elsewhere."""
    parent = UNIFIED / "raftsman"
    parent.mkdir(exist_ok=True)
    alone = Confinement(version=2, parents={"": parent})
    driver = ProcessDriver(tmp_path / "process", groups=alone)
    spec = spec_of("sh", "-c", "sleep 1000 & sleep 1000 & sleep 1000")
    try:
        await driver.start(spec)
        await until(lambda: len(alone.members(driver._group_of(spec.name))) == 4, "all of them")
        alone.kill(driver._group_of(spec.name))
        assert alone.members(driver._group_of(spec.name)) == []
        await ended(driver, spec.name)
        assert "nothing limited by cgroup v2, memory and cpu and pids not" in (await driver.probe()).reason
    finally:
        await driver.remove(spec.name)
        await driver.close()


async def test_without_groups_each_process_has_a_bound_and_the_driver_says_so(tmp_path: Path) -> None:
    driver = ProcessDriver(tmp_path / "process", groups=Confinement(version=0, parents={}))
    try:
        said = (await driver.probe()).reason
        assert said.startswith("no control groups: memory is limited of each process alone")
        assert "cpu and the number of processes are not" in said
        spec = with_memory(spec_of("sh", "-c", "ulimit -d"), 64)
        await driver.start(spec)
        await ended(driver, spec.name)
        assert int(await text(driver, spec.name)) == 4 * 64 * 1024, "KiB"
    finally:
        await driver.remove(spec.name)
        await driver.close()


async def test_limits_that_cannot_be_set_fail_the_start_and_leave_nothing(tmp_path: Path) -> None:
    parent = tmp_path / "no-control-group"
    parent.mkdir()
    broken = Confinement(version=2, parents={"": parent, "memory": parent})
    driver = ProcessDriver(tmp_path / "process", groups=broken)
    spec = spec_of("true")
    with pytest.raises(StartError, match=r"cannot limit the task: .*memory\.max: No such file"):
        await driver.start(spec)
    assert list(parent.iterdir()) == []
    await driver.close()
