"""What ``raftsman pack`` says: the table and the value behind ``-o json``.

Owns: columns, rounding, words. Leaves to others: the figures (``pack``), the drawing (``pack_plot``). The rule: what is
not known is an empty cell or null, and never 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from orchestrator.cli.output import table
from orchestrator.ops.pack import Figures, Packing, Repacked

NOW = "(now)"


def as_value(packing: Packing) -> dict[str, Any]:
    """For JSON; percentages and GPUs to three places."""
    cluster = packing.cluster
    return {
        "format": cluster.format,
        "cpu_unit": cluster.cpu_unit,
        "nodes": len(cluster.nodes),
        "nodes_closed": sum(1 for node in cluster.nodes if not node.open),
        "gpus": cluster.gpus,
        "pods": {
            "running": packing.running,
            "waiting": packing.waiting,
            "staying": packing.staying,
            "left_out_of_the_file": cluster.ended,
        },
        "now": None if packing.now is None else _figures(packing.now),
        "placements": [_repacked(one) for one in packing.placements],
        "overfull_nodes": list(packing.overfull),
        "carried": list(cluster.carried),
        "ignored": list(cluster.ignored),
        "notes": list(cluster.notes),
    }


def as_table(packing: Packing, wide: bool = False) -> str:
    """One line a packing. ``wide``: also how full the nodes are that are in use, and how many pods move."""
    headings = ["PLACEMENT", "PODS", "WAITING STARTED", "LEFT OUT", "NODES USED", "NODES FREED", "CPU", "MEMORY", "GPU"]
    headings += ["GPUS FREE", "WHOLE", "GPUS FREED", "FRAGMENTED"]
    if wide:
        headings += ["CPU THERE", "MEMORY THERE", "GPU THERE", "MOVED"]
    rows: list[list[object]] = []
    if packing.now is not None:
        rows.append(_cells(packing, NOW, packing.now, None, wide))
    rows += [_cells(packing, one.placement, one.figures, one, wide) for one in packing.placements]
    return table(headings, rows)


def summary(packing: Packing) -> Iterator[str]:
    """What to know besides, a line each."""
    cluster = packing.cluster
    closed = sum(1 for node in cluster.nodes if not node.open)
    stay = f" ({packing.staying:,} of them stay where they are)" if packing.staying else ""
    yield (
        f"{cluster.format}: {len(cluster.nodes):,} nodes{f' ({closed} closed)' if closed else ''}, "
        f"{cluster.gpus:,} GPUs; {len(cluster.pods):,} pods: {packing.running:,} run{stay}, "
        f"{packing.waiting:,} wait{f'; {cluster.ended:,} hold nothing' if cluster.ended else ''}"
    )
    if cluster.carried:
        yield f"kept to as custom resources: {', '.join(cluster.carried)}"
    if cluster.ignored:
        yield f"ignored (their nodes do not report them): {', '.join(cluster.ignored)}"
    if packing.overfull:
        some = ", ".join(packing.overfull[:5])
        more = f" and {len(packing.overfull) - 5} more" if len(packing.overfull) > 5 else ""
        yield f"hold more now than they have: {some}{more}"
    worse = [one.placement for one in packing.placements if one.left_out]
    if worse:
        yield f"left out: pods that run now and found no room by {', '.join(worse)}: do not repack that way"
    yield from cluster.notes


def _cells(packing: Packing, name: str, figures: Figures, new: Repacked | None, wide: bool) -> list[object]:
    gpus = bool(packing.cluster.gpus)
    cells: list[object] = [
        name,
        f"{figures.pods:,}",
        f"{new.started:,} of {packing.waiting:,}" if new is not None and packing.waiting else "",
        f"{new.left_out:,}" if new is not None and new.left_out else "",
        f"{figures.nodes_used:,}",
        "" if new is None or new.nodes_freed is None else f"{new.nodes_freed:,}",
        _percent(figures.cpu_pct),
        _percent(figures.memory_pct),
        _percent(figures.gpu_pct),
        f"{figures.gpus_free:,.1f}" if gpus else "",
        f"{figures.gpus_whole:,}" if gpus else "",
        "" if new is None or new.gpus_freed is None or not gpus else f"{new.gpus_freed:,}",
        _fragmented(figures),
    ]
    if wide:
        cells += [
            _percent(figures.dense_cpu_pct),
            _percent(figures.dense_memory_pct),
            _percent(figures.dense_gpu_pct),
            "" if new is None else f"{new.moved:,}",
        ]
    return cells


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} %"


def _fragmented(figures: Figures) -> str:
    if figures.fragmented_gpus is None:
        return ""
    share = "" if figures.fragmented_pct is None else f" ({figures.fragmented_pct:.0f} %)"
    return f"{figures.fragmented_gpus:,.1f}{share}"


def _figures(figures: Figures) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(figures).items()}


def _repacked(one: Repacked) -> dict[str, Any]:
    return {
        "placement": one.placement,
        **_figures(one.figures),
        "waiting_started": one.started,
        "left_out": one.left_out,
        "moved": one.moved,
        "nodes_freed": one.nodes_freed,
        "gpus_freed": one.gpus_freed,
    }
