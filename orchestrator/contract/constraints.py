"""What a constraint means: whether a node's labels satisfy it.

Owns: the operators, and the attributes ``node.id`` and ``node.name``. Leaves to others: which constraints a job has
(``jobfile``), evaluating them over many nodes (``scheduling.labels``). The rule: a missing label satisfies only the
operators that deny something (``!=``, ``not in``, ``not exists``); comparison is of whole numbers, and what is not one
does not satisfy it.
"""

from __future__ import annotations

import re

from orchestrator.contract.model import Constraint, ConstraintOperator, NodeSpec

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")

SYMBOLS = {
    ConstraintOperator.EQUAL: "=",
    ConstraintOperator.NOT_EQUAL: "!=",
    ConstraintOperator.IN: "in",
    ConstraintOperator.NOT_IN: "not in",
    ConstraintOperator.EXISTS: "exists",
    ConstraintOperator.NOT_EXISTS: "not exists",
    ConstraintOperator.GREATER: ">",
    ConstraintOperator.LESS: "<",
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
    """The value that a constraint on ``attribute`` looks at; None: the node has none."""
    if attribute == "node.id":
        return node.id
    if attribute == "node.name":
        return node.name
    return next((value for name, value in node.labels if name == attribute), None)


def satisfied(constraint: Constraint, value: str | None) -> bool:
    """Whether a node whose attribute has this value (None: missing) may be used. EQUAL and comparisons take the first
    of ``values``; without any they are never satisfied."""
    values = constraint.values
    match constraint.operator:
        case ConstraintOperator.EQUAL:
            return value is not None and value in values[:1]
        case ConstraintOperator.NOT_EQUAL:
            return value is None or value not in values[:1]
        case ConstraintOperator.IN:
            return value is not None and value in values
        case ConstraintOperator.NOT_IN:
            return value is None or value not in values
        case ConstraintOperator.EXISTS:
            return value is not None
        case ConstraintOperator.NOT_EXISTS:
            return value is None
        case ConstraintOperator.GREATER | ConstraintOperator.LESS:
            left, right = _integer(value), _integer(values[0] if values else None)
            if left is None or right is None:
                return False
            return left > right if constraint.operator is ConstraintOperator.GREATER else left < right


def matches(node: NodeSpec, constraints: tuple[Constraint, ...]) -> bool:
    """Whether the node satisfies all of them."""
    return all(satisfied(constraint, attribute_of(node, constraint.attribute)) for constraint in constraints)


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and _INTEGER.fullmatch(text) else None
