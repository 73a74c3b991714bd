"""Copies of the state that other threads, planners and streams may keep: values with the index they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.contract.model import JobUid, NodeId
from orchestrator.state.allocations import Columns
from orchestrator.state.model import Job, Node


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusterView:
    """Everything that deciding needs, as of ``index``. Deciding is a function of this, liveness and the time.

    ``allocations`` holds every live row and the newest attempt of every (job, group, ordinal), whatever its state;
    ``last_attempt[(job slot, group name)]`` is an int32 array by ordinal: the highest attempt ever placed (0 = none), which
    survives scale-down and collection. ``variables``: the names that exist, as (namespace, name).
    """

    index: int
    time_ms: int
    jobs: Mapping[JobUid, Job]
    jobs_by_slot: Mapping[int, Job]
    nodes: Mapping[NodeId, Node]
    nodes_by_slot: Mapping[int, Node]
    allocations: Columns
    last_attempt: Mapping[tuple[int, str], object]
    variables: frozenset[tuple[str, str]]
