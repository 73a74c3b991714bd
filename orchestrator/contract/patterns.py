"""Regular expressions that cannot hang: a small language, matched in time linear in the text.

Owns: the language and matching it. Python's own ``re`` backtracks, and a pattern such as ``(a+)+b`` would hold up a
leader for ever. The rule: a pattern describes the whole text; what is not in the language is refused with a reason.

The language: literals, ``.``, ``[a-z]`` and ``[^a-z]``, ``\\d \\w \\s`` and ``\\D \\W \\S`` (ASCII), ``\\`` before
punctuation, ``( )``, ``|``, ``* + ?`` and ``{m}``, ``{m,}``, ``{m,n}``. No back references, look-around or flags.

The algorithm is Thompson's (Regular Expression Search Algorithm, CACM 11(6), 1968): the pattern becomes a machine
without memory, and the set of all states that it may be in is moved along the text.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

PATTERN_MAX = 256
"""Characters of a pattern."""
STATES_MAX = 2_000
"""Of the machine, once repetitions are written out."""
REPEAT_MAX = 100
TEXT_MAX = 4_096
"""A longer text matches nothing."""
DEPTH_MAX = 50

_Test = Callable[[str], bool]


class PatternError(ValueError):
    """What is wrong with a pattern."""


def problem(pattern: str) -> str:
    """What is wrong with it, or ""."""
    try:
        _compile(pattern)
    except PatternError as error:
        return str(error)
    return ""


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern describes the whole text; a malformed pattern describes nothing."""
    if len(text) > TEXT_MAX:
        return False
    try:
        machine = _compile(pattern)
    except PatternError:
        return False
    now = machine.closure((machine.start,))
    for character in text:
        now = machine.step(now, character)
        if not now:
            return False
    return machine.end in now


class _Machine:
    """States are numbers; ``tests[i]`` takes a character from state i to ``then[i]``, ``free[i]`` are moves without."""

    def __init__(self) -> None:
        self.tests: list[_Test | None] = []
        self.then: list[int] = []
        self.free: list[list[int]] = []
        self.start = self.end = 0

    def state(self) -> int:
        if len(self.tests) >= STATES_MAX:
            raise PatternError(f"it is too large: at most {STATES_MAX} states once repetitions are written out")
        self.tests.append(None)
        self.then.append(-1)
        self.free.append([])
        return len(self.tests) - 1

    def closure(self, states: tuple[int, ...]) -> frozenset[int]:
        seen = set(states)
        todo = list(states)
        while todo:
            for following in self.free[todo.pop()]:
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        return frozenset(seen)

    def step(self, states: frozenset[int], character: str) -> frozenset[int]:
        reached = []
        for state in states:
            test = self.tests[state]
            if test is not None and test(character):
                reached.append(self.then[state])
        return self.closure(tuple(reached))


@functools.lru_cache(maxsize=256)
def _compile(pattern: str) -> _Machine:
    if len(pattern) > PATTERN_MAX:
        raise PatternError(f"at most {PATTERN_MAX} characters, not {len(pattern)}")
    reader = _Reader(pattern)
    tree = reader.alternatives(0)
    if reader.at < len(pattern):
        raise PatternError(f"')' at {reader.at + 1} closes nothing")
    machine = _Machine()
    machine.start = machine.state()
    machine.end = tree(machine, machine.start)
    return machine


_Part = Callable[[_Machine, int], int]
"""Builds itself behind a state and returns the state behind itself."""


