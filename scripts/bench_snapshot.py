#!/usr/bin/env python3
"""What a snapshot costs the loop of a peer with many allocations: taking it, and installing the leader's.

    scripts/bench_snapshot.py [--allocations 1000000] [--json] [--repeat 3] [--dir DIR]

A state is built with 5,000 nodes, 1,000 jobs, and its events and remembered answers at their limits. Then one snapshot
is taken as the engine takes it (memory, encoding and writing in a thread, ``capture`` on the loop) while the loop
writes and flushes one entry of a journal on the same disk every millisecond; afterwards one is installed as a follower
installs it. The worst of ``--repeat`` runs is told. `capture_ms`: on the loop, in one piece. `longest_pause_ms`: the
longest that the loop was late while the snapshot was taken, `capture` included. `longest_write_ms`: likewise with the
time of the journal's flush, which is what a writer waits. `encode_ms`: in the thread, the file and its fsync included.
`pause_cpu_ms`: the most processor time that this process spent between two ticks: what remains of the pause when other
processes want the processor, too. `bytes`: of the file. `rss_mib`: of the process at its highest while it was taken.
`install_pause_ms`, `install_pause_cpu_ms`, `install_ms`: likewise for an installation, from the file to the new state.
`pause_without_ms`, `write_without_ms`: what the loop sees for as long when nothing is done: the machine's own noise.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

import numpy as np
import psutil
import structlog

from orchestrator.contract.memory import settle
from orchestrator.contract.model import (
    AllocState,
    Desired,
    GroupSpec,
    JobSpec,
    Limits,
    NodeSpec,
    NodeStatus,
    Resources,
    TaskSpec,
    Variable,
)
from orchestrator.replication.journal import FileJournal
from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.machine import ClusterMachine
from orchestrator.replication.snapshots import FILE_NAME, FileSnapshots
from orchestrator.state.allocations import STORED
from orchestrator.state.answers import Remembered
from orchestrator.state.commands import Applied, VariableAnswer
from orchestrator.state.model import Job, Node
from orchestrator.state.snapshot import Image, restore

NODES, JOBS = 5_000, 1_000
TICK_S = 0.001
META = SnapshotMeta(last_index=1_000_000, last_term=3, index=2_000_000)


def state_image(allocations: int, limits: Limits) -> Image:
    """As after a long life: lists at their limits; one row in a hundred ended and says why, one in four has a port."""
    per_job = allocations // JOBS
    rows = per_job * JOBS
    resources = Resources(cpu_millis=100, memory_mib=128, disk_mib=0)
    jobs, groups = {}, []
    for slot in range(JOBS):
        task = TaskSpec(name="main", image="registry/app:1", command=("run", "--job", str(slot)), resources=resources)
        spec = JobSpec(name=f"job-{slot}", groups=(GroupSpec(name="main", count=per_job, tasks=(task,)),))
        jobs[slot] = Job(
            slot=slot, uid=f"{slot:032x}", spec=spec, version=1, group_versions=(1,), specs=((1, spec),),
            submit_index=slot, create_index=slot, modify_index=slot, create_time_ms=1, modify_time_ms=1,
        )  # fmt: skip
        groups.append((slot, slot, "main", np.ones(per_job, dtype=np.int32)))
    capacity = Resources(cpu_millis=128_000, memory_mib=512_000, disk_mib=1_000_000)
    nodes = {
        slot: Node(
            slot=slot, spec=NodeSpec(id=f"{slot:032x}", name=f"node-{slot}", drivers=("process",), capacity=capacity),
            status=NodeStatus.READY, identity=f"agent:{slot}", register_index=slot, modify_index=slot, status_time_ms=1,
            ceiling=capacity,
        )
        for slot in range(NODES)
    }  # fmt: skip
    columns = {name: np.zeros(rows, dtype=dtype) for name, dtype in STORED}
    every = np.arange(rows)
    columns["job"][:] = columns["gid"][:] = every // per_job
    columns["ordinal"][:] = every % per_job
    columns["node"][:] = every % NODES
    columns["attempt"][:] = columns["version"][:] = 1
    columns["desired"][:] = int(Desired.RUN)
    columns["state"][:] = int(AllocState.RUNNING)
    columns["state"][::100] = int(AllocState.FAILED)
    columns["cpu_millis"][:], columns["memory_mib"][:] = 100, 128
    columns["create_index"][:] = columns["modify_index"][:] = every
    columns["create_time_ms"][:] = columns["modify_time_ms"][:] = 1_700_000_000_000 + every
    variable = Variable(namespace="default", name="a", value="x" * 100, version=1, create_index=1, modify_index=1)
    answers = [
        (
            ("client:admin", f"{number:032x}"),
            Remembered(
                digest=os.urandom(32), time_ms=number,
                outcome=Applied(index=number, answer=VariableAnswer(variable=variable, hit=True)),
            ),
        )
        for number in range(limits.answers)
    ]  # fmt: skip
    events = [
        (number, 0, number, "alloc.running", "default", f"job-{number % JOBS}",
         f"job-{number % JOBS}/main/{number % per_job}", f"{number % NODES:032x}", "", 1)
        for number in range(limits.events)
    ]  # fmt: skip
    return Image(
        index=META.index, time_ms=1, cluster_id="bench", feature_level=0, epoch=1, admitted={"p1": "i1"}, addresses={},
        attempt_floor=0, limits=limits,
        jobs=jobs, nodes=nodes, forgotten={}, variables={("default", "a"): variable}, answers=answers, events=events,
        events_dropped_index=0, groups=groups, columns=columns,
        ports={row: (20_000 + row % 10_000,) for row in range(0, rows, 4)},
        reasons=dict.fromkeys(range(0, rows, 100), "exited with 1"),
    )  # fmt: skip


class Ticker:
    """Asks the loop to be woken every millisecond, and notes how late it was at worst; then flushes an entry."""

    def __init__(self, directory: Path) -> None:
        self.longest_s = 0.0
        self.longest_write_s = 0.0
        self.longest_cpu_s = 0.0
        self.rss = 0
        self._directory = directory
        self._process = psutil.Process()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Ticker:
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(0.05)
        self.longest_s = self.longest_write_s = self.longest_cpu_s = 0.0
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.01)
        assert self._task is not None
        self._task.cancel()

    async def _tick(self) -> None:
        with tempfile.TemporaryDirectory(dir=self._directory) as directory:
            journal = FileJournal(Path(directory) / "journal")
            while True:
                before, cpu = time.perf_counter(), time.process_time()
                await asyncio.sleep(TICK_S)
                late = time.perf_counter()
                self.longest_cpu_s = max(self.longest_cpu_s, time.process_time() - cpu)
                journal.append([(journal.last_index + 1, 1, b"x" * 200)])
                journal.flush()
                done = time.perf_counter()
                self.longest_s = max(self.longest_s, late - before - TICK_S)
                self.longest_write_s = max(self.longest_write_s, done - before - TICK_S)
                if journal.last_index % 10 == 0:
                    self.rss = max(self.rss, self._process.memory_info().rss)


async def take(machine: ClusterMachine, store: FileSnapshots, directory: Path, number: int) -> dict[str, float]:
    meta = SnapshotMeta(last_index=META.last_index + number, last_term=3, index=META.index)
    async with Ticker(directory) as ticker:
        await asyncio.to_thread(machine.make_room())
        began = time.perf_counter()
        encode = machine.capture()
        captured = time.perf_counter()
        await asyncio.to_thread(lambda: store.save(meta, encode()))
        done = time.perf_counter()
    return {
        "capture_ms": (captured - began) * 1000,
        "longest_pause_ms": ticker.longest_s * 1000,
        "pause_cpu_ms": ticker.longest_cpu_s * 1000,
        "longest_write_ms": ticker.longest_write_s * 1000,
        "encode_ms": (done - captured) * 1000,
        "rss_mib": ticker.rss / 2**20,
    }


async def install(machine: ClusterMachine, store: FileSnapshots, directory: Path) -> dict[str, float]:
    async with Ticker(directory) as ticker:
        began = time.perf_counter()
        held = await asyncio.to_thread(store.load)
        assert held is not None
        put = await asyncio.to_thread(lambda: machine.prepare(held[1]))
        put()  # lets go of the state before, too
        done = time.perf_counter()
    return {
        "install_pause_ms": ticker.longest_s * 1000,
        "install_pause_cpu_ms": ticker.longest_cpu_s * 1000,
        "install_ms": (done - began) * 1000,
    }


async def quiet(seconds: float, directory: Path) -> dict[str, float]:
    async with Ticker(directory) as ticker:
        await asyncio.sleep(seconds)
    return {"pause_without_ms": ticker.longest_s * 1000, "write_without_ms": ticker.longest_write_s * 1000}


async def worst(repeat: int, run: Callable[[int], Awaitable[dict[str, float]]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for number in range(repeat):
        for key, value in (await run(number)).items():
            found[key] = max(found.get(key, 0.0), value)
    return found


async def measure(allocations: int, repeat: int, directory: Path) -> dict[str, Any]:
    machine = ClusterMachine()
    machine.state = restore(state_image(allocations, Limits()))
    gc.collect()
    settle()
    place = directory / "snapshots"
    store = FileSnapshots(place)
    found: dict[str, Any] = await worst(repeat, lambda number: take(machine, store, directory, number))
    found.update(await worst(repeat, lambda _: install(machine, store, directory)))
    found.update(await quiet(found["encode_ms"] / 1000, directory))
    found["bytes"] = (place / FILE_NAME).stat().st_size
    return {key: round(value, 1) if isinstance(value, float) else value for key, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--allocations", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where the snapshot is written (default: a temporary directory)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, last")
    said = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tempfile.TemporaryDirectory(dir=said.dir) as directory:
        found = asyncio.run(measure(said.allocations, said.repeat, Path(directory)))
    found = {"allocations": said.allocations, **found, "load": round(os.getloadavg()[0], 1)}
    if said.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        print(f"{key:<18} {value:>14,}")


if __name__ == "__main__":
    main()
