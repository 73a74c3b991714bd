"""One round of reconciling: from a whole view of the cluster to what should change. Level-triggered and pure.

Owns: what is lost, surplus, drained or outdated, and the order in which asks are served. Leaves to others: what is
missing (``gaps``), ended attempts (``state.failures``), the pace of rollouts (``rollouts``) and drains (``drains``:
successors first, ``pace``: one after the other), where asks go (``scheduling``). The rule: a round looks only at the
state, never at what an earlier round did, so a lost wake-up or a new leader costs one round.

An instance that is being stopped keeps its room until its agent says that it ended, so its replacement is asked for in
a later round. One that is lost gives up its room in the very entry that says so, and is asked for again at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from orchestrator.contract.constraints import matches
from orchestrator.contract.model import AllocState, Desired, JobType
from orchestrator.reconcile.drains import Surging, surge
from orchestrator.reconcile.gangs import Cause, gang_of
from orchestrator.reconcile.gaps import find_gaps
from orchestrator.reconcile.pace import Pace, choose_victim
from orchestrator.reconcile.rollouts import STAYS, STUCK_MS, advance
from orchestrator.reconcile.table import GONE, BoolArray, Scene, constraints_of, key_of, look
from orchestrator.reconcile.taints import evictions
from orchestrator.reconcile.work import Actions, Ask, GroupWork, StopFirst, Work
from orchestrator.state import disruption
from orchestrator.state.commands import Action, Int32Array
from orchestrator.state.disruption import PREEMPTED, is_up, may_go_down, standing
from orchestrator.state.distinct import distinct
from orchestrator.state.views import ClusterView

REASONS = (
    "its node was lost",
    "the job was stopped",
    "scaled down",
    "the group was removed from the job",
    disruption.DRAINED,
    "replaced by a newer version of the job",
    "its node no longer matches the job",
    "a member of its gang has ended: all of it starts again",
    "a member of its gang is on a node that is being drained",
    "the deadline of its node's drain has passed",
    "no drain needs two attempts of it any more",
    f"{disruption.DRAINED}, and nowhere is room for a successor first",
)
LOST, STOPPED, SURPLUS, REMOVED, DRAINED, OUTDATED, UNMATCHED, BROKEN, GANG_DRAINED, OVERDUE, SPARE, NO_ROOM = range(
    len(REASONS)
)
_GANG_REASONS = {Cause.BROKEN: BROKEN, Cause.OUTDATED: OUTDATED, Cause.DRAINED: GANG_DRAINED}


def reconcile(view: ClusterView, now_ms: int) -> Work:
    """What to do now; ``now_ms`` is unix time and counts no earlier than the cluster's own."""
    scene = look(view)
    asks, notes, wake_at_ms, gangs = find_gaps(scene, max(now_ms, view.time_ms))
    stops = _immediate_stops(scene)
    drain_at_ms = _overdue(scene, stops, max(now_ms, view.time_ms))
    for number, cause in gangs.items():
        _stop_gang(scene, stops, number, _GANG_REASONS[cause])
    texts, taint_at_ms = _driven_away(scene, stops, max(now_ms, view.time_ms))
    surging = surge(scene, stops, notes, max(now_ms, view.time_ms), drained=DRAINED, spare=SPARE)
    instead, patience_at_ms = _give_way(scene, stops, notes, surging, max(now_ms, view.time_ms))
    moves = advance(scene, stops, notes, max(now_ms, view.time_ms))
    deadlines = (wake_at_ms, taint_at_ms, drain_at_ms, surging.wake_at_ms, moves.wake_at_ms, patience_at_ms)
    return Work(
        actions=_actions(scene, stops, texts, moves.replaced, surging.leavers),
        asks=tuple(sorted([*asks, *surging.asks, *moves.asks], key=_turn)),
        wake_at_ms=min((at for at in deadlines if at is not None), default=None),
        groups=notes,
        verdicts=tuple(moves.verdicts),
        instead=instead,
    )


