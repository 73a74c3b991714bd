"""A round's asks served in order, and room made for those that find none.

Owns: when room is made and held between one ask and the next. Leaves to others: placing (``solve``), making room
(``preempt``, ``preempt_gangs``). The rule: whoever waits for room is served before whoever comes later in the order, so
what it waits for is held from them; a round in which nobody can wait or evict costs one look more than ``solve`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.contract.model import Desired
from orchestrator.scheduling import preempt_gangs, registry
from orchestrator.scheduling.placements import Placements
from orchestrator.scheduling.preempt import Preemption
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import ENDLESS, solve
from orchestrator.scheduling.waits import Eviction, Wait
from orchestrator.scheduling.wish import Ask, BoolArray, Int64Array, Wish, wish_of
from orchestrator.state.views import ClusterView

ASKS_MAX = 64
"""Asks for which room is made in one round; the others come next once these have it. Whoever could not be helped by
evicting everybody lower does not count."""
INSTANCES_MAX = 128
"""Instances for which room is made in one round, for it must stay short; the next one follows at once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """``problem`` as it is after everything, None where nothing was asked; ``waits``: by (job slot, place in
    ``spec.groups``)."""

    problem: Problem | None
    placements: Placements
    evictions: Sequence[Eviction] = ()
    waits: Mapping[tuple[int, int], Wait]


def serve(
    view: ClusterView,
    asks: Sequence[Ask],
    *,
    given_up: Int64Array,
    stopping: Int64Array,
    without_room: Collection[int] = (),
    steps_max: int = ENDLESS,
    fresh: Callable[[], Problem] | None = None,
) -> Served:
    """``given_up``: positions that this round declares lost; ``stopping``: that it tells to stop; ``without_room``:
    asks for which no room is made; ``steps_max``: as for ``solve``; ``fresh`` makes the problem, if it can be had for
    less than by making it anew.

    A view of some jobs alone does not show whom to evict: nobody is, and who is without a place looks at everything.
    """
    if not asks:  # most rounds of a cluster that is at rest: nobody needs the nodes as arrays
        return Served(problem=None, placements=Placements(0), waits={})
    problem = fresh() if fresh is not None else Problem(view, given_up)
    placements = solve(problem, asks, steps_max=steps_max)
    if view.held is not None:
        return Served(problem=problem, placements=placements, waits={})
    short = [index for index, count in enumerate(placements.unplaced) if count and index not in without_room]
    columns = view.allocations
    live = columns.live
    live[given_up] = False
    leaves = live & (columns.desired == Desired.STOP)
    leaves[stopping] = True
    leaving = np.flatnonzero(leaves)
    if not short or not (len(leaving) or _lower(view, asks, short, live & ~leaves)):
        return Served(problem=problem, placements=placements, waits={})

    problem = fresh() if fresh is not None else Problem(view, given_up)
    preemption = Preemption(view, problem, leaving)
    start = 0
    served = _Serving(problem, asks, preemption, without_room, steps_max)
    for index in short:
        if preemption.instances >= INSTANCES_MAX or served.left <= 0 or len(served.parts) >= ASKS_MAX:
            break
        if index < start or not preemption.is_worth_trying(asks[index], _wish(asks[index], problem)):
            continue
        served.part(start, index + 1)
        start = index + 1
    if start < len(asks) and served.left > 0:
        served.part(start, len(asks))
        start = len(asks)
    placements = _join(len(asks), served.parts)
    placements.more |= start < len(asks)
    return Served(
        problem=problem,
        placements=placements,
        evictions=preemption.evictions,
        waits=preemption.waits,
    )


def _lower(view: ClusterView, asks: Sequence[Ask], short: Sequence[int], running: BoolArray) -> bool:
    """Whether anything runs that some ask without room might have evicted."""
    if not view.settings.preemption:
        return False
    highest = max(asks[index].job.spec.priority for index in short)
    slots = np.unique(view.allocations.job[running]).tolist()
    return any(
        job.spec.priority < highest and not job.spec.unpreemptible
        for slot in slots
        if (job := view.jobs_by_slot.get(slot)) is not None
    )


