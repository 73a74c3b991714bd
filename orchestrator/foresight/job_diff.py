"""What differs between two versions of a job, field by field, by the names that users gave things.

Owns: pairing (groups, tasks and ports by name, maps by key) and paths. Leaves to others: colours (``cli``), what
follows from it (``what_if``). The rule: equal specs have no difference, unequal ones have at least one; the order is
that of the fields, so equal pairs give equal answers.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
from typing import Any

from orchestrator.contract.constraints import describe
from orchestrator.contract.foresight import FieldChange
from orchestrator.contract.model import Constraint, JobSpec

_KEYS = ("name", "label", "target", "id")
"""Fields by which things in a list are the same thing in another version."""


def job_diff(before: JobSpec | None, after: JobSpec) -> tuple[FieldChange, ...]:
    """Every field that differs; without ``before`` every field that is not at its default."""
    return tuple(_record(before, after, ""))


def _record(before: Any, after: Any, path: str) -> Iterator[FieldChange]:
    """Of two dataclasses of one kind, or of one and None."""
    one = after if after is not None else before
    for field in dataclasses.fields(one):
        old = getattr(before, field.name) if before is not None else _default(field)
        new = getattr(after, field.name) if after is not None else _default(field)
        for change in _value(old, new, f"{path}.{field.name}" if path else field.name):
            # Nobody had written the default that a new thing does not keep, and nobody will that of one that goes.
            if before is None and change.after:
                change = dataclasses.replace(change, kind="added", before="")
            elif after is None and change.before:
                change = dataclasses.replace(change, kind="removed", after="")
            yield change


def _default(field: dataclasses.Field[Any]) -> Any:
    return None if field.default is dataclasses.MISSING else field.default


def _value(old: Any, new: Any, path: str) -> Iterator[FieldChange]:
    if old == new:
        return
    if isinstance(old, tuple) or isinstance(new, tuple):
        yield from _list(old or (), new or (), path)
    elif dataclasses.is_dataclass(old if old is not None else new):
        found = list(_record(old, new, path))
        yield from found
        if not found:  # one is absent, and the other says nothing but the defaults
            yield FieldChange(path=path, kind="removed" if new is None else "added")
    else:
        yield _change(path, old, new)


def _list(old: tuple[Any, ...], new: tuple[Any, ...], path: str) -> Iterator[FieldChange]:
    both = (*old, *new)
    key = next((name for name in _KEYS if all(hasattr(one, name) for one in both)), "")
    if all(isinstance(one, tuple) for one in both):  # a StrMap
        yield from _named(dict(old), dict(new), path)
    elif key:
        olds, news = ({getattr(one, key): one for one in side} for side in (old, new))
        if len(olds) == len(old) and len(news) == len(new):
            yield from _named(olds, news, path)
            if [name for name in olds if name in news] != [name for name in news if name in olds]:
                yield _change(f"{path} (order)", ", ".join(olds), ", ".join(news))
        else:
            yield _change(path, old, new)
    else:
        yield _change(path, old or None, new or None)


def _named(old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[FieldChange]:
    for name in dict.fromkeys((*old, *new)):
        there = f"{path}.{name}"
        was, then = old.get(name), new.get(name)
        if name not in old or name not in new:
            yield FieldChange(
                path=there,
                kind="added" if name not in old else "removed",
                before="" if dataclasses.is_dataclass(was) else _text(was),
                after="" if dataclasses.is_dataclass(then) else _text(then),
            )
        if dataclasses.is_dataclass(was if was is not None else then):
            yield from _record(was, then, there)
        elif name in old and name in new and was != then:
            yield _change(there, was, then)


def _change(path: str, old: Any, new: Any) -> FieldChange:
    kind = "added" if old is None else "removed" if new is None else "changed"
    return FieldChange(path=path, kind=kind, before=_text(old), after=_text(new))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Constraint):
        return describe(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_text(one) for one in value) + "]"
    if dataclasses.is_dataclass(value):  # one of a list whose parts have no name: what it says beside the defaults
        said = ((field.name, getattr(value, field.name), _default(field)) for field in dataclasses.fields(value))
        return "{" + ", ".join(f"{name}: {_text(one)}" for name, one, default in said if one != default) + "}"
    return str(value)
