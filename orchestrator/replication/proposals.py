"""``Proposals``: the bounded queue in front of the log, and the batch that is in flight.

Owns: which proposals share the next entry. Leaves to the engine when it is made. The one rule: a proposal is either
still queued (nothing was done) or in flight (it may happen), never both, and every one of them is answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.contract.errors import OverloadedError, RaftsmanError
from orchestrator.replication.log import Proposed
from orchestrator.replication.waiting import fail, resolve


@dataclass(slots=True, eq=False)
class Proposal:
    payload: bytes
    future: asyncio.Future[Proposed] | None  # None: nobody waits
    done: Callable[[], None] | None = None  # called when it was applied or failed
    alone: bool = False  # shares its entry with no other
    in_flight: bool = field(default=False)


class Proposals:
    def __init__(self, *, max_count: int, max_bytes: int, batch_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._batch_bytes = batch_bytes
        self._queue: deque[Proposal] = deque()
        self._bytes = 0
        self.in_flight: list[Proposal] = []

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, proposal: Proposal) -> None:
        """Raises ``OverloadedError`` if the queue is full."""
        if len(self._queue) >= self._max_count or self._bytes + len(proposal.payload) > self._max_bytes:
            raise OverloadedError(
                f"{len(self._queue)} writes ({self._bytes} bytes) already wait for the log: try again a little later",
                retry_after_ms=200,
            )
        self._queue.append(proposal)
        self._bytes += len(proposal.payload)

    def add_first(self, proposal: Proposal) -> None:
        """Put the engine's own proposal in front, whatever the bounds."""
        self._queue.appendleft(proposal)
        self._bytes += len(proposal.payload)

    def withdraw(self, proposal: Proposal) -> bool:
        """Take it back while it still waits; whether that was so."""
        if proposal.in_flight:
            return False
        try:
            self._queue.remove(proposal)
        except ValueError:
            return False
        self._bytes -= len(proposal.payload)
        return True

    def next_batch(self) -> list[Proposal]:
        """Move the next entry's worth from the queue into flight; empty if nothing waits or one is in flight."""
        if self.in_flight or not self._queue:
            return []
        size = 0
        batch: list[Proposal] = []
        while self._queue and (not batch or size + len(self._queue[0].payload) <= self._batch_bytes):
            if batch and self._queue[0].alone:
                break
            proposal = self._queue.popleft()
            proposal.in_flight = True
            size += len(proposal.payload)
            batch.append(proposal)
            if proposal.alone:
                break
        self._bytes -= size
        self.in_flight = batch
        return batch

    def landed(self, batch: Iterable[Proposal]) -> None:
        """The batch was applied or is given up; the next may go."""
        if self.in_flight is batch:
            self.in_flight = []

    def give_up(self) -> tuple[list[Proposal], list[Proposal]]:
        """Empty both: ``(in flight, queued)``."""
        flying, queued = self.in_flight, list(self._queue)
        self.in_flight = []
        self._queue.clear()
        self._bytes = 0
        return flying, queued


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
