"""What is told again and again is told now and then."""

from __future__ import annotations

from agent.repeats import KEYS_MAX, Repeats


def test_something_new_is_told_at_once_and_again_once_a_minute_with_how_often() -> None:
    repeats = Repeats(60)
    assert [repeats.due("a", second) for second in range(60)] == [1] + [0] * 59
    assert repeats.due("b", 59) == 1
    assert repeats.due("a", 60) == 60
    assert repeats.due("a", 61) == 0
    repeats.over()
    assert repeats.due("a", 62) == 1


def test_no_more_is_remembered_than_a_bound() -> None:
    repeats = Repeats()
    assert all(repeats.due(number, 0) for number in range(KEYS_MAX))
    assert not repeats.due(0, 0)
    assert repeats.due("one more", 0)
    assert repeats.due(0, 0)
