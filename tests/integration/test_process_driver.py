"""What only the process driver has to get right: process trees, its supervisors' deaths, files of output, users."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import signal
import socket
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from agent.driver import Instance, InstanceState, LogChunk, PortTakenError, RunId, RunSpec, StartError
from agent.drivers import process
from agent.drivers.process import ProcessDriver
from agent.drivers.process_logs import LogReader
from agent.drivers.process_shim import LogFiles
from agent.hands import HandsError
from agent.log_tail import tail
from orchestrator.contract.model import MountSpec, PortBinding, Protocol, str_map
from orchestrator.contract.tree import Target
from tests.integration.agent_fakes import key_of, task_of, until

CLUSTER = "cluster"


@pytest.fixture(params=[True, False], ids=["pidfd", "polling"])
async def driver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ProcessDriver]:
    one = ProcessDriver(tmp_path / "process", log_file_bytes=4000, log_files=3, use_pidfd=request.param)
    yield one
    for found in await one.list(CLUSTER):
        await one.remove(found.name)
    await one.close()


def spec_of(*command: str, **options: str) -> RunSpec:
    task = replace(task_of(*command), **options)  # type: ignore[arg-type]
    run = RunId(key=key_of(), restarts=0, task="main")
    return RunSpec(cluster_id=CLUSTER, node_id="n1", run=run, task=task, env=str_map({"MINE": "x"}))


async def ended(driver: ProcessDriver, name: str) -> Instance:
    async def look() -> Instance | None:
        found = await driver.inspect(name)
        return found if found is not None and found.state is InstanceState.EXITED else None

    found = await until(look, "the end")
    assert isinstance(found, Instance)
    return found


def closed(directory: Path) -> Path:
    """For its owner alone, with a file in it."""
    directory.chmod(0o700)
    (directory / "secret").write_text("x")
    return directory / "secret"


def lies(place: str) -> bool:
    return Path(place).exists()


async def text(driver: ProcessDriver, name: str) -> str:
    chunks = [chunk.data async for chunk in driver.logs(name, follow=False, tail_lines=0, offset=0)]
    return b"".join(chunks).decode()


def pids_of(driver: ProcessDriver, name: str) -> list[int]:
    """Supervisor, task."""
    words = (driver._root / name / "run").read_text().split()
    return [int(words[0]), int(words[2])]


async def test_nothing_of_a_tree_survives_its_first_process(driver: ProcessDriver, tmp_path: Path) -> None:
    """A child in the group, one in a session of its own, and one whose parent has already gone."""
    script = f"sleep 1000 & echo $! >> {tmp_path}/pids; setsid sh -c 'echo $$ >> {tmp_path}/pids; exec sleep 1000' &"
    script += f" (setsid sh -c 'echo $$ >> {tmp_path}/pids; exec sleep 1000' &); "
    script += f"while [ $(wc -l < {tmp_path}/pids) -lt 3 ]; do sleep 0.05; done; exit 4"
    spec = spec_of("sh", "-c", script)
    await driver.start(spec)
    found = await ended(driver, spec.name)
    assert found.exit is not None
    assert found.exit.code == 4
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3
    assert [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"] == []


async def test_a_task_dies_with_its_supervisor_and_nobody_pretends_to_know_its_code(driver: ProcessDriver) -> None:
    spec = spec_of("sleep", "1000")
    await driver.start(spec)
    supervisor, task = pids_of(driver, spec.name)
    os.kill(supervisor, signal.SIGKILL)
    found = await ended(driver, spec.name)
    assert found.exit is not None
    assert (found.exit.code, found.exit.reason) == (
        -1,
        "its supervisor was killed or the machine restarted: exit code unknown",
    )
    await until(lambda: not psutil.pid_exists(task), "the task's end")


async def test_a_hanging_supervisor_does_not_save_its_task(
    driver: ProcessDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.drivers.process.KILL_GRACE_S", 0.2)
    spec = spec_of("sleep", "1000")
    await driver.start(spec)
    supervisor, task = pids_of(driver, spec.name)
    os.kill(supervisor, signal.SIGSTOP)
    await driver.stop(spec.name, signal="SIGTERM", timeout_ms=0)
    await until(lambda: not psutil.pid_exists(task) and not psutil.pid_exists(supervisor), "both ends")


async def test_another_driver_object_takes_over_what_runs(driver: ProcessDriver, tmp_path: Path) -> None:
    spec = spec_of("sleep", "1000")
    started = await driver.start(spec)
    second = ProcessDriver(tmp_path / "process")
    try:
        assert await second.list(CLUSTER) == (started,)
        await second.stop(spec.name, signal="SIGTERM", timeout_ms=5000)
        found = await ended(driver, spec.name)
        assert found.exit is not None
        assert found.exit.signal == signal.SIGTERM
    finally:
        await second.close()


async def test_a_start_that_was_cut_short_is_begun_again(driver: ProcessDriver) -> None:
    """The agent died after writing the run's directory and before its supervisor ran."""
    spec = spec_of("sleep", "1000")
    driver._write_spec(driver._root / spec.name, spec, ())
    (found,) = await driver.list(CLUSTER)
    assert found.state is InstanceState.CREATED
    assert (await driver.start(spec)).running


