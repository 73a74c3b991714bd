"""The clients of a drill: they create uniquely named variables, use a few hot keys, and remember every answer.

Owns: what is read and written, how an uncertain outcome is resolved (the same request id again), and the client
history. Leaves to others: the verdict (``drill_facts``, the history's checker). The rule: an answer is recorded exactly
as it came; a write counts as acknowledged only when the API said so.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import random
import time
import uuid
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from orchestrator.client.aio import Client
from orchestrator.contract import answers
from orchestrator.contract.errors import RaftsmanError, TimeoutError_
from orchestrator.ops.drill_facts import Ack, Facts
from orchestrator.ops.drill_hot import OPS, RETRY_S, HotOperation, may_pass
from orchestrator.ops.history import History, Operation

T = TypeVar("T")

PAUSE_S = 0.08
REPEAT_EVERY = 10
"""Every so many creates, the same request is sent once more: it must be answered as before and do nothing."""
HOT_KEYS = 3
HOT_CLIENTS = 6
"""On all hot keys together; more than ten on one key make a history hard to judge."""
HOT_PAUSE_S = 0.06
WEIGHTS = (8, 4, 2, 4, 1, 1)
"""How often each of ``OPS`` is chosen."""


class Writers:
    """``clients`` ask any peer, ``pinned`` one each. Names begin with ``prefix``. Each process is sequential."""

    def __init__(
        self, clients: Sequence[Client], pinned: Sequence[Client], facts: Facts, history: History, prefix: str
    ) -> None:
        self._clients = clients
        self._pinned = pinned
        self._facts = facts
        self._history = history
        self._prefix = prefix
        self._tasks: list[asyncio.Task[None]] = []
        self._waiters: list[tuple[int, asyncio.Future[int]]] = []
        self._count_waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._processes = 0
        self._acked_at_ns: list[int] = []

    @property
    def acked(self) -> int:
        """Creates acknowledged until now."""
        return len(self._acked_at_ns)

    def start(self) -> None:
        for number, client in enumerate(self._clients):
            self._tasks.append(asyncio.create_task(self._create(number, client)))
        for number in range(HOT_CLIENTS):
            self._tasks.append(asyncio.create_task(self._hot(number)))

    def longest_gap_ns(self, start_ns: int, end_ns: int) -> int:
        """The longest time within these (monotonic ns) in which no create was acknowledged."""
        return longest_gap(self._acked_at_ns, start_ns, end_ns)

    async def stop(self) -> None:
        """Let no write end undecided: each writer finishes the one that it is at."""
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def acked_after(self, called_ns: int, timeout_s: float) -> int:
        """When (monotonic ns) the first write was acknowledged whose call began at ``called_ns`` or later."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.append((called_ns, future))
        return await self._wait(future, timeout_s, "no write was acknowledged")

    async def reached(self, acked: int, timeout_s: float) -> None:
        """Until so many creates have been acknowledged in all."""
        if self.acked >= acked:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count_waiters.append((acked, future))
        await self._wait(future, timeout_s, f"only {self.acked} of {acked} writes were acknowledged")

    async def _wait(self, future: asyncio.Future[T], timeout_s: float, what: str) -> T:
        watched: set[asyncio.Future[Any]] = {future, *self._tasks}
        deadline = time.monotonic() + timeout_s
        while not future.done():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError_(f"{what} within {timeout_s:g} s")
            await asyncio.wait(watched, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()  # a writer never ends by itself: raise what ended it
        return future.result()

    async def _create(self, number: int, client: Client) -> None:
        process = self._process()
        count = 0
        while True:
            count += 1
            name = f"{self._prefix}{number}-{count:06d}"
            value, request_id = uuid.uuid4().hex, uuid.uuid4().hex
            await _whole(self._create_one(client, process, name, value, request_id, repeat=count % REPEAT_EVERY == 0))
            await asyncio.sleep(PAUSE_S)

    async def _create_one(
        self, client: Client, process: int, name: str, value: str, request_id: str, *, repeat: bool
    ) -> None:
        call_ns = time.monotonic_ns()
        answer = await self._until_answered(client, name, value, request_id)
        return_ns = time.monotonic_ns()
        self._history.add(
            Operation(
                process=process,
                op="cas",
                key=name,
                value=value,
                expect=None,
                hit=answer.hit,
                ok=True,
                call_ns=call_ns,
                return_ns=return_ns,
                index=answer.index,
            )
        )
        if not answer.hit:
            # The name is ours alone: it can only be there because a first try was carried out and not remembered.
            self._facts.refused_repeats.append(name)
            return
        self._facts.acks.append(Ack(name, value, answer.index))
        self._acknowledged(call_ns, return_ns)
        if repeat:
            again = await self._until_answered(client, name, value, request_id)
            if again.hit:
                self._facts.acks.append(Ack(name, value, again.index))
            else:
                self._facts.refused_repeats.append(name)

    async def _until_answered(self, client: Client, name: str, value: str, request_id: str) -> answers.VariableResult:
        while True:
            try:
                return await client.create_variable(name, value, request_id=request_id)
            except RaftsmanError as error:
                if not may_pass(error):
                    raise
                await asyncio.sleep(RETRY_S)

    def _acknowledged(self, call_ns: int, return_ns: int) -> None:
        self._acked_at_ns.append(return_ns)
        for called_ns, future in self._waiters:
            if call_ns >= called_ns and not future.done():
                future.set_result(return_ns)
        self._waiters = [(called, future) for called, future in self._waiters if not future.done()]
        for count, done in self._count_waiters:
            if self.acked >= count and not done.done():
                done.set_result(None)
        self._count_waiters = [(count, done) for count, done in self._count_waiters if not done.done()]

    def _process(self) -> int:
        self._processes += 1
        return self._processes

    # ------------------------------------------------------------------------ hot keys

    async def _hot(self, number: int) -> None:
        """Reads, writes, compare-and-sets and deletes on few keys, each asked of one and the same peer first."""
        pinned, any_peer = self._pinned[number % len(self._pinned)], self._clients[number % len(self._clients)]
        choose = random.Random(number)
        process = self._process()
        last: dict[str, str | None] = {}
        while True:
            key = f"{self._prefix}hot-{choose.randrange(HOT_KEYS)}"
            operation = HotOperation(choose.choices(OPS, WEIGHTS)[0], key, last.get(key), (pinned, any_peer))
            noted, answer = await _whole(self._note(process, operation))
            if answer is not None:
                last[key] = answer.variable.value if answer.variable is not None else None
            if noted is None:  # who does not know what it did does not go on under its number
                process = self._process()
            await asyncio.sleep(HOT_PAUSE_S)

    async def _note(self, process: int, operation: HotOperation) -> tuple[bool | None, answers.VariableResult | None]:
        call_ns = time.monotonic_ns()
        ok, answer = await operation.outcome()
        if answer is not None or operation.op != "get":  # a read without an answer says nothing
            self._history.add(operation.noted(process, ok, answer, call_ns, time.monotonic_ns()))
        return ok, answer

    async def read_back(self) -> None:
        """Every hot key through every peer, once nobody writes any more: what was lost shows now at the latest."""
        for pinned in self._pinned:
            process = self._process()
            for number in range(HOT_KEYS):
                read = HotOperation("get", f"{self._prefix}hot-{number}", None, (pinned, pinned))
                await self._note(process, read)


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """Finish ``work`` even when cancelled meanwhile: an operation is recorded whole or was never called."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(RaftsmanError):
            await task
        raise


def longest_gap(moments: Sequence[int], start: int, end: int) -> int:
    """Between two neighbours of ``start``, ``end`` and the ascending ``moments`` that lie between them."""
    inside = moments[bisect.bisect_right(moments, start) : bisect.bisect_left(moments, end)]
    marks = [start, *inside, end]
    return max(later - earlier for earlier, later in itertools.pairwise(marks))
