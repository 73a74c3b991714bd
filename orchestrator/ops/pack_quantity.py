"""Quantities as Kubernetes writes them: ``100m``, ``1.5``, ``16Gi``, ``128974848``, ``1e3``.

Owns: the notation. Leaves to others: which unit is wanted and where the text stood. The rule: exact; nothing is rounded
before the caller says in which direction.
"""

from __future__ import annotations

import re
from fractions import Fraction

_SUFFIXES = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", 1)},
}  # fmt: skip
_QUANTITY = re.compile(r"\+?([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE]([+-]?[0-9]{1,2})|([A-Za-z]{0,2}))")


def quantity(value: object) -> Fraction:
    """Raises ``ValueError`` for what is no quantity from 0 on."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("expected a quantity such as 100m, 1.5 or 16Gi")
    found = _QUANTITY.fullmatch(str(value).strip())
    if found is None or (found[3] or "") not in _SUFFIXES:
        raise ValueError(f"{str(value)[:40]!r} is no quantity from 0 on, such as 100m, 1.5 or 16Gi")
    number = Fraction(found[1])
    if found[2] is not None:
        return number * Fraction(10) ** int(found[2])
    return number * _SUFFIXES[found[3] or ""]


def up(amount: Fraction) -> int:
    """For what is asked for."""
    return -(-amount.numerator // amount.denominator)


def down(amount: Fraction) -> int:
    """For what there is."""
    return amount.numerator // amount.denominator