async def test_tasks_inherit_neither_the_agents_environment_nor_its_descriptors(
    driver: ProcessDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAFTSMAN_AGENT_SECRET", "hunter2")
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        spec = spec_of("sh", "-c", "env; ls -l /proc/self/fd")
        await driver.start(spec)
        await ended(driver, spec.name)
    output = await text(driver, spec.name)
    assert "MINE=x" in output
    assert "hunter2" not in output
    assert str(tmp_path / "open") not in output


async def test_output_is_bounded_and_offsets_stay_true(driver: ProcessDriver) -> None:
    spec = spec_of(sys.executable, "-c", "for n in range(4000): print(f'line {n:05}', flush=n % 20 == 0)")
    await driver.start(spec)
    await ended(driver, spec.name)
    files = list((driver._root / spec.name).glob("log.*"))
    assert len(files) == 3
    chunks = [chunk async for chunk in driver.logs(spec.name, follow=False, tail_lines=0, offset=0)]
    whole = b"".join(b"line %05d\n" % n for n in range(4000))
    assert chunks[0].offset > 0
    for chunk in chunks:
        assert whole[chunk.offset : chunk.offset + len(chunk.data)] == chunk.data
    assert chunks[-1].offset + len(chunks[-1].data) == len(whole)
    last = [chunk async for chunk in driver.logs(spec.name, follow=False, tail_lines=3, offset=0)]
    assert b"".join(chunk.data for chunk in last) == b"line 03997\nline 03998\nline 03999\n"


async def test_the_working_directory_is_the_runs_own_unless_said_otherwise(
    driver: ProcessDriver, tmp_path: Path
) -> None:
    spec = spec_of("pwd")
    await driver.start(spec)
    await ended(driver, spec.name)
    assert (await text(driver, spec.name)).strip() == str(driver._root / spec.name / "work")
    await driver.remove(spec.name)
    elsewhere = spec_of("pwd", work_dir=str(tmp_path))
    await driver.start(elsewhere)
    await ended(driver, elsewhere.name)
    assert (await text(driver, elsewhere.name)).strip() == str(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="switching users takes root")
async def test_a_task_runs_as_the_user_that_it_names(driver: ProcessDriver) -> None:
    spec = spec_of("sh", "-c", "id -u; touch here && echo $HOME", user="nobody")
    await driver.start(spec)
    await ended(driver, spec.name)
    assert (await text(driver, spec.name)).splitlines()[0] == "65534"
    assert len((await text(driver, spec.name)).splitlines()) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="switching users takes root")
@pytest.mark.parametrize("user", ["0:1234", "4321:1234"])
async def test_a_task_runs_with_the_group_that_it_names(driver: ProcessDriver, user: str) -> None:
    """``0:1234`` ran with root's own group, for the agent was root already."""
    spec = spec_of("sh", "-c", "echo $(id -u):$(id -g)", user=user)
    await driver.start(spec)
    await ended(driver, spec.name)
    assert (await text(driver, spec.name)).strip() == user


