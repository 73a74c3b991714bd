"""Takes back what a measurement started when that is killed itself: its cluster and its engine, with all they run.

Owns: a process of its own that waits for the end of the one that started it, however that ends. Leaves to others: the
orderly end (``FaultyCluster.stop``), after which there is nothing left to do. The rule: it ends what it was told of by
id (pid and start time, control group, directory), and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DONE = "done"


class Keeper:
    """``data``: of the cluster; ``engine``: where its engine is, and the name of the engine's control group."""

    def __init__(self, data: Path, engine: Path, group: str) -> None:
        told = {"data": str(data), "engine": str(engine), "group": group}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.lib.keeper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
            text=True,
            start_new_session=True,  # what ends a whole group of processes must not end this one
        )
        self._say(json.dumps(told))

    def dismiss(self) -> None:
        """All of it is stopped."""
        with contextlib.suppress(OSError):  # it is gone
            self._say(DONE)
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


async def clean(told: dict[str, Any]) -> None:
    from orchestrator.ops.cluster_file import ClusterFile
    from orchestrator.ops.own_engine import OwnEngine
    from orchestrator.ops.processes import end

    data = Path(told["data"])
    record = ClusterFile(data).load()
    if record is not None:
        await end([member.process for member in record.members if member.alive], grace_s=2.0)
    await OwnEngine(Path(told["engine"]), name=told["group"]).stop()
    shutil.rmtree(data, ignore_errors=True)


def main() -> None:
    told = json.loads(sys.stdin.readline() or "{}")
    if told and sys.stdin.readline().strip() != DONE:
        asyncio.run(clean(told))


if __name__ == "__main__":
    main()
