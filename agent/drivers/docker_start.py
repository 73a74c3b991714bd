"""Making and starting a container, and what the engine said when it did not, in the user's words.

Owns: the order (create, files, start, until its command runs), taking back what came to nothing, the reasons. Leaves to
others: its arguments (``docker_arguments``), what the engine says of it (``docker_found``). The rule: whoever repeats a
call that was given up finds by its name what that one did. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

import docker
import docker.errors

from agent.driver import SANDBOX, DriverUnavailableError, Instance, InstanceState, PortTakenError, RunSpec, StartError
from agent.drivers import docker_files, docker_processes
from agent.drivers.docker_calls import why
from agent.drivers.docker_found import instance_of, look_up, runs
from orchestrator.contract.model import ContainerSpec

EXECUTED_S = 2.0
SEEN_PAUSE_S, SEEN_PAUSE_MAX_S = 0.002, 0.02
"""Looking for the command: at first so often, then less (by half as long again) where many starts keep the machine
busy, and each look is taken from them."""
MADE_S, MADE_PAUSE_S = 5.0, 0.05
"""A container has its name so much before the engine tells of it, at most, where its disk is slow."""
_PORT = re.compile(r":(\d{1,5})\b")
_ENGINE_TROUBLE = ("shutting down", "containerd.sock", "containerd/sock", "transport is closing", "connection refused")


def create_and_start(api: docker.APIClient, spec: RunSpec, arguments: dict[str, Any]) -> Instance:
    arguments = dict(arguments)
    host = api.create_host_config(**arguments.pop("host"))
    host.update(arguments.pop("limits"))
    try:
        api.create_container(name=spec.name, host_config=host, **arguments)
    except docker.errors.NotFound as error:
        raise StartError(f"image {spec.task.image} not found: {why(error)}", permanent=True) from error
    except docker.errors.APIError as error:
        if error.status_code != 409:
            raise _refused(spec, why(error)) from error
        found = _holder(api, spec.name)
        if found is None or found.run != spec.run:
            raise StartError(f"the container name {spec.name} is taken: {why(error)}") from error
        if found.state is not InstanceState.CREATED:
            return found
    try:
        for root, archive in docker_files.archives(spec):
            api.put_archive(spec.name, root, archive)
        api.start(spec.name)
    except docker.errors.APIError as error:
        with contextlib.suppress(docker.errors.APIError):
            api.remove_container(spec.name, force=True, v=True)
        raise _refused(spec, why(error)) from error
    row = look_up(api, spec.name)
    bare = spec.run.task == SANDBOX or (spec.task.container or ContainerSpec()).no_init
    if row is not None and not bare and not _executed(api, spec.name, int(row["State"]["Pid"]), str(row["Id"])):
        row = look_up(api, spec.name)
    started = instance_of(api, row) if row is not None else None
    if started is None:
        raise StartError(f"container {spec.name} was removed while it started")
    if started.exit is not None and started.exit.never_ran:
        with contextlib.suppress(docker.errors.APIError):
            api.remove_container(spec.name, force=True, v=True)
        raise StartError(started.exit.reason, permanent=True)
    return started


def _holder(api: docker.APIClient, name: str) -> Instance | None:
    """Who has the name: it may be what an earlier call, which was given up, is just having made."""
    deadline = time.monotonic() + MADE_S
    while (row := look_up(api, name)) is None and time.monotonic() < deadline:
        time.sleep(MADE_PAUSE_S)
    return instance_of(api, row) if row is not None else None


def _executed(api: docker.APIClient, name: str, pid: int, id_: str) -> bool:
    """Wait until the container's init (``pid``) has become two: itself and the command. False: it may have ended.

    The engine calls a container running as soon as its init does; until the command is executed, its process is a copy
    of the init with the same arguments. Bounded: a slow machine only loses the certainty, not the container. Where the
    container's processes can be seen from here the engine is not asked: it runs a `ps` each time.
    """
    deadline = time.monotonic() + EXECUTED_S
    seen_here = docker_processes.is_of(pid, id_)
    pause_s = SEEN_PAUSE_S
    while time.monotonic() < deadline:
        if seen_here:
            commands = len(docker_processes.commands(pid))
            if commands == 0:
                return False
        else:
            try:
                # A command that could not be executed is a dead copy for as long as its init has not noticed.
                rows = api.top(name, ps_args="-o pid,args").get("Processes") or ()
                commands = len({row[-1] for row in rows if "<defunct>" not in row[-1]})
            except docker.errors.APIError as error:
                # Nothing runs in it any more, but the engine may call it running for a moment longer.
                if error.status_code not in (409, 500) or not runs(api, name):
                    return False
                commands = 0
        if commands > 1:
            return True
        time.sleep(pause_s if seen_here else 0.01)
        pause_s = min(1.5 * pause_s, SEEN_PAUSE_MAX_S)
    return False


def _refused(spec: RunSpec, why: str) -> StartError | DriverUnavailableError:
    """The engine made or started no container: its own trouble is none of the task's."""
    text = why.lower()
    if any(words in text for words in _ENGINE_TROUBLE):
        return DriverUnavailableError(f"the Docker engine cannot start containers now: {why}")
    return _start_error(spec, why)


def _start_error(spec: RunSpec, why: str) -> StartError:
    """What the engine said when it did not start a container, in the user's words."""
    text = why.lower()
    if "no space left on device" in text:
        return StartError(f"the disk of this node's Docker engine is full: {why}")
    if "port is already allocated" in text or "address already in use" in text:
        ports = {port.host_port for port in spec.ports}
        return PortTakenError(ports.intersection(map(int, _PORT.findall(why))) or ports, why)
    if spec.network_mode in why and "network" in text and "not found" in text:
        return StartError(
            f"network {spec.network_mode} does not exist on this node: docker network create {spec.network_mode}",
            permanent=True,
        )
    if "could not select device driver" in text or "cdi device injection failed" in text:
        return StartError(
            "this node's Docker engine cannot give GPUs to containers: install NVIDIA's container toolkit, or generate "
            f"CDI specifications for Docker 25 or newer (nvidia-ctk cdi generate): {why}",
            permanent=True,
        )
    if "error mounting" in text or "is not directory" in text:
        return StartError(f"a volume or tmpfs cannot be mounted where it was asked for: {why}", permanent=True)
    if "chdir to cwd" in text:
        return StartError(f"the working directory {spec.task.work_dir!r} cannot be entered: {why}", permanent=True)
    command = next(iter((*spec.task.command, *spec.task.args)), "")
    what = f"command {command!r}" if command else "the image's own command"
    if "executable file not found" in text or "no such file or directory" in text:
        return StartError(f"{what} not found in image {spec.task.image}: {why}", permanent=True)
    if "permission denied" in text or "exec format error" in text:
        return StartError(f"{what} cannot be run in image {spec.task.image}: {why}", permanent=True)
    if "unable to find user" in text or "unable to find group" in text:
        return StartError(f"user {spec.task.user!r} is not in image {spec.task.image}: {why}", permanent=True)
    return StartError(why)
