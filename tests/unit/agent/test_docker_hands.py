"""Commands in containers on an engine that refuses, loses what it is asked, or says odd things."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from agent import answering
from agent.driver import DriverUnavailableError
from agent.drivers import docker_hands, docker_http
from agent.drivers.docker import DockerDriver
from agent.drivers.docker_http import EngineError
from agent.hands import Command, Entered, HandsError
from orchestrator.contract.tree import Target
from tests.integration.agent_fakes import until

FOREVER_S = 3600.0


async def never(*_: Any, **__: Any) -> Any:
    await asyncio.Event().wait()


class Stream:
    closed = False

    async def close(self) -> None:
        self.closed = True


class Engine:
    """What it was asked, and what it says: of a command (one after the other; the last one stays), of a size."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.sizes: list[str] = []
        self.first_sizes: list[Any] = []  # of what is made, and of what is started
        self.looks: list[Any] = [{"Running": True, "ExitCode": None, "Pid": 0}]
        self.size: Callable[[], Any] | None = None
        self.starting: Callable[[], Any] | None = None
        self.stream = Stream()
        self.commands: list[list[str]] = []
        self.misses = 0  # so many signals find no process yet
        self.shell = True
        monkeypatch.setattr(docker_http, "ask", self._ask)
        monkeypatch.setattr(docker_http, "call", self._call)

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        self.asked.append(f"{method} {path}")
        if path.endswith("/exec"):
            self.commands.append(options["value"]["Cmd"])
            self.first_sizes.append(options["value"].get("ConsoleSize"))
            return {"Id": f"e{len(self.commands)}"}
        if path.endswith("/resize"):
            self.sizes.append("{h}x{w}".format(**options["query"]))
            return await self.size() if self.size is not None else None
        if path.endswith("/json"):
            found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
            if isinstance(found, Exception):
                raise found
            return found
        if path.endswith("/start"):  # of the command that kills
            if not self.shell:
                raise EngineError(400, "exec: /bin/sh: no such file or directory")
            self.misses -= 1
            if self.misses < 0:
                self.looks = [{"Running": False, "ExitCode": 137}]
        return None

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        self.asked.append(f"{method} {path}")
        if path.endswith("/start"):
            self.first_sizes.append(options["value"].get("ConsoleSize"))
        if self.starting is not None:
            await self.starting()
        return self.stream

    def refuses(self, status: int) -> None:
        async def refuse() -> None:
            raise EngineError(status, "not now")

        self.size = refuse


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(docker_hands, "SETTLE_S", 0.001)
    return Engine(monkeypatch)


async def entered(**more: Any) -> Entered:
    async with asyncio.timeout(10):
        return await docker_hands.enter("box", Command(argv=("work",), mark="m1", **more))


async def terminal() -> docker_hands._Entered:
    return cast(docker_hands._Entered, await entered(tty=True, rows=24, columns=80))


async def test_a_terminal_is_made_with_its_size_where_the_engine_can(engine: Engine) -> None:
    await terminal()
    await entered()
    await entered(tty=True)
    assert engine.first_sizes == [[24, 80], [24, 80], None, None, None, None]


# ---------------------------------------------------------------------------- ending


async def test_a_command_that_begins_when_nobody_waits_for_it_any_more_is_ended(engine: Engine) -> None:
    engine.starting = never
    engine.looks = [
        {"Running": False, "ExitCode": None},
        {"Running": False, "ExitCode": None},
        {"Running": True, "ExitCode": None, "Pid": 0},
    ]
    entering = asyncio.ensure_future(entered())
    await until(lambda: "POST /exec/e1/start" in engine.asked)
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    await until(lambda: len(engine.commands) == 2, "the command that kills it")
    assert "RAFTSMAN_SESSION=m1; then kill -9" in engine.commands[1][-1]
    await until(lambda: "POST /exec/e2/start" in engine.asked and not docker_hands._background)


async def left_behind(engine: Engine) -> None:
    """Start a command whose answer is lost, and go."""
    engine.starting = never
    entering = asyncio.ensure_future(entered())
    await until(lambda: "POST /exec/e1/start" in engine.asked)
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)


async def test_a_command_that_has_no_process_yet_is_killed_again_until_it_is_over(engine: Engine) -> None:
    engine.misses = 2
    await left_behind(engine)
    await until(lambda: not docker_hands._background, "the end of the command")
    assert len(engine.commands) == 4
    assert engine.asked[-1] == "GET /exec/e1/json", "the engine's word was the last"


async def test_a_command_that_no_signal_reaches_is_left_alone_once_it_runs(engine: Engine) -> None:
    engine.shell = False
    engine.looks = [{"Running": True, "ExitCode": None, "Pid": 0}] * 4 + [{"Running": True, "ExitCode": None, "Pid": 1}]
    await left_behind(engine)
    await until(lambda: not docker_hands._background)
    assert len(engine.commands) == 4, "the work, two tries while it had no process, and the last"


