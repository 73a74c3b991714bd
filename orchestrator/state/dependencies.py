"""Groups of a batch job that come after others: whose turn it is, who waits, and who will never run.

Owns: this judgement, for planning, status and quotas alike. Leaves to others: counting instances. The rules: a group's
turn comes when all instances of the groups before it have ended as it asks. ``success``: all are complete; once one of
them has failed for good, or its group was skipped, this group is skipped. ``any``: all have ended, however; a group
that was skipped has ended. A group of no instances is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.contract.batch import AfterCondition
from orchestrator.contract.model import GroupSpec


@dataclass(frozen=True, slots=True)
class Turn:
    """``text``: for what the group waits, or why it is skipped; "" = it is its turn."""

    text: str = ""
    skipped: bool = False


NOW = Turn()


def judge(groups: Sequence[GroupSpec], ended: Sequence[tuple[int, int]]) -> list[Turn]:
    """One per group. ``ended``: of each, how many instances are complete, and how many have failed for good."""
    if not any(group.after for group in groups):
        return [NOW] * len(groups)
    place_of = {group.name: place for place, group in enumerate(groups)}
    found: dict[int, Turn] = {}
    for place in order(groups):
        found[place] = _turn(groups, ended, place_of, found, place)
    return [found.get(place, NOW) for place in range(len(groups))]


def _turn(
    groups: Sequence[GroupSpec],
    ended: Sequence[tuple[int, int]],
    place_of: dict[str, int],
    found: dict[int, Turn],
    place: int,
) -> Turn:
    waits = []
    for after in groups[place].after:
        before = place_of.get(after.group)
        if before is None:
            continue
        complete, failed = ended[before]
        count = groups[before].count
        skipped = found[before].skipped
        if after.condition is AfterCondition.SUCCESS:
            if skipped:
                return Turn(f"group {after.group}, which it comes after, was skipped", skipped=True)
            if failed:
                which = f" ({failed} of {count} instances)" if count > 1 else ""
                return Turn(f"group {after.group}, which it comes after, failed for good{which}", skipped=True)
            if complete < count:
                waits.append(f"group {after.group} to complete ({complete} of {count} have)")
        elif not skipped and complete + failed < count:
            waits.append(f"group {after.group} to end ({complete + failed} of {count} have)")
    return Turn(f"waits for {' and '.join(waits)}") if waits else NOW


def order(groups: Sequence[GroupSpec]) -> list[int]:
    """Places such that each group stands behind those that it comes after; who is in a circle is left out."""
    place_of = {group.name: place for place, group in enumerate(groups)}
    missing = [{place_of[one.group] for one in group.after if one.group in place_of} for group in groups]
    done: list[int] = []
    known: set[int] = set()
    while True:
        ready = [place for place in range(len(groups)) if place not in known and missing[place] <= known]
        if not ready:
            return done
        done += ready
        known.update(ready)


def order_problem(groups: Sequence[GroupSpec]) -> bool:
    """Whether some group can never have its turn: a circle, or a name that no group has."""
    names = {group.name for group in groups}
    return len(order(groups)) < len(groups) or any(one.group not in names for group in groups for one in group.after)
