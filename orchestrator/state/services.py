"""Who answers under which name: an index over the state that is brought up to date when somebody wants to know.

Owns: the services and their ready instances, and at which index each was found changed. Leaves to others: names
(``contract.services``), what ready means (``state.rollouts``), watchers (``api.services``). The rule: level-triggered.
A look compares what it knows with what is there, so no command has to say that a service changed; what it costs is one
pass over a column and the rows that changed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orchestrator.contract.model import AllocState, Service, ServiceInstance
from orchestrator.contract.services import offered
from orchestrator.state.allocations import FREE
from orchestrator.state.model import Job, Node
from orchestrator.state.rollouts import ready_rows
from orchestrator.state.state import Rows, State
from orchestrator.state.views import allocation_id

Key = tuple[str, str]
"""Namespace, name."""

REMEMBERED = 10_000
"""So many of the newest changes can be resumed after; who asks for older ones is told everything."""

_Found = tuple[tuple[Key, ServiceInstance], ...]


class ServiceIndex:
    """``at``: the index of the state that was looked at last; ``since``: changes after it are remembered."""

    def __init__(self, *, remembered: int = REMEMBERED) -> None:
        self.at = 0
        self.since = 0
        self._remembered = remembered
        self._services: dict[Key, Service] = {}
        self._changed: dict[Key, int] = {}  # the last changed comes last
        self._forget_state()

    def _forget_state(self) -> None:
        self._state: State | None = None
        self._rows: dict[int, tuple[int, _Found]] = {}  # of rows with instances: create index
        self._instances: dict[Key, dict[tuple[int, int], ServiceInstance]] = {}  # by row and place within it
        self._nodes: dict[int, Node] = {}
        self._jobs: dict[int, tuple[Job, tuple[Key, ...]]] = {}
        self._declared: dict[Key, int] = {}  # by how many groups

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

    def look(self, state: State) -> list[Key]:
        """Bring it up to date; the services that changed since the last look."""
        if state is self._state and state.index == self.at:
            return []
        dirty: set[Key] = set()
        if state is not self._state:
            dirty.update(self._services)
            first = self._state is None and not self._changed and not self._services
            self._forget_state()
            self._state = state
            if first or state.index < self.at:
                self.since = state.index  # what was before the first look, or of another life, is not known
                self._changed.clear()
            seen = -1
        else:
            seen = self.at
        self._look_at_jobs(state, seen, dirty)
        self._drop_gone(state, dirty)
        rows = self._rows_to_look_at(state, seen)
        ready = ready_rows(state, rows) if len(rows) else np.empty(0, dtype=np.bool_)
        ports = state.table.ports
        for row, well in zip(rows.tolist(), ready.tolist(), strict=True):
            if row in self._rows or (well and row in ports):
                self._put(row, int(state.table.create_index[row]), self._of_row(state, row) if well else (), dirty)
        self.at = state.index
        return sorted(key for key in dirty if self._settle(key))

    def _look_at_jobs(self, state: State, seen: int, dirty: set[Key]) -> None:
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
                dirty.add(key)
            for key in offers:
                self._declared[key] = self._declared.get(key, 0) + 1
                dirty.add(key)
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

    def _drop_gone(self, state: State, dirty: set[Key]) -> None:
        """Rows that were collected; another allocation may have them by now."""
        if not self._rows:
            return
        known = np.fromiter(self._rows, dtype=np.int64, count=len(self._rows))
        created = np.fromiter((one[0] for one in self._rows.values()), dtype=np.int64, count=len(self._rows))
        for row in known[state.table.create_index[known] != created].tolist():
            self._put(row, 0, (), dirty)

    def _of_row(self, state: State, row: int) -> _Found:
        table = state.table
        job = state.job_at[int(table.job[row])]
        spec = state.spec_of(job, int(table.version[row]))
        group = spec.groups[int(table.group[row])]
        node = state.node_at[int(table.node[row])].spec
        taken = {port.label: (number, port) for port, number in zip(group.ports, table.ports.get(row, ()), strict=True)}
        id_ = allocation_id(state, row)
        found = []
        for offer in offered(spec.name, group):
            if offer.port not in taken:
                continue
            number, port = taken[offer.port]
            found.append(
                (
                    (spec.namespace, offer.name),
                    ServiceInstance(
                        allocation=id_,
                        attempt=int(table.attempt[row]),
                        address=node.address,
                        port=number,
                        label=port.label,
                        protocol=port.protocol,
                        node_id=node.id,
                        node_name=node.name,
                    ),
                )
            )
        return tuple(found)

    def _put(self, row: int, created: int, found: _Found, dirty: set[Key]) -> None:
        _, before = self._rows.pop(row, (0, ()))
        if found:
            self._rows[row] = (created, found)
        if found == before:
            return
        for place, (key, _) in enumerate(before):
            del self._instances[key][(row, place)]
            dirty.add(key)
        for place, (key, instance) in enumerate(found):
            self._instances.setdefault(key, {})[(row, place)] = instance
            dirty.add(key)

    def _settle(self, key: Key) -> bool:
        """Make the service anew; whether it differs from what was known."""
        instances = self._instances.get(key)
        if instances is not None and not instances:
            del self._instances[key]
            instances = None
        made: Service | None = None
        if instances or key in self._declared:
            order = sorted((instances or {}).values(), key=lambda one: (one.allocation, one.attempt, one.port))
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
