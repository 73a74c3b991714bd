"""Named volumes of a node: made before the containers that use them, and directories within them.

Owns: their labels, and what an engine that mounts no directory of a volume (before 26) can still do. The rule: a volume
outlives every container; nobody removes it but an operator (``docker volume rm``).

A directory within a volume may be a link that a task made, and an old engine would follow it on the host. So such an
engine mounts one only where this node's tasks may have host paths anyway.
"""

from __future__ import annotations

import contextlib
import posixpath
import uuid

import docker
import docker.errors

from agent.driver import RunSpec, StartError
from agent.drivers import docker_files, docker_sandbox
from agent.drivers.docker_arguments import LABEL, SUB_PATH_API, Engine, volume_labels, volume_name
from orchestrator.contract.model import MountSpec


def make(api: docker.APIClient, spec: RunSpec, engine: Engine, *, host_paths: bool) -> dict[str, str]:
    """Make the volumes of a run; the host path of each sub-path that the engine cannot mount, by the mount's target."""
    binds: dict[str, str] = {}
    for mount in spec.task.mounts:
        if mount.of_host:
            continue
        name = volume_name(spec, mount)
        try:
            found = api.create_volume(name, labels=volume_labels(spec, mount))
        except docker.errors.APIError as error:
            raise StartError(f"volume {mount.source} cannot be made: {error.explanation or error}") from error
        if not mount.sub_path:
            continue
        if engine.api >= SUB_PATH_API:
            docker_sandbox.make_image(api, engine.architecture)
            _make_directory(api, name, mount)
        elif host_paths:
            binds[mount.target] = posixpath.join(found["Mountpoint"], mount.sub_path)
        else:
            raise StartError(
                f"volume {mount.source}: a sub_path takes Docker Engine 26, and this node's is older; an agent started "
                "with --allow-host-paths mounts it nevertheless",
                permanent=True,
            )
    return binds


def _make_directory(api: docker.APIClient, volume: str, mount: MountSpec) -> None:
    """Through a container that is never started: the engine sees to it that no link leads out of the volume."""
    name = f"raftsman-mkdir-{uuid.uuid4().hex[:12]}"
    host = api.create_host_config(binds=[f"{volume}:/volume"])
    api.create_container(docker_sandbox.IMAGE, name=name, host_config=host, labels={LABEL + "helper": "mkdir"})
    try:
        api.put_archive(name, "/volume", docker_files.directory_tar(mount.sub_path))
    finally:
        with contextlib.suppress(docker.errors.APIError):
            api.remove_container(name, force=True)
