"""``Fingerprint``: a few values that say what a peer's whole state is, cheap enough to be taken after every command.

Owns: what a state consists of, once more (``state.snapshot.Image`` is the other place), and what of it need not be
looked at again. Leaves comparing to ``witness``. The one rule: equal states give equal values, whoever made them and
however (applied, or restored); states that differ give different ones, but for what stands below.

Records are replaced and never changed (``state.model``), so one that is still the same object was hashed before; arrays
are looked at whole. Of the past, which only grows, just what the newest command added counts: with it compared at every
index, and a snapshot's bytes with each other, all of it is.

Not seen: a record that was changed in place, an answer or an event of an earlier command that was, and what is no
content (indexes, ``prev``, ``told``). The first the full hash sees, the second the end of the run, the last the
invariants. Two different tables have equal numbers once in 2**64.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping
from typing import Any

from orchestrator.state import canonical
from orchestrator.state.allocations import STORED
from orchestrator.state.answers import read
from orchestrator.state.events import read as read_event
from orchestrator.state.ordinals import GroupImages
from orchestrator.state.state import State

_MOST = 2**64 - 1
_COLUMNS = (*(name for name, _ in STORED), "health")


def _number(data: bytes | bytearray) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _digest(value: object) -> int:
    out = bytearray()
    canonical.put(out, value)
    return _number(out)


class _Rows:
    """The sum of the digests of a mapping's rows; only those that were replaced are hashed again."""

    def __init__(self) -> None:
        self._seen: dict[Any, Any] = {}
        self._digests: dict[Any, int] = {}
        self._sum = 0

    def of(self, rows: Mapping[Any, Any]) -> int:
        seen, digests = self._seen, self._digests
        # Nearly always the same objects. Not ``rows == seen``: 1 equals True, and is hashed otherwise.
        if len(rows) == len(seen) and all(map(operator.is_, rows.values(), seen.values())) and list(rows) == list(seen):
            return self._sum
        self._digests = {
            key: digests[key] if key in seen and seen[key] is row else _digest((key, row)) for key, row in rows.items()
        }
        self._seen = dict(rows)
        self._sum = sum(self._digests.values()) & _MOST
        return self._sum


class Fingerprint:
    """Of the states that one machine goes through: by ``PARTS``, values to be compared with those of another."""

    ROWS = ("jobs", "nodes", "forgotten", "variables", "namespaces", "admitted", "addresses")
    PARTS = ("head", "settings", "typical", *ROWS, "columns", "ports", "reasons", "groups", "answers", "events")

    def __init__(self) -> None:
        self._rows = {name: _Rows() for name in (*self.ROWS, "ports", "reasons")}
        self._columns = b"", _number(b"")
        self._groups: tuple[object, int] = (None, 0)

    def of(self, state: State) -> tuple[object, ...]:
        rows, table = self._rows, state.table
        return (
            (state.index, state.time_ms, state.cluster_id, state.feature_level, state.epoch, state.attempt_floor),
            (state.limits, state.settings),
            state.typical.shown(),
            *[rows[name].of(getattr(state, name)) for name in self.ROWS],
            self._of_columns(state),
            rows["ports"].of(table.ports),
            rows["reasons"].of(table.reasons),
            self._of_groups(state),
            self._of_answers(state),
            self._of_events(state),
        )

    def _of_columns(self, state: State) -> int:
        table = state.table
        high = table.high
        data = b"".join([getattr(table, name)[:high].data for name in _COLUMNS])
        if data != self._columns[0]:
            self._columns = data, _number(data)
        return self._columns[1]

    def _of_groups(self, state: State) -> int:
        """Where the attempts of a group lie is nobody's business, so they are put in order by ``GroupImages``."""
        held = state.ordinals
        now = (dict(held.names), held.base.tobytes(), held.size.tobytes(), held.last_attempt.tobytes())
        if now != self._groups[0]:
            self._groups = now, _digest(list(GroupImages(held)))
        return self._groups[1]

    def _of_answers(self, state: State) -> tuple[object, ...]:
        kept = state.answers.items()
        return len(kept), state.answers.bytes, [(key, read(one)) for key, one in kept[-1:]]

    def _of_events(self, state: State) -> tuple[object, ...]:
        kept = state.events.records()
        added = []
        for one in reversed(kept):
            record = read_event(one)
            if record[0] != state.index:
                break
            added.append(record)
        return len(kept), state.events.dropped_index, added
