"""What an entry of the log can hold is written down, so that nobody adds to it without thinking of older peers.

A peer that does not know a field drops it, says nothing, and has another state than the others from then on. So a new
field or value of what entries hold does one of two things: it waits until the leader has raised the feature level
(``state.features``: refuse it below, as ``too_new`` does), or it is written with a higher ``FORMAT`` (``codec``), at
which older peers stop. Then write ``entry_fields.txt`` anew: ``python -m tests.unit.replication.test_entry_fields``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.replication.v1 import log_pb2

KNOWN = Path(__file__).with_name("entry_fields.txt")


def held() -> list[str]:
    """A line for each message and enumeration that an entry can hold: its name, then every field or value."""
    lines: dict[str, str] = {}

    def look(message: Any) -> None:
        if message.full_name in lines:
            return
        lines[message.full_name] = " ".join(f"{field.name}={field.number}" for field in message.fields)
        for field in message.fields:
            if field.message_type is not None:
                look(field.message_type)
            if (values := field.enum_type) is not None:
                lines[values.full_name] = " ".join(f"{value.name}={value.number}" for value in values.values)

    look(log_pb2.LogEntry.DESCRIPTOR)
    return [f"{name.removeprefix('orchestrator.')}: {fields}" for name, fields in sorted(lines.items())]


def test_what_entries_hold_is_what_older_peers_were_thought_of_for() -> None:
    assert held() == KNOWN.read_text().splitlines(), f"read the head of {Path(__file__).name} first"


if __name__ == "__main__":
    KNOWN.write_text("\n".join(held()) + "\n")
