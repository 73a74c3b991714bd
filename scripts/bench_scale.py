#!/usr/bin/env python3
"""Scale through the log: simulated nodes, three real peers, everything over the real API.

    scripts/bench_scale.py --nodes 5000 --tasks 1000000 --peers 3 [--json]
    scripts/bench_scale.py --steady [--rate 100] [--live 500000] [--seconds 20] [--json]
    scripts/bench_scale.py --single [--jobs 100000] [--callers 64] [--per-call 50] [--json]

The nodes are simulated (``scripts/lib/simulated_nodes.py``: the agents' calls and streams, a driver that runs nothing,
many nodes a process); peers, log, disk and streams are real, on loopback and without TLS.

Default: jobs of 1,000 equal tasks are submitted (`SubmitJobs`), placed, committed, delivered and reported running.
Keys: `placements_per_s` (committed, from the first submit on), `seconds_committed` (the leader has committed every
placement), `seconds_delivered`, `seconds_reported` (every agent's report "running" was acknowledged), `peer_rss_mib`
(the largest peer, at its highest sample), `plan_ms` and `apply_ms` (from the leader's histograms; apply is one command
of the log), `elections` (after the start), `node_marks` (commands by which the leader called nodes lost or back),
`new_attempts` (deliveries beyond the instances: what was placed anew because its node counted as lost; < 0 where the
last ones had not arrived yet), `state_hash_equal` (all peers, at one index).

`--steady`: first `--live` allocations; then `--rate` jobs of one task a second, one `SubmitJob` call each, every job
another: from when the call was due to the assignment's arrival at the agent. Keys `submit_to_delivered_ms {p50, p99}`;
of it `begun_late_ms` (the load generator began the call so long after it was due) and `submit_to_answered_ms` (until it
was committed); `peers_cpu_pct`, `nodes_cpu_pct`, `client_cpu_pct`: of one core, used by the peers, the simulated nodes
and the caller.

`--single`: jobs of one task from `--callers` callers, `--per-call` jobs in each `SubmitJobs` call (1: `SubmitJob`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

import grpc
import grpc.aio
import psutil

from orchestrator.contract.channel import MAX_MESSAGE_BYTES
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1 import control_pb2_grpc as rpc
from scripts.lib.clusters import CHANNEL_OPTIONS, Raftsman, machine, percentile
from scripts.lib.ended import end_on_sigterm
from scripts.lib.keeper import kept

HERE = Path(__file__).resolve().parent
SAMPLE_S = 0.5
JOIN_S = 180.0
FOLLOWED = "steady-"


# ---------------------------------------------------------------------------- the nodes


class Nodes:
    """The processes that hold the simulated nodes, and what they last told."""

    def __init__(self, cluster: Raftsman, said: argparse.Namespace) -> None:
        self._peers = [f"127.0.0.1:{port}" for port in cluster.port.values()]
        self._said = said
        self._processes: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []
        self._told: list[dict[str, Any]] = []
        self.changed = asyncio.Event()
        self.arrived: dict[str, float] = {}

    async def start(self) -> None:
        said = self._said
        each = -(-said.nodes // said.processes)
        for place in range(said.processes):
            first = place * each
            count = min(each, said.nodes - first)
            if count <= 0:
                break
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(HERE / "lib" / "simulated_nodes.py"), "--peers", ",".join(self._peers),
                "--first", str(first), "--nodes", str(count), "--cpu", str(said.node_cpu), "--memory",
                str(said.node_memory), "--disk", "1000000", "--nodes-per-connection", str(said.nodes_per_connection),
                "--follow", FOLLOWED, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24,
            )  # fmt: skip
            self._processes.append(process)
            self._told.append({})
            self._readers.append(asyncio.create_task(self._read(place, process)))

    async def _read(self, place: int, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            told = json.loads(line)
            for name, at in told.pop("arrived"):
                self.arrived.setdefault(name, at)
            self._told[place] = told
            self.changed.set()
        raise SystemExit(f"simulated nodes {place} ended with {await process.wait()}")

    def sum(self, key: str) -> int:
        return int(sum(told.get(key, 0) for told in self._told))

    @property
    def cpu_s(self) -> float:
        return float(sum(told.get("cpu_s", 0.0) for told in self._told))

    async def until(self, done: Callable[[], bool], what: str, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not done():
            for reader in self._readers:
                if reader.done():
                    reader.result()
            if time.monotonic() > deadline:
                raise SystemExit(f"not within {within_s:g} s: {what}; the nodes told {self._told}")
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.changed.wait()

    async def stop(self) -> None:
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


# ---------------------------------------------------------------------------- the peers


class Watch:
    """Samples the peers from outside: memory at its highest, metrics, elections."""

    def __init__(self, cluster: Raftsman) -> None:
        self._cluster = cluster
        self.peak_mib: dict[str, float] = {}
        self._task = asyncio.create_task(self._sample())

    async def _sample(self) -> None:
        while True:
            for member, process in self._cluster._running.items():
                rss = float(psutil.Process(process.pid).memory_info().rss) / 2**20
                self.peak_mib[member] = max(self.peak_mib.get(member, 0.0), rss)
            await asyncio.sleep(SAMPLE_S)

    def stop(self) -> None:
        self._task.cancel()

    async def metrics(self, member: str) -> dict[str, float]:
        return await asyncio.to_thread(self._metrics, member)

    def _metrics(self, member: str) -> dict[str, float]:
        url = f"http://127.0.0.1:{self._cluster.other_port[member]}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        found = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    async def elections(self) -> int:
        return int(max([(await self.metrics(one))["raftsman_elections_total"] for one in self._cluster.port]))


def quantile_ms(metrics: dict[str, float], before: dict[str, float], name: str, share: float) -> float:
    """Of a histogram, between two scrapes, by straight lines within its buckets; milliseconds."""
    rows = []
    for key, value in metrics.items():
        match = re.fullmatch(name + r'_bucket\{le="([^"]+)"\}', key)
        if match:
            rows.append((float(match[1]), value - before.get(key, 0.0)))
    rows.sort()
    total = rows[-1][1] if rows else 0.0
    if not total:
        return 0.0
    lower_edge, below = 0.0, 0.0
    for edge, count in rows:
        if count >= share * total:
            if edge == float("inf"):
                return round(lower_edge * 1000, 3)
            inside = count - below
            return round(1000 * (lower_edge + (edge - lower_edge) * (share * total - below) / inside), 3)
        lower_edge, below = edge, count
    return round(lower_edge * 1000, 3)


# ---------------------------------------------------------------------------- the jobs


def job(name: str, count: int, said: argparse.Namespace) -> pb.SubmitJobRequest:
    return pb.SubmitJobRequest(
        request_id=uuid.uuid4().hex,
        job={
            "name": name,
            "groups": [
                {
                    "name": "main",
                    "count": count,
                    "tasks": [
                        {
                            "name": "main", "driver": "fake", "command": ["run"],
                            "resources": {"cpu_millis": said.task_cpu, "memory_mib": said.task_memory},
                        }
                    ],
                }
            ],
        },
    )  # fmt: skip


class Bench:
    def __init__(self, said: argparse.Namespace, cluster: Raftsman, nodes: Nodes, watch: Watch, leader: str) -> None:
        self.said, self.cluster, self.nodes, self.watch, self.leader = said, cluster, nodes, watch, leader
        options = (*CHANNEL_OPTIONS, ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES))
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{cluster.port[leader]}", options=options)
        self.control = rpc.ControlStub(self._channel)
        self.joined: dict[str, Any] = {}
        self.asked = 0
        """Instances of all that was submitted."""

    async def close(self) -> None:
        await self._channel.close(None)

    async def submit_many(self, jobs: list[pb.SubmitJobRequest], per_call: int) -> None:
        for start in range(0, len(jobs), per_call):
            request = pb.SubmitJobsRequest(request_id=uuid.uuid4().hex)
            request.jobs.extend(one.job for one in jobs[start : start + per_call])
            self.asked += sum(one.job.groups[0].count for one in jobs[start : start + per_call])
            await retried(self.control.SubmitJobs, request, timeout_s=120)

    async def placed(self) -> int:
        """Placements that whoever led has committed."""
        return int(sum([(await self.watch.metrics(one))["raftsman_placements_total"] for one in self.cluster.port]))

    def show(self, text: str) -> None:
        if not self.said.quiet:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def bar(self, began: float, committed: int, target: int) -> None:
        nodes = self.nodes
        width = 30
        full = width * committed // max(target, 1)
        self.show(
            f"[{'#' * full}{'.' * (width - full)}] {time.monotonic() - began:5.1f} s  committed {committed:,}  "
            f"delivered {nodes.sum('delivered'):,}  reported {nodes.sum('reported'):,} of {target:,}"
        )

    async def fill(self, tasks: int, per_job: int, prefix: str) -> tuple[float, float, float]:
        """Submit ``tasks`` in jobs of ``per_job``; seconds until all were committed, delivered, reported."""
        placed = await self.placed()
        delivered, reported = self.nodes.sum("delivered"), self.nodes.sum("reported")
        sizes = [min(per_job, tasks - start) for start in range(0, tasks, per_job)]
        jobs = [job(f"{prefix}-{number:06d}", count, self.said) for number, count in enumerate(sizes)]
        began = time.monotonic()
        submitting = asyncio.create_task(self.submit_many(jobs, 1_000))
        times: dict[str, float] = {}
        committed = 0
        asked = 0.0
        while len(times) < 3:
            if submitting.done():
                submitting.result()
            now = time.monotonic() - began
            if "committed" not in times and now >= asked:
                committed = await self.placed() - placed
                now = time.monotonic() - began
                asked = now + SAMPLE_S
                if committed >= tasks:
                    times["committed"] = now
            if self.nodes.sum("delivered") - delivered >= tasks:
                times.setdefault("delivered", now)
            if self.nodes.sum("reported") - reported >= tasks:
                times.setdefault("reported", now)
            self.bar(began, committed, tasks)
            if now > self.said.most_s:
                raise SystemExit(f"\nnot done after {now:.0f} s: {times}")
            await asyncio.sleep(0.1)
        await submitting
        return times["committed"], times["delivered"], times["reported"]

    async def hashes_equal(self) -> bool:
        """Of all peers at one index; asked again while the cluster writes on, or elects."""
        for _ in range(40):
            try:
                first = await self.control.StateHash(pb.StateHashRequest(), timeout=60)
                asked = [pb.StateHashRequest(at_index=first.index, peer_id=member) for member in self.cluster.port]
                answers = await asyncio.gather(*(self.control.StateHash(one, timeout=60) for one in asked))
                return {answer.hash for answer in answers} == {first.hash}
            except grpc.aio.AioRpcError as error:
                said = error.details()
                await asyncio.sleep(0.5)
        raise SystemExit(f"the peers' states could not be compared: {said}")


Metrics = dict[str, float]


class Spent:
    """Processor time of peers and nodes from here on."""

    def __init__(self, cluster: Raftsman, nodes: Nodes) -> None:
        self._cluster, self._nodes = cluster, nodes
        self._peers, self._of_nodes = cluster.cpu_s_of_each(), nodes.cpu_s

    def told(self, leader: str, operations: int) -> dict[str, Any]:
        """Seconds of each, and what 1,000 operations cost: the leader, one of the others, and the nodes."""
        peers = {one: used - self._peers[one] for one, used in self._cluster.cpu_s_of_each().items()}
        others = [used for one, used in peers.items() if one != leader]
        nodes = self._nodes.cpu_s - self._of_nodes
        each = {"leader": peers[leader], "follower": sum(others) / max(1, len(others)), "nodes": nodes}
        return {
            "peers_cpu_s": round(sum(peers.values()), 1),
            "nodes_cpu_s": round(nodes, 1),
            "cpu_ms_per_1000": {who: round(1e6 * used / operations, 1) for who, used in each.items()},
        }


MARKS = 'raftsman_proposals_total{command="MarkNodes"}'


def facts(bench: Bench, before: Metrics, after: Metrics, elections: int) -> dict[str, Any]:
    watch = bench.watch
    both = {
        name: {part: quantile_ms(after, before, metric, share) for part, share in (("p50", 0.5), ("p99", 0.99))}
        for name, metric in (("plan_ms", "raftsman_plan_seconds"), ("apply_ms", "raftsman_apply_seconds"))
    }
    return {
        "peer_rss_mib": round(max(watch.peak_mib.values())),
        "peers_rss_mib": {one: round(most) for one, most in sorted(watch.peak_mib.items())},
        "leader": bench.leader,
        **both,
        "elections": elections,
        "node_marks": int(after.get(MARKS, 0) - before.get(MARKS, 0)),
        "new_attempts": bench.nodes.sum("delivered") - bench.asked,
    }


async def backlog(bench: Bench) -> dict[str, Any]:
    said, watch = bench.said, bench.watch
    elections, before = await watch.elections(), await watch.metrics(bench.leader)
    spent = Spent(bench.cluster, bench.nodes)
    committed, delivered, reported = await bench.fill(said.tasks, said.per_job, "bulk")
    found = {
        "nodes": said.nodes,
        "tasks": said.tasks,
        "peers": said.peers,
        "placements_per_s": round(said.tasks / committed),
        "seconds_committed": round(committed, 2),
        "seconds_delivered": round(delivered, 2),
        "seconds_reported": round(reported, 2),
    }
    found |= spent.told(bench.leader, said.tasks)
    after = await watch.metrics(bench.leader)
    found |= facts(bench, before, after, await watch.elections() - elections)
    bench.show("comparing the state of the peers")
    found["state_hash_equal"] = await bench.hashes_equal()
    return found


async def steady(bench: Bench) -> dict[str, Any]:
    said, watch, nodes = bench.said, bench.watch, bench.nodes
    elections = await watch.elections()
    await bench.fill(said.live, said.per_job, "bulk")
    await asyncio.sleep(said.settle_s)
    before, spent = await watch.metrics(bench.leader), Spent(bench.cluster, nodes)
    total = int(said.rate * said.seconds)
    due: dict[str, float] = {}
    late: list[float] = []
    answered: list[float] = []
    failed: list[str] = []
    client = time.process_time()

    async def one(name: str, request: pb.SubmitJobRequest) -> None:
        late.append(time.monotonic() - due[name])
        try:
            await bench.control.SubmitJob(request, timeout=20)
            answered.append(time.monotonic() - due[name])
        except grpc.aio.AioRpcError as error:
            failed.append(f"{error.code().name}: {error.details()}")

    calls = []
    began = time.monotonic() + 0.1
    for number in range(total):
        name = f"{FOLLOWED}{number:06d}"
        request = job(name, 1, said)
        # Distinct: no two ask for the same.
        request.job.groups[0].tasks[0].resources.cpu_millis = 50 + number % 100
        request.job.groups[0].tasks[0].resources.memory_mib = 32 + number // 100
        at = began + number / said.rate
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        due[name] = at
        calls.append(asyncio.create_task(one(name, request)))
        if number % 25 == 0:
            bench.show(f"{number} of {total} jobs, {len(nodes.arrived)} delivered")
    await asyncio.gather(*calls)
    took = time.monotonic() - began
    bench.asked += total - len(failed)
    client = time.process_time() - client
    used, after = spent.told(bench.leader, total), await watch.metrics(bench.leader)
    await nodes.until(lambda: len(nodes.arrived) >= total - len(failed), "all jobs delivered", 60)
    waited = [nodes.arrived[name] - at for name, at in due.items() if name in nodes.arrived]
    found = {
        "nodes": said.nodes,
        "live": said.live,
        "rate": said.rate,
        "jobs": total,
        "failed": len(failed),
        "submit_to_delivered_ms": in_ms(waited),
        "submit_to_answered_ms": in_ms(answered),
        "begun_late_ms": in_ms(late),
        "peers_cpu_pct": round(100 * used["peers_cpu_s"] / took),
        "nodes_cpu_pct": round(100 * used["nodes_cpu_s"] / took),
        "client_cpu_pct": round(100 * client / took),
        **used,
    }
    found |= facts(bench, before, after, await watch.elections() - elections)
    found["state_hash_equal"] = await bench.hashes_equal()
    for line in sorted(set(failed))[:3]:
        print(f"\n  {line}", file=sys.stderr)
    return found


def in_ms(seconds: list[float]) -> dict[str, float]:
    return {
        name: round(1000 * percentile(seconds, share), 1) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }


async def single(bench: Bench) -> dict[str, Any]:
    said, watch = bench.said, bench.watch
    elections, before = await watch.elections(), await watch.metrics(bench.leader)
    spent = Spent(bench.cluster, bench.nodes)
    placed = await bench.placed()
    numbers = iter(range(0, said.jobs, said.per_call))
    submitted = 0

    async def caller() -> None:
        nonlocal submitted
        for start in numbers:
            count = min(said.per_call, said.jobs - start)
            jobs = [job(f"one-{number:06d}", 1, said) for number in range(start, start + count)]
            if said.per_call == 1:
                await retried(bench.control.SubmitJob, jobs[0])
            else:
                request = pb.SubmitJobsRequest(request_id=uuid.uuid4().hex)
                request.jobs.extend(one.job for one in jobs)
                await retried(bench.control.SubmitJobs, request)
            submitted += count
            bench.asked += count

    began = time.monotonic()
    callers = asyncio.gather(*(caller() for _ in range(said.callers)))
    answered = 0.0
    while True:
        done = await bench.placed() - placed
        took = time.monotonic() - began
        if callers.done():
            answered = answered or took
            callers.result()
        if done >= said.jobs:
            break
        bench.show(f"{took:5.1f} s  submitted {submitted:,}  committed {done:,} of {said.jobs:,}")
        if took > said.most_s:
            raise SystemExit(f"\nnot done after {took:.0f} s")
        await asyncio.sleep(SAMPLE_S)
    found = {
        "nodes": said.nodes,
        "jobs": said.jobs,
        "callers": said.callers,
        "call": "SubmitJob" if said.per_call == 1 else f"SubmitJobs with {said.per_call} jobs",
        "placements_per_s": round(said.jobs / took),
        "seconds_submitted": round(answered or took, 2),
        "seconds_committed": round(took, 2),
    }
    found |= spent.told(bench.leader, said.jobs)
    after = await watch.metrics(bench.leader)
    found |= facts(bench, before, after, await watch.elections() - elections)
    found["state_hash_equal"] = await bench.hashes_equal()
    return found


AGAIN = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


async def retried(call: Callable[..., Any], request: Any, *, timeout_s: float = 30.0) -> None:
    """A peer that has too much to do says so, or that another leads now: the same call, with its request id, is made
    again, as clients do. An election shows in ``elections``."""
    while True:
        try:
            await call(request, timeout=timeout_s)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() not in AGAIN:
                raise
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def profiled(said: argparse.Namespace, cluster: Raftsman, part: str) -> AsyncIterator[None]:
    """With ``--profile DIR``: what every peer spends its time on, as py-spy's raw stacks (one file a peer and part)."""
    spies = []
    if said.profile is not None:
        said.profile.mkdir(parents=True, exist_ok=True)
        for member, process in cluster._running.items():
            argv = ["py-spy", "record", "--pid", str(process.pid), "--format", "raw", "--rate", "200", "--threads"]
            argv += ["--nonblocking", "--output", str(said.profile / f"{part}-{member}.txt"), "--duration", "3600"]
            spies.append(
                await asyncio.create_subprocess_exec(
                    *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
                )
            )
    try:
        yield
    finally:
        for spy in spies:
            spy.send_signal(signal.SIGINT)
            await spy.wait()


