"""A peer: this builds its parts, connects them and runs them until it is told to stop. The one place that does.

Owns: the order of starting and stopping, what refuses to start and how it says so, the ``raftsman peer`` command.
Leaves to others: everything that a peer does. The rule: nothing here decides anything; whoever wants to know how the
parts fit reads ``Peer``.
"""

# ruff: noqa: E402

from __future__ import annotations

import gc

# Importing makes little but what stays: looking for garbage meanwhile would take a sixth of the time.
_collects = gc.isenabled()
gc.disable()

import asyncio
import contextlib
import os
import socket
import sys
import uuid
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import click

# structlog's console renderer, which a peer never uses, would load rich: 4 MiB and a tenth of a second.
_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]
import structlog

del sys.modules["rich"]
if _rich is not None:
    sys.modules["rich"] = _rich

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from orchestrator import plan
from orchestrator.api import accepting, agents, control
from orchestrator.api.admission import Admission
from orchestrator.api.backup import Backup
from orchestrator.api.drains import Drains
from orchestrator.api.explain import Explain
from orchestrator.api.feed import Feed
from orchestrator.api.foresight import Foresight
from orchestrator.api.forward import Forwarder, Service
from orchestrator.api.identity import AGENTS, CONTROL, PEERS, peer_of
from orchestrator.api.logs import LogHub, Logs
from orchestrator.api.metrics import PeerCollector
from orchestrator.api.namespaces import Namespaces
from orchestrator.api.past import Past
from orchestrator.api.peers import PeerChanges
from orchestrator.api.reads import Facts, Others, Reads, resolve_device, resolve_node
from orchestrator.api.reflection import SERVICE_NAME as REFLECTION
from orchestrator.api.reflection import Reflection
from orchestrator.api.services import Services
from orchestrator.api.sessions import Sessions
from orchestrator.api.status import StatusServer
from orchestrator.api.usage import Usages
from orchestrator.api.watch import HashingMachine, StateHashes, Watch
from orchestrator.api.workload import Workloads
from orchestrator.config import PeerSettings, load
from orchestrator.contract import channel, memory
from orchestrator.contract.address import not_bound, split_address
from orchestrator.contract.descriptors import raise_limit
from orchestrator.contract.errors import RaftsmanError, StartupError
from orchestrator.contract.log_lines import json_lines
from orchestrator.contract.loop import run_on_loop
from orchestrator.contract.signals import ending_signals
from orchestrator.contract.v1 import agent_pb2, control_pb2
from orchestrator.leader.cluster import StateCluster
from orchestrator.leader.liveness import Liveness
from orchestrator.leader.loop import LeaderLoop
from orchestrator.leader.placements import install_placements
from orchestrator.replication import transport
from orchestrator.replication.cluster_clock import ClusterClock
from orchestrator.replication.datadir import DataDirectory, open_data_directory
from orchestrator.replication.epochs import EpochLog
from orchestrator.replication.journals import FileJournals
from orchestrator.replication.link import OUT_OF_TIME
from orchestrator.replication.machine import ClusterMachine, admission_payload
from orchestrator.replication.propose import Proposer
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.snapshots import FileSnapshots
from orchestrator.replication.turns import EXIT_STORAGE
from orchestrator.replication.whereabouts import Whereabouts
from orchestrator.scheduling import registry
from orchestrator.state.resize import may_resize
from orchestrator.state.state import State

gc.freeze()  # or the first look would go through all of it
if _collects:
    gc.enable()

logger = structlog.get_logger("raftsman.peer")

STOP_GRACE_S = 0.5
"""Calls in flight get this long when the peer stops; the whole stop is bounded by ``STOP_S``."""
STOP_S = 2.0
WATCH_DISK_S = 2.0
"""How often this peer looks whether its directory is still there."""
WAITS_S = 2.0
"""What a peer still waits for is told after so long, and looked at again so often."""
GOODBYE_S = 2.0
"""A removed peer answers so long on: clients that know no other learn here who the peers are."""
SETTLE_S = 10.0
"""A peer that starts encodes nothing of what it has read so soon, for a snapshot or to remember it: elections and the
first calls come before."""
SNAPSHOT_REST = 3.0
"""Storing a snapshot takes a quarter of a thread's time, so that writes meanwhile wait little longer than else."""


