"""Job files: text in, ``JobSpec`` out, and every mistake with its file, line and column.

Owns: the way from text to a checked JobSpec, the wording of mistakes, the JSON Schema. Leaves to others: reading YAML
(``jobfile.tree``), keys and units (``jobfile.models``), rules on values (``jobfile.check``). The rule: all mistakes are
told at once, each as ``file:line:column: what was expected; the near miss``.
"""

from __future__ import annotations

import os
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.contract.errors import InvalidError
from orchestrator.contract.model import JobSpec
from orchestrator.jobfile import batch_keys, check, containers, limits, models, rollout_keys, tree, units
from orchestrator.jobfile.check import Path, dotted, near_miss
from orchestrator.jobfile.tree import Entry, Map, Mistake, Node, Place, Scalar, Seq

MAX_MISTAKES = 20

_SECTIONS: dict[str, type[BaseModel]] = {
    "groups": models.Group,
    "tasks": models.Task,
    "resources": models.ResourceKeys,
    "gpus": models.Gpus,
    "ports": models.Port,
    "restart": models.Restart,
    "stop": models.Stop,
    "constraints": models.ConstraintKeys,
    "disruption": models.DisruptionKeys,
    "affinity": models.AffinityKeys,
    "node": models.ConstraintKeys,
    "spread": models.SpreadKeys,
    "tolerations": models.TolerationKeys,
    "services": models.Service,
    "workload": models.Workload,
    "volumes": containers.Volume,
    "auth": containers.Auth,
    "tmpfs": containers.Tmpfs,
    "logging": containers.Logging,
    "files": containers.File,
    "health": rollout_keys.HealthKeys,
    "startup": rollout_keys.CheckKeys,
    "liveness": rollout_keys.CheckKeys,
    "readiness": rollout_keys.CheckKeys,
    "http": rollout_keys.HttpKeys,
    "tcp": rollout_keys.TcpKeys,
    "grpc": rollout_keys.GrpcKeys,
    "health_check": rollout_keys.OrbitHealth,
    "tcp_check": rollout_keys.OrbitTcp,
    "update": rollout_keys.UpdateKeys,
    "rolling_update_config": rollout_keys.OrbitUpdate,
    "after": batch_keys.AfterKeys,
    "periodic": batch_keys.PeriodicKeys,
    "parameterized": batch_keys.ParameterizedKeys,
}
_MAPPED = {"groups": "name", "tasks": "name", "ports": "label", "services": "name"}
"""Lists that may be written as a mapping, and the key of an item that the mapping's key becomes."""

_WRITTEN = {
    "cpu_millis": "cpu", "memory_mib": "memory", "disk_mib": "disk", "gpu_millis": "share", "delay_ms": "delay",
    "heartbeat_ms": "heartbeat",
    "timeout_ms": "timeout", "mounts": "volumes", "values": "value", "constraint": "node",
}  # fmt: skip
"""Field of ``contract.model`` -> key in the file, where they differ."""

_ELSEWHERE = {
    "replicas": "count", "instances": "count", "environment": "env", "entrypoint": "command", "cmd": "command",
    "mem": "memory", "ram": "memory", "gpu": "gpus", "cpus": "cpu", "workdir": "work_dir", "working_dir": "work_dir",
    "mounts": "volumes", "mount": "volumes", "kind": "type", "requirements": "constraints", "pull": "pull_policy",
    "image_pull_policy": "pull_policy", "force_pull": "pull_policy", "env_files": "env_file", "configs": "files",
    "log_driver": "logging", "network": "network_mode", "networks": "network_mode", "lifecycle": "role",
    "memory_limit": "memory_max", "mem_limit": "memory_max", "cpu_limit": "cpu_max", "cpu_hard_limit": "cpu_max",
    "readonly": "read_only", "read_only_root": "read_only", "annotations": "metadata",
    "service": "services", "schedule": "periodic", "timezone": "time_zone", "crons": "cron", "depends_on": "needs",
    "healthcheck": "health", "probes": "health", "strategy": "update", "update_config": "update",
    "instance_count": "count", "gpu_count": "count", "env_vars": "env", "target_port": "to", "container_port": "to",
    "node_port": "static", "host_port": "static",
}  # fmt: skip
"""Words of other orchestrators for our keys."""


