"""A state that begins a new life: restored from a backup, or recovered from one disk of many.

Owns: what must be moved on so that nothing that the old life may have given out after this state is ever given out
again. Leaves to others: files and disks (``ops.restore``, ``ops.recovery``). The rule: numbers only rise. How far the
old life went is unknown, so each kind of number goes to the next multiple of a step that no life reaches from within.

- configuration epoch: a peer of the old life that comes back finds that it was removed, and stops;
- attempts (fencing tokens): every later placement is above the floor, those below are taken up where they run and
  never started (``Assignment.adopt_only``);
- command index: agents ignore older assignments, and watchers that go on from an index of the old life are told that it
  is collected (OUT_OF_RANGE) and read anew. The events of before are dropped for that.

Answers to requests stay: they belong to writes that this state holds. Those of lost writes are gone with them, so such
a request, when it is repeated, is carried out.
"""

from __future__ import annotations

import numpy as np

from orchestrator.state.events import EventLog
from orchestrator.state.state import State

EPOCH_STEP = 1_000
ATTEMPT_STEP = 1_000_000
"""One ordinal's attempts in one life: one every half minute for a year."""
INDEX_STEP = 10**12
"""Commands in one life: 30,000 a second for a year. Below 2**53, which JSON numbers bear, for 9,000 lives."""


def renew(state: State, *, peer_id: str, incarnation: str, address: str, cause: str) -> None:
    """Begin a life with one peer, at ``address`` (host:port) with this disk. ``cause`` becomes the event's message.

    Raises ``ValueError`` for a state before its first start: there is nothing to go on with.
    """
    if not state.epoch or not state.cluster_id:
        raise ValueError("the first start of this cluster was never complete")
    highest = max([state.attempt_floor, *(int(part.max()) for part in _attempts(state))])
    state.attempt_floor = _next(highest, ATTEMPT_STEP)
    state.epoch = _next(state.epoch, EPOCH_STEP)
    state.addresses = {peer_id: address}
    state.admitted = {peer_id: incarnation}
    state.index = _next(state.index, INDEX_STEP)
    state.events = EventLog(state.limits.events, dropped_index=state.index - 1)
    state.events.begin(state.index, state.time_ms)
    state.events.emit("cluster.restored", message=cause)


def _attempts(state: State) -> list[np.ndarray[tuple[int], np.dtype[np.int32]]]:
    """The highest attempts of every group that ever had one."""
    found = (state.ordinals.attempts(gid) for gid in state.ordinals.names)
    return [attempts for attempts in found if len(attempts)]


def _next(value: int, step: int) -> int:
    return (value // step + 1) * step
