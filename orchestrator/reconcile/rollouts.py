"""The pace of rollouts that the job remembers: who is replaced now, who gets a successor first, and how it ends.

Owns: the next moves of each group under its ``UpdateSpec``, and the verdicts (succeeded, failed). Leaves to others: the
bounds themselves and judging each move again (``state.rollouts``), drains and jobs from before (``pace``), placing. The
rules, for a group of ``count`` with ``surge`` and ``unavailable``:

- Whoever has a successor that is ready goes; so does a successor whose version was taken back.
- Outdated instances get successors while fewer than ``surge`` have one, those that are not ready first.
- With ``unavailable`` others are stopped first, as long as ``count - unavailable`` stay ready; where there is no room
  for a successor (nothing moved for ``STUCK_MS``) those that wait for one are, too.
- At most ``surge + unavailable`` instances are between old and ready: what does not come up halts the rest.
- Canaries: so many are replaced, and the others wait for a promotion. If they fit into the surge, the old ones stay.
  Once they are ready no deadline runs, whatever a drain, a lost node or another count has placed besides. Until then
  the others are held at the version before (``state.holding``): what is of a third one becomes a canary first, or goes
  back. However much is lost meanwhile, without a promotion no rollout has succeeded.
- Nobody is stopped first for a version that no node could take (``nowhere``), were it empty: what is not there now need
  not come while nothing runs.
- Paused or failed: nothing gives way. What is missing is placed all the same (``seats`` says at which version).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from orchestrator.contract.model import AllocState, Desired, JobSpec
from orchestrator.contract.rollouts import DEFAULT, Rollout, RolloutStatus, surge, unavailable
from orchestrator.reconcile.gaps import blocked_by, next_attempts
from orchestrator.reconcile.table import GONE, BoolArray, Scene, key_of
from orchestrator.reconcile.work import NO_NODE, Ask, GroupWork
from orchestrator.state.commands import Int32Array, RolloutVerdict
from orchestrator.state.failures import Ended, Fate, fates
from orchestrator.state.matching import lacks
from orchestrator.state.views import ClusterView

STUCK_MS = 10_000
STAYS = -1


@dataclass(slots=True)
class Moves:
    """What all rollouts together come to. ``replaced``: positions of rows that are told to stop."""

    replaced: list[int] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    verdicts: list[RolloutVerdict] = field(default_factory=list)
    wake_at_ms: int | None = None

    def wake(self, at_ms: int) -> None:
        self.wake_at_ms = at_ms if self.wake_at_ms is None else min(self.wake_at_ms, at_ms)


@dataclass(slots=True)
class Group:
    """One group while it is looked at. Positions of rows: ``old``: outdated, alone, meant to run (and reachable), by
    ordinal; ``elders``: live beside a successor, with the row of that; ``fallen``: newer attempts that ended.
    ``seats``: so many may be of the newer version, where it is held back (else -1); ``seated``: so many are, or get
    there; ``nowhere``: why nobody is stopped first."""

    number: int
    count: int
    surge: int
    unavailable: int
    canaries: int
    old: list[int] = field(default_factory=list)
    elders: list[tuple[int, int]] = field(default_factory=list)
    fallen: dict[int, int] = field(default_factory=dict)
    ready: int = 0  # instances
    fresh: int = 0  # instances of the current version that are ready
    pairs: int = 0
    outdated: int = 0  # live rows
    failed_at: int = -1
    seats: int = -1
    seated: int = 0
    nowhere: str = ""

    @property
    def taken(self) -> int:
        """Instances that are of the current version, or on the way to it."""
        return self.count - len(self.old) if self.seats < 0 else self.seated

    @property
    def is_through(self) -> bool:
        return self.fresh >= self.count

    @property
    def on_the_way(self) -> int:
        return self.taken - self.fresh


def advance(scene: Scene, stops: Int32Array, notes: dict[tuple[int, int], GroupWork], now_ms: int) -> Moves:
    """The next moves. ``stops``: what this round stops for other reasons (``STAYS``: not); ``notes`` are added to."""
    moves = Moves()
    groups = scene.groups
    by_job: dict[int, list[int]] = {}
    for number in np.flatnonzero(groups.policy & groups.active).tolist():
        rollout = groups.jobs[number].rollout
        if rollout is not None and rollout.status is not RolloutStatus.SUCCEEDED:
            by_job.setdefault(groups.jobs[number].slot, []).append(number)
    if not by_job:
        return moves
    look = Looking(scene, stops, now_ms)
    for slot in sorted(by_job):
        rollout = groups.jobs[by_job[slot][0]].rollout
        assert rollout is not None, "looked for above"
        seen = [look.at(number, moves) for number in by_job[slot]]
        for group in seen:
            note = notes.setdefault(key_of(groups, group.number), GroupWork())
            note.outdated = group.outdated
            group.seated = note.seated
            group.pairs += note.successors  # those that a drain asks for in this round
            if rollout.status is RolloutStatus.RUNNING:
                held = scene.view.jobs_by_slot[slot].spec.disruption is not None and look.drains(group.number)
                _move(look, group, rollout, moves, note, held=held)
            note.halted = _halted(rollout, group) or (look.blocked(group.number) if group.old else "") or group.nowhere
        if rollout.status is RolloutStatus.RUNNING:
            _judge(look, slot, rollout, seen, moves)
    return moves


class Looking:
    """Rows as this round sees them."""

    def __init__(self, scene: Scene, stops: Int32Array, now_ms: int) -> None:
        self.scene = scene
        self.now_ms = now_ms
        columns, rows = scene.view.allocations, scene.rows
        self.leaves: BoolArray = stops != STAYS  # with this very round, for another reason
        self.stays = (columns.desired == Desired.RUN) & ~self.leaves
        self.ready: BoolArray = columns.ready & self.stays & ~rows.node_lost & scene.live

    def blocked(self, number: int) -> str:
        """What keeps the newest version of a group from being placed at all, or ""."""
        return blocked_by(self.scene.view, self.scene.groups.jobs[number], self.scene.groups.places[number])

    def drains(self, number: int) -> bool:
        instances = self.scene.instances
        here = slice(self.scene.bounds[number], self.scene.bounds[number + 1])
        draining: BoolArray = self.scene.rows.node_draining[instances.newest[here]] & instances.live[here]
        return bool(draining.any())

    def at(self, number: int, moves: Moves) -> Group:
        scene = self.scene
        job, place = scene.groups.jobs[number], scene.groups.places[number]
        spec = job.spec.groups[place]
        update = spec.update or DEFAULT
        group = Group(
            number,
            spec.count,
            surge(spec.update, spec.count),
            unavailable(spec.update, spec.count),
            min(update.canaries, spec.count),
        )
        hold = scene.groups.holds[number]
        if hold is not None:
            group.seats = hold.canaries
        mine = scene.live & (scene.rows.group == number)
        group.outdated = int((mine & scene.rows.outdated).sum())
        here = slice(scene.bounds[number], scene.bounds[number + 1])
        for ordinal, newest, beside in zip(
            scene.instances.ordinal[here].tolist(),
            scene.instances.newest[here].tolist(),
            scene.instances.beside[here].tolist(),
            strict=True,
        ):
            both = beside >= 0 and bool(scene.live[beside])
            group.pairs += both  # also beyond the count: so it is judged at commit
            if ordinal >= group.count:
                continue
            group.ready += bool(self.ready[newest]) or (both and bool(self.ready[beside]))
            for row in (newest, beside):
                if row >= 0 and not scene.rows.outdated[row] and self.ready[row]:
                    settled_ms = settles_at(self, row)
                    if settled_ms <= self.now_ms:
                        group.fresh += 1
                        break
                    moves.wake(settled_ms)
            if both:
                group.elders.append((beside, newest))
            elif not scene.live[newest]:
                self._fell(group, newest)
            elif scene.rows.outdated[newest] and self.stays[newest] and not scene.rows.node_lost[newest]:
                group.old.append(newest)
                if beside >= 0 and not scene.rows.wrong[beside]:
                    group.fallen[newest] = beside
                    self._fell(group, beside)
        return group

    def _fell(self, group: Group, row: int) -> None:
        if not self.scene.rows.outdated[row] and self.fate(row)[0] is Fate.FAILED:
            group.failed_at = row

    def fate(self, row: int) -> tuple[Fate, int]:
        """What follows from the end of a row, and from when on."""
        columns, groups = self.scene.view.allocations, self.scene.groups
        number = int(self.scene.rows.group[row])
        at = np.array([row])
        fate, due = fates(
            Ended(
                job_type=groups.job_type[[number]],
                desired=columns.desired[at],
                state=columns.state[at],
                start_failed=columns.start_failed[at],
                failures=columns.failures[at],
                retries=(groups.base_retries if self.scene.rows.outdated[row] else groups.retries)[[number]],
                create_ms=columns.create_time_ms[at],
                modify_ms=columns.modify_time_ms[at],
            ),
            self.now_ms,
        )
        return Fate(int(fate[0])), int(due[0])

    def name(self, row: int) -> str:
        scene = self.scene
        job = scene.groups.jobs[int(scene.rows.group[row])]
        group = job.spec.groups[scene.groups.places[int(scene.rows.group[row])]]
        return f"{job.spec.name}/{group.name}/{int(scene.view.allocations.ordinal[row])}"

    def reason(self, row: int) -> str:
        columns = self.scene.view.allocations
        said = columns.reasons.get(int(columns.row[row]), "")
        return said or f"it is {AllocState(int(columns.state[row])).name.lower()}"


def _move(look: Looking, group: Group, rollout: Rollout, moves: Moves, note: GroupWork, *, held: bool) -> None:
    """``held``: the disruption budget is busy with a drain, so nothing that is ready may be stopped besides."""
    scene = look.scene
    keep = not rollout.promoted and group.surge >= group.canaries
    for elder, successor in group.elders:
        leaver = _leaver(look, elder, successor, keep=keep and not _is_stray(look, group, elder))
        if leaver >= 0 and look.stays[leaver]:
            moves.replaced.append(leaver)
    may_take = len(group.old) if rollout.promoted else max(0, group.canaries - group.taken)
    wrong, ordinal = scene.rows.wrong, scene.view.allocations.ordinal
    first = sorted(group.old, key=lambda row: (not wrong[row], bool(look.ready[row]), int(ordinal[row])))
    width = group.surge + group.unavailable
    asked: list[int] = []
    if look.blocked(group.number):
        may_take = 0  # nobody gives way for what cannot be placed
    else:
        room = min(group.surge - group.pairs, may_take, max(0, width - group.on_the_way))
        asked = ask_successors(look, group.number, group.fallen, first, room, moves)
    stray = _go_back(look, group, [row for row in first if row not in asked][may_take - len(asked) :], asked, moves)
    note.missing += len(stray)
    stuck_at_ms = rollout.progress_ms + STUCK_MS
    stuck = not group.elders and look.now_ms >= stuck_at_ms
    if asked and group.unavailable and look.now_ms < stuck_at_ms:
        moves.wake(stuck_at_ms)
    note.missing += len(asked)
    if not group.unavailable or held:
        return
    if not stuck:
        first = [row for row in first if row not in asked]
        may_take -= len(asked)
    turn = [] if keep else first[:may_take]
    if turn:
        group.nowhere = nowhere(scene.view, scene.groups.jobs[group.number].spec, scene.groups.places[group.number])
    if group.nowhere:
        turn = []
    turn += [row for row in first if _is_stray(look, group, row) and row not in (*turn, *asked, *stray)]
    on_the_way = group.on_the_way + (0 if stuck else len(asked))
    ready = group.ready
    for row in turn:
        if on_the_way >= width or (look.ready[row] and ready - 1 < group.count - group.unavailable):
            break
        moves.replaced.append(row)
        ready -= bool(look.ready[row])
        on_the_way += 1


def nowhere(view: ClusterView, job: JobSpec, place: int) -> str:
    """Why no node could take an instance even if it were empty, or ""."""
    counts: dict[str, int] = {}
    for node in view.nodes.values():
        lack = lacks(node, job, job.groups[place])
        if not lack:
            return ""
        counts[lack] = counts.get(lack, 0) + 1
    said = ", ".join(f"{count}: {lack}" for lack, count in sorted(counts.items()))
    return f"no node could take the new version ({said or 'there is none'})"


def _is_stray(look: Looking, group: Group, row: int) -> bool:
    """Whether it is of a third version where all but the canaries are held at the version before."""
    return look.scene.groups.bases[group.number] is not None and bool(look.scene.rows.wrong[row])


def _go_back(look: Looking, group: Group, old: list[int], asked: list[int], moves: Moves) -> list[int]:
    """Successors at the version before for those of ``old`` that are stray and become no canaries. ``asked``: who gets
    a successor already; returns who gets one besides."""
    scene = look.scene
    base = scene.groups.bases[group.number]
    if base is None or blocked_by(scene.view, base, scene.groups.places[group.number]):
        return []
    stray = [row for row in old if _is_stray(look, group, row)]
    room = group.surge - group.pairs - len(asked)
    return ask_successors(look, group.number, group.fallen, stray, room, moves, before=True)


def _leaver(look: Looking, elder: int, successor: int, *, keep: bool) -> int:
    """Which of two that live together goes now, or -1."""
    outdated, of_base, wrong = look.scene.rows.outdated, look.scene.rows.of_base, look.scene.rows.wrong
    settled = look.ready[successor] and settles_at(look, successor) <= look.now_ms
    if not outdated[successor]:
        return elder if settled and not keep else -1
    if of_base[successor] and outdated[elder]:
        # Held at that version: two of it are a drain's, what is of a third version goes.
        return elder if settled and not of_base[elder] else -1
    if not wrong[elder]:
        # The version of the successor was taken back, or is of a third one where the elder's is held.
        return successor if look.ready[elder] or not look.ready[successor] else -1
    return elder if look.ready[successor] else successor  # both are outdated: make room for a third


def settles_at(look: Looking, row: int) -> int:
    """When a row that is ready has been so for long enough."""
    scene = look.scene
    number = int(scene.rows.group[row])
    update = scene.groups.jobs[number].spec.groups[scene.groups.places[number]].update or DEFAULT
    return int(scene.view.allocations.modify_time_ms[row]) + update.min_ready_ms


def ask_successors(
    look: Looking,
    number: int,
    fallen: Mapping[int, int],
    in_turn: Iterable[int],
    room: int,
    moves: Moves,
    *,
    first: bool = False,
    before: bool = False,
) -> list[int]:
    """Ask for successors of at most ``room`` of a group; returns the rows that are to get one. ``fallen``: by row, its
    last successor that ended; ``first``: as in ``Ask``; ``before``: at the version before, at which the group is held,
    and not at the newest."""
    scene, columns = look.scene, look.scene.view.allocations
    chosen: list[int] = []
    avoid: list[int] = []
    for row in in_turn:
        if len(chosen) >= room:
            break
        node, last = NO_NODE, fallen.get(row)
        if last is not None and bool(scene.rows.outdated[last]) is before:
            fate, due_ms = look.fate(last)
            if fate is Fate.WAIT:
                moves.wake(due_ms)
            if fate is not Fate.AGAIN:
                continue
            if columns.start_failed[last]:
                node = int(columns.node[last])
        chosen.append(row)
        avoid.append(node)
    base, hold = scene.groups.bases[number], scene.groups.holds[number]
    job, place, at = scene.groups.jobs[number], scene.groups.places[number], -1
    if before:
        assert base is not None and hold is not None, "it is held there"
        job, at = base, hold.at
    here = slice(scene.bounds[number], scene.bounds[number + 1])
    # Whoever gets a successor goes: counted, it would lean a spread to the other nodes, and at the end it is not there.
    stay = scene.instances.newest[here][scene.instances.live[here]]
    peers = columns.node[stay[~np.isin(columns.ordinal[stay], columns.ordinal[chosen])]]
    for node in sorted(set(avoid)):
        rows = sorted(
            (row for row, one in zip(chosen, avoid, strict=True) if one == node),
            key=lambda row: int(columns.ordinal[row]),
        )
        ordinals = columns.ordinal[rows].astype(np.int32)
        moves.asks.append(
            Ask(
                job=job,
                group=place,
                ordinals=ordinals,
                attempts=next_attempts(scene.view, job, place, ordinals),
                avoid=node,
                peers=peers,
                last_node=int(columns.node[rows[-1]]),
                first=first,
                at=at,
            )
        )
    return chosen


def _halted(rollout: Rollout, group: Group) -> str:
    """Why the group's rollout does not go on, "" where it does."""
    if rollout.status is RolloutStatus.PAUSED:
        return "it is paused (raftsman resume lets it go on)"
    if rollout.status is RolloutStatus.FAILED:
        return rollout.reason or "it has failed"
    if not rollout.promoted and group.old and not group.on_the_way and group.taken >= group.canaries:
        return "its canaries are ready and wait to be promoted (raftsman promote)"
    return ""


