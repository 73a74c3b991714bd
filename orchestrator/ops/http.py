"""One GET, in as few bytes as possible: is it answered with 200?

The rule: standard library only and a connection per request, so that a load of hundreds a second costs next to nothing.
"""

from __future__ import annotations

import asyncio
import time

from orchestrator.contract.errors import TimeoutError_


async def probe(address: str, timeout_s: float, path: str = "/") -> str:
    """GET ``path`` at ``host:port``: "" if it was answered with 200, else what went wrong."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
                await writer.drain()
                status = await reader.readline()
                await reader.read()
            finally:
                writer.close()
    except TimeoutError:
        return f"no answer in {timeout_s:g} s"
    except OSError as error:
        return str(error)
    words = status.split()
    return "" if len(words) > 1 and words[1] == b"200" else f"answered {status!r}"


async def answered(address: str, timeout_s: float) -> float:
    """Monotonic time (seconds) at which ``address`` first answered 200. Raises ``TimeoutError_``."""
    deadline = time.monotonic() + timeout_s
    while problem := await probe(address, 1.0):
        if time.monotonic() > deadline:
            raise TimeoutError_(f"{address} did not answer within {timeout_s:g} s: {problem}")
        await asyncio.sleep(0.02)
    return time.monotonic()
