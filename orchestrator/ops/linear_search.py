"""Whether the operations on one register can be put into an order that explains every answer.

Owns: the search of Wing and Gong ("Testing and verifying concurrent objects", JPDC 1993) as Lowe improved it ("Testing
for linearizability", CCPE 2017: a linked list of the operations not yet ordered, and a memory of configurations that
led nowhere). Leaves to others: which registers need it (``linearizability``), words (``counterexample``). The rule:
whatever is left out of the search is left out because another order does as well; each place says why.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from orchestrator.ops.history_columns import NEVER, NOTHING

MAX_CONFIGURATIONS: Final = 1_000_000
"""Dead ends to remember before giving up: some 200 MB. Histories with unique values stay far below."""


class Step(NamedTuple):
    """One operation on the register. ``wants``, ``equal``, ``gives`` as in ``Columns``; ``row`` is the caller's."""

    row: int
    call: int
    returned: int
    known: bool
    wants: int
    equal: bool
    gives: int


SHOWN_BEFORE: Final = 5
"""Steps that ``Stuck`` keeps of the order before it."""


class Verdict(enum.Enum):
    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    GAVE_UP = "gave up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Where the longest order that was found ends: its ``last`` steps, the value then, and what could not be next."""

    last: Sequence[Step]
    value: int
    next: Sequence[Step]


@dataclass(slots=True)
class _Frame:
    """A configuration on the way: where its order ends, and the moves from it that were not tried yet."""

    ordered: int
    value: int
    window: list[int]
    key: tuple[int, ...]
    moves: list[int]
    widened: bool  # whether the moves with unknown steps were among them


