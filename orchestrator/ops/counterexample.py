"""Why a history is wrong, in few words: the smallest part of it that still is, and where every order of it ends.

Owns: cutting a failing key down, and the text. Leaves to others: the verdict (``linearizability``). The rule: what is
cut away could not make a linearizable history wrong, so what is left is wrong by itself:

- the end: linearizability is closed under prefixes (what had not returned yet becomes an operation without an outcome);
- a read: every order of the rest with it is an order of the rest without it;
- a write whose value no operation that is left must find, as long as no miss is left, which may need any change.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from orchestrator.ops.history_columns import ABSENT, NEVER, NOTHING, OPS, Columns, Int64s
from orchestrator.ops.linear_search import Search, Step, Stuck, Verdict

MAX_LINES: Final = 20
SHRINK_STEPS: Final = 2_000_000
"""How many operations the searches for a smaller example may look at in all: some seconds."""


def steps(history: Columns, rows: Int64s) -> list[Step]:
    """These rows as steps of a search."""
    fields = (
        rows.tolist(),
        history.call[rows].tolist(),
        history.returned[rows].tolist(),
        history.known[rows].tolist(),
        history.wants[rows].tolist(),
        history.equal[rows].tolist(),
        history.gives[rows].tolist(),
    )
    return list(map(Step._make, zip(*fields, strict=True)))


# ---------------------------------------------------------------------------- shrinking


class _Shrinker:
    def __init__(self, initial: int) -> None:
        self._initial = initial
        self._left = SHRINK_STEPS

    def fails(self, part: Sequence[Step]) -> bool:
        """Whether it is surely not linearizable; False too when looking would take too long."""
        self._left -= len(part)
        if self._left < 0:
            return False
        limit = max(1_000, 4 * len(part))
        return Search(part, self._initial, limit=limit).run() is Verdict.NOT_LINEARIZABLE

    def prefix(self, whole: Sequence[Step]) -> Sequence[Step]:
        """The shortest beginning that fails."""
        ends = sorted(step.returned for step in whole if step.known)
        low, high = 0, len(ends) - 1
        while low < high:
            middle = (low + high) // 2
            if self.fails(_until(whole, ends[middle])):
                high = middle
            else:
                low = middle + 1
        return _until(whole, ends[low]) if ends else whole

    def shrink(self, whole: Sequence[Step]) -> Sequence[Step]:
        """Without what can be left out, in halves, quarters and so on ("delta debugging": Zeller, TSE 2002)."""
        kept = list(whole)
        size = len(kept)
        while size:
            # Latest first: the reason is near the end, and writes become removable when their readers are gone.
            for start in range((len(kept) - 1) // size * size, -1, -size):
                smaller = _without(kept, start, start + size)
                if len(smaller) < len(kept) and self.fails(smaller):
                    kept = smaller
            size //= 2
        return kept


def _until(whole: Sequence[Step], end: int) -> list[Step]:
    part = []
    for step in whole:
        if step.call > end:
            continue
        if not step.known or step.returned <= end:
            part.append(step)
        elif step.gives != NOTHING:
            part.append(step._replace(known=False, returned=NEVER))
    return part


def _without(kept: Sequence[Step], start: int, end: int) -> list[Step]:
    """Without the steps of this range that may be left out."""
    before, after = kept[:start], kept[end:]
    found = {step.wants for step in (*before, *after) if step.equal}
    missed = any(not step.equal for step in (*before, *after))
    writes = [step for step in kept[start:end] if step.gives != NOTHING]
    stay: set[int] = set()
    while more := [step for step in writes if step.row not in stay and (missed or step.gives in found)]:
        stay.update(step.row for step in more)
        found.update(step.wants for step in more)  # what a write that stays had to find stays, too
    return [*before, *(step for step in writes if step.row in stay), *after]


# ---------------------------------------------------------------------------- words


EXPLAIN_LIMIT: Final = 20_000
"""Configurations to try for the more readable of two reasons."""
BRIEF_LIMIT: Final = 1_000


def explain(history: Columns, whole: Sequence[Step], initial: int) -> str:
    """Why no order of ``whole`` explains its answers."""
    shrinker = _Shrinker(initial)
    part = shrinker.shrink(shrinker.prefix(whole))
    search = Search(part, initial, limit=EXPLAIN_LIMIT, look_ahead=False)
    if search.run() is not Verdict.NOT_LINEARIZABLE:
        search = Search(part, initial)
        search.run()
    lines = [f"No order of its operations explains every answer; these {len(part)} of {len(whole)} show it:"]
    shown = sorted(part, key=lambda step: step.call)
    if len(shown) > MAX_LINES:
        near = {step.row for step in (*search.stuck.next, *search.stuck.last)}
        others = [step for step in shown if step.row not in near]
        chosen = near.union(step.row for step in others[len(near) - MAX_LINES :])
        lines.append(f"  ({len(shown) - min(len(chosen), len(shown))} earlier ones are not shown)")
        shown = [step for step in shown if step.row in chosen]
    lines += _table(history, [step.row for step in shown], unknown={step.row for step in part if not step.known})
    lines += _reason(history, whole, initial, search.stuck)
    return "\n".join(lines)


def explain_briefly(history: Columns, whole: Sequence[Step], initial: int) -> str:
    """The same from where one search of all of it ends, without looking for a smaller part."""
    search = Search(whole, initial, limit=BRIEF_LIMIT, look_ahead=False)
    search.run()
    reason = _reason(history, whole, initial, search.stuck)
    return "\n".join([f"No order of its {len(whole)} operations explains every answer.", *reason])


def _reason(history: Columns, whole: Sequence[Step], initial: int, stuck: Stuck) -> Iterable[str]:
    for step in stuck.next:
        if not step.equal or step.wants in (NOTHING, initial):
            continue
        writers = [other for other in whole if other.gives == step.wants]
        if not writers:
            yield f"Nobody wrote {_value(history, step.wants)}, which {_name(history, step.row)} found."
            return
        if all(other.call > step.returned for other in writers):
            earliest = min(writers, key=lambda other: other.call)
            yield (
                f"{_name(history, step.row)} found {_value(history, step.wants)} and returned before "
                f"{_name(history, earliest.row)}, which writes it, was called."
            )
            return
    order = ", ".join(_name(history, step.row) for step in stuck.last)
    yield f"The longest order ends with {order}: " if stuck.last else "At the beginning "
    value = _value(history, stuck.value)
    yield f"  the value is {value}, and next must come one of " + ", ".join(
        f"{_name(history, step.row)} ({_obstacle(history, step, stuck.value)})" for step in stuck.next
    )


def _obstacle(history: Columns, step: Step, value: int) -> str:
    if not step.equal and step.wants == value:
        return "which missed it"
    if step.equal and step.wants not in (NOTHING, value):
        return f"which found {_value(history, step.wants)}"
    return "which leaves no value for what others found later"


def undecided(history: Columns, whole: Sequence[Step]) -> str:
    unknown = sum(not step.known for step in whole)
    return (
        f"The search gave up: its {len(whole)} operations ({unknown} without an outcome) overlap too much. Write "
        "unique values, use fewer clients on one key, and record the index of every answer."
    )


def duplicate(history: Columns, first: int, second: int, count: int) -> str:
    lines = [f"Two writes were told the same index{_one_of(count)}:", *_table(history, [first, second])]
    return "\n".join(lines)


def index_order(history: Columns, earlier: int, later: int, count: int = 1) -> str:
    """``earlier`` returned before ``later`` was called, but its index is not the smaller one."""
    lines = [
        f"The indexes contradict real time{_one_of(count)}: {_name(history, earlier)} returned before "
        f"{_name(history, later)} was called:",
        *_table(history, [earlier, later]),
    ]
    return "\n".join(lines)


def index_replay(history: Columns, stuck: Stuck) -> str:
    wrong = stuck.next[0]
    lines = [
        "Its operations are linearizable, but not in the order of their indexes. By those, "
        f"{_name(history, wrong.row)} comes when the value is {_value(history, stuck.value)}:",
        *_table(history, [*(step.row for step in stuck.last), wrong.row]),
    ]
    return "\n".join(lines)


def _one_of(count: int) -> str:
    return f" ({count} such operations in all)" if count > 1 else ""


def _table(history: Columns, rows: Sequence[int], unknown: Collection[int] = ()) -> Iterable[str]:
    """One line an operation; times in ms since the first call that is shown."""
    start = min(int(history.call[row]) for row in rows)
    spans = []
    for row in rows:
        returned = int(history.returned[row])
        end = "?" if returned == NEVER else f"{(returned - start) / 1e6:.3f}"
        spans.append(f"{(int(history.call[row]) - start) / 1e6:.3f} to {end} ms")
    width = max(map(len, spans))
    keys = len({int(history.key[row]) for row in rows}) > 1
    for row, span in zip(rows, spans, strict=True):
        key = f"{history.keys[int(history.key[row])]}: " if keys else ""
        index = f", index {history.index[row]}" if history.index[row] > 0 else ""
        outcome = ", outcome unknown" if not history.known[row] else ""
        if row in unknown and not outcome:
            outcome = ", not over yet"
        yield (
            f"  {_name(history, row):<12} {span:<{width}}  process {history.process[row]}: "
            f"{key}{_action(history, row)}{index}{outcome}"
        )


def _name(history: Columns, row: int) -> str:
    return f"{history.numbered} {history.number[row]}"


def _action(history: Columns, row: int) -> str:
    op = OPS[int(history.op[row])]
    wants, gives = _value(history, int(history.wants[row])), _value(history, int(history.gives[row]))
    if op == "get":
        return f"get found {wants}"
    if not history.equal[row]:
        return f"{op} expecting {wants} missed"
    expecting = f" expecting {wants}" if history.wants[row] != NOTHING else ""
    if history.gives[row] == NOTHING:
        return f"{op}{expecting} changed nothing"
    return f"{op}{expecting}" if op == "delete" else f"{op} {gives}{expecting}"


def _value(history: Columns, number: int) -> str:
    if number in (ABSENT, NOTHING):
        return "absent"
    text = json.dumps(history.values[number], ensure_ascii=False)
    return text if len(text) <= 42 else f"{text[:38]}...{text[-1]}"
