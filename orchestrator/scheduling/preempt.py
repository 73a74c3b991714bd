"""Room for what found none: first what is being freed anyway, then what evicting lower priorities would free.

Owns: finding that room for one instance after the other, holding it, and saying for whom. Leaves to others: the order
of service (``serve``), the domain of a gang (``preempt_gangs``), the least harm on one node (``harm``), budgets
(``state.disruption``), what forms a unit (``units``), rechecking (``state.apply_evictions``). The rules:

- An allocation that was told to stop keeps its room until its agent says that it ended, so whoever is to get the room
  is placed in a later round. No round remembers another: each finds anew what is being freed and who comes first.
- Nobody is evicted for whom room is being freed already, and nobody who could not be placed then.
- Only lower priorities, only what is preemptible, only what the budgets allow, units whole.
- Room that an instance waits for is taken out of the problem, first from what is being freed, then from what is free:
  whoever is served later finds only the rest.

Of the nodes where it is possible the one with the least harm is taken: the lowest highest priority of a victim, then
the fewest victims, then the least waste.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import Desired, NodeStatus
from orchestrator.scheduling.filters import ENDLESS, has_room, suitable
from orchestrator.scheduling.gangs import times_on
from orchestrator.scheduling.harm import Harm, Victim, least_harm
from orchestrator.scheduling.neighbours import Neighbours, neighbours_of
from orchestrator.scheduling.presence import Presence
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.units import units_of
from orchestrator.scheduling.waits import Eviction, Wait, copy, group_in, title
from orchestrator.scheduling.wish import Ask, BoolArray, Int64Array, Wish
from orchestrator.state.disruption import PREEMPTED, Budgets
from orchestrator.state.model import Job
from orchestrator.state.views import ClusterView

NODES_MAX = 32
"""Nodes on which the least harm is worked out for one instance at a time: those that may need the fewest victims, then
those that lack least. More are looked at only while budgets or units forbid it on all of these."""
NODES_TRIED_MAX = 512
"""So many at most for one instance: a round must stay short."""
LOOKS_MAX = 2_000
"""Wishes for which is asked whether evicting everybody lower would help at all, in one round."""
NOBODY = 1_000
"""Above every priority: a row that is not to be evicted."""


class Preemption:
    """One round's search. ``leaving``: positions that are told to stop, by an earlier round or by this one."""

    def __init__(self, view: ClusterView, problem: Problem, leaving: Int64Array) -> None:
        self._view, self.problem = view, problem
        self.evictions: list[Eviction] = []
        self.waits: dict[tuple[int, int], Wait] = {}
        self.asks = self.instances = 0  # for which room was sought
        self._looks = 0
        columns = view.allocations
        self._columns = columns
        self._budgets = Budgets(view, leaving)
        self._node = _numbers(problem, columns.node)
        self._by_node = np.argsort(self._node, kind="stable")
        self._starts = np.searchsorted(self._node[self._by_node], np.arange(len(problem) + 1))
        # What will be free besides: dimensions, device millis and custom amounts per node, ports per node.
        self._more = np.zeros_like(problem.free)
        self._more_devices = np.zeros_like(problem.devices.free)
        self._more_custom = np.zeros_like(problem.custom.free)
        self._more_ports: dict[int, set[int]] = {}
        self._leaving_on: dict[int, int] = {}
        self._nominated: dict[str, set[int]] = {}
        known = leaving[self._node[leaving] >= 0]
        self._gone = Presence(view, known, self._node[known], len(problem))
        for position in known.tolist():
            self._will_be_free(position)
        self._priority = self._evictable(leaving)
        self._units = units_of(view)
        self._by_unit = np.argsort(self._units, kind="stable")
        self._sorted_units = self._units[self._by_unit]
        self._all_alone = not bool((self._sorted_units[1:] == self._sorted_units[:-1]).any())
        self._running = self._live_running()
        self._levels: list[int] = np.unique(self._priority[self._priority < NOBODY]).tolist()
        self._freeable: dict[int, _Freeable] = {}
        self._known: dict[tuple[Wish, int], dict[int, Harm | None]] = {}  # by wish and level: by node, until it changes
        self._suitable: dict[Wish, BoolArray] = {}
        self._hopeless: dict[tuple[Wish, int], int] = {}  # by wish and how many must find room together
        self._most: dict[int, tuple[Int64Array, npt.NDArray[np.int32]]] = {}  # by priority, at the start of the round

    # ------------------------------------------------------------------------ what there is

    def _live_running(self) -> BoolArray:
        live: BoolArray = self._columns.live & (self._columns.desired == Desired.RUN)
        return live

    def _evictable(self, leaving: Int64Array) -> Int64Array:
        """int64 per row: its job's priority, NOBODY where it must stay."""
        columns, view = self._columns, self._view
        top = max(view.jobs_by_slot, default=-1) + 1
        by_job = np.full(top + 1, NOBODY, dtype=np.int64)
        if view.settings.preemption:
            for slot, job in view.jobs_by_slot.items():
                if not job.spec.unpreemptible:
                    by_job[slot] = job.spec.priority
        ready = np.array([node.status is NodeStatus.READY for node in self.problem.nodes] + [False], dtype=np.bool_)
        priority: Int64Array = by_job[columns.job]
        priority[~(self._live_running() & ready[self._node])] = NOBODY  # ready[-1]: on no node that there is
        priority[leaving] = NOBODY
        return priority

    def _will_be_free(self, position: int) -> None:
        columns, node = self._columns, int(self._node[position])
        self._add(node, position, 1)
        ports = columns.ports.get(int(columns.row[position]), ())
        if ports:
            self._more_ports.setdefault(node, set()).update(ports)
        self._leaving_on[node] = self._leaving_on.get(node, 0) + 1
        reason = columns.reasons.get(int(columns.row[position]), "")
        if reason.startswith(PREEMPTED):
            self._nominated.setdefault(group_in(reason), set()).add(node)

    def _add(self, node: int, position: int, sign: int) -> None:
        """What a row holds, onto what will be free."""
        columns = self._columns
        held = (columns.cpu_millis[position], columns.memory_mib[position], columns.disk_mib[position])
        self._more[node] += sign * np.array(held, dtype=np.int64)
        mask, millis = int(columns.device_mask[position]), int(columns.gpu_millis[position])
        if mask:
            for device in range(self._more_devices.shape[1]):
                if mask >> device & 1 and self.problem.devices.capacity[node] > device * 1000:
                    self._more_devices[node, device] += sign * millis
        custom = columns.custom.get(int(columns.row[position]))
        if custom:
            self.problem.custom.add(self._more_custom, node, custom, sign)

    # ------------------------------------------------------------------------ one ask

    def is_worth_trying(self, ask: Ask, wish: Wish) -> bool:
        """False: an equal wish of at least this priority found nothing, and room only gets less; or it would find none
        if everything lower went. So whoever cannot be helped uses up nothing of what a round does for others."""
        if self._hopeless.get((wish, _together(ask, wish)), -1) >= ask.job.spec.priority or self._looks >= LOOKS_MAX:
            return False
        self._looks += 1
        if self._may_be_helped(ask, wish):
            return True
        if not ask.pinned:
            self.give_up(ask, wish)
        return False

    def _may_be_helped(self, ask: Ask, wish: Wish) -> bool:
        problem, priority = self.problem, ask.job.spec.priority
        if priority not in self._most:
            self._most[priority] = self.later(priority)[2:]
        free, devices = self._most[priority]
        mask = suitable(problem, wish._replace(everywhere=True))  # what is kept for a gang may be given back
        if ask.pinned:
            only = problem.numbers(np.sort(ask.ordinals))
            mask[np.setdiff1d(np.arange(len(problem)), only)] = False
        times = times_on(problem, wish, mask, free, devices)
        return int(np.minimum(times, _together(ask, wish)).sum()) >= _together(ask, wish)

    def give_up(self, ask: Ask, wish: Wish) -> None:
        """There is nothing that makes room for it."""
        key = wish, _together(ask, wish)
        self._hopeless[key] = max(self._hopeless.get(key, -1), ask.job.spec.priority)

    def look_again(self) -> None:
        """Asks were placed since: nodes may be full, or kept for a gang."""
        self._suitable.clear()
        self._known.clear()

    def make_room(self, ask: Ask, wish: Wish, places: Sequence[int]) -> None:
        """Find and hold room for the instances ``places`` of an ask, which did not fit, one after the other."""
        self.asks += 1
        wait = self._wait_of(ask)
        neighbours = self.neighbours(wish)
        for place in places:
            self.instances += 1
            allowed = self._allowed(ask, wish, place)
            if neighbours is not None:
                allowed = allowed & neighbours.allowed()
            node = self._one(ask, wish, place, allowed, wait)
            if node >= 0:
                if neighbours is not None:
                    neighbours.add(node)
                continue
            wait.unmet += 1
            if not ask.pinned:
                self.give_up(ask, wish)
                return

    def make_room_together(self, ask: Ask, wish: Wish, places: Sequence[int], nodes: Int64Array) -> bool:
        """Room for all of them on these nodes, with what is free there; False: some of them found none, and the caller
        undoes what was done for the others."""
        wait = self._wait_of(ask)
        allowed = np.zeros(len(self.problem), dtype=np.bool_)
        allowed[nodes] = True
        neighbours = self.neighbours(wish)
        for place in places:
            self.instances += 1
            here = allowed if neighbours is None else allowed & neighbours.allowed()
            node = self._one(ask, wish, place, here, wait, also_free=True)
            if node < 0:
                return False
            if neighbours is not None:
                neighbours.add(node)
        return True

    def neighbours(self, wish: Wish) -> Neighbours | None:
        """Where the next ones may be because of others, once those have gone who were told to before this round."""
        return neighbours_of(self.problem, wish, self._suits(wish), self._gone)

    def budgets_of(self, ask: Ask) -> dict[str, str]:
        """What stood in the way of evicting more for it, so far."""
        return dict(self._wait_of(ask).budgets)

    def not_met(self, ask: Ask, count: int, budgets: Mapping[str, str]) -> None:
        """So many instances have nothing to wait for, and that stood in the way."""
        wait = self._wait_of(ask)
        wait.unmet += count
        wait.budgets.update(budgets)

    def harm_since(self, evictions: int) -> tuple[int, int]:
        """The highest priority among what is evicted after the first so many, and how many that are."""
        evicted = self.evictions[evictions:]
        return max((self._job_of(one.position).spec.priority for one in evicted), default=-1), len(evicted)

    def later(self, priority: int) -> tuple[Int64Array, npt.NDArray[np.int32], Int64Array, npt.NDArray[np.int32]]:
        """What is free, and free of each device, of all nodes, once what is told to stop has ended; and likewise if all
        that ``priority`` may evict ended, too, which budgets and units may forbid."""
        columns, problem = self._columns, self.problem
        soon, soon_devices = problem.free + self._more, problem.devices.free + self._more_devices
        most, most_devices = soon.copy(), soon_devices.copy()
        rows = np.flatnonzero(self._priority < priority)
        where = self._node[rows]
        for dimension, column in enumerate((columns.cpu_millis, columns.memory_mib, columns.disk_mib)):
            np.add.at(most[:, dimension], where, column[rows])
        self._add_devices(most_devices, rows)
        return soon, soon_devices, most, most_devices

    def _add_devices(self, free: npt.NDArray[np.int32], rows: Int64Array) -> None:
        """What these rows have of devices, onto what is free of each."""
        columns, where = self._columns, self._node[rows]
        for number in range(free.shape[1]):
            has = (columns.device_mask[rows] >> np.uint64(number)) & np.uint64(1) == 1
            has &= self.problem.devices.capacity[where] > number * 1000
            np.add.at(free[:, number], where[has], columns.gpu_millis[rows[has]])

    def _wait_of(self, ask: Ask) -> Wait:
        return self.waits.setdefault((ask.job.slot, ask.group), Wait())

    def _allowed(self, ask: Ask, wish: Wish, place: int) -> BoolArray:
        allowed = self._suits(wish)
        if not ask.pinned:
            return allowed
        number = self.problem.number_of_slot.get(int(ask.ordinals[place]), -1)
        only = np.zeros_like(allowed)
        if number >= 0:
            only[number] = allowed[number]
        return only

    def _suits(self, wish: Wish) -> BoolArray:
        known = self._suitable.get(wish)
        if known is None:
            known = self._suitable[wish] = suitable(self.problem, wish)
        return known

    def _one(self, ask: Ask, wish: Wish, place: int, allowed: BoolArray, wait: Wait, *, also_free: bool = False) -> int:
        """The node, or -1. ``also_free``: what is free may do; else it is known that it does not."""
        name = self._name(ask, place)
        nodes = np.flatnonzero(allowed) if also_free else self._where_freed(allowed)
        node = self._being_freed(wish, nodes, group_in(name))
        if node < 0:
            harm = self._harm(ask, wish, allowed, wait)
            if harm is None:
                return -1
            node = harm.node
            for position in harm.positions:
                self._evict(position, ask.job, name)
                wait.evicted.append(title(self._view, position))
        self._hold(node, wish)
        wait.nodes[self.problem.nodes[node].spec.name] = self._leaving_on.get(node, 0)
        return node

    def _where_freed(self, allowed: BoolArray) -> Int64Array:
        return np.array([node for node in sorted(self._leaving_on) if allowed[node]], dtype=np.int64)

    def _name(self, ask: Ask, place: int) -> str:
        """``preempted by web/api/0 (priority 80)``: unambiguous, for the next round reads it."""
        spec = ask.job.spec
        where = "" if spec.namespace == "default" else f" of namespace {spec.namespace}"
        return (
            f"{PREEMPTED}{spec.name}/{spec.groups[ask.group].name}/{ask.ordinals[place]}{where} "
            f"(priority {spec.priority})"
        )

    def _being_freed(self, wish: Wish, nodes: Int64Array, mine: str) -> int:
        """The one of these where it fits once everything that was told to stop has ended, or -1: one where room is made
        for it before others, then the tightest."""
        nodes = nodes[self._fits_later(wish, nodes)]
        if not len(nodes):
            return -1
        left = (self.problem.free[nodes] + self._more[nodes] - np.array(wish.request)) * 1000
        slack = (left // np.maximum(self.problem.capacity[nodes], 1)).sum(axis=1)
        made = np.isin(nodes, list(self._nominated.get(mine, ())))
        return int(nodes[np.lexsort((nodes, slack, ~made))[0]])

    def _fits_later(self, wish: Wish, nodes: Int64Array) -> BoolArray:
        """bool per given node: it fits into what is free there and what will be."""
        if not len(nodes):
            return np.zeros(0, dtype=np.bool_)
        problem = self.problem
        problem.free += self._more
        problem.devices.free += self._more_devices
        problem.custom.free += self._more_custom
        released = []
        if wish.ports:
            released = [(node, self._more_ports[node]) for node in nodes.tolist() if node in self._more_ports]
            for node, ports in released:
                problem.ports.release(node, ports)
        try:
            return has_room(problem, wish, nodes)
        finally:
            for node, ports in released:
                problem.ports.occupy(node, ports)
            problem.free -= self._more
            problem.devices.free -= self._more_devices
            problem.custom.free -= self._more_custom

    # ------------------------------------------------------------------------ evicting

    def _harm(self, ask: Ask, wish: Wish, allowed: BoolArray, wait: Wait) -> Harm | None:
        """The least harm that makes room, level of priority by level; None: nothing that may be done does."""
        problem, priority = self.problem, ask.job.spec.priority
        request = np.array(wish.request, dtype=np.int64)
        later = problem.free + self._more
        lack = np.maximum(request - later, 0)
        for level in self._levels:
            if level >= priority:
                break
            known = self._freeable_to(level)
            nodes = np.flatnonzero(allowed & (known.victims > 0) & (later + known.freed >= request).all(axis=1))
            if len(nodes) > NODES_MAX:
                nodes = nodes[self._would_do(wish, nodes, level)]
                least = (-(-lack[nodes] // np.maximum(known.largest[nodes], 1))).max(axis=1, initial=0)
                shares = (lack[nodes] * 1000 // np.maximum(problem.capacity[nodes], 1)).sum(axis=1)
                nodes = nodes[np.lexsort((nodes, shares, least))[:NODES_TRIED_MAX]]
            cached = self._known.setdefault((wish, level), {})
            for start in range(0, len(nodes), NODES_MAX):
                some = nodes[start : start + NODES_MAX].tolist()
                for node in some:
                    if node not in cached:
                        cached[node] = self._harm_on(node, wish, level, wait)
                found = [harm for node in some if (harm := cached[node]) is not None]
                if found:
                    return min(found, key=lambda harm: (harm.priority, harm.count, harm.waste, harm.node))
        return None

    def _would_do(self, wish: Wish, nodes: Int64Array, level: int) -> BoolArray:
        """bool per given node, where amounts would do: whether devices, custom resources and ports would, too, if
        everything up to the level went."""
        problem, columns = self.problem, self._columns
        good: BoolArray = np.ones(len(nodes), dtype=np.bool_)
        if wish.plain:
            return good
        if wish.gpus is not None:
            free = problem.devices.free + self._more_devices
            self._add_devices(free, np.flatnonzero(self._priority <= level))
            good &= problem.devices.times(wish.gpus, nodes, free[nodes]) > 0
        if wish.custom:
            custom = problem.custom.free + self._more_custom
            for row, node in self._holders(columns.custom, level):
                problem.custom.add(custom, node, columns.custom[row], 1)
            times = np.full(len(nodes), ENDLESS, dtype=np.int64)
            problem.custom.limit(times, wish.custom, nodes, custom)
            good &= times > 0
        if wish.ports:
            coming = {node: list(ports) for node, ports in self._more_ports.items()}
            for row, node in self._holders(columns.ports, level):
                coming.setdefault(node, []).extend(columns.ports[row])
            good &= [self._ports_fit(node, wish.ports, coming.get(node, ())) for node in nodes.tolist()]
        return good

    def _holders(self, what: Mapping[int, object], level: int) -> Iterator[tuple[int, int]]:
        """Row and node of those up to the level that hold some of ``what``, which is by row."""
        columns = self._columns
        rows = np.flatnonzero(np.isin(columns.row, np.fromiter(what, dtype=np.int64, count=len(what))))
        rows = rows[self._priority[rows] <= level]
        return zip(columns.row[rows].tolist(), self._node[rows].tolist(), strict=True)

    def _ports_fit(self, node: int, wanted: tuple[int, ...], coming: Sequence[int]) -> bool:
        ports = self.problem.ports
        ports.release(node, coming)
        fits = ports.fit(node, wanted)
        ports.occupy(node, coming)
        return fits

    def _freeable_to(self, level: int) -> _Freeable:
        known = self._freeable.get(level)
        if known is None:
            columns, nodes = self._columns, len(self.problem)
            rows = np.flatnonzero(self._priority <= level)
            where = self._node[rows]
            freed = np.zeros((nodes, 3), dtype=np.int64)
            largest = np.zeros((nodes, 3), dtype=np.int64)
            for dimension, column in enumerate((columns.cpu_millis, columns.memory_mib, columns.disk_mib)):
                freed[:, dimension] = np.bincount(where, weights=column[rows], minlength=nodes)
                np.maximum.at(largest[:, dimension], where, column[rows])
            known = _Freeable(
                freed=freed, largest=largest, victims=np.bincount(where, minlength=nodes).astype(np.int64)
            )
            self._freeable[level] = known
        return known

    def _members(self, unit: int) -> list[int]:
        first, last = np.searchsorted(self._sorted_units, [unit, unit + 1])
        members = self._by_unit[first:last]
        running: list[int] = members[self._running[members]].tolist()
        return running

    def _job_of(self, position: int) -> Job:
        return self._view.jobs_by_slot[int(self._columns.job[position])]

    def _harm_on(self, node: int, wish: Wish, level: int, wait: Wait) -> Harm | None:
        problem = self.problem
        here = self._by_node[self._starts[node] : self._starts[node + 1]]
        here = here[self._priority[here] <= level]
        victims = self._singles(here, wait) if self._all_alone else self._whole_units(node, here, level, wait)
        free = problem.free[node] + self._more[node]
        lack = tuple(max(0, want - int(have)) for want, have in zip(wish.request, free.tolist(), strict=True))
        return least_harm(
            node,
            victims,
            lack=lack,
            capacity=tuple(problem.capacity[node].tolist()),
            left=self._budgets.left,
            fits=lambda chosen: self._would_fit(node, wish, chosen),
            plain=wish.plain,
        )

    def _singles(self, here: Int64Array, wait: Wait) -> list[Victim]:
        """The victims on a node where each is a unit of its own: as ``_whole_units`` would have them, only faster."""
        columns = self._columns
        millis = np.bitwise_count(columns.device_mask[here]) * columns.gpu_millis[here]
        arrays = (
            here, self._priority[here], columns.cpu_millis[here], columns.memory_mib[here], columns.disk_mib[here],
            millis, columns.create_index[here], columns.job[here],
        )  # fmt: skip
        victims: list[Victim] = []
        for position, priority, cpu, memory, disk, gpus, created, slot in zip(
            *(array.tolist() for array in arrays), strict=True
        ):
            groups: tuple[tuple[tuple[int, str], int], ...] = ()
            if self._view.jobs_by_slot[slot].spec.disruption is not None:
                groups = ((self._budgets.group_of(position), 1),)
                if self._is_held(dict(groups), wait):
                    continue
            victims.append(
                Victim(
                    positions=(position,),
                    priority=priority,
                    frees=(cpu, memory, disk),
                    millis=gpus,
                    groups=groups,
                    age=-created,
                )
            )
        return victims

    def _whole_units(self, node: int, here: Int64Array, level: int, wait: Wait) -> list[Victim]:
        columns = self._columns
        victims: list[Victim] = []
        for unit in dict.fromkeys(self._units[here].tolist()):
            members = self._members(unit)
            if any(self._priority[member] > level for member in members):
                continue  # part of it must stay
            groups: dict[tuple[int, str], int] = {}
            for member in members:
                key = self._budgets.group_of(member)
                groups[key] = groups.get(key, 0) + 1
            if self._is_held(groups, wait):
                continue
            mine = np.array([member for member in members if self._node[member] == node], dtype=np.int64)
            victims.append(
                Victim(
                    positions=tuple(members),
                    priority=max(int(self._priority[member]) for member in members),
                    frees=(
                        int(columns.cpu_millis[mine].sum()),
                        int(columns.memory_mib[mine].sum()),
                        int(columns.disk_mib[mine].sum()),
                    ),
                    millis=int((np.bitwise_count(columns.device_mask[mine]) * columns.gpu_millis[mine]).sum()),
                    groups=tuple(groups.items()),
                    age=-int(columns.create_index[mine].max()),
                )
            )
        return victims

    def _is_held(self, groups: Mapping[tuple[int, str], int], wait: Wait) -> bool:
        """Whether a budget forbids to take so many of these groups; noted if so."""
        held = [key for key, count in groups.items() if self._budgets.left(key) < count]
        for slot, group in held:
            name = f"{self._view.jobs_by_slot[slot].spec.name}/{group}"
            wait.budgets[name] = self._budgets.said((slot, group))
        return bool(held)

    def _would_fit(self, node: int, wish: Wish, victims: Sequence[Victim]) -> bool:
        here = [at for victim in victims for at in victim.positions if self._node[at] == node]
        ports = {port for at in here for port in self._columns.ports.get(int(self._columns.row[at]), ())}
        before = self._more_ports.get(node)
        for at in here:
            self._add(node, at, 1)
        if ports:
            self._more_ports[node] = (before or set()) | ports
        fits = bool(self._fits_later(wish, np.array([node], dtype=np.int64))[0])
        for at in here:
            self._add(node, at, -1)
        if ports:
            if before is None:
                del self._more_ports[node]
            else:
                self._more_ports[node] = before
        return fits

    def _evict(self, position: int, by: Job, reason: str) -> None:
        columns, node = self._columns, int(self._node[position])
        held = (columns.cpu_millis[position], columns.memory_mib[position], columns.disk_mib[position])
        for level, known in self._freeable.items():
            if self._priority[position] <= level:
                known.freed[node] -= np.array(held, dtype=np.int64)
                known.victims[node] -= 1
        self._priority[position] = NOBODY
        if not self._all_alone:
            self._known.clear()  # the unit frees room on other nodes, too
        if self._job_of(position).spec.disruption is not None:
            self._budgets.take(self._budgets.group_of(position), 1)
            self._known.clear()  # what the budget leaves changes what is possible elsewhere
        self._will_be_free(position)
        self.evictions.append(Eviction(position=position, by=by, reason=reason))

    # ------------------------------------------------------------------------ holding

    def _hold(self, node: int, wish: Wish) -> None:
        """Take the room of one instance: of what will be free first, the rest of what is."""
        problem, more = self.problem, self._more
        for cached in self._known.values():
            cached.pop(node, None)
        request = np.array(wish.request, dtype=np.int64)
        soon = np.minimum(np.maximum(more[node], 0), request)
        if wish.gpus is not None:
            free, coming = problem.devices.free, self._more_devices
            free[node] += coming[node]
            best = problem.devices.best(node, wish.gpus)
            free[node] -= coming[node]
            assert best is not None, "it was seen to fit"
            for device in best.numbers:
                early = min(int(coming[node, device]), wish.gpus.gpu_millis)
                coming[node, device] -= early
                free[node, device] -= wish.gpus.gpu_millis - early
        more[node] -= soon
        problem.free[node] -= request - soon
        problem.custom.take_coming(self._more_custom, node, wish.custom)
        leaving = self._more_ports.get(node, set())
        for port in wish.ports:
            if port in leaving:
                leaving.discard(port)
            elif port:
                problem.ports.occupy(node, (port,))

    def mark(self, *, ports: bool = False) -> Mark:
        """``ports``: whether ports will be held, which costs a copy of all that are taken."""
        return Mark(
            restore_ports=self.problem.ports.remember(range(len(self.problem))) if ports else None,
            nominated={group: set(nodes) for group, nodes in self._nominated.items()},
            free=self.problem.free.copy(),
            devices=self.problem.devices.free.copy(),
            more=self._more.copy(),
            more_devices=self._more_devices.copy(),
            custom=self.problem.custom.free.copy(),
            more_custom=self._more_custom.copy(),
            more_ports={node: set(ports) for node, ports in self._more_ports.items()},
            priority=self._priority.copy(),
            leaving_on=dict(self._leaving_on),
            budgets=self._budgets.mark(),
            evictions=len(self.evictions),
            waits={key: copy(wait) for key, wait in self.waits.items()},
        )

    def undo(self, mark: Mark) -> None:
        """As it was at ``mark``, which is used up."""
        if mark.restore_ports is not None:
            mark.restore_ports()
        self._nominated = mark.nominated
        self.problem.free[:] = mark.free
        self.problem.devices.free[:] = mark.devices
        self.problem.custom.free[:] = mark.custom
        self._more_custom = mark.more_custom
        self._more, self._more_devices, self._more_ports = mark.more, mark.more_devices, mark.more_ports
        self._priority, self._leaving_on, self.waits = mark.priority, mark.leaving_on, mark.waits
        self._budgets.undo(mark.budgets)
        self._freeable.clear()
        self._known.clear()
        del self.evictions[mark.evictions :]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Freeable:
    """Per node, what evicting everything up to some priority would free, the most that one victim frees (it may be gone
    since: then it is too much), and how many there are."""

    freed: Int64Array
    largest: Int64Array
    victims: Int64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Everything that making room for a unit changes."""

    restore_ports: Callable[[], None] | None
    nominated: dict[str, set[int]]
    free: Int64Array
    devices: npt.NDArray[np.int32]
    more: Int64Array
    more_devices: npt.NDArray[np.int32]
    custom: Int64Array
    more_custom: Int64Array
    more_ports: dict[int, set[int]]
    priority: Int64Array
    leaving_on: dict[int, int]
    budgets: dict[tuple[int, str], int]
    evictions: int
    waits: dict[tuple[int, int], Wait]


def _numbers(problem: Problem, slots: npt.NDArray[np.int32]) -> Int64Array:
    """int64 per row: the number of its node, -1 where that is forgotten."""
    if not len(problem) or not len(slots):
        return np.full(len(slots), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(problem.slots, slots), len(problem) - 1)
    return np.where(problem.slots[at] == slots, at, -1).astype(np.int64)


def _together(ask: Ask, wish: Wish) -> int:
    """How many instances must find room, or none does."""
    return 1 if wish.gang is None else len(ask.ordinals)
