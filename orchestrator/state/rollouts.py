"""What a rollout may do now, judged where it is committed: the one owner of its bounds.

Owns: how many of a group are ready, whether one more may be replaced or may get a successor, and what a rollback goes
back to. Leaves to others: which versions are current (``versions``) or placed meanwhile (``holding``), the pace and the
choice (``reconcile.rollouts``), what commands do with it (``apply_rollouts``, ``apply_plan``). The rules:

- An instance counts as ready while any live attempt of it is ready, meant to run, and on a node that is there.
- Whoever is ready may be told to stop only if enough others stay ready, or if the same instance has another that is.
- At most ``surge`` instances of a group have two live attempts: of a rollout, or (``features.SURGING_DRAINS``) because
  the one that is ready is on a draining node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from orchestrator.contract import health
from orchestrator.contract.model import AllocState, Desired, JobSpec, NodeStatus, Revision
from orchestrator.contract.rollouts import RolloutStatus, surge, unavailable
from orchestrator.state.allocations import LAST_LIVE, well
from orchestrator.state.features import SURGING_DRAINS
from orchestrator.state.holding import base_record, hold_of, is_held_back, is_of_base, may_be_placed
from orchestrator.state.model import MAX_REVISIONS, Job
from orchestrator.state.state import Rows, State, under_way
from orchestrator.state.versions import current, follows_policy, is_current, place_of, same_content

Bools = npt.NDArray[np.bool_]


def is_ready(state: State, row: int) -> bool:
    """Whether it should get work: it runs, is meant to, its node is there, and its checks are good."""
    table = state.table
    return (
        int(table.state[row]) == int(AllocState.RUNNING)
        and int(table.desired[row]) == int(Desired.RUN)
        and health.is_ready(int(table.health[row]))
        and state.node_at[int(table.node[row])].status is NodeStatus.READY
    )


def ready_rows(state: State, rows: Rows) -> Bools:
    """bool per row: ``is_ready``."""
    table = state.table
    ready: Bools = well(table.state[rows], table.health[rows]) & (table.desired[rows] == int(Desired.RUN))
    if not ready.any():
        return ready
    nodes, at = np.unique(table.node[rows], return_inverse=True)
    there = np.array([state.node_at[slot].status is NodeStatus.READY for slot in nodes.tolist()], dtype=np.bool_)
    together: Bools = ready & there[at]
    return together


class Bounds:
    """How many of each group are ready while one command takes some down."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._ready: dict[int, int] = {}

    def refusal(self, row: int) -> str:
        """Why a live row may not be told to stop by a rollout, or ""."""
        state, table = self._state, self._state.table
        job = state.job_at[int(table.job[row])]
        gid = int(table.gid[row])
        place = place_of(job, state.ordinals.names[gid][1])
        if table.desired[row] == int(Desired.STOP):
            return "was already told to stop"
        if place < 0 or not follows_policy(job, place):
            return "is not part of a rollout"
        other = self._beside(row)
        version = int(table.version[row])
        if self._spare(job, place, row, other):
            alone = is_ready(self._state, row) and not is_ready(self._state, other)
            return "stays: its other attempt is not ready" if alone else ""
        if not under_way(job.rollout):
            return "stays: its rollout does not go on"
        if is_current(job, place, version) and not self._replaced(job, place, row, other):
            return "is of the current version"
        if not is_ready(self._state, row) or (other >= 0 and is_ready(self._state, other)):
            return ""
        group = job.spec.groups[place]
        if int(table.ordinal[row]) >= group.count:
            return ""
        floor = group.count - unavailable(group.update, group.count)
        ready = self._count(gid, group.count)
        if ready - 1 < floor:
            return f"stays: {ready} of {group.count} are ready, and {floor} have to be"
        return ""

    def take(self, row: int) -> None:
        """A row was told to stop; call it before that is written down."""
        gid = int(self._state.table.gid[row])
        other = self._beside(row)
        if gid in self._ready and is_ready(self._state, row) and not (other >= 0 and is_ready(self._state, other)):
            self._ready[gid] -= 1

    def _replaced(self, job: Job, place: int, row: int, other: int) -> bool:
        """Whether a newer attempt of the current version lives beside it."""
        table = self._state.table
        return (
            other >= 0
            and int(table.attempt[other]) > int(table.attempt[row])
            and is_current(job, place, int(table.version[other]))
        )

    def _spare(self, job: Job, place: int, row: int, other: int) -> bool:
        """Whether a drain, or the end of one, lets two of an instance become one, whatever its rollout does: the one
        that stays is of a version at which it is placed now, and so is this one, or its node is draining."""
        state, table = self._state, self._state.table
        if other < 0 or state.feature_level < SURGING_DRAINS:
            return False
        if not may_be_placed(job, place, int(table.version[other])) or table.desired[other] == int(Desired.STOP):
            return False
        return may_be_placed(job, place, int(table.version[row])) or state.node_at[int(table.node[row])].draining

    def _beside(self, row: int) -> int:
        """The other live attempt of the same instance, or -1."""
        state, table = self._state, self._state.table
        head = state.ordinals.find(int(table.gid[row]), int(table.ordinal[row]))
        other = int(table.prev[head]) if head == row else head
        return other if other >= 0 and table.is_live(other) else -1

    def _count(self, gid: int, count: int) -> int:
        """Ready instances of a group, those above the count left out."""
        if gid not in self._ready:
            self._ready[gid] = ready_count(self._state, gid, count)
        return self._ready[gid]


