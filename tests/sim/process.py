"""``ProcessLoop`` and ``SimProcess``: processes that can be paused, stalled and killed, all in one virtual loop.

Owns: which process a callback belongs to, and when it may run. Leaves what a process does to ``peer``. The one rule:
while a process is paused nothing of it runs, and afterwards everything runs in the order in which it became due.

A callback belongs to the process in whose context it was scheduled (a context variable), so the engine, its tasks and
its timers need not know that they are simulated. Whoever calls into a process from outside (the network, a client's
call) must schedule that call in the process's context.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from orchestrator.contract.errors import UnknownOutcomeError
from tests.sim.loop import VirtualLoop

T = TypeVar("T")

_PROCESS: contextvars.ContextVar[SimProcess | None] = contextvars.ContextVar("process", default=None)


def current() -> SimProcess | None:
    """The process that the running callback belongs to."""
    return _PROCESS.get()


class _Gated:
    """A callback of a process: waits in the backlog while that is paused."""

    __slots__ = ("args", "callback", "handle", "process")

    def __init__(self, process: SimProcess, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.process = process
        self.callback = callback
        self.args = args
        self.handle: asyncio.Handle

    def __call__(self) -> None:
        if self.process.paused:
            self.process.backlog.append(self.handle)
        else:
            self.callback(*self.args)


class ProcessLoop(VirtualLoop):
    def call_soon(  # type: ignore[override]  # without the type variables of typeshed
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        gated = _Gated(process, callback, args)
        handle = gated.handle = super().call_soon(gated, context=context)
        return handle

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        gated = _Gated(process, callback, args)
        handle = gated.handle = super().call_at(when, gated, context=context)
        return handle

    def run_again(self, handle: asyncio.Handle) -> None:
        """Make a handle that was held back due now; unlike a new one, it can still be cancelled by its owner."""
        self._ready.append(handle)  # type: ignore[attr-defined]  # of BaseEventLoop


class SimProcess:
    """One life of one process. ``rate``: how fast its monotonic clock runs."""

    def __init__(self, name: str, loop: ProcessLoop, *, rate: float = 1.0) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.backlog: list[asyncio.Handle] = []
        # Dictionaries for their order: a set's would differ from run to run.
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.calls: dict[asyncio.Future[Any], None] = {}
        self.busy_until = 0.0  # of the loop's time: what leaves the process before leaves it then
        self._loop = loop
        self._rate = rate
        self._born = loop.time()
        self._pauses = 0
        self.context = contextvars.copy_context()
        self.context.run(_PROCESS.set, self)

    def clock(self) -> float:
        """Monotonic seconds of this process. A call that blocks it takes time that it sees."""
        return 1000.0 + (max(self._loop.time(), self.busy_until) - self._born) * self._rate

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run a coroutine as part of the process."""
        task = self._loop.create_task(work, context=self.context)
        self.tasks[task] = None
        task.add_done_callback(lambda done: self.tasks.pop(done, None), context=contextvars.Context())
        return task

    def pause(self, seconds: float) -> None:
        """Nothing of it runs for so long (SIGSTOP, a swapped machine, a disk that blocks its loop)."""
        self.paused = True
        self._pauses += 1
        self._loop.call_later(seconds, self._resume, self._pauses, context=contextvars.Context())

    def block(self, seconds: float) -> None:
        """The running callback takes so long: its effects come later, and nothing else runs meanwhile."""
        self.busy_until = max(self.busy_until, self._loop.time()) + seconds
        self.pause(self.busy_until - self._loop.time())

    def _resume(self, pause: int) -> None:
        if pause == self._pauses:
            self.resume()

    def resume(self) -> None:
        self.paused = False
        backlog, self.backlog = self.backlog, []
        for handle in backlog:
            if not handle.cancelled():
                self._loop.run_again(handle)

    async def ask(self, work: Coroutine[Any, Any, T], *, timeout_s: float) -> T:
        """Run it as part of the process and wait outside. Raises what it raises; ``UnknownOutcomeError`` if no answer
        comes in time, or the process ends."""
        answer: asyncio.Future[T] = self._loop.create_future()
        self.calls[answer] = None

        async def serve() -> None:
            try:
                value = await work
            except Exception as error:
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(value)

        task = self.spawn(serve())
        task.add_done_callback(lambda _: work.close(), context=contextvars.Context())
        done, _ = await asyncio.wait((answer,), timeout=timeout_s)
        self.calls.pop(answer, None)
        if not done:
            task.cancel()
            answer.cancel()
            raise UnknownOutcomeError("no answer came in time")
        return answer.result()

    def end(self, error: Exception) -> None:
        """It is gone: its tasks are cancelled, and whoever waits for an answer gets the error."""
        self.alive = False
        self.resume()
        for task in list(self.tasks):
            task.cancel()
        calls, self.calls = self.calls, {}
        for future in calls:
            if not future.done():
                future.set_exception(error)
                future.exception()  # whoever asked may be gone, too
