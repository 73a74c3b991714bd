"""Runs the scenario files beside this one: each reads like a conversation with ``apply``.

A block is commands, ``----``, what happened; ``#`` begins the story. ``pytest tests/scenarios --rewrite`` refreshes it,
and the reviewer reads the diff. After every command the invariants hold.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.conversation import Conversation

HERE = Path(__file__).parent


@pytest.mark.parametrize("path", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_apply_answers_as_the_scenario_tells(path: Path, request: pytest.FixtureRequest) -> None:
    told = path.read_text()
    conversation = Conversation()
    blocks = []
    for block in told.strip().split("\n\n"):
        said, separator, _ = block.partition("\n----")
        blocks.append(f"{said}\n----\n{conversation.run(said)}".rstrip() if separator else said)
    happened = "\n\n".join(blocks) + "\n"
    if request.config.getoption("--rewrite", default=False):
        path.write_text(happened)
    assert happened == told
