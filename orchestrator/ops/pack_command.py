"""``raftsman pack``: the operator's words around ``ops.pack``. Needs no cluster."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli.output import show
from orchestrator.cli.session import Session, common
from orchestrator.leader.placements import install_placements
from orchestrator.ops import pack_plot, pack_report
from orchestrator.ops.pack import names, pack
from orchestrator.ops.pack_cluster import PackError
from orchestrator.ops.pack_read import read

_FILE = click.Path(path_type=Path)


@click.command("pack")
@common
@click.option("--nodes", type=_FILE, metavar="FILE", help="Nodes: a trace's CSV, or JSON of kubectl or Nomad.")
@click.option("--pods", type=_FILE, metavar="FILE", help="Pods (Nomad: allocations and jobs), likewise.")
@click.option("--from", "both", type=_FILE, metavar="FILE", help="JSON with both in one file; - is standard input.")
@click.option(
    "--placement",
    "placements",
    multiple=True,
    metavar="NAME",
    help="One of 'raftsman placements', or auto (what a cluster does by default); repeatable. When unsaid: all.",
)
@click.option("--plot", type=_FILE, metavar="FILE.svg", help="Draw it, too.")
def command(
    session: Session,
    nodes: Path | None,
    pods: Path | None,
    both: Path | None,
    placements: tuple[str, ...],
    plot: Path | None,
) -> None:
    """How full and how fragmented a cluster is, and what repacking it by each placement would bring.

    Reads files and changes nothing: the trace format (CSV), what 'kubectl get nodes,pods -A -o json' prints, or Nomad's
    '/v1/nodes?resources=true' with '/v1/allocations?resources=true'.
    """
    if both is not None and (nodes is not None or pods is not None):
        raise click.UsageError("--from FILE takes the place of --nodes and --pods")
    if both is not None:
        nodes = pods = both
    if nodes is None or pods is None:
        raise click.UsageError("name the files: --nodes FILE --pods FILE, or --from FILE with both in it")
    install_placements()
    strangers = [name for name in placements if name not in names()]
    if strangers:
        raise click.UsageError(f"no placement {', '.join(strangers)} (there are: {', '.join(names())})")
    wanted = tuple(dict.fromkeys(placements)) or names()
    if plot is not None:
        if plot.suffix != ".svg":
            raise click.UsageError(f"--plot {plot}: draws SVG, so its name must end in .svg")
        if not plot.parent.is_dir():
            raise click.ClickException(f"--plot {plot}: there is no directory {plot.parent}")
    try:
        cluster = read(nodes, pods)
    except PackError as error:
        raise click.ClickException(str(error)) from None
    packing = pack(cluster, wanted, said=lambda name: session.note(f"packing by {name}") if session.live else None)
    for line in pack_report.summary(packing):
        session.note(line)
    if plot is not None:
        plot.write_text(pack_plot.svg(packing), encoding="utf-8")
        session.note(f"drawn: {plot}")
    show(
        session.output,
        value=lambda: pack_report.as_value(packing),
        names=lambda: [one.placement for one in packing.placements],
        table=lambda wide: pack_report.as_table(packing, wide),
    )
