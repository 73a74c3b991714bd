"""Who answers under which name: an index over the state that is brought up to date when somebody wants to know.

Owns: the services and their ready instances, and at which index each was found changed. Leaves to others: names
(``contract.services``), what ready means (``state.rollouts``), watchers (``api.services``). The rule: level-triggered.
A look compares what it knows with what is there, so no command has to say that a service changed; what it costs is one
pass over a few columns and the rows that changed, and it can be taken in parts.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import (
    AllocationId,
    AllocState,
    GroupSpec,
    JobSpec,
    PortSpec,
    Service,
    ServiceInstance,
)
from orchestrator.contract.services import offered
from orchestrator.state.allocations import FREE
from orchestrator.state.model import Job, Node
from orchestrator.state.rollouts import ready_rows
from orchestrator.state.state import Rows, State

Key = tuple[str, str]
"""Namespace, name."""

REMEMBERED = 10_000
"""So many of the newest changes can be resumed after; who asks for older ones is told everything."""

MOST_SPECS = 2_000
AT_ONCE = 1_000
"""Rows or instances that one part of a look takes: some ten milliseconds."""

_Found = tuple[tuple[Key, ServiceInstance], ...]
_Offer = tuple[Key, int, PortSpec]
"""Service, place of its port among the group's, that port."""


