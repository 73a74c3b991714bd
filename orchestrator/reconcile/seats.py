"""Which instances of a group may be of a version that must not spread; all others stay at the version before.

Owns: that choice among instances of which nothing lives. Leaves to others: how many there may be (``state.holding``),
making canaries of what runs (``rollouts``). The rules:

- An instance whose last attempt was of the newer version comes back at it, as long as no more are of it than may be.
- Where canaries come beside what runs of the version before, everybody else comes back at that version first. Only of
  what has failed for good there, or waits to be tried again, and of a group of which that version has nothing at all,
  are canaries made.
- Where they come in place of it, whoever is missing is as good a canary as any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orchestrator.reconcile.table import BoolArray, Scene
from orchestrator.reconcile.work import Int64Array
from orchestrator.state.commands import Int32Array
from orchestrator.state.failures import Fate
from orchestrator.state.holding import Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Seats:
    """Of one group: ``newer``: ordinals of which nothing lives that are to be of the newer version; ``taken``: how many
    instances are of it, these included."""

    newer: frozenset[int]
    taken: int


def seat(scene: Scene, fate: Int32Array, wanted: BoolArray) -> Mapping[int, Seats]:
    """By number, for every group that is held; ``fate``, ``wanted`` per instance as ``gaps`` finds them. An instance
    that comes back at another version than its last attempt's is placed at once, whatever that came to."""
    found = {}
    for number, hold in enumerate(scene.groups.holds):
        if hold is not None:
            found[number] = _seat(scene, number, hold, fate, wanted)
    return found


def _seat(scene: Scene, number: int, hold: Hold, fate: Int32Array, wanted: BoolArray) -> Seats:
    instances, rows = scene.instances, scene.rows
    live, back, sick = 0, [], []  # live ones of the newer version; by what their last attempt was: newer, failed before
    gone: list[int] = []  # other ends of the version before
    runs_before = False
    at_of: dict[int, int] = {}
    for at in range(scene.bounds[number], scene.bounds[number + 1]):
        ordinal = int(instances.ordinal[at])
        if not wanted[at]:
            continue
        at_of[ordinal] = at
        newest, beside = int(instances.newest[at]), int(instances.beside[at])
        if instances.live[at]:
            both = beside >= 0 and scene.live[beside] and not rows.outdated[beside]
            live += bool(not rows.outdated[newest] or both)
            runs_before = runs_before or bool(rows.outdated[newest])
        elif not rows.outdated[newest]:
            back.append(ordinal)
        elif fate[at] in (Fate.WAIT, Fate.FAILED):
            sick.append(ordinal)
        else:
            gone.append(ordinal)
    never = [ordinal for ordinal in range(int(scene.groups.count[number])) if ordinal not in at_of]
    room = max(0, hold.canaries - live)
    if hold.beside:
        newer: list[int] = []
        if hold.growing:
            newer = [*sick, *(never if not (gone or back or runs_before) else [])]
        again = back  # the version before first, and the canary beside it
    else:
        newer, again = back[:room], back[room:]
        if hold.growing:
            newer += [*sick, *gone, *never]
    newer = newer[:room]
    for ordinal in newer:
        at = at_of.get(ordinal, -1)
        if at >= 0 and ordinal not in back:
            fate[at] = Fate.AGAIN
    for ordinal in again:
        fate[at_of[ordinal]] = Fate.AGAIN
    return Seats(newer=frozenset(newer), taken=live + len(newer))


def parted(seats: Seats | None, missing: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Of ordinals that are to be placed, those at the newest version, and those at the version before."""
    if seats is None:
        return missing, missing[:0]
    newer = np.isin(missing, sorted(seats.newer))
    return missing[newer], missing[~newer]
