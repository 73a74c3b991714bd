"""How a process that holds much and must never pause long gets its memory, gives it back, and looks for garbage.

Owns: what is asked of glibc and of Python's collector, for the whole process. The rule: a process says so itself, when
it begins (``keep_pieces_apart``), once what it has read will stay (``settle``) and from then on (``keep_trimming``);
no module does when imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of mallopt(3)
LARGE_BYTES = 256 * 1024
SPARE_BYTES = 8 * 1024 * 1024
"""Of free memory at the heap's end so much is kept: without this glibc would go by its default of 128 KiB once
``LARGE_BYTES`` is set, and ask the system again and again."""
TRIM_EVERY_S = 30.0
TRIM_BYTES = 8 * 1024 * 1024
"""Less than this is not worth a look at every free piece, which takes milliseconds during which others wait."""


def keep_pieces_apart() -> None:
    """What is large gets memory of its own, which goes back to the system when it is freed and grows without being
    copied. Else glibc learns from the first columns of megabytes that are freed to keep such in its heap, where what
    they leave is taken up by what is small, and never goes back: of a leader with 1,500 nodes and 300,000 allocations
    40 to 70 MiB, instead of 25.

    All threads share one arena: what one of them frees of its own serves only itself, and of a dozen, each with what it
    once needed for a call or a snapshot, that is 10 MiB. Call it while there is one thread.
    """
    with contextlib.suppress(OSError, AttributeError):  # only glibc has this
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, SPARE_BYTES)
        libc.mallopt(M_ARENA_MAX, 1)


def settle() -> None:
    """Everything made so far stays for ever; and what a state of many records costs must not be paid at every turn."""
    gc.freeze()
    gc.enable()
    # A look at the young objects also meets those of every open stream that moved since the last one, twenty a node,
    # and one at the middle-aged those of all streams that were opened since: the more often, the shorter. At all of
    # them as seldom as can be.
    gc.set_threshold(2_000, 10, 5_000)
    # Plans are made in a thread; whenever the loop has waited for the disk or a socket it must get the interpreter back
    # soon, or heartbeats are late (the default is 5 ms each time).
    sys.setswitchinterval(0.001)
    with contextlib.suppress(OSError, AttributeError):  # only glibc can give back what importing left behind
        ctypes.CDLL(None).malloc_trim(0)


class _Said(ctypes.Structure):
    """What mallinfo2(3) says, in bytes but for three counts."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


class Trimmer:
    """Gives the system back what lies free between pieces in use: after a burst, for glibc by itself frees only the
    heap's end. ``free``: bytes that are free in the heap, given back or not; ``trim`` gives them back."""

    def __init__(self, free: Callable[[], int], trim: Callable[[], object]) -> None:
        self._free = free
        self._trim = trim
        self._least = free()  # since the last time: what is more was in use meanwhile, so it takes memory

    def look(self) -> bool:
        """Whether it was worth it."""
        free = self._free()
        self._least = min(self._least, free)
        if free - self._least < TRIM_BYTES:
            return False
        self._trim()
        self._least = self._free()
        return True


def trimmer() -> Trimmer | None:
    """None where the C library cannot do it."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallinfo2.restype = _Said
        return Trimmer(lambda: int(libc.mallinfo2().fordblks), lambda: libc.malloc_trim(0))
    except (OSError, AttributeError):
        return None


async def keep_trimming() -> None:
    """Never returns, except when cancelled."""
    ours = trimmer()
    while True:
        await asyncio.sleep(TRIM_EVERY_S)
        if ours is not None:
            await asyncio.to_thread(ours.look)
