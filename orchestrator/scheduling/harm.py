"""The least harm on one node: which units to evict so that one instance fits there.

Owns: the search over sets of victims. Leaves to others: who may be evicted (``preempt``), whether a set makes room (the
caller's ``fits``). The rule: the lowest highest priority of a victim, then the fewest allocations, then the least
waste, then whoever started last: exact where the sets can be counted (``SETS_MAX``), else victims in order of priority
and usefulness until it fits (prefix sums), less those that turn out not to be needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, combinations
from math import comb

import numpy as np
import numpy.typing as npt

SETS_MAX = 2_000
"""Sets of victims that are compared on one node."""

GroupKey = tuple[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """One unit. ``positions``: all its members, on whatever node; ``frees``: cpu millis, memory MiB, disk MiB on this
    node, ``millis`` of devices likewise; ``groups``: members per group, for budgets; ``age``: lower started later."""

    positions: tuple[int, ...]
    priority: int
    frees: tuple[int, int, int]
    millis: int
    groups: tuple[tuple[GroupKey, int], ...]
    age: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """``priority``: the highest of a victim; ``count``: allocations; ``waste``: what is freed beyond what was lacking,
    in thousandths of the node per dimension and thousandths of devices."""

    node: int
    positions: tuple[int, ...]
    priority: int
    count: int
    waste: int


def least_harm(
    node: int,
    victims: Sequence[Victim],
    *,
    lack: Sequence[int],
    capacity: Sequence[int],
    left: Callable[[GroupKey], int],
    fits: Callable[[Sequence[Victim]], bool],
    plain: bool,
) -> Harm | None:
    """The set to evict, or None. ``lack``: per dimension, what is missing; ``left``: what a group's budget allows;
    ``fits``: whether the instance fits without them; ``plain``: the dimensions alone decide that."""
    order = sorted(victims, key=_first)
    for level in sorted({victim.priority for victim in order}):
        usable = [victim for victim in order if victim.priority <= level]
        chosen = _fewest(usable, lack, capacity, left, fits, plain)
        if chosen is not None:
            return Harm(
                node=node,
                positions=tuple(position for victim in chosen for position in victim.positions),
                priority=max(victim.priority for victim in chosen),
                count=sum(len(victim.positions) for victim in chosen),
                waste=_waste(chosen, lack, capacity),
            )
    return None


def _first(victim: Victim) -> tuple[int, int, int, int]:
    """Whoever started last goes first; of those placed together the highest ordinal, as when a job is scaled down."""
    return victim.priority, len(victim.positions), victim.age, -victim.positions[-1]


def _fewest(
    victims: Sequence[Victim],
    lack: Sequence[int],
    capacity: Sequence[int],
    left: Callable[[GroupKey], int],
    fits: Callable[[Sequence[Victim]], bool],
    plain: bool,
) -> Sequence[Victim] | None:
    def good(chosen: Sequence[Victim]) -> bool:
        return _covers(chosen, lack) and _within(chosen, left) and (plain or fits(chosen))

    if not _covers(victims, lack):
        return None
    frees = np.array([victim.frees for victim in victims], dtype=np.int64)
    millis = np.array([victim.millis for victim in victims], dtype=np.int64)
    members = np.array([len(victim.positions) for victim in victims], dtype=np.int64)
    wanted, room = np.array(lack, dtype=np.int64), np.maximum(np.array(capacity, dtype=np.int64), 1)
    best: tuple[int, int] | None = None
    found: Sequence[Victim] | None = None
    tried = 0
    for size in range(_least(victims, lack), len(victims) + 1):
        if best is not None and size > best[0]:
            break
        tried += comb(len(victims), size)
        if tried > SETS_MAX:
            return found if found is not None else _greedy(victims, lack, capacity, good)
        sets = _sets(len(victims), size)
        freed = frees[sets].sum(axis=1)
        counts = members[sets].sum(axis=1)
        waste = ((freed - wanted) * 1000 // room).sum(axis=1) + millis[sets].sum(axis=1)
        usable = np.flatnonzero((freed >= wanted).all(axis=1))
        for at in usable[np.lexsort((usable, waste[usable], counts[usable]))].tolist():
            cost = int(counts[at]), int(waste[at])
            if best is not None and cost >= best:
                break
            chosen = [victims[place] for place in sets[at].tolist()]
            if good(chosen):
                best, found = cost, chosen
                break
        if best is not None and best[0] == size:
            break  # of more units there are more allocations
    return found


@lru_cache(maxsize=256)
def _sets(items: int, size: int) -> npt.NDArray[np.int64]:
    """int64 (sets, size): every choice of so many items, those of the first items first."""
    flat = chain.from_iterable(combinations(range(items), size))
    return np.fromiter(flat, dtype=np.int64, count=comb(items, size) * size).reshape(-1, size)


def _greedy(
    victims: Sequence[Victim], lack: Sequence[int], capacity: Sequence[int], good: Callable[[Sequence[Victim]], bool]
) -> Sequence[Victim] | None:
    def useful(victim: Victim) -> int:
        amounts = zip(victim.frees, lack, capacity, strict=True)
        return sum(min(free, want) * 1000 // max(have, 1) for free, want, have in amounts) + victim.millis

    ranked = sorted(victims, key=lambda victim: (victim.priority, -useful(victim) // len(victim.positions), victim.age))
    chosen: list[Victim] = []
    for victim in ranked:
        chosen.append(victim)
        if good(chosen):
            break
    else:
        return _within_budgets(ranked, good)
    return _needed(chosen, good)


def _within_budgets(ranked: Sequence[Victim], good: Callable[[Sequence[Victim]], bool]) -> Sequence[Victim] | None:
    """A budget stops the prefix: as above, but of each group only as many as a set may have, fewest groups' worth."""
    for most in range(1, len(ranked)):
        counts: dict[GroupKey, int] = {}
        chosen: list[Victim] = []
        for victim in ranked:
            if any(counts.get(key, 0) + count > most for key, count in victim.groups):
                continue
            for key, count in victim.groups:
                counts[key] = counts.get(key, 0) + count
            chosen.append(victim)
            if good(chosen):
                return _needed(chosen, good)
    return None


def _needed(chosen: list[Victim], good: Callable[[Sequence[Victim]], bool]) -> Sequence[Victim]:
    for victim in reversed(chosen[:]):
        rest = [other for other in chosen if other is not victim]
        if rest and good(rest):
            chosen = rest
    return chosen


def _covers(chosen: Sequence[Victim], lack: Sequence[int]) -> bool:
    return all(sum(victim.frees[at] for victim in chosen) >= want for at, want in enumerate(lack) if want)


def _within(chosen: Sequence[Victim], left: Callable[[GroupKey], int]) -> bool:
    counts: dict[GroupKey, int] = {}
    for victim in chosen:
        for key, count in victim.groups:
            counts[key] = counts.get(key, 0) + count
    return all(count <= left(key) for key, count in counts.items())


def _least(victims: Sequence[Victim], lack: Sequence[int]) -> int:
    """So many victims it takes at least."""
    most = 1
    for at, want in enumerate(lack):
        total = 0
        for size, free in enumerate(sorted((victim.frees[at] for victim in victims), reverse=True), 1):
            if total >= want:
                break
            total += free
            most = max(most, size)
    return most


def _waste(chosen: Sequence[Victim], lack: Sequence[int], capacity: Sequence[int]) -> int:
    wasted = sum(victim.millis for victim in chosen)
    for at, (want, have) in enumerate(zip(lack, capacity, strict=True)):
        wasted += (sum(victim.frees[at] for victim in chosen) - want) * 1000 // max(have, 1)
    return wasted
