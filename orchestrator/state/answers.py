"""Exactly once: the first outcome of every request, so that a repeated one gets it again and does nothing.

Owns: the remembered outcomes, oldest first, and their bounds in number, age and bytes. The rule: what is remembered and
when it is forgotten follow from the log alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from orchestrator.contract.model import Limits
from orchestrator.contract.quick import quick_init
from orchestrator.state.commands import Applied, JobsAnswer, Outcome, PlanAnswer, Rejected, VariableAnswer

DROPPED_PART = 16
"""One part in so many of what is held has been forgotten, at most: it takes as much memory as what counts."""

Key = tuple[str, str]
"""(identity, request id): a request id means something only together with who chose it."""


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    digest: bytes
    time_ms: int  # cluster time of the first application
    outcome: Outcome


Unread = Callable[[], Remembered]
"""What makes one that came with a snapshot, for as long as nobody asks for it. Few are ever asked for, and to look at
all 100,000 at a start would take a third of its time. Making one never fails."""
Kept = Remembered | Unread


def read(kept: Kept) -> Remembered:
    return kept if isinstance(kept, Remembered) else kept()


class Answers:
    """Remembered outcomes by (identity, request id), in the order of their application."""

    __slots__ = ("_bytes", "_kept", "_order", "_start")

    def __init__(self, kept: Iterable[tuple[Key, Kept]] = (), *, counted: int | None = None) -> None:
        """``counted``: ``bytes`` of these, where it is known; else each is read."""
        # A list beside the dict: a dict takes ever longer to find its first entry when entries leave at the front, and
        # copying an ordered one takes a hundred times as long as copying a list.
        self._order = list(kept)  # from ``_start`` on, oldest first
        self._start = 0
        self._kept: dict[Key, Kept] = dict(self._order)
        self._bytes = counted if counted is not None else sum(_size(read(one)) for one in self._kept.values())

    @property
    def bytes(self) -> int:
        """What they count against ``Limits.answer_bytes``."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Remembered | None:
        kept = self._kept.get(key)
        return None if kept is None else read(kept)

    def put(self, key: Key, remembered: Remembered, limits: Limits) -> None:
        """Remember the outcome of a request that is not remembered yet."""
        kept, order = self._kept, self._order
        kept[key] = remembered
        order.append((key, remembered))
        self._bytes += _size(remembered)
        # What ``has_expired`` asks, without its calls: at every command ``expire`` would find nothing nearly always.
        oldest = order[self._start][1]
        if (
            len(kept) > limits.answers
            or self._bytes > limits.answer_bytes
            or not isinstance(oldest, Remembered)
            or oldest.time_ms < remembered.time_ms - limits.answer_age_ms
        ):
            self.expire(remembered.time_ms, limits)

    def expire(self, now_ms: int, limits: Limits) -> int:
        """Forget the oldest ones that are over a limit; returns how many."""
        forgotten = 0
        oldest_ms = now_ms - limits.answer_age_ms
        while self._kept:
            key, oldest = self._oldest()
            if not self._over(oldest, oldest_ms, limits):
                break
            del self._kept[key]
            self._start += 1
            self._bytes -= _size(oldest)
            forgotten += 1
        if self._start > len(self._order) // DROPPED_PART:
            # Moving the list at every command would cost more than the commands.
            del self._order[: self._start]
            self._start = 0
        return forgotten

    def has_expired(self, now_ms: int, limits: Limits) -> bool:
        return bool(self._kept) and self._over(self._oldest()[1], now_ms - limits.answer_age_ms, limits)

    def items(self) -> list[tuple[Key, Kept]]:
        """A copy, oldest first."""
        return self._order[self._start :]

    def _oldest(self) -> tuple[Key, Remembered]:
        key, kept = self._order[self._start]
        if not isinstance(kept, Remembered):  # once: it is looked at with every command
            kept = kept()
            self._order[self._start] = (key, kept)
            self._kept[key] = kept
        return key, kept

    def _over(self, oldest: Remembered, oldest_ms: int, limits: Limits) -> bool:
        return len(self._kept) > limits.answers or self._bytes > limits.answer_bytes or oldest.time_ms < oldest_ms


def _size(remembered: Remembered) -> int:
    outcome = remembered.outcome
    answer = outcome.answer if isinstance(outcome, Applied) else outcome
    larger = _LARGER.get(type(answer))
    return BASE_BYTES if larger is None else BASE_BYTES + larger(answer)


BASE_BYTES = 300
"""Roughly what an answer takes in memory, where no caller can make it larger."""


def _of_variable(answer: Any) -> int:
    variable = answer.variable
    return len(variable.value) + len(variable.name) if variable else 0


_LARGER: dict[type, Callable[[Any], int]] = {
    VariableAnswer: _of_variable,
    JobsAnswer: lambda answer: 150 * len(answer.jobs),
    PlanAnswer: lambda answer: sum(map(len, answer.rejected)),
    Rejected: lambda answer: len(answer.message),
}
"""What is beyond that, by kind of answer."""
