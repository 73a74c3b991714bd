"""Sessions: the agent's end of commands, copies and connections that somebody wants with a task of this node.

Owns: joining the peer that called, the frames, which run is meant, how many sessions there may be, and ending what was
begun when any side goes. Leaves to others: doing it (``agent.hands``, drivers), finding the node (peers). The rules: a
session reads from the task only what the peer has taken, and from the peer only what the task has taken; its last frame
says how it ended; a command ends with its session; what runs the task may hang, and then the session says so and ends
(``answering``), except for a connection, which needs it only to begin.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from agent.answering import in_time, until_silent, while_answering
from agent.driver import Driver, DriverUnavailableError, exit_reason
from agent.hands import Command, Connection, Entered, Hands, HandsError, Incoming
from agent.runs import find_port
from agent.supervisor import Supervisor
from orchestrator.contract.model import AllocationId, AssignmentKey
from orchestrator.contract.status import BROKEN
from orchestrator.contract.tree import Target
from orchestrator.contract.v1.session_pb2 import (
    AgentFrame,
    ClientFrame,
    ExecOpen,
    SessionCall,
    SessionEnd,
    SessionOpen,
    SessionStarted,
)
from orchestrator.contract.v1.types_pb2 import AllocationId as AllocationIdMessage

MAX_SESSIONS = 128
"""On this node at once, through all peers."""
MAX_COMMAND_BYTES = 128 * 1024
LOOK_S = 2.0
"""So often it is looked whether the task still runs, should its driver not say so at once."""
ENDS_TOO_LOOKS, ENDS_TOO_S = 5, 0.1
KILLED_CODES = (129, 137, 143, -1)
"""Of a command that was ended by others; -1: nobody knows."""
DRAIN_S = 2.0
"""After a task's end its command's last words may take so long."""

log = structlog.get_logger("agent.sessions")

Send = Callable[[AgentFrame], Awaitable[None]]
Receive = Callable[[], Awaitable[ClientFrame | None]]


class SessionServer:
    """One per agent. ``join`` runs one session and raises nothing that the session's own end would not say."""

    def __init__(self, supervisor: Supervisor, *, node_id: str, node_name: str, most: int = MAX_SESSIONS) -> None:
        self._supervisor = supervisor
        self._node_id = node_id
        self._node_name = node_name
        self._most = most
        self.count = 0

    async def join(self, stub: Any, call: SessionCall) -> None:
        """Until the session is over, on a stream of its own to the peer that called. Cancelled: it ends at once."""
        stream = stub.JoinSession()
        frames = _Frames(stream)
        self.count += 1
        try:
            await frames.send(AgentFrame(join=call.session_id))
            end = await self._run(call, frames.send, frames.receive)
            await frames.send(AgentFrame(end=end))
            await stream.done_writing()
            while await frames.receive() is not None:  # until the peer has passed it on
                pass
        except BROKEN as error:
            log.debug("session_broken", session=call.session_id, error=str(error))
        finally:
            self.count -= 1
            stream.cancel()
            frames.close()

    async def _run(self, call: SessionCall, send: Send, receive: Receive) -> SessionEnd:
        try:
            if self.count > self._most:
                raise HandsError(
                    f"node {self._node_name} has {self._most} sessions already: end some", reason="SESSIONS_FULL"
                )
            session = _Session(self._supervisor, call, send, receive)
            await session.find()
            return await session.run(self._node_id, self._node_name)
        except HandsError as error:
            return SessionEnd(error=str(error), error_reason=error.reason)
        except DriverUnavailableError as error:
            return SessionEnd(error=f"node {self._node_name}: {error}", error_reason="FAILED_PRECONDITION")
        except BROKEN:
            raise
        except Exception as error:
            log.exception("session_failed", session=call.session_id)
            return SessionEnd(error=f"the agent failed: {error!r}; its log says more", error_reason="INTERNAL")


