"""Builds and runs an agent: the one place that reads settings and connects the parts; also ``raftsman agent``.

Owns: the order of starting and stopping. The rule: what can be refused is refused before anything is started, with the
way to proceed. SIGTERM, SIGINT and SIGHUP end the agent only: what it started goes on, and the next agent on the same
data directory adopts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import lean  # isort: skip  (it has to come first)
import click
import structlog

from agent import certificates
from agent.asking import Asking
from agent.defaults import AT_BRIDGE, DEFAULT_PORTS
from agent.discovery import Directory
from agent.dns.listen import Bridge, serve_dns
from agent.driver import Driver, DriverInfo, DriverUnavailableError, HasBridge
from agent.inventory import gpu, machine
from agent.inventory.gpu_health import GpuHealth
from agent.metrics import Metrics, MetricsServer
from agent.other_network import MACHINE, step_into_machine
from agent.outbox import Outbox
from agent.reading import read
from agent.registry import DRIVERS, DriverSettings
from agent.runspec import NodeFacts
from agent.session import Session
from agent.sessions import SessionServer
from agent.steady import SteadyClock
from agent.store import Store, boot_id
from agent.supervisor import Supervisor
from agent.usage import Usage
from agent.workload.place import shares_paths, socket_directory
from agent.workload.side import WorkloadSide
from orchestrator.contract.address import split_address
from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.errors import RaftsmanError, StartupError
from orchestrator.contract.log_lines import json_lines
from orchestrator.contract.loop import run_on_loop
from orchestrator.contract.model import NodeSpec, Resources, str_map
from orchestrator.contract.signals import ending_signals

if TYPE_CHECKING:
    from agent.config import AgentSettings

VERSION = "0.1.0"
WARN_BEFORE = datetime.timedelta(days=30)
SEEN = "drivers"
"""What the data directory says of drivers that have answered on this node."""
LOOPBACK = ("127.", "localhost", "::1")

log = structlog.get_logger("agent")


class Agent:
    """One agent. ``run`` serves until ``stop`` is set; raises ``StartupError``."""

    def __init__(self, settings: AgentSettings) -> None:
        self.settings = settings
        self.stop = asyncio.Event()
        self.metrics = Metrics()
        self.outbox = Outbox()

    async def run(self) -> None:
        settings = self.settings
        async with contextlib.AsyncExitStack() as stack:
            store = Store(settings.data)
            stack.callback(store.close)
            tls, name = self._certificate(store, stack)
            drivers = await self._drivers(store)
            address = await self._address(drivers, store)
            health: GpuHealth | None = None
            if settings.gpu:
                devices = gpu.declared(settings.gpu, name)
            else:
                nvml = gpu.load_nvml()
                devices = await asyncio.to_thread(lambda: gpu.measured(nvml))
                if devices:
                    health = GpuHealth(nvml, devices)
            capacity = Resources(
                cpu_millis=settings.cpu or machine.cpu_millis(),
                memory_mib=settings.memory or machine.memory_mib(),
                disk_mib=settings.disk or machine.disk_mib(settings.data),
                custom=tuple(sorted(settings.resource.items())),
            )
            services = Directory(
                saved=store.read_json("services.json"), save=lambda value: store.write_json("services.json", value)
            )
            told_of_dns = await serve_dns(
                stack, settings.dns, settings.dns_upstream, services.ask, self._bridge(drivers, store)
            )
            dns = (await told_of_dns()).address
            system = machine.system()
            this_boot = boot_id()
            asking = Asking(lambda: store.node_id)
            now_ms = SteadyClock(
                this_boot, saved=store.read_json("clock.json"), save=lambda value: store.write_json("clock.json", value)
            )
            supervisor = Supervisor(
                store=store,
                drivers=drivers,
                node=NodeFacts(
                    node_id=store.node_id,
                    name=name,
                    address=address,
                    api=settings.api or ",".join(settings.peers),
                    api_follows_peers=not settings.api,
                    nvidia_driver=gpu.has_driver(),
                ),
                metrics=self.metrics,
                workload=lambda records: WorkloadSide(
                    cluster_id=lambda: store.cluster_id,
                    records=records,
                    data=settings.data,
                    directory=socket_directory(settings.data, settings.workload_dir, store.node_id),
                    mounted=shares_paths if settings.workload_dir is None else lambda: True,
                    needed=settings.workload_dir is not None,
                    services=services,
                    reserved=tuple(dict.fromkeys((settings.ports, DEFAULT_PORTS))),  # another agent here may have those
                    saved=store.read_json("workload.json"),
                    save=lambda value: store.write_json("workload.json", value),
                    dns=told_of_dns,
                ),
                report=self.outbox.add,
                acknowledged=lambda key: not self.outbox.has(key),
                settle=asking.settle,
                progress=asking.tell,
                now_ms=now_ms,
                check_host=settings.reach or _check_host(settings.publish_address),
            )

            def node() -> NodeSpec:
                """As of now: drivers come and go."""
                seen = supervisor.lookout
                return NodeSpec(
                    id=store.node_id,
                    name=name,
                    address=address,
                    engine_id=next((info.engine_id for info in seen.infos.values() if info.engine_id), ""),
                    drivers=tuple(sorted(one for one, available in seen.available.items() if available)),
                    labels=str_map(settings.label),
                    capacity=capacity,
                    devices=devices,
                    port_min=settings.ports[0],
                    port_max=settings.ports[1],
                    version=VERSION,
                    boot_id=this_boot,
                    arch=system.arch,
                    os=system.os,
                    kernel=system.kernel,
                    datacenter=settings.datacenter,
                    region=settings.region,
                    zone=settings.zone,
                    rack=settings.rack,
                    taints=settings.taint,
                    images=seen.images.told,
                    resizes_processes=resizes(seen.infos.get("process")),
                    sick_devices=health.sick if health is not None else (),
                    datasets=settings.dataset,
                )

            session = Session(
                peers=settings.peers,
                tls=tls,
                store=store,
                supervisor=supervisor,
                outbox=self.outbox,
                asking=asking,
                node=node,
                sessions=SessionServer(supervisor, node_id=store.node_id, node_name=name),
                usage=Usage(
                    supervisor,
                    data=settings.data,
                    devices=[device.id for device in devices],
                    nvml=None if settings.gpu else gpu.load_nvml(),
                ),
                metrics=self.metrics,
                boot_id=this_boot,
                services=services,
            )
            self.metrics.show(supervisor.workload, services)
            http = await self._serve_http(stack, store, session, supervisor, name)
            store.write_json(
                "agent.json",
                {
                    "pid": os.getpid(),
                    "node_id": store.node_id,
                    "name": name,
                    "http": http,
                    "dns": dns,
                    "started_s": time.time(),
                },
            )
            stack.push_async_callback(supervisor.close)
            try:
                await supervisor.start(without_contact=session.contact_lost)
            except OSError as error:
                raise StartupError(
                    f"cannot listen in the directory for tasks, {error.filename or settings.workload_dir}: "
                    f"{error.strerror}; name another one with --workload-dir"
                ) from error
            log.info(
                "agent_started",
                node=store.node_id,
                name=name,
                drivers=list(node().drivers),
                cpu_millis=capacity.cpu_millis,
                memory_mib=capacity.memory_mib,
                devices=len(devices),
                http=http,
                dns=dns,
            )
            trimming = asyncio.get_running_loop().create_task(_keep_trimming())
            stack.callback(trimming.cancel)
            if health is not None:
                await self._watch(stack, health)
            await self._until_stopped(session)
            log.info("agent_stopped", left_running=supervisor.running_count())

    async def _watch(self, stack: contextlib.AsyncExitStack, health: GpuHealth) -> None:
        looking = asyncio.get_running_loop().create_task(health.run())

        async def end() -> None:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking

        stack.push_async_callback(end)

    async def _until_stopped(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        serving = loop.create_task(session.run())
        stopping = loop.create_task(self.stop.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not serving.done():
                serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving

    def _certificate(self, store: Store, stack: contextlib.AsyncExitStack) -> tuple[TlsFiles | None, str]:
        settings = self.settings
        name = settings.name
        if settings.tls_pool is not None:
            claim = certificates.claim(settings.tls_pool, store.node_id, store.noted("certificate"))
            stack.callback(claim.release)
            store.note("certificate", claim.name)
            self._check_certificate(claim.files)
            return claim.files, name or claim.name
        name = name or socket.gethostname().partition(".")[0]
        if settings.tls is None:
            return None, name
        files = TlsFiles.in_directory(settings.tls)
        self._check_certificate(files)
        return files, name

    def _check_certificate(self, files: TlsFiles) -> None:
        now = datetime.datetime.now(datetime.UTC)
        ends = certificates.check(files, now)
        if ends - now < WARN_BEFORE:
            log.warning("certificate_ends_soon", file=str(files.cert), ends=ends.isoformat())

    def _bridge(self, drivers: Mapping[str, Driver], store: Store) -> Bridge | None:
        driver = drivers.get("docker")
        if driver is None or not isinstance(driver, HasBridge):
            return None
        machine = self.settings.reach == MACHINE
        return Bridge(address=driver.gateway, machine=machine, cluster_id=lambda: store.cluster_id)

    async def _address(self, drivers: Mapping[str, Driver], store: Store) -> str:
        """Where published ports answer, as it was said or found; that of the bridge is remembered, for an engine may be
        down while the agent starts."""
        settings = self.settings
        if settings.address != AT_BRIDGE:
            return settings.address or _own_address(settings.peers)
        bridge, found = self._bridge(drivers, store), ""
        if bridge is not None:
            try:
                found = await bridge.address()
            except DriverUnavailableError:
                found = store.noted(AT_BRIDGE)
        if not found:
            raise StartupError(
                f"--address {AT_BRIDGE}: no Docker engine of this agent tells of its bridge network; is it up? Name an "
                "address of this machine otherwise, for example 127.0.0.1"
            )
        store.note(AT_BRIDGE, found)
        return found

    def _publish(self) -> tuple[str, ...]:
        """Addresses that containers' ports bind."""
        settings = self.settings
        if settings.publish_address:
            return (settings.publish_address,)
        if settings.address == AT_BRIDGE:
            return ("127.0.0.1", AT_BRIDGE)
        address = settings.address or _own_address(settings.peers)
        return ("127.0.0.1",) if address.startswith(LOOPBACK) else ("0.0.0.0",)

    async def _drivers(self, store: Store) -> dict[str, Driver]:
        """Those that were asked for; of ``auto`` those that answer now or ever did here: an engine that is down while
        the agent starts (both at boot, or it is being restarted) comes back, and its tasks may well be running."""
        settings = self.settings
        if settings.reach == MACHINE and (refused := await asyncio.to_thread(step_into_machine)):
            raise StartupError(
                f"--reach {MACHINE}: cannot step into the machine's network: {refused}; in a container that needs its "
                "processes (pid: host), CAP_SYS_ADMIN and CAP_SYS_PTRACE"
            )
        options = DriverSettings(
            data=settings.data,
            publish=self._publish(),
            reach=settings.reach,
            allow_privileged=settings.allow_privileged,
            allow_host_paths=settings.allow_host_paths,
            allow_host_network=settings.allow_host_network,
            allow_caps=settings.allow_cap,
            pull_stall_s=settings.pull_stall,
        )
        auto = "auto" in settings.driver
        names = ("docker", "process") if auto else settings.driver
        drivers: dict[str, Driver] = {}
        seen = set(store.noted(SEEN).split())
        for name in names:
            try:
                driver = DRIVERS[name](options)
            except ImportError as error:
                if auto:
                    continue
                raise StartupError(f"driver {name} needs {error.name}: pip install 'raftsman[agent]'") from error
            info = await driver.probe()
            if not info.available and auto and name not in seen:
                log.info("driver_absent", driver=name, reason=info.reason)
                await driver.close()
                continue
            if not info.available:
                log.warning("driver_down", driver=name, reason=info.reason)
            else:
                log.info("driver_ready", driver=name, version=info.version, note=info.reason)
                seen.add(name)
            drivers[name] = driver
        store.note(SEEN, " ".join(sorted(seen)))
        return drivers

    async def _serve_http(
        self,
        stack: contextlib.AsyncExitStack,
        store: Store,
        session: Session,
        supervisor: Supervisor,
        name: str,
    ) -> str:
        if not self.settings.http:
            return ""

        def health() -> dict[str, object]:
            reason = ""
            if not session.connected_to:
                reason = "no session with a peer: what runs goes on, nothing new starts; are the peers up?"
            elif not any(supervisor.lookout.available.values()):
                reason = f"no driver can run tasks: {', '.join(supervisor.lookout.available)}; see the log"
            return {
                "healthy": not reason,
                "reason": reason,
                "node_id": store.node_id,
                "name": name,
                "cluster_id": store.cluster_id,
                "peer": session.connected_to,
                "running": supervisor.running_count(),
                "drivers": supervisor.lookout.available,
            }

        server = MetricsServer(self.metrics, health)
        host, port = split_address(self.settings.http)
        try:
            bound = await server.start(host, port)
        except OSError as error:
            raise StartupError(f"cannot listen on --http {self.settings.http}: {error.strerror}") from error
        stack.push_async_callback(server.close)
        return bound


