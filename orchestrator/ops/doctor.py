"""``raftsman doctor``: what is wrong on this machine or with the cluster, and what to do about it.

Owns: the checks and their words. The rule: every line says what was looked at; whatever is not ok says what to do. A
check takes a few seconds at most and changes nothing, but for one variable that lives for a moment (cluster time).
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import click

from orchestrator.cli.output import structured
from orchestrator.cli.session import Session, common
from orchestrator.client import contexts
from orchestrator.client.aio import Client
from orchestrator.contract.errors import RaftsmanError
from orchestrator.contract.model import NodeStatus
from orchestrator.ops import certs, doctor_gpus
from orchestrator.ops.cluster_file import ClusterFile
from orchestrator.ops.dev_command import default_data
from orchestrator.ops.dev_plan import GATEWAY_PORT, GRPC_PORT, PEER_HTTP_PORT
from orchestrator.ops.engine import Engine, EngineError
from orchestrator.ops.finding import Finding, Level
from orchestrator.ops.ports import is_free

CALL_TIMEOUT_S = 3.0
SKEW_WARN_MS, SKEW_FAIL_MS = 500, 5_000
DISK_WARN_MIB, DISK_FAIL_MIB = 2_048, 256


@click.command("doctor")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory to look at.")
@common
def command(session: Session, data: Path | None) -> None:
    """Look at the engine, GPUs, ports, clocks, permissions and certificates. Exits 1 when something fails."""
    found = asyncio.run(_collect(session, data or default_data()))
    if session.output in ("json", "yaml"):
        click.echo(structured([dataclasses.asdict(one) for one in found], session.output))
    elif session.output == "name":
        for one in found:
            click.echo(one.check)
    else:
        for one in found:
            click.echo(f"{one.level:<5} {one.check:<13} {one.text}")
            if one.advice:
                click.echo(f"{'':<5} {'':<13} -> {one.advice}")
    if any(one.level == "fail" for one in found):
        click.get_current_context().exit(1)


async def _collect(session: Session, data: Path) -> list[Finding]:
    try:
        context: contexts.Context | None = session.resolve()
        missing = None
    except RaftsmanError as error:
        context, missing = None, error
    found = [python(), permissions(data), disk(data)]
    found += [one async for one in engine()]
    found.append(await doctor_gpus.look())
    found += ports(data)
    if context is None:
        assert missing is not None
        found.append(Finding(check="cluster", level="warn", text=missing.message, advice="start one: raftsman dev"))
        return found
    if context.tls is not None:
        found += certificates(context)
    found += [one async for one in cluster(context)]
    return found


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(check="python", level="ok", text=f"{version} at {sys.executable}")


def permissions(data: Path) -> Finding:
    """Whether the data directory, or the nearest one above it that exists, can be written."""
    nearest = data
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if os.access(nearest, os.W_OK | os.X_OK):
        return Finding(check="permissions", level="ok", text=f"{data} can be written")
    return Finding(
        check="permissions",
        level="fail",
        text=f"{nearest} cannot be written",
        advice=f"give it to this user (chown {os.getuid()} {nearest}) or choose another with --data",
    )


def disk(data: Path) -> Finding:
    nearest = data
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    free_mib = shutil.disk_usage(nearest).free // (1024 * 1024)
    text = f"{free_mib:,} MiB free at {nearest}"
    if free_mib < DISK_FAIL_MIB:
        return Finding(check="disk", level="fail", text=text, advice="free some: a peer stops when it cannot write")
    if free_mib < DISK_WARN_MIB:
        return Finding(check="disk", level="warn", text=text, advice="free some: logs, snapshots and images need it")
    return Finding(check="disk", level="ok", text=text)


async def engine() -> AsyncIterator[Finding]:
    """Docker: whether it answers, whether we may ask, and what it then can run."""
    async with Engine() as docker:
        if docker.host.startswith("unix://"):
            socket = Path(docker.host.removeprefix("unix://"))
            exists, allowed = await asyncio.to_thread(lambda: (socket.exists(), os.access(socket, os.R_OK | os.W_OK)))
            if not exists:
                yield Finding(
                    check="engine",
                    level="warn",
                    text=f"no Docker engine: {socket} does not exist",
                    advice="install or start Docker to run images; without it tasks run as processes",
                )
                return
            if not allowed:
                yield Finding(
                    check="engine",
                    level="fail",
                    text=f"{socket} may not be used by this user",
                    advice="add the user to the group docker and log in again, or use --driver process",
                )
                return
        try:
            version = await asyncio.wait_for(docker.version(), CALL_TIMEOUT_S)
        except (EngineError, TimeoutError) as error:
            why = error.message if isinstance(error, EngineError) else f"no answer in {CALL_TIMEOUT_S:g} s"
            yield Finding(check="engine", level="warn", text=why, advice="start Docker, or use --driver process")
            return
        yield Finding(check="engine", level="ok", text=f"Docker {version} at {docker.host}")


def ports(data: Path) -> list[Finding]:
    """The ports that `raftsman dev` prefers: free, or held by the cluster in ``data``."""
    record = None
    try:
        record = ClusterFile(data).load()
    except RaftsmanError as error:
        return [Finding(check="ports", level="fail", text=error.message, advice="see the message")]
    if record is not None and any(member.alive for member in record.members):
        used = sorted(member.address or member.http for member in record.members if member.alive)
        return [Finding(check="ports", level="ok", text=f"the cluster in {data} uses {', '.join(used)}")]
    wanted = [GRPC_PORT + i for i in range(3)] + [PEER_HTTP_PORT + i for i in range(3)] + [GATEWAY_PORT]
    taken = [str(port) for port in wanted if not is_free(port)]
    if not taken:
        return [Finding(check="ports", level="ok", text=f"{', '.join(map(str, wanted))} are free")]
    return [
        Finding(
            check="ports",
            level="warn",
            text=f"in use on 127.0.0.1: {', '.join(taken)}",
            advice="`raftsman dev` takes the next free ones and says which; stop what uses them to have these",
        )
    ]


def certificates(context: contexts.Context) -> list[Finding]:
    """The client's certificate and, for a dev cluster, everybody's."""
    paths = [Path(context.cert)]
    if context.data:
        paths = sorted((Path(context.data) / "tls").glob("*/*/cert.pem")) or paths
    now = datetime.datetime.now(datetime.UTC)
    found = []
    for path in paths:
        try:
            info = certs.read(path)
        except RaftsmanError as error:
            advice = "make it again with `raftsman certs issue`, or correct the context with `raftsman context add`"
            found.append(Finding(check="certificates", level="fail", text=error.message, advice=advice))
            continue
        days = info.days_left(now)
        if days < certs.WARN_BEFORE.days:
            level: Level = "fail" if days < 0 else "warn"
            advice = (
                f"renew {path.parent} where the authority is (raftsman certs issue {info.subject.replace(':', ' ')} "
                "--renew), then restart its process"
            )
            text = f"{info.subject} {'ended' if days < 0 else 'ends'} on {info.expires:%Y-%m-%d}"
            found.append(Finding(check="certificates", level=level, text=text, advice=advice))
    key = Path(context.key)
    if key.exists() and key.stat().st_mode & 0o077:
        found.append(
            Finding(check="certificates", level="warn", text=f"{key} can be read by others", advice=f"chmod 600 {key}")
        )
    if not found:
        found.append(Finding(check="certificates", level="ok", text=f"{len(paths)} valid for more than 30 days"))
    return found


async def cluster(context: contexts.Context) -> AsyncIterator[Finding]:
    """The context's cluster: its leader, peers and nodes, and how far its clock is from ours."""
    async with Client(context.endpoints, tls=context.tls, timeout_s=CALL_TIMEOUT_S, stale_after_s=1.0) as client:
        try:
            status = await client.cluster_status()
        except RaftsmanError as error:
            advice = "start its peers: `raftsman dev`, `docker compose up -d`, or `raftsman peer` on each machine"
            yield Finding(
                check="cluster", level="fail", text=f"context {context.name!r}: {error.message}", advice=advice
            )
            return
        if status.read.stale:
            down = ", ".join(peer.id for peer in status.peers if not peer.connected) or "unknown"
            yield Finding(
                check="cluster",
                level="fail",
                text=f"context {context.name!r} has no leader; not reached: {down}",
                advice="start peers until more than half of them run",
            )
            return
        yield Finding(
            check="cluster",
            level="ok",
            text=f"context {context.name!r}: {status.leader_id} leads in term {status.term}",
        )
        for peer in status.peers:
            if not peer.connected or peer.role not in ("leader", "follower"):
                advice = f"look at the log of {peer.id} and start it again; until then one more loss may stop writes"
                yield Finding(check="peers", level="warn", text=f"{peer.id} is {peer.role}", advice=advice)
        for node in (await client.list_nodes()).nodes:
            if node.status is not NodeStatus.READY:
                advice = "start its agent again, or `raftsman node forget` it when it is gone for good"
                text = f"{node.spec.name} is lost: {node.status_reason or 'silent'}"
                yield Finding(check="nodes", level="warn", text=text, advice=advice)
        async for one in clock(client):
            yield one