class _Frames:
    """Both ways of a call, for users that are cancelled: gRPC would end the whole call with a read or write that is.
    One frame is read ahead, no more."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._turn = asyncio.Lock()
        self._writing: set[asyncio.Future[None]] = set()
        self._read: asyncio.Queue[ClientFrame | None] = asyncio.Queue(1)
        self._reader = asyncio.ensure_future(self._pump())

    async def _pump(self) -> None:
        try:
            while isinstance(frame := await self._stream.read(), ClientFrame):
                await self._read.put(frame)
        except BROKEN:
            pass  # whoever writes learns why
        await self._read.put(None)

    async def receive(self) -> ClientFrame | None:
        """None, and from then on None, when the peer says no more."""
        frame = await self._read.get()
        if frame is None:
            self._read.put_nowait(None)
        return frame

    async def send(self, frame: AgentFrame) -> None:
        """Once the peer has room for it. Raises ``AioRpcError``."""
        writing = asyncio.ensure_future(self._write(frame))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.shield(writing)

    async def _write(self, frame: AgentFrame) -> None:
        async with self._turn:
            await self._stream.write(frame)

    def close(self) -> None:
        for task in (self._reader, *self._writing):
            task.cancel()


class _Session:
    def __init__(self, supervisor: Supervisor, call: SessionCall, send: Send, receive: Receive) -> None:
        self._supervisor = supervisor
        self._call = call
        self._send = send
        self._receive = receive
        where = call.id
        id_ = AllocationId(namespace=where.namespace, job=where.job, group=where.group, ordinal=where.ordinal)
        self._key = AssignmentKey(id=id_, job_uid=call.job_uid, attempt=call.attempt)
        self._task = ""
        self._name = ""
        self._driver: Driver
        self._hands: Hands

    async def find(self) -> None:
        """The run that is meant, and its driver."""
        run = self._supervisor.run_of(self._key, self._call.open.task)
        if isinstance(run, str):
            raise HandsError(run, reason="NOT_FOUND")
        self._driver, self._name, self._task = run.driver, run.name, run.task
        if not isinstance(self._driver, Hands):
            raise HandsError(f"driver {self._driver.name} lets nobody into its tasks", reason="UNSUPPORTED")
        self._hands = self._driver
        instance = await in_time(self._driver, self._driver.inspect(self._name))
        # What has ended still has its files; nothing else can be done with it.
        if instance is None or (not instance.running and self._call.open.WhichOneof("what") != "copy_out"):
            raise HandsError(f"{self._key.id} task {self._task} does not run ({run.standing})", reason="NOT_RUNNING")

    async def run(self, node_id: str, node_name: str) -> SessionEnd:
        call, wanted = self._call, self._call.open
        started = SessionStarted(
            node_id=node_id,
            node=node_name,
            id=AllocationIdMessage(
                namespace=call.id.namespace, job=call.id.job, group=call.id.group, ordinal=call.id.ordinal
            ),
            attempt=call.attempt,
            task=self._task,
        )
        what = wanted.WhichOneof("what")
        if what == "exec":
            return await self._exec(started, wanted.exec)
        if what == "copy_out":
            return await self._copy_out(started, wanted)
        if what == "copy_in":
            return await self._copy_in(started, wanted)
        if what == "connect":
            return await self._connect(started, wanted)
        raise HandsError("this agent does not know what is wanted: update it", reason="UNSUPPORTED")

    # ------------------------------------------------------------------ a command

    async def _exec(self, started: SessionStarted, wanted: ExecOpen) -> SessionEnd:
        argv = tuple(wanted.command)
        if not argv or not argv[0]:
            raise HandsError("no command was given", reason="INVALID")
        if sum(len(word) for word in argv) > MAX_COMMAND_BYTES or any("\0" in word for word in argv):
            raise HandsError(f"the command is longer than {MAX_COMMAND_BYTES} bytes or has a NUL", reason="INVALID")
        command = Command(
            argv=argv,
            tty=wanted.tty,
            stdin=wanted.stdin,
            rows=wanted.size.rows,
            columns=wanted.size.columns,
            term=wanted.term,
            mark=self._call.session_id,
        )
        entered = await in_time(self._driver, self._hands.enter(self._name, command))
        try:
            await self._send(AgentFrame(started=started))
            done, ended = await self._until_task_ends(
                self._output(entered), self._input(entered), until_silent(self._driver)
            )
            code = 137 if ended else done
            if ended or (code in KILLED_CODES and await self._ends_too()):
                return SessionEnd(exit_code=137, error=await self._why_ended(), error_reason="TASK_ENDED")
            return SessionEnd(exit_code=code)
        finally:
            await entered.close()

    async def _output(self, entered: Entered) -> int:
        while True:
            is_error, data = await entered.read()
            if not data:
                return await entered.wait()
            await self._send(AgentFrame(error_data=data) if is_error else AgentFrame(data=data))

    async def _input(self, entered: Entered) -> None:
        while (frame := await self._receive()) is not None:
            kind = frame.WhichOneof("frame")
            if kind == "data":
                await entered.write(frame.data)
            elif kind == "end_of_data":
                await entered.end_input()
            elif kind == "size":
                await entered.resize(frame.size.rows, frame.size.columns)
            elif kind == "signal":
                await entered.signal(frame.signal)

    async def _why_ended(self) -> str:
        instance = None
        with contextlib.suppress(DriverUnavailableError):
            instance = await in_time(self._driver, self._driver.inspect(self._name))
        how = exit_reason(instance.exit, 0) if instance is not None and instance.exit is not None else "it is gone"
        return f"{self._key.id} task {self._task} ended ({how}), and the session with it"

    # ------------------------------------------------------------------ copies

    async def _copy_out(self, started: SessionStarted, wanted: SessionOpen) -> SessionEnd:
        name, chunks = await in_time(self._driver, self._hands.copy_out(self._name, wanted.copy_out.path))
        started.name = name
        await self._send(AgentFrame(started=started))

        async def out() -> int:
            async with contextlib.aclosing(chunks):  # type: ignore[type-var]
                async for chunk in chunks:
                    await self._send(AgentFrame(data=chunk))
            return 0

        await _first_of(while_answering(self._driver, out()), self._nothing_more())
        return SessionEnd()

    async def _copy_in(self, started: SessionStarted, wanted: SessionOpen) -> SessionEnd:
        asked = wanted.copy_in
        target = Target(path=asked.path, name=asked.name, directory=asked.directory, contents=asked.contents)
        if not target.path or not target.name or "/" in target.name or target.name in (".", ".."):
            raise HandsError("a copy needs a path to go to, and a name", reason="INVALID")
        started.name, incoming = await in_time(self._driver, self._hands.copy_in(self._name, target))
        try:
            await self._send(AgentFrame(started=started))
            return await while_answering(self._driver, self._into(incoming))
        finally:
            await incoming.close()

    async def _into(self, incoming: Incoming) -> SessionEnd:
        while (frame := await self._receive()) is not None:
            kind = frame.WhichOneof("frame")
            if kind == "data":
                await incoming.write(frame.data)
            elif kind == "end_of_data":
                await incoming.finish()
                return SessionEnd()
        return SessionEnd(error="the copy was broken off: what had arrived is there", error_reason="SESSION_LOST")

    # ------------------------------------------------------------------ connections

    async def _connect(self, started: SessionStarted, wanted: SessionOpen) -> SessionEnd:
        run = self._supervisor.run_of(self._key, self._task)
        if isinstance(run, str):
            raise HandsError(run, reason="NOT_FOUND")
        record = self._supervisor.records.get(self._key)
        port = find_port(record, run, wanted.connect.label, wanted.connect.port)
        if isinstance(port, str):
            raise HandsError(port, reason="INVALID")
        connection = await self._hands.connect(self._name, port)
        try:
            await self._send(AgentFrame(started=started))
            both = asyncio.gather(self._there(connection), self._back(connection))
            try:
                _, ended = await self._until_task_ends(_both(both))
            except OSError as error:
                return SessionEnd(error=f"the connection broke: {error}", error_reason="CONNECTION_BROKEN")
            finally:
                both.cancel()
                await asyncio.gather(both, return_exceptions=True)
            if ended:
                return SessionEnd(error=await self._why_ended(), error_reason="TASK_ENDED")
            return SessionEnd()
        finally:
            await connection.close()

    async def _there(self, connection: Connection) -> None:
        while (frame := await self._receive()) is not None:
            kind = frame.WhichOneof("frame")
            if kind == "data":
                await connection.write(frame.data)
            elif kind == "end_of_data":
                await connection.end_input()
                return

    async def _back(self, connection: Connection) -> None:
        while data := await connection.read():
            await self._send(AgentFrame(data=data))
        await self._send(AgentFrame(end_of_data=True))

    # ------------------------------------------------------------------ whichever ends first

    async def _until_task_ends(
        self, main: Coroutine[Any, Any, int], *beside: Coroutine[Any, Any, None]
    ) -> tuple[int, bool]:
        """(what ``main`` returns, False), or (0, True) when the task has ended and ``main`` did not follow soon.
        Whatever is still under way is cancelled. What ``beside`` raises is raised."""
        running = asyncio.ensure_future(main)
        others = {asyncio.ensure_future(one) for one in (*beside,)}
        gone = asyncio.ensure_future(self._task_gone())
        waiting: set[asyncio.Future[Any]] = {running, gone, *others}
        try:
            while not running.done():
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in done - {running, gone}:
                    one.result()
                    waiting.discard(one)  # the client says no more; what it began goes on
                if gone in done and not running.done():
                    await asyncio.wait({running}, timeout=DRAIN_S)
                    if not running.done():
                        return 0, True
            return running.result(), False
        finally:
            left = [one for one in (running, gone, *others) if not one.done()]
            for one in left:
                one.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _ends_too(self) -> bool:
        """Whether the task has ended with the command that was killed: an engine may say so a little later."""
        for _ in range(ENDS_TOO_LOOKS):
            instance = await in_time(self._driver, self._driver.inspect(self._name))
            if instance is None or not instance.running:
                return True
            await self._supervisor.seen_ended(self._name, ENDS_TOO_S)
        return False

    async def _task_gone(self) -> None:
        while True:
            await self._supervisor.seen_ended(self._name, LOOK_S)
            try:
                instance = await self._driver.inspect(self._name)
            except DriverUnavailableError:
                await asyncio.sleep(LOOK_S)
                continue
            if instance is None or not instance.running:
                return

    async def _nothing_more(self) -> None:
        while await self._receive() is not None:
            pass


async def _both(pair: asyncio.Future[Any]) -> int:
    await pair
    return 0


async def _first_of(main: Coroutine[Any, Any, int], beside: Coroutine[Any, Any, None]) -> None:
    """Until ``main`` is done; ``beside`` is ended then."""
    other = asyncio.ensure_future(beside)
    try:
        await main
    finally:
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