async def _keep_trimming() -> None:
    while True:  # at once, too: what was loaded may have been compiled, which takes several times what is kept
        lean.trim()
        await asyncio.sleep(lean.TRIM_EVERY_S)


def resizes(info: DriverInfo | None) -> bool:
    """Whether a driver changes the limits of what runs: one that is not there, or not available, changes nothing."""
    return info is not None and info.available and info.resizes


def _check_host(publish: str) -> str:
    """Where this node's own published ports answer to it."""
    return publish if publish and publish != "0.0.0.0" else "127.0.0.1"


def _own_address(peers: tuple[str, ...]) -> str:
    """The address of this machine that peers see; loopback where they are on this machine."""
    for peer in peers:
        host, port = split_address(peer)
        with contextlib.suppress(OSError):
            family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(target)
                return str(probe.getsockname()[0])
    return "127.0.0.1"


async def serve(settings: AgentSettings) -> None:
    """Run an agent until a signal ends it (``ending_signals``)."""
    agent = Agent(settings)
    loop = asyncio.get_running_loop()
    for number in ending_signals():
        loop.add_signal_handler(number, agent.stop.set)
    await agent.run()


def run(settings: AgentSettings) -> None:
    """``serve`` on a loop of its own."""
    lean.bound_arenas()
    run_on_loop(serve(settings))


