"""The replicated state as the leader's loop sees it (``loop.Cluster``).

Owns: nothing; it names the few functions of ``state`` that the loop uses, so that tests of the loop need no state.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.reconcile.sight import StateViews
from orchestrator.state.housekeeping import needs_collection
from orchestrator.state.model import Job, Node


class StateCluster(StateViews):
    """``state`` gives the current state; a snapshot may replace it."""

    @property
    def index(self) -> int:
        return self._state().index

    @property
    def feature_level(self) -> int:
        return self._state().feature_level

    def nodes(self) -> Iterable[Node]:
        return self._state().nodes.values()

    @property
    def time_ms(self) -> int:
        return self._state().time_ms

    @property
    def periodic_index(self) -> int:
        return self._state().periodic_index

    def periodic_jobs(self) -> list[Job]:
        state = self._state()
        return [state.job_at[slot] for slot in sorted(state.periodic)]

    def collectable(self, now_ms: int) -> bool:
        return needs_collection(self._state(), now_ms)
