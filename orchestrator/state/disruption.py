"""How many instances of a group may be down now because of us: the one owner of that question.

Owns: what a budget (``JobSpec.disruption``) allows of a group as it stands. Leaves to others: who goes down
(``reconcile.rounds`` for drains, ``scheduling.preempt``, rebalancing), rechecking it (``apply_evictions``,
``apply_plan``). The rules:

- An instance is up while it is meant to run, was seen running, its checks are good, and its node is not lost. Whatever
  else is wanted of the group is down, whoever's fault it is: a budget is about what users still have.
- At most ``max_unavailable`` may be down at once. Per cent are of the wanted instances, rounded down, but at least one
  unless it says 0: a budget that blocks for ever must be meant.
- A job without a budget has none here: drains then go one at a time (``pace``), preemption has no bound.
- What a rollout replaces is not counted against the budget beforehand; while its instances are down they are down.
- Instances of a batch job that are complete are not wanted any more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import AllocState, Desired, Disruption, JobType, NodeStatus
from orchestrator.state.allocations import LAST_LIVE, well
from orchestrator.state.model import Job
from orchestrator.state.state import State
from orchestrator.state.versions import counted
from orchestrator.state.views import ClusterView

BOUNDLESS = 2**31 - 1
"""What may go down of a group without a budget."""
DRAINED = "its node is being drained"
"""How the reason of an allocation begins that was told to stop for a drain, which waits for budgets."""
PREEMPTED = "preempted by "
"""How the reason of an allocation begins that was told to stop for the sake of a job of higher priority."""

BoolArray = npt.NDArray[np.bool_]


def is_up(ready: BoolArray, desired: npt.NDArray[np.int8], node_lost: BoolArray) -> BoolArray:
    """bool per newest attempt of an instance: users have it. ``ready``: as ``allocations.well`` says."""
    up: BoolArray = ready & (desired == int(Desired.RUN)) & ~node_lost
    return up


def most_down(budget: Disruption, wanted: int) -> int:
    """How many of ``wanted`` instances may be down at once."""
    if not budget.percent:
        return max(0, budget.max_unavailable)
    if budget.max_unavailable <= 0:
        return 0
    return max(1, wanted * budget.max_unavailable // 100)


def may_go_down(budget: Disruption | None, *, wanted: int, up: int) -> int:
    """How many of a group's instances that are up may be taken down now."""
    if budget is None:
        return BOUNDLESS
    return max(0, most_down(budget, wanted) - max(0, wanted - up))


def standing(
    job: Job,
    group: int,
    *,
    ordinal: npt.NDArray[np.int32],
    version: npt.NDArray[np.int32],
    state: npt.NDArray[np.int8],
    up: BoolArray,
    preempted: BoolArray,
    level: int,
) -> tuple[int, int]:
    """(wanted, up) of a group of the job's current spec; arrays: the newest attempts of its instances.

    ``level``: the feature level; ``preempted``: told to stop for others' sake. Of a system job nobody knows a count
    here: what lives is wanted, and what was preempted and has not come back.
    """
    spec = job.spec.groups[group]
    if job.spec.type is JobType.SYSTEM:
        wanted = (state <= LAST_LIVE) | preempted
        return int(wanted.sum()), int((wanted & up).sum())
    mine = ordinal < spec.count
    done = 0
    if job.spec.type is JobType.BATCH:
        complete = state == int(AllocState.COMPLETE)
        done = int((mine & complete & counted(job, group, version, level)).sum())
    return spec.count - done, int((mine & up).sum())


