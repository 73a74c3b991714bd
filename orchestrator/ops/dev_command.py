"""``raftsman dev``: a cluster on this machine, in the foreground or left running. Thin; the work is in ``ops.dev``."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.output import show
from orchestrator.cli.session import Session, common
from orchestrator.client import contexts
from orchestrator.contract.errors import NotFoundError, PreconditionError, RaftsmanError
from orchestrator.contract.signals import ending_signals
from orchestrator.ops.cluster_file import ClusterFile, ClusterRecord
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.dev_plan import DRIVERS, MAX_AGENTS, MAX_PEERS
from orchestrator.ops.processes import raftsman_argv, spawn

CONTEXT = "dev"
RESTART_AFTER_S = 3.0
"""How long a leader that the page killed stays dead, so that the gap can be seen."""


def default_data() -> Path:
    """``~/.local/state/raftsman/dev``, or below ``XDG_STATE_HOME``."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return (Path(state) / "raftsman" / "dev").expanduser()


def _said_before(context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    """``dev --data DIR stop`` means that cluster, as ``dev stop --data DIR`` does."""
    parent, typed = context.parent, click.core.ParameterSource.COMMANDLINE
    if parent is None or parent.get_parameter_source("data") is not typed:
        return value
    return value if context.get_parameter_source("data") is typed else parent.params["data"]


data_option = click.option(
    "--data",
    callback=_said_before,
    type=click.Path(path_type=Path, file_okay=False),
    envvar="RAFTSMAN_DEV_DATA",
    help="Where the cluster keeps everything [default: ~/.local/state/raftsman/dev].",
)


@click.group(name="dev", invoke_without_command=True)
@click.option("--peers", type=click.IntRange(1, MAX_PEERS), help="How many peers [default: 3].")
@click.option("--agents", type=click.IntRange(0, MAX_AGENTS), help="How many agents [default: 2].")
@click.option("--driver", type=click.Choice(DRIVERS), help="What runs the tasks [default: auto].")
@data_option
@click.option("--detach", is_flag=True, help="Return when the cluster is ready and leave it running.")
@click.option(
    "--fast-failover/--no-fast-failover", default=None, help="Election timeouts of 150-300 ms instead of 400-1000 ms."
)
@click.option("--gpu", metavar="SPEC", help="GPUs to declare per agent: count=2,model=A100,memory=80Gi.")
@click.option("--no-gateway", is_flag=True, help="Without the gateway and its page.")
@click.pass_context
def command(
    context: click.Context,
    peers: int | None,
    agents: int | None,
    driver: str | None,
    data: Path | None,
    detach: bool,
    fast_failover: bool | None,
    gpu: str | None,
    no_gateway: bool,
) -> None:
    """Run a whole cluster on this machine: peers, agents, a gateway.

    Ctrl-C stops it and what it runs; the data stays, and the next `raftsman dev` goes on with it.
    """
    if context.invoked_subcommand is not None:
        return
    chosen = data or default_data()
    _check_kept(chosen, agents, no_gateway)
    cluster = LocalCluster(
        peers,
        agents,
        driver=driver,
        data=chosen,
        gateway=not no_gateway,
        fast_failover=fast_failover,
        gpu=gpu,
        predictable_ports=True,
        name="dev",
    )
    with _foreground(cluster.data):
        asyncio.run(_run(cluster, detach=detach))


def _check_kept(data: Path, agents: int | None, no_gateway: bool) -> None:
    """Raises ``PreconditionError`` where something would go on that the caller does not want."""
    record = ClusterFile(data).load()
    if record is None:
        return
    have = len(record.of_kind("agent"))
    kept = f"{have} agent{'s' * (have != 1)}, not {agents}" if agents is not None and agents < have else ""
    kept = kept or ("a gateway" if no_gateway and record.of_kind("gateway") else "")
    if kept:
        raise PreconditionError(
            f"{data} holds a cluster with {kept}, and a dev cluster loses none of its processes; use another --data, "
            f"or `raftsman dev stop --data {data}` and remove the directory"
        )


@command.command()
@common
@data_option
def status(session: Session, data: Path | None) -> None:
    """What the cluster consists of and what of it runs. Exits 1 when something does not."""
    record = _record(data)
    rows = [
        {
            "name": member.name,
            "kind": member.kind,
            "state": "running" if member.alive else "ended",
            "pid": member.pid,
            "address": member.address,
            "http": member.http,
            "log": member.log,
        }
        for member in record.members
    ]
    show(
        session.output,
        value=lambda: {"name": record.name, "cluster_id": record.cluster_id, "members": rows},
        names=lambda: [member.name for member in record.members],
        table=lambda wide: "\n".join(
            f"{row['name']:<8} {row['state']:<8} pid {row['pid']:<8} {row['address'] or '-':<16} "
            f"metrics {row['http']:<16} {row['log']}"
            for row in rows
        ),
    )
    if any(row["state"] != "running" for row in rows):
        click.get_current_context().exit(1)


@command.command()
@data_option
def stop(data: Path | None) -> None:
    """Stop the cluster and what it runs. The data stays."""
    cluster = attached(data)
    running = [member.name for member in cluster.record.members if member.alive]
    asyncio.run(cluster.stop())
    click.echo(f"stopped {', '.join(running)}" if running else "nothing was running", err=True)


@command.command("kill-leader")
@common
@data_option
def kill_leader(session: Session, data: Path | None) -> None:
    """SIGKILL the peer that leads; it is started again after three seconds."""
    cluster = attached(data)

    async def kill() -> str:
        try:
            return await cluster.kill_leader()
        finally:
            await cluster.close()

    killed = asyncio.run(kill())
    # On its own, since whoever asked for the kill wants to see the gap now.
    argv = raftsman_argv("dev", "restart", killed, "--data", str(cluster.data), "--after", str(RESTART_AFTER_S))
    spawn(argv, cluster.data / "logs" / "dev.log")
    if session.output == "json":  # in one line, which gateways of before look for
        click.echo(json.dumps({"killed": killed}))
        return
    show(
        session.output, value=lambda: {"killed": killed}, names=lambda: [killed], table=lambda wide: f"killed {killed}"
    )


@command.command()
@click.argument("name")
@data_option
@click.option("--after", type=click.FloatRange(min=0), default=0.0, help="Wait so many seconds first.")
def restart(name: str, data: Path | None, after: float) -> None:
    """Start a peer, agent or gateway again, with its directory and ports; ends it first if it runs. Returns when it
    serves."""
    cluster = attached(data)
    time.sleep(after)

    async def again() -> None:
        await cluster.restart(name)
        await cluster.wait_serving(name)

    asyncio.run(again())
    click.echo(f"restarted {name}", err=True)


def _record(data: Path | None) -> ClusterRecord:
    """Of the cluster in ``--data`` or the default directory; NotFoundError names the current context's if another.

    It is only named: `dev stop` must not stop what nobody pointed at.
    """
    chosen = (data or default_data()).expanduser().resolve()
    record = ClusterFile(chosen).load()
    if record is not None:
        return record
    advice = f"`raftsman dev --data {chosen}` starts one"
    with contextlib.suppress(RaftsmanError):
        context = contexts.resolve()
        if context.kind == "dev" and context.data and Path(context.data) != chosen:
            advice = f"the one of context '{context.name}' is in {context.data}: repeat with --data {context.data}"
    raise NotFoundError(f"no cluster in {chosen}; {advice}")


def attached(data: Path | None) -> LocalCluster:
    """The cluster in ``--data`` or the default directory. Raises ``NotFoundError``."""
    _record(data)
    return LocalCluster.attach(data or default_data())


@contextlib.contextmanager
def _foreground(data: Path) -> Iterator[None]:
    """One `raftsman dev` per directory: the lock ends with the process, however it ends."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(data / "dev.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PreconditionError(
                f"another `raftsman dev` runs the cluster in {data}: `raftsman dev status --data {data}` shows it, "
                f"`raftsman dev stop --data {data}` stops it, --data DIR starts a second one elsewhere"
            ) from None
        yield
    finally:
        os.close(descriptor)


async def _run(cluster: LocalCluster, *, detach: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ending_signals():
        loop.add_signal_handler(number, stopped.set)
    done = False
    try:
        before = time.monotonic()
        started = await cluster.start()
        running = [member.name for member in cluster.record.members if member.name not in started]
        if running:
            click.echo(f"already running in {cluster.data}: {', '.join(running)}", err=True)
        ready = asyncio.create_task(cluster.wait_ready())
        stop = asyncio.create_task(stopped.wait())
        await asyncio.wait({ready, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            return
        await ready
        _write_context(cluster)
        _tell(cluster, time.monotonic() - before)
        done = True
        if not detach:
            click.echo("Ctrl-C stops it.", err=True)
            await _until_stopped(cluster, stop)
    finally:
        if not done:
            await cluster.give_up()
        elif detach:
            await cluster.close()
        else:
            click.echo("stopping ...", err=True)
            await cluster.stop()


async def _until_stopped(cluster: LocalCluster, stop: asyncio.Task[Any]) -> None:
    """Until a signal, or until somebody else (`dev stop`) has ended every process."""
    while not stop.done():
        await asyncio.wait({stop}, timeout=1.0)
        if not any(member.alive for member in cluster.record.members):
            click.echo("every process of the cluster has ended", err=True)
            return


def _write_context(cluster: LocalCluster) -> None:
    tls = cluster.tls
    contexts.add(
        contexts.Context(
            name=CONTEXT,
            endpoints=cluster.endpoints,
            ca=str(tls.ca),
            cert=str(tls.cert),
            key=str(tls.key),
            kind="dev",
            data=str(cluster.data),
        )
    )


def _tell(cluster: LocalCluster, seconds: float) -> None:
    record = cluster.record
    peers, agents = record.of_kind("peer"), record.of_kind("agent")
    lines = [
        f"cluster {record.name!r} is ready after {seconds:.1f} s: {len(peers)} peers, {len(agents)} agents",
        f"  API      {', '.join(peer.address for peer in peers)} (gRPC, mutual TLS)",
    ]
    if cluster.gateway_url:
        lines.append(f"  page     {cluster.gateway_url}/")
    lines += [
        f"  data     {cluster.data}",
        f"  context  {CONTEXT} (selected): `raftsman nodes`, `raftsman run -- echo hi`",
    ]
    click.echo("\n".join(lines), err=True)
