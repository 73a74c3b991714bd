"""The commands that the log carries, and the outcomes that applying them gives.

Owns: one frozen dataclass per command, ``Entry`` (the envelope), and ``Outcome``. Leaves to others: bytes
(``replication.codec``), meaning (``state.apply``). The rule: whatever is random, timed or minted is made by the
proposer and travels inside; applying a command twice on two peers does exactly the same.
"""

from __future__ import annotations

import enum
from dataclasses import field

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import (
    JobSpec,
    LimitsChange,
    NodeSpec,
    Observation,
    Quota,
    SettingsChange,
    StrMap,
    Taint,
    TaintKey,
    Variable,
)
from orchestrator.contract.quick import dataclass
from orchestrator.contract.rollouts import RolloutAction

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
UInt64Array = npt.NDArray[np.uint64]

# ---------------------------------------------------------------------------- jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmission:
    spec: JobSpec
    uid: str  # minted by the proposer; used if this creates the job
    expect_version: int | None = None  # None: none; 0: must not exist; n: must be at version n
    in_place: bool = False  # what runs of groups that differ in cpu and memory alone goes on (``state.resize``)
    remember: bool = False  # keep what the job was before, and how its rollout goes


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitJobs:
    """One or many, all or none. Equal to what is there: a no-op. A changed one makes a new version."""

    jobs: tuple[JobSubmission, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopJob:
    """Every allocation gets desired STOP; the record stays for 7 days."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleJob:
    namespace: str
    name: str
    group: str  # "" = the only one
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartJob:
    """A new version with the same content: every instance is replaced, one at a time."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SteerRollout:
    """Pause it, let it go on (again), or promote its canaries."""

    namespace: str
    name: str
    action: RolloutAction


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackJob:
    """A new version with the content of an older one. 0: the last one that was good, or else the one before."""

    namespace: str
    name: str
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutVerdict:
    """The leader's: all of it is ready, or it has failed. ``progress_ms``: as it was judged; later progress voids a
    verdict of failure."""

    uid: str
    version: int
    succeeded: bool
    reason: str = ""
    progress_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRollouts:
    verdicts: tuple[RolloutVerdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A due time of a periodic job. ``after_ms``: the one that was dealt with last when the leader looked: another one
    since then voids this, so that no two leaders start a run for one time. ``skip``: why it comes to no run ("" = it
    does); ``child_uid``: minted, of the run."""

    uid: str
    version: int
    after_ms: int
    due_ms: int
    child_uid: str
    skip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRuns:
    launches: tuple[Launch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchJob:
    """A run of a parameterized job; ``uid``: minted, of the run."""

    namespace: str
    name: str
    uid: str
    meta: StrMap = ()
    payload: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForceRun:
    """A run of a periodic job, whatever the time; ``uid``: minted, of the run."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveJob:
    """Stops what lives and forgets the job once nothing of it lives any more."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PinImage:
    """All instances of a group's version run this digest of an image; the first one counts, and the answer says which.

    ``version``: of the job, as the allocation that asks has it.
    """

    job_uid: str
    group: str
    version: int
    image: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartProgress:
    job_uid: str
    group: str
    ordinal: int
    attempt: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProgress:
    """How far the starts of a node's allocations have come: their reason for a while, and an event each."""

    node_id: str
    progress: tuple[StartProgress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveAllocation:
    """One running instance of a service stops, and its next attempt goes to another node if any other has room.

    ``attempt`` is the one that was looked at: a newer one is not moved. Refused while the group has too few running.
    """

    namespace: str
    name: str
    group: str
    ordinal: int
    attempt: int


# ---------------------------------------------------------------------------- nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterNode:
    """Creates or updates a node; a lost node that registers is back. ``identity`` is the certificate's: the first one
    to register a node id owns it."""

    node: NodeSpec
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CordonNode:
    """``cordoned`` False also ends a drain."""

    node_id: str
    cordoned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CordonDevice:
    """One device gets nothing new; what it runs stays. Holds for its id, also when its node registers again."""

    node_id: str
    device_id: str
    cordoned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainNode:
    """Cordons the node and moves its allocations away. ``deadline_after_ms`` of cluster time later what is left is
    stopped at once (0: no deadline, or the one that a drain under way has). ``cancel`` ends a drain instead; the node
    takes work again unless ``keep_cordoned``."""

    node_id: str
    deadline_after_ms: int = 0
    cancel: bool = False
    keep_cordoned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetNode:
    """Removes the node; its allocations become LOST (also those that said ``on_disconnect: keep``)."""

    node_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaintNode:
    """Takes taints off a node, then puts others on; those that its agent declares are not an operator's to change."""

    node_id: str
    put: tuple[Taint, ...] = ()
    drop: tuple[TaintKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMark:
    node_id: str
    register_index: int  # of the registration that was judged: a newer one voids the mark
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkNodes:
    """The leader's liveness verdicts: only *lost* and *back* reach the log, and that the mass-loss brake came on
    (``brake`` says what it holds back; it becomes an event and nothing else)."""

    lost: tuple[NodeMark, ...] = ()
    back: tuple[NodeMark, ...] = ()
    brake: str = ""


# ---------------------------------------------------------------------------- plans


class Action(enum.IntEnum):
    """What a plan does to an allocation that exists."""

    STOP = 1  # desired becomes STOP (surplus, drained, changed, superseded)
    LOSE = 2  # observed becomes LOST (its node is lost and its job wants a replacement)
    EVICT = 3  # desired becomes STOP to make room for a job of higher priority (``ActionColumns.by``)
    REPLACE = 4  # desired becomes STOP in a rollout, if enough others are ready then


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlacementColumns:
    """New attempts, one row each; all arrays have n rows.

    job: int32, place in ``ApplyPlan.jobs``; group: int32, place in that job's ``spec.groups``; ordinal, attempt,
    version: int32; node: int32, place in ``ApplyPlan.nodes``; device_mask: uint64 over the node's devices; gpu_millis:
    int32, granted of each device in the mask (0 where none); ports: int32, all host ports, row i's are
    ``ports[port_offsets[i]:port_offsets[i + 1]]`` in the order of the group's ``ports``; port_offsets: int32 (n + 1).
    """

    job: Int32Array
    group: Int32Array
    ordinal: Int32Array
    attempt: Int32Array
    version: Int32Array
    node: Int32Array
    device_mask: UInt64Array
    gpu_millis: Int32Array
    ports: Int32Array
    port_offsets: Int32Array

    def __len__(self) -> int:
        return len(self.job)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActionColumns:
    """Actions on existing rows; all arrays int32 with n rows. ``reason`` is the place in ``ApplyPlan.reasons``.

    ``group`` is the place in ``spec.groups`` of the row's own version, as in ``Columns``. ``version`` is that version;
    without it a row is found by its group's place alone, which is ambiguous once groups change places between versions
    (then the oldest version that fits is meant). ``by``: of an eviction, the place in ``ApplyPlan.jobs`` of the job
    that it makes room for, -1 for other actions; None where nothing is evicted.
    """

    job: Int32Array
    group: Int32Array
    ordinal: Int32Array
    attempt: Int32Array
    action: Int32Array
    reason: Int32Array
    version: Int32Array | None = None
    by: Int32Array | None = None

    def __len__(self) -> int:
        return len(self.job)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ApplyPlan:
    """The leader's proposal; every row is rechecked against the state that apply finds.

    Actions are applied before placements. A stale row is rejected alone, with a reason; the others go in.
    """

    based_on: int
    jobs: tuple[str, ...]  # job uids
    nodes: tuple[str, ...]  # node ids
    reasons: tuple[str, ...]
    actions: ActionColumns
    placements: PlacementColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordStatuses:
    """A node's batch of observations; each only moves its allocation forward.

    No peer proposes it any more (``RecordObserved`` says the same in columns). It stays because logs of formats 1 and 2
    hold it, which a peer of today still reads; because ``foresight`` plays it on copies of the state; and because it
    says what a batch in columns means, which ``tests/properties/test_observed.py`` compares with."""

    node_id: str
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObservationColumns:
    """One row per observation, all arrays int32 of n rows: job, group, reason: places in the command's lists; state: a
    number of ``AllocState``; restarts: -1 where it was no possible number; start_failed: 0 or 1. health: int64, words
    of ``contract.health``; None where nobody checks."""

    job: Int32Array
    group: Int32Array
    ordinal: Int32Array
    attempt: Int32Array
    restarts: Int32Array
    state: Int32Array
    exit_code: Int32Array
    reason: Int32Array
    start_failed: Int32Array
    health: Int64Array | None = None

    def __len__(self) -> int:
        return len(self.job)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordObserved:
    """``RecordStatuses`` in columns, as agents' reports are written since format 3: what the state keeps of them."""

    node_id: str
    jobs: tuple[str, ...]  # job uids
    groups: tuple[str, ...]  # names
    reasons: tuple[str, ...]
    rows: ObservationColumns


# ---------------------------------------------------------------------------- variables


class Expectation(enum.IntEnum):
    NONE = 0
    ABSENT = 1  # the variable must not exist
    VALUE = 2  # its value must equal ``expected``


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteVariable:
    """Put, create, compare-and-set and delete (``value`` None). A failed expectation is an answer (hit False)."""

    namespace: str
    name: str
    value: str | None
    expectation: Expectation = Expectation.NONE
    expected: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteVariables:
    """Several writes in one entry, each as if it stood there alone.

    Each has an index of its own, and the request id of the whole with its place behind a slash.
    """

    writes: tuple[WriteVariable, ...]


# ---------------------------------------------------------------------------- housekeeping


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect:
    """Forget what is older than the limits, as of the entry's time; at most ``max_rows`` allocations a command."""

    max_rows: int = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitPeers:
    """First start: the cluster id and every peer's disk incarnation; later: a wiped peer that has caught up."""

    cluster_id: str
    incarnations: StrMap  # peer id -> incarnation


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePeers:
    """The last command of a configuration epoch: these peers, and no others, are the next one's.

    ``addresses`` and ``incarnations`` have the same keys, the peers' ids. The log is sealed behind it, so it travels
    alone (``replication.epochs``). ``known``: the disks that were admitted when it was checked: it is refused if others
    are by now, whose vote it would take away. From ``features.CHECKED_CHANGES`` on; empty: not asked.
    """

    expected_epoch: int
    addresses: StrMap  # peer id -> host:port
    incarnations: StrMap  # peer id -> incarnation of the disk that may vote
    known: StrMap = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFeatureLevel:
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLimits:
    change: LimitsChange


# ---------------------------------------------------------------------------- namespaces and settings


NO_QUOTA = Quota()


class NamespaceWrite(enum.IntEnum):
    CREATE = 1  # with this quota; it must not have been created before, unless equal
    SET = 2  # change its quota; creates what only jobs named so far
    DELETE = 3  # it must hold no jobs and no variables


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteNamespace:
    name: str
    kind: NamespaceWrite
    quota: Quota = NO_QUOTA


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSettings:
    change: SettingsChange


SingleCommand = (
    SubmitJobs
    | StopJob
    | ScaleJob
    | RestartJob
    | SteerRollout
    | RollbackJob
    | EndRollouts
    | LaunchRuns
    | DispatchJob
    | ForceRun
    | RemoveJob
    | MoveAllocation
    | PinImage
    | RecordProgress
    | RegisterNode
    | CordonNode
    | CordonDevice
    | DrainNode
    | ForgetNode
    | TaintNode
    | MarkNodes
    | ApplyPlan
    | RecordStatuses
    | RecordObserved
    | WriteVariable
    | Collect
    | AdmitPeers
    | ChangePeers
    | SetFeatureLevel
    | SetLimits
    | WriteNamespace
    | SetSettings
)
Command = SingleCommand | WriteVariables


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One command with who asked, under which request id, and when (unix ms by the proposer's clock).

    ``digest`` is a hash of the request's body: the same (identity, request_id) with another digest is refused. An empty
    ``request_id`` means a command of the leader's own, which is not remembered.
    """

    identity: str
    request_id: str
    digest: bytes
    time_ms: int
    command: Command


# ---------------------------------------------------------------------------- outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteAnswer:
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAnswer:
    uid: str
    version: int
    changed: bool
    name: str = ""  # of a run that was dispatched or forced


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsAnswer:
    jobs: tuple[JobAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableAnswer:
    variable: Variable | None
    hit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAnswer:
    """How much of a plan went in; ``rejected`` has one reason per stale row (place in actions, then placements)."""

    placed: int
    acted: int
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VariablesAnswer:
    """What each write of ``WriteVariables`` came to, in order. They are remembered one by one, this is not."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PinAnswer:
    """The digest that counts. Asking again gives the same, so it is not remembered."""

    digest: str


Answer = WriteAnswer | JobsAnswer | VariableAnswer | VariablesAnswer | PlanAnswer | PinAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    index: int  # of the first application, when this is a repetition
    answer: Answer
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """``reason`` is a stable code of ``contract.errors`` (NOT_FOUND, ...); ``message`` says what to change."""

    index: int
    reason: str
    message: str
    metadata: StrMap = field(default=())


Outcome = Applied | Rejected
