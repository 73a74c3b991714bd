"""What decides beside room and suitability: affinities, spreading, locality of data and taints that only discourage.

Owns: the formula, and the hard conditions that change with every placement. Leaves to others: what fits (``filters``),
which of equally preferred nodes (``policies``), going through the instances (``preferring``).

The formula, in whole numbers. Each preference has a weight (-100 to 100) and a degree to which a node satisfies it, in
millionths; the node's preference is the sum of weight * degree:

- affinity to a constraint: 1,000,000 where it holds, else 0;
- affinity to instances: with c of them on the nodes of the same topology value, 1,000,000 * c // (c + 1), so that a
  second one still counts, but less; 0 where the node has no such value;
- spreading that is not required: 1,000,000 where one more keeps the skew; with e beyond it, 1,000,000 // (1 + e); 0
  where the node has no such value;
- locality: 1,000,000 * n // m with n of the group's m images and datasets there;
- every PreferNoSchedule taint that is not tolerated: -100 * 1,000,000.

Among the nodes that fit, those with the highest preference are left, and the placement policy chooses between them as
if there were no others. So weights are compared with weights alone and every policy, also one that does not score but
goes round, means with preferences what it means without.

Skew: the count of the group's instances in one value's nodes, less the least count of any value. Values count that have
a suitable node: one whose nodes are all lost or cordoned does not keep the others from filling up.
"""

from __future__ import annotations

import numpy as np

from orchestrator.contract.constraints import describe
from orchestrator.contract.model import Affinity, Spread
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wanted import Preferences
from orchestrator.scheduling.wish import BoolArray, Int64Array, Wish

DEGREE = 1_000_000
SOFT_TAINT = 100 * DEGREE


# ---------------------------------------------------------------------------- what does not change in a round


