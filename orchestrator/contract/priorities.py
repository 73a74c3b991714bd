"""Priority classes: names for numbers, so that job files can say ``priority: high``.

Owns: the four classes. The rule: a class is a way of spelling its number and nothing else; what is stored and compared
is the number. They are built in and not the operator's to define: a job file then means the same on every cluster, and
no job changes its rank because somebody moved a class.
"""

from __future__ import annotations

CLASSES: dict[str, int] = {"low": 20, "normal": 50, "high": 80, "critical": 95}


def name_of(priority: int) -> str:
    """The class of exactly this number, or ""."""
    return next((name for name, number in CLASSES.items() if number == priority), "")


def describe(priority: int) -> str:
    """``80 (high)``, ``70``."""
    name = name_of(priority)
    return f"{priority} ({name})" if name else str(priority)
