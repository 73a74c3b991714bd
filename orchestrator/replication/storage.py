"""``RaftStorage``: what PySyncObj takes for its journal, kept in memory and staged into ours.

Owns: the entries in memory, the commit index, and the alignment of a journal to a snapshot when opening (RAFT.md, S5).
Leaves durability to ``Journal``: nothing here flushes. The one rule: nothing at or below the commit index is ever
truncated; who tries is broken, and ``TruncationError`` stops the process before anything leaves it.

PySyncObj's entries are ``(command, index, term)`` with one byte of kind in front of the command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from orchestrator.replication.log import Journal, SnapshotMeta

BATCH = b"\x00"
NO_OP = b"\x01"

RaftEntry = tuple[bytes, int, int]


class TruncationError(Exception):
    """Somebody tried to take back what is committed."""


class RaftStorage:
    """Implements what PySyncObj calls a journal; camel-case methods are its own."""

    def __init__(
        self,
        journal: Journal,
        snapshot: SnapshotMeta | None,
        *,
        protected: bool = True,
        weight: Callable[[bytes], int] = len,
    ) -> None:
        """``weight``: what an entry's command counts in ``bytes_since_snapshot``."""
        self._journal = journal
        self._weight = weight
        self._protected = protected  # False only where a test shows what happens without
        self.snapshot = snapshot
        held = journal.entries(journal.first_index, journal.last_index + 1)
        self._entries: list[RaftEntry] = [(payload or NO_OP, index, term) for index, term, payload in held]
        self.bytes_since_snapshot = 0
        if snapshot is not None:
            self._align(snapshot)
        elif not self._entries:
            self.add(NO_OP, 1, 0)
        elif self.first_index > 1:
            raise TruncationError(f"the journal begins at entry {self.first_index} and there is no snapshot before it")
        base = snapshot.last_index if snapshot is not None else self.first_index
        self.commit_index = max(base, min(journal.commit_hint, self.last_index))
        self.bytes_since_snapshot = sum(self._weight(row[0]) for row in self._entries if row[1] > base)

    def _align(self, snapshot: SnapshotMeta) -> None:
        """A snapshot that the journal does not continue replaces it (a crash between its rename and our trim)."""
        if self._entries and self.term_at(snapshot.last_index) == snapshot.last_term:
            return
        self.install(snapshot)

    # ------------------------------------------------------------------ what it holds

    @property
    def first_index(self) -> int:
        return self._entries[0][1]

    @property
    def last_index(self) -> int:
        return self._entries[-1][1]

    @property
    def last_term(self) -> int:
        return self._entries[-1][2]

    def term_at(self, index: int) -> int | None:
        """Term of the entry; None if it is not held."""
        position = index - self._entries[0][1]
        return self._entries[position][2] if 0 <= position < len(self._entries) else None

    # ------------------------------------------------------------------ changes of ours

    def install(self, snapshot: SnapshotMeta) -> None:
        """Begin anew behind a snapshot. The journal changes with the next flush, in one step."""
        index, term = snapshot.last_index, snapshot.last_term
        self._journal.truncate_from(index)
        self._journal.trim_before(index)
        self._journal.append([(index, term, b"")])
        self._entries = [(NO_OP, index, term)]
        self.snapshot = snapshot
        self.bytes_since_snapshot = 0
        self.commit_index = index

    def saved(self, snapshot: SnapshotMeta, *, tail_entries: int, tail_bytes: int) -> None:
        """A snapshot of ours is durable: forget what it covers, but for a tail that spares late peers a snapshot."""
        self.snapshot = snapshot
        self.bytes_since_snapshot = sum(self._weight(row[0]) for row in self._entries if row[1] > snapshot.last_index)
        first = snapshot.last_index
        floor = max(self.first_index, snapshot.last_index - tail_entries)
        size = 0
        while first > floor:
            size += len(self._entries[first - 1 - self.first_index][0])
            if size > tail_bytes:
                break
            first -= 1
        if first > self.first_index:
            del self._entries[: first - self.first_index]
            self._journal.trim_before(first)

    # ------------------------------------------------------------------ PySyncObj's journal

    def add(self, command: bytes, idx: int, term: int) -> None:
        if len(self._entries) == 1 and self._entries[0][1] == idx:
            return  # PySyncObj keeps two entries behind a snapshot and hands over the last one twice; we keep one
        self._journal.append([(idx, term, command)])
        self._entries.append((command, idx, term))
        self.bytes_since_snapshot += self._weight(command)

    def clear(self) -> None:
        """Only ever called while a snapshot is installed, and ``install`` has done it."""

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803 - PySyncObj's name
        index = self.first_index + entryFrom
        if index <= self.commit_index and self._protected:
            raise TruncationError(f"entry {index} would be dropped, but {self.commit_index} is committed")
        self._journal.truncate_from(index)
        self.bytes_since_snapshot -= sum(self._weight(row[0]) for row in self._entries[entryFrom:])
        del self._entries[entryFrom:]

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803 - PySyncObj's name
        raise TruncationError("compaction is the engine's")

    @overload
    def __getitem__(self, item: int) -> RaftEntry: ...
    @overload
    def __getitem__(self, item: slice) -> list[RaftEntry]: ...
    def __getitem__(self, item: int | slice) -> RaftEntry | list[RaftEntry]:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def _destroy(self) -> None:
        """The engine closes the journal."""

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803 - PySyncObj's name
        if raftCommitIndex > self.commit_index:
            self.commit_index = raftCommitIndex
            self._journal.set_commit_hint(raftCommitIndex)

    def getRaftCommitIndex(self) -> int:  # noqa: N802 - PySyncObj's name
        return self.commit_index

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803 - PySyncObj's name
        self._journal.set_vote(term, votedForNodeId or "")

    def getCurrentTerm(self) -> int:  # noqa: N802 - PySyncObj's name
        return self._journal.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802 - PySyncObj's name
        return self._journal.voted_for or None

    def onOneSecondTimer(self) -> None:  # noqa: N802 - PySyncObj's name
        """Durability has no timer: every turn flushes."""
