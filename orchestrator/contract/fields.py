"""Fields that a record got after it was first replicated.

Owns: ``later``. Leaves to others: hashing (``state.canonical``). The rule: while versions are mixed, equal states have
equal hashes; so what only the newer version knows is not hashed as long as it says nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

T = TypeVar("T")

_LATER = "later"


def later(default: T) -> T:
    """A dataclass's field with this default, which versions of before do not have."""
    field: T = dataclasses.field(default=default, metadata={_LATER: True})
    return field


def is_later(field: dataclasses.Field[Any]) -> bool:
    return _LATER in field.metadata
