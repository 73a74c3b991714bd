"""``Tracer``: system calls of a running process that fail or take long, by strace's injection.

Owns: the strace process. The rule: it is attached to one process that the drill names, ends with it or with the drill,
and lets the process go on as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.contract.errors import TimeoutError_
from orchestrator.ops.drill_tools import MissingError, tool

ATTACH_S = 10.0
DETACH_S = 2.0
CALLS = "fsync,fdatasync"


def failing(error: str) -> str:
    """Every flush fails with that errno, from the next one on."""
    return f"{CALLS}:error={error}:when=1+"


def slow(delay_ms: int) -> str:
    """Every flush takes so much longer."""
    return f"{CALLS}:delay_enter={delay_ms * 1000}"


class Tracer:
    """``record``: file for strace's own account of what it did."""

    def __init__(self, record: Path) -> None:
        self.record = record
        self._process: asyncio.subprocess.Process | None = None

    async def attach(self, pid: int, injection: str) -> None:
        """Returns when every thread of the process is under it. Raises ``MissingError``."""
        self._process = await asyncio.create_subprocess_exec(
            *_argv(pid, injection, self.record), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert self._process.stderr is not None
        try:
            async with asyncio.timeout(ATTACH_S):
                # "strace: Process 17 attached with 9 threads" comes once all are.
                said = (await self._process.stderr.readline()).decode().strip()
        except TimeoutError:
            said = f"nothing within {ATTACH_S:g} s"
        if "attached" not in said:
            await self.detach()
            raise MissingError(f"strace cannot attach to process {pid}: {said}")

    async def detach(self) -> None:
        """The process goes on without it; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        for end in (process.terminate, process.kill):
            # Asked to end while its process is dying, strace may wait for a thread that is no more; the kernel lets go
            # of the process when strace is killed.
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                end()
                async with asyncio.timeout(DETACH_S):
                    await process.wait()
                return
        await process.wait()

    async def exit_status(self, timeout_s: float) -> int:
        """Of the traced process, once it has ended by itself; -1 if strace saw it end otherwise.

        Raises ``TimeoutError_``.
        """
        assert self._process is not None
        deadline = time.monotonic() + timeout_s
        while self._process.returncode is None:
            if time.monotonic() > deadline:
                raise TimeoutError_(f"the traced process still runs after {timeout_s:g} s")
            await asyncio.sleep(0.01)
        return exited_with(self.record.read_text())


def _argv(pid: int, injection: str, record: Path) -> list[str]:
    strace = tool("strace", "strace")
    return [strace, "-f", "-p", str(pid), "-e", f"trace={CALLS}", "-e", f"inject={injection}", "-o", str(record)]


def exited_with(record: str) -> int:
    """What strace's record says last: ``+++ exited with 70 +++``."""
    for line in reversed(record.splitlines()):
        _, mark, rest = line.partition("+++ exited with ")
        if mark:
            return int(rest.split()[0])
        if "+++ killed by" in line:
            return -1
    return -1


def check() -> None:
    """Attach to a process of ours and let it go. Raises ``MissingError``."""
    sleeper = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        argv = _argv(sleeper.pid, slow(1), Path("/dev/null"))
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline().strip()
            tracer.terminate()
        if "attached" not in said:
            raise MissingError(f"strace cannot attach to a process here: {said}")
    finally:
        sleeper.kill()
        sleeper.communicate()
