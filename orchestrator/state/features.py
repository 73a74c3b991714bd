"""What all peers must understand before the state may go that way: the replicated feature level.

Owns: the levels. Leaves to others: raising it once every peer's Hello supports it (``leader.loop``, by
``SetFeatureLevel``), what depends on it. The rule: a rule of ``apply`` that a peer of before would judge otherwise asks
for a level, so logs of before mean what they meant, and a peer of before that is still there is waited for. 1: the
first version. 2: peers know configuration epochs (said in Hello alone; no rule asks for it).
"""

from __future__ import annotations

from orchestrator.contract.model import JobSpec

LAST_WITHOUT_RULES = 2
"""Up to here nothing depends on the replicated level, so nobody writes it."""
SURGING_DRAINS = 3
"""An instance on a draining node may get a successor of the same version before it stops (``rollouts``)."""
CHECKED_CHANGES = 3
"""A change of the peers says which disks it saw admitted (``peers``)."""
OWNED_DEVICES = 4
"""A GPU that a ready node has is nobody else's (``apply_nodes``)."""
PAUSED_PROMOTIONS = 4
"""Canaries that are promoted while their rollout is paused leave it paused (``apply_rollouts``)."""
BUDGETED_DRAINS = 5
"""Whom a drain tells to stop is held against its disruption budget again at commit (``apply_plan``)."""
TMPFS_OWNERS = 6
"""A job's tmpfs may have a mode and an owner, which a peer of before would drop (``too_new``)."""
HELD_VERSIONS = 7
"""A version that waits for its promotion, is paused or has failed does not spread: what is missing is placed at the one
before (``holding``); going back to a version changes sizes in place (``apply_rollouts``)."""
COUNTED_MOVES = 8
"""An instance moves while all others that are wanted run: neither those above the count nor a second attempt of one
stand in for another (``apply_moves``)."""
PACKED_ENTRIES = 9
"""Peers read large entries of the log packed (``replication.batches``)."""
SAME_CONTENT = 10
"""What is complete at an older version with the content of now is done for quotas, budgets and gangs as well
(``versions.counted``); before, it was so for the leader alone."""
TOLD_REBOOTS = 11
"""An event says that a node's machine was started anew (``apply_nodes``)."""
RESIZED_TWINS = 12
"""What still runs an older version with the content of now is given other sizes in place, too (``resize``), and the
digests that a version's canaries settled stay when the others become of it (``images``)."""
HIGHEST = RESIZED_TWINS
"""What this version supports."""
LIMIT = 1_000_000
"""No level is above; a command that names one is malformed."""


def beyond(level: int) -> str:
    """Why this version must not go on with a state of that level, for it would judge otherwise than the other peers;
    "" if it may."""
    if not HIGHEST < level <= LIMIT:
        return ""
    return (
        f"the cluster's feature level is {level}, this version of raftsman knows up to {HIGHEST}: "
        "start the newer version on this data directory (a cluster that was upgraded does not go back)"
    )


def too_new(spec: JobSpec, level: int) -> str:
    """What of the job a peer of a version that the level allows would drop, and so no longer have the same state; ""
    if nothing."""
    if level >= TMPFS_OWNERS:
        return ""
    for group in spec.groups:
        for task in group.tasks:
            mounts = task.container.tmpfs if task.container is not None else ()
            if any(mount.mode or mount.uid or mount.gid for mount in mounts):
                return f"group {group.name!r}, task {task.name!r}: a tmpfs with mode, uid or gid"
    return ""
