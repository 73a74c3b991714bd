"""Groups that come after others: whose turn it is, who waits, who will never run; and which orders can be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.batch import After, AfterCondition
from orchestrator.contract.model import GroupSpec
from orchestrator.state.dependencies import judge, order, order_problem
from tests.unit.state.kit import group

ANY = AfterCondition.ANY
RUNS, WAITS, SKIPPED = "runs", "waits", "skipped"


def groups(*said: str, counts: tuple[int, ...] = ()) -> list[GroupSpec]:
    """``c: a, b?``: group c comes after a, and after b however that ends."""
    found = []
    for place, line in enumerate(said):
        name, _, before = line.partition(":")
        names = [one.strip() for one in before.split(",") if one.strip()]
        after = tuple(After(group=one.rstrip("?"), **({"condition": ANY} if one[-1] == "?" else {})) for one in names)
        found.append(replace(group(name, counts[place] if counts else 2), after=after))
    return found


def turns(specs: list[GroupSpec], *ended: tuple[int, int]) -> list[str]:
    found = judge(specs, ended)
    assert all(bool(turn.text) or not turn.skipped for turn in found)
    return [SKIPPED if turn.skipped else WAITS if turn.text else RUNS for turn in found]


@pytest.mark.parametrize(
    ("second", "first_ended", "turn"),
    [
        ("b: a", (0, 0), WAITS),
        ("b: a", (1, 0), WAITS),
        ("b: a", (2, 0), RUNS),
        ("b: a", (1, 1), SKIPPED),
        ("b: a", (0, 1), SKIPPED),
        ("b: a?", (0, 0), WAITS),
        ("b: a?", (1, 0), WAITS),
        ("b: a?", (0, 1), WAITS),
        ("b: a?", (1, 1), RUNS),
        ("b: a?", (0, 2), RUNS),
        ("b: a?", (2, 0), RUNS),
        ("b", (0, 0), RUNS),
        ("b: nobody", (0, 0), RUNS),
    ],
)
def test_whose_turn_it_is_by_how_the_group_before_has_ended(
    second: str, first_ended: tuple[int, int], turn: str
) -> None:
    """``first_ended``: how many of its two instances are complete, and how many have failed for good."""
    assert turns(groups("a", second), first_ended, (0, 0)) == [RUNS, turn]


def test_all_groups_before_it_count_and_it_says_which_it_waits_for() -> None:
    specs = groups("a", "b", "c: a, b?")
    assert turns(specs, (2, 0), (1, 1), (0, 0)) == [RUNS, RUNS, RUNS]
    assert [turn.text for turn in judge(specs, [(1, 0), (0, 1), (0, 0)])] == [
        "", "", "waits for group a to complete (1 of 2 have) and group b to end (1 of 2 have)",
    ]  # fmt: skip
    assert turns(specs, (1, 0), (2, 0), (0, 0))[2] == turns(specs, (2, 0), (1, 0), (0, 0))[2] == WAITS
    unknown_first = groups("a", "c: nobody, a")
    assert turns(unknown_first, (0, 0), (0, 0)) == [RUNS, WAITS], "what is not there holds up nobody"


def test_what_follows_a_skipped_group_is_skipped_unless_any_end_will_do() -> None:
    specs = groups("a", "b: a", "c: b", "d: b?", "e: d")
    assert turns(specs, (0, 1), (0, 0), (0, 0), (0, 0), (0, 0)) == [RUNS, SKIPPED, SKIPPED, RUNS, WAITS]
    assert turns(specs, (0, 1), (0, 0), (0, 0), (2, 0), (0, 0)) == [RUNS, SKIPPED, SKIPPED, RUNS, RUNS]


def test_it_is_said_why_a_group_is_skipped() -> None:
    for count, why in ((2, " (1 of 2 instances)"), (1, "")):
        said = judge(groups("a", "b: a", "c: b", counts=(count, 1, 1)), [(0, 1), (0, 0), (0, 0)])
        assert said[1].text == f"group a, which it comes after, failed for good{why}"
        assert said[2].text == "group b, which it comes after, was skipped"


def test_a_group_of_no_instances_is_complete() -> None:
    assert turns(groups("a", "b: a", "c: a?", counts=(0, 1, 1)), (0, 0), (0, 0), (0, 0)) == [RUNS] * 3


def test_the_place_in_the_job_does_not_matter() -> None:
    specs = groups("c: b", "b: a", "a")
    assert order(specs) == [2, 1, 0]
    assert turns(specs, (0, 0), (0, 0), (0, 1)) == [SKIPPED, SKIPPED, RUNS]


@pytest.mark.parametrize(
    ("said", "places", "problem"),
    [
        ((), [], False),
        (("a", "b"), [0, 1], False),
        (("b: a", "a", "c"), [1, 2, 0], False),
        (("c: a, b", "b: a", "a"), [2, 1, 0], False),
        (("a", "b: nobody"), [0, 1], True),
        (("a: a", "b"), [1], True),
        (("a: b", "b: a", "c: a", "d"), [3], True),
    ],
)
def test_an_order_is_one_where_every_group_can_have_its_turn(
    said: tuple[str, ...], places: list[int], *, problem: bool
) -> None:
    assert order(groups(*said)) == places
    assert order_problem(groups(*said)) is problem


def test_who_is_in_a_circle_is_not_judged() -> None:
    """None is submitted; an older peer may have taken one in."""
    assert turns(groups("a: b", "b: a", "c"), (0, 0), (0, 0), (0, 0)) == [RUNS] * 3
