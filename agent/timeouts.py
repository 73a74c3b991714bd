"""PURE: which task of a run has taken too long, and when the next one will have.

Owns: this judgement. Leaves to others: stopping it and what follows (``agent.reconcile``). The rule: it follows from
the time at which all of the group ran, which is on disk, and from when a task ended: so an agent that was away
meanwhile judges as it would have.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.driver import Instance
from orchestrator.contract.model import GroupSpec


def overdue(group: GroupSpec, since_ms: int, current: Iterable[Instance], now_ms: int) -> str:
    """The first task that runs, or ran, beyond its timeout; "" if none does. ``since_ms`` 0: not all of it ran yet."""
    timeouts = _timeouts(group)
    if not timeouts or not since_ms:
        return ""
    for one in sorted(current, key=lambda found: found.run.task):
        # An end is noted by the clock on the wall, and that may have been set ahead since the run began.
        until_ms = now_ms if one.running else min(now_ms, one.exit.ended_ms) if one.exit is not None else 0
        if one.run.task in timeouts and until_ms - since_ms >= timeouts[one.run.task]:
            return one.run.task
    return ""


def deadline_ms(group: GroupSpec, since_ms: int, current: Iterable[Instance]) -> int:
    """When the next timeout of what runs is up, unix milliseconds; 0: none has one."""
    timeouts = _timeouts(group)
    left = [timeouts[one.run.task] for one in current if one.running and one.run.task in timeouts]
    return since_ms + min(left) if left and since_ms else 0


def reason(group: GroupSpec, task: str) -> str:
    text = f"timed out after {_timeouts(group).get(task, 0) / 1000:g} s"
    return f"task {task}: {text}" if len(group.tasks) > 1 else text


def _timeouts(group: GroupSpec) -> dict[str, int]:
    return {task.name: task.timeout_ms for task in group.tasks if task.timeout_ms}
