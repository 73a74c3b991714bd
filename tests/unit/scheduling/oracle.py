"""The scheduler as one would write it on a blackboard: one instance at a time, every node looked at, nothing cached.

Written from the documentation of the policies, without a line of their code, so that two independent readings of one
text must agree. Slow on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from orchestrator.contract.model import (
    Constraint,
    ConstraintOperator,
    Device,
    DeviceRequest,
    GroupSpec,
    JobSpec,
    Link,
    NodeStatus,
    Resources,
)
from orchestrator.scheduling.typical import TypicalClass, typical_classes
from orchestrator.scheduling.wish import Ask
from orchestrator.state.model import Node
from orchestrator.state.views import ClusterView
from tests.unit.scheduling import fragment_oracle

MILLION = 1_000_000
TERMINAL = {60, 70, 80, 90}


@dataclass
class Machine:
    record: Node
    cpu: int
    memory: int
    disk: int
    devices: list[int]
    engine: str


@dataclass(frozen=True)
class Choice:
    """One placement: which ask and ordinal went where, with what, at which score."""

    ask: int
    ordinal: int
    node: str
    devices: tuple[int, ...]
    ports: tuple[int, ...]
    score: tuple[int, ...]


@dataclass
class Oracle:
    machines: list[Machine]
    taken: dict[str, set[int]] = field(default_factory=dict)
    counts: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict)
    last: dict[tuple[str, str], int] = field(default_factory=dict)
    classes: tuple[TypicalClass, ...] = ()
    index: int = 0

    def place(self, asks: Sequence[Ask]) -> list[Choice]:
        chosen: list[Choice] = []
        for index in self.order(asks):
            ask = asks[index]
            job, group = ask.job.spec, ask.job.spec.groups[ask.group]
            key = (ask.job.uid, group.name)
            if key not in self.counts:
                self.counts[key] = {}
                for slot in ask.peers.tolist():
                    self.counts[key][slot] = self.counts[key].get(slot, 0) + 1
                self.last[key] = ask.last_node
            for ordinal in ask.ordinals.tolist():
                choice = self.place_one(index, ask, job, group, ordinal)
                if choice is not None:
                    chosen.append(choice)
        return chosen

    def order(self, asks: Sequence[Ask]) -> list[int]:
        """Largest first among the asks of one priority that say first-fit-decreasing, in the places that these have."""
        order = list(range(len(asks)))
        for priority in {ask.job.spec.priority for ask in asks}:
            places = [
                at
                for at, ask in enumerate(asks)
                if ask.job.spec.priority == priority and ask.job.spec.placement == "first-fit-decreasing"
            ]
            for place, index in zip(places, sorted(places, key=lambda at: (-self.size(asks[at]), at)), strict=True):
                order[place] = index
        return order

    def size(self, ask: Ask) -> int:
        need = ask.job.spec.groups[ask.group].resources
        total = [machine.record.spec.capacity for machine in self.machines]
        size = need.cpu_millis * MILLION // max(1, sum(c.cpu_millis for c in total))
        size += need.memory_mib * MILLION // max(1, sum(c.memory_mib for c in total))
        size += need.disk_mib * MILLION // max(1, sum(c.disk_mib for c in total))
        if need.gpus is not None:
            devices = 1000 * sum(len(machine.devices) for machine in self.machines)
            size += need.gpus.count * need.gpus.gpu_millis * MILLION // max(1, devices)
        return size

    def place_one(self, index: int, ask: Ask, job: JobSpec, group: GroupSpec, ordinal: int) -> Choice | None:
        candidates = [machine for machine in self.machines if self.fits(machine, job, group)]
        if ask.pinned:
            candidates = [machine for machine in candidates if machine.record.slot == ordinal]
        elsewhere = [machine for machine in candidates if machine.record.slot != ask.avoid]
        candidates = elsewhere or candidates
        if not candidates:
            return None
        key = (ask.job.uid, group.name)
        scored = [(self.badness(machine, job, group, key), machine.record.slot, machine) for machine in candidates]
        badness, _, machine = min(scored, key=lambda entry: entry[:2])
        need = group.resources
        devices: tuple[int, ...] = ()
        if need.gpus is not None:
            devices = self.devices_for(machine, job, need)
            for number in devices:
                machine.devices[number] -= need.gpus.gpu_millis
        machine.cpu -= need.cpu_millis
        machine.memory -= need.memory_mib
        machine.disk -= need.disk_mib
        ports = self.take_ports(machine, group)
        counts = self.counts[key]
        counts[machine.record.slot] = counts.get(machine.record.slot, 0) + 1
        self.last[key] = machine.record.slot
        return Choice(index, ordinal, machine.record.spec.id, devices, ports, badness)

    # ------------------------------------------------------------------------ does it fit

    def fits(self, machine: Machine, job: JobSpec, group: GroupSpec) -> bool:
        record, need = machine.record, group.resources
        if record.status is not NodeStatus.READY or record.cordoned or record.draining:
            return False
        if not {task.driver_name for task in group.tasks} <= set(record.spec.drivers):
            return False
        if not all(holds(record, constraint) for constraint in job.constraints + group.constraints):
            return False
        if machine.cpu < need.cpu_millis or machine.memory < need.memory_mib or machine.disk < need.disk_mib:
            return False
        if need.gpus is not None and best_devices(machine, need.gpus) is None:
            return False
        taken = self.taken.setdefault(machine.engine, set())
        fixed = [port.static for port in group.ports if port.static]
        if len(set(fixed)) != len(fixed) or any(port in taken for port in fixed):
            return False
        free = [
            port
            for port in range(record.spec.port_min, record.spec.port_max + 1)
            if port not in taken and port not in fixed
        ]
        return len(free) >= sum(1 for port in group.ports if not port.static)

    def take_ports(self, machine: Machine, group: GroupSpec) -> tuple[int, ...]:
        taken = self.taken.setdefault(machine.engine, set())
        fixed = {port.static for port in group.ports if port.static}
        given = []
        for port in group.ports:
            number = port.static
            if not number:
                first, last = machine.record.spec.port_min, machine.record.spec.port_max
                share = self.index * 2_654_435_769 % 2**32  # of the range, in 2^32nds: see ``scheduling.ports``
                begin = first + share * (last - first + 1) // 2**32
                free = [port for port in range(first, last + 1) if port not in taken and port not in fixed]
                number = min(free, key=lambda port: (port < begin, port))
            taken.add(number)
            given.append(number)
        return tuple(given)

    # ------------------------------------------------------------------------ how good is it

    def badness(self, machine: Machine, job: JobSpec, group: GroupSpec, key: tuple[str, str]) -> tuple[int, ...]:
        """Lower is better."""
        full = fullness(machine, group)
        devices = machine.record.spec.devices
        slot = machine.record.slot
        match policy_of(job, group):
            case "binpack":
                last_resort = group.resources.gpus is None and bool(devices)
                return int(last_resort), -full
            case "spread":
                return self.counts[key].get(slot, 0), full
            case "round-robin":
                return int(slot <= self.last[key]), slot
            case "first-fit-decreasing":
                return (slot,)
            case "gpu-locality":
                if group.resources.gpus is None:
                    return int(bool(devices)), -full
                chosen = best_devices(machine, group.resources.gpus) or ()
                return pair_cost(machine, chosen), worth(machine, ()) - worth(machine, chosen), -full
            case "fragmentation":
                rank = self.machines.index(machine)
                there = in_service(machine)
                last, points, remainder = fragment_oracle.badness(
                    machine.cpu,
                    group.resources.cpu_millis,
                    machine.record.spec.capacity.cpu_millis,
                    rank,
                    [devices[number] for number in there],
                    [machine.devices[number] for number in there],
                    group.resources.gpus,
                    self.classes,
                    self.kinds(),
                )
                return last, points, int(remainder * 10**12)
        raise AssertionError(job.placement)

    def kinds(self) -> fragment_oracle.Kinds:
        """The kinds of devices, numbered as they first appear."""
        found: fragment_oracle.Kinds = {}
        for machine in self.machines:
            for device in machine.record.spec.devices:
                found.setdefault(fragment_oracle.kind_of(device), len(found))
        return found

    def devices_for(self, machine: Machine, job: JobSpec, need: Resources) -> tuple[int, ...]:
        assert need.gpus is not None
        if need.gpus.count == 1 and (job.placement or "fragmentation") == "fragmentation":
            there = in_service(machine)
            inventory = [machine.record.spec.devices[number] for number in there]
            left = [machine.devices[number] for number in there]
            (place,) = fragment_oracle.device_of(
                machine.cpu, need.cpu_millis, inventory, left, need.gpus, self.classes, self.kinds()
            )
            return (there[place],)
        return best_devices(machine, need.gpus) or ()


def in_service(machine: Machine) -> list[int]:
    """Numbers of the devices that are neither cordoned nor sick."""
    return [number for number, device in enumerate(machine.record.spec.devices) if usable(machine, device.id)]


def usable(machine: Machine, device: str) -> bool:
    sick = {one for one, _ in machine.record.spec.sick_devices}
    return device not in machine.record.cordoned_devices and device not in sick


def policy_of(job: JobSpec, group: GroupSpec) -> str:
    return job.placement or ("binpack" if group.resources.gpus is None else "fragmentation")


def fullness(machine: Machine, group: GroupSpec) -> int:
    need, capacity = group.resources, machine.record.spec.capacity
    cpu = (capacity.cpu_millis - machine.cpu + need.cpu_millis) * MILLION // max(1, capacity.cpu_millis)
    memory = (capacity.memory_mib - machine.memory + need.memory_mib) * MILLION // max(1, capacity.memory_mib)
    if need.gpus is None:
        return (cpu + memory) // 2
    total = 1000 * len(machine.devices)
    free = sum(max(millis, 0) for millis in machine.devices)  # one that was given away twice is away once
    gpu = (total - free + need.gpus.count * need.gpus.gpu_millis) * MILLION // max(1, total)
    return (cpu + memory + 2 * gpu) // 4


def best_devices(machine: Machine, request: DeviceRequest) -> tuple[int, ...] | None:
    """Every set is looked at: fits, cheapest links, fullest, smallest, most valuable rest, lowest numbers."""
    inventory = machine.record.spec.devices
    usable = [number for number in range(len(inventory)) if may_have(machine, number, request)]
    sets = [chosen for chosen in combinations(usable, request.count) if linked_as_asked(machine, chosen, request)]
    if not sets:
        return None
    return min(
        sets,
        key=lambda chosen: (
            pair_cost(machine, chosen),
            sum(machine.devices[number] for number in chosen),
            sum(inventory[number].memory_mib for number in chosen),
            -worth(machine, chosen),
            skipped(machine, chosen),
            chosen,
        ),
    )


def skipped(machine: Machine, chosen: tuple[int, ...]) -> int:
    """Numbers left out between those of each island."""
    islands: dict[int, list[int]] = {}
    for number in chosen:
        islands.setdefault(machine.record.spec.devices[number].island, []).append(number)
    return sum(max(numbers) - min(numbers) + 1 - len(numbers) for numbers in islands.values())


def may_have(machine: Machine, number: int, request: DeviceRequest) -> bool:
    device = machine.record.spec.devices[number]
    named = not request.models or any(model.lower() in device.model.lower() for model in request.models)
    capable = True
    if request.compute_capability:  # only ">= major.minor" is asked for in these tests
        wanted = tuple(int(part) for part in request.compute_capability.removeprefix(">= ").split("."))
        have = tuple(int(part) for part in device.compute_capability.split(".")) if device.compute_capability else ()
        capable = bool(have) and have >= wanted
    return (
        named
        and capable
        and device.mig == request.mig
        and device.memory_mib >= request.memory_mib
        and usable(machine, device.id)
        and machine.devices[number] >= request.gpu_millis
    )


def linked_as_asked(machine: Machine, chosen: tuple[int, ...], request: DeviceRequest) -> bool:
    devices = [machine.record.spec.devices[number] for number in chosen]
    if len(devices) < 2 or request.link is Link.ANY:
        return True
    if request.link is Link.ISLAND:
        return len({device.island for device in devices}) == 1
    return len({device.numa for device in devices}) == 1 and devices[0].numa >= 0


def distance(left: Device, right: Device) -> int:
    if left.island == right.island:
        return 0
    if left.pcie > 0 and left.pcie == right.pcie:
        return 1
    return 2 if left.numa >= 0 and left.numa == right.numa else 4


def pair_cost(machine: Machine, chosen: tuple[int, ...]) -> int:
    inventory = machine.record.spec.devices
    return sum(distance(inventory[left], inventory[right]) for left in chosen for right in chosen if left < right)


def worth(machine: Machine, chosen: tuple[int, ...]) -> int:
    """What the rest is worth: the squares of its whole free devices per island, switch, NUMA node and node. Counted in
    ordered pairs: a pair counts once for every circle that both are in."""
    inventory = machine.record.spec.devices
    whole = [
        number
        for number, device in enumerate(inventory)
        if number not in chosen and machine.devices[number] == 1000 and usable(machine, device.id)
    ]
    together = {0: 4, 1: 3, 2: 2, 4: 1}
    return sum(together[0 if a == b else distance(inventory[a], inventory[b])] for a in whole for b in whole)


def holds(record: Node, constraint: Constraint) -> bool:
    labels = dict(record.spec.labels) | {"node.id": record.spec.id, "node.name": record.spec.name}
    value, values = labels.get(constraint.attribute), constraint.values
    match constraint.operator:
        case ConstraintOperator.EQUAL:
            return value == values[0]
        case ConstraintOperator.NOT_EQUAL:
            return value != values[0]
        case ConstraintOperator.IN:
            return value in values
        case ConstraintOperator.NOT_IN:
            return value not in values
        case ConstraintOperator.EXISTS:
            return value is not None
        case ConstraintOperator.NOT_EXISTS:
            return value is None
        case ConstraintOperator.GREATER:
            return value is not None and value.isdigit() and int(value) > int(values[0])
        case ConstraintOperator.LESS:
            return value is not None and value.isdigit() and int(value) < int(values[0])
        case _:
            raise AssertionError(f"{constraint.operator.name} has tests of its own")


def oracle_of(view: ClusterView) -> Oracle:
    machines = []
    for node in sorted(view.nodes.values(), key=lambda node: node.slot):
        capacity = node.spec.capacity
        machines.append(
            Machine(
                record=node,
                cpu=capacity.cpu_millis,
                memory=capacity.memory_mib,
                disk=capacity.disk_mib,
                devices=[1000] * len(node.spec.devices),
                engine=node.spec.engine_id or f"only {node.slot}",
            )
        )
    oracle = Oracle(machines, classes=typical_classes(view.typical), index=view.index)
    by_slot = {machine.record.slot: machine for machine in machines}
    columns = view.allocations
    for at in range(len(columns)):
        machine = by_slot.get(int(columns.node[at]))
        if int(columns.state[at]) in TERMINAL or machine is None:
            continue
        machine.cpu -= int(columns.cpu_millis[at])
        machine.memory -= int(columns.memory_mib[at])
        machine.disk -= int(columns.disk_mib[at])
        for number in range(len(machine.devices)):
            if int(columns.device_mask[at]) >> number & 1:
                machine.devices[number] -= int(columns.gpu_millis[at])
        oracle.taken.setdefault(machine.engine, set()).update(columns.ports.get(int(columns.row[at]), ()))
    return oracle
