"""The nouns of DESIGN.md as frozen dataclasses: what clients, peers and agents mean by a job, a node, an allocation.

Owns: shapes, enumerations and their defaults. Leaves to others: checking what users write (``jobfile``), changing state
(``state``), bytes (``contract.codec``; field names here equal those in ``types.proto``). The rule: values only, no I/O.
Mappings are sorted tuples of pairs (``StrMap``), so that equal values are equal, hashable and encode to equal bytes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType

PeerId = NewType("PeerId", str)
NodeId = NewType("NodeId", str)
JobUid = NewType("JobUid", str)

StrMap = tuple[tuple[str, str], ...]

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
    cpu_millis: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    gpus: DeviceRequest | None = None


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
    """A host path in a container; refused unless the operator's policy allows it."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A hard condition on a node label, or on ``node.id``, ``node.name``."""

    attribute: str
    operator: ConstraintOperator
    values: tuple[str, ...] = ()


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

    @property
    def resources(self) -> Resources:
        """The sum over the tasks; at most one task of a group may ask for devices (``jobfile`` checks it)."""
        return Resources(
            cpu_millis=sum(task.resources.cpu_millis for task in self.tasks),
            memory_mib=sum(task.resources.memory_mib for task in self.tasks),
            disk_mib=sum(task.resources.disk_mib for task in self.tasks),
            gpus=next((task.resources.gpus for task in self.tasks if task.resources.gpus is not None), None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a user submits."""

    namespace: str = DEFAULT_NAMESPACE
    name: str
    type: JobType = JobType.SERVICE
    priority: int = 50
    groups: tuple[GroupSpec, ...] = ()
    placement: str = ""
    on_disconnect: OnDisconnect = OnDisconnect.REPLACE
    constraints: tuple[Constraint, ...] = ()
    metadata: StrMap = ()


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
    """What an agent says of its machine. ``capacity``: what may be given away (measured or declared, less reserve)."""

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
class Allocation:
    """One allocation as everybody sees it: a row of the table, made readable."""

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
    """What an agent saw of one allocation; ordered by (attempt, restarts, state)."""

    key: AssignmentKey
    restarts: int
    state: AllocState
    exit_code: int = 0
    reason: str = ""
    start_failed: bool = False
    tasks: tuple[TaskObservation, ...] = ()


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
