"""YAML text to a tree of values that remember their line and column.

Owns: reading YAML safely: no tags, no duplicate keys, no recursion, bounded depth and size, and the scalars of YAML 1.2
(``on`` is text, ``8080:80`` is text, ``010`` is ten). Leaves to others: what the values mean (``jobfile.file``).
The rule: every complaint is a ``Mistake`` with a position; nothing else is raised, whatever the bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_DEPTH = 32
MAX_NODES = 200_000


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Mistake:
    place: Place
    text: str


class WrittenInt(int):
    """An integer that remembers how it was written."""

    written: str


class WrittenFloat(float):
    """A number that remembers how it was written, so that ``VERSION: 1.10`` in ``env`` stays ``1.10``."""

    written: str


@dataclass(slots=True)
class Scalar:
    place: Place
    value: str | int | float | bool | None


@dataclass(slots=True)
class Seq:
    place: Place
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    key: str
    key_place: Place
    value: Node


@dataclass(slots=True)
class Map:
    place: Place
    entries: list[Entry] = field(default_factory=list)
    by_key: dict[str, Entry] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.by_key[entry.key] = entry


Node = Scalar | Seq | Map

# The C parser where libyaml is there: a file at the size limit takes a tenth of the time.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?\d{1,30}")
_FLOAT = re.compile(r"[-+]?(\d{1,30}\.\d{0,30}|\.\d{1,30}|\d{1,30})([eE][-+]?\d{1,5})?")
MERGE = "<<"
_STANDARD_TAG = "tag:yaml.org,2002:"


class _Stop(Exception):
    """Ends the reading; its mistake is already noted."""


def parse(text: str) -> tuple[Node | None, list[Mistake]]:
    """The one document in ``text`` and what is wrong with it; None when nothing can be made of it."""
    mistakes: list[Mistake] = []
    try:
        return _read(text, mistakes), mistakes
    except _Stop:
        return None, mistakes
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)
        what = error.problem or "not YAML"
        if "found character '\\t'" in what or what.startswith("found a tab"):
            what = "a tab cannot begin a token: indent with spaces"
        return None, [*mistakes, Mistake(place, f"not YAML: {what}")]
    except yaml.YAMLError as error:  # a character that YAML does not allow; carries no mark
        position = getattr(error, "position", 0)
        before = text[:position] if isinstance(position, int) else ""
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        return None, [*mistakes, Mistake(place, "not YAML: a character that is not allowed here")]


def _read(text: str, mistakes: list[Mistake]) -> Node | None:
    root: Node | None = None
    anchors: dict[str, Node] = {}
    stack: list[tuple[Seq | Map, list[tuple[str, Place]]]] = []  # open collections, and a mapping's pending key
    documents = nodes = 0
    for event in yaml.parse(text, Loader=_Loader):
        mark = event.start_mark
        place = Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)
        node: Node
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                mistakes.append(Mistake(place, "a second document begins here: one job per file"))
                raise _Stop
            continue
        if isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            ended, _ = stack.pop()
            if isinstance(ended, Map) and MERGE in ended.by_key:
                _merge(ended, mistakes)
            continue
        if isinstance(event, yaml.AliasEvent):
            node = _alias(event, anchors, stack, place, mistakes)
            nodes += _size(node)
        elif isinstance(event, yaml.ScalarEvent):
            node = Scalar(place, _scalar(event, place, mistakes))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Seq(place)
        elif isinstance(event, yaml.MappingStartEvent):
            node = Map(place)
        else:
            continue
        nodes += 1
        if nodes > MAX_NODES:
            mistakes.append(Mistake(place, f"too much: more than {MAX_NODES} values (aliases count each time)"))
            raise _Stop
        anchor = getattr(event, "anchor", None)
        if anchor and not isinstance(event, yaml.AliasEvent):
            anchors[anchor] = node
        if not stack:
            root = node
        else:
            _attach(stack[-1], node, place, mistakes)
        if isinstance(event, yaml.CollectionStartEvent):
            if event.tag not in (None, "!", f"{_STANDARD_TAG}seq", f"{_STANDARD_TAG}map"):
                mistakes.append(Mistake(place, f"tags such as {event.tag!r} are not supported"))
            assert isinstance(node, (Seq, Map))
            stack.append((node, []))
            if len(stack) > MAX_DEPTH:
                mistakes.append(Mistake(place, f"nested deeper than {MAX_DEPTH}"))
                raise _Stop
    return root


def _attach(parent: tuple[Seq | Map, list[tuple[str, Place]]], node: Node, place: Place, notes: list[Mistake]) -> None:
    container, pending = parent
    if isinstance(container, Seq):
        container.items.append(node)
        return
    if pending:
        key, key_place = pending.pop()
        container.add(Entry(key, key_place, node))
        return
    if not isinstance(node, Scalar):
        notes.append(Mistake(place, "a key must be plain text"))
        raise _Stop
    key = text_of(node.value)
    earlier = container.by_key.get(key)
    if earlier is not None:
        notes.append(Mistake(place, f"key '{key}' is there twice (first in line {earlier.key_place.line})"))
    pending.append((key, place))


def _merge(into: Map, mistakes: list[Mistake]) -> None:
    """``<<: *base``, or a list of such: what they say and the mapping does not, the first of them first."""
    merged = into.by_key.pop(MERGE)
    into.entries.remove(merged)
    for one in merged.value.items if isinstance(merged.value, Seq) else [merged.value]:
        if not isinstance(one, Map):
            mistakes.append(Mistake(one.place, f"'{MERGE}' takes a mapping, or a list of mappings"))
            continue
        for entry in one.entries:
            if entry.key not in into.by_key:
                into.add(entry)


def _alias(
    event: yaml.AliasEvent,
    anchors: dict[str, Node],
    stack: list[tuple[Seq | Map, list[tuple[str, Place]]]],
    place: Place,
    mistakes: list[Mistake],
) -> Node:
    node = anchors.get(str(event.anchor))
    if node is None:
        mistakes.append(Mistake(place, f"there is no anchor '&{event.anchor}' above"))
        raise _Stop
    if any(container is node for container, _ in stack):
        mistakes.append(Mistake(place, f"'*{event.anchor}' contains itself"))
        raise _Stop
    return node


def _size(node: Node) -> int:
    """Values in ``node``, aliases counted each time, but never counting far beyond the limit."""
    todo, count = [node], 0
    while todo and count <= MAX_NODES:
        count += 1
        top = todo.pop()
        if isinstance(top, Seq):
            todo.extend(top.items)
        elif isinstance(top, Map):
            todo.extend(entry.value for entry in top.entries)
    return count


def _scalar(event: yaml.ScalarEvent, place: Place, mistakes: list[Mistake]) -> str | int | float | bool | None:
    text: str = event.value
    if event.tag and event.tag != "!" and event.tag != f"{_STANDARD_TAG}str":
        mistakes.append(Mistake(place, f"tags such as {event.tag!r} are not supported"))
        return text
    if not event.implicit[0] or event.tag:  # quoted, a block, or said to be text
        return text
    return plain(text)


def plain(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means."""
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INT.fullmatch(text):
        whole = WrittenInt(text)
        whole.written = text
        return whole
    if _FLOAT.fullmatch(text):
        number = WrittenFloat(text)
        number.written = text
        return number
    return text


def text_of(value: object) -> str:
    """A scalar as it was written."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(getattr(value, "written", value))
