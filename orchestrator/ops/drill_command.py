"""``raftsman drill``: choose the cluster, run the drill, print what it cost. Thin; the work is in ``ops.drill``."""

from __future__ import annotations

import json
from pathlib import Path

import click
from click.core import ParameterSource

from orchestrator.cli.session import Session, common
from orchestrator.client import contexts
from orchestrator.contract.errors import InvalidError, NotFoundError, PreconditionError
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.dev_plan import DRIVERS, MAX_AGENTS, MAX_PEERS
from orchestrator.ops.drill import Drill, Options
from orchestrator.ops.drill_cluster import FaultyCluster
from orchestrator.ops.drill_facts import Spread, Verdict
from orchestrator.ops.drill_kind import Kind
from orchestrator.ops.drill_kinds import KINDS
from orchestrator.ops.drill_needs import EXIT_SKIPPED, IN_OWN_NETWORK, OWN_CLUSTER, Need, prepare
from orchestrator.ops.drill_target import ComposeCluster
from orchestrator.ops.drill_tools import MissingError
from orchestrator.ops.interrupt import run

_LACKS = {
    Need.LINKS: "links between its peers that can be cut",
    Need.DISKS: "disks of its peers' own",
    Need.ENGINE: "a Docker engine of its own",
}
ALLOWED = ("dev", "compose")


@click.command("drill")
@click.argument("kind", type=click.Choice(tuple(KINDS)))
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="How often to strike.")
@click.option("--history", type=click.Path(path_type=Path, dir_okay=False), help="Write every operation to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, last.")
@click.option("--throwaway", is_flag=True, help="Use a fresh cluster and remove it, whatever the context.")
@click.option(
    "--driver", type=click.Choice(DRIVERS), default="auto", show_default=True, help="Of a throw-away cluster."
)
@click.option(
    "--peers", type=click.IntRange(1, MAX_PEERS), help="Of a throw-away cluster [default: 3; partition-half: 5]."
)
@click.option(
    "--agents", type=click.IntRange(1, MAX_AGENTS), default=2, show_default=True, help="Of a throw-away cluster."
)
@click.option("--fast-failover", is_flag=True, help="Of a throw-away cluster: election timeouts of 150-300 ms.")
@click.option(
    "--live-restore/--no-live-restore",
    default=True,
    show_default=True,
    help="Of a throw-away cluster's own engine: whether it keeps containers while it restarts (engine drills).",
)
@click.option("--image", default="", help="Image of the service under load (must have busybox httpd).")
@click.option("--really", metavar="NAME", help="Drill a context that is neither dev nor compose: repeat its name.")
@common
def command(
    session: Session,
    kind: str,
    rounds: int,
    history: Path | None,
    as_json: bool,
    throwaway: bool,
    driver: str,
    peers: int | None,
    agents: int,
    fast_failover: bool,
    live_restore: bool,
    image: str,
    really: str | None,
) -> None:
    """Break something under load, again and again, and account for every write, container and request.

    Runs on the current context's cluster if `raftsman dev` or compose made it; without a context on a throw-away one.
    Exits 0 only when nothing was lost, duplicated, restarted or doubled, every answer was linearizable, and all peers
    hold the same state; 77 when this machine cannot do it, with the reason.
    """
    found = None if throwaway else _context(session, really)
    options = Options(kind=KINDS[kind], rounds=rounds, history=history, image=image, keep_no_trace=found is not None)
    needs = KINDS[kind].needs
    if found is not None:
        _refuse(kind, found)
        _refuse_options(found)
    try:
        prepare(needs)
    except MissingError as error:
        _say(f"skipped: {error.message}")
        if as_json:
            click.echo(json.dumps({"skipped": error.message}))
        click.get_current_context().exit(EXIT_SKIPPED)
    fresh = None
    if found is None:
        fresh = FaultyCluster(
            peers or KINDS[kind].peers,
            agents,
            driver=_driver(kind, driver),
            fast_failover=fast_failover,
            links=Need.LINKS in needs,
            disks=Need.DISKS in needs,
            engine=Need.ENGINE in needs,
            live_restore=live_restore,
        )
    verdict = run(_run(found, fresh, options))
    if as_json:
        click.echo(
            json.dumps(verdict.as_json(replaces=KINDS[kind].loses_node, watches_engine=KINDS[kind].watches_engine))
        )
    else:
        click.echo(_summary(verdict, KINDS[kind]))
    click.get_current_context().exit(0 if verdict.passed else 1)


