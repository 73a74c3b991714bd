"""The plot of ``raftsman pack``: now and every placement side by side, as SVG without a library.

Owns: the drawing. Leaves to others: figures (``pack``). The rules: bars begin at 0; every bar has its figure beside it,
so that nobody measures with a ruler; what is not known has no bar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from orchestrator.ops.pack import Figures, Packing
from orchestrator.ops.pack_report import NOW

_LEFT, _BAR, _RIGHT, _LINE, _GAP, _TOP = 160, 420, 110, 18, 34, 54
_NOW_COLOUR, _COLOUR = "#888888", "#0b6e99"
_PANELS: tuple[tuple[str, str, Callable[[Figures], float | None]], ...] = (
    ("nodes in use", "", lambda figures: figures.nodes_used),
    ("pods with a place", "", lambda figures: figures.pods),
    ("cpu given away", "%", lambda figures: figures.cpu_pct),
    ("memory given away", "%", lambda figures: figures.memory_pct),
    ("GPUs given away", "%", lambda figures: figures.gpu_pct),
    ("whole GPUs free", "", lambda figures: figures.gpus_whole),
    ("GPUs fragmented (free, of no use to a typical pod)", "", lambda figures: figures.fragmented_gpus),
)
"""Title, unit, figure. A panel without any figure is left out: a cluster without GPUs has none of theirs."""


def svg(packing: Packing) -> str:
    rows = [(NOW, packing.now)] if packing.now is not None else []
    rows += [(one.placement, one.figures) for one in packing.placements]
    panels = [panel for panel in _PANELS if packing.cluster.gpus or "GPU" not in panel[0]]
    body: list[str] = []
    top = _TOP
    for title, unit, figure in panels:
        values = [(name, figure(figures)) for name, figures in rows]
        if any(value is not None for _, value in values):
            body += _panel(top, title, unit, values)
            top += _LINE * len(rows) + _GAP
    heading = f"{packing.cluster.format}: {len(packing.cluster.nodes):,} nodes, {len(packing.cluster.pods):,} pods"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _BAR + _RIGHT}" height="{top}" '
            'font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="12" y="22" font-size="14">{escape(heading)}</text>',
            *body,
            "</svg>",
            "",
        ]
    )


def _panel(top: int, title: str, unit: str, values: Sequence[tuple[str, float | None]]) -> list[str]:
    most = 100.0 if unit == "%" else max((value for _, value in values if value is not None), default=0.0) or 1.0
    out = [f'<text x="12" y="{top}" font-weight="bold">{escape(title)}</text>']
    for place, (name, value) in enumerate(values):
        y = top + 8 + _LINE * place
        out.append(f'<text x="{_LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(name)}</text>')
        if value is None:
            continue
        width = _BAR * min(max(value / most, 0.0), 1.0)
        colour = _NOW_COLOUR if name == NOW else _COLOUR
        text = f"{value:,.1f} {unit}".rstrip() if unit or value != int(value) else f"{int(value):,}"
        out.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_LINE - 4}" fill="{colour}"/>')
        out.append(f'<text x="{_LEFT + width + 6:.1f}" y="{y + 11}">{text}</text>')
    return out
