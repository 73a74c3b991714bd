"""Whether a client history is linearizable, and whether the log's indexes tell the truth about it.

Owns: the verdict. Every key is a register of its own (linearizability is compositional: Herlihy and Wing, TOPLAS 1990).
The indexes that answers carried are a witness: where they give an order that explains every answer and agrees with
real time, the key is linearizable and needs no search, for all keys together in a few passes over arrays. Where they
do not, the search decides (``linear_search``); indexes that contradict a linearizable key are a violation of their own.

Leaves to others: files (``history_file``), words (``counterexample``). The rule: pure, and never "linearizable" without
an order that shows it; two operations are in real-time order only when one returned strictly before the other's call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from orchestrator.ops import counterexample
from orchestrator.ops.history import Operation, Value
from orchestrator.ops.history_columns import ABSENT, NOTHING, Columns, Int64s, columns
from orchestrator.ops.linear_search import Search, Step, Verdict

Kind = Literal["not-linearizable", "undecided", "duplicate-index", "index-order", "index-replay"]
"""``undecided``: the search gave up. ``duplicate-index``: one index, two writes. ``index-order``: an operation that
returned before another's call has the larger index. ``index-replay``: the writes by index do not explain an answer."""

MAX_TOLD: Final = 20
"""Keys whose first wrong index is explained; the others are counted. A log that lies once often lies everywhere."""
MAX_SHOWN: Final = 5
"""Keys without an order of which the smallest part that shows it is looked for; that takes a third of a second for
10,000 operations, and of the others it is said where an order ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    key: str
    kind: Kind
    explanation: str  # several lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    operations: int  # in the history
    unknown: int  # of them, those whose outcome is unknown
    keys: int
    violations: Sequence[Violation]
    searched: int  # keys that their indexes did not prove

    @property
    def ok(self) -> bool:
        return not self.violations


def check_history(operations: Iterable[Operation], initial: Mapping[str, Value] | None = None) -> Report:
    """Judge a history in memory. ``initial``: the values at its beginning; keys that are not in it were absent.

    Raises ``ValueError`` for an operation that returned before it was called.
    """
    return check_columns(columns(operations), initial)


def check_columns(history: Columns, initial: Mapping[str, Value] | None = None) -> Report:
    """Judge a history; see ``check_history``."""
    history, starts = _with_initial(history, initial or {})
    unproven = _unproven(history, starts)
    violations = list(_duplicates(history))
    for key, rows in zip(unproven.tolist(), _rows_of(history, unproven), strict=True):
        shown = sum(violation.kind == "not-linearizable" for violation in violations)
        violations += _judge(history, history.keys[key], rows, int(starts[key]), brief=shown >= MAX_SHOWN)
    violations += _order_across_keys(history, {violation.key for violation in violations})
    return Report(
        operations=history.operations,
        unknown=history.unknown,
        keys=len(history.keys),
        violations=tuple(violations),
        searched=len(unproven),
    )


def _with_initial(history: Columns, initial: Mapping[str, Value]) -> tuple[Columns, Int64s]:
    """The history, with names for the initial values too; and the number of each key's initial value."""
    starts = np.full(len(history.keys), ABSENT, np.int64)
    if not initial:
        return history, starts
    numbers = {value: number for number, value in enumerate(history.values)}
    for key, name in enumerate(history.keys):
        starts[key] = numbers.setdefault(initial.get(name), len(numbers))
    return dataclasses.replace(history, values=tuple(numbers)), starts


# ---------------------------------------------------------------------------- the witness