def _judge(look: Looking, slot: int, rollout: Rollout, seen: list[Group], moves: Moves) -> None:
    """Whether it is over."""
    scene = look.scene
    job = scene.view.jobs_by_slot[slot]
    columns = scene.view.allocations
    live = scene.live & (columns.job == slot)
    left = live & (scene.rows.outdated | (scene.rows.group == GONE))
    done = all(group.is_through for group in seen) and not left.any()
    others = live & ~scene.groups.policy[np.maximum(scene.rows.group, 0)] & ~columns.ready
    if done and rollout.promoted and not others.any():
        moves.verdicts.append(RolloutVerdict(uid=job.uid, version=rollout.version, succeeded=True))
        return
    failed = next((group for group in seen if group.failed_at >= 0), None)
    reason = ""
    if failed is not None:
        reason = f"{look.name(failed.failed_at)} failed: {look.reason(failed.failed_at)}"
    else:
        short = [] if rollout.promoted else [group for group in seen if group.fresh < group.canaries]
        patience_ms = _patience_ms(scene, seen)
        if patience_ms and (rollout.promoted or short):
            due_ms = _counts_from_ms(look, rollout, short) + patience_ms
            if look.now_ms >= due_ms:
                reason = f"nothing became ready for {patience_ms / 1000:g} s{_what_is_in_the_way(look, seen)}"
            else:
                moves.wake(due_ms)
    if reason:
        moves.verdicts.append(
            RolloutVerdict(
                uid=job.uid,
                version=rollout.version,
                succeeded=False,
                reason=reason,
                progress_ms=rollout.progress_ms,
            )
        )


