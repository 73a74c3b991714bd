#!/usr/bin/env python3
"""Writes a second and their latency, against etcd where that is installed.

Three processes of each system on loopback, fsync on for both, plain text for both, the data on the same disk. All
callers are in this one process, use gRPC's asyncio client for both systems, and share the machine's cores with the six
peers: the figures compare the systems on this machine and are not what either could do with cores of its own. Callers
call the leader directly, one channel each (16 at most). The rounds of the systems take turns; a figure is the median
over the rounds. Values have 64 bytes, keys are 1,000.

etcd comes with `apt-get update && apt-get install etcd-server`.

The row with `--batch` compares: Raftsman's `PutVariables` (each write a command with its own index and answer); `etcd`,
as many Puts sent at once by each caller; `etcd-txn`, one transaction of as many puts (all or none, one log entry).
`cpu_us_per_op` is the processor time of all three members for one write: it says what limits, also on a busy machine.
`ratio_to_etcd` is against the `etcd` row of equal `clients` and `batch`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

from scripts.lib.clusters import KEYS, Cluster, Etcd, Raftsman, Write, has_etcd, machine, percentile
from scripts.lib.keeper import kept

CHANNELS = 16
WARM_UP_S = 0.5
TIMEOUT_S = 30.0


@dataclass
class Row:
    system: str
    cluster: Cluster
    clients: int
    batch: int
    transaction: bool = False
    ops_per_s: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)  # of the three members, per write

    def writers(self, leader: str) -> list[Write]:
        channels = [self.cluster.channel(leader) for _ in range(min(CHANNELS, self.clients))]
        made = []
        for number in range(self.clients):
            channel = channels[number % len(channels)]
            if self.batch == 1:
                made.append(self.cluster.write(channel))
            elif self.transaction:
                assert isinstance(self.cluster, Etcd)
                made.append(self.cluster.write_transaction(channel, self.batch))
            else:
                made.append(self.cluster.write_many(channel, self.batch))
        return made

    async def measure(self, seconds: float) -> None:
        leader = await self.cluster.leader()
        took: list[float] = []
        done = 0
        cpu_s = self.cluster.cpu_s()
        begin = time.perf_counter() + WARM_UP_S
        end = begin + seconds

        async def call(write: Write, number: int) -> None:
            nonlocal done
            while True:
                called = time.perf_counter()
                if called >= end:
                    return
                await write(number, TIMEOUT_S)
                number += self.batch
                done += self.batch
                returned = time.perf_counter()
                if called >= begin and returned <= end:
                    took.append(returned - called)

        await asyncio.gather(*(call(write, 7919 * n) for n, write in enumerate(self.writers(leader))))
        self.cpu_us.append(1e6 * (self.cluster.cpu_s() - cpu_s) / done)
        self.ops_per_s.append(len(took) * self.batch / seconds)
        self.p50_ms.append(1000 * percentile(took, 0.5))
        self.p99_ms.append(1000 * percentile(took, 0.99))

    def figures(self, etcd: Row | None) -> dict[str, object]:
        ops = statistics.median(self.ops_per_s)
        return {
            "system": self.system,
            "clients": self.clients,
            "batch": self.batch,
            "fsync": True,
            "ops_per_s": round(ops),
            "p50_ms": round(statistics.median(self.p50_ms), 2),
            "p99_ms": round(statistics.median(self.p99_ms), 2),
            "cpu_us_per_op": round(statistics.median(self.cpu_us)),
            "ratio_to_etcd": round(ops / statistics.median(etcd.ops_per_s), 3) if etcd is not None else None,
        }


async def run(arguments: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    ours = Raftsman(folder / "raftsman")
    clusters: list[Cluster] = [ours]
    etcd = Etcd(folder / "etcd") if not arguments.alone and has_etcd() else None
    if etcd is not None:
        clusters.append(etcd)
    shapes = [(clients, 1) for clients in arguments.clients]
    if arguments.batch > 1:
        shapes.append((arguments.batch_clients, arguments.batch))
    rows = []
    for clients, batch in shapes:
        rows += [Row(cluster.name, cluster, clients, batch) for cluster in clusters]
        if etcd is not None and batch > 1:
            rows.append(Row("etcd-txn", etcd, clients, batch, transaction=True))
    try:
        await asyncio.gather(*(cluster.start() for cluster in clusters))
        for cluster in clusters:
            write = cluster.write_many(cluster.channel(await cluster.leader()), 100)
            for number in range(0, KEYS, 100):  # every key is there before the first round
                await write(number, TIMEOUT_S)
        for number in range(arguments.rounds):
            for row in rows:
                await row.measure(arguments.seconds)
                if not arguments.json:
                    print(f"round {number + 1}  {row.system:9} {row.clients:4} x {row.batch:2}  "
                          f"{row.ops_per_s[-1]:8.0f} writes/s  {row.cpu_us[-1]:6.0f} us", file=sys.stderr)  # fmt: skip
    finally:
        for cluster in clusters:
            await cluster.stop()
    against = {(row.clients, row.batch): row for row in rows if row.system == "etcd"}
    return [row.figures(against.get((row.clients, row.batch))) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=lambda text: [int(one) for one in text.split(",")], default=[1, 16, 128])
    parser.add_argument("--batch", type=int, default=32, help="operations a call in the last row; 1: no such row")
    parser.add_argument("--batch-clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one round of one row, after a warm-up of 0.5 s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="without etcd, even where it is installed")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    before = os.getloadavg()
    with kept("bench-log-") as folder:
        rows = asyncio.run(run(arguments, folder))
    if arguments.json:
        print(json.dumps({"rows": rows, "rounds": arguments.rounds, "seconds": arguments.seconds, **machine(before)}))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
