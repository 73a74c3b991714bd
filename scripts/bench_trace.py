#!/usr/bin/env python3
"""How much of the GPUs each placement gives away, on a trace: the experiment of "Beware of Fragmentation".

The trace's pods in random order, then pods drawn from it with replacement until the GPUs asked for are ``--arrived``
times those that there are. Each is placed at once or never; nothing ends.

With ``--departures`` pods drawn likewise arrive at random times within ``--hours`` and run as long as they did in the
trace. So many arrive that they would keep all GPUs busy on average if none had to wait (100 % offered load; work beyond
the window does not count). They wait in one queue, first come first served with backfill: whenever something ends, all
who wait are tried, the longest waiting first; one that does not fit holds up nobody and has nothing kept free for it.
GPU-hours are those delivered within the window; it goes on until all have started, so that every wait is known.

``--mix`` makes another trace of the given one, to judge a placement by what its constants were not fitted to:
``--mix cpu=2,share=0.5`` has twice as many pods without a GPU and half as many that share one (``one``: a whole GPU;
``several``; ``model``: those that name models, whichever of these they are).

The scheduler is the product's own (``scheduling.sequence``). Progress goes to stderr, a table to stdout; with
``--json`` the last line is one JSON object, for several policies with one object each in ``rows``.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import sys
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

import numpy as np

from orchestrator.contract.model import WHOLE_DEVICE
from orchestrator.ops.plot import curves
from orchestrator.ops.trace import TraceNode, TracePod, read_nodes, read_pods
from orchestrator.ops.trace_cluster import shape_of_pod, shapes_of, view_of, wish_of_pod
from orchestrator.scheduling import registry
from orchestrator.scheduling.fragments import Fragments
from orchestrator.scheduling.policies.bestfit import BestFit
from orchestrator.scheduling.policies.fgd import Fgd
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.sequence import Placed, Sequence
from orchestrator.scheduling.typical import typical_classes
from orchestrator.scheduling.wish import Wish
from orchestrator.state.typical import Typical
from orchestrator.state.views import ClusterView

LOOK_AGAIN = 200
"""With ``--typical online``: arrivals between two looks at what is typical by now; a leader looks in every round."""
HOUR_S = 3600
KINDS = ("cpu", "share", "one", "several", "model")


@dataclass
class Trace:
    nodes: tuple[TraceNode, ...]
    pods: tuple[TracePod, ...]
    view: ClusterView
    millis: int  # of all GPUs


def mixed(pods: Several[TracePod], factors: Mapping[str, float]) -> tuple[TracePod, ...]:
    """So many times as many pods of each kind, evenly from all of the kind; where they name models, times that too."""
    made: list[TracePod] = []
    owed: defaultdict[tuple[str, bool], float] = defaultdict(float)
    for pod in pods:
        kind = kind_of(pod), bool(pod.models)
        owed[kind] += factors.get(kind[0], 1.0) * (factors.get("model", 1.0) if kind[1] else 1.0)
        copies = int(owed[kind] + 1e-9)
        owed[kind] -= copies
        made += [pod] * copies
    return tuple(made)


def kind_of(pod: TracePod) -> str:
    if pod.gpus == 0:
        return "cpu"
    if pod.gpus > 1:
        return "several"
    return "share" if pod.gpu_millis < WHOLE_DEVICE else "one"


class Cluster:
    """The nodes, empty at first, and one policy; counts the time that its decisions take."""

    def __init__(self, trace: Trace, policy: str, typical: str) -> None:
        self.sequence = Sequence(Problem(trace.view))
        self._policy = policy
        self._online = Typical() if typical == "online" else None
        self._by_model = policy == Fgd.name  # as in the paper
        self._classes = typical_classes(shapes_of(trace.pods), prior=False, by_model=self._by_model)
        self._wishes: dict[Wish, Wish] = {}
        self._seen = 0
        self.decisions, self.seconds = 0, 0.0
        self._judge()

    def arrive(self, pod: TracePod) -> Wish:
        """What a pod wishes; it is one more that is known of."""
        if self._online is not None:
            self._online.add(shape_of_pod(pod), 1)
            self._seen += 1
            if self._seen % LOOK_AGAIN == 0:
                self.sequence.forget()
                self._judge()
        wish = wish_of_pod(pod, self._policy)
        return self._wishes.setdefault(wish, wish)

    def place(self, wish: Wish) -> Placed | None:
        start = time.perf_counter()
        placed = self.sequence.place(wish)
        self.seconds += time.perf_counter() - start
        self.decisions += 1
        return placed

    def _judge(self) -> None:
        classes = self._classes
        if self._online is not None:
            classes = typical_classes(self._online.shown(), by_model=self._by_model)
        Fragments.install(self.sequence.problem, classes)


# ---------------------------------------------------------------------------- arrivals only


@dataclass
class Run:
    """curve: (GPUs arrived, GPUs allocated), both in percent of all."""

    decisions: int
    seconds: float
    curve: list[tuple[float, float]] = field(default_factory=list)

    def at(self, arrived: float) -> float:
        """Allocated, in percent, when so many percent had arrived."""
        return next((value for at, value in self.curve if at >= arrived), self.curve[-1][1])


def fill(trace: Trace, policy: str, seed: int, arrived: float, typical: str) -> Run:
    draw = random.Random(seed)
    pods = list(trace.pods)
    draw.shuffle(pods)
    cluster = Cluster(trace, policy, typical)
    asked = given = at = 0
    curve: list[tuple[float, float]] = []
    while asked < arrived * trace.millis:
        pod = pods[at] if at < len(pods) else trace.pods[draw.randrange(len(trace.pods))]
        at += 1
        if cluster.place(cluster.arrive(pod)) is not None:
            given += pod.gpu_demand_millis
        asked += pod.gpu_demand_millis
        curve.append((100 * asked / trace.millis, 100 * given / trace.millis))
    return Run(cluster.decisions, cluster.seconds, curve)


def report_fill(policy: str, runs: Several[Run], arrived: float) -> dict[str, Any]:
    def figure(percent: float) -> dict[str, float]:
        values = [run.at(percent) for run in runs]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        return {"mean": round(statistics.mean(values), 3), "std": round(deviation, 3)}

    row: dict[str, Any] = {"policy": policy}
    for percent in sorted({100, round(100 * arrived)}):
        if percent <= round(100 * arrived):
            row[f"gpu_alloc_pct_at_{percent}"] = figure(percent)
    row["decisions_per_s"] = round(sum(run.decisions for run in runs) / sum(run.seconds for run in runs))
    return row | {"seeds": len(runs)}


# ---------------------------------------------------------------------------- arrivals and departures


@dataclass
class Stay:
    """gpu_hours: delivered within the window; capacity_hours: what all GPUs can deliver in it; waits_s: of every pod,
    from arriving to starting, be it after the window; refused: fit nowhere, even in an empty cluster."""

    decisions: int
    seconds: float
    gpu_hours: float
    capacity_hours: float
    arrived: int
    waits_s: list[float]
    refused: int


def arrivals_for(trace: Trace, window_s: float) -> int:
    """How many pods must arrive, evenly over the window, so that they would keep all GPUs busy on average if none ever
    had to wait. Of a pod's work counts what lies in the window: a few pods of the trace ran for months."""
    usable = 0.0
    for pod in trace.pods:
        inside = min(pod.duration_s or 0, window_s)
        # The mean of min(duration, what is left of the window) over all times to arrive.
        usable += pod.gpu_demand_millis * (inside - inside * inside / (2 * window_s))
    return max(1, round(trace.millis * window_s * len(trace.pods) / usable))


