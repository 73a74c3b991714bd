"""Keeps an agent small: it shares its machine with the tasks.

Owns: what is loaded without need, and memory that the C library would keep. Import it before ``structlog``. The rule:
everything here may fail to do anything (another C library, another version) and nothing depends on it.

A call to Docker is a thread, dozens at once when a large job starts, and glibc gives threads arenas of their own that
keep what they once had. So there is one arena (Python lets one thread at a time allocate anyway), and what is free goes
back to the kernel now and then.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import warnings
from collections.abc import Iterator
from typing import Any

_M_ARENA_MAX = -8  # malloc.h
TRIM_EVERY_S = 30.0


@contextlib.contextmanager
def _without(*names: str) -> Iterator[None]:
    """What is imported meanwhile finds these modules missing, unless they are loaded already."""
    modules: dict[str, Any] = sys.modules
    missing = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(missing))
    try:
        yield
    finally:
        for name in missing:
            del modules[name]


if "structlog" not in sys.modules:
    with _without("rich"):  # it would be loaded to paint tracebacks for people: 5 MiB; an agent writes JSON lines
        import structlog  # noqa: F401


def load_requests() -> None:
    """Before the Docker SDK is imported, which uses it: without what guesses the encoding of answers that do not say it
    (2.3 MiB). An engine's are JSON, or nothing that is read as text."""
    if "requests" in sys.modules:
        return
    with _without("chardet", "charset_normalizer"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it can guess nothing
        import requests  # noqa: F401


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
