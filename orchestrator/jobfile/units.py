"""Quantities as people write them (``500m``, ``256Mi``, ``30s``) to integers with the unit in the name, and back.

Owns: the one conversion at the edge. The rule: nothing is silently rounded down; what does not fit the unit exactly is
refused (cpu, durations) or rounded up to what is certainly enough (memory). Every refusal shows a right example.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal, InvalidOperation

_NUMBER = re.compile(r"\d{1,18}(\.\d{1,9})?|\.\d{1,9}")
_SPLIT = re.compile(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*")
_DURATION_PART = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*(ms|s|m|h|d)\s*")

_BYTES = {
    "B": 1,
    "K": 10**3, "KB": 10**3, "M": 10**6, "MB": 10**6, "G": 10**9, "GB": 10**9, "T": 10**12, "TB": 10**12,
    "P": 10**15, "PB": 10**15,
    "KI": 2**10, "KIB": 2**10, "MI": 2**20, "MIB": 2**20, "GI": 2**30, "GIB": 2**30, "TI": 2**40, "TIB": 2**40,
    "PI": 2**50, "PIB": 2**50,
}  # fmt: skip
_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

CPU_EXPECTED = "expected cores such as 2, 0.5 or 500m"
MEMORY_EXPECTED = "expected an amount with its unit, such as 256Mi or 1.5Gi"
DURATION_EXPECTED = "expected a duration such as 30s, 500ms or 2m"
SHARE_EXPECTED = "expected a share of one device, such as 0.5 or 500m"


def parse_cpu(value: object) -> int:
    """``cpu_millis`` of ``2``, ``0.5``, ``"500m"``. Raises ValueError with what was expected."""
    return _millis(value, CPU_EXPECTED)


def parse_share(value: object) -> int:
    """``gpu_millis`` of ``0.5`` or ``"500m"``. Raises ValueError with what was expected."""
    return _millis(value, SHARE_EXPECTED)


def parse_memory(value: object) -> int:
    """``memory_mib`` of ``"256Mi"``, ``"1.5Gi"``, ``"1G"``, rounded up to a whole MiB. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{MEMORY_EXPECTED}, got {shown(value)}")
    match = _SPLIT.fullmatch(_text(value))
    if match is None or not _NUMBER.fullmatch(match[1]):
        raise ValueError(f"{MEMORY_EXPECTED}, got {shown(value)}")
    if not match[2]:
        if Decimal(match[1]) == 0:
            return 0
        raise ValueError(f"{MEMORY_EXPECTED}, got {shown(value)}; did you mean {match[1]}Mi?")
    factor = _BYTES.get(match[2].upper())
    if factor is None or (match[2].endswith("b") and len(match[2]) == 1) or match[2] == "m":
        hint = f"; did you mean {match[1]}Mi?" if match[2] in ("m", "mb", "b") else ""
        raise ValueError(f"{MEMORY_EXPECTED}, got {shown(value)}{hint}")
    return int((Decimal(match[1]) * factor / 2**20).to_integral_value(ROUND_CEILING))


def parse_duration(value: object) -> int:
    """Milliseconds of ``"30s"``, ``"1m30s"``, ``"500ms"`` or a bare number of seconds. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{DURATION_EXPECTED}, got {shown(value)}")
    text = _text(value)
    if _NUMBER.fullmatch(text):
        total = Decimal(text) * 1000
    else:
        position, total = 0, Decimal(0)
        while position < len(text):
            match = _DURATION_PART.match(text, position)
            if match is None:
                raise ValueError(f"{DURATION_EXPECTED}, got {shown(value)}")
            total += Decimal(match[1]) * _MS[match[2]]
            position = match.end()
        if not text:
            raise ValueError(f"{DURATION_EXPECTED}, got nothing")
    if total != int(total):
        raise ValueError(f"{DURATION_EXPECTED}, got {shown(value)}, which is finer than 1ms")
    return int(total)


def format_cpu(millis: int) -> str:
    """``2`` for 2000, ``500m`` for 500."""
    return str(millis // 1000) if millis % 1000 == 0 else f"{millis}m"


def format_memory(mib: int) -> str:
    """``256Mi``, ``2Gi``; exact, so that it parses back to the same number."""
    for unit, factor in (("Ti", 1024**2), ("Gi", 1024)):
        if mib and mib % factor == 0:
            return f"{mib // factor}{unit}"
    return f"{mib}Mi"


def format_duration(ms: int) -> str:
    """``15s``, ``2m``, ``500ms``; exact, so that it parses back to the same number."""
    for unit in ("h", "m", "s"):
        if ms and ms % _MS[unit] == 0:
            return f"{ms // _MS[unit]}{unit}"
    return f"{ms}ms" if ms else "0s"


def shown(value: object) -> str:
    """A value as the user may have written it, short, for an error."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = _text(value)
    if len(text) > 60:
        text = text[:57] + "..."
    return repr(text) if isinstance(value, str) else text


def _text(value: object) -> str:
    # Numbers from a job file remember how they were written (``jobfile.tree``): 1e400 or 1.10 stay what they were.
    return str(getattr(value, "written", value)).strip()


def _millis(value: object, expected: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{expected}, got {shown(value)}")
    text = _text(value)
    number, factor = (text[:-1].strip(), 1) if text.endswith("m") else (text, 1000)
    if not _NUMBER.fullmatch(number):
        raise ValueError(f"{expected}, got {shown(value)}")
    try:
        millis = Decimal(number) * factor
    except InvalidOperation:
        raise ValueError(f"{expected}, got {shown(value)}") from None
    if millis != int(millis):
        raise ValueError(f"{expected}, got {shown(value)}, which is finer than 1m")
    return int(millis)
