"""What quotas leave of the asks of system jobs, which grow by being placed and not by being submitted.

Owns: how many of their instances may be placed now, and saying why no more. Leaves to others: the comparison
(``state.quota``), every other job, whose quota was checked when it was submitted. The rule: what is asked for here is
what ``state.apply_plan`` takes, so that no round proposes what would be refused; and what finds no room takes nothing
of a quota, which others may use meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.contract.model import Usage
from orchestrator.reconcile.work import Ask
from orchestrator.state import quota
from orchestrator.state.usage import RESOURCES, add, of_instance
from orchestrator.state.views import ClusterView


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """``asks``: those of which any may be placed; ``most``: by place in them, how many, where that is not all;
    ``said``: by (job slot, place in ``spec.groups``), how many instances wait for the quota, and what it says."""

    asks: tuple[Ask, ...]
    most: Mapping[int, int]
    said: Mapping[tuple[int, int], tuple[int, str]]


def within_quota(
    view: ClusterView, asks: Sequence[Ask], no_room: Mapping[tuple[int, int], int] | None = None
) -> Allowed:
    """In order of service: who comes first gets what the quota has left. ``no_room``: by (job slot, place in
    ``spec.groups``), how many instances are known to find no room: they are asked for, and take nothing."""
    if not any(ask.pinned and ask.job.spec.namespace in view.namespaces for ask in asks):
        return Allowed(asks=tuple(asks), most={}, said={})
    kept: list[Ask] = []
    most: dict[int, int] = {}
    said: dict[tuple[int, int], tuple[int, str]] = {}
    used = dict(view.usage)
    for ask in asks:
        spec = ask.job.spec
        known = view.namespaces.get(spec.namespace)
        if not ask.pinned or known is None:
            kept.append(ask)
            continue
        one = of_instance(spec.groups[ask.group])
        have = used.get(spec.namespace, Usage())
        fits, resource = quota.times_that_fit(known.quota, have, one, len(ask))
        takes = min(fits, len(ask) - (no_room or {}).get((ask.job.slot, ask.group), 0))
        used[spec.namespace] = add(have, Usage(**{name: takes * getattr(one, name) for name in RESOURCES}))
        if resource:
            words = quota.in_use(known.quota, have, resource, spec.namespace)
            said[(ask.job.slot, ask.group)] = len(ask) - fits, words  # the group's only ask: its instances are pinned
        if fits and fits < len(ask):
            most[len(kept)] = fits
        if fits:
            kept.append(ask)
    return Allowed(asks=tuple(kept), most=most, said=said)
