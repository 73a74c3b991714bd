#!/usr/bin/env python3
"""How long deciding takes, with every placement committed to the state: view, decide, apply.

Each case builds a state through ``apply``, so the figures are those of a leader without its log and network. Prints a
table, or one JSON object with ``--json``; times are the best of ``--repeat`` runs, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

from orchestrator.contract.model import GroupSpec, JobSpec, NodeSpec, Resources, TaskSpec
from orchestrator.plan import decide
from orchestrator.scheduling import registry
from orchestrator.state import views
from orchestrator.state.apply import apply
from orchestrator.state.commands import Applied, Command, Entry, JobSubmission, PlanAnswer, RegisterNode, SubmitJobs
from orchestrator.state.state import State, new_state


def do(state: State, command: Command) -> object:
    outcome = apply(state, Entry(identity="bench", request_id="", digest=b"", time_ms=1, command=command))
    if not isinstance(outcome, Applied):
        raise SystemExit(f"the state refused {type(command).__name__}: {outcome.message}")
    return outcome.answer


def cluster(nodes: int) -> State:
    """Nodes of 32, 64 and 96 cores with 4 GiB for each."""
    state = new_state()
    for at in range(nodes):
        cores = (32, 64, 96)[at % 3]
        capacity = Resources(cpu_millis=cores * 1000, memory_mib=cores * 4096, disk_mib=1_000_000)
        spec = NodeSpec(id=f"node-{at}", name=f"node-{at}", drivers=("process",), capacity=capacity)
        do(state, RegisterNode(node=spec, identity="bench"))
    return state


def submit(state: State, jobs: int, count: int, policy: str, classes: int = 20) -> None:
    """``jobs`` jobs of ``count`` instances, in so many sizes, one after the other."""
    submissions = []
    for at in range(jobs):
        shape = at % classes
        resources = Resources(cpu_millis=100 + 50 * (shape % 10), memory_mib=256 + 128 * (shape % 7))
        task = TaskSpec(name="t", command=("true",), resources=resources)
        group = GroupSpec(name="main", count=count, tasks=(task,))
        spec = JobSpec(name=f"job-{at}", groups=(group,), placement=policy)
        submissions.append(JobSubmission(spec=spec, uid=f"uid-{at:08}"))
    for start in range(0, jobs, 10_000):
        do(state, SubmitJobs(jobs=tuple(submissions[start : start + 10_000])))


def measure(build: Callable[[], State], repeat: int) -> dict[str, float | int]:
    """The best of several runs, each on a state of its own."""
    best: dict[str, float | int] = {}
    for _ in range(repeat):
        state = build()
        times = [time.perf_counter()]
        view = views.cluster_view(state)
        times.append(time.perf_counter())
        decision = decide(view, 1)
        times.append(time.perf_counter())
        answers = [do(state, plan) for plan in decision.plans]
        times.append(time.perf_counter())
        view_ms, decide_ms, apply_ms = (1000 * (times[at + 1] - times[at]) for at in range(3))
        if not best or decide_ms < best["decide_ms"]:
            best = {
                "placed": sum(answer.placed for answer in answers if isinstance(answer, PlanAnswer)),
                "without_room": decision.unplaced.no_room,
                "entries": len(decision.plans),
                "view_ms": round(view_ms, 2),
                "decide_ms": round(decide_ms, 2),
                "apply_ms": round(apply_ms, 2),
            }
    return best


def cases(policy: str) -> dict[str, Callable[[], State]]:
    def build(nodes: int, jobs: int, count: int, classes: int = 20) -> Callable[[], State]:
        def make() -> State:
            state = cluster(nodes)
            submit(state, jobs, count, policy, classes)
            return state

        return make

    def quiet() -> State:
        state = build(1000, 20, 5000)()
        for plan in decide(views.cluster_view(state), 1).plans:
            do(state, plan)
        return state

    return {
        "20,000 of one job on 1,000 nodes": build(1000, 1, 20_000),
        "20 jobs of 1,000 on 1,000 nodes": build(1000, 20, 1000),
        "20,000 equal jobs of one on 1,000 nodes": build(1000, 20_000, 1, classes=1),
        "20,000 jobs of one, 20 sizes in turn, on 1,000 nodes": build(1000, 20_000, 1),
        "one instance on 100 nodes": build(100, 1, 1),
        "nothing to do, 100,000 allocations": quiet,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", choices=registry.names(), default=registry.DEFAULT)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {}
    for name, build in cases(arguments.policy).items():
        results[name] = measure(build, arguments.repeat)
        if not arguments.json:
            figures = "  ".join(f"{key} {value}" for key, value in results[name].items())
            print(f"{name:56}{figures}", flush=True)
    if arguments.json:
        print(json.dumps({"policy": arguments.policy, "cases": results}))


if __name__ == "__main__":
    main()
