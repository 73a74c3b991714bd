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
