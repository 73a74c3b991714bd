"""Who was heard from: heartbeats in the leader's memory, and when to judge them next.

Owns: the times of heartbeats by this process's own monotonic clock, how far apart they come, since when this peer
leads, and the brake's memory (so that it is told once). Leaves to others: the judgement (``reconcile.liveness``),
writing it (``loop``), answering agents (``api.agents``). The rule: what was heard under an earlier leadership counts
for nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog
from prometheus_client import Gauge

from orchestrator.contract.model import NodeStatus
from orchestrator.reconcile.liveness import (
    COMING_MS,
    LOST_AFTER_MS,
    MOST_COMING_BOUNDS,
    NodeLiveness,
    Verdict,
    bound_for,
    judge,
    may_still_come,
)
from orchestrator.state.commands import MarkNodes
from orchestrator.state.model import Node

logger = structlog.get_logger(__name__)

BRAKED = Gauge("raftsman_mass_loss_brake", "1 while so many nodes are silent together that none is marked lost")

LEAST_WAIT_S = 0.25
"""Judging again sooner than this would find nothing that a human could tell apart."""
GATHER_S = 0.5
"""A lost node that is heard again is judged at once, those that follow within so long together: after a stall thousands
come back one by one, and each judgement looks at all of them and is a command, after which a round looks at everything.
A leader that did this for each would hear the others too late, and so lose them."""
PACE_BEATS = 256
"""Heartbeats whose distance to the one before tells whether this peer is late."""
LEAST_PACE_BEATS = 16
"""Of fewer than these one would count for too much."""


class Liveness:
    """``clock`` gives seconds that never go back."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, bound_ms: int = LOST_AFTER_MS) -> None:
        self._clock = clock
        self.bound_ms = bound_ms
        self._since: float | None = None
        self._heard: dict[str, float] = {}
        self._first = float("-inf")  # when a node was last heard for the first time
        self._apart: deque[float] = deque(maxlen=PACE_BEATS)  # seconds between two heartbeats of a node, newest last
        self._lost: frozenset[str] = frozenset()
        self._back = False
        self._due = 0.0  # no judgement can come out differently before
        self._back_due = 0.0  # nor, where a lost node was heard, before that
        self.brake = ""
        """What mass silence holds back now, "" while nothing."""
        self.on_back: Callable[[], None] | None = None
        """Called when a lost node was heard, so that it need not wait for the next judgement."""

    @property
    def leading(self) -> bool:
        return self._since is not None

    def begin(self) -> None:
        """This peer was elected: nobody was heard yet, and everybody has one bound to be heard."""
        self._since = self._clock()
        self._heard.clear()
        self._first = float("-inf")
        self._apart.clear()
        self._lost = frozenset()
        self._back = False
        self._due = self._back_due = 0.0

    def end(self) -> None:
        self._since = None
        self._heard.clear()
        self.brake = ""
        BRAKED.set(0)

    def beat(self, node_id: str) -> None:
        """A heartbeat of that node arrived now; ignored while this peer does not lead."""
        if self._since is None:
            return
        now, before = self._clock(), self._heard.get(node_id)
        if before is None:
            self._first = now
        else:
            self._apart.append(now - before)
        self._heard[node_id] = now
        if node_id in self._lost and not self._back:
            self._back = True
            if self.on_back is not None:
                self.on_back()

    def age_ms(self, node_id: str) -> int:
        """Milliseconds that the node has been silent for, as far as this leader knows: since its last heartbeat, or
        since the election where it was not heard since; -1 while this peer does not lead."""
        if self._since is None:
            return -1
        return int((self._clock() - self._heard.get(node_id, self._since)) * 1000)

    def judge(self, nodes: Iterable[Node]) -> MarkNodes | None:
        """What to write about the registered ``nodes`` now; None: nothing."""
        if self._since is None:
            return None
        now = self._clock()
        known = list(nodes)
        bound_ms = self._bound_ms()
        since_election_ms = int((now - self._since) * 1000)
        verdict = judge(
            [
                NodeLiveness(
                    node_id=node.spec.id,
                    register_index=node.register_index,
                    status=node.status,
                    silent_ms=None if (heard := self._heard.get(node.spec.id)) is None else int((now - heard) * 1000),
                )
                for node in known
            ],
            since_election_ms=since_election_ms,
            bound_ms=bound_ms,
            coming=may_still_come(
                since_election_ms=since_election_ms,
                since_first_ms=int(min(now - self._first, 1e6) * 1000),
                bound_ms=bound_ms,
            ),
        )
        began = verdict.braked and not self.brake
        self._tell(verdict)
        silent = verdict.mark.lost if verdict.mark is not None else ()
        self._lost = frozenset(
            [*(node.spec.id for node in known if node.status is NodeStatus.LOST), *(mark.node_id for mark in silent)]
        )
        self._back = False
        self._back_due = now + GATHER_S
        for node_id in self._heard.keys() - {node.spec.id for node in known}:
            del self._heard[node_id]  # forgotten
        # What is written now has to be seen before it is known what comes next.
        self._due = self._next(known, now, self._since, bound_ms / 1000) if verdict.mark is None else now + GATHER_S
        if not began:
            return verdict.mark
        return replace(verdict.mark or MarkNodes(), brake=verdict.message)

    def due(self) -> bool:
        """Whether a judgement can come out differently than the last one, and is not too soon after it."""
        return self.next_judgement_s() <= 0

    def next_judgement_s(self) -> float:
        """Seconds until the judgement can come out differently; soon when a lost node was heard again."""
        if self._since is None:
            return self.bound_ms / 1000
        due = min(self._due, self._back_due) if self._back else self._due
        return max(0.0, due - self._clock())

    def _bound_ms(self) -> int:
        """Silence for so long is too long, now: this peer may be late itself."""
        if len(self._apart) < LEAST_PACE_BEATS:
            return self.bound_ms
        typical_s = sorted(self._apart)[len(self._apart) // 2]
        return bound_for(int(typical_s * 1000), self.bound_ms)

    def _next(self, nodes: Iterable[Node], now: float, since: float, bound_s: float) -> float:
        """When, as far as was heard until now, the first node will have been silent for too long. Of the nodes that
        register later, none will be any sooner."""
        soonest = now + bound_s
        unheard = since + bound_s
        if now >= unheard:  # no more are waited for than may still come
            unheard = max(unheard, min(self._first + COMING_MS / 1000, since + MOST_COMING_BOUNDS * bound_s))
        for node in nodes:
            if node.status is NodeStatus.READY:
                heard = self._heard.get(node.spec.id)
                soonest = min(soonest, unheard if heard is None else max(heard, since) + bound_s)
        return max(now + LEAST_WAIT_S, soonest)

    def _tell(self, verdict: Verdict) -> None:
        BRAKED.set(1 if verdict.braked else 0)
        if verdict.braked != bool(self.brake):
            if verdict.braked:
                logger.warning("mass loss is braked", reason=verdict.message)
            else:
                logger.info("the mass loss brake is off")
        self.brake = verdict.message if verdict.braked else ""
