#!/usr/bin/env python3
"""How many nodes the scheduler uses: against best-fit-decreasing and against a bound that nothing can beat.

Every input is placed at once by the product's solver (``Solver.place``), by an exact best-fit-decreasing (one by one,
all nodes looked at, by the score of ``binpack``), and bounded from below: per resource, the fewest nodes whose capacity
adds up to what is asked for, largest nodes first; the greatest of those. ``full_pct``: the share in use of the capacity
of the nodes used, of cpu or of memory, whichever is greater; 100 is as dense as it can get.

Synthetic inputs go to 5,000 nodes of 32, 64 and 96 cores with 4 GiB for each. Of the trace (``--nodes``, ``--pods``)
the pods without devices go to its nodes, all of them empty: devices are another matter, by another policy.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

import numpy as np
import numpy.typing as npt

from orchestrator.scheduling.backlog import Wishes, backlog_of
from orchestrator.scheduling.solve import Solver
from scripts.bench_scheduler import Size, asks_of, best_fit_decreasing, problem_of

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "openb"
"""Beside the checkout, where the project keeps the trace; elsewhere name the files."""
POLICY = "binpack"
Amounts = npt.NDArray[np.int64] | npt.NDArray[np.float64]
THIRDS = [(cores * 1000, cores * 4096) for cores in (32, 64, 96)]


def synthetic(tasks: int) -> Iterator[tuple[str, list[Size], list[Size]]]:
    """(name, sizes of tasks, sizes of nodes)."""
    draw = np.random.default_rng(1)
    nodes = [THIRDS[at % 3] for at in range(5000)]

    def pairs(cpu: Amounts, memory: Amounts) -> list[Size]:
        return list(zip(cpu.astype(np.int64).tolist(), memory.astype(np.int64).tolist(), strict=True))

    yield "uniform", pairs(draw.integers(100, 4000, tasks), draw.integers(128, 16_000, tasks)), nodes
    yield "small", pairs(draw.exponential(500, tasks) + 10, draw.exponential(2000, tasks) + 16), nodes
    lean = draw.random(tasks) < 0.5
    cpu = np.where(lean, draw.integers(2000, 4000, tasks), draw.integers(100, 500, tasks))
    memory = np.where(lean, draw.integers(128, 2000, tasks), draw.integers(8000, 16_000, tasks))
    yield "one-sided", pairs(cpu, memory), nodes
    few = tasks // 3
    yield "large", pairs(draw.integers(4000, 20_000, few), draw.integers(16_000, 80_000, few)), nodes
    sizes = draw.zipf(1.6, tasks).clip(1, 64)
    yield "heavy tail", pairs(sizes * 500, draw.zipf(1.6, tasks).clip(1, 64) * 2048), nodes


def trace(nodes: Path, pods: Path) -> tuple[str, list[Size], list[Size]]:
    with nodes.open() as file:
        machines = [(int(row["cpu_milli"]), int(row["memory_mib"])) for row in csv.DictReader(file)]
    with pods.open() as file:
        tasks = [
            (int(row["cpu_milli"]), int(row["memory_mib"])) for row in csv.DictReader(file) if row["num_gpu"] == "0"
        ]
    return f"trace {pods.stem.removeprefix('openb_pod_list_')}, pods without devices", tasks, machines


def fewest(tasks: list[Size], nodes: list[Size]) -> int:
    bound = 0
    for resource in range(2):
        largest = np.cumsum(sorted((node[resource] for node in nodes), reverse=True))
        bound = max(bound, int(np.searchsorted(largest, sum(task[resource] for task in tasks))) + 1)
    return bound


def measure(name: str, tasks: list[Size], nodes: list[Size]) -> dict[str, object]:
    problem = problem_of(nodes)
    start = problem.free.copy()
    asks = asks_of(tasks, POLICY)
    wishes = Wishes()
    found = Solver(problem, wishes).place(backlog_of(asks, wishes))
    opened = (problem.free != start).any(axis=1)
    used = int(opened.sum())
    share = (start - problem.free)[opened].sum(axis=0) / problem.capacity[opened].sum(axis=0)
    oracle, oracle_placed = best_fit_decreasing(start, problem.capacity, tasks)
    return {
        "input": name,
        "tasks": len(tasks),
        "nodes": len(nodes),
        "placed": len(found),
        "nodes_used": used,
        "best_fit_decreasing_placed": oracle_placed,
        "best_fit_decreasing": oracle,
        "lower_bound": fewest(tasks, nodes),
        "full_pct": round(100 * float(share[:2].max()), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--nodes", type=Path, default=DATA / "openb_node_list_gpu_node.csv")
    parser.add_argument("--pods", type=Path, action="append", help="may be repeated; the three of openb when unsaid")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    pods = arguments.pods or [DATA / f"openb_pod_list_{name}.csv" for name in ("default", "cpu200", "gpuspec20")]
    inputs = [*synthetic(arguments.tasks), *(trace(arguments.nodes, path) for path in pods if path.exists())]
    rows = []
    for name, tasks, nodes in inputs:
        rows.append(measure(name, tasks, nodes))
        if not arguments.json:
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if arguments.json:
        print(json.dumps({"policy": POLICY, "rows": rows}))


if __name__ == "__main__":
    main()
