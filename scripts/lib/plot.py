"""A line plot as SVG, without a library: panels one below the other that share the time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 170, 70, 40, 50
COLOURS = ("#0b6e99", "#c2571a", "#3a7d34", "#7a4fa3", "#a33b53")

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Name -> (seconds, value)."""


def svg(title: str, panels: Mapping[str, Series]) -> str:
    """``panels``: what the y axis shows, with its unit -> the lines of that panel. Every y axis begins at 0."""
    height = TOP + len(panels) * (HEIGHT + GAP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 20}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    longest = max((x for lines in panels.values() for line in lines.values() for x, _ in line), default=0.0) or 1.0
    for place, (name, lines) in enumerate(panels.items()):
        out += _panel(TOP + place * (HEIGHT + GAP), name, lines, longest)
    out.append("</svg>")
    return "\n".join(out)


def _panel(top: int, name: str, lines: Series, longest: float) -> list[str]:
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
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + size + 30}" height="{top + size + 60}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="20" font-size="14">{escape(title)}</text>',
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
    out.append("</svg>")
    return "\n".join(out)
