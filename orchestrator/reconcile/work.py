"""What one round of reconciling found to do: the words that ``rounds`` writes and ``plan`` reads.

Owns: ``Ask``, ``Actions``, ``GroupWork``, ``Work``. The rule: values only; positions are places in the view's
``allocations``, slots are numbers of jobs and nodes in the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from orchestrator.state.commands import Int32Array, RolloutVerdict
from orchestrator.state.model import Job

Int64Array = npt.NDArray[np.int64]

NO_NODE = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ask:
    """Instances of one job group that need a node: ``ordinals[i]`` as attempt ``attempts[i]``, at the job's version
    (``job`` may be the record of a version before: ``table.Groups.bases``). ``at``: the place of the group in the spec
    of that version, where it is not ``group``, or -1.

    ``avoid``: slot of a node to use only when no other fits (the last start failed there, or it is
    being moved away), or NO_NODE. ``peers``: node
    slots of the group's live allocations, one each. ``last_node``: where the group's latest placement went, or NO_NODE.
    ``pinned``: a system job; instance ``ordinal`` belongs on the node with that slot and nowhere else. A gang has one
    ask: all of it, or (``on_failure: replace``) all that is missing of it. ``first``: successors of instances on
    draining nodes, which go only then: nobody is without a node if they get none.
    """

    job: Job
    group: int
    ordinals: Int32Array
    attempts: Int32Array
    avoid: int = NO_NODE
    peers: Int32Array
    last_node: int = NO_NODE
    pinned: bool = False
    first: bool = False
    at: int = -1

    def __len__(self) -> int:
        return len(self.ordinals)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Actions:
    """What happens to existing rows: ``positions`` in the view's allocations, ``actions`` (numbers of ``Action``) and
    ``reasons``, places in ``texts``. Losses come first, then stops, highest ordinals of a group first."""

    positions: Int64Array
    actions: Int32Array
    reasons: Int32Array
    texts: tuple[str, ...]
    by: Int32Array | None = None  # of evictions: the slot of the job that they make room for; -1 elsewhere

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(slots=True, kw_only=True)
class GroupWork:
    """What ``why`` wants to know of one group besides its asks.

    missing: to be placed now; waiting: in backoff until at least ``wake_at_ms``, ``waiting_at`` is the position of the
    next one; failed: stay failed, ``failed_at`` is the position of one of them; blocked: why nothing of the group is
    placed at all ("" = it is not); outdated: live instances of an older version; halted: why the rollout does not go on
    ("" = it does); held: what keeps instances on draining nodes ("" = nothing does); gang: why a gang of which members
    are missing is not placed ("" = it is); after: for which other groups it waits, or why it is skipped ("" = neither);
    skipped: it will never run; successors: asked for on behalf of drains (``Ask.first``); unpromoted: instances that
    wait until the version is promoted; seated: of a group that is held at the version before, how many instances are of
    the newer one, or on their way to it (``seats``).
    """

    missing: int = 0
    waiting: int = 0
    wake_at_ms: int = 0
    waiting_at: int = -1
    failed: int = 0
    failed_at: int = -1
    blocked: str = ""
    outdated: int = 0
    halted: str = ""
    held: str = ""
    gang: str = ""
    after: str = ""
    skipped: bool = False
    successors: int = 0
    unpromoted: int = 0
    seated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StopFirst:
    """What a drain does with a group of which no successor finds room: ``positions`` are told to stop now; ``held``:
    what keeps the others meanwhile ("" = their turn comes)."""

    positions: tuple[int, ...]
    held: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """``asks`` in the order in which they are served: priority, then first come first served. ``groups``: by (job slot,
    place in ``spec.groups``), only groups about which there is something to say. ``wake_at_ms``: the next deadline;
    ``verdicts``: rollouts that are over. ``instead``: by group, in place of its asks that are ``first``, if none of
    them finds room."""

    actions: Actions
    asks: tuple[Ask, ...]
    wake_at_ms: int | None
    groups: Mapping[tuple[int, int], GroupWork] = field(default_factory=dict)
    verdicts: tuple[RolloutVerdict, ...] = ()
    instead: Mapping[tuple[int, int], StopFirst] = field(default_factory=dict)
