"""What changed since an index, as far as deciding may come to something else: hints for the leader, never stored.

Owns: for every job slot the last such change, the last one that concerns all jobs, and the last one of nodes that
concerns nobody who has a place. Leaves to others: who is to say so (``state``'s own moves, ``apply``). The rule: saying
too much costs a round, saying too little leaves work undone; so whatever is not known to concern single jobs concerns
all of them.

An allocation that begins to run is the common case that changes nothing: only rollouts and drains wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


class Changes:
    """``everything``: index of the last change that may concern every job; ``nodes``: of the last one after which there
    are other nodes, or other records of them, and every allocation is where it was: news to whoever waits for a place,
    and to jobs that run on every node. A sweep counts as one too."""

    __slots__ = ("_jobs", "everything", "newest", "nodes")

    def __init__(self, index: int = 0) -> None:
        self.everything = self.nodes = index
        self.newest = index
        """Of all changes."""
        self._jobs: npt.NDArray[np.int64] = np.zeros(64, dtype=np.int64)

    def touch(self, slots: Iterable[int], index: int) -> None:
        """These jobs changed."""
        for slot in slots:
            if slot >= len(self._jobs):
                larger = np.zeros(max(slot + 1, 2 * len(self._jobs)), dtype=np.int64)
                larger[: len(self._jobs)] = self._jobs
                self._jobs = larger
            self._jobs[slot] = index
            self.newest = index

    def sweep(self, index: int) -> None:
        """Something changed that may concern every job."""
        self.everything = self.newest = self.nodes = index

    def widen(self, index: int) -> None:
        """A node came that holds nothing, or said nothing new."""
        self.nodes = index

    def since(self, index: int) -> list[int] | None:
        """The slots of jobs that changed after ``index``, ascending; None: all of them have to be looked at."""
        if self.everything > index:
            return None
        if self.newest <= index:
            return []
        slots: list[int] = np.flatnonzero(self._jobs > index).tolist()
        return slots
