"""What ``kubectl get nodes,pods -A -o json`` prints as a cluster to pack.

Owns: what a node gives (``status.allocatable``), what a pod asks for (as the Kubernetes scheduler counts it) and what
is done with resources that Raftsman has no name for. Leaves to others: who may run where (``pack_selectors``), the
notation of amounts (``pack_quantity``). The rule: what is not kept to is said.

A GPU is a device of ``nvidia.com/gpu``, ``amd.com/gpu`` or Intel's plug-ins, whole; its model is the label of the
vendor's feature discovery. Every other extended resource (MIG slices, RDMA, huge pages), the number of pods a node may
have and host ports are carried as custom resources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

from orchestrator.contract.model import MAX_DEVICES, Device, DeviceRequest, Resources
from orchestrator.ops.pack_cluster import AMOUNT_MAX, WAITING, PackCluster, PackNode, PackPod, amounts
from orchestrator.ops.pack_json import At
from orchestrator.ops.pack_quantity import down, quantity, up
from orchestrator.ops.pack_selectors import Selectors

MODEL_LABELS = {
    "nvidia.com/gpu": "nvidia.com/gpu.product",
    "amd.com/gpu": "amd.com/gpu.product-name",
    "gpu.intel.com/i915": "gpu.intel.com/product",
    "gpu.intel.com/xe": "gpu.intel.com/product",
}
"""Resources that are GPUs, and the label with their model."""
_MEMORY_LABEL = "nvidia.com/gpu.memory"
_ENDED = ("Succeeded", "Failed")
_PODS = "pods"
_MIB = 1 << 20
_Amounts = dict[str, Fraction]


def read(nodes: Sequence[At], pods: Sequence[At]) -> PackCluster:
    """Items of kind Node and of kind Pod. Raises ``PackError``."""
    number_of: dict[str, int] = {}
    for number, node in enumerate(nodes):
        name = node.get("metadata").text("name") or node.get("metadata").refuse("has no name")
        if number_of.setdefault(name, number) != number:
            node.refuse(f"there are two nodes called {name!r}")
    made = [_node(node, name) for name, node in zip(number_of, nodes, strict=True)]
    reader = _Pods(made, number_of, Selectors(nodes))
    found = reader.read(pods)
    ports = sorted({name for pod in found for name, _ in pod.request.custom if name.startswith("port/")})
    nodes_made = tuple(_with_ports(node, ports) for node in made)
    carried = {name for node in made for name, _ in node.capacity.custom} - {_PODS}
    asked = {name for pod in found for name, _ in pod.request.custom}
    return PackCluster(
        format="kubectl",
        nodes=nodes_made,
        pods=found,
        placed=True,
        carried=tuple(sorted(carried & asked)),
        ignored=tuple(sorted(reader.ignored)),
        notes=tuple(reader.notes()),
        ended=reader.ended,
    )


# ---------------------------------------------------------------------------- nodes


def _node(node: At, name: str) -> PackNode:
    there = _amounts(node, "status", "allocatable") or _amounts(node, "status", "capacity")
    if not there:
        node.refuse("has neither status.allocatable nor status.capacity")
    labels = node.fields("metadata", "labels")
    devices: list[Device] = []
    for resource, label in MODEL_LABELS.items():
        count = down(there.get(resource, Fraction(0)))
        model = labels[label].text() if label in labels else ""
        memory = labels[_MEMORY_LABEL].text() if resource == "nvidia.com/gpu" and _MEMORY_LABEL in labels else ""
        for _ in range(min(count, MAX_DEVICES + 1)):
            device_id = f"gpu-{len(devices)}"
            devices.append(
                Device(
                    id=device_id,
                    model=f"<{resource}:{model}>",
                    memory_mib=int(memory) if memory.isascii() and memory.isdigit() and len(memory) < 10 else 0,
                )
            )
    if len(devices) > MAX_DEVICES:
        node.refuse(f"has more than {MAX_DEVICES} GPUs (if they are time slices, rename the resource: gpu.shared)")
    custom = amounts(
        (resource, down(amount))
        for resource, amount in there.items()
        if resource not in ("cpu", "memory", "ephemeral-storage") and resource not in MODEL_LABELS
    )
    return PackNode(
        name=name,
        capacity=Resources(
            cpu_millis=down(there.get("cpu", Fraction(0)) * 1000),
            memory_mib=down(there.get("memory", Fraction(0)) / _MIB),
            disk_mib=down(there.get("ephemeral-storage", Fraction(0)) / _MIB),
            custom=custom,
        ),
        devices=tuple(devices),
        open=not node.flag("spec", "unschedulable") and _ready(node),
    )


def _ready(node: At) -> bool:
    """A file without conditions says nothing against it."""
    said = [one.text("status") for one in node.each("status", "conditions") if one.text("type") == "Ready"]
    return not said or said[-1] == "True"


def _with_ports(node: PackNode, ports: Sequence[str]) -> PackNode:
    if not ports:
        return node
    capacity = node.capacity
    custom = tuple(sorted((*capacity.custom, *((port, 1) for port in ports))))
    return PackNode(
        name=node.name,
        capacity=Resources(
            cpu_millis=capacity.cpu_millis, memory_mib=capacity.memory_mib, disk_mib=capacity.disk_mib, custom=custom
        ),
        devices=node.devices,
        open=node.open,
    )


# ---------------------------------------------------------------------------- pods


class _Pods:
    def __init__(self, nodes: Sequence[PackNode], number_of: dict[str, int], selectors: Selectors) -> None:
        self._nodes = nodes
        self._number_of = number_of
        self._selectors = selectors
        self._declared = [{name for name, _ in node.capacity.custom} for node in nodes]
        self._known = set().union(*self._declared) if nodes else set()
        self.ended = 0
        self.ignored: set[str] = set()
        self._overlooked: Counter[str] = Counter()
        self._gone: set[str] = set()
        self._missing: set[str] = set()
        self._gated = 0

    def read(self, pods: Iterable[At]) -> tuple[PackPod, ...]:
        made = []
        for pod in pods:
            where = pod.text("spec", "nodeName")
            if pod.text("status", "phase") in _ENDED:
                self.ended += 1
            elif where and where not in self._number_of:
                self._gone.add(where)
                self.ended += 1
            elif not where and _starts_never(pod):
                self.ended += 1
            elif not where and any(True for _ in pod.each("spec", "schedulingGates")):
                self._gated += 1
                self.ended += 1
            else:
                made.append(self._pod(pod))
        return tuple(made)

    def notes(self) -> Iterable[str]:
        for text, count in sorted(self._overlooked.items()):
            yield f"{count} {'pod has' if count == 1 else 'pods have'} {text}"
        if self._gone:
            yield f"pods run on nodes that are not in the file; they were left out: {_some(self._gone)}"
        if self._gated:
            wait = "pod waits" if self._gated == 1 else "pods wait"
            yield f"{self._gated} {wait} behind scheduling gates, whatever room there is; left out"
        if self._missing:
            yield f"no node has what pods that wait ask for: {_some(self._missing)}"

    def _pod(self, pod: At) -> PackPod:
        metadata, spec = pod.get("metadata"), pod.get("spec")
        name = f"{metadata.text('namespace') or 'default'}/{metadata.text('name') or metadata.refuse('has no name')}"
        where = spec.text("nodeName")
        node = self._number_of[where] if where else WAITING
        daemon = _belongs_to_its_node(metadata)
        self._overlook(spec)
        return PackPod(
            name=name,
            request=self._request(pod, spec, node),
            node=node,
            nodes=None if daemon and node != WAITING else self._selectors.nodes(spec),
            daemon=daemon,
            priority=_priority(spec),
        )

    def _request(self, pod: At, spec: At, node: int) -> Resources:
        asked = asked_by(spec)
        gpus = None
        wanted = [(resource, up(asked[resource])) for resource in MODEL_LABELS if asked.get(resource)]
        if len(wanted) > 1:
            pod.refuse(f"asks for {wanted[0][0]} and for {wanted[1][0]}; only one kind of GPU can be packed")
        for resource, count in wanted:
            if count > MAX_DEVICES:
                pod.refuse(f"asks for {count} GPUs; a node can have {MAX_DEVICES}")
            gpus = DeviceRequest(count=count, models=(f"<{resource}:",))
        custom = [(_PODS, 1)] if _PODS in self._known else []
        for resource, amount in asked.items():
            if resource in ("cpu", "memory", "ephemeral-storage") or resource in MODEL_LABELS or not amount:
                continue
            if node != WAITING and resource not in self._declared[node]:
                # It runs there, so it must have had it; to insist now would keep it from everywhere.
                self.ignored.add(resource)
                continue
            if resource not in self._known:
                self._missing.add(resource)
            custom.append((resource, up(amount)))
        custom += [(port, 1) for port in _host_ports(spec)]
        return Resources(
            cpu_millis=up(asked.get("cpu", Fraction(0)) * 1000),
            memory_mib=up(asked.get("memory", Fraction(0)) / _MIB),
            disk_mib=up(asked.get("ephemeral-storage", Fraction(0)) / _MIB),
            gpus=gpus,
            custom=amounts(custom),
        )

    def _overlook(self, spec: At) -> None:
        affinity = spec.fields("affinity")
        if "podAffinity" in affinity or "podAntiAffinity" in affinity:
            self._overlooked["affinity to other pods, which is not kept to"] += 1
        if any(True for _ in spec.each("topologySpreadConstraints")):
            self._overlooked["spread constraints, which are not kept to"] += 1
        if any(True for _ in spec.each("resourceClaims")):
            self._overlooked["claims of devices (DRA), which are not counted"] += 1
        if any("persistentVolumeClaim" in volume.fields() for volume in spec.each("volumes")):
            self._overlooked["volume claims; where their volumes can be used is not looked at"] += 1


def asked_by(spec: At) -> _Amounts:
    """What the scheduler reserves: of each resource the containers' sum, or if it is more what the init containers need
    at most at one time, plus overhead. Init containers with ``restartPolicy: Always`` go on running beside all that
    start after them. Requests for the whole pod take the place of the sum."""
    lasting: _Amounts = {}  # of the init containers that go on running
    peak: _Amounts = {}
    for container in spec.each("initContainers"):
        asked = _requests(container)
        if container.text("restartPolicy") == "Always":
            lasting = _sum(lasting, asked)
            peak = _most(peak, lasting)
        else:
            peak = _most(peak, _sum(lasting, asked))
    total = lasting
    for container in spec.each("containers"):
        total = _sum(total, _requests(container))
    total = _most(total, peak)
    total = {**total, **_requests(spec)}
    return _sum(total, _amounts(spec, "overhead"))


def _requests(container: At) -> _Amounts:
    """A limit without a request is one, as the API server has it."""
    return {**_amounts(container, "resources", "limits"), **_amounts(container, "resources", "requests")}


def _sum(one: _Amounts, other: _Amounts) -> _Amounts:
    return _joined(one, other, lambda left, right: left + right)


def _most(one: _Amounts, other: _Amounts) -> _Amounts:
    return _joined(one, other, max)


def _joined(one: _Amounts, other: _Amounts, join: Callable[[Fraction, Fraction], Fraction]) -> _Amounts:
    if not other:
        return one
    return {name: join(one.get(name, Fraction(0)), other.get(name, Fraction(0))) for name in {**one, **other}}


_CPU_LIKE = 1000
"""CPU is kept in thousandths, so that its bound is as much smaller."""


def _amounts(at: At, *keys: str) -> _Amounts:
    found = {}
    for name, value in at.fields(*keys).items():
        try:
            found[name] = quantity(value.value)
        except ValueError as error:
            value.refuse(str(error))
        if found[name] * (_CPU_LIKE if name == "cpu" else 1) > AMOUNT_MAX * (_MIB if _in_bytes(name) else 1):
            value.refuse(f"{value.value} is more than can be packed")
    return found


def _in_bytes(name: str) -> bool:
    return name in ("memory", "ephemeral-storage")


def _belongs_to_its_node(metadata: At) -> bool:
    """Of a DaemonSet, or a static pod that the kubelet runs from a file."""
    owners = {owner.text("kind") for owner in metadata.each("ownerReferences")}
    return bool(owners & {"DaemonSet", "Node"}) or "kubernetes.io/config.mirror" in metadata.fields("annotations")


def _starts_never(pod: At) -> bool:
    """Of a pod without a node: it is being deleted."""
    return pod.maybe("metadata", "deletionTimestamp") is not None


def _host_ports(spec: At) -> Iterable[str]:
    """Those of what runs on: containers, and init containers that go on running beside them."""
    found = set()
    sidecars = (one for one in spec.each("initContainers") if one.text("restartPolicy") == "Always")
    for container in (*spec.each("containers"), *sidecars):
        for port in container.each("ports"):
            number = port.whole("hostPort")
            if number:
                found.add(f"port/{port.text('protocol') or 'TCP'}/{number}")
    return sorted(found)


def _priority(spec: At) -> int:
    found = spec.maybe("priority")
    if found is None:
        return 0
    if isinstance(found.value, bool) or not isinstance(found.value, int) or abs(found.value) > AMOUNT_MAX:
        found.refuse("expected a whole number")
    return found.value


def _some(names: Iterable[str]) -> str:
    several = sorted(names)
    return ", ".join(several[:5]) + (f" and {len(several) - 5} more" if len(several) > 5 else "")
