"""How much of the cluster a round has to look at: everything, the jobs that changed, or nothing.

Owns: what earlier rounds have seen to. Leaves to others: what changed (``state.changes``), deciding (``plan``). The
rule: a round may look at single jobs only while nothing waits for room, a name or a time, and only at jobs that are
decided about by themselves (``reconcile.alone``); whenever a round comes to anything else than was hoped, the next one
looks at everything. So a mistake here costs a round, and never work that is left undone for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.reconcile.alone import alone
from orchestrator.state.views import ClusterView, nodes_alone


class Views(Protocol):
    """The replicated state, as far as it is looked at here."""

    def changed_since(self, index: int) -> Sequence[int] | None:
        """Slots of the jobs about which there may be something new to decide; None: look at everything."""

    def view(self) -> ClusterView: ...

    def view_of(self, slots: Sequence[int], whole: ClusterView) -> ClusterView:
        """Of these jobs alone; ``whole``: a view of everything, since which only single jobs changed."""


class Sight:
    """``wake_at_ms``: unix ms at which the last round's outcome can differ by itself; None: never."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._whole: ClusterView | None = None  # without rows and jobs; None: begin with everything
        self._index = -1  # changes up to here are seen to
        self._pending = False
        self.wake_at_ms: int | None = None

    def forget(self) -> None:
        """The next round looks at everything."""
        self._whole = None

    def look(self, now_ms: int) -> ClusterView | None:
        """What to decide about now; None: nothing."""
        whole = self._whole
        if whole is None:
            return self._views.view()
        slots = self._views.changed_since(self._index)
        if slots is not None and not slots:
            due = self.wake_at_ms is not None and now_ms >= self.wake_at_ms
            return self._views.view() if due else None
        if slots is None or self._pending or self.wake_at_ms is not None:
            return self._views.view()
        some = self._views.view_of(slots, whole)
        return some if all(alone(job.spec) for job in some.jobs.values()) else self._views.view()

    def decided(self, view: ClusterView, *, pending: bool, wake_at_ms: int | None) -> None:
        """What came of ``view``. ``pending``: something waits for what other jobs and nodes do, or for a time."""
        if view.held is None:
            self._whole = nodes_alone(view)
        self._index = view.index
        self._pending = pending
        self.wake_at_ms = wake_at_ms
