"""Placing the asks of one round, each on what the earlier ones left.

Owns: the order within a priority, which way of placing an ask goes, committing. Leaves to others: which node is best
(``policies``), where an instance fits (``filters``), doing it fast (``best_fit``, ``prefix_fill``).

What is promised. A placement takes its room before the next is considered. An ask that does not fit is passed over, and
smaller or later ones may still be placed. Asks are served in the order in which they come; only those of policies with
``big_first`` trade places, within one priority. The result is a function of the view.

Batches keep the promise to whoever waits. Neighbours of one priority that want nothing but cpu, memory and disk on the
fullest node (``Policy.fullest_first``) are placed in one pass, big first, *if all of them find room*; if not, the older
half is tried before the younger one, and so on down to a few, which are placed one by one. So whoever is left without a
node fitted nowhere when its turn came, with only those before it placed, and nothing that fits is left unplaced.
Which of several nodes each of a batch gets is the fill's choice, not that of one after the other.

The ways, fastest first: equal wishes in closed form (the same as one by one); different ones by prefix fill; a few one
by one from sorted shelves (the same as by scores); everything else by scores: equal wishes are a class with one row of
scores over all nodes, a placement notes the nodes that it touched, and a class refreshes just those before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.contract.model import JobType
from orchestrator.scheduling import gang_holds, gangs, registry
from orchestrator.scheduling.backlog import Backlog, Stretch, Wishes, backlog_of
from orchestrator.scheduling.devices import mask_of
from orchestrator.scheduling.filters import has_room, suitable
from orchestrator.scheduling.fullest import Fullest
from orchestrator.scheduling.placements import Placements
from orchestrator.scheduling.policy import NOWHERE, Policy, Turn, picked
from orchestrator.scheduling.preferences import moving
from orchestrator.scheduling.preferring import Preferring, many
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.room import Room
from orchestrator.scheduling.scoring import SCALE
from orchestrator.scheduling.wish import Ask, BoolArray, Int64Array, Wish
from orchestrator.state.commands import Int32Array

CLASSES_MAX = 512
"""Score rows that are kept; what falls out is computed again. A row is 8 bytes per node."""
ENDLESS = 1 << 62
STEPS_BY_SCORE = 16
"""What one placement by scores counts against the bound of a round; one of a batch counts 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """From how many instances on each way is worth it; tests force them. None of it changes what finds room."""

    closed_form_from: int = 8
    shelves_from: int = 16
    fill_from: int = 64


WAYS = Ways()


@dataclass(slots=True, kw_only=True)
class _Class:
    """A wish's suitable nodes and the score of each node (NOWHERE where it does not fit), as of ``seen`` touches."""

    wish: Wish
    policy: Policy
    suitable: BoolArray
    scores: Int64Array
    seen: int


def solve(problem: Problem, asks: Sequence[Ask], *, steps_max: int = ENDLESS, ways: Ways = WAYS) -> Placements:
    """Place what fits of ``asks``, which come in the order of service; takes the room out of ``problem``. After about
    ``steps_max`` steps it stops and says so (``Placements.more``); only what is placed counts, so a round gets on."""
    wishes = Wishes()
    return Solver(problem, wishes, ways).place(backlog_of(asks, wishes, problem.default_placement), steps_max=steps_max)


