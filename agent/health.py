"""PURE: what answers to checks come to: started, ready, or no longer alive.

Owns: counting in a row, grace, what an allocation's tasks are together, and the words that observations carry. Leaves
to others: asking (``agent.checks``), when (``agent.prober``), what a dead task leads to (``agent.reconcile``). The
rule: an answer changes something only when enough of its kind came one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.contract.health import CheckSpec, word
from orchestrator.contract.model import TaskSpec


@dataclass(slots=True)
class Tally:
    """One check's answers. ``passing`` is None until enough of one kind came in a row."""

    check: CheckSpec
    passing: bool | None = None
    good: int = 0
    bad: int = 0

    def count(self, good: bool, ran_ms: int) -> bool:
        """Count one answer of a task that has run for ``ran_ms``; whether ``passing`` changed."""
        if good:
            self.good, self.bad = self.good + 1, 0
        elif ran_ms < self.check.grace_ms:
            self.good = 0
            return False
        else:
            self.good, self.bad = 0, self.bad + 1
        before = self.passing
        if self.good >= max(1, self.check.successes):
            self.passing = True
        elif self.bad >= max(1, self.check.failures):
            self.passing = False
        return self.passing is not before


def is_checked(tasks: Iterable[TaskSpec]) -> bool:
    """Whether anything but running decides that they are ready."""
    return any(asks(task) or says(task) for task in tasks)


def asks(task: TaskSpec) -> bool:
    """Whether a check decides about its readiness."""
    return task.health is not None and bool(task.health.startup or task.health.readiness)


def says(task: TaskSpec) -> bool:
    """Whether it decides about its readiness itself, through the workload kit."""
    return task.workload is not None and task.workload.ready


def next_word(health: int, ready: bool, now_ms: int) -> int:
    """The word after ``health``: its sequence is higher, and never behind the clock (``contract.health``)."""
    return word(max((health >> 1) + 1, now_ms), ready)
