"""Hands on tasks of the process driver: commands beside them, their files, ports of this host.

Owns: terminals and pipes, and the lifeline of each command. Leaves to others: the command and its children
(``process_enter``), files (``process_files``), what runs (``process``). The rule: a command and its children end with
the session, with the task, and with the agent however that dies: they live as long as the agent holds their lifeline.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal as signals
import struct
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agent.hands import CHUNK, Command, Connection, Entered, HandsError, Incoming
from agent.pipes import Pipe, StreamConnection
from orchestrator.contract import tree
from orchestrator.contract.tree import Target

CLOSE_S = 5.0
PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCONT", "SIGTSTP")
"""As ``process_enter`` has it, which cannot be imported from here: it imports its neighbour by path."""
LAST_WORDS_S = 0.5
"""Output that a child holds open after the command itself has ended is waited for so long."""
CONNECT_S = 5.0


async def enter(directory: Path, command: Command) -> Entered:
    """Start ``command`` beside the task that was started with this run directory."""
    theirs: list[int] = []
    ours: list[Pipe] = []
    lifeline, held = os.pipe()
    try:
        if command.tty:
            master, slave = pty.openpty()
            ours.append(Pipe(master))
            theirs = [slave, slave, slave]
            _set_size(slave, command.rows, command.columns)
        else:
            theirs, ours = _pipes(command.stdin)
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(Path(__file__).with_name("process_enter.py")),
            str(directory),
            str(lifeline),
            (command.term or "xterm") if command.tty else "",
            *command.argv,
            stdin=theirs[0],
            stdout=theirs[1],
            stderr=theirs[2],
            start_new_session=True,
            pass_fds=(lifeline,),
        )
    except OSError as error:
        os.close(held)
        for pipe in ours:
            pipe.close()
        raise HandsError(f"cannot start the command: {error.strerror}") from error
    finally:
        for fd in {lifeline, *theirs}:
            os.close(fd)
    return _Entered(child, ours, held, tty=command.tty)


def _pipes(stdin: bool) -> tuple[list[int], list[Pipe]]:
    """(theirs, ours): standard input (or nothing), output, error."""
    theirs: list[int] = []
    ours: list[Pipe] = []
    if stdin:
        reader, writer = os.pipe()
        theirs.append(reader)
        ours.append(Pipe(writer))
    else:
        theirs.append(os.open(os.devnull, os.O_RDONLY))
        ours.append(Pipe(os.open(os.devnull, os.O_WRONLY)))
    for _ in range(2):
        reader, writer = os.pipe()
        theirs.append(writer)
        ours.append(Pipe(reader))
    return theirs, ours


def _set_size(fd: int, rows: int, columns: int) -> None:
    if 0 < rows < 65_536 and 0 < columns < 65_536:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class _Entered:
    """``pipes``: the terminal alone, or standard input, output and error; ``lifeline``: our end."""

    def __init__(self, child: asyncio.subprocess.Process, pipes: list[Pipe], lifeline: int, *, tty: bool) -> None:
        self._child = child
        self._lifeline = lifeline
        self._tty = tty
        self._input = pipes[0]
        self._outputs = {pipe: number == 1 for number, pipe in enumerate(pipes[:1] if tty else pipes[1:])}
        self._reads: dict[asyncio.Task[bytes], Pipe] = {}
        self._ended = asyncio.ensure_future(child.wait())
        self._closed = False

    async def read(self) -> tuple[bool, bytes]:
        while self._outputs:
            for pipe in self._outputs:
                if pipe not in self._reads.values():
                    self._reads[asyncio.ensure_future(pipe.read(CHUNK))] = pipe
            waiting: set[asyncio.Future[Any]] = set(self._reads)
            if not self._ended.done():
                waiting.add(self._ended)
            done, _ = await asyncio.wait(
                waiting,
                timeout=LAST_WORDS_S if self._ended.done() else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not done:
                break  # a child of it holds the output open, and says nothing
            for task in [task for task in self._reads if task in done]:
                pipe = self._reads.pop(task)
                if data := task.result():
                    return self._outputs[pipe], data
                del self._outputs[pipe]
        return False, b""

    async def write(self, data: bytes) -> None:
        await self._input.write(data)

    async def end_input(self) -> None:
        if self._tty:
            await self._input.write(b"\x04")  # what a person would type
        else:
            self._input.close()

    async def resize(self, rows: int, columns: int) -> None:
        if self._tty and self._input.fileno() >= 0:
            with contextlib.suppress(OSError):
                _set_size(self._input.fileno(), rows, columns)

    async def signal(self, name: str) -> None:
        if name == "SIGKILL":
            self._let_go()
        elif name in PASSED_ON and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(getattr(signals, name))

    def _let_go(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    async def wait(self) -> int:
        code = await asyncio.shield(self._ended)
        return code if code >= 0 else 128 - code

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._let_go()
        for task in self._reads:
            task.cancel()
        await asyncio.gather(*self._reads, return_exceptions=True)
        for pipe in {self._input, *self._outputs}:
            pipe.close()
        await asyncio.wait({self._ended}, timeout=CLOSE_S)
        self._ended.cancel()


# ---------------------------------------------------------------------------- files


async def _files(directory: Path, *arguments: str, copying_in: bool) -> tuple[asyncio.subprocess.Process, str]:
    """The copying process and what the copied thing is called."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(Path(__file__).with_name("process_files.py")),
        tree.__file__,
        str(directory),
        *arguments,
        stdin=asyncio.subprocess.PIPE if copying_in else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        return child, str((await _answer(child))["name"])
    except BaseException:
        await _end(child)
        raise


