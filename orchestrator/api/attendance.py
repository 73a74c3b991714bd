"""One agent at the leader: what it has been told of its assignments, and what is on its way to it.

Owns: making an update in parts, and which of an agent's heartbeats waits for its answer. Leaves to others: writing
rows (``assigned``), how much may be under way (``pieces``), who may ask, and the streams (``agents``). The rule: of the
thousands that wait none keeps more than it has still to send, and of that one part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from orchestrator.api.assigned import AssignmentWriter
from orchestrator.api.confirming import Confirming
from orchestrator.api.feed import too_slow
from orchestrator.api.pieces import Pieces
from orchestrator.contract import codec
from orchestrator.contract.errors import InvalidError
from orchestrator.contract.v1 import agent_pb2 as pb
from orchestrator.state import views
from orchestrator.state.state import State

PART = 100
"""Assignments that are written at once: some ten kilobytes, a millisecond."""
_NOTHING: Iterator[tuple[pb.AssignmentsUpdate, bool]] = iter(())


class News:
    """What a node's agent has to hear, from a full set on."""

    __slots__ = ("_node_id", "_state", "_told", "_writer")

    def __init__(self, node_id: str, state: Callable[[], State], writer: AssignmentWriter) -> None:
        self._node_id = node_id
        self._state = state
        self._writer = writer
        self._told = -1  # nothing yet: an update since index 0 is the full set

    def parts(self) -> Iterator[tuple[pb.AssignmentsUpdate, bool]]:
        """The next update, in parts that merge into it, and whether it is the last of them; none where nothing is new.

        Each is made when it is asked for. A row that changes meanwhile is left out or as it was: it changed after
        ``index``, so the next update has it.
        """
        state, after = self._state(), max(self._told, 0)
        if views.assignments_index(state, self._node_id) <= self._told:
            return
        told, self._told = self._told, state.index
        rows = views.assignment_rows(state, self._node_id, after)
        created = state.table.create_index[rows]
        head = pb.AssignmentsUpdate(index=state.index, full=after == 0)
        part = pb.AssignmentsUpdate()
        part.CopyFrom(head)
        for kept, keys in (
            (part.removed, views.removed_for(state, self._node_id, after)),
            (part.superseded, views.superseded_for(state, self._node_id, after)),
        ):
            for key in keys:
                codec.encode(key, kept.add())
        if told >= 0 and not len(rows) and not part.removed and not part.superseded:
            return
        for start in range(0, max(len(rows), 1), PART):
            state = self._state()
            some, then = rows[start : start + PART], created[start : start + PART]
            some, then = some[some < state.table.high], then[some < state.table.high]
            self._writer.write(state, some[state.table.create_index[some] == then], part.assignments)
            yield part, start + PART >= len(rows)
            part = pb.AssignmentsUpdate()
            part.CopyFrom(head)  # never empty, though its rows may all have gone: it may be the last


class Woken:
    """An ``asyncio.Event`` for one who waits, in a tenth of its 760 bytes."""

    __slots__ = ("_set", "_waiter")

    def __init__(self) -> None:
        self._set = False
        self._waiter: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        self._set = False

    async def wait(self) -> None:
        if not self._set:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None


class Attendance:
    """The two halves of an agent's stream, which meet here: ``woken`` is set when there may be something to send."""

    __slots__ = ("_asked", "_beat", "_news", "_parts", "_pieces", "node_id", "woken")

    def __init__(self, node_id: str, state: Callable[[], State], writer: AssignmentWriter) -> None:
        if not node_id:
            raise InvalidError("expected a heartbeat with node_id first")
        self.node_id = node_id
        self.woken = Woken()
        self._beat: pb.HeartbeatRequest | None = None  # not answered yet
        self._asked: asyncio.Future[None] | None = None
        self._news = News(node_id, state, writer)
        self._parts: Iterator[tuple[pb.AssignmentsUpdate, bool]] = _NOTHING
        self._pieces = Pieces()

    # ------------------------------------------------------------------------ what the agent says

    def hear(self, beat: pb.HeartbeatRequest) -> None:
        if beat.node_id != self.node_id:
            raise InvalidError(f"a heartbeat of node {beat.node_id!r} on the stream of {self.node_id!r}")
        if self._beat is not None:
            raise InvalidError(f"heartbeat {beat.sequence} before {self._beat.sequence} was answered")
        self._beat = beat

    @property
    def asked(self) -> bool:
        """A heartbeat will be answered."""
        return self._asked is not None

    def ask(self, confirming: Confirming) -> None:
        """Whether this peer still leads, so that the heartbeat can be answered."""
        self._asked = confirming.ask()
        self._asked.add_done_callback(lambda _: self.woken.set())

    def arrived(self, mark: int) -> None:
        self._pieces.arrived(mark)
        self.woken.set()

    # ------------------------------------------------------------------------ what it is sent

    def confirmed(self) -> pb.HeartbeatRequest | None:
        """The heartbeat that can be answered now; raises what ``confirm_leadership`` does."""
        if self._asked is None or not self._asked.done():
            return None
        asked, self._asked = self._asked, None
        asked.result()
        beat, self._beat = self._beat, None
        return beat

    def next_piece(self) -> pb.AssignmentsPiece | None:
        if not self._pieces.pending:
            found = next(self._parts, None)
            if found is None:
                found = next(parts := self._news.parts(), None)
                self._parts = parts if found is not None else _NOTHING
            if found is None:
                return None
            self._pieces.put(found[0].SerializeToString(), last=found[1])
        return self._pieces.next()

    async def wait(self, stalled_s: float) -> None:
        """Until there may be something to send; ``OverloadedError`` where the agent takes nothing for so long."""
        if not self._pieces.pending:
            await self.woken.wait()
            return
        try:
            async with asyncio.timeout(stalled_s - self._pieces.stands_s()):
                await self.woken.wait()
        except TimeoutError:
            raise too_slow() from None
