"""Constraints over many nodes at once: each attribute is looked up once per node, each value judged once.

Owns: interned label columns and memoised constraint masks. Leaves to others: what a constraint means
(``contract.constraints``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.contract.constraints import attribute_of, satisfied
from orchestrator.contract.model import Constraint
from orchestrator.scheduling.wish import BoolArray, Int64Array
from orchestrator.state.model import Node


class Labels:
    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._columns: dict[str, tuple[Int64Array, list[str | None]]] = {}
        self._masks: dict[Constraint, BoolArray] = {}
        self._has: dict[str, BoolArray] = {}

    def mask(self, constraint: Constraint) -> BoolArray:
        """bool per node: whether it satisfies the constraint."""
        known = self._masks.get(constraint)
        if known is None:
            codes, values = self.column(constraint.attribute)
            verdicts = np.array([satisfied(constraint, value) for value in values], dtype=np.bool_)
            known = self._masks[constraint] = verdicts[codes]
        return known

    def has(self, attribute: str) -> BoolArray:
        """bool per node: whether it has a value. Do not change it."""
        known = self._has.get(attribute)
        if known is None:
            codes, values = self.column(attribute)
            present = np.array([value is not None for value in values], dtype=np.bool_)
            known = self._has[attribute] = present[codes] if len(codes) else np.zeros(0, dtype=np.bool_)
        return known

    def column(self, attribute: str) -> tuple[Int64Array, list[str | None]]:
        """int64 per node: the place of its value in the list (None: it has none)."""
        column = self._columns.get(attribute)
        if column is None:
            codes: dict[str | None, int] = {}
            numbers = [codes.setdefault(attribute_of(node.spec, attribute), len(codes)) for node in self._nodes]
            column = self._columns[attribute] = (np.array(numbers, dtype=np.int64), list(codes))
        return column
