"""Env files: the lines ``NAME=value`` that a variable of the cluster holds, as Compose reads them.

Owns: the grammar: blank lines and ``#`` comments, an ``export`` in front, single quotes (as they are), double quotes
(with ``\\n``, ``\\t``, ``\\"``, ``\\\\``), a comment after a space. The rule: a mistake names its line, and never what
stands there: it may be a secret.
"""

from __future__ import annotations

import re

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(.*)")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}


def parse(text: str) -> dict[str, str]:
    """The variables in ``text``; raises ``ValueError`` with the number of the first bad line."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            raise ValueError(f"line {number}: expected NAME=value")
        found[match[1]] = _value(match[2], number)
    return found


def _value(text: str, number: int) -> str:
    if text.startswith('"'):
        match = _DOUBLE.fullmatch(text)
        if match is None:
            raise ValueError(f"line {number}: the quote is not closed, or something follows it")
        return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), match[1])
    if text.startswith("'"):
        match = _SINGLE.fullmatch(text)
        if match is None:
            raise ValueError(f"line {number}: the quote is not closed, or something follows it")
        return match[1]
    value = re.split(r"(?:^|\s)#", text, maxsplit=1)[0].rstrip()
    if "\0" in value:
        raise ValueError(f"line {number}: holds a NUL character")
    return value