def _unproven(history: Columns, starts: Int64s) -> Int64s:
    """The keys that are not shown to be linearizable by taking the known operations in the order of their indexes.

    A write comes before the reads at its index, and reads at one index come by call. An operation whose outcome is
    unknown may never have happened; it is put where it explains something, if that is easy, and left out otherwise.
    """
    reads = history.gives == NOTHING
    rows = np.flatnonzero(history.known)
    rows = rows[np.lexsort((history.call[rows], reads[rows], history.index[rows], history.key[rows]))]
    key, gives, wants = history.key[rows], history.gives[rows], history.wants[rows]
    place = np.arange(len(rows))
    first = np.searchsorted(key, key)  # where the rows of the same key begin
    latest_write = np.maximum.accumulate(np.where(gives != NOTHING, place, -1))
    before = np.concatenate(([-1], latest_write[:-1])) if len(rows) else latest_write
    found = np.where(before >= first, gives[before], starts[key])
    explained = (wants == NOTHING) | ((found == wants) == history.equal[rows])
    earliest = _earliest_return_from(history.returned[rows], key)
    in_time = history.call[rows] <= earliest
    unproven = set(key[~in_time | (history.index[rows] <= 0)].tolist())
    odd = np.flatnonzero(~explained)
    free = _unknown_by_key(history, set(key[odd].tolist()) - unproven)
    done = 0
    for at, of in zip(odd.tolist(), key[odd].tolist(), strict=True):
        if at >= done and of not in unproven:
            done = _mended(history, rows, at, int(found[at]), int(earliest[at]), free[of])
            if not done:
                unproven.add(of)
    return np.array(sorted(unproven), np.int64)


def _unknown_by_key(history: Columns, keys: Collection[int]) -> dict[int, list[Step]]:
    """The operations without an outcome on these keys, by call."""
    free: dict[int, list[Step]] = {key: [] for key in keys}
    if free:
        rows = np.flatnonzero(~history.known)
        rows = rows[np.argsort(history.call[rows])]
        for key, step in zip(history.key[rows].tolist(), counterexample.steps(history, rows), strict=True):
            if key in free:
                free[key].append(step)
    return free


def _mended(history: Columns, rows: Int64s, at: int, value: int, earliest: int, free: list[Step]) -> int:
    """Try to explain what place ``at`` found by writes without an outcome just before it, and so on to the next write.

    Takes what it uses from ``free``. Returns the place behind that write, or 0 where this simple way fails.
    """
    key = history.key[rows[at]]
    while at < len(rows) and history.key[rows[at]] == key:
        row = rows[at]
        wants, equal = int(history.wants[row]), bool(history.equal[row])
        if wants != NOTHING and (wants == value) != equal:
            for step in free:
                # It may stand here when nothing from here on returned before its call; so further on, too.
                if step.call <= earliest and (step.gives == wants) == equal and step.wants in (NOTHING, value):
                    break
            else:
                return 0
            free.remove(step)
            value = step.gives
        at += 1
        if history.gives[row] != NOTHING:
            break
    return at


def _earliest_return_from(returned: Int64s, group: Int64s) -> Int64s:
    """For each row the least of ``returned`` from there to the last row of its group; groups ascend."""
    if not len(returned):
        return returned
    by_return = np.sort(returned)
    # Ranks of a later group are all greater than those of an earlier one, so the running minimum stays in its group.
    rank = np.searchsorted(by_return, returned) + group * len(returned)
    least = np.minimum.accumulate(rank[::-1])[::-1] - group * len(returned)
    earliest: Int64s = by_return[least]
    return earliest


def _rows_of(history: Columns, keys: Int64s) -> Iterator[Int64s]:
    """The rows of each of these keys, in the history's order."""
    if not len(keys):
        return
    by_key = np.argsort(history.key, kind="stable")
    sorted_keys = history.key[by_key]
    for start, end in zip(np.searchsorted(sorted_keys, keys), np.searchsorted(sorted_keys, keys, "right"), strict=True):
        yield by_key[start:end]


# ---------------------------------------------------------------------------- one key by itself


