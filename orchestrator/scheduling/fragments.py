"""How much of a node's free devices is a fragment: of no use to what the cluster is typically asked for.

Owns: the measure F of "Beware of Fragmentation" (Weng et al., USENIX ATC 2023, section 3.2), kept as a table so that a
decision is a few look-ups. Leaves to others: which classes are typical (``typical``), what a growth of F is worth
(``policies``). The rule: whole numbers; F depends on nothing but a node's free cpu and what is left of each device.

For a node with R millis left on its devices and a typical class m, F(m) = R if the class does not fit (cpu, or too few
devices of its kind with its share free, or no devices asked for), else what is left on the devices that it cannot use:
those of another kind and those with less than its share. F = sum of p(m) F(m); here it is kept times the sum of the
weights. As the paper does, a class is asked about cpu and devices, and not about memory.

The table. Nodes whose devices have the same kinds and the same millis left, in any order, are in one *state*. F of a
state changes with cpu only where a typical class begins to fit: a *step*. So F is an array over (state, step), to which
a state adds one row when it is first met.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.contract.devices import mismatch
from orchestrator.contract.model import WHOLE_DEVICE, Device, DeviceRequest
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.typical import TypicalClass, typical_classes
from orchestrator.scheduling.wish import BoolArray, Int64Array

_CODES = 1024
"""A device is the number kind * _CODES + millis left + 1; 0 where a node has no further device."""
_TABLES = "fragments"
NO_WAY = WHOLE_DEVICE + 1
"""Left of a device in place of a way that there is not."""


class Fragments:
    """The table for the nodes and the typical classes of one problem. ``weights``: sum of the classes' weights, which F
    is multiplied by. ``table``: int64 (states, steps), F times ``weights``; ``left`` and ``partly``: int64 (states,),
    millis left on all devices, and on those of which a part is taken."""

    @staticmethod
    def of(problem: Problem) -> Fragments:
        """The problem's own, made of what the cluster was asked for when it is first wanted."""
        found = problem.tables.get(_TABLES)
        if found is None:
            return Fragments.install(problem, typical_classes(problem.typical))
        assert isinstance(found, Fragments)
        return found

    @staticmethod
    def install(problem: Problem, classes: Sequence[TypicalClass]) -> Fragments:
        """Judge this problem by these classes from now on."""
        made = problem.tables[_TABLES] = Fragments(problem, classes)
        return made

    def __init__(self, problem: Problem, classes: Sequence[TypicalClass]) -> None:
        self.classes = tuple(classes)
        self.weights = sum(one.weight for one in classes) or 1
        self._free = problem.devices.free
        self._kinds: list[Device] = []
        # A cordoned device is of no use to anybody: it counts as one that is not there.
        self._code_base = self._codes_of([node.spec.devices for node in problem.nodes])
        self._code_base[problem.devices.closed] = -1
        # What each node's devices had left when its state was last looked up; no node has this, so all are looked up.
        self._seen: npt.NDArray[np.int32] = np.full(self._free.shape, -2, dtype=np.int32)
        self._state: npt.NDArray[np.int64] = np.zeros(len(problem), dtype=np.int64)
        self._number: dict[bytes, int] = {}
        self._codes: list[Int64Array] = []
        self._options: dict[DeviceRequest, Options] = {}
        self._order_by_cpu()
        self._step_list: list[int] = self._steps.tolist()
        self._width = len(self._steps) + 1
        self.table: Int64Array = np.zeros((64, self._width), dtype=np.int64)
        self._flat = self.table.reshape(-1)
        self.left: Int64Array = np.zeros(64, dtype=np.int64)
        self.partly: Int64Array = np.zeros(64, dtype=np.int64)
        self._filled = 0
        self._intern(np.zeros(self._free.shape[1], dtype=np.int64))  # state 0: no devices, which looks up nothing

    # ------------------------------------------------------------------------ reading

    def states(self, nodes: Int64Array) -> Int64Array:
        """int64 per given node: the state that it is in now; its row of ``table`` is filled."""
        changed = self._free.take(nodes, axis=0) != self._seen.take(nodes, axis=0)
        if changed.any():
            self._look(nodes[changed.any(axis=1)])
        return self._state.take(nodes)

    def state(self, node: int) -> int:
        """The same of one node."""
        if self._free[node].tobytes() != self._seen[node].tobytes():
            self._look(np.array([node]))
        return int(self._state[node])

    def expect(self, node: int, number: int, millis: int, state: int) -> None:
        """Device ``number`` of a node is about to give so much away, which leads to ``state``: it need not be looked
        up. If it comes out otherwise, that is noticed."""
        self._seen[node, number] -= millis
        self._state[node] = state

    def measure(self, states: Int64Array, cpu_millis: Int64Array) -> Int64Array:
        """int64 (shape of both, broadcast): F times ``weights`` of these states with so much free cpu."""
        return self._flat.take(states * self._width + self._steps.searchsorted(cpu_millis, "right"))

    def step(self, cpu_millis: int) -> int:
        """How many cpu sizes of typical classes fit into so much: the column of ``table``."""
        return bisect_right(self._step_list, cpu_millis)

    def options(self, request: DeviceRequest, states: Int64Array) -> Options:
        """What giving this request does to states; worked out at least for the given ones, whose rows are filled, and
        so are those of the states that they lead to."""
        found = self._options.get(request)
        if found is None:
            found = self._options[request] = Options(request, [not mismatch(kind, request) for kind in self._kinds])
        if found.extend(self, states):
            self._fill()
        return found

    def device(self, node: int, code: int) -> int:
        """The lowest number of a device of the node with this code."""
        base, free = self._code_base[node].tolist(), self._free[node].tolist()
        return next(at for at, one in enumerate(base) if one >= 0 and one + max(free[at], 0) == code)

    def __len__(self) -> int:
        """Number of states."""
        return len(self._codes)

    # ------------------------------------------------------------------------ states

    def codes(self, state: int) -> list[int]:
        """Of the state's devices, ascending; 0 for a device that is not there."""
        codes: list[int] = self._codes[state].tolist()
        return codes

    def after(self, state: int, code: int, count: int, millis: int) -> int:
        """The state once ``count`` devices with this code gave away so much each; its row may not be filled yet."""
        codes = self._codes[state].copy()
        at = int(np.searchsorted(codes, code))
        codes[at : at + count] -= millis
        codes.sort()
        return self._intern(codes)

    def _look(self, nodes: Int64Array) -> None:
        """Find the states of nodes of which the devices changed."""
        free, base = self._free[nodes], self._code_base[nodes]
        codes = np.where(base >= 0, base + np.maximum(free, 0), 0)
        codes.sort(axis=1)
        self._state[nodes] = [self._intern(row) for row in codes]
        self._seen[nodes] = free
        self._fill()

    def _intern(self, codes: Int64Array) -> int:
        key = codes.tobytes()
        number = self._number.get(key)
        if number is None:
            number = self._number[key] = len(self._codes)
            self._codes.append(codes)
        return number

    def _codes_of(self, inventories: Sequence[tuple[Device, ...]]) -> Int64Array:
        """int64 (nodes, devices): the code of each device with nothing left, -1 where there is none."""
        numbers: dict[tuple[str | int, ...], int] = {}
        base: Int64Array = np.full(self._free.shape, -1, dtype=np.int64)
        for node, inventory in enumerate(inventories):
            for at, device in enumerate(inventory):
                kind = numbers.setdefault(_kind_of(device), len(numbers))
                if kind == len(self._kinds):
                    self._kinds.append(device)
                base[node, at] = kind * _CODES + 1
        return base

    # ------------------------------------------------------------------------ the measure

    def _order_by_cpu(self) -> None:
        """The classes with devices, by cpu, as arrays; ``_steps``: the different cpu sizes, ascending."""
        wanting = sorted(
            (one for one in self.classes if one.gpus is not None and one.weight), key=lambda one: one.cpu_millis
        )
        requests = [one.gpus for one in wanting if one.gpus is not None]
        cpu = np.array([one.cpu_millis for one in wanting], dtype=np.int64)
        self._steps: Int64Array = np.unique(cpu)
        self._until = np.searchsorted(cpu, self._steps, side="right")
        self._share: Int64Array = np.array([max(request.gpu_millis, 1) for request in requests], dtype=np.int64)
        self._count: Int64Array = np.array([request.count for request in requests], dtype=np.int64)
        self._weight: Int64Array = np.array([one.weight for one in wanting], dtype=np.int64)
        self._suits = np.array(
            [[not mismatch(kind, request) for kind in self._kinds] for request in requests], dtype=np.bool_
        ).reshape(len(requests), len(self._kinds))

    def _fill(self) -> None:
        start, stop = self._filled, len(self._codes)
        if start == stop:
            return
        if stop > len(self.left):
            more = max(stop, 2 * len(self.left)) - len(self.left)
            self.table = np.concatenate([self.table, np.zeros((more, self._width), dtype=np.int64)])
            self._flat = self.table.reshape(-1)
            self.left = np.concatenate([self.left, np.zeros(more, dtype=np.int64)])
            self.partly = np.concatenate([self.partly, np.zeros(more, dtype=np.int64)])
        codes = np.array(self._codes[start:stop], dtype=np.int64).reshape(stop - start, -1)
        left = np.maximum(codes - 1, 0) % _CODES
        total = left.sum(axis=1)
        self.left[start:stop] = total
        self.partly[start:stop] = (left * (left < WHOLE_DEVICE)).sum(axis=1)
        self.table[start:stop] = (total * self.weights)[:, None]
        if len(self._share) and codes.shape[1]:
            # bool, int64 (states, classes, devices): of what is left, that which a class could use if it fits.
            good = (left[:, None, :] >= self._share[:, None]) & (codes > 0)[:, None, :]
            good &= self._suits.T[codes // _CODES].transpose(0, 2, 1)
            usable = (left[:, None, :] * good).sum(axis=2) * self._weight
            usable[good.sum(axis=2) < self._count] = 0
            self.table[start:stop, 1:] -= usable.cumsum(axis=1)[:, self._until - 1]
        self._filled = stop


class Options:
    """The ways in which a state can give one request, a column each.

    after: int64 (states, ways), the state afterwards; code and left: int64, of the (first) device that is given, before
    it is; left is ``NO_WAY`` where there is no such way. A request for one device has a way for every different device
    that will do. One for several has a way for each code of which there are enough, or else a single one, that takes
    the fullest: which of them it gets is decided by their links when it is placed.
    """

    def __init__(self, request: DeviceRequest, suits: list[bool]) -> None:
        self.request = request
        self._suits = suits
        self._known: BoolArray = np.zeros(64, dtype=np.bool_)
        self.after: Int64Array = np.zeros((64, 1), dtype=np.int64)
        self.code: Int64Array = np.zeros((64, 1), dtype=np.int64)
        self.left: Int64Array = np.full((64, 1), NO_WAY, dtype=np.int64)

    def extend(self, fragments: Fragments, states: Int64Array) -> bool:
        """Work out those of the states that are not known yet; returns whether there were any. Only what nodes are in
        is ever worked out: what could be reached from there has no end."""
        if len(fragments) > len(self._known):
            self._grow(max(len(fragments), 2 * len(self._known)), self.after.shape[1])
        known = self._known.take(states)
        if known.all():
            return False
        for state in dict.fromkeys(states[~known].tolist()):
            row = self._of(fragments, state)
            if len(row) > self.after.shape[1]:
                self._grow(len(self._known), len(row))
            for way, (code, after) in enumerate(row):
                self.after[state, way] = after
                self.code[state, way] = code
                self.left[state, way] = (code - 1) % _CODES
            self._known[state] = True
        return True

    def _grow(self, rows: int, ways: int) -> None:
        known = np.zeros(rows, dtype=np.bool_)
        known[: len(self._known)] = self._known
        self._known = known
        self.after = _grown(self.after, rows, ways, 0)
        self.code = _grown(self.code, rows, ways, 0)
        self.left = _grown(self.left, rows, ways, NO_WAY)

    def _of(self, fragments: Fragments, state: int) -> list[tuple[int, int]]:
        request = self.request
        usable: dict[int, int] = {}
        for code in fragments.codes(state):
            if code and (code - 1) % _CODES >= request.gpu_millis and self._suits[code // _CODES]:
                usable[code] = usable.get(code, 0) + 1
        found = [
            (code, fragments.after(state, code, request.count, request.gpu_millis))
            for code, there in usable.items()
            if there >= request.count
        ]
        if not found and sum(usable.values()) >= request.count:
            found.append(self._mixed(fragments, state, usable))
        return found

    def _mixed(self, fragments: Fragments, state: int, usable: dict[int, int]) -> tuple[int, int]:
        missing, first = self.request.count, 0
        for code in sorted(usable, key=lambda code: ((code - 1) % _CODES, code)):
            taken = min(missing, usable[code])
            if taken:
                first = first or code
                state = fragments.after(state, code, taken, self.request.gpu_millis)
                missing -= taken
        return first, state


def _kind_of(device: Device) -> tuple[str | int, ...]:
    """What decides whether a device suits a request."""
    return device.model, device.memory_mib, device.compute_capability, device.driver_version, device.mig


def _grown(array: Int64Array, rows: int, columns: int, value: int) -> Int64Array:
    grown: Int64Array = np.full((rows, columns), value, dtype=np.int64)
    grown[: array.shape[0], : array.shape[1]] = array
    return grown


assert WHOLE_DEVICE < _CODES - 1
