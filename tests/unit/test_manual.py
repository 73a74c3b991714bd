"""Lists in the manual that code has too: each names all of it."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.state.events import KINDS

MANUAL = (Path(__file__).parents[2] / "docs" / "manual.md").read_text(encoding="utf-8")


def test_the_manual_names_every_kind_of_event_once() -> None:
    (listed,) = re.findall(r"^Event kinds: (.*?)\n\n", MANUAL, re.DOTALL | re.MULTILINE)
    found: list[str] = []
    for group in listed.rstrip(".").split(";"):
        prefix, names = re.fullmatch(r"\s*`([a-z]+\.)`\s+(.*)", group, re.DOTALL).groups()  # type: ignore[union-attr]
        found += [prefix + name.strip() for name in names.split(",")]
    assert len(found) == len(set(found))
    assert set(KINDS) <= set(found)