class Peer:
    """One peer. ``start`` raises ``StartupError`` and leaves nothing running; ``stop`` is bounded.

    ``unfit`` gets a ``StartupError`` when the other peers turn out to refuse this one: it must stop. ``removed`` gets
    the configuration epoch in which this peer was removed, once it is needed no more: it must stop as well.
    """

    def __init__(self, settings: PeerSettings) -> None:
        self.settings = settings
        self.unfit: asyncio.Future[StartupError] = asyncio.get_running_loop().create_future()
        self.removed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._took_part = False
        self._bound = ("", 0)
        tls = channel.TlsFiles.in_directory(settings.tls) if settings.tls is not None else None
        secure = tls is not None
        expires_ms = 0
        expires_ms_of: Callable[[Any], int] | None = None
        if tls is not None:
            # It loads cryptography, which a peer without TLS has no use for.
            from orchestrator.api import certificate

            expires_ms_of = certificate.expires_ms_of
            expires_ms = certificate.check_certificate(tls, peer_id=settings.id, cluster=settings.cluster)
        self._directory: DataDirectory = open_data_directory(
            settings.data, peer_id=settings.id, cluster_name=settings.cluster, mint=lambda: uuid.uuid4().hex
        )
        self._tls = tls

        # The replicated log and the state that it drives.
        self._state_machine = ClusterMachine()
        clock_ms = ClusterClock(lambda: self._state().time_ms)
        self._past = Past(self._state_machine, self._state, memory_bytes=settings.past, settle_s=SETTLE_S)
        machine = HashingMachine(self._past)
        self._whereabouts = Whereabouts(settings.id, settings.peers)
        network = transport.GrpcNetwork(
            credentials=channel.channel_credentials(tls) if tls is not None else None,
            identify=(lambda context: peer_of(context, secure=True)) if secure else None,
            server_name=(lambda _: channel.PEER_SERVER_NAME) if secure else None,
            cert_expires_ms=expires_ms_of,
            whereabouts=self._whereabouts,
        )
        self.log = EpochLog(
            peer_id=settings.id,
            peers=settings.peers,
            machine=machine,
            journals=FileJournals(self._directory.path),
            snapshots=FileSnapshots(self._directory.snapshots_path),
            network=network,
            incarnation=self._directory.incarnation,
            fresh=self._directory.fresh,
            admission_payload=lambda cluster, disks: admission_payload(cluster, disks, time_ms=clock_ms()),
            refused=lambda peer_id, reason: self._judge_refusals(),
            retired=self._retired,
            check_first=lambda: _check_members(self._directory, settings),
            config=replace(
                EngineConfig.fast_failover() if settings.fast_failover else EngineConfig(),
                settle_s=SETTLE_S,
                snapshot_rest=SNAPSHOT_REST,
            ),
        )
        proposer = Proposer(self.log, clock_ms=clock_ms)

        # The leader's part.
        self._liveness = Liveness()
        self._loop = LeaderLoop(
            self.log,
            proposer,
            StateCluster(self._state),
            self._liveness,
            decide=plan.Planner().decide,
            clock_ms=clock_ms,
        )
        self._loop_task: asyncio.Task[None] | None = None
        self._past_task: asyncio.Task[None] | None = None
        self._wait_task: asyncio.Task[None] | None = None
        self._disk_task: asyncio.Task[None] | None = None

        # What callers reach.
        self._forwarder = Forwarder(
            self.log,
            peer_id=settings.id,
            peers=self._reached,
            tls=tls,
            changed_peers=lambda: self.log.epoch > 1,
        )
        facts = Facts(
            cluster_name=settings.cluster,
            version=_version(),
            dev=settings.dev,
            cert_expires_ms=expires_ms,
            placements=registry.summaries(),
        )
        reads = Reads(
            self.log,
            self._state,
            facts,
            heartbeat_age_ms=self._liveness.age_ms,
            others=Others(self._forwarder),
            reached=self._reached,
        )
        policy = control.Policy(
            allow_privileged=settings.allow_privileged,
            allow_host_paths=settings.allow_host_paths,
            allow_host_network=settings.allow_host_network,
            placements=registry.names(),
            allow_caps=settings.allow_cap,
        )
        writes = control.Writes(
            self.log,
            proposer,
            policy,
            resolve_node=lambda text: resolve_node(self._state(), text),
            resolve_device=lambda node_id, text: resolve_device(self._state(), node_id, text),
            in_place=lambda spec: may_resize(self._state(), spec),
            feature_level=lambda: self._state().feature_level,
        )
        self._agents = agents.Agents(self.log, proposer, self._state, self._liveness, peers=self._reached)
        hub = LogHub(check=self._agents.check_speaker)
        sessions = Sessions(hub, self._forwarder, find=reads.log_target, check=self._agents.check_speaker)
        logs = Logs(hub, self._forwarder, find=reads.log_target)
        discovery = Services(self.log, self._state, info=reads.info, check=self._agents.check_speaker)
        servicers = (
            writes,
            reads,
            Explain(self.log, self._state, self._past, self._forwarder, clock_ms=clock_ms),
            Foresight(self.log, self._state, policy, clock_ms=clock_ms),
            Namespaces(proposer, self._state, reads.info),
            PeerChanges(self.log, proposer, self._state),
            Watch(self.log, self._state, Feed(self.log, self._state)),
            Backup(self.log, machine, self._state, reads, facts),
            StateHashes(self.log, machine, self._forwarder, peer_id=settings.id),
            logs,
            sessions,
            Drains(
                self._state,
                reads.info,
                resolve_node=lambda text: resolve_node(self._state(), text),
                clock_ms=clock_ms,
            ),
            Usages(hub, self._state, resolve_node=lambda text: resolve_node(self._state(), text)),
            Workloads(logs),
            discovery,
        )
        admission = Admission()
        services = [
            Service(
                descriptor, parts, routes, log=self.log, forwarder=self._forwarder, admission=admission, secure=secure
            )
            for descriptor, parts, routes in (
                (control_pb2.DESCRIPTOR.services_by_name["Control"], servicers, control.ROUTES),
                (
                    agent_pb2.DESCRIPTOR.services_by_name["Agents"],
                    (self._agents, hub, sessions, discovery),
                    agents.ROUTES,
                ),
            )
        ]
        self._server = accepting.server(
            [*channel.SERVER_OPTIONS, *transport.SERVER_OPTIONS],
            gate=admission,
            behind=[path for service in services for path in service.hurried()],
        )
        for service in services:
            service.add_to_server(self._server)
        network.add_to_server(self._server)
        self._health: Any = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (CONTROL, AGENTS, PEERS, health.SERVICE_NAME, REFLECTION)
        self._server.add_generic_rpc_handlers((Reflection(names),))
        self._status = StatusServer(status=self.log.status, registry=REGISTRY)
        self._collector = PeerCollector(self.log.status, self._state, cert_expires_ms=expires_ms)

    @property
    def index(self) -> int:
        """Command index of the state here."""
        return self._state_machine.index

    def _state(self) -> State:
        return self._state_machine.state

    def _reached(self) -> Mapping[str, str]:
        """Id -> host:port at which clients, agents and this peer reach the peers of the present epoch."""
        return self._whereabouts.of(self.log.peers)

    async def start(self) -> None:
        settings = self.settings
        self._bind(settings.listen)
        try:
            await self._status.start(*split_address(settings.http))
        except OSError as error:
            raise _taken("--http", settings.http, error) from None
        REGISTRY.register(self._collector)
        await self._server.start()
        self.log.subscribe(self._bind_cluster)
        self.log.subscribe(self._take_part)
        await self.log.start()
        self._forwarder.start()
        self._agents.start()
        self._loop_task = asyncio.create_task(self._loop.run(), name="leader")
        self._past_task = asyncio.create_task(self._past.run(), name="past")
        self._wait_task = asyncio.create_task(self._tell_what_it_waits_for(), name="waits for")
        self._disk_task = asyncio.create_task(self._watch_disk(), name="disk")
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        for name in (CONTROL, AGENTS):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        logger.info("serving", listen=settings.listen, http=settings.http, data=str(settings.data))

    async def stop(self) -> None:
        """Tell callers, close the journal, give calls in flight a moment.

        The log goes first: the others elect at once, and every call that waits for it here is told to ask elsewhere.
        Calls that were forwarded still get their answers, so the channels to the other peers go last.
        """
        try:
            async with asyncio.timeout(STOP_S):
                await self._health.enter_graceful_shutdown()
                self._forwarder.leave()
                for task in (self._loop_task, self._past_task, self._wait_task, self._disk_task):
                    if task is not None:
                        task.cancel()
                        await asyncio.gather(task, return_exceptions=True)
                self._agents.stop()
                await self._status.stop()
                await self.log.stop()
                await self._server.stop(STOP_GRACE_S)
                await self._forwarder.stop()
        except TimeoutError:
            logger.warning("stopping took too long; what was acknowledged is on disk")
        finally:
            self._directory.close()

    def _bind(self, address: str) -> None:
        host, port = split_address(address)
        # gRPC says only "failed to bind"; the socket says why.
        probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        except OSError as error:
            raise _taken("--listen", address, error) from None
        finally:
            probe.close()
        try:
            if self._tls is not None:
                bound = self._server.add_secure_port(address, channel.server_credentials(self._tls))
            else:
                bound = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise _taken("--listen", address, error) from None
        if bound == 0:
            raise _taken("--listen", address, OSError("it cannot be bound"))

    def _bind_cluster(self) -> None:
        """Once the cluster has an id, this disk belongs to it; another cluster's log must not go on here."""
        now = (self._state_machine.cluster_id(), self._state_machine.epoch())
        if now[0] and now != self._bound:
            self._bound = now
            cluster_id = now[0]
            try:
                self._directory.bind_cluster_id(cluster_id, sorted(self._state_machine.admitted()))
            except (StartupError, OSError) as error:
                logger.critical("this disk belongs to another cluster", error=str(error))
                os._exit(1)

    def _retired(self, epoch: int) -> None:
        if not self.removed.done():
            self._directory.mark_removed(epoch)
            self.removed.set_result(epoch)

    def _take_part(self) -> None:
        if not self._took_part and self.log.leader_id:
            self._took_part = True

    async def _tell_what_it_waits_for(self) -> None:
        """In the log, once it is more than a moment and whenever it changes, until this peer has taken part."""
        told = ""
        while not self._took_part:
            await asyncio.sleep(WAITS_S)
            waits_for = self.log.waits_for
            if waits_for and waits_for != told and not self._took_part:
                told = waits_for
                logger.warning("waiting", reason=waits_for)

    async def _watch_disk(self) -> None:
        """A peer whose directory is gone from under it ends, as after any other failure of its disk."""
        while True:
            await asyncio.sleep(WATCH_DISK_S)
            with contextlib.suppress(OSError):  # the next write will tell
                if what := self._directory.displaced():
                    logger.critical(
                        "replication.disk_failed",
                        exit_status=EXIT_STORAGE,
                        error=f"{what}: put it back and start the peer again, or start it with an empty directory "
                        "while the others are a majority without it; it catches up before it votes",
                    )
                    os._exit(EXIT_STORAGE)

    def _judge_refusals(self) -> None:
        """A peer that was never part of a majority must not wait for one that refuses it; one that was stays.

        A misconfigured newcomer is refused by a majority and ends; to each of the others it is one peer that is away.
        """
        peers = self.log.peers
        refusals = {
            peer: reason
            for peer, reason in sorted(self.log.refusals.items())
            if peer in peers and not reason.startswith(OUT_OF_TIME)
        }
        if self._took_part or self.unfit.done() or 2 * (len(peers) - len(refusals)) > len(peers):
            return
        said = "; ".join(f"{peer}: {reason}" for peer, reason in refusals.items())
        self.unfit.set_result(
            StartupError(
                f"this peer cannot take part: of the {len(peers) - 1} other peers, {len(refusals)} and this one refuse "
                f"each other ({said}); nothing was changed: correct what differs, then start it again"
            )
        )


