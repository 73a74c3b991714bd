"""Which instances should move, so that fewer nodes are used or no node is far busier than others.

Owns: the two goals, their measures, the search. Leaves to others: doing it (a client, one ``MoveAllocation`` after the
other), when an instance may move (``state.apply_moves``), where it goes (``scheduling``). The rule: every move is tried
on a copy with the very commands that doing it takes, and kept only if the measure is better where it really ends up.

Goals. ``pack``: the measure is the number of nodes in use (on which something else than system jobs lives). The least
used node comes first; all of its instances move, or none: half an emptied node is worth nothing. ``spread``: the
measure is the sum, over the nodes that take work, of the squared dominant share; the busiest node comes first, one
instance at a time, and only while another node is less used by ``MARGIN`` than it would be without it. Before either
comes the number of instances that wait for a node: fewer is better whatever it costs, more is never accepted.

Why it never flaps. Both measures are bounded below and every kept step makes its measure smaller, so the search ends;
it ends where no step helps, and a run on the state that the moves lead to finds that at once. It may look again when
``more`` said that a limit ended it.

A job's own placement says which goal may move it: ``spread`` and ``round-robin`` want distance and are only spread,
all others want density and are only packed; otherwise the two would undo each other's work.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from orchestrator import plan
from orchestrator.contract.foresight import Balance, Goal, Move, Rebalance
from orchestrator.contract.model import AllocState, Desired, JobType, NodeStatus
from orchestrator.foresight.settle import at_rest, perform, settle
from orchestrator.foresight.standing import MILLION, balance, node_shares, standing_of, used_nodes
from orchestrator.state.apply_moves import may_move
from orchestrator.state.commands import Applied, MoveAllocation
from orchestrator.state.snapshot import Image, capture, restore
from orchestrator.state.state import State
from orchestrator.state.views import allocation_id, cluster_view

MARGIN = 50_000
"""Millionths: a twentieth of a node. A smaller difference is not worth a restart."""
TRIALS_MAX = 400
"""Copies of the state that one search makes."""
ROUNDS_MAX = 50
"""For one move to come to rest; it takes two."""
SPREADING = frozenset({"spread", "round-robin"})

_Step = tuple[State, list[Move]]


def rebalance(
    image: Image, goal: Goal, now_ms: int, *, moves_max: int, go_on: Callable[[], bool] = lambda: True
) -> Rebalance:
    """The moves in the order in which to make them. Bounded by ``moves_max``, ``TRIALS_MAX`` and ``go_on``."""
    search = _Search(restore(image), goal, now_ms, moves_max, go_on)
    before = search.measure(search.state)
    if not at_rest(search.state, now_ms):
        note = (
            "the cluster is on the move (a rollout, a drain, instances that start): try again when it has come to rest"
        )
        return Rebalance(goal=goal, before=before, after=before, note=note)
    moves = search.run()
    return Rebalance(goal=goal, moves=tuple(moves), before=before, after=search.measure(search.state), more=search.more)


def better(goal: str, after: Balance, before: Balance) -> bool:
    """Whether a step is worth making: its measure is smaller."""
    if goal == "pack":
        return (after.pending, after.nodes_used) < (before.pending, before.nodes_used)
    return (after.pending, after.squares) < (before.pending, before.squares)


class _Search:
    """``state`` is the copy so far, with every kept step made."""

    def __init__(self, state: State, goal: Goal, now_ms: int, moves_max: int, go_on: Callable[[], bool]) -> None:
        self.state = state
        self.more = False
        self._goal = goal
        self._now_ms = now_ms
        self._left = moves_max
        self._go_on = go_on
        self._trials = 0

    def run(self) -> list[Move]:
        moves: list[Move] = []
        while (step := self._step()) is not None:
            self.state, made = step
            moves += made
            self._left -= len(made)
        return moves

    def measure(self, state: State) -> Balance:
        return balance(state, sum(plan.pending(cluster_view(state), self._now_ms).values()))

    def _step(self) -> _Step | None:
        """The first set of moves that makes the measure better, made on a copy; None: there is none."""
        before = self.measure(self.state)
        image = capture(self.state)
        for rows in self._candidates():
            if len(rows) > self._left or self._trials >= TRIALS_MAX or not self._go_on():
                self.more = True
                if len(rows) > self._left and self._left:
                    continue
                return None
            self._trials += 1
            trial = restore(image)
            made = list(itertools.takewhile(lambda one: one is not None, (self._move(trial, row) for row in rows)))
            if len(made) == len(rows) and better(self._goal, self.measure(trial), before):
                return trial, [one for one in made if one is not None]
        return None

    # ------------------------------------------------------------------------ candidates

    def _candidates(self) -> Iterator[list[int]]:
        """Rows that could move together, the most promising first. Row numbers hold in a copy, too."""
        state = self.state
        shares = node_shares(state)
        if self._goal == "pack":
            for slot in sorted(used_nodes(state), key=lambda slot: (shares.get(slot, 0), slot)):
                rows = self._rows(slot)
                if rows is not None and self._fits_elsewhere(slot, rows):
                    yield rows
            return
        open_slots = [slot for slot, node in state.node_at.items() if slot in shares and _takes_work(state, slot)]
        for slot in sorted(open_slots, key=lambda slot: (-shares[slot], slot)):
            for row in sorted(self._rows(slot, some=True) or (), key=lambda row: (-self._share(slot, row), row)):
                lowest = min((shares[other] for other in open_slots if other != slot), default=MILLION)
                if shares[slot] - self._share(slot, row) >= lowest + MARGIN:
                    yield [row]

    def _rows(self, slot: int, *, some: bool = False) -> list[int] | None:
        """The rows of a node that may move; None where something else than system jobs lives there that may not (not
        with ``some``)."""
        state, table = self.state, self.state.table
        found = []
        for row in np.sort(state.ledger.live[slot]).tolist():
            job = state.job_at[int(table.job[row])]
            if job.spec.type is JobType.SYSTEM:
                continue
            name = state.ordinals.names[int(table.gid[row])][1]
            group = next((one for one in job.spec.groups if one.name == name), None)
            stays = (
                group is None
                or may_move(job, group)
                or table.desired[row] != int(Desired.RUN)
                or table.state[row] != int(AllocState.RUNNING)
                or (job.spec.placement in SPREADING) is (self._goal == "pack")
            )
            if not stays:
                found.append(row)
            elif not some:
                return None
        return found or None

    def _fits_elsewhere(self, slot: int, rows: list[int]) -> bool:
        """Whether the other used nodes together have the room: spares most trials that cannot succeed."""
        state, table = self.state, self.state.table
        ledger = state.ledger
        others = [other for other in used_nodes(state) if other != slot and _takes_work(state, other)]
        capacity = [state.node_at[other].spec.capacity for other in others]
        free = (
            sum(one.cpu_millis for one in capacity) - int(ledger.cpu_millis[others].sum()),
            sum(one.memory_mib for one in capacity) - int(ledger.memory_mib[others].sum()),
            sum(one.disk_mib for one in capacity) - int(ledger.disk_mib[others].sum()),
        )
        need = (table.cpu_millis[rows].sum(), table.memory_mib[rows].sum(), table.disk_mib[rows].sum())
        return all(int(wanted) <= there for wanted, there in zip(need, free, strict=True))

    def _share(self, slot: int, row: int) -> int:
        """The dominant share of one row on its node, in millionths."""
        table, spec = self.state.table, self.state.node_at[slot].spec
        devices = int(table.device_mask[row]).bit_count() * int(table.gpu_millis[row])
        pairs = (
            (int(table.cpu_millis[row]), spec.capacity.cpu_millis),
            (int(table.memory_mib[row]), spec.capacity.memory_mib),
            (int(table.disk_mib[row]), spec.capacity.disk_mib),
            (devices, 1000 * len(spec.devices)),
        )
        return max((used * MILLION // most for used, most in pairs if most > 0), default=0)

    # ------------------------------------------------------------------------ trying

    def _move(self, trial: State, row: int) -> Move | None:
        """Move one instance on the copy as it would really go; None: it may not, or it ends up where it was."""
        table = trial.table
        wanted, attempt = allocation_id(trial, row), int(table.attempt[row])
        source = trial.node_at[int(table.node[row])].spec
        command = MoveAllocation(
            namespace=wanted.namespace, name=wanted.job, group=wanted.group, ordinal=wanted.ordinal, attempt=attempt
        )
        outcome = perform(trial, command, self._now_ms)
        if not isinstance(outcome, Applied) or not settle(trial, self._now_ms, rounds_max=ROUNDS_MAX).settled:
            return None
        landed = standing_of(trial, wanted)
        if landed is None or landed.node_id == source.id:
            return None
        return Move(id=wanted, attempt=attempt, from_node=source.name, to_node=landed.node_name)


def _takes_work(state: State, slot: int) -> bool:
    node = state.node_at[slot]
    return node.status is NodeStatus.READY and not (node.cordoned or node.draining)
