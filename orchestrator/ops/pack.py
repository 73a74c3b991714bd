"""How a cluster is packed now, and how the product's scheduler would pack it: ``raftsman pack`` without its words.

Owns: what stays and what moves, the figures. Leaves to others: reading (``pack_read``), placing (``scheduling``), how
it looks (``pack_report``, ``pack_plot``). The rules: whatever stays takes its room first; then everything that runs is
placed anew (``Ground.alike`` has the order), and only then what waits, so that nothing that waits takes the room of
what runs; every pod is placed, waiting or left out, and none is lost.

What stays: pods that belong to their node, and those on a node that takes no pods. Fragmentation is the measure of the
placement ``fragmentation`` (``scheduling.fragments``), over the nodes that take pods, by the typical classes of the
pods at hand: how much of the GPUs' free room is expected to be of no use to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.contract.model import WHOLE_DEVICE, DeviceRequest
from orchestrator.ops.pack_cluster import WAITING, PackCluster
from orchestrator.ops.pack_ground import Ground, asks_of
from orchestrator.scheduling import registry
from orchestrator.scheduling.backlog import Wishes, backlog_of
from orchestrator.scheduling.devices import ABSENT
from orchestrator.scheduling.fragments import Fragments
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import Solver
from orchestrator.scheduling.wish import CPU, MEMORY

AUTOMATIC = "auto"
"""As a cluster places jobs that name no placement: one placement for pods with GPUs and another for the others."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a pod is: a node's number (``WAITING``: nowhere) and the numbers of its devices there."""

    node: int
    devices: tuple[int, ...] = ()


