"""Dataclasses as plain JSON values: what ``-o json``, the gateway and the status page show.

Owns: one spelling for everything that users read by program. The rule: enums become their lower-case names with
hyphens, ``StrMap`` fields become objects, bytes become base64 text; field names stay as they are.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import typing
from typing import Any

from orchestrator.contract.model import IntMap, StrMap

_maps: dict[type, frozenset[str]] = {}


def plain(value: Any) -> Any:
    """``value`` as dicts, lists, strings, numbers, booleans and None."""
    if isinstance(value, enum.Enum):
        return value.name.lower().replace("_", "-")
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        maps = _map_fields(type(value))
        return {
            field.name: dict(getattr(value, field.name)) if field.name in maps else plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no plain form")


def _map_fields(kind: type) -> frozenset[str]:
    found = _maps.get(kind)
    if found is None:
        found = frozenset(name for name, hint in typing.get_type_hints(kind).items() if hint in (StrMap, IntMap))
        _maps[kind] = found
    return found