def _turn(ask: Ask) -> tuple[int, int, str, str, int, int]:
    """Priority, then first come first served; the rest only makes the order total."""
    spec = ask.job.spec
    return -spec.priority, ask.job.submit_index, spec.name, spec.namespace, ask.group, ask.avoid


def _immediate_stops(scene: Scene) -> Int32Array:
    """int32 per row: the reason to stop it at once, or STAYS. Service allocations on draining nodes go one at a time
    (``_give_way``), batch and system ones all at once, unless their job has a disruption budget."""
    columns, groups, rows = scene.view.allocations, scene.groups, scene.rows
    reason = np.full(len(columns), STAYS, dtype=np.int32)
    running = scene.live & (columns.desired == Desired.RUN)
    known = running & (rows.group != GONE)
    reason[running & ~known] = REMOVED
    if not bool(known.any()):
        return reason
    group = np.where(known, rows.group, 0)
    system = groups.system[group]
    at_once = (groups.job_type[group] != JobType.SERVICE) & ~groups.budgeted[group]
    reason[known & rows.node_draining & at_once] = DRAINED
    reason[known & ~system & (columns.ordinal >= groups.count[group])] = SURPLUS
    for number in scene.system_nodes:
        reason[_misplaced(scene, known & (rows.group == number), number)] = UNMATCHED
    beside = scene.instances.beside
    left = (beside >= 0) & ~groups.policy[scene.instances.group] & scene.live[beside]
    at = beside[left]  # two of one instance, of what was a service's rollout before the job changed its type
    reason[at[running[at] & (reason[at] == STAYS)]] = OUTDATED
    reason[known & ~groups.active[group]] = STOPPED
    return reason


def _overdue(scene: Scene, stops: Int32Array, now_ms: int) -> int | None:
    """Adds to ``stops`` all that is left on nodes whose drain should be over, whatever budgets and paces say; returns
    the next such deadline."""
    columns, nodes = scene.view.allocations, scene.view.nodes_by_slot
    # Not all nodes: most rounds look at one job, and none of its instances is on any that is drained.
    slots = distinct(columns.node[scene.live & scene.rows.node_draining])
    due = {slot: nodes[slot].drain_deadline_ms for slot in slots if nodes[slot].drain_deadline_ms}
    if not due:
        return None
    running = scene.live & (columns.desired == Desired.RUN)
    late = np.array(sorted(slot for slot, at_ms in due.items() if at_ms <= now_ms), dtype=np.int32)
    stops[running & np.isin(columns.node, late) & ((stops == STAYS) | (stops == DRAINED))] = OVERDUE
    return min((at_ms for at_ms in due.values() if at_ms > now_ms), default=None)


def _misplaced(scene: Scene, mine: BoolArray, number: int) -> list[int]:
    """Positions of a system group's rows whose node the job no longer matches. A cordoned or lost one still does."""
    columns, nodes = scene.view.allocations, scene.view.nodes_by_slot
    constraints = constraints_of(scene.groups, number)
    found = []
    for position in np.flatnonzero(mine).tolist():
        slot = int(columns.node[position])
        if slot not in scene.system_nodes[number] and slot in nodes and not matches(nodes[slot].spec, constraints):
            found.append(position)
    return found


def _stop_gang(scene: Scene, stops: Int32Array, number: int, reason: int) -> None:
    """Every member that is meant to run, unless it stops for a reason of its own."""
    columns = scene.view.allocations
    members = scene.live & (scene.rows.group == number) & (columns.desired == Desired.RUN) & (stops == STAYS)
    stops[members] = reason


def _driven_away(scene: Scene, stops: Int32Array, now_ms: int) -> tuple[tuple[str, ...], int | None]:
    """Adds what NoExecute taints drive away to ``stops``; the texts of all reasons, and the next deadline."""
    leavers, wake_at_ms = evictions(scene, now_ms)
    texts = list(REASONS)
    for position in sorted(leavers):
        if stops[position] == STAYS:
            if leavers[position] not in texts:
                texts.append(leavers[position])
            stops[position] = texts.index(leavers[position])
    return tuple(texts), wake_at_ms


