"""Kubernetes quantities: exact, and refused where they are none."""

from __future__ import annotations

from fractions import Fraction

import pytest

from orchestrator.ops.pack_quantity import down, quantity, up


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100m", Fraction(1, 10)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("16Gi", Fraction(16 * 2**30)),
        ("64Ki", Fraction(64 * 1024)),
        ("2k", Fraction(2000)),
        ("5G", Fraction(5 * 10**9)),
        ("1E", Fraction(10**18)),
        ("1e3", Fraction(1000)),
        ("12E2", Fraction(1200)),
        ("100u", Fraction(1, 10_000)),
        ("250n", Fraction(1, 4_000_000)),
        ("0", Fraction(0)),
        (8, Fraction(8)),
        (0.5, Fraction(1, 2)),
    ],
)
def test_a_quantity_is_exactly_what_it_says(text: object, value: Fraction) -> None:
    assert quantity(text) == value


@pytest.mark.parametrize(
    "text", ["", "-1", "1 Gi", "Gi", "1gi", "1KI", "1.5.5", "x", None, True, ["1"], "1e", "1" * 40]
)
def test_what_is_no_quantity_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="quantity"):
        quantity(text)


def test_demand_is_rounded_up_and_supply_down() -> None:
    assert (up(Fraction(5, 2)), down(Fraction(5, 2))) == (3, 2)
    assert (up(Fraction(4)), down(Fraction(4))) == (4, 4)
