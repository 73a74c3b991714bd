#!/usr/bin/env python3
"""Placements a second through the solver, committed: capacity is taken out of the problem and the result is columns.

Timed is the product's own interface, ``scheduling.solve.Solver``: ``place`` with everything in one backlog (``batch``;
the session is built within the timed part, as in every round of the leader), ``place`` with 100 at a time on one
session, its first sort included (``batch100``), ``take`` once for each instance on one session, with what it took
written to the problem at the end (``single``). The leader makes one session per round, as ``batch`` does; a session
that lives longer, as in the last two, is the bench's.

Not timed, and reported beside it in milliseconds: building the ``Problem`` (``problem_ms``), turning asks into backlogs
of interned wishes (``intern_ms``), and for ``single`` shelving the nodes, which the first call does (``session_ms``).
``placements_per_s`` and ``per_cpu_s`` are medians of ``--repeat`` runs: by the clock, and by this process's processor
time, which other work on the machine disturbs less; ``best_per_cpu_s`` is the best of the latter. ``oracle_nodes``:
nodes that best-fit-decreasing uses, one by one, each by ``binpack``'s score over all nodes.

Mixes: ``identical`` (1 core, 4 GiB), ``classes20`` (20 sizes in turn), ``distinct`` (all different: 0.1 to 4 cores,
128 MiB to 15.6 GiB, evenly) on nodes of 32, 64 and 96 cores with 4 GiB for each; ``forge40`` (the predecessor's: cpu
100 + i % 10 * 100, memory 256 + i % 8 * 256, on nodes of 8,000 m and 32,768 MB of which node i has (300 i) % 3000 and
(1500 i) % 15000 in use; when little room is left the cluster goes back to that state and the session starts anew, the
former untimed).
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import GroupSpec, JobSpec, NodeId, NodeSpec, NodeStatus, Resources, TaskSpec
from orchestrator.reconcile.work import Ask
from orchestrator.scheduling import registry
from orchestrator.scheduling.backlog import Backlog, Wishes, backlog_of
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import Solver
from orchestrator.state import views
from orchestrator.state.model import Job, Node
from orchestrator.state.state import new_state

Size = tuple[int, int]
Room = npt.NDArray[np.int64]
BATCH = 100


def sizes_of(mix: str, tasks: int) -> list[Size]:
    """(cpu millis, memory MiB) of each task."""
    if mix == "identical":
        return [(1000, 4096)] * tasks
    if mix == "classes20":
        return [(100 + 200 * (at % 20), 256 + 768 * (at * 7 % 20)) for at in range(tasks)]
    if mix == "forge40":
        return [(100 + at % 10 * 100, 256 + at % 8 * 256) for at in range(tasks)]
    draw = np.random.default_rng(1)
    cpu, memory = draw.integers(100, 4000, tasks).tolist(), draw.integers(128, 16_000, tasks).tolist()
    return list(zip(cpu, memory, strict=True))


def node(at: int, cpu_millis: int, memory_mib: int) -> Node:
    capacity = Resources(cpu_millis=cpu_millis, memory_mib=memory_mib, disk_mib=1_000_000)
    spec = NodeSpec(id=f"node-{at}", name=f"node-{at}", drivers=("process",), capacity=capacity)
    return Node(
        slot=at,
        spec=spec,
        identity="bench",
        register_index=1,
        modify_index=1,
        status=NodeStatus.READY,
        status_time_ms=0,
    )


def nodes_of(mix: str, nodes: int) -> list[Size]:
    if mix == "forge40":
        return [(8_000, 32_768)] * nodes
    return [(cores * 1000, cores * 4096) for cores in ((32, 64, 96)[at % 3] for at in range(nodes))]


def problem_of(sizes: list[Size]) -> Problem:
    machines = [node(at, cpu_millis, memory_mib) for at, (cpu_millis, memory_mib) in enumerate(sizes)]
    view = replace(
        views.cluster_view(new_state()),
        nodes={NodeId(machine.spec.id): machine for machine in machines},
        nodes_by_slot=dict(enumerate(machines)),
    )
    return Problem(view)


def asks_of(sizes: list[Size], policy: str) -> list[Ask]:
    """One job of one task for each size, as ``reconcile`` hands them on."""
    ordinals, none = np.zeros(1, dtype=np.int32), np.zeros(0, dtype=np.int32)
    asks = []
    for at, (cpu, memory) in enumerate(sizes):
        task = TaskSpec(name="t", command=("true",), resources=Resources(cpu_millis=cpu, memory_mib=memory))
        spec = JobSpec(name=f"job-{at}", groups=(GroupSpec(name="main", count=1, tasks=(task,)),), placement=policy)
        job = Job(
            slot=at,
            uid=f"uid-{at}",
            spec=spec,
            version=1,
            group_versions=(1,),
            specs=((1, spec),),
            submit_index=at,
            create_index=at,
            modify_index=at,
            create_time_ms=0,
            modify_time_ms=0,
        )
        asks.append(Ask(job=job, group=0, ordinals=ordinals, attempts=ordinals + 1, peers=none))
    return asks


@dataclass
class Bench:
    """One mix on one cluster, with the problem's room at the start, to which every run returns."""

    mix: str
    nodes: int
    asks: list[Ask]
    problem: Problem
    start: Room
    problem_ms: float

    def backlogs(self, size: int) -> tuple[Wishes, list[Backlog], float]:
        """The asks in backlogs of ``size``, and how long that took."""
        began = time.perf_counter()
        wishes = Wishes()
        cut = [backlog_of(self.asks[at : at + size], wishes) for at in range(0, len(self.asks), size)]
        return wishes, cut, 1000 * (time.perf_counter() - began)

    def reset(self) -> None:
        self.problem.free[:] = self.start

    def nodes_used(self) -> int:
        return int((self.problem.free != self.start).any(axis=1).sum())


