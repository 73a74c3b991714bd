"""Why a gang has no place: the domain that comes closest and how many of it are missing there.

Owns: these words. Leaves to others: why single nodes take no more of it (``explain``), choosing (``gangs``). The rule:
numbers are of instances, judged at the end of the round as everything that is explained.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.contract.model import GangDomain
from orchestrator.scheduling import gangs
from orchestrator.scheduling.explain import Reasons, explain_wish
from orchestrator.scheduling.neighbours import required
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import Ask, Wish


def explain_gang(problem: Problem, wish: Wish, ask: Ask, number: int) -> Reasons:
    """``number``: the gang's own among those that wait (``problem.held_for``)."""
    assert wish.gang is not None, "the caller has seen that it is a gang"
    wanted = len(ask.ordinals)
    closest = gangs.nearest(problem, wish, ask.peers, number, wanted)
    kept = [problem.nodes[node].spec.name for node in range(len(problem)) if problem.held_for[node] == number]
    problem.held_for[problem.held_for == number] = -1
    reasons = explain_wish(problem, wish)
    scope = "" if wish.gang.domain is GangDomain.CLUSTER else f" in one {wish.gang.domain.name.lower()}"
    scope += "".join(f", {said}" for said in required(wish))
    if closest is None:
        found = f"all {wanted} together{scope}: no node takes any"
        near = reasons.nearest
    else:
        fits = min(closest.fits, wanted)
        where = (
            "the cluster" if closest.domain is GangDomain.CLUSTER else f"{closest.domain.name.lower()} {closest.name}"
        )
        found = f"all {wanted} together{scope}: {where} takes {fits}, {wanted - fits} are missing"
        near = f"{where}: {fits} of {wanted} fit"
        if fits >= wanted:
            found = f"all {wanted} together{scope}: {where} takes them, but not so close together"
    summary = "; ".join(text for text in (found, reasons.summary if reasons.rejections else "") if text)
    hint = reasons.hint
    if kept:
        hint = f"waits for {len(kept)} node(s) that are kept for it to empty ({', '.join(kept[:5])}); {hint}".rstrip(
            "; "
        )
    elif not hint or reasons.fits:
        hint = f"stop something, ask for fewer than {wanted}, allow a larger gang.domain, or add nodes"
    return replace(reasons, summary=summary, nearest=near, hint=hint)