def _wish(ask: Ask, problem: Problem) -> Wish:
    spec = ask.job.spec
    return wish_of(spec, spec.groups[ask.group], policy=registry.chooser(problem.default_placement))


class _Serving:
    """One ask after the other, on what those before left. ``left``: steps that this round may still take."""

    def __init__(
        self,
        problem: Problem,
        asks: Sequence[Ask],
        preemption: Preemption,
        without_room: Collection[int],
        steps_max: int,
    ) -> None:
        self._problem = problem
        self._asks = asks
        self._preemption = preemption
        self._without_room = without_room
        self.left = steps_max
        self.parts: list[tuple[int, Placements]] = []

    def part(self, start: int, end: int) -> None:
        """Place these asks, then make room for those of them that are short."""
        asks, preemption = self._asks, self._preemption
        part = _solve_part(self._problem, asks, start, end, self.left)
        self.left = 0 if part.more else self.left - len(part)
        self.parts.append((start, part))
        preemption.look_again()
        for at, count in enumerate(part.unplaced):
            ask = asks[start + at]
            if not count or start + at in self._without_room:
                continue
            if preemption.asks >= ASKS_MAX or preemption.instances >= INSTANCES_MAX:
                break
            wish = _wish(ask, self._problem)
            if not preemption.is_worth_trying(ask, wish):
                continue
            places = without_node(part, at, len(ask.ordinals))
            if wish.gang is None:
                preemption.make_room(ask, wish, places[:INSTANCES_MAX])
            else:
                preempt_gangs.make_room(preemption, ask, wish, places, start + at)


def _solve_part(problem: Problem, asks: Sequence[Ask], start: int, end: int, steps_max: int) -> Placements:
    """``solve`` numbers the gangs that nodes are kept for by their place among the asks that it is given: meanwhile
    those of other parts stand beyond all of these numbers."""
    beyond = len(asks)
    _number_gangs(problem, beyond)
    part = solve(problem, asks[start:end], steps_max=steps_max)
    new = [number for number in problem.waiting if number < beyond]
    for number in new:
        problem.held_for[problem.held_for == number] = beyond + start + number
        problem.waiting[beyond + start + number] = problem.waiting.pop(number)
    _number_gangs(problem, -beyond)
    return part


def _number_gangs(problem: Problem, by: int) -> None:
    problem.held_for[problem.held_for >= 0] += by
    waiting = {number + by: name for number, name in problem.waiting.items()}
    problem.waiting.clear()
    problem.waiting.update(waiting)


def without_node(part: Placements, ask: int, instances: int) -> list[int]:
    """The places in an ask's ordinals that got no node."""
    of = np.frombuffer(part.ask, dtype=np.int32)
    placed = set(np.frombuffer(part.at, dtype=np.int32)[of == ask].tolist())
    return [place for place in range(instances) if place not in placed]


def _join(asks: int, parts: Sequence[tuple[int, Placements]]) -> Placements:
    """The parts as one; each began with the ask of that number."""
    whole = Placements(asks)
    for start, part in parts:
        whole.ask.frombytes((np.frombuffer(part.ask, dtype=np.int32) + np.int32(start)).tobytes())
        offset = len(whole.ports)
        whole.port_offsets.extend([offset + end for end in part.port_offsets[1:]])
        for name in ("at", "node", "device_mask", "gpu_millis", "ports"):
            getattr(whole, name).extend(getattr(part, name))
        whole.unplaced[start : start + len(part.unplaced)] = part.unplaced
        whole.more |= part.more
    return whole


def only(placements: Placements, rows: Int64Array) -> Placements:
    """Some of the rows, in their order; ``unplaced`` stays."""
    kept = Placements(len(placements.unplaced))
    kept.unplaced = list(placements.unplaced)
    kept.more = placements.more
    for row in rows.tolist():
        first, last = placements.port_offsets[row], placements.port_offsets[row + 1]
        kept.add(
            placements.ask[row],
            placements.at[row],
            placements.node[row],
            placements.device_mask[row],
            placements.gpu_millis[row],
            tuple(placements.ports[first:last]),
        )
    return kept
