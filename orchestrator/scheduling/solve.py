"""Placing the asks of one round, each on what the earlier ones left.

Owns: the order within a priority, the cached scores, committing. Leaves to others: which node is best (``policies``),
where an instance fits (``filters``). The rules: a placement takes its room before the next is considered; an ask that
does not fit is passed over, and smaller or later ones may still be placed; the result is a function of the view.

Equal wishes are a class with one row of scores over all nodes. A placement notes the nodes that it touched; a class
refreshes just those before it is used again. Many instances of a plain class are placed in closed form.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.contract.model import JobType
from orchestrator.scheduling import gangs, registry
from orchestrator.scheduling.devices import mask_of
from orchestrator.scheduling.filters import has_room, suitable, times_that_fit
from orchestrator.scheduling.policy import NOWHERE, Policy, Turn, picked
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.scoring import SCALE
from orchestrator.scheduling.wish import Ask, BoolArray, Int64Array, Wish, wish_of
from orchestrator.state.commands import Int32Array

CLOSED_FORM_FROM = 8
"""From so many instances on the closed form is faster than choosing one by one; both give the same."""
CLASSES_MAX = 512
"""Score rows that are kept; what falls out is computed again. A row is 8 bytes per node."""


class Placements:
    """What found a node, in the order of placing, as packed columns of one length, and what did not.

    ask: place in the asks; at: place in that ask's ordinals; node: number in the problem; device_mask over the node's
    devices; gpu_millis: taken of each; ports: host ports of all rows, row i's are
    ``ports[port_offsets[i]:port_offsets[i + 1]]`` in the group's order. unplaced: per ask, how many instances found no
    room (a system job's nodes that are not suitable are not counted).
    """

    def __init__(self, asks: int) -> None:
        # Typed arrays: they take single values as fast as lists do, whole columns at once, and a tenth of the memory.
        self.ask = array("i")
        self.at = array("i")
        self.node = array("i")
        self.device_mask = array("Q")
        self.gpu_millis = array("i")
        self.ports = array("i")
        self.port_offsets = array("i", [0])
        self.unplaced = [0] * asks

    def __len__(self) -> int:
        return len(self.ask)

    def add(self, ask: int, at: int, node: int, device_mask: int, gpu_millis: int, ports: tuple[int, ...]) -> None:
        self.ask.append(ask)
        self.at.append(at)
        self.node.append(node)
        self.device_mask.append(device_mask)
        self.gpu_millis.append(gpu_millis)
        self.ports.extend(ports)
        self.port_offsets.append(len(self.ports))

    def add_plain(self, ask: Int32Array, at: Int32Array, node: Int64Array) -> None:
        """Rows that hold neither devices nor ports."""
        rows = len(node)
        self.ask.frombytes(ask.astype(np.int32).tobytes())
        self.at.frombytes(at.astype(np.int32).tobytes())
        self.node.frombytes(node.astype(np.int32).tobytes())
        self.device_mask.frombytes(bytes(8 * rows))
        self.gpu_millis.frombytes(bytes(4 * rows))
        self.port_offsets.extend([len(self.ports)] * rows)


@dataclass(slots=True, kw_only=True)
class _Class:
    """A wish's suitable nodes and the score of each node (NOWHERE where it does not fit), as of ``seen`` touches."""

    wish: Wish
    policy: Policy
    suitable: BoolArray
    scores: Int64Array
    seen: int


def solve(problem: Problem, asks: Sequence[Ask], *, closed_form_from: int = CLOSED_FORM_FROM) -> Placements:
    """Place what fits of ``asks``, which come in the order of service; takes the room out of ``problem``."""
    solver = _Solver(problem, asks, closed_form_from)
    solver.run()
    return solver.result


class _Solver:
    def __init__(self, problem: Problem, asks: Sequence[Ask], closed_form_from: int) -> None:
        self._problem = problem
        self._asks = asks
        self._closed_form_from = closed_form_from
        interned: dict[Wish, Wish] = {}
        policy = registry.chooser(problem.default_placement)
        self._wishes: list[Wish] = []
        for ask in asks:
            spec = ask.job.spec
            wish = wish_of(spec, spec.groups[ask.group], policy=policy)
            self._wishes.append(interned.setdefault(wish, wish))
        self._classes: dict[int, _Class] = {}  # by the identity of the interned wish, which costs no hashing
        self._touched: list[int] = []
        self._turn_key = (-1, -1)
        self._turn = self._anyone = Turn(counts=np.zeros(len(problem), dtype=np.int64), last=-1)
        self.result = Placements(len(asks))

    def run(self) -> None:
        order = self._order()
        place = 0
        while place < len(order):
            index = order[place]
            ask, wish = self._asks[index], self._wishes[index]
            policy = registry.get(wish.policy)
            place += 1
            if wish.gang is not None:
                self._place_gang(index, wish)
                continue
            if ask.pinned:
                self._place_pinned(index, wish, policy)
                continue
            batch = [index]
            if not policy.knows_groups and ask.avoid < 0:
                # What comes next, asks for the same and is judged without regard to its job may be placed in one go.
                while place < len(order) and self._alike(index, order[place]):
                    batch.append(order[place])
                    place += 1
            self._place(batch, wish, policy)

    def _order(self) -> list[int]:
        """The asks as they came, but those of policies with ``big_first`` trade places within a priority."""
        order = list(range(len(self._asks)))
        bands: dict[int, list[int]] = {}
        for index, wish in enumerate(self._wishes):
            if registry.get(wish.policy).big_first:
                bands.setdefault(self._asks[index].job.spec.priority, []).append(index)
        for places in bands.values():
            largest_first = sorted(places, key=lambda index: (-self._size(self._wishes[index]), index))
            for place, index in zip(places, largest_first, strict=True):
                order[place] = index
        return order

    def _size(self, wish: Wish) -> int:
        """What one instance asks for, as shares of the whole cluster, added up."""
        totals = self._problem.capacity.sum(axis=0).tolist()
        size = sum(amount * SCALE // max(int(total), 1) for amount, total in zip(wish.request, totals, strict=True))
        if wish.gpus is not None:
            devices = int(self._problem.devices.capacity.sum())
            size += wish.gpus.count * wish.gpus.gpu_millis * SCALE // max(devices, 1)
        return size

    def _alike(self, index: int, other: int) -> bool:
        ask = self._asks[other]
        return self._wishes[other] is self._wishes[index] and ask.avoid < 0 and not ask.pinned

    # ------------------------------------------------------------------------ one class

    def _class(self, wish: Wish, policy: Policy) -> _Class:
        """The wish's class with scores as of now."""
        known = self._classes.pop(id(wish), None)
        if known is None:
            mask = suitable(self._problem, wish)
            scores = np.full(len(self._problem), NOWHERE, dtype=np.int64)
            known = _Class(wish=wish, policy=policy, suitable=mask, scores=scores, seen=len(self._touched))
            self._refresh(known, np.flatnonzero(mask))
            if len(self._classes) >= CLASSES_MAX:
                del self._classes[next(iter(self._classes))]
        elif known.seen < len(self._touched):
            touched = np.array(sorted(set(self._touched[known.seen :])), dtype=np.int64)
            known.seen = len(self._touched)
            self._refresh(known, touched[known.suitable[touched]])
        self._classes[id(wish)] = known  # used last: it falls out last
        return known

    def _refresh(self, known: _Class, nodes: Int64Array) -> None:
        if not len(nodes):
            return
        room = has_room(self._problem, known.wish, nodes)
        fitting = nodes[room]
        if len(fitting) < len(nodes):
            known.scores[nodes] = NOWHERE
        if len(fitting):
            known.scores[fitting] = known.policy.scores(self._problem, known.wish, fitting)

    # ------------------------------------------------------------------------ placing

    def _place(self, batch: list[int], wish: Wish, policy: Policy) -> None:
        """Place the asks of a batch, all with this wish, in order."""
        ask = self._asks[batch[0]]
        turn = self._turn_of(ask) if policy.knows_groups else self._anyone
        counts = [len(self._asks[index].ordinals) for index in batch]
        rows = sum(counts)
        if wish.plain and ask.avoid < 0 and rows >= self._closed_form_from:
            placed = self._place_many(batch, counts, wish, policy, turn)
        else:
            avoid = self._problem.number_of_slot.get(ask.avoid, -1)
            placed = 0
            for index, count in zip(batch, counts, strict=True):
                done = self._place_each(index, count, wish, policy, turn, avoid)
                placed += done
                if done < count:
                    break
        left = rows - placed
        for index, count in zip(reversed(batch), reversed(counts), strict=True):
            if not left:
                break
            self.result.unplaced[index] = min(left, count)
            left -= self.result.unplaced[index]

    def _place_many(self, batch: list[int], counts: list[int], wish: Wish, policy: Policy, turn: Turn) -> int:
        problem, known = self._problem, self._class(wish, policy)
        times = times_that_fit(problem, wish, np.arange(len(problem), dtype=np.int64))
        nodes = policy.place_many(problem, wish, known.scores, times, sum(counts), turn)
        if not len(nodes):
            return 0
        taken = np.bincount(nodes, minlength=len(problem))
        problem.free -= taken[:, None] * np.array(wish.request, dtype=np.int64)
        turn.counts += taken
        turn.last = int(nodes[-1])
        self._touched.extend(np.flatnonzero(taken).tolist())
        ask = np.repeat(np.array(batch, dtype=np.int32), counts)[: len(nodes)]
        before = np.cumsum(counts) - counts
        at = np.arange(len(nodes)) - np.repeat(before, counts)[: len(nodes)]
        self.result.add_plain(ask, at.astype(np.int32), nodes)
        return len(nodes)

    def _place_each(self, index: int, count: int, wish: Wish, policy: Policy, turn: Turn, avoid: int) -> int:
        """Place the instances of one ask one by one; returns how many found a node."""
        for at in range(count):
            scores = self._class(wish, policy).scores
            if avoid >= 0 and scores[avoid] != NOWHERE:
                elsewhere = scores.copy()
                elsewhere[avoid] = NOWHERE
                if elsewhere.max() != NOWHERE:
                    scores = elsewhere
            if not len(scores) or scores.max() == NOWHERE:
                return at
            self._take(index, at, policy.choose(scores, turn), wish, turn)
        return count

    def _place_pinned(self, index: int, wish: Wish, policy: Policy) -> None:
        """One instance for each node whose slot is an ordinal of the ask."""
        for at, slot in enumerate(self._asks[index].ordinals.tolist()):
            number = self._problem.number_of_slot.get(slot)
            known = self._class(wish, policy)
            if number is None or not known.suitable[number]:
                continue
            if known.scores[number] == NOWHERE:
                self.result.unplaced[index] += 1
            else:
                self._take(index, at, number, wish, self._anyone)

    def _place_gang(self, index: int, wish: Wish) -> None:
        """All of it or nothing; while it waits it keeps nodes to itself (``gangs``)."""
        ask = self._asks[index]
        found = gangs.place(self._problem, wish, ask)
        if found is None:
            self.result.unplaced[index] = len(ask.ordinals)
            if gangs.hold(self._problem, wish, ask, index, self._ending()):
                self._classes.clear()  # what fits where is another matter now
            return
        for at, (node, numbers, ports) in enumerate(found):
            self._note(index, at, node, wish, self._anyone, numbers, ports)

    def _ending(self) -> gangs.Ending:
        """The batch work among what has been placed so far."""
        batch = np.array([ask.job.spec.type is JobType.BATCH for ask in self._asks], dtype=np.bool_)
        rows = np.flatnonzero(batch[np.array(self.result.ask, dtype=np.int64)])
        requests = np.array([wish.request for wish in self._wishes], dtype=np.int64)
        return gangs.Ending(
            node=np.array(self.result.node, dtype=np.int64)[rows],
            request=requests[np.array(self.result.ask, dtype=np.int64)[rows]],
            mask=np.array(self.result.device_mask, dtype=np.uint64)[rows],
            millis=np.array(self.result.gpu_millis, dtype=np.int64)[rows],
        )

    def _take(self, index: int, at: int, node: int, wish: Wish, turn: Turn) -> None:
        picks = picked(registry.get(wish.policy), self._problem, wish, node) if wish.gpus is not None else ()
        numbers, ports = self._problem.take(node, wish, picks)
        self._note(index, at, node, wish, turn, numbers, ports)

    def _note(
        self, index: int, at: int, node: int, wish: Wish, turn: Turn, numbers: tuple[int, ...], ports: tuple[int, ...]
    ) -> None:
        if ports:
            self._touched.extend(self._problem.ports.neighbours(node))
        else:
            self._touched.append(node)
        turn.counts[node] += 1
        turn.last = node
        millis = wish.gpus.gpu_millis if wish.gpus is not None else 0
        self.result.add(index, at, node, mask_of(numbers), millis, ports)

    def _turn_of(self, ask: Ask) -> Turn:
        """The asks of one group follow each other, so the last turn is all that need be kept."""
        key = (ask.job.slot, ask.group)
        if key != self._turn_key:
            self._turn_key = key
            counts = np.bincount(self._problem.numbers(ask.peers), minlength=len(self._problem)).astype(np.int64)
            self._turn = Turn(counts=counts, last=self._problem.number_of_slot.get(ask.last_node, -1))
        return self._turn
