"""Connections made in a network of this machine that is not the agent's own: a container's, or the machine's.

Owns: stepping into the network of a process, the word for the machine's (``MACHINE``), a way there for libraries that
want an address. Leaves to others: which process, what is said. The rule: a thread cannot be trusted to come back, so
each step is made in one of its own, which ends with it. Needs to see the process in ``/proc`` and CAP_SYS_ADMIN, and
CAP_SYS_PTRACE where that is another user's.
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

MACHINE = "machine"
"""As the host of an address: the loopback of the machine whose processes are seen here."""
PROC = Path("/proc")
CONNECT_S = 5.0
CLONE_NEWNET = 0x40000000
CHUNK = 64 * 1024


async def connect_in(pid: int, port: int) -> socket.socket:
    """A socket that does not block, connected to the loopback of the network of process ``pid``. Raises ``OSError``."""
    return await _in_own_thread(lambda: _socket_in(PROC / f"{pid}/ns/net", port))


async def open_to(
    host: str, port: int, secure: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As ``asyncio.open_connection``, where ``host`` may be ``MACHINE``."""
    if host != MACHINE:
        return await asyncio.open_connection(host, port, ssl=secure)
    made = await _in_own_thread(lambda: _socket_in(_machines(), port))
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


async def _in_own_thread(work: Callable[[], socket.socket]) -> socket.socket:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[socket.socket] = loop.create_future()

    def tell(made: socket.socket | None, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            if made is not None:
                made.close()
        elif made is not None:
            future.set_result(made)
        elif error is not None:
            future.set_exception(error)

    def run() -> None:
        made: socket.socket | None = None
        failed: BaseException | None = None
        try:
            made = work()
        except BaseException as error:
            failed = error
        try:
            loop.call_soon_threadsafe(tell, made, failed)
        except RuntimeError:  # the loop is closed
            if made is not None:
                made.close()

    threading.Thread(target=run, name="network", daemon=True).start()
    return await future
