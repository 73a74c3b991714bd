"""What to do next, as the log will carry it: reconcile, then schedule, then cut into entries.

Owns: ``decide``, ``explain`` and ``pending``, the questions that are asked of a view; joining ``reconcile`` with
``scheduling``; the size of an entry. Leaves to others: proposing (``leader``), rechecking every row (``state.apply``).
The rule: a function of the view and the time; nothing to do gives no plans.

Cutting. An entry takes at most ``ROWS_MAX`` rows and about ``BYTES_MAX`` bytes. Each is valid alone: its tables are its
own, actions come before placements in it and in the sequence, and apply judges row by row, so an entry that is lost or
that comes late harms nothing but its own rows. A gang is never cut: it goes into one entry whole, if need be the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.contract.answers import GroupExplanation
from orchestrator.contract.model import JobType, JobUid, NodeId
from orchestrator.reconcile.alone import decided_alone
from orchestrator.reconcile.explain import remarks
from orchestrator.reconcile.quota import Allowed, within_quota
from orchestrator.reconcile.rounds import NO_ROOM, reconcile
from orchestrator.reconcile.work import Actions, Ask, GroupWork, Int64Array, Work
from orchestrator.scheduling import registry
from orchestrator.scheduling.explain import explain_wish
from orchestrator.scheduling.explain_gangs import explain_gang, given_back
from orchestrator.scheduling.placements import Placements
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.remedy import smallest_change
from orchestrator.scheduling.remedy_gangs import smallest_change_for_gang
from orchestrator.scheduling.serve import Served, only, serve, without_node
from orchestrator.scheduling.solve import ENDLESS
from orchestrator.scheduling.waits import remarks_on_waits
from orchestrator.scheduling.wish import wish_of
from orchestrator.state.commands import Action, ActionColumns, ApplyPlan, Int32Array, PlacementColumns, RolloutVerdict
from orchestrator.state.model import Job, Node
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


LEFT_MAX = 5_000
"""With more jobs left than this a round says that all are to be looked at: it costs as much then."""
ROUND_STEPS = 20_000
"""A round places about so many plain instances, or a sixteenth of them one by one, and leaves the others to the next
one, which follows at once. So a round takes tenths of a second however long the backlog is, what is submitted meanwhile
waits no longer than that for its turn, and no round holds more than ten entries."""


QUOTA_TURNS_MAX = 4
"""So often a round asks again who may use what others, who found no room, leave of a quota."""


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
    nothing has changed, in unix ms (None: only a change matters). ``more``: the round ended at its bound, which it does
    only with plans; ``left``: then the slots of the jobs that it did not get to, where these and those that change are
    all that the next round has to look at, else None; ``unplaced`` counts what was tried; ``verdicts``: rollouts that
    are over. ``blind``: somebody found no room in a view of some jobs alone, which does not show whom to evict; nothing
    is proposed, and everything is to be looked at in its place, at once."""

    plans: tuple[ApplyPlan, ...]
    wake_at_ms: int | None
    unplaced: Unplaced
    more: bool = False
    verdicts: tuple[RolloutVerdict, ...] = ()
    left: tuple[int, ...] | None = None
    blind: bool = False

    @property
    def pending(self) -> bool:
        """Something waits for what other jobs and nodes do, or for a time."""
        return bool(self.unplaced.no_room or self.unplaced.backing_off or self.unplaced.blocked)


class Planner:
    """``decide``, remembering what is the same from one round to the next: the nodes as arrays."""

    def __init__(self) -> None:
        self._latest: tuple[Mapping[NodeId, Node], Problem] | None = None

    def decide(self, view: ClusterView, now_ms: int, *, steps_max: int = ROUND_STEPS) -> Decision:
        def fresh(given_up: Int64Array) -> Problem:
            latest = self._latest
            if view.held is not None and latest is not None and latest[0] is view.nodes:
                return latest[1].again(view)
            problem = Problem(view, given_up)
            self._latest = (view.nodes, problem)
            return problem

        decision, problem = _decision(view, now_ms, steps_max, fresh)
        if problem is not None:
            problem.forget_rows()
        return decision


