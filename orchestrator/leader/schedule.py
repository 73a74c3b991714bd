"""Runs of periodic jobs, while this peer leads: which are due, minted as a command; and when to look again.

Owns: uids of runs, not looking at every job in every round. Leaves to others: deciding (``reconcile.periodic``), that a
due time is dealt with once (``state.apply_batch``). The rule: nothing is remembered that the state does not say better.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Protocol

from orchestrator.reconcile.periodic import due_runs
from orchestrator.state.commands import Launch, LaunchRuns
from orchestrator.state.model import Job

AT_ONCE = 500
"""Runs in one command."""


def minted() -> str:
    return uuid.uuid4().hex


class Templates(Protocol):
    @property
    def time_ms(self) -> int:
        """Cluster time."""

    @property
    def periodic_index(self) -> int:
        """Of the last change to a periodic job."""

    def periodic_jobs(self) -> Iterable[Job]: ...


class Timetable:
    """``wake_at_ms``: unix ms of the next due time; None: nothing is to come."""

    def __init__(self, templates: Templates, *, mint: Callable[[], str] = minted) -> None:
        self._templates = templates
        self._mint = mint
        self._index = -1
        self.wake_at_ms: int | None = None

    def forget(self) -> None:
        self._index = -1

    def due(self, now_ms: int) -> LaunchRuns | None:
        """What is due, by cluster time; None: nothing."""
        now_ms = max(now_ms, self._templates.time_ms)
        seen = self._templates.periodic_index
        if seen == self._index and (self.wake_at_ms is None or now_ms < self.wake_at_ms):
            return None
        found = due_runs(self._templates.periodic_jobs(), now_ms)
        self._index = seen
        self.wake_at_ms = found.wake_at_ms
        if not found.runs:
            return None
        self._index = -1  # look again once they are in
        return LaunchRuns(
            launches=tuple(
                Launch(
                    uid=one.uid,
                    version=one.version,
                    after_ms=one.after_ms,
                    due_ms=one.due_ms,
                    child_uid=self._mint(),
                    skip=one.skip,
                )
                for one in found.runs[:AT_ONCE]
            )
        )
