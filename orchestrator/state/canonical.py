"""One way to write values as bytes, so that peers can compare their states by a hash.

Owns: the encoding. The rule: equal values give equal bytes on every machine and Python, unequal ones do not; every
value is tagged and every length is written. It is only hashed, never read back. A field that was added to a record
later (``contract.fields``) is left out where it has its default, as versions that do not know it leave it out.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from orchestrator.contract.fields import is_later

_LENGTH = struct.Struct("<cQ")
_Fields = tuple[bytes, tuple[str, ...], tuple[tuple[str, Any], ...]]
_fields: dict[type, _Fields] = {}
"""Of a dataclass: its name, its first fields, and those that were added, with their defaults."""


def put(out: bytearray, value: Any) -> None:
    """Append ``value``: None, bool, int, str, bytes, tuples and lists of these, dicts (by sorted key), dataclasses,
    arrays. Raises ``TypeError`` for anything else."""
    kind = type(value)
    writer = _WRITERS.get(kind)
    if writer is None:
        writer = _writer(kind, value)
        _WRITERS[kind] = writer
    writer(out, value)


def put_flat(out: bytearray, rows: Iterable[Any]) -> None:
    """Append many tuples of plain ints and strings; much faster than ``put``.

    In pieces: one call for 100,000 rows would hold the interpreter, and with it heartbeats, for half a second.
    """
    listed = list(rows)
    pieces = [
        json.dumps(listed[start : start + _FLAT_ROWS], ensure_ascii=True, separators=(",", ":"))[1:-1].encode("ascii")
        for start in range(0, len(listed), _FLAT_ROWS)
    ]
    _put_bytes(out, b"[" + b",".join(pieces) + b"]")


_FLAT_ROWS = 500


def _writer(kind: type, value: Any) -> Callable[[bytearray, Any], None]:
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        first = tuple(field.name for field in fields if not is_later(field))
        later = tuple((field.name, field.default) for field in fields if is_later(field))
        _fields[kind] = (kind.__name__.encode(), first, later)
        return _put_dataclass
    if isinstance(value, int):  # an IntEnum is its number
        return _put_int
    if isinstance(value, np.ndarray):
        return _put_array
    raise TypeError(f"no canonical form for {kind.__name__}")


def _put_none(out: bytearray, value: None) -> None:
    out += b"n"


def _put_bool(out: bytearray, value: bool) -> None:
    out += b"t" if value else b"f"


def _put_int(out: bytearray, value: int) -> None:
    _put_text(out, b"i", b"%d" % value)


def _put_str(out: bytearray, value: str) -> None:
    _put_text(out, b"s", value.encode("utf-8", "surrogatepass"))


def _put_bytes(out: bytearray, value: bytes) -> None:
    _put_text(out, b"b", value)


def _put_text(out: bytearray, tag: bytes, data: bytes) -> None:
    out += _LENGTH.pack(tag, len(data))
    out += data


def _put_sequence(out: bytearray, value: Any) -> None:
    out += _LENGTH.pack(b"(", len(value))
    for item in value:
        put(out, item)


def _put_dict(out: bytearray, value: dict[Any, Any]) -> None:
    out += _LENGTH.pack(b"{", len(value))
    for key in sorted(value):
        put(out, key)
        put(out, value[key])


def _put_dataclass(out: bytearray, value: Any) -> None:
    name, first, later = _fields[type(value)]
    _put_text(out, b"d", name)
    for field in first:
        put(out, getattr(value, field))
    for field, default in later:
        held = getattr(value, field)
        if held != default:
            _put_text(out, b"+", field.encode())
            put(out, held)


def _put_array(out: bytearray, value: np.ndarray[Any, Any]) -> None:
    little = value.astype(value.dtype.newbyteorder("<"), copy=False)
    _put_text(out, b"a", little.dtype.str.encode())
    _put_bytes(out, little.tobytes())


_WRITERS: dict[type, Callable[[bytearray, Any], None]] = {
    type(None): _put_none,
    bool: _put_bool,
    int: _put_int,
    str: _put_str,
    bytes: _put_bytes,
    tuple: _put_sequence,
    list: _put_sequence,
    dict: _put_dict,
}
