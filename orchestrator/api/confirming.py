"""One round with the majority for all heartbeats of a moment.

Owns: gathering those who wait to hear that this peer still leads. Leaves to others: the round itself
(``replication.log``). The rule: a confirmation counts only for those who asked before it began.
"""

from __future__ import annotations

import asyncio

from orchestrator.contract.errors import RaftsmanError
from orchestrator.replication.log import ReplicatedLog

GATHER_S = 0.1
"""How long the first one waits for others: next to nothing, measured by a heartbeat's interval of seconds; with
thousands of nodes every round with the majority, and every turn of the loop, serves more than a hundred of them."""
CONFIRM_S = 5.0


class Confirming:
    """For one event loop."""

    def __init__(self, log: ReplicatedLog, *, gather_s: float = GATHER_S) -> None:
        self._log = log
        self._gather_s = gather_s
        self._next: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def confirmed(self) -> None:
        """Returns once a majority has said, after now, that this peer leads; raises as ``confirm_leadership`` does."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._confirm(self._next))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.shield(self._next)

    async def _confirm(self, future: asyncio.Future[None]) -> None:
        try:
            await asyncio.sleep(self._gather_s)
            self._next = None  # who asks from now on gets a round of its own
            await self._log.confirm_leadership(timeout_s=CONFIRM_S)
            future.set_result(None)
        except RaftsmanError as error:
            future.set_exception(error)
            future.exception()  # perhaps nobody waits any more
        except BaseException:
            self._next = None if self._next is future else self._next
            future.cancel()
            raise
