"""``Lazy``: a group of commands that imports one when it is called.

Owns: finding a command, one of our own or one that a higher layer or a package brings by entry point. Leaves to others:
which there are and how they are listed. The rule: listing imports none of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import click

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class Lazy(click.Group):
    """``own``: name -> module, attribute, help; ``points``: the group of entry points that bring the others."""

    own: ClassVar[Mapping[str, tuple[str, str, str]]]
    points: ClassVar[str]

    def entry_points(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points

        return {point.name: point for point in entry_points(group=self.points)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.own, *sorted(self.entry_points())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = self.own.get(cmd_name)
        if own is not None:
            made: click.Command = getattr(importlib.import_module(own[0]), own[1])
            return made
        point = self.entry_points().get(cmd_name)
        if point is None:
            return None
        loaded: click.Command = point.load()
        return loaded
