"""An image is the state: what it restores goes on the same, and its hash tells any difference."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from orchestrator.contract.fields import later
from orchestrator.contract.model import AllocState
from orchestrator.replication.codec import decode_entry
from orchestrator.state import canonical
from orchestrator.state.apply import apply
from orchestrator.state.commands import ForgetNode, MarkNodes, NodeMark, RemoveJob, WriteVariable
from orchestrator.state.snapshot import SnapshotError, capture, image_hash, restore, state_hash
from tests.unit.state.kit import Kit, Placement, group, job, node


def busy() -> Kit:
    kit = Kit()
    for name in ("n1", "n2"):
        kit.register(node(name, gpus=1, engine="e"))
    kit.submit(job("gone"), job("a", group(count=3, ports=(0,))), job("b", group("g", 2, gpus=1, share=500)))
    kit.plan(Placement("a/api/0", "n1", ports=(1,)), Placement("a/api/2", "n2", ports=(2,)), Placement("b/g/1", "n1"))
    kit.place("gone/api/0", "n1")
    kit.observe("a/api/0", AllocState.FAILED, reason="exit 3", exit_code=3)
    kit.place("a/api/0", "n2", ports=(3,))
    kit.observe("gone/api/0", AllocState.COMPLETE)
    kit.do(RemoveJob(namespace="default", name="gone"), request_id="r1")
    kit.do(WriteVariable(namespace="default", name="v", value="é"), request_id="r2")
    return kit


def test_a_restored_state_goes_on_like_the_first() -> None:
    kit = busy()
    other = restore(capture(kit.state))
    assert state_hash(other) == state_hash(kit.state)
    done = len(kit.entries)
    kit.submit(job("c"), job("d"))
    kit.place("c/api/0", "n1")
    kit.place("a/api/1", "n1", ports=(9,))
    kit.do(WriteVariable(namespace="default", name="v", value="é"), request_id="r2")
    for payload in kit.entries[done:]:
        apply(other, decode_entry(payload))
    assert state_hash(other) == state_hash(kit.state)


def test_the_order_in_which_a_node_got_its_rows_does_not_matter_after_a_restore() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a"), job("b"), job("c"))
    kit.place("a/api/0", "n1")
    kit.place("b/api/0", "n1")
    kit.observe("a/api/0", AllocState.COMPLETE)
    kit.ok(RemoveJob(namespace="default", name="a"))
    kit.place("c/api/0", "n1")  # takes the first row again
    assert kit.row("c/api/0") < kit.row("b/api/0")
    other = restore(capture(kit.state))
    done = len(kit.entries)
    index = kit.state.nodes["n1"].register_index
    kit.ok(MarkNodes(lost=(NodeMark(node_id="n1", register_index=index),)))
    kit.ok(ForgetNode(node_id="n1"))
    for payload in kit.entries[done:]:
        apply(other, decode_entry(payload))
    assert other.events.records() == kit.state.events.records()
    assert state_hash(other) == state_hash(kit.state)


def test_an_image_does_not_change_with_the_state() -> None:
    kit = busy()
    image = capture(kit.state)
    before = image_hash(image)
    kit.observe("a/api/0", AllocState.RUNNING)
    kit.submit(job("c"))
    kit.ok(WriteVariable(namespace="default", name="v", value=None))
    assert image_hash(image) == before
    assert state_hash(kit.state) != before


def test_the_hash_tells_any_difference() -> None:
    image = capture(busy().state)
    hashes = {image_hash(image)}
    changes: list[dict[str, Any]] = [
        {"index": image.index + 1},
        {"time_ms": image.time_ms + 1},
        {"cluster_id": "x"},
        {"admitted": {"p": "i"}},
        {"variables": {}},
        {"answers": image.answers[1:]},
        {"events": image.events[1:]},
        {"reasons": {}},
        {"ports": {}},
        {"jobs": {slot: replace(known, stopped=not known.stopped) for slot, known in image.jobs.items()}},
        {"nodes": {slot: replace(known, cordoned=not known.cordoned) for slot, known in image.nodes.items()}},
        *({"columns": {**image.columns, name: np.asarray(column) ^ 1}} for name, column in image.columns.items()),
    ]
    for change in changes:
        hashes.add(image_hash(replace(image, **change)))
    assert len(hashes) == 1 + len(changes)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"jobs": {}}, id="rows of no job"),
        pytest.param({"nodes": {}}, id="rows on no node"),
        pytest.param({"groups": []}, id="rows of no group"),
    ],
)
def test_an_image_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    image = capture(busy().state)
    with pytest.raises(SnapshotError):
        restore(replace(image, **change))  # type: ignore[arg-type]


def test_canonical_bytes_tell_values_and_types_apart() -> None:
    values = [
        None, False, True, 0, 1, -1, 2**80, "", "1", b"1", (), (1,), ((1,),), (1, 1), ("", "1"), ("1", ""), {}, {1: 2},
        {"a": None}, np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int64), np.zeros(2, dtype=np.int32),
        AllocState.RUNNING, group(), node("n"), node("m"),
    ]  # fmt: skip
    seen = set()
    for value in values:
        out = bytearray()
        canonical.put(out, value)
        seen.add(bytes(out))
    assert len(seen) == len(values)


def test_canonical_bytes_do_not_depend_on_the_order_of_entries() -> None:
    one, two = bytearray(), bytearray()
    canonical.put(one, {"a": 1, "b": 2})
    canonical.put(two, {"b": 2, "a": 1})
    assert one == two


def test_an_added_field_counts_only_where_it_says_something() -> None:
    """Peers that do not know it yet have the same hash for as long."""

    @dataclass(frozen=True, slots=True)
    class Before:
        name: str

    @dataclass(frozen=True, slots=True)
    class After:
        name: str
        more: int = later(0)
        less: int = later(0)

    After.__name__ = "Before"
    values = [(Before("a"),), (After("a"),), (After("a", more=1),), (After("a", less=1),), (After("a", 1, 1),)]
    outs = [bytearray() for _ in values]
    for out, value in zip(outs, values, strict=True):
        canonical.put(out, value)
    assert outs[0] == outs[1]
    assert len({bytes(out) for out in outs}) == 4


def test_what_has_no_canonical_form_is_refused() -> None:
    with pytest.raises(TypeError):
        canonical.put(bytearray(), time)
