"""The job file as pydantic models: its keys, their shapes and units, and the JSON Schema that editors use.

Owns: what may be written and how it becomes ``contract.model``. Leaves to others: where things stand in the text
(``jobfile.file``), rules on the values (``jobfile.check``). The rule: a validator raises ValueError with what was
expected; prose and positions are put around it by ``jobfile.file``.

A file is one job. Keys of the one group and its one task may stand at the top; ``tasks:`` and ``groups:`` are for more.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema, field_validator

from orchestrator.contract import model as nouns
from orchestrator.contract import priorities
from orchestrator.jobfile import batch_keys, limits, units
from orchestrator.jobfile.check import near_miss
from orchestrator.jobfile.containers import ContainerKeys, Role, Volumes
from orchestrator.jobfile.leaves import (
    GANG_DOMAINS,
    Amounts,
    Constrained,
    ConstraintKeys,
    Cpu,
    Duration,
    GangDomain,
    GangFailure,
    JobType,
    Keys,
    Link,
    Memory,
    Name,
    OnDisconnect,
    Or,
    Protocol,
    RestartMode,
    Share,
    Text,
    TextList,
    TextMap,
    Truth,
    Version,
    Whole,
    Words,
    whole,
)
from orchestrator.jobfile.placement import (
    DISTINCT,
    Affinities,
    AffinityKeys,
    SpreadKeys,
    Spreads,
    TolerationKeys,
    Tolerations,
)
from orchestrator.jobfile.rollout_keys import Health, OrbitHealth, OrbitUpdate, UpdateKeys, either, only_one
from orchestrator.jobfile.tree import text_of

__all__ = ["AffinityKeys", "ConstraintKeys", "SpreadKeys", "TolerationKeys"]


def _whole_count(value: object) -> object:
    """``gpus: 2`` means ``gpus: {count: 2}``."""
    return value if isinstance(value, dict) else {"count": value}


class Gpus(Keys):
    count: Whole = Field(default=1, ge=0, le=limits.MAX_DEVICES, description="How many devices.")
    model: Text | None = Field(default=None, description="A part of the device's model, such as A100; any case.")
    models: TextList = Field(default=[], description="Any of these models.")
    memory: Memory = Field(default=0, description="At least this much memory on each device.")
    share: Share = Field(default=nouns.WHOLE_DEVICE, description="Of one device; only with count 1.")
    compute_capability: Version = Field(default="", description="Of each device, such as '>= 8.0' or '>= 8.0, < 9.0'.")
    driver_version: Version = Field(default="", description="Of NVIDIA's driver, such as '>= 535'.")
    mig: Text = Field(default="", description="MIG slices with this profile, such as 1g.10gb; else whole GPUs.")
    link: Link = Field(
        default_factory=lambda: nouns.Link.ANY, description="All of them in one NVLink 'island', or one 'numa' node."
    )

    @field_validator("share")
    @classmethod
    def _is_some(cls, value: int) -> int:
        """On the way to a peer 0 means that none was named, which is a whole device."""
        if value == 0:
            raise ValueError("expected more than 0; leave it out for a whole device")
        return value

    def build(self) -> nouns.DeviceRequest:
        models = ([self.model] if self.model is not None else []) + self.models
        return nouns.DeviceRequest(
            count=self.count,
            gpu_millis=self.share,
            memory_mib=self.memory,
            models=tuple(models),
            compute_capability=self.compute_capability,
            driver_version=self.driver_version,
            mig=self.mig,
            link=self.link,
        )


_GPUS_SHORT = {"type": "integer", "minimum": 0, "maximum": limits.MAX_DEVICES}


class ResourceKeys(Keys):
    cpu: Cpu = Field(default=limits.DEFAULT_CPU_MILLIS, description="Cores.")
    memory: Memory = Field(default=limits.DEFAULT_MEMORY_MIB, description="With its unit: 256Mi.")
    disk: Memory = Field(default=0, description="With its unit: 10Gi.")
    cpu_max: Cpu = Field(default=0, description="Hard limit of a container; without, 'cpu' is its share.")
    memory_max: Memory = Field(default=0, description="Limit of a container; 'memory' when left out.")
    custom: Amounts = Field(default={}, description="Whole amounts of what nodes declare, such as licenses: 2.")
    gpus: Annotated[Gpus, BeforeValidator(_whole_count), Or(_GPUS_SHORT)] | None = Field(
        default=None, description="How many, or count, model, memory, share."
    )

    @field_validator("cpu", "memory")
    @classmethod
    def _is_something(cls, value: int, info: ValidationInfo) -> int:
        """Nothing would be the same as leaving it out."""
        if value == 0:
            default = f"{limits.DEFAULT_CPU_MILLIS}m" if info.field_name == "cpu" else f"{limits.DEFAULT_MEMORY_MIB}Mi"
            raise ValueError(f"expected more than 0; leave it out for {default}")
        return value

    def build(self) -> nouns.Resources:
        return nouns.Resources(
            cpu_millis=self.cpu,
            memory_mib=self.memory,
            disk_mib=self.disk,
            gpus=self.gpus.build() if self.gpus is not None else None,
            custom=tuple(sorted(self.custom.items())),
        )


_PORT_TEXT = re.compile(r"(?:(\d{1,9}):)?(\d{1,9})(?:/([a-z]+))?")


def port(value: object) -> object:
    """``8080``, ``"8080"``, ``"8080:80"`` (host:task), ``"53/udp"``, or a mapping."""
    if isinstance(value, dict):
        return value
    match = _PORT_TEXT.fullmatch(text_of(value)) if isinstance(value, (str, int)) else None
    if match is None or isinstance(value, bool):
        raise ValueError(
            "expected a port such as 8080, '8080:80' (host:task), '53/udp' or {label: http, to: 80}, "
            f"got {units.shown(value)}"
        )
    made: dict[str, object] = {"label": match[2], "to": int(match[2])}
    if match[1]:
        made["static"] = int(match[1])
    if match[3]:
        made["protocol"] = match[3]
    return made


class Port(Keys):
    label: Text = Field(default="", description="The task sees the host port as RAFTSMAN_PORT_<LABEL>.")
    to: Whole = Field(
        default=0, ge=0, le=limits.MAX_PORT, description="Port inside the container; 0: the same as the host's."
    )
    static: Whole = Field(default=0, ge=0, le=limits.MAX_PORT, description="Host port; 0: the scheduler picks one.")
    protocol: Protocol = Field(default_factory=lambda: nouns.Protocol.TCP)

    def build(self) -> nouns.PortSpec:
        return nouns.PortSpec(label=self.label, to=self.to, static=self.static, protocol=self.protocol)


class Restart(Keys):
    attempts: Whole = Field(default=3, ge=0, le=limits.MAX_ATTEMPTS, description="Restarts on the same node.")
    delay: Duration = Field(default=15_000, description="Between two attempts.")
    mode: RestartMode = Field(default_factory=lambda: nouns.RestartMode.FAIL)

    def build(self) -> nouns.RestartPolicy:
        return nouns.RestartPolicy(attempts=self.attempts, delay_ms=self.delay, mode=self.mode)


class Stop(Keys):
    signal: Text = Field(default="SIGTERM", description="Sent first.")
    timeout: Duration = Field(default=10_000, description="Then it is killed.")

    def build(self) -> nouns.StopPolicy:
        return nouns.StopPolicy(signal=self.signal, timeout_ms=self.timeout)


def _gang(value: object) -> object:
    """``gang: true``, ``gang: rack`` or a mapping; ``gang: false`` is the same as leaving it out."""
    if isinstance(value, bool):
        return {} if value else None
    return {"domain": value} if isinstance(value, str) else value


class Gang(Keys):
    domain: GangDomain = Field(
        default_factory=lambda: nouns.GangDomain.CLUSTER, description="How far apart its instances may be."
    )
    on_failure: GangFailure = Field(
        default_factory=lambda: nouns.GangFailure.RESTART, description="All start again, or that instance alone."
    )

    def build(self) -> nouns.GangSpec:
        return nouns.GangSpec(domain=self.domain, on_failure=self.on_failure)


_GANG_SHORT = {"anyOf": [{"type": "boolean"}, {"type": "string", "enum": list(GANG_DOMAINS)}]}


def _workload(value: object) -> object:
    """``workload: ready`` means ``workload: {ready: true}``."""
    return {"ready": True} if value == "ready" else value


class Workload(Keys):
    ready: Truth = Field(default=False, description="It is not ready before it says so: workload.ready().")
    heartbeat: Duration = Field(default=0, description="Silent for so long, its run ends: workload.heartbeat().")

    def build(self) -> nouns.WorkloadSpec:
        return nouns.WorkloadSpec(ready=self.ready, heartbeat_ms=self.heartbeat)


_WORKLOAD_SHORT = {"const": "ready"}


def _service(value: object) -> object:
    """``web`` means ``{name: web}``."""
    return {"name": value} if isinstance(value, str) else value


class Service(Keys):
    name: Name = Field(default="", description="Left out: the job's name, with the group's if that is not main.")
    port: Text = Field(default="", description="Label of one of the group's ports; left out: the first.")

    def build(self) -> nouns.ServiceSpec:
        return nouns.ServiceSpec(name=self.name, port=self.port)


# ---------------------------------------------------------------------------- tasks, groups, jobs


def pairs(values: dict[str, str]) -> nouns.StrMap:
    return tuple(sorted(values.items()))


class TaskKeys(ContainerKeys):
    """Keys of one task."""

    driver: Name | None = Field(
        default=None, description="docker or process; chosen by image or command when left out."
    )
    image: Text | None = Field(default=None, description="Container image.")
    command: Words = Field(default=[], description="Replaces the image's entrypoint; or the program to run.")
    args: Words = Field(default=[], description="Appended to the command, or to the image's own.")
    env: TextMap = Field(default={}, description="Environment.")
    resources: ResourceKeys = Field(default_factory=ResourceKeys)
    stop: Stop = Field(default_factory=Stop)
    timeout: Duration = Field(default=0, description="A run that takes longer is killed, and has failed; 0: none.")
    variables: TextMap = Field(default={}, description="Environment name: name of a variable of the cluster.")
    work_dir: Text | None = Field(default=None, description="Absolute path.")
    user: Text | None = Field(default=None, description="uid, uid:gid or a name.")
    privileged: Truth = Field(default=False, description="Refused unless the operator's policy allows it.")
    workload: Annotated[Workload, Or(_WORKLOAD_SHORT), BeforeValidator(_workload)] | None = Field(
        default=None, description="What it says itself through the workload kit: ready, heartbeat."
    )
    health: Health | None = Field(default=None, description="A check, or startup, liveness and readiness.")
    health_check: OrbitHealth | None = Field(default=None, description="Orbit's word for health.")
    volumes: Volumes = Field(
        default=[], description="source:target[:ro|rw]; volumes of the node (rw when unsaid) or host paths (ro)."
    )
    role: Role = Field(
        default_factory=lambda: nouns.TaskRole.MAIN,
        description="main, init (to completion before the others) or sidecar (before the main tasks, and beside them).",
    )

    @field_validator("health_check")
    @classmethod
    def _one_health(cls, value: OrbitHealth | None, info: ValidationInfo) -> OrbitHealth | None:
        only_one(value, info.data.get("health"), "health")
        return value

    def build_task(self, name: str) -> nouns.TaskSpec:
        return nouns.TaskSpec(
            name=name,
            driver=self.driver or "",
            image=self.image or "",
            command=tuple(self.command),
            args=tuple(self.args),
            env=pairs(self.env),
            resources=self.resources.build(),
            stop=self.stop.build(),
            timeout_ms=self.timeout,
            variables=pairs(self.variables),
            work_dir=self.work_dir or "",
            user=self.user or "",
            privileged=self.privileged,
            mounts=tuple(volume.build() for volume in self.volumes),
            workload=self.workload.build() if self.workload is not None else None,
            container=self.build_container(cpu_max=self.resources.cpu_max, memory_max=self.resources.memory_max),
            role=self.role,
            health=either(self.health, self.health_check),
        )


class Task(TaskKeys):
    name: Name = Field(default="", description="Needed where a group has several tasks.")


_PORT_SHORT = {"type": ["string", "integer"], "examples": [8080, "8080:80", "53/udp"]}
Ports = list[Annotated[Port, BeforeValidator(port), Or(_PORT_SHORT)]]
Constraints = list[Constrained]


class GroupKeys(TaskKeys):
    """Keys of one group; those of its task may stand beside them."""

    count: Whole = Field(default=1, ge=0, le=limits.MAX_COUNT, description="Instances of the group.")
    ports: Ports = Field(default=[], description="A list, or a mapping of label to port.")
    restart: Restart = Field(default_factory=Restart)
    constraints: Constraints = Field(default=[], description="Hard conditions on node labels.")
    gang: Annotated[Gang | None, BeforeValidator(_gang), Or(_GANG_SHORT)] = Field(
        default=None, description="All instances are placed together or none: true, a domain, or domain and on_failure."
    )
    affinity: Affinities = Field(default=[], description="To be near, or far from, nodes or instances.")
    distinct_hosts: Truth = Field(default=False, description="No two instances of the group on one node.")
    spread: Spreads = Field(default=[], description="Evenly over the values of a node attribute.")
    tolerations: Tolerations = Field(default=[], description="Taints that do not matter.")
    datasets: TextList = Field(default=[], description="What it reads; nodes that have it are preferred.")
    locality: Whole | None = Field(
        default=None, description="Weight of nodes that have the images and datasets: 0 to 100; 50 with datasets."
    )
    services: list[Annotated[Service, BeforeValidator(_service), Or({"type": "string"})]] = Field(
        default=[], description="Names under which its ports are found; a list, or a mapping of name to port."
    )
    needs: TextList = Field(
        default=[], description="Services that must be there before it starts: NAME or NAME.NAMESPACE."
    )
    network_mode: Text = Field(default="", description="Of its containers: bridge, host, none, or a network's name.")
    update: UpdateKeys | None = Field(default=None, description="How instances are replaced by a newer version.")
    rolling_update_config: OrbitUpdate | None = Field(default=None, description="Orbit's word for update.")
    after: batch_keys.Afters = Field(default=[], description="Groups that must have ended before this one starts.")
    tasks: list[Task] = Field(default=[], description="Tasks that always run together; a list, or a mapping by name.")

    @field_validator("rolling_update_config")
    @classmethod
    def _one_update(cls, value: OrbitUpdate | None, info: ValidationInfo) -> OrbitUpdate | None:
        only_one(value, info.data.get("update"), "update")
        return value

    def build_group(self, name: str) -> nouns.GroupSpec:
        if self.tasks:
            tasks = tuple(task.build_task(task.name) for task in self.tasks)
        else:
            tasks = (self.build_task(limits.DEFAULT_TASK),)
        return nouns.GroupSpec(
            name=name,
            count=self.count,
            tasks=tasks,
            ports=tuple(port.build() for port in self.ports),
            restart=self.restart.build(),
            constraints=tuple(constraint.build() for constraint in self.constraints),
            gang=self.gang.build() if self.gang is not None else None,
            affinity=(*(one.build() for one in self.affinity), *((DISTINCT,) if self.distinct_hosts else ())),
            spread=tuple(one.build() for one in self.spread),
            tolerations=tuple(one.build() for one in self.tolerations),
            datasets=tuple(self.datasets),
            services=tuple(one.build() for one in self.services),
            needs=tuple(self.needs),
            network_mode=self.network_mode,
            locality=(limits.DEFAULT_LOCALITY if self.datasets else 0) if self.locality is None else self.locality,
            after=tuple(one.build() for one in self.after),
            update=either(self.update, self.rolling_update_config),
        )


def _priority(value: object) -> object:
    """A number from 0 to 100, or the name of a class."""
    if isinstance(value, str) and not re.fullmatch(r"-?\d{1,18}", value):
        if value in priorities.CLASSES:
            return priorities.CLASSES[value]
        hint = near_miss(value, priorities.CLASSES)
        raise ValueError(
            f"expected a number from 0 to {limits.MAX_PRIORITY}, or one of {', '.join(priorities.CLASSES)}; "
            f"got {units.shown(value)}{hint}"
        )
    return whole(value)


_PRIORITY_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": limits.MAX_PRIORITY},
        {"type": "string", "enum": list(priorities.CLASSES)},
    ]
}
Priority = Annotated[int, BeforeValidator(_priority), WithJsonSchema(_PRIORITY_SCHEMA)]


def _disruption(value: object) -> object:
    """``disruption: 1`` and ``disruption: 25%`` mean ``disruption: {max_unavailable: ...}``."""
    return value if isinstance(value, dict) else {"max_unavailable": value}


_UNAVAILABLE_EXPECTED = "expected a number of instances such as 1, or a share such as 25%"


def _unavailable(value: object) -> nouns.Disruption:
    text = text_of(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"(\d{1,9})\s*(%?)", text.strip())
    if match is None:
        raise ValueError(f"{_UNAVAILABLE_EXPECTED}, got {units.shown(value)}")
    return nouns.Disruption(max_unavailable=int(match[1]), percent=bool(match[2]))


_UNAVAILABLE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+\s*%?$"}]}


class DisruptionKeys(Keys):
    max_unavailable: Annotated[nouns.Disruption, PlainValidator(_unavailable), WithJsonSchema(_UNAVAILABLE_SCHEMA)] = (
        Field(description="Instances of each group that may be down at once: 1, or 25%.")
    )

    def build(self) -> nouns.Disruption:
        return self.max_unavailable


class Group(GroupKeys):
    name: Name = Field(default="", description="Needed where a job has several groups.")


class JobFile(GroupKeys):
    """A job of Raftsman."""

    name: Name = Field(description=limits.NAME_RULE)
    namespace: Name = nouns.DEFAULT_NAMESPACE
    type: JobType = Field(default_factory=lambda: nouns.JobType.SERVICE)
    priority: Priority = Field(
        default=limits.DEFAULT_PRIORITY,
        ge=0,
        le=limits.MAX_PRIORITY,
        description="Higher goes first: 0 to 100, or low (20), normal (50), high (80), critical (95).",
    )
    preemptible: Truth = Field(
        default=True, description="Whether jobs of higher priority may have instances stopped to make room."
    )
    disruption: Annotated[DisruptionKeys, BeforeValidator(_disruption), Or(_UNAVAILABLE_SCHEMA)] | None = Field(
        default=None, description="How much of each group drains and preemption may take down at once."
    )
    placement: Text | None = Field(
        default=None,
        description="binpack, spread, round-robin, first-fit-decreasing, gpu-locality, fragmentation, or a plug-in's.",
    )
    on_disconnect: OnDisconnect = Field(default_factory=lambda: nouns.OnDisconnect.REPLACE)
    periodic: batch_keys.Periodic | None = Field(default=None, description="When a batch job runs, again and again.")
    parameterized: batch_keys.Parameterized = Field(default=None, description="A batch job that runs when dispatched.")
    metadata: TextMap = Field(default={}, description="Anything you like; Raftsman does not read it.")
    groups: list[Group] = Field(default=[], description="More than one group; a list, or a mapping by name.")

    def build(self) -> nouns.JobSpec:
        above: JobFile | None = None  # whose keys are for all groups
        if self.groups:
            groups = tuple(group.build_group(group.name) for group in self.groups)
            above = self
        else:
            groups = (self.build_group(limits.DEFAULT_GROUP),)
        return nouns.JobSpec(
            namespace=self.namespace,
            name=self.name,
            type=self.type,
            priority=self.priority,
            groups=groups,
            placement=self.placement or "",
            on_disconnect=self.on_disconnect,
            constraints=tuple(one.build() for one in above.constraints) if above else (),
            metadata=pairs(self.metadata),
            periodic=self.periodic.build() if self.periodic is not None else None,
            parameterized=self.parameterized.build() if self.parameterized is not None else None,
            disruption=self.disruption.build() if self.disruption is not None else None,
            unpreemptible=not self.preemptible,
            affinity=tuple(one.build() for one in above.affinity) if above else (),
            spread=tuple(one.build() for one in above.spread) if above else (),
            tolerations=tuple(one.build() for one in above.tolerations) if above else (),
        )
