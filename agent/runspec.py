"""From an assignment to what a driver is asked to run: environment, ports, devices, network, files of each task.

Owns: the variables that every task sees (``RAFTSMAN_*``, ``NVIDIA_VISIBLE_DEVICES``, ``CUDA_VISIBLE_DEVICES``), what
the cluster's variables become, and who holds a group's network and publishes its ports. The rule: values only; a task's
own environment wins over ours nowhere, so the names can be relied on; what a variable holds appears in no reason.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Collection
from dataclasses import dataclass

from agent import env_file
from agent.driver import PAYLOAD_FILE, SANDBOX, InlineFile, Login, RunId, RunSpec, StartError, run_name
from agent.records import Record
from orchestrator.contract.batch import Origin
from orchestrator.contract.containers import CONTAINERS, HOST, network_of, shares_network, variables_of
from orchestrator.contract.model import Assignment, JobType, PortBinding, TaskSpec, str_map

NO_DEVICES = "void"
"""NVIDIA's word for none."""
PAYLOAD_PATH = "/raftsman/payload"
"""In a container: not below ``/run`` or ``/tmp``, which may be in memory and empty when it starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What tasks are told about where they run.

    ``api``: addresses of peers, separated by commas; ``api_follows_peers``: they are those of the peers as they are
    now, and not some that the operator named. ``nvidia_driver``: it has NVIDIA's,
    whoever the GPUs are for.
    """

    node_id: str
    name: str
    address: str
    api: str
    api_follows_peers: bool = False
    nvidia_driver: bool = False


def run_spec(record: Record, task: TaskSpec, cluster_id: str, node: NodeFacts) -> RunSpec:
    """Raises ``StartError`` where a variable that the task names does not exist, or does not hold what it should."""
    assignment = record.assignment
    run = RunId(key=assignment.key, restarts=record.restarts, task=task.name)
    network = network_of(assignment.group)
    shares = shares_network(assignment.group)
    if task.name == SANDBOX:
        return RunSpec(
            cluster_id=cluster_id,
            node_id=node.node_id,
            run=run,
            task=task,
            ports=assignment.ports,
            network_mode=network,
            hostname=_hostname(assignment),
        )
    in_container = task.driver_name == CONTAINERS
    payload = assignment.origin.payload if assignment.origin is not None else b""
    values = _values(assignment, task)
    devices = assignment.device_ids if task.resources.gpus is not None else ()
    publishes = in_container and not shares and network != HOST and task.name == _publisher(assignment)
    return RunSpec(
        cluster_id=cluster_id,
        node_id=node.node_id,
        run=run,
        task=task,
        env=str_map(_environment(record, task, values, node)),
        ports=assignment.ports if publishes else (),
        listens=() if in_container or record.launched else _picked(assignment),
        device_ids=devices,
        network_mode=network,
        sandbox=run_name(cluster_id, RunId(key=run.key, restarts=run.restarts, task=SANDBOX))
        if in_container and shares
        else "",
        hostname=task.container.hostname if task.container is not None else "",
        digest=(dict(assignment.digests) | dict(record.digests)).get(task.image, ""),
        login=_login(task, values),
        files=(*_files(task, values), *((_payload(payload),) if payload and in_container else ())),
        payload=b"" if in_container else payload,
    )


def _picked(assignment: Assignment) -> tuple[PortBinding, ...]:
    """Ports that the scheduler chose, so that others would do as well."""
    fixed = {port.static for port in assignment.group.ports}
    return tuple(port for port in assignment.ports if port.host_port not in fixed)


def rather_elsewhere(record: Record, taken: Collection[int]) -> bool:
    """Whether the next attempt does better than another try here, where a stranger has these host ports: at once if it
    may be given others; where the job names them, once its restarts are used up, whatever their policy is then."""
    picked = {port.host_port for port in _picked(record.assignment)}
    return frozenset(taken) <= picked or record.used >= record.assignment.group.restart.attempts


