"""The asks of a round as columns, with equal wishes interned.

Owns: ``Wishes`` (each distinct wish once, with its number), ``Backlog``, and which asks follow each other so that they
may be placed as one batch. Leaves to others: the order of service (``reconcile``), placing (``solve``). The rule: after
this, what is plain costs no Python per ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from orchestrator.contract.model import Constraint
from orchestrator.scheduling import registry
from orchestrator.scheduling.wish import DIMENSIONS, Ask, BoolArray, Int64Array, Wish, wish_of
from orchestrator.state.commands import Int32Array

Where = tuple[tuple[str, ...], tuple[Constraint, ...]]
"""Drivers and constraints: what decides on which nodes a wish may go at all."""


class Wishes:
    """Distinct wishes by number, in the order of their first appearance; the table only grows.

    batch: per wish, whether nothing but the three dimensions and the choice of the fullest node decides where it goes;
    where: per wish, a number that wishes with equal drivers and constraints share.
    """

    def __init__(self) -> None:
        self.known: list[Wish] = []
        self.batch: list[bool] = []
        self.where: list[int] = []
        self._number: dict[Wish, int] = {}
        self._wheres: dict[Where, int] = {}
        self._requests: Int64Array = np.zeros((0, len(DIMENSIONS)), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.known)

    def number(self, wish: Wish) -> int:
        number = self._number.setdefault(wish, len(self.known))
        if number == len(self.known):
            self.known.append(wish)
            self.batch.append(wish.plain and registry.get(wish.policy).fullest_first)
            self.where.append(self._wheres.setdefault((wish.drivers, wish.constraints), len(self._wheres)))
        return number

    def requests(self) -> Int64Array:
        """int64 (wishes, 3)."""
        if len(self._requests) < len(self.known):
            new = np.array([wish.request for wish in self.known[len(self._requests) :]], dtype=np.int64)
            self._requests = np.concatenate([self._requests, new])
        return self._requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Asks from ``start`` up to ``stop``. ``batch``: all of one priority, each of a wish that may be placed in a batch,
    none with a node to avoid or of its own; ``wish``: the number that they share, -1 if they differ; ``grounds``: how
    many different sets of drivers and constraints they have."""

    start: int
    stop: int
    batch: bool
    wish: int
    grounds: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Backlog:
    """``wish`` (a number in ``wishes``) and ``count`` (instances) are int32 per ask, asks in the order of service; the
    stretches cover all of them in turn."""

    asks: Sequence[Ask]
    wishes: Wishes
    wish: Int32Array
    count: Int32Array
    stretches: tuple[Stretch, ...]


def backlog_of(asks: Sequence[Ask], wishes: Wishes) -> Backlog:
    numbers, counts, batch, priority = [], [], [], []
    for ask in asks:
        spec = ask.job.spec
        number = wishes.number(wish_of(spec, spec.groups[ask.group], default_policy=registry.DEFAULT))
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
            np.array(wishes.where, dtype=np.int64)[wish],
            np.array(batch, dtype=np.bool_),
            np.array(priority, dtype=np.int64),
        ),
    )


def _stretches(wish: Int32Array, where: Int64Array, batch: BoolArray, priority: Int64Array) -> tuple[Stretch, ...]:
    if not len(wish):
        return ()
    # What is placed one by one need not be split by priority: there the order stays as it is.
    mark = np.where(batch, priority, -1)
    starts = np.flatnonzero(np.diff(mark, prepend=mark[0] - 1)).tolist()
    stretches = []
    for start, stop in pairwise([*starts, len(wish)]):
        alike = bool((wish[start:stop] == wish[start]).all())
        stretches.append(
            Stretch(
                start=start,
                stop=stop,
                batch=bool(batch[start]),
                wish=int(wish[start]) if alike else -1,
                grounds=1 if alike else len(np.unique(where[start:stop])),
            )
        )
    return tuple(stretches)