class Search:
    """One search. Known steps are numbered by call from 0; those without an outcome follow, by call too.

    ``look_ahead`` False tries orders that must fail later, too: slower, but ``stuck`` is then where a reader sees why.
    """

    def __init__(
        self, steps: Sequence[Step], initial: int, *, limit: int = MAX_CONFIGURATIONS, look_ahead: bool = True
    ) -> None:
        by_call = sorted(steps, key=lambda step: step.call)
        self._steps = [step for step in by_call if step.known]
        self._known = len(self._steps)
        self._steps += [step for step in by_call if not step.known]
        self._initial = initial
        self._limit = limit
        self._look_ahead = look_ahead
        self._call = [step.call for step in self._steps]
        self._returned = [step.returned for step in self._steps]
        self._wants = [step.wants for step in self._steps]
        self._equal = [step.equal for step in self._steps]
        self._gives = [step.gives for step in self._steps]
        # A ring through the known steps that are not ordered yet; its head is the number after the last one.
        self._next = [*range(1, self._known + 1), 0]
        self._previous = [self._known, *range(self._known)]
        self._used = 0  # of the unknown steps, as bits
        self._unknown_of: dict[int, list[int]] = {}  # by the value that they give
        for number in range(self._known, len(self._steps)):
            self._unknown_of.setdefault(self._gives[number], []).append(number)
        # How many steps not ordered yet need each value to be there, and how many can bring it.
        self._readers = Counter(step.wants for step in self._steps[: self._known] if step.equal)
        self._writers = Counter(step.gives for step in self._steps)
        self._unknown_wants = Counter(step.wants for step in self._steps[self._known :])
        self._missed = {step.wants for step in self._steps[: self._known] if not step.equal}
        self.stuck = Stuck(last=(), value=initial, next=())
        """Meaningful after ``run`` found no order."""

    def run(self) -> Verdict:
        trail: list[int] = []
        stack: list[_Frame] = []
        dead: set[tuple[int, ...]] = set()
        value = self._initial
        deepest = -1
        while True:
            window, beyond = self._settle(value, trail)
            if not window:
                return Verdict.LINEARIZABLE
            # Exact: every known step before ``beyond`` is ordered but those in the window, and none from it on is.
            key = (value, self._used, beyond, *window)
            known_dead = key in dead
            frame = _Frame(len(trail), value, window, key, [] if known_dead else self._moves(value, window), known_dead)
            stack.append(frame)
            while not frame.moves:
                if not frame.widened:
                    self._back_to(frame, trail)
                    frame.moves, frame.widened = self._unknown_moves(frame.value, frame.window), True
                    continue
                if frame.ordered > deepest:
                    self._back_to(frame, trail)
                    deepest = len(trail)
                    self.stuck = self._stuck(frame, trail)
                dead.add(frame.key)
                stack.pop()
                if not stack:
                    return Verdict.NOT_LINEARIZABLE
                if len(dead) > self._limit:
                    return Verdict.GAVE_UP
                frame = stack[-1]
            self._back_to(frame, trail)
            number = frame.moves.pop()
            self._order(number)
            trail.append(number)
            value = self._gives[number]

    def _back_to(self, frame: _Frame, trail: list[int]) -> None:
        while len(trail) > frame.ordered:
            self._take_back(trail.pop())

    def _stuck(self, frame: _Frame, trail: list[int]) -> Stuck:
        return Stuck(
            last=[self._steps[number] for number in trail[-SHOWN_BEFORE:]],
            value=frame.value,
            next=[self._steps[number] for number in frame.window],
        )

    def _settle(self, value: int, trail: list[int]) -> tuple[list[int], int]:
        """Order every read that may be next; return the other steps that may be, and the first one behind them.

        A step may be next when none that waits returned before its call. A read that fits is never worth delaying: in
        any order that has it later it can be moved here, and every other step stays explained.
        """
        following, call, returned = self._next, self._call, self._returned
        wants, equal, gives = self._wants, self._equal, self._gives
        window: list[int] = []
        first_return = NEVER
        number = following[self._known]
        while number != self._known and call[number] <= first_return:
            if gives[number] == NOTHING and (wants[number] == value) == equal[number]:
                self._order(number)
                trail.append(number)
            else:
                window.append(number)
                first_return = min(first_return, returned[number])
            number = following[number]
        return window, number

    def _moves(self, value: int, window: list[int]) -> list[int]:
        """The writes that may be next, the most promising last.

        Not those that take away a value which others must still find and nobody can bring back.
        """
        kept = self._irreplaceable(value)
        moves = [
            number
            for number in window
            if self._gives[number] != NOTHING
            and ((self._wants[number] == value and kept <= 1) or (self._wants[number] == NOTHING and not kept))
        ]
        if len(moves) > 1:
            moves.sort(key=lambda number: (self._wants[number] == NOTHING, self._returned[number]), reverse=True)
        return moves

    def _irreplaceable(self, value: int) -> int:
        """How many steps must still find ``value``, if nobody can bring it back; else 0."""
        return self._readers[value] if self._look_ahead and not self._writers[value] else 0

    def _unknown_moves(self, value: int, window: list[int]) -> list[int]:
        """The writes without an outcome that are worth trying: those that the very next step needs.

        Nothing waits for them to return, so in any order that has one its first beneficiary can follow at once, and
        without a beneficiary it can be left out. Of equal ones the earliest does as well as any; so does one of those
        that only take the present value away, as long as nobody cares which value comes instead: neither who must find
        it nor who must not.
        """
        if not self._unknown_of or self._irreplaceable(value):
            return []
        first_return = min(self._returned[number] for number in window)
        needed = {self._wants[number] for number in window if self._equal[number]}
        needed.update(wants for wants, count in self._unknown_wants.items() if count)
        needed -= {value, NOTHING}
        blocked = any(not self._equal[number] and self._wants[number] == value for number in window)
        moves: list[int] = []
        idle: dict[int, int] = {}  # of no use but to be another value than the present one, by that if it matters
        for gives in self._unknown_of if blocked else sorted(needed & self._unknown_of.keys()):
            if gives == value:
                continue
            seen: set[int] = set()
            for number in self._unknown_of[gives]:
                wants = self._wants[number]
                if self._call[number] > first_return:
                    break
                if self._used >> (number - self._known) & 1 or wants not in (NOTHING, value) or wants in seen:
                    continue
                seen.add(wants)
                if wants == NOTHING and gives not in needed and not self._readers[gives]:
                    idle.setdefault(gives if gives in self._missed else NOTHING, number)
                else:
                    moves.append(number)
        return [*moves, *(idle[gives] for gives in sorted(idle, key=lambda gives: gives == NOTHING))]

    def _order(self, number: int) -> None:
        self._writers[self._gives[number]] -= 1
        if number < self._known:
            before, after = self._previous[number], self._next[number]
            self._next[before], self._previous[after] = after, before
            if self._equal[number]:
                self._readers[self._wants[number]] -= 1
        else:
            self._used |= 1 << (number - self._known)
            self._unknown_wants[self._wants[number]] -= 1

    def _take_back(self, number: int) -> None:
        """Undo the latest ``_order`` that was not undone."""
        self._writers[self._gives[number]] += 1
        if number < self._known:
            self._next[self._previous[number]] = self._previous[self._next[number]] = number
            if self._equal[number]:
                self._readers[self._wants[number]] += 1
        else:
            self._used &= ~(1 << (number - self._known))
            self._unknown_wants[self._wants[number]] += 1
