"""A small cluster by hand: views for tests of deciding, without the replicated state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from orchestrator.contract.model import (
    AllocState,
    Desired,
    Device,
    DeviceRequest,
    GroupSpec,
    JobSpec,
    JobType,
    JobUid,
    NodeId,
    NodeSpec,
    NodeStatus,
    PortSpec,
    Resources,
    TaskSpec,
    str_map,
)
from orchestrator.state.allocations import Columns
from orchestrator.state.model import Job, Node
from orchestrator.state.typical import Shape
from orchestrator.state.views import ClusterView

_INT32 = (
    "row",
    "job",
    "group",
    "ordinal",
    "attempt",
    "version",
    "restarts",
    "node",
    "gpu_millis",
    "exit_code",
    "failures",
)
_INT64 = ("cpu_millis", "memory_mib", "disk_mib", "create_index", "modify_index", "create_time_ms", "modify_time_ms")


def gpus(count: int, model: str = "H100", memory_mib: int = 80_000, islands: Iterable[int] = ()) -> tuple[Device, ...]:
    where = list(islands) or [0] * count
    return tuple(
        Device(id=f"gpu-{at}", model=model, memory_mib=memory_mib, island=where[at], numa=where[at] // 2)
        for at in range(count)
    )


def node_spec(name: str, cpu: int = 4000, memory: int = 8192, **more: Any) -> NodeSpec:
    disk = more.pop("disk", 100_000)
    labels = str_map(more.pop("labels", {}))
    custom = tuple(sorted(more.pop("custom", {}).items()))
    capacity = Resources(cpu_millis=cpu, memory_mib=memory, disk_mib=disk, custom=custom)
    return NodeSpec(id=name, name=name, drivers=("docker", "process"), labels=labels, capacity=capacity, **more)


def group_spec(
    name: str = "main", count: int = 1, cpu: int = 500, memory: int = 256, gpu: DeviceRequest | None = None, **more: Any
) -> GroupSpec:
    ports = tuple(PortSpec(label=f"p{at}", static=port) for at, port in enumerate(more.pop("ports", ())))
    variables = str_map(more.pop("variables", {}))
    custom = tuple(sorted(more.pop("custom", {}).items()))
    resources = Resources(cpu_millis=cpu, memory_mib=memory, disk_mib=more.pop("disk", 0), gpus=gpu, custom=custom)
    what = {"image": more.pop("image")} if "image" in more else {"command": ("true",)}
    task = TaskSpec(name="t", resources=resources, variables=variables, **what)
    return GroupSpec(name=name, count=count, tasks=(task,), ports=ports, **more)


@dataclass
class Cluster:
    """Jobs, nodes and rows that a test puts together; ``view`` makes them what deciding sees."""

    jobs: list[Job] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    variables: set[tuple[str, str]] = field(default_factory=set)
    typical: tuple[tuple[Shape, int], ...] = ()
    default_placement: str = ""
    last_attempts: dict[tuple[int, str], list[int]] = field(default_factory=dict)
    feature_level: int = 0
    time_ms: int = 1_000_000
    index: int = 100

    def node(self, name: str, **more: Any) -> Node:
        state = {
            key: more.pop(key)
            for key in ("status", "cordoned", "draining", "cordoned_devices", "taints")
            if key in more
        }
        state.setdefault("status", NodeStatus.READY)
        slot = len(self.nodes)
        node = Node(
            slot=slot,
            spec=more.pop("spec", None) or node_spec(name, **more),
            identity=name,
            register_index=slot + 1,
            modify_index=slot + 1,
            status_time_ms=0,
            **state,
        )
        self.nodes.append(node)
        return node

    def job(self, name: str, *groups: GroupSpec, **more: Any) -> Job:
        slot = len(self.jobs)
        facts = {
            key: more.pop(key) for key in ("stopped", "removing", "version", "group_versions", "specs") if key in more
        }
        spec = JobSpec(name=name, groups=groups or (group_spec(),), **more)
        version = facts.pop("version", 1)
        job = Job(
            slot=slot,
            uid=f"uid-{name}",
            spec=spec,
            version=version,
            group_versions=facts.pop("group_versions", (version,) * len(spec.groups)),
            specs=(*facts.pop("specs", ()), (version, spec)),
            submit_index=slot + 1,
            create_index=slot + 1,
            modify_index=slot + 1,
            create_time_ms=0,
            modify_time_ms=0,
            **facts,
        )
        self.jobs.append(job)
        return job

    def change(self, what: Job | Node, **changes: Any) -> None:
        if isinstance(what, Job):
            self.jobs[what.slot] = replace(self.jobs[what.slot], **changes)
        else:
            self.nodes[what.slot] = replace(self.nodes[what.slot], **changes)

    def new_version(self, job: Job, spec: JobSpec) -> Job:
        now = self.jobs[job.slot]
        version = now.version + 1
        changed = replace(
            now,
            spec=spec,
            version=version,
            group_versions=(version,) * len(spec.groups),
            specs=(*now.specs, (version, spec)),
        )
        self.jobs[job.slot] = changed
        return changed

    def alloc(self, job: Job, node: Node, ordinal: int = 0, **more: Any) -> dict[str, Any]:
        group = more.get("group", 0)
        resources = self.jobs[job.slot].spec.groups[group].resources
        row: dict[str, Any] = {
            **dict.fromkeys(_INT32, 0),
            **dict.fromkeys(_INT64, 0),
            "row": len(self.rows),
            "job": job.slot,
            "node": node.slot,
            "ordinal": ordinal,
            "attempt": 1,
            "version": self.jobs[job.slot].version,
            "desired": Desired.RUN,
            "state": AllocState.RUNNING,
            "cpu_millis": resources.cpu_millis,
            "memory_mib": resources.memory_mib,
            "disk_mib": resources.disk_mib,
            "device_mask": 0,
            "start_failed": False,
            "moved": False,
            "ports": (),
            "custom": resources.custom,
            **more,
        }
        self.rows.append(row)
        name = self.jobs[job.slot].spec.groups[group].name
        last = self.last_attempts.setdefault((job.slot, name), [])
        last.extend([0] * (ordinal + 1 - len(last)))
        last[ordinal] = max(last[ordinal], row["attempt"])
        return row

    def view(self, shuffle: Any = None) -> ClusterView:
        """``shuffle``: a ``random.Random``; the mappings then have another order, which must not matter."""
        live = {id(row): row["state"] <= AllocState.STOPPING for row in self.rows}  # what lives counts, as in the table
        rows = sorted(
            self.rows, key=lambda row: (row["job"], row["group"], row["ordinal"], live[id(row)], row["attempt"])
        )

        def order(items: list[Any]) -> list[Any]:
            mixed = list(items)
            if shuffle is not None:
                shuffle.shuffle(mixed)
            return mixed

        jobs, nodes = order(self.jobs), order(self.nodes)
        last = {key: np.array(values, dtype=np.int32) for key, values in order(list(self.last_attempts.items()))}
        return ClusterView(
            index=self.index,
            time_ms=self.time_ms,
            jobs={JobUid(job.uid): job for job in jobs},
            jobs_by_slot={job.slot: job for job in jobs},
            nodes={NodeId(node.spec.id): node for node in nodes},
            nodes_by_slot={node.slot: node for node in nodes},
            allocations=columns_of(rows),
            last_attempt=last,
            variables=frozenset(self.variables),
            typical=self.typical,
            default_placement=self.default_placement,
            feature_level=self.feature_level,
        )


def columns_of(rows: list[dict[str, Any]]) -> Columns:
    def column(name: str, dtype: Any) -> Any:
        return np.array([row[name] for row in rows], dtype=dtype)

    return Columns(
        **{name: column(name, np.int32) for name in _INT32},
        **{name: column(name, np.int64) for name in _INT64},
        desired=column("desired", np.int8),
        state=column("state", np.int8),
        device_mask=column("device_mask", np.uint64),
        start_failed=column("start_failed", np.bool_),
        moved=column("moved", np.bool_),
        health=np.array([row.get("health", 0) for row in rows], dtype=np.int64),
        ports={row["row"]: row["ports"] for row in rows if row["ports"]},
        custom={row["row"]: row["custom"] for row in rows if row["custom"]},
        reasons={row["row"]: row["reason"] for row in rows if row.get("reason")},
    )


__all__ = ["Cluster", "JobType", "columns_of", "gpus", "group_spec", "node_spec"]
