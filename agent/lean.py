"""Keeps an agent small: it shares its machine with the tasks.

Owns: what is loaded without need, and memory that the C library would keep. Import it before ``structlog``. The rule:
everything here may fail to do anything (another C library, another version) and nothing depends on it.

A call to Docker is a thread, dozens at once when a large job starts, and glibc gives threads arenas of their own that
keep what they once had. So there is one arena (Python lets one thread at a time allocate anyway), and what is free goes
back to the kernel now and then.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_M_ARENA_MAX = -8  # malloc.h
TRIM_EVERY_S = 30.0

if "structlog" not in sys.modules and "rich" not in sys.modules:
    # structlog would load it to paint tracebacks for people: 5 MiB; an agent writes JSON lines.
    modules: dict[str, Any] = sys.modules
    modules["rich"] = None
    import structlog  # noqa: F401

    del modules["rich"]


def bound_arenas() -> None:
    """Call it while there is one thread."""
    _glibc("mallopt", _M_ARENA_MAX, 1)


def trim() -> None:
    """Give free memory back; a few milliseconds."""
    _glibc("malloc_trim", 0)


def _glibc(name: str, *arguments: int) -> None:
    try:
        getattr(ctypes.CDLL(None), name)(*arguments)
    except (AttributeError, OSError, TypeError):  # not glibc
        return
