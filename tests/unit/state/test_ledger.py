"""What nodes have given away, counted by hand: sums, shares of devices, ports of engines, rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.contract.model import MAX_DEVICES, AllocState, DeviceRequest, GroupSpec, Limits, Resources
from orchestrator.state.commands import Action, Collect, MarkNodes, NodeMark
from orchestrator.state.ledger import Ledger, device_bits, engine_key
from orchestrator.state.snapshot import capture, restore
from orchestrator.state.state import State
from tests.unit.state.kit import Kit, Placement, group, job, node


def asks(
    cpu: int, memory: int, disk: int, *, gpus: int = 0, share: int = 1000, ports: tuple[int, ...] = ()
) -> GroupSpec:
    base = group(ports=ports)
    need = Resources(
        cpu_millis=cpu, memory_mib=memory, disk_mib=disk,
        gpus=DeviceRequest(count=gpus, gpu_millis=share) if gpus else None,
    )  # fmt: skip
    return replace(base, count=3, tasks=(replace(base.tasks[0], resources=need),))


def used(state: State, slot: int) -> tuple[int, int, int, list[int]]:
    """cpu, memory and disk, and millis of the first four devices."""
    ledger = state.ledger
    return (
        int(ledger.cpu_millis[slot]), int(ledger.memory_mib[slot]), int(ledger.disk_mib[slot]),
        ledger.device_millis[slot, :4].tolist(),
    )  # fmt: skip


def both(state: State, slot: int) -> tuple[int, int, int, list[int]]:
    """The same of the state and of what is restored of it."""
    found = used(state, slot)
    assert used(restore(capture(state)), slot) == found
    return found


def test_what_is_placed_is_held_once_and_given_back_once() -> None:
    kit = Kit()
    kit.register(node("n1", gpus=4))
    kit.register(node("n2", gpus=4))
    kit.submit(job("web", asks(100, 64, 7, gpus=2)), job("small", asks(10, 5, 3, gpus=1, share=300)))
    kit.plan(
        Placement("web/api/0", "n1", devices=(0, 1)), Placement("web/api/1", "n2", devices=(1, 3)),
        Placement("small/api/0", "n1", devices=(2,)), Placement("small/api/1", "n1", devices=(2,)),
    )  # fmt: skip
    assert both(kit.state, 0) == (120, 74, 13, [1000, 1000, 600, 0])
    assert both(kit.state, 1) == (100, 64, 7, [0, 1000, 0, 1000])
    assert kit.state.ledger.wide == restore(capture(kit.state)).ledger.wide == 4
    for alloc in ("web/api/0", "small/api/1"):
        kit.observe(alloc, AllocState.FAILED)
    assert both(kit.state, 0) == (10, 5, 3, [0, 0, 300, 0])
    kit.observe("small/api/0", AllocState.FAILED)
    assert both(kit.state, 0) == (0, 0, 0, [0] * 4)
    assert both(kit.state, 1) == (100, 64, 7, [0, 1000, 0, 1000])


def test_rows_are_known_by_node_live_ones_and_all() -> None:
    kit = Kit()
    for name in ("n1", "n2"):
        kit.register(node(name))
    kit.submit(job("web", asks(1, 1, 1)))
    kit.plan(Placement("web/api/2", "n2"), Placement("web/api/0", "n1"), Placement("web/api/1", "n2"))

    def rows() -> list[tuple[list[str], int]]:
        for state in (kit.state, restore(capture(kit.state))):
            table, ledger = state.table, state.ledger
            found = [
                (sorted(f"{int(table.ordinal[row])}#{int(table.attempt[row])}" for row in ledger.live[slot]), int(kept))
                for slot, kept in enumerate(ledger.rows_kept[:2])
            ]
        return found

    assert rows() == [(["0#1"], 1), (["1#1", "2#1"], 2)]
    kit.observe("web/api/1", AllocState.FAILED)
    kit.plan(Placement("web/api/1", "n1"))
    assert rows() == [(["0#1", "1#2"], 2), (["2#1"], 2)]


def test_several_rows_are_given_back_by_one_command() -> None:
    kit = Kit()
    for name in ("n1", "n2"):
        kit.register(node(name))
    kit.submit(job("web", asks(100, 64, 7)))
    kit.plan(Placement("web/api/0", "n1"), Placement("web/api/1", "n1"), Placement("web/api/2", "n2"))
    kit.ok(MarkNodes(lost=(NodeMark(node_id="n1", register_index=kit.state.nodes["n1"].register_index),)))
    assert both(kit.state, 0) == (200, 128, 14, [0] * 4)
    kit.plan(actions=[(Action.LOSE, f"web/api/{ordinal}", "gone") for ordinal in (0, 1)])
    assert both(kit.state, 0) == (0, 0, 0, [0] * 4) and both(kit.state, 1) == (100, 64, 7, [0] * 4)
    assert [len(rows) for rows in kit.state.ledger.live[:2]] == [0, 1]


def test_rows_that_leave_the_table_are_counted_out() -> None:
    kit = Kit(Limits(allocations_per_ordinal=1))
    kit.register(node("n1"))
    kit.submit(job("web", asks(1, 1, 1)))
    for _ in range(3):
        kit.place("web/api/0", "n1")
        kit.observe("web/api/0", AllocState.FAILED)
    assert int(kit.state.ledger.rows_kept[0]) == 3
    kit.ok(Collect())
    assert int(kit.state.ledger.rows_kept[0]) == 1


def test_custom_resources_are_held_and_given_back() -> None:
    kit = Kit()
    kit.register(node("n1", licenses=5))
    kit.submit(job("web", group(count=2, licenses=2)))
    kit.plan(Placement("web/api/0", "n1"), Placement("web/api/1", "n1"))

    def held() -> int:
        for state in (kit.state, restore(capture(kit.state))):
            found = dict(state.ledger.custom.of(0)).get("licenses", 0)
        return found

    assert held() == 4
    kit.observe("web/api/0", AllocState.FAILED)
    assert held() == 2


def test_ports_are_an_engines_where_the_agent_names_one_else_the_nodes_own() -> None:
    kit = Kit()
    for name, engine in (("n1", "e"), ("n2", "e"), ("n3", ""), ("n4", "")):
        kit.register(replace(node(name, engine=engine), port_min=1, port_max=60_000))
    assert [engine_key(kit.state.nodes[name]) for name in ("n1", "n2", "n3", "n4")] == [
        "engine:e", "engine:e", "node:n3", "node:n4",
    ]  # fmt: skip
    kit.submit(job("one", asks(1, 1, 1, ports=(8080, 9090))), job("two", asks(1, 1, 1, ports=(7070,))))
    kit.plan(
        Placement("one/api/0", "n1", ports=(8080, 9090)), Placement("one/api/1", "n3", ports=(8080, 9090)),
        Placement("two/api/0", "n2", ports=(7070,)),
    )  # fmt: skip

    def taken() -> dict[str, list[int]]:
        found = {key: sorted(held) for key, held in kit.state.ledger.ports.items()}
        assert {key: sorted(held) for key, held in restore(capture(kit.state)).ledger.ports.items()} == found
        return found

    assert taken() == {"engine:e": [7070, 8080, 9090], "node:n3": [8080, 9090]}
    for alloc in ("one/api/0", "one/api/1"):
        kit.observe(alloc, AllocState.FAILED)
    assert taken() == {"engine:e": [7070]}


def test_what_was_in_use_stays_so_when_more_nodes_come() -> None:
    kit = Kit()
    for number in range(9):
        kit.register(node(f"n{number}", gpus=2))
        if number == 2:
            kit.submit(job("web", asks(10, 20, 30, gpus=1)))
            for ordinal in range(3):
                kit.place(f"web/api/{ordinal}", f"n{ordinal}", devices=(1,))
    assert [used(kit.state, slot) for slot in range(3)] == [(10, 20, 30, [0, 1000, 0, 0])] * 3
    assert [used(kit.state, slot) for slot in range(3, 9)] == [(0, 0, 0, [0] * 4)] * 6
    kit.state.ledger.touch(np.array([1, 5], dtype=np.int32), 77)
    assert kit.state.ledger.touched[[1, 5]].tolist() == [77, 77] and 77 not in kit.state.ledger.touched[[0, 2, 6]]


def test_every_agent_of_a_restored_state_looks_again() -> None:
    kit = Kit()
    for name in ("n1", "n2"):
        kit.register(node(name))
    ledger = restore(capture(kit.state)).ledger
    assert set(ledger.touched.tolist()) == set(ledger.lost_touched.tolist()) == {kit.state.index}


@pytest.mark.parametrize(
    ("mask", "bits"), [(0, []), (1, [0]), (0b1010, [1, 3]), (1 << 63, [63]), (2**64 - 1, [*range(64)])]
)
def test_a_mask_holds_the_devices_of_its_bits(mask: int, bits: list[int]) -> None:
    found = device_bits(np.array([0, mask], dtype=np.uint64))
    assert found.shape == (2, MAX_DEVICES) and not found[0].any()
    assert np.flatnonzero(found[1]).tolist() == bits


def test_devices_that_are_held_without_rows() -> None:
    ledger = Ledger()
    ledger.reserve(1)
    millis = np.zeros(MAX_DEVICES, dtype=np.int32)
    ledger.hold_devices(1, millis)
    assert ledger.wide == 0
    millis[[0, 4]] = 500, 1000
    ledger.hold_devices(1, millis)
    assert ledger.device_millis[1, :6].tolist() == [500, 0, 0, 0, 1000, 0] and ledger.wide == 5
    ledger.hold_devices(0, np.where(np.arange(MAX_DEVICES) == 1, 7, 0).astype(np.int32))
    assert ledger.wide == 5 and ledger.device_millis[:, 1].tolist()[:2] == [7, 0]
