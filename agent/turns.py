"""``Turns``: many workers share one event loop without keeping it from anything else.

Owns: the order in which those who ask go on, and the bound: one of them in each turn of the loop. Leaves to others:
what they do then. The rule: whatever takes long because there is much of it (thousands of allocations in one update)
asks before each piece, so that heartbeats, logs and notices of the engine never wait for more than a few pieces.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """For one event loop. First come, first served; whoever is cancelled while waiting gives up its place."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._going = False

    async def mine(self) -> None:
        """Return in a turn of the loop in which nobody else who asked goes on."""
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        self._waiting.append(place)
        if not self._going:
            self._going = True
            loop.call_soon(self._next)
        await place

    def _next(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                break
        self._going = bool(self._waiting)
        if self._going:
            asyncio.get_running_loop().call_soon(self._next)
