"""The job file as pydantic models: its keys, their shapes and units, and the JSON Schema that editors use.

Owns: what may be written and how it becomes ``contract.model``. Leaves to others: where things stand in the text
(``jobfile.file``), rules on the values (``jobfile.check``). The rule: a validator raises ValueError with what was
expected; prose and positions are put around it by ``jobfile.file``.

A file is one job. Keys of the one group and its one task may stand at the top; ``tasks:`` and ``groups:`` are for more.
"""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic_core import core_schema

from orchestrator.contract import model as nouns
from orchestrator.contract.devices import canonical
from orchestrator.jobfile import limits, units
from orchestrator.jobfile.check import name_problem, near_miss
from orchestrator.jobfile.tree import text_of

# ---------------------------------------------------------------------------- leaves


def _text(value: object) -> str:
    if value is None or isinstance(value, (dict, list)):
        raise ValueError(f"expected text, got {units.shown(value)}" + ('; write "" for empty text' * (value is None)))
    return text_of(value)


def _name(value: object) -> str:
    name = _text(value)
    problem = name_problem(name)
    if problem:
        raise ValueError(problem)
    return name


def _whole(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, got {units.shown(value)}")
    if abs(value) >= 2**53:
        raise ValueError(f"expected a whole number of a sensible size, got {units.shown(value)}")
    return int(value)


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {units.shown(value)}")
    return value


def _words(value: object) -> object:
    """A command: a list of words, or one line that is split as a shell would (but no shell runs it)."""
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise ValueError(f"cannot split this into words ({str(error).lower()}): write a list") from None
    if not isinstance(value, list):
        raise ValueError(f"expected a list of words or one line of text, got {units.shown(value)}")
    return value


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def one_of(value: object, known: dict[str, Any]) -> Any:
    """What a word of a closed set means; raises ValueError with the near miss."""
    word = text_of(value) if not isinstance(value, (dict, list)) else ""
    if word in known:
        return known[word]
    hint = near_miss(word, known) if word else ""
    raise ValueError(f"expected one of {', '.join(known)}; got {units.shown(value)}{hint}")


JOB_TYPES = {"service": nouns.JobType.SERVICE, "batch": nouns.JobType.BATCH, "system": nouns.JobType.SYSTEM}
LINKS = {"any": nouns.Link.ANY, "island": nouns.Link.ISLAND, "numa": nouns.Link.NUMA}
GANG_DOMAINS = {domain.name.lower(): domain for domain in nouns.GangDomain}
GANG_FAILURES = {failure.name.lower(): failure for failure in nouns.GangFailure}
DISCONNECTS = {
    "replace": nouns.OnDisconnect.REPLACE,
    "stop": nouns.OnDisconnect.STOP,
    "keep": nouns.OnDisconnect.KEEP,
}
MODES = {"fail": nouns.RestartMode.FAIL, "delay": nouns.RestartMode.DELAY}
PROTOCOLS = {"tcp": nouns.Protocol.TCP, "udp": nouns.Protocol.UDP}
OPERATORS = {
    "=": nouns.ConstraintOperator.EQUAL,
    "!=": nouns.ConstraintOperator.NOT_EQUAL,
    "in": nouns.ConstraintOperator.IN,
    "not in": nouns.ConstraintOperator.NOT_IN,
    "exists": nouns.ConstraintOperator.EXISTS,
    "not exists": nouns.ConstraintOperator.NOT_EXISTS,
    ">": nouns.ConstraintOperator.GREATER,
    "<": nouns.ConstraintOperator.LESS,
}


class _Or:
    """In the JSON Schema: ``short``, or what the annotated type says."""

    def __init__(self, short: dict[str, Any]) -> None:
        self._short = short

    def __get_pydantic_json_schema__(
        self, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [self._short, handler(core)]}


def _word(known: dict[str, Any]) -> tuple[PlainValidator, WithJsonSchema]:
    schema = WithJsonSchema({"type": "string", "enum": list(known)})
    return PlainValidator(lambda value: one_of(value, known)), schema


JobType = Annotated[nouns.JobType, *_word(JOB_TYPES)]
OnDisconnect = Annotated[nouns.OnDisconnect, *_word(DISCONNECTS)]
RestartMode = Annotated[nouns.RestartMode, *_word(MODES)]
Link = Annotated[nouns.Link, *_word(LINKS)]
GangDomain = Annotated[nouns.GangDomain, *_word(GANG_DOMAINS)]
GangFailure = Annotated[nouns.GangFailure, *_word(GANG_FAILURES)]
Protocol = Annotated[nouns.Protocol, *_word(PROTOCOLS)]
Operator = Annotated[nouns.ConstraintOperator, *_word(OPERATORS)]

_SCALAR = {"type": ["string", "number", "boolean"]}
_QUANTITY = {"type": ["string", "number"]}
Text = Annotated[str, BeforeValidator(_text), WithJsonSchema(_SCALAR)]
Name = Annotated[str, BeforeValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{limits.NAME.pattern}$"})]
Whole = Annotated[int, BeforeValidator(_whole)]
Truth = Annotated[bool, BeforeValidator(_truth)]
_WORDS_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": _SCALAR}]}
Words = Annotated[list[Text], BeforeValidator(_words), WithJsonSchema(_WORDS_SCHEMA)]
TextList = Annotated[list[Text], BeforeValidator(_listed), WithJsonSchema(_WORDS_SCHEMA)]
TextMap = Annotated[dict[Text, Text], WithJsonSchema({"type": "object", "additionalProperties": _SCALAR})]
Cpu = Annotated[int, BeforeValidator(units.parse_cpu), WithJsonSchema({**_QUANTITY, "examples": ["500m", 2, 0.5]})]
Memory = Annotated[int, BeforeValidator(units.parse_memory), WithJsonSchema({**_QUANTITY, "examples": ["256Mi"]})]
Share = Annotated[int, BeforeValidator(units.parse_share), WithJsonSchema({**_QUANTITY, "examples": [0.5, "500m"]})]
Duration = Annotated[int, BeforeValidator(units.parse_duration), WithJsonSchema({**_QUANTITY, "examples": ["30s"]})]


def _version(value: object) -> str:
    return canonical(_text(value).strip())


_VERSION_SCHEMA = {"type": ["string", "number"], "examples": [">= 8.0"]}
Version = Annotated[str, BeforeValidator(_version), WithJsonSchema(_VERSION_SCHEMA)]


class _Keys(BaseModel):
    """Unknown keys are refused: a typing mistake must not silently change what runs."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False)


def _whole_count(value: object) -> object:
    """``gpus: 2`` means ``gpus: {count: 2}``."""
    return value if isinstance(value, dict) else {"count": value}


class Gpus(_Keys):
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


class ResourceKeys(_Keys):
    cpu: Cpu = Field(default=limits.DEFAULT_CPU_MILLIS, description="Cores.")
    memory: Memory = Field(default=limits.DEFAULT_MEMORY_MIB, description="With its unit: 256Mi.")
    disk: Memory = Field(default=0, description="With its unit: 10Gi.")
    gpus: Annotated[Gpus, BeforeValidator(_whole_count), _Or(_GPUS_SHORT)] | None = Field(
        default=None, description="How many, or count, model, memory, share."
    )

    def build(self) -> nouns.Resources:
        return nouns.Resources(
            cpu_millis=self.cpu,
            memory_mib=self.memory,
            disk_mib=self.disk,
            gpus=self.gpus.build() if self.gpus is not None else None,
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


class Port(_Keys):
    label: Text = Field(default="", description="The task sees the host port as RAFTSMAN_PORT_<LABEL>.")
    to: Whole = Field(
        default=0, ge=0, le=limits.MAX_PORT, description="Port inside the container; 0: the same as the host's."
    )
    static: Whole = Field(default=0, ge=0, le=limits.MAX_PORT, description="Host port; 0: the scheduler picks one.")
    protocol: Protocol = Field(default_factory=lambda: nouns.Protocol.TCP)

    def build(self) -> nouns.PortSpec:
        return nouns.PortSpec(label=self.label, to=self.to, static=self.static, protocol=self.protocol)


class Restart(_Keys):
    attempts: Whole = Field(default=3, ge=0, le=limits.MAX_ATTEMPTS, description="Restarts on the same node.")
    delay: Duration = Field(default=15_000, description="Between two attempts.")
    mode: RestartMode = Field(default_factory=lambda: nouns.RestartMode.FAIL)

    def build(self) -> nouns.RestartPolicy:
        return nouns.RestartPolicy(attempts=self.attempts, delay_ms=self.delay, mode=self.mode)


class Stop(_Keys):
    signal: Text = Field(default="SIGTERM", description="Sent first.")
    timeout: Duration = Field(default=10_000, description="Then it is killed.")

    def build(self) -> nouns.StopPolicy:
        return nouns.StopPolicy(signal=self.signal, timeout_ms=self.timeout)


def _gang(value: object) -> object:
    """``gang: true``, ``gang: rack`` or a mapping; ``gang: false`` is the same as leaving it out."""
    if isinstance(value, bool):
        return {} if value else None
    return {"domain": value} if isinstance(value, str) else value


class Gang(_Keys):
    domain: GangDomain = Field(
        default_factory=lambda: nouns.GangDomain.CLUSTER, description="How far apart its instances may be."
    )
    on_failure: GangFailure = Field(
        default_factory=lambda: nouns.GangFailure.RESTART, description="All start again, or that instance alone."
    )

    def build(self) -> nouns.GangSpec:
        return nouns.GangSpec(domain=self.domain, on_failure=self.on_failure)


_GANG_SHORT = {"anyOf": [{"type": "boolean"}, {"type": "string", "enum": list(GANG_DOMAINS)}]}
_CONSTRAINT = re.compile(r"\s*(\S+?)\s*(==|!=|=|>|<|\bnot in\b|\bin\b|\bnot exists\b|\bexists\b)\s*(.*?)\s*")
_CONSTRAINT_EXPECTED = "expected a constraint such as 'zone = eu', 'disk in [ssd, nvme]' or 'gpu exists'"


def _constraint(value: object) -> object:
    """``zone = eu``, ``disk in [ssd, nvme]``, ``gpu exists``, or a mapping."""
    if isinstance(value, dict):
        return value
    match = _CONSTRAINT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_CONSTRAINT_EXPECTED}, got {units.shown(value)}")
    attribute, operator, rest = match[1], "=" if match[2] == "==" else match[2], match[3]
    values = _values(rest, many=operator in ("in", "not in"))
    if values is None or (operator.endswith("exists") and values):
        raise ValueError(f"{_CONSTRAINT_EXPECTED}, got {units.shown(value)}")
    return {"attribute": attribute, "operator": operator, "values": values}


def _values(text: str, *, many: bool) -> list[str] | None:
    if many:
        inner = re.fullmatch(r"\[(.*)\]|\((.*)\)", text)
        if inner is None:
            return None
        text = inner[1] if inner[1] is not None else inner[2]
        values = [part.strip().strip("'\"") for part in text.split(",")]
        return values if all(values) else None
    return [text.strip("'\"")] if text else []


class ConstraintKeys(_Keys):
    attribute: Text = Field(description=limits.ATTRIBUTE_RULE)
    operator: Operator = Field(default_factory=lambda: nouns.ConstraintOperator.EQUAL)
    value: TextList = Field(default=[], description="One value, or a list for 'in' and 'not in'.")
    values: TextList = Field(default=[], description="The same as 'value'.")

    def build(self) -> nouns.Constraint:
        return nouns.Constraint(
            attribute=self.attribute, operator=self.operator, values=tuple(self.value + self.values)
        )


def _volume(value: object) -> object:
    """``/data:/data``, ``/data:/data:rw``, or a mapping."""
    if isinstance(value, dict):
        return value
    parts = value.split(":") if isinstance(value, str) else []
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise ValueError(
            f"expected a volume such as '/host/path:/path' or '/host/path:/path:rw', got {units.shown(value)}"
        )
    return {"source": parts[0], "target": parts[1], "read_only": len(parts) == 2 or parts[2] == "ro"}


class Volume(_Keys):
    source: Text = Field(description="Absolute path on the host.")
    target: Text = Field(description="Absolute path in the container.")
    read_only: Truth = True

    def build(self) -> nouns.MountSpec:
        return nouns.MountSpec(source=self.source, target=self.target, read_only=self.read_only)


# ---------------------------------------------------------------------------- tasks, groups, jobs


def pairs(values: dict[str, str]) -> nouns.StrMap:
    return tuple(sorted(values.items()))


class TaskKeys(_Keys):
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
    variables: TextMap = Field(default={}, description="Environment name: name of a variable of the cluster.")
    work_dir: Text | None = Field(default=None, description="Absolute path.")
    user: Text | None = Field(default=None, description="uid, uid:gid or a name.")
    privileged: Truth = Field(default=False, description="Refused unless the operator's policy allows it.")
    volumes: list[Annotated[Volume, BeforeValidator(_volume), _Or({"type": "string"})]] = Field(
        default=[], description="Host paths: source:target[:ro|rw]; ro when unsaid."
    )

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
            variables=pairs(self.variables),
            work_dir=self.work_dir or "",
            user=self.user or "",
            privileged=self.privileged,
            mounts=tuple(volume.build() for volume in self.volumes),
        )


class Task(TaskKeys):
    name: Name = Field(default="", description="Needed where a group has several tasks.")


_CONSTRAINT_SHORT = {"type": "string", "examples": ["zone = eu"]}
_PORT_SHORT = {"type": ["string", "integer"], "examples": [8080, "8080:80", "53/udp"]}
Ports = list[Annotated[Port, BeforeValidator(port), _Or(_PORT_SHORT)]]
Constraints = list[Annotated[ConstraintKeys, BeforeValidator(_constraint), _Or(_CONSTRAINT_SHORT)]]


class GroupKeys(TaskKeys):
    """Keys of one group; those of its task may stand beside them."""

    count: Whole = Field(default=1, ge=0, le=limits.MAX_COUNT, description="Instances of the group.")
    ports: Ports = Field(default=[], description="A list, or a mapping of label to port.")
    restart: Restart = Field(default_factory=Restart)
    constraints: Constraints = Field(default=[], description="Hard conditions on node labels.")
    gang: Annotated[Gang | None, BeforeValidator(_gang), _Or(_GANG_SHORT)] = Field(
        default=None, description="All instances are placed together or none: true, a domain, or domain and on_failure."
    )
    tasks: list[Task] = Field(default=[], description="Tasks that always run together; a list, or a mapping by name.")

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
        )


class Group(GroupKeys):
    name: Name = Field(default="", description="Needed where a job has several groups.")


class JobFile(GroupKeys):
    """A job of Raftsman."""

    name: Name = Field(description=limits.NAME_RULE)
    namespace: Name = nouns.DEFAULT_NAMESPACE
    type: JobType = Field(default_factory=lambda: nouns.JobType.SERVICE)
    priority: Whole = Field(
        default=limits.DEFAULT_PRIORITY, ge=0, le=limits.MAX_PRIORITY, description="Higher goes first."
    )
    placement: Text | None = Field(
        default=None,
        description="binpack, spread, round-robin, first-fit-decreasing, gpu-locality, fragmentation, or a plug-in's.",
    )
    on_disconnect: OnDisconnect = Field(default_factory=lambda: nouns.OnDisconnect.REPLACE)
    metadata: TextMap = Field(default={}, description="Anything you like; Raftsman does not read it.")
    groups: list[Group] = Field(default=[], description="More than one group; a list, or a mapping by name.")

    def build(self) -> nouns.JobSpec:
        constraints: tuple[nouns.Constraint, ...] = ()
        if self.groups:
            groups = tuple(group.build_group(group.name) for group in self.groups)
            constraints = tuple(constraint.build() for constraint in self.constraints)
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
            constraints=constraints,
            metadata=pairs(self.metadata),
        )
