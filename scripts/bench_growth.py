#!/usr/bin/env python3
"""Whether a cluster under steady load levels off: memory, file descriptors and disk of every peer over time.

    scripts/bench_growth.py [--minutes 10] [--rate 80] [--json] [--plot FILE.svg]

Three peers and two agents (driver `fake`) get `--rate` operations a second through the client library: 60 % writes of
variables, 30 % reads, 10 % jobs that are submitted, scaled and removed; ten watchers follow all events. What is kept
for long is lowered, so that ten minutes are enough to reach it, with `raftsman limits set` (--answers 5000, --events
5000) and, for the past of `why --at`, `raftsman peer --past` (--past 2Mi); everything else, compaction too, is as in
production. `--answers 0` leaves the limits alone.

Keys: `minutes, rate, operations, failed, jobs, load, peers: {name: {rss_mib, fds, disk_mib: {start, middle, end, max,
slope_per_hour}}}, levelled_off`. `jobs`: so many are there at the end, a few where the load was steady. The slope is
fitted to the second half. `levelled_off`: in no peer did memory rise by more than half a percent a minute there, nor
the mean of descriptors and disk from the third to the last quarter by more than a tenth (plus 8 descriptors, 8 MiB:
disk comes in segments of that size).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

import numpy as np
import psutil

from orchestrator.client.aio import Client
from orchestrator.contract.errors import RaftsmanError
from orchestrator.contract.model import GroupSpec, JobSpec, LimitsChange, Resources, TaskSpec
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.plot import lines_over_time
from scripts.lib.ended import end_on_sigterm

SAMPLE_S = 3.0
WATCHERS = 10
MEASURES = {"rss_mib": "memory (RSS), MiB", "fds": "file descriptors", "disk_mib": "data directory, MiB"}
SLACK = {"fds": 8.0, "disk_mib": 8.0}
MOST_RISE = 0.005
"""Of its memory in a minute; what passes for level may still be ten minutes from its bound, but not a leak of note."""


class Load:
    """Steady, mixed; a failed operation is counted and not repeated beyond what the client does."""

    def __init__(self, client: Client, rate: float) -> None:
        self._client = client
        self._rate = rate
        self._dice = random.Random(1)
        self.operations = 0
        self.failed = 0
        self._jobs = itertools.count()
        self._turns: dict[int, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        began = time.monotonic()
        for number in itertools.count():
            due = began + number / self._rate
            if due > began + seconds:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(self._tasks) < 200:
                task = asyncio.create_task(self._one())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks)

    async def _one(self) -> None:
        self.operations += 1
        chance, name = self._dice.random(), f"growth/{self._dice.randrange(500)}"
        try:
            if chance < 0.6:
                await self._client.put_variable(name, "x" * self._dice.randrange(2_000))
            elif chance < 0.9:
                await self._client.get_variable(name)
            else:
                await self._job()
        except RaftsmanError as error:
            self.failed += 1
            print(f"  {error.reason}: {error.message}", file=sys.stderr)

    async def _job(self) -> None:
        number = next(self._jobs)
        # In this order: a job that comes after its removal stays for ever, and then the load is not steady.
        async with self._turns.setdefault(number // 3, asyncio.Lock()):
            await self._step(number)
        if number % 3 == 2:
            del self._turns[number // 3]

    async def _step(self, number: int) -> None:
        if number % 3 == 0:
            resources = Resources(cpu_millis=10, memory_mib=1, disk_mib=0)
            task = TaskSpec(name="main", driver="fake", command=("run",), resources=resources)
            spec = JobSpec(name=f"job-{number}", groups=(GroupSpec(name="main", count=2, tasks=(task,)),))
            await self._client.submit(spec)
        elif number % 3 == 1:
            with contextlib.suppress(RaftsmanError):  # the job before may have failed
                await self._client.scale_job(f"job-{number - 1}", 3)
        else:
            with contextlib.suppress(RaftsmanError):
                await self._client.remove_job(f"job-{number - 2}")


def directory_bytes(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def sample(cluster: LocalCluster) -> dict[str, dict[str, float]]:
    found = {}
    for peer in cluster.peers:
        process = psutil.Process(peer.pid)
        found[peer.name] = {
            "rss_mib": process.memory_info().rss / 2**20,
            "fds": process.num_fds(),
            "disk_mib": directory_bytes(cluster.data / "peers" / peer.name) / 2**20,
        }
    return found


def judge(times: list[float], values: list[float], slack: float | None) -> tuple[dict[str, float], bool]:
    """Figures, and whether it is level: by its slope, or with ``slack`` by steps of that size."""
    series = np.asarray(values)
    half = len(series) // 2
    slope = float(np.polyfit(times[half:], series[half:], 1)[0]) * 3600 if len(series) > 4 else 0.0
    third, last = series[half : half + half // 2].mean(), series[half + half // 2 :].mean()
    figures = {
        "start": series[0], "middle": series[half], "end": series[-1], "max": series.max(), "slope_per_hour": slope,
    }  # fmt: skip
    flat = slope <= 60 * MOST_RISE * series[half:].mean() if slack is None else last <= third * 1.1 + slack
    return {key: round(float(value), 1) for key, value in figures.items()}, bool(flat)


async def watch(client: Client) -> None:
    async for _ in client.watch_events(namespace="*"):
        pass


async def measure(said: argparse.Namespace) -> dict[str, Any]:
    end_on_sigterm()
    os.environ["RAFTSMAN_PEER_PAST"] = said.past
    async with LocalCluster(peers=3, agents=2, driver="fake", log_level="warning") as cluster:
        client = cluster.client
        if said.answers:
            await client.set_limits(LimitsChange(answers=said.answers, events=said.events))
        watchers = [asyncio.create_task(watch(client)) for _ in range(WATCHERS)]
        load = Load(client, said.rate)
        times: list[float] = []
        samples: list[dict[str, dict[str, float]]] = []
        began = time.monotonic()
        running = asyncio.create_task(load.run(said.minutes * 60))
        while not running.done():
            times.append(time.monotonic() - began)
            samples.append(sample(cluster))
            await asyncio.wait((running,), timeout=SAMPLE_S)
        await running
        jobs = len((await client.list_jobs()).jobs)
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
    peers: dict[str, dict[str, dict[str, float]]] = {}
    levelled = True
    for name in samples[0]:
        peers[name] = {}
        for key in MEASURES:
            peers[name][key], flat = judge(times, [row[name][key] for row in samples], SLACK.get(key))
            levelled = levelled and flat
    if said.plot:
        panels = {
            text: {name: [(at, row[name][key]) for at, row in zip(times, samples, strict=True)] for name in peers}
            for key, text in MEASURES.items()
        }
        title = f"Three peers under {said.rate:g} operations/s, {time.strftime('%Y-%m-%d')}"
        said.plot.write_text(lines_over_time(title, panels))
    return {
        "minutes": said.minutes, "rate": said.rate, "operations": load.operations, "failed": load.failed,
        "jobs": jobs, "peers": peers, "levelled_off": levelled,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=80.0, help="operations a second (default 80)")
    parser.add_argument("--answers", type=int, default=5_000, help="remembered outcomes that are kept; 0: as it is")
    parser.add_argument("--events", type=int, default=5_000, help="events that are kept")
    parser.add_argument("--past", default="2Mi", metavar="SIZE", help="memory of each peer's past (default 2Mi)")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, last")
    said = parser.parse_args()
    try:
        found = asyncio.run(measure(said))
    except RaftsmanError as error:
        raise SystemExit(f"bench_growth: {error}") from None
    found["load"] = round(os.getloadavg()[0], 1)
    if said.json:
        print(json.dumps(found))
        return
    for name, figures in found["peers"].items():
        for key, values in figures.items():
            print(f"{name:<4} {key:<9} " + "  ".join(f"{what} {value}" for what, value in values.items()))
    print(f"{found['operations']} operations, {found['failed']} failed; levelled off: {found['levelled_off']}")


if __name__ == "__main__":
    main()