def ready_count(state: State, gid: int, count: int) -> int:
    """How many instances of a group below ``count`` have an attempt that is ready."""
    rows = state.ordinals.rows(gid)[:count]
    rows = rows[rows >= 0]
    ready = ready_rows(state, rows)
    if gid in state.ordinals.paired:
        behind = state.table.prev[rows]
        also = np.flatnonzero((behind >= 0) & ~ready)
        ready[also] |= ready_rows(state, behind[also])
    return int(ready.sum())


def pairs(state: State, gid: int) -> int:
    """How many instances of a group have two live attempts."""
    if gid not in state.ordinals.paired:
        return 0
    rows = state.ordinals.rows(gid)
    rows = rows[rows >= 0]
    return len(state.seconds(rows[state.table.state[rows] <= LAST_LIVE]))


def successor_refusals(state: State, asked: Sequence[tuple[int, int]]) -> list[str]:
    """``asked``: (row that counts and is live, version of the successor), of distinct ordinals; "" where it may."""
    table = state.table
    used: dict[int, int] = {}
    found = []
    for row, version in asked:
        gid = int(table.gid[row])
        job = state.job_at[int(table.job[row])]
        place = place_of(job, state.ordinals.names[gid][1])
        text = _successor_refusal(state, job, place, row, version)
        if not text:
            taken = used.setdefault(gid, pairs(state, gid))
            group = job.spec.groups[place]
            if taken >= surge(group.update, group.count):
                text = f"an attempt of it is live, and {taken} of its group have a successor already"
            else:
                used[gid] += 1
        found.append(text)
    return found


def _successor_refusal(state: State, job: Job, place: int, row: int, version: int) -> str:
    table = state.table
    live = "an attempt of it is live"
    before = version != job.version  # the version before, at which it is held (``apply_placements`` has judged that)
    if place < 0 or not follows_policy(job, place):
        return live
    behind = int(table.prev[row])
    if behind >= 0 and table.is_live(behind):
        return "two attempts of it are live"
    mine = int(table.version[row])
    fresh = is_current(job, place, mine)
    if fresh or (before and is_of_base(job, job.spec.groups[place].name, mine)):
        leaves = state.feature_level >= SURGING_DRAINS and state.node_at[int(table.node[row])].draining
        return "" if leaves and fresh != before and is_ready(state, row) else live
    return "" if under_way(job.rollout) else f"{live}, and its rollout does not go on"


