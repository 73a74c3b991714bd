"""The index of ordinals: numbers handed out smallest first, attempts that never fall, rows found where they lie."""

from __future__ import annotations

import random

import numpy as np
import pytest

from orchestrator.state.ordinals import GroupImages, LastAttempts, Ordinals, Slots


def ints(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(values, dtype=np.int32)


# ---------------------------------------------------------------------------- slots


def test_slots_are_handed_out_smallest_first() -> None:
    slots = Slots()
    assert [slots.take() for _ in range(3)] == [0, 1, 2]
    for slot in (1, 0):
        slots.release(slot)
    assert [slots.take() for _ in range(3)] == [0, 1, 3]
    assert slots.high == 4


@pytest.mark.parametrize(
    ("used", "following", "high"),
    [((), [0, 1], 0), ((0, 1), [2, 3], 2), ((3, 1), [0, 2], 4), ((2,), [0, 1], 3), ((0,), [1, 2], 1)],
)
def test_which_comes_next_follows_from_those_in_use_alone(
    used: tuple[int, ...], following: list[int], high: int
) -> None:
    slots = Slots(used)
    assert slots.high == high
    assert [slots.take() for _ in range(2)] == following


# ---------------------------------------------------------------------------- groups


class World:
    """``Ordinals`` and what it should hold: by gid, attempt and row of each ordinal."""

    def __init__(self) -> None:
        self.index = Ordinals()
        self.groups: dict[tuple[int, str], tuple[int, dict[int, tuple[int, int]]]] = {}

    def place(self, job: int, name: str, ordinal: int, attempt: int, row: int) -> None:
        gid = self.index.add(job, name)
        known = self.groups.setdefault((job, name), (gid, {}))
        assert known[0] == gid
        self.index.ensure(gid, ordinal + 1)
        at = int(self.index.base[gid]) + ordinal
        self.index.last_attempt[at], self.index.newest[at] = attempt, row
        known[1][ordinal] = attempt, row

    def forget(self, job: int) -> None:
        self.index.forget_job(job)
        self.groups = {key: known for key, known in self.groups.items() if key[0] != job}

    def check(self) -> None:
        index = self.index
        assert index.gids == {key: gid for key, (gid, _) in self.groups.items()}
        assert index.names == {gid: key for key, (gid, _) in self.groups.items()}
        jobs = {job for job, _ in self.groups}
        assert index.by_job == {
            job: sorted(gid for (owner, _), (gid, _) in self.groups.items() if owner == job) for job in jobs
        }
        last, images = LastAttempts(index), GroupImages(index)
        assert dict(last).keys() == self.groups.keys() and len(last) == len(images) == len(self.groups)
        by_gid = {gid: (key, held) for key, (gid, held) in self.groups.items()}
        assert [image[:3] for image in images] == [(gid, *by_gid[gid][0]) for gid in sorted(by_gid)]
        for place, gid in enumerate(sorted(by_gid)):
            key, held = by_gid[gid]
            attempts = [held.get(ordinal, (0, -1))[0] for ordinal in range(max(held, default=-1) + 1)]
            assert index.attempts(gid).tolist() == last[key].tolist() == images[place][3].tolist() == attempts
            for ordinal in range(-1, max(held, default=-1) + 20):
                assert index.find(gid, ordinal) == held.get(ordinal, (0, -1))[1]
            rows = [held[ordinal][1] for ordinal in sorted(held)]
            assert [row for row in index.rows(gid).tolist() if row >= 0] == rows == index.rows_of([gid]).tolist()
        for job in (*jobs, 99):
            rows = [
                held[ordinal][1]
                for gid, (key, held) in sorted(by_gid.items())
                if key[0] == job
                for ordinal in sorted(held)
            ]
            assert index.job_rows(job).tolist() == rows
        every = [held[ordinal][1] for _, (_, held) in sorted(by_gid.items(), reverse=True) for ordinal in sorted(held)]
        assert index.rows_of(sorted(by_gid, reverse=True)).tolist() == every


def test_whatever_is_placed_and_forgotten_is_found_where_it_should_be() -> None:
    """Enough of both that arrays grow and places are used again."""
    chance = random.Random(7)
    world, row = World(), 0
    for step in range(300):
        job = chance.randrange(12)
        if chance.random() < 0.07:
            world.forget(job)
        else:
            name = chance.choice("abc")
            ordinal = chance.choice((0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 33))
            world.place(job, name, ordinal, chance.randint(1, 9), row)
            row += 1
        if step % 10 == 0:
            world.check()
    world.check()


def test_a_group_has_one_number_and_a_number_that_came_free_is_the_next() -> None:
    index = Ordinals()
    assert [index.add(0, "a"), index.add(0, "b"), index.add(1, "a"), index.add(0, "a")] == [0, 1, 2, 0]
    index.paired |= {0, 2}
    index.forget_job(0)
    assert index.paired == {2}
    assert [index.add(1, "b"), index.add(2, "a"), index.add(2, "b")] == [0, 1, 3]
    assert index.by_job == {1: [0, 2], 2: [1, 3]}
    index.forget_job(77)


def test_there_may_be_many_groups() -> None:
    index = Ordinals()
    for number in range(40):
        assert index.add(number, "a") == number
        index.ensure(number, 1)
        index.newest[int(index.base[number])] = number
    assert index.rows_of(list(range(40))).tolist() == list(range(40))
    assert len({int(base) for base in index.base[:40]}) == 40


@pytest.mark.parametrize("ordinal", [0, 3])
def test_a_block_that_was_given_back_is_empty_and_used_again(ordinal: int) -> None:
    world = World()
    world.place(0, "a", ordinal, attempt=5, row=9)
    first = int(world.index.base[0])
    world.place(1, "a", ordinal, attempt=1, row=8)
    world.forget(0)
    world.place(2, "a", ordinal, attempt=2, row=7)
    gid = world.index.gids[(2, "a")]
    assert int(world.index.base[gid]) == first, "the lowest of its size"
    world.check()
    high = len(world.index.newest)
    for _ in range(2_000):
        world.place(3, "a", 40, attempt=1, row=1)
        world.forget(3)
    assert len(world.index.newest) <= 2 * high, "or it would grow for ever"


@pytest.mark.parametrize("ordinals", [1, 2, 3, 4, 5, 8, 9, 63, 64, 65, 1000])
def test_as_many_ordinals_as_were_asked_for_have_room_and_what_was_there_stays(ordinals: int) -> None:
    index = Ordinals()
    other, gid = index.add(0, "other"), index.add(0, "a")
    index.ensure(other, 2)
    index.ensure(gid, 1)
    index.last_attempt[int(index.base[gid])] = 4
    index.ensure(gid, ordinals)
    assert ordinals <= int(index.size[gid]) < 2 * ordinals
    index.ensure(gid, 1)
    assert ordinals <= int(index.size[gid])
    rows = index.rows(gid)
    rows[:] = range(len(rows))
    assert index.rows(other).tolist() == [-1, -1] and index.attempts(gid).tolist() == [4]
    assert index.find(gid, ordinals - 1) == ordinals - 1 and index.find(gid, len(rows)) == index.find(gid, -1) == -1


def test_what_moved_to_a_larger_block_leaves_its_own_to_others() -> None:
    index = Ordinals()
    gid, other = index.add(0, "a"), index.add(1, "a")
    index.ensure(gid, 2)
    first = int(index.base[gid])
    index.ensure(gid, 2)
    assert int(index.base[gid]) == first, "it has room"
    index.ensure(gid, 3)
    assert int(index.base[gid]) != first
    index.ensure(other, 2)
    assert int(index.base[other]) == first and index.rows(other).tolist() == [-1, -1]


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 16, 17])
@pytest.mark.parametrize("last", [-1, 0, 5, 8, 12])
def test_attempts_end_with_the_last_ordinal_that_ever_had_one(length: int, last: int) -> None:
    index = Ordinals()
    gid = index.add(0, "a")
    index.ensure(gid, max(length, last + 1))
    if last >= 0:
        index.last_attempt[int(index.base[gid]) + last] = 3
    assert index.attempts(gid).tolist() == ([0] * last + [3] if last >= 0 else [])


