"""Addresses of nodes that are known by a name, as this machine resolves it.

Owns: asking, and remembering for a moment. Leaves to others: what is answered (``zone``). The rules: most resolvers of
tasks do not go on at an alias, so they are told addresses where this machine knows them; a question that nobody answers
holds up one answer for ``PATIENCE_S``, and no thread that anybody waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable

from agent.dns.zone import Ip

KEPT_S = 5.0
PATIENCE_S = 1.0
MOST = 1_000

Ask = Callable[[str], tuple[Ip, ...]]


def ask_system(name: str) -> tuple[Ip, ...]:
    """Blocks. Nothing where the name is not known."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(ipaddress.ip_address(str(at[0]).partition("%")[0]) for *_, at in found))


class Hosts:
    """``ask`` blocks, and is called in a thread of its own, one for a name at a time."""

    def __init__(self, ask: Ask = ask_system) -> None:
        self._ask = ask
        self._known: dict[str, tuple[float, tuple[Ip, ...]]] = {}  # when, and what
        self._asking: dict[str, asyncio.Future[None]] = {}

    async def find(self, names: Iterable[str]) -> dict[str, tuple[Ip, ...]]:
        """What is known of each now; what took too long to ask is there for the next one."""
        wanted = set(names)
        now = time.monotonic()
        old = [name for name in wanted if now - self._known.get(name, (-KEPT_S, ()))[0] >= KEPT_S]
        if waiting := [self._begin(name) for name in old]:
            await asyncio.wait(waiting, timeout=PATIENCE_S)
        return {name: self._known[name][1] for name in wanted if name in self._known}

    def _begin(self, name: str) -> asyncio.Future[None]:
        asking = self._asking.get(name)
        if asking is None:
            loop = asyncio.get_running_loop()
            asking = self._asking[name] = loop.create_future()

            def run() -> None:
                found = self._ask(name)
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._told, name, found)

            threading.Thread(target=run, name="hosts", daemon=True).start()
        return asking

    def _told(self, name: str, found: tuple[Ip, ...]) -> None:
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[name] = time.monotonic(), found
        self._asking.pop(name).set_result(None)
