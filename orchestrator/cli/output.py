"""How results look: aligned tables, JSON, YAML, names.

Owns: rows into text. Leaves to others: which columns; dataclasses into plain values (``contract.plain``). The rule: a
table is the same text on a terminal and in a pipe, colours aside; rich is not needed for it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

_COLORS = {
    "running": "green", "complete": "green", "ready": "green", "leader": "green",
    "pending": "yellow", "starting": "yellow", "backoff": "yellow", "stopping": "yellow", "draining": "yellow",
    "cordoned": "yellow", "candidate": "yellow", "joining": "yellow",
    "failed": "red", "lost": "red", "unreachable": "red",
}  # fmt: skip


def structured(value: Any, output: str) -> str:
    """``value`` as JSON or YAML."""
    from orchestrator.contract.plain import plain

    if output == "json":
        import json

        return json.dumps(plain(value), indent=2, ensure_ascii=not writes_anything())
    import yaml

    text: str = yaml.safe_dump(plain(value), sort_keys=False, allow_unicode=writes_anything())
    return text.rstrip("\n")


def writes_anything() -> bool:
    """Whether every letter can be written on stdout; else JSON and YAML have their own ways to write it."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def show(
    output: str,
    *,
    value: Callable[[], Any],
    names: Callable[[], Iterable[str]],
    table: Callable[[bool], str],
) -> None:
    """Print one result in the asked form; only that form is computed. ``table`` gets whether it may be wide."""
    if output in ("json", "yaml"):
        click.echo(structured(value(), output))
    elif output == "name":
        for name in dict.fromkeys(names()):  # each once: of an instance several attempts may be listed
            click.echo(name)
    else:
        click.echo(table(output == "wide"))


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns, aligned; empty columns are left out, state words are coloured. Each row has a cell for each heading."""
    body = [[str(cell) for _, cell in zip(headings, row, strict=True)] for row in rows]
    keep = [number for number in range(len(headings)) if number == 0 or any(row[number] for row in body)]
    lines = [[headings[number] for number in keep], *([row[number] for number in keep] for row in body)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(keep))]
    text = []
    for number, line in enumerate(lines):
        cells = [cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)] + line[-1:]
        if number == 0:
            cells = [click.style(cell, bold=True) for cell in cells]
        else:
            cells = [click.style(cell, fg=_COLORS[cell.strip()]) if cell.strip() in _COLORS else cell for cell in cells]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def age(since_ms: int, now_ms: int | None = None) -> str:
    """``5m`` since a unix time; empty when unknown."""
    if since_ms <= 0:
        return ""
    return span((now_ms if now_ms is not None else int(time.time() * 1000)) - since_ms)


def span(ms: int) -> str:
    """A duration, coarse: ``12s``, ``5m``, ``3h``, ``2d``."""
    seconds = max(0, ms) // 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size or (unit == "d" and seconds >= size):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def cores(millis: int) -> str:
    """``0.5``, ``2``, ``12.25``."""
    return f"{millis / 1000:g}"


def mebibytes(mib: int) -> str:
    """``512Mi``, ``1.5Gi``, ``2Ti``."""
    for unit, size in (("Ti", 1024**2), ("Gi", 1024)):
        if mib >= size:
            return f"{mib / size:.4g}{unit}"
    return f"{mib}Mi"