@dataclass
class Run:
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    session_ms: float = 0.0
    placed: int = 0
    untimed: int = 0  # of them, those of the first call of a session
    nodes_used: int = 0

    @property
    def timed(self) -> int:
        return self.placed - self.untimed


class Stopwatch:
    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> None:
        self._cpu, self._clock = time.process_time(), time.perf_counter()

    def __exit__(self, *problem: object) -> None:
        self._run.seconds += time.perf_counter() - self._clock
        self._run.cpu_seconds += time.process_time() - self._cpu


def run_batch(bench: Bench, wishes: Wishes, backlogs: list[Backlog]) -> Run:
    run = Run()
    bench.reset()
    with Stopwatch(run):
        found = Solver(bench.problem, wishes).place(backlogs[0])
    run.placed, run.nodes_used = len(found), bench.nodes_used()
    return run


def run_batches(bench: Bench, wishes: Wishes, backlogs: list[Backlog]) -> Run:
    run = Run()
    bench.reset()
    solver = Solver(bench.problem, wishes)
    for backlog in backlogs:
        room = bench.problem.free.sum(axis=0)
        asked = wishes.columns().requests[backlog.wish].sum(axis=0)
        if (room < bench.start.sum(axis=0) * 0.05 + asked).any():
            bench.reset()
            solver = Solver(bench.problem, wishes)
        with Stopwatch(run):
            found = solver.place(backlog)
        run.placed += len(found)
    run.nodes_used = bench.nodes_used()
    return run


def run_singles(bench: Bench, wishes: Wishes, backlogs: list[Backlog]) -> Run:
    run = Run()
    bench.reset()
    solver = Solver(bench.problem, wishes)
    numbers = backlogs[0].wish.tolist()
    began = time.perf_counter()
    first = solver.take(numbers[0])
    run.session_ms = 1000 * (time.perf_counter() - began)
    with Stopwatch(run):
        nodes = [solver.take(number) for number in numbers[1:]]
        solver.settle()
    run.untimed = int(first != -1)
    run.placed, run.nodes_used = run.untimed + len(nodes) - nodes.count(-1), bench.nodes_used()
    return run


MODES: dict[str, tuple[Callable[[Bench, Wishes, list[Backlog]], Run], int]] = {
    "batch": (run_batch, 0),
    "batch100": (run_batches, BATCH),
    "single": (run_singles, 0),
}


