"""What to do next, as the log will carry it: reconcile, then schedule, then cut into entries.

Owns: ``decide`` and ``explain``, the two questions that the leader asks of a view; joining ``reconcile`` with
``scheduling``; the size of an entry. Leaves to others: proposing (``leader``), rechecking every row (``state.apply``).
The rule: a function of the view and the time; nothing to do gives no plans.

Cutting. An entry takes at most ``ROWS_MAX`` rows and about ``BYTES_MAX`` bytes. Each is valid alone: its tables are its
own, actions come before placements in it and in the sequence, and apply judges row by row, so an entry that is lost or
that comes late harms nothing but its own rows. A gang is never cut: it goes into one entry whole, if need be the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.contract.answers import GroupExplanation
from orchestrator.contract.model import JobType, JobUid
from orchestrator.reconcile.explain import remarks
from orchestrator.reconcile.rounds import reconcile
from orchestrator.reconcile.work import Actions, Ask, GroupWork, Int64Array, Work
from orchestrator.scheduling import registry
from orchestrator.scheduling.explain import explain_wish
from orchestrator.scheduling.explain_gangs import explain_gang
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import Placements, solve
from orchestrator.scheduling.wish import wish_of
from orchestrator.state.commands import Action, ActionColumns, ApplyPlan, Int32Array, PlacementColumns
from orchestrator.state.model import Job
from orchestrator.state.views import ClusterView

ROWS_MAX = 2_000
"""The log would take ten times as many, but every peer spends some 20 us on applying a row, and while it applies an
entry it hears no heartbeat: an entry must cost far less than an election timeout, on a busy machine too."""
BYTES_MAX = 1_500_000
ROW_BYTES = 52
"""Of one placement, should every column be written at full width; an action takes less."""
PORT_BYTES = 4
NAME_BYTES = 8
"""Around each uid, node id and reason in a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """Instances without a node: no_room: nothing fits now; backing_off: they failed to start and wait; blocked: held
    back by something named, such as a missing variable or the rest of a gang; failed: failed for good."""

    no_room: int = 0
    backing_off: int = 0
    blocked: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """``plans`` to propose in order, none if there is nothing to do; ``wake_at_ms``: when to decide again although
    nothing has changed, in unix ms (None: only a change matters)."""

    plans: tuple[ApplyPlan, ...]
    wake_at_ms: int | None
    unplaced: Unplaced


def decide(view: ClusterView, now_ms: int) -> Decision:
    work = reconcile(view, now_ms)
    problem = Problem(view, _given_up(work))
    placements = solve(problem, work.asks)
    blocked = sum(note.missing for note in work.groups.values() if note.blocked or note.gang)
    return Decision(
        plans=tuple(_cut(view, work, problem, placements)),
        wake_at_ms=work.wake_at_ms,
        unplaced=Unplaced(
            no_room=sum(placements.unplaced),
            backing_off=sum(note.waiting for note in work.groups.values()),
            blocked=blocked,
            failed=sum(note.failed for note in work.groups.values()),
        ),
    )


def _given_up(work: Work) -> Int64Array:
    positions: Int64Array = work.actions.positions[work.actions.actions == Action.LOSE]
    return positions


# ---------------------------------------------------------------------------- cutting


def _cut(view: ClusterView, work: Work, problem: Problem, found: Placements) -> Iterator[ApplyPlan]:
    """Entries of as many rows as they may hold: actions first, placements after them."""
    rows = _Rows(view, work.actions, work.asks, problem, found)
    acted = placed = 0
    while acted < rows.actions or placed < rows.placements:
        budget = ROWS_MAX
        while True:
            actions = slice(acted, min(rows.actions, acted + budget))
            left = budget - (actions.stop - actions.start)
            placements = rows.without_halves(slice(placed, min(rows.placements, placed + left)), budget == left)
            plan = rows.plan(actions, placements)
            if budget == 1 or _size(plan) <= BYTES_MAX:
                break
            budget = budget * 3 // 4
        yield plan
        acted, placed = actions.stop, placements.stop


def _size(plan: ApplyPlan) -> int:
    rows = len(plan.actions) + len(plan.placements)
    names = sum(len(name.encode()) + NAME_BYTES for table in (plan.jobs, plan.nodes, plan.reasons) for name in table)
    return rows * ROW_BYTES + len(plan.placements.ports) * PORT_BYTES + names


