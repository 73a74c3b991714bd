"""A real agent in a process of its own, for tests."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.integration.agent_fakes import FakePeer


class AgentProcess:
    """``data`` is its data directory (its name is the node's); it logs beside it."""

    def __init__(self, peer: FakePeer, data: Path, *flags: str) -> None:
        self._argv = [sys.executable, "-m", "agent.daemon", "--insecure", "--peers", peer.address, "--data", str(data)]
        self._argv += ["--name", data.name, "--address", "127.0.0.1", *flags]
        self._log = data.with_suffix(".log")
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*self._argv, stderr=log, stdout=log)

    async def end(self, number: int) -> int:
        """Send the signal; returns how it exited."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()
