"""How a job goes from one version to the next: the policy that users write, and where a rollout stands.

Owns: ``UpdateSpec``, ``Rollout`` and the two bounds. Leaves to others: the pace (``reconcile.rollouts``), the recheck
(``state.rollouts``). The bounds of a group of ``count`` instances, which hold at every instant as far as it is ours:

- ready instances never fall below ``count - unavailable``: nobody is told to stop whose going would break it;
- live ones never rise above ``count + surge``: what surges is a successor of an instance that still runs.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from orchestrator.contract.fields import later


class RolloutStatus(enum.IntEnum):
    RUNNING = 1
    PAUSED = 2
    SUCCEEDED = 3
    FAILED = 4


class RolloutAction(enum.IntEnum):
    PAUSE = 1
    RESUME = 2  # also tries again what failed
    PROMOTE = 3  # the canaries are good: go on with the others


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSpec:
    """``max_surge``, ``max_unavailable``: instances, or per cent of the count where ``*_percent`` is set. ``canaries``:
    so many first, and no more before somebody promotes them. ``min_ready_ms``: ready for so long counts as ready.
    ``progress_deadline_ms``: without a newly ready instance for so long the rollout has failed; 0: never."""

    max_surge: int = 0
    surge_percent: bool = False
    max_unavailable: int = 1
    unavailable_percent: bool = False
    canaries: int = 0
    min_ready_ms: int = 0
    progress_deadline_ms: int = 600_000
    auto_revert: bool = False


DEFAULT = UpdateSpec(progress_deadline_ms=0)
"""Of groups that say nothing: one at a time, stopped before it is replaced, without a deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """``version``: of the job that it brings; a count that changes meanwhile raises it. ``began_version``: the one that
    it began with. ``reverts``: the version that failed and is taken back by this one, 0 = none. ``progress_ms``,
    ``began_ms``: cluster time of the last newly ready instance, and of the begin. ``base_version``: the last one that
    was promoted, at which what is missing is placed while this one must not spread (``state.holding``); 0: there is
    none, or the rollout began before all peers knew of it."""

    version: int
    began_version: int
    status: RolloutStatus
    promoted: bool = True
    reverts: int = 0
    began_ms: int = 0
    progress_ms: int = 0
    reason: str = ""
    base_version: int = later(0)


def surge(update: UpdateSpec | None, count: int) -> int:
    """How many successors may live beside those that they replace; per cent are rounded up."""
    update = update or DEFAULT
    return -(-count * update.max_surge // 100) if update.surge_percent else update.max_surge


def unavailable(update: UpdateSpec | None, count: int) -> int:
    """How many of ``count`` need not be ready; per cent are rounded down, but if nothing may surge it is at least 1, or
    nothing could ever be replaced."""
    update = update or DEFAULT
    most = count * update.max_unavailable // 100 if update.unavailable_percent else update.max_unavailable
    return max(most, 0 if surge(update, count) else 1)
