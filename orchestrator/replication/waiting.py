"""``Waiting``: tasks that wait for something to become true after a turn, and listeners that are called then.

Owns: futures. The one rule: nobody is woken before the flush of the turn that made it true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from orchestrator.contract.errors import RaftsmanError

T = TypeVar("T")

Condition = Callable[[], bool]


def resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def fail(future: asyncio.Future[Any], error: RaftsmanError) -> None:
    if not future.done():
        future.set_exception(error)


async def within(future: asyncio.Future[T], timeout_s: float | None) -> T | None:
    """The future's result, or None if it has none in time (it is cancelled then)."""
    await asyncio.wait((future,), timeout=None if timeout_s is None else max(timeout_s, 0.0))
    if future.done():
        return future.result()
    future.cancel()
    return None


class Waiting:
    def __init__(self) -> None:
        self._waiters: list[tuple[Condition, asyncio.Future[bool]]] = []
        self._listeners: dict[int, Callable[[], None]] = {}
        self._next = 0

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Returns the unsubscriber."""
        number = self._next
        self._next += 1
        self._listeners[number] = listener

        def unsubscribe() -> None:
            self._listeners.pop(number, None)

        return unsubscribe

    async def until(self, condition: Condition, timeout_s: float | None = None) -> bool:
        """Wait until the condition holds after some turn; False if it does not in time."""
        if condition():
            return True
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        row = (condition, future)
        self._waiters.append(row)
        try:
            return await within(future, timeout_s) or condition()
        finally:
            if row in self._waiters:
                self._waiters.remove(row)

    def notify(self) -> None:
        """Call the listeners."""
        for listener in list(self._listeners.values()):
            listener()

    def look(self) -> None:
        """Wake those whose condition holds now."""
        if not self._waiters:
            return
        waiting, self._waiters = self._waiters, []
        for condition, future in waiting:
            if future.done():
                continue
            if condition():
                future.set_result(True)
            else:
                self._waiters.append((condition, future))

    def fail(self, error: RaftsmanError) -> None:
        """Nothing will become true any more."""
        for _, future in self._waiters:
            fail(future, error)
        self._waiters.clear()
