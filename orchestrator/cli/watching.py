"""Showing something again and again (``-w``): redrawn in place on a terminal, appended elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from orchestrator.cli.session import Session


def repeat(session: Session, show: Callable[[], None], *, every_s: float) -> None:
    """Call ``show`` until Ctrl-C. It prints to stdout as usual."""
    redraw = sys.stdout.isatty() and session.output in ("table", "wide")
    while True:
        if redraw:
            # Home and clear to the end: no flicker, and the scroll-back stays as it was.
            sys.stdout.write("\x1b[H\x1b[2J")
        show()
        sys.stdout.flush()
        time.sleep(every_s)
