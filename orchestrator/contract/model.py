"""The nouns of DESIGN.md as frozen dataclasses: what clients, peers and agents mean by a job, a node, an allocation.

Owns: shapes, enumerations and their defaults. Leaves to others: checking what users write (``jobfile``), changing state
(``state``), bytes (``contract.codec``; field names here equal those in ``types.proto``). The rule: values only, no I/O.
Mappings are sorted tuples of pairs (``StrMap``), so that equal values are equal, hashable and encode to equal bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NewType

from orchestrator.contract.batch import After, Origin, ParameterizedSpec, PeriodicSpec
from orchestrator.contract.fields import later
from orchestrator.contract.health import HealthSpec
from orchestrator.contract.quick import dataclass
from orchestrator.contract.rollouts import UpdateSpec

PeerId = NewType("PeerId", str)
NodeId = NewType("NodeId", str)
JobUid = NewType("JobUid", str)

StrMap = tuple[tuple[str, str], ...]
IntMap = tuple[tuple[str, int], ...]

DEFAULT_NAMESPACE = "default"
WHOLE_DEVICE = 1000
"""``gpu_millis`` of one whole device."""
MAX_DEVICES = 64
"""Devices of a node are numbered by their place in ``NodeSpec.devices``; a set of them is a ``uint64`` mask."""


class JobType(enum.IntEnum):
    SERVICE = 1
    BATCH = 2
    SYSTEM = 3


class OnDisconnect(enum.IntEnum):
    REPLACE = 1
    STOP = 2
    KEEP = 3


class RestartMode(enum.IntEnum):
    FAIL = 1
    DELAY = 2


class Protocol(enum.IntEnum):
    TCP = 1
    UDP = 2


class ConstraintOperator(enum.IntEnum):
    EQUAL = 1
    NOT_EQUAL = 2
    IN = 3
    NOT_IN = 4
    EXISTS = 5
    NOT_EXISTS = 6
    GREATER = 7
    LESS = 8
    GREATER_EQUAL = 9
    LESS_EQUAL = 10
    VERSION = 11
    MATCHES = 12
    NOT_MATCHES = 13


class TaintEffect(enum.IntEnum):
    NO_SCHEDULE = 1
    PREFER_NO_SCHEDULE = 2
    NO_EXECUTE = 3


class Link(enum.IntEnum):
    """What the devices of one instance must share: nothing in particular, one island, one NUMA node."""

    ANY = 1
    ISLAND = 2
    NUMA = 3


class GangDomain(enum.IntEnum):
    """How far the members of a gang may be from each other; the smallest that holds them is taken."""

    ISLAND = 1
    NODE = 2
    RACK = 3
    ZONE = 4
    CLUSTER = 5


class GangFailure(enum.IntEnum):
    """What becomes of a gang of which a member has ended or was lost."""

    RESTART = 1  # the others stop, and all of them are placed again
    REPLACE = 2  # that member alone is placed again, near the others


class PullPolicy(enum.IntEnum):
    """Whether an image is looked for at its registry: where the node lacks it, at the start of every version, never."""

    MISSING = 1
    ALWAYS = 2
    NEVER = 3


class TaskRole(enum.IntEnum):
    """When a task of a group runs: as what the group is for, before it to completion, or beside it."""

    MAIN = 1
    INIT = 2
    SIDECAR = 3


class Desired(enum.IntEnum):
    RUN = 1
    STOP = 2


class AllocState(enum.IntEnum):
    """What was observed of an allocation; see ``contract.transitions`` for the edges."""

    PENDING = 10
    STARTING = 20
    RUNNING = 30
    BACKOFF = 40
    STOPPING = 50
    COMPLETE = 60
    FAILED = 70
    STOPPED = 80
    LOST = 90


class NodeStatus(enum.IntEnum):
    READY = 1
    LOST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequest:
    """``count`` devices, each with ``gpu_millis`` free (1000 = whole), ``memory_mib`` and one of ``models``.

    compute_capability, driver_version: conditions such as ``>= 8.0`` (``contract.devices``; "" = any); mig: the profile
    of a MIG slice, "" = whole GPUs only; link: what all of them must share.
    """

    count: int
    gpu_millis: int = WHOLE_DEVICE
    memory_mib: int = 0
    models: tuple[str, ...] = ()
    compute_capability: str = ""
    driver_version: str = ""
    mig: str = ""
    link: Link = Link.ANY


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """``custom``: whole amounts of what only the operator can name, such as licences; sorted by name."""

    cpu_millis: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    gpus: DeviceRequest | None = None
    custom: IntMap = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSpec:
    """A port that the group needs on its host. ``static`` 0: the scheduler picks one; ``to`` 0: same as host port."""

    label: str
    to: int = 0
    static: int = 0
    protocol: Protocol = Protocol.TCP


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """Local restarts by the agent (Forge's defaults: 3 attempts, 15 s apart, then fail)."""

    attempts: int = 3
    delay_ms: int = 15_000
    mode: RestartMode = RestartMode.FAIL


@dataclass(frozen=True, slots=True, kw_only=True)
class StopPolicy:
    """Sent to the task, and how long it may take before it is killed."""

    signal: str = "SIGTERM"
    timeout_ms: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSpec:
    """A named volume of the node in a container, or (``source`` begins with ``/``) a host path, which is refused unless
    the operator's policy allows it. ``sub_path``: a directory of it, "" = all of it."""

    source: str
    target: str
    read_only: bool = True
    sub_path: str = ""

    @property
    def of_host(self) -> bool:
        return self.source.startswith("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAuth:
    """How a task's image is asked for. The password's variable, and the name or its variable; ``server`` "": that of
    the image."""

    username: str = ""
    username_variable: str = ""
    password_variable: str = ""
    server: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    """``soft`` and ``hard`` -1: no limit."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TmpfsSpec:
    """``size_mib`` 0: bounded by the container's memory alone; ``mode`` 0: the engine's, 01777; ``uid``, ``gid``: whose
    its directory is."""

    target: str
    size_mib: int = 0
    mode: int = later(0)
    uid: int = later(0)
    gid: int = later(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSpec:
    """Where output goes. Only what ``json-file`` keeps can be read with ``raftsman logs``."""

    driver: str = "json-file"
    options: StrMap = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpec:
    """A file that is in the container before its command starts: ``content``, or the value of ``variable``."""

    target: str
    content: str = ""
    variable: str = ""
    mode: int = 0o444


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """What only a container can have. ``None`` in a ``TaskSpec``: nothing of it was asked for.

    env_files: variables of the cluster that hold lines ``NAME=value``, later ones and ``env`` win; pids_limit,
    shm_size_mib 0: the default; cpu_max_millis: a hard limit beside its share (0: none); memory_max_mib: the limit
    where it is not what the task reserves (0: as reserved); cap_add: the capabilities that it has
    (``contract.capabilities``), cap_drop: those that ``ALL`` does not stand for.
    """

    pull_policy: PullPolicy = PullPolicy.MISSING
    auth: RegistryAuth | None = None
    env_files: tuple[str, ...] = ()
    hostname: str = ""
    labels: StrMap = ()
    no_init: bool = False
    pids_limit: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    shm_size_mib: int = 0
    read_only: bool = False
    tmpfs: tuple[TmpfsSpec, ...] = ()
    logging: LogSpec | None = None
    files: tuple[FileSpec, ...] = ()
    cpu_max_millis: int = 0
    memory_max_mib: int = 0
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A condition on a node label, or on what ``contract.constraints`` knows of a node (``node.arch`` and others)."""

    attribute: str
    operator: ConstraintOperator
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """What keeps work off a node unless it tolerates it; a node has at most one of a key and effect."""

    key: str
    value: str = ""
    effect: TaintEffect


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """Taints that do not matter to a group. ``key`` "", ``value`` None and ``effect`` None match all; ``delay_ms``: how
    long it stays after a NO_EXECUTE taint appears (None: for ever)."""

    key: str = ""
    value: str | None = None
    effect: TaintEffect | None = None
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTaint:
    """``since_ms``: cluster time when the node got it; ``declared``: by its agent's settings, not by an operator."""

    taint: Taint
    since_ms: int = 0
    declared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaintKey:
    """Which taints to take away; ``effect`` None: those of every effect."""

    key: str
    effect: TaintEffect | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Affinity:
    """A wish to be where ``constraint`` holds; without one, where instances of ``job`` and ``group`` are: on nodes
    with the same value of ``topology``. ``job`` "": the group itself; ``group`` "": any of the job's.

    ``weight`` -100 to 100, below 0 to be elsewhere; ``required``: nowhere else at all.
    """

    constraint: Constraint | None = None
    job: str = ""
    group: str = ""
    topology: str = "node.id"
    weight: int = 50
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The group's instances over the values of a node attribute: the fullest has at most ``max_skew`` more than the
    emptiest. ``required``: what would break that waits; else it is a preference of this ``weight``."""

    attribute: str
    max_skew: int = 1
    required: bool = True
    weight: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSpec:
    """What a task promises to say itself, through the workload kit. ``ready``: it is not ready before it says so;
    ``heartbeat_ms``: silent for so long, its run ends (0: it sends no heartbeats)."""

    ready: bool = False
    heartbeat_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """A name under which a group's instances are found, and the label of the port that they answer on. What is left ""
    is chosen by ``contract.services``."""

    name: str = ""
    port: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """One container or process."""

    name: str
    driver: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: StrMap = ()
    resources: Resources = Resources()
    stop: StopPolicy = StopPolicy()
    variables: StrMap = ()
    work_dir: str = ""
    user: str = ""
    privileged: bool = False
    mounts: tuple[MountSpec, ...] = ()
    container: ContainerSpec | None = None
    role: TaskRole = TaskRole.MAIN
    health: HealthSpec | None = None
    timeout_ms: int = 0  # of one run; 0: none
    workload: WorkloadSpec | None = None

    @property
    def driver_name(self) -> str:
        """The driver that runs it: what was asked for, else docker for an image and process for a command."""
        return self.driver or ("docker" if self.image else "process")


@dataclass(frozen=True, slots=True, kw_only=True)
class GangSpec:
    """All instances of a group or none, no farther apart than ``domain``."""

    domain: GangDomain = GangDomain.CLUSTER
    on_failure: GangFailure = GangFailure.RESTART


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """Tasks that always run together on one node."""

    name: str
    count: int = 1
    tasks: tuple[TaskSpec, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    restart: RestartPolicy = RestartPolicy()
    constraints: tuple[Constraint, ...] = ()
    gang: GangSpec | None = None
    affinity: tuple[Affinity, ...] = ()
    spread: tuple[Spread, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    datasets: tuple[str, ...] = ()
    locality: int = 0  # weight of nodes that have the images and ``datasets`` already
    network_mode: str = ""  # of its containers: bridge (""), host, none, or the name of a network of the node
    update: UpdateSpec | None = None
    after: tuple[After, ...] = ()
    services: tuple[ServiceSpec, ...] = ()  # none: the default one, where it has ports (``contract.services``)
    needs: tuple[str, ...] = ()  # services that must be there before its tasks start

    @property
    def resources(self) -> Resources:
        """The sum over the tasks; at most one task of a group may ask for devices (``jobfile`` checks it)."""
        if len(self.tasks) == 1:
            return self.tasks[0].resources
        return Resources(
            cpu_millis=sum(task.resources.cpu_millis for task in self.tasks),
            memory_mib=sum(task.resources.memory_mib for task in self.tasks),
            disk_mib=sum(task.resources.disk_mib for task in self.tasks),
            gpus=next((task.resources.gpus for task in self.tasks if task.resources.gpus is not None), None),
            custom=added(task.resources.custom for task in self.tasks),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Disruption:
    """How many instances of each group may be down at once because of us: drains, preemption, rebalancing.

    ``max_unavailable``: instances, or per cent of the group's count where ``percent`` is set (``state.disruption``).
    """

    max_unavailable: int = 1
    percent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a user submits. ``disruption`` None: drains take one instance at a time, preemption has no bound.
    ``periodic``, ``parameterized``: nothing of it runs, but copies do (``contract.batch``); ``origin``: it is one."""

    namespace: str = DEFAULT_NAMESPACE
    name: str
    type: JobType = JobType.SERVICE
    priority: int = 50
    groups: tuple[GroupSpec, ...] = ()
    placement: str = ""
    on_disconnect: OnDisconnect = OnDisconnect.REPLACE
    constraints: tuple[Constraint, ...] = ()
    metadata: StrMap = ()
    disruption: Disruption | None = None
    unpreemptible: bool = False
    affinity: tuple[Affinity, ...] = ()  # these three are for all groups, before their own
    spread: tuple[Spread, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    periodic: PeriodicSpec | None = None
    parameterized: ParameterizedSpec | None = None
    origin: Origin | None = None

    @property
    def is_template(self) -> bool:
        return self.periodic is not None or self.parameterized is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU, or a MIG slice of one. Devices with the same ``island`` share the fastest link (NVLink, NVSwitch);
    ``pcie`` numbers PCIe switches from 1 (0 = unknown); ``numa`` is the next circle (-1 = unknown).

    compute_capability, driver_version: ``8.0`` and such, "" = unknown; mig: a slice's profile (``1g.10gb``); parent:
    the id of the GPU that it is a slice of; both "" of a whole GPU.
    """

    id: str
    model: str = ""
    memory_mib: int = 0
    island: int = 0
    numa: int = 0
    pcie: int = 0
    compute_capability: str = ""
    driver_version: str = ""
    mig: str = ""
    parent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """What an agent says of its machine. ``capacity``: what may be given away (measured or declared, less reserve);
    ``images``: as ``contract.images`` writes them; ``kernel``: its numbers alone (6.8.0);
    ``sick_devices``: why, by id, nothing new is to be placed on these; ``resizes_processes``: its process driver
    changes the cpu and memory of what runs, which takes control groups."""

    id: str
    name: str
    address: str = ""
    engine_id: str = ""
    drivers: tuple[str, ...] = ()
    labels: StrMap = ()
    capacity: Resources = Resources()
    devices: tuple[Device, ...] = ()
    port_min: int = 20_000
    port_max: int = 31_999
    version: str = ""
    boot_id: str = ""
    arch: str = ""
    os: str = ""
    kernel: str = ""
    datacenter: str = ""
    region: str = ""
    zone: str = ""
    rack: str = ""
    taints: tuple[Taint, ...] = ()
    images: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    sick_devices: StrMap = ()
    resizes_processes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AllocationId:
    """``web/api/0`` within a namespace: job, group, ordinal."""

    namespace: str
    job: str
    group: str
    ordinal: int

    def __str__(self) -> str:
        return f"{self.job}/{self.group}/{self.ordinal}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortBinding:
    label: str
    host_port: int
    to: int = 0
    protocol: Protocol = Protocol.TCP


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceInstance:
    """One ready instance of a service: where it answers, and which allocation it is."""

    allocation: AllocationId
    attempt: int
    address: str
    port: int
    label: str = ""
    protocol: Protocol = Protocol.TCP
    node_id: str = ""
    node_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service and its ready instances, by allocation and attempt. ``declared``: a job that goes on offers it."""

    namespace: str
    name: str
    instances: tuple[ServiceInstance, ...] = ()
    declared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceName:
    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMetric:
    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedPort:
    port: int
    protocol: Protocol = Protocol.TCP


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """What one task said of itself through the workload kit. ``heartbeat_age_ms`` -1: it never sent one; ``draining``:
    told to stop, it asked for its whole grace; ``done``: it may be ended."""

    task: str
    ready: bool = False
    heartbeat_age_ms: int = -1
    metrics: tuple[TaskMetric, ...] = ()
    ports: tuple[LeasedPort, ...] = ()
    stopping: bool = False
    draining: bool = False
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadReport:
    """Of the tasks of one allocation, in their order."""

    tasks: tuple[TaskReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One allocation as everybody sees it: a row of the table, made readable. ``ready``: it runs, is meant to, its
    node is there, and its checks are good: it should get work."""

    id: AllocationId
    job_uid: str
    attempt: int
    restarts: int = 0
    job_version: int = 1
    node_id: str = ""
    node_name: str = ""
    node_address: str = ""
    desired: Desired = Desired.RUN
    state: AllocState = AllocState.PENDING
    reason: str = ""
    exit_code: int = 0
    ports: tuple[PortBinding, ...] = ()
    device_ids: tuple[str, ...] = ()
    gpu_millis: int = 0
    create_index: int = 0
    modify_index: int = 0
    create_time_ms: int = 0
    modify_time_ms: int = 0
    resources: Resources = Resources()
    ready: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentKey:
    """Which run of which allocation: observations and fencing speak of exactly this."""

    id: AllocationId
    job_uid: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What an agent is told to do with one allocation."""

    key: AssignmentKey
    desired: Desired
    group: GroupSpec
    on_disconnect: OnDisconnect = OnDisconnect.REPLACE
    job_type: JobType = JobType.SERVICE
    ports: tuple[PortBinding, ...] = ()
    device_ids: tuple[str, ...] = ()
    gpu_millis: int = 0
    variables: StrMap = ()
    job_version: int = 1
    modify_index: int = 0
    origin: Origin | None = None  # of a run that was dispatched or was due
    digests: StrMap = ()  # image -> digest, as far as they are settled for this version
    adopt_only: bool = False  # made before the cluster was restored: taken up where it runs, never started


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskObservation:
    task: str
    state: AllocState
    exit_code: int = 0
    reason: str = ""
    restarts: int = 0
    runtime_id: str = ""
    oom_killed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What an agent saw of one allocation; ordered by (attempt, restarts, state, health).

    ``health``: a word of ``contract.health`` while it runs, 0 where nobody checks.
    """

    key: AssignmentKey
    restarts: int
    state: AllocState
    exit_code: int = 0
    reason: str = ""
    start_failed: bool = False
    tasks: tuple[TaskObservation, ...] = ()
    health: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A version that a job had. ``time_ms``: cluster time of its submission; ``stable``: all of it was ready once."""

    version: int
    spec: JobSpec
    time_ms: int = 0
    stable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    namespace: str
    name: str
    value: str
    version: int
    create_index: int
    modify_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableWrite:
    """One of many writes in one call. ``value`` None deletes.

    ``absent``: only if it does not exist; ``expect``: only if its value is this; neither: unconditional.
    """

    name: str
    value: str | None = None
    absent: bool = False
    expect: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened; ``(index, sequence)`` is unique and orders all of them."""

    index: int
    sequence: int
    time_ms: int
    kind: str
    namespace: str = ""
    job: str = ""
    allocation: str = ""
    node_id: str = ""
    message: str = ""
    attempt: int = 0


def str_map(pairs: dict[str, str]) -> StrMap:
    """The canonical form of a mapping: sorted by key."""
    return tuple(sorted(pairs.items()))


def added(maps: Iterable[IntMap]) -> IntMap:
    """The sums by name."""
    totals: dict[str, int] = {}
    for one in maps:
        for name, amount in one:
            totals[name] = totals.get(name, 0) + amount
    return tuple(sorted(totals.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is kept, for how long (DESIGN.md, "Nothing grows for ever")."""

    allocations_per_ordinal: int = 10
    allocation_age_ms: int = 24 * 3600 * 1000
    stopped_job_age_ms: int = 7 * 24 * 3600 * 1000
    events: int = 100_000
    answers: int = 100_000
    answer_age_ms: int = 24 * 3600 * 1000
    answer_bytes: int = 64 * 1024 * 1024
    variable_bytes: int = 64 * 1024
    default_placement: str = ""  # of jobs that name none; "": what suits each group
    children_per_job: int = 100
    child_age_ms: int = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsChange:
    """Other values for some of ``Limits``; None: as it is."""

    allocations_per_ordinal: int | None = None
    allocation_age_ms: int | None = None
    stopped_job_age_ms: int | None = None
    events: int | None = None
    answers: int | None = None
    answer_age_ms: int | None = None
    answer_bytes: int | None = None
    variable_bytes: int | None = None
    default_placement: str | None = None
    children_per_job: int | None = None
    child_age_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a namespace may ask for in all; None: without limit. In a change None leaves it as it is, -1 lifts it."""

    cpu_millis: int | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None
    gpu_millis: int | None = None
    jobs: int | None = None
    allocations: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the active jobs of a namespace ask for (``state.usage`` says what counts); the fields are ``Quota``'s."""

    cpu_millis: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    gpu_millis: int = 0
    jobs: int = 0
    allocations: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """``create_index`` 0: nobody created it, it is there because jobs name it (or because it is ``default``)."""

    name: str
    quota: Quota = Quota()
    create_index: int = 0
    modify_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the whole cluster behaves: whether higher priorities may have lower ones stopped; whether only namespaces
    that were created may be used."""

    preemption: bool = True
    strict_namespaces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChange:
    """Other values for some of ``Settings``; None: as it is."""

    preemption: bool | None = None
    strict_namespaces: bool | None = None
