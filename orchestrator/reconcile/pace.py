"""The pace of rollouts and drains: one allocation of a group gives way at a time.

Owns: who gives way next, and what holds the others up. Leaves to others: placing the replacement. The rules:

- Nobody gives way while the group is on the move: an instance has no node, is being stopped, or is starting up.
- A rollout also waits for everything already replaced to run. A replacement that crashes or cannot start halts it: the
  next version, or the recovery of the replacement, lets it go on. A drain is not held up by what is broken elsewhere.
- First whoever stands on a draining node, then whoever is outdated; among them first those that do not run anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import AllocState
from orchestrator.reconcile.table import BoolArray
from orchestrator.reconcile.work import Int64Array

_SETTLING = np.zeros(128, dtype=np.bool_)
_SETTLING[[AllocState.PENDING, AllocState.STARTING, AllocState.STOPPING]] = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pace:
    """The instances of one group; arrays of one length.

    state: of the newest attempt; running: live and meant to run; outdated, draining: subsets of running that should
    give way; stopping: live, told to stop, its ordinal still wanted. gaps: instances to be placed; waiting: in backoff;
    failed: failed for good.
    """

    state: npt.NDArray[np.int8]
    ordinal: Int64Array
    running: BoolArray
    outdated: BoolArray
    draining: BoolArray
    stopping: BoolArray
    gaps: int
    waiting: int
    failed: int


def choose_victim(pace: Pace) -> tuple[int | None, str]:
    """The place of the instance that gives way now, or None; and why the rollout is halted ("" = it is not)."""
    leaving = pace.outdated | pace.draining
    fresh = pace.running & ~leaving
    on_the_move = pace.gaps > 0 or bool(pace.stopping.any()) or bool((fresh & _SETTLING[pace.state]).any())
    halted = ""
    if pace.outdated.any():
        crashing = int((pace.running & ~pace.outdated & (pace.state == AllocState.BACKOFF)).sum())
        if pace.failed:
            halted = f"{pace.failed} replaced instance(s) failed"
        elif pace.waiting or crashing:
            halted = f"{pace.waiting + crashing} replaced instance(s) do not start"
    if on_the_move:
        return None, halted
    candidates = pace.draining if halted else leaving
    places = np.flatnonzero(candidates)
    if not len(places):
        return None, halted
    well = pace.state[places] == AllocState.RUNNING
    first = np.lexsort((pace.ordinal[places], well, ~pace.draining[places]))[0]
    return int(places[first]), halted
