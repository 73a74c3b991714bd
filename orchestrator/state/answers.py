"""Exactly once: the first outcome of every request, so that a repeated one gets it again and does nothing.

Owns: the remembered outcomes, oldest first, and their bounds in number, age and bytes. The rule: what is remembered and
when it is forgotten follow from the log alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.contract.model import Limits
from orchestrator.state.commands import Applied, JobsAnswer, Outcome, PlanAnswer, Rejected, VariableAnswer

Key = tuple[str, str]
"""(identity, request id): a request id means something only together with who chose it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    digest: bytes
    time_ms: int  # cluster time of the first application
    outcome: Outcome


class Answers:
    """Remembered outcomes by (identity, request id), in the order of their application."""

    __slots__ = ("_bytes", "_kept", "_order", "_start")

    def __init__(self, kept: Iterable[tuple[Key, Remembered]] = ()) -> None:
        # A list beside the dict: a dict takes ever longer to find its first entry when entries leave at the front, and
        # copying an ordered one takes a hundred times as long as copying a list.
        self._order = list(kept)  # from ``_start`` on, oldest first
        self._start = 0
        self._kept: dict[Key, Remembered] = dict(self._order)
        self._bytes = sum(_size(remembered) for remembered in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Remembered | None:
        return self._kept.get(key)

    def put(self, key: Key, remembered: Remembered, limits: Limits) -> None:
        """Remember the outcome of a request that is not remembered yet."""
        self._kept[key] = remembered
        self._order.append((key, remembered))
        self._bytes += _size(remembered)
        self.expire(remembered.time_ms, limits)

    def expire(self, now_ms: int, limits: Limits) -> int:
        """Forget the oldest ones that are over a limit; returns how many."""
        forgotten = 0
        oldest_ms = now_ms - limits.answer_age_ms
        while self._kept:
            key, remembered = self._order[self._start]
            if not self._over(remembered, oldest_ms, limits):
                break
            del self._kept[key]
            self._start += 1
            self._bytes -= _size(remembered)
            forgotten += 1
        if self._start > len(self._order) // 2:
            # Moving the list at every command would cost more than the commands.
            del self._order[: self._start]
            self._start = 0
        return forgotten

    def has_expired(self, now_ms: int, limits: Limits) -> bool:
        return bool(self._kept) and self._over(self._order[self._start][1], now_ms - limits.answer_age_ms, limits)

    def items(self) -> list[tuple[Key, Remembered]]:
        """A copy, oldest first."""
        return self._order[self._start :]

    def _over(self, oldest: Remembered, oldest_ms: int, limits: Limits) -> bool:
        return len(self._kept) > limits.answers or self._bytes > limits.answer_bytes or oldest.time_ms < oldest_ms


def _size(remembered: Remembered) -> int:
    """Roughly what it takes in memory; only the parts that a caller can make large count."""
    base = 300
    outcome = remembered.outcome
    answer = outcome.answer if isinstance(outcome, Applied) else outcome
    match answer:
        case VariableAnswer():
            variable = answer.variable
            return base + (len(variable.value) + len(variable.name) if variable else 0)
        case JobsAnswer():
            return base + 150 * len(answer.jobs)
        case PlanAnswer():
            return base + sum(map(len, answer.rejected))
        case Rejected():
            return base + len(answer.message)
        case _:
            return base
