"""The ``Driver`` protocol: how the agent runs, finds, stops and reads one task, whatever runs it.

Owns: the words between supervisor and drivers (``RunSpec``, ``Instance``, ``Exit``), the deterministic names, and the
errors that drivers may raise. Leaves to others: which run should exist (``agent.reconcile``), when to call a driver
(``agent.supervisor``), how it is done (``agent.drivers``). The rule: every call is idempotent and names its run by the
deterministic name, so whoever repeats a call after a crash finds what the first one did.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from orchestrator.contract.model import AssignmentKey, PortBinding, StrMap, TaskSpec

MIB = 1024 * 1024
LOG_FILE_BYTES = 10 * MIB
LOG_FILES = 3
"""Every driver keeps at most ``LOG_FILES`` files of ``LOG_FILE_BYTES`` of one run's output; the oldest goes first."""


class StartError(Exception):
    """A run could not be started. ``reason`` is for the user; ``permanent``: trying again here would not help (no such
    image or command, refused by this node's policy), so that the leader decides at once."""

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


class PortTakenError(StartError):
    """Something that is none of this agent's has these host ports. Whoever started the run knows whether another port
    would do, and so whether to try again here."""

    def __init__(self, ports: Collection[int], why: str) -> None:
        super().__init__(f"host port {', '.join(map(str, sorted(ports)))} is taken on this node: {why}")
        self.ports = frozenset(ports)


class DriverUnavailableError(Exception):
    """What runs the tasks does not answer now. It says nothing about the tasks: they may well be running."""


class LogsGoneError(Exception):
    """There is no such run here, or its output is gone."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RunId:
    """One run of one task: an allocation's attempt, the local restart within it, the task's name."""

    key: AssignmentKey
    restarts: int
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a registry is told; ``server`` "": that of the image."""

    username: str
    password: str = field(repr=False)
    server: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineFile:
    target: str
    data: bytes = field(repr=False)
    mode: int = 0o444


PAYLOAD_FILE = "RAFTSMAN_PAYLOAD_FILE"
"""The variable that names the file with the payload of a dispatch."""
SANDBOX = "_net"
"""The task name of the container that holds a group's network and does nothing else; no task of a user has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """Everything a driver needs to start one run. ``env`` is complete; ``ports`` are those that this task publishes.

    listens: ports of the host that were picked for the group, and on which this task, the first of it to start, may
    listen itself: whoever listens on them now is a stranger;
    network_mode: bridge, host, none, or a network's name; sandbox: the run whose network is joined instead, "" = none;
    payload: what a dispatch brought, for a driver whose tasks share the node's files: it puts it into one of its own
    and names it in the task's environment (``PAYLOAD_FILE``); for a container it is among ``files``;
    digest: of the image, where it was settled ("" = whatever the name means here); login: for the image's registry;
    progress: told now and then, from any thread, how far ``prepare`` has come.
    """

    cluster_id: str
    node_id: str
    run: RunId
    task: TaskSpec
    env: StrMap = ()
    ports: tuple[PortBinding, ...] = ()
    listens: tuple[PortBinding, ...] = ()
    device_ids: tuple[str, ...] = ()
    workload_dir: str = ""  # a directory of this node that a container finds at /run/raftsman; "" = none
    resolver: str = ""  # address of the DNS server that a container asks, where it reaches it; "" = the engine's choice
    network_mode: str = "bridge"
    sandbox: str = ""
    hostname: str = ""
    digest: str = ""
    login: Login | None = None
    files: tuple[InlineFile, ...] = ()
    payload: bytes = field(default=b"", repr=False)
    progress: Callable[[str], None] | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return run_name(self.cluster_id, self.run)


class InstanceState(enum.Enum):
    CREATED = "created"  # prepared but never started: ``start`` goes on from here
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a run ended. ``code`` is what a shell would say (128 + signal); -1 when nobody can know."""

    code: int
    signal: int = 0
    oom_killed: bool = False
    reason: str = ""  # only where code and signal do not say it
    ended_ms: int = 0  # unix milliseconds
    never_ran: bool = False  # its command could not be run; ``reason`` says why
    with_engine: bool = False  # what ran it was restarted and took it along: no fault of the task


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A run that a driver found: a container, a process. ``runtime_id`` stays the same while it is not restarted."""

    name: str
    driver: str
    cluster_id: str
    node_id: str
    run: RunId
    runtime_id: str
    state: InstanceState
    exit: Exit | None = None

    @property
    def running(self) -> bool:
        return self.state is InstanceState.RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverInfo:
    """``engine_id`` is equal for two agents exactly when their runs share one engine (and its host ports).
    ``keeps_runs``: they go on while it is restarted; ``resizes``: it changes the cpu and memory of what runs."""

    available: bool
    keeps_runs: bool = True
    resizes: bool = True
    version: str = ""
    engine_id: str = ""
    reason: str = ""  # why it is not available, or what it does not isolate


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """``offset`` is the place of the first byte of ``data`` in the run's whole output, both streams together;
    ``time_ms``: when it was written, unix (0: nobody knows)."""

    data: bytes
    offset: int
    stderr: bool = False
    time_ms: int = 0


class Driver(Protocol):
    """Runs tasks. All methods may raise ``DriverUnavailableError``. What people want with a task (a command in it, its
    files, its ports) is ``agent.hands``, with the same naming."""

    @property
    def name(self) -> str:
        """What ``TaskSpec.driver`` calls it."""

    async def probe(self) -> DriverInfo:
        """Whether it can run tasks now. Never raises."""

    async def prepare(self, spec: RunSpec) -> None:
        """Do what may take long (fetch an image). May be cancelled at any time. Raises ``StartError``."""

    async def start(self, spec: RunSpec) -> Instance:
        """Start the run, or return what already runs or ran under its name. Raises ``StartError``."""

    async def stop(self, name: str, *, signal: str, timeout_ms: int) -> None:
        """Send ``signal``, kill after ``timeout_ms``; return when it has ended. Unknown or ended: nothing to do."""

    async def remove(self, name: str) -> None:
        """Forget the run and its output, killing it if it still runs. Unknown: nothing to do."""

    async def inspect(self, name: str) -> Instance | None:
        """The run as it is now, or None if it is unknown."""

    async def list(self, cluster_id: str) -> tuple[Instance, ...]:
        """Every run of the cluster on this engine, other agents' runs included."""

    def changes(self) -> AsyncIterator[str]:
        """Names of runs that may have changed, as promptly as possible. A hint: some may be missing or repeated.

        "" stands for every run: changes before it may have gone unnoticed. Raises ``DriverUnavailableError`` when
        what runs the tasks has gone.
        """

    def logs(self, name: str, *, follow: bool, tail_lines: int, offset: int) -> AsyncIterator[LogChunk]:
        """Output from ``offset`` on, or the last ``tail_lines`` (0: all); ends with the run when following.

        Raises ``LogsGoneError`` for an unknown run.
        """

    async def close(self) -> None:
        """Let go of connections. Runs go on."""


