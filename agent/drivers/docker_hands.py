"""Hands on containers: commands in them (the engine's exec), their files (its archives), their ports.

Owns: these three, and ending a command whose session is over, which the engine has no call for. Leaves to others: HTTP
(``docker_http``), what runs (``docker``). The rule: everything goes through the engine, so it works for a container
without shell and tar; only signals need more: the command's process where this host shows it, else a shell inside.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import posixpath
import signal as signals
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import structlog

from agent import other_network
from agent.driver import DriverUnavailableError
from agent.drivers import docker_http
from agent.drivers.docker_http import Answer, EngineError
from agent.hands import CHUNK, Command, Connection, Entered, HandsError, Incoming
from agent.pipes import StreamConnection
from orchestrator.contract.tree import Target, TreeError, landing

MARK = "RAFTSMAN_SESSION"
"""In the environment of a command: the way to find it again."""
SETTLE_S = 0.05
RESIZE_S = 3.0
"""The engine answers a resize within this, or is asked again."""
RESIZES = 8
SIZED_S = 1.0
ENDED_S = 10.0
CLOSE_S = 3.0
"""A session waits so long for its command to be ended; the rest goes on behind it."""
END_S, END_PAUSE_S = 300.0, 2.0
"""A busy engine may begin a command, and tell of it, so late; so often it is asked at least."""
CONNECT_S = 5.0
log = structlog.get_logger("agent.docker")
GO_MODE_DIR = 1 << 31
"""Of the engine's file modes, which are Go's."""


async def enter(name: str, command: Command) -> Entered:
    wanted = {
        "AttachStdin": command.stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": command.tty,
        "Cmd": list(command.argv),
        "Env": [f"{MARK}={command.mark}", *([f"TERM={command.term or 'xterm'}"] if command.tty else [])],
    }
    # Engines from API 1.42 on make the terminal of this size; others pass it over, and are asked once it is there.
    size = {"ConsoleSize": [command.rows, command.columns]} if command.tty and command.rows and command.columns else {}
    try:
        made = await docker_http.ask("POST", f"/containers/{name}/exec", value=wanted | size)
        id_ = str(made["Id"])
    except EngineError as error:
        raise _refusal(error) from error
    except (KeyError, TypeError):
        raise DriverUnavailableError("the engine did not say what it made of the command") from None
    entered = None
    try:
        stream = await docker_http.call(
            "POST", f"/exec/{id_}/start", value={"Detach": False, "Tty": command.tty} | size, upgrade=True
        )
        entered = _Entered(name, id_, stream, command)
        await entered.resize(command.rows, command.columns)
    except EngineError as error:  # it did not start
        raise _refusal(error) from error
    except BaseException:
        # Nobody waits any more; but the engine may have heard of the start, and begin it as late as it likes.
        _in_background(_end(name, id_, command.mark) if entered is None else entered.close())
        raise
    return entered


_background: set[asyncio.Task[None]] = set()
"""What goes on when nobody waits for it; kept, since the loop keeps only a weak hold of its tasks."""


def _in_background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)
    return task


class _Entered:
    def __init__(self, container: str, id_: str, stream: Answer, command: Command) -> None:
        self._container = container
        self._id = id_
        self._stream = stream
        self._tty = command.tty
        self._mark = command.mark
        self._frame = 0  # bytes left of the present frame
        self._is_error = False
        self._ended = False
        self._size = (0, 0)
        self._another_size = asyncio.Event()
        self._fitting: asyncio.Task[None] | None = None

    async def read(self) -> tuple[bool, bytes]:
        reader = self._stream.reader
        try:
            if self._tty:
                return False, await reader.read(CHUNK)
            while not self._frame:
                header = await reader.readexactly(8)
                self._is_error, self._frame = header[0] == 2, int.from_bytes(header[4:], "big")
            data = await reader.read(min(self._frame, CHUNK))
            self._frame -= len(data)
            return self._is_error, data
        except (OSError, asyncio.IncompleteReadError):
            return False, b""

    async def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._stream.writer.write(data)
            await self._stream.writer.drain()

    async def end_input(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            if self._tty:
                self._stream.writer.write(b"\x04")  # what a person would type
            elif self._stream.writer.can_write_eof():
                self._stream.writer.write_eof()

    async def resize(self, rows: int, columns: int) -> None:
        if not self._tty or rows <= 0 or columns <= 0:
            return
        self._size = (rows, columns)
        self._another_size.set()
        if self._fitting is None or self._fitting.done():
            self._fitting = asyncio.create_task(self._fit())
            # What is typed next should find the new size, but must not wait for an engine that has lost the question.
            await asyncio.wait({self._fitting}, timeout=SIZED_S)

    async def _fit(self) -> None:
        """The newest size counts, and one that comes meanwhile is tried at once."""
        tries, size = 0, self._size
        while True:
            self._another_size.clear()
            try:
                await docker_http.ask(
                    "POST",
                    f"/exec/{self._id}/resize",
                    query={"h": str(size[0]), "w": str(size[1])},
                    patience_s=RESIZE_S,
                )
                tries = RESIZES
            except (EngineError, DriverUnavailableError) as error:  # it refuses until the command has its terminal
                if isinstance(error, EngineError) and error.status in (404, 409) and await self._has_ended():
                    return
                tries += 1
                if tries == RESIZES:
                    log.info("terminal_not_resized", container=self._container, error=str(error))
            if tries < RESIZES:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SETTLE_S * 2**tries):
                        await self._another_size.wait()
            if size != self._size:
                tries, size = 0, self._size
            elif tries >= RESIZES:
                return

    async def _has_ended(self) -> bool:
        """Whether the command has ended, as far as the engine says."""
        try:
            return _is_over(await _look(self._id))
        except EngineError as error:
            return error.status == 404  # with its container
        except DriverUnavailableError:
            return False

    async def signal(self, name: str) -> None:
        number = getattr(signals, name, None) if name.startswith("SIG") else None
        if isinstance(number, signals.Signals):
            await _send(self._container, self._id, self._mark, number)

    async def wait(self) -> int:
        """The engine ends the output a moment before it knows the exit code."""
        found = None
        try:
            async with asyncio.timeout(ENDED_S):
                while (found := await _look(self._id))["Running"]:
                    await asyncio.sleep(SETTLE_S)
        except TimeoutError:
            if found is None:
                raise DriverUnavailableError("the Docker engine does not answer: the exit code is unknown") from None
            raise HandsError("the command closed its output and runs on: its exit code is unknown") from None
        except EngineError:
            return -1  # the container is gone, and its commands with it
        self._ended = True
        code = found.get("ExitCode")
        return int(code) if code is not None else -1

    async def close(self) -> None:
        """Waits ``CLOSE_S`` for the engine to end the command; it has longer for that than whoever waits."""
        if self._fitting is not None:
            self._fitting.cancel()
        await self._stream.close()
        if not self._ended:
            self._ended = True
            ending = _in_background(_end(self._container, self._id, self._mark))
            await asyncio.wait({ending}, timeout=CLOSE_S)
            if not ending.done():  # its engine hangs, perhaps for good, and the command goes on without it
                await asyncio.to_thread(_kill_marked, self._mark)


async def _look(id_: str) -> dict[str, Any]:
    """What the engine says of a command. Raises ``DriverUnavailableError``, too, if that is nothing of use."""
    found = await docker_http.ask("GET", f"/exec/{id_}/json")
    if not isinstance(found, dict) or not isinstance(found.get("Running"), bool):
        raise DriverUnavailableError("the engine does not say whether the command runs")
    return found


def _is_over(found: dict[str, Any]) -> bool:
    """A command that has not begun to run has no exit code, either."""
    return not found["Running"] and found.get("ExitCode") is not None


async def _end(container: str, id_: str, mark: str) -> None:
    """Kill the command, also if the engine has yet to begin it: it has ``END_S`` for that. Raises nothing.

    The engine calls a command running before it has a process, so one signal may hit nothing: only the word that it
    is over ends this, or that it runs where no signal reaches it.
    """
    pause_s = SETTLE_S
    try:
        async with asyncio.timeout(END_S):
            while not _is_over(found := await _look(id_)):
                if found["Running"] and not await _send(container, id_, mark, signals.SIGKILL) and found.get("Pid"):
                    return
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, END_PAUSE_S)
    except EngineError:
        pass  # the container is gone, and its commands with it
    except (DriverUnavailableError, TimeoutError):
        await asyncio.to_thread(_kill_marked, mark)


async def _send(container: str, id_: str, mark: str, number: signals.Signals) -> bool:
    """The engine signals only containers. Its host's number of the process is good where this is that host and we
    may; else a shell in the container looks for our mark. False: there was no way to it."""
    with contextlib.suppress(EngineError, KeyError, TypeError):  # gone, no shell, or no answer of use
        found = await _look(id_)
        pid = int(found.get("Pid") or 0)
        if found["Running"] and pid and _is_in(pid, str(found.get("ContainerID", ""))):
            with contextlib.suppress(OSError):
                os.kill(pid, number)
                return True
        script = (
            'for p in /proc/[0-9]*; do if tr "\\0" "\\n" < $p/environ 2>/dev/null | '
            f"grep -qx {MARK}={mark}; then kill -{int(number)} ${{p#/proc/}}; fi; done"
        )
        made = await docker_http.ask("POST", f"/containers/{container}/exec", value={"Cmd": ["/bin/sh", "-c", script]})
        await docker_http.ask("POST", f"/exec/{made['Id']}/start", value={"Detach": True})
        return True
    return False


def _kill_marked(mark: str) -> None:
    """The processes of this host that have a session's mark in their environment; blocks."""
    if not mark:
        return
    wanted = f"{MARK}={mark}".encode()
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):  # ended, or none of our business
                if wanted in (directory / "environ").read_bytes().split(b"\0"):
                    os.kill(int(directory.name), signals.SIGKILL)


