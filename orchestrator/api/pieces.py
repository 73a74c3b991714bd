"""Updates for one agent, cut so that no answer to a heartbeat stands behind more than the line takes in a moment.

Owns: how many bytes are on their way to one agent, and how large a piece is. Leaves to others: what the bytes say
(``agents``), sending them. The rule: what was sent and not yet said to have arrived is at most the window. That is
``LEAST`` at first, which 10 KB/s take within the 1.5 s that an agent waits for its answer; it doubles where a piece
arrived quickly, and begins anew where one was slow. (HTTP/2 has windows of its own, but they grow to what a message
needs, and behind them the kernel keeps megabytes. Its smallest has 65,535 bytes, in which ``MOST`` has room: so it is
here that a peer waits for an agent that takes nothing, and here that it is seen for how long.)
"""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.contract.v1 import agent_pb2 as pb

LEAST = 15 * 1024
MOST = 4 * LEAST
QUICK_S = 0.25
SLOW_S = 0.5


class Pieces:
    """Of one agent's stream. ``clock`` gives seconds that never go back."""

    __slots__ = (
        "_arrived", "_at", "_clock", "_ends", "_marked", "_moved_s", "_raw", "_sent", "_timed",
        "_timed_last", "_timed_s", "_window",
    )  # fmt: skip

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._raw = b""
        self._at = 0  # so much of that has been sent
        self._ends = False  # with it an update is whole
        self._sent = self._marked = self._arrived = 0  # bytes since the stream began
        self._timed = 0  # the mark whose way is being measured, 0: none
        self._timed_s = 0.0
        self._timed_last = False
        self._window = LEAST
        self._moved_s = 0.0

    @property
    def pending(self) -> bool:
        """Some of what was put in has not been sent."""
        return self._at < len(self._raw)

    def put(self, raw: bytes, *, last: bool) -> None:
        """To be sent next; ``last``: with it an update is whole. Only where nothing is pending."""
        self._raw, self._at, self._ends = raw, 0, last
        self._moved_s = self._clock()

    def next(self) -> pb.AssignmentsPiece | None:
        """What can be sent now. Each half of the window is marked, so that a mark will wake whoever waits; not more of
        it, for a mark that is said back costs a peer as much as a heartbeat."""
        part = self._window // 2
        data = self._raw[self._at : self._at + part]
        under_way = self._sent - self._arrived
        if not data or (under_way + len(data) > self._window and self._marked > self._arrived):
            return None
        self._at += len(data)
        self._sent += len(data)
        last = self._ends and not self.pending
        if not self.pending:
            self._raw, self._at = b"", 0  # thousands of streams wait for long
        piece = pb.AssignmentsPiece(data=data, last=last)
        self._moved_s = self._clock()
        if self._sent - self._marked >= part:
            self._marked = piece.mark = self._sent
            if not self._timed:
                # The last one is said back when the agent has taken up the update: that it takes long says nothing.
                self._timed, self._timed_s, self._timed_last = self._sent, self._moved_s, last
        return piece

    def arrived(self, mark: int) -> None:
        """The agent says a mark back; one that was never sent counts for nothing."""
        if not self._arrived < mark <= self._marked:
            return
        self._arrived = mark
        self._moved_s = self._clock()
        if self._timed and mark >= self._timed:
            took_s, self._timed = self._moved_s - self._timed_s, 0
            if took_s <= QUICK_S:
                self._window = min(2 * self._window, MOST)
            elif took_s > SLOW_S and not self._timed_last:
                self._window = LEAST

    def stands_s(self) -> float:
        """For so long something has been pending, and nothing went or arrived; 0 where nothing is pending."""
        return self._clock() - self._moved_s if self.pending else 0.0
