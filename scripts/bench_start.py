#!/usr/bin/env python3
"""From submitting to running: 1, 10 and 100 containers through Raftsman, `docker run` and `docker service create`.

    scripts/bench_start.py [--json] [--rounds 5] [--instances 1,10,100]

All on one Docker engine of this script's own, in one run, in turns (needs root; exit status 77 where it cannot be had;
`docker swarm init` is done on that engine alone). One peer and one agent; fsync on. What is measured, medians:

    ours_ms        from calling submit until the API says that all instances run
    docker_run_ms  from starting `docker run -d --init` until the last has returned, as many at once as an agent does
    swarm_ms       from starting `docker service create --detach --replicas N` until the engine runs N of its containers

`docker run` and `docker service create` start a process of the Docker command line each; so a `raftsman run` costs
Python's start on top of `ours_ms`, which is not in it. The command of every container is the same `sleep`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

from orchestrator.client.aio import Client
from orchestrator.ops.drill_needs import EXIT_SKIPPED
from orchestrator.ops.drill_tools import MissingError, tool
from orchestrator.ops.engine import Engine
from orchestrator.ops.interrupt import run
from scripts.lib import own_engine
from scripts.lib.clusters import machine

AT_ONCE = 32
"""As many calls as an agent has under way (``agent.drivers.docker.MAX_CALLS``)."""
LABEL = "bench-start"
SWARM_LABEL = "com.docker.swarm.service.name"


async def docker(*arguments: str) -> str:
    """Its stdout. Raises ``SystemExit`` when it fails."""
    process = await asyncio.create_subprocess_exec(
        tool("docker", "docker.io"),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    if process.returncode:
        raise SystemExit(f"docker {' '.join(arguments)}: {error.decode().strip()}")
    return out.decode().strip()


async def ours(client: Client, image: str, count: int) -> float:
    name = f"bench-{count}-{time.monotonic_ns()}"
    spec = own_engine.job(name, count, image)
    began = time.perf_counter()
    await client.submit(spec)
    await own_engine.until_running(client, name, count)
    took = time.perf_counter() - began
    await own_engine.remove(client, name)
    return 1000 * took


async def docker_run(image: str, count: int) -> float:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one() -> str:
        async with turns:
            return await docker("run", "-d", "--init", "--label", LABEL, "--memory", "16m", image, *own_engine.COMMAND)

    began = time.perf_counter()
    names = await asyncio.gather(*(one() for _ in range(count)))
    took = time.perf_counter() - began
    await docker("rm", "--force", *names)
    return 1000 * took


async def swarm(engine: Engine, image: str, count: int) -> float:
    name = f"bench-{count}-{time.monotonic_ns()}"
    began = time.perf_counter()
    await docker(
        "service", "create", "--quiet", "--detach", "--init", "--no-resolve-image", "--limit-memory", "16m",
        "--name", name, "--replicas", str(count), image, *own_engine.COMMAND,
    )  # fmt: skip
    deadline = began + own_engine.TIMEOUT_S
    while True:
        found = [one for one in await engine.containers({SWARM_LABEL: name}) if one.running]
        if len(found) >= count:
            break
        if time.perf_counter() > deadline:
            raise SystemExit(f"Swarm: {len(found)} of {count} run after {own_engine.TIMEOUT_S:g} s")
        await asyncio.sleep(0.01)
    took = time.perf_counter() - began
    await docker("service", "rm", name)
    while await engine.containers({SWARM_LABEL: name}):
        await asyncio.sleep(0.05)
    return 1000 * took


async def measure(rounds: int, sizes: list[int]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    async with own_engine.cluster(1, live_restore=False) as cluster, Engine() as engine:  # Swarm refuses live-restore
        image = await own_engine.image()
        await docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1")
        for count in sizes:
            ways: dict[str, Callable[[], Awaitable[float]]] = {
                "ours_ms": lambda count=count: ours(cluster.client, image, count),  # type: ignore[misc]
                "docker_run_ms": lambda count=count: docker_run(image, count),  # type: ignore[misc]
                "swarm_ms": lambda count=count: swarm(engine, image, count),  # type: ignore[misc]
            }
            took: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(rounds + 1):
                for way, measured in ways.items():
                    value = await measured()
                    if number:  # the first one of each warms caches
                        took[way].append(value)
                    print(f"{count:>4} {way:<14} {value:8.0f}", file=sys.stderr)
            rows.append({"instances": count, **{way: round(statistics.median(all_), 1) for way, all_ in took.items()}})
        await docker("swarm", "leave", "--force")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, last")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds; one more warms up (default 5)")
    parser.add_argument("--instances", default="1,10,100", help="how many containers (default 1,10,100)")
    arguments = parser.parse_args()
    load = os.getloadavg()
    try:
        own_engine.enter()
    except MissingError as error:
        print(f"skipped: {error.message}", file=sys.stderr)
        raise SystemExit(EXIT_SKIPPED) from None
    rows = run(measure(arguments.rounds, [int(one) for one in arguments.instances.split(",")]))
    if arguments.json:
        print(json.dumps({"rows": rows, **machine(load)}))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
