"""How much is on its way to one agent: bounded, in order, and never stuck while marks come back."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.pieces import LEAST, MOST, QUICK_S, SLOW_S, Pieces


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


class Line:
    """What was sent and what of it the agent has said back; marks are kept until ``say_back``."""

    def __init__(self, clock: Clock) -> None:
        self.pieces = Pieces(clock=clock)
        self.got = b""
        self.ends: list[int] = []
        self.marks: list[int] = []
        self.heard = 0

    def send(self) -> int:
        """All that may go now; how many bytes that is."""
        before = len(self.got)
        while (piece := self.pieces.next()) is not None:
            self.got += piece.data
            if piece.last:
                self.ends.append(len(self.got))
            if piece.mark:
                assert piece.mark == len(self.got)
                self.marks.append(piece.mark)
        return len(self.got) - before

    def say_back(self) -> None:
        self.heard = self.marks.pop(0)
        self.pieces.arrived(self.heard)


def test_no_more_than_the_window_goes_before_a_mark_came_back() -> None:
    line = Line(clock := Clock())
    line.pieces.put(bytes(10 * LEAST), last=True)
    assert line.send() == LEAST
    clock.s += SLOW_S / 2 + QUICK_S / 2  # neither quick nor slow
    line.say_back()
    assert line.send() == LEAST // 2
    assert line.pieces.pending


def test_the_window_grows_on_a_quick_line_up_to_its_most_and_begins_anew_on_a_slow_one() -> None:
    line = Line(clock := Clock())
    line.pieces.put(bytes(100 * MOST), last=True)
    line.send()
    most = 0
    for _ in range(60):
        line.say_back()
        line.send()
        most = max(most, len(line.got) - line.heard)
    assert most == MOST
    clock.s += 2 * SLOW_S
    while line.marks:
        line.say_back()
    assert line.send() == LEAST


def test_small_updates_that_are_taken_up_quickly_widen_the_window_and_slowly_do_not_narrow_it() -> None:
    line = Line(clock := Clock())
    for taken_up_s in (0.0, 2 * SLOW_S):
        while not line.marks:
            line.pieces.put(bytes(500), last=True)
            line.send()
        clock.s += taken_up_s
        line.say_back()
    line.pieces.put(bytes(10 * MOST), last=True)
    line.send()
    assert LEAST < len(line.got) - line.heard <= 2 * LEAST


def test_small_updates_are_marked_now_and_then_and_never_wait_while_marks_come_back() -> None:
    line = Line(Clock())
    for number in range(200):
        line.pieces.put(bytes(600), last=True)
        assert line.send() == 600
        assert len(line.ends) == number + 1
        if line.marks:
            line.say_back()
    assert line.heard > 200 * 600 - LEAST


def test_a_mark_that_was_never_sent_opens_nothing() -> None:
    line = Line(Clock())
    line.pieces.put(bytes(10 * LEAST), last=True)
    line.send()
    for mark in (-1, 0, LEAST + 1, 1 << 40):
        line.pieces.arrived(mark)
        assert not line.send()


def test_it_stands_while_something_is_pending_and_nothing_moves() -> None:
    line = Line(clock := Clock())
    line.pieces.put(bytes(2 * LEAST), last=True)
    line.send()
    clock.s += 7
    assert line.pieces.stands_s() == 7
    line.say_back()
    assert line.pieces.stands_s() == 0
    while line.pieces.pending:
        line.say_back()
        line.send()
    clock.s += 7
    assert line.pieces.stands_s() == 0


@given(
    st.lists(st.tuples(st.integers(1, 3 * MOST), st.booleans()), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_whatever_comes_in_between_all_of_it_arrives_in_order(
    updates: list[tuple[int, bool]], rng: random.Random
) -> None:
    line, whole, ends = Line(clock := Clock()), b"", []
    for number, (size, last) in enumerate(updates):
        raw = bytes([number + 1]) * size
        whole += raw
        ends += [len(whole)] if last else []
        line.pieces.put(raw, last=last)
        line.send()
        while line.pieces.pending:
            assert line.marks, "something is pending, and no mark will come back"
            clock.s += rng.choice((0.0, QUICK_S, SLOW_S, 2 * SLOW_S))
            line.say_back()
            line.send()
            assert len(line.got) - line.heard <= MOST + LEAST
        while line.marks and rng.random() < 0.5:
            line.say_back()
    assert (line.got, line.ends) == (whole, ends)