def stay(trace: Trace, policy: str, seed: int, hours: float, typical: str) -> Stay:
    window_s = hours * HOUR_S
    draw = random.Random(seed)
    pods = list(trace.pods)
    draw.shuffle(pods)
    wanted = arrivals_for(trace, window_s)
    pods += [trace.pods[draw.randrange(len(trace.pods))] for _ in range(wanted - len(pods))]
    del pods[wanted:]
    arrivals = sorted(draw.uniform(0, window_s) for _ in pods)
    cluster, empty = Cluster(trace, policy, typical), Sequence(Problem(trace.view))
    queue = Queue(cluster)
    ends: list[tuple[float, int, Placed]] = []
    used_millis_s, refused = 0.0, 0
    waits: list[float] = []
    possible: dict[int, bool] = {}

    def started(index: int, now: float, placed: Placed) -> None:
        nonlocal used_millis_s
        pod = pods[index]
        end = now + (pod.duration_s or 0)
        heapq.heappush(ends, (end, index, placed))
        waits.append(now - arrivals[index])
        used_millis_s += pod.gpu_demand_millis * max(min(end, window_s) - min(now, window_s), 0.0)

    at = 0
    while at < len(pods) or len(queue):
        if at < len(pods) and (not ends or arrivals[at] < ends[0][0]):
            wish = cluster.arrive(pods[at])
            if id(wish) not in possible:
                found = empty.place(wish)
                possible[id(wish)] = found is not None
                if found is not None:
                    empty.release(found)
            if not possible[id(wish)]:
                refused += 1
            elif (placed := queue.arrive(at, wish)) is not None:
                started(at, arrivals[at], placed)
            at += 1
            continue
        now = ends[0][0]
        freed: set[int] = set()
        while ends and ends[0][0] == now:
            ended = heapq.heappop(ends)[2]
            cluster.sequence.release(ended)
            freed.add(ended.node)
        for index, placed in queue.freed(freed):
            started(index, now, placed)
    millis_hours = 1000 * HOUR_S
    return Stay(
        decisions=cluster.decisions,
        seconds=cluster.seconds,
        gpu_hours=used_millis_s / millis_hours,
        capacity_hours=trace.millis * window_s / millis_hours,
        arrived=len(pods),
        waits_s=waits,
        refused=refused,
    )


