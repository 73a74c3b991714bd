"""JSON files that somebody else's tool printed: reading them, and saying where in them something is wrong.

Owns: the file (size, encoding, several documents in a row, as repeated commands print them) and ``At``, a value that
knows its place. Leaves to others: what the values mean. The rule: a complaint names the file and the JSON path, or line
and column where it is no JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.ops.pack_cluster import AMOUNT_MAX, PackError

MIB_MAX = 1024
"""Of a file. 100,000 pods as kubectl prints them are about 500 MiB, and Python needs several times that."""
STDIN = Path("-")
_DECODER = json.JSONDecoder()


def read_text(path: Path) -> str:
    """The file, or standard input for ``-``. Raises ``PackError``."""
    try:
        if path == STDIN:
            text = sys.stdin.read()
        else:
            size_mib = path.stat().st_size >> 20
            if size_mib > MIB_MAX:
                raise PackError(f"{path}: is {size_mib:,} MiB; more than {MIB_MAX:,} MiB are not read")
            text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise PackError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise PackError(f"{path}: {error.strerror or error}") from None
    if not text.strip():
        raise PackError(f"{path}: is empty")
    return text


def looks_like_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


def documents(path: Path, text: str) -> Iterator[At]:
    """Each JSON value of the text, which may hold several. Raises ``PackError``."""
    at, count = 0, 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return
        try:
            value, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise PackError(f"{path}, line {error.lineno}, column {error.colno}: no JSON: {error.msg}") from None
        except (RecursionError, ValueError) as error:  # too deep; a number of thousands of digits
            raise PackError(f"{path}: no JSON that can be read: {error}") from None
        yield At(path, "$" if not count else f"$({count + 1})", value)
        count += 1


@dataclass(frozen=True, slots=True)
class At:
    """A value at a place in a file. Readers of parts take a part that is missing or null for None."""

    file: Path
    path: str
    value: Any

    def refuse(self, text: str) -> NoReturn:
        raise PackError(f"{self.file}, {self.path}: {text}")

    def maybe(self, *keys: str) -> At | None:
        """What lies under these keys, one in the other."""
        here: At | None = self
        for key in keys:
            if here is None:
                return None
            if not isinstance(here.value, dict):
                here.refuse(f"is {_kind(here.value)}, expected an object")
            value = here.value.get(key)
            name = f".{key}" if key.replace("_", "").isalnum() else f"[{json.dumps(key)}]"
            here = None if value is None else At(here.file, here.path + name, value)
        return here

    def get(self, *keys: str) -> At:
        """The same; refuses if it is not there."""
        found = self.maybe(*keys)
        return self.refuse(f"has no {'.'.join(keys)}") if found is None else found

    def each(self, *keys: str) -> Iterator[At]:
        """The members of the array there; none if there is no such array."""
        found = self.maybe(*keys)
        if found is None:
            return
        if not isinstance(found.value, list):
            found.refuse(f"is {_kind(found.value)}, expected an array")
        for number, value in enumerate(found.value):
            yield At(self.file, f"{found.path}[{number}]", value)

    def fields(self, *keys: str) -> dict[str, At]:
        """The members of the object there, those that are null left out; none if there is no such object."""
        found = self.maybe(*keys)
        if found is None:
            return {}
        if not isinstance(found.value, dict):
            found.refuse(f"is {_kind(found.value)}, expected an object")
        return {str(key): found.get(str(key)) for key, value in found.value.items() if value is not None}

    def text(self, *keys: str) -> str:
        """The string there; "" if there is none."""
        found = self.maybe(*keys)
        if found is None:
            return ""
        if not isinstance(found.value, str):
            found.refuse(f"is {_kind(found.value)}, expected a string")
        return found.value

    def flag(self, *keys: str) -> bool:
        found = self.maybe(*keys)
        if found is None:
            return False
        if not isinstance(found.value, bool):
            found.refuse(f"is {_kind(found.value)}, expected true or false")
        return found.value

    def whole(self, *keys: str) -> int:
        """The whole number there, from 0 on; 0 if there is none."""
        found = self.maybe(*keys)
        if found is None:
            return 0
        if isinstance(found.value, bool) or not isinstance(found.value, int):
            found.refuse(f"is {_kind(found.value)}, expected a whole number")
        if not 0 <= found.value <= AMOUNT_MAX:
            found.refuse(f"{found.value} is not between 0 and {AMOUNT_MAX}")
        return found.value


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    names = ((dict, "an object"), (list, "an array"), (str, "a string"), ((int, float), "a number"))
    return next((name for types, name in names if isinstance(value, types)), "null")
