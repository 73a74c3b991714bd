"""PURE: allocations of one node judged together: who is in whose way, who belongs to nobody, who is needed no more.

Owns: fencing by attempt, what a full set and a replacement elsewhere leave over, how long ended allocations are kept,
what nodes that do not come back left.
Leaves to others: one allocation's own road (``agent.reconcile``), ending what is named here (``agent.supervisor``). The
rule: a run is ended only where the control plane has said that it is not wanted, or knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.driver import Instance
from agent.records import Record
from orchestrator.contract.model import AssignmentKey

KEPT_PER_ORDINAL = 2
KEPT_TERMINAL = 200
KEPT_MS = 24 * 3600 * 1000
LEFT_MS = 7 * KEPT_MS
"""So long after its end nobody has taken away a run whose node is there: that removes it after ``KEPT_MS``, and later
only while another run of the same attempt goes on, or waits long to be started again."""


def fenced(record: Record, found: Iterable[Instance], records: dict[AssignmentKey, Record]) -> list[Instance]:
    """Runs that must end before ``record`` may start: the same allocation, another attempt or another job's life.

    An older attempt that the control plane still wants (make-before-break) is none of them, nor is a newer one.
    """
    key = record.key
    ended_first = []
    for one in found:
        other = one.run.key
        if not one.running or other.id != key.id or other == key:
            continue
        if other.job_uid == key.job_uid and other.attempt > key.attempt:
            continue
        known = records.get(other)
        if known is None or not known.wanted:
            ended_first.append(one)
    return ended_first


def surplus(
    full: Iterable[AssignmentKey], records: dict[AssignmentKey, Record], found: Iterable[Instance], node_id: str
) -> tuple[list[AssignmentKey], list[Instance]]:
    """After a full set that a majority confirmed: (records to forget, instances of this node that nobody knows).

    Ended allocations keep their record and output until ``expired`` says otherwise: the set need not list them.
    """
    known = set(full)
    forget = [key for key, record in records.items() if key not in known and record.live]
    unknown = [
        one for one in found if one.node_id == node_id and one.run.key not in known and one.run.key not in records
    ]
    return forget, unknown


def superseded(
    keys: Iterable[AssignmentKey], found: Iterable[Instance], records: dict[AssignmentKey, Record]
) -> list[Instance]:
    """Runs on this engine, whoever started them, whose allocation was replaced elsewhere."""
    limits: dict[tuple[object, str], int] = {}
    for key in keys:
        place = (key.id, key.job_uid)
        limits[place] = max(limits.get(place, -1), key.attempt)
    replaced = []
    for one in found:
        key = one.run.key
        known = records.get(key)
        if key.attempt <= limits.get((key.id, key.job_uid), -1) and (known is None or not known.wanted):
            replaced.append(one)
    return replaced


def left_over(listed: Sequence[Instance], node_id: str, noted_ms: int) -> list[Instance]:
    """Runs of other nodes on this engine that ended long ago, with all of their attempt: those nodes do not come back.

    ``noted_ms``: now, by the clock by which engines note when something ended.
    """
    ended: dict[tuple[str, AssignmentKey], list[Instance]] = {}
    for one in listed:
        if one.node_id != node_id:
            ended.setdefault((one.node_id, one.run.key), []).append(one)
    return [
        one
        for runs in ended.values()
        if all(run.exit is not None and 0 < run.exit.ended_ms < noted_ms - LEFT_MS for run in runs)
        for one in runs
    ]


def expired(records: Iterable[Record], now_ms: int) -> list[AssignmentKey]:
    """Ended allocations whose output nobody needs to keep: more than two per ordinal, 200 in all, or a day old."""
    ended = sorted(
        (one for one in records if not one.live), key=lambda one: (-one.ended_ms, one.key.id, one.key.attempt)
    )
    per_ordinal: dict[object, int] = {}
    drop = []
    for place, record in enumerate(ended):
        count = per_ordinal[record.key.id] = per_ordinal.get(record.key.id, 0) + 1
        if count > KEPT_PER_ORDINAL or place >= KEPT_TERMINAL or now_ms - record.ended_ms > KEPT_MS:
            drop.append(record.key)
    return drop