class Budgets:
    """What budgets leave, of a view, while a round takes instances down. ``leaving``: positions of rows that are told
    to stop already, or by this round."""

    def __init__(self, view: ClusterView, leaving: npt.NDArray[np.int64]) -> None:
        self._view = view
        self._leaving = np.zeros(len(view.allocations), dtype=np.bool_)
        self._leaving[leaving] = True
        self._left: dict[tuple[int, str], int] = {}
        self._said: dict[tuple[int, str], str] = {}
        lost = [slot for slot, node in view.nodes_by_slot.items() if node.status is NodeStatus.LOST]
        self._lost = np.array(sorted(lost), dtype=np.int32)

    def group_of(self, position: int) -> tuple[int, str]:
        """(job slot, group name) of a row."""
        columns = self._view.allocations
        job = self._view.jobs_by_slot[int(columns.job[position])]
        version, place = int(columns.version[position]), int(columns.group[position])
        spec = next((spec for number, spec in job.specs if number == version), job.spec)
        return job.slot, spec.groups[min(place, len(spec.groups) - 1)].name

    def left(self, key: tuple[int, str]) -> int:
        """How many more instances of this group may go down."""
        budget = self._view.jobs_by_slot[key[0]].spec.disruption
        if budget is None:
            return BOUNDLESS
        if key not in self._left:
            wanted, up = self._standing(key)
            self._left[key] = may_go_down(budget, wanted=wanted, up=up)
            self._said[key] = describe(budget, wanted=wanted, up=up)
        return self._left[key]

    def said(self, key: tuple[int, str]) -> str:
        """The budget and how it stood at first, in words."""
        self.left(key)
        return self._said.get(key, "")

    def mark(self) -> dict[tuple[int, str], int]:
        return dict(self._left)

    def undo(self, mark: dict[tuple[int, str], int]) -> None:
        self._left = dict(mark)

    def take(self, key: tuple[int, str], count: int) -> None:
        if self.left(key) != BOUNDLESS:
            self._left[key] -= count

    def _standing(self, key: tuple[int, str]) -> tuple[int, int]:
        columns, job = self._view.allocations, self._view.jobs_by_slot[key[0]]
        group = next((place for place, group in enumerate(job.spec.groups) if group.name == key[1]), -1)
        if group < 0:
            return 0, 0
        newest: dict[int, int] = {}
        # Rows are in the order of job slots.
        first, last = np.searchsorted(columns.job, [job.slot, job.slot + 1]).tolist()
        for position in range(first, last):
            if self.group_of(position) == key:
                ordinal = int(columns.ordinal[position])
                before = newest.get(ordinal)
                if before is None or columns.attempt[before] < columns.attempt[position]:
                    newest[ordinal] = position
        at = np.array([newest[ordinal] for ordinal in sorted(newest)], dtype=np.int64)
        up = is_up(columns.ready[at], columns.desired[at], np.isin(columns.node[at], self._lost))
        preempted = [columns.reasons.get(int(row), "").startswith(PREEMPTED) for row in columns.row[at].tolist()]
        return standing(
            job,
            group,
            ordinal=columns.ordinal[at],
            version=columns.version[at],
            state=columns.state[at],
            up=up & ~self._leaving[at],
            preempted=np.array(preempted, dtype=np.bool_),
            level=self._view.feature_level,
        )


def drain_refusal_of(state: State, row: int) -> str:
    """Why a drain may not tell a live row to stop now, or "". Who is down anyway costs nobody anything."""
    table = state.table
    one = np.array([row], dtype=np.int32)
    if not is_up(well(table.state[one], table.health[one]), table.desired[one], np.zeros(1, dtype=np.bool_))[0]:
        return ""
    held = refusal_of(state, row)
    return f"cannot leave its node: {held}" if held else ""


def refusal_of(state: State, row: int) -> str:
    """Why a live row may not be taken down for others' sake, or ""."""
    job = state.job_at[int(state.table.job[row])]
    budget = job.spec.disruption
    if budget is None:
        return ""
    gid = int(state.table.gid[row])
    name = state.ordinals.names[gid][1]
    group = next((place for place, group in enumerate(job.spec.groups) if group.name == name), -1)
    if group < 0:
        return ""  # a group that the job no longer has
    table, rows = state.table, state.ordinals.rows(gid)
    rows = rows[rows >= 0]
    lost = np.array(
        [state.node_at[slot].status is NodeStatus.LOST for slot in table.node[rows].tolist()], dtype=np.bool_
    )
    preempted = [table.reasons.get(one, "").startswith(PREEMPTED) for one in rows.tolist()]
    wanted, up = standing(
        job,
        group,
        ordinal=table.ordinal[rows],
        version=table.version[rows],
        state=table.state[rows],
        up=is_up(well(table.state[rows], table.health[rows]), table.desired[rows], lost),
        preempted=np.array(preempted, dtype=np.bool_),
        level=state.feature_level,
    )
    if may_go_down(budget, wanted=wanted, up=up) > 0:
        return ""
    return f"the disruption budget of {job.spec.name}/{name}: {describe(budget, wanted=wanted, up=up)}"


def describe(budget: Disruption, *, wanted: int, up: int) -> str:
    """``1 of 4 may be down, 1 is``."""
    down = max(0, wanted - up)
    return f"{most_down(budget, wanted)} of {wanted} may be down, {down} {'is' if down == 1 else 'are'}"
