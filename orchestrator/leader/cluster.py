"""The replicated state as the leader's loop sees it (``loop.Cluster``).

Owns: nothing; it names the few functions of ``state`` that the loop uses, so that tests of the loop need no state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from orchestrator.state.housekeeping import needs_collection
from orchestrator.state.model import Job, Node
from orchestrator.state.state import State
from orchestrator.state.views import ClusterView, cluster_view, view_of


class StateCluster:
    """``state`` gives the current state; a snapshot may replace it."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    @property
    def index(self) -> int:
        return self._state().index

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

    def changed_since(self, index: int) -> list[int] | None:
        return self._state().changes.since(index)

    def view(self) -> ClusterView:
        return cluster_view(self._state())

    def view_of(self, slots: Sequence[int], whole: ClusterView) -> ClusterView:
        return view_of(self._state(), slots, whole)

    def collectable(self, now_ms: int) -> bool:
        return needs_collection(self._state(), now_ms)
