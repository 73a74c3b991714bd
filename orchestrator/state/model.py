"""The records of the replicated state: jobs, nodes and the limits; allocations are rows of ``allocations.py``.

Owns: the frozen records that tables hold. The rule: a record is replaced, never changed, so that views may share it.
"""

from __future__ import annotations

from orchestrator.contract.model import JobSpec, NodeSpec, NodeStatus, NodeTaint, Resources, Revision
from orchestrator.contract.quick import dataclass
from orchestrator.contract.rollouts import Rollout

_NOTHING = Resources()

MAX_COUNT = 100_000
"""Instances of one group at most; also the bound of an ordinal."""
MAX_GANG = 2_000
"""Instances of a gang at most: one entry of the log holds it, and is never larger."""
MAX_CORDONED_DEVICES = 256
"""Of one node, those included that it does not report any more."""
MAX_REVISIONS = 10
"""Older versions that a job remembers, beside the last one that was good."""
MAX_COMMAND_ROWS = 20_000
"""Rows of one plan, jobs of one submit, observations of one batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What a periodic or parameterized job has come to. ``since_ms``: cluster time since which its times count;
    ``last_ms``: the last due time that was dealt with; ``runs``, ``skipped``: how many there were in all."""

    since_ms: int
    last_ms: int = 0
    last_job: str = ""
    runs: int = 0
    skipped: int = 0
    last_skipped: str = ""

    @property
    def handled_ms(self) -> int:
        """Only later due times are of interest."""
        return max(self.since_ms, self.last_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePin:
    """What instances of ``group`` run for ``image``; ``version``: of the job, since which that holds."""

    group: str
    version: int
    image: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as the cluster knows it.

    ``group_versions[i]`` is the job version at which the content (not the count) of ``spec.groups[i]`` last changed: an
    allocation with a lower version is outdated. ``specs`` keeps the older versions that rows of the table still name,
    so that agents can be told what to run and records can be read: sorted (version, spec) pairs, the newest included.
    ``pins``: the digests that were settled for images (``state.images``).
    """

    slot: int  # number in the allocation table's ``job`` column; reused only after every row is gone
    uid: str
    spec: JobSpec
    version: int
    group_versions: tuple[int, ...]
    specs: tuple[tuple[int, JobSpec], ...]
    stopped: bool = False
    removing: bool = False
    submit_index: int  # of the version that is current: queue order within a priority
    create_index: int
    modify_index: int
    create_time_ms: int
    modify_time_ms: int
    pins: tuple[ImagePin, ...] = ()
    # Of jobs that were submitted so that it is remembered (``tracked``): what they were before, oldest first; how the
    # newest rollout stands; the last version of which all was ready; and by group the versions that are current though
    # they are older than ``group_versions``: their content is the same (``state.rollouts``; () = none of any group).
    tracked: bool = False
    history: tuple[Revision, ...] = ()
    rollout: Rollout | None = None
    stable_version: int = 0
    twins: tuple[tuple[int, ...], ...] = ()
    schedule: Schedule | None = None  # of a periodic or parameterized job


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    slot: int  # number in the allocation table's ``node`` column; reused only after every row is gone
    spec: NodeSpec
    status: NodeStatus
    cordoned: bool = False
    draining: bool = False
    identity: str  # of the certificate that registered it
    register_index: int
    modify_index: int
    status_time_ms: int  # cluster time of the last change of status
    status_reason: str = ""
    # What may be in use without breaking an invariant: the capacity, or what was in use when a registration lowered it.
    ceiling: Resources = _NOTHING
    cordoned_devices: tuple[str, ...] = ()  # ids, sorted; also of devices that the node does not report now

    drain_deadline_ms: int = 0  # cluster time at which what is left of a drain is stopped at once; 0: never

    # The agent's own first, then the operators', each by key and effect (``apply_taints`` keeps them so).
    taints: tuple[NodeTaint, ...] = ()

    @property
    def closed_devices(self) -> tuple[str, ...]:
        """Ids on which nothing new is placed: cordoned ones, and those that the agent calls sick."""
        sick = self.spec.sick_devices
        return self.cordoned_devices if not sick else (*self.cordoned_devices, *(device for device, _ in sick))
