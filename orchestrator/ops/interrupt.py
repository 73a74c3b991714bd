"""Run a coroutine so that SIGTERM, like Ctrl-C, ends it in order: whoever starts processes must get to stop them.

The rule: only the first signal counts. ``timeout`` sends its own twice, and people press Ctrl-C again; who then left
the stopping halfway would leave processes behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from orchestrator.contract.signals import ending_signals

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Its result. Raises ``KeyboardInterrupt`` after it was cancelled by a signal (a closed terminal's is one, unless
    it is ignored, as ``nohup`` has it) and has cleaned up."""

    async def main() -> T:
        task = asyncio.ensure_future(work)
        told = False

        def tell() -> None:
            nonlocal told
            if not told:
                told = True
                task.cancel()

        for number in ending_signals():
            asyncio.get_running_loop().add_signal_handler(number, tell)
        return await task

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
