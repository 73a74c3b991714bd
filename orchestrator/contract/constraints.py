"""What a constraint means: whether a node's labels and facts satisfy it.

Owns: the operators, and the attributes that begin with ``node.``. Leaves to others: which constraints a job has
(``jobfile``), evaluating them over many nodes (``scheduling.labels``). The rules: a missing value satisfies only the
operators that deny something (``!=``, ``not in``, ``not exists``, ``not matches``); comparison is of numbers, and what
is not one does not satisfy it; of ``node.driver``, which has several values, one must satisfy what is asked, and none
may be what is denied.
"""

from __future__ import annotations

import re

from orchestrator.contract import patterns, versions
from orchestrator.contract.model import Constraint, ConstraintOperator, NodeSpec

_NUMBER = re.compile(r"([+-]?)([0-9]{1,18})(?:\.([0-9]{1,9}))?")
_FRACTION_DIGITS = 9

MANY_VALUED = frozenset({"node.driver"})
_FACTS = ("id", "name", "arch", "os", "kernel", "datacenter", "region", "zone", "rack")
NODE_ATTRIBUTES = (*(f"node.{fact}" for fact in _FACTS), *sorted(MANY_VALUED))
"""What every node has besides its labels, as far as it was declared."""

SYMBOLS = {
    ConstraintOperator.EQUAL: "=",
    ConstraintOperator.NOT_EQUAL: "!=",
    ConstraintOperator.IN: "in",
    ConstraintOperator.NOT_IN: "not in",
    ConstraintOperator.EXISTS: "exists",
    ConstraintOperator.NOT_EXISTS: "not exists",
    ConstraintOperator.GREATER: ">",
    ConstraintOperator.LESS: "<",
    ConstraintOperator.GREATER_EQUAL: ">=",
    ConstraintOperator.LESS_EQUAL: "<=",
    ConstraintOperator.VERSION: "version",
    ConstraintOperator.MATCHES: "matches",
    ConstraintOperator.NOT_MATCHES: "not matches",
}


def describe(constraint: Constraint) -> str:
    """``zone = b``, ``zone in (a, b)``, ``ssd exists``."""
    symbol = SYMBOLS[constraint.operator]
    if constraint.operator in (ConstraintOperator.EXISTS, ConstraintOperator.NOT_EXISTS):
        return f"{constraint.attribute} {symbol}"
    values = ", ".join(constraint.values)
    if constraint.operator in (ConstraintOperator.IN, ConstraintOperator.NOT_IN):
        return f"{constraint.attribute} {symbol} ({values})"
    return f"{constraint.attribute} {symbol} {values}"


def attribute_of(node: NodeSpec, attribute: str) -> str | None:
    """The value that a constraint on ``attribute`` looks at; None: the node has none. Several are joined by commas."""
    if attribute.startswith("node."):
        fact = attribute.removeprefix("node.")
        if fact in _FACTS:
            value: str = getattr(node, fact)
            return value or None
        if attribute == "node.driver":
            return ",".join(node.drivers) or None
    return next((value for name, value in node.labels if name == attribute), None)


def satisfied(constraint: Constraint, value: str | None) -> bool:
    """Whether a node whose attribute has this value (None: missing) may be used. EQUAL and comparisons take the first
    of ``values``; without any they are never satisfied."""
    if value is not None and constraint.attribute in MANY_VALUED:
        denies = constraint.operator in _DENYING
        verdicts = (_satisfied(constraint, one) for one in value.split(","))
        return all(verdicts) if denies else any(verdicts)
    return _satisfied(constraint, value)


_DENYING = (
    ConstraintOperator.NOT_EQUAL,
    ConstraintOperator.NOT_IN,
    ConstraintOperator.NOT_EXISTS,
    ConstraintOperator.NOT_MATCHES,
)


def _satisfied(constraint: Constraint, value: str | None) -> bool:
    values, operator = constraint.values, constraint.operator
    if value is None:
        return operator in _DENYING
    match operator:
        case ConstraintOperator.EQUAL:
            return value in values[:1]
        case ConstraintOperator.NOT_EQUAL:
            return value not in values[:1]
        case ConstraintOperator.IN:
            return value in values
        case ConstraintOperator.NOT_IN:
            return value not in values
        case ConstraintOperator.EXISTS:
            return True
        case ConstraintOperator.NOT_EXISTS:
            return False
        case ConstraintOperator.VERSION:
            return bool(values) and all(versions.holds(comparison, value) for comparison in values)
        case ConstraintOperator.MATCHES:
            return any(patterns.matches(pattern, value) for pattern in values[:1])
        case ConstraintOperator.NOT_MATCHES:
            return not any(patterns.matches(pattern, value) for pattern in values[:1])
        case _:
            return _compares(operator, value, values[0] if values else None)


def _compares(operator: ConstraintOperator, value: str, with_: str | None) -> bool:
    left, right = _number(value), _number(with_)
    if left is None or right is None:
        return False
    match operator:
        case ConstraintOperator.GREATER:
            return left > right
        case ConstraintOperator.GREATER_EQUAL:
            return left >= right
        case ConstraintOperator.LESS:
            return left < right
        case _:
            return left <= right


def matches(node: NodeSpec, constraints: tuple[Constraint, ...]) -> bool:
    """Whether the node satisfies all of them."""
    return all(satisfied(constraint, attribute_of(node, constraint.attribute)) for constraint in constraints)


def _number(text: str | None) -> int | None:
    """In thousand-millionths, so that it is exact everywhere."""
    match = _NUMBER.fullmatch(text) if text is not None else None
    if match is None:
        return None
    size: int = int(match[2]) * 10**_FRACTION_DIGITS + int((match[3] or "").ljust(_FRACTION_DIGITS, "0"))
    return -size if match[1] == "-" else size
