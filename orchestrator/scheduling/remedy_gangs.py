"""The smallest change that would place a waiting gang, all of it: found by trying, one kind of change after the other.

Owns: which changes are tried, and in which amounts. Leaves to others: whether a gang has a place (``gangs.place``),
words and costs (``remedy_steps``). The rules:

- A remedy is told only if ``gangs.place`` has placed the whole gang after it, on what is free now.
- It is of one kind: a wider domain, fewer instances, less of one resource for each, other GPUs, constraints left out,
  taints tolerated, affinities and spreads made preferences, other host ports, nodes opened, nodes brought back, drivers
  given to agents. Of amounts the largest that does is taken, found by halving; of conditions and nodes as few as do.
- Of a gang of which some members run, or are done, only changes of nodes are tried: another job would be another
  version, of which all members would have to be placed.
- Most trials end at a look at how often the wish fits on each node. How many go on to placing is bounded by ``EFFORT``;
  after that nothing more is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.contract.answers import RemedyStep
from orchestrator.contract.constraints import describe
from orchestrator.contract.model import Affinity, DeviceRequest, GangDomain, NodeStatus, Spread, Taint, Toleration
from orchestrator.contract.taints import describe as describe_taint
from orchestrator.contract.taints import repelling
from orchestrator.scheduling import gangs
from orchestrator.scheduling import remedy_steps as steps
from orchestrator.scheduling.domains import numbered
from orchestrator.scheduling.filters import suitable
from orchestrator.scheduling.preferences import describe_affinity, describe_spread
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.remedy_steps import STEPS_MAX, Remedy
from orchestrator.scheduling.wish import Ask, BoolArray, Int64Array, Wish
from orchestrator.state.commands import Int32Array
from orchestrator.state.model import Job

COST_WIDER = 0.25
"""Of a domain one size larger: from the smallest to the largest that is a condition given up."""
EFFORT = 400_000
"""Nodes to look at in all trials that go on to placing."""
TRIES_MIN = 24
PLACES_MAX = 8
"""Of one kind of change to nodes, so many places are tried, the cheapest first."""
NAMED_MAX = 5

_Option = tuple[tuple[float, RemedyStep], Callable[[Wish], Wish]]
_Amount = tuple[int, int, Callable[[int], Wish], Callable[[int], tuple[float, RemedyStep]]]
"""The least and what is wanted of something; the wish with so much of it, and what is said of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Members:
    """``Ask``, of another number of instances."""

    job: Job
    group: int
    ordinals: Int32Array
    attempts: Int32Array
    avoid: int
    peers: Int32Array
    last_node: int
    pinned: bool


def smallest_change_for_gang(problem: Problem, wish: Wish, ask: Ask) -> Remedy | None:
    """On what is free in ``problem`` now, which is left as it is and in which nothing is kept for this gang; None: no
    single kind of change does."""
    trials = _Trials(problem, wish, ask)
    whole = len(ask.ordinals) == ask.job.spec.groups[ask.group].count and not len(ask.peers)
    best: Remedy | None = None
    for kind in (*(_OF_JOBS if whole else ()), *_OF_NODES):
        found = kind(trials, best.cost if best is not None else float("inf"))
        if found is not None and (best is None or found.cost < best.cost):
            best = found
    return best


