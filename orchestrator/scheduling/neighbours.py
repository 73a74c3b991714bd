"""Instances that go in together, and where each may be, and would rather be, because of the others.

Owns: these conditions while instances are tried out one after the other, on no record but its own. Leaves to others:
what they mean for one instance (``preferences``, and a test holds the two together), rechecking
(``state.apply_near``), choosing nodes (``gangs``, ``preempt``). The rules:

- What no member changes (to be away from others, or with others that are there) and what a member changes on its own
  node alone (``distinct_hosts``) is in ``limit``: there the count per node says all.
- Of the rest, the next member goes to the first node in order where it may be. Whatever that order, no other finds
  room for more as long as one attribute alone is counted, or the values of one lie within those of the other (racks
  in zones). Where two cross each other, members are moved to make way for the next, one at a time; so a place may be
  overlooked that only moving several would have found.
- A gang that wants to be with itself and of which nothing is there goes whole to the nodes of one value (``parts``).
- What the members would rather (affinity to each other and spreading that are not required) chooses between the places
  where the next one may be, by the formula of ``preferences``. Where that leaves some without a place it is left out:
  who only prefers does not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.contract.model import Affinity, Spread
from orchestrator.scheduling.preferences import DEGREE, describe_affinity, describe_spread, group_of, is_own
from orchestrator.scheduling.presence import Presence
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wanted import Preferences
from orchestrator.scheduling.wish import BoolArray, Int64Array, Wish

MOVES_MAX = 512
"""So often a member is tried elsewhere to make way for the next."""


@dataclass(slots=True)
class _Counted:
    """A condition that every member changes. codes: int64 per node; sums: int64 per code, members and others there;
    skew: -1 = at most one in each value; else so many more than the least of ``taking`` values (bool per code); before:
    the sums before any member. The last code is that of nodes without a value, which count nowhere."""

    codes: Int64Array
    sums: Int64Array
    skew: int
    taking: BoolArray
    before: Int64Array

    def may(self) -> BoolArray:
        """bool per code: whether one more may be there."""
        if self.skew < 0:
            closed = self.sums > 0
        else:
            least = int(self.sums[self.taking].min(initial=np.iinfo(np.int64).max)) if self.taking.any() else 0
            closed = self.sums + 1 - least > self.skew
        closed[-1] = self.skew >= 0  # whoever is spread over an attribute needs one; whoever must be apart does not
        return ~closed

    def kept(self) -> bool:
        """Whether all members may be where they are."""
        here = self.sums[self.sums > self.before]
        if self.skew < 0:
            return int(here.max(initial=0)) <= 1
        return not len(here) or int(here.max()) - int(self.sums[self.taking].min()) <= self.skew

    def add(self, code: int, count: int = 1) -> None:
        if code < len(self.sums) - 1:
            self.sums[code] += count

    def on(self, nodes: Int64Array) -> _Counted:
        """The same of these nodes alone, to be changed by itself."""
        return _Counted(self.codes[nodes], self.sums.copy(), self.skew, self.taking, self.before)


@dataclass(slots=True)
class _Leaning:
    """What members would rather: ``counted`` (its skew is >= 0 for spreading, -1 for affinity) by ``weight``."""

    counted: _Counted
    weight: int

    def scores(self) -> Int64Array:
        """int64 per code: how much one more would like to be there."""
        counted = self.counted
        if counted.skew < 0:
            return self.weight * (DEGREE * counted.sums // (counted.sums + 1))
        least = int(counted.sums[counted.taking].min()) if counted.taking.any() else 0
        scores = self.weight * (DEGREE // (1 + np.maximum(counted.sums + 1 - least - counted.skew, 0)))
        scores[-1] = 0
        return scores


def neighbours_of(
    problem: Problem, wish: Wish, suitable: BoolArray, gone: Presence | None = None, *, leaning: bool = False
) -> Neighbours | None:
    """None: it does not matter who else is where. ``suitable``: the wish's nodes; ``gone``: instances that are there
    and count as if they were not; ``leaning``: heed what members would rather, too."""
    wanted = wish.preferences
    if wanted is None:
        return None
    leanings = _leaning(wanted) if leaning else ([], [])
    if not wanted.binding and not any(leanings):
        return None
    return Neighbours(problem, wanted, suitable, gone, *leanings)


def _leaning(wanted: Preferences) -> tuple[list[Affinity], list[Spread]]:
    """What is not required and changes with every member."""
    affinity = [one for one in wanted.affinity if one.constraint is None and not one.required and is_own(wanted, one)]
    return affinity, [one for one in wanted.spread if not one.required]


class Neighbours:
    """Of one wish. What ``add`` is told of counts for ``allowed``; the rest looks at what was there before."""

    def __init__(
        self,
        problem: Problem,
        wanted: Preferences,
        suitable: BoolArray,
        gone: Presence | None,
        liked: Sequence[Affinity] = (),
        spread: Sequence[Spread] = (),
    ) -> None:
        """``liked`` and ``spread``: what is not required and is heeded all the same."""
        self._mask: BoolArray = np.ones(len(problem), dtype=np.bool_)
        self._once = False
        self._counted: list[_Counted] = []
        self._same: list[Int64Array] = []
        self._problem, self._gone = problem, gone
        for affinity in wanted.affinity:
            if affinity.required and affinity.constraint is None:
                self._affinity(wanted, affinity)
        for one in wanted.spread:
            if one.required:
                self._mask &= problem.labels.has(one.attribute)
                self._counted.append(self._spread(wanted, one, suitable))
        self._leanings = [_Leaning(self._spread(wanted, one, suitable), one.weight) for one in spread]
        for affinity in liked:
            there = self._there(wanted.namespace, affinity.job or wanted.job, group_of(wanted, affinity))
            self._leanings.append(_Leaning(self._count(affinity.topology, there, -1), affinity.weight))

    @property
    def moving(self) -> bool:
        """Whether more than ``limit`` has to be looked at."""
        return bool(self._counted or self._same or self._leanings)

    def _spread(self, wanted: Preferences, spread: Spread, suitable: BoolArray) -> _Counted:
        there = self._there(wanted.namespace, wanted.job, wanted.group)
        counted = self._count(spread.attribute, there, spread.max_skew)
        counted.taking[counted.codes[suitable]] = True
        counted.taking[-1] = False
        return counted

    def _affinity(self, wanted: Preferences, one: Affinity) -> None:
        job, group = one.job or wanted.job, group_of(wanted, one)
        own = job == wanted.job and group in ("", wanted.group)
        there = self._there(wanted.namespace, job, group)
        counted = self._count(one.topology, there, -1)
        if one.weight < 0:
            self._mask &= counted.may()[counted.codes]
            if own and one.topology == "node.id":
                self._once = True
            elif own:
                self._counted.append(counted)
        elif own and not int(there.sum()):
            self._mask &= self._problem.labels.has(one.topology)
            self._same.append(counted.codes)
        else:
            self._mask &= self._problem.labels.has(one.topology) & (counted.sums > 0)[counted.codes]

    def _there(self, namespace: str, job: str, group: str) -> Int64Array:
        there = self._problem.presence.counts(namespace, job, group)
        return there if self._gone is None else there - self._gone.counts(namespace, job, group)

    def _count(self, attribute: str, there: Int64Array, skew: int) -> _Counted:
        codes, values = self._problem.labels.column(attribute)
        has = self._problem.labels.has(attribute)
        nowhere = len(values)
        codes = np.where(has, codes, nowhere)
        sums = np.bincount(codes, weights=there, minlength=nowhere + 1).astype(np.int64)
        sums[nowhere] = 0
        return _Counted(codes, sums, skew, np.zeros(nowhere + 1, dtype=np.bool_), sums.copy())

    # ------------------------------------------------------------------------ one after the other

    def allowed(self) -> BoolArray:
        """bool per node: whether the next one may be there."""
        allowed = self._mask.copy()
        for one in self._counted:
            allowed &= one.may()[one.codes]
        return allowed

    def add(self, node: int) -> None:
        if self._once:
            self._mask[node] = False
        for one in self._counted:
            one.add(int(one.codes[node]))
        for codes in self._same:
            self._mask &= codes == codes[node]

    # ------------------------------------------------------------------------ all at once

    def limit(self, times: Int64Array) -> Int64Array:
        """int64 per node: no more there than may be, given how often it fits."""
        return np.where(self._mask, np.minimum(times, 1) if self._once else times, 0)

    def parts(self, nodes: Int64Array) -> list[Int64Array]:
        """The nodes, in their order, by where all members must be together."""
        if not self._same:
            return [nodes]
        found: dict[tuple[int, ...], list[int]] = {}
        for node in nodes.tolist():
            found.setdefault(tuple([int(codes[node]) for codes in self._same]), []).append(node)
        return [np.array(part, dtype=np.int64) for part in found.values()]

    def fill(self, nodes: Int64Array, times: Int64Array, wanted: int) -> list[int]:
        """The nodes of up to ``wanted`` members, one each, in an order in which they may go in: each the first of these
        nodes where it may be, of those where it would rather be. ``times``: of all nodes, as ``limit`` leaves them."""
        found = self._fill(nodes, times, wanted, self._leanings)
        if len(found) < wanted and self._leanings:
            without = self._fill(nodes, times, wanted, [])
            found = without if len(without) > len(found) else found
        return found

    def _fill(self, nodes: Int64Array, times: Int64Array, wanted: int, leanings: list[_Leaning]) -> list[int]:
        best: list[int] = []
        for part in self.parts(nodes):
            if int(np.minimum(times[part], wanted).sum()) > len(best):
                found = _Filling(self._counted, leanings, part, times[part]).fill(wanted)
                best = found if len(found) > len(best) else best
            if len(best) >= wanted:
                break
        return best


class _Filling:
    def __init__(self, counted: list[_Counted], leanings: list[_Leaning], nodes: Int64Array, times: Int64Array) -> None:
        self._counted = [one.on(nodes) for one in counted]
        self._leanings = [_Leaning(one.counted.on(nodes), one.weight) for one in leanings]
        self._nodes, self._left = nodes, times.copy()
        self._placed: list[int] = []  # places in ``nodes``
        crossing = len({one.codes.tobytes() for one in self._counted}) > 1
        self._moves_left = MOVES_MAX if crossing else 0

    def fill(self, wanted: int) -> list[int]:
        while len(self._placed) < wanted:
            place = self._next()
            if place < 0 and not self._make_way():
                break
            if place >= 0:
                self._put(place)
        return [int(self._nodes[place]) for place in self._placed]

    def _next(self) -> int:
        """The first place where one more may be, of those where it would rather be; or -1."""
        open_ = self._left > 0
        for one in self._counted:
            open_ &= one.may()[one.codes]
        places = np.flatnonzero(open_)
        if not len(places):
            return -1
        if not self._leanings:
            return int(places[0])
        liked = sum(one.scores()[one.counted.codes[places]] for one in self._leanings)
        return int(places[np.argmax(liked)])

    def _put(self, place: int, sign: int = 1) -> None:
        self._left[place] -= sign
        for one in self._counted:
            one.add(int(one.codes[place]), sign)
        for leaning in self._leanings:
            leaning.counted.add(int(leaning.counted.codes[place]), sign)
        if sign > 0:
            self._placed.append(place)
        else:
            self._placed.remove(place)

    def _make_way(self) -> bool:
        """Put one member elsewhere so that the next has a place, which it then gets."""
        if not self._moves_left:
            return False  # nor ever was, if nothing crosses
        keys = [tuple(row) for row in np.array([one.codes for one in self._counted]).T.tolist()]
        for old in list(dict.fromkeys(self._placed)):
            if not self._moves_left:
                break
            self._put(old, -1)
            for new in self._elsewhere(old, keys)[: self._moves_left]:
                self._moves_left -= 1
                self._put(new)
                place = self._next() if all(one.kept() for one in self._counted) else -1
                if place >= 0:
                    self._put(place)
                    return True
                self._put(new, -1)
            self._put(old)
        return False

    def _elsewhere(self, old: int, keys: list[tuple[int, ...]]) -> list[int]:
        """One place for each other combination of values, the first. ``keys``: of each place, its combination."""
        found: dict[tuple[int, ...], int] = {}
        for place in np.flatnonzero(self._left > 0).tolist():
            if keys[place] != keys[old]:
                found.setdefault(keys[place], place)
        return list(found.values())


def required(wish: Wish) -> list[str]:
    """What is required, for reading."""
    wanted = wish.preferences
    if wanted is None:
        return []
    near = [describe_affinity(one) for one in wanted.affinity if one.required and one.constraint is None]
    return near + [describe_spread(one) for one in wanted.spread if one.required]
