"""Plots as SVG, without a library: bars side by side, lines over time, curves over any axis.

Owns: the drawing. Leaves to others: the figures (``pack_plot``, the benchmarks in ``scripts``). The rules: bars, and
lines over time, begin at 0; every bar has its figure beside it, so that nobody measures with a ruler; what is not known
has no bar.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 170, 70, 40, 50
COLOURS = ("#0b6e99", "#c2571a", "#3a7d34", "#7a4fa3", "#a33b53")
GREY = "#888888"

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Name -> (seconds, value)."""
Bars = tuple[str, str, Sequence[tuple[str, float | None]]]
"""Title, unit ("%": the full width is 100), and the bars of one panel: name and figure."""


def _document(width: float, height: float, title: str, at: tuple[int, int], body: Iterable[str]) -> str:
    """``at``: where the title begins."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="{at[0]}" y="{at[1]}" font-size="14">{escape(title)}</text>',
            *body,
            "</svg>",
            "",
        ]
    )


# ---------------------------------------------------------------------------- bars

_NAMES, _BAR, _FIGURES, _LINE, _BETWEEN, _FIRST = 160, 420, 110, 18, 34, 54


def bars(title: str, panels: Iterable[Bars], *, grey: str = "") -> str:
    """Panels one below the other; one without any figure is left out. ``grey``: the name of bars in another colour."""
    body: list[str] = []
    top = _FIRST
    for name, unit, values in panels:
        if any(value is not None for _, value in values):
            body += _bar_panel(top, name, unit, values, grey)
            top += _LINE * len(values) + _BETWEEN
    return _document(_NAMES + _BAR + _FIGURES, top, title, (12, 22), body)


def _bar_panel(top: int, title: str, unit: str, values: Sequence[tuple[str, float | None]], grey: str) -> list[str]:
    most = 100.0 if unit == "%" else max((value for _, value in values if value is not None), default=0.0) or 1.0
    out = [f'<text x="12" y="{top}" font-weight="bold">{escape(title)}</text>']
    for place, (name, value) in enumerate(values):
        y = top + 8 + _LINE * place
        out.append(f'<text x="{_NAMES - 8}" y="{y + 11}" text-anchor="end">{escape(name)}</text>')
        if value is None:
            continue
        width = _BAR * min(max(value / most, 0.0), 1.0)
        colour = GREY if name == grey else COLOURS[0]
        text = f"{value:,.1f} {unit}".rstrip() if unit or value != int(value) else f"{int(value):,}"
        out.append(f'<rect x="{_NAMES}" y="{y}" width="{width:.1f}" height="{_LINE - 4}" fill="{colour}"/>')
        out.append(f'<text x="{_NAMES + width + 6:.1f}" y="{y + 11}">{text}</text>')
    return out


# ---------------------------------------------------------------------------- lines


def lines_over_time(title: str, panels: Mapping[str, Series]) -> str:
    """Panels one below the other that share the time axis. ``panels``: what the y axis shows, with its unit -> the
    lines of that panel. Every y axis begins at 0."""
    body: list[str] = []
    longest = max((x for lines in panels.values() for line in lines.values() for x, _ in line), default=0.0) or 1.0
    for place, (name, lines) in enumerate(panels.items()):
        body += _line_panel(TOP + place * (HEIGHT + GAP), name, lines, longest)
    return _document(LEFT + WIDTH + 20, TOP + len(panels) * (HEIGHT + GAP), title, (LEFT, 20), body)


def _line_panel(top: int, name: str, lines: Series, longest: float) -> list[str]:
    most = max((y for line in lines.values() for _, y in line), default=0.0) * 1.1 or 1.0
    bottom = top + HEIGHT
    out = [f'<text x="{LEFT}" y="{top - 4}">{escape(name)}</text>']
    for step in range(5):
        y = bottom - HEIGHT * step / 4
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + WIDTH}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most * step / 4:.0f}</text>')
    for step in range(6):
        x = LEFT + WIDTH * step / 5
        out.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{longest * step / 5:.0f} s</text>')
    for place, (label, line) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        points = " ".join(f"{LEFT + WIDTH * x / longest:.1f},{bottom - HEIGHT * y / most:.1f}" for x, y in line)
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        out.append(f'<text x="{LEFT + 120 + 70 * place}" y="{top - 4}" fill="{colour}">{escape(label)}</text>')
    return out


def curves(title: str, across: str, up: str, lines: Series) -> str:
    """One square panel of lines over any x axis; both axes begin where the figures do, so that close lines part."""
    size, left, top = 480, 70, 40
    points = [point for line in lines.values() for point in line] or [(0.0, 0.0)]
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    x_span, y_span = (x_high - x_low) or 1.0, (y_high - y_low) or 1.0
    out = [
        f'<text x="{left + size / 2}" y="{top + size + 40}" text-anchor="middle">{escape(across)}</text>',
        f'<text x="{left}" y="{top - 6}">{escape(up)}</text>',
    ]
    for step in range(6):
        x, y = left + size * step / 5, top + size - size * step / 5
        out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + size}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{y_low + y_span * step / 5:.1f}</text>')
        out.append(
            f'<text x="{x:.1f}" y="{top + size + 18}" text-anchor="middle">{x_low + x_span * step / 5:.0f}</text>'
        )
    for place, (label, line) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        drawn = " ".join(
            f"{left + size * (x - x_low) / x_span:.1f},{top + size - size * (y - y_low) / y_span:.1f}" for x, y in line
        )
        out.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        out.append(f'<text x="{left + 16}" y="{top + 20 + 18 * place}" fill="{colour}">{escape(label)}</text>')
    return _document(left + size + 30, top + size + 60, title, (left, 20), out)
