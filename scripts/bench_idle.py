#!/usr/bin/env python3
"""Memory and CPU of every process of an idle cluster, after settling: the 3-peer, 2-agent cluster that `dev` starts.

    scripts/bench_idle.py [--json] [--settle SECONDS] [--measure SECONDS] [--driver process]

`rss_mib`: resident memory. `cpu_pct`: of one core, over the measured time, from the kernel's own counters.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

import psutil

from orchestrator.ops.dev import LocalCluster
from scripts.lib.ended import end_on_sigterm


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def measure(settle_s: float, measure_s: float, driver: str) -> dict[str, dict[str, float]]:
    end_on_sigterm()
    async with LocalCluster(peers=3, agents=2, driver=driver, gateway=True) as cluster:
        await cluster.close()  # a client's keepalives are not idleness
        await asyncio.sleep(settle_s)
        members = cluster.record.members
        before = {member.name: cpu_s(member.pid) for member in members}
        await asyncio.sleep(measure_s)
        return {
            member.name: {
                "rss_mib": round(psutil.Process(member.pid).memory_info().rss / 2**20, 1),
                "cpu_pct": round((cpu_s(member.pid) - before[member.name]) / measure_s * 100, 2),
            }
            for member in members
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, last")
    parser.add_argument("--settle", type=float, default=10.0, help="seconds to wait before measuring (default 10)")
    parser.add_argument("--measure", type=float, default=20.0, help="seconds to measure (default 20)")
    parser.add_argument("--driver", default="process", help="of the agents (default process)")
    said = parser.parse_args()
    print("starting a throw-away cluster", file=sys.stderr)
    found = asyncio.run(measure(said.settle, said.measure, said.driver))
    if said.json:
        print(json.dumps(found))
        return
    for name, values in found.items():
        print(f"{name:<12} {values['rss_mib']:>7} MiB {values['cpu_pct']:>6} % of a core")


if __name__ == "__main__":
    main()
