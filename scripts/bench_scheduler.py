#!/usr/bin/env python3
"""Placements a second through the solver, committed: capacity is taken out of the problem and the result is columns.

Timed is the product's own interface, ``scheduling.solve.Solver``: ``place`` with everything in one backlog (``batch``;
the session is built within the timed part, as in every round of the leader), ``place`` with 100 at a time on one session
(``batch100``), ``take`` once for each instance on one session, and the array brought up to date at the end
(``single``). The leader makes one session per round; a session that lives longer, as in the last two, is the bench's.

Not timed, and reported beside it in milliseconds: building the ``Problem`` (``problem_ms``), turning asks into a backlog
of interned wishes (``intern_ms``), and for ``batch100`` and ``single`` the first sort of the nodes (``session_ms``).
``placements_per_s`` and ``per_cpu_s`` are medians of ``--repeat`` runs: by the clock, and by this process's processor
time, which other work on the machine disturbs less. ``oracle_nodes``: nodes that best-fit-decreasing uses, for mixes
placed on nodes that were empty: one by one, each by ``binpack``'s score, over all nodes.

Mixes: ``identical`` (1 core, 4 GiB), ``classes20`` (20 sizes in turn), ``distinct`` (all different: 0.1 to 4 cores, 128 MiB
to 15.6 GiB, evenly) on nodes of 32, 64 and 96 cores with 4 GiB for each; ``forge40`` (the predecessor's: cpu
100 + i % 10 * 100, memory 256 + i % 8 * 256, on nodes of 8,000 m and 32,768 MB of which node i has (300 i) % 3000 and
(1500 i) % 15000 in use; when a batch no longer fits the cluster is emptied to that state again, untimed).
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.contract.model import GroupSpec, JobSpec, JobUid, NodeId, NodeSpec, NodeStatus, Resources, TaskSpec
from orchestrator.reconcile.work import Ask
from orchestrator.scheduling import registry
from orchestrator.scheduling.backlog import Backlog, Wishes, backlog_of
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import Solver
from orchestrator.scheduling.wish import wish_of
from orchestrator.state import views
from orchestrator.state.model import Job, Node
from orchestrator.state.state import new_state
from orchestrator.state.views import ClusterView

Size = tuple[int, int]
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
        slot=at, spec=spec, identity="bench", register_index=1, modify_index=1, status=NodeStatus.READY, status_time_ms=0
    )


def view_of(mix: str, nodes: int) -> ClusterView:
    if mix == "forge40":
        machines = [node(at, 8_000, 32_768) for at in range(nodes)]
    else:
        machines = [node(at, (32, 64, 96)[at % 3] * 1000, (32, 64, 96)[at % 3] * 4096) for at in range(nodes)]
    empty = views.cluster_view(new_state())
    return ClusterView(
        index=1,
        time_ms=1,
        jobs={},
        jobs_by_slot={},
        nodes={NodeId(machine.spec.id): machine for machine in machines},
        nodes_by_slot=dict(enumerate(machines)),
        allocations=empty.allocations,
        last_attempt=empty.last_attempt,
        variables=frozenset(),
    )
