"""Every command has something that applies it."""

from __future__ import annotations

import typing

from orchestrator.state import apply, commands


def test_every_command_is_applied_by_something() -> None:
    assert set(apply._APPLY) == set(typing.get_args(commands.SingleCommand))
