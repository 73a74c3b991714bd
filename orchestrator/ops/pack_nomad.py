"""Nomad's nodes and allocations as a cluster to pack: what ``/v1/nodes?resources=true``, ``nomad node status -json
ID``, ``/v1/allocations?resources=true``, ``nomad alloc status -json ID`` and ``nomad job inspect JOB`` print.

Owns: what a node gives (NodeResources less ReservedResources), what an allocation holds, how many instances of a job
wait (its count less the allocations that live). Leaves to others: reading the file (``pack_json``). The rule: what is
not kept to is said.

CPU is counted in MHz. GPUs are the instances of devices of type ``gpu``, whole; other devices are carried as custom
resources. Of what a job says about nodes, data centres and the node pool are kept to; where the job is not in the file,
its allocations may go anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from orchestrator.contract.model import MAX_DEVICES, Device, DeviceRequest, Resources
from orchestrator.ops.pack_cluster import PackCluster, PackNode, PackPod, amounts
from orchestrator.ops.pack_json import At

_OVER = ("complete", "failed", "lost")
_SYSTEM = ("system", "sysbatch")
_Job = tuple[str, str]
"""Namespace and id."""


def is_node(item: At) -> bool:
    return isinstance(item.value, dict) and "SchedulingEligibility" in item.value


def is_allocation(item: At) -> bool:
    return isinstance(item.value, dict) and "ClientStatus" in item.value and "NodeID" in item.value


def job_in(item: At) -> At | None:
    """The job that an item is or wraps."""
    if not isinstance(item.value, dict):
        return None
    inner = item.maybe("Job") if set(item.value) == {"Job"} else item
    return inner if inner is not None and isinstance(inner.value, dict) and "TaskGroups" in inner.value else None


def read(nodes: Sequence[At], pods: Sequence[At]) -> PackCluster:
    """``pods``: allocations and jobs. Raises ``PackError``."""
    made: list[_Node] = []
    number_of: dict[str, int] = {}
    for item in nodes:
        node_id = item.text("ID") or item.refuse("has no ID")
        if node_id in number_of:
            item.refuse(f"there are two nodes with the id {node_id!r}")
        number_of[node_id] = len(made)
        made.append(_node(item))
    reader = _Pods(made, number_of)
    found = reader.read(pods)
    asked = {name for pod in found for name, _ in pod.request.custom}
    return PackCluster(
        format="nomad",
        cpu_unit="MHz",
        nodes=tuple(node.node for node in made),
        pods=found,
        placed=True,
        carried=tuple(sorted({name for node in made for name, _ in node.node.capacity.custom} & asked)),
        ignored=tuple(sorted(reader.ignored)),
        notes=tuple(reader.notes()),
        ended=reader.ended,
    )


# ---------------------------------------------------------------------------- nodes


@dataclass(frozen=True, slots=True)
class _Node:
    node: PackNode
    numbers: Mapping[str, int]  # of device ids
    datacenter: str
    pool: str


def _node(item: At) -> _Node:
    name = item.text("Name") or item.text("ID")
    there = item.maybe("NodeResources")
    if there is None:
        item.refuse("has no NodeResources; ask for them: nomad operator api '/v1/nodes?resources=true'")
    custom: Counter[str] = Counter()
    devices: list[Device] = []
    for group in there.each("Devices"):
        kind = _kind(group)
        healthy = [one for one in group.each("Instances") if one.maybe("Healthy") is None or one.flag("Healthy")]
        if group.text("Type") == "gpu":
            ids = [one.text("ID") for one in healthy]
            devices += [Device(id=one, model=f"<{kind}>", memory_mib=_memory_mib(group)) for one in ids]
        else:
            custom[kind] += len(healthy)
    if len(devices) > MAX_DEVICES:
        there.refuse(f"has {len(devices)} GPUs; at most {MAX_DEVICES} can be packed")

    def less(name: str, field: str) -> int:
        return max(there.whole(name, field) - item.whole("ReservedResources", name, field), 0)

    return _Node(
        node=PackNode(
            name=name,
            capacity=Resources(
                cpu_millis=less("Cpu", "CpuShares"),
                memory_mib=less("Memory", "MemoryMB"),
                disk_mib=less("Disk", "DiskMB"),
                custom=amounts(custom.items()),
            ),
            devices=tuple(devices),
            open=item.text("SchedulingEligibility") == "eligible"
            and item.text("Status") in ("", "ready")
            and not item.flag("Drain"),
        ),
        numbers={device.id: number for number, device in enumerate(devices)},
        datacenter=item.text("Datacenter"),
        pool=item.text("NodePool") or "default",
    )


def _kind(device: At) -> str:
    return f"{device.text('Vendor')}/{device.text('Type')}/{device.text('Name')}"


def _memory_mib(group: At) -> int:
    memory = group.maybe("Attributes", "memory")
    if memory is None or memory.text("Unit") not in ("MiB", "GiB"):
        return 0
    return memory.whole("Int") * (1024 if memory.text("Unit") == "GiB" else 1)


# ---------------------------------------------------------------------------- allocations and jobs


class _Pods:
    def __init__(self, nodes: Sequence[_Node], number_of: Mapping[str, int]) -> None:
        self._nodes = nodes
        self._number_of = number_of
        self._customs = sorted({name for node in nodes for name, _ in node.node.capacity.custom})
        self._where: dict[tuple[tuple[str, ...], str], frozenset[int] | None] = {}
        self.ended = 0
        self.ignored: set[str] = set()
        self._gone = 0
        self._constrained: set[_Job] = set()
        self._jobs = False
        self._cores: set[str] = set()

    def read(self, items: Sequence[At]) -> tuple[PackPod, ...]:
        jobs: dict[_Job, At] = {}
        for item in items:
            job = job_in(item)
            if job is None and is_allocation(item):
                job = item.maybe("Job")
                if job is not None:
                    jobs.setdefault(_key(job.text("Namespace"), job.text("ID")), job)
            elif job is not None:
                self._jobs = True
                jobs[_key(job.text("Namespace"), job.text("ID"))] = job
        done: Counter[tuple[_Job, str]] = Counter()  # instances that need no other
        made = []
        listed = {_key(job.text("Namespace"), job.text("ID")) for item in items if (job := job_in(item)) is not None}
        for item in items:
            if not is_allocation(item):
                continue
            key = _key(item.text("Namespace"), item.text("JobID"))
            status = item.text("ClientStatus")
            if status in _OVER:
                self.ended += 1
                if status == "complete" and _type(item, jobs.get(key)) == "batch":
                    done[key, item.text("TaskGroup")] += 1
                continue
            if item.text("NodeID") not in self._number_of:
                self._gone += 1
                continue
            if item.text("DesiredStatus") in ("", "run"):
                done[key, item.text("TaskGroup")] += 1
            made.append(self._allocation(item, jobs.get(key)))
        for key in sorted(listed):
            made += self._waiting(jobs[key], key, done)
        return tuple(made)

    def notes(self) -> Iterable[str]:
        if self._gone:
            yield f"allocations on nodes that are not in the file were left out: {self._gone}"
        if not self._jobs:
            yield "no jobs in the file ('nomad job inspect JOB' prints one): what waits is not known"
        if self._cores:
            yield f"tasks that wait ask for whole cores, which are not counted: {', '.join(sorted(self._cores)[:5])}"
        if self._constrained:
            names = ", ".join(sorted(name for _, name in self._constrained)[:5])
            yield (
                f"{len(self._constrained)} jobs have constraints, affinities or spreads, which are not kept to: {names}"
            )

    def _allocation(self, item: At, job: At | None) -> PackPod:
        held = item.maybe("AllocatedResources")
        if held is None:
            item.refuse("has no AllocatedResources; ask for them: nomad operator api '/v1/allocations?resources=true'")
        number = self._number_of[item.text("NodeID")]
        hooks = held.fields("TaskLifecycles")
        tasks = [
            (_at_once(hooks.get(name)), _held(task, self._nodes[number], task))
            for name, task in held.fields("Tasks").items()
        ]
        request, devices = _together(tasks)
        return PackPod(
            name=f"{item.text('Namespace') or 'default'}/{item.text('Name') or item.text('ID')}",
            request=self._declared(number, replace(request, disk_mib=held.whole("Shared", "DiskMB"))),
            node=number,
            devices=devices,
            nodes=self._nodes_of(job),
            daemon=_type(item, job) in _SYSTEM,
            priority=job.whole("Priority") if job is not None else 50,
        )

    def _declared(self, number: int, request: Resources) -> Resources:
        """Without devices that its node does not report any more."""
        there = {name for name, _ in self._nodes[number].node.capacity.custom}
        self.ignored |= {name for name, _ in request.custom} - there
        return replace(request, custom=tuple(pair for pair in request.custom if pair[0] in there))

    def _waiting(self, job: At, key: _Job, done: Mapping[tuple[_Job, str], int]) -> Iterable[PackPod]:
        kind = job.text("Type") or "service"
        template = job.maybe("Periodic") is not None or job.maybe("ParameterizedJob") is not None
        if job.flag("Stop") or job.text("Status") == "dead" or template or kind in _SYSTEM:
            return
        for group in job.each("TaskGroups"):
            name = group.text("Name")
            count = group.whole("Count") - done.get((key, name), 0)
            if count > _INSTANCES_MAX:
                group.refuse(f"has more than {_INSTANCES_MAX:,} instances that wait")
            tasks = [(_at_once(task.maybe("Lifecycle")), self._asked(task)) for task in group.each("Tasks")]
            request, _ = _together(tasks)
            request = replace(request, disk_mib=group.whole("EphemeralDisk", "SizeMB"))
            nodes = self._nodes_of(job)
            for number in range(count):
                yield PackPod(
                    name=f"{key[0]}/{key[1]}.{name} waiting {number + 1}",
                    request=request,
                    nodes=nodes,
                    priority=job.whole("Priority"),
                )

    def _asked(self, task: At) -> _Task:
        asked = task.get("Resources")
        if asked.whole("Cores"):
            self._cores.add(task.text("Name"))  # how many MHz that is depends on the node
        gpus: list[tuple[str, int]] = []
        custom: Counter[str] = Counter()
        for device in asked.each("Devices"):
            name, count = device.text("Name"), device.whole("Count") or 1
            parts = name.split("/")
            if (parts[0] if len(parts) == 1 else parts[1]) == "gpu":
                # A type, vendor/type or vendor/type/name: a part of the name that the node's devices have in full.
                shape = {1: f"/{name}/", 2: f"<{name}/"}
                gpus.append((shape.get(len(parts), f"<{name}>"), count))
                continue
            fitting = [kind for kind in self._customs if _is_called(kind, parts)]
            if len(fitting) == 1:
                custom[fitting[0]] += count
            elif fitting:
                self.ignored.add(name)  # one of several kinds: no single amount to count
            else:
                custom[name] += count
        return _task(asked.whole("CPU"), asked.whole("MemoryMB"), gpus, custom, (), asked)

    def _nodes_of(self, job: At | None) -> frozenset[int] | None:
        if job is None:
            return None
        parts = (job, *job.each("TaskGroups"))
        if any(
            part.maybe(name) and part.get(name).value
            for part in parts
            for name in ("Constraints", "Affinities", "Spreads")
        ):
            self._constrained.add(_key(job.text("Namespace"), job.text("ID")))
        centres = tuple(one.text() for one in job.each("Datacenters"))
        pool = job.text("NodePool")
        key = centres, pool
        if key not in self._where:
            found = frozenset(
                number
                for number, node in enumerate(self._nodes)
                if (not centres or any(fnmatchcase(node.datacenter, centre) for centre in centres))
                and pool in ("", "all", node.pool)
            )
            self._where[key] = None if len(found) == len(self._nodes) else found
        return self._where[key]


_INSTANCES_MAX = 1_000_000


def _key(namespace: str, job: str) -> _Job:
    return namespace or "default", job


def _type(item: At, job: At | None) -> str:
    return item.text("JobType") or (job.text("Type") if job is not None else "") or "service"


def _is_called(kind: str, parts: Sequence[str]) -> bool:
    vendor, type_, name = kind.split("/", 2)
    return {1: [type_], 2: [vendor, type_]}.get(len(parts), [vendor, type_, name]) == list(parts)


# ---------------------------------------------------------------------------- tasks


@dataclass(frozen=True, slots=True)
class _Task:
    cpu: int
    memory_mib: int
    gpus: DeviceRequest | None
    custom: tuple[tuple[str, int], ...]
    devices: tuple[int, ...]
    at: At


def _task(
    cpu: int,
    memory_mib: int,
    gpus: Sequence[tuple[str, int]],
    custom: Mapping[str, int],
    devices: tuple[int, ...],
    at: At,
) -> _Task:
    request = None
    if gpus:
        count = sum(one for _, one in gpus)
        if count > MAX_DEVICES:
            at.refuse(f"asks for {count} GPUs; a node can have {MAX_DEVICES}")
        request = DeviceRequest(count=count, models=tuple(sorted({model for model, _ in gpus})))
    return _Task(cpu, memory_mib, request, amounts(custom.items()), devices, at)


def _held(task: At, node: _Node, at: At) -> _Task:
    gpus: list[tuple[str, int]] = []
    custom: Counter[str] = Counter()
    numbers: list[int] = []
    for device in task.each("Devices"):
        ids = [one.text() for one in device.each("DeviceIDs")]
        if device.text("Type") != "gpu":
            custom[_kind(device)] += len(ids)
            continue
        gpus.append((f"<{_kind(device)}>", len(ids)))
        numbers += [node.numbers[one] for one in ids if one in node.numbers]
    return _task(task.whole("Cpu", "CpuShares"), task.whole("Memory", "MemoryMB"), gpus, custom, tuple(numbers), at)


def _at_once(lifecycle: At | None) -> str:
    """When a task runs: ``main`` beside the others, ``prestart`` before them, ``poststop`` after them."""
    if lifecycle is None or lifecycle.flag("Sidecar"):
        return "main"
    hook = lifecycle.text("Hook")
    return hook if hook in ("prestart", "poststop") else "main"


def _together(tasks: Sequence[tuple[str, _Task]]) -> tuple[Resources, tuple[int, ...]]:
    """What is held at most at one time, as Nomad counts it: cpu and memory of those that run together; devices of all
    of them. Also the numbers of the devices."""
    cpu, memory = Counter[str](), Counter[str]()
    custom: Counter[str] = Counter()
    count, models = 0, set[str]()
    devices: list[int] = []
    for when, task in tasks:
        cpu[when] += task.cpu
        memory[when] += task.memory_mib
        custom.update(dict(task.custom))
        if task.gpus is not None:
            count += task.gpus.count
            models |= set(task.gpus.models)
        devices += task.devices
    gpus = DeviceRequest(count=count, models=tuple(sorted(models))) if count else None
    request = Resources(
        cpu_millis=max(cpu.values(), default=0),
        memory_mib=max(memory.values(), default=0),
        gpus=gpus,
        custom=amounts(custom.items()),
    )
    if len(set(devices)) != count:
        devices = []  # some are not reported any more, or it holds one twice: leave the choice to the packing
    return request, tuple(sorted(set(devices)))
