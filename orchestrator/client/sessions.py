"""Sessions with a task: commands, copies and connections, over one call with streams both ways.

Owns: opening one at whichever peer answers, its frames, its end, tar streams to and from files. Leaves to others: which
allocation is meant (``client.hands``), terminals (``cli``). The rule: opening may be tried at several peers; what has
begun ends with its peer, and says so, for nobody knows how much of it was done.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from orchestrator.client.endpoints import CONNECT_S, Endpoints, nobody
from orchestrator.contract import codec
from orchestrator.contract.answers import SessionStarted
from orchestrator.contract.errors import (
    InvalidError,
    OverloadedError,
    PreconditionError,
    RaftsmanError,
    UnknownOutcomeError,
    from_reason,
)
from orchestrator.contract.status import BROKEN, UNCONNECTED, from_rpc_error
from orchestrator.contract.tree import Copied, Landing, Target, TreeError, landing, pack, unpack
from orchestrator.contract.v1.session_pb2 import AgentFrame, ClientFrame, SessionEnd, SessionOpen, TerminalSize

CHUNK = 64 * 1024
PAUSE_S = 0.2
TASK_ENDED = "TASK_ENDED"
SESSION_LOST = "SESSION_LOST"


class Session:
    """One open session; ``async with`` closes it. All methods raise ``RaftsmanError``.

    ``read`` gives what comes until it is over; ``exit_code`` is set then. What is sent waits until the other side has
    taken it, and nothing is fetched before it is read.
    """

    def __init__(self, call: Any, address: str, started: SessionStarted) -> None:
        self._call = call
        self._address = address
        self.started = started
        self.exit_code: int | None = None
        self._over: RaftsmanError | None = None
        self._turn = asyncio.Lock()  # two writes at once end the call: TOO_MANY_OPERATIONS

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give it up, wherever it stands: what was begun is ended there. Idempotent."""
        self._call.cancel()

    async def read(self) -> tuple[bool, bytes] | None:
        """(is standard error, bytes); b"" when the other side says that it sends no more; None when it is over."""
        while self.exit_code is None:
            if self._over is not None:
                raise self._over
            frame = await _frame(self._call, self._address)
            kind = frame.WhichOneof("frame")
            if kind == "data":
                return False, frame.data
            if kind == "error_data":
                return True, frame.error_data
            if kind == "end_of_data":
                return False, b""
            if kind == "end":
                self._over = _problem(frame.end)
                if self._over is not None:
                    raise self._over
                self.exit_code = frame.end.exit_code
        return None

    async def send(self, data: bytes) -> None:
        for at in range(0, len(data), CHUNK):
            await self._write(ClientFrame(data=data[at : at + CHUNK]))

    async def end_input(self) -> None:
        await self._write(ClientFrame(end_of_data=True))

    async def resize(self, rows: int, columns: int) -> None:
        await self._write(ClientFrame(size=TerminalSize(rows=rows, columns=columns)))

    async def signal(self, name: str) -> None:
        await self._write(ClientFrame(signal=name))

    async def _write(self, frame: ClientFrame) -> None:
        """After its end there is nobody to hear it: ``read`` says how it ended."""
        async with self._turn:
            with contextlib.suppress(*BROKEN):
                await self._call.write(frame)


async def _next(call: Any) -> Any:
    """The next frame, None at the end. By iteration: once a write has failed, and one does that comes just after the
    other side ended the session, ``call.read`` loses what had come and was not yet read."""
    return await anext(aiter(call), None)


async def _frame(call: Any, address: str) -> AgentFrame:
    try:
        frame = await _next(call)
    except grpc.aio.AioRpcError as broken:
        error = from_rpc_error(broken)
        if isinstance(error, UnknownOutcomeError):
            raise PreconditionError(
                f"the connection to peer {address} broke, and the session with it ({error.message})",
                reason=SESSION_LOST,
            ) from None
        raise error from None
    if not isinstance(frame, AgentFrame):
        raise PreconditionError(f"peer {address} ended the session without a word", reason=SESSION_LOST)
    return frame


