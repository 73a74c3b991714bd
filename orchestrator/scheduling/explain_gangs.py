"""Why a gang has no place: the domain that comes closest and how many of it are missing there.

Owns: these words. Leaves to others: why single nodes take no more of it (``explain``), choosing (``gangs``). The rule:
numbers are of instances, judged at the end of the round as everything that is explained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from orchestrator.contract.model import GangDomain
from orchestrator.scheduling import gangs
from orchestrator.scheduling.explain import Reasons, explain_wish
from orchestrator.scheduling.neighbours import required
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import Ask, Wish


@contextmanager
def given_back(problem: Problem, number: int) -> Iterator[list[str]]:
    """Meanwhile nothing is kept for this gang: that is what it finds. Gives the names of the nodes that were kept; they
    are again afterwards, for whoever else is explained is kept off them. ``number``: of the gang in
    ``problem.held_for``."""
    kept = np.flatnonzero(problem.held_for == number)
    problem.held_for[kept] = -1
    problem.presence.forget_verdicts()
    try:
        yield [problem.nodes[node].spec.name for node in kept.tolist()]
    finally:
        problem.held_for[kept] = number
        problem.presence.forget_verdicts()


def explain_gang(problem: Problem, wish: Wish, ask: Ask, kept: Sequence[str]) -> Reasons:
    """While what is kept for the gang is ``given_back``; ``kept``: names of these nodes."""
    assert wish.gang is not None, "the caller has seen that it is a gang"
    wanted = len(ask.ordinals)
    closest = gangs.nearest(problem, wish, ask.peers, wanted)
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
