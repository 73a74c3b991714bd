"""The blocking client: the methods of ``client.aio``, run on a private event loop in a thread of their own.

Owns: nothing but waiting. The rule: no logic here, so that both clients always behave alike. Safe to use from several
threads, also from those of event loops; after a fork every call of the child is refused (``client.forks``).
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import copy
import functools
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from orchestrator.client import aio, contexts, forks, sessions
from orchestrator.client.endpoints import CLOSED
from orchestrator.contract import answers, model
from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.errors import PreconditionError, RaftsmanError, UnknownOutcomeError

P = ParamSpec("P")
T = TypeVar("T")


_running: weakref.WeakSet[_Loop] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A program that closes nothing ends all the same: later its daemon threads stand still, and whoever waits for one
    of them (an iterator that is collected) waits for ever."""
    for loop in list(_running):
        loop.close()


def _left_behind() -> None:
    """In the child of a fork: no thread came along, and what the loops watch is the parent's as well."""
    for loop in list(_running):
        loop.leave()


os.register_at_fork(after_in_child=_left_behind)


class _Loop:
    """An event loop that runs in a daemon thread until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._turn = threading.Lock()  # what is begun before the end is told of it
        self._ending = False
        self._left = False
        self._thread = threading.Thread(target=self._serve, name="raftsman-client", daemon=True)
        self._thread.start()
        _running.add(self)

    @property
    def closed(self) -> bool:
        return self._ending

    def leave(self) -> None:
        """After a fork, in the child: never touch it again."""
        self._turn = threading.Lock()  # a thread of the parent may have held it
        self._ending = self._left = True
        forks.keep(self)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` returns or raises. Raises ``PreconditionError`` once closed; ``UnknownOutcomeError`` where that
        came while it was under way."""
        with self._turn:
            if self._ending:
                work.close()
                if self._left:
                    raise forks.lost()
                raise PreconditionError("this client is closed: make another one", reason=CLOSED)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise UnknownOutcomeError(
                "the client was closed before an answer came: what was to be changed may or may not be", reason=CLOSED
            ) from None
        except BaseException:  # Ctrl-C in the waiting thread: the call must not go on by itself
            future.cancel()
            raise

    def close(self) -> None:
        with self._turn:
            if self._ending:
                return
            self._ending = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        self._loop.run_forever()
        # The end as well belongs to this thread: whoever closes may be in the middle of an event loop of its own.
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(_finished(left))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def _blocking(
    method: Callable[Concatenate[aio.Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    def wait(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.run(method(self._aio, *args, **kwargs))

    functools.update_wrapper(wait, method)
    return wait


def _iterating(
    method: Callable[Concatenate[aio.Client, P], AsyncIterator[T]],
) -> Callable[Concatenate[Client, P], Iterator[T]]:
    def iterate(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        source = method(self._aio, *args, **kwargs)
        try:
            while True:
                try:
                    item = self._loop.run(_next(source))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                with contextlib.suppress(PreconditionError):
                    self._loop.run(close())

    functools.update_wrapper(iterate, method)
    return iterate


async def _finished(tasks: Iterable[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)


async def _now(what: Callable[[], T]) -> T:
    return what()


class Session:
    """``client.sessions.Session``, blocking; ``with`` closes it. One thread may read while another one sends."""

    def __init__(self, loop: _Loop, session: sessions.Session) -> None:
        self._loop = loop
        self._session = session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def started(self) -> answers.SessionStarted:
        return self._session.started

    @property
    def exit_code(self) -> int | None:
        """None until it is over."""
        return self._session.exit_code

    def close(self) -> None:
        """Give it up, wherever it stands: what was begun is ended there. Idempotent."""
        if not self._loop.closed:
            self._loop.run(_now(self._session.close))

    def read(self) -> tuple[bool, bytes] | None:
        """(is standard error, bytes); b"" when the other side says that it sends no more; None when it is over."""
        return self._loop.run(self._session.read())

    def send(self, data: bytes) -> None:
        self._loop.run(self._session.send(data))

    def end_input(self) -> None:
        self._loop.run(self._session.end_input())

    def resize(self, rows: int, columns: int) -> None:
        self._loop.run(self._session.resize(rows, columns))

    def signal(self, name: str) -> None:
        self._loop.run(self._session.signal(name))


class Forward:
    """``client.sessions.Forward``, blocking: it serves in the client's thread, from ``start`` (or ``with``) until it is
    closed."""

    def __init__(self, loop: _Loop, forward: sessions.Forward) -> None:
        self._loop = loop
        self._forward = forward

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        return self._forward.port

    @property
    def address(self) -> str:
        return self._forward.address

    def start(self) -> None:
        """Raises what the port, or what it should reach, stands against."""
        self._loop.run(self._forward.start())

    def close(self) -> None:
        """Listen no more, and end every connection. Idempotent."""
        if not self._loop.closed:
            self._loop.run(self._forward.close())


class Client:
    """``with Client(["127.0.0.1:7400"], tls=...) as client``; every method as in ``client.aio.Client``, blocking."""

    def __init__(
        self,
        endpoints: Sequence[str] | str,
        *,
        tls: TlsFiles | None = None,
        namespace: str = model.DEFAULT_NAMESPACE,
        timeout_s: float = 30.0,
        stale_after_s: float | None = None,
    ) -> None:
        self._aio = aio.Client(
            endpoints, tls=tls, namespace=namespace, timeout_s=timeout_s, stale_after_s=stale_after_s
        )
        self._loop = _Loop()

    @classmethod
    def from_context(
        cls, name: str | None = None, *, namespace: str = model.DEFAULT_NAMESPACE, timeout_s: float = 30.0
    ) -> Client:
        """The client of a saved context (default: the current one, or the environment's; see ``client.contexts``)."""
        context = contexts.resolve(name)
        return cls(context.endpoints, tls=context.tls, namespace=namespace, timeout_s=timeout_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end the thread; idempotent."""
        with contextlib.suppress(PreconditionError):  # another thread was faster
            self._loop.run(self._aio.close())
        self._loop.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self._aio.endpoints

    @property
    def namespace(self) -> str:
        return self._aio.namespace

    def at_most(self, timeout_s: float) -> Client:
        """The same client, over the same connections, with another bound on each call."""
        other = copy.copy(self)
        other._aio = self._aio.at_most(timeout_s)
        return other

    def exec(
        self,
        where: model.AllocationId | str,
        command: Sequence[str],
        *,
        task: str = "",
        tty: bool = False,
        stdin: bool = False,
        rows: int = 0,
        columns: int = 0,
        term: str = "",
        namespace: str | None = None,
    ) -> Session:
        """Start a command in a running task; it ends when the session is closed (``with`` closes it)."""
        begun = self._aio.exec(
            where,
            command,
            task=task,
            tty=tty,
            stdin=stdin,
            rows=rows,
            columns=columns,
            term=term,
            namespace=namespace,
        )
        return Session(self._loop, self._loop.run(begun))

    def port_forward(
        self,
        where: model.AllocationId | str,
        remote: int | str,
        local: int = 0,
        *,
        host: str = "127.0.0.1",
        task: str = "",
        namespace: str | None = None,
        told: Callable[[RaftsmanError], None] = lambda _error: None,
    ) -> Forward:
        """``with client.port_forward("web", 80) as forward``: what connects to ``forward.address`` reaches the task's
        port. ``told`` gets what goes wrong with single connections, in the client's own thread: it must not block, nor
        call this client."""
        made = self._aio.port_forward(where, remote, local, host=host, task=task, namespace=namespace, told=told)
        return Forward(self._loop, made)

    submit = _blocking(aio.Client.submit)
    submit_many = _blocking(aio.Client.submit_many)
    get_job = _blocking(aio.Client.get_job)
    list_jobs = _blocking(aio.Client.list_jobs)
    stop_job = _blocking(aio.Client.stop_job)
    scale_job = _blocking(aio.Client.scale_job)
    restart_job = _blocking(aio.Client.restart_job)
    steer_rollout = _blocking(aio.Client.steer_rollout)
    rollback_job = _blocking(aio.Client.rollback_job)
    dispatch_job = _blocking(aio.Client.dispatch_job)
    force_run = _blocking(aio.Client.force_run)
    list_job_versions = _blocking(aio.Client.list_job_versions)
    remove_job = _blocking(aio.Client.remove_job)
    explain_job = _blocking(aio.Client.explain_job)
    explain_past = _blocking(aio.Client.explain_past)
    plan_job = _blocking(aio.Client.plan_job)
    what_if = _blocking(aio.Client.what_if)
    rebalance = _blocking(aio.Client.rebalance)
    move_allocation = _blocking(aio.Client.move_allocation)
    get_allocation = _blocking(aio.Client.get_allocation)
    list_allocations = _blocking(aio.Client.list_allocations)
    logs = _iterating(aio.Client.logs)
    get_workload = _blocking(aio.Client.get_workload)
    list_services = _blocking(aio.Client.list_services)
    watch_services = _iterating(aio.Client.watch_services)
    list_nodes = _blocking(aio.Client.list_nodes)
    cordon_node = _blocking(aio.Client.cordon_node)
    uncordon_node = _blocking(aio.Client.uncordon_node)
    cordon_device = _blocking(aio.Client.cordon_device)
    uncordon_device = _blocking(aio.Client.uncordon_device)
    drain_node = _blocking(aio.Client.drain_node)
    cancel_drain = _blocking(aio.Client.cancel_drain)
    drain_status = _blocking(aio.Client.drain_status)
    get_usage = _blocking(aio.Client.get_usage)
    find_running = _blocking(aio.Client.find_running)
    run_in = _blocking(aio.Client.run_in)
    copy_to = _blocking(aio.Client.copy_to)
    copy_from = _blocking(aio.Client.copy_from)
    forget_node = _blocking(aio.Client.forget_node)
    taint_node = _blocking(aio.Client.taint_node)
    cluster_status = _blocking(aio.Client.cluster_status)
    change_peers = _blocking(aio.Client.change_peers)
    state_hash = _blocking(aio.Client.state_hash)
    get_limits = _blocking(aio.Client.get_limits)
    set_limits = _blocking(aio.Client.set_limits)
    get_settings = _blocking(aio.Client.get_settings)
    set_settings = _blocking(aio.Client.set_settings)
    list_namespaces = _blocking(aio.Client.list_namespaces)
    create_namespace = _blocking(aio.Client.create_namespace)
    set_namespace = _blocking(aio.Client.set_namespace)
    delete_namespace = _blocking(aio.Client.delete_namespace)
    watch_events = _iterating(aio.Client.watch_events)
    backup = _iterating(aio.Client.backup)
    put_variable = _blocking(aio.Client.put_variable)
    create_variable = _blocking(aio.Client.create_variable)
    get_variable = _blocking(aio.Client.get_variable)
    compare_and_set_variable = _blocking(aio.Client.compare_and_set_variable)
    delete_variable = _blocking(aio.Client.delete_variable)
    put_variables = _blocking(aio.Client.put_variables)
    list_variables = _blocking(aio.Client.list_variables)
