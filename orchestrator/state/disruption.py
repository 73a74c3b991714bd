"""How many instances of a group may be down now because of us: the one owner of that question.

Owns: what a budget (``JobSpec.disruption``) allows of a group as it stands. Leaves to others: who goes down (``pace`` for
drains, ``scheduling.preempt``, rebalancing), rechecking it at commit (``apply_plan``). The rules:

- An instance is up while it is meant to run, was seen running, and its node is not lost. Whatever else is wanted of the
  group is down, whoever's fault it is: a budget is about what users still have.
- At most ``max_unavailable`` may be down at once. Per cent are of the wanted instances, rounded down, but at least one
  unless it says 0: a budget that blocks for ever must be meant.
- A job without a budget has none here: drains then go one at a time (``pace``), preemption has no bound.
- What a rollout replaces is not counted against the budget beforehand; while its instances are down they are down.
- Instances of a batch job that are complete are not wanted any more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import AllocState, Desired, Disruption

BOUNDLESS = 2**31 - 1
"""What may go down of a group without a budget."""

BoolArray = npt.NDArray[np.bool_]


def is_up(state: npt.NDArray[np.int8], desired: npt.NDArray[np.int8], node_lost: BoolArray) -> BoolArray:
    """bool per newest attempt of an instance: users have it."""
    up: BoolArray = (state == int(AllocState.RUNNING)) & (desired == int(Desired.RUN)) & ~node_lost
    return up


def most_down(budget: Disruption, wanted: int) -> int:
    """How many of ``wanted`` instances may be down at once."""
    if not budget.percent:
        return max(0, budget.max_unavailable)
    if budget.max_unavailable <= 0:
        return 0
    return max(1, wanted * budget.max_unavailable // 100)


def may_go_down(budget: Disruption | None, *, wanted: int, up: int) -> int:
    """How many of a group's instances that are up may be taken down now."""
    if budget is None:
        return BOUNDLESS
    return max(0, most_down(budget, wanted) - max(0, wanted - up))


def describe(budget: Disruption | None, *, wanted: int, up: int) -> str:
    """``1 of 4 may be down, 1 is``."""
    if budget is None:
        return "any number may be down"
    return f"{most_down(budget, wanted)} of {wanted} may be down, {max(0, wanted - up)} {'is' if wanted - up == 1 else 'are'}"
