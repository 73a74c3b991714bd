"""Observations on their way to the control plane: in order, in batches, kept until acknowledged.

Owns: what was not yet acknowledged. Leaves to others: sending (``agent.session``). The rule: per allocation the order
holds; a batch keeps its request id until it is acknowledged, so that sending it twice reports it once. In a burst of
starts those that go well share their reports.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orchestrator.contract.model import AllocState, AssignmentKey, Observation

MAX_BATCH = 1000
MAX_PER_ALLOCATION = 16
GATHER_S = 0.02
BURST_S = 0.5
_AS_IT_SHOULD = (AllocState.STARTING, AllocState.RUNNING)


@dataclass(frozen=True, slots=True)
class Batch:
    request_id: str
    observations: tuple[Observation, ...]


class Outbox:
    def __init__(self) -> None:
        self._pending: dict[AssignmentKey, deque[Observation]] = {}
        self._sending: Batch | None = None
        self._sending_keys: frozenset[AssignmentKey] = frozenset()
        self._filled = asyncio.Event()
        self._urgent = False  # something waits that is more than that a start goes as it should

    def add(self, observation: Observation) -> None:
        queue = self._pending.setdefault(observation.key, deque(maxlen=MAX_PER_ALLOCATION))
        if queue and queue[-1].restarts == observation.restarts and queue[-1].state <= AllocState.STARTING:
            queue.pop()  # "starting" is no news once it runs
        elif queue and AllocState.RUNNING is observation.state is queue[-1].state:
            queue.pop()  # nor is what its checks said before
        queue.append(observation)
        if observation.state not in _AS_IT_SHOULD or observation.health:
            self._urgent = True
        self._filled.set()

    def resend(self, observations: Iterable[Observation]) -> None:
        """Say again how things are; what already waits to be said is newer."""
        for observation in observations:
            if not self.has(observation.key) and observation.state is not AllocState.PENDING:
                self.add(observation)

    def has(self, key: AssignmentKey) -> bool:
        """Whether something about the allocation is not acknowledged yet."""
        return key in self._pending or key in self._sending_keys

    def batch(self) -> Batch | None:
        """What to send now: the unacknowledged batch again, else a new one, else None."""
        if self._sending is None and self._pending:
            taken: list[Observation] = []
            for key in list(self._pending):
                queue = self._pending[key]
                # One per allocation and batch: the order within a batch then never matters.
                taken.append(queue.popleft())
                if not queue:
                    del self._pending[key]
                if len(taken) >= MAX_BATCH:
                    break
            self._sending = Batch(str(uuid.uuid4()), tuple(taken))
            self._sending_keys = frozenset(one.key for one in taken)
        if not self._pending:
            self._filled.clear()
            self._urgent = False
        return self._sending

    def done(self, batch: Batch) -> None:
        """The batch was acknowledged, or can never be."""
        if self._sending is batch:
            self._sending = None
            self._sending_keys = frozenset()

    async def wait(self) -> None:
        """Until there may be something to send."""
        if self._sending is None:
            await self._filled.wait()

    async def gather(self, busy: Callable[[], bool], last: Callable[[], bool]) -> None:
        """Let more come to be said at once: for ``GATHER_S``, and for as long as ``busy`` and for ``BURST_S`` at most.

        Every report is an entry in the log of all peers, on disk. An engine that starts a hundred runs takes seconds
        for each, so that one of them has started may wait for the next ones; what ended or failed waits for nobody.
        Nor does a start that went well when nothing else is about to run (``last``): somebody waits for it.
        """
        if not self._urgent and self._sending is None and last():
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + BURST_S
        await asyncio.sleep(GATHER_S)
        while busy() and not self._urgent and self._sending is None and loop.time() < until:
            await asyncio.sleep(GATHER_S)