@contextlib.asynccontextmanager
async def running(said: argparse.Namespace, folder: Path) -> AsyncIterator[Bench]:
    """Peers, nodes that have all joined, and what measures them."""
    cluster = Raftsman(folder / "peers", members=said.peers)
    nodes = Nodes(cluster, said)
    watch: Watch | None = None
    bench: Bench | None = None
    try:
        await cluster.start()
        leader = await cluster.leader()
        watch = Watch(cluster)
        spent = Spent(cluster, nodes)
        async with profiled(said, cluster, "join"):
            await nodes.start()
            began = time.monotonic()
            await nodes.until(lambda: nodes.sum("listening") >= said.nodes, f"{said.nodes} nodes that listen", JOIN_S)
            took = time.monotonic() - began
        leader = await cluster.leader()
        bench = Bench(said, cluster, nodes, watch, leader)
        bench.joined = {
            "seconds": round(took, 1),
            "sessions": nodes.sum("sessions"),
            **spent.told(leader, said.nodes),
        }
        if not said.quiet:
            print(f"{said.nodes} nodes joined in {took:.1f} s: {bench.joined}", file=sys.stderr)
        yield bench
    finally:
        if not said.quiet:
            print(file=sys.stderr)
        if bench is not None:
            await bench.close()
        if watch is not None:
            watch.stop()
        await nodes.stop()
        await cluster.stop()