def _counts_from_ms(look: Looking, rollout: Rollout, short: list[Group]) -> int:
    """When the time began in which something has to become ready. While canaries wait for a promotion none passes; so
    one that stops being ready then, or is placed anew (a drain, a lost node), has all of it from there on. ``short``:
    groups without all of their canaries, none once they were promoted."""
    scene, columns = look.scene, look.scene.view.allocations
    since_ms = rollout.progress_ms
    for group in short:
        here = slice(scene.bounds[group.number], scene.bounds[group.number + 1])
        for row in (*scene.instances.newest[here].tolist(), *group.fallen.values()):
            if scene.rows.outdated[row] or look.ready[row]:
                continue
            made_ms = int(columns.create_time_ms[row])
            if look.leaves[row] or scene.lose[row]:  # with this very round
                since_ms = look.now_ms
            elif scene.live[row] and scene.rows.node_lost[row]:  # and kept there
                since_ms = max(since_ms, scene.view.nodes_by_slot[int(columns.node[row])].status_time_ms)
            elif made_ms <= rollout.progress_ms:  # it may have been ready
                since_ms = max(since_ms, int(columns.modify_time_ms[row]))
            elif not columns.failures[row]:  # else it is tried again and again, which is no progress
                since_ms = max(since_ms, made_ms)
    return since_ms