def _problem(end: SessionEnd) -> RaftsmanError | None:
    if not end.error:
        return None
    facts = {"exit_code": str(end.exit_code)} if end.exit_code else {}
    return from_reason(end.error_reason or "INTERNAL", end.error, facts, grpc_code="FAILED_PRECONDITION")


async def open_session(endpoints: Endpoints, wanted: SessionOpen, timeout_s: float) -> Session:
    """A session that has begun. Raises what the peer or the agent answered, ``NoLeaderError`` where nobody did."""
    endpoints.enter()
    deadline = time.monotonic() + timeout_s
    failures: dict[str, RaftsmanError] = {}
    while True:
        for endpoint in endpoints.in_order():
            endpoints.require_open()
            if not await endpoint.connected(CONNECT_S):
                failures[endpoint.address] = UnknownOutcomeError("cannot connect", reason=UNCONNECTED)
                continue
            call = await endpoint.duplex("Session", ClientFrame, AgentFrame)
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                    await call.write(ClientFrame(open=wanted))
                    first = await _next(call)
                if isinstance(first, AgentFrame):
                    endpoints.answered(endpoint)
                    problem = _problem(first.end) if first.HasField("end") else None
                    if problem is not None:
                        raise problem
                    return Session(call, endpoint.address, codec.decode(SessionStarted, first.started))
                failures[endpoint.address] = UnknownOutcomeError("it ended the call without a word")
            except grpc.aio.AioRpcError as broken:
                error = from_rpc_error(broken)
                if not error.retryable or isinstance(error, OverloadedError):
                    raise error from None
                failures[endpoint.address] = error
            except asyncio.InvalidStateError:
                failures[endpoint.address] = UnknownOutcomeError("it ended the call")
            except TimeoutError:
                failures[endpoint.address] = UnknownOutcomeError("it did not answer in time")
                call.cancel()
            except BaseException:
                call.cancel()
                raise
        if time.monotonic() >= deadline:
            raise nobody(failures, timeout_s)
        await asyncio.sleep(PAUSE_S)


# ---------------------------------------------------------------------------- copies


async def send_tree(open_: Callable[[Target], Awaitable[Session]], local: str | os.PathLike[str], path: str) -> Copied:
    """Copy a file or directory to ``path`` in a task; ``local/.``: what is in the directory."""
    whole, target = _source(os.fspath(local), path)
    copied = Copied()
    async with await open_(target) as session:
        # Whoever reads hears at once when the other side gives up in the middle.
        reading = asyncio.ensure_future(_until_over(session))
        try:
            pieces = pack(whole, session.started.name, copied)
            while not reading.done():
                piece = await asyncio.to_thread(next, pieces, b"")
                if not piece:
                    await session.end_input()
                    break
                sending = asyncio.ensure_future(session.send(piece))
                await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
                if not sending.done():
                    sending.cancel()
            await reading
        except TreeError as error:
            raise from_reason(error.reason, str(error), {}, grpc_code="FAILED_PRECONDITION") from None
        finally:
            reading.cancel()
    return copied


def _source(local: str, path: str) -> tuple[str, Target]:
    """The absolute path of what is copied, and where it should go."""
    contents = local.endswith(("/.", os.sep + ".")) or local == "."
    whole = os.path.abspath(local)  # noqa: PTH100
    directory = os.path.isdir(whole)  # noqa: PTH112
    if not os.path.exists(whole):  # noqa: PTH110
        raise InvalidError(f"there is no {local}")
    if contents and not directory:
        raise InvalidError(f"{local}: is no directory, so there is nothing in it")
    name = os.path.basename(whole) or "root"  # noqa: PTH119
    return whole, Target(path=path, name=name, directory=directory, contents=contents)


async def _until_over(session: Session) -> None:
    while await session.read() is not None:
        pass


