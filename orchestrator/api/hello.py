"""The first message of a stream that a caller opens: waited for, but not for ever.

Owns: that wait. Leaves to others: what it must be, and saying so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

HELLO_S = 10.0
T = TypeVar("T")


async def first_of(ups: AsyncIterator[T]) -> T | None:
    """None: nothing came within ``HELLO_S``, or the stream has ended."""
    try:
        async with asyncio.timeout(HELLO_S):
            return await anext(ups, None)
    except TimeoutError:
        return None