class _Reader:
    """Recursive descent over the pattern's text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def alternatives(self, depth: int) -> _Part:
        if depth > DEPTH_MAX:
            raise PatternError(f"more than {DEPTH_MAX} parentheses inside each other")
        ways = [self._sequence(depth)]
        while self._take("|"):
            ways.append(self._sequence(depth))
        return ways[0] if len(ways) == 1 else _either(ways)

    def _sequence(self, depth: int) -> _Part:
        parts = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts.append(self._repeated(depth))
        return _one_after_another(parts)

    def _repeated(self, depth: int) -> _Part:
        part = self._atom(depth)
        while True:
            if self._take("*"):
                part = _repeat(part, 0, None)
            elif self._take("+"):
                part = _repeat(part, 1, None)
            elif self._take("?"):
                part = _repeat(part, 0, 1)
            elif self._peek() == "{":
                part = _repeat(part, *self._bounds())
            else:
                return part

    def _bounds(self) -> tuple[int, int | None]:
        close = self.text.find("}", self.at)
        low, comma, high = self.text[self.at + 1 : close].partition(",")
        if close < 0 or not _digits(low) or not (high == "" or _digits(high)):
            raise PatternError(f"'{{' at {self.at + 1}: expected {{3}}, {{3,}} or {{3,5}}")
        self.at = close + 1
        least = int(low)
        most = least if not comma else int(high) if high else None
        if max(least, most or 0) > REPEAT_MAX or (most is not None and most < least):
            raise PatternError(f"a repetition goes from 0 to {REPEAT_MAX}, the lower number first")
        return least, most

    def _atom(self, depth: int) -> _Part:
        character = self.text[self.at]
        self.at += 1
        if character == "(":
            if self._peek() == "?":
                raise PatternError(f"'(?' at {self.at}: look-around, flags and names are not supported")
            part = self.alternatives(depth + 1)
            if not self._take(")"):
                raise PatternError("a '(' is not closed")
            return part
        if character == "[":
            return _consuming(self._set())
        if character == ".":
            return _consuming(lambda _: True)
        if character == "\\":
            return _consuming(self._escape())
        if character in "*+?{":
            raise PatternError(f"'{character}' at {self.at} repeats nothing")
        if character in "^$":
            raise PatternError(f"'{character}' at {self.at}: a pattern describes the whole value; leave it out")
        return _consuming(lambda other: other == character)

    def _escape(self) -> _Test:
        character = self._next("'\\' at the end")
        if character in _CLASSES:
            return _CLASSES[character]
        if character.isalnum():
            raise PatternError(f"'\\{character}' is not supported")
        return lambda other: other == character

    def _set(self) -> _Test:
        inverted = self._take("^")
        tests: list[_Test] = []
        while True:
            character = self._next("a '[' is not closed")
            if character == "]" and tests:
                break
            if character == "\\":
                tests.append(self._escape())
                continue
            if self._peek() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                tests.append(_between(character, self._next("a '[' is not closed")))
            else:
                tests.append(_between(character, character))
        return lambda other: any(test(other) for test in tests) is not inverted

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self, character: str) -> bool:
        found = self._peek() == character
        self.at += found
        return found

    def _next(self, otherwise: str) -> str:
        if self.at >= len(self.text):
            raise PatternError(otherwise)
        self.at += 1
        return self.text[self.at - 1]


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


def _between(low: str, high: str) -> _Test:
    if high < low:
        raise PatternError(f"'{low}-{high}' runs backwards")
    return lambda other: low <= other <= high


def _is_digit(character: str) -> bool:
    return "0" <= character <= "9"


def _is_word(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())


def _is_space(character: str) -> bool:
    return character in " \t\n\r\f\v"


_CLASSES: dict[str, _Test] = {
    "d": _is_digit,
    "w": _is_word,
    "s": _is_space,
    "D": lambda character: not _is_digit(character),
    "W": lambda character: not _is_word(character),
    "S": lambda character: not _is_space(character),
}


def _consuming(test: _Test) -> _Part:
    def build(machine: _Machine, start: int) -> int:
        here, behind = machine.state(), machine.state()
        machine.free[start].append(here)
        machine.tests[here] = test
        machine.then[here] = behind
        return behind

    return build


def _one_after_another(parts: list[_Part]) -> _Part:
    def build(machine: _Machine, start: int) -> int:
        for part in parts:
            start = part(machine, start)
        return start

    return build


def _either(ways: list[_Part]) -> _Part:
    def build(machine: _Machine, start: int) -> int:
        behind = machine.state()
        for way in ways:
            first = machine.state()
            machine.free[start].append(first)
            machine.free[way(machine, first)].append(behind)
        return behind

    return build


def _repeat(part: _Part, least: int, most: int | None) -> _Part:
    def build(machine: _Machine, start: int) -> int:
        for _ in range(least):
            start = part(machine, start)
        if most is None:
            again = machine.state()
            machine.free[start].append(again)
            machine.free[part(machine, again)].append(again)
            return again
        behind = machine.state()
        machine.free[start].append(behind)
        for _ in range(most - least):
            start = part(machine, start)
            machine.free[start].append(behind)
        return behind

    return build
