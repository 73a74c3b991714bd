"""Which instances are missing, and what is asked for them.

Owns: comparing wanted instances with those that are there, attempts' numbers, missing variables, nodes to avoid. Leaves
to others: what an ended attempt means (``state.failures``), finding nodes (``scheduling``). The rule: an instance with
any live attempt is not missing, so there are never two.
"""

from __future__ import annotations

import numpy as np

from orchestrator.contract.containers import variables_of
from orchestrator.reconcile.dependencies import earlier_run, turn_of
from orchestrator.reconcile.gangs import Cause, gang_of, judge
from orchestrator.reconcile.seats import parted, seat
from orchestrator.reconcile.table import BoolArray, Scene, key_of
from orchestrator.reconcile.work import NO_NODE, Ask, GroupWork, Int64Array
from orchestrator.state.commands import Int32Array
from orchestrator.state.distinct import distinct
from orchestrator.state.failures import Ended, Fate, fates
from orchestrator.state.model import Job
from orchestrator.state.views import ClusterView

NOBODY = np.zeros(0, dtype=np.int32)


def find_gaps(
    scene: Scene, now_ms: int
) -> tuple[list[Ask], dict[tuple[int, int], GroupWork], int | None, dict[int, Cause]]:
    """Asks in no order yet, notes per group, the next backoff deadline (None: nobody waits), and the gangs that stop as
    a whole (``gangs.judge``)."""
    instances = scene.instances
    fate, due = _fates(scene, now_ms)
    wanted = _wanted(scene)
    seats = seat(scene, fate, wanted)
    settled = wanted & (instances.live | (fate != Fate.AGAIN))
    stops, held = judge(scene, fate, wanted)
    asks: list[Ask] = []
    notes: dict[tuple[int, int], GroupWork] = {}
    for number in _groups_with_gaps(scene, settled):
        missing = _missing(scene, settled, number)
        job, place = scene.groups.jobs[number], scene.groups.places[number]
        newest, before = parted(seats.get(number), missing)
        base, hold = scene.groups.bases[number], scene.groups.holds[number]
        unpromoted = len(before) if base is None else 0
        parts = [(job, -1, newest)] if len(newest) else []
        if base is not None and hold is not None and len(before):
            parts.append((base, hold.at, before))
        blocked = next((text for record, _, _ in parts if (text := blocked_by(scene.view, record, place))), "")
        gang = held.get(number, "")
        verdict = turn_of(scene, fate, wanted, number)
        notes[key_of(scene.groups, number)] = GroupWork(
            missing=len(missing) - unpromoted,
            blocked=blocked,
            gang=gang,
            after=verdict.text,
            skipped=verdict.skipped,
            unpromoted=unpromoted,
        )
        if not gang and not verdict.text:
            for record, at, ordinals in parts:
                if not blocked_by(scene.view, record, place):
                    asks.extend(_asks(scene, number, ordinals, record, at))
    for number, taken in seats.items():
        notes.setdefault(key_of(scene.groups, number), GroupWork()).seated = taken.taken
    if not len(fate):
        return asks, notes, None, stops
    ended = wanted & ~instances.live
    for at in np.flatnonzero(ended & ((fate == Fate.WAIT) | (fate == Fate.FAILED))).tolist():
        note = notes.setdefault(key_of(scene.groups, int(instances.group[at])), GroupWork())
        if fate[at] == Fate.WAIT:
            if note.waiting == 0 or due[at] < note.wake_at_ms:
                note.wake_at_ms, note.waiting_at = int(due[at]), int(instances.newest[at])
            note.waiting += 1
        else:
            note.failed_at = int(instances.newest[at])
            note.failed += 1
    deadlines = due[ended & (fate == Fate.WAIT)]
    return asks, notes, int(deadlines.min()) if len(deadlines) else None, stops


def _fates(scene: Scene, now_ms: int) -> tuple[Int32Array, Int64Array]:
    """Per instance: what follows from the end of its newest attempt; AGAIN where that is live, lost or outdated (of no
    version at which its group is placed now)."""
    columns, groups, instances = scene.view.allocations, scene.groups, scene.instances
    fate = np.full(len(instances.group), Fate.AGAIN, dtype=np.int32)
    due = np.zeros(len(instances.group), dtype=np.int64)
    if not len(fate):
        return fate, due
    newest = instances.newest
    current = ~scene.rows.wrong[newest]
    judged = np.flatnonzero(~instances.live & current & ~scene.lose[newest])
    at = newest[judged]
    number = instances.group[judged]
    ended = Ended(
        job_type=groups.job_type[number],
        desired=columns.desired[at],
        state=columns.state[at],
        start_failed=columns.start_failed[at],
        failures=columns.failures[at],
        retries=np.where(scene.rows.outdated[at], groups.base_retries[number], groups.retries[number]),
        create_ms=columns.create_time_ms[at],
        modify_ms=columns.modify_time_ms[at],
    )
    fate[judged], due[judged] = fates(ended, now_ms)
    return fate, due


