"""Runs the table of holes: ``pytest -k S7:`` shows ``S7: guarded holds`` and ``S7: unguarded fails``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from tests.unit.replication import holes_in_the_log, holes_on_disk  # noqa: F401 - they fill the table
from tests.unit.replication.holes import HOLES, Hole

NAMES = [f"S{number}" for number in range(1, 20)]


def pairs() -> list[ParameterSet]:
    ordered = sorted(HOLES, key=lambda hole: NAMES.index(hole.name))
    return [
        # That each can fail is shown by ``scripts/test``.
        pytest.param(
            hole,
            guarded,
            marks=[] if guarded else [pytest.mark.soak],
            id=f"{hole.name}: {half} ({hole.schedule.__name__.strip('_').replace('_', ' ')})",
        )
        for hole in ordered
        for guarded, half in ((True, "guarded holds"), (False, "unguarded fails"))
    ]


@pytest.mark.filterwarnings("ignore:unclosed file.*journal.meta:ResourceWarning")  # PySyncObj leaves its own open
@pytest.mark.parametrize(("hole", "guarded"), pairs())
def test_hole(hole: Hole, guarded: bool) -> None:
    happened = hole.schedule(guarded)
    assert happened == (hole.holds if guarded else hole.fails), hole.story


def test_every_hole_has_both_halves_and_they_differ() -> None:
    ids = [str(pair.id) for pair in pairs()]
    for name in NAMES:
        for half in ("guarded holds", "unguarded fails"):
            assert any(pair.startswith(f"{name}: {half}") for pair in ids), f"{name}: {half}"
    assert sorted({hole.name for hole in HOLES}, key=NAMES.index) == NAMES
    assert all(hole.holds != hole.fails for hole in HOLES)


def test_page_on_guarantees_has_a_row_for_every_hole() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "guarantees.md").read_text()
    assert re.findall(r"^\| (S\d+) \|", page, re.MULTILINE) == NAMES