def load(text: str | bytes, filename: str = "job.yaml") -> JobSpec:
    """The job that ``text`` describes, normalised. Raises InvalidError: one line per mistake, each with its place."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > limits.MAX_JOB_BYTES:
        raise InvalidError(f"{filename}: {len(data)} bytes; a job file has at most {limits.MAX_JOB_BYTES}")
    try:
        decoded = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise InvalidError(f"{filename}:{before.count(bytes([10])) + 1}:{column}: not UTF-8 text") from None
    root, mistakes = tree.parse(decoded)
    if root is None and not mistakes:
        mistakes.append(Mistake(Place(1, 1), "the file is empty: expected at least 'name' and 'image' or 'command'"))
    elif root is not None and not isinstance(root, Map):
        got = "a list" if isinstance(root, Seq) else units.shown(root.value)
        mistakes.append(Mistake(root.place, f"expected keys such as 'name: web', got {got}"))
    spec = _Reading(root, mistakes).spec() if isinstance(root, Map) else None
    if spec is None or mistakes:
        raise InvalidError(_report(filename, mistakes))
    return spec


def from_document(document: dict[str, Any]) -> JobSpec:
    """The job that plain values describe, as a parsed job file would. Raises InvalidError; places are paths."""
    mistakes: list[Mistake] = []
    reading = _Reading(_tree_of(document), mistakes, by_path=True)
    spec = reading.spec()
    if spec is None or mistakes:
        raise InvalidError("\n".join(dict.fromkeys(mistake.text for mistake in mistakes)))
    return spec


def _tree_of(value: Any) -> Any:
    here = Place(1, 1)
    if isinstance(value, dict):
        made = Map(here)
        for key, item in value.items():
            made.add(Entry(str(key), here, _tree_of(item)))
        return made
    if isinstance(value, (list, tuple)):
        return Seq(here, [_tree_of(item) for item in value])
    if value is None or isinstance(value, (bool, int, float, str)):
        return Scalar(here, value)
    if isinstance(value, os.PathLike):
        return Scalar(here, os.fspath(value))
    if hasattr(value, "__index__"):  # a number of a library's own
        return Scalar(here, int(value))
    raise InvalidError(f"expected text, numbers, lists and mappings, got {type(value).__name__}: {str(value)[:80]}")


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a job file, for editors and for ``raftsman schema``."""
    made = models.JobFile.model_json_schema()
    definitions = made.pop("$defs")
    _tidy(made)
    for definition in definitions.values():
        _tidy(definition)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Raftsman job file",
        **made,
        "$defs": definitions,
    }


