"""How a process that holds much and must never pause long gets its memory, and looks for garbage.

Owns: what is asked of glibc and of Python's collector, for the whole process. The rule: a process says so itself, when
it begins (``keep_large_pieces_apart``) and once what it has read will stay (``settle``); no module does when imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGE_BYTES = 256 * 1024
SPARE_BYTES = 8 * 1024 * 1024
"""Of free memory at the heap's end so much is kept: without this glibc would go by its default of 128 KiB once
``LARGE_BYTES`` is set, and ask the system again and again."""


def keep_large_pieces_apart() -> None:
    """What is large gets memory of its own, which goes back to the system when it is freed and grows without being
    copied. Else glibc learns from the first columns of megabytes that are freed to keep such in its heap, where what
    they leave is taken up by what is small, and never goes back: of a leader with 1,500 nodes and 300,000 allocations
    40 to 70 MiB, instead of 25."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has this
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, SPARE_BYTES)


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
