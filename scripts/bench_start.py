#!/usr/bin/env python3
"""From submitting to running: 1, 10 and 100 containers through Raftsman, `docker run` and `docker service create`.

    scripts/bench_start.py [--json] [--rounds 5] [--instances 1,10,100] [--peers 1]

All on one Docker engine of this script's own, in one run, in turns (needs root; exit status 77 where it cannot be had;
`docker swarm init` is done on that engine alone). One peer (or more) and one agent; fsync on. Measured, medians:

    ours_ms        from calling submit until the API has told that all instances run
    docker_run_ms  from starting `docker run -d --init` until the last has returned, as many at once as an agent does
    swarm_ms       from starting `docker service create --detach --replicas N` until the engine has told that N of its
                   containers started
    ours_cpu_ms    processor time of agent and peers together meanwhile

The API and the engine tell of it by events: asking again and again would take from the two cores that are measured.
Each value and each finished row is printed on stderr at once. Ended by a signal, the script stops and removes all that
it started, prints what it had found so far (`"complete": false`) and exits with 130; killed, a process of its own
does the removing (`scripts/lib/keeper.py`).

`docker run` and `docker service create` start a process of the Docker command line each; so a `raftsman run` costs
Python's start on top of `ours_ms`, which is not in it. The command of every container is the same `sleep`.
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
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

from orchestrator.ops.drill_cluster import FaultyCluster
from orchestrator.ops.drill_needs import EXIT_SKIPPED
from orchestrator.ops.drill_tools import MissingError, tool
from orchestrator.ops.engine import Engine
from orchestrator.ops.interrupt import run
from scripts.bench_idle import cpu_s
from scripts.lib import own_engine
from scripts.lib.clusters import machine

AT_ONCE = 32
"""As many calls as an agent has under way (``agent.drivers.docker.MAX_CALLS``)."""
LABEL = "bench-start"
SWARM_LABEL = "com.docker.swarm.service.name"
EXIT_INTERRUPTED = 130
CPU = "ours_cpu_ms"


class FailedError(Exception):
    """Something that is compared did not do what it was asked to."""


async def docker(*arguments: str) -> str:
    """Its stdout. Raises ``FailedError``."""
    process = await asyncio.create_subprocess_exec(
        tool("docker", "docker.io"),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for this script, which ends it
    )
    try:
        out, error = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise FailedError(f"docker {' '.join(arguments)}: {error.decode().strip()}")
    return out.decode().strip()


async def ours(cluster: FaultyCluster, image: str, count: int) -> dict[str, float]:
    name = f"bench-{count}-{time.monotonic_ns()}"
    client, pids = cluster.client, [member.pid for member in cluster.record.members]
    spec = own_engine.job(name, count, image)
    spent = sum(map(cpu_s, pids))
    began = time.perf_counter()
    submitted = await client.submit(spec)
    await own_engine.seen_running(client, name, count, submitted.index)
    took = time.perf_counter() - began
    spent = sum(map(cpu_s, pids)) - spent
    if len(await own_engine.until_running(client, name, count)) != count:
        raise FailedError(f"not {count} instances of {name} run")
    await own_engine.remove(client, name)
    return {"ours_ms": 1000 * took, CPU: 1000 * spent}


async def docker_run(image: str, count: int) -> dict[str, float]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one() -> str:
        async with turns:
            return await docker("run", "-d", "--init", "--label", LABEL, "--memory", "16m", image, *own_engine.COMMAND)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(one()) for _ in range(count)]
    took = time.perf_counter() - began
    await docker("rm", "--force", *(task.result() for task in running))
    return {"docker_run_ms": 1000 * took}


async def swarm(engine: Engine, image: str, count: int) -> dict[str, float]:
    name = f"bench-{count}-{time.monotonic_ns()}"
    since_s = time.time()
    began = time.perf_counter()
    id_ = await docker(
        "service", "create", "--quiet", "--detach", "--init", "--no-resolve-image", "--limit-memory", "16m",
        "--name", name, "--replicas", str(count), image, *own_engine.COMMAND,
    )  # fmt: skip
    started: set[str] = set()
    events = engine.events({SWARM_LABEL: name}, since_s=since_s)
    try:
        async with contextlib.aclosing(events), asyncio.timeout(own_engine.TIMEOUT_S):  # type: ignore[type-var]
            async for event in events:
                if event.action == "start":
                    started.add(event.id)
                if len(started) == count:
                    break
    except TimeoutError:
        raise FailedError(f"Swarm: {len(started)} of {count} run after {own_engine.TIMEOUT_S:g} s") from None
    took = time.perf_counter() - began
    found = [one for one in await engine.containers({SWARM_LABEL: name}) if one.running]
    if {one.id for one in found} != started:
        raise FailedError(f"Swarm: {len(found)} of the {count} that had started run")
    await docker("service", "rm", id_)
    while await engine.containers({SWARM_LABEL: name}):
        await asyncio.sleep(0.05)
    return {"swarm_ms": 1000 * took}


def row_of(count: int, took: dict[str, list[float]]) -> dict[str, object]:
    medians = {way: round(statistics.median(values), 1) for way, values in took.items()}
    return {"instances": count, "rounds": min(map(len, took.values())), **medians}


async def measure(rounds: int, sizes: list[int], peers: int, rows: list[dict[str, object]]) -> None:
    """Fills ``rows``, with the unfinished one, too, when it is ended before. Raises ``FailedError``."""
    # Swarm refuses live-restore.
    async with own_engine.cluster(peers, live_restore=False) as cluster, Engine() as engine:
        image = await own_engine.image()
        await docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1")
        for count in sizes:
            ways: list[Callable[[], Awaitable[dict[str, float]]]] = [
                lambda count=count: ours(cluster, image, count),  # type: ignore[misc]
                lambda count=count: docker_run(image, count),  # type: ignore[misc]
                lambda count=count: swarm(engine, image, count),  # type: ignore[misc]
            ]
            took: dict[str, list[float]] = {}
            try:
                for number in range(rounds + 1):
                    for way in ways:
                        for name, value in (await way()).items():
                            said = "" if number else "  (warms up)"
                            print(f"{count:>4} {name:<14} {value:8.0f}{said}", file=sys.stderr, flush=True)
                            if number:  # the first one of each warms caches
                                took.setdefault(name, []).append(value)
            finally:
                if took:
                    rows.append(row_of(count, took))
                    print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), file=sys.stderr, flush=True)
        await docker("swarm", "leave", "--force")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number from 1 on")
    return int(text)


def _counts(text: str) -> list[int]:
    return [_count(one.strip()) for one in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, last")
    parser.add_argument("--rounds", type=_count, default=5, help="measured rounds; one more warms up (default 5)")
    parser.add_argument("--instances", type=_counts, default="1,10,100", help="how many containers (default 1,10,100)")
    parser.add_argument("--peers", type=int, default=1, choices=(1, 3, 5), help="of the cluster (default 1)")
    arguments = parser.parse_args()
    load = os.getloadavg()
    rows: list[dict[str, object]] = []
    status = 0
    try:
        own_engine.enter()
        run(measure(arguments.rounds, arguments.instances, arguments.peers, rows))
    except MissingError as error:
        print(f"skipped: {error.message}", file=sys.stderr)
        raise SystemExit(EXIT_SKIPPED) from None
    except FailedError as error:
        print(error, file=sys.stderr)
        status = 1
    except ExceptionGroup as errors:  # of `docker run`, many at once
        print(errors.exceptions[0], file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("interrupted; all that was started is stopped and removed", file=sys.stderr)
        status = EXIT_INTERRUPTED
    if arguments.json:
        print(json.dumps({"rows": rows, "complete": not status, **machine(load)}))
    else:
        for row in rows:
            print("  ".join(f"{name} {value}" for name, value in row.items()))
    raise SystemExit(status)


if __name__ == "__main__":
    main()