class Solver:
    """Takes room out of one problem, for one backlog after the other. ``wishes``: the table of all of them.

    take: one decision: given the number of a wish that may be placed in a batch, takes room for one instance of it; the
    node's number, or -1 if it fits nowhere. ``place`` calls this for a few different ones. ``problem.free`` is current
    after ``settle``.
    """

    take: Callable[[int], int]

    def __init__(self, problem: Problem, wishes: Wishes, ways: Ways = WAYS) -> None:
        self._problem = problem
        self._wishes = wishes
        self._ways = ways
        self._room = Room(problem)
        self._begin()
        self._classes: dict[int, _Class] = {}
        self._turn_key = (-1, -1)
        self._turn = self._anyone = Turn(counts=np.zeros(len(problem), dtype=np.int64), last=-1)

    def place(self, backlog: Backlog, *, steps_max: int = ENDLESS) -> Placements:
        assert backlog.wishes is self._wishes
        self._turn_key = (-1, -1)
        self._backlog = backlog
        self._left = steps_max
        self.result = Placements(len(backlog.wish))
        self._problem.presence.follow(self.result, backlog.asks)
        order = self._order()
        for stretch in backlog.stretches:
            if self._left <= 0:
                self.result.more = True
                break
            if stretch.batch and stretch.wish >= 0:
                alike = np.arange(stretch.start, stretch.stop, dtype=np.int32)
                self._place_alike(alike, stretch.wish, registry.get(self._wishes.known[stretch.wish].policy))
            elif stretch.batch and self._worth_a_batch(stretch):
                self._place_batch(stretch)
            else:
                self._place_in_turn(order[stretch.start : stretch.stop])
        self._room.arrays()
        return self.result

    def _begin(self) -> None:
        self._fullest = Fullest(self._room, self._wishes)
        self.take = self._fullest.take  # not a method of its own: the call would cost a fiftieth of a decision

    def settle(self) -> None:
        self._room.arrays()

    def _order(self) -> Sequence[int]:
        """The asks as they came, but those of policies with ``big_first`` trade places within a priority."""
        backlog = self._backlog
        order = range(len(backlog.wish))
        if backlog.all_batch:
            return order
        bands: dict[int, list[int]] = {}
        for stretch in backlog.stretches:
            if stretch.batch:
                continue
            for index in order[stretch.start : stretch.stop]:
                if registry.get(self._wish(index).policy).big_first:
                    bands.setdefault(backlog.asks[index].job.spec.priority, []).append(index)
        traded = list(order)
        for places in bands.values():
            largest_first = sorted(places, key=lambda index: (-self._size(self._wish(index)), index))
            for place, index in zip(places, largest_first, strict=True):
                traded[place] = index
        return traded

    def _wish(self, index: int) -> Wish:
        return self._wishes.known[int(self._backlog.wish[index])]

    def _size(self, wish: Wish) -> int:
        """What one instance asks for, as shares of the whole cluster, added up."""
        totals = self._problem.total
        size = sum(amount * SCALE // max(total, 1) for amount, total in zip(wish.request, totals, strict=True))
        if wish.gpus is not None:
            devices = int(self._problem.devices.capacity.sum())
            size += wish.gpus.count * wish.gpus.gpu_millis * SCALE // max(devices, 1)
        return size

    # ------------------------------------------------------------------------ batches

    def _worth_a_batch(self, stretch: Stretch) -> bool:
        return stretch.rows >= self._ways.shelves_from * stretch.grounds

    def _place_batch(self, stretch: Stretch) -> None:
        """Place the instances of a stretch, in the order of service as far as they do not all fit."""
        numbers = self._backlog.wish[stretch.start : stretch.stop]
        asks = np.arange(stretch.start, stretch.stop, dtype=np.int32)
        if stretch.single:
            at = np.zeros(len(asks), dtype=np.int32)
        else:
            counts = self._backlog.count[stretch.start : stretch.stop]
            at = _within(counts.astype(np.int64))
            numbers, asks = numbers.repeat(counts), asks.repeat(counts)
        done = 0
        while done < len(asks) and self._left > 0:
            part = slice(done, min(len(asks), done + self._left))
            nodes, all_placed = self._place_rows(numbers[part])
            placed = len(nodes)
            if all_placed:
                self.result.add_plain(asks[part], at[part], nodes)
            else:
                found = nodes >= 0
                placed = int(found.sum())
                self.result.add_plain(asks[part][found], at[part][found], nodes[found])
                missing = np.bincount(asks[part][~found] - stretch.start).tolist()
                for place, count in enumerate(missing, stretch.start):
                    self.result.unplaced[place] += count
            self._left -= placed
            done = part.stop
        self.result.more |= done < len(asks)

    def _place_rows(self, numbers: Int32Array) -> tuple[Int32Array, bool]:
        """int32 per instance: the node it got, or -1; and whether none is -1. ``numbers``: their wishes."""
        if len(numbers) < self._ways.fill_from:
            taken = [self.take(number) for number in numbers.tolist()]
            return np.array(taken, dtype=np.int32), min(taken) >= 0
        nodes = self._fullest.take_all(numbers)
        if nodes is not None:
            return nodes, True
        hopeless = self._fullest.hopeless(numbers)
        if hopeless.any():
            nodes = np.full(len(numbers), -1, dtype=np.int32)
            if not hopeless.all():
                nodes[~hopeless] = self._place_rows(numbers[~hopeless])[0]
            return nodes, False
        half = len(numbers) // 2
        older, younger = self._place_rows(numbers[:half]), self._place_rows(numbers[half:])
        return np.concatenate([older[0], younger[0]]), older[1] and younger[1]

    # ------------------------------------------------------------------------ one class

    def _class(self, number: int) -> _Class:
        """The wish's class with scores as of now."""
        known = self._classes.pop(number, None)
        log = self._room.log
        self._room.arrays()
        if known is None:
            wish = self._wishes.known[number]
            mask = suitable(self._problem, wish)
            scores = np.full(len(self._problem), NOWHERE, dtype=np.int64)
            known = _Class(wish=wish, policy=registry.get(wish.policy), suitable=mask, scores=scores, seen=len(log))
            self._refresh(known, np.flatnonzero(mask))
            if len(self._classes) >= CLASSES_MAX:
                del self._classes[next(iter(self._classes))]
        elif known.seen < len(log):
            touched = np.array(sorted(set(log[known.seen :])), dtype=np.int64)
            known.seen = len(log)
            self._refresh(known, touched[known.suitable[touched]])
        self._classes[number] = known  # used last: it falls out last
        return known

    def _refresh(self, known: _Class, nodes: Int64Array) -> None:
        """Score these nodes anew. Whatever is to count besides the policy's score is added here, and a wish with such
        additions is no ``Wishes.batch``."""
        if not len(nodes):
            return
        room = has_room(self._problem, known.wish, nodes)
        fitting = nodes[room]
        if len(fitting) < len(nodes):
            known.scores[nodes] = NOWHERE
        if len(fitting):
            known.scores[fitting] = known.policy.scores(self._problem, known.wish, fitting)

    # ------------------------------------------------------------------------ by scores

    def _place_in_turn(self, order: Sequence[int]) -> None:
        place = 0
        while place < len(order):
            if self._left <= 0:
                self.result.more = True
                return
            index = order[place]
            ask, number = self._backlog.asks[index], int(self._backlog.wish[index])
            policy = registry.get(self._wishes.known[number].policy)
            place += 1
            if self._wishes.known[number].gang is not None:
                self._place_gang(index, number)
                continue
            if ask.pinned:
                self._place_pinned(index, number)
                continue
            preferences = self._wishes.known[number].preferences
            if preferences is not None and preferences.changing and preferences.apart is None:
                self._place_preferring(index, number, policy)
                continue
            batch = [index]
            if not policy.knows_groups and ask.avoid < 0:
                # What comes next, asks for the same and is judged without regard to its job may be placed in one go.
                while place < len(order) and self._alike(number, order[place]):
                    batch.append(order[place])
                    place += 1
            self._place_alike(np.array(batch, dtype=np.int32), number, policy)

    def _alike(self, number: int, other: int) -> bool:
        ask = self._backlog.asks[other]
        return int(self._backlog.wish[other]) == number and ask.avoid < 0 and not ask.pinned

    def _place_alike(self, batch: Int32Array, number: int, policy: Policy) -> None:
        """Place the asks of a batch, all with this wish, in order."""
        asks = self._backlog.asks
        first = asks[int(batch[0])]
        turn = self._turn_of(first) if policy.knows_groups else self._anyone
        counts = self._backlog.count[batch].astype(np.int64)
        rows = int(counts.sum())
        if self._wishes.known[number].plain and first.avoid < 0 and rows >= self._ways.closed_form_from:
            placed = self._place_many(batch, counts, number, policy, turn)
        elif self._prefers(number):
            for index in batch.tolist():
                self._place_preferring(index, number, policy)
            return
        else:
            avoid = self._problem.number_of_slot.get(first.avoid, -1)
            placed = 0
            for index, count in zip(batch.tolist(), counts.tolist(), strict=True):
                done = self._place_each(index, count, number, policy, turn, avoid)
                placed += done
                if done < count:
                    break
        if placed == rows:
            return
        if self._left <= 0:
            self.result.more = True
            return
        before = np.cumsum(counts) - counts
        missing = counts - np.clip(placed - before, 0, counts)
        for index, count in zip(batch.tolist(), missing.tolist(), strict=True):
            self.result.unplaced[index] = count

    def _place_many(self, batch: Int32Array, counts: Int64Array, number: int, policy: Policy, turn: Turn) -> int:
        problem, known = self._problem, self._class(number)
        wanted = min(int(counts.sum()), self._left)
        if self._prefers(number):
            nodes = Preferring(problem, known.wish, policy, known.suitable).many(known.scores, wanted, turn)
        else:
            nodes = many(problem, known.wish, policy, known.scores, wanted, turn)
        if not len(nodes):
            return 0
        self._room.log.extend(np.flatnonzero(np.bincount(nodes)).tolist())
        if int(counts.max()) == 1:
            ask, at = batch[: len(nodes)], np.zeros(len(nodes), dtype=np.int32)
        else:
            ask, at = batch.repeat(counts)[: len(nodes)], _within(counts)[: len(nodes)]
        self.result.add_plain(ask, at, nodes)
        self._left -= len(nodes)
        return len(nodes)

    def _prefers(self, number: int) -> bool:
        """Whether something besides the policy's score decides where the wish goes."""
        return self._wishes.known[number].preferences is not None or self._problem.soft_taints

    def _place_each(self, index: int, count: int, number: int, policy: Policy, turn: Turn, avoid: int) -> int:
        """Place the instances of one ask one by one; returns how many found a node."""
        for at in range(count):
            if self._left <= 0:
                return at
            scores = self._class(number).scores
            if avoid >= 0 and scores[avoid] != NOWHERE:
                elsewhere = scores.copy()
                elsewhere[avoid] = NOWHERE
                if elsewhere.max() != NOWHERE:
                    scores = elsewhere
            if not len(scores) or scores.max() == NOWHERE:
                return at
            self._take(index, at, policy.choose(scores, turn), number, turn)
        return count

    def _place_preferring(self, index: int, number: int, policy: Policy) -> None:
        """One ask's instances, one by one on the nodes that they prefer (``preferring``)."""
        ask, wish = self._backlog.asks[index], self._wishes.known[number]
        changing = wish.preferences is not None and wish.preferences.changing
        turn = self._turn_of(ask) if policy.knows_groups or changing else self._anyone
        count = len(ask.ordinals)
        known = self._class(number)
        choice = Preferring(self._problem, wish, policy, known.suitable)
        avoid = self._problem.number_of_slot.get(ask.avoid, -1)
        for at in range(count):
            if self._left <= 0:
                self.result.more = True
                return
            node = choice.one(self._class(number).scores, avoid, turn)
            if node < 0:
                self.result.unplaced[index] = count - at
                return
            self._take(index, at, node, number, turn)

    def _place_pinned(self, index: int, number: int) -> None:
        """One instance for each node whose slot is an ordinal of the ask, as far as others permit it there."""
        wish = self._wishes.known[number]
        bound = wish.preferences is not None and wish.preferences.binding
        for at, slot in enumerate(self._backlog.asks[index].ordinals.tolist()):
            node = self._problem.number_of_slot.get(slot)
            known = self._class(number)
            if node is None or not known.suitable[node]:
                continue
            if known.scores[node] == NOWHERE or (bound and not moving(self._problem, wish, known.suitable)[1][node]):
                self.result.unplaced[index] += 1
            else:
                self._take(index, at, node, number, self._anyone)

    def _place_gang(self, index: int, number: int) -> None:
        """All of it or nothing; while it waits it keeps nodes to itself (``gangs``)."""
        ask, wish = self._backlog.asks[index], self._wishes.known[number]
        self._room.arrays()
        found = gangs.place(self._problem, wish, ask)
        if found is None:
            self.result.unplaced[index] = len(ask.ordinals)
            if gang_holds.hold(self._problem, wish, ask, index, self._ending()):
                # What fits where is another matter now.
                self._classes.clear()
                self._begin()
            return
        for at, (node, numbers, ports) in enumerate(found):
            self._note(index, at, node, number, self._anyone, numbers, ports)

    def _ending(self) -> gang_holds.Ending:
        """The batch work among what has been placed so far."""
        backlog, result = self._backlog, self.result
        batch = np.array([ask.job.spec.type is JobType.BATCH for ask in backlog.asks], dtype=np.bool_)
        asks = np.array(result.ask, dtype=np.int64)
        rows = np.flatnonzero(batch[asks])
        requests = self._wishes.columns().requests[np.asarray(backlog.wish)]
        return gang_holds.Ending(
            node=np.array(result.node, dtype=np.int64)[rows],
            request=requests[asks[rows]],
            mask=np.array(result.device_mask, dtype=np.uint64)[rows],
            millis=np.array(result.gpu_millis, dtype=np.int64)[rows],
        )

    def _take(self, index: int, at: int, node: int, number: int, turn: Turn) -> None:
        wish = self._wishes.known[number]
        picks = picked(registry.get(wish.policy), self._problem, wish, node) if wish.gpus is not None else ()
        numbers, ports = self._problem.take(node, wish, picks)
        self._note(index, at, node, number, turn, numbers, ports)

    def _note(
        self, index: int, at: int, node: int, number: int, turn: Turn, numbers: tuple[int, ...], ports: tuple[int, ...]
    ) -> None:
        wish = self._wishes.known[number]
        self._room.log.extend(self._problem.ports.neighbours(node) if ports else (node,))
        turn.counts[node] += 1
        turn.last = node
        millis = wish.gpus.gpu_millis if wish.gpus is not None else 0
        self.result.add(index, at, node, mask_of(numbers), millis, ports)
        self._left -= STEPS_BY_SCORE

    def _turn_of(self, ask: Ask) -> Turn:
        """The asks of one group follow each other, so the last turn is all that need be kept."""
        key = (ask.job.slot, ask.group)
        if key != self._turn_key:
            self._turn_key = key
            counts = np.bincount(self._problem.numbers(ask.peers), minlength=len(self._problem)).astype(np.int64)
            self._turn = Turn(counts=counts, last=self._problem.number_of_slot.get(ask.last_node, -1))
        return self._turn


def _within(counts: Int64Array) -> Int32Array:
    """int32 per instance: its place among those of its ask."""
    return (np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.int32)
