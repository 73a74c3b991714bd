"""Regular expressions of constraints: the language, equal to Python's where both have it, and never slow."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract import patterns
from tests.effort import examples

_ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", "[a-c0]", r"\.", "(a|b)", "(|a)", "(ab)"])
_REPEATS = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "{0}"])
PATTERNS = st.lists(
    st.lists(st.tuples(_ATOMS, _REPEATS).map("".join), max_size=5).map("".join), min_size=1, max_size=3
).map("|".join)


@given(pattern=PATTERNS, text=st.text(alphabet="ab0.c", max_size=8))
@settings(max_examples=examples(600), deadline=None)
def test_it_matches_what_pythons_own_matches(pattern: str, text: str) -> None:
    assert patterns.problem(pattern) == ""
    assert patterns.matches(pattern, text) == (re.fullmatch(pattern, text) is not None)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a*)*b", "((a{1,9}){1,9}){1,9}b"])
def test_what_makes_backtracking_explode_takes_few_steps(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    step = patterns._Machine.step

    def counted(machine: patterns._Machine, states: frozenset[int], character: str) -> frozenset[int]:
        nonlocal steps
        steps += len(states)
        return step(machine, states, character)

    monkeypatch.setattr(patterns._Machine, "step", counted)
    text = "a" * 200
    assert not patterns.matches(pattern, text)
    assert steps <= patterns.STATES_MAX * len(text)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("[a", "not closed"),
        ("*a", "repeats nothing"),
        ("a{2", "expected {3}"),
        ("a{3,1}", "lower number first"),
        ("a{1,999}", "from 0 to 100"),
        ("^a$", "whole value"),
        (r"\b", "not supported"),
        ("(?i)a", "not supported"),
        ("[z-a]", "backwards"),
        ("a" * 257, "at most 256"),
        ("((a{100}){100}){100}", "too large"),
        ("(" * 60 + ")" * 60, "parentheses"),
        ("\\", "at the end"),
    ],
)
def test_what_is_not_in_the_language_is_refused_with_a_reason(pattern: str, says: str) -> None:
    assert says in patterns.problem(pattern)
    assert not patterns.matches(pattern, "a")


@given(st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=examples(300), deadline=None)
def test_no_pattern_whatever_makes_it_raise(pattern: str, text: str) -> None:
    assert isinstance(patterns.problem(pattern), str)
    assert patterns.matches(pattern, text) in (True, False)
