"""How much of the cluster a round has to look at: everything, the jobs that changed, or nothing.

Owns: what earlier rounds have seen to, and what of a long backlog they have left. Leaves to others: what changed
(``state.changes``), deciding (``plan``). The rule: a round may look at single jobs only while nothing waits for room, a
name or a time, and only at jobs that are decided about by themselves (``reconcile.alone``); whenever a round comes to
anything else than was hoped, the next one looks at everything (at once, where somebody found no room). So a mistake
here costs a round, and never work that is left undone for good. Nodes that join an idle cluster cost no round at all:
they matter where something waits, or runs on every node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from orchestrator.contract.model import JobType
from orchestrator.reconcile.alone import decided_alone
from orchestrator.state import views
from orchestrator.state.allocations import PACKED_ROW_BYTES
from orchestrator.state.packed import Room
from orchestrator.state.state import State
from orchestrator.state.views import ClusterView, nodes_alone

INLINE_ROWS = 10_000
"""A table of fewer rows is copied without further ado."""
SPARE_ROWS = 65_536
"""That may come between making room and copying, and until room is made again."""


class Views(Protocol):
    """The replicated state, as far as it is looked at here."""

    def changed_since(self, index: int) -> Sequence[int] | None:
        """Slots of the jobs about which there may be something new to decide; None: look at everything."""

    def nodes_changed_since(self, index: int) -> bool:
        """Whether there are other nodes, or other records of them, than at that index."""

    def with_nodes(self, view: ClusterView) -> ClusterView:
        """The view with the nodes as they are now."""

    def view(self) -> ClusterView:
        """Of everything; void when the next one is made."""

    def make_room(self) -> Callable[[], None] | None:
        """Work for a thread that makes ``view`` cheap; None: it is. No earlier view is used any more."""

    def rest(self) -> None:
        """No rounds for now: give back the memory that views are made in."""

    def view_of(self, slots: Sequence[int], whole: ClusterView) -> ClusterView:
        """Of these jobs alone; ``whole``: a view of everything, since which only single jobs changed."""


class StateViews:
    """``Views`` of a state; ``state`` gives the current one."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state
        self._room = Room()

    def changed_since(self, index: int) -> list[int] | None:
        return self._state().changes.since(index)

    def nodes_changed_since(self, index: int) -> bool:
        return self._state().changes.nodes > index

    def with_nodes(self, view: ClusterView) -> ClusterView:
        return views.with_nodes(self._state(), view)

    def view(self) -> ClusterView:
        return views.cluster_view(self._state(), self._room)

    def make_room(self) -> Callable[[], None] | None:
        high = self._state().table.high
        if high < INLINE_ROWS or self._room.size >= PACKED_ROW_BYTES * (high + SPARE_ROWS // 2):
            return None

        def work() -> None:
            self._room = Room()  # before there is a new one
            self._room = Room(PACKED_ROW_BYTES * (high + high // 8 + SPARE_ROWS))

        return work

    def rest(self) -> None:
        self._room = Room()

    def view_of(self, slots: Sequence[int], whole: ClusterView) -> ClusterView:
        return views.view_of(self._state(), slots, whole)


class Sight:
    """``wake_at_ms``: unix ms at which the last round's outcome can differ by itself; None: never."""

    def __init__(self, seen: Views) -> None:
        self._views = seen
        self._whole: ClusterView | None = None  # without rows and jobs; None: begin with everything
        self._index = -1  # changes up to here are seen to
        self._nodes_index = -1  # of the nodes in ``_whole``
        self._pending = False
        self._everywhere = False  # there may be jobs that run on every node
        self._left: tuple[int, ...] = ()  # slots of jobs that the last round did not get to, though nothing held it up
        self.wake_at_ms: int | None = None

    def forget(self) -> None:
        """The next round looks at everything."""
        self._whole = None

    def rest(self) -> None:
        """No rounds for now."""
        self._whole = None
        self._views.rest()

    def make_room(self) -> Callable[[], None] | None:
        """Work for a thread, to be done before ``look``, which will look at everything; None: there is none to do."""
        whole = self._whole is None or self._pending or self.wake_at_ms is not None
        if not whole and self._views.changed_since(self._index) is not None:
            return None
        return self._views.make_room()

    def look(self, now_ms: int) -> ClusterView | None:
        """What to decide about now; None: nothing."""
        whole = self._whole
        if whole is None:
            return self._views.view()
        slots = self._views.changed_since(self._index)
        if slots is not None and self._left:
            slots = sorted({*slots, *self._left})
        # Of single jobs that changed with the nodes, too: a look at these alone would count the nodes as seen to.
        wider = (self._pending or self._everywhere) and self._views.nodes_changed_since(self._index)
        if slots is not None and not slots:
            due = self.wake_at_ms is not None and now_ms >= self.wake_at_ms
            return self._views.view() if due or wider else None
        if slots is None or wider or self._pending or self.wake_at_ms is not None:
            return self._views.view()
        if self._views.nodes_changed_since(self._nodes_index):
            whole = self._whole = self._views.with_nodes(whole)
        some = self._views.view_of(slots, whole)
        self._nodes_index = some.index
        return some if all(decided_alone(job) for job in some.jobs.values()) else self._views.view()

    def decided(
        self, view: ClusterView, *, pending: bool, more: bool, left: Sequence[int] | None, wake_at_ms: int | None
    ) -> None:
        """What came of ``view``. ``pending``: something waits for what other jobs and nodes do, or for a time.
        ``more``: the round ended before it had looked at everything; ``left``: the slots of the jobs that it did not
        get to, where no others need a look for that, else None."""
        if view.held is None:
            self._whole = nodes_alone(view)
            self._nodes_index = view.index
            self._everywhere = False
        self._everywhere = self._everywhere or any(job.spec.type is JobType.SYSTEM for job in view.jobs.values())
        self._left = tuple(left) if more and left is not None else ()
        if more and left is None:
            self._whole = None  # nothing has to change for the next round to have work
        self._index = view.index
        self._pending = pending
        self.wake_at_ms = wake_at_ms
