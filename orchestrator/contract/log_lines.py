"""How a process of the cluster says what it does: JSON lines on stderr, its libraries' warnings among them.

Owns: the shape of a line. Leaves to others: what is said. The rule: one event, one line, whoever speaks, so that a
collector never meets half a traceback.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

LEVELS = ("debug", "info", "warning", "error")


def json_lines(level: str, *more: Processor) -> None:
    """From now on, from ``level`` on. ``more`` may add to each event of ours."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *more,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(True)
    logging.getLogger().addHandler(_LIBRARIES)


def leave_libraries_alone() -> None:
    """Again: for a program in which a process of ours ran, and has ended."""
    logging.captureWarnings(False)
    logging.getLogger().removeHandler(_LIBRARIES)


class _Libraries(logging.Handler):
    """What asyncio, uvicorn and others tell ``logging``."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            say = structlog.get_logger().bind(library=record.name)
            say.log(record.levelno, record.getMessage().strip(), exc_info=record.exc_info or None)
        except Exception:  # as every handler: what cannot be logged stops nobody
            self.handleError(record)


_LIBRARIES = _Libraries(logging.WARNING)
