"""Reads a client history: JSON lines in RAFT.md's format (``history`` writes them) become ``Columns``.

Owns: what a line may look like. Leaves to others: what it means (``linearizability``). The rule: a line that cannot
be understood is refused with its place and what was expected; nothing is guessed, no field ignored. A file is read in
blocks that are parsed at once; only a block with something odd in it is looked at line by line.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from orchestrator.contract.errors import InvalidError
from orchestrator.ops.history import UNCONDITIONAL
from orchestrator.ops.history_columns import OPS, Batch, Builder, Columns

BLOCK_LINES: Final = 1_000
"""What is parsed at once: few enough to stay in the processor's cache (20,000 take nearly twice as long)."""
MAX_INTEGER: Final = 2**63 - 2
"""The greatest 64-bit integer but one, which stands for "never"."""

_TEXT: Final = "a text, an integer or null"
_TYPES: Final[dict[str, tuple[frozenset[type], str]]] = {
    "process": (frozenset({int}), "an integer"),
    "op": (frozenset({str}), f"one of {', '.join(OPS)}"),
    "key": (frozenset({str}), "a text"),
    "value": (frozenset({str, int, type(None)}), _TEXT),
    "hit": (frozenset({bool}), "true or false"),
    "ok": (frozenset({bool, type(None)}), "true, false or null"),
    "call_ns": (frozenset({int}), "an integer"),
    "return_ns": (frozenset({int}), "an integer"),
    "index": (frozenset({int}), "an integer"),
    "expect": (frozenset({str, int, type(None)}), _TEXT),
}
_WHOLE: Final = tuple(name for name in _TYPES if name != "expect")
"""What ``History`` always writes; ``_complete`` says which of them others may leave out."""
_fields = operator.itemgetter(*_WHOLE)


def read(path: Path) -> Columns:
    """The history in ``path``. Raises ``OSError``, and ``InvalidError`` that names file, line and reason."""
    builder = Builder(numbered="line")
    with path.open("rb") as file:
        for first, lines in _blocks(file):
            batch = _at_once(first, lines)
            builder.add(batch if batch is not None else _line_by_line(path, first, lines))
    return builder.done()


def _blocks(file: BinaryIO) -> Iterator[tuple[int, list[bytes]]]:
    """The number of the first line of each block, and its lines."""
    first = 1
    while lines := list(islice(file, BLOCK_LINES)):
        yield first, lines
        first += len(lines)


def _at_once(first: int, lines: list[bytes]) -> Batch | None:
    """The block as ``History`` writes it, perhaps without what may be left out; None when any line is not like that."""
    try:
        objects: list[Any] = json.loads(b"[%b]" % b",".join(lines))
    except (ValueError, RecursionError):
        return None
    if len(objects) != len(lines) or {*map(type, objects)} != {dict}:
        return None
    found = _columns(objects)
    if found is None:
        for line in objects:
            _complete(line)
        found = _columns(objects)
    return None if found is None else Batch(number=range(first, first + len(lines)), **found)


def _columns(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The fields of whole lines by name; None when any line has less or more, or what may not be there."""
    expect = [line.get("expect", UNCONDITIONAL) for line in objects]
    conditional = len(objects) - expect.count(UNCONDITIONAL)
    if sum(map(len, objects)) != len(_WHOLE) * len(objects) + conditional:
        return None
    try:
        rows = list(map(_fields, objects))
    except KeyError:
        return None
    columns = dict(zip(_WHOLE, zip(*rows, strict=True), strict=True))
    if any(not _TYPES[name][0].issuperset(map(type, column)) for name, column in columns.items()):
        return None
    if not _TYPES["expect"][0].issuperset(map(type, (one for one in expect if one is not UNCONDITIONAL))):
        return None
    call, returned, index = columns["call_ns"], columns["return_ns"], columns["index"]
    if not {*columns["op"]}.issubset(OPS) or any(map(operator.lt, returned, call)) or min(index) < 0:
        return None
    numbers = (*columns["process"], *call, *returned, *index)
    if max(numbers) > MAX_INTEGER or min(numbers) < -MAX_INTEGER:
        return None
    return columns | {"expect": expect}


def _complete(line: dict[str, Any]) -> None:
    """Fill in what may be left out (or be null), for it says nothing there: ``hit`` where nothing was expected or
    answered, ``index`` always, ``return_ns`` of what did not happen or has no outcome."""
    answered = "ok" not in line or line["ok"] is True
    if line.get("index") is None:
        line["index"] = 0
    if line.get("hit") is None and not (answered and "expect" in line and line.get("op") in ("cas", "delete")):
        line["hit"] = False
    if line.get("return_ns") is None and not answered:
        line["return_ns"] = MAX_INTEGER


def _line_by_line(path: Path, first: int, lines: list[bytes]) -> Batch:
    found = [(number, _line(path, number, line)) for number, line in enumerate(lines, first) if line.strip()]
    columns = {name: [line[name] for _, line in found] for name in _TYPES}
    return Batch(number=[number for number, _ in found], **columns)


def _line(path: Path, number: int, text: bytes) -> dict[str, Any]:
    """One operation with every field; raises ``InvalidError``."""

    def wrong(reason: str) -> InvalidError:
        return InvalidError(f"{path}:{number}: {reason}")

    try:
        line = json.loads(text)
    except RecursionError:
        raise wrong("nested too deeply; expected one JSON object") from None
    except ValueError as error:
        raise wrong(f"no JSON ({error}); expected one JSON object a line") from None
    if not isinstance(line, dict):
        raise wrong(f"{_shown(line)}; expected a JSON object")
    for name in line.keys() - _TYPES.keys():
        raise wrong(f"unknown field {_shown(name)}; expected {', '.join(_TYPES)}")
    _complete(line)
    for name, (types, expected) in _TYPES.items():
        if name == "expect" and name not in line:
            continue
        if name not in line:
            raise wrong(f"{name} is missing; expected {expected}")
        if type(line[name]) not in types or (name == "op" and line[name] not in OPS):
            raise wrong(f"{name}: {_shown(line[name])}; expected {expected}")
    for name in ("process", "call_ns", "return_ns", "index"):
        if not -MAX_INTEGER <= line[name] <= MAX_INTEGER:
            raise wrong(f"{name}: {line[name]}; expected an integer of 64 bits")
    if line["index"] < 0:
        raise wrong(f"index: {line['index']}; expected 0 (none) or more")
    if line["ok"] is not None and line["return_ns"] < line["call_ns"]:
        raise wrong(f"return_ns: {line['return_ns']} is before call_ns {line['call_ns']}")
    line.setdefault("expect", UNCONDITIONAL)
    return line


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