def _context(session: Session, really: str | None) -> contexts.Context | None:
    """The cluster to drill; None when there is no context. Raises ``PreconditionError`` for one that is not ours."""
    try:
        found = session.resolve()
    except NotFoundError as error:
        if session.context or error.reason != "NO_CONTEXT":
            raise
        return None
    if found.kind not in ALLOWED and really != found.name:
        raise PreconditionError(
            f"context {found.name!r} is not a dev or compose cluster: a drill kills its processes. "
            f"--really {found.name} does it all the same, --throwaway uses a fresh cluster"
        )
    return found


def _refuse(kind: str, found: contexts.Context) -> None:
    """Raises ``PreconditionError`` for a drill that cannot be done to the processes of that context."""
    needs = KINDS[kind].needs
    if needs & OWN_CLUSTER:
        lacks = next(text for need, text in _LACKS.items() if need in needs)
    elif needs and not found.data:
        lacks = "processes and files of its peers on this machine"
    else:
        return
    raise PreconditionError(
        f"{kind} needs {lacks}, and context {found.name!r} has none; --throwaway makes a cluster that has"
    )


def _refuse_options(found: contexts.Context) -> None:
    """Raises ``UsageError`` for options that say how a throw-away cluster is to be: that of a context is as it is."""
    context = click.get_current_context()
    for name in ("driver", "peers", "agents", "fast_failover", "live_restore"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = "--[no-]live-restore" if name == "live_restore" else f"--{name.replace('_', '-')}"
            raise click.UsageError(
                f"{flag} is for a throw-away cluster (--throwaway), and this drill is of context {found.name!r}"
            )


def _driver(kind: str, wanted: str) -> str:
    """In a network of its own the cluster cannot reach what the machine's Docker publishes."""
    needs = KINDS[kind].needs
    if not needs & IN_OWN_NETWORK:
        return wanted
    own = "docker" if Need.ENGINE in needs else "process"
    if wanted not in ("auto", own):
        why = "is about containers"
        if own == "process":
            why = "runs in a network namespace, where Docker's published ports are not"
        raise InvalidError(f"{kind} {why}: leave --driver out")
    return own


async def _run(found: contexts.Context | None, fresh: LocalCluster | None, options: Options) -> Verdict:
    if fresh is not None:
        _say(f"starting a throw-away cluster in {fresh.data}")
        fresh.keep_after_failure = True
        try:
            async with fresh:
                verdict = await Drill(fresh, options, _say).run()
                fresh.keep_data = not verdict.passed
                return verdict
        finally:
            if fresh.keep_data:
                _say(f"logs and data of the cluster are kept in {fresh.data}")
    assert found is not None
    if found.data:
        local = LocalCluster.attach(found.data)
        try:
            return await Drill(local, options, _say).run()
        finally:
            await local.close()
    if found.kind == "compose" and found.tls is not None:
        project = await ComposeCluster.find(found.endpoints, found.tls)
        try:
            return await Drill(project, options, _say).run()
        finally:
            await project.close()
    raise PreconditionError(
        f"context {found.name!r} names no processes on this machine, so there is nothing here that could be killed; "
        "run the drill where `raftsman dev` or docker compose runs the cluster"
    )


def _say(line: str) -> None:
    click.echo(line, err=True)


def _summary(verdict: Verdict, kind: Kind) -> str:
    def spread(values: Spread) -> str:
        return f"p50 {values.p50:g}  p99 {values.p99:g}  max {values.max:g} ms"

    lines = [
        f"rounds                {verdict.rounds}",
        f"until the next write  {spread(verdict.unavailable_ms)}",
        f"until placed          {spread(verdict.placement_ms)}",
        f"whole after mending   {spread(verdict.ready_ms)}",
    ]
    if kind.watches_engine:
        lines.append(f"converged             {spread(verdict.converged_ms)}, {verdict.forgotten} forgotten")
        lines.append(f"had to start again    {verdict.restarts_needed} containers")
    if kind.loses_node:
        lines.append(f"until replaced        {spread(verdict.replaced_ms)}")
        lines.append(f"ran double for        {verdict.double_seconds:g} s")
    lines += [
        f"writes                {verdict.writes_acked} acknowledged, {verdict.writes_lost} lost, "
        f"{verdict.writes_duplicated} duplicated",
        f"containers            {verdict.containers_restarted} restarted, {verdict.containers_doubled} doubled",
        f"HTTP requests         {verdict.requests}, {verdict.requests_failed} failed",
        f"history               {verdict.operations} operations, {verdict.unknown} unknown, "
        f"{verdict.violations} violations",
        f"state hashes          {'equal on every peer' if verdict.state_hash_equal else 'DIFFERENT'}",
        "passed" if verdict.passed else "FAILED",
    ]
    return "\n".join(lines)
