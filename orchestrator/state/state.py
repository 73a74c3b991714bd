"""``State``: every table of the replicated state, and the few moves that keep tables and indexes in step.

Owns: the tables (jobs, nodes, allocations, variables, answers, events), their indexes and how a record or a row enters
and leaves them. Leaves to others: when it may (``apply`` and its parts). The rule: one loop owns a ``State``; records
are replaced, never changed; an index is a function of the tables, so that a restored state is the same state.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from orchestrator.contract.devices import is_real
from orchestrator.contract.model import (
    AllocState,
    DeviceRequest,
    GangSpec,
    IntMap,
    JobSpec,
    Limits,
    Namespace,
    Settings,
    Toleration,
    Variable,
    added,
)
from orchestrator.contract.rollouts import Rollout, RolloutStatus
from orchestrator.state.allocations import FREE, AllocationTable, put
from orchestrator.state.answers import Answers
from orchestrator.state.changes import Changes
from orchestrator.state.commands import Answer, Applied, Rejected, WriteAnswer
from orchestrator.state.distinct import distinct
from orchestrator.state.events import EventLog
from orchestrator.state.ledger import Ledger
from orchestrator.state.model import Job, Node
from orchestrator.state.ordinals import Ordinals, Slots
from orchestrator.state.typical import Typical
from orchestrator.state.usage import UsageIndex

Rows = npt.NDArray[np.int32]


class GroupFacts(NamedTuple):
    """What checking a placement needs of a group, summed once per job version."""

    gid: int
    instances: int
    cpu_millis: int
    memory_mib: int
    disk_mib: int
    devices: int
    gpu_millis: int
    static_ports: tuple[int, ...]  # by port: the fixed host port, or 0
    gpus: DeviceRequest | None  # None where it asks for none
    gang: GangSpec | None
    custom: IntMap
    tolerations: tuple[Toleration, ...]


class State:
    """Tables: ``jobs`` by uid, ``nodes`` by id, ``forgotten`` nodes that rows still speak of by slot, ``table``,
    ``variables`` by (namespace, name), ``answers``, ``typical`` shapes, ``events``, ``limits``,
    ``namespaces`` that were created, ``settings``, ``admitted`` (peer id -> disk incarnation), ``epoch`` and
    ``addresses`` of the peers (``state.peers``), ``attempt_floor``, ``cluster_id``, ``feature_level``, ``index``,
    ``time_ms``. Everything else is an index over them.

    ``shown_index``: of the last command that may have changed what a ``ClusterView`` shows; ``changes``: which jobs
    there may be something to decide about. ``draining``: how many nodes are.
    """

    __slots__ = (
        "_facts", "_job_slots", "_lost", "_node_slots", "_version_rows", "addresses", "admitted", "answers",
        "attempt_floor",
        "changes", "children", "cluster_id", "device_nodes", "draining", "engine_nodes", "epoch", "events",
        "feature_level",
        "forgotten", "index", "job_at", "job_names", "jobs", "ledger", "limits", "namespaces", "node_at", "node_names",
        "nodes", "ordinals", "periodic", "periodic_index", "settings", "shown_index", "table", "time_ms", "typical",
        "usage", "variables",
    )  # fmt: skip

    def __init__(self, limits: Limits | None = None) -> None:
        self.index = self.shown_index = 0
        self.time_ms = 0
        self.cluster_id = ""
        self.feature_level = 0
        self.epoch = 0  # of the configuration of peers; 0 before the first start is complete
        self.admitted: dict[str, str] = {}
        self.addresses: dict[str, str] = {}  # peer id -> host:port; empty in epoch 1
        self.attempt_floor = 0  # attempts up to this one were made before the state was restored (``renewal``)
        self.limits = limits or Limits()
        self.settings = Settings()
        self.namespaces: dict[str, Namespace] = {}
        self.jobs: dict[str, Job] = {}
        self.nodes: dict[str, Node] = {}
        self.forgotten: dict[int, Node] = {}
        self.variables: dict[tuple[str, str], Variable] = {}
        self.table = AllocationTable()
        self.answers = Answers()
        self.typical = Typical()
        self.events = EventLog(self.limits.events)
        # Indexes.
        self.changes = Changes()
        self.draining = 0
        self.ordinals = Ordinals()
        self.ledger = Ledger()
        self.usage = UsageIndex()
        self.job_at: dict[int, Job] = {}
        self.job_names: dict[tuple[str, str], str] = {}
        self.children: dict[tuple[str, str], dict[int, None]] = {}  # slots of runs by (namespace, name of template)
        self.periodic: dict[int, None] = {}  # slots
        self.periodic_index = 0  # of the last change to one of them
        self.node_at: dict[int, Node] = {}  # with the forgotten ones
        self.node_names: dict[str, list[int]] = {}  # slots; only a lost node may share its name
        self.engine_nodes: dict[str, list[int]] = {}  # slots by engine id, with the forgotten ones
        self.device_nodes: dict[str, list[int]] = {}  # slots by id of a real device; only a lost node may share one
        self._job_slots = Slots()
        self._node_slots = Slots()
        self._version_rows: dict[tuple[int, int], int] = {}
        self._facts: dict[int, tuple[int, tuple[GroupFacts, ...]]] = {}
        self._lost: tuple[int, Rows, Rows] | None = None  # an index, and what ``lost_rows`` needs there

    # ------------------------------------------------------------------------ answers

    def changed(self, changed: bool = True) -> Applied:
        return Applied(index=self.index, answer=WriteAnswer(changed=changed))

    def answer(self, answer: Answer) -> Applied:
        return Applied(index=self.index, answer=answer)

    def reject(self, reason: str, message: str, **metadata: str) -> Rejected:
        return Rejected(
            index=self.index, reason=reason, message=message[:2_000], metadata=tuple(sorted(metadata.items()))
        )

    # ------------------------------------------------------------------------ jobs

    def find_job(self, namespace: str, name: str) -> Job | None:
        uid = self.job_names.get((namespace, name))
        return None if uid is None else self.jobs[uid]

    def take_job_slot(self) -> int:
        return self._job_slots.take()

    def put_job(self, job: Job) -> None:
        """Enter a new job, or replace its record; versions that nothing names any more are left out of it. A rollout
        names the one before (``holding``)."""
        base = job.rollout.base_version if job.rollout is not None else 0
        kept = tuple(
            (version, spec)
            for version, spec in job.specs
            if version in (job.version, base) or (job.slot, version) in self._version_rows
        )
        if len(kept) != len(job.specs):
            job = replace(job, specs=kept)
        self.jobs[job.uid] = job
        self.job_at[job.slot] = job
        self.job_names[(job.spec.namespace, job.spec.name)] = job.uid
        self._list_batch(job)
        for group in job.spec.groups:
            self.ordinals.add(job.slot, group.name)
        self._facts.pop(job.slot, None)
        self.changes.touch((job.slot,), self.index)
        self.usage.put(self, job)

    def amend_job(self, job: Job) -> None:
        """Replace a job's record by one in which nothing differs that deciding looks at."""
        self.jobs[job.uid] = self.job_at[job.slot] = job

    def remove_job(self, job: Job) -> None:
        """Forget a job of which nothing lives, with all its rows."""
        self.drop_rows(self.job_rows(job.slot))
        self.ordinals.forget_job(job.slot)
        self._facts.pop(job.slot, None)
        self.usage.drop(job)
        del self.jobs[job.uid], self.job_at[job.slot], self.job_names[(job.spec.namespace, job.spec.name)]
        self._job_slots.release(job.slot)
        self._unlist_batch(job)
        self.events.emit("job.removed", namespace=job.spec.namespace, job=job.spec.name)

    def _list_batch(self, job: Job) -> None:
        origin = job.spec.origin
        if origin is not None:
            self.children.setdefault((job.spec.namespace, origin.job), {})[job.slot] = None
        if job.spec.periodic is not None:
            self.periodic[job.slot] = None
            self.periodic_index = self.index
        else:
            self.periodic.pop(job.slot, None)

    def _unlist_batch(self, job: Job) -> None:
        self.periodic.pop(job.slot, None)
        origin = job.spec.origin
        if origin is not None:
            key = (job.spec.namespace, origin.job)
            del self.children[key][job.slot]
            if not self.children[key]:
                del self.children[key]

    def runs_of(self, namespace: str, name: str) -> list[Job]:
        """The jobs that were made from a template of this name, oldest first."""
        found = [self.job_at[slot] for slot in self.children.get((namespace, name), ())]
        return sorted(found, key=lambda job: (job.create_index, job.spec.name))

    def remove_if_done(self, slot: int) -> None:
        """Forget a job that is being removed once nothing of it lives."""
        job = self.job_at.get(slot)
        if job is not None and job.removing and not len(self.live_rows(slot)):
            self.remove_job(job)

    def spec_of(self, job: Job, version: int) -> JobSpec:
        """The spec that rows of this version run (kept while there are any)."""
        return next((spec for number, spec in job.specs if number == version), job.spec)

    def facts(self, job: Job) -> tuple[GroupFacts, ...]:
        """One per group of the current spec."""
        cached = self._facts.get(job.slot)
        if cached is not None and cached[0] == job.version:
            return cached[1]
        facts = []
        for group in job.spec.groups:
            # A group of one task needs what its task needs; a plan of thousands of jobs feels the difference.
            need = group.tasks[0].resources if len(group.tasks) == 1 else group.resources
            gpus = need.gpus
            facts.append(
                GroupFacts(
                    self.ordinals.gids[(job.slot, group.name)],
                    group.count,
                    need.cpu_millis,
                    need.memory_mib,
                    need.disk_mib,
                    gpus.count if gpus else 0,
                    gpus.gpu_millis if gpus and gpus.count else 0,
                    tuple([port.static for port in group.ports]),
                    gpus if gpus and gpus.count else None,
                    group.gang,
                    added((need.custom,)) if need.custom else (),
                    job.spec.tolerations + group.tolerations,
                )
            )
        self._facts[job.slot] = (job.version, tuple(facts))
        return self._facts[job.slot][1]

    # ------------------------------------------------------------------------ nodes

    def take_node_slot(self) -> int:
        slot = self._node_slots.take()
        self.ledger.reserve(slot)
        return slot

    def put_node(self, node: Node) -> None:
        """Enter a new node, or replace its record."""
        before = self.node_at.get(node.slot)
        self.draining += node.draining - (before is not None and before.draining)
        if before is None or (before.spec.name, before.spec.engine_id) != (node.spec.name, node.spec.engine_id):
            if before is not None:
                _unlist(self.node_names, before.spec.name, node.slot)
                _unlist(self.engine_nodes, before.spec.engine_id, node.slot)
            _enlist(self.node_names, node.spec.name, node.slot)
            _enlist(self.engine_nodes, node.spec.engine_id, node.slot)
        if before is None or before.spec.devices != node.spec.devices:
            if before is not None:
                self._unlist_devices(before)
            self._list_devices(node)
        self.nodes[node.spec.id] = node
        self.node_at[node.slot] = node

    def forget_node(self, node: Node) -> None:
        """Take a node of which nothing lives out of the cluster; its slot stays taken while rows name it."""
        del self.nodes[node.spec.id]
        self.draining -= node.draining
        self.forgotten[node.slot] = node
        _unlist(self.node_names, node.spec.name, node.slot)
        self._unlist_devices(node)
        self._release_node_slot(node.slot)

    def _list_devices(self, node: Node) -> None:
        for device in node.spec.devices:
            if is_real(device.id):
                _enlist(self.device_nodes, device.id, node.slot)

    def _unlist_devices(self, node: Node) -> None:
        for device in node.spec.devices:
            if is_real(device.id):
                _unlist(self.device_nodes, device.id, node.slot)

    def touch_engine(self, node: Node) -> None:
        """Every agent on this node's engine must look again at what it is told."""
        for slot in self.engine_nodes.get(node.spec.engine_id, ()):
            self.ledger.touched[slot] = self.index

    def _release_node_slot(self, slot: int) -> None:
        if slot in self.forgotten and not self.ledger.rows_kept[slot]:
            node = self.forgotten.pop(slot)
            del self.node_at[slot]
            _unlist(self.engine_nodes, node.spec.engine_id, slot)
            self._node_slots.release(slot)

    # ------------------------------------------------------------------------ rows

    def live_rows(self, slot: int) -> Rows:
        """int32: rows of a job whose allocations may still run; by group and ordinal."""
        rows = self.ordinals.job_rows(slot)
        live: Rows = rows[self.table.state[rows] <= int(AllocState.STOPPING)]
        if not self.ordinals.paired.isdisjoint(self.ordinals.by_job.get(slot, ())):
            live = np.concatenate((live, self.seconds(live)))
        return live

    def seconds(self, rows: Rows) -> Rows:
        """int32: of rows that count for their ordinals, the live ones behind them (``Ordinals.newest``)."""
        behind = self.table.prev[rows]
        behind = behind[behind >= 0]
        found: Rows = behind[self.table.state[behind] <= int(AllocState.STOPPING)]
        return found

    def rows_that_count(self, gids: Sequence[int]) -> Rows:
        """int32: of every ordinal of these groups the row that counts; before it one that a rollout has a use for: a
        live one that it replaces, or a newer one that ended while it lives. By place of the group and ordinal."""
        rows = self.ordinals.rows_of(gids)
        if self.ordinals.paired.isdisjoint(gids):
            return rows
        table = self.table
        behind = table.prev[rows]
        also = (behind >= 0) & (table.state[rows] <= int(AllocState.STOPPING))
        also &= (table.state[behind] <= int(AllocState.STOPPING)) | (table.attempt[behind] > table.attempt[rows])
        both: Rows = np.insert(rows, np.flatnonzero(also), behind[also])
        return both

    def lost_rows(self, slots: Iterable[int]) -> Rows:
        """int32, ascending: the rows of these nodes that are LOST.

        Found for all nodes at once and kept for the index: after a mass loss thousands of streams ask within moments.
        """
        known = self._lost
        if known is None or known[0] != self.index:
            table = self.table
            high = table.high
            lost = (table.state[:high] == int(AllocState.LOST)) & (table.job[:high] != FREE)
            rows = np.flatnonzero(lost).astype(np.int32)
            rows = rows[np.argsort(table.node[rows], kind="stable")]
            known = self._lost = (self.index, rows, table.node[rows])
        _, rows, nodes = known
        starts, ends = (np.searchsorted(nodes, sorted(slots), side=side) for side in ("left", "right"))
        parts = [rows[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        return np.sort(np.concatenate(parts)) if parts else rows[:0]

    def job_rows(self, slot: int) -> Rows:
        """int32: every row of a job, newest attempts first."""
        parts = []
        rows = self.ordinals.job_rows(slot)
        while len(rows):
            parts.append(rows)
            older = self.table.prev[rows]
            rows = older[older >= 0]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)

    def enter_rows(self, rows: Rows) -> None:
        """Index new live rows whose columns and ports are filled: the newest of their ordinals, held by their nodes."""
        table, ordinals = self.table, self.ordinals
        gids = table.gid[rows]
        order = np.argsort(gids, kind="stable")
        starts = np.flatnonzero(np.diff(gids[order], prepend=-1))
        wanted = np.maximum.reduceat(table.ordinal[rows[order]], starts) + 1
        unique = gids[order][starts]
        short = wanted > ordinals.size[unique]
        for gid, size in zip(unique[short].tolist(), wanted[short].tolist(), strict=True):
            ordinals.ensure(gid, size)
        places = ordinals.base[gids] + table.ordinal[rows]
        table.prev[rows] = ordinals.newest[places]
        older = table.prev[rows]
        beside = (older >= 0) & (table.state[older] <= int(AllocState.STOPPING))
        if beside.any():
            ordinals.paired.update(table.gid[rows[beside]].tolist())
        ordinals.newest[places] = rows
        ordinals.last_attempt[places] = table.attempt[rows]
        self.ledger.hold(table, rows, self.node_at)
        self._count_versions(rows, 1)
        self.usage.entered(self, distinct(table.job[rows]))
        self.tell(rows)
        self.moved(rows)

    def end_rows(self, rows: Rows, state: AllocState) -> None:
        """Live rows (each once) become terminal: what they held is free at once."""
        self.ledger.release(self.table, rows, self.node_at)
        self.table.state[rows] = int(state)
        put(self.table.health, rows, 0)
        for row in self._out_of_order(rows):
            self._relink(row)
        self.stamp(rows)
        self.touch_jobs(rows)
        self.usage.ended(self, distinct(self.table.job[rows]), state)

    def resize_rows(self, rows: Rows, version: int, place: int, cpu_millis: int, memory_mib: int) -> None:
        """Live rows (each once) belong to this version of their job, group number ``place`` of it, with this size."""
        table, slots = self.table, self.table.node[rows]
        self._count_versions(rows, -1)
        np.add.at(self.ledger.cpu_millis, slots, cpu_millis - table.cpu_millis[rows])
        np.add.at(self.ledger.memory_mib, slots, memory_mib - table.memory_mib[rows])
        table.cpu_millis[rows], table.memory_mib[rows] = cpu_millis, memory_mib
        table.version[rows], table.group[rows] = version, place
        self._count_versions(rows, 1)
        self.stamp(rows)
        self.tell(rows)

    def _out_of_order(self, rows: Rows) -> list[int]:
        """Of rows that ended now, those behind which an attempt stands that counts more."""
        if not self.ordinals.paired:
            return []
        table = self.table
        behind = table.prev[rows]
        wrong = (behind >= 0) & (
            (table.state[behind] <= int(AllocState.STOPPING)) | (table.attempt[behind] > table.attempt[rows])
        )
        listed: list[int] = rows[wrong].tolist()
        return listed

    def _relink(self, row: int) -> None:
        """Put the attempts of a row's ordinal in order: the live ones first, the newest of them before."""
        table, ordinals = self.table, self.ordinals
        place = int(ordinals.base[table.gid[row]]) + int(table.ordinal[row])
        chain = []
        at = int(ordinals.newest[place])
        while at >= 0:
            chain.append(at)
            at = int(table.prev[at])
        chain.sort(key=lambda one: (not table.is_live(one), -int(table.attempt[one])))
        ordinals.newest[place] = chain[0]
        for one, older in zip(chain, [*chain[1:], -1], strict=True):
            table.prev[one] = older

    def moved(self, rows: Rows) -> None:
        """Live rows moved on to where they were meant to be: news only to a job that is being changed or
        drained, or of which only so many may be down."""
        jobs = self.job_at
        changing = [
            slot
            for slot in distinct(self.table.job[rows])
            if self.draining
            or len(jobs[slot].specs) > 1
            or jobs[slot].spec.disruption is not None
            or under_way(jobs[slot].rollout)
        ]
        if changing:
            self.changes.touch(changing, self.index)

    def touch_jobs(self, rows: Rows) -> None:
        """There may be something to decide about the jobs of these rows."""
        self.changes.touch(distinct(self.table.job[rows]), self.index)

    def tell(self, rows: Rows) -> None:
        """The agents of these rows must hear of them."""
        self.table.told[rows] = self.index
        self.ledger.touch(self.table.node[rows], self.index)

    def stamp(self, rows: Rows) -> None:
        """These rows changed now."""
        self.table.modify_index[rows] = self.index
        self.table.modify_time_ms[rows] = self.time_ms

    def drop_rows(self, rows: Rows) -> None:
        """Forget terminal rows (each once). Their ordinals keep the highest attempt."""
        if not len(rows):
            return
        table, ordinals = self.table, self.ordinals
        gone = np.zeros(table.high, dtype=np.bool_)
        gone[rows] = True
        places = ordinals.base[table.gid[rows]] + table.ordinal[rows]
        # Whoever pointed at a dropped row points at the next older one that stays: first the ordinals, ...
        heads = np.unique(places)
        ordinals.newest[heads] = _skip(ordinals.newest[heads], gone, table.prev)
        # ... then the rows themselves.
        pointing = np.flatnonzero((table.prev[: table.high] >= 0) & ~gone)
        table.prev[pointing] = _skip(table.prev[pointing], gone, table.prev)
        self.ledger.forget_rows(table, rows)
        slots = distinct(table.node[rows])
        self._count_versions(rows, -1)
        table.drop(rows)
        for slot in slots:
            self._release_node_slot(slot)

    def _count_versions(self, rows: Rows, sign: int) -> None:
        """Count rows per (job, version); a version that no row names any more is forgotten, unless it is current."""
        keys = self.table.job[rows].astype(np.int64) << 32 | self.table.version[rows]
        unique, counts = np.unique(keys, return_counts=True)
        kept = self._version_rows
        for key, count in zip(unique.tolist(), counts.tolist(), strict=True):
            slot, version = key >> 32, key & 0xFFFFFFFF
            left = kept.get((slot, version), 0) + sign * count
            if left:
                kept[(slot, version)] = left
                continue
            del kept[(slot, version)]
            job = self.job_at.get(slot)
            if job is not None and version != job.version:
                self.put_job(job)

    def rebuild(self) -> None:
        """Make every index anew from the tables (after a snapshot was put into them; ``ordinals`` has its groups)."""
        table, ordinals = self.table, self.ordinals
        self.job_at = {job.slot: job for job in self.jobs.values()}
        self.job_names = {(job.spec.namespace, job.spec.name): job.uid for job in self.jobs.values()}
        self.node_at = {node.slot: node for node in self.nodes.values()} | self.forgotten
        self.children, self.periodic = {}, {}
        for job in self.jobs.values():
            self._list_batch(job)
        self.changes = Changes(self.index)
        self.draining = sum(node.draining for node in self.nodes.values())
        self.node_names, self.engine_nodes, self.device_nodes = {}, {}, {}
        for slot in sorted(self.node_at):
            spec = self.node_at[slot].spec
            _enlist(self.engine_nodes, spec.engine_id, slot)
            if slot not in self.forgotten:
                _enlist(self.node_names, spec.name, slot)
                self._list_devices(self.node_at[slot])
        self._job_slots = Slots(self.job_at)
        self._node_slots = Slots(self.node_at)
        self._facts = {}
        self._version_rows = {}
        rows = table.used()
        table.prev[:] = -1
        table.told[rows] = self.index
        if len(rows):
            live = table.state[rows] <= int(AllocState.STOPPING)
            order = rows[np.lexsort((table.attempt[rows], live, table.ordinal[rows], table.gid[rows]))]
            places = ordinals.base[table.gid[order]] + table.ordinal[order]
            follows = np.flatnonzero(places[1:] == places[:-1])
            before, after = order[follows], order[follows + 1]
            odd = (table.state[before] <= int(AllocState.STOPPING)) | (table.attempt[before] > table.attempt[after])
            ordinals.paired.update(table.gid[after[odd]].tolist())
            table.prev[order[follows + 1]] = order[follows]
            newest = np.append(places[1:] != places[:-1], True)
            ordinals.newest[places[newest]] = order[newest]
            keys = table.job[rows].astype(np.int64) << 32 | table.version[rows]
            unique, counts = np.unique(keys, return_counts=True)
            self._version_rows = {
                (key >> 32, key & 0xFFFFFFFF): count
                for key, count in zip(unique.tolist(), counts.tolist(), strict=True)
            }
        self._recall_custom(rows)
        self.ledger = Ledger()
        self.ledger.rebuild(table, self.node_at, self.index)
        self.usage.rebuild(self)

    def _recall_custom(self, rows: Rows) -> None:
        """What rows ask of custom resources stands in the specs, of which every version that a row names is kept."""
        table = self.table
        table.custom.clear()
        asking = {
            (job.slot, version, place): group.resources.custom
            for job in self.jobs.values()
            for version, spec in job.specs
            for place, group in enumerate(spec.groups)
            if any(task.resources.custom for task in group.tasks)
        }
        if not asking:
            return
        for row in rows.tolist():
            custom = asking.get((int(table.job[row]), int(table.version[row]), int(table.group[row])))
            if custom:
                table.custom[row] = custom


def new_state(limits: Limits | None = None) -> State:
    """The state before the first command."""
    return State(limits)


def under_way(rollout: Rollout | None) -> bool:
    """Whether it goes on by itself."""
    return rollout is not None and rollout.status is RolloutStatus.RUNNING


def _enlist(index: dict[str, list[int]], key: str, slot: int) -> None:
    if key:
        bisect.insort(index.setdefault(key, []), slot)


def _unlist(index: dict[str, list[int]], key: str, slot: int) -> None:
    if key:
        slots = index[key]
        slots.remove(slot)
        if not slots:
            del index[key]


def _skip(rows: Rows, gone: npt.NDArray[np.bool_], prev: Rows) -> Rows:
    """Follow ``prev`` from each row until one that stays, or -1."""
    rows = rows.copy()
    while True:
        hit = np.flatnonzero((rows >= 0) & gone[rows])
        if not len(hit):
            return rows
        rows[hit] = prev[rows[hit]]