@pytest.mark.skipif(os.geteuid() != 0, reason="switching users takes root")
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_check_runs_as_its_task_and_leaves_nothing(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Agents run on uvloop, which knows no other user, and gives children what it opened for them: such a check was
    never answered. What it started ran on after the task, outside of its control groups."""
    long = f"{time.time_ns()}"  # of seconds: nobody else sleeps for so long
    script = f"id -u; setsid sleep {long} >/dev/null 2>&1 & cat /proc/self/cgroup; sleep 1000 & exit 3"

    def left() -> list[int]:
        return [one.pid for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", long]]

    async def check() -> None:
        driver = ProcessDriver(tmp_path / "process")
        spec = spec_of("sh", "-c", "cat /proc/self/cgroup; exec sleep 1000", user="nobody")
        await driver.start(spec)
        try:
            await until(lambda: lies(str(next((tmp_path / "process" / spec.name).glob("log.*"), ""))), "its output")
            ran = await driver.run_in(spec.name, ("sh", "-c", script), timeout_ms=60_000)
            assert (ran.code, ran.output.splitlines()[0]) == (3, "65534")
            assert ran.output.splitlines()[1:] == (await text(driver, spec.name)).splitlines()
            assert not left()
            with pytest.raises(TimeoutError):
                await driver.run_in(
                    spec.name, ("sh", "-c", f"trap '' HUP; setsid sleep {long} & sleep 1000"), timeout_ms=2000
                )
            assert not left()
        finally:
            await driver.remove(spec.name)
            await driver.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(check())


@pytest.mark.skipif(os.geteuid() != 0, reason="switching users takes root")
async def test_files_of_another_users_task_are_copied_through_directories_that_are_closed_to_it(
    driver: ProcessDriver, tmp_path: Path
) -> None:
    """An agent's directory is its own (0700), and every copy failed."""
    secret = closed(tmp_path)
    spec = spec_of("sh", "-c", "id -u > mine; exec sleep 1000", user="nobody")
    await driver.start(spec)
    await until(lambda: lies(str(driver._root / spec.name / "work" / "mine")), "the file")
    name, chunks = await driver.copy_out(spec.name, "mine")
    with tarfile.open(fileobj=io.BytesIO(b"".join([chunk async for chunk in chunks]))) as archive:
        (member,) = archive.getmembers()
        found = archive.extractfile(member)
        assert found is not None
        assert (name, found.read()) == ("mine", b"65534\n")
    name, incoming = await driver.copy_in(spec.name, Target(path=".", name="new", directory=False, contents=False))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("new")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"hi\n"))
    await incoming.write(packed.getvalue())
    await incoming.finish()
    await incoming.close()
    there = driver._root / spec.name / "work" / "new"
    assert (name, there.read_text(), there.stat().st_uid) == ("new", "hi\n", 65534)
    with pytest.raises(HandsError, match=r"there is no|ermission denied"):  # with the task's rights, as before
        await driver.copy_out(spec.name, str(secret))


@pytest.mark.parametrize("path", ["..", "../..", "../spec", "../work/../lock", "../../other/work"])
async def test_nothing_is_copied_over_what_the_agent_keeps_of_its_runs(driver: ProcessDriver, path: str) -> None:
    spec = spec_of("sleep", "60")
    await driver.start(spec)
    (driver._root / "other" / "work").mkdir(parents=True)
    with pytest.raises(HandsError, match="where the node's agent keeps what it knows of its runs"):
        await driver.copy_in(spec.name, Target(path=path, name="spec", directory=False, contents=False))
    _, incoming = await driver.copy_in(spec.name, Target(path="../work", name="x", directory=False, contents=False))
    await incoming.close()


@pytest.mark.parametrize("options", [{}, {"user": "nobody"}, {"user": "nobody", "work_dir": "/"}], ids=str)
async def test_a_payload_is_a_file_that_only_its_task_can_read(driver: ProcessDriver, options: dict[str, str]) -> None:
    payload = bytes(range(256)) * 64
    script = 'f=$RAFTSMAN_PAYLOAD_FILE; sha256sum < "$f"; stat -c %a-%u "$f"; id -u; echo "$f"'
    spec = replace(spec_of("sh", "-c", script, **options), payload=payload)
    await driver.start(spec)
    await ended(driver, spec.name)
    digest, mode, uid, place = (await text(driver, spec.name)).splitlines()
    assert digest.split()[0] == hashlib.sha256(payload).hexdigest()
    assert mode == f"400-{uid}"
    assert lies(place)
    await driver.remove(spec.name)
    assert not lies(place)


def test_files_whose_names_have_a_dot_are_written_apart(tmp_path: Path) -> None:
    (tmp_path / "work.new").mkdir()
    process._write_private(tmp_path / "work.run1", b"1")
    assert (tmp_path / "work.run1").read_bytes() == b"1"