def _is_in(pid: int, container_id: str) -> bool:
    """Whether that process of this host belongs to the container; another host's number would name somebody else."""
    try:
        return bool(container_id) and container_id in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def _refusal(error: EngineError) -> HandsError:
    reasons = {404: "NOT_FOUND", 409: "NOT_RUNNING", 400: "INVALID"}
    return HandsError(str(error), reason=reasons.get(error.status, "FAILED_PRECONDITION"))


# ---------------------------------------------------------------------------- files


async def _stat(name: str, path: str) -> dict[str, Any] | None:
    """What the engine says of a path in a container; None where there is nothing. Links are followed."""
    for _ in range(8):
        try:
            found = await docker_http.call("HEAD", f"/containers/{name}/archive", query={"path": path})
        except EngineError as error:
            if error.status == 404:
                return None
            raise await _on_the_way(name, path, error) from error
        await found.close()
        try:
            facts: dict[str, Any] = json.loads(base64.b64decode(found.headers["x-docker-container-path-stat"]))
        except (KeyError, ValueError):
            raise HandsError("the engine does not say what is there") from None
        link = facts.get("linkTarget")
        if not link or link == path:
            return facts
        path = posixpath.join(posixpath.dirname(path), link)
    raise HandsError(f"{path}: too many links", reason="INVALID")