@click.command("agent")
@click.option("--name", help="Name of this node. Default: the host's, or the claimed certificate's.")
@click.option("--peers", help="host:port of every peer, separated by commas.")
@click.option("--api", help="Addresses that tasks see as RAFTSMAN_API. Default: those of --peers.")
@click.option("--data", type=click.Path(), help="Data directory; one agent each.")
@click.option("--tls", type=click.Path(), help="Directory with ca.pem, cert.pem and key.pem.")
@click.option("--tls-pool", type=click.Path(), help="Claim one of the certificates in this directory.")
@click.option("--insecure", is_flag=True, default=None, help="No TLS; for tests on loopback only.")
@click.option(
    "--driver", multiple=True, help="auto (docker where an engine answers, and process), docker, process, fake."
)
@click.option("--cpu", help="Cores to offer (2, 500m). Default: measured, less a tenth.")
@click.option("--memory", help="Memory to offer (16Gi). Default: measured, less a tenth.")
@click.option("--disk", help="Disk to offer (100Gi). Default: free space, less a tenth.")
@click.option(
    "--gpu",
    multiple=True,
    help="Declare GPUs instead of measuring: count=2,model=A100,memory=80Gi[,island=0|each][,pcie=1][,numa=0]"
    "[,capability=8.0][,driver=535.1][,mig=1g.10gb]; several with ';'. none: those of this machine are not for us.",
)
@click.option("--label", multiple=True, help="key=value, for constraints. Repeatable.")
@click.option("--datacenter", help="Data centre of this node (node.datacenter).")
@click.option("--region", help="Its region (node.region).")
@click.option("--zone", help="Its zone (node.zone).")
@click.option("--rack", help="Its rack (node.rack).")
@click.option("--resource", multiple=True, help="name=amount that tasks may ask for, such as licenses=5. Repeatable.")
@click.option("--taint", multiple=True, help="key=value:Effect, to keep off what does not tolerate it. Repeatable.")
@click.option("--dataset", multiple=True, help="Name of data that is on this node, for locality. Repeatable.")
@click.option(
    "--address",
    help="Where published ports answer. Default: this host's address towards the peers. bridge: this machine's address "
    "in Docker's bridge network, which it and its containers reach.",
)
@click.option(
    "--publish-address",
    help="Address that containers' ports bind. Default: 0.0.0.0, on loopback 127.0.0.1, with --address bridge both.",
)
@click.option(
    "--reach",
    help="Where this agent itself reaches published ports, for checks and port-forward: an address, or machine: in the "
    "machine's own network, from a container that sees its processes. Default: where they are published.",
)
@click.option("--http", help="host:port for /metrics and /healthz. Default: off.")
@click.option("--ports", help="Host ports to hand out. Default: 20000-31999.")
@click.option(
    "--dns",
    help="address:port of DNS for services; bridge: where containers find it, port 53 of this machine's address in "
    "Docker's bridge network; or off. Default: 127.0.0.1:8600, or another free port.",
)
@click.option(
    "--dns-upstream",
    help="Who answers all other names: system, or address:port. Default: nobody, with --dns bridge system.",
)
@click.option("--workload-dir", type=click.Path(), help="Directory of the socket that tasks speak to.")
@click.option("--allow-privileged", is_flag=True, default=None, help="Let tasks ask for privileged containers.")
@click.option("--allow-host-paths", is_flag=True, default=None, help="Let tasks mount paths of this host.")
@click.option("--allow-host-network", is_flag=True, default=None, help="Let tasks use this host's own network.")
@click.option("--allow-cap", metavar="NAME,...", help="Linux capabilities beyond Docker's defaults, or ALL.")
@click.option("--pull-stall", metavar="TIME", help="A pull ends after so long without a word. Default: 2m.")
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with these settings.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[info]")
def command(config: Path | None, **flags: Any) -> None:
    """Run an agent: offer this machine to the cluster and run what is placed on it.

    Every flag can be set in the environment as RAFTSMAN_AGENT_<NAME>, which wins over --config. SIGTERM stops the
    agent and leaves its tasks running; the next agent with the same --data adopts them.
    """
    try:
        settings = read(
            {name: value or None if isinstance(value, tuple) else value for name, value in flags.items()}, file=config
        )
        json_lines(settings.log_level)
        run(settings)
    except RaftsmanError as error:
        click.echo(f"raftsman agent: {error.message}", err=True)
        raise SystemExit(int(error.exit_code)) from None


if __name__ == "__main__":
    command(prog_name="raftsman agent")
