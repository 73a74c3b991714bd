"""Custom resources in use: whole amounts of what only operators can name (licences, capture cards), per node.

Owns: the sums over live rows, and whether a further row fits. Leaves to others: rows (``allocations``), when they live
(``ledger``). The rule: amounts are summed exactly; a node that does not declare a resource has none of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.contract.model import IntMap


class CustomUse:
    """By node slot and name; only what is above 0 is kept, so that equal uses are equal."""

    __slots__ = ("_used",)

    def __init__(self) -> None:
        self._used: dict[int, dict[str, int]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CustomUse) and self._used == other._used

    __hash__ = None  # type: ignore[assignment]

    def add(self, slot: int, custom: IntMap, sign: int) -> None:
        for name, amount in custom:
            used = self._used.setdefault(slot, {})
            left = used.get(name, 0) + sign * amount
            if left:
                used[name] = left
            else:
                used.pop(name, None)
            if not used:
                del self._used[slot]

    def of(self, slot: int) -> IntMap:
        return tuple(sorted(self._used.get(slot, {}).items()))

    def slots(self) -> Mapping[int, Mapping[str, int]]:
        return self._used

    def ceiling(self, slot: int, capacity: IntMap) -> IntMap:
        """What may be in use without breaking an invariant once the capacity is this."""
        most = dict(capacity)
        for name, amount in self.of(slot):
            most[name] = max(amount, most.get(name, 0))
        return tuple(sorted(most.items()))


def short_of(free: Mapping[str, int], wanted: IntMap) -> str:
    """The first resource of which there is too little in ``free``, or ""."""
    return next((name for name, amount in wanted if amount > free.get(name, 0)), "")
