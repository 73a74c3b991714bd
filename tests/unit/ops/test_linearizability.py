"""The checker finds every wrong history and no right one: by hand, against every order, and on simulated registers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.ops import counterexample
from orchestrator.ops.history import Operation, Value
from orchestrator.ops.history_columns import columns
from orchestrator.ops.linear_search import Search, Verdict
from orchestrator.ops.linearizability import MAX_SHOWN, Kind, check_history
from tests.effort import examples, seeds
from tests.unit.ops.histories import explained, operation, recorded


def kinds(operations: Sequence[Operation]) -> list[Kind]:
    return [violation.kind for violation in check_history(operations).violations]


WRONG: dict[str, list[Operation]] = {
    "stale read": [
        operation("put", "a", 0, 1, index=1),
        operation("put", "b", 2, 3, index=2),
        operation("get", "a", 4, 5, index=2),
    ],
    "stale read that owns up to its index": [
        operation("put", "a", 0, 1, index=1),
        operation("put", "b", 2, 3, index=2),
        operation("get", "a", 4, 5, index=1),
    ],
    "lost write": [operation("put", "a", 0, 1, index=1), operation("get", None, 2, 3, index=1)],
    "lost write, noticed by a create": [
        operation("cas", "a", 0, 1, expect=None, index=1),
        operation("cas", "b", 2, 3, expect=None, index=2),
    ],
    "double compare-and-set": [
        operation("put", "a", 0, 1, index=1),
        operation("cas", "b", 2, 9, expect="a", index=2),
        operation("cas", "c", 3, 9, expect="a", index=3),
    ],
    "duplicate application": [
        operation("put", "a", 0, 1),
        operation("put", "b", 2, 3),
        operation("get", "b", 4, 5),
        operation("get", "a", 6, 7),
    ],
    "duplicate application of a write without an outcome": [
        operation("put", "a", 0, 1, ok=None),
        operation("get", "a", 2, 3),
        operation("put", "b", 4, 5),
        operation("get", "b", 6, 7),
        operation("get", "a", 8, 9),
    ],
    "read from the future": [operation("get", "a", 0, 1), operation("put", "a", 2, 3)],
    "read of a future write without an outcome": [operation("get", "a", 0, 1), operation("put", "a", 2, 3, ok=None)],
    "read of what nobody wrote": [operation("put", "a", 0, 1), operation("get", "x", 0, 1)],
    "read of what certainly did not happen": [operation("put", "a", 0, 1, ok=False), operation("get", "a", 2, 3)],
    "resurrected delete": [
        operation("put", "a", 0, 1),
        operation("delete", None, 2, 3),
        operation("get", None, 4, 5),
        operation("get", "a", 6, 7),
    ],
    "delete that hit what it should not": [
        operation("put", "a", 0, 1),
        operation("delete", None, 2, 3, expect="b", hit=True),
    ],
    "delete that missed what was there": [
        operation("put", "a", 0, 1),
        operation("delete", None, 2, 3, expect="a", hit=False),
    ],
    "compare-and-set that says hit": [
        operation("put", "a", 0, 1, index=1),
        operation("cas", "c", 2, 3, expect="b", hit=True, index=2),
    ],
    "compare-and-set that says missed": [
        operation("put", "a", 0, 1, index=1),
        operation("cas", "c", 2, 3, expect="a", hit=False, index=2),
        operation("get", "a", 4, 5, index=2),
    ],
    "missed compare-and-set that wrote all the same": [
        operation("put", "a", 0, 1),
        operation("cas", "c", 2, 3, expect="b", hit=False),
        operation("get", "c", 4, 5),
    ],
    "two readers that disagree about the order": [
        operation("put", "a", 0, 99),
        operation("put", "b", 0, 99),
        operation("get", "a", 1, 2, process=1),
        operation("get", "b", 3, 4, process=1),
        operation("get", "a", 5, 6, process=2),
    ],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_history_is_found(name: str) -> None:
    assert not explained(WRONG[name])
    report = check_history(WRONG[name])
    assert [violation.kind for violation in report.violations] == ["not-linearizable"]
    assert report.violations[0].key == "k"


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_history_is_found_among_many_right_operations(name: str) -> None:
    """Beside other keys, and behind a long past of its own key."""
    past = [replace(one, index=0) for one in recorded(random.Random(1), 300, keys=("k", "m", "n"), unknown=0.02)]
    end = max(one.return_ns for one in past) + 1
    wrong = [replace(one, call_ns=one.call_ns + end + 2, return_ns=one.return_ns + end + 2) for one in WRONG[name]]
    clear = operation("delete", None, end, end + 1)
    (violation,) = check_history([*past, clear, *wrong]).violations
    assert (violation.key, violation.kind) == ("k", "not-linearizable")


def test_of_many_wrong_keys_the_first_are_cut_down_and_the_others_told_from_where_an_order_ends() -> None:
    """A log that lies everywhere must not take minutes: cutting down takes most of the time."""
    operations = []
    for number in range(MAX_SHOWN + 2):
        operations += [replace(one, key=f"k{number}", index=0) for one in WRONG["stale read"]]
    texts = [violation.explanation for violation in check_history(operations).violations]
    assert ["of 3 show it" in text for text in texts] == [True] * MAX_SHOWN + [False] * 2
    assert texts[-1].splitlines() == [
        "No order of its 3 operations explains every answer.",
        "The longest order ends with operation 19, operation 20: ",
        '  the value is "b", and next must come one of operation 21 (which found "a")',
    ]


BUILT_UPON = [  # only the second order of the two puts explains y, and then x takes both writes without an outcome
    operation("put", "w", 0, 9),
    operation("put", "y", 0, 8),
    operation("put", "w", 0, 1, ok=None),
    operation("cas", "x", 0, 1, expect="w", ok=None),
    operation("get", "y", 10, 19),
    operation("get", "x", 10, 19),
    operation("put", "y", 30, 31, ok=None),
]

RIGHT: dict[str, list[Operation]] = {
    "of two writes without an outcome the later one came first": [
        operation("put", "a", 0, 1, ok=None),
        operation("put", "b", 1, 2, ok=None),
        operation("get", "a", 3, 9),
        operation("get", "b", 3, 9),
        operation("get", "a", 10, 11),
    ],
    "nothing": [],
    "only what did not happen": [operation("put", "a", 0, 1, ok=False)],
    "overlapping reads may see before and after": [
        operation("put", "a", 0, 9),
        operation("get", None, 1, 2),
        operation("get", "a", 3, 4),
    ],
    "an unknown write may take effect late": [
        operation("put", "a", 0, 1, ok=None),
        operation("put", "b", 2, 3),
        operation("get", "b", 4, 5),
        operation("get", "a", 6, 7),
    ],
    "an unknown write may never take effect": [
        operation("put", "a", 0, 1, ok=None),
        operation("get", None, 2, 3),
        operation("cas", "b", 4, 5, expect=None),
    ],
    "an unknown write may only be the reason of a miss": [
        operation("put", "a", 0, 1),
        operation("put", "x", 2, 3, ok=None),
        operation("cas", "b", 4, 5, expect="a", hit=False),
        operation("get", "x", 6, 7),
    ],
    "an unknown write may be all that makes a miss one": [
        operation("put", "a", 0, 1, ok=None),
        operation("delete", None, 2, 3, expect=None, hit=False),
    ],
    "an unknown write that was tried too early is tried again": [
        operation("cas", "a", 0, 1, expect=None, ok=None),
        operation("cas", "b", 0, 9, expect="a"),
        operation("put", "x", 4, 9, ok=None),
        operation("get", "x", 4, 5),
    ],
    "of two unknown writes that explain a miss one is found later": [
        operation("put", "a", 0, 1),
        operation("put", "x", 2, 3, ok=None),
        operation("put", "y", 2, 3, ok=None),
        operation("cas", "b", 4, 5, expect="a", hit=False),
        operation("put", "c", 6, 7),
        operation("get", "x", 8, 9),
    ],
    "of two unknown writes that explain a miss one alone explains the next": [
        operation("put", "a", 0, 1),
        operation("put", "y", 2, 3, ok=None),
        operation("cas", "z", 3, 4, expect="a", ok=None),
        operation("cas", "q", 5, 6, expect="a", hit=False),
        operation("put", "b", 7, 8),
        operation("cas", "q", 9, 10, expect="b", hit=False),
    ],
    "of two unknown writes that explain a miss one would break the next": [
        operation("put", "a", 0, 1),
        operation("put", "y", 2, 3, ok=None),
        operation("put", "z", 2, 3, ok=None),
        operation("cas", "q", 4, 5, expect="a", hit=False),
        operation("cas", "q", 6, 7, expect="y", hit=False),
        operation("put", "b", 8, 9),
        operation("cas", "q", 10, 11, expect="b", hit=False),
    ],
    "unknown writes may build on each other": [
        operation("put", "a", 0, 1, ok=None),
        operation("cas", "b", 2, 3, expect="a", ok=None),
        operation("delete", None, 4, 5, expect="b", ok=None),
        operation("get", None, 6, 7),
        operation("get", "b", 8, 9),
        operation("get", None, 10, 11),
    ],
    "an unknown write that was tried in vain is built upon elsewhere": BUILT_UPON,
    "and so is one of two that want the same": [*BUILT_UPON, operation("cas", "z", 30, 31, expect="w", ok=None)],
    "an unknown read says nothing": [operation("get", "x", 0, 1, ok=None)],
    "deleting what is absent": [operation("delete", None, 0, 1), operation("delete", None, 2, 3, expect=None)],
    "a swap of a value for itself": [
        operation("put", "a", 0, 1),
        operation("cas", "a", 2, 3, expect="a"),
        operation("get", "a", 4, 5),
    ],
    "a put says nothing about what was there": [operation("put", "a", 0, 1, hit=False), operation("get", "a", 2, 3)],
    "a write that returns when a read is called overlaps it": [
        operation("put", "a", 0, 5),
        operation("get", None, 5, 6),
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_history_is_left_alone(name: str) -> None:
    assert explained(RIGHT[name])
    assert kinds(RIGHT[name]) == []


LYING: dict[str, tuple[Kind, list[Operation]]] = {
    "one index, two writes": (
        "duplicate-index",
        [operation("put", "a", 0, 1, index=7), operation("put", "b", 2, 3, index=7)],
    ),
    "one index, writes of two keys": (
        "duplicate-index",
        [operation("put", "a", 0, 1, index=7), operation("put", "b", 2, 3, index=7, key="other")],
    ),
    "indexes against real time": (
        "index-order",
        [
            operation("put", "a", 0, 1, index=2),
            operation("put", "b", 2, 3, index=1),
            operation("get", "b", 4, 5, index=2),
        ],
    ),
    "a read at an older index, that saw the same": (
        "index-order",
        [
            operation("put", "a", 0, 1, index=2),
            operation("get", "a", 2, 3, index=4),
            operation("get", "a", 4, 5, index=3),
        ],
    ),
    "writes of two keys against real time": (
        "index-order",
        [operation("put", "a", 0, 1, index=2), operation("put", "b", 2, 3, index=1, key="other")],
    ),
    "a read at an index before the write that it saw": (
        "index-replay",
        [operation("put", "a", 0, 9, index=5), operation("get", "a", 1, 9, index=4)],
    ),
    "concurrent writes by index the other way round": (
        "index-replay",
        [
            operation("put", "a", 0, 9, index=1),
            operation("put", "b", 0, 9, index=2),
            operation("get", "a", 10, 11, index=2),
        ],
    ),
}


@pytest.mark.parametrize("name", LYING)
def test_an_index_that_lies_about_a_linearizable_history_is_a_violation_of_its_own(name: str) -> None:
    kind, operations = LYING[name]
    assert kinds(operations) == [kind]
    assert kinds([replace(one, index=0) for one in operations]) == []


def test_a_write_without_an_outcome_may_stand_anywhere_in_the_log() -> None:
    operations = [
        operation("put", "a", 0, 1, index=1),
        operation("put", "x", 2, 3, ok=None),
        operation("get", "a", 4, 5, index=1),
        operation("get", "x", 6, 7, index=3),
        operation("put", "b", 8, 9, index=4),
    ]
    report = check_history(operations)
    assert report.ok
    assert report.searched == 0, "easy to put in place: no search"


def test_initial_values_hold_until_the_first_write() -> None:
    operations = [operation("get", "old", 0, 1), operation("get", None, 0, 1, key="other")]
    assert check_history(operations, {"k": "old"}).ok
    assert not check_history(operations, {"k": "older"}).ok
    assert not check_history(operations).ok


def test_the_report_counts_operations_keys_and_unknown_outcomes() -> None:
    operations = [
        operation("put", "a", 0, 1),
        operation("put", "b", 0, 1, ok=None, key="other"),
        operation("get", None, 0, 1, ok=None),
        operation("put", "c", 0, 1, ok=False),
    ]
    report = check_history(operations)
    assert (report.operations, report.unknown, report.keys) == (4, 2, 2)


def test_an_operation_that_returned_before_its_call_is_refused() -> None:
    with pytest.raises(ValueError, match="operation 2 returned before it was called"):
        check_history([operation("put", "a", 0, 1), operation("put", "b", 5, 4)])


# ---------------------------------------------------------------------------- explanations


def test_the_explanation_keeps_only_what_is_needed_and_says_who_saw_what() -> None:
    past = recorded(random.Random(3), 400)
    end = max(one.return_ns for one in past) + 1
    wrong = [
        operation("put", "late-1", end, end + 1, index=1001),
        operation("put", "late-2", end + 2, end + 3, index=1002, process=7),
        operation("get", "late-1", end + 4, end + 5, index=1002, process=9),
    ]
    (violation,) = check_history([*past, *wrong]).violations
    assert "these 3 of 403 show it" in violation.explanation
    assert "operation 402 " in violation.explanation
    assert 'process 7: put "late-2", index 1002' in violation.explanation
    assert 'process 9: get found "late-1", index 1002' in violation.explanation
    assert (
        'the value is "late-2", and next must come one of operation 403 (which found "late-1")' in violation.explanation
    )


def test_the_explanation_says_that_nobody_wrote_a_value() -> None:
    (violation,) = check_history(WRONG["read of what nobody wrote"]).violations
    assert 'Nobody wrote "x", which operation 2 found.' in violation.explanation


def test_the_explanation_says_that_a_value_was_written_later() -> None:
    (violation,) = check_history(
        [operation("get", "a", 0, 1), operation("put", "a", 2, 3), operation("get", "a", 4, 5)]
    ).violations
    assert (
        'operation 1 found "a" and returned before operation 2, which writes it, was called.' in violation.explanation
    )


def test_a_duplicate_names_both_writes() -> None:
    (violation,) = check_history(LYING["one index, writes of two keys"][1]).violations
    assert 'k: put "a", index 7' in violation.explanation
    assert 'other: put "b", index 7' in violation.explanation


def test_many_lies_are_counted_and_not_all_told() -> None:
    operations = [operation("put", f"v{at}", at, at, index=5, key=f"k{at}") for at in range(100)]
    violations = check_history(operations).violations
    assert len(violations) < 50
    assert "(99 such operations in all)" in violations[0].explanation


def test_a_search_that_gives_up_does_not_say_linearizable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.ops.linear_search.Search.run", lambda self: Verdict.GAVE_UP)
    assert kinds(WRONG["stale read"]) == ["undecided"]


def test_the_search_stops_at_its_limit() -> None:
    """Twelve overlapping writes of few values, and a read of a value that is written too late."""
    puts = [operation("cas", f"v{at % 4}", 0, 50, expect=f"v{(at + 1) % 4}") for at in range(12)]
    history = columns(
        [operation("put", "v0", 0, 50), *puts, operation("get", "x", 60, 61), operation("put", "x", 70, 71)]
    )
    steps = counterexample.steps(history, history.number - 1)
    assert Search(steps, 0).run() is Verdict.NOT_LINEARIZABLE
    assert Search(steps, 0, limit=3).run() is Verdict.GAVE_UP


# ---------------------------------------------------------------------------- how long it takes


def unindexed(seed: int, count: int, *, values: int, unknown: float = 0.0) -> list[Operation]:
    found = recorded(random.Random(seed), count, clients=6, values=values, unknown=unknown)
    return [replace(one, index=0) for one in found]


NEVER_WRITTEN = operation("get", "never", 1000, 1001)
SOUGHT: dict[str, tuple[bool, int, list[Operation]]] = {
    "two of six writes were the last": (
        False, 64,
        [*(operation("put", f"v{at}", 0, 50) for at in range(6)), operation("get", "v0", 60, 61),
         operation("get", "v1", 62, 63)],
    ),
    "swaps in a ring": (
        False, 60,
        [operation("put", "v0", 0, 50),
         *(operation("cas", f"v{at % 4}", 0, 50, expect=f"v{(at + 1) % 4}") for at in range(9)),
         operation("get", "x", 60, 61), operation("put", "x", 70, 71)],
    ),
    "writes without an outcome of which none helps": (
        False, 2,
        [operation("put", "a", 0, 1), *(operation("put", f"u{at}", 2, 3, ok=None) for at in range(8)),
         operation("cas", "b", 4, 5, expect="a", hit=False), operation("get", "x", 6, 7)],
    ),
    "equal writes without an outcome": (
        False, 5,
        [*(operation("put", f"u{at % 2}", 0, 1, ok=None) for at in range(8)), operation("put", "a", 2, 3),
         operation("get", "u1", 4, 5), operation("get", "u0", 4, 5), operation("get", "b", 6, 7)],
    ),
    "few values, all explained": (True, 8, unindexed(0, 60, values=3)),
    "and others": (True, 2, unindexed(3, 60, values=3)),
    "some without an outcome, all explained": (True, 15, unindexed(2, 40, values=4, unknown=0.15)),
    "few values, and one that nobody wrote": (False, 77, [*unindexed(1, 25, values=3, unknown=0.1), NEVER_WRITTEN]),
    "and that in another": (False, 74, [*unindexed(2, 25, values=3, unknown=0.1), NEVER_WRITTEN]),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUGHT)
def test_the_search_leaves_out_what_cannot_help(name: str) -> None:
    """In dead ends to remember, which are its time and its memory; it gives up rather than take more."""
    linearizable, dead_ends, operations = SOUGHT[name]
    history = columns(operations)
    steps = counterexample.steps(history, np.arange(len(history.call)))
    verdict = Search(steps, 0, limit=dead_ends).run()
    assert verdict is (Verdict.LINEARIZABLE if linearizable else Verdict.NOT_LINEARIZABLE)


# ---------------------------------------------------------------------------- all orders


def small_history(choose: random.Random) -> list[Operation]:
    """At most six operations, made linearizable and then, more often than not, damaged in one or two places."""
    operations = recorded(
        choose,
        choose.randint(1, 6),
        clients=choose.randint(1, 4),
        values=choose.choice((0, 1, 2, 3)),
        unknown=choose.choice((0, 0, 0.3, 0.6)),
    )
    for _ in range(choose.choice((0, 1, 1, 2, 3))):
        at = choose.randrange(len(operations))
        operations[at] = damaged(choose, operations[at])
    if choose.random() < 0.2:
        operations = [replace(one, index=0) for one in operations]
    return operations


def damaged(choose: random.Random, one: Operation) -> Operation:
    value: Value = choose.choice((None, "v0", "v1"))
    match choose.randrange(6):
        case 0:
            return replace(one, value=value)
        case 1:
            return replace(one, hit=not one.hit)
        case 2:
            return replace(one, call_ns=one.call_ns + 30, return_ns=one.return_ns + 30)
        case 3:
            return replace(one, index=choose.randint(0, 7))
        case 4:
            return replace(one, ok=choose.choice((True, None, False)))
        case _:
            return replace(one, expect=value)


@pytest.mark.parametrize("part", seeds(range(10), fast=[0]))
def test_the_verdict_is_that_of_trying_every_order(part: int) -> None:
    """20,000 small histories in ten parts; the log's word too, where every answer has an index."""
    seen: Counter[tuple[bool, bool]] = Counter()
    for seed in range(part * 2_000, part * 2_000 + max(800, examples(2_000))):
        operations = small_history(random.Random(seed))
        found = set(kinds(operations))
        linearizable = explained(operations)
        assert ("not-linearizable" in found) is not linearizable, (seed, operations, found)
        all_indexed = all(one.index > 0 for one in operations if one.ok)
        if linearizable and all_indexed and "duplicate-index" not in found:  # else they give no order
            true = explained(operations, by_index=True)
            assert bool(found & {"index-order", "index-replay"}) is not true, (seed, operations, found)
            seen[linearizable, true] += 1
        elif not linearizable:
            seen[linearizable, False] += 1
    assert min(seen[True, True], seen[True, False], seen[False, False]) > 40, seen


