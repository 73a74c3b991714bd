"""The map of the project leads somewhere: every stop of "Life of a job" is a file that exists."""

from __future__ import annotations

import re
from pathlib import Path

MAP = Path(__file__).resolve().parent.parent.parent / "orchestrator" / "README.md"
LINKS = re.findall(r"\]\(([^)]+)\)", MAP.read_text(encoding="utf-8"))


def test_every_link_of_the_map_is_a_file() -> None:
    assert [link for link in LINKS if not (MAP.parent / link).is_file()] == []


def test_the_map_passes_through_every_part_of_the_road() -> None:
    parts = {(MAP.parent / link).resolve().relative_to(MAP.parent.parent).parts[:2] for link in LINKS}
    folders = {
        ("orchestrator", path.name)
        for path in MAP.parent.iterdir()
        if path.is_dir() and (path / "__init__.py").is_file()
    }
    assert folders <= parts
    assert len(LINKS) == len(set(LINKS))