async def test_a_command_whose_terminal_nobody_waits_for_any_more_is_ended(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.size = never
    monkeypatch.setattr(docker_hands, "SIZED_S", FOREVER_S)
    entering = asyncio.ensure_future(terminal())
    await until(lambda: engine.sizes)
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    await until(lambda: "POST /exec/e2/start" in engine.asked and not docker_hands._background)
    assert engine.stream.closed


async def test_a_command_that_did_not_start_is_no_business_of_anybody(engine: Engine) -> None:
    async def refuse() -> None:
        raise EngineError(409, "the container is paused")

    engine.starting = refuse
    with pytest.raises(HandsError, match="paused"):
        await entered()
    assert not docker_hands._background


async def test_what_an_engine_takes_its_time_for_goes_on_behind_the_session(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[str] = []
    monkeypatch.setattr(docker_hands, "_kill_marked", killed.append)
    monkeypatch.setattr(docker_hands, "CLOSE_S", 0.0)
    told = asyncio.Event()
    really = docker_http.ask

    async def slow(method: str, path: str, **options: Any) -> Any:
        if path == "/exec/e1/json":
            await told.wait()
        return await really(method, path, **options)

    monkeypatch.setattr(docker_http, "ask", slow)
    one = await entered()
    await one.close()
    assert (killed, len(engine.commands)) == (["m1"], 1)
    told.set()
    await until(lambda: "POST /exec/e2/start" in engine.asked, "the end that the engine was asked for")


@pytest.mark.parametrize("said", [None, {}, [], {"Running": None}, DriverUnavailableError("gone")])
async def test_an_odd_word_about_a_command_takes_the_place_of_no_result(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, said: Any
) -> None:
    killed: list[str] = []
    monkeypatch.setattr(docker_hands, "_kill_marked", killed.append)
    engine.looks = [said]
    one = await entered()
    with pytest.raises(DriverUnavailableError):
        await one.wait()
    await one.close()
    assert killed == ["m1"]


# ---------------------------------------------------------------------------- sizes


async def test_only_the_first_size_is_waited_for(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.size = never
    monkeypatch.setattr(docker_hands, "SIZED_S", 0.01)
    one = await terminal()
    monkeypatch.setattr(docker_hands, "SIZED_S", FOREVER_S)
    async with asyncio.timeout(10):
        for rows in range(30, 60):  # somebody drags the window
            await one.resize(rows, 80)
    assert engine.sizes == ["24x80"]
    await one.close()


async def test_a_new_size_is_asked_for_at_once_after_a_refusal(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.refuses(500)
    monkeypatch.setattr(docker_hands, "SETTLE_S", FOREVER_S)
    monkeypatch.setattr(docker_hands, "SIZED_S", 0.01)
    one = await terminal()
    engine.size = None
    await one.resize(50, 132)
    await until(lambda: engine.sizes == ["24x80", "50x132"])
    engine.looks = [{"Running": False, "ExitCode": 0}]
    await one.close()


async def test_after_the_last_try_nothing_is_waited_for(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.refuses(500)
    for name, value in (("RESIZES", 1), ("SETTLE_S", FOREVER_S), ("SIZED_S", FOREVER_S)):
        monkeypatch.setattr(docker_hands, name, value)
    one = await terminal()
    assert engine.sizes == ["24x80"]
    engine.size = None
    await one.resize(50, 132)
    assert engine.sizes == ["24x80", "50x132"], "the next one has its tries"
    engine.looks = [{"Running": False, "ExitCode": 0}]
    await one.close()


@pytest.mark.parametrize("status", [404, 409])
async def test_a_command_that_has_ended_takes_no_size(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    engine.refuses(status)
    engine.looks = [{"Running": False, "ExitCode": None}, {"Running": False, "ExitCode": 0}]
    monkeypatch.setattr(docker_hands, "SIZED_S", FOREVER_S)
    one = await terminal()
    assert engine.sizes == ["24x80"] * 2, "again while it has yet to begin, and not once it has ended"
    await one.close()


# ---------------------------------------------------------------------------- connections


async def test_only_what_the_engine_is_asked_for_a_connection_is_its_to_answer_in_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = DockerDriver()
    monkeypatch.setattr(answering, "ANSWER_S", 0.05)
    monkeypatch.setattr(docker_hands, "CONNECT_S", 0.1)
    monkeypatch.setattr(asyncio, "open_connection", never)
    networks = {name: {"IPAddress": f"10.9.0.{name}"} for name in ("1", "2")}
    engine.looks = [{"Id": "c1", "State": {}, "HostConfig": {}, "NetworkSettings": {"Networks": networks}}]
    with pytest.raises(HandsError, match=r"10.9.0.1:80: nothing answers; 10.9.0.2:80: nothing answers") as caught:
        await driver.connect("box", 80)
    assert caught.value.reason == "NO_LISTENER"
    monkeypatch.setattr(docker_http, "ask", never)
    monkeypatch.setattr(answering, "LOOK_S", 0.05)
    engine.starting = never  # of its pulse
    async with asyncio.timeout(10):
        with pytest.raises(DriverUnavailableError, match="the Docker engine does not answer"):
            await driver.connect("box", 80)
    await driver.close()


@pytest.mark.parametrize("path", ["/t", "/t/", "/t/a/b", "t/x", "/x/../t/x", "/mem/x", "/proc/self/status"])
async def test_files_in_memory_are_refused_and_not_taken_for_missing(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async def facts(*_: Any, **__: Any) -> Any:
        return {
            "Config": {"WorkingDir": ""},
            "HostConfig": {"Tmpfs": {"/t": "size=8m"}},
            "Mounts": [{"Type": "tmpfs", "Destination": "/mem"}, {"Type": "volume", "Destination": "/tt"}],
        }

    async def gone(*_: Any, **__: Any) -> Any:
        raise EngineError(404, "no such file")

    monkeypatch.setattr(docker_http, "ask", facts)
    monkeypatch.setattr(docker_http, "call", gone)
    for asked in (
        docker_hands.copy_out("c", path),
        docker_hands.copy_in("c", Target(path=path, name="n", directory=False)),
    ):
        with pytest.raises(HandsError, match="raftsman exec"):
            await asked
    with pytest.raises(HandsError, match="there is no /tt/x"):
        await docker_hands.copy_out("c", "/tt/x")