async def take_tree(open_: Callable[[], Awaitable[Session]], path: str, local: str | os.PathLike[str]) -> Copied:
    """Copy a file or directory from ``path`` in a task to ``local``; ``path/.``: what is in the directory."""
    wanted = os.fspath(local)
    contents = path.endswith("/.") or path == "."
    loop = asyncio.get_running_loop()
    async with await open_() as session:
        over = False
        held = b""

        async def more() -> bytes:
            nonlocal over
            while not over:
                piece = await session.read()
                over = piece is None
                if piece is not None and piece[1] and not piece[0]:
                    return piece[1]
            return b""

        def read(size: int) -> bytes:
            nonlocal held
            if not held:
                held = asyncio.run_coroutine_threadsafe(more(), loop).result()
            piece, held = held[:size], held[size:]
            return piece

        def write() -> Copied:
            lands = _landing_here(wanted, session.started.name, read_first=read, contents=contents)
            return unpack(lands[1], lands[0].directory, lands[0].name)

        try:
            copied = await asyncio.to_thread(write)
            while await session.read() is not None:  # how it ended: a copy that was broken off is none
                pass
            return copied
        except TreeError as error:
            raise from_reason(error.reason, str(error), {}, grpc_code="FAILED_PRECONDITION") from None


def _landing_here(
    wanted: str, name: str, *, read_first: Callable[[int], bytes], contents: bool
) -> tuple[Landing, Callable[[int], bytes]]:
    """Where it goes, and a reader of the whole stream: its first block says whether a directory is coming."""
    block = b""
    while len(block) < 512 and (piece := read_first(512 - len(block))):
        block += piece
    is_tree = len(block) == 512 and block[156:157] == b"5"
    if contents and not is_tree:
        raise TreeError("it is no directory, so there is nothing in it", reason="INVALID")
    target = Target(path=wanted, name=name, directory=is_tree, contents=contents)
    lands = landing(target, exists=os.path.lexists(wanted), is_directory=os.path.isdir(wanted))  # noqa: PTH112
    rest = block

    def read(size: int) -> bytes:
        nonlocal rest
        if rest:
            piece, rest = rest[:size], rest[size:]
            return piece
        return read_first(size)

    return lands, read


# ---------------------------------------------------------------------------- connections


class Forward:
    """A port of this machine's loopback; every connection to it is a session. ``async with``, or ``start``/``close``.

    ``open_`` is asked for each connection, so that it finds a task that was placed elsewhere meanwhile; ``told`` gets
    what goes wrong with single connections. ``check`` raises before anything is listened on where none can work.
    """

    def __init__(
        self,
        open_: Callable[[], Awaitable[Session]],
        *,
        host: str,
        port: int,
        told: Callable[[RaftsmanError], None] = lambda _error: None,
        check: Callable[[], Awaitable[None]] | None = None,
        most: int = 100,
    ) -> None:
        self._open = open_
        self._check = check
        self._host = host
        self._wanted = port
        self._told = told
        self._turns = asyncio.Semaphore(most)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.port = port

    @property
    def address(self) -> str:
        return f"{self._host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Raises ``InvalidError`` where the port cannot be listened on, and what ``check`` raises."""
        if self._check is not None:
            await self._check()
        try:
            self._server = await asyncio.start_server(self._accept, self._host, self._wanted, limit=CHUNK)
        except OSError as error:
            raise InvalidError(f"cannot listen on {self._host}:{self._wanted}: {error.strerror or error}") from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            async with self._turns, await self._open() as session:
                await _carry(session, reader, writer)
        except RaftsmanError as error:
            writer.transport.abort()  # whoever connected must not take this for an answer
            self._told(error)
        except OSError:
            pass  # whoever connected went away
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._serving.discard(task)
            writer.close()


async def _carry(session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def there() -> None:
        while data := await reader.read(CHUNK):
            await session.send(data)
        await session.end_input()

    sending = asyncio.ensure_future(there())
    try:
        while (piece := await session.read()) is not None:
            if piece[1]:
                writer.write(piece[1])
                await writer.drain()
            elif writer.can_write_eof():
                writer.write_eof()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
