"""``Proposals``: the bounded queue in front of the log, and the batch that is in flight.

Owns: which proposals share the next entry, and the share of the queue that is the control plane's own. Leaves to the
engine when it is made. The one rule: a proposal is either still queued (nothing was done) or in flight (it may happen),
never both, and every one of them is answered.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.contract.errors import OverloadedError, RaftsmanError
from orchestrator.replication.log import Proposed
from orchestrator.replication.waiting import fail, resolve

URGENT_PART = 8
"""One part in so many of the queue's bounds is kept for urgent proposals; of a batch they get all but one such part."""
RETRY_MS = (100, 300)
"""When to come again, at random, so that those who were refused together do not come back together."""


@dataclass(slots=True, eq=False)
class Proposal:
    payload: bytes
    future: asyncio.Future[Proposed] | None  # None: nobody waits
    done: Callable[[], None] | None = None  # called when it was applied or failed
    alone: bool = False  # shares its entry with no other
    urgent: bool = False  # the control plane's own: clients must not hold it up
    in_flight: bool = field(default=False)
    withdrawn: bool = field(default=False)


class _Lane:
    """Proposals in order. Taking one back is cheap: it is marked, and left out when its turn comes."""

    __slots__ = ("_rows", "bytes", "count")

    def __init__(self) -> None:
        self._rows: deque[Proposal] = deque()
        self.count = 0
        self.bytes = 0

    def add(self, proposal: Proposal, *, first: bool = False) -> None:
        if first:
            self._rows.appendleft(proposal)
        else:
            self._rows.append(proposal)
        self.count += 1
        self.bytes += len(proposal.payload)

    def withdraw(self, proposal: Proposal) -> None:
        proposal.withdrawn = True
        self.count -= 1
        self.bytes -= len(proposal.payload)
        proposal.payload = b""
        if len(self._rows) > 2 * self.count + 64:
            self._rows = deque(row for row in self._rows if not row.withdrawn)

    def first(self) -> Proposal | None:
        while self._rows and self._rows[0].withdrawn:
            self._rows.popleft()
        return self._rows[0] if self._rows else None

    def pop(self) -> Proposal:
        """The one that ``first`` gave."""
        proposal = self._rows.popleft()
        self.count -= 1
        self.bytes -= len(proposal.payload)
        return proposal

    def clear(self) -> list[Proposal]:
        rows = [row for row in self._rows if not row.withdrawn]
        self._rows.clear()
        self.count = self.bytes = 0
        return rows


class Proposals:
    def __init__(self, *, max_count: int, max_bytes: int, batch_bytes: int, rng: random.Random) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._batch_bytes = batch_bytes
        self._rng = rng
        self._urgent = _Lane()
        self._ordinary = _Lane()
        self.in_flight: list[Proposal] = []

    def __len__(self) -> int:
        return self._urgent.count + self._ordinary.count

    @property
    def bytes(self) -> int:
        """Of the payloads that wait."""
        return self._urgent.bytes + self._ordinary.bytes

    def add(self, proposal: Proposal) -> None:
        """Raises ``OverloadedError`` if the queue is full, or what of it is not kept for urgent ones."""
        kept = 0 if proposal.urgent else URGENT_PART
        most = self._max_count - (self._max_count // kept if kept else 0)
        most_bytes = self._max_bytes - (self._max_bytes // kept if kept else 0)
        count, size = (len(self), self.bytes) if proposal.urgent else (self._ordinary.count, self._ordinary.bytes)
        if count >= most or size + len(proposal.payload) > most_bytes:
            raise OverloadedError(
                f"{len(self)} writes ({self.bytes} bytes) already wait for the log: try again a little later",
                retry_after_ms=self._rng.randint(*RETRY_MS),
            )
        self._lane(proposal).add(proposal)

    def add_first(self, proposal: Proposal) -> None:
        """Put the engine's own proposal in front, whatever the bounds."""
        proposal.urgent = True
        self._urgent.add(proposal, first=True)

    def withdraw(self, proposal: Proposal) -> bool:
        """Take it back while it still waits; whether that was so."""
        if proposal.in_flight or proposal.withdrawn:
            return False
        self._lane(proposal).withdraw(proposal)
        return True

    def next_batch(self) -> list[Proposal]:
        """Move the next entry's worth from the queue into flight; empty if nothing waits or one is in flight."""
        if self.in_flight:
            return []
        batch: list[Proposal] = []
        size = self._fill(batch, 0, self._urgent, self._batch_bytes - self._batch_bytes // URGENT_PART)
        self._fill(batch, size, self._ordinary, self._batch_bytes)
        self.in_flight = batch
        return batch

    def _fill(self, batch: list[Proposal], size: int, lane: _Lane, most: int) -> int:
        while (proposal := lane.first()) is not None:
            if batch and (batch[-1].alone or proposal.alone or size + len(proposal.payload) > most):
                break
            lane.pop()
            proposal.in_flight = True
            size += len(proposal.payload)
            batch.append(proposal)
        return size

    def landed(self, batch: Iterable[Proposal]) -> None:
        """The batch was applied or is given up; the next may go."""
        if self.in_flight is batch:
            self.in_flight = []

    def give_up(self) -> tuple[list[Proposal], list[Proposal]]:
        """Empty both: ``(in flight, queued)``."""
        flying, queued = self.in_flight, self._urgent.clear() + self._ordinary.clear()
        self.in_flight = []
        for proposal in queued:
            proposal.withdrawn = True
        return flying, queued

    def _lane(self, proposal: Proposal) -> _Lane:
        return self._urgent if proposal.urgent else self._ordinary


def answer_all(batch: Sequence[Proposal], outcomes: Sequence[Proposed]) -> None:
    for proposal, outcome in zip(batch, outcomes, strict=True):
        if proposal.future is not None:
            resolve(proposal.future, outcome)
        if proposal.done is not None:
            proposal.done()


def fail_all(batch: Sequence[Proposal], error: RaftsmanError) -> None:
    for proposal in batch:
        if proposal.future is not None:
            fail(proposal.future, error)
        if proposal.done is not None:
            proposal.done()
