"""``Life``: what a cluster's history is worth that begins anew, from a backup or from one surviving disk.

Owns: which life an operation belongs to, and the judgement of each. Leaves to others: restoring (``drill_rescue``), the
checker (``linearizability``). The rule: what the tool stated is held against what clients were told. Up to the stated
index everything acknowledged is promised; behind it nothing is; and the next life begins with exactly that state.

Indexes tell the lives apart: each begins at the next multiple of ``INDEX_STEP`` (``state.renewal``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.ops.history import Operation, Value
from orchestrator.ops.linearizability import Report, Violation, check_history
from orchestrator.state.renewal import INDEX_STEP
from orchestrator.state.state import State

AUDITOR = 1_000_000
"""The process that reads the state at the end of a life; no client has that number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """How one life ended: ``index`` is what the tool stated, ``values`` the variables of that state by name, ``end_ns``
    (monotonic) just before the end of the old life."""

    index: int
    values: Mapping[str, str]
    end_ns: int

    @classmethod
    def ended(cls, state: State, *, index: int, end_ns: int) -> Life:
        values = {name: variable.value for (space, name), variable in state.variables.items() if space == "default"}
        return cls(index=index, values=values, end_ns=end_ns)

    @property
    def next_index(self) -> int:
        """Where the next life begins."""
        return (self.index // INDEX_STEP + 1) * INDEX_STEP

    def gives_up(self, index: int) -> bool:
        """Whether a write acknowledged at that index was not promised to outlive it."""
        return self.index < index < self.next_index


def check_lives(operations: Sequence[Operation], lives: Sequence[Life]) -> Report:
    """The history judged life by life, and the state that each left to the next against what was promised of it.

    An operation belongs to the life of its index; one of unknown outcome or without an index may have happened in any.
    """
    found: list[Violation] = []
    initial: Mapping[str, Value] = {}
    searched = 0
    for number in range(len(lives) + 1):
        mine = [one for one in operations if _may_be_in(one, lives, number)]
        reports = [check_history(mine, initial)]
        if number < len(lives):
            life = lives[number]
            kept = [one for one in mine if one.index <= life.index]
            reports.append(check_history([*kept, *_left(mine, life)], initial))
            initial = life.values
        for what, report in zip(("", ", in what the next one began with"), reports, strict=False):
            searched += report.searched
            where = f" (life {number + 1}{what})" if lives else ""
            found += [
                Violation(key=one.key + where, kind=one.kind, explanation=one.explanation) for one in report.violations
            ]
    return Report(
        operations=len(operations),
        unknown=sum(one.ok is None for one in operations),
        keys=len({one.key for one in operations}),
        violations=tuple(found),
        searched=searched,
    )


def _may_be_in(one: Operation, lives: Sequence[Life], number: int) -> bool:
    if one.ok is False:
        return False
    if one.ok is None or not one.index:
        return True
    begins = lives[number - 1].next_index if number else 0
    return begins <= one.index and (number == len(lives) or one.index < lives[number].next_index)


def _left(operations: Iterable[Operation], life: Life) -> list[Operation]:
    """Reads of every key at the stated index, over when everything is."""
    operations = list(operations)
    over_ns = max([life.end_ns, *(one.return_ns for one in operations)]) + 1
    return [
        Operation(
            process=AUDITOR, op="get", key=key, value=life.values.get(key), ok=True, hit=key in life.values,
            index=life.index, call_ns=life.end_ns, return_ns=over_ns,
        )
        for key in sorted({one.key for one in operations})
    ]  # fmt: skip