@pytest.mark.skipif(os.geteuid() != 0, reason="switching users takes root")
async def test_a_payload_that_cannot_be_written_is_a_start_error_with_its_place(
    driver: ProcessDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(process, "PAYLOADS", tmp_path / "file" / "payloads")
    spec = replace(spec_of("true", user="nobody"), payload=b"x")
    with pytest.raises(StartError, match=f"cannot write {tmp_path}/file/payloads/{spec.name}-.*: Not a directory"):
        await driver.start(spec)
    assert not (tmp_path / "process" / spec.name).exists()


def listed(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.skipif(os.geteuid() != 0, reason="switching users takes root")
async def test_what_a_broken_off_start_left_goes(
    driver: ProcessDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payloads = tmp_path / "payloads"
    monkeypatch.setattr(process, "PAYLOADS", payloads)
    of_another = ProcessDriver(tmp_path / "other")._group_of("raftsman-gone")
    kept = replace(spec_of("sleep", "1000", user="nobody"), payload=b"x")
    broken = replace(kept, run=replace(kept.run, restarts=1))
    await driver.probe()
    await driver.start(kept)
    root, mine = tmp_path / "process", driver._group_of(kept.name)
    runs_on = {mine, of_another}

    def break_off() -> None:
        driver._write_spec(root / broken.name, broken, ())
        (root / broken.name / "meta.json").unlink()
        (payloads / of_another).touch()

    break_off()
    await driver.remove(broken.name)
    assert (listed(payloads), listed(root)) == (runs_on, {kept.name})
    break_off()
    (payloads / driver._group_of("raftsman-gone")).touch()
    (payloads / f"{mine}.new").touch()
    await driver.probe()
    assert len(listed(payloads)) == 5, "only before anything starts"
    after = ProcessDriver(tmp_path / "process")
    await after.probe()
    assert (listed(payloads), listed(root)) == (runs_on, {kept.name})
    found = await after.inspect(kept.name)
    assert found is not None
    assert found.running
    await after.remove(kept.name)
    assert listed(payloads) == {of_another}
    await after.close()


async def test_a_driver_that_cannot_be_used_says_of_nothing_that_it_can_do_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    info = await ProcessDriver(tmp_path / "file" / "process").probe()
    assert (info.available, info.resizes) == (False, False)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (spec_of(), "has no command for the process driver"),
        (spec_of("run", user="no-such-user"), "user 'no-such-user' does not exist on this node"),
        (spec_of("run", "a\0b"), "contains a NUL byte"),
        (spec_of("true", work_dir="/no/such"), "its working directory /no/such: No such file or directory"),
        (
            replace(spec_of("run"), task=replace(task_of("run"), mounts=(MountSpec(source="/", target="/x"),))),
            "has no 'volumes'",
        ),
    ],
    ids=["no command", "unknown user", "NUL", "working directory", "mounts"],
)
async def test_what_can_never_run_here_is_refused_for_good(driver: ProcessDriver, spec: RunSpec, reason: str) -> None:
    with pytest.raises(StartError, match=reason) as caught:
        await driver.start(spec)
    assert caught.value.permanent
    assert await driver.list(CLUSTER) == ()


@pytest.mark.parametrize(("protocol", "kind"), [(Protocol.TCP, socket.SOCK_STREAM), (Protocol.UDP, socket.SOCK_DGRAM)])
async def test_a_picked_port_that_a_stranger_listens_on_is_the_reason_until_it_is_free(
    driver: ProcessDriver, protocol: Protocol, kind: socket.SocketKind
) -> None:
    with socket.socket(socket.AF_INET, kind) as stranger:
        stranger.bind(("127.0.0.1", 0))
        if protocol is Protocol.TCP:
            stranger.listen()
        port = stranger.getsockname()[1]
        spec = replace(spec_of("true"), listens=(PortBinding(label="http", host_port=port, protocol=protocol),))
        with pytest.raises(
            PortTakenError, match=f"host port {port} is taken on this node: something that is not the c"
        ):
            await driver.start(spec)
        assert await driver.list(CLUSTER) == ()
    await driver.start(spec)
    await ended(driver, spec.name)
    assert await driver.start(spec) == await driver.inspect(spec.name), "what runs, or ran, may hold its port itself"


@given(
    writes=st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=40)), max_size=30),
    offset=st.integers(0, 600),
)
def test_what_was_written_is_read_back_from_any_offset(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, bytes]], offset: int
) -> None:
    directory = tmp_path_factory.mktemp("logs")
    back = Path.cwd()
    reader = LogReader(directory, offset=offset)
    got: list[LogChunk] = []
    os.chdir(directory)
    try:
        files = LogFiles(64, 1000)
        for stream, data in writes:
            files.write(stream, data)
            got.extend(reader.read())
        if files.fd >= 0:
            os.close(files.fd)
    finally:
        os.chdir(back)
    whole = b"".join(data for _, data in writes)
    assert b"".join(chunk.data for chunk in got) == whole[offset:]
    place = offset
    for chunk in got:
        assert chunk.offset == place
        place += len(chunk.data)


@given(
    pieces=st.lists(st.sampled_from([b"a", b"\n", b"bb\n", b"c\nd", b"\n\n"]), max_size=12),
    lines=st.integers(1, 6),
)
def test_the_tail_is_the_last_lines_however_the_output_was_cut(pieces: list[bytes], lines: int) -> None:
    chunks, place = [], 0
    for piece in pieces:
        chunks.append(LogChunk(data=piece, offset=place))
        place += len(piece)
    whole = b"".join(pieces)
    expected = b"".join(whole.splitlines(keepends=True)[-lines:])
    assert b"".join(chunk.data for chunk in tail(chunks, lines)) == expected


async def test_a_full_disk_fails_the_start_with_the_reason(
    driver: ProcessDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was called a driver that does not answer: the task waited for ever, and nobody was told for what."""

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(process, "_write_private", full)
        with pytest.raises(StartError, match=r"cannot write .*: No space left on device"):
            await driver.start(spec_of("true"))
    started = await driver.start(spec_of("true"))
    await ended(driver, started.name)
