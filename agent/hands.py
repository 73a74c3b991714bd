"""``Hands``: what a driver offers beyond running tasks, for people who look into one: commands, files, connections.

Owns: the words between sessions and drivers. Leaves to others: the relay
(``agent.sessions``), how it is done (``agent.drivers``). The rules: a command is given what its task has (environment,
user, working directory, limits) and nothing more, and never outlives its session or its task; files are read and
written with the task's rights.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from orchestrator.contract.tree import Target

CHUNK = 64 * 1024


class HandsError(Exception):
    """It cannot be done; ``reason`` is a stable code (``contract.errors``), the text is for the user."""

    def __init__(self, text: str, *, reason: str = "FAILED_PRECONDITION") -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """``rows`` and ``columns`` 0: unknown. ``mark`` tells this command's processes from others of the task."""

    argv: tuple[str, ...]
    tty: bool = False
    stdin: bool = False
    rows: int = 0
    columns: int = 0
    term: str = ""
    mark: str = ""


class Entered(Protocol):
    """A command that was started inside a task."""

    async def read(self) -> tuple[bool, bytes]:
        """(is standard error, bytes), as soon as there are some; (False, b"") at the end of all output."""

    async def write(self, data: bytes) -> None:
        """To its standard input; waits while it does not read. What it no longer reads is dropped."""

    async def end_input(self) -> None: ...

    async def resize(self, rows: int, columns: int) -> None: ...

    async def signal(self, name: str) -> None:
        """``SIGINT`` and so on; best effort, an ended command takes none."""

    async def wait(self) -> int:
        """Its exit code as a shell would say it, once its output has ended."""

    async def close(self) -> None:
        """End it and what it left behind, by force if need be. Idempotent."""


class Connection(Protocol):
    """A connection to a port of a task. Both may raise ``OSError``."""

    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    async def end_input(self) -> None: ...

    async def close(self) -> None: ...


@runtime_checkable
class Hands(Protocol):
    """A driver that lets people in. Runs are named as for ``Driver``. All may raise ``HandsError`` and
    ``DriverUnavailableError``."""

    async def enter(self, name: str, command: Command) -> Entered: ...

    async def copy_out(self, name: str, path: str) -> tuple[str, AsyncIterator[bytes]]:
        """The last part of ``path``, and a tar stream of what is there, whose names begin with it."""

    async def copy_in(self, name: str, target: Target) -> tuple[str, Incoming]:
        """Where a tar stream may go: what its names have to begin with, and the way in."""

    async def connect(self, name: str, port: int) -> Connection:
        """To ``port`` as the task sees it. What may hang is waited for only so long (``answering``): how long the ways
        to a port may take, the driver alone knows."""


class Incoming(Protocol):
    """The way in of one tar stream. All raise ``HandsError``."""

    async def write(self, data: bytes) -> None: ...

    async def finish(self) -> None:
        """All of it was written; returns once it is in place."""

    async def close(self) -> None:
        """Give up (what is there stays). Idempotent; nothing to do after ``finish``."""
