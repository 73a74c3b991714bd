"""Where instances of which job group are, while a round places more: what affinity and spreading count.

Owns: counts per node of any group, from the view and from what the round has placed so far. The rule: live allocations
count, also those that are being stopped: they are still there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from orchestrator.scheduling.wish import Ask, Int64Array, Wish
from orchestrator.state.views import ClusterView

_Key = tuple[str, str, str]
"""Namespace, job, group; group "" is all of the job's."""
VERDICTS_MAX = 64


def _place_alone(wish: Wish) -> Wish:
    return wish._replace(request=(0, 0, 0), gpus=None, ports=(), custom=(), policy="")


class _Placed(Protocol):
    """``solve.Placements``, as far as it matters here."""

    @property
    def ask(self) -> Sequence[int]: ...
    @property
    def node(self) -> Sequence[int]: ...


class Presence:
    """``positions``: of live rows in the view's allocations; ``at``: the number of each one's node, below ``nodes``."""

    def __init__(
        self, view: ClusterView, positions: npt.NDArray[np.signedinteger], at: npt.NDArray[np.signedinteger], nodes: int
    ) -> None:
        self._view = view
        self._positions, self._at, self._nodes = positions, at, nodes
        self._counts: dict[_Key, Int64Array] = {}
        self._slots: dict[tuple[str, str], int] | None = None
        self._placed: _Placed | None = None
        self._asks: Sequence[Ask] = ()
        self._seen = 0
        self._before: list[tuple[_Placed, Sequence[Ask]]] = []
        self._verdicts: dict[Wish, dict[int, tuple[str, str, str]]] = {}
        self._judged = 0  # what was placed when the verdicts were given

    def follow(self, placed: _Placed, asks: Sequence[Ask]) -> None:
        """From now on, what is appended to ``placed`` counts, too, beside what was followed before."""
        self._catch_up()
        if self._placed is not None and len(self._placed.ask):
            self._before.append((self._placed, self._asks))
        self._placed, self._asks, self._seen = placed, asks, 0

    def counts(self, namespace: str, job: str, group: str) -> Int64Array:
        """int64 per node: instances there now. Do not change it."""
        self._catch_up()
        key = (namespace, job, group)
        known = self._counts.get(key)
        if known is None:
            known = self._counts[key] = self._count(key)
        return known

    def verdicts(self, wish: Wish) -> dict[int, tuple[str, str, str]] | None:
        """What ``remember`` was told of a wish that differs only in what it needs, if nothing was placed since."""
        self._catch_up()
        return self._verdicts.get(_place_alone(wish)) if self._judged == self._seen else None

    def remember(self, wish: Wish, verdicts: dict[int, tuple[str, str, str]]) -> None:
        if self._judged != self._seen or len(self._verdicts) >= VERDICTS_MAX:
            self.forget_verdicts()
        self._judged = self._seen
        self._verdicts[_place_alone(wish)] = verdicts

    def forget_verdicts(self) -> None:
        """Which nodes are suitable is another matter from now on."""
        self._verdicts = {}

    def _catch_up(self) -> None:
        if self._placed is None:
            return
        # Mostly nobody counts, and a backlog has thousands of rows.
        for row in range(self._seen, len(self._placed.ask)) if self._counts else ():
            ask = self._asks[self._placed.ask[row]]
            spec = ask.job.spec
            for group in (spec.groups[ask.group].name, ""):
                counts = self._counts.get((spec.namespace, spec.name, group))
                if counts is not None:
                    counts[self._placed.node[row]] += 1
        self._seen = len(self._placed.ask)

    def _count(self, key: _Key) -> Int64Array:
        """From scratch: the view's rows, and what was placed up to ``_seen``."""
        namespace, name, group = key
        counts = np.zeros(self._nodes, dtype=np.int64)
        if self._slots is None:
            self._slots = {(job.spec.namespace, job.spec.name): slot for slot, job in self._view.jobs_by_slot.items()}
        slot = self._slots.get((namespace, name))
        if slot is None:
            return counts
        columns = self._view.allocations
        mine = np.flatnonzero(columns.job[self._positions] == slot)
        if group:
            rows = self._positions[mine]
            mine = mine[self._of_group(slot, group, columns.version[rows], columns.group[rows])]
        np.add.at(counts, self._at[mine], 1)
        earlier = [(placed, asks, len(placed.ask)) for placed, asks in self._before]
        if self._placed is not None:
            earlier.append((self._placed, self._asks, self._seen))
        for placed, asks, rows_placed in earlier:
            for at in range(rows_placed):
                ask = asks[placed.ask[at]]
                if ask.job.slot == slot and group in ("", ask.job.spec.groups[ask.group].name):
                    counts[placed.node[at]] += 1
        return counts

    def _of_group(
        self, slot: int, group: str, versions: npt.NDArray[np.int32], places: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.bool_]:
        """bool per row: groups may have changed places between versions, so the name decides."""
        job = self._view.jobs_by_slot[slot]
        specs = dict(job.specs) | {job.version: job.spec}
        verdicts: dict[tuple[int, int], bool] = {}
        found = np.zeros(len(versions), dtype=np.bool_)
        for at, key in enumerate(zip(versions.tolist(), places.tolist(), strict=True)):
            if key not in verdicts:
                listed = specs.get(key[0], job.spec).groups
                verdicts[key] = key[1] < len(listed) and listed[key[1]].name == group
            found[at] = verdicts[key]
        return found