# ---------------------------------------------------------------------------- no false alarm


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "not indexed"])
@pytest.mark.parametrize("values", [0, 5], ids=["unique values", "few values"])
@pytest.mark.parametrize("unknown", [0.0, 0.05], ids=["all known", "some unknown"])
def test_a_register_that_is_linearizable_never_raises_an_alarm(values: int, unknown: float, indexed: bool) -> None:
    for seed in range(examples(30)):
        operations = recorded(random.Random(seed), 400, clients=8, keys=("a", "b", "c"), values=values, unknown=unknown)
        if not indexed:
            operations = [replace(one, index=0) for one in operations]
        report = check_history(operations)
        assert report.ok, (seed, report.violations)
        assert report.searched == 0 or unknown or not indexed, "where every index is known there is no search"


def test_a_lost_write_in_a_long_history_is_found() -> None:
    """The same histories, with one acknowledged write at the end that the next read does not see."""
    for seed in range(examples(20)):
        operations = recorded(random.Random(seed), 200, clients=4)
        end = max(one.return_ns for one in operations) + 1
        (last,) = [operation("put", "acknowledged", end, end + 1, index=10_000)]
        after = operation(
            "get", operations[-1].value if operations[-1].op == "put" else None, end + 2, end + 3, index=10_000
        )
        assert kinds([*operations, last, after]) == ["not-linearizable"]
