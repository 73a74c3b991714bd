"""Drains that lose nobody: an instance of a group that may surge gets its successor first, and goes when that is ready.

Owns: who gets a successor, who of two live attempts goes. Leaves to others: everybody else on a draining node, and what
is done where nobody has room for a successor (``rounds`` says whom a drain stops first; ``plan`` falls back to it),
the bound itself (``state.rollouts``). The rules, for a group with ``max_surge``:

- Whoever is ready, of the current version (or of the one before, at which its group is held), and on a draining node
  waits for a successor of the same; at most ``max_surge`` of the group have one at once, those of a rollout included.
- It goes once its successor is ready (for ``min_ready``) on a node that is not draining. So nobody is missing
  meanwhile, and a disruption budget is not asked: whatever it says, nobody is taken down.
- If the successor ends first, it counts again, and the next one comes as after any failed start. Whose successor has
  failed for good waits for no other: it goes as if the group could not surge.
- A canary that waits for its promotion beside an instance of the version before is a successor that stays. It goes if
  its own node is drained, and comes again elsewhere; and where such canaries are all that may surge, the others of the
  group are drained as if it could not.
- Two of which no drain needs both (it was cancelled, or the successor's own node is drained): one of them goes, never
  the only one that is ready.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from orchestrator.contract.rollouts import surge as surge_of
from orchestrator.reconcile.gaps import blocked_by
from orchestrator.reconcile.rollouts import Looking, Moves, ask_successors, settles_at
from orchestrator.reconcile.table import BoolArray, Scene, key_of
from orchestrator.reconcile.work import Ask, GroupWork
from orchestrator.state.commands import Int32Array
from orchestrator.state.distinct import distinct
from orchestrator.state.failures import Fate
from orchestrator.state.features import SURGING_DRAINS


@dataclass(slots=True)
class Surging:
    """``spared``: bool per row: a drain does not stop it, for it waits for a successor; ``leavers``: rows that go, for
    another attempt of theirs goes on; ``asked``: by group number, the rows for which a successor is asked for now."""

    spared: BoolArray
    leavers: list[int] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    asked: dict[int, list[int]] = field(default_factory=dict)
    wake_at_ms: int | None = None


def surge(
    scene: Scene, stops: Int32Array, notes: dict[tuple[int, int], GroupWork], now_ms: int, *, drained: int, spare: int
) -> Surging:
    """Adds to ``stops`` who of two goes (``drained``, ``spare``: the reasons), and to ``notes``. It does nothing before
    all peers know of it (``features``)."""
    found = Surging(spared=np.zeros(len(stops), dtype=np.bool_))
    groups, instances, rows = scene.groups, scene.instances, scene.rows
    if scene.view.feature_level < SURGING_DRAINS:
        return found
    twice = (instances.beside >= 0) & scene.live[instances.beside]
    leaving = rows.node_draining[instances.newest] & instances.live
    concerned = (twice | leaving) & (groups.policy & groups.active)[instances.group]
    if not concerned.any():
        return found
    look, moves = Looking(scene, stops, now_ms), Moves()
    for number in distinct(instances.group[concerned]):
        here = slice(scene.bounds[number], scene.bounds[number + 1])
        for newest, beside, both in zip(
            instances.newest[here].tolist(), instances.beside[here].tolist(), twice[here].tolist(), strict=True
        ):
            gone = _leaver(look, beside, newest, moves, drained, spare) if both else None
            if gone is not None:
                leaver, stops[leaver] = gone
                found.leavers.append(leaver)
        if leaving[here].any():
            _ask(look, number, moves, found, notes)
    found.asks, found.wake_at_ms = moves.asks, moves.wake_at_ms
    return found


def _leaver(
    look: Looking, elder: int, successor: int, moves: Moves, drained: int, spare: int
) -> tuple[int, int] | None:
    """Which of two that live together goes now, and for which reason; None: neither."""
    rows, draining = look.scene.rows, look.scene.rows.node_draining
    if not (look.stays[elder] and look.stays[successor]) or rows.node_lost[elder] or rows.node_lost[successor]:
        return None  # one goes already, or cannot be reached
    if draining[successor] and _waits(look, elder, successor):
        if look.ready[elder] or not look.ready[successor]:
            return successor, drained
        return (elder, drained) if draining[elder] else None
    if draining[elder] and not draining[successor]:
        if not look.ready[successor]:
            return None
        at_ms = settles_at(look, successor)
        if at_ms > look.now_ms:
            moves.wake(at_ms)
            return None
        return elder, drained
    if rows.wrong[elder] or rows.wrong[successor] or rows.outdated[elder] != rows.outdated[successor]:
        return None  # a rollout's
    return (successor if look.ready[elder] or not look.ready[successor] else elder), spare


def _waits(look: Looking, elder: int, successor: int) -> bool:
    """Whether ``successor`` is a canary beside what it is to replace, and waits for its promotion."""
    rows = look.scene.rows
    hold = look.scene.groups.holds[int(rows.group[successor])]
    return hold is not None and hold.beside and bool(rows.of_base[elder]) and not rows.outdated[successor]


def _ask(look: Looking, number: int, moves: Moves, found: Surging, notes: dict[tuple[int, int], GroupWork]) -> None:
    scene = look.scene
    job, place = scene.groups.jobs[number], scene.groups.places[number]
    spec = job.spec.groups[place]
    most = surge_of(spec.update, spec.count)
    if not most:
        return
    base = scene.groups.bases[number]
    closed = [bool(blocked_by(scene.view, job, place)), base is None or bool(blocked_by(scene.view, base, place))]
    waiting: list[int] = []
    fallen, pairs, canaries = {}, 0, 0
    rows, instances = scene.rows, scene.instances
    here = slice(scene.bounds[number], scene.bounds[number + 1])
    for newest, beside in zip(instances.newest[here].tolist(), instances.beside[here].tolist(), strict=True):
        both = beside >= 0 and bool(scene.live[beside])
        pairs += both
        canaries += both and newest not in found.leavers and _waits(look, beside, newest)
        if not look.ready[newest] or rows.wrong[newest] or not rows.node_draining[newest]:
            continue
        if closed[int(rows.outdated[newest])]:
            continue
        if both:
            found.spared[newest] = True  # until the other one has gone: there are never three
            continue
        if beside >= 0 and rows.outdated[beside] == rows.outdated[newest] and not rows.wrong[beside]:
            if look.fate(beside)[0] is Fate.FAILED:
                continue
            fallen[newest] = beside
        waiting.append(newest)
    if canaries >= most:
        return
    found.spared[waiting] = True
    asked: list[int] = []
    for before in (False, True):
        turn = [row for row in waiting if bool(rows.outdated[row]) is before]
        asked += (
            ask_successors(look, number, fallen, turn, most - pairs - len(asked), moves, first=True, before=before)
            if turn
            else []
        )
    if asked:
        found.asked[number] = asked
        notes.setdefault(key_of(scene.groups, number), GroupWork()).successors = len(asked)
