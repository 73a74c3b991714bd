#!/usr/bin/env python3
"""How often jobs of 2 and 4 GPUs miss their best link on a busy cluster, with arrivals and departures.

Jobs of 1, 2, 4 and 8 GPUs, and shares of one, arrive and leave at random (seeded) so that on average ``--load`` of all
GPUs are taken. Every one is placed by the product's own ``solve`` on one problem, which lives on: what leaves gives its
devices back. A job that finds no room is turned away and counted. A job is *off its best link* when its devices'
links cost more than those of the best set of as many devices of the same node, were it empty; on mixed nodes
``slower_nodes`` says how many sat on a node that cannot link that many as well as the best node of the cluster can.

``--policy`` against ``count-only``: binpack, which takes any free devices, lowest numbers first, as schedulers do that
count GPUs. Prints a table, or one JSON object with ``--json``.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

import numpy as np

from orchestrator.contract.model import (
    Device,
    DeviceRequest,
    GroupSpec,
    JobSpec,
    JobUid,
    NodeId,
    NodeSpec,
    NodeStatus,
    Resources,
    TaskSpec,
)
from orchestrator.reconcile.work import Ask
from orchestrator.scheduling import registry
from orchestrator.scheduling.device_sets import DeviceSet, best_set, link_cost
from orchestrator.scheduling.devices import Devices
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import solve
from orchestrator.state import views
from orchestrator.state.model import Job, Node
from orchestrator.state.state import new_state

COUNT_ONLY = "count-only"
NODES = 64
MIX = ((1, 1000, 0.40), (1, 500, 0.15), (2, 1000, 0.22), (4, 1000, 0.18), (8, 1000, 0.05))
"""(devices, millis of each, share of the jobs)."""


# ---------------------------------------------------------------------------- machines


def dgx() -> tuple[Device, ...]:
    """Eight on one NVSwitch."""
    return _devices(island=8, switch=2, socket=4)


def halves() -> tuple[Device, ...]:
    """Two NVLink islands of four, as in a cube mesh."""
    return _devices(island=4, switch=2, socket=4)


def bridges() -> tuple[Device, ...]:
    """NVLink bridges between pairs, two pairs below each CPU."""
    return _devices(island=2, switch=2, socket=4)


def pcie() -> tuple[Device, ...]:
    """No NVLink: pairs below PCIe switches, two switches below each CPU."""
    return _devices(island=1, switch=2, socket=4)


def _devices(*, island: int, switch: int, socket: int) -> tuple[Device, ...]:
    return tuple(
        Device(
            id=str(at), model="GPU", memory_mib=80_000, island=at // island, numa=at // socket, pcie=at // switch + 1
        )
        for at in range(8)
    )


CLUSTERS = {"dgx": (dgx,), "halves": (halves,), "bridges": (bridges,), "pcie": (pcie,), "mixed": (dgx, halves, pcie)}


# ---------------------------------------------------------------------------- the experiment


class CountOnly(Devices):
    """Takes whatever is free, lowest numbers first."""

    def best(self, node: int, request: DeviceRequest) -> DeviceSet | None:
        usable = np.flatnonzero(self.usable(request, np.array([node], dtype=np.int64))[0]).tolist()
        if len(usable) < request.count:
            return None
        numbers = tuple(usable[: request.count])
        return DeviceSet(numbers=numbers, cost=link_cost(self.inventory(node), numbers), rest=0, loss=0)


@dataclass
class Count:
    """Of jobs of one size, after the cluster has filled up."""

    placed: int = 0
    off: int = 0
    slower: int = 0
    refused: int = 0


@dataclass
class Result:
    counts: dict[int, Count] = field(default_factory=dict)
    taken: list[float] = field(default_factory=list)
    seconds: float = 0.0
    decisions: int = 0


def problem_of(kinds: tuple[Callable[[], tuple[Device, ...]], ...], count_only: bool) -> Problem:
    nodes = {}
    for at in range(NODES):
        inventory = kinds[at % len(kinds)]()
        spec = NodeSpec(
            id=f"n{at}",
            name=f"n{at}",
            drivers=("process",),
            capacity=Resources(cpu_millis=96_000, memory_mib=1_000_000, disk_mib=1_000_000),
            devices=inventory,
        )
        nodes[at] = Node(
            slot=at,
            spec=spec,
            status=NodeStatus.READY,
            identity="x",
            register_index=1,
            modify_index=1,
            status_time_ms=0,
        )
    view = replace(
        views.cluster_view(new_state()),
        nodes={NodeId(node.spec.id): node for node in nodes.values()},
        nodes_by_slot=nodes,
    )
    problem = Problem(view)
    if count_only:
        problem.devices = CountOnly([node.spec.devices for node in problem.nodes])
    return problem


def ask_of(number: int, count: int, millis: int, policy: str) -> Ask:
    gpus = DeviceRequest(count=count, gpu_millis=millis)
    resources = Resources(cpu_millis=4_000 * count * millis // 1000, memory_mib=20_000 * count, gpus=gpus)
    task = TaskSpec(name="t", command=("true",), resources=resources)
    spec = JobSpec(name=f"j{number}", groups=(GroupSpec(name="main", tasks=(task,)),), placement=policy)
    job = Job(
        slot=number,
        uid=JobUid(f"u{number}"),
        spec=spec,
        version=1,
        group_versions=(1,),
        specs=((1, spec),),
        submit_index=1,
        create_index=1,
        modify_index=1,
        create_time_ms=0,
        modify_time_ms=0,
    )
    one = np.zeros(1, dtype=np.int32)
    return Ask(job=job, group=0, ordinals=one, attempts=one + 1, peers=np.zeros(0, dtype=np.int32))


def arrivals(rng: random.Random, load: float, jobs: int) -> Iterator[tuple[float, float, int, int]]:
    """(time, duration, devices, millis): Poisson, exponential durations with mean 1."""
    mean = sum(count * millis / 1000 * share for count, millis, share in MIX)
    rate = load * NODES * 8 / mean
    now = 0.0
    sizes = [(count, millis) for count, millis, _ in MIX]
    for _ in range(jobs):
        now += rng.expovariate(rate)
        count, millis = rng.choices(sizes, [share for _, _, share in MIX])[0]
        yield now, rng.expovariate(1.0), count, millis


def run(cluster: str, policy: str, load: float, jobs: int, seed: int) -> Result:
    count_only = policy == COUNT_ONLY
    problem = problem_of(CLUSTERS[cluster], count_only)
    ideal = {count: [ideal_cost(node.spec.devices, count) for node in problem.nodes] for count in (2, 4, 8)}
    rng = random.Random(seed)
    leaving: list[tuple[float, int, int, tuple[int, ...], int, tuple[int, int, int]]] = []
    result = Result()
    held = 0
    for number, (now, duration, count, millis) in enumerate(arrivals(rng, load, jobs)):
        while leaving and leaving[0][0] <= now:
            _, _, node, numbers, share, amounts = heapq.heappop(leaving)
            problem.free[node] += amounts
            problem.devices.take(node, numbers, -share)
            held -= len(numbers) * share
        ask = ask_of(number, count, millis, "binpack" if count_only else policy)
        started = time.perf_counter()
        found = solve(problem, [ask])
        result.seconds += time.perf_counter() - started
        result.decisions += 1
        steady = number >= jobs // 4
        said = result.counts.setdefault(count, Count())
        if steady:
            result.taken.append(held / (NODES * 8 * 1000))
        if not len(found):
            said.refused += steady
            continue
        node, mask = found.node[0], found.device_mask[0]
        numbers = tuple(at for at in range(8) if mask >> at & 1)
        need = ask.job.spec.groups[0].resources
        amounts = (need.cpu_millis, need.memory_mib, need.disk_mib)
        heapq.heappush(leaving, (now + duration, number, node, numbers, millis, amounts))
        held += len(numbers) * millis
        if steady:
            said.placed += 1
            if count > 1:
                cost = link_cost(problem.nodes[node].spec.devices, numbers)
                said.off += cost > ideal[count][node]
                said.slower += ideal[count][node] > min(ideal[count])
    return result


def ideal_cost(inventory: tuple[Device, ...], count: int) -> int:
    best = best_set(inventory, [1000] * len(inventory), list(range(len(inventory))), DeviceRequest(count=count))
    return best.cost if best is not None else 0


def row_of(cluster: str, policy: str, results: list[Result]) -> dict[str, object]:
    def total(count: int, what: str) -> int:
        return sum(getattr(result.counts.get(count, Count()), what) for result in results)

    pairs_and_fours = sum(total(count, "placed") for count in (2, 4))
    seconds = sum(result.seconds for result in results)
    return {
        "cluster": cluster,
        "policy": policy,
        "off_best_link_pct": _pct(sum(total(count, "off") for count in (2, 4)), pairs_and_fours),
        "off_best_link_2_pct": _pct(total(2, "off"), total(2, "placed")),
        "off_best_link_4_pct": _pct(total(4, "off"), total(4, "placed")),
        "slower_nodes_pct": _pct(sum(total(count, "slower") for count in (2, 4)), pairs_and_fours),
        "refused_pct": _pct(
            sum(total(count, "refused") for count, _, _ in dict.fromkeys(MIX)),
            sum(total(count, "refused") + total(count, "placed") for count, _, _ in dict.fromkeys(MIX)),
        ),
        "refused_8_pct": _pct(total(8, "refused"), total(8, "refused") + total(8, "placed")),
        "gpus_taken_pct": round(100 * float(np.mean([share for result in results for share in result.taken])), 2),
        "placed_2_and_4": pairs_and_fours,
        "decisions_per_s": round(sum(result.decisions for result in results) / seconds),
    }


def _pct(part: int, whole: int) -> float:
    return round(100 * part / whole, 3) if whole else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clusters", nargs="+", choices=tuple(CLUSTERS), default=list(CLUSTERS))
    parser.add_argument(
        "--policies",
        nargs="+",
        choices=(*registry.names(), COUNT_ONLY),
        default=["gpu-locality", "binpack", COUNT_ONLY],
    )
    parser.add_argument("--load", type=float, default=0.88, help="Offered share of all GPUs.")
    parser.add_argument("--jobs", type=int, default=12_000, help="Arrivals per run; the first quarter is not counted.")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for cluster in arguments.clusters:
        for policy in arguments.policies:
            results = [run(cluster, policy, arguments.load, arguments.jobs, seed) for seed in range(arguments.seeds)]
            rows.append(row_of(cluster, policy, results))
            if not arguments.json:
                print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if arguments.json:
        settings = {"nodes": NODES, "load": arguments.load, "jobs": arguments.jobs, "seeds": arguments.seeds}
        print(json.dumps({**settings, "rows": rows}))


if __name__ == "__main__":
    main()