def decide(view: ClusterView, now_ms: int, *, steps_max: int = ROUND_STEPS) -> Decision:
    return _decision(view, now_ms, steps_max, lambda given_up: Problem(view, given_up))[0]


def _decision(
    view: ClusterView, now_ms: int, steps_max: int, fresh: Callable[[Int64Array], Problem]
) -> tuple[Decision, Problem | None]:
    work, allowed, served = _round(view, now_ms, steps_max, fresh)
    problem, placements = served.problem, served.placements
    blocked = sum(note.missing for note in work.groups.values() if note.blocked or note.gang)
    blocked += sum(waiting for waiting, _ in allowed.said.values())
    no_room = sum(placements.unplaced)
    # Nor may anybody who comes later take what whoever finds no room should have.
    blind = view.held is not None and no_room > 0
    waits = no_room or blocked or work.instead or allowed.most or any(note.waiting for note in work.groups.values())
    decision = Decision(
        plans=() if blind else tuple(_cut(view, work, problem, placements)),
        wake_at_ms=now_ms if blind else work.wake_at_ms,
        unplaced=Unplaced(
            no_room=no_room,
            backing_off=sum(note.waiting for note in work.groups.values()),
            blocked=blocked,
            failed=sum(note.failed for note in work.groups.values()),
        ),
        more=placements.more,
        verdicts=work.verdicts,
        blind=blind,
        left=_left(work.asks, placements) if placements.more and not waits else None,
    )
    return decision, problem


def _left(asks: Sequence[Ask], placements: Placements) -> tuple[int, ...] | None:
    """The slots of the jobs that a round that ended at its bound did not get to; None where one of them cannot be
    decided about by itself, or they are too many."""
    placed = np.bincount(np.frombuffer(placements.ask, dtype=np.int32), minlength=len(asks)).tolist()
    left = {ask.job.slot: ask.job for ask, count in zip(asks, placed, strict=True) if count < len(ask)}
    if not left or len(left) > LEFT_MAX or not all(map(decided_alone, left.values())):
        return None
    return tuple(sorted(left))


def _round(
    view: ClusterView, now_ms: int, steps_max: int, fresh: Callable[[Int64Array], Problem]
) -> tuple[Work, Allowed, Served]:
    """Everything that a round finds: what is to be done (evictions included; its asks are those that quotas allow),
    what quotas hold back, and where the asks go. ``fresh`` makes the problem, given what is given up as lost."""
    work = reconcile(view, now_ms)
    actions = work.actions
    given_up = actions.positions[actions.actions == Action.LOSE]

    def served_within(allowed: Allowed) -> Served:
        return serve(
            view,
            allowed.asks,
            given_up=given_up,
            stopping=actions.positions[np.isin(actions.actions, (Action.STOP, Action.REPLACE))],
            without_room=allowed.most.keys(),
            steps_max=steps_max,
            fresh=lambda: fresh(given_up),
        )

    allowed = within_quota(view, work.asks)
    served = served_within(allowed)
    for _ in range(QUOTA_TURNS_MAX):
        again = within_quota(view, work.asks, _without_room(allowed, served)) if allowed.said else allowed
        if again.said == allowed.said:
            break
        allowed = again
        served = served_within(allowed)
    if allowed.most:
        served = replace(served, placements=_at_most(served.placements, allowed))
    work = replace(work, asks=allowed.asks)
    if work.instead:
        work = _stopping_first(work, view, now_ms, served)
    return replace(work, actions=_with_evictions(work.actions, served)), allowed, served


def _without_room(allowed: Allowed, served: Served) -> dict[tuple[int, int], int]:
    """How many instances of system jobs found no room, and wait for none that is being freed."""
    found = {}
    for ask, count in zip(allowed.asks, served.placements.unplaced, strict=True):
        key = ask.job.slot, ask.group
        if ask.pinned and key not in served.waits:
            found[key] = count
    return found