class _Rows:
    """Every row of a round as columns, from which entries are cut. Jobs and nodes are named by slot and by number here
    and get places in tables of their own in each entry."""

    def __init__(
        self, view: ClusterView, actions: Actions, asks: Sequence[Ask], problem: Problem, found: Placements
    ) -> None:
        self.actions = len(actions)
        self.placements = len(found)
        self._view = view
        self._problem = problem
        self._texts = actions.texts
        columns, at = view.allocations, actions.positions
        self._acted = {
            "group": columns.group[at],
            "ordinal": columns.ordinal[at],
            "attempt": columns.attempt[at],
            "version": columns.version[at],
            "action": actions.actions,
        }
        self._acted_job = columns.job[at]
        self._reason = actions.reasons
        ask = np.frombuffer(found.ask, dtype=np.int32)
        counts = np.array([len(one) for one in asks], dtype=np.int64)
        row = (np.cumsum(counts) - counts)[ask] + np.frombuffer(found.at, dtype=np.int32)
        self._placed = {
            "group": np.array([one.group for one in asks], dtype=np.int32)[ask],
            "ordinal": np.concatenate([one.ordinals for one in asks] or [_NONE])[row],
            "attempt": np.concatenate([one.attempts for one in asks] or [_NONE])[row],
            "version": np.array([one.job.version for one in asks], dtype=np.int32)[ask],
            "gpu_millis": np.frombuffer(found.gpu_millis, dtype=np.int32),
        }
        self._ask = ask
        self._gang = np.array([one.job.spec.groups[one.group].gang is not None for one in asks], dtype=np.bool_)[ask]
        self._placed_job = np.array([one.job.slot for one in asks], dtype=np.int32)[ask]
        self._node = np.frombuffer(found.node, dtype=np.int32)
        self._mask = np.frombuffer(found.device_mask, dtype=np.uint64)
        self._ports = np.frombuffer(found.ports, dtype=np.int32)
        self._offsets = np.frombuffer(found.port_offsets, dtype=np.int32)

    def without_halves(self, rows: slice, alone: bool) -> slice:
        """The placements without the first part of a gang at their end. ``alone``: nothing else is in the entry, so
        that a gang at their beginning must be in it, all of it (it has at most ``ROWS_MAX`` rows)."""
        end = rows.stop
        if not rows.start < end < self.placements or not self._gang[end] or self._ask[end] != self._ask[end - 1]:
            return rows
        begin = self._first_of(end)
        if begin > rows.start or not alone:
            return slice(rows.start, max(begin, rows.start))
        return slice(rows.start, self._last_of(end) + 1)

    def _first_of(self, row: int) -> int:
        while row and self._ask[row - 1] == self._ask[row]:
            row -= 1
        return row

    def _last_of(self, row: int) -> int:
        while row + 1 < self.placements and self._ask[row + 1] == self._ask[row]:
            row += 1
        return row

    def plan(self, actions: slice, placements: slice) -> ApplyPlan:
        jobs, of_job = _table(np.concatenate([self._acted_job[actions], self._placed_job[placements]]))
        nodes, of_node = _table(self._node[placements])
        reasons, of_reason = _table(self._reason[actions])
        acting = actions.stop - actions.start
        offsets = self._offsets[placements.start : placements.stop + 1]
        return ApplyPlan(
            based_on=self._view.index,
            jobs=tuple(self._view.jobs_by_slot[slot].uid for slot in jobs),
            nodes=tuple(self._problem.nodes[number].spec.id for number in nodes),
            reasons=tuple(self._texts[reason] for reason in reasons),
            actions=ActionColumns(
                job=of_job[:acting],
                reason=of_reason,
                **{name: column[actions] for name, column in self._acted.items()},
            ),
            placements=PlacementColumns(
                job=of_job[acting:],
                node=of_node,
                device_mask=self._mask[placements].copy(),
                ports=self._ports[offsets[0] : offsets[-1]].copy(),
                port_offsets=offsets - offsets[0],
                **{name: column[placements] for name, column in self._placed.items()},
            ),
        )


_NONE = np.zeros(0, dtype=np.int32)


def _table(values: Int32Array) -> tuple[list[int], Int32Array]:
    """The distinct values, ascending, and for each value its place among them."""
    distinct, places = np.unique(values, return_inverse=True)
    return distinct.tolist(), places.astype(np.int32)


# ---------------------------------------------------------------------------- explaining


def explain(view: ClusterView, job_uid: str, now_ms: int) -> tuple[GroupExplanation, ...]:
    """Why each group of a job does not run in full, and what would change it; () for an unknown job.

    Judged at the end of the round that would be planned now: what the round places is not pending, and the room that it
    takes is taken.
    """
    job = view.jobs.get(JobUid(job_uid))
    if job is None:
        return ()
    work = reconcile(view, now_ms)
    problem = Problem(view, _given_up(work))
    placements = solve(problem, work.asks)
    return tuple(
        _explain_group(view, job, place, work, problem, placements, now_ms) for place in range(len(job.spec.groups))
    )


def _explain_group(
    view: ClusterView, job: Job, place: int, work: Work, problem: Problem, placements: Placements, now_ms: int
) -> GroupExplanation:
    group = job.spec.groups[place]
    note = work.groups.get((job.slot, place), GroupWork())
    said = remarks(view, job, place, note, max(now_ms, view.time_ms))
    mine = [at for at, ask in enumerate(work.asks) if ask.job.uid == job.uid and ask.group == place]
    unplaced = sum(placements.unplaced[at] for at in mine)
    held_back = note.missing if note.blocked or note.gang else 0
    placed = 0 if held_back else note.missing - unplaced
    texts = list(said.texts)
    if placed > 0 and job.spec.type is not JobType.SYSTEM:
        texts.append(f"{placed} being placed now")
    if not unplaced:
        return GroupExplanation(
            group=group.name,
            pending=held_back + note.waiting,
            summary="; ".join(texts) or "nothing is missing",
            hint=said.hint,
        )
    wish = wish_of(job.spec, group, policy=registry.chooser(view.default_placement))
    if wish.gang is not None:
        reasons = explain_gang(problem, wish, work.asks[mine[0]], mine[0])
    else:
        reasons = explain_wish(problem, wish)
    waiting_before = sum(1 for at in range(mine[0]) if placements.unplaced[at])
    return GroupExplanation(
        group=group.name,
        pending=unplaced + held_back + note.waiting,
        summary="; ".join([f"{unplaced} without a node: {reasons.summary}", *texts]),
        rejections=reasons.rejections,
        nearest=reasons.nearest,
        queue_position=waiting_before + 1,
        hint=reasons.hint or said.hint,
    )
