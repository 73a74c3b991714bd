"""The asks of a round as columns, with equal wishes interned.

Owns: ``Wishes`` (each distinct wish once, with its number), ``Backlog``, and which asks follow each other so that they
may be placed as one batch. Leaves to others: the order of service (``reconcile``), placing (``solve``). The rule: after
this, what is plain costs no Python per ask.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from orchestrator.scheduling import registry
from orchestrator.scheduling.wish import DIMENSIONS, Ask, BoolArray, Int64Array, Wish, wish_of
from orchestrator.state.commands import Int32Array

_PLAIN = Wish(request=(0, 0, 0), gpus=None, ports=(), drivers=(), constraints=(), policy="").rest
"""A wish is placed in a batch only if it asks for no more than this. So what is added to wishes later keeps out of
batches until it is known to change nothing there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Per wish, by number. ``requests``: int64 (wishes, 3), by columns in memory; ``batch`` and ``where``: as in
    ``Wishes``."""

    requests: Int64Array
    batch: BoolArray
    where: Int64Array


class Wishes:
    """Distinct wishes by number, in the order of their first appearance; the table only grows.

    batch: per wish, whether nothing but the three dimensions and the choice of the fullest node decides where it goes;
    where: per wish, the number of its ground. Wishes that differ in nothing but request and policy share one, so that
    the same nodes are suitable for them.
    """

    def __init__(self) -> None:
        self.known: list[Wish] = []
        self.batch: list[bool] = []
        self.where: list[int] = []
        self._number: dict[Wish, int] = {}
        self._grounds: dict[tuple[object, ...], tuple[int, bool]] = {}
        self._requests = array("q")
        self._columns: Columns | None = None

    def __len__(self) -> int:
        return len(self.known)

    @property
    def grounds(self) -> int:
        """How many grounds there are."""
        return len(self._grounds)

    def number(self, wish: Wish) -> int:
        number = self._number.setdefault(wish, len(self.known))
        if number == len(self.known):
            self.known.append(wish)
            self._requests.extend(wish.request)
            ground = self._grounds.get(wish.ground)
            if ground is None:
                ground = self._grounds[wish.ground] = len(self._grounds), wish.rest == _PLAIN
            where, plain = ground
            self.where.append(where)
            self.batch.append(plain and registry.get(wish.policy).fullest_first)
        return number

    def columns(self) -> Columns:
        columns = self._columns
        if columns is None or len(columns.requests) < len(self.known):
            columns = self._columns = Columns(
                requests=np.array(np.array(self._requests, dtype=np.int64).reshape(-1, len(DIMENSIONS)), order="F"),
                batch=np.array(self.batch, dtype=np.bool_),
                where=np.array(self.where, dtype=np.int64),
            )
        return columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Asks from ``start`` up to ``stop``. ``batch``: all of one priority, each of a wish that may be placed in a batch,
    none with a node to avoid or of its own; ``wish``: the number that they share, -1 if they differ; ``grounds``: how
    many they have; ``rows``: instances; ``single``: one for each ask."""

    start: int
    stop: int
    batch: bool
    wish: int
    grounds: int
    rows: int
    single: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Backlog:
    """``wish`` (a number in ``wishes``) and ``count`` (instances) are int32 per ask, asks in the order of service; the
    stretches cover all of them in turn."""

    asks: Sequence[Ask]
    wishes: Wishes
    wish: Int32Array
    count: Int32Array
    stretches: tuple[Stretch, ...]

    @property
    def all_batch(self) -> bool:
        return len(self.stretches) == 1 and self.stretches[0].batch


def backlog_of(asks: Sequence[Ask], wishes: Wishes, default_placement: str = "") -> Backlog:
    """``default_placement``: of jobs that name none, "" = what suits each."""
    policy = registry.chooser(default_placement)
    numbers, counts, batch, priority = [], [], [], []
    for ask in asks:
        spec = ask.job.spec
        number = wishes.number(wish_of(spec, spec.groups[ask.group], policy=policy))
        numbers.append(number)
        counts.append(len(ask.ordinals))
        batch.append(wishes.batch[number] and ask.avoid < 0 and not ask.pinned)
        priority.append(spec.priority)
    wish = np.array(numbers, dtype=np.int32)
    return Backlog(
        asks=asks,
        wishes=wishes,
        wish=wish,
        count=np.array(counts, dtype=np.int32),
        stretches=_stretches(
            wish,
            np.array(counts, dtype=np.int64),
            wishes.columns().where[wish],
            np.array(batch, dtype=np.bool_),
            np.array(priority, dtype=np.int64),
        ),
    )


def _stretches(
    wish: Int32Array, count: Int64Array, where: Int64Array, batch: BoolArray, priority: Int64Array
) -> tuple[Stretch, ...]:
    if not len(wish):
        return ()
    # What is placed one by one need not be split by priority: there the order stays as it is.
    mark = np.where(batch, priority, -1)
    starts = [0, *(np.flatnonzero(mark[1:] != mark[:-1]) + 1).tolist()]
    stretches = []
    for start, stop in pairwise([*starts, len(wish)]):
        alike = bool((wish[start:stop] == wish[start]).all())
        rows = int(count[start:stop].sum())
        stretches.append(
            Stretch(
                start=start,
                stop=stop,
                batch=bool(batch[start]),
                wish=int(wish[start]) if alike else -1,
                grounds=1 if alike else len(np.unique(where[start:stop])),
                rows=rows,
                single=rows == stop - start and bool((count[start:stop] == 1).all()),
            )
        )
    return tuple(stretches)
