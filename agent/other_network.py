"""Sockets made in a network of this machine that is not the agent's own: a container's, or the machine's.

Owns: stepping into the network of a process, the word for the machine's (``MACHINE``), a way there for libraries that
want an address, listening there. Leaves to others: which process, what is said. The rule: a thread cannot be trusted
to come back, so each step is made in one of its own, which ends with it. Needs to see the process in ``/proc`` and
CAP_SYS_ADMIN, and CAP_SYS_PTRACE where that is another user's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

MACHINE = "machine"
"""As the host of an address: the loopback of the machine whose processes are seen here."""
PROC = Path("/proc")
CONNECT_S = 5.0
CLONE_NEWNET = 0x40000000
CHUNK = 64 * 1024
T = TypeVar("T")


async def connect_in(pid: int, port: int) -> socket.socket:
    """A socket that does not block, connected to the loopback of the network of process ``pid``. Raises ``OSError``."""
    return await _in_own_thread(lambda: _socket_in(PROC / f"{pid}/ns/net", port), _close)


async def open_to(
    host: str, port: int, secure: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As ``asyncio.open_connection``, where ``host`` may be ``MACHINE``."""
    if host != MACHINE:
        return await asyncio.open_connection(host, port, ssl=secure)
    made = await _in_own_thread(lambda: _socket_in(_machines(), port), _close)
    return await asyncio.open_connection(sock=made, ssl=secure, server_hostname="localhost" if secure else None)


@contextlib.asynccontextmanager
async def address_of(host: str, port: int) -> AsyncIterator[str]:
    """``host:port`` as any library of this process reaches it meanwhile."""
    if host != MACHINE:
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await open_to(host, port)
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(CHUNK):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()


Pair = tuple[socket.socket, socket.socket]
"""For TCP and for UDP."""


async def bound_at(address: str, port: int, *, machine: bool) -> Pair:
    """Bound to one address and port, of the machine's network or the agent's own. Raises ``OSError``."""

    def make() -> Pair:
        if machine:
            _step_into(_machines())
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended take it, too
            for one in made:
                one.bind((address, port))
                one.setblocking(False)
            made[0].listen()
        except BaseException:
            _close(*made)
            raise
        return made

    return await _in_own_thread(make, lambda made: _close(*made))


async def datagrams_to(address: str, port: int, *, machine: bool) -> socket.socket:
    """A socket for UDP that speaks to one address of the machine's network, or the agent's own. Raises ``OSError``."""

    def make() -> socket.socket:
        if machine:
            _step_into(_machines())
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.connect((address, port))
            made.setblocking(False)
        except BaseException:
            made.close()
            raise
        return made

    return await _in_own_thread(make, _close)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        one.close()


def step_into_machine() -> str:
    """ "" if it can be done, else why not. Blocks."""
    failed: list[OSError] = []

    def run() -> None:
        try:
            _step_into(_machines())
        except OSError as error:
            failed.append(error)

    trying = threading.Thread(target=run, name="network")
    trying.start()
    trying.join()
    return (failed[0].strerror or str(failed[0])) if failed else ""


def _machines() -> Path:
    """Process 1's, or the kernel's own where nobody may look at that one. Raises ``OSError``."""
    first, kernel = PROC / "1/ns/net", PROC / "2"
    try:
        first.readlink()
    except PermissionError:
        if (kernel / "comm").read_text().strip() != "kthreadd":
            raise
        return kernel / "ns/net"
    return first


def _step_into(network: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with network.open("rb") as opened:
        if libc.setns(opened.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _socket_in(network: Path, port: int) -> socket.socket:
    _step_into(network)
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.settimeout(CONNECT_S)
        made.connect(("127.0.0.1", port))
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


async def _in_own_thread(work: Callable[[], T], drop: Callable[[T], None]) -> T:
    """``drop``: what is done with what was made for somebody who waits no more."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(made: Callable[[], T], error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            if error is None:
                drop(made())
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(made())

    def run() -> None:
        result: list[T] = []
        failed: BaseException | None = None
        try:
            result.append(work())
        except BaseException as error:
            failed = error
        try:
            loop.call_soon_threadsafe(tell, result.pop, failed)
        except RuntimeError:  # the loop is closed
            for made in result:
                drop(made)

    threading.Thread(target=run, name="network", daemon=True).start()
    return await future
