"""``Reads``: ReadIndex on the leader; ``RemoteReads``: a follower's questions to it (RAFT.md, Reads).

Owns: the rounds of questions by which a leader makes sure that it still leads. Leaves waiting until something is
applied to the engine. The one rule: a read is answered with a commit index that was known when its round began, and
a round that began after the read was asked for; all reads that wait share one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from orchestrator.replication.v1 import peer_pb2 as pb

Answer = Callable[[int | None], None]
"""Called with the commit index to wait for, or None: this peer does not lead."""


class Reads:
    def __init__(self, *, others: Sequence[str], send: Callable[[str, pb.Frame], None]) -> None:
        self._others = tuple(others)
        self._send = send
        self._round = 0
        self._waiting: list[Answer] = []
        self._asking: list[Answer] = []  # whose round runs
        self._index = 0
        self._confirmed: set[str] = set()

    @property
    def pending(self) -> bool:
        return bool(self._asking or self._waiting)

    def ask(self, answer: Answer) -> None:
        self._waiting.append(answer)

    def pump(self, *, term: int, commit_index: int) -> None:
        """Begin the next round if none runs. Only for a leader that has committed an entry of its term."""
        if self._asking or not self._waiting:
            return
        self._round += 1
        self._asking, self._waiting = self._waiting, []
        self._index = commit_index
        self._confirmed = set()
        if not self._others:
            self._finish()
        self.resend(term=term)

    def resend(self, *, term: int) -> None:
        """Ask those who have not answered (again): frames may have been lost with a session."""
        if not self._asking:
            return
        for peer in self._others:
            if peer not in self._confirmed:
                self._send(peer, pb.Frame(read_probe=pb.ReadProbe(term=term, round=self._round)))

    def reply(self, peer_id: str, reply: pb.ReadProbeReply) -> None:
        """A voter confirmed our term."""
        if reply.round != self._round or not self._asking:
            return
        self._confirmed.add(peer_id)
        if 2 * (len(self._confirmed) + 1) > len(self._others) + 1:
            self._finish()

    def _finish(self) -> None:
        done, self._asking = self._asking, []
        for answer in done:
            answer(self._index)

    def fail(self) -> None:
        """We do not lead (any more)."""
        done, self._asking, self._waiting = self._asking + self._waiting, [], []
        for answer in done:
            answer(None)


class RemoteReads:
    """A follower's questions for the leader's commit index that are not answered yet."""

    def __init__(self, *, send: Callable[[str, pb.Frame], None]) -> None:
        self._send = send
        self._last = 0
        self._open: dict[int, tuple[str, asyncio.Future[int | None]]] = {}

    def ask(self, leader_id: str, future: asyncio.Future[int | None]) -> int:
        """Returns the question's number, for ``forget``."""
        self._last += 1
        self._open[self._last] = (leader_id, future)
        self._send(leader_id, pb.Frame(read_index_request=pb.ReadIndexRequest(id=self._last)))
        return self._last

    def forget(self, number: int) -> None:
        self._open.pop(number, None)

    def answered(self, reply: pb.ReadIndexReply) -> tuple[asyncio.Future[int | None], int | None] | None:
        """Whose question this answers, and how (None: that peer does not lead)."""
        row = self._open.pop(reply.id, None)
        return None if row is None else (row[1], reply.commit_index if reply.ok else None)

    def drop(self, peer_id: str | None = None) -> list[asyncio.Future[int | None]]:
        """Forget the questions to this peer (None: all); returns whose they were."""
        numbers = [number for number, row in self._open.items() if peer_id is None or row[0] == peer_id]
        return [self._open.pop(number)[1] for number in numbers]