class ServiceIndex:
    """``at``: the index of the state that was looked at last; ``since``: changes after it are remembered."""

    def __init__(self, *, remembered: int = REMEMBERED) -> None:
        self.at = 0
        self.since = 0
        self._remembered = remembered
        self._services: dict[Key, Service] = {}
        self._changed: dict[Key, int] = {}  # the last changed comes last
        self._dirty: set[Key] = set()
        self._news: list[Key] = []
        self._forget_state()

    def _forget_state(self) -> None:
        self._state: State | None = None
        self._collected = -1  # what changed up to this index is known, or waits in ``_todo``
        self._todo: Rows = np.empty(0, dtype=np.int32)
        self._rows: dict[int, _Found] = {}  # those with instances
        self._created: npt.NDArray[np.int64] = np.zeros(64, dtype=np.int64)  # their create index, by row
        self._instances: dict[Key, dict[tuple[int, int], ServiceInstance]] = {}  # by row and place within it
        self._nodes: dict[int, Node] = {}
        self._jobs: dict[int, tuple[Job, tuple[Key, ...]]] = {}
        self._declared: dict[Key, int] = {}  # by how many groups
        self._offers: dict[int, tuple[JobSpec, dict[str, tuple[_Offer, ...]]]] = {}  # by id of the spec

    # ------------------------------------------------------------------------ asking

    def service(self, key: Key) -> Service:
        """As of the last look; what nobody offers is neither declared nor has it instances."""
        return self._services.get(key) or Service(namespace=key[0], name=key[1])

    def matching(self, namespace: str, name: str) -> list[Key]:
        """Sorted; ``namespace`` "*" and ``name`` "" match all."""
        if namespace != "*" and name:
            return [key for key in ((namespace, name),) if key in self._services]
        return sorted(key for key in self._services if namespace in ("*", key[0]) and name in ("", key[1]))

    def changed_after(self, index: int) -> list[Key] | None:
        """Sorted; with those that are gone. None: so far back is not remembered."""
        if index < self.since:
            return None
        keys = []
        for key, changed in reversed(self._changed.items()):
            if changed <= index:
                break
            keys.append(key)
        return sorted(keys)

    # ------------------------------------------------------------------------ looking

    def look(self, state: State, *, most: int | None = None) -> list[Key] | None:
        """Bring it up to date; the services that changed since the last look.

        None: this was a part, of about ``most`` rows or instances; call again until there is an answer. What was asked
        for meanwhile is as of the look before.
        """
        if state is self._state and state.index == self.at and not self._dirty and not len(self._todo):
            return []
        if state is not self._state:
            first = self._state is None and not self._services and not self._changed
            self._dirty.update(self._services)
            self._forget_state()
            self._state = state
            if first or state.index < self.at:
                self.since = state.index  # what was before the first look, or of another life, is not known
                self._changed.clear()
        room = most if most is not None else 1 << 62
        self._collect(state)
        rows, self._todo = self._todo[:room], self._todo[room:]
        ready = ready_rows(state, rows) if len(rows) else np.empty(0, dtype=np.bool_)
        ports = state.table.ports
        for row, well in zip(rows.tolist(), ready.tolist(), strict=True):
            if row in self._rows or (well and row in ports):
                self._put(row, int(state.table.create_index[row]), self._of_row(state, row) if well else ())
        room -= len(rows)
        if len(self._todo):
            return None
        self.at = state.index
        while self._dirty:
            if room <= 0:
                return None
            key = self._dirty.pop()
            room -= 1 + len(self._instances.get(key, ()))
            if self._settle(key):
                self._news.append(key)
        news, self._news = sorted(set(self._news)), []
        return news

    def _collect(self, state: State) -> None:
        """What changed since it was last collected."""
        if state.index == self._collected:
            return
        self._look_at_jobs(state, self._collected)
        self._drop_gone(state)
        rows = self._rows_to_look_at(state, self._collected)
        self._todo = np.union1d(self._todo, rows).astype(np.int32) if len(self._todo) else rows
        self._collected = state.index

    def _look_at_jobs(self, state: State, seen: int) -> None:
        slots: Iterable[int] | None = state.changes.since(seen)
        if slots is None:
            slots = {*state.job_at, *self._jobs}
        for slot in slots:
            job = state.job_at.get(slot)
            before = self._jobs.get(slot)
            if before is not None and before[0] is job:
                continue
            offers: tuple[Key, ...] = ()
            if job is not None and not job.stopped and not job.removing:
                spec = job.spec
                offers = tuple((spec.namespace, one.name) for group in spec.groups for one in offered(spec.name, group))
            for key in before[1] if before is not None else ():
                self._declared[key] -= 1
                if not self._declared[key]:
                    del self._declared[key]
                self._dirty.add(key)
            for key in offers:
                self._declared[key] = self._declared.get(key, 0) + 1
                self._dirty.add(key)
            if job is not None:
                self._jobs[slot] = (job, offers)
            else:
                self._jobs.pop(slot, None)

    def _rows_to_look_at(self, state: State, seen: int) -> Rows:
        """int32: those that changed, or whose node did."""
        table = state.table
        high = table.high
        wanted = table.modify_index[:high] > seen
        moved = [slot for slot, node in state.node_at.items() if self._nodes.get(slot) is not node]
        if moved:
            self._nodes = dict(state.node_at)
            wanted |= np.isin(table.node[:high], moved) & (table.state[:high] == int(AllocState.RUNNING))
        rows: Rows = np.flatnonzero(wanted & (table.job[:high] != FREE)).astype(np.int32)
        return rows

    def _drop_gone(self, state: State) -> None:
        """Rows that were collected; another allocation may have them by now."""
        created = state.table.create_index
        size = min(len(created), len(self._created))
        gone = (self._created[:size] != 0) & (self._created[:size] != created[:size])
        for row in np.flatnonzero(gone).tolist():
            self._put(row, 0, ())

    def _of_row(self, state: State, row: int) -> _Found:
        table = state.table
        job = state.job_at[int(table.job[row])]
        spec = state.spec_of(job, int(table.version[row]))
        group = spec.groups[int(table.group[row])].name
        node = state.node_at[int(table.node[row])].spec
        numbers = table.ports[row]
        attempt = int(table.attempt[row])
        id_ = AllocationId(namespace=spec.namespace, job=spec.name, group=group, ordinal=int(table.ordinal[row]))
        return tuple(
            (
                key,
                ServiceInstance(
                    allocation=id_,
                    attempt=attempt,
                    address=node.address,
                    port=numbers[place],
                    label=port.label,
                    protocol=port.protocol,
                    node_id=node.id,
                    node_name=node.name,
                ),
            )
            for key, place, port in self._offers_of(spec)[group]
        )

    def _offers_of(self, spec: JobSpec) -> dict[str, tuple[_Offer, ...]]:
        """By group. Kept with the spec, so that its id stays its own."""
        known = self._offers.get(id(spec))
        if known is None:
            if len(self._offers) >= MOST_SPECS:
                self._offers.clear()
            made = {group.name: tuple(_offers(spec, group)) for group in spec.groups}
            known = self._offers[id(spec)] = (spec, made)
        return known[1]

    def _put(self, row: int, created: int, found: _Found) -> None:
        before = self._rows.pop(row, ())
        if found:
            self._rows[row] = found
            if row >= len(self._created):
                larger = np.zeros(max(row + 1, 2 * len(self._created)), dtype=np.int64)
                larger[: len(self._created)] = self._created
                self._created = larger
            self._created[row] = created
        elif before:
            self._created[row] = 0
        if found == before:
            return
        for place, (key, _) in enumerate(before):
            del self._instances[key][(row, place)]
            self._dirty.add(key)
        for place, (key, instance) in enumerate(found):
            self._instances.setdefault(key, {})[(row, place)] = instance
            self._dirty.add(key)

    def _settle(self, key: Key) -> bool:
        """Make the service anew; whether it differs from what was known."""
        instances = self._instances.get(key)
        if instances is not None and not instances:
            del self._instances[key]
            instances = None
        made: Service | None = None
        if instances or key in self._declared:
            order = sorted((instances or {}).values(), key=_order)
            made = Service(namespace=key[0], name=key[1], instances=tuple(order), declared=key in self._declared)
        if made == self._services.get(key):
            return False
        if made is None:
            del self._services[key]
        else:
            self._services[key] = made
        self._changed.pop(key, None)
        self._changed[key] = self.at
        while len(self._changed) > self._remembered:
            oldest = next(iter(self._changed))
            self.since = max(self.since, self._changed.pop(oldest))
        return True


def _offers(spec: JobSpec, group: GroupSpec) -> Iterable[_Offer]:
    places = {port.label: (place, port) for place, port in enumerate(group.ports)}
    for offer in offered(spec.name, group):
        if offer.port in places:
            yield (spec.namespace, offer.name), *places[offer.port]


def _order(one: ServiceInstance) -> tuple[str, str, int, int, int]:
    id_ = one.allocation
    return id_.job, id_.group, id_.ordinal, one.attempt, one.port
