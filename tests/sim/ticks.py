"""``Ticks``: judges the runs of periodic jobs, from the commands that launch them and what became of these.

Owns: what was made of each due time, over all leaders. Leaves to ``clients`` that there are such jobs, to ``run`` that
they go on at the end. The one rule: it believes the log and the jobs that are there, not the product's own record.

A due time comes to one run at most, is one that the job's expression names, is never dealt with before it has come by
the cluster's time, nor after a later one.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.state.commands import LaunchRuns
from orchestrator.state.state import State


class Ticks:
    """``runs``: by template's uid and due time, the run's uid; ``skipped``: due times that came to none; ``again``:
    launches of what was dealt with already, as of a second leader."""

    def __init__(self, violation: Callable[[str], None], *, every_ms: int) -> None:
        self._violation = violation
        self._every_ms = every_ms
        self._last: dict[str, int] = {}
        self.runs: dict[tuple[str, int], str] = {}
        self.skipped = 0
        self.again = 0

    def launched(self, state: State, command: LaunchRuns) -> None:
        """The command was applied for the first time, and this is the state behind it."""
        for one in command.launches:
            run = state.jobs.get(one.child_uid)
            template = state.jobs.get(one.uid)
            if run is not None and run.create_index == state.index:
                origin = run.spec.origin
                if origin is None or (origin.uid, origin.due_ms) != (one.uid, one.due_ms):
                    self._violation(f"run {run.spec.name} says that it is of {origin}, not of {one.due_ms}")
                before = self.runs.setdefault((one.uid, one.due_ms), one.child_uid)
                if before != one.child_uid:
                    self._violation(f"{one.due_ms} came to two runs: {before} and {one.child_uid}")
            else:
                schedule = template.schedule if template is not None else None
                if schedule is None or schedule.last_ms != one.due_ms or self._last.get(one.uid) == one.due_ms:
                    self.again += 1
                    continue
                self.skipped += 1
            if one.due_ms <= self._last.get(one.uid, 0):
                self._violation(f"{one.due_ms} is dealt with after {self._last[one.uid]}")
            if one.due_ms > state.time_ms or one.due_ms % self._every_ms:
                self._violation(f"{one.due_ms} is not due at {state.time_ms}")
            self._last[one.uid] = one.due_ms
