#!/usr/bin/env python3
"""How long writing stops when the leader dies: from SIGKILL to the next acknowledged write, against etcd.

Three processes of each system on loopback, fsync on, plain text. At the kill, and every 10 ms from then on, one fresh
write is sent to each of the two others by the same client code; the first that is acknowledged ends the clock. The
killed process is started again and the next kill waits until all three name the same leader and each takes a write, and
then a random part of a second. Systems take turns, kill by kill. A killed process closes its connections, which the
others may notice before any timeout; a machine that vanishes does not.

Rows: each system with its default election timeouts (Raftsman 400 to 1000 ms; etcd 1000 ms with a heartbeat of 100 ms),
then Raftsman with `--fast-failover` (150 to 300 ms) and etcd with 150 ms and a heartbeat of 30 ms. Percentiles are
exact (nearest rank). etcd comes with `apt-get update && apt-get install etcd-server`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

import grpc.aio

from scripts.lib.clusters import MEMBERS, Cluster, Etcd, Raftsman, has_etcd, machine, percentile
from scripts.lib.keeper import kept

EVERY_S = 0.01
TIMEOUT_S = 3.0
GIVE_UP_S = 60.0


@dataclass
class Row:
    system: str
    settings: str
    make: Callable[[Path], Cluster]
    took_ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, object]:
        return {
            "system": self.system,
            "settings": self.settings,
            "kills": len(self.took_ms),
            "fsync": True,
            "p50_ms": round(percentile(self.took_ms, 0.5), 1),
            "p90_ms": round(percentile(self.took_ms, 0.9), 1),
            "p99_ms": round(percentile(self.took_ms, 0.99), 1),
            "max_ms": round(max(self.took_ms), 1),
        }


async def settled(cluster: Cluster, channels: dict[str, grpc.aio.Channel]) -> str:
    """The leader, once every member names it and takes a write."""
    leader = await cluster.leader()
    for channel in channels.values():
        with contextlib.suppress(grpc.aio.AioRpcError):
            await cluster.write(channel)(0, TIMEOUT_S)
    return leader


async def kill_once(cluster: Cluster, channels: dict[str, grpc.aio.Channel], pause_s: float) -> float:
    """Milliseconds without a write."""
    leader = await settled(cluster, channels)
    await asyncio.sleep(pause_s)
    writes = [cluster.write(channels[member]) for member in MEMBERS if member != leader]
    acknowledged: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def attempt(number: int) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await writes[number % len(writes)](number, TIMEOUT_S)
            if not acknowledged.done():
                acknowledged.set_result(time.perf_counter())

    tasks: set[asyncio.Task[None]] = set()
    killed = time.perf_counter()
    await cluster.kill_member(leader)
    try:
        number = 0
        while not acknowledged.done():
            if time.perf_counter() - killed > GIVE_UP_S:
                raise SystemExit(f"{cluster.name}: no write within {GIVE_UP_S:g} s after a kill")
            for _ in writes:
                tasks.add(asyncio.create_task(attempt(number)))
                number += 1
            await asyncio.wait((acknowledged,), timeout=EVERY_S)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await cluster.start_member(leader)
    return 1000 * (acknowledged.result() - killed)


async def run(arguments: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    rows = [Row("raftsman", "400-1000 ms", Raftsman)]
    etcd = not arguments.alone and has_etcd()
    if etcd:
        rows.append(Row("etcd", "1000/100 ms (default)", Etcd))
    rows.append(Row("raftsman", "150-300 ms (--fast-failover)", lambda path: Raftsman(path, fast_failover=True)))
    if etcd:
        rows.append(Row("etcd", "150/30 ms", lambda path: Etcd(path, election_ms=150, heartbeat_ms=30)))
    choose = random.Random(arguments.seed)
    for start in range(0, len(rows), 2 if etcd else 1):
        pair = rows[start : start + (2 if etcd else 1)]
        clusters = [row.make(folder / f"{start}-{row.system}") for row in pair]
        try:
            await asyncio.gather(*(cluster.start() for cluster in clusters))
            channels = [{member: cluster.channel(member) for member in MEMBERS} for cluster in clusters]
            for _ in range(arguments.kills):
                for row, cluster, its in zip(pair, clusters, channels, strict=True):
                    row.took_ms.append(await kill_once(cluster, its, choose.uniform(0.1, 0.5)))
                    if not arguments.json:
                        print(f"{row.system:9} {row.settings:30} {row.took_ms[-1]:8.1f} ms", file=sys.stderr)
        finally:
            for cluster in clusters:
                await cluster.stop()
    return [row.figures() for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of each row")
    parser.add_argument("--seed", type=int, default=1, help="of the pauses between kills")
    parser.add_argument("--alone", action="store_true", help="without etcd, even where it is installed")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    load = os.getloadavg()
    with kept("bench-failover-") as folder:
        rows = asyncio.run(run(arguments, folder))
    if arguments.json:
        print(json.dumps({"rows": rows, "seed": arguments.seed, **machine(load)}))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
