"""Hands on real tasks, driver by driver: commands with and without a terminal, files, connections."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from agent.driver import Driver, DriverUnavailableError, RunSpec
from agent.drivers import docker_hands, docker_http
from agent.drivers.docker import DockerDriver
from agent.drivers.process import ProcessDriver
from agent.hands import Command, Entered, Hands, HandsError
from agent.usage import Measures
from orchestrator.contract.tree import Copied, Target, pack, unpack
from tests.integration.agent_fakes import task_of, until
from tests.integration.test_driver_contract import Kit, test_image

__all__ = ["test_image"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

HTTPD = "cd /tmp 2>/dev/null; echo hi; echo there >&2; exec sleep 1000"


class Room:
    """One task that runs for as long as the module's tests of its driver."""

    def __init__(self, driver: Driver, kit: Kit, spec: RunSpec) -> None:
        assert isinstance(driver, Hands)
        self.hands: Hands = driver
        self.driver = driver
        self.kit = kit
        self.name = spec.name
        self.mark = 0

    @property
    def in_container(self) -> bool:
        return self.driver.name == "docker"

    async def enter(self, *argv: str, **more: object) -> Entered:
        self.mark += 1
        return await self.hands.enter(self.name, Command(argv=argv, mark=f"m{self.mark}", **more))  # type: ignore[arg-type]

    async def said(self, *argv: str, given: bytes | None = None, **more: object) -> tuple[int, bytes, bytes]:
        """(exit code, output, errors) of a whole command."""
        async with asyncio.timeout(60):
            entered = await self.enter(*argv, stdin=given is not None, **more)
            try:

                async def feed() -> None:
                    await entered.write(given or b"")
                    await entered.end_input()

                feeding = asyncio.ensure_future(feed()) if given is not None else None
                said = {False: b"", True: b""}
                while (piece := await entered.read())[1]:
                    said[piece[0]] += piece[1]
                code = await entered.wait()
                if feeding is not None:
                    await feeding
                return code, said[False], said[True]
            finally:
                await entered.close()

    async def runs(self, what: str) -> bool:
        """Whether something with ``what`` among its arguments runs in the task."""
        _, out, _ = await self.said("sh", "-c", "busybox ps | grep -v grep")
        return what.encode() in out


@pytest_asyncio.fixture(
    params=["process", pytest.param("docker", marks=pytest.mark.docker)], loop_scope="module", scope="module"
)
async def room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Room]:
    driver: DockerDriver | ProcessDriver
    if request.param == "docker":
        request.getfixturevalue("test_image")
        driver = DockerDriver()
    else:
        driver = ProcessDriver(tmp_path_factory.mktemp("hands") / "process")
    assert (await driver.probe()).available
    kit = Kit(driver, f"{uuid.uuid4().hex[:8]}-hands")
    spec = kit.spec(task_of("sh", "-c", HTTPD, image=kit.image, env={"GREETING": "hello"}))
    await driver.prepare(spec)
    await driver.start(spec)
    yield Room(driver, kit, spec)
    for instance in await driver.list(kit.cluster):
        await driver.remove(instance.name)
    await driver.close()


async def test_a_command_has_the_tasks_environment_and_its_own_exit_code(room: Room) -> None:
    script = "echo $GREETING $RAFTSMAN_ALLOC_ID; echo oops >&2; exit 7"
    assert await room.said("sh", "-c", script) == (7, b"hello web/main/0\n", b"oops\n")
    _, here, _ = await room.said("pwd")
    assert here == (b"/\n" if room.in_container else f"{room.driver._root / room.name}/work\n".encode())  # type: ignore[attr-defined]


async def test_binary_data_goes_through_a_command_as_it_is(room: Room) -> None:
    given = os.urandom(1 << 20)
    code, out, _ = await room.said("cat", given=given)
    assert code == 0
    assert hashlib.sha256(out).digest() == hashlib.sha256(given).digest()


async def test_a_command_that_is_not_there_says_so(room: Room) -> None:
    code, out, err = await room.said("no-such-command")
    assert code in (126, 127)
    assert b"no-such-command" in out + err


async def test_a_command_without_input_finds_none(room: Room) -> None:
    assert await room.said("cat") == (0, b"", b"")


