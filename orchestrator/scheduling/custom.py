"""Custom resources of all nodes as columns: further dimensions, named by operators.

Owns: what is free of each, whether a wish fits and taking it. The rule: a resource that no node declares fits nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import IntMap
from orchestrator.scheduling.wish import BoolArray, Int64Array
from orchestrator.state.model import Node


class CustomResources:
    """``names``: sorted; ``capacity``, ``free``: int64 (nodes, names), whole amounts."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.names = tuple(sorted({name for node in nodes for name, _ in node.spec.capacity.custom}))
        self._column = {name: column for column, name in enumerate(self.names)}
        self.capacity: Int64Array = np.zeros((len(nodes), len(self.names)), dtype=np.int64)
        for number, node in enumerate(nodes):
            for name, amount in node.spec.capacity.custom:
                self.capacity[number, self._column[name]] += amount
        self.free: Int64Array = self.capacity.copy()

    def occupy(self, rows: npt.NDArray[np.int32], at: Int64Array, custom: Mapping[int, IntMap]) -> None:
        """Live ``rows`` hold what ``custom`` says, on the nodes ``at``."""
        if not custom or not self.names:
            return
        holding = np.flatnonzero(np.isin(rows, np.fromiter(custom, dtype=np.int64, count=len(custom))))
        for place in holding.tolist():
            self.take(int(at[place]), custom[int(rows[place])])

    def fits(self, wanted: IntMap, nodes: Int64Array) -> BoolArray:
        """bool per given node."""
        mask: BoolArray = np.ones(len(nodes), dtype=np.bool_)
        for name, amount in wanted:
            column = self._column.get(name)
            mask &= amount <= 0 if column is None else self.free[nodes, column] >= amount
        return mask

    def limit(self, times: Int64Array, wanted: IntMap, nodes: Int64Array, free: Int64Array | None = None) -> None:
        """``times``, int64 per given node, is how often something fits: no more often than these amounts do. ``free``:
        to use instead of what is free now, of all nodes."""
        amounts = self.free if free is None else free
        for name, amount in wanted:
            if amount > 0:
                column = self._column.get(name)
                there = 0 if column is None else np.maximum(amounts[nodes, column], 0)
                np.minimum(times, there // amount, out=times)

    def free_of(self, node: int, name: str) -> int:
        column = self._column.get(name)
        return 0 if column is None else int(self.free[node, column])

    def capacity_of(self, node: int, name: str) -> int:
        column = self._column.get(name)
        return 0 if column is None else int(self.capacity[node, column])

    def take(self, node: int, wanted: IntMap) -> None:
        for name, amount in wanted:
            if name in self._column:
                self.free[node, self._column[name]] -= amount

    def add(self, amounts: Int64Array, node: int, custom: IntMap, sign: int) -> None:
        """Onto ``amounts``, which has the shape of ``free``."""
        for name, amount in custom:
            if name in self._column:
                amounts[node, self._column[name]] += sign * amount

    def take_coming(self, coming: Int64Array, node: int, wanted: IntMap) -> None:
        """Of what is to be free first (``coming``, of the shape of ``free``), the rest of what is."""
        for name, amount in wanted:
            if name in self._column:
                column = self._column[name]
                soon = min(max(int(coming[node, column]), 0), amount)
                coming[node, column] -= soon
                self.free[node, column] -= amount - soon
