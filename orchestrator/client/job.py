"""Jobs written in Python: ``Job("web", image="nginx", count=2, cpu="500m", ports={"http": 80})``.

Owns: the keyword arguments. Leaves to others: their meaning, which is that of the job file's keys (``jobfile``); a
mistake raises the same InvalidError. The rule: anything that a job file can say, these can say too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from orchestrator.contract import model

Quantity = int | float | str


@dataclass(frozen=True, kw_only=True)
class Task:
    """One container or process; fields as the keys of a job file, resources flat."""

    name: str = ""
    image: str = ""
    command: Sequence[str] | str = ()
    args: Sequence[str] | str = ()
    env: Mapping[str, str] | None = None
    variables: Mapping[str, str] | None = None
    cpu: Quantity | None = None
    memory: str | None = None
    disk: str | None = None
    gpus: int | Mapping[str, Any] | None = None
    driver: str = ""
    work_dir: str = ""
    user: str = ""
    privileged: bool = False
    volumes: Sequence[str | Mapping[str, Any]] = ()
    role: str = ""
    pull_policy: str = ""
    auth: Mapping[str, str] | None = None
    env_file: Sequence[str] | str = ()
    hostname: str = ""
    labels: Mapping[str, str] | None = None
    init: bool = True
    pids_limit: int = 0
    ulimits: Mapping[str, Any] | None = None
    shm_size: str = ""
    read_only: bool = False
    tmpfs: Sequence[str | Mapping[str, Any]] | str = ()
    logging: str | Mapping[str, Any] = ""
    cap_add: Sequence[str] = ()
    cap_drop: Sequence[str] = ()
    files: Mapping[str, Any] | None = None
    cpu_max: Quantity | None = None
    memory_max: str | None = None
    stop_signal: str = ""
    stop_timeout: Quantity | None = None
    health: Mapping[str, Any] | None = None
    custom: Mapping[str, int] | None = None
    timeout: Quantity | None = None
    workload: str | Mapping[str, Any] = ""

    def document(self) -> dict[str, Any]:
        """As in a job file."""
        made = {key: _plain(getattr(self, key)) for key in _PLAIN_KEYS if getattr(self, key)}
        if not self.init:
            made["init"] = False
        if self.timeout is not None:
            made["timeout"] = self.timeout
        resources = {key: _plain(getattr(self, key)) for key in _RESOURCE_KEYS if getattr(self, key) is not None}
        if resources:
            made["resources"] = resources
        stop: dict[str, Any] = {"signal": self.stop_signal} if self.stop_signal else {}
        if self.stop_timeout is not None:
            stop["timeout"] = self.stop_timeout
        if stop:
            made["stop"] = stop
        return made


_PLAIN_KEYS = (
    "name", "image", "command", "args", "env", "variables", "driver", "work_dir", "user", "privileged", "volumes",
    "role", "pull_policy", "auth", "env_file", "hostname", "labels", "pids_limit", "ulimits", "shm_size", "read_only",
    "tmpfs", "logging", "cap_add", "cap_drop", "files", "health", "workload",
)  # fmt: skip
"""Fields that are keys of a job file as they are; what is empty is left out."""
_RESOURCE_KEYS = ("cpu", "memory", "disk", "gpus", "custom", "cpu_max", "memory_max")
_TASK_FIELDS = tuple(field.name for field in fields(Task) if field.name != "name")


class Job:
    """A job of one group: a single task by keywords, or several as ``tasks=[Task(...), Task(...)]``.

    Of several groups: ``groups=[{"name": "api", "count": 2, "tasks": [Task(...)]}, ...]``, mappings with the keys of a
    job file. Every other keyword is the key of a job file, too (the keys of ``resources`` and ``stop`` flat).

    Raises InvalidError when made from what is not a job; TypeError for unknown keywords, as any call does.
    """

    def __init__(
        self,
        name: str,
        *,
        tasks: Sequence[Task] = (),
        type: str = "service",
        count: int = 1,
        namespace: str = model.DEFAULT_NAMESPACE,
        ports: Mapping[str, Any] | Sequence[Any] | None = None,
        network_mode: str = "",
        constraints: Sequence[str] = (),
        placement: str = "",
        on_disconnect: str = "replace",
        priority: int | str = 50,
        preemptible: bool = True,
        disruption: int | str | Mapping[str, Any] | None = None,
        restart: Mapping[str, Any] | None = None,
        update: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        affinity: Sequence[Mapping[str, Any]] = (),
        distinct_hosts: bool = False,
        spread: Sequence[str | Mapping[str, Any]] = (),
        tolerations: Sequence[str | Mapping[str, Any]] = (),
        datasets: Sequence[str] = (),
        locality: int | None = None,
        gang: bool | str | Mapping[str, Any] = False,
        services: Mapping[str, Any] | Sequence[Any] | None = None,
        needs: Sequence[str] = (),
        periodic: str | Mapping[str, Any] = "",
        parameterized: bool | Mapping[str, Any] = False,
        groups: Sequence[Mapping[str, Any]] = (),
        **task: Any,
    ) -> None:
        unknown = sorted(set(task) - set(_TASK_FIELDS))
        if unknown:
            raise TypeError(f"Job() got an unexpected keyword argument '{unknown[0]}'")
        if tasks and task:
            raise TypeError(f"Job() takes either tasks= or the keywords of one task, not both ('{sorted(task)[0]}')")
        if groups and (tasks or task):
            raise TypeError("Job() takes either groups= or the tasks of one group, not both")
        document: dict[str, Any] = {
            "name": name,
            "namespace": namespace,
            "type": type,
            "priority": priority,
            "on_disconnect": on_disconnect,
            "constraints": list(constraints),
        }
        if not groups:
            document["count"] = count
        elif count != 1:
            raise TypeError("Job() takes either groups= or count=: each group has its own")
        for key, value in (
            ("ports", ports),
            ("placement", placement),
            ("restart", restart),
            ("update", update),
            ("metadata", metadata),
            ("network_mode", network_mode),
            ("affinity", affinity),
            ("distinct_hosts", distinct_hosts),
            ("spread", spread),
            ("tolerations", tolerations),
            ("datasets", datasets),
            ("gang", gang),
            ("services", services),
            ("needs", needs),
            ("periodic", periodic),
            ("parameterized", parameterized),
            ("groups", groups),
        ):
            if value:
                document[key] = _plain(value)
        if locality is not None:
            document["locality"] = locality
        if not preemptible:
            document["preemptible"] = False
        if disruption is not None:
            document["disruption"] = _plain(disruption)
        if tasks:
            document["tasks"] = [one.document() for one in tasks]
        elif not groups:
            document |= Task(**task).document()
        # Only here: the command line makes clients without paying for pydantic.
        from orchestrator.jobfile.file import from_document

        self._spec = from_document(document)

    def spec(self) -> model.JobSpec:
        """What ``Client.submit`` sends."""
        return self._spec

    def __repr__(self) -> str:
        return f"Job({self._spec.name!r})"


def _plain(value: Any) -> Any:
    if isinstance(value, Task):
        return value.document()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
