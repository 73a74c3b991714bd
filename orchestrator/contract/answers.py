"""What the control plane answers, as frozen dataclasses: one per result message of ``control.proto``.

Owns: the shapes that ``api`` fills in and ``client`` hands out; field names equal those of the messages, so that
``contract.codec`` converts both ways. Leaves to others: computing them (``api``), showing them (``cli``, ``gateway``).
The rule: values only, no I/O; times are unix milliseconds unless a name says otherwise.
"""

from __future__ import annotations

from typing import Literal

from orchestrator.contract.batch import Template
from orchestrator.contract.model import (
    Allocation,
    AllocationId,
    AllocState,
    Device,
    JobSpec,
    Limits,
    Namespace,
    NodeSpec,
    NodeStatus,
    NodeTaint,
    Resources,
    Revision,
    Service,
    Settings,
    StrMap,
    TaskReport,
    Usage,
    Variable,
)
from orchestrator.contract.quick import dataclass
from orchestrator.contract.rollouts import Rollout

NOTHING = Resources()
NO_USE = Usage()

JobState = Literal["pending", "running", "complete", "failed", "stopping", "stopped", "scheduled", "dispatchable"]
PeerRole = Literal["leader", "follower", "candidate", "joining", "unreachable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadInfo:
    """How a read was answered. ``age_ms``: since that peer last knew of a majority; -1 = never."""

    index: int = 0
    stale: bool = False
    age_ms: int = 0
    peer_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """``index`` of the write (of the first one, when repeated); ``changed`` False: it was so already."""

    index: int = 0
    changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitResult:
    """``changed`` False: equal to what is there, nothing was done."""

    index: int = 0
    uid: str = ""
    version: int = 0
    changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchResult:
    """``name`` of the run, which is a job of its own."""

    index: int = 0
    uid: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitManyResult:
    index: int = 0
    jobs: tuple[SubmitResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStatus:
    """Instances of one group, each counted once by its newest attempt. ``starting``: placed, not yet running;
    ``ready``: running, and their checks are good; ``updated``: ready, and of the current version;
    ``surplus``: live beside their successors; ``skipped``: will never run, for what the group comes after has failed;
    ``waits``: for what the group waits, or why it is skipped."""

    group: str
    count: int = 0
    running: int = 0
    starting: int = 0
    pending: int = 0
    complete: int = 0
    failed: int = 0
    lost: int = 0
    outdated: int = 0
    ready: int = 0
    updated: int = 0
    surplus: int = 0
    skipped: int = 0
    waits: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A job and how it stands. ``state`` is one of ``JobState``."""

    spec: JobSpec
    uid: str = ""
    version: int = 0
    state: str = "pending"
    stopped: bool = False
    create_index: int = 0
    modify_index: int = 0
    create_time_ms: int = 0
    modify_time_ms: int = 0
    groups: tuple[GroupStatus, ...] = ()
    removing: bool = False
    rollout: Rollout | None = None
    stable_version: int = 0
    template: Template | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAnswer:
    """Message ``GetJobResponse``."""

    job: JobStatus
    read: ReadInfo = ReadInfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobVersions:
    """Message ``ListJobVersionsResponse``: the newest first, the current one included.

    ``held_version``: the newest while it must not spread (not promoted, or its rollout is paused or failed), else 0;
    ``base_version``: at which what is missing is placed meanwhile."""

    versions: tuple[Revision, ...] = ()
    read: ReadInfo = ReadInfo()
    held_version: int = 0
    base_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobList:
    """Message ``ListJobsResponse``."""

    jobs: tuple[JobStatus, ...] = ()
    read: ReadInfo = ReadInfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """``nodes`` that one constraint ruled out, each counted under the first that failed."""

    constraint: str
    text: str = ""
    nodes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RemedyStep:
    """One change. ``kind`` and ``what``: request (cpu_millis, memory_mib, disk_mib of one instance), gpus (count,
    gpu_millis, models, memory_mib, compute_capability, driver_version, link), constraint, port, driver (of the node's
    agent), node (uncordon, back), device (the id of one to uncordon), toleration (the taint), affinity and spread (made
    a preference), resource (a custom one's name); of gangs also gang (domain) and count. ``after`` of a gang's node
    step is the name of the node."""

    kind: str
    what: str = ""
    before: str = ""
    after: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupExplanation:
    """Why ``pending`` instances of a group have no node, the nearest miss, and what would change it.

    ``remedy``: the smallest change after which one more fits, or all of a gang, tried and found to work; all of its
    steps together, on ``remedy_node`` (of a gang the first five nodes and how many more). ``blocked_by``: what holds
    the group back that is no node's fault (quota, gang); ``blocked_text`` says how ("" = nothing does). ``remarks``:
    beside ``rejections``, what the summary says that no node is refused for (budgets, stops that are waited for).
    """

    group: str
    pending: int = 0
    summary: str = ""
    rejections: tuple[Rejection, ...] = ()
    nearest: str = ""
    queue_position: int = 0
    hint: str = ""
    remedy: tuple[RemedyStep, ...] = ()
    remedy_node: str = ""
    blocked_by: str = ""
    blocked_text: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Message ``ExplainJobResponse``."""

    groups: tuple[GroupExplanation, ...] = ()
    summary: str = ""
    read: ReadInfo = ReadInfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationAnswer:
    """Message ``GetAllocationResponse``."""

    allocation: Allocation
    read: ReadInfo = ReadInfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationList:
    """Message ``ListAllocationsResponse``."""

    allocations: tuple[Allocation, ...] = ()
    read: ReadInfo = ReadInfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceList:
    """Message ``ListServicesResponse``: by namespace and name."""

    services: tuple[Service, ...] = ()
    read: ReadInfo = ReadInfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicesUpdate:
    """Services that changed up to ``index``, each with all of its instances; ``full``: these are all that there are."""

    index: int = 0
    full: bool = False
    services: tuple[Service, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadAnswer:
    """Message ``GetWorkloadResponse``: what the tasks of an attempt said of themselves."""

    tasks: tuple[TaskReport, ...] = ()
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsChunk:
    """A piece of one task's log; ``offset`` is that of its first byte."""

    data: bytes = b""
    offset: int = 0
    task: str = ""
    attempt: int = 0
    stderr: bool = False
    time_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted:
    """Where a session is. ``name``: what the first part of a copy's names is, or has to be."""

    node_id: str = ""
    node: str = ""
    id: AllocationId
    attempt: int = 0
    task: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How a command ended, and what it wrote."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDeviceUsage:
    """What the processes of one run use of one of its devices; -1 = unknown."""

    device_id: str
    memory_bytes: int = -1
    percent: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskUsage:
    """What one run uses; -1 = unknown. ``source``: cgroup, processes, engine, or none (``why``). ``devices``: those of
    ``device_ids`` of which its part is known."""

    id: AllocationId
    attempt: int = 0
    task: str = ""
    cpu_millis: int = -1
    memory_bytes: int = -1
    memory_limit_bytes: int = 0
    processes: int = -1
    source: str = ""
    why: str = ""
    device_ids: tuple[str, ...] = ()
    devices: tuple[TaskDeviceUsage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUsage:
    """What one device uses; -1 = unknown."""

    device_id: str
    percent: int = -1
    memory_bytes: int = -1
    memory_total_bytes: int = -1
    celsius: int = -1
    milliwatts: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUsage:
    """What a node uses, measured over ``interval_ms`` until ``time_ms`` of its own clock; -1 = unknown."""

    node_id: str
    time_ms: int = 0
    interval_ms: int = 0
    cpu_millis: int = -1
    cpu_total_millis: int = 0
    memory_bytes: int = -1
    memory_total_bytes: int = 0
    disk_bytes: int = -1
    disk_total_bytes: int = 0
    load_millis: int = -1
    tasks: tuple[TaskUsage, ...] = ()
    devices: tuple[DeviceUsage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownUsage:
    """A node of which nothing is known now."""

    node_id: str
    node: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageAnswer:
    """Message ``GetUsageResponse``."""

    nodes: tuple[NodeUsage, ...] = ()
    unknown: tuple[UnknownUsage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainStep:
    """A live allocation of a node. ``kind``: stopping, next (it is its turn), waits, budget, or stays (the node is not
    being drained); ``why`` says the rest."""

    id: AllocationId
    attempt: int = 0
    state: AllocState = AllocState.PENDING
    kind: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainStatus:
    """Message ``DrainStatusResponse``: what is left on a node. Times are unix, by the leader's clock; 0 = none."""

    node_id: str = ""
    node: str = ""
    draining: bool = False
    deadline_ms: int = 0
    now_ms: int = 0
    left: tuple[DrainStep, ...] = ()
    read: ReadInfo = ReadInfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    device: Device
    used_millis: int = 0
    cordoned: bool = False
    sick: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """A node, what is given away of it, and how it stands. ``heartbeat_age_ms``: since its last heartbeat, or since the
    leader was elected where it was not heard since; -1: only the leader knows."""

    spec: NodeSpec
    status: NodeStatus = NodeStatus.READY
    cordoned: bool = False
    draining: bool = False
    used: Resources = NOTHING
    allocations: int = 0
    devices: tuple[DeviceUse, ...] = ()
    register_index: int = 0
    heartbeat_age_ms: int = -1
    status_reason: str = ""
    taints: tuple[NodeTaint, ...] = ()
    drain_deadline_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeList:
    """Message ``ListNodesResponse``."""

    nodes: tuple[NodeInfo, ...] = ()
    read: ReadInfo = ReadInfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerInfo:
    """A peer as the answering peer sees it. ``role`` is one of ``PeerRole``; ``lag`` in log entries, -1 = unknown.
    ``last_contact_ms``: -1 = never; 0 while two followers are connected, which say nothing to each other. ``found_at``:
    where it was found, if not at the replicated ``address``, which is out of date then."""

    id: str
    address: str = ""
    role: str = "unreachable"
    connected: bool = False
    voter: bool = True
    match_index: int = 0
    lag: int = -1
    last_contact_ms: int = -1
    cert_expires_ms: int = 0
    version: str = ""
    found_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """Message ``ClusterStatusResponse``. ``dev``: drills are allowed without ``--really``."""

    cluster_id: str = ""
    cluster_name: str = ""
    leader_id: str = ""
    term: int = 0
    commit_index: int = 0
    applied_index: int = 0
    peers: tuple[PeerInfo, ...] = ()
    jobs: int = 0
    nodes: int = 0
    allocations: int = 0
    dev: bool = False
    read: ReadInfo = ReadInfo()
    elections: int = 0
    feature_level: int = 0
    epoch: int = 0
    waits_for: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersChanged:
    """Message ``ChangePeersResponse``. ``peers``: (id, host:port) pairs, sorted."""

    index: int = 0
    epoch: int = 0
    peers: StrMap = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StateHash:
    """Message ``StateHashResponse``."""

    hash: str = ""
    index: int = 0
    peer_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementInfo:
    """A placement that jobs may name; ``summary``: one line about it."""

    name: str
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsAnswer:
    """Message ``GetLimitsResponse``. ``placements``: those that the answering peer offers."""

    limits: Limits
    read: ReadInfo = ReadInfo()
    placements: tuple[PlacementInfo, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsAnswer:
    """Message ``GetSettingsResponse``."""

    settings: Settings
    read: ReadInfo = ReadInfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceStatus:
    """A namespace and what its jobs ask for."""

    namespace: Namespace
    used: Usage = NO_USE


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceList:
    """Message ``ListNamespacesResponse``."""

    namespaces: tuple[NamespaceStatus, ...] = ()
    read: ReadInfo = ReadInfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupHead:
    """What a backup holds: command ``index``, cluster time ``time_ms`` there; ``taken_ms`` is the peer's own clock."""

    format: int = 0
    cluster_id: str = ""
    cluster_name: str = ""
    peer_id: str = ""
    index: int = 0
    time_ms: int = 0
    taken_ms: int = 0
    age_ms: int = 0
    stale: bool = False
    term: int = 0
    entry_index: int = 0
    size_bytes: int = 0
    jobs: int = 0
    nodes: int = 0
    allocations: int = 0
    variables: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupPart:
    """Message ``BackupPart``. A head begins anew (the backup moved to another peer); ``sha256`` ends it."""

    head: BackupHead | None = None
    data: bytes = b""
    sha256: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableResult:
    """Message ``VariableResponse``: the variable as it is after the call (None when it does not exist).

    ``hit``: whether the stated expectation held; for a read, whether the variable exists.
    """

    variable: Variable | None = None
    index: int = 0
    hit: bool = False
    read: ReadInfo = ReadInfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableList:
    """Message ``ListVariablesResponse``."""

    variables: tuple[Variable, ...] = ()
    read: ReadInfo = ReadInfo()
