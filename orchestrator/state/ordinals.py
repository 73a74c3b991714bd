"""Which attempt of an ordinal is the newest: an index over the allocation table by (job, group name, ordinal).

Owns: a number (``gid``) for every (job slot, group name), and for each of its ordinals the highest attempt ever placed
and the table's row of the newest attempt (-1 when that row was collected). The rule: ``last_attempt`` never falls while
the job exists, because the attempt is the fencing token.

``newest`` is the row that counts: the newest live attempt, or else the newest. During a rollout an ordinal may have two
live ones, the second being the one that is replaced; should the newer end first, the older counts again. ``paired``:
the gids of which that may be so of some ordinal (``State`` keeps the chains of attempts in this order).

Ordinals of one gid lie side by side in one large pair of arrays (a *block*, of a power of two), so that a plan of
thousands of rows is checked with a few array operations. Where a block lies is nobody's business: it is neither stored
nor hashed, and nothing may depend on it.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

GroupImage = tuple[int, int, str, npt.NDArray[np.int32]]
"""(gid, job slot, group name, highest attempt by ordinal)"""


class Slots:
    """Small numbers handed out smallest first: which one comes next follows from those in use alone."""

    __slots__ = ("_free", "high")

    def __init__(self, used: Iterable[int] = ()) -> None:
        taken = set(used)
        self.high = max(taken, default=-1) + 1
        self._free = [slot for slot in range(self.high) if slot not in taken]  # ascending: already a heap

    def take(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        self.high += 1
        return self.high - 1

    def release(self, slot: int) -> None:
        heapq.heappush(self._free, slot)


class Ordinals:
    """``base[gid] + ordinal`` is the place in ``last_attempt`` and ``newest``, for ordinals below ``size[gid]``."""

    __slots__ = (
        "_end", "_free_blocks", "_slots", "base", "by_job", "gids", "last_attempt", "names", "newest", "paired", "size",
    )  # fmt: skip

    def __init__(self) -> None:
        self._slots = Slots()
        self._free_blocks: dict[int, list[int]] = {}
        self._end = 0
        self.base: npt.NDArray[np.int32] = np.zeros(16, dtype=np.int32)
        self.size: npt.NDArray[np.int32] = np.zeros(16, dtype=np.int32)
        self.last_attempt: npt.NDArray[np.int32] = np.zeros(64, dtype=np.int32)
        self.newest: npt.NDArray[np.int32] = np.full(64, -1, dtype=np.int32)
        self.gids: dict[tuple[int, str], int] = {}
        self.names: dict[int, tuple[int, str]] = {}
        self.by_job: dict[int, list[int]] = {}
        self.paired: set[int] = set()

    def add(self, job: int, name: str) -> int:
        """The gid of a group; made when it is new."""
        gid = self.gids.get((job, name))
        if gid is None:
            gid = self._slots.take()
            self._enter(gid, job, name)
        return gid

    def restore(self, groups: Iterable[GroupImage]) -> None:
        """Enter stored groups: (gid, job slot, name, last attempts by ordinal)."""
        kept = list(groups)
        for gid, job, name, last_attempt in kept:
            self._enter(gid, job, name)
            if len(last_attempt):
                self.ensure(gid, len(last_attempt))
                start = int(self.base[gid])
                self.last_attempt[start : start + len(last_attempt)] = last_attempt
        self._slots = Slots(gid for gid, _, _, _ in kept)

    def forget_job(self, job: int) -> None:
        """Forget every group of a job of which no row is left."""
        for gid in self.by_job.pop(job, ()):
            self._release_block(gid)
            self.paired.discard(gid)
            del self.gids[self.names.pop(gid)]
            self.base[gid] = self.size[gid] = 0
            self._slots.release(gid)

    def ensure(self, gid: int, ordinals: int) -> None:
        """Make room for ordinals below ``ordinals``."""
        old_size = int(self.size[gid])
        if ordinals <= old_size:
            return
        size = 1 << (ordinals - 1).bit_length()
        blocks = self._free_blocks.get(size)
        if blocks:
            base = heapq.heappop(blocks)
        else:
            base = self._end
            self._end += size
            self._reserve(self._end)
        old = slice(int(self.base[gid]), int(self.base[gid]) + old_size)
        self.last_attempt[base : base + old_size] = self.last_attempt[old]
        self.newest[base : base + old_size] = self.newest[old]
        self._release_block(gid)
        self.base[gid] = base
        self.size[gid] = size

    def attempts(self, gid: int) -> npt.NDArray[np.int32]:
        """int32 (ordinals): a copy of the highest attempts, up to the last ordinal that ever had one."""
        return _used(self.last_attempt, int(self.base[gid]), int(self.size[gid])).copy()

    def rows_of(self, gids: Sequence[int]) -> npt.NDArray[np.int32]:
        """int32: the newest row of every ordinal of these groups that has one; by place of the group and ordinal."""
        chosen = np.asarray(gids, dtype=np.int64)
        size = self.size[chosen].astype(np.int64)
        first = np.cumsum(size) - size
        places = np.repeat(self.base[chosen] - first, size) + np.arange(int(size.sum()), dtype=np.int64)
        rows: npt.NDArray[np.int32] = self.newest[places]
        return rows[rows >= 0]

    def rows(self, gid: int) -> npt.NDArray[np.int32]:
        """int32: the newest row of each ordinal (-1: none), a view by ordinal."""
        start = int(self.base[gid])
        return self.newest[start : start + int(self.size[gid])]

    def job_rows(self, job: int) -> npt.NDArray[np.int32]:
        """int32: the newest row of every ordinal of a job that has one; by group and ordinal."""
        parts = [self.rows(gid) for gid in self.by_job.get(job, ())]
        if not parts:
            return np.empty(0, dtype=np.int32)
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return rows[rows >= 0]

    def find(self, gid: int, ordinal: int) -> int:
        """The newest row of one ordinal, or -1."""
        if not 0 <= ordinal < int(self.size[gid]):
            return -1
        return int(self.newest[int(self.base[gid]) + ordinal])

    def _enter(self, gid: int, job: int, name: str) -> None:
        if gid >= len(self.base):
            larger = max(gid + 1, 2 * len(self.base))
            for array in ("base", "size"):
                old = getattr(self, array)
                new = np.zeros(larger, dtype=np.int32)
                new[: len(old)] = old
                setattr(self, array, new)
        self.gids[(job, name)] = gid
        self.names[gid] = (job, name)
        bisect.insort(self.by_job.setdefault(job, []), gid)

    def _release_block(self, gid: int) -> None:
        size = int(self.size[gid])
        if size == 0:
            return
        base = int(self.base[gid])
        self.last_attempt[base : base + size] = 0
        self.newest[base : base + size] = -1
        heapq.heappush(self._free_blocks.setdefault(size, []), base)

    def _reserve(self, places: int) -> None:
        if places <= len(self.newest):
            return
        larger = max(places, len(self.newest) + len(self.newest) // 2)
        last_attempt = np.zeros(larger, dtype=np.int32)
        newest = np.full(larger, -1, dtype=np.int32)
        last_attempt[: len(self.last_attempt)] = self.last_attempt
        newest[: len(self.newest)] = self.newest
        self.last_attempt, self.newest = last_attempt, newest


class GroupImages(Sequence[GroupImage]):
    """Every group by gid, as it was when this was made: whole arrays are copied, and cut when somebody asks."""

    __slots__ = ("_base", "_gids", "_names", "_size", "_values")

    def __init__(self, ordinals: Ordinals) -> None:
        self._names = dict(ordinals.names)
        self._gids: list[int] | None = None
        self._base = ordinals.base.copy()
        self._size = ordinals.size.copy()
        self._values = ordinals.last_attempt.copy()
        self._values.flags.writeable = False

    @overload
    def __getitem__(self, place: int) -> GroupImage: ...
    @overload
    def __getitem__(self, place: slice) -> list[GroupImage]: ...
    def __getitem__(self, place: int | slice) -> GroupImage | list[GroupImage]:
        if self._gids is None:
            self._gids = sorted(self._names)
        if isinstance(place, slice):
            return [self._image(gid) for gid in self._gids[place]]
        return self._image(self._gids[place])

    def __len__(self) -> int:
        return len(self._names)

    def _image(self, gid: int) -> GroupImage:
        job, name = self._names[gid]
        return gid, job, name, _used(self._values, int(self._base[gid]), int(self._size[gid]))


class LastAttempts(Mapping[tuple[int, str], npt.NDArray[np.int32]]):
    """(job slot, group name) -> int32 by ordinal, as ``Ordinals.attempts`` had it when this was made.

    Large arrays are copied once and cut when somebody asks: a plan asks for few of many thousand groups.
    """

    __slots__ = ("_base", "_gids", "_size", "_values")

    def __init__(self, ordinals: Ordinals) -> None:
        self._gids = dict(ordinals.gids)
        self._base = ordinals.base.copy()
        self._size = ordinals.size.copy()
        self._values = ordinals.last_attempt.copy()
        self._values.flags.writeable = False

    def __getitem__(self, key: tuple[int, str]) -> npt.NDArray[np.int32]:
        gid = self._gids[key]
        return _used(self._values, int(self._base[gid]), int(self._size[gid]))

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return iter(self._gids)

    def __len__(self) -> int:
        return len(self._gids)


def _used(values: npt.NDArray[np.int32], start: int, size: int) -> npt.NDArray[np.int32]:
    """A view of one block up to the last ordinal that ever had an attempt."""
    part = values[start : start + size]
    length = len(part)
    if length > 8:
        used = np.flatnonzero(part)
        length = int(used[-1]) + 1 if len(used) else 0
    else:  # most groups are small
        while length and not part[length - 1]:
            length -= 1
    return part[:length]
