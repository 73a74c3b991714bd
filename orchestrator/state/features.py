"""What all peers must understand before the state may go that way: the replicated feature level.

Owns: the levels. Leaves to others: raising it once every peer's Hello supports it (``leader.loop``, by
``SetFeatureLevel``), what depends on it. The rule: a rule of ``apply`` that a peer of before would judge otherwise asks
for a level, so logs of before mean what they meant, and a peer of before that is still there is waited for. 1: the
first version. 2: peers know configuration epochs (said in Hello alone; no rule asks for it).
"""

from __future__ import annotations

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
COUNTED_MOVES = 7
"""An instance moves while all others that are wanted run: neither those above the count nor a second attempt of one
stand in for another (``apply_moves``)."""
HIGHEST = COUNTED_MOVES
"""What this version supports."""
