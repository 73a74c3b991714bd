"""What to do next, as the log will carry it: reconcile, then schedule, then cut into entries.

Owns: ``decide`` and ``explain``, the two questions that the leader asks of a view; joining ``reconcile`` with
``scheduling``; the size of an entry. Leaves to others: proposing (``leader``), rechecking every row (``state.apply``).
The rule: a function of the view and the time; nothing to do gives no plans.

Cutting. An entry takes at most ``ROWS_MAX`` rows and about ``BYTES_MAX`` bytes. Each is valid alone: its tables are its
own, actions come before placements in it and in the sequence, and apply judges row by row, so an entry that is lost or
that comes late harms nothing but its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np

from orchestrator.contract.answers import GroupExplanation
from orchestrator.contract.model import JobType, JobUid
from orchestrator.reconcile.explain import remarks
from orchestrator.reconcile.rounds import reconcile
from orchestrator.reconcile.work import Actions, Ask, GroupWork, Int64Array, Work
from orchestrator.scheduling import registry
from orchestrator.scheduling.explain import explain_wish
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import Placements, solve
from orchestrator.scheduling.wish import wish_of
from orchestrator.state.commands import Action, ActionColumns, ApplyPlan, PlacementColumns
from orchestrator.state.model import Job
from orchestrator.state.views import ClusterView

ROWS_MAX = 20_000
BYTES_MAX = 1_500_000
ROW_BYTES = 52
"""Of one placement, should every column be written at full width; an action takes less."""
PORT_BYTES = 4
NAME_BYTES = 8
"""Around each uid, node id and reason in a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """Instances without a node: no_room: nothing fits now; backing_off: they failed to start and wait; blocked: held
    back by something named, such as a missing variable; failed: failed for good."""

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
    blocked = sum(note.missing for note in work.groups.values() if note.blocked)
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


class _Sheet:
    """One entry in the making: rows with their tables of uids, node ids and reasons."""

    def __init__(self) -> None:
        self.jobs: dict[str, int] = {}
        self.nodes: dict[str, int] = {}
        self.reasons: dict[str, int] = {}
        self.actions: list[tuple[int, int, int, int, int, int, int]] = []
        self.placements: list[tuple[int, int, int, int, int, int, int, int]] = []
        self.ports: list[tuple[int, ...]] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.actions) + len(self.placements)

    def place_of(self, table: dict[str, int], name: str) -> int:
        place = table.get(name)
        if place is None:
            place = table[name] = len(table)
            self.bytes += len(name) + NAME_BYTES  # uids, ids and our reasons are ASCII
        return place

    def add_action(self, *, uid: str, cells: tuple[int, int, int, int, int], reason: str) -> None:
        """``cells``: group, ordinal, attempt, action, version."""
        self.actions.append((self.place_of(self.jobs, uid), *cells, self.place_of(self.reasons, reason)))
        self.bytes += ROW_BYTES

    def add_placement(
        self,
        *,
        uid: str,
        node_id: str,
        cells: tuple[int, int, int, int],
        mask: int,
        millis: int,
        ports: tuple[int, ...],
    ) -> None:
        """``cells``: group, ordinal, attempt, version."""
        self.placements.append(
            (self.place_of(self.jobs, uid), *cells, self.place_of(self.nodes, node_id), mask, millis)
        )
        self.ports.append(ports)
        self.bytes += ROW_BYTES + PORT_BYTES * len(ports)

    def full(self) -> bool:
        return len(self) >= ROWS_MAX or self.bytes >= BYTES_MAX

    def finish(self, based_on: int) -> ApplyPlan:
        actions = np.array(self.actions, dtype=np.int32).reshape(-1, 7)
        rows = np.array([row[:6] + row[7:] for row in self.placements], dtype=np.int32).reshape(-1, 7)
        offsets = np.zeros(len(self.placements) + 1, dtype=np.int32)
        np.cumsum([len(ports) for ports in self.ports], out=offsets[1:])
        return ApplyPlan(
            based_on=based_on,
            jobs=tuple(self.jobs),
            nodes=tuple(self.nodes),
            reasons=tuple(self.reasons),
            actions=ActionColumns(
                job=actions[:, 0].copy(),
                group=actions[:, 1].copy(),
                ordinal=actions[:, 2].copy(),
                attempt=actions[:, 3].copy(),
                action=actions[:, 4].copy(),
                version=actions[:, 5].copy(),
                reason=actions[:, 6].copy(),
            ),
            placements=PlacementColumns(
                job=rows[:, 0].copy(),
                group=rows[:, 1].copy(),
                ordinal=rows[:, 2].copy(),
                attempt=rows[:, 3].copy(),
                version=rows[:, 4].copy(),
                node=rows[:, 5].copy(),
                device_mask=np.array([row[6] for row in self.placements], dtype=np.uint64),
                gpu_millis=rows[:, 6].copy(),
                ports=np.array([port for ports in self.ports for port in ports], dtype=np.int32),
                port_offsets=offsets,
            ),
        )


def _cut(view: ClusterView, work: Work, problem: Problem, placements: Placements) -> Iterator[ApplyPlan]:
    sheet = _Sheet()
    for write in chain(_actions(view, work.actions), _placements(work.asks, problem, placements)):
        if sheet.full():
            yield sheet.finish(view.index)
            sheet = _Sheet()
        write(sheet)
    if len(sheet):
        yield sheet.finish(view.index)


def _actions(view: ClusterView, actions: Actions) -> Iterator[Callable[[_Sheet], None]]:
    columns = view.allocations
    at = actions.positions
    listed = (columns.job, columns.group, columns.ordinal, columns.attempt, columns.version)
    rows = zip(
        *(column[at].tolist() for column in listed), actions.actions.tolist(), actions.reasons.tolist(), strict=True
    )
    for slot, group, ordinal, attempt, version, action, reason in rows:
        uid = view.jobs_by_slot[slot].uid if slot in view.jobs_by_slot else ""
        if uid:
            yield partial(
                _Sheet.add_action,
                uid=uid,
                cells=(group, ordinal, attempt, action, version),
                reason=actions.texts[reason],
            )


def _placements(asks: Sequence[Ask], problem: Problem, found: Placements) -> Iterator[Callable[[_Sheet], None]]:
    rows = zip(found.ask, found.at, found.node, found.device_mask, found.gpu_millis, found.ports, strict=True)
    listed = [(ask.ordinals.tolist(), ask.attempts.tolist()) for ask in asks]
    for index, at, node, mask, millis, ports in rows:
        ask, (ordinals, attempts) = asks[index], listed[index]
        yield partial(
            _Sheet.add_placement,
            uid=ask.job.uid,
            node_id=problem.nodes[node].spec.id,
            cells=(ask.group, ordinals[at], attempts[at], ask.job.version),
            mask=mask,
            millis=millis,
            ports=ports,
        )


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
    held_back = note.missing if note.blocked else 0
    placed = 0 if note.blocked else note.missing - unplaced
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
    wish = wish_of(job.spec, group, default_policy=registry.DEFAULT)
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
