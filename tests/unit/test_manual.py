"""The manual's lists are those of the program: kinds of events, reasons of errors, drills and what they print."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from orchestrator.contract.errors import ERRORS
from orchestrator.ops.drill_facts import Verdict
from orchestrator.ops.drill_kinds import KINDS as DRILLS
from orchestrator.state import events

ROOT = Path(__file__).resolve().parents[2]
MANUAL = (ROOT / "docs" / "manual.md").read_text(encoding="utf-8")
OURS_ALONE = {"RAFTSMAN_SESSION"}
"""Marks the processes of a session in a container, so that they can be found and ended."""


def kinds_in(paragraph: str) -> set[str]:
    found = set(re.findall(r"`([a-z]+\.[a-z-]+)`", paragraph))
    for prefix, words in re.findall(r"`([a-z]+\.)` ([a-z, -]+)", " ".join(paragraph.split())):
        found |= {prefix + word.strip() for word in words.split(",")}
    return found


def rows() -> list[list[str]]:
    """The cells of every row of every table."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in MANUAL.splitlines() if line[:2] == "| "]


def test_every_kind_of_event_is_listed_once() -> None:
    said = [paragraph for paragraph in MANUAL.split("\n\n") if paragraph.startswith("Event kinds:")]
    assert len(said) == 1
    assert said[0].count("Event kinds:") == 1
    assert kinds_in(said[0].removeprefix("Event kinds:")) == set(events.KINDS)


def test_every_reason_of_an_error_is_in_the_table() -> None:
    first = " ".join(cells[0] for cells in rows() if len(cells) == 5)
    assert {f"`{error.reason}`" for error in ERRORS} <= set(re.findall(r"`[A-Z_]+`", first))


def test_every_variable_of_the_environment_is_told() -> None:
    sources = [file for folder in ("orchestrator", "agent") for file in (ROOT / folder).rglob("*.py")]
    found = {
        name
        for file in sources
        for name in re.findall(r"""["'](RAFTSMAN_[A-Z0-9_]*[A-Z0-9])["']""", file.read_text(encoding="utf-8"))
    }
    assert len(found) > 25
    # The prefix of a process's flags, and the port of one of our own services.
    found -= {"RAFTSMAN_GATEWAY", "RAFTSMAN_PORT_HTTP"}
    told = set(re.findall(r"RAFTSMAN_[A-Z0-9_]+|`_[A-Z0-9_]+", MANUAL))
    shortened = {name for name in found if any(f"`{name[at:]}" in told for at, one in enumerate(name) if one == "_")}
    assert found - told - shortened - OURS_ALONE == set()


def test_every_drill_and_every_key_that_it_prints_is_told() -> None:
    first = [cells[0] for cells in rows()]
    assert {f"`{name}`" for name in DRILLS} <= set(first)
    keys = {f"`{field.name}`" for field in fields(Verdict)} - {"`problems`"}
    assert keys <= set(re.findall(r"`[a-z_]+`", " ".join(first)))


def test_no_table_is_cut_in_two_and_every_heading_stands_alone() -> None:
    lines = MANUAL.splitlines()
    fenced = False
    for number, line in enumerate(lines[1:], 1):
        fenced ^= line.startswith("```")
        if fenced:
            continue
        if re.match("#+ ", line):
            assert lines[number - 1] == "", line
        if line.startswith("|") and not lines[number - 1].startswith("|"):
            assert lines[number + 1].startswith("|--"), f"rows without a head: {line}"
