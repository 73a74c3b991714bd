"""Columns packed small: what comes out is what went in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from orchestrator.state import packed
from orchestrator.state.packed import Packed, Room

KINDS = ("<i1", "<i4", "<i8", "<u8", "|b1")


@pytest.fixture(autouse=True)
def _few_rows_are_packed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_FEW_ROWS", 0)


@st.composite
def columns(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Of each kind: anything at all, or values near each other anywhere."""
    dtype = np.dtype(draw(st.sampled_from(KINDS)))
    rows = draw(st.integers(0, 40))
    elements: st.SearchStrategy[Any] = st.booleans()
    if dtype.kind != "b":
        limits: Any = np.iinfo(dtype)
        low = draw(st.integers(int(limits.min), int(limits.max)))
        span = draw(st.sampled_from([0, 1, 0xFF, 0x100, 0xFFFF, 0x1_0000, 0xFFFF_FFFF, 0x1_0000_0000, 2**64]))
        elements = st.integers(low, min(low + span, int(limits.max)))
    return draw(arrays.arrays(dtype, rows, elements=elements))


@given(
    column=columns(),
    few=st.sampled_from([0, 5, 256]),
    size=st.sampled_from([0, 7, 64, 10_000]),
    cut=st.tuples(st.integers(0, 41), st.integers(0, 41)),
)
def test_what_comes_out_is_what_went_in(
    column: np.ndarray[Any, Any], few: int, size: int, cut: tuple[int, int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "_FEW_ROWS", few)
        patch.setattr(packed, "BLOCK_ROWS", 8)
        held = Packed(column, Room(size))
        wanted = column.copy()
        column[:] = 0
        assert len(held) == len(wanted)
        for found, expected in ((np.asarray(held), wanted), (held[slice(*cut)], wanted[slice(*cut)])):
            assert found.dtype == wanted.dtype
            assert found.tolist() == expected.tolist()
        assert held.nbytes <= wanted.nbytes


@pytest.mark.parametrize(
    ("values", "each"),
    [
        ([5, 5, 5], 0),
        ([2**62, 2**62 + 255, 2**62], 1),
        ([-(2**62), -(2**62) + 256, 0 - 2**62], 2),
        ([-(2**31), 2**31 - 1, 0], 4),
        ([-(2**31), 2**31, 0], 8),
    ],
)
def test_a_block_takes_what_its_differences_need(values: list[int], each: int) -> None:
    held = Packed(np.array(values, dtype=np.int64), Room())
    assert held.nbytes == each * len(values)
    assert np.asarray(held).tolist() == values


def test_only_rows_that_follow_each_other_are_given() -> None:
    held = Packed(np.arange(10), Room())
    assert held[2:5].tolist() == [2, 3, 4]
    assert held[8:5].tolist() == []
    with pytest.raises(ValueError, match="follow each other"):
        held[::2]


def test_copies_in_one_room_do_not_share_memory_until_it_is_cleared() -> None:
    room = Room(64)
    first = Packed(np.arange(3), room)
    second = Packed(np.arange(5) * 1000, room)
    third = Packed(np.arange(100) * 1000, room)  # more than is left
    assert np.asarray(first).tolist() == [0, 1, 2]
    assert np.asarray(second).tolist() == [0, 1000, 2000, 3000, 4000]
    assert np.asarray(third).tolist() == [1000 * number for number in range(100)]
    room.clear()
    Packed(np.arange(3) + 7 * np.arange(3), room)
    assert np.asarray(first).tolist() != [0, 1, 2]


def test_a_few_rows_are_copied_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_FEW_ROWS", 3)
    assert Packed(np.array([5, 5, 5]), Room()).nbytes == 3 * 8
    assert Packed(np.array([5, 5, 5, 5]), Room()).nbytes == 0
