#!/usr/bin/env python3
"""How long a cluster that was killed with a full log needs to its next acknowledged write, against etcd.

Three processes of each system on loopback, fsync on, plain text. `--entries` small writes go in (in calls of 32, from
16 callers), then all three processes get SIGKILL and are started again at once. The clock runs from there until a
fresh write, sent to every member each 10 ms, is acknowledged: the start of three processes on shared cores is in it,
reading what is on disk, and an election. `cpu_p50_ms` is what the three used of the
processors until then. Systems take turns; a figure is the median over the rounds. etcd comes with
`apt-get update && apt-get install etcd-server`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

import grpc.aio

from scripts.lib.clusters import MEMBERS, Cluster, Etcd, Raftsman, has_etcd, machine
from scripts.lib.keeper import kept

CALLERS, BATCH = 16, 32
EVERY_S = 0.01
TIMEOUT_S = 30.0


async def fill(cluster: Cluster, entries: int) -> None:
    leader = await cluster.leader()
    numbers = iter(range(0, entries, BATCH))

    async def call(channel: grpc.aio.Channel) -> None:
        write = cluster.write_many(channel, BATCH)
        for number in numbers:
            await write(number, TIMEOUT_S)

    await asyncio.gather(*(call(cluster.channel(leader)) for _ in range(CALLERS)))


async def restart(cluster: Cluster) -> tuple[float, float]:
    """Milliseconds from starting three killed processes to the first acknowledged write, and of processor time that
    the three had used by then."""
    for member in MEMBERS:
        await cluster.kill_member(member)
    acknowledged: asyncio.Future[tuple[float, float]] = asyncio.get_running_loop().create_future()
    began = time.perf_counter()
    await asyncio.gather(*(cluster.start_member(member) for member in MEMBERS))
    writes = [cluster.write(cluster.channel(member)) for member in MEMBERS]

    async def attempt(number: int) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await writes[number % len(writes)](number, TIMEOUT_S)
            acknowledge()

    def acknowledge() -> None:
        if not acknowledged.done():
            acknowledged.set_result((1000 * (time.perf_counter() - began), 1000 * cluster.cpu_s()))

    tasks: list[asyncio.Task[None]] = []
    while not acknowledged.done():
        if time.perf_counter() - began > TIMEOUT_S:
            raise SystemExit(f"{cluster.name}: no write within {TIMEOUT_S:g} s after the start")
        tasks += [asyncio.create_task(attempt(len(tasks) + number)) for number in range(len(writes))]
        await asyncio.wait((acknowledged,), timeout=EVERY_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return acknowledged.result()


async def run(arguments: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    clusters: list[Cluster] = [Raftsman(folder / "raftsman")]
    if not arguments.alone and has_etcd():
        clusters.append(Etcd(folder / "etcd"))
    took: dict[str, list[tuple[float, float]]] = {cluster.name: [] for cluster in clusters}
    try:
        for cluster in clusters:
            await cluster.start()
            await fill(cluster, arguments.entries)
        for _ in range(arguments.rounds):
            for cluster in clusters:
                took[cluster.name].append(await restart(cluster))
                await cluster.leader()
    finally:
        for cluster in clusters:
            await cluster.stop()
    return [
        {
            "system": name,
            "entries": arguments.entries,
            "fsync": True,
            "rounds": len(times),
            "p50_ms": round(statistics.median(ms for ms, _ in times), 1),
            "max_ms": round(max(ms for ms, _ in times), 1),
            "cpu_p50_ms": round(statistics.median(cpu_ms for _, cpu_ms in times)),
        }
        for name, times in took.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="without etcd, even where it is installed")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    load = os.getloadavg()
    with kept("bench-restart-") as folder:
        rows = asyncio.run(run(arguments, folder))
    if arguments.json:
        print(json.dumps({"rows": rows, **machine(load)}))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
