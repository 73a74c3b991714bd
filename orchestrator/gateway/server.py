"""``raftsman gateway``: builds the client and the application, and serves HTTP until told to stop."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import click
import structlog

from orchestrator.client.aio import Client
from orchestrator.contract import address
from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.descriptors import raise_limit
from orchestrator.contract.errors import PreconditionError, StartupError
from orchestrator.contract.log_lines import LEVELS, json_lines
from orchestrator.contract.signals import ending_signals

logger = structlog.get_logger()

BACKLOG = 2048
"""Connections that wait to be taken; as many as uvicorn asks for."""


@click.command("gateway", context_settings={"auto_envvar_prefix": "RAFTSMAN_GATEWAY"})
@click.option("--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", help="Where to serve HTTP.")
@click.option("--endpoints", required=True, metavar="HOST:PORT,...", help="The peers to talk to.")
@click.option("--tls", type=click.Path(path_type=Path), help="Directory with ca.pem, cert.pem and key.pem.")
@click.option("--insecure", is_flag=True, help="Talk to the peers without TLS (tests on loopback only).")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Serve under this host name too; repeatable.")
@click.option(
    "--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="Of its JSON lines on stderr."
)
@click.option("--dev-data", type=click.Path(path_type=Path), help="A dev cluster's data: offers to kill its leader.")
def command(
    listen: str,
    endpoints: str,
    tls: Path | None,
    insecure: bool,
    allow_host: tuple[str, ...],
    log_level: str,
    dev_data: Path | None,
) -> None:
    """Serve REST/JSON, event streams and the status page.

    Stateless: run as many as you like. Plain HTTP, so keep it on loopback; Host and Origin are checked.
    Every flag can be set in the environment as RAFTSMAN_GATEWAY_<NAME>.
    """
    if tls is None and not insecure:
        raise click.UsageError("--tls DIR is needed: the gateway proves who it is (make one with `raftsman certs`)")
    if tls is not None and insecure:
        raise click.UsageError("--tls and --insecure exclude each other; leave one out")
    if wrong := address.problem(listen, any_port=True):
        raise click.UsageError(f"--listen: {wrong}")
    host, port = address.split_address(listen)
    addresses = [part for part in (part.strip() for part in endpoints.split(",")) if part]
    if not addresses:
        raise click.UsageError("--endpoints: is empty; expected HOST:PORT of every peer, separated by commas")
    for endpoint in addresses:
        if wrong := address.problem(endpoint):
            raise click.UsageError(f"--endpoints: {wrong}")
    names = tuple(part for one in allow_host for part in (part.strip() for part in one.split(",")) if part)
    files = TlsFiles.in_directory(tls) if tls else None
    if files is not None:
        for path in (files.ca, files.cert, files.key):
            if not path.is_file():
                raise StartupError(f"{path} is missing; make certificates with `raftsman certs`")
            try:
                path.open("rb").close()
            except OSError as error:
                raise StartupError(f"{path}: {error.strerror}; --tls names a directory that this user reads") from None
    json_lines(log_level)
    asyncio.run(serve(addresses, files, host, port, names, dev_data))


async def serve(
    endpoints: list[str],
    tls: TlsFiles | None,
    host: str,
    port: int,
    allow_host: tuple[str, ...] = (),
    dev_data: Path | None = None,
) -> None:
    """Serve until a signal ends it (``ending_signals``). Raises ``StartupError`` where the port is taken."""
    import socket

    import uvicorn

    from orchestrator.gateway.app import build_app
    from orchestrator.gateway.metrics import GatewayMetrics
    from orchestrator.gateway.overview import Overview
    from orchestrator.gateway.security import LOOPBACK

    raise_limit()
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)  # at once: whoever reads that it serves is not refused
    except OSError as error:
        listener.close()
        raise StartupError(f"cannot listen on --listen {host}:{port}: {address.not_bound(error)}") from None

    async with Client(endpoints, tls=tls) as client:

        async def kill_leader() -> dict[str, Any]:
            assert dev_data is not None
            return await kill_dev_leader(dev_data)

        overview = Overview(client, kill_leader=kill_leader if dev_data else None)
        app = build_app(client, overview, GatewayMetrics(), hosts=(*LOOPBACK, *allow_host))
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            loop="none",
            lifespan="off",
            server_header=False,
            # Open event streams must not hold up a stop.
            timeout_graceful_shutdown=2,
        )
        logger.info("gateway_serves", listen=f"{host}:{listener.getsockname()[1]}", endpoints=endpoints)
        try:
            server = uvicorn.Server(config)
            if signal.SIGHUP in ending_signals():  # uvicorn sees to the others
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, setattr, server, "should_exit", True)
            await server.serve(sockets=[listener])
        finally:
            await overview.close()
            listener.close()


async def kill_dev_leader(data: Path) -> dict[str, Any]:
    """Ask the dev tools (a layer above) to kill the leader; they restart it after a while."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator.cli.main", "dev", "kill-leader", "--data", str(data), "-o", "json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        raise PreconditionError(err.decode("utf-8", "replace").strip() or "could not kill the leader")
    answer: dict[str, Any] = json.loads(out)
    return answer