async def _on_the_way(name: str, path: str, error: EngineError) -> HandsError:
    """Why a path could not be looked at: an answer to HEAD has no text, one to GET has."""
    try:
        await (await docker_http.call("GET", f"/containers/{name}/archive", query={"path": path})).close()
    except EngineError as told:
        error = told
    return _no_such(path, error)


def _no_such(path: str, error: EngineError) -> HandsError:
    if error.status == 404:
        return HandsError(f"there is no {path} in the task", reason="NOT_FOUND")
    if "not a directory" in str(error):  # with a path of the engine's own disk
        return HandsError(f"there is no {path} in the task: what it goes through is a file", reason="NOT_FOUND")
    return _refusal(error)


async def facts_of(name: str) -> dict[str, Any]:
    """What the engine says of a container."""
    try:
        facts: dict[str, Any] = await docker_http.ask("GET", f"/containers/{name}/json")
    except EngineError as error:
        raise _refusal(error) from error
    return facts


def _absolute(facts: dict[str, Any], path: str) -> str:
    """A relative path begins at the container's working directory."""
    return posixpath.join("/", facts["Config"].get("WorkingDir") or "/", path)


UNSEEN = ("/dev", "/proc", "/sys")
"""What every container has in memory, or of its kernel."""


def _seen(facts: dict[str, Any], path: str) -> None:
    """Raise ``HandsError`` where the engine's archives do not look: they show what lies below a mount in memory, so a
    copy would be empty, or land where no task finds it."""
    mounts = [one.get("Destination", "") for one in facts.get("Mounts") or () if one.get("Type") == "tmpfs"]
    at = posixpath.normpath(path)
    for mount in (*UNSEEN, *(facts["HostConfig"].get("Tmpfs") or {}), *mounts):
        if _within(at, mount):
            raise HandsError(
                f"{path} is not on a disk ({mount} is in memory or of the kernel), and the engine copies only what "
                f"is: use 'raftsman exec TASK -- cat {at}', or 'raftsman exec -i TASK -- tee {at}'",
                reason="UNSUPPORTED",
            )


def _within(path: str, directory: str) -> bool:
    top = directory.rstrip("/")
    return path == top or path.startswith(f"{top}/")


