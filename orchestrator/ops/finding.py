"""A line of ``raftsman doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was looked at, how it is, and, unless it is ok, what to do."""

    check: str
    level: Level
    text: str
    advice: str = ""