async def test_a_size_that_the_engine_does_not_take_in_holds_nothing_up(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that does not answer a resize: what is typed goes on, and the size comes when it can."""
    really = docker_http.ask
    lost = 0

    async def ask(method: str, path: str, **options: object) -> object:
        nonlocal lost
        if path.endswith("/resize") and lost < 2:
            lost += 1
            await until(lambda: b"still here" in said, "what was typed")
            raise DriverUnavailableError("no answer")
        return await really(method, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(docker_http, "ask", ask)
    monkeypatch.setattr(docker_hands, "SIZED_S", 0.05)
    async with asyncio.timeout(60):
        shell = await room.enter("sh", tty=True, stdin=True, rows=24, columns=80)
        said = b""
        try:
            await shell.resize(50, 132)
            await shell.write(b"echo still' 'here\n")
            while b"50 132\r\n" not in said:
                await shell.write(b"stty size\n")
                said += (await shell.read())[1]
        finally:
            await shell.close()
    assert lost == (2 if room.in_container else 0)


async def test_a_terminal_has_a_size_that_can_change_and_takes_ctrl_c(room: Room) -> None:
    async with asyncio.timeout(60):
        shell = await room.enter("sh", tty=True, stdin=True, rows=24, columns=80, term="vt100")
        said = b""

        async def until_said(what: bytes) -> None:
            nonlocal said
            while what not in said:
                piece = (await shell.read())[1]
                assert piece, said
                said += piece

        try:
            await shell.write(b"echo $TERM; stty size\n")
            await until_said(b"vt100\r\n")
            await until_said(b"24 80\r\n")
            await shell.resize(50, 132)
            await shell.write(b"stty size\n")
            await until_said(b"50 132\r\n")
            await shell.write(b"sh -c 'echo begin; exec sleep 600'\n")  # in the foreground once it speaks
            await until_said(b"begin\r\n")
            await shell.write(b"\x03")
            await shell.write(b"exit 5\n")
            while (await shell.read())[1]:
                pass
            assert await shell.wait() == 5
        finally:
            await shell.close()


async def test_a_signal_reaches_a_command_without_a_terminal(room: Room) -> None:
    async with asyncio.timeout(60):
        script = "trap 'echo got it; exit 3' INT; echo ready; while :; do sleep 0.05; done"
        waiting = await room.enter("sh", "-c", script)
        try:
            assert (await waiting.read()) == (False, b"ready\n")
            await waiting.signal("SIGINT")
            assert (await waiting.read()) == (False, b"got it\n")
            assert (await waiting.read())[1] == b""
            assert await waiting.wait() == 3
        finally:
            await waiting.close()


async def test_a_command_ends_with_its_session_and_so_does_what_it_started(room: Room) -> None:
    async with asyncio.timeout(60):
        left = await room.enter("sh", "-c", "sleep 98765 & echo on; sleep 98764")
        assert (await left.read()) == (False, b"on\n")
        assert await room.runs("98764")
        await left.close()

        async def gone() -> bool:
            return not await room.runs("98764")

        await until(gone, "the command to end")
        if not room.in_container:  # what a container's command leaves behind is the container's

            async def all_gone() -> bool:
                return not await room.runs("98765")

            await until(all_gone, "its child to end")


async def test_a_command_whose_start_nobody_waits_for_any_more_does_not_go_on(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not room.in_container:
        pytest.skip("nothing but an engine may be late")
    really, started = docker_http.call, asyncio.Event()

    async def call(method: str, path: str, **options: object) -> object:
        made = await really(method, path, **options)  # type: ignore[arg-type]
        if path.endswith("/start"):
            started.set()
            try:
                await asyncio.Event().wait()  # its answer is lost
            finally:
                made.writer.close()
        return made

    async with asyncio.timeout(60):
        with monkeypatch.context() as patch:
            patch.setattr(docker_http, "call", call)
            entering = asyncio.ensure_future(room.enter("sleep", "98763"))
            await started.wait()
            entering.cancel()
            await asyncio.gather(entering, return_exceptions=True)
        await until(lambda: not docker_hands._background, "what ends it")

        async def gone() -> bool:
            return not await room.runs("98763")

        await until(gone, "the command to end")


async def test_nothing_is_read_from_a_command_that_nobody_reads(room: Room) -> None:
    async with asyncio.timeout(60):
        endless = await room.enter("sh", "-c", "while :; do echo 0123456789012345678901234567890; done")
        try:
            assert (await endless.read())[1]
        finally:
            await endless.close()


# ---------------------------------------------------------------------------- files


@contextmanager
def tree(directory: Path) -> Iterator[Path]:
    source = directory / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "data").write_bytes(os.urandom(300_000))
    (source / "script").write_text("#!/bin/sh\n")
    (source / "script").chmod(0o751)
    (source / "link").symlink_to("deep/er/data")
    yield source


async def given(room: Room, source: Path, target: Target) -> None:
    name, incoming = await room.hands.copy_in(room.name, target)
    try:
        for piece in pack(str(source), name, Copied()):
            await incoming.write(piece)
        await incoming.finish()
    finally:
        await incoming.close()


async def taken(room: Room, path: str, directory: Path, name: str) -> None:
    _, chunks = await room.hands.copy_out(room.name, path)
    data = b"".join([chunk async for chunk in chunks])
    left = memoryview(data)

    def read(size: int) -> bytes:
        nonlocal left
        piece, left = bytes(left[:size]), left[size:]
        return piece

    unpack(read, str(directory), name)


async def test_a_tree_goes_in_and_comes_back_the_same(room: Room, tmp_path: Path) -> None:
    inside = "/tmp/in" if room.in_container else "in"
    with tree(tmp_path) as source:
        await given(room, source, Target(path=inside, name="source", directory=True))
        await given(room, source, Target(path=inside, name="source", directory=True))  # there now: into it
        code, out, err = await room.said(
            "sh", "-c", f"ls {inside} {inside}/source; {inside}/script && {inside}/source/script"
        )
        assert (code, out.split().count(b"deep")) == (0, 2), err
        await taken(room, f"{inside}/source", tmp_path, "back")
        back = tmp_path / "back"
        assert (back / "deep" / "er" / "data").read_bytes() == (source / "deep" / "er" / "data").read_bytes()
        assert (back / "script").stat().st_mode & 0o777 == 0o751
        assert (back / "link").readlink() == Path("deep/er/data")


@pytest.mark.parametrize("contents", [False, True])
async def test_links_that_lead_out_of_a_tree_go_into_a_task(room: Room, tmp_path: Path, contents: bool) -> None:
    """The engine refuses one that leads out of where it unpacks, and leaves what comes after it."""
    inside = f"{'/tmp/' if room.in_container else ''}out{contents}"
    with tree(tmp_path) as source:
        (source / "deep" / "out").symlink_to("../../../../../../etc/passwd")
        (source / "zuletzt").write_text("last")
        assert (await room.said("mkdir", inside))[0] == 0
        await given(room, source, Target(path=inside, name="source", directory=True, contents=contents))
        top = inside if contents else f"{inside}/source"
        _, out, err = await room.said("sh", "-c", f"readlink {top}/deep/out; cat {top}/zuletzt")
        assert out == b"../../../../../../etc/passwd\nlast", err


async def test_what_the_engine_cannot_see_is_not_copied_as_if_it_were_empty(room: Room) -> None:
    if not room.in_container:
        pytest.skip("of containers")
    await room.said("sh", "-c", "echo hello > /dev/shm/file")
    with pytest.raises(HandsError, match="/dev is in memory or of the kernel"):
        await room.hands.copy_out(room.name, "/dev/shm")
    with pytest.raises(HandsError, match="tee /dev/shm/other"):
        await room.hands.copy_in(room.name, Target(path="/dev/shm/other", name="n", directory=False))


@pytest.mark.parametrize(
    ("path", "directory", "said"),
    [
        ("/tmp/none/x", False, "no directory"),
        ("/bin/sh", True, "is a file"),
        ("/tmp/none/", False, "no directory"),
        ("/bin/sh/", False, "no directory /bin/sh/"),
        ("/bin/sh/x", False, "there is no .*/bin/sh"),
    ],
)
async def test_a_copy_that_cannot_land_says_why(room: Room, path: str, directory: bool, said: str) -> None:
    with pytest.raises(HandsError, match=said):
        await room.hands.copy_in(room.name, Target(path=path, name="n", directory=directory))


async def test_what_is_not_there_cannot_be_copied(room: Room) -> None:
    for path in ("/nowhere", "/bin/sh/x", "/bin/sh/"):
        with pytest.raises(HandsError, match=f"there is no {path}"):
            await room.hands.copy_out(room.name, path)


# ---------------------------------------------------------------------------- connections, usage, times


async def test_a_port_on_the_tasks_loopback_can_be_reached(room: Room) -> None:
    port = 18_080
    if not room.in_container:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    async with asyncio.timeout(60):
        listener = await room.enter("busybox", "httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", "/tmp")
        try:

            async def reached() -> object:
                try:
                    return await room.hands.connect(room.name, port)
                except HandsError as error:
                    assert error.reason == "NO_LISTENER"
                    return None

            connection = await until(reached, "a listener")
            await connection.write(b"GET /nowhere HTTP/1.0\r\n\r\n")
            await connection.end_input()
            said = b""
            while piece := await connection.read():
                said += piece
            assert b"404" in said.splitlines()[0]
            await connection.close()
        finally:
            await listener.close()


async def test_what_a_task_uses_is_known(room: Room) -> None:
    assert isinstance(room.driver, Measures)
    instances = await room.driver.list(room.kit.cluster)
    found = (await room.driver.measure(instances))[room.name]
    assert found.memory_bytes > 0
    assert found.cpu_ns >= 0
    assert found.processes >= 1
    assert found.source in ("cgroup", "processes", "engine")


async def test_output_has_its_time(room: Room) -> None:
    async def both() -> bool:
        chunks = [one async for one in room.driver.logs(room.name, follow=False, tail_lines=0, offset=0)]
        return sorted(b"".join(one.data for one in chunks).split()) == [b"hi", b"there"] and all(
            one.time_ms > 1_700_000_000_000 for one in chunks
        )

    await until(both, "both lines")
    (last,) = [one async for one in room.driver.logs(room.name, follow=False, tail_lines=1, offset=0)]
    assert last.time_ms > 1_700_000_000_000
