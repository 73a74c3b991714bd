"""A signal ends the work in order, once."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from orchestrator.ops.interrupt import run


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_further_signals_do_not_cut_the_cleaning_up_short(
    first: signal.Signals, request: pytest.FixtureRequest
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, before))
    done: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), first)
            await asyncio.Event().wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
                for _ in range(5):
                    await asyncio.sleep(0.001)  # the loop hears of it
            done.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        run(work())
    assert done == ["cleaned up"]


def test_a_terminal_that_closes_is_no_signal_to_who_ignores_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        async def work() -> str:
            os.kill(os.getpid(), signal.SIGHUP)
            for _ in range(5):
                await asyncio.sleep(0.001)
            return "done"

        assert run(work()) == "done"
    finally:
        signal.signal(signal.SIGHUP, before)