def _patience_ms(scene: Scene, seen: list[Group]) -> int:
    """The longest deadline of the groups that are not through; 0: one of them has none."""
    found = []
    for group in seen:
        if group.is_through:
            continue  # what is older has only to go
        spec = scene.groups.jobs[group.number].spec.groups[scene.groups.places[group.number]]
        found.append((spec.update or DEFAULT).progress_deadline_ms)
    return 0 if not all(found) else max(found, default=0)


def _what_is_in_the_way(look: Looking, seen: list[Group]) -> str:
    """One instance of the current version that is not ready, and what is said of it."""
    scene, columns = look.scene, look.scene.view.allocations
    for group in seen:
        here = slice(scene.bounds[group.number], scene.bounds[group.number + 1])
        for row in (*scene.instances.newest[here].tolist(), *group.fallen.values()):
            if not scene.rows.outdated[row] and not look.ready[row]:
                said = columns.reasons.get(int(columns.row[row]), "")
                state = AllocState(int(columns.state[row])).name.lower()
                state = "not ready" if state == "running" else state
                return f"; {look.name(row)} is {state}" + (f": {said}" if said else "")
    said = next((group.nowhere for group in seen if group.nowhere), "there is no room for the next")
    return f"; {said}" if any(group.old for group in seen) else ""