async def clock(client: Client) -> AsyncIterator[Finding]:
    """Cluster time against ours: a write tells it. It follows the leader's clock, or comes from one that led before and
    was fast, and is being waited for."""
    name = f"raftsman/doctor-{os.getpid()}"
    before_ms = time.time() * 1000
    after_index = (await client.cluster_status()).read.index
    try:
        await client.create_variable(name, "clock")
        after_ms = time.time() * 1000
        await client.delete_variable(name)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            event = await anext(client.watch_events(after_index, kinds=["variable.changed"]))
    except (RaftsmanError, TimeoutError, StopAsyncIteration):
        return  # nothing to compare with
    skew_ms = max(before_ms - event.time_ms, event.time_ms - after_ms, 0.0)
    text = f"cluster time and this machine's clock differ by {skew_ms:.0f} ms"
    if skew_ms > SKEW_FAIL_MS:
        advice = (
            "synchronise the clocks of all peers and this one (chrony, systemd-timesyncd): certificates and deadlines "
            "depend on them. Where all agree by now, a leader's was fast: cluster time goes at half speed until they "
            "have caught up"
        )
        yield Finding(check="clocks", level="fail", text=text, advice=advice)
    elif skew_ms > SKEW_WARN_MS:
        advice = "synchronise them (chrony, systemd-timesyncd)"
        yield Finding(check="clocks", level="warn", text=text, advice=advice)
    else:
        yield Finding(
            check="clocks", level="ok", text=text if skew_ms else "cluster time agrees with this machine's clock"
        )