def _stopping_first(work: Work, view: ClusterView, now_ms: int, served: Served) -> Work:
    """A drain must not wait for ever for room that is not there: where none of a group's successors found any, and none
    is on its way, it goes on without."""
    placed: dict[tuple[int, int], int] = dict.fromkeys(work.instead, 0)
    for ask, unplaced in zip(work.asks, served.placements.unplaced, strict=True):
        if ask.first:
            placed[(ask.job.slot, ask.group)] += len(ask) - unplaced
    if served.placements.more:
        return work  # not all of them were tried
    without = [key for key in sorted(work.instead) if not placed[key] and key not in served.waits]
    if not without:
        return work
    if view.held is not None:  # a view of some jobs alone makes no room: look at everything, at once
        return replace(work, wake_at_ms=now_ms)
    for key in without:
        work.groups[key].held = f"{NO_ROOM_FIRST}; {held}" if (held := work.instead[key].held) else ""
    stops = [position for key in without for position in work.instead[key].positions]
    actions = work.actions
    more = Actions(
        positions=np.append(actions.positions, stops).astype(np.int64),
        actions=np.append(actions.actions, np.full(len(stops), int(Action.STOP))).astype(np.int32),
        reasons=np.append(actions.reasons, np.full(len(stops), NO_ROOM)).astype(np.int32),
        texts=actions.texts,
    )
    return replace(work, actions=more)


NO_ROOM_FIRST = "nowhere is room for a successor first"


def _at_most(found: Placements, allowed: Allowed) -> Placements:
    """Of asks that a quota cuts short, the first placements that it allows."""
    left = dict(allowed.most)
    kept = []
    for row, ask in enumerate(found.ask):
        if left.get(ask, 1) > 0:
            kept.append(row)
            if ask in left:
                left[ask] -= 1
    return only(found, np.array(kept, dtype=np.int64))


def _with_evictions(actions: Actions, served: Served) -> Actions:
    evicted = served.evictions
    if not evicted:
        return actions
    reasons = list(dict.fromkeys(eviction.reason for eviction in evicted))
    place = {reason: len(actions.texts) + at for at, reason in enumerate(reasons)}
    before, more = len(actions), len(evicted)
    return Actions(
        positions=np.append(actions.positions, [eviction.position for eviction in evicted]).astype(np.int64),
        actions=np.append(actions.actions, np.full(more, int(Action.EVICT))).astype(np.int32),
        reasons=np.append(actions.reasons, [place[eviction.reason] for eviction in evicted]).astype(np.int32),
        texts=(*actions.texts, *reasons),
        by=np.append(np.full(before, -1), [eviction.by.slot for eviction in evicted]).astype(np.int32),
    )


# ---------------------------------------------------------------------------- cutting