def steady(problem: Problem, wish: Wish) -> Int64Array:
    """int64 per node: the part of the preference that no placement changes."""
    score = -SOFT_TAINT * problem.discouraged(wish.tolerations)
    wanted = wish.preferences
    if wanted is None:
        return score
    for one in wanted.affinity:
        if one.constraint is not None and not one.required:
            score += one.weight * DEGREE * problem.labels.mask(one.constraint)
    things = len(wanted.images) + len(wanted.datasets)
    if wanted.locality and things:
        score += wanted.locality * (DEGREE * problem.holdings.present(wanted.images, wanted.datasets) // things)
    return score


def standing(problem: Problem, wish: Wish) -> Int64Array:
    """int64 per node: the part of the preference that is as it is wherever the group's own instances go."""
    score = steady(problem, wish)
    wanted = wish.preferences
    for one in wanted.affinity if wanted is not None else ():
        if wanted is not None and one.constraint is None and not one.required and not is_own(wanted, one):
            near = together(problem, wanted, one)
            score += one.weight * (DEGREE * near // (near + 1))
    return score


def is_own(wanted: Preferences, one: Affinity) -> bool:
    """Whether an affinity speaks of the group's own instances, too."""
    return one.job in ("", wanted.job) and group_of(wanted, one) in ("", wanted.group)


# ---------------------------------------------------------------------------- what changes


def moving(
    problem: Problem, wish: Wish, suitable: BoolArray, staying: Int64Array | None = None
) -> tuple[Int64Array, BoolArray]:
    """int64 and bool per node, as of now: the rest of the preference, and where one more instance is allowed at all.

    ``staying``: int64 per node, the group's instances that will still be there once whoever gets a successor has gone;
    all live ones if unsaid. What is preferred looks at these, or a rollout would lean to the nodes that it empties
    last; what is required holds at every moment, and looks at all.
    """
    score = np.zeros(len(problem.nodes), dtype=np.int64)
    allowed = np.ones(len(problem.nodes), dtype=np.bool_)
    wanted = wish.preferences
    if wanted is None:
        return score, allowed
    for one in wanted.affinity:
        if one.constraint is not None:
            continue
        if one.required:
            allowed &= permitted(problem, wanted, one, together(problem, wanted, one))
        else:
            near = together(problem, wanted, one, staying)
            score += one.weight * (DEGREE * near // (near + 1))
    for spread in wanted.spread:
        after, has = skew_after(problem, wanted, spread, suitable, None if spread.required else staying)
        if spread.required:
            allowed &= has & (after <= spread.max_skew)
        else:
            score += spread.weight * np.where(has, DEGREE // (1 + np.maximum(after - spread.max_skew, 0)), 0)
    return score, allowed


def together(problem: Problem, wanted: Preferences, one: Affinity, staying: Int64Array | None = None) -> Int64Array:
    """int64 per node: instances that the affinity speaks of, on nodes with the same topology value (0 without one).
    ``staying`` takes the place of the group's own, where it speaks of these alone."""
    job, group = one.job or wanted.job, group_of(wanted, one)
    if staying is not None and (job, group) == (wanted.job, wanted.group):
        counts = staying
    else:
        counts = problem.presence.counts(wanted.namespace, job, group)
    codes, values = problem.labels.column(one.topology)
    if not len(codes):
        return counts
    sums = counts if len(values) == len(codes) else _sums(codes, values, counts)[codes]  # each node a value of its own
    near: Int64Array = np.where(problem.labels.has(one.topology), sums, 0)
    return near


def permitted(problem: Problem, wanted: Preferences, one: Affinity, near: Int64Array) -> BoolArray:
    """bool per node, of a required affinity. The first instance of a group that wants to be with itself may go
    anywhere: somebody has to begin."""
    if one.weight < 0:
        away: BoolArray = near == 0
        return away
    own = one.job in ("", wanted.job) and one.group in ("", wanted.group)
    if own and not int(problem.presence.counts(wanted.namespace, wanted.job, group_of(wanted, one)).sum()):
        return problem.labels.has(one.topology)
    there: BoolArray = near > 0
    return there


def skew_after(
    problem: Problem, wanted: Preferences, spread: Spread, suitable: BoolArray, staying: Int64Array | None = None
) -> tuple[Int64Array, BoolArray]:
    """int64 per node: the skew of its value once one more instance is there; bool: whether it has a value.
    ``staying``: as in ``moving``."""
    counts = problem.presence.counts(wanted.namespace, wanted.job, wanted.group) if staying is None else staying
    codes, values = problem.labels.column(spread.attribute)
    has = problem.labels.has(spread.attribute)
    if not len(codes):
        return counts, has
    sums = _sums(codes, values, counts)
    taking = np.zeros(len(values), dtype=np.bool_)
    taking[codes[suitable & has]] = True
    least = int(sums[taking].min()) if taking.any() else 0
    after: Int64Array = sums[codes] + 1 - least
    return after, has


def _sums(codes: Int64Array, values: list[str | None], counts: Int64Array) -> Int64Array:
    """int64 per value; exact, for a float64 holds whole numbers up to 2^53."""
    sums: Int64Array = np.bincount(codes, weights=counts, minlength=len(values)).astype(np.int64)
    return sums


def group_of(wanted: Preferences, one: Affinity) -> str:
    """The group that an affinity speaks of; "" is all of its job's."""
    return one.group if one.job or one.group else wanted.group


# ---------------------------------------------------------------------------- words


DISTINCT_HOSTS = "not on the same node as its own instances"
"""How ``describe_affinity`` says what ``distinct_hosts: true`` means; a job file may have written either."""


def describe_affinity(one: Affinity) -> str:
    """``not on a node with web``, ``same node.rack as db/main``."""
    if one.constraint is not None:
        return describe(one.constraint)
    whom = f"{one.job}{f'/{one.group}' if one.group else ''}" if one.job else one.group or "its own instances"
    if one.topology == "node.id":
        return f"{'not ' if one.weight < 0 else ''}on the same node as {whom}"
    return f"{'another' if one.weight < 0 else 'the same'} {one.topology} as {whom}"


def describe_spread(spread: Spread) -> str:
    """``spread over node.zone with max_skew 1``."""
    return f"spread over {spread.attribute} with max_skew {spread.max_skew}"


def disallowed(problem: Problem, wish: Wish, suitable: BoolArray) -> dict[int, tuple[str, str, str]]:
    """The nodes that a changing condition rules out, each with the first one: (kind, key, text)."""
    found: dict[int, tuple[str, str, str]] = {}
    wanted = wish.preferences
    if wanted is None:
        return found
    for one in wanted.affinity:
        if one.constraint is None and one.required:
            near = together(problem, wanted, one)
            said = describe_affinity(one)
            for node in np.flatnonzero(~permitted(problem, wanted, one, near)).tolist():
                found.setdefault(node, ("affinity", said, f"{said}: {int(near[node])} there"))
    for spread in wanted.spread:
        if not spread.required:
            continue
        after, has = skew_after(problem, wanted, spread, suitable)
        key = describe_spread(spread)
        said = key.removeprefix("spread ")
        for node in np.flatnonzero(~has).tolist():
            found.setdefault(node, ("spread", f"{key}: missing", f"{said}: it has no {spread.attribute}"))
        for node in np.flatnonzero(has & (after > spread.max_skew)).tolist():
            found.setdefault(node, ("spread", key, f"{said}: one more there would make it {int(after[node])}"))
    return found