def _judge(history: Columns, key: str, rows: Int64s, start: int, *, brief: bool) -> Iterator[Violation]:
    """What is wrong with a key that its indexes did not prove."""
    steps = counterexample.steps(history, rows)
    search = Search(steps, start)
    match search.run():
        case Verdict.NOT_LINEARIZABLE:
            told = counterexample.explain_briefly if brief else counterexample.explain
            text = told(history, steps, start)
            yield Violation(key=key, kind="not-linearizable", explanation=text)
        case Verdict.GAVE_UP:
            yield Violation(key=key, kind="undecided", explanation=counterexample.undecided(history, steps))
        case Verdict.LINEARIZABLE:
            known = rows[history.known[rows]]
            if np.all(history.index[known] > 0):  # with gaps it is no witness
                yield from _lie(history, key, rows, start)


def _lie(history: Columns, key: str, rows: Int64s, start: int) -> Iterator[Violation]:
    """Where the indexes of a linearizable key contradict real time or its answers."""
    known = rows[history.known[rows]]
    known = known[np.lexsort((history.call[known], history.gives[known] == NOTHING, history.index[known]))]
    earliest = _earliest_return_from(history.returned[known], np.zeros(len(known), np.int64))
    late = np.flatnonzero(history.call[known] > earliest)
    if len(late):
        at = int(late[0])
        other = known[at + int(np.argmin(history.returned[known[at:]]))]
        text = counterexample.index_order(history, int(other), int(known[at]))
        yield Violation(key=key, kind="index-order", explanation=text)
        return
    # The same search, with the place in the log for time. A write without an outcome has a place that nobody knows: it
    # may stand wherever everything behind it returned after its call.
    steps = {step.row: step for step in counterexample.steps(history, rows)}
    placed = [steps[row]._replace(call=at, returned=at) for at, row in enumerate(known.tolist())]
    for row in rows[~history.known[rows]].tolist():
        at = int(np.searchsorted(earliest, steps[row].call))
        placed.append(steps[row]._replace(call=at))
    search = Search(placed, start)
    if search.run() is Verdict.NOT_LINEARIZABLE:
        text = counterexample.index_replay(history, search.stuck)
        yield Violation(key=key, kind="index-replay", explanation=text)


# ---------------------------------------------------------------------------- one log


def _indexed_writes(history: Columns) -> Int64s:
    """Rows of the known writes that carry an index, in the order of those."""
    rows = np.flatnonzero(history.known & (history.gives != NOTHING) & (history.index > 0))
    by_index: Int64s = rows[np.argsort(history.index[rows], kind="stable")]
    return by_index


def _duplicates(history: Columns) -> Iterator[Violation]:
    rows = _indexed_writes(history)
    index = history.index[rows]
    again = np.flatnonzero(index[1:] == index[:-1]) + 1
    for at in _first_of_each(history.key[rows[again]]):
        first, second = int(rows[again[at] - 1]), int(rows[again[at]])
        text = counterexample.duplicate(history, first, second, len(again))
        yield Violation(key=history.keys[int(history.key[second])], kind="duplicate-index", explanation=text)


def _order_across_keys(history: Columns, told: set[str]) -> Iterator[Violation]:
    """Writes of different keys stand in one log: their indexes must agree with real time, too."""
    rows = _indexed_writes(history)
    returned, call = history.returned[rows], history.call[rows]
    earliest = _earliest_return_from(returned, np.zeros(len(rows), np.int64))
    late = np.flatnonzero(call > earliest)
    late = late[np.fromiter((history.keys[key] not in told for key in history.key[rows[late]]), np.bool_, len(late))]
    for at in _first_of_each(history.key[rows[late]]):
        place = int(late[at])
        other = place + int(np.argmin(returned[place:]))
        text = counterexample.index_order(history, int(rows[other]), int(rows[place]), len(late))
        yield Violation(key=history.keys[int(history.key[rows[place]])], kind="index-order", explanation=text)


def _first_of_each(key: Int64s) -> list[int]:
    """Where each key stands first, in order of these places; at most ``MAX_TOLD``."""
    _, first = np.unique(key, return_index=True)
    places: list[int] = np.sort(first)[:MAX_TOLD].tolist()
    return places
