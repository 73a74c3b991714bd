"""What a container is given: from a ``RunSpec`` to the arguments of the engine, and what an operator did not allow.

Owns: the safe defaults, the labels, limits, networks, volumes. Leaves to others: calls (``docker``), images
(``docker_images``), files (``docker_files``). The rule: values only; every container loses all capabilities but
those that its task names and may gain no privileges; seccomp is the engine's default; pids and memory are limited, cpu
is a share; an init reaps and forwards signals; output is bounded; Docker's own restarts are off.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import docker.types

from agent.driver import LOG_FILE_BYTES, LOG_FILES, MIB, SANDBOX, RunId, RunSpec, StartError
from agent.drivers import docker_files, docker_sandbox
from orchestrator.contract import capabilities
from orchestrator.contract.containers import BRIDGE, HOST, KEPT_LOGS, NONE
from orchestrator.contract.model import (
    AllocationId,
    AssignmentKey,
    ContainerSpec,
    MountSpec,
    Protocol,
    StopPolicy,
    TaskSpec,
    TmpfsSpec,
)

PIDS_LIMIT = 1024
MIN_MEMORY_MIB = 6  # the engine refuses less
MIN_NANO_CPUS = 10_000_000
MIN_SHARES = 2
SHARES_OF_A_CORE = 1024
SUB_PATH_API = (1, 45)
"""From this version of its interface on the engine mounts a directory within a volume."""
LABEL = "raftsman."
ENDPOINT = "/run/raftsman"
"""Where a container finds the directory of its agent's endpoint."""
_PLAIN = ContainerSpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator of this node lets tasks have."""

    privileged: bool = False
    host_paths: bool = False
    host_network: bool = False
    capabilities: frozenset[str] = frozenset()  # beyond Docker's defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What is known of the engine. ``cpus`` 0: unknown; ``api``: the version of its interface, that is spoken;
    ``gateway``: the machine's own address in the bridge network, where it was asked for."""

    cpus: int = 0
    architecture: str = ""
    api: tuple[int, ...] = ()
    gateway: str = ""


def check_policy(spec: RunSpec, policy: Policy) -> None:
    """Raises ``StartError`` for what was not allowed, with the flag that would."""
    task = spec.task
    if spec.run.task != SANDBOX and not task.image:
        raise StartError(f"task {task.name} has no image for the docker driver to run", permanent=True)
    asked = ""
    if task.privileged and not policy.privileged:
        asked, flag = "a privileged container", "--allow-privileged"
    host_path = next((mount.source for mount in task.mounts if mount.of_host), "")
    if host_path and not policy.host_paths:
        asked, flag = f"the host path {host_path}", "--allow-host-paths"
    if spec.network_mode == HOST and not policy.host_network:
        asked, flag = "the host's network", "--allow-host-network"
    capability = capabilities.refused((task.container or _PLAIN).cap_add, policy.capabilities)
    if capability:
        asked, flag = f"the capability {capability}", f"--allow-cap {capability}"
    if asked:
        raise StartError(
            f"task {task.name} asks for {asked}; start this node's agent with {flag} to permit it", permanent=True
        )


def volume_name(spec: RunSpec, mount: MountSpec) -> str:
    """A named volume is shared within a namespace of one cluster on one node, and with nobody else."""
    return f"raftsman-{spec.cluster_id[:8]}-{spec.run.key.id.namespace}-{mount.source}"


def volume_labels(spec: RunSpec, mount: MountSpec) -> dict[str, str]:
    values = {"cluster": spec.cluster_id, "namespace": spec.run.key.id.namespace, "volume": mount.source}
    return {LABEL + name: value for name, value in values.items()}


def new_limits(task: TaskSpec, engine: Engine) -> dict[str, int]:
    """The same for a container that runs. There 0 would mean that a bound stays as it was, so what has none any more
    gets the largest one."""
    made = limits(task, engine)
    if "Memory" in made:
        made["MemoryReservation"] = made["MemoryReservation"] or made["Memory"]
    if "NanoCpus" in made:
        made["NanoCpus"] = made["NanoCpus"] or engine.cpus * 1_000_000_000
    return made


