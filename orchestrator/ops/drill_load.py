"""The writers of a drill: they create uniquely named variables all the while and remember every answer.

Owns: what is written, how an uncertain outcome is resolved (the same request id again, until it is answered), and the
client history. Leaves to others: the verdict (``drill_facts``). The rule: an answer is recorded exactly as it came; a
write counts as acknowledged only when the API said so.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from orchestrator.client.aio import Client
from orchestrator.contract import answers
from orchestrator.contract.errors import RaftsmanError, TimeoutError_
from orchestrator.ops.drill_facts import Ack, Facts
from orchestrator.ops.history import UNCONDITIONAL, History

T = TypeVar("T")

PAUSE_S = 0.08
RETRY_S = 0.05
REPEAT_EVERY = 10
"""Every so many creates, the same request is sent once more: it must be answered as before and do nothing."""
HOT_KEYS = 3
HOT_PAUSE_S = 0.05
MAX_HOT_CLIENTS = 10


class Writers:
    """``clients`` write at once, each sequentially. Names begin with ``prefix``."""

    def __init__(self, clients: Sequence[Client], facts: Facts, history: History, prefix: str) -> None:
        self._clients = clients
        self._facts = facts
        self._history = history
        self._prefix = prefix
        self._tasks: list[asyncio.Task[None]] = []
        self._waiters: list[tuple[int, asyncio.Future[int]]] = []
        self._count_waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._processes = 0
        self.acked = 0

    def start(self) -> None:
        for number, client in enumerate(self._clients):
            self._tasks.append(asyncio.create_task(self._create(number, client)))
            if self._history.kept and number < MAX_HOT_CLIENTS:
                self._tasks.append(asyncio.create_task(self._hot(number, client)))

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
            process=process, op="cas", key=name, value=value, expect=None, hit=answer.hit, ok=True,
            call_ns=call_ns, return_ns=return_ns, index=answer.index,
        )  # fmt: skip
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
                # Not done, or nobody knows: the same request id makes asking again harmless.
                if not error.retryable and not isinstance(error, TimeoutError_):
                    raise
                await asyncio.sleep(RETRY_S)

    def _acknowledged(self, call_ns: int, return_ns: int) -> None:
        self.acked += 1
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

    async def _hot(self, number: int, client: Client) -> None:
        """Reads, writes, compare-and-sets and deletes on few keys, for the history alone."""
        choose = random.Random(number)
        process = self._process()
        last: dict[str, str | None] = {}
        while True:
            key = f"{self._prefix}hot-{choose.randrange(HOT_KEYS)}"
            op = choose.choices(("get", "put", "cas", "delete"), (5, 3, 3, 1))[0]
            process = await _whole(self._hot_one(client, process, op, key, last))
            await asyncio.sleep(HOT_PAUSE_S)

    async def _hot_one(self, client: Client, process: int, op: str, key: str, last: dict[str, str | None]) -> int:
        """One operation; returns the process that goes on (a new one where an outcome stays unknown)."""
        value: str | None = None if op in ("get", "delete") else uuid.uuid4().hex
        expect = last.get(key)
        call_ns = time.monotonic_ns()
        try:
            if op == "get":
                answer = await client.get_variable(key)
                value = answer.variable.value if answer.variable is not None else None
            elif op == "put":
                answer = await client.put_variable(key, value or "")
            elif op == "cas":
                answer = await client.compare_and_set_variable(key, expect, value or "")
            else:
                answer = await client.delete_variable(key)
        except RaftsmanError:
            if op != "get":  # a read without an answer says nothing
                self._note_hot(process, op, key, value, expect, call_ns, None, None)
            return self._process()
        self._note_hot(process, op, key, value, expect, call_ns, True, answer)
        last[key] = answer.variable.value if answer.variable is not None else None
        return process

    def _note_hot(
        self,
        process: int,
        op: str,
        key: str,
        value: str | None,
        expect: str | None,
        call_ns: int,
        ok: bool | None,
        answer: answers.VariableResult | None,
    ) -> None:
        self._history.add(
            process=process,
            op=op,  # type: ignore[arg-type]
            key=key,
            value=value,
            expect=expect if op == "cas" else UNCONDITIONAL,
            hit=answer.hit if answer is not None else False,
            ok=ok,
            call_ns=call_ns,
            return_ns=time.monotonic_ns(),
            index=answer.index if answer is not None else 0,
        )


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """Finish ``work`` even when cancelled meanwhile: an operation is recorded whole or was never called."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(RaftsmanError):
            await task
        raise
