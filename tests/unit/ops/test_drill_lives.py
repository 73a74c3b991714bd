"""Lives of a cluster: up to the stated index everything is promised, behind it nothing, and the next begins with it."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.ops.drill_facts import Ack, Facts, Found, judge
from orchestrator.ops.drill_lives import Life, check_lives
from orchestrator.ops.history import Op, Operation
from orchestrator.state.renewal import INDEX_STEP

LIFE = Life(index=5, values={"k": "a"}, end_ns=100)
NEXT = INDEX_STEP


def operation(op: Op, value: str | None, at: int, *, index: int, ok: bool | None = True, key: str = "k") -> Operation:
    return Operation(
        process=at, op=op, key=key, value=value, ok=ok, hit=ok is True, index=index, call_ns=at, return_ns=at + 1
    )


FIRST = [operation("put", "a", 10, index=5), operation("put", "b", 20, index=6), operation("get", "b", 30, index=6)]
"""``b`` was acknowledged behind what the backup holds."""


def kinds(operations: Sequence[Operation], life: Life = LIFE) -> list[str]:
    return [violation.kind for violation in check_lives(operations, [life]).violations]


def test_a_life_begins_where_its_numbers_cannot_be_those_of_another() -> None:
    assert (LIFE.next_index, Life(index=NEXT, values={}, end_ns=0).next_index) == (NEXT, 2 * NEXT)
    assert [LIFE.gives_up(index) for index in (5, 6, NEXT - 1, NEXT)] == [False, True, True, False]


def test_what_came_behind_the_stated_index_is_given_up_and_the_next_life_begins_with_the_rest() -> None:
    assert kinds([*FIRST, operation("get", "a", 200, index=NEXT)]) == []


def test_the_given_up_value_coming_back_is_a_violation() -> None:
    assert kinds([*FIRST, operation("get", "b", 200, index=NEXT)]) != []


def test_a_stated_index_whose_write_is_missing_is_a_violation() -> None:
    empty = Life(index=5, values={}, end_ns=100)
    assert kinds([*FIRST, operation("get", None, 200, index=NEXT)], empty) != []
    too_far = Life(index=6, values={"k": "a"}, end_ns=100)
    assert kinds([*FIRST, operation("get", "a", 200, index=NEXT)], too_far) != [], "b was acknowledged at 6"


def test_a_value_in_the_state_that_nobody_wrote_is_a_violation() -> None:
    made_up = Life(index=5, values={"k": "a", "other": "x"}, end_ns=100)
    history = [*FIRST, operation("put", "y", 40, index=7, key="other")]
    assert kinds(history, made_up) != []


def test_a_write_of_unknown_outcome_may_have_been_kept_or_given_up_and_done_later() -> None:
    unknown = operation("put", "c", 50, index=0, ok=None)
    for left in ("a", "c"):
        life = Life(index=5, values={"k": left}, end_ns=100)
        assert kinds([*FIRST, unknown, operation("get", left, 200, index=NEXT)], life) == []
    assert kinds([*FIRST, unknown, operation("get", "c", 200, index=NEXT + 1)]) == []


def test_an_answer_of_the_first_life_that_came_in_the_next_belongs_to_the_first() -> None:
    """Its write is in the state; repeated with its request id it got its first answer."""
    late = Operation(process=9, op="put", key="k", value="a", ok=True, hit=True, index=5, call_ns=90, return_ns=300)
    assert kinds([late, operation("get", "a", 200, index=NEXT)]) == []


def test_one_life_is_judged_as_ever() -> None:
    stale = [*FIRST, operation("get", "a", 40, index=6)]
    report = check_lives(stale, [])
    assert [violation.kind for violation in report.violations] == ["not-linearizable"]
    assert check_lives(FIRST, []).violations == ()
    assert report.operations == 4


def test_only_what_was_promised_counts_as_lost_and_a_repetition_in_the_next_life_is_no_duplicate() -> None:
    facts = Facts(lives=[LIFE], hashes=[{"p1": "x"}])
    facts.acks = [Ack("kept", "v", 4), Ack("given-up", "v", 6), Ack("again", "v", 7), Ack("again", "v", NEXT + 1)]
    facts.found = {"kept": Found("v", 1, 4), "again": Found("v", 1, NEXT + 1)}
    verdict = judge(facts)
    assert (verdict.writes_lost, verdict.writes_duplicated, verdict.writes_acked) == (0, 0, 3)
    del facts.found["kept"]
    assert judge(facts).writes_lost == 1
    del facts.found["again"]
    assert judge(facts).writes_lost == 2, "acknowledged again in the next life, it is promised again"
