"""Hands on tasks of the fake driver: a few pretended commands, files in memory, ports that answer what they are told.

Owns: the commands ``cat``, ``exit N``, ``size`` (says its terminal's size whenever that changes), ``trap`` (says which
signals it gets), ``flood`` (writes for ever) and ``sleep`` (reads nothing, says nothing). The rule: as real commands do
it, nothing is written before it is read.
"""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator
from typing import Any

from agent.hands import CHUNK, Command, Connection, Entered, HandsError, Incoming
from orchestrator.contract.tree import Target, landing

FLOOD = bytes(range(256)) * (CHUNK // 256)


class FakeHands:
    """Of one task. ``files``: path -> content, flat."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.entered: list[FakeCommand] = []

    def enter(self, command: Command) -> Entered:
        made = FakeCommand(command)
        self.entered.append(made)
        return made

    def copy_out(self, path: str) -> tuple[str, AsyncIterator[bytes]]:
        if path not in self.files:
            raise HandsError(f"there is no {path} in the task", reason="NOT_FOUND")
        name = path.rpartition("/")[2]
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            info = tarfile.TarInfo(name)
            info.size = len(self.files[path])
            tar.addfile(info, io.BytesIO(self.files[path]))

        async def chunks() -> AsyncIterator[bytes]:
            yield out.getvalue()

        return name, chunks()

    def copy_in(self, target: Target) -> tuple[str, Incoming]:
        lands = landing(target, exists=target.path in self.files, is_directory=target.path == "/")
        return lands.name, _FakeIncoming(self, lands.directory)


class FakeCommand:
    def __init__(self, command: Command) -> None:
        self.command = command
        self.closed = False
        self._output: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        word = command.argv[0]
        if word == "exit":
            self._ended.set_result(int(command.argv[1]))
        elif word not in ("cat", "size", "trap", "flood", "sleep"):
            raise HandsError(f"executable file not found: {word}", reason="INVALID")

    async def read(self) -> tuple[bool, bytes]:
        if self.command.argv[0] == "flood":
            return False, FLOOD
        reading = asyncio.ensure_future(self._output.get())
        waiting: set[asyncio.Future[Any]] = {reading, self._ended}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            return False, reading.result()
        reading.cancel()
        return False, b"" if self._output.empty() else self._output.get_nowait()

    async def write(self, data: bytes) -> None:
        if self.command.argv[0] == "cat":
            await self._output.put(data)
        elif self.command.argv[0] == "sleep":
            await asyncio.Event().wait()

    async def end_input(self) -> None:
        if self.command.argv[0] == "cat":
            self._end(0)

    async def resize(self, rows: int, columns: int) -> None:
        if self.command.argv[0] == "size":
            await self._output.put(f"{rows}x{columns}\n".encode())

    async def signal(self, name: str) -> None:
        if self.command.argv[0] == "trap":
            await self._output.put(f"{name}\n".encode())
        else:
            self._end(130)

    async def wait(self) -> int:
        return await self._ended

    async def close(self) -> None:
        self.closed = True
        self._end(137)

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)


class _FakeIncoming:
    def __init__(self, hands: FakeHands, directory: str) -> None:
        self._hands = hands
        self._directory = directory.rstrip("/")
        self._data = b""

    async def write(self, data: bytes) -> None:
        self._data += data

    async def finish(self) -> None:
        with tarfile.open(fileobj=io.BytesIO(self._data)) as tar:
            for member in tar.getmembers():
                content = tar.extractfile(member)
                if content is not None:
                    self._hands.files[f"{self._directory}/{member.name}"] = content.read()

    async def close(self) -> None: ...


class FakeConnection:
    """Answers every write with the port and what was written."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._answers: asyncio.Queue[bytes] = asyncio.Queue(1)

    async def read(self) -> bytes:
        return await self._answers.get()

    async def write(self, data: bytes) -> None:
        await self._answers.put(f"{self._port}:".encode() + data)

    async def end_input(self) -> None:
        await self._answers.put(b"")

    async def close(self) -> None: ...


def connect(port: int) -> Connection:
    return FakeConnection(port)
