"""The placements of a plan: each row is checked again against the state that apply finds, and goes in or is refused.

Owns: what a row must still meet (node, group, attempt, devices, taints, room, ports, quota, neighbours, its gang), and
entering what does. Leaves to others: the plan's actions, which come first (``apply_plan``), and the words of devices,
gangs and neighbours (``apply_gangs``, ``apply_near``). The rules: a stale row is refused alone, but for a gang, of
which all go in or none; rows are checked with array operations, for a command may hold 20,000, and where a node cannot
take all of its rows, these are judged one by one in the order of the plan, so that as many as fit go in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import AllocState, Desired, DeviceRequest, JobType, NodeStatus, Usage, added
from orchestrator.contract.taints import describe as taint_text
from orchestrator.contract.taints import repelling
from orchestrator.state.allocations import LAST_LIVE
from orchestrator.state.apply_gangs import device_refusals, gang_refusal
from orchestrator.state.apply_near import Near, asks_for_neighbours
from orchestrator.state.commands import ApplyPlan, PlacementColumns
from orchestrator.state.custom import short_of
from orchestrator.state.holding import base_record, base_refusal, is_held_back
from orchestrator.state.ledger import device_bits, engine_key
from orchestrator.state.model import MAX_COUNT, Job, Node
from orchestrator.state.quota import exceeded, in_use, quota_of
from orchestrator.state.rollouts import newer_ordinals, spread_refusal, successor_refusals
from orchestrator.state.state import GroupFacts, Rows, State
from orchestrator.state.usage import NOTHING, add, of_instance

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Placing:
    """The placements of one plan while they are judged. ``why`` (rows): "" so far good, else the reason against."""

    def __init__(self, state: State, command: ApplyPlan) -> None:
        self.state = state
        self.command = command
        self.columns: PlacementColumns = command.placements
        self.rows = len(self.columns)
        self.ok: Bools = np.ones(self.rows, dtype=np.bool_)
        self.custom = False  # whether any group asks for custom resources
        self.choosy = False  # whether it matters to any group who else is where
        self.why: dict[int, str] = {}
        self.gangs: list[tuple[int, int, int]] = []  # (place in the plan's jobs, group, version) of each gang
        self.records: dict[tuple[int, int], Job | None] = {}  # by place in the plan's jobs and version

    def run(self) -> tuple[int, list[str]]:
        if not self.rows:
            return 0, []
        self._match_nodes()
        self._match_groups()
        self._match_ordinals()
        self._match_versions()
        self._match_devices()
        self._match_taints()
        self._fit()
        self._fit_custom()
        self._match_ports()
        self._match_quotas()
        self._match_neighbours()
        self._match_gangs()
        accepted = np.flatnonzero(self.ok)
        if len(accepted):
            self._enter(accepted)
        if self.why:  # the next round finds another place, or that none is wanted
            jobs = sorted({int(self.columns.job[place]) for place in self.why})
            known = (self.state.jobs.get(self.command.jobs[place]) for place in jobs)
            self.state.changes.touch([job.slot for job in known if job is not None], self.state.index)
        return len(accepted), [f"{self._name(place)}: {self.why[place]}" for place in sorted(self.why)]

    def _name(self, place: int) -> str:
        uid = self.command.jobs[int(self.columns.job[place])]
        job = self._record(place) or self.state.jobs.get(uid)
        group = int(self.columns.group[place])
        if job is None:
            return f"{uid[:64]}/{group}/{int(self.columns.ordinal[place])}"
        name = job.spec.groups[group].name if 0 <= group < len(job.spec.groups) else str(group)
        return f"{job.spec.name}/{name}/{int(self.columns.ordinal[place])}"

    def _refuse(self, places: npt.NDArray[np.intp], text: str) -> None:
        for place in places.tolist():
            self.why.setdefault(place, text)
        self.ok[places] = False

    def _refuse_where(self, bad: Bools, text: str) -> None:
        places = np.flatnonzero(bad & self.ok)
        if len(places):
            self._refuse(places, text)

    # -------------------------------------------------------------------- what is named

    def _match_nodes(self) -> None:
        """``slots`` int32 (rows): the node's slot."""
        state = self.state
        named: list[Node | None] = [state.nodes.get(node_id) for node_id in self.command.nodes]
        self.slots: Rows = np.array([node.slot if node else -1 for node in named], dtype=np.int32)[self.columns.node]
        reasons = [_node_refusal(node) for node in named]
        if any(reasons):
            against = np.array([bool(reason) for reason in reasons])
            for place in np.flatnonzero(against[self.columns.node]).tolist():
                node = int(self.columns.node[place])
                self.why[place] = f"node {self.command.nodes[node][:64]} {reasons[node]}"
                self.ok[place] = False

    def _match_groups(self) -> None:
        """Per row: ``gid``, ``job_slot``, ``need`` int64 (rows, 3: cpu_millis, memory_mib, disk_mib), and more."""
        columns = self.columns
        keys = columns.job.astype(np.int64) << 32 | (columns.group.astype(np.int64) & 0xFFFFFFFF)
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        if (columns.version != columns.version[first][inverse]).any():  # of one group at several versions
            keys = np.stack((keys, columns.version.astype(np.int64)), axis=1)
            _, first, inverse = np.unique(keys, return_index=True, return_inverse=True, axis=0)
        facts = np.zeros((len(first), 12), dtype=np.int64)
        refusals: list[str] = []
        for place, at in enumerate(first.tolist()):
            refusals.append(self._group_facts(facts[place], at))
        if any(refusals):
            of_row = inverse.reshape(-1)
            for place in np.flatnonzero(np.array([bool(text) for text in refusals])[of_row]).tolist():
                self.why.setdefault(place, refusals[int(of_row[place])])
                self.ok[place] = False
        rows: Ints = facts[inverse.reshape(-1)]
        self.gid: Rows = rows[:, 0].astype(np.int32)
        self.job_slot: Rows = rows[:, 1].astype(np.int32)
        self.need: Ints = rows[:, 4:7]
        self.devices, self.gpu_millis, self.port_count = rows[:, 7], rows[:, 8], rows[:, 9]
        self.has_static: Bools = rows[:, 10] > 0
        self.same_port: Ints = rows[:, 11]  # a number may be asked for twice: by TCP and by UDP
        self._refuse_where(
            (columns.ordinal < 0) | (columns.ordinal >= rows[:, 2]), "the ordinal is not below the count"
        )

    def _record(self, place: int) -> Job | None:
        """The job of a row as the row's version sees it; None: nothing of that version is placed."""
        job_place, version = int(self.columns.job[place]), int(self.columns.version[place])
        key = job_place, version
        if key not in self.records:
            job = self.state.jobs.get(self.command.jobs[job_place])
            if job is not None and version != job.version:
                held = is_held_back(job) and job.rollout is not None and version == job.rollout.base_version
                job = base_record(job) if held else None
            self.records[key] = job
        return self.records[key]

    def _group_facts(self, into: Ints, place: int) -> str:
        job_place, group = int(self.columns.job[place]), int(self.columns.group[place])
        job = self.state.jobs.get(self.command.jobs[job_place])
        if job is None:
            return "the job is gone"
        if job.stopped:
            return "the job is stopped"
        record = self._record(place)
        if not 0 <= group < len((record or job).spec.groups):
            return "the job has no such group by now"
        if record is None:
            return "the job has another version by now"
        job = record
        facts = self.state.facts(job)[group]
        if facts.gang is not None:
            self.gangs.append((job_place, group, job.version))
        self.custom = self.custom or bool(facts.custom)
        self.choosy = self.choosy or asks_for_neighbours(job.spec, job.spec.groups[group])
        into[:] = (
            facts.gid,
            job.slot,
            MAX_COUNT if job.spec.type is JobType.SYSTEM else facts.instances,
            job.version,
            facts.cpu_millis,
            facts.memory_mib,
            facts.disk_mib,
            facts.devices,
            facts.gpu_millis,
            len(facts.static_ports),
            any(facts.static_ports),
            _repeated(facts.static_ports),
        )
        return ""

    def _match_ordinals(self) -> None:
        """Fencing: exactly the next attempt of an ordinal of which nothing lives, or of which a rollout may bring a
        successor."""
        ordinals, table, columns = self.state.ordinals, self.state.table, self.columns
        inside = self.ok & (columns.ordinal < ordinals.size[self.gid])
        places = np.where(inside, ordinals.base[self.gid] + columns.ordinal, 0)
        last = np.maximum(np.where(inside, ordinals.last_attempt[places], 0), self.state.attempt_floor)
        newest = np.where(inside, ordinals.newest[places], -1)
        live = (newest >= 0) & (table.state[newest] <= LAST_LIVE)
        successors = np.flatnonzero(live & self.ok)
        if len(successors):
            refused = successor_refusals(self.state, [(int(newest[at]), int(columns.version[at])) for at in successors])
            for place, text in zip(successors.tolist(), refused, strict=True):
                if text:
                    self.why[place] = text
                    self.ok[place] = False
        self._refuse_where(columns.attempt != last + 1, "it is not the next attempt")
        keys = self.gid.astype(np.int64) << 32 | columns.ordinal
        candidates = np.flatnonzero(self.ok)
        _, first = np.unique(keys[candidates], return_index=True)
        if len(first) != len(candidates):
            again = np.ones(len(candidates), dtype=np.bool_)
            again[first] = False
            self._refuse(candidates[again], "it is in the plan twice")
        # The count of failed starts goes on as long as the job is the same.
        behind = np.where(live, table.prev[newest], -1)
        newest = np.where((behind >= 0) & (table.attempt[behind] > table.attempt[newest]), behind, newest)
        same = (newest >= 0) & table.start_failed[newest] & (table.version[newest] == columns.version)
        self.failures = np.where(same, table.failures[newest], 0)

    def _match_versions(self) -> None:
        """What must not spread does not, and what is held at the version before is: few jobs are."""
        jobs = [self.state.jobs.get(uid) for uid in self.command.jobs]
        held = np.array([job is not None and is_held_back(job) for job in jobs], dtype=np.bool_)
        if not held.any():
            return
        columns, newer = self.columns, dict[tuple[int, int], set[int]]()
        for place in np.flatnonzero(self.ok & held[columns.job]).tolist():
            job_place, at = int(columns.job[place]), int(columns.group[place])
            job, record = jobs[job_place], self._record(place)
            assert job is not None and record is not None, "it is good so far"
            if record.version == job.version:
                key = job_place, at
                ordinal = int(columns.ordinal[place])
                if key not in newer:
                    newer[key] = newer_ordinals(self.state, job, at)
                text = spread_refusal(self.state, job, at, ordinal, newer[key])
                if not text:
                    newer[key].add(ordinal)
            else:
                text = base_refusal(job, record.spec.groups[at].name)
            if text:
                self.why[place] = text
                self.ok[place] = False

    def _match_devices(self) -> None:
        columns = self.columns
        held = np.bitwise_count(columns.device_mask).astype(np.int64)
        self._refuse_where(held != self.devices, "it gets another number of devices than its group asks for")
        self._refuse_where(columns.gpu_millis != self.gpu_millis, "it gets another share of a device than it asks for")
        with_devices = np.flatnonzero(self.ok & (columns.device_mask != 0))
        if len(with_devices):
            known = np.array([_all_devices(self.state.node_at[slot]) for slot in self.slots[with_devices].tolist()])
            outside = (columns.device_mask[with_devices] & ~known.astype(np.uint64)) != 0
            if outside.any():
                self._refuse(with_devices[outside], "the node has no such device")
            asked = self._asked_devices
            for place, text in device_refusals(self.state, self.command, self.slots, with_devices[~outside], asked):
                self.why[place] = text
                self.ok[place] = False

    # -------------------------------------------------------------------- what fits

    def _fit(self) -> None:
        """Refuse rows that their nodes have no room for."""
        places = np.flatnonzero(self.ok)
        if not len(places):
            return
        ledger = self.state.ledger
        slots = self.slots[places]
        order = np.argsort(slots, kind="stable")
        places, slots = places[order], slots[order]
        starts = np.flatnonzero(np.diff(slots, prepend=-1))
        nodes = slots[starts]
        capacity = np.array([_capacity(self.state.node_at[slot]) for slot in nodes.tolist()], dtype=np.int64)
        used = np.stack((ledger.cpu_millis[nodes], ledger.memory_mib[nodes], ledger.disk_mib[nodes]), axis=1)
        total = np.add.reduceat(self.need[places], starts, axis=0)
        tight = ((used + total) > capacity).any(axis=1)
        masks = self.columns.device_mask[places]
        if masks.any():
            share = device_bits(masks) * self.columns.gpu_millis[places, None].astype(np.int64)
            wanted = np.add.reduceat(share, starts, axis=0)
            tight |= ((ledger.device_millis[nodes] + wanted) > 1000).any(axis=1)
        ends = np.append(starts[1:], len(places))
        for at in np.flatnonzero(tight).tolist():
            self._fit_one_by_one(places[starts[at] : ends[at]], used[at], capacity[at], int(nodes[at]))

    def _fit_one_by_one(self, places: npt.NDArray[np.intp], used: Ints, capacity: Ints, slot: int) -> None:
        names = ("cpu", "memory", "disk")
        devices = self.state.ledger.device_millis[slot].astype(np.int64)
        node_id = self.state.node_at[slot].spec.id
        for place in places.tolist():
            after = used + self.need[place]
            short = np.flatnonzero(after > capacity)
            bits = device_bits(self.columns.device_mask[place : place + 1])[0]
            share = devices + bits * np.int64(self.columns.gpu_millis[place])
            if len(short):
                self.why[place] = f"node {node_id} has not enough {names[int(short[0])]} left"
                self.ok[place] = False
            elif (share > 1000).any():
                self.why[place] = f"a device of node {node_id} is taken"
                self.ok[place] = False
            else:
                used, devices = after, share

    def _match_taints(self) -> None:
        """A taint may have been put on a node since the plan was made; few nodes have any."""
        tainted = [bool(node is not None and node.taints) for node in map(self.state.nodes.get, self.command.nodes)]
        if not any(tainted):
            return
        for place in np.flatnonzero(self.ok & np.array(tainted)[self.columns.node]).tolist():
            node = self.state.node_at[int(self.slots[place])]
            taint = repelling(node.taints, self._facts(place).tolerations)
            if taint is not None:
                self.why[place] = f"node {node.spec.id} has a taint that it does not tolerate: {taint_text(taint)}"
                self.ok[place] = False

    def _fit_custom(self) -> None:
        """Refuse rows for which their nodes have too little of a custom resource left."""
        asking = (
            [place for place in np.flatnonzero(self.ok).tolist() if self._facts(place).custom] if self.custom else []
        )
        free: dict[int, dict[str, int]] = {}
        for place in asking:
            slot, wanted = int(self.slots[place]), self._facts(place).custom
            node = self.state.node_at[slot]
            if slot not in free:
                free[slot] = dict(added((node.spec.capacity.custom,)))
                for name, used in self.state.ledger.custom.of(slot):
                    free[slot][name] = free[slot].get(name, 0) - used
            short = short_of(free[slot], wanted)
            if short:
                self.why[place] = f"node {node.spec.id} has not enough {short} left"
                self.ok[place] = False
            else:
                for name, amount in wanted:
                    free[slot][name] -= amount

    def _facts(self, place: int) -> GroupFacts:
        """Of a row that is good so far."""
        job = self._record(place)
        assert job is not None, "it is good so far"
        return self.state.facts(job)[int(self.columns.group[place])]

    def _asked_devices(self, place: int) -> DeviceRequest | None:
        return self._facts(place).gpus

    def _match_ports(self) -> None:
        columns = self.columns
        offered = np.diff(columns.port_offsets)
        self._refuse_where(offered != self.port_count, "it gets another number of ports than its group asks for")
        taken: dict[str, set[int]] = {}
        for place in np.flatnonzero(self.ok & (offered > 0)).tolist():
            ports = self._ports(place)
            key = engine_key(self.state.node_at[int(self.slots[place])])
            engine = self.state.ledger.ports.get(key, {})
            planned = taken.setdefault(key, set())
            problem = ""
            if len(set(ports)) != len(ports) - self.same_port[place]:
                problem = "it gets the same host port twice"
            elif min(ports) < 1 or max(ports) > 65_535:
                problem = "a host port is not from 1 to 65535"
            elif self.has_static[place] and not self._statics_fit(place, ports):
                problem = "it does not get the static port that its group asks for"
            else:
                clash = next((port for port in ports if port in engine or port in planned), 0)
                if clash:
                    problem = f"host port {clash} is taken"
            if problem:
                self.why[place] = problem
                self.ok[place] = False
            else:
                planned.update(ports)

    def _match_quotas(self) -> None:
        """System jobs grow by being placed; of all others the quota was checked when they were submitted."""
        state = self.state
        if not state.namespaces:
            return
        growing: dict[str, Usage] = {}
        for place in np.flatnonzero(self.ok).tolist():
            spec = state.job_at[int(self.job_slot[place])].spec
            quota = quota_of(state, spec.namespace) if spec.type is JobType.SYSTEM else None
            if quota is None:
                continue
            one = of_instance(spec.groups[int(self.columns.group[place])])
            grown = growing.get(spec.namespace, NOTHING)
            used = add(state.usage.of(spec.namespace), grown)
            resource = exceeded(quota, used, one)
            if resource:
                self.why[place] = in_use(quota, used, resource, spec.namespace)
                self.ok[place] = False
            else:
                growing[spec.namespace] = add(grown, one)

    def _ports(self, place: int) -> tuple[int, ...]:
        start, end = self.columns.port_offsets[place : place + 2].tolist()
        return tuple(self.columns.ports[start:end].tolist())

    def _statics_fit(self, place: int, ports: tuple[int, ...]) -> bool:
        statics = self._facts(place).static_ports
        return all(static in (0, port) for static, port in zip(statics, ports, strict=True))

    def _match_neighbours(self) -> None:
        """Required affinity and spreading, row by row: each counts for those after it."""
        if not self.choosy:
            return
        state, near = self.state, Near(self.state, self.command.based_on)
        ok = self.ok.tolist()
        for place in range(self.rows):
            job = self._record(place)
            number = int(self.columns.group[place])
            if job is None or not 0 <= number < len(job.spec.groups):
                continue
            group = job.spec.groups[number]
            text = ""
            if ok[place] and asks_for_neighbours(job.spec, group):
                text = near.refusal(job, group, state.node_at[int(self.slots[place])])
            if text:
                self.why[place] = text
                self.ok[place] = False
            if self.ok[place]:
                near.add(job, group, int(self.slots[place]))
            else:
                near.refused(job, group)

    def _match_gangs(self) -> None:
        """A gang goes in whole or not at all; what its refused rows would have held stays free until the next plan."""
        for job_place, group, version in self.gangs:
            of_it = (self.columns.job == job_place) & (self.columns.group == group)
            places = np.flatnonzero(of_it & (self.columns.version == version))
            refused = places[~self.ok[places]]
            if len(refused):
                first = int(refused[0])
                text = f"its gang goes in whole or not at all, and {self._name(first)} does not: {self.why[first]}"
            else:
                ordinals = self.columns.ordinal[places]
                job = self.records[job_place, version]
                assert job is not None, "its rows are good so far"
                text = gang_refusal(self.state, job, group, ordinals)
            if text:
                self._refuse(places, text)

    # -------------------------------------------------------------------- in they go

    def _enter(self, accepted: npt.NDArray[np.intp]) -> None:
        state, table, columns = self.state, self.state.table, self.columns
        rows = table.take(len(accepted))
        values: dict[str, Any] = {
            "job": self.job_slot[accepted],
            "gid": self.gid[accepted],
            "group": columns.group[accepted],
            "ordinal": columns.ordinal[accepted],
            "attempt": columns.attempt[accepted],
            "version": columns.version[accepted],
            "node": self.slots[accepted],
            "desired": int(Desired.RUN),
            "state": int(AllocState.PENDING),
            "cpu_millis": self.need[accepted, 0],
            "memory_mib": self.need[accepted, 1],
            "disk_mib": self.need[accepted, 2],
            "device_mask": columns.device_mask[accepted],
            "gpu_millis": columns.gpu_millis[accepted],
            "failures": self.failures[accepted],
            "create_index": state.index,
            "modify_index": state.index,
            "create_time_ms": state.time_ms,
            "modify_time_ms": state.time_ms,
        }
        for name, value in values.items():
            if name not in _OFTEN_ZERO or value.any():  # the rows hold zeros
                getattr(table, name)[rows] = value
        if len(columns.ports):
            for row, place in zip(rows.tolist(), accepted.tolist(), strict=True):
                ports = self._ports(place)
                if ports:
                    table.ports[row] = ports
        if self.custom:
            for row, place in zip(rows.tolist(), accepted.tolist(), strict=True):
                custom = self._facts(place).custom
                if custom:
                    table.custom[row] = custom
        state.enter_rows(rows)
        self._tell(accepted)

    def _tell(self, accepted: npt.NDArray[np.intp]) -> None:
        columns, command = self.columns, self.command
        nodes = command.nodes
        events = []
        for job_place, version, group, ordinal, node, attempt in zip(
            columns.job[accepted].tolist(),
            columns.version[accepted].tolist(),
            columns.group[accepted].tolist(),
            columns.ordinal[accepted].tolist(),
            columns.node[accepted].tolist(),
            columns.attempt[accepted].tolist(),
            strict=True,
        ):
            job = self.records[job_place, version]
            if job is not None:
                spec = job.spec
                name = f"{spec.name}/{spec.groups[group].name}/{ordinal}"
                events.append((spec.namespace, spec.name, name, nodes[node], "", attempt))
        self.state.events.emit_rows("alloc.placed", events)


_OFTEN_ZERO = frozenset(("group", "disk_mib", "device_mask", "gpu_millis", "failures"))


def _repeated(static_ports: tuple[int, ...]) -> int:
    """How many fixed ports have a number that another one before them has."""
    fixed = [port for port in static_ports if port]
    return len(fixed) - len(set(fixed))


def _node_refusal(node: Node | None) -> str:
    if node is None:
        return "is gone"
    if node.status is not NodeStatus.READY:
        return "is lost"
    if node.draining:
        return "is draining"
    return "is cordoned" if node.cordoned else ""


def _capacity(node: Node) -> tuple[int, int, int]:
    capacity = node.spec.capacity
    return capacity.cpu_millis, capacity.memory_mib, capacity.disk_mib


def _all_devices(node: Node) -> int:
    return (1 << len(node.spec.devices)) - 1