async def copy_out(name: str, path: str) -> tuple[str, AsyncIterator[bytes]]:
    container = await facts_of(name)
    path = _absolute(container, path)
    _seen(container, path)
    try:
        found = await docker_http.call("GET", f"/containers/{name}/archive", query={"path": path})
    except EngineError as error:
        raise _no_such(path, error) from error

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for piece in found.body():
                yield piece
        finally:
            await found.close()

    return posixpath.basename(posixpath.normpath(path)) or "root", chunks()


async def copy_in(name: str, target: Target) -> tuple[str, Incoming]:
    container = await facts_of(name)
    path = _absolute(container, target.path)
    _seen(container, path)
    facts = await _stat(name, path.rstrip("/") or "/")
    is_directory = facts is not None and bool(int(facts["mode"]) & GO_MODE_DIR)
    try:
        lands = landing(
            Target(path=path, name=target.name, directory=target.directory, contents=target.contents),
            exists=facts is not None,
            is_directory=is_directory,
        )
    except TreeError as error:
        raise HandsError(str(error), reason=error.reason) from error
    if not is_directory and await _stat(name, lands.directory) is None:
        raise HandsError(f"there is no directory {lands.directory} in the task", reason="NOT_FOUND")
    at, called = lands.directory, lands.name
    # The engine refuses links that lead out of where it unpacks, and stops there; nothing leads out of the root. It
    # judges by the same path what may be written, so below a mount a tree has to be unpacked where it goes.
    bound = container["HostConfig"].get("ReadonlyRootfs") or any(
        _within(posixpath.normpath(at), str(one.get("Destination", ""))) for one in container.get("Mounts") or ()
    )
    if target.directory and not bound:
        at, called = "/", posixpath.normpath(posixpath.join(at, called)).strip("/") or "."
    query = {"path": at, "noOverwriteDirNonDir": "true"}
    reader, writer = await docker_http.begin("PUT", f"/containers/{name}/archive", query=query, stream=True)
    return called, _Incoming(reader, writer)


class _Incoming:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await self._writer.drain()
        except OSError:
            await self._answer()
            raise HandsError("the engine ended the copy early") from None

    async def finish(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.write(b"0\r\n\r\n")
        await self._answer()

    async def _answer(self) -> None:
        try:
            await (await docker_http.answer(self._reader, self._writer, patience_s=None)).close()
        except EngineError as error:
            raise _refusal(error) from error

    async def close(self) -> None:
        self._writer.close()


# ---------------------------------------------------------------------------- connections


async def connect(facts: dict[str, Any], port: int, reach: str = "") -> Connection:
    """Into the container's own network where this host lets us, which reaches what listens on loopback there, too; else
    by the container's address, else by the port that it publishes. Each way has ``CONNECT_S``. ``reach``: where this
    agent reaches published ports, if its network is not the engine's; the addresses of containers may be others' here
    then."""
    said: list[str] = []
    pid = int(facts["State"].get("Pid") or 0)
    if pid and _is_in(pid, str(facts["Id"])):
        try:
            made = await other_network.connect_in(pid, port)
            return StreamConnection(*await asyncio.open_connection(sock=made, limit=CHUNK))
        except ConnectionRefusedError as error:
            raise HandsError(f"nothing listens on port {port} of the task", reason="NO_LISTENER") from error
        except OSError as error:
            said.append(f"in its network: {error.strerror or error}")
    for host, number in _ways(facts, port, reach):
        try:
            async with asyncio.timeout(CONNECT_S):
                return StreamConnection(*await other_network.open_to(host, number))
        except (OSError, TimeoutError) as error:
            said.append(f"{host}:{number}: {getattr(error, 'strerror', None) or 'nothing answers'}")
    told = "; ".join(said) or "the container has no address that this agent could reach, and does not publish it"
    raise HandsError(f"cannot connect to port {port} of the task ({told})", reason="NO_LISTENER")


def _ways(facts: dict[str, Any], port: int, reach: str) -> list[tuple[str, int]]:
    networks = facts["NetworkSettings"].get("Networks") or {}
    ways = [(one["IPAddress"], port) for one in networks.values() if one.get("IPAddress") and not reach]
    if facts["HostConfig"].get("NetworkMode") == "host":
        ways.append((reach or "127.0.0.1", port))
    for binding in (facts["NetworkSettings"].get("Ports") or {}).get(f"{port}/tcp") or ():
        if reach:
            ways.append((reach, int(binding["HostPort"])))
            continue
        host = binding.get("HostIp") or "127.0.0.1"
        ways.append(("127.0.0.1" if host in ("0.0.0.0", "::") else host, int(binding["HostPort"])))
    return ways
