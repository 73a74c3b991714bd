"""A state's fingerprint tells any difference from another, in the part that it is in, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from orchestrator.contract.model import AllocState, Limits, Namespace, Settings
from orchestrator.replication.codec import decode_entry
from orchestrator.state.allocations import STORED
from orchestrator.state.answers import read
from orchestrator.state.apply import apply
from orchestrator.state.commands import RemoveJob, WriteVariable
from orchestrator.state.events import read as read_event
from orchestrator.state.snapshot import Image, capture, restore, state_hash
from orchestrator.state.state import State
from orchestrator.state.typical import Shape
from tests.sim.fingerprint import Fingerprint
from tests.unit.state.kit import job
from tests.unit.state.test_snapshot import busy


def _record(table: str, **changed: Any) -> Callable[[State], None]:
    def change(state: State) -> None:
        rows = getattr(state, table)
        key = min(rows)
        rows[key] = replace(rows[key], **changed)

    return change


def _answer(state: State) -> None:
    key, kept = state.answers.items()[-1]
    state.answers._order[-1] = (key, replace(read(kept), digest=b"another"))


def _event(state: State) -> None:
    state.events._records[-1] = (*read_event(state.events._records[-1])[:-1], 77)


def _attempt(state: State) -> None:
    state.ordinals.last_attempt[state.ordinals.base[0]] += 1


CHANGES: dict[str, tuple[str, Callable[[State], object]]] = {
    "index": ("head events", lambda state: setattr(state, "index", state.index + 1)),
    "time_ms": ("head", lambda state: setattr(state, "time_ms", state.time_ms + 1)),
    "cluster_id": ("head", lambda state: setattr(state, "cluster_id", "another")),
    "feature_level": ("head", lambda state: setattr(state, "feature_level", 3)),
    "epoch": ("head", lambda state: setattr(state, "epoch", 7)),
    "attempt_floor": ("head", lambda state: setattr(state, "attempt_floor", 7)),
    "limits": ("settings", lambda state: setattr(state, "limits", Limits(answers=7))),
    "settings": ("settings", lambda state: setattr(state, "settings", Settings(preemption=not Settings().preemption))),
    "typical": ("typical", lambda state: state.typical.add(Shape(1, 1, 1, 1, ()), 1)),
    "admitted": ("admitted", lambda state: state.admitted.update(p1="another disk")),
    "addresses": ("addresses", lambda state: state.addresses.update(p1="elsewhere:1")),
    "jobs": ("jobs", _record("jobs", stable_version=9)),
    "nodes": ("nodes", _record("nodes", cordoned=True)),
    "forgotten": ("forgotten", lambda state: state.forgotten.update({9: state.node_at[0]})),
    "variables": ("variables", _record("variables", value="another")),
    "namespaces": ("namespaces", lambda state: state.namespaces.update(team=Namespace(name="team"))),
    "ports": ("ports", lambda state: state.table.ports.update({0: (9,)})),
    "reasons": ("reasons", lambda state: state.table.reasons.update({0: "another"})),
    "health": ("columns", lambda state: state.table.health.__setitem__(0, 3)),
    "columns": ("columns", lambda state: state.table.exit_code.__setitem__(0, 9)),
    "groups": ("groups", _attempt),
    "answers": ("answers", _answer),
    "answer_bytes": ("answers", lambda state: setattr(state.answers, "_bytes", 1)),
    "events": ("events", _event),
    "events_dropped_index": ("events", lambda state: setattr(state.events, "dropped_index", 1)),
}
"""By field of ``Image``: the parts that tell it, and a change."""


def _differing(one: tuple[object, ...], other: tuple[object, ...]) -> list[str]:
    return [part for part, mine, theirs in zip(Fingerprint.PARTS, one, other, strict=True) if mine != theirs]


def test_nothing_that_a_state_consists_of_is_left_out() -> None:
    assert {field.name for field in fields(Image)} == CHANGES.keys()


@pytest.mark.parametrize("what", CHANGES)
def test_a_difference_is_told_by_the_part_that_it_is_in(what: str) -> None:
    parts, change = CHANGES[what]
    state, other = busy().state, restore(capture(busy().state))
    mine, theirs = Fingerprint(), Fingerprint()
    before = theirs.of(other)
    assert mine.of(state) == before
    change(other)
    assert _differing(before, theirs.of(other)) == parts.split()  # whoever saw it before the change
    assert Fingerprint().of(other) == theirs.of(other)  # and whoever did not


@pytest.mark.parametrize("column", [name for name, _ in STORED])
def test_every_column_counts(column: str) -> None:
    state, seen = busy().state, Fingerprint()
    before = seen.of(state)
    values = getattr(state.table, column)
    values[0] = not values[0] if values.dtype == bool else values[0] + 1
    assert _differing(before, seen.of(state)) == ["columns"]


def test_a_restored_state_has_the_same_one_and_goes_on_with_it() -> None:
    kit, mine, theirs = busy(), Fingerprint(), Fingerprint()
    other = restore(capture(kit.state))
    steps: list[Callable[[], object]] = [
        lambda: kit.ok(WriteVariable(namespace="default", name="v", value="another")),
        lambda: kit.submit(job("c"), job("d")),
        lambda: kit.place("c/api/0", "n1"),
        lambda: kit.ok(RemoveJob(namespace="default", name="d")),
        lambda: kit.observe("a/api/0", AllocState.RUNNING),
        lambda: kit.ok(WriteVariable(namespace="default", name="v", value=None)),
    ]
    seen = list[object]()
    for step in steps:
        done = len(kit.entries)
        step()
        for payload in kit.entries[done:]:
            apply(other, decode_entry(payload))
        assert mine.of(kit.state) == theirs.of(other) == Fingerprint().of(kit.state)
        assert mine.of(kit.state) not in seen
        seen.append(mine.of(kit.state))


def test_a_table_that_is_empty_again_counts_as_one_that_always_was() -> None:
    one, columns = Fingerprint(), Fingerprint.PARTS.index("columns")
    assert one.of(busy().state)[columns] != one.of(State())[columns]
    assert one.of(State())[columns] == Fingerprint().of(State())[columns]


def test_a_record_that_is_changed_in_place_is_not_seen_as_long_as_it_is_known() -> None:
    """It must not happen (``state.model``); the full hash, which is taken every few commands, tells it."""
    state, seen = busy().state, Fingerprint()
    before, hashed = seen.of(state), state_hash(state)
    object.__setattr__(min(state.jobs.values(), key=lambda job: job.uid), "stable_version", 9)
    assert seen.of(state) == before
    assert state_hash(state) != hashed
