"""Versions and what is asked of them: ``>= 1.2, < 2``.

Owns: reading and ordering versions as semver.org 2.0.0 says (precedence, section 11), but any count of numbers is taken
(``535.104.05.01``), a leading ``v`` says nothing, and missing numbers are 0. The rule: what is no version satisfies
nothing; build data behind ``+`` decides nothing.
"""

from __future__ import annotations

import re

_VERSION = re.compile(r"v?(\d{1,18}(?:\.\d{1,18}){0,7})(?:-([0-9A-Za-z.-]{1,64}))?(?:\+[0-9A-Za-z.-]{1,64})?", re.ASCII)
_COMPARISON = re.compile(r"\s*(>=|<=|!=|>|<|==|=)\s*(\S+)\s*")

Key = tuple[tuple[int, ...], tuple[tuple[int, int, str], ...]]


def key_of(text: str) -> Key | None:
    """What orders versions; None for what is none. Equal versions have equal keys."""
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    numbers = [int(number) for number in match[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    if match[2] is None:
        return tuple(numbers), ((2, 0, ""),)  # a release comes after everything that leads to it
    parts = match[2].split(".")
    return tuple(numbers), tuple((0, int(part), "") if _is_number(part) else (1, 0, part) for part in parts)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def problem(comparison: str) -> str:
    """What is wrong with one comparison, or ""."""
    match = _COMPARISON.fullmatch(comparison)
    if match is None or key_of(match[2]) is None:
        return f"expected a comparison with a version such as '>= 1.2', got {comparison[:60]!r}"
    return ""


def holds(comparison: str, version: str) -> bool:
    """Whether ``version`` satisfies ``>= 1.2`` and the like; a malformed one never does."""
    match = _COMPARISON.fullmatch(comparison)
    left, right = key_of(version), key_of(match[2]) if match is not None else None
    if match is None or left is None or right is None:
        return False
    match match[1]:
        case ">=":
            return left >= right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case "<":
            return left < right
        case "!=":
            return left != right
        case _:
            return left == right