async def _answer(child: asyncio.subprocess.Process) -> dict[str, Any]:
    assert child.stdout is not None
    line = await child.stdout.readline()
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        raise HandsError(f"copying failed: {await _complaint(child)}") from None
    if "error" in answer:
        raise HandsError(answer["error"], reason=answer["reason"])
    return answer


async def _complaint(child: asyncio.subprocess.Process) -> str:
    assert child.stderr is not None
    said = (await child.stderr.read(4096)).decode("utf-8", "replace").strip()
    return said.splitlines()[-1] if said else f"exit code {await child.wait()}"


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
    await child.wait()


async def copy_out(directory: Path, path: str) -> tuple[str, AsyncIterator[bytes]]:
    child, name = await _files(directory, "out", path, copying_in=False)

    async def chunks() -> AsyncIterator[bytes]:
        try:
            assert child.stdout is not None
            while data := await child.stdout.read(CHUNK):
                yield data
            if await child.wait():
                raise HandsError(await _complaint(child))
        finally:
            await _end(child)

    return name, chunks()


async def copy_in(directory: Path, target: Target) -> tuple[str, Incoming]:
    flags = [str(int(target.directory)), str(int(target.contents))]
    child, name = await _files(directory, "in", target.path, target.name, *flags, copying_in=True)
    return name, _Incoming(child)


class _Incoming:
    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    async def write(self, data: bytes) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(data)
            await self._child.stdin.drain()
        except (ConnectionError, RuntimeError):
            await _answer(self._child)  # it ended early: it says why
            raise HandsError("copying ended early") from None

    async def finish(self) -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._child.stdin.close()
        await _answer(self._child)

    async def close(self) -> None:
        await _end(self._child)


# ---------------------------------------------------------------------------- connections


async def connect(port: int) -> Connection:
    """A process has no network of its own: its ports are this host's."""
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK)
    except (OSError, TimeoutError) as error:
        why = getattr(error, "strerror", None) or "nothing answers"
        raise HandsError(f"cannot connect to port {port} of the task: {why}", reason="NO_LISTENER") from error
    return StreamConnection(reader, writer)
