#!/usr/bin/env python3
"""What an agent costs that runs 100 containers, and how fast a restarted one takes them up again.

    scripts/bench_agent.py [--json] [--containers 100] [--measure SECONDS] [--rounds 5]

A throw-away cluster of one peer and one agent on a Docker engine of its own (needs root; exit status 77 where it
cannot be had). `rss_mib`: resident memory of the agent; `cpu_pct`: of one core, over the measured time, from the
kernel's counters, nothing being asked of the agent meanwhile. `adopted_ms`: from starting the agent's process until it
says on /healthz that all of them run; Python's start is in it. `same_containers`: the engine has exactly the
containers that it had before the first stop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

import httpx
import psutil

from orchestrator.ops.drill_cluster import FaultyCluster
from orchestrator.ops.drill_needs import EXIT_SKIPPED
from orchestrator.ops.drill_tools import MissingError
from orchestrator.ops.engine import Engine
from orchestrator.ops.interrupt import run
from orchestrator.ops.leftovers import CLUSTER_LABEL
from orchestrator.ops.processes import end
from scripts.bench_idle import cpu_s
from scripts.lib import own_engine
from scripts.lib.clusters import machine

JOB = "many"
SETTLE_S = 40.0
ADOPT_TIMEOUT_S = 60.0


async def containers(cluster: FaultyCluster) -> set[str]:
    async with Engine() as engine:
        found = await engine.containers({CLUSTER_LABEL: cluster.record.cluster_id})
    return {one.id for one in found if one.running}


async def adoption_ms(cluster: FaultyCluster, count: int) -> float:
    """Stop the agent, start it again, and wait until it knows its containers."""
    (agent,) = cluster.agents
    await end([agent.process])
    began = time.perf_counter()
    await cluster.restart(agent.name)
    async with httpx.AsyncClient(timeout=1.0) as http:
        while True:
            try:
                if (await http.get(f"http://{agent.http}/healthz")).json()["running"] == count:
                    return 1000 * (time.perf_counter() - began)
            except httpx.HTTPError:
                pass  # it is not up yet
            if time.perf_counter() - began > ADOPT_TIMEOUT_S:
                raise SystemExit(f"the agent does not know its containers {ADOPT_TIMEOUT_S:g} s after its start")
            await asyncio.sleep(0.01)


async def measure(arguments: argparse.Namespace) -> dict[str, object]:
    count = arguments.containers
    async with own_engine.cluster(1) as cluster:
        await cluster.client.submit(own_engine.job(JOB, count, await own_engine.image()))
        await own_engine.until_running(cluster.client, JOB, count)
        print(f"{count} containers run", file=sys.stderr)
        before = await containers(cluster)
        await cluster.close()  # what a client asks is not idleness
        await asyncio.sleep(SETTLE_S)
        pid = cluster.agents[0].pid
        spent = cpu_s(pid)
        began = time.perf_counter()
        await asyncio.sleep(arguments.measure)
        cpu_pct = (cpu_s(pid) - spent) / (time.perf_counter() - began) * 100
        rss_mib = psutil.Process(pid).memory_info().rss / 2**20
        took = [await adoption_ms(cluster, count) for _ in range(arguments.rounds)]
        return {
            "containers": count,
            "rss_mib": round(rss_mib, 1),
            "cpu_pct": round(cpu_pct, 2),
            "adopted_ms": round(statistics.median(took), 1),
            "adopted_max_ms": round(max(took), 1),
            "rounds": arguments.rounds,
            "same_containers": await containers(cluster) == before,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, last")
    parser.add_argument("--containers", type=int, default=100)
    parser.add_argument("--measure", type=float, default=30.0, help="seconds to measure (default 30)")
    parser.add_argument("--rounds", type=int, default=5, help="how often the agent is restarted (default 5)")
    arguments = parser.parse_args()
    load = os.getloadavg()
    try:
        own_engine.enter()
    except MissingError as error:
        print(f"skipped: {error.message}", file=sys.stderr)
        raise SystemExit(EXIT_SKIPPED) from None
    found = run(measure(arguments))
    if arguments.json:
        print(json.dumps({**found, **machine(load)}))
        return
    for name, value in found.items():
        print(f"{name:<16} {value}")


if __name__ == "__main__":
    main()