def _cut(view: ClusterView, work: Work, problem: Problem | None, found: Placements) -> Iterator[ApplyPlan]:
    """Entries of as many rows as they may hold: actions first, placements after them."""
    if not len(work.actions) and not len(found):
        return
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
        self, view: ClusterView, actions: Actions, asks: Sequence[Ask], problem: Problem | None, found: Placements
    ) -> None:
        self.actions = len(actions)
        self.placements = len(found)
        self._view = view
        self._nodes = problem.nodes if problem is not None else ()
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
        self._by = actions.by
        ask = np.frombuffer(found.ask, dtype=np.int32)
        counts = np.array([len(one) for one in asks], dtype=np.int64)
        row = (np.cumsum(counts) - counts)[ask] + np.frombuffer(found.at, dtype=np.int32)
        self._placed = {
            "group": np.array([one.group if one.at < 0 else one.at for one in asks], dtype=np.int32)[ask],
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
        evicting = self._by is not None and bool((self._by[actions] >= 0).any())
        by = self._by[actions] if self._by is not None and evicting else _NONE
        named = [self._acted_job[actions], self._placed_job[placements], by[by >= 0]]
        jobs, of_job = _table(np.concatenate(named))
        nodes, of_node = _table(self._node[placements])
        reasons, of_reason = _table(self._reason[actions])
        acting, placing = actions.stop - actions.start, placements.stop - placements.start
        if evicting:
            by = by.copy()
            by[by >= 0] = of_job[acting + placing :]
        offsets = self._offsets[placements.start : placements.stop + 1]
        return ApplyPlan(
            based_on=self._view.index,
            jobs=tuple(self._view.jobs_by_slot[slot].uid for slot in jobs),
            nodes=tuple(self._nodes[number].spec.id for number in nodes),
            reasons=tuple(self._texts[reason] for reason in reasons),
            actions=ActionColumns(
                job=of_job[:acting],
                reason=of_reason,
                by=by if evicting else None,
                **{name: column[actions] for name, column in self._acted.items()},
            ),
            placements=PlacementColumns(
                job=of_job[acting : acting + placing],
                node=of_node,
                device_mask=self._mask[placements].copy(),
                ports=self._ports[offsets[0] : offsets[-1]].copy(),
                port_offsets=offsets - offsets[0],
                **{name: column[placements] for name, column in self._placed.items()},
            ),
        )


_NONE = np.zeros(0, dtype=np.int32)
FEW = 32


def _table(values: Int32Array) -> tuple[list[int], Int32Array]:
    """The distinct values, ascending, and for each value its place among them."""
    if len(values) <= FEW:
        # Most rounds are tiny, and for those a call of numpy costs more than all the work.
        listed = values.tolist()
        few = sorted(set(listed))
        place = {value: at for at, value in enumerate(few)}
        return few, np.array([place[value] for value in listed], dtype=np.int32)
    distinct, places = np.unique(values, return_inverse=True)
    return distinct.tolist(), places.astype(np.int32)


# ---------------------------------------------------------------------------- explaining


GroupKey = tuple[str, str, str]
"""(namespace, job, group)"""


def explain(view: ClusterView, job_uid: str, now_ms: int) -> tuple[GroupExplanation, ...]:
    """Why each group of a job does not run in full, and what would change it; () for an unknown job.

    Judged at the end of the round that would be planned now: what the round places is not pending, and the room that it
    takes is taken.
    """
    return _Round(view, now_ms).explain(job_uid)


def explain_many(view: ClusterView, uids: Iterable[str], now_ms: int) -> dict[GroupKey, GroupExplanation]:
    """The same for several jobs, from one round: only groups of which something is pending."""
    played = _Round(view, now_ms)
    found: dict[GroupKey, GroupExplanation] = {}
    for uid in uids:
        for group in played.explain(uid):
            if group.pending:
                spec = view.jobs[JobUid(uid)].spec
                found[(spec.namespace, spec.name, group.group)] = group
    return found


def work_of(view: ClusterView, now_ms: int) -> Work:
    """What the round that would be planned now comes to."""
    return _round(view, now_ms, ENDLESS, lambda given_up: Problem(view, given_up))[0]


def pending(view: ClusterView, now_ms: int) -> dict[GroupKey, int]:
    """How many instances of each group would be without a node at the end of the round that would be planned now."""
    return _Round(view, now_ms).pending()


class _Round:
    """One round without a bound, decided once and looked at from several sides."""

    def __init__(self, view: ClusterView, now_ms: int) -> None:
        self.view = view
        self.now_ms = now_ms
        self.work, self.allowed, self.served = _round(view, now_ms, ENDLESS, lambda given_up: Problem(view, given_up))

    def explain(self, job_uid: str) -> tuple[GroupExplanation, ...]:
        job = self.view.jobs.get(JobUid(job_uid))
        if job is None:
            return ()
        return tuple(
            _explain_group(self.view, job, place, self.work, self.allowed, self.served, self.now_ms)
            for place in range(len(job.spec.groups))
        )

    def pending(self) -> dict[GroupKey, int]:
        counts: dict[tuple[int, int], int] = {}
        for key, note in self.work.groups.items():
            held = note.blocked or note.gang or (note.after and not note.skipped)
            counts[key] = note.waiting + note.unpromoted + (note.missing if held else 0)
        for key, (waiting, _) in self.allowed.said.items():
            counts[key] = counts.get(key, 0) + waiting
        for ask, unplaced in zip(self.work.asks, self.served.placements.unplaced, strict=True):
            if ask.first:
                continue  # it has a node, if one that is drained
            key = (ask.job.slot, ask.group)
            counts[key] = counts.get(key, 0) + unplaced
        found: dict[GroupKey, int] = {}
        for (slot, place), count in counts.items():
            spec = self.view.jobs_by_slot[slot].spec
            if count and place < len(spec.groups):  # else of a group that only stays until a promotion
                found[(spec.namespace, spec.name, spec.groups[place].name)] = count
        return found


def _order_word(note: GroupWork) -> str:
    return "skipped" if note.skipped else "order" if note.after else ""


def _explain_group(
    view: ClusterView, job: Job, place: int, work: Work, allowed: Allowed, served: Served, now_ms: int
) -> GroupExplanation:
    group = job.spec.groups[place]
    problem, placements = served.problem, served.placements
    note = work.groups.get((job.slot, place), GroupWork())
    said = remarks(view, job, place, note, max(now_ms, view.time_ms))
    mine = [at for at, ask in enumerate(work.asks) if ask.job.uid == job.uid and ask.group == place and not ask.first]
    without = sum(placements.unplaced[at] for at in mine)
    over_quota, quota_said = allowed.said.get((job.slot, place), (0, ""))
    stands_still = bool(note.blocked or note.gang or note.after)
    held_back = note.missing if stands_still else over_quota
    if note.skipped:
        held_back = 0
    placed = 0 if stands_still else note.missing - without - over_quota
    texts = list(said.texts)
    hint = said.hint
    quota_text = f"{over_quota} held back by {quota_said}" if over_quota else ""
    if over_quota:
        texts.insert(0, quota_text)
        hint = f"stop or scale down a job there, or have the quota raised: raftsman namespace set {job.spec.namespace}"
    waits = remarks_on_waits(served.waits.get((job.slot, place)))
    texts = [*waits, *texts]
    if placed > 0 and job.spec.type is not JobType.SYSTEM:
        texts.append(f"{placed} being placed now")
    short = next((work.asks[at] for at in mine if placements.unplaced[at]), None)
    asked = job.spec if short is None else short.job.spec  # it may be held at the version before
    wish = wish_of(asked, asked.groups[place], policy=registry.chooser(view.default_placement))
    if complaint := registry.complaint(wish.policy):
        texts.append(complaint)
    if not without:
        return GroupExplanation(
            group=group.name,
            pending=held_back + note.waiting + note.unpromoted,
            summary="; ".join(texts) or "nothing is missing",
            hint=hint,
            blocked_by="quota" if over_quota else "gang" if note.gang else _order_word(note),
            blocked_text=quota_said if over_quota else note.gang or note.after,
        )
    assert problem is not None, "whoever is without a node was asked for"
    if wish.gang is not None:
        with given_back(problem, mine[0]) as kept:
            reasons = explain_gang(problem, wish, work.asks[mine[0]], kept)
            remedy = smallest_change_for_gang(problem, wish, work.asks[mine[0]])
    else:
        lacking = _lacking(problem, placements, work.asks, mine) if wish.everywhere else None
        reasons = explain_wish(problem, wish, lacking)
        remedy = smallest_change(problem, wish, lacking, tasks=len(asked.groups[place].tasks))
    waiting_before = sum(1 for at in range(mine[0]) if placements.unplaced[at])
    return GroupExplanation(
        group=group.name,
        pending=without + held_back + note.waiting + note.unpromoted,
        summary="; ".join([f"{without} without a node: {reasons.summary}", *texts]),
        rejections=reasons.rejections,
        nearest=reasons.nearest,
        queue_position=waiting_before + 1,
        hint=("" if waits else reasons.hint) or hint,
        remedy=remedy.steps if remedy is not None else (),
        remedy_node=remedy.node if remedy is not None else "",
        blocked_by="quota" if over_quota else "",
        blocked_text=quota_said if over_quota else "",
        remarks=tuple(text for text in texts if text != quota_text),
    )


def _lacking(problem: Problem, placements: Placements, asks: Sequence[Ask], mine: Sequence[int]) -> list[int]:
    """The numbers of the nodes on which instances of a system job belong that found no room there."""
    found = []
    for at in mine:
        slots = asks[at].ordinals[without_node(placements, at, len(asks[at]))].tolist()
        found += [problem.number_of_slot[slot] for slot in slots if slot in problem.number_of_slot]
    return sorted(found)