def _check_members(directory: DataDirectory, settings: PeerSettings) -> None:
    """Before anything votes: with a shorter list one peer alone would take itself for the majority."""
    listed = tuple(sorted(settings.peers))
    if directory.members and directory.members != listed:
        raise StartupError(
            f"--peers lists {', '.join(listed)}, but the cluster in {settings.data} has the members "
            f"{', '.join(directory.members)}: start every peer with that list, or name another data directory"
        )


def _taken(flag: str, address: str, error: Exception) -> StartupError:
    return StartupError(f"{flag} {address}: {not_bound(error)}")


def _version() -> str:
    try:
        return metadata.version("raftsman")
    except metadata.PackageNotFoundError:
        return "unknown"


# ---------------------------------------------------------------------------- the process


async def run(settings: PeerSettings) -> None:
    """Run a peer until a signal ends it (``ending_signals``). Raises ``StartupError``."""
    raise_limit()
    stopped = asyncio.Event()
    memory.keep_pieces_apart()
    loop = asyncio.get_running_loop()
    for number in ending_signals():
        loop.add_signal_handler(number, stopped.set)
    # Reading the log makes nothing but what stays: looking for garbage meanwhile would take a third of the time. Nor is
    # what importing has left looked for: of 80,000 objects, 4,500.
    gc.disable()
    built: list[Peer] = []
    _configure_logging(settings, built)
    install_placements()
    peer = Peer(settings)
    built.append(peer)
    try:
        await peer.start()
        memory.settle()
        trimming = asyncio.create_task(memory.keep_trimming(), name="trimming")
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait((stopping, peer.unfit, peer.removed), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        trimming.cancel()
        if peer.unfit.done():
            raise peer.unfit.result()
        if peer.removed.done():
            await _say_goodbye(settings, peer.removed.result())
        logger.info("stopping")
    finally:
        await peer.stop()


async def _say_goodbye(settings: PeerSettings, epoch: int) -> None:
    """This peer was removed and is needed no more."""
    logger.warning("removed", epoch=epoch, data=str(settings.data))
    click.echo(
        f"raftsman peer: peer {settings.id} was removed from the cluster in configuration epoch {epoch}, and a "
        f"majority of the present peers goes on without it. {settings.data} is of no more use: archive or remove it",
        err=True,
    )
    await asyncio.sleep(GOODBYE_S)


def _configure_logging(settings: PeerSettings, built: Sequence[Peer]) -> None:
    """JSON lines on stderr, with the peer and, once it runs, its term and index."""

    def where(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["peer"] = settings.id
        for peer in built:
            if not peer.log.running:
                continue
            event.setdefault("term", peer.log.term)
            event.setdefault("index", peer.index)
        return event

    json_lines(settings.log_level, where)


def _run(settings: PeerSettings) -> int:
    try:
        run_on_loop(run(settings))
    except RaftsmanError as error:
        click.echo(f"raftsman peer: {error.message}", err=True)
        return int(error.exit_code)
    return 0


@click.command("peer", help="Run a peer: one of the processes that hold the cluster's state.")
@click.option("--id", "id_", metavar="ID", help="This peer's id, one of those in --peers.")
@click.option("--peers", metavar="ID=HOST:PORT,...", help="Every peer of the cluster, this one too; equal everywhere.")
@click.option("--listen", metavar="HOST:PORT", help="Where clients, agents and peers connect.  [0.0.0.0:7400]")
@click.option("--http", metavar="HOST:PORT", help="Where /metrics and /healthz are served.  [0.0.0.0:7480]")
@click.option("--data", type=click.Path(), metavar="DIR", help="Data directory, this peer's alone.")
@click.option("--cluster", metavar="NAME", help="The cluster's name.  [raftsman]")
@click.option("--tls", type=click.Path(), metavar="DIR", help="Directory with ca.pem, cert.pem, key.pem.")
@click.option("--insecure", is_flag=True, default=None, help="No TLS: for tests on loopback only.")
@click.option("--fast-failover", is_flag=True, default=None, help="Elections after 150-300 ms: peers in one rack.")
@click.option("--dev", is_flag=True, default=None, help="A development cluster: 'raftsman peers' says so.")
@click.option("--allow-privileged", is_flag=True, default=None, help="Let jobs ask for privileged containers.")
@click.option("--allow-host-paths", is_flag=True, default=None, help="Let jobs mount paths of the host.")
@click.option("--allow-host-network", is_flag=True, default=None, help="Let jobs use the host's own network.")
@click.option("--allow-cap", metavar="NAME,...", help="Linux capabilities beyond Docker's defaults, or ALL.")
@click.option("--past", metavar="SIZE", help="Memory for the states that 'why --at' can ask of.  [16Mi]")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[info]")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="YAML file with any of these settings.")
def command(id_: str | None, config: Path | None, **flags: Any) -> None:
    """Flags win over the environment (RAFTSMAN_PEER_ID and so on), which wins over --config."""
    try:
        settings = load({"id": id_, **flags}, file=config)
    except StartupError as error:
        click.echo(f"raftsman peer: {error.message}", err=True)
        raise SystemExit(int(error.exit_code)) from None
    status = _run(settings)
    # Everything is closed by now. gRPC's threads may not be, and complain on stderr while the interpreter takes itself
    # apart around them ("Error in sys.excepthook"): what a peer says last is to be its own.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    command(prog_name="raftsman peer")