NOWHERE = Seat(WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One packing. nodes_used: something else runs there than what belongs to the node; cpu_pct, memory_pct, gpu_pct:
    given away of all there is; the same with ``dense_``: of the nodes used alone; gpus_free: in whole GPUs' worth, of
    nodes that take pods; gpus_whole: of these, GPUs of which nothing is given away; fragmented_gpus: expected to be of
    no use, in GPUs; fragmented_pct: the same of gpus_free. None: there is nothing to measure it by."""

    pods: int
    nodes_used: int
    cpu_pct: float | None
    memory_pct: float | None
    gpu_pct: float | None
    dense_cpu_pct: float | None
    dense_memory_pct: float | None
    dense_gpu_pct: float | None
    gpus_free: float
    gpus_whole: int
    fragmented_gpus: float | None
    fragmented_pct: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repacked:
    """``started``: of those that wait; ``left_out``: of those that run, found no room (a heuristic may fail where
    another way would have done it); ``moved``: of those that run, are on another node than now. nodes_freed,
    gpus_freed: nodes not in use and whole GPUs gained once what runs is placed anew and before what waits starts,
    negative where they became fewer; None where now is not known."""

    placement: str
    figures: Figures
    started: int
    left_out: int
    moved: int
    nodes_freed: int | None
    gpus_freed: int | None
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """``overfull``: nodes that hold more than they have; ``now`` is None where the file does not say where pods run,
    and then ``running`` is 0 and everything waits."""

    cluster: PackCluster
    running: int
    waiting: int
    staying: int
    now: Figures | None
    overfull: tuple[str, ...]
    placements: tuple[Repacked, ...]


def pack(cluster: PackCluster, placements: Sequence[str], said: Callable[[str], None] = lambda name: None) -> Packing:
    """``said`` is told each placement before its turn. Each is one of ``names()``."""
    ground = Ground(cluster)
    pods = cluster.pods
    running = [number for number, pod in enumerate(pods) if pod.node != WAITING]
    staying = [number for number in running if pods[number].daemon or not cluster.nodes[pods[number].node].open]
    problem = ground.problem()
    seats = _seat(ground, problem, running)
    now = _figures(ground, problem, seats) if cluster.placed else None
    overfull = (problem.free < 0).any(axis=1) | (problem.custom.free < 0).any(axis=1)
    overfull |= ((problem.devices.free < 0) & (problem.devices.free != ABSENT)).any(axis=1)
    crowded = set(np.flatnonzero(overfull).tolist())
    crowded |= {pods[number].node for number in running if _short_of_devices(ground, number, seats[number])}
    found = []
    for name in placements:
        said(name)
        found.append(_repack(ground, name, staying, now))
    return Packing(
        cluster=cluster,
        running=len(running),
        waiting=len(pods) - len(running),
        staying=len(staying),
        now=now,
        overfull=tuple(cluster.nodes[number].name for number in sorted(crowded)),
        placements=tuple(found),
    )


def _repack(ground: Ground, name: str, staying: Sequence[int], now: Figures | None) -> Repacked:
    pods = ground.cluster.pods
    problem = ground.problem()
    Fragments.install(problem, ground.classes)
    seats = _seat(ground, problem, staying)
    wishes = Wishes()
    solver = Solver(problem, wishes)
    stays = frozenset(staying)
    moving = [number for number, pod in enumerate(pods) if pod.node != WAITING and number not in stays]
    moved, nodes_used, gpus_whole = 0, 0, 0
    for numbers in (moving, [number for number, pod in enumerate(pods) if pod.node == WAITING]):
        classes = ground.alike(numbers)
        result = solver.place(backlog_of(asks_of(classes, "" if name == AUTOMATIC else name), wishes))
        given: list[list[Seat]] = [[] for _ in classes]
        for ask, node, mask in zip(result.ask, result.node, result.device_mask, strict=True):
            given[ask].append(Seat(node, tuple(at for at in range(mask.bit_length()) if mask >> at & 1)))
        for one, places in zip(classes, given, strict=True):
            moved += _hand_out(ground, one.pods, places, seats)
        if numbers is moving:
            nodes_used, gpus_whole = len(_used(ground, seats)), _whole(problem)
    figures = _figures(ground, problem, seats)
    return Repacked(
        placement=name,
        figures=figures,
        started=sum(1 for number, pod in enumerate(pods) if pod.node == WAITING and seats[number] is not NOWHERE),
        left_out=sum(1 for number in moving if seats[number] is NOWHERE),
        moved=moved,
        nodes_freed=None if now is None else now.nodes_used - nodes_used,
        gpus_freed=None if now is None else gpus_whole - now.gpus_whole,
        seats=tuple(seats),
    )


def _hand_out(ground: Ground, members: Sequence[int], places: list[Seat], seats: list[Seat]) -> int:
    """Give places to pods of one class, who are as good as each other: whoever is there already stays. How many of
    them move."""
    by_node: dict[int, list[Seat]] = {}
    for place in places:
        by_node.setdefault(place.node, []).append(place)
    others = []
    for number in members:
        here = by_node.get(ground.cluster.pods[number].node)
        if here:
            seats[number] = here.pop()
        else:
            others.append(number)
    left = [place for there in by_node.values() for place in there]
    for number, place in zip(others, left, strict=False):
        seats[number] = place
    return sum(1 for number in others[: len(left)] if ground.cluster.pods[number].node != WAITING)


def _seat(ground: Ground, problem: Problem, numbers: Sequence[int]) -> list[Seat]:
    """Give pods their room on the nodes where they run, whether or not it is there. Devices that the file does not
    name: whole ones first, then shares, the larger the earlier, each where the scheduler would put it."""
    pods = ground.cluster.pods
    seats = [NOWHERE] * len(pods)

    def order(number: int) -> tuple[bool, int, int]:
        gpus = pods[number].request.gpus
        return not pods[number].devices, -gpus.gpu_millis if gpus is not None else 0, -gpus.count if gpus else 0

    for number in sorted(numbers, key=order):
        pod = pods[number]
        wish = ground.wish(number)
        problem.free[pod.node] -= wish.request
        problem.custom.take(pod.node, wish.custom)
        devices: tuple[int, ...] = ()
        if wish.gpus is not None:
            devices = pod.devices or _devices(problem, pod.node, wish.gpus)
            problem.devices.take(pod.node, devices, wish.gpus.gpu_millis)
        seats[number] = Seat(pod.node, devices)
    return seats


def _devices(problem: Problem, node: int, request: DeviceRequest) -> tuple[int, ...]:
    best = problem.devices.best(node, request)
    if best is not None:
        return best.numbers
    # It holds some all the same: those with the most left.
    free = problem.devices.free[node, : len(problem.nodes[node].spec.devices)].tolist()
    return tuple(sorted(sorted(range(len(free)), key=lambda at: (-free[at], at))[: request.count]))


def _short_of_devices(ground: Ground, number: int, seat: Seat) -> bool:
    gpus = ground.cluster.pods[number].request.gpus
    return gpus is not None and len(seat.devices) < gpus.count


# ---------------------------------------------------------------------------- figures


def _used(ground: Ground, seats: Sequence[Seat]) -> list[int]:
    """Numbers of the nodes on which something else is than what belongs to them."""
    there = zip(ground.cluster.pods, seats, strict=True)
    return sorted({seat.node for pod, seat in there if seat is not NOWHERE and not pod.daemon})


def _whole(problem: Problem) -> int:
    """GPUs of which nothing is given away, on nodes that take pods."""
    return int((problem.devices.free[problem.open] == WHOLE_DEVICE).sum())


def _figures(ground: Ground, problem: Problem, seats: Sequence[Seat]) -> Figures:
    cluster = ground.cluster
    used = np.array(_used(ground, seats), dtype=np.int64)
    everywhere = np.arange(len(problem), dtype=np.int64)
    given = problem.capacity - problem.free
    devices = problem.devices.used(everywhere)

    def share(amounts: np.ndarray, capacity: np.ndarray, nodes: np.ndarray) -> float | None:
        total = int(capacity[nodes].sum())
        return 100 * int(amounts[nodes].sum()) / total if total else None

    def shares(nodes: np.ndarray) -> tuple[float | None, float | None, float | None]:
        return (
            share(given[:, CPU], problem.capacity[:, CPU], nodes),
            share(given[:, MEMORY], problem.capacity[:, MEMORY], nodes),
            share(devices, problem.devices.capacity, nodes),
        )

    cpu, memory, gpu = shares(everywhere)
    dense_cpu, dense_memory, dense_gpu = shares(used)
    takers = np.flatnonzero(problem.open)
    left = np.maximum(problem.devices.free[takers], 0)
    free = int(left.sum()) / WHOLE_DEVICE
    fragmented = None
    classes = ground.classes_by_model
    if any(one.gpus is not None for one in classes) and len(takers) and cluster.gpus:
        fragments = Fragments.install(problem, classes)
        measured = fragments.measure(fragments.states(takers), np.maximum(problem.free[takers, CPU], 0))
        fragmented = int(measured.sum()) / fragments.weights / WHOLE_DEVICE
    return Figures(
        pods=sum(1 for seat in seats if seat is not NOWHERE),
        nodes_used=len(used),
        cpu_pct=cpu,
        memory_pct=memory,
        gpu_pct=gpu,
        dense_cpu_pct=dense_cpu,
        dense_memory_pct=dense_memory,
        dense_gpu_pct=dense_gpu,
        gpus_free=free,
        gpus_whole=_whole(problem),
        fragmented_gpus=fragmented,
        fragmented_pct=100 * fragmented / free if fragmented is not None and free else None,
    )


def names() -> tuple[str, ...]:
    """What may be packed by: ``AUTOMATIC`` and every registered placement."""
    return AUTOMATIC, *registry.names()