def _give_way(
    scene: Scene, stops: Int32Array, notes: dict[tuple[int, int], GroupWork], surging: Surging, now_ms: int
) -> tuple[dict[tuple[int, int], StopFirst], int | None]:
    """Choose at most one allocation per group to give way, or as many as a disruption budget allows of those on
    draining nodes; adds them to ``stops`` and notes what holds others up. Who waits for a successor is left alone; the
    result is what would be done about those for whom one is asked now, should none find room, and when to look again.

    What ``keep`` holds on a lost node takes no part: it can neither stop nor be waited for.
    """
    columns, groups, rows, instances = scene.view.allocations, scene.groups, scene.rows, scene.instances
    instead: dict[tuple[int, int], StopFirst] = {}
    if not len(instances.group):
        return instead, None
    newest = instances.newest
    reachable = instances.live & (stops[newest] == STAYS) & ~rows.node_lost[newest]
    running = reachable & (columns.desired[newest] == Desired.RUN)
    outdated = running & scene.rows.outdated[newest] & ~groups.policy[instances.group]  # else: ``rollouts``
    draining = running & rows.node_draining[newest] & ~surging.spared[newest]
    # Who runs and is not ready is on its way, or sick: neither is a reason to take the next one down.
    state = columns.state.copy()
    state[(state == AllocState.RUNNING) & ~columns.ready] = AllocState.STARTING
    turns = _Turns(scene, stops, state, reachable, running, outdated, now_ms)
    for number in distinct(instances.group[outdated | draining]):
        if gang_of(groups, number) is not None:
            continue  # replaced as a whole, above
        note = notes.setdefault(key_of(groups, number), GroupWork())
        leave, note.held, note.halted = turns.of(number, note, draining)
        note.outdated = int(outdated[turns.here(number)].sum())
        if number in surging.asked:
            continue  # whom a drain would stop first is decided below, once, for all of the group
        for place in leave:
            stops[newest[place]] = DRAINED if draining[place] else OUTDATED
    for number, asked in surging.asked.items():
        key = key_of(groups, number)
        waiting = draining | (running & np.isin(newest, asked))
        leave, held, _ = turns.of(number, notes[key], waiting)
        instead[key] = StopFirst(positions=tuple(newest[leave].tolist()), held=held)
    return instead, turns.wake_at_ms


class _Turns:
    """Who of a group goes now, to make room for a replacement that comes after it. Arrays: per instance, ``state`` per
    row."""

    def __init__(
        self,
        scene: Scene,
        stops: Int32Array,
        state: npt.NDArray[np.int8],
        reachable: BoolArray,
        running: BoolArray,
        outdated: BoolArray,
        now_ms: int,
    ) -> None:
        self._now_ms = now_ms
        self.wake_at_ms: int | None = None  # when somebody's turn comes by itself
        self._scene = scene
        self._stops = stops
        self._state = state
        self._reachable = reachable
        self._running = running
        self._outdated = outdated

    def here(self, number: int) -> slice:
        return slice(self._scene.bounds[number], self._scene.bounds[number + 1])

    def of(self, number: int, note: GroupWork, draining: BoolArray) -> tuple[list[int], str, str]:
        """Instances that go now, what holds the others on draining nodes, and what halts a rollout."""
        scene, instances = self._scene, self._scene.instances
        here = self.here(number)
        if scene.groups.budgeted[number] and bool(draining[here].any()):
            # A rollout waits meanwhile: it would take instances down that the budget does not know of.
            leave, held = _within_budget(scene, self._stops, number, draining[here])
            return [here.start + place for place in leave], held, note.halted
        gaps = note.missing
        newest, foreign = instances.newest[here], scene.rows.foreign
        others = bool(gaps and (self._outdated[here] & foreign[newest]).any()) and not self._waits_for_room(number)
        if others:
            gaps = 0
        stopping = self._reachable[here] & ~self._running[here]
        if number in scene.system_nodes:
            # A node that never had room for it must not hold up the others: only what was there before counts.
            expected = np.isin(instances.ordinal[here], list(scene.system_nodes[number]))
            there = expected & ~(foreign[newest] & others)
            gaps = int((there & ~instances.live[here]).sum()) - note.failed - note.waiting
        else:
            stopping &= instances.ordinal[here] < scene.groups.count[number]
        victim, halted = choose_victim(
            Pace(
                state=self._state[instances.newest[here]],
                ordinal=instances.ordinal[here],
                running=self._running[here],
                outdated=self._outdated[here],
                draining=draining[here],
                stopping=stopping,
                gaps=gaps,
                waiting=note.waiting,
                failed=note.failed,
            )
        )
        return ([] if victim is None else [here.start + victim]), "", halted

    def _waits_for_room(self, number: int) -> bool:
        """Of a job that was of another type before: whether what is missing may still find room, since something
        changed not long ago. After that those of before give way for it, who may have what it needs."""
        scene, here = self._scene, self.here(number)
        newest = scene.instances.newest[here][~scene.instances.live[here]]
        changed = scene.view.allocations.modify_time_ms[newest].tolist()
        until_ms = max([scene.groups.jobs[number].modify_time_ms, *changed]) + STUCK_MS
        if until_ms <= self._now_ms:
            return False
        self.wake_at_ms = until_ms if self.wake_at_ms is None else min(self.wake_at_ms, until_ms)
        return True


