"""Copies of the allocation table, and how it grows."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest

from orchestrator.contract import health
from orchestrator.contract.model import AllocState
from orchestrator.replication import machine as machines
from orchestrator.replication.machine import ROOMS_MAX, ClusterMachine
from orchestrator.state.allocations import FREE, PACKED_ROW_BYTES, STORED, VIEWED, AllocationTable, put, well
from orchestrator.state.packed import Room
from tests.unit.state.kit import Kit, Placement, group, job, node


def filled(rows: int) -> AllocationTable:
    """Every entry of a column is another one."""
    table = AllocationTable()
    taken = table.take(rows)
    for place, (name, _) in enumerate(STORED):
        column = getattr(table, name)
        column[taken] = (np.arange(rows) + place) % 100
    return table


def test_a_copy_holds_what_was_there_and_only_of_its_rows() -> None:
    table = filled(30)
    table.ports.update({3: (8000,), 4: (8001,), 29: (8002,)})
    table.reasons.update({5: "because", 11: "why not"})
    table.custom[7] = (("licenses", 2),)
    rows = np.array([11, 3, 7, 29], dtype=np.int32)
    copy = table.copy(rows)
    before = {name: getattr(table, name)[rows].tolist() for name in VIEWED}
    for name in VIEWED:
        getattr(table, name)[:30] = 0
    table.ports.clear()
    table.reasons.clear()
    table.custom.clear()
    assert {name: getattr(copy, name).tolist() for name in VIEWED} == before
    assert (copy.row.tolist(), copy.ports, copy.reasons) == ([11, 3, 7, 29], {3: (8000,), 29: (8002,)}, {11: "why not"})
    assert copy.custom == {7: (("licenses", 2),)}
    assert len(copy) == 4
    with pytest.raises(AttributeError, match="colour"):
        copy.colour  # type: ignore[attr-defined]  # noqa: B018


def test_of_a_table_with_few_rows_of_interest_only_those_are_copied() -> None:
    table, room = filled(100), Room(10_000)
    table.ports[97] = (8000,)
    table.custom[98] = (("licenses", 2),)
    rows = np.array([98, 97], dtype=np.int32)
    before = room.take(8, np.dtype(np.uint8))
    before[:] = 7
    copy = table.copy(rows, room)
    assert before.tolist() == [7] * 8  # nothing was packed there
    assert {name: getattr(copy, name).tolist() for name in VIEWED} == {
        name: getattr(table, name)[rows].tolist() for name in VIEWED
    }
    assert (copy.row.tolist(), copy.ports, copy.custom) == ([98, 97], {97: (8000,)}, {98: (("licenses", 2),)})


def test_room_is_used_again_for_the_next_copy() -> None:
    table, room = filled(100), Room(100 * PACKED_ROW_BYTES)
    rows = np.arange(100, dtype=np.int32)
    for number in (7, 8, 9):
        table.cpu_millis[:100] = np.arange(100) + number
        copy = table.copy(rows, room)
        assert copy.cpu_millis.tolist() == (np.arange(100) + number).tolist()
        assert copy.cpu_millis.flags.writeable
    table.take(500)  # more than there is room for
    rows = np.arange(600, dtype=np.int32)
    assert table.copy(rows, room).cpu_millis.tolist() == [*range(9, 109), *[0] * 500]


def test_what_a_copy_holds_takes_a_quarter_of_the_table() -> None:
    """As a backlog writes it: jobs one after the other, nodes as they come, reports when they come."""
    table = AllocationTable()
    count = 200_000
    rows = table.take(count)
    generator = np.random.default_rng(1)
    table.job[rows] = table.gid[rows] = np.arange(count) // 1_000
    table.ordinal[rows] = np.arange(count) % 1_000
    table.attempt[rows] = table.version[rows] = table.desired[rows] = 1
    table.state[rows] = generator.choice([10, 30], count)
    table.node[rows] = generator.integers(0, 5_000, count)
    table.cpu_millis[rows], table.memory_mib[rows] = 150, 256
    table.create_index[rows] = 6_000 + np.arange(count) // 20_000
    table.modify_index[rows] = generator.integers(6_000, 12_000, count)
    table.create_time_ms[rows] = 1_700_000_000_000 + np.arange(count) // 50
    table.modify_time_ms[rows] = table.create_time_ms[rows] + generator.integers(0, 30_000, count)
    stored = table.stored()
    assert {name: np.asarray(column).tolist() for name, column in stored.items()} == {
        name: getattr(table, name)[:count].tolist() for name, _ in STORED
    }
    took = sum(column.nbytes for column in stored.values())
    assert took <= PACKED_ROW_BYTES * count
    assert 4 * took < sum(getattr(table, name).itemsize for name, _ in STORED) * count


def test_a_growing_table_keeps_what_it_holds_though_somebody_looks_at_it() -> None:
    """Whoever copies in a thread holds arrays that a growing table must not move away under it."""
    table = filled(1000)
    before = {name: getattr(table, name)[:1000].tolist() for name, _ in STORED}
    held = {name: getattr(table, name) for name, _ in STORED[::2]}
    rows = table.take(5000)
    assert rows.tolist() == list(range(1000, 6000))
    for name, _ in STORED:
        assert len(getattr(table, name)) >= 6000, name
        assert getattr(table, name)[:1000].tolist() == before[name], name
        assert not getattr(table, name)[1000:6000].any() or name == "job", name
    assert all(array[:1000].tolist() == before[name] for name, array in held.items())
    assert (table.job[1000:6000] == -1).all()
    assert (table.prev[1000:6000] == -1).all()


def test_a_table_that_nobody_looks_at_grows_without_a_copy() -> None:
    table = filled(1000)
    columns = [id(getattr(table, name)) for name, _ in STORED]
    table.take(5000)
    assert [id(getattr(table, name)) for name, _ in STORED] == columns


def test_a_hash_takes_no_room_away_from_a_snapshot() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a", group("x", 2)))
    kit.plan(Placement("a/x/0", "n1"), Placement("a/x/1", "n1"))
    machine = ClusterMachine()
    machine.state = kit.state
    plain = machine.state_hash()
    for _ in range(ROOMS_MAX + 2):  # askers that gave up leave nothing behind that grows
        thread = threading.Thread(target=machine.make_room())
        thread.start()
        thread.join()
    assert len(machine._rooms) == ROOMS_MAX
    assert machine.capture_hash()() == plain
    assert len(machine._rooms) == ROOMS_MAX - 1
    encode = machine.capture()
    assert machine._rooms == []
    other = ClusterMachine()
    other.restore(b"".join(encode()))
    assert other.state_hash() == plain


def test_room_that_became_too_small_keeps_nobody_from_getting_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "ROOM_ROWS", 4)
    machine = ClusterMachine()
    for _ in range(ROOMS_MAX):
        machine.make_room()()
    machine.state.table.take(100)
    machine.make_room()()
    assert [room.size for room in machine._rooms] == [104 * PACKED_ROW_BYTES]


def test_zeros_are_not_written_where_nothing_else_was() -> None:
    """What was never written takes no memory: a column that must not be written to shows who would."""
    column = np.zeros(8, dtype=np.int64)
    column.flags.writeable = False
    put(column, np.array([1, 3]), 0)
    put(column, np.array([1, 3]), np.zeros(2, dtype=np.int32))
    with pytest.raises(ValueError, match="read-only"):
        put(column, np.array([1, 3]), np.array([0, 7]))
    column.flags.writeable = True
    put(column, np.array([1, 3]), np.array([0, 7]))
    assert column.tolist() == [0, 0, 0, 7, 0, 0, 0, 0]
    put(column, np.array([1, 3]), 0)
    assert column.tolist() == [0] * 8


def test_a_table_that_grows_and_is_copied_keeps_what_is_in_it() -> None:
    table = AllocationTable()
    generator = np.random.default_rng(1)
    held: dict[str, list[int]] = {name: [] for name, _ in STORED}
    for step in range(30):
        rows = table.take(7_000)
        for name, dtype in STORED:
            empty = name != "job" and (step < 20 or name == "moved")
            values = np.zeros(7_000, dtype=dtype) if empty else generator.integers(0, 2, 7_000).astype(dtype)
            put(getattr(table, name), rows, values)
            held[name] += values.tolist()
    for room in (None, Room(10), Room(40 * table.high)):
        stored = table.stored(room)
        assert {name: np.asarray(column).tolist() for name, column in stored.items()} == held
        assert {name: column.dtype for name, column in stored.items()} == {
            name: np.dtype(dtype) for name, dtype in STORED
        }
        again = AllocationTable(stored)
        assert all(np.array_equal(getattr(again, name)[: again.high], held[name]) for name, _ in STORED)


# ---------------------------------------------------------------------------- rows


def assert_new(table: AllocationTable, rows: list[int]) -> None:
    """These hold nothing."""
    for name in (*(name for name, _ in STORED), "health", "told"):
        if name != "job":
            assert not getattr(table, name)[rows].any(), name
    assert (table.job[rows] == FREE).all()
    assert (table.prev[rows] == -1).all()
    assert not {*table.ports, *table.reasons, *table.custom}.intersection(rows)


def use(table: AllocationTable, rows: list[int]) -> None:
    """Something stands in all that a row can have."""
    for name in (*(name for name, _ in STORED), "health", "told", "prev"):
        getattr(table, name)[rows] = 1
    for row in rows:
        table.ports[row], table.reasons[row], table.custom[row] = (80,), "because", (("licenses", 1),)


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_handed_out_smallest_first_with_nothing_in_them(seed: int) -> None:
    chance = random.Random(seed)
    table, used = AllocationTable(), set[int]()
    for _ in range(40):
        if used and chance.random() < 0.5:
            gone = chance.sample(sorted(used), chance.randint(1, len(used)))
            table.drop(np.array(gone, dtype=np.int32))
            used.difference_update(gone)
            assert_new(table, [row for row in gone if row < len(table.job)])
        else:
            wanted = chance.randint(0, 9)
            free = [row for row in range(len(used) + wanted) if row not in used][:wanted]
            rows = table.take(wanted)
            assert rows.tolist() == free
            assert rows.dtype == np.dtype(np.int32)
            assert_new(table, free)
            use(table, free)
            used.update(free)
        assert table.used().tolist() == sorted(used)
        assert table.count == len(used)
        assert table.high <= len(table.job)
        if chance.random() < 0.3:  # as a peer that starts from a snapshot
            again = AllocationTable(table.stored())
            assert (again.high, again.count) == (table.high, table.count)
            assert_new(again, list(range(again.high, len(again.job))))
            for name in ("prev", "health", "told"):
                getattr(again, name)[: table.high] = getattr(table, name)[: table.high]
            for name in ("ports", "reasons", "custom"):
                setattr(again, name, getattr(table, name))
            table = again


def test_a_table_of_which_all_is_given_back_is_as_small_as_a_new_one() -> None:
    table, new = AllocationTable(), AllocationTable()
    rows = table.take(1_000)
    use(table, rows.tolist())
    table.drop(rows)
    for name in (*(name for name, _ in STORED), "health", "told", "prev"):
        assert getattr(table, name).tolist() == getattr(new, name).tolist()
        assert getattr(table, name).dtype == getattr(new, name).dtype
    assert (table.high, table.count) == (0, 0)
    assert table.take(3).tolist() == [0, 1, 2]


def test_who_may_still_run_is_live() -> None:
    table = AllocationTable()
    rows = table.take(len(AllocState) + 1)
    table.state[rows[1:]] = [int(state) for state in AllocState]
    table.job[rows[1:]] = 0
    live = {AllocState.PENDING, AllocState.STARTING, AllocState.RUNNING, AllocState.BACKOFF, AllocState.STOPPING}
    expected = [False, *(state in live for state in AllocState)]
    assert [table.is_live(row) for row in rows.tolist()] == expected
    assert table.live_rows().tolist() == [row for row in rows.tolist() if expected[row]]
    for copied in (table.copy(rows[1:]), table.copy_few(rows[1:])):
        assert copied.live.tolist() == expected[1:]


def test_who_runs_and_has_good_checks_is_ready() -> None:
    words = [0, health.word(1, False), health.word(1, True), health.word(7, False), health.word(7, True)]
    state = np.repeat(np.array([int(state) for state in AllocState], dtype=np.int8), len(words))
    word = np.array(words * len(AllocState), dtype=np.int64)
    expected = [
        at == AllocState.RUNNING and health.is_ready(one) for at, one in zip(state.tolist(), word.tolist(), strict=True)
    ]
    assert sum(expected) == 3
    assert well(state, word).tolist() == expected
    table = AllocationTable()
    rows = table.take(len(state))
    table.state[rows], table.health[rows] = state, word
    for copied in (table.copy(rows), table.copy_few(rows)):
        assert copied.ready.tolist() == expected
    assert table.healths() == {row: one for row, one in enumerate(word.tolist()) if one}


def test_what_only_some_rows_have_is_copied_of_those_that_are_asked_for() -> None:
    table = filled(30)
    none = table.copy(np.array([3, 4, 5, 6], dtype=np.int32))
    assert (none.ports, none.reasons, none.custom) == ({}, {}, {})
    table.ports.update({5: (80,), 29: (81,)})
    some = table.copy(np.array([3, 4, 5, 6], dtype=np.int32))
    assert some.ports == {5: (80,)}
    assert some.ports is some.ports and some.state is some.state, "it is gathered once"
    small = AllocationTable()
    small.ports[3] = (80,)
    empty = small.copy(np.empty(0, dtype=np.int32))
    assert (len(empty), empty.ports, empty.state.tolist()) == (0, {}, [])


def test_a_copy_that_is_only_being_made_has_nothing() -> None:
    """As ``copy`` and debuggers find it; it must not ask itself for ever."""
    made = type(filled(4).copy(np.arange(4, dtype=np.int32)))
    assert not hasattr(made.__new__(made), "state")
