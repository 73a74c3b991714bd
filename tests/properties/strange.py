"""Requests that nobody should send: any message of the contract, filled with what is at, or beyond, a border.

``Strange`` walks descriptors, so a method that is added tomorrow is covered tomorrow. Some of what it makes is wholly
random, the rest are good requests of which a few fields were changed, so that they get past the first check.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

INTEGERS = (
    0,
    1,
    2,
    3,
    5,
    7,
    80,
    100,
    1000,
    65_535,
    65_536,
    100_001,
    -1,
    -2,
    2**31 - 1,
    2**31,
    2**53,
    2**63 - 1,
    -(2**63),
)
TEXTS = (
    "", "*", "web", "main", "web/main/0", "default", "n1", "p1", "0", "-1", "a", "A", "x" * 63, "x" * 64, "x" * 5000,
    "../x", "/", "//", "a/b/c/d", " ", "a b", "tab\there", "line\nbreak", "nul\0", "\x1b[31m", "\xfc", "\u540d\u524d",
    "\U0001f6a2", "\u202e", "\ufeff", "e\u0301", "NaN", "null", "true", "1e9", "k=v", "%s%d", "{}", "sha256:00",
    "127.0.0.1:1", "host:99999", "@every 1s", "* * * * *", ">= 8.0", "[a-z", "(a+)+$", "Europe/Berlin", "/data", "data",
)  # fmt: skip
BYTES = (b"", b"\0", b"\xff\xfe", b"x" * 20_000, "ü".encode())
FLOATS = (0.0, -1.0, 0.5, 1e308, float("inf"), float("-inf"), float("nan"))


class Strange:
    def __init__(self, rng: random.Random, texts: Sequence[str] = ()) -> None:
        self._rng = rng
        self._texts = (*TEXTS, *texts)

    def message(self, descriptor: Descriptor, depth: int = 0) -> Any:
        """A random message; each field is there half of the time."""
        made: Any = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._rng.random() < (0.5 if depth < 2 else 0.25):
                self._fill(made, field, depth)
        return made

    def changed(self, good: Message, changes: int) -> Any:
        """``good`` with so many fields, anywhere in it, set to something else, or taken away."""
        made: Any = type(good)()
        made.CopyFrom(good)
        for _ in range(changes):
            where = self._rng.choice(list(_places(made)))
            field = self._rng.choice(where.DESCRIPTOR.fields)
            action = self._rng.random()
            if action < 0.2:
                where.ClearField(field.name)
            elif action < 0.3 and field.is_repeated and len(getattr(where, field.name)) and not _is_map(field):
                values = getattr(where, field.name)
                values.extend(list(values) * self._rng.choice([1, 1, 3, 40]))
            else:
                if self._rng.random() < 0.5:
                    where.ClearField(field.name)
                self._fill(where, field, 1)
        return made

    def raw(self, good: bytes) -> bytes:
        """Bytes that are hardly a message: cut, flipped, with text that is no UTF-8."""
        data = bytearray(good)
        for _ in range(self._rng.randint(1, 3)):
            at = self._rng.randrange(len(data) + 1)
            action = self._rng.randrange(4)
            if action == 0:
                del data[at:]
            elif action == 1 and data:
                data[at % len(data)] = self._rng.randrange(256)
            elif action == 2:
                data[at:at] = self._rng.randbytes(self._rng.randint(1, 8))
            else:
                data += b"\x0a\x02\xff\xfe"
        return bytes(data)

    def _fill(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        if _is_map(field):
            values = getattr(message, field.name)
            for _ in range(self._rng.choice([1, 2])):
                assert field.message_type is not None
                kind = field.message_type.fields_by_name["value"]
                if kind.message_type is not None:
                    values[self._text()].CopyFrom(self.message(kind.message_type, depth + 1))
                else:
                    values[self._text()] = self._scalar(kind)
        elif field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(self._rng.choice([1, 1, 2, 3, 130])):
                if field.message_type is not None:
                    if len(values) > 3 or depth > 5:
                        break
                    values.add().CopyFrom(self.message(field.message_type, depth + 1))
                else:
                    values.append(self._scalar(field))
        elif field.message_type is not None:
            if depth <= 5:
                getattr(message, field.name).CopyFrom(self.message(field.message_type, depth + 1))
        else:
            setattr(message, field.name, self._scalar(field))

    def _text(self) -> str:
        return self._rng.choice(self._texts)

    def _scalar(self, field: FieldDescriptor) -> Any:
        kind = field.type
        if kind == FieldDescriptor.TYPE_STRING:
            return self._text()
        if kind == FieldDescriptor.TYPE_BYTES:
            return self._rng.choice(BYTES)
        if kind == FieldDescriptor.TYPE_BOOL:
            return self._rng.random() < 0.5
        if kind == FieldDescriptor.TYPE_ENUM:
            assert field.enum_type is not None
            return self._rng.choice([*(value.number for value in field.enum_type.values), 77, -1])
        if kind in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
            return self._rng.choice(FLOATS)
        unsigned = kind in (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED64)
        narrow = kind in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_SINT32)
        value = self._rng.choice(INTEGERS)
        if unsigned:
            value = abs(value)
        return value % 2**31 if narrow else value


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _places(message: Any) -> Iterator[Any]:
    """The message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None or _is_map(field):
            continue
        for one in value if field.is_repeated else [value]:
            yield from _places(one)
