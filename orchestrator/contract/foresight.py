"""What the control plane answers about what has not happened: what-if, plan, rebalance, and the past.

Owns: these shapes; field names equal those of the messages in ``control.proto``. Leaves to others: computing them
(``foresight``), showing them (``cli``). The rule: values only, no I/O.
"""

from __future__ import annotations

from typing import Literal

from orchestrator.contract.answers import GroupExplanation, ReadInfo
from orchestrator.contract.model import AllocationId, JobSpec, NodeSpec
from orchestrator.contract.quick import dataclass

NO_READ = ReadInfo()

OutcomeKind = Literal["placed", "moved", "replaced", "stopped", "lost"]
Goal = Literal["pack", "spread"]
GOALS: tuple[Goal, ...] = ("pack", "spread")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One hypothetical change; exactly one of ``drain``, ``lose``, ``submit``, ``add_node`` and ``like`` is set.

    ``drain``, ``lose``, ``like``: a node by id, beginning of an id, or name. ``add_node`` is the new machine itself (an
    empty id or name is minted), ``like`` one like a node that is there; ``count`` of them.
    """

    drain: str = ""
    lose: str = ""
    submit: JobSpec | None = None
    add_node: NodeSpec | None = None
    like: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of one instance. ``kind`` is one of ``OutcomeKind``: placed (it had no node), moved (to another
    node), replaced (a new attempt on the same node), stopped, lost (its node is, and it gets no other).

    Nodes are names, devices ids. ``reason``: the last one that a plan gave for stopping it. ``anyway``: it would happen
    without the change, too.
    """

    id: AllocationId
    kind: str
    from_node: str = ""
    to_node: str = ""
    from_devices: tuple[str, ...] = ()
    to_devices: tuple[str, ...] = ()
    reason: str = ""
    anyway: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingGroup:
    """Instances of one group without a node, now and then; ``why`` is about then (and empty where nobody waits)."""

    namespace: str
    job: str
    before: int = 0
    after: int = 0
    why: GroupExplanation


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """Message ``WhatIfResponse``: what the leader would do, with agents that start and stop at once.

    ``settled`` False: it had not come to rest after ``rounds`` rounds or in the given time; what is shown is how far it
    got. ``left_out``: outcomes beyond those that one answer holds. ``takes_ms``: time that passed until the last of it,
    because somebody waits for time alone (``min_ready``, a backoff, a deadline); starting and stopping takes none here.
    """

    outcomes: tuple[Outcome, ...] = ()
    pending: tuple[PendingGroup, ...] = ()
    pending_before: int = 0
    pending_after: int = 0
    nodes_used_before: int = 0
    nodes_used_after: int = 0
    rounds: int = 0
    settled: bool = True
    left_out: int = 0
    read: ReadInfo = NO_READ
    takes_ms: int = 0


NOTHING = WhatIf()


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """``kind``: added, removed or changed; ``path``: ``groups.api.tasks.main.image``."""

    path: str
    kind: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """Message ``PlanJobResponse``. ``change``: none, create, update, or restart (it is stopped now).

    ``version``: the job's now (0: there is none); ``next_version``: what submitting would make it.
    """

    change: str = "none"
    version: int = 0
    next_version: int = 0
    fields: tuple[FieldChange, ...] = ()
    what_if: WhatIf = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """How evenly the open nodes are used. Shares are dominant ones (the largest of cpu, memory, disk and devices) in
    millionths: ``highest``, ``lowest``, and ``squares``, the sum of their squares in millionths."""

    nodes_used: int = 0
    nodes: int = 0
    highest: int = 0
    lowest: int = 0
    squares: int = 0
    pending: int = 0


NO_BALANCE = Balance()


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One instance that goes from one node to another; ``attempt`` is the one that would be stopped."""

    id: AllocationId
    attempt: int
    from_node: str
    to_node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebalance:
    """Message ``RebalanceResponse``. ``more``: a limit on moves, trials or time ended the search, so there may be more.
    ``note``: why nothing was looked for ("" = it was)."""

    goal: str = "pack"
    moves: tuple[Move, ...] = ()
    before: Balance = NO_BALANCE
    after: Balance = NO_BALANCE
    more: bool = False
    note: str = ""
    read: ReadInfo = NO_READ


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSpan:
    """Command indexes of which a peer still knows the whole state, with the cluster time at both ends."""

    first_index: int = 0
    first_time_ms: int = 0
    last_index: int = 0
    last_time_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PastExplanation:
    """Message ``ExplainPastResponse``: what ``why`` would have said when command ``index`` had just been applied.

    ``known``: what the answering peer still knows, oldest first. A span that reaches ``read.index`` goes on.
    """

    groups: tuple[GroupExplanation, ...] = ()
    summary: str = ""
    index: int = 0
    time_ms: int = 0
    known: tuple[KnownSpan, ...] = ()
    read: ReadInfo = NO_READ