def _environment(record: Record, task: TaskSpec, values: dict[str, str], node: NodeFacts) -> dict[str, str]:
    assignment = record.assignment
    key = assignment.key
    env: dict[str, str] = {}
    for name in task.container.env_files if task.container is not None else ():
        try:
            env |= env_file.parse(values[name])
        except ValueError as error:
            raise StartError(f"variable {name!r}, used as an env file: {error}", permanent=True) from None
    env |= dict(task.env)
    env |= {name: values[variable] for name, variable in task.variables}
    env |= {
        "RAFTSMAN_API": node.api,
        "RAFTSMAN_ALLOC_ID": str(key.id),
        "RAFTSMAN_NAMESPACE": key.id.namespace,
        "RAFTSMAN_JOB": key.id.job,
        "RAFTSMAN_GROUP": key.id.group,
        "RAFTSMAN_ORDINAL": str(key.id.ordinal),
        "RAFTSMAN_COUNT": str(assignment.group.count),
        "RAFTSMAN_ATTEMPT": str(key.attempt),
        "RAFTSMAN_RESTARTS": str(record.restarts),
        "RAFTSMAN_TASK_NAME": task.name,
        "RAFTSMAN_NODE": node.name,
        "RAFTSMAN_NODE_ADDRESS": node.address,
    }
    if assignment.job_type is JobType.BATCH:
        env["RAFTSMAN_ARRAY_INDEX"] = str(key.id.ordinal)
        env["RAFTSMAN_ARRAY_SIZE"] = str(assignment.group.count)
    if assignment.origin is not None:
        env |= _of_run(assignment.origin)
        if assignment.origin.payload and task.driver_name == CONTAINERS:
            env[PAYLOAD_FILE] = PAYLOAD_PATH
    inner = task.driver_name == CONTAINERS and network_of(assignment.group) != HOST
    for port in assignment.ports:
        env[f"RAFTSMAN_PORT_{_env_name(port.label)}"] = str(inside(port) if inner else port.host_port)
    devices = assignment.device_ids if task.resources.gpus is not None else ()
    if devices and assignment.gpu_millis:
        env["RAFTSMAN_GPU_MILLIS"] = str(assignment.gpu_millis)
    return env | _visible(devices, node, in_container=task.driver_name == CONTAINERS)


def _visible(devices: tuple[str, ...], node: NodeFacts, *, in_container: bool) -> dict[str, str]:
    """What keeps programs to the GPUs that they were given, and from all where they were given none: an image can ask
    for all of them (``NVIDIA_VISIBLE_DEVICES``, which an engine whose default runtime is NVIDIA's obeys), and CUDA
    takes all that it sees (``CUDA_VISIBLE_DEVICES``; in a container it sees no others)."""
    if devices:
        env = {"NVIDIA_VISIBLE_DEVICES": ",".join(devices)}
        return env if in_container or not node.nvidia_driver else env | {"CUDA_VISIBLE_DEVICES": ",".join(devices)}
    if not node.nvidia_driver:
        return {}
    return {"NVIDIA_VISIBLE_DEVICES": NO_DEVICES} | ({} if in_container else {"CUDA_VISIBLE_DEVICES": ""})


def _values(assignment: Assignment, task: TaskSpec) -> dict[str, str]:
    """The variables of the cluster that the task needs."""
    values = dict(assignment.variables)
    for variable in variables_of(task):
        if variable not in values:
            raise StartError(
                f"variable {variable!r} does not exist in namespace {assignment.key.id.namespace}; "
                f"create it with: raftsman var put {variable} VALUE"
            )
    return values


def _login(task: TaskSpec, values: dict[str, str]) -> Login | None:
    auth = task.container.auth if task.container is not None else None
    if auth is None:
        return None
    name = values[auth.username_variable] if auth.username_variable else auth.username
    return Login(username=name.strip(), password=values[auth.password_variable].strip(), server=auth.server)


def _files(task: TaskSpec, values: dict[str, str]) -> tuple[InlineFile, ...]:
    files = task.container.files if task.container is not None else ()
    return tuple(
        InlineFile(
            target=file.target,
            data=(values[file.variable] if file.variable else file.content).encode("utf-8", "surrogateescape"),
            mode=file.mode,
        )
        for file in files
    )


def _payload(payload: bytes) -> InlineFile:
    return InlineFile(target=PAYLOAD_PATH, data=payload)


def _of_run(origin: Origin) -> dict[str, str]:
    """What a run of a template is told: whose it is, when it was due, what the dispatch brought."""
    env = {"RAFTSMAN_PARENT_JOB": origin.job}
    if origin.due_ms:
        env["RAFTSMAN_DUE_TIME"] = str(origin.due_ms // 1000)
    for name, value in origin.meta:
        env[f"RAFTSMAN_META_{_env_name(name)}"] = value
    if origin.payload:
        env["RAFTSMAN_PAYLOAD_BASE64"] = base64.b64encode(origin.payload).decode("ascii")
        with contextlib.suppress(UnicodeDecodeError):
            text = origin.payload.decode()
            if "\0" not in text:
                env["RAFTSMAN_PAYLOAD"] = text
    return env


def _hostname(assignment: Assignment) -> str:
    containers = (task.container for task in assignment.group.tasks)
    return next((one.hostname for one in containers if one is not None and one.hostname), "")


def _publisher(assignment: Assignment) -> str:
    """A host port can be published once: by the group's only container, where no sandbox does it."""
    return next((task.name for task in assignment.group.tasks if task.driver_name == CONTAINERS), "")


def inside(port: PortBinding) -> int:
    return port.to or port.host_port


def _env_name(label: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in label.upper())