def limits(task: TaskSpec, engine: Engine) -> dict[str, int]:
    """``HostConfig``'s numbers of cpu and memory. 0: no bound."""
    container = task.container or _PLAIN
    need = task.resources
    made: dict[str, int] = {}
    if need.memory_mib:
        reserved = max(MIN_MEMORY_MIB, need.memory_mib)
        most = max(reserved, container.memory_max_mib)
        made["Memory"] = made["MemorySwap"] = most * MIB
        made["MemoryReservation"] = reserved * MIB if most > reserved else 0
    if need.cpu_millis:
        made["CpuShares"] = max(MIN_SHARES, need.cpu_millis * SHARES_OF_A_CORE // 1000)
        # The engine refuses more than the machine has, and an agent may have been told to offer more.
        most = container.cpu_max_millis
        nano = max(MIN_NANO_CPUS, most * 1_000_000) if most else 0
        made["NanoCpus"] = min(nano, engine.cpus * 1_000_000_000) if engine.cpus else nano
    return made


def real_devices(spec: RunSpec) -> list[str]:
    """Ids of granted devices that an engine can be asked for; those that were only declared are nowhere."""
    return [one for one in spec.device_ids if one.startswith(("GPU-", "MIG-"))]


def arguments(
    spec: RunSpec,
    engine: Engine,
    publish: Sequence[str],
    binds: dict[str, str],
    devices: docker.types.DeviceRequest | None = None,
) -> dict[str, Any]:
    """For ``create_container``, with ``host`` (for ``create_host_config``) and ``limits`` (``HostConfig``'s own names)
    beside. ``binds``: the host path of a volume's sub-path, by the mount's target, where the engine cannot;
    ``publish``: addresses that the ports bind; ``devices``: how the engine is asked for ``real_devices``
    (``docker_cdi``)."""
    if spec.run.task == SANDBOX:
        return _sandbox(spec, publish)
    task = spec.task
    container = task.container or _PLAIN
    host: dict[str, Any] = {
        "init": not container.no_init,
        "pids_limit": container.pids_limit or PIDS_LIMIT,
        "restart_policy": {"Name": "no"},
        "log_config": _log_config(container),
    }
    if task.privileged:
        host["privileged"] = True
    else:
        host |= _confined(container)
    if container.ulimits:
        host["ulimits"] = [
            docker.types.Ulimit(name=one.name, soft=one.soft, hard=one.hard) for one in container.ulimits
        ]
    if container.shm_size_mib:
        host["shm_size"] = container.shm_size_mib * MIB
    if container.read_only:
        host["read_only"] = True
    if container.tmpfs:
        host["tmpfs"] = {one.target: _tmpfs_options(one) for one in container.tmpfs}
    if task.mounts:
        host |= _mounts(spec, binds)
    if spec.workload_dir:
        endpoint = docker.types.Mount(target=ENDPOINT, source=spec.workload_dir, type="bind", read_only=True)
        host["mounts"] = [*host.get("mounts", ()), endpoint]
    if spec.sandbox:
        host["network_mode"] = f"container:{spec.sandbox}"
        exposed = None
    else:
        exposed = _network(spec, host, publish)
    if devices is not None:
        host["device_requests"] = [devices]
    return {
        "image": reference(spec),
        "command": list(task.args) or None,
        "entrypoint": list(task.command) or None,
        "environment": dict(spec.env),
        "labels": dict(container.labels) | labels(spec),
        "ports": exposed,
        "working_dir": task.work_dir or None,
        "user": task.user or None,
        # What everybody gets who says nothing yields to what the image says of itself (STOPSIGNAL).
        "stop_signal": task.stop.signal if task.stop.signal != StopPolicy().signal else None,
        "hostname": (spec.hostname or None) if not spec.sandbox and spec.network_mode != HOST else None,
        "volumes": docker_files.own_volumes(spec) or None,
        "host": host,
        "limits": limits(task, engine),
    }


def _sandbox(spec: RunSpec, publish: Sequence[str]) -> dict[str, Any]:
    host: dict[str, Any] = {
        "init": False,
        "pids_limit": 4,
        "restart_policy": {"Name": "no"},
        "log_config": docker.types.LogConfig(type="none"),
        "read_only": True,
        **_confined(_PLAIN),
    }
    exposed = _network(spec, host, publish)
    return {
        "image": docker_sandbox.IMAGE,
        "labels": labels(spec),
        "ports": exposed,
        "user": "65534:65534",
        "hostname": spec.hostname or None,
        "stop_signal": "SIGKILL",
        "host": host,
        "limits": {},
    }


def _confined(container: ContainerSpec) -> dict[str, Any]:
    """No capability but those that were asked for: the engine takes ``ALL`` less some as it is, else none and some."""
    every = capabilities.ALL in container.cap_add
    made: dict[str, Any] = {
        "cap_drop": list(container.cap_drop) if every else [capabilities.ALL],
        "security_opt": ["no-new-privileges:true"],
    }
    if container.cap_add:
        made["cap_add"] = [capabilities.ALL] if every else list(container.cap_add)
    return made


def _network(spec: RunSpec, host: dict[str, Any], publish: Sequence[str]) -> list[tuple[int, str]] | None:
    """Sets mode and published ports; returns the exposed ones."""
    if spec.network_mode != BRIDGE:
        host["network_mode"] = spec.network_mode
    if spec.resolver and spec.network_mode not in (HOST, NONE):
        host["dns"] = [spec.resolver]
        host["dns_search"] = [f"{spec.run.key.id.namespace}.service.raftsman"]
    exposed: list[tuple[int, str]] = []
    bindings: dict[str, list[tuple[str, int]]] = {}
    for port in spec.ports:
        inside, kind = port.to or port.host_port, "udp" if port.protocol is Protocol.UDP else "tcp"
        exposed.append((inside, kind))
        bindings[f"{inside}/{kind}"] = [(address, port.host_port) for address in publish]
    if bindings:
        host["port_bindings"] = bindings
    return exposed or None


def _log_config(container: ContainerSpec) -> docker.types.LogConfig:
    kept = {"max-size": f"{LOG_FILE_BYTES // MIB}m", "max-file": str(LOG_FILES)}
    logging = container.logging
    if logging is None:
        return docker.types.LogConfig(type=KEPT_LOGS, config=kept)
    options = dict(logging.options)
    return docker.types.LogConfig(
        type=logging.driver, config=kept | options if logging.driver == KEPT_LOGS else options
    )


def _tmpfs_options(one: TmpfsSpec) -> str:
    options = [f"size={one.size_mib * MIB}"] if one.size_mib else []
    options += [f"mode={one.mode:o}"] if one.mode else []
    return ",".join([*options, *(f"{key}={number}" for key, number in (("uid", one.uid), ("gid", one.gid)) if number)])


def _mounts(spec: RunSpec, binds: dict[str, str]) -> dict[str, Any]:
    plain: list[str] = []
    within: list[dict[str, Any]] = []
    for mount in spec.task.mounts:
        bound = binds.get(mount.target, "")
        if mount.sub_path and not mount.of_host and not bound:
            one = {"Type": "volume", "Source": volume_name(spec, mount), "Target": mount.target}
            within.append(one | {"ReadOnly": mount.read_only, "VolumeOptions": {"Subpath": mount.sub_path}})
            continue
        source = bound or (posixpath.join(mount.source, mount.sub_path) if mount.of_host else volume_name(spec, mount))
        plain.append(f"{source.rstrip('/') or '/'}:{mount.target}:{'ro' if mount.read_only else 'rw'}")
    return ({"binds": plain} if plain else {}) | ({"mounts": within} if within else {})


def reference(spec: RunSpec) -> str:
    """The image to run: by its digest where that was settled."""
    return f"{repository(spec.task.image)}@{spec.digest}" if spec.digest else spec.task.image


def repository(image: str) -> str:
    """The name without tag and digest."""
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def labels(spec: RunSpec) -> dict[str, str]:
    key = spec.run.key
    values = {
        "cluster": spec.cluster_id,
        "node": spec.node_id,
        "namespace": key.id.namespace,
        "job": key.id.job,
        "group": key.id.group,
        "ordinal": str(key.id.ordinal),
        "allocation": str(key.id),
        "job_uid": key.job_uid,
        "attempt": str(key.attempt),
        "restarts": str(spec.run.restarts),
        "task": spec.run.task,
    }
    return {LABEL + name: value for name, value in values.items()}


def run_of(found: dict[str, str]) -> RunId | None:
    """The run that a container's labels name."""
    try:
        return RunId(
            key=AssignmentKey(
                id=AllocationId(
                    namespace=found[LABEL + "namespace"],
                    job=found[LABEL + "job"],
                    group=found[LABEL + "group"],
                    ordinal=int(found[LABEL + "ordinal"]),
                ),
                job_uid=found[LABEL + "job_uid"],
                attempt=int(found[LABEL + "attempt"]),
            ),
            restarts=int(found[LABEL + "restarts"]),
            task=found[LABEL + "task"],
        )
    except (KeyError, ValueError):
        return None
