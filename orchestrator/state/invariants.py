"""What must always hold (DESIGN.md, "Rules that hold everywhere"), as one function that tests and drills call.

Owns: ``check`` and its cheap part. The rule: it computes everything anew from the tables and compares; it never
repairs.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from orchestrator.contract.model import AllocState, Desired, GangFailure, added
from orchestrator.state.allocations import LAST_LIVE, STORED
from orchestrator.state.ledger import Ledger, engine_key
from orchestrator.state.snapshot import Image, capture, image_hash, restore
from orchestrator.state.state import State

WHOLE = 1000


def check(state: State) -> list[str]:
    """Every invariant that is broken, as a sentence; empty when all hold. Takes seconds with a million allocations."""
    return [*check_tables(state), *_indexes(state)]


def check_tables(state: State) -> list[str]:
    """``check`` without what takes most of its time: whether the indexes are those that the tables would give."""
    return [
        *_nodes(state),
        *_ordinals(state),
        *_rows(state),
        *_gangs(state),
        *_jobs(state),
        *_bounds(state),
    ]


def _nodes(state: State) -> Iterator[str]:
    """No node over its capacity, no device or share given twice, ports unique per engine."""
    table, live = state.table, state.table.live_rows()
    millis: Counter[tuple[int, str]] = Counter()
    ports: Counter[tuple[str, int]] = Counter()
    sums: dict[int, list[int]] = {}
    for row in live.tolist():
        node = state.node_at[int(table.node[row])]
        total = sums.setdefault(node.slot, [0, 0, 0])
        for place, column in enumerate((table.cpu_millis, table.memory_mib, table.disk_mib)):
            total[place] += int(column[row])
        mask = int(table.device_mask[row])
        if mask >> len(node.spec.devices):
            yield f"row {row} holds a device that node {node.spec.id} does not have"
        for place, device in enumerate(node.spec.devices):
            if mask >> place & 1:
                millis[(node.slot, device.id)] += int(table.gpu_millis[row])
        for port in set(table.ports.get(row, ())):  # TCP and UDP of one row may share a number
            ports[(engine_key(node), port)] += 1
    for slot, total in sums.items():
        node = state.node_at[slot]
        ceiling = (node.ceiling.cpu_millis, node.ceiling.memory_mib, node.ceiling.disk_mib)
        for what, used, most in zip(("cpu", "memory", "disk"), total, ceiling, strict=True):
            if used > most:
                yield f"node {node.spec.id} gives away {used} of {most} {what}"
        most_custom = dict(node.ceiling.custom)
        for name, amount in added(table.custom.get(row, ()) for row in state.ledger.live[slot].tolist()):
            if amount > most_custom.get(name, 0):
                yield f"node {node.spec.id} gives away {amount} of {most_custom.get(name, 0)} {name}"
        if slot in state.forgotten:
            yield f"node {node.spec.id} is forgotten and holds live allocations"
    for (slot, device_id), given in millis.items():
        if given > WHOLE:
            yield f"device {device_id} of node {state.node_at[slot].spec.id} is given {given} times in a thousand"
    for (engine, port), given in ports.items():
        if given > 1:
            yield f"port {port} of {engine} is given {given} times"


def _ordinals(state: State) -> Iterator[str]:
    """At most one live attempt per (job, group, ordinal), and in a rollout one successor beside it; attempts unique and
    never above the highest ever placed; the one that counts is indexed."""
    table, ordinals = state.table, state.ordinals
    live: Counter[tuple[int, int]] = Counter()
    seen: set[tuple[int, int, int]] = set()
    newest: dict[tuple[int, int], int] = {}
    for row in table.used().tolist():
        key = (int(table.gid[row]), int(table.ordinal[row]))
        attempt = int(table.attempt[row])
        live[key] += table.is_live(row)
        if (*key, attempt) in seen:
            yield f"attempt {attempt} of {key} is there twice"
        seen.add((*key, attempt))
        before = newest.get(key, -1)
        if before < 0 or (table.is_live(before), table.attempt[before]) < (table.is_live(row), attempt):
            newest[key] = row
        if ordinals.find(*key) < 0:
            yield f"row {row} is not indexed by its ordinal"
        elif attempt > ordinals.last_attempt[ordinals.base[key[0]] + key[1]]:
            yield f"attempt {attempt} of {key} is above the highest ever placed"
    for key, count in live.items():
        job = state.job_at.get(ordinals.names[key[0]][0])
        if count > (2 if job is not None and job.tracked else 1):
            yield f"{count} attempts of {key} are live"
        if count > 1 and key[0] not in ordinals.paired:
            yield f"{count} attempts of {key} are live, and its group is not listed as one of pairs"
    for key, row in newest.items():
        if ordinals.find(*key) != row:
            yield f"the newest attempt of {key} is row {row}, the index says {ordinals.find(*key)}"


def _rows(state: State) -> Iterator[str]:
    """Every row speaks of what exists, in known words."""
    table = state.table
    states, wishes = {int(state) for state in AllocState}, {int(wish) for wish in Desired}
    for row in table.used().tolist():
        job = state.job_at.get(int(table.job[row]))
        if job is None:
            yield f"row {row} belongs to no job"
            continue
        gid = int(table.gid[row])
        if state.ordinals.names.get(gid, (-1, ""))[0] != job.slot:
            yield f"row {row} belongs to another job's group"
        spec = dict(job.specs).get(int(table.version[row]))
        group = int(table.group[row])
        if spec is None:
            yield f"row {row} runs version {table.version[row]} of {job.spec.name}, which is not kept"
        elif not 0 <= group < len(spec.groups) or spec.groups[group].name != state.ordinals.names[gid][1]:
            yield f"row {row} names another group by place than by number"
        elif len(table.ports.get(row, ())) != len(spec.groups[group].ports):
            yield f"row {row} has not the ports of its group"
        elif table.custom.get(row, ()) != spec.groups[group].resources.custom:
            yield f"row {row} has not the custom resources of its group"
        if int(table.node[row]) not in state.node_at:
            yield f"row {row} is on no node"
        if int(table.state[row]) not in states or int(table.desired[row]) not in wishes:
            yield f"row {row} is in an unknown state"
        if not 0 < table.create_index[row] <= table.modify_index[row] <= state.index:
            yield f"row {row} was changed before it was created, or after now"
    free = np.flatnonzero(table.job[: table.high] < 0)
    for name, _ in STORED:
        if name != "job" and getattr(table, name)[free].any():
            yield f"a free row has something in column {name}"
    if table.health[free].any():
        yield "a free row has a word of health"
    for row in (*table.ports, *table.reasons, *table.custom):
        if not row < table.high or table.job[row] < 0:
            yield f"free row {row} has ports or a reason"


def _gangs(state: State) -> Iterator[str]:
    """A gang that restarts as one went in as one: whoever of it is meant to run was placed by the same command, and no
    member has a newer attempt than that or none at all, unless it completed before. A group that is a gang no more is
    replaced one by one like any other."""
    table, ordinals = state.table, state.ordinals
    for job in state.jobs.values():
        still = {group.name for group in job.spec.groups if group.gang is not None}
        for version, spec in job.specs:
            for place, group in enumerate(spec.groups):
                if group.gang is None or group.gang.on_failure is not GangFailure.RESTART or group.name not in still:
                    continue
                rows = ordinals.rows(ordinals.gids[(job.slot, group.name)])
                newest = rows[rows >= 0]
                mine = newest[(table.version[newest] == version) & (table.group[newest] == place)]
                live = mine[(table.state[mine] <= LAST_LIVE) & (table.desired[mine] == Desired.RUN)]
                if not len(live):
                    continue
                what = f"gang {job.spec.name}/{group.name}"
                made = int(table.create_index[live[0]])
                if (table.create_index[live] != made).any():
                    yield f"{what} runs in parts that were placed at different times"
                others = rows[: group.count]
                if len(others) < group.count:
                    yield f"{what} has {len(others)} of {group.count} members"
                others = others[others >= 0]
                odd = (table.create_index[others] != made) & (table.state[others] != AllocState.COMPLETE)
                if odd.any():
                    yield f"{what} runs without {int(odd.sum())} of its members"


def _jobs(state: State) -> Iterator[str]:
    versions: dict[int, set[int]] = {}
    for row in state.table.used().tolist():
        versions.setdefault(int(state.table.job[row]), set()).add(int(state.table.version[row]))
    for uid, job in state.jobs.items():
        if job.uid != uid or state.job_at.get(job.slot) is not job:
            yield f"job {uid} is indexed elsewhere"
        kept = [version for version, _ in job.specs]
        base = {job.rollout.base_version} - {0} if job.rollout is not None else set()
        if set(kept) != versions.get(job.slot, set()) | {job.version} | base or kept != sorted(kept):
            yield f"job {uid} keeps versions {kept}, rows name {sorted(versions.get(job.slot, set()))}"
        if dict(job.specs)[job.version] != job.spec or len(job.group_versions) != len(job.spec.groups):
            yield f"job {uid} disagrees with itself"
        if any(not 1 <= version <= job.version for version in job.group_versions):
            yield f"job {uid} has a group version from the future"
        if job.removing and not len(state.live_rows(job.slot)):
            yield f"job {uid} should have been removed"


def _bounds(state: State) -> Iterator[str]:
    limits = state.limits
    if len(state.events) > limits.events:
        yield f"{len(state.events)} events are kept"
    if len(state.answers) > limits.answers:
        yield f"{len(state.answers)} answers are kept"


def _indexes(state: State) -> Iterator[str]:
    """Indexes agree with tables: a state made from the tables alone is the same."""
    image = capture(state)
    again = restore(image)
    if _differ(image, capture(again)):
        yield "the state is not what its own snapshot restores"
    for name in (
        "job_at",
        "job_names",
        "node_at",
        "node_names",
        "engine_nodes",
        "device_nodes",
        "children",
        "periodic",
        "draining",
    ):
        if getattr(state, name) != getattr(again, name):
            yield f"index {name} disagrees with the tables"
    if state._version_rows != again._version_rows:
        yield "rows per version are miscounted"
    rows = state.table.used()
    if not np.array_equal(state.table.prev[rows], again.table.prev[rows]):
        yield "the chain of attempts disagrees with the table"
    for gid, key in state.ordinals.names.items():
        if state.ordinals.gids.get(key) != gid or gid not in state.ordinals.by_job.get(key[0], ()):
            yield f"group {key} is indexed elsewhere"
        mine, theirs = state.ordinals.rows(gid), again.ordinals.rows(gid)
        if not np.array_equal(mine[mine >= 0], theirs[theirs >= 0]):
            yield f"newest rows of group {key} disagree with the table"
    if not again.ordinals.paired <= state.ordinals.paired:  # one that has no pair any more may still be named
        yield "groups of which an instance has two attempts that count are not known as such"
    yield from _ledger(state.ledger, again.ledger)
    for name in ("by_job", "by_namespace", "jobs_in"):
        if getattr(state.usage, name) != getattr(again.usage, name):
            yield f"the usage index {name} disagrees with the tables"


def _differ(one: Image, other: Image) -> bool:
    """Whether their hashes differ. Records that both share, which is nearly all, are not encoded twice for that."""
    left: dict[str, Any] = {}
    right: dict[str, Any] = {}
    for name in ("jobs", "nodes", "forgotten", "variables", "namespaces"):
        ours, theirs = getattr(one, name), getattr(other, name)
        left[name] = {key: value for key, value in ours.items() if theirs.get(key) is not value}
        right[name] = {key: value for key, value in theirs.items() if ours.get(key) is not value}
    for name in ("answers", "events"):
        if _shared(getattr(one, name), getattr(other, name)):
            left[name] = right[name] = []
    return image_hash(replace(one, **left)) != image_hash(replace(other, **right))


def _shared(ours: Sequence[object], theirs: Sequence[object]) -> bool:
    return len(ours) == len(theirs) and all(map(operator.is_, ours, theirs))


def _ledger(mine: Ledger, theirs: Ledger) -> Iterator[str]:
    slots = min(len(mine.live), len(theirs.live))
    for name in ("cpu_millis", "memory_mib", "disk_mib", "device_millis", "rows_kept"):
        left, right = getattr(mine, name), getattr(theirs, name)
        if not np.array_equal(left[:slots], right[:slots]) or left[slots:].any() or right[slots:].any():
            yield f"the nodes' {name} disagree with the table"
    for slot, rows in enumerate(mine.live):
        expected = theirs.live[slot] if slot < slots else np.empty(0, dtype=np.int32)
        if not np.array_equal(np.sort(rows), np.sort(expected)):
            yield f"live rows of node slot {slot} disagree with the table"
    if mine.custom != theirs.custom:
        yield "custom resources in use disagree with the table"
    if mine.ports != theirs.ports:
        yield "ports in use disagree with the table"