def test_what_is_shown_stays_as_it_was_and_cannot_be_written_to() -> None:
    world = World()
    world.place(0, "a", 1, attempt=3, row=0)
    world.place(0, "b", 0, attempt=1, row=1)
    last, images, copied = LastAttempts(world.index), GroupImages(world.index), world.index.attempts(0)
    world.place(0, "a", 1, attempt=4, row=2)
    world.place(0, "c", 0, attempt=1, row=3)
    assert last[(0, "a")].tolist() == images[0][3].tolist() == copied.tolist() == [0, 3]
    assert list(last) == [(0, "a"), (0, "b")] and [image[2] for image in images[0:2]] == ["a", "b"]
    assert images[-1][2] == "b" and len(images) == len(last) == 2
    for array in (last[(0, "a")], images[0][3]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
    copied[0] = 7
    assert world.index.attempts(0).tolist() == [0, 4]


def test_what_was_stored_is_entered_again_with_the_same_numbers() -> None:
    world = World()
    for job, name, ordinal in ((0, "a", 2), (1, "a", 9), (1, "b", 0), (2, "a", 0)):
        world.place(job, name, ordinal, attempt=ordinal + 1, row=-1)
    world.index.add(3, "empty")
    world.forget(0)
    index = Ordinals()
    index.restore(GroupImages(world.index))
    assert (index.gids, index.names, index.by_job) == (world.index.gids, world.index.names, world.index.by_job)
    for gid in index.names:
        assert index.attempts(gid).tolist() == world.index.attempts(gid).tolist()
        assert index.rows_of([gid]).tolist() == [], "rows are entered with the table"
    assert index.add(9, "next") == world.index.add(9, "next") == 0
    assert index.add(9, "then") == world.index.add(9, "then") == 5
    assert index.job_rows(1).dtype == index.job_rows(77).dtype == np.int32


def test_a_number_far_above_the_others_has_room() -> None:
    index = Ordinals()
    index.restore([(100, 4, "a", ints(3, 1))])
    assert index.attempts(100).tolist() == [3, 1] and index.by_job == {4: [100]}
    assert index.add(4, "b") == 0
