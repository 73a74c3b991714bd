"""One round with the majority for all heartbeats of a moment.

Owns: gathering those who wait to hear that this peer still leads. Leaves to others: the round itself
(``replication.log``). The rules: a confirmation counts only for those who asked before it began; and few are woken in
one turn of the loop, for whoever leads thousands of nodes must send its own heartbeats in between.
"""

from __future__ import annotations

import asyncio

from orchestrator.contract.errors import RaftsmanError
from orchestrator.replication.log import ReplicatedLog

GATHER_S = 0.1
"""How long the first one waits for others: next to nothing, measured by a heartbeat's interval of seconds; with
thousands of nodes every round with the majority, and every turn of the loop, serves more than a hundred of them."""
CONFIRM_S = 5.0
AT_ONCE = 4
"""Heartbeats that are answered in one turn of the loop. Each costs a fifth of a millisecond, and whatever else goes on
waits for a turn a dozen times before it is done: with fifty of them, a call beside 1,700 heartbeats a second took 14 to
23 ms (p90), with four 5 to 7, at the same cost in all."""

_Waiters = list[asyncio.Future[None]]


class Confirming:
    """For one event loop."""

    def __init__(self, log: ReplicatedLog, *, gather_s: float = GATHER_S) -> None:
        self._log = log
        self._gather_s = gather_s
        self._next: _Waiters | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def confirmed(self) -> None:
        """Returns once a majority has said, after now, that this peer leads; raises as ``confirm_leadership`` does."""
        await self.ask()

    def ask(self) -> asyncio.Future[None]:
        """The same, for who does not wait for it."""
        if self._next is None:
            self._next = []
            task = asyncio.create_task(self._confirm(self._next))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._next.append(future)
        return future

    async def _confirm(self, waiters: _Waiters) -> None:
        problem: RaftsmanError | None = None
        try:
            await asyncio.sleep(self._gather_s)
            self._next = None  # who asks from now on gets a round of its own
            try:
                await self._log.confirm_leadership(timeout_s=CONFIRM_S)
            except RaftsmanError as error:
                problem = error
            for start in range(0, len(waiters), AT_ONCE):
                for future in waiters[start : start + AT_ONCE]:
                    if future.done():
                        continue  # who waited there has gone
                    if problem is None:
                        future.set_result(None)
                    else:
                        future.set_exception(problem)
                        future.exception()  # perhaps its waiter goes before it hears of it
                await asyncio.sleep(0)
        except BaseException:
            self._next = None if self._next is waiters else self._next
            for future in waiters:
                future.cancel()
            raise