@runtime_checkable
class ListsImages(Protocol):
    """A driver whose tasks come from images that may be on the node already."""

    async def images(self) -> tuple[str, ...]:
        """The largest ones, as ``contract.images`` writes them. Raises ``DriverUnavailableError``."""


@runtime_checkable
class PinsImages(Protocol):
    """A driver whose tasks come from images of which a registry may change the meaning of the name."""

    async def resolve(self, spec: RunSpec) -> str | None:
        """The digest (``sha256:...``) that the task's image has now, by its pull policy; "" where it has none that
        would say the same elsewhere, None where only fetching it can tell. Raises ``StartError``."""


@runtime_checkable
class HasBridge(Protocol):
    """A driver whose runs are in a network of their own, in which this machine has an address."""

    async def gateway(self) -> str:
        """That address, "" = there is no such network. Raises ``DriverUnavailableError``."""


@runtime_checkable
class Resizes(Protocol):
    """A driver that changes the cpu and memory of what runs."""

    async def resize(self, spec: RunSpec) -> None:
        """Give the run what ``spec`` says, without a restart. Unknown or ended: nothing to do. Raises ``StartError``
        where that cannot be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command in a task ended; ``output``: the beginning of what it wrote. ``code`` below 0: it never ran, and
    ``output`` says why."""

    code: int
    output: str = ""


OUTPUT_MAX = 2_000
"""Of a command in a task; what is beyond is read and thrown away."""


@runtime_checkable
class RunsInside(Protocol):
    """A driver that can run a command where a task runs, with the task's environment: for checks, not for people."""

    async def run_in(self, name: str, command: tuple[str, ...], *, timeout_ms: int) -> Ran:
        """Run to its end; after ``timeout_ms`` it is killed and ``TimeoutError`` raised. A run that is unknown or has
        ended, and a command that is not there, are codes other than 0. Raises ``DriverUnavailableError``."""


def run_name(cluster_id: str, run: RunId) -> str:
    """``raftsman-<cluster8>-<ns>-<job>-<group>-<ordinal>-<attempt>-<task>[-r<restarts>]-<uid6>``.

    The end tells a job from a removed one of the same name, whose attempts also began at 1.
    """
    key = run.key
    restarts = f"-r{run.restarts}" if run.restarts else ""
    uid = hashlib.sha256(key.job_uid.encode()).hexdigest()[:6]
    return (
        f"raftsman-{cluster_id[:8]}-{key.id.namespace}-{key.id.job.replace('/', '.')}-{key.id.group}-{key.id.ordinal}"
        f"-{key.attempt}-{run.task}{restarts}-{uid}"
    )


def exit_reason(exit_: Exit, memory_mib: int) -> str:
    """One phrase for why a run ended: ``exit code 3``, ``out of memory (limit 64 MiB)``, ``killed by signal 9``."""
    if exit_.oom_killed:
        return f"out of memory (limit {memory_mib} MiB)" if memory_mib else "out of memory"
    if exit_.reason:
        return exit_.reason
    if exit_.signal:
        return f"killed by signal {exit_.signal}"
    return f"exit code {exit_.code}"