def _tidy(node: Any) -> None:
    """Drop what pydantic adds for itself (titles; defaults in our internal units); allow the mapping forms."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
    elif isinstance(node, dict):
        node.pop("title", None)
        node.pop("default", None)
        for key in _MAPPED:
            listed = node.get("properties", {}).get(key)
            if listed is not None and listed.get("type") == "array":
                items = listed.pop("items")
                short = {"type": "object", "additionalProperties": items}
                del listed["type"]
                listed["anyOf"] = [{"type": "array", "items": items}, short]
        for value in node.values():
            _tidy(value)


def _report(filename: str, mistakes: list[Mistake]) -> str:
    ordered = sorted(set(mistakes), key=lambda mistake: (mistake.place.line, mistake.place.column, mistake.text))
    lines = [f"{filename}:{it.place.line}:{it.place.column}: {it.text}" for it in ordered[:MAX_MISTAKES]]
    if len(ordered) > MAX_MISTAKES:
        lines.append(f"{filename}: and {len(ordered) - MAX_MISTAKES} more")
    return "\n".join(lines)


class _Reading:
    """One file being read: the tree, the places of its values, and the mistakes so far. ``by_path``: what is wrong with
    a key is told with the path that it stands at, where there is no line to name."""

    def __init__(self, root: Map, mistakes: list[Mistake], *, by_path: bool = False) -> None:
        self._root = root
        self._by_path = by_path
        self._mistakes = mistakes
        self._places: dict[Path, Place] = {}
        self._key_places: dict[Path, Place] = {}

    def spec(self) -> JobSpec | None:
        self._level(self._root)
        value = self._value(self._root, ())
        try:
            job = models.JobFile.model_validate(value)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._explain(detail)
            return None
        spec = check.normalise(job.build())
        for problem in check.find(spec, placements=None):
            path = self._written(problem.path)
            self._note(path, problem.text, at_key=False)
        return spec

    # ------------------------------------------------------------------ shapes that are made equal before checking

    def _level(self, node: Map) -> None:
        """Mapping forms become lists, in place; keys that have no meaning beside ``groups``/``tasks`` are told."""
        for key, name in _MAPPED.items():
            entry = node.by_key.get(key)
            if entry is None:
                continue
            if isinstance(entry.value, Map):
                entry.value = self._listed(entry.value, key, name)
            if key in ("ports", "services") or not isinstance(entry.value, Seq):
                continue
            for item in entry.value.items:
                if isinstance(item, Map):
                    self._level(item)
            self._misplaced(node, key)

    def _listed(self, mapping: Map, key: str, name: str) -> Seq:
        made = Seq(mapping.place)
        for entry in mapping.entries:
            body = entry.value
            if key == "ports" and isinstance(body, Scalar):
                body = self._short_port(body)
            if key == "services" and isinstance(body, Scalar) and body.value is not None:
                port = Map(body.place)  # web: http
                port.add(Entry("port", body.place, body))
                body = port
            if isinstance(body, Scalar) and body.value is None:
                body = Map(body.place)
            if not isinstance(body, Map):
                self._mistakes.append(Mistake(body.place, f"{key}.{entry.key}: expected a mapping"))
                continue
            inner = Map(body.place)
            inner.add(Entry(name, entry.key_place, Scalar(entry.key_place, entry.key)))
            for item in body.entries:
                if item.key == name:
                    self._mistakes.append(
                        Mistake(item.key_place, f"'{name}' is given by the key '{entry.key}' already")
                    )
                else:
                    inner.add(item)
            made.items.append(inner)
        return made

    def _short_port(self, scalar: Scalar) -> Map:
        made = Map(scalar.place)
        try:
            values = models.port(scalar.value)
        except ValueError as error:
            self._mistakes.append(Mistake(scalar.place, str(error)))
            return made
        if isinstance(values, dict):
            for key, value in values.items():
                if key != "label":
                    made.add(Entry(key, scalar.place, Scalar(scalar.place, value)))
        return made

    def _misplaced(self, node: Map, key: str) -> None:
        """``image`` beside ``tasks`` would be ignored: refuse it."""
        inner = models.Task if key == "tasks" else models.Group
        outer = {"name"} | ({"constraints", "affinity", "spread", "tolerations"} if key == "groups" else set())
        if key == "tasks":
            known = set(models.TaskKeys.model_fields)
        else:
            known = set(models.GroupKeys.model_fields)
        for entry in node.entries:
            if entry.key in known and entry.key not in outer and entry.key != key:
                what = "each task" if inner is models.Task else "each group"
                self._mistakes.append(
                    Mistake(entry.key_place, f"'{entry.key}' belongs to {what} where '{key}' is used")
                )

    def _value(self, node: Node, path: Path) -> object:
        self._places[path] = node.place
        if isinstance(node, Scalar):
            return node.value
        if isinstance(node, Seq):
            return [self._value(item, (*path, number)) for number, item in enumerate(node.items)]
        made: dict[str, object] = {}
        for entry in node.entries:
            self._key_places[(*path, entry.key)] = entry.key_place
            made[entry.key] = self._value(entry.value, (*path, entry.key))
        return made

    # ------------------------------------------------------------------ mistakes

    def _note(self, path: Path, text: str, *, at_key: bool) -> None:
        """A mistake at ``path``, or at the nearest thing around it that is in the file."""
        place: Place | None = self._key_places.get(path) if at_key else None
        known = path
        while place is None:
            place = self._places.get(known)
            known = known[:-1]
        told = path[:-1] if at_key and self._by_path else () if at_key else path
        self._mistakes.append(Mistake(place, f"{dotted(told)}: {text}" if told else text))

    def _explain(self, detail: Any) -> None:
        """One error of pydantic's in our words."""
        path: Path = tuple(step for step in detail["loc"] if step != "[key]")
        kind: str = detail["type"]
        got = units.shown(detail.get("input"))
        context = detail.get("ctx", {})
        if kind == "extra_forbidden":
            self._note(path, _unknown_key(path), at_key=True)
        elif kind == "missing":
            self._note(path[:-1], f"'{path[-1]}' is missing", at_key=False)
        elif kind == "value_error":
            self._note(path, str(context["error"]), at_key=False)
        elif kind in ("model_type", "model_attributes_type", "dict_type"):
            self._note(path, f"expected a mapping, got {got}", at_key=False)
        elif kind == "list_type":
            self._note(path, f"expected a list, got {got}", at_key=False)
        elif kind in ("greater_than_equal", "less_than_equal"):
            bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
            self._note(path, f"must be {bound}, got {got}", at_key=False)
        else:
            self._note(path, str(detail["msg"]), at_key=False)

    def _written(self, path: Path) -> Path:
        """Where a value of the JobSpec stands in the file."""
        made: Path = ()
        node: Node | None = self._root
        position = 0
        while position < len(path):
            step = path[position]
            if step in ("groups", "tasks") and position + 1 < len(path):
                listed = node.by_key.get(str(step)) if isinstance(node, Map) else None
                number = path[position + 1]
                position += 2
                if listed is not None and isinstance(listed.value, Seq) and isinstance(number, int):
                    made = (*made, step, number)
                    node = listed.value.items[number]
                continue
            made = (*made, _WRITTEN.get(step, step) if isinstance(step, str) else step)
            position += 1
        if made not in self._places and "models" in made and (*made[: made.index("models")], "model") in self._places:
            return (*made[: made.index("models")], "model")
        return self._as_said(made)

    def _as_said(self, path: Path) -> Path:
        """Health and update may be said in other words, and a check alone stands for two."""
        for ours, theirs in (("health", "health_check"), ("update", "rolling_update_config")):
            at = path.index(ours) if ours in path else -1
            if at < 0 or (at > 0 and not isinstance(path[at - 1], int)):
                continue
            above, below = path[:at], path[at + 1 :]
            if (*above, theirs) in self._places:
                below = ("tcp_check", *below[2:]) if ours == "health" and len(below) > 1 else below
                return (*above, theirs, *below)
            if ours == "health" and below and (*path[: at + 1], below[0]) not in self._places:
                return (*path[: at + 1], *below[1:])
        return path


def _unknown_key(path: Path) -> str:
    key = str(path[-1])
    section = next((step for step in reversed(path[:-1]) if isinstance(step, str)), "")
    kind = _SECTIONS.get(section, models.JobFile)
    known = {field.alias or name for name, field in kind.model_fields.items()}
    elsewhere = _ELSEWHERE.get(key.lower(), "")
    if elsewhere in known:
        return f"unknown key '{_cut(key)}'; did you mean '{elsewhere}'?"
    resource = elsewhere or key
    if "resources" in known and resource in models.ResourceKeys.model_fields:
        hint = f"; did you mean '{resource}' within 'resources'?"
    else:
        hint = near_miss(key, known)
    return f"unknown key '{_cut(key)}'{hint}" + ("" if hint else f" (known: {', '.join(sorted(known))})")


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