def _within_budget(scene: Scene, stops: Int32Array, number: int, draining: BoolArray) -> tuple[list[int], str]:
    """What the group's budget lets go of its instances on draining nodes, by place in the group; and what holds up the
    rest."""
    columns, groups, rows, instances = scene.view.allocations, scene.groups, scene.rows, scene.instances
    here = slice(int(instances.bounds[number]), int(instances.bounds[number + 1]))
    newest = instances.newest[here]
    job, place = groups.jobs[number], groups.places[number]
    up = is_up(columns.ready[newest], columns.desired[newest], rows.node_lost[newest]) & (stops[newest] == STAYS)
    preempted = [columns.reasons.get(int(row), "").startswith(PREEMPTED) for row in columns.row[newest].tolist()]
    wanted, well = standing(
        job,
        place,
        ordinal=columns.ordinal[newest],
        version=columns.version[newest],
        state=columns.state[newest],
        up=up,
        preempted=np.array(preempted, dtype=np.bool_),
        level=scene.view.feature_level,
    )
    budget = job.spec.disruption
    down = np.flatnonzero(draining & ~up).tolist()  # who is down anyway costs nobody anything
    candidates = np.flatnonzero(draining & up).tolist()
    leave = candidates[: may_go_down(budget, wanted=wanted, up=well)]
    stay = len(candidates) - len(leave)
    if not stay:
        return [*down, *leave], ""
    assert budget is not None, "without one all of them may leave"
    said = disruption.describe(budget, wanted=wanted, up=well)
    return [*down, *leave], f"its disruption budget keeps {stay} on draining nodes: {said}"


_NOTHING = np.zeros(0, dtype=np.int32)


def _actions(
    scene: Scene, stops: Int32Array, texts: tuple[str, ...], replaced: list[int], leavers: list[int]
) -> Actions:
    """``replaced``, ``leavers``: who may go only while enough others are ready, which is judged again at commit."""
    columns = scene.view.allocations
    stops[replaced] = OUTDATED
    lost = np.flatnonzero(scene.lose)
    stopped = np.flatnonzero(stops != STAYS)
    if not len(lost) and not len(stopped):  # as in most rounds
        return Actions(positions=lost, actions=_NOTHING, reasons=_NOTHING, texts=texts)
    stopped = stopped[np.lexsort((-columns.ordinal[stopped], columns.group[stopped], columns.job[stopped]))]
    kind = np.where(np.isin(stopped, [*replaced, *leavers]), Action.REPLACE, Action.STOP)
    kinds = [np.full(len(lost), Action.LOSE), kind]
    return Actions(
        positions=np.concatenate([lost, stopped]).astype(np.int64),
        actions=np.concatenate(kinds).astype(np.int32),
        reasons=np.concatenate([np.full(len(lost), LOST), stops[stopped]]).astype(np.int32),
        texts=texts,
    )