class _Trials:
    def __init__(self, problem: Problem, wish: Wish, ask: Ask) -> None:
        assert wish.gang is not None, "the caller has seen that it is a gang"
        self.problem, self.wish, self.gang = problem, wish, wish.gang
        self.wanted = len(ask.ordinals)
        self.least = steps.least(len(ask.job.spec.groups[ask.group].tasks))
        self.where = {domain: numbered(problem.nodes, domain)[0] for domain in gangs.LARGER}
        self._ask = ask
        self._left = max(TRIES_MIN, EFFORT // max(len(problem), 1))

    def places(self, wish: Wish, wanted: int = -1, is_open: BoolArray | None = None) -> list[int]:
        """The nodes of the gang after a change, by number; [] = it has no place. ``is_open``: instead of the
        problem's."""
        wanted = self.wanted if wanted < 0 else wanted
        problem = self.problem
        with _open(problem, problem.open if is_open is None else is_open):
            if not self._may_fit(wish, wanted) or self._left <= 0:
                return []
            self._left -= 1
            ask = self._ask
            members = _Members(
                job=ask.job,
                group=ask.group,
                ordinals=ask.ordinals[:wanted],
                attempts=ask.attempts[:wanted],
                avoid=ask.avoid,
                peers=ask.peers,
                last_node=ask.last_node,
                pinned=ask.pinned,
            )
            with _left_as_it_is(problem, wish):
                found = gangs.place(problem, wish, members)
        return list(dict.fromkeys(node for node, _, _ in found)) if found is not None else []

    def times(self, wish: Wish, wanted: int) -> Int64Array:
        """int64 per node: how many fit one after the other, at most as many as are wanted."""
        return np.minimum(gangs.room_for_members(self.problem, wish, suitable(self.problem, wish))[0], wanted)

    def sizes(self, wish: Wish) -> list[GangDomain]:
        """The sizes of domains by which room can be counted: an island is part of a node."""
        assert wish.gang is not None, "the wish of a gang"
        largest = max(wish.gang.domain, GangDomain.NODE)
        return [domain for domain in gangs.LARGER if domain <= largest]

    def _may_fit(self, wish: Wish, wanted: int) -> bool:
        """False: it certainly does not; for less than placing costs."""
        times = self.times(wish, wanted)
        # Not the largest alone: a rack may be in no zone.
        return any(
            bool((np.bincount(self.where[size], weights=times, minlength=1) >= wanted).any())
            for size in self.sizes(wish)
        )

    def remedy(self, nodes: Sequence[int], *made: tuple[float, RemedyStep]) -> Remedy:
        names = [self.problem.nodes[node].spec.name for node in nodes]
        more = len(names) - NAMED_MAX
        where = ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
        return Remedy(steps=tuple(step for _, step in made), node=where, cost=sum(cost for cost, _ in made))


@contextmanager
def _open(problem: Problem, is_open: BoolArray) -> Iterator[None]:
    """Meanwhile these nodes are ready and open, and no others."""
    before, problem.open = problem.open, is_open
    try:
        yield
    finally:
        problem.open = before


@contextmanager
def _left_as_it_is(problem: Problem, wish: Wish) -> Iterator[None]:
    """What is taken meanwhile is given back."""
    held: tuple[npt.NDArray[Any], ...] = (
        problem.free,
        problem.devices.free,
        problem.devices.closed,
        problem.custom.free,
    )
    before = [array.copy() for array in held]
    restore_ports = problem.ports.remember(range(len(problem))) if wish.ports else None
    try:
        yield
    finally:
        for array, was in zip(held, before, strict=True):
            array[...] = was
        if restore_ports is not None:
            restore_ports()


def _largest(low: int, high: int, places: Callable[[int], list[int]]) -> tuple[int, list[int]] | None:
    """The largest amount of these for which there are nodes, and the nodes; None: not even for the lowest."""
    if low > high or not (found := places(low)):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        if nodes := places(middle):
            low, found = middle, nodes
        else:
            high = middle - 1
    return low, found


def _lowest(least: int, wanted: int, limit: float) -> int:
    """The lowest amount from ``least`` on that is a change for less than ``limit``."""
    return max(least, int(wanted * (1 - limit)) + 1) if limit < 1 else least


# ---------------------------------------------------------------------------- the job


def _wider(trials: _Trials, limit: float) -> Remedy | None:
    before = trials.gang.domain
    for domain in GangDomain:
        cost = COST_WIDER * (domain - before)
        if not 0 < cost < limit:
            continue
        nodes = trials.places(trials.wish._replace(gang=replace(trials.gang, domain=domain)))
        if nodes:
            one, other = before.name.lower(), domain.name.lower()
            text = f"let it be spread wider (gang: {other} instead of {one})"
            step = RemedyStep(kind="gang", what="domain", before=one, after=other, text=text)
            return trials.remedy(nodes, (cost, step))
    return None


def _fewer(trials: _Trials, limit: float) -> Remedy | None:
    wanted = trials.wanted
    found = _largest(_lowest(1, wanted, limit), wanted - 1, lambda count: trials.places(trials.wish, count))
    if found is None:
        return None
    count, nodes = found
    text = f"ask for {count} instance{'s' if count > 1 else ''} instead of {wanted}"
    step = RemedyStep(kind="count", what="count", before=str(wanted), after=str(count), text=text)
    return trials.remedy(nodes, ((wanted - count) / wanted, step))


def _less(trials: _Trials, limit: float) -> Remedy | None:
    """Of cpu, memory, disk or a custom resource."""
    wish = trials.wish
    amounts: list[_Amount] = [
        (least, wanted, partial(_with_request, wish, dimension), partial(steps.less, dimension, wanted))
        for dimension, (least, wanted) in enumerate(zip(trials.least, wish.request, strict=True))
    ]
    amounts += [
        (0, wanted, partial(_with_custom, wish, name), partial(steps.less_custom, name, wanted))
        for name, wanted in wish.custom
    ]
    best: Remedy | None = None
    for least, wanted, changed, made in amounts:
        lowest = _lowest(least, wanted, limit if best is None else best.cost)
        found = _largest(lowest, wanted - 1, partial(_places_with, trials, changed))
        if found is not None:
            best = trials.remedy(found[1], made(found[0]))
    return best


def _places_with(trials: _Trials, changed: Callable[[int], Wish], left: int) -> list[int]:
    return trials.places(changed(left))


def _with_request(wish: Wish, dimension: int, left: int) -> Wish:
    cpu, memory, disk = (left if at == dimension else amount for at, amount in enumerate(wish.request))
    return wish._replace(request=(cpu, memory, disk))


def _with_custom(wish: Wish, name: str, left: int) -> Wish:
    amounts = [(one, left if one == name else amount) for one, amount in wish.custom]
    return wish._replace(custom=tuple((one, amount) for one, amount in amounts if amount or one != name))


def _other_gpus(trials: _Trials, limit: float) -> Remedy | None:
    request = trials.wish.gpus
    if request is None:
        return None
    options: list[DeviceRequest | None] = [*steps.smaller_requests(request)]
    lowest = _lowest(1, request.gpu_millis, limit)
    share = _largest(
        lowest,
        request.gpu_millis - 1 if request.count == 1 else 0,  # a share is of one device
        lambda millis: trials.places(trials.wish._replace(gpus=replace(request, gpu_millis=millis))),
    )
    if share is not None:
        options.append(replace(request, gpu_millis=share[0]))
    if trials.gang.domain is not GangDomain.ISLAND:  # which is one of GPUs
        options.append(None)
    for changed in sorted(options, key=lambda one: steps.other_gpus(request, one)[0]):
        cost, made = steps.other_gpus(request, changed)
        if cost >= limit:
            return None
        if nodes := trials.places(trials.wish._replace(gpus=changed)):
            return trials.remedy(nodes, *((cost / len(made), step) for step in made))
    return None


def _fewer_constraints(trials: _Trials, limit: float) -> Remedy | None:
    def without(key: str) -> Callable[[Wish], Wish]:
        return lambda wish: wish._replace(constraints=tuple(one for one in wish.constraints if describe(one) != key))

    keys = dict.fromkeys(describe(one) for one in trials.wish.constraints)
    return _fewest(trials, [(steps.without_constraint(key), without(key)) for key in keys], limit)


def _tolerating(trials: _Trials, limit: float) -> Remedy | None:
    def with_one(taint: Taint) -> Callable[[Wish], Wish]:
        return lambda wish: wish._replace(tolerations=(*wish.tolerations, _toleration(taint)))

    nodes = trials.problem.nodes
    many: Counter[Taint] = Counter()
    for taints, count in Counter(nodes[at].taints for at in trials.problem.tainted.tolist()).items():
        tolerated = trials.wish.tolerations
        while (taint := repelling(taints, tolerated)) is not None:
            many[taint] += count
            tolerated = (*tolerated, _toleration(taint))
    options = [(steps.tolerating(describe_taint(taint)), with_one(taint)) for taint, _ in many.most_common(STEPS_MAX)]
    return _fewest(trials, options, limit)


def _toleration(taint: Taint) -> Toleration:
    return Toleration(key=taint.key, value=taint.value, effect=taint.effect)


def _preferring(trials: _Trials, limit: float) -> Remedy | None:
    """Required affinities and spreads are no more."""

    def relaxed(what: Affinity | Spread) -> Callable[[Wish], Wish]:
        def change(wish: Wish) -> Wish:
            wanted = wish.preferences
            assert wanted is not None, "there is one to be relaxed"
            affinity = tuple(replace(one, required=False) if one == what else one for one in wanted.affinity)
            spread = tuple(replace(one, required=False) if one == what else one for one in wanted.spread)
            return wish._replace(preferences=replace(wanted, affinity=affinity, spread=spread))

        return change

    wanted = trials.wish.preferences
    if wanted is None or not wanted.binding:
        return None
    near = [one for one in wanted.affinity if one.required and one.constraint is None]
    options: list[_Option] = [(steps.preferring("affinity", describe_affinity(one)), relaxed(one)) for one in near]
    over = [one for one in wanted.spread if one.required]
    options += [(steps.preferring("spread", describe_spread(one)), relaxed(one)) for one in over]
    return _fewest(trials, options, limit)


def _other_ports(trials: _Trials, limit: float) -> Remedy | None:
    def any_instead(port: int) -> Callable[[Wish], Wish]:
        return lambda wish: wish._replace(ports=tuple(0 if one == port else one for one in wish.ports))

    def one_less(wish: Wish) -> Wish:
        at = len(wish.ports) - 1 - wish.ports[::-1].index(0)
        return wish._replace(ports=wish.ports[:at] + wish.ports[at + 1 :])

    ports = trials.wish.ports
    fixed = _fewest(trials, [(steps.any_port(port), any_instead(port)) for port in dict.fromkeys(ports) if port], limit)
    if fixed is not None:
        return fixed
    wish = trials.wish
    for count in range(1, min(ports.count(0), STEPS_MAX) + 1):
        wish = one_less(wish)
        if count * steps.COST_CONDITION >= limit:
            return None
        if nodes := trials.places(wish):
            return trials.remedy(nodes, *[steps.one_port_less()] * count)
    return None


def _fewest(trials: _Trials, options: Sequence[_Option], limit: float) -> Remedy | None:
    """One of the options if one does, else several of which none can be left out."""
    options = options[:STEPS_MAX]
    if not options or min(cost for (cost, _), _ in options) >= limit:
        return None

    def places(chosen: Sequence[_Option]) -> list[int]:
        wish = trials.wish
        for _, change in chosen:
            wish = change(wish)
        return trials.places(wish)

    for option in options:
        if nodes := places([option]):
            return trials.remedy(nodes, option[0])
    chosen, nodes = list(options), places(options)
    if not nodes:
        return None
    for at in reversed(range(len(chosen))):
        left = chosen[:at] + chosen[at + 1 :]
        if left and (fewer := places(left)):
            chosen, nodes = left, fewer
    return trials.remedy(nodes, *(made for made, _ in chosen))


# ---------------------------------------------------------------------------- the nodes


def _opening(trials: _Trials, limit: float) -> Remedy | None:
    return _at_nodes(trials, limit, trials.wish, ~trials.problem.open & _ready(trials.problem), _opened)


def _bringing_back(trials: _Trials, limit: float) -> Remedy | None:
    return _at_nodes(trials, limit, trials.wish, ~_ready(trials.problem), _opened)


def _driving(trials: _Trials, limit: float) -> Remedy | None:
    """Agents get a driver: such a node and a wish that does without it pass the same checks."""
    problem, wish = trials.problem, trials.wish
    anywhere = wish._replace(drivers=())
    lacking = suitable(problem, anywhere) & ~suitable(problem, wish)

    def made(problem: Problem, node: int) -> tuple[float, RemedyStep]:
        missing = sorted(set(wish.drivers) - problem.drivers[node])
        return steps.with_driver(problem.nodes[node].spec.name, missing)

    return _at_nodes(trials, limit, anywhere, lacking, made)


def _ready(problem: Problem) -> BoolArray:
    return np.array([node.status is NodeStatus.READY for node in problem.nodes], dtype=np.bool_)


def _opened(problem: Problem, node: int) -> tuple[float, RemedyStep]:
    """``after`` says which of the gang's nodes it is."""
    cost, step = steps.opened(problem, node)
    return cost, replace(step, after=problem.nodes[node].spec.name)


def _at_nodes(
    trials: _Trials,
    limit: float,
    wish: Wish,
    more: BoolArray,
    made: Callable[[Problem, int], tuple[float, RemedyStep]],
) -> Remedy | None:
    """As few of the nodes ``more`` as give the gang a place, beside those where ``trials.wish`` may go now."""
    problem = trials.problem
    now = suitable(problem, trials.wish) & ~more
    with _open(problem, now | more):
        times = trials.times(wish, trials.wanted)
    candidates: dict[tuple[int, ...], float] = {}
    order = [node for node in np.argsort(-times, kind="stable").tolist() if more[node] and times[node]]
    for domain in trials.sizes(wish):
        where = trials.where[domain]
        short = trials.wanted - np.bincount(where[now], weights=times[now], minlength=int(where.max(initial=0)) + 1)
        chosen: dict[int, list[int]] = {}
        for node in order:
            place = int(where[node])
            if short[place] > 0:
                chosen.setdefault(place, []).append(node)
                short[place] -= times[node]
        for place, nodes in chosen.items():
            if short[place] <= 0 and len(nodes) <= STEPS_MAX:
                candidates.setdefault(tuple(sorted(nodes)), sum(made(problem, node)[0] for node in nodes))
    for some, cost in sorted(candidates.items(), key=lambda one: one[1])[:PLACES_MAX]:
        if cost >= limit:
            return None
        found = _with(trials, wish, now, some)
        if found is not None:
            used, helped = found
            return trials.remedy(used, *(made(problem, node) for node in helped))
    return None


def _with(trials: _Trials, wish: Wish, now: BoolArray, nodes: Sequence[int]) -> tuple[list[int], Sequence[int]] | None:
    """Where the gang goes with these nodes beside ``now``, and which of them it needs."""
    while True:
        is_open = now.copy()
        is_open[list(nodes)] = True
        used = trials.places(wish, is_open=is_open)
        if not used:
            return None
        needed = [node for node in nodes if node in used]
        if len(needed) == len(nodes) or not needed:
            return (used, nodes) if needed else None
        nodes = needed


_Kind = Callable[[_Trials, float], Remedy | None]
_OF_JOBS: tuple[_Kind, ...] = (
    _wider,
    _fewer,
    _less,
    _other_gpus,
    _fewer_constraints,
    _tolerating,
    _preferring,
    _other_ports,
)
_OF_NODES: tuple[_Kind, ...] = (_opening, _bringing_back, _driving)