def best_fit_decreasing(start: Room, capacity: Room, sizes: list[Size]) -> tuple[int, int]:
    """Nodes used by the oracle, and tasks placed: big first, each to the node that is fullest afterwards, all nodes
    looked at. ``start``: what is free, int64 (nodes, 3)."""
    capacity, free = capacity[:, :2], start[:, :2].copy()
    requests = np.array(sizes, dtype=np.int64)
    shares = requests / capacity.sum(axis=0)
    placed = 0
    for request in requests[np.argsort(-shares.sum(axis=1), kind="stable")]:
        fits = np.flatnonzero((free >= request).all(axis=1))
        if len(fits):
            full = (capacity[fits] - free[fits] + request) * 1_000_000 // capacity[fits]
            free[fits[np.argmax(full.sum(axis=1) // 2)]] -= request
            placed += 1
    return int((free != start[:, :2]).any(axis=1).sum()), placed


CASES = (
    ("identical", (100, 1000, 5000), ("batch", "single")),
    ("classes20", (100, 1000, 5000), ("batch",)),
    ("distinct", (100, 1000, 5000), ("batch", "batch100", "single")),
    ("forge40", (100, 500, 1000, 5000), ("batch100",)),
)


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    for mix, clusters, modes in CASES:
        for nodes in clusters:
            if (arguments.mix and mix not in arguments.mix) or (arguments.nodes and nodes not in arguments.nodes):
                continue
            began = time.perf_counter()
            problem = problem_of(nodes_of(mix, nodes))
            problem_ms = 1000 * (time.perf_counter() - began)
            if mix == "forge40":
                at = np.arange(nodes)
                problem.free[:, 0] -= 300 * at % 3000
                problem.free[:, 1] -= 1500 * at % 15_000
            sizes = sizes_of(mix, arguments.tasks)
            asks = asks_of(sizes, arguments.policy)
            bench = Bench(mix, nodes, asks, problem, problem.free.copy(), problem_ms)
            oracle = None
            if mix != "forge40" and arguments.oracle:
                oracle, _ = best_fit_decreasing(bench.start, problem.capacity, sizes)
            for mode in modes:
                if not arguments.mode or mode in arguments.mode:
                    yield row(bench, mode, arguments, oracle)


def row(bench: Bench, mode: str, arguments: argparse.Namespace, oracle: int | None) -> dict[str, object]:
    once, size = MODES[mode]
    wishes, backlogs, intern_ms = bench.backlogs(size or len(bench.asks))
    once(bench, wishes, backlogs)
    runs = []
    gc.disable()
    for _ in range(arguments.repeat):
        runs.append(once(bench, wishes, backlogs))
        gc.collect()
    gc.enable()
    last = runs[-1]
    return {
        "mix": bench.mix,
        "nodes": bench.nodes,
        "tasks": len(bench.asks),
        "mode": mode,
        "policy": arguments.policy,
        "placements_per_s": round(statistics.median(run.timed / run.seconds for run in runs)),
        "per_cpu_s": round(statistics.median(run.timed / run.cpu_seconds for run in runs)),
        "best_per_cpu_s": round(max(run.timed / run.cpu_seconds for run in runs)),
        "placed": last.placed,
        "nodes_used": last.nodes_used,
        "oracle_nodes": oracle,
        "problem_ms": round(bench.problem_ms, 2),
        "intern_ms": round(intern_ms, 2),
        "session_ms": round(last.session_ms, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", choices=registry.names(), default=registry.DEFAULT)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--mix", action="append", choices=[case[0] for case in CASES])
    parser.add_argument("--nodes", action="append", type=int)
    parser.add_argument("--mode", action="append", choices=list(MODES))
    parser.add_argument(
        "--no-oracle", dest="oracle", action="store_false", help="leave out oracle_nodes, which is slow"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for result in measure(arguments):
        rows.append(result)
        if not arguments.json:
            print("  ".join(f"{key} {value}" for key, value in result.items()), flush=True)
    if arguments.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