def newer_ordinals(state: State, job: Job, place: int) -> set[int]:
    """The instances of a group of which something lives that is of a current version."""
    table, group = state.table, job.spec.groups[place]
    rows = state.ordinals.rows(state.ordinals.gids[(job.slot, group.name)])[: group.count]
    rows = rows[rows >= 0]
    live = rows[table.state[rows] <= LAST_LIVE]
    both = np.concatenate((live, state.seconds(live)))
    return set(table.ordinal[both[current(job, place, table.version[both])]].tolist())


def spread_refusal(state: State, job: Job, place: int, ordinal: int, newer: set[int]) -> str:
    """Why an instance may not be placed at the job's newest version, or "". ``newer``: which ones are (see above),
    those included that the command places so."""
    hold = hold_of(job, place, base_record(job)) if is_held_back(job) else None
    if hold is None:
        return ""
    table, group = state.table, job.spec.groups[place]
    gid = state.ordinals.gids[(job.slot, group.name)]
    assert job.rollout is not None, "it is held back"
    if job.rollout.promoted:
        row = state.ordinals.find(gid, ordinal)
        attempts = [row, int(table.prev[row])] if row >= 0 else []
        newest = max((one for one in attempts if one >= 0), key=table.attempt.item, default=-1)
        back = newest >= 0 and is_current(job, place, int(table.version[newest]))
        return "" if back else "the version must not spread: its rollout does not go on"
    if len(newer) - (ordinal in newer) < hold.canaries:
        return ""
    return f"the version waits for its promotion: {hold.canaries} of {group.count} may be of it until then"


# ---------------------------------------------------------------------------- versions


def all_ready(state: State, job: Job) -> bool:
    """Whether every instance that the job wants is ready, of the current version."""
    for place, group in enumerate(job.spec.groups):
        gid = state.ordinals.gids[(job.slot, group.name)]
        rows = state.ordinals.rows(gid)[: group.count]
        rows = rows[rows >= 0]
        if int((ready_rows(state, rows) & current(job, place, state.table.version[rows])).sum()) < group.count:
            return False
    return True


def remembered(state: State, job: Job) -> tuple[Revision, ...]:
    """The job's history with its present version, before a next one comes."""
    rollout = job.rollout
    waits = rollout is not None and rollout.base_version > 0 and not rollout.promoted  # nobody has said that it is good
    stable = job.stable_version == job.version or (not waits and all_ready(state, job))
    now = Revision(version=job.version, spec=job.spec, time_ms=job.modify_time_ms, stable=stable)
    older = (*job.history, now)
    kept = older[-MAX_REVISIONS:]
    good = next((one for one in reversed(older) if one.stable), None)
    return kept if good is None or good in kept else (good, *kept)


def target(job: Job, version: int) -> tuple[Revision | None, str]:
    """What to go back to (0: the last that was good, or else the one before), or why there is nothing."""
    if version:
        found = next((one for one in job.history if one.version == version), None)
        if version == job.version:
            return None, f"version {version} is the current one"
        if found is None:
            known = ", ".join(str(one.version) for one in job.history) or "none"
            return None, f"version {version} of job {job.spec.name!r} is not remembered; there are: {known}"
        return found, ""
    others = [one for one in job.history if not same_content(one.spec, job.spec)]
    if not others:
        return None, f"job {job.spec.name!r} remembers no version with other content"
    good = [one for one in others if one.stable]
    return (good or others)[-1], ""


def taken_back(job: Job, revision: Revision) -> JobSpec:
    """The spec of an older version with the counts of now."""
    counts = {group.name: group.count for group in job.spec.groups}
    groups = tuple(replace(group, count=counts.get(group.name, group.count)) for group in revision.spec.groups)
    return replace(revision.spec, groups=groups)


def status_text(job: Job) -> str:
    """Where the job's rollout stands, in words."""
    rollout = job.rollout
    if rollout is None:
        return "nothing is being rolled out"
    word = {
        RolloutStatus.RUNNING: "goes on",
        RolloutStatus.PAUSED: "is paused",
        RolloutStatus.SUCCEEDED: "has succeeded",
        RolloutStatus.FAILED: "has failed",
    }[rollout.status]
    return f"the rollout of version {rollout.version} {word}"
