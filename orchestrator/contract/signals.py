"""Which signals end a process that serves, in order.

Owns: that list. Leaves to others: what ending means. The rule: SIGHUP is one of them. Nothing is read again by it, and
a terminal that closes, or a supervisor that thinks otherwise, must not end a process in the middle of something; where
whoever started it has it ignored (``nohup``) it stays ignored.
"""

from __future__ import annotations

import signal


def ending_signals() -> tuple[signal.Signals, ...]:
    ends = (signal.SIGTERM, signal.SIGINT)
    return ends if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*ends, signal.SIGHUP)
