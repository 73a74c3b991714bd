"""Takes back what a measurement started when that is killed itself: its cluster and its engine, with all they run.

Owns: a process of its own that waits for the end of the one that started it, however that ends. Leaves to others: the
orderly end (``FaultyCluster.stop``), after which there is nothing left to do. The rule: it ends what it was told of by
id (pid and start time, control group, directory), and nothing else.

Which processes a directory has is read when they are to be ended: from ``cluster.json``, where it holds a local
cluster, and from what ``note`` has written there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.ops.processes import ProcessId

ROOT = Path(__file__).resolve().parents[2]
DONE = "done"
NOTES = "*.process"


def note(name: str, pid: int, directory: Path) -> Path:
    """Writes down that this process, just started, belongs to what is kept in ``directory``; where that stands."""
    from orchestrator.ops.processes import started_s

    file = directory / NOTES.replace("*", name)
    if started := started_s(pid):  # else it ended at once
        file.write_text(json.dumps({"pid": pid, "started": started}))
    return file


@contextlib.contextmanager
def kept(prefix: str, data: Path | None = None) -> Iterator[Path]:
    """``data``, or a temporary directory that is removed. However this ends, a kill of its own process included, what
    was noted in a directory below it is ended."""
    folder = data or Path(tempfile.mkdtemp(prefix=prefix))
    keeper = Keeper(folder, remove=data is None)
    try:
        yield folder
    finally:
        keeper.clean()


class Keeper:
    """``data``: the directory of one cluster, or with a directory for each; ``remove``: it goes, too.

    ``engine``: where its engine is, and the name of the engine's control group; None where there is none.
    """

    def __init__(self, data: Path, engine: tuple[Path, str] | None = None, *, remove: bool = True) -> None:
        told: dict[str, Any] = {"data": str(data), "remove": remove}
        if engine is not None:
            told |= {"engine": str(engine[0]), "group": engine[1]}
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

    def clean(self) -> None:
        """As when this process were gone; returns when it is done."""
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def noted(data: Path) -> Iterator[ProcessId]:
    from orchestrator.ops.processes import ProcessId

    for file in (*data.glob(NOTES), *data.glob(f"*/{NOTES}")):
        with contextlib.suppress(ValueError):  # cut off by the kill
            yield ProcessId(**json.loads(file.read_text()))


async def clean(told: dict[str, Any]) -> None:
    from orchestrator.ops.cluster_file import ClusterFile
    from orchestrator.ops.own_engine import OwnEngine
    from orchestrator.ops.processes import end

    data = Path(told["data"])
    record = ClusterFile(data).load()
    members = [member.process for member in record.members if member.alive] if record is not None else []
    await end([*members, *noted(data)], grace_s=2.0)
    if "engine" in told:
        await OwnEngine(Path(told["engine"]), name=told["group"]).stop()
    if told["remove"]:
        shutil.rmtree(data, ignore_errors=True)


def main() -> None:
    told = json.loads(sys.stdin.readline() or "{}")
    if told and sys.stdin.readline().strip() != DONE:
        asyncio.run(clean(told))


if __name__ == "__main__":
    main()
