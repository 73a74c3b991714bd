"""Runs one command as a task of the process driver runs: its environment, directory, user and control groups.

Owns: the deadline, how much is kept of what it says. Leaves to others: entering, and the end of everything that the
command started (``process_hands``).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.driver import OUTPUT_MAX, DriverUnavailableError, Ran
from agent.drivers import process_hands
from agent.hands import Command, HandsError


async def run_beside(directory: Path, command: tuple[str, ...], timeout_ms: int) -> Ran:
    """Raises ``TimeoutError``, and ``DriverUnavailableError`` where the run's files cannot be read or nothing can be
    started."""
    try:
        (directory / "spec").open("rb").close()
        entered = await process_hands.enter(directory, Command(argv=command))
    except OSError as error:
        raise DriverUnavailableError(f"cannot read {directory}: {error.strerror}") from error
    except HandsError as error:
        raise DriverUnavailableError(str(error)) from error
    output = bytearray()
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            while chunk := (await entered.read())[1]:
                output += chunk[: OUTPUT_MAX - len(output)]
            code = await entered.wait()
    finally:
        await entered.close()
    return Ran(code=code, output=output.decode("utf-8", "replace"))
