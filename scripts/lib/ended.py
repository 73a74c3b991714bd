"""The end of a script that has servers, when it is told to end.

Owns: making SIGTERM what Ctrl-C is. Leaves to others: an end without warning (``keeper``).
"""

from __future__ import annotations

import asyncio
import signal


def end_on_sigterm() -> None:
    """From now on SIGTERM cancels the present task, whose ``async with`` then ends what it started."""
    task = asyncio.current_task()
    assert task is not None, "called outside of a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
