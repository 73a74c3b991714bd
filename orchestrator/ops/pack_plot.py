"""The plot of ``raftsman pack``: now and every placement side by side.

Owns: which figures are drawn. Leaves to others: the figures (``pack``), the drawing (``plot``).
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.ops.pack import Figures, Packing
from orchestrator.ops.pack_report import NOW
from orchestrator.ops.plot import bars

_PANELS: tuple[tuple[str, str, Callable[[Figures], float | None]], ...] = (
    ("nodes in use", "", lambda figures: figures.nodes_used),
    ("pods with a place", "", lambda figures: figures.pods),
    ("cpu given away", "%", lambda figures: figures.cpu_pct),
    ("memory given away", "%", lambda figures: figures.memory_pct),
    ("GPUs given away", "%", lambda figures: figures.gpu_pct),
    ("whole GPUs free", "", lambda figures: figures.gpus_whole),
    ("GPUs fragmented (free, of no use to a typical pod)", "", lambda figures: figures.fragmented_gpus),
)
"""Title, unit, figure. A cluster without GPUs has none of theirs."""


def svg(packing: Packing) -> str:
    rows = [(NOW, packing.now)] if packing.now is not None else []
    rows += [(one.placement, one.figures) for one in packing.placements]
    panels = [panel for panel in _PANELS if packing.cluster.gpus or "GPU" not in panel[0]]
    heading = f"{packing.cluster.format}: {len(packing.cluster.nodes):,} nodes, {len(packing.cluster.pods):,} pods"
    return bars(
        heading,
        [(title, unit, [(name, figure(figures)) for name, figures in rows]) for title, unit, figure in panels],
        grey=NOW,
    )