class Queue:
    """Who waits, by wish, first come first. What waits fits nowhere; so once something ends, only the nodes where it
    did need be looked at."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._wishes: dict[int, Wish] = {}
        self._waiting: dict[int, deque[int]] = {}  # by the identity of the wish, as it first waited
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def arrive(self, index: int, wish: Wish) -> Placed | None:
        waiting = self._waiting.get(id(wish))
        placed = None if waiting else self._cluster.place(wish)
        if placed is None:
            self._wishes[id(wish)] = wish
            self._waiting.setdefault(id(wish), deque()).append(index)
            self._length += 1
        return placed

    def freed(self, nodes: set[int]) -> list[tuple[int, Placed]]:
        found: list[tuple[int, Placed]] = []
        heads = [(waiting[0], key) for key, waiting in self._waiting.items() if waiting]
        heapq.heapify(heads)
        room = [self._room(node) for node in nodes]
        while heads:
            index, key = heads[0]
            wish = self._wishes[key]
            placed = self._cluster.place(wish) if any(_may_fit(wish, *there) for there in room) else None
            if placed is None:
                heapq.heappop(heads)
                continue
            found.append((index, placed))
            room = [self._room(node) for node in nodes]
            waiting = self._waiting[key]
            waiting.popleft()
            self._length -= 1
            if waiting:
                heapq.heapreplace(heads, (waiting[0], key))
            else:
                heapq.heappop(heads)
        return found

    def _room(self, node: int) -> tuple[list[int], list[int]]:
        problem = self._cluster.sequence.problem
        return problem.free[node].tolist(), problem.devices.free[node].tolist()


def _may_fit(wish: Wish, free: list[int], devices: list[int]) -> bool:
    """Whether there is room, if the devices suit: a quick no saves the scheduler thousands of hopeless questions."""
    if any(there < wanted for there, wanted in zip(free, wish.request, strict=True)):
        return False
    return wish.gpus is None or sum(1 for left in devices if left >= wish.gpus.gpu_millis) >= wish.gpus.count


def report_stay(policy: str, runs: Several[Stay]) -> dict[str, Any]:
    waits = [wait for run in runs for wait in run.waits_s]
    return {
        "policy": policy,
        "gpu_hours_delivered": round(statistics.mean(run.gpu_hours for run in runs), 1),
        "gpu_hours_pct_of_capacity": round(
            statistics.mean(100 * run.gpu_hours / run.capacity_hours for run in runs), 3
        ),
        "wait_p50_s": round(float(np.percentile(waits, 50)), 1) if waits else 0.0,
        "wait_p99_s": round(float(np.percentile(waits, 99)), 1) if waits else 0.0,
        "wait_mean_s": round(statistics.mean(waits), 1) if waits else 0.0,
        "arrived": runs[0].arrived,
        "refused": sum(run.refused for run in runs) // len(runs),
        "decisions_per_s": round(sum(run.decisions for run in runs) / max(sum(run.seconds for run in runs), 1e-9)),
        "seeds": len(runs),
    }


# ---------------------------------------------------------------------------- the program


def main(arguments: Several[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    for policy in (BestFit(), Fgd()):
        if policy.name not in registry.names():
            registry.add([policy])
    policies = [name for names in options.policy or ["fragmentation"] for name in names.split(",")]
    unknown = [name for name in policies if name not in registry.names()]
    if unknown:
        return _fail(f"no such policy: {', '.join(unknown)} (there are: {', '.join(registry.names())})")
    if options.plot is not None and options.departures:
        return _fail("--plot draws what is allocated as pods arrive: not with --departures")
    if options.plot is not None and options.plot.suffix != ".svg":
        return _fail(f"--plot {options.plot}: draws SVG, so its name must end in .svg")
    if options.plot is not None and not options.plot.parent.is_dir():
        return _fail(f"--plot {options.plot}: there is no directory {options.plot.parent}")
    try:
        nodes, pods = read_nodes(options.nodes), mixed(read_pods(options.pods), options.mix)
        trace = Trace(nodes, pods, view_of(nodes), 1000 * sum(node.gpus for node in nodes))
    except (OSError, ValueError) as error:  # TraceError is one; so is what the state says of a node
        return _fail(str(error))
    if not trace.millis or not any(pod.gpus for pod in pods):
        return _fail("the trace has no GPUs, or no pod asks for one: there is nothing to measure")
    if options.departures and not any(pod.duration_s and pod.gpus for pod in pods):
        return _fail(f"{options.pods}: no GPU pod has a duration (creation_time, deletion_time, scheduled_time)")
    rows: list[dict[str, Any]] = []
    drawn: dict[str, list[tuple[float, float]]] = {}
    for policy_name in policies:
        if options.departures:
            stays = [
                _said(policy_name, seed, stay, trace, options.hours, options.typical) for seed in range(options.seeds)
            ]
            rows.append(report_stay(policy_name, stays))
        else:
            runs = [
                _said(policy_name, seed, fill, trace, options.arrived, options.typical) for seed in range(options.seeds)
            ]
            rows.append(report_fill(policy_name, runs, options.arrived))
            drawn[policy_name] = runs[0].curve[:: max(1, len(runs[0].curve) // 400)] + runs[0].curve[-1:]
        print("  ".join(f"{key} {_short(value)}" for key, value in rows[-1].items()), flush=True)
    if options.plot is not None:
        title = f"{options.pods.name}: GPUs allocated against GPUs that arrived"
        options.plot.write_text(curves(title, "GPUs that arrived, %", "GPUs allocated, %", drawn), encoding="utf-8")
    if options.json:
        print(json.dumps(rows[0] if len(rows) == 1 else {"rows": rows}))
    return 0


def _said(policy: str, seed: int, run: Any, trace: Trace, *more: Any) -> Any:
    result = run(trace, policy, *((seed, *more)))
    print(f"{policy}: seed {seed}", file=sys.stderr, flush=True)
    return result


def _short(value: Any) -> str:
    return f"{value['mean']} (std {value['std']})" if isinstance(value, dict) else str(value)


def _fail(text: str) -> int:
    print(f"bench_trace: {text}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=Path, required=True, metavar="CSV")
    parser.add_argument("--pods", type=Path, required=True, metavar="CSV")
    parser.add_argument(
        "--policy",
        action="append",
        metavar="P[,P...]",
        help="may be repeated; default: fragmentation; also: fgd, bestfit",
    )
    parser.add_argument("--seeds", type=_positive(int), default=10)
    parser.add_argument("--arrived", type=_positive(float), default=1.3, help="GPUs asked for, as a share of all")
    parser.add_argument(
        "--typical", choices=("trace", "online"), default="trace", help="classes known before, or from what has arrived"
    )
    parser.add_argument(
        "--mix", type=_mix, default={}, metavar="KIND=TIMES,...", help=f"another mix of pods: {', '.join(KINDS)}"
    )
    parser.add_argument("--departures", action="store_true", help="pods end; measures GPU-hours and waiting")
    parser.add_argument(
        "--hours", type=_positive(float), default=2.0, help="with --departures: how long pods arrive, in trace time"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="not with --departures")
    return parser


def _mix(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(","):
        kind, _, times = part.partition("=")
        if kind not in KINDS or kind in found:
            raise argparse.ArgumentTypeError(
                f"{part!r}: expected each of {', '.join(KINDS)} once, as in cpu=2,share=0.5"
            )
        try:
            found[kind] = float(times)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{part!r}: expected a number, as in {kind}=0.5") from None
        if not 0 <= found[kind] <= 100:
            raise argparse.ArgumentTypeError(f"{part!r}: the number is not from 0 to 100")
    return found


def _positive(kind: type[int] | type[float]) -> Any:
    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < 1_000:
            raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1000")
        return value

    return number


if __name__ == "__main__":
    raise SystemExit(main())