async def measure(said: argparse.Namespace) -> dict[str, Any]:
    end_on_sigterm()
    with kept("raftsman-scale-", said.data) as folder:
        async with running(said, folder) as bench:
            mode = steady if said.steady else single if said.single else backlog
            async with profiled(said, bench.cluster, mode.__name__):
                found = await mode(bench)
            return {**found, "join": bench.joined}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--nodes", type=int, default=5_000)
    made.add_argument("--tasks", type=int, default=1_000_000)
    made.add_argument("--peers", type=int, default=3, choices=(1, 3, 5))
    made.add_argument("--per-job", type=int, default=1_000, help="tasks in each job (default 1000)")
    made.add_argument("--steady", action="store_true")
    made.add_argument("--live", type=int, default=500_000, help="--steady: allocations that live before it begins")
    made.add_argument("--rate", type=float, default=100.0, help="--steady: jobs a second")
    made.add_argument("--seconds", type=float, default=20.0, help="--steady: for so long")
    made.add_argument("--settle-s", type=float, default=5.0, help="--steady: pause after filling")
    made.add_argument("--single", action="store_true")
    made.add_argument("--jobs", type=int, default=100_000, help="--single: jobs of one task")
    made.add_argument("--callers", type=int, default=64, help="--single: calls at a time")
    made.add_argument("--per-call", type=int, default=50, help="--single: jobs in a call; 1: SubmitJob")
    made.add_argument("--processes", type=int, default=2, help="that hold the nodes")
    made.add_argument("--nodes-per-connection", type=int, default=50)
    made.add_argument("--node-cpu", type=int, default=32_000, help="millis of each node (default: room for 213 tasks)")
    made.add_argument("--node-memory", type=int, default=131_072, help="MiB of each node")
    made.add_argument("--task-cpu", type=int, default=150)
    made.add_argument("--task-memory", type=int, default=256)
    made.add_argument("--most-s", type=float, default=280.0, help="give up after so many seconds of measuring")
    made.add_argument("--data", type=Path, help="an empty directory for the peers' data (default: a temporary one)")
    made.add_argument("--profile", type=Path, metavar="DIR", help="run py-spy (to be installed) on the peers meanwhile")
    made.add_argument("--quiet", action="store_true", help="no progress on stderr")
    made.add_argument("--json", action="store_true", help="one JSON object on stdout, last")
    return made


def main() -> None:
    said = parser().parse_args()
    load = os.getloadavg()
    found = {**asyncio.run(measure(said)), **machine(load)}
    if said.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        print(f"{key:24} {value}")


if __name__ == "__main__":
    main()