def _wanted(scene: Scene) -> BoolArray:
    """bool per instance: should there be one?"""
    groups, instances = scene.groups, scene.instances
    wanted: BoolArray = instances.ordinal < groups.count[instances.group]
    for number in np.flatnonzero(groups.system).tolist():
        here = slice(int(instances.bounds[number]), int(instances.bounds[number + 1]))
        wanted[here] = np.isin(instances.ordinal[here], _targets(scene, number))
    return wanted


def _targets(scene: Scene, number: int) -> Int64Array:
    """The ordinals that a group should have, ascending."""
    if number in scene.system_nodes:
        return np.array(sorted(scene.system_nodes[number]), dtype=np.int64)
    return np.arange(0 if scene.groups.system[number] else int(scene.groups.count[number]), dtype=np.int64)


def _groups_with_gaps(scene: Scene, settled: BoolArray) -> list[int]:
    groups = scene.groups
    if not len(groups):
        return []
    present = np.bincount(scene.instances.group[settled], minlength=len(groups))
    target = groups.count.copy()
    for number in np.flatnonzero(groups.system).tolist():
        target[number] = len(scene.system_nodes.get(number, frozenset()))
    numbers: list[int] = np.flatnonzero(present < target).tolist()
    return numbers


def _missing(scene: Scene, settled: BoolArray, number: int) -> Int64Array:
    targets = _targets(scene, number)
    begin, end = scene.bounds[number], scene.bounds[number + 1]
    if begin == end:
        return targets
    return targets[~np.isin(targets, scene.instances.ordinal[begin:end][settled[begin:end]])]


def _asks(scene: Scene, number: int, missing: Int64Array, job: Job, in_spec: int) -> list[Ask]:
    """One ask for the group, and one per node to be avoided for instances that could not start there, or move away.
    ``job``: the record of the version to place them at; ``in_spec``: ``Ask.at``."""
    columns, instances = scene.view.allocations, scene.instances
    place = scene.groups.places[number]
    pinned = bool(scene.groups.system[number])
    ordinals = missing.astype(np.int32)
    attempts = next_attempts(scene.view, job, place, ordinals)
    begin, end = scene.bounds[number], scene.bounds[number + 1]
    if begin == end:
        return [
            Ask(job=job, group=place, ordinals=ordinals, attempts=attempts, peers=NOBODY, pinned=pinned, at=in_spec)
        ]

    newest, there = instances.newest[begin:end], instances.ordinal[begin:end]
    peers = columns.node[newest[instances.live[begin:end]]]
    latest = newest[np.lexsort((there, columns.create_index[newest]))[-1]]
    avoid = np.full(len(missing), NO_NODE, dtype=np.int64)
    if not pinned:
        failed = columns.start_failed[newest] & ~scene.rows.wrong[newest]
        leaves = failed | columns.moved[newest]  # what is moved must not come straight back
        at = np.searchsorted(there, missing)
        known = at < len(there)
        known[known] = there[at[known]] == missing[known]
        known[known] = leaves[at[known]]
        avoid[known] = columns.node[newest[at[known]]]
    if gang_of(scene.groups, number) is not None:
        avoid[:] = avoid.max()  # all of it or nothing of it, so one ask
    return [
        Ask(
            job=job,
            group=place,
            ordinals=ordinals[avoid == slot],
            attempts=attempts[avoid == slot],
            avoid=slot,
            peers=peers,
            last_node=int(columns.node[latest]),
            pinned=pinned,
            at=in_spec,
        )
        for slot in distinct(avoid)
    ]


def next_attempts(view: ClusterView, job: Job, place: int, ordinals: Int32Array) -> Int32Array:
    last = view.last_attempt.get((job.slot, job.spec.groups[place].name))
    attempts = np.full(len(ordinals), view.attempt_floor + 1, dtype=np.int32)
    if last is None:
        return attempts
    inside = ordinals < len(last)
    attempts[inside] = np.maximum(last[ordinals[inside]], view.attempt_floor) + 1
    return attempts


def blocked_by(view: ClusterView, job: Job, place: int) -> str:
    """Why nothing of the group may be placed, or "" (also the case that reads only the tasks)."""
    waits = earlier_run(view, job)
    if waits:
        return waits
    names = {name for task in job.spec.groups[place].tasks for name in variables_of(task)}
    if not names:
        return ""
    absent = sorted(name for name in names if (job.spec.namespace, name) not in view.variables)
    if not absent:
        return ""
    return f"variable {absent[0]} missing" if len(absent) == 1 else f"variables {', '.join(absent)} missing"
