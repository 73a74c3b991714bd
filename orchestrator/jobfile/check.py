"""What is wrong with a JobSpec, whoever wrote it: the semantic rules, shared by job files and by the server.

Owns: defaults of what was left unset (``normalise``) and every rule that a value must keep (``find``). Leaves to
others: the shape of YAML (``jobfile.file``), the operator's policy on privileges and host paths (``api``). The rule: it
never raises on any JobSpec, it finds all problems and not only the first, and it needs neither pydantic nor YAML.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from orchestrator.contract.devices import MIG_PROFILE, canonical, is_condition
from orchestrator.contract.model import (
    DEFAULT_NAMESPACE,
    WHOLE_DEVICE,
    Constraint,
    ConstraintOperator,
    DeviceRequest,
    GangDomain,
    GroupSpec,
    JobSpec,
    JobType,
    Link,
    PortSpec,
    Resources,
    StrMap,
    TaskSpec,
)
from orchestrator.jobfile import batch_rules, container_rules, limits, placement_rules, rollout_rules, service_rules

T = TypeVar("T")

Path = tuple[str | int, ...]
MAX_PROBLEMS = 50
"""More than these help nobody, and a hostile job must not make a huge answer."""


@dataclass(frozen=True, slots=True)
class Problem:
    """``path`` leads to the value within the JobSpec: ``("groups", 0, "tasks", 1, "image")``."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.text}" if self.path else self.text


MAX_STEP = 128


def dotted(path: Path) -> str:
    """``groups[0].tasks[1].image``; names that a terminal would not show are quoted, long ones cut."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        shown = step if len(step) <= MAX_STEP else f"{step[:MAX_STEP]}..."
        shown = shown if shown.isprintable() else repr(shown)
        text += f".{shown}" if text else shown
    return text


def near_miss(word: str, known: Collection[str]) -> str:
    """``; did you mean 'image'?``, or nothing when nothing is near."""
    spelled = {name.lower(): name for name in sorted(known)}
    close = difflib.get_close_matches(word.lower()[:100], spelled, n=1, cutoff=0.6)
    return f"; did you mean '{spelled[close[0]]}'?" if close else ""


def normalise(spec: JobSpec) -> JobSpec:
    """``spec`` with defaults for what is unset, mappings sorted, signals spelled ``SIGTERM``. Idempotent."""
    alone = len(spec.groups) == 1
    return _with(
        spec,
        namespace=spec.namespace or DEFAULT_NAMESPACE,
        groups=_each(spec.groups, lambda group: _normal_group(group, alone=alone, job=spec.name)),
        metadata=_in_order(spec.metadata),
    )


def problems(spec: JobSpec, *, placements: Collection[str] | None) -> list[str]:
    """Every problem of a normalised ``spec`` as one line with its place; empty when it is good.

    ``placements``: names of the policies that exist, or None where that is not known (a client).
    """
    return [str(problem) for problem in find(spec, placements=placements)]


def find(spec: JobSpec, *, placements: Collection[str] | None) -> list[Problem]:
    """Like ``problems``, with paths; at most ``MAX_PROBLEMS``."""
    found: list[Problem] = []
    for problem in _job(spec, placements):
        found.append(problem)
        if len(found) == MAX_PROBLEMS:
            break
    return found


# ---------------------------------------------------------------------------- defaults


def _with(value: T, **fields: Any) -> T:
    """``value`` with these fields; itself where they are the very same, as in most of thousands of jobs."""
    for name, field in fields.items():
        if getattr(value, name) is not field:
            made: T = replace(value, **fields)  # type: ignore[type-var]
            return made
    return value


def _each(values: tuple[T, ...], normal: Callable[[T], T]) -> tuple[T, ...]:
    made = tuple([normal(value) for value in values])
    return values if all(new is old for new, old in zip(made, values, strict=True)) else made


def _in_order(pairs: tuple[T, ...]) -> tuple[T, ...]:
    return pairs if len(pairs) < 2 else tuple(sorted(pairs))  # type: ignore[type-var]


def _normal_group(group: GroupSpec, *, alone: bool, job: str) -> GroupSpec:
    only = len(group.tasks) == 1
    return _with(
        group,
        services=service_rules.normal(
            group, job, alone=alone, labels=tuple(_normal_port(port).label for port in group.ports)
        ),
        name=group.name or (limits.DEFAULT_GROUP if alone else ""),
        tasks=_each(group.tasks, lambda task: _normal_task(task, alone=only)),
        ports=_each(group.ports, _normal_port),
        network_mode=container_rules.normal_network(group.network_mode),
    )


def _normal_port(port: PortSpec) -> PortSpec:
    if port.label:
        return port
    return replace(port, label=str(port.to or port.static or "main"))


def _normal_task(task: TaskSpec, *, alone: bool) -> TaskSpec:
    stop, signal = task.stop, task.stop.signal
    if signal not in limits.SIGNALS:
        signal = signal.upper() or "SIGTERM"
        if not signal.startswith("SIG"):
            signal = f"SIG{signal}"
        stop = replace(stop, signal=signal)
    return _with(
        task,
        name=task.name or (limits.DEFAULT_TASK if alone else ""),
        env=_in_order(task.env),
        health=rollout_rules.normal_health(task.health),
        variables=_in_order(task.variables),
        resources=_normal_resources(task.resources),
        stop=stop,
        container=container_rules.normal_container(task.container),
    )


def _normal_resources(resources: Resources) -> Resources:
    gpus = resources.gpus
    if gpus is not None:
        gpus = None if gpus.count == 0 else _normal_gpus(gpus)
    return _with(
        resources,
        custom=_in_order(resources.custom),
        cpu_millis=resources.cpu_millis or limits.DEFAULT_CPU_MILLIS,
        memory_mib=resources.memory_mib or limits.DEFAULT_MEMORY_MIB,
        gpus=gpus,
    )


def _normal_gpus(gpus: DeviceRequest) -> DeviceRequest:
    return replace(
        gpus,
        gpu_millis=gpus.gpu_millis or WHOLE_DEVICE,
        compute_capability=canonical(gpus.compute_capability),
        driver_version=canonical(gpus.driver_version),
        mig=gpus.mig.lower(),
    )


# ---------------------------------------------------------------------------- rules

_Found = Iterator[Problem]
_Few = tuple[Problem, ...]
"""Of the small rules, of which a job meets dozens: a generator for each would cost more than all of them."""


def _job(spec: JobSpec, placements: Collection[str] | None) -> _Found:
    yield from _name(("namespace",), spec.namespace)
    yield from _name(("name",), spec.name)
    yield from _between(("priority",), spec.priority, 0, limits.MAX_PRIORITY)
    if spec.disruption is not None:
        most = spec.disruption.max_unavailable
        if spec.disruption.percent and not 0 <= most <= 100:
            yield Problem(("disruption", "max_unavailable"), f"must be from 0% to 100%, not {most}%")
        else:
            yield from _between(("disruption", "max_unavailable"), most, 0, limits.MAX_COUNT)
    if placements is not None and spec.placement and spec.placement not in placements:
        known = ", ".join(sorted(placements))
        hint = near_miss(spec.placement, placements)
        yield Problem(("placement",), f"no such placement {_short(spec.placement)!r}{hint} (there are: {known})")
    elif spec.placement:
        yield from _name(("placement",), spec.placement)
    yield from _constraints(("constraints",), spec.constraints)
    yield from _placed(placement_rules.job_rules(spec))
    yield from _metadata(("metadata",), spec.metadata)
    yield from _placed(batch_rules.job_rules(spec))
    if not spec.groups:
        yield Problem(("groups",), "a job needs at least one group")
    if len(spec.groups) > limits.MAX_GROUPS:
        yield Problem(("groups",), f"at most {limits.MAX_GROUPS} groups, not {len(spec.groups)}")
    yield from _unique("groups", "group", [group.name for group in spec.groups])
    for number, group in enumerate(spec.groups):
        yield from _group(("groups", number), group, spec.type, spec.namespace, spec.name)


def _group(at: Path, group: GroupSpec, job_type: JobType, namespace: str, job: str) -> _Found:
    yield from _name((*at, "name"), group.name)
    if job_type is JobType.SYSTEM and group.count not in (0, 1):
        yield Problem((*at, "count"), "a system job runs once on every node: leave 'count' out")
    yield from _between((*at, "count"), group.count, 0, limits.MAX_COUNT)
    yield from _constraints((*at, "constraints"), group.constraints)
    yield from _gang(at, group, job_type)
    yield from _placed(placement_rules.group_rules(at, group, job_type))
    yield from _placed(rollout_rules.update_rules(at, group, job_type))
    yield from _placed(batch_rules.group_rules(at, group))
    yield from _between((*at, "restart", "attempts"), group.restart.attempts, 0, limits.MAX_ATTEMPTS)
    yield from _between(
        (*at, "restart", "delay_ms"), group.restart.delay_ms, 0, limits.MAX_DELAY_MS, "must be from 0 to 24h", " ms"
    )
    yield from _ports((*at, "ports"), group.ports)
    yield from _placed(service_rules.group_rules(at, group, namespace, job))
    yield from _placed(container_rules.group_rules(at, group))
    if not group.tasks:
        yield Problem((*at, "tasks"), "a group needs at least one task")
    if len(group.tasks) > limits.MAX_TASKS:
        yield Problem((*at, "tasks"), f"at most {limits.MAX_TASKS} tasks, not {len(group.tasks)}")
    for problem in _unique("tasks", "task", [task.name for task in group.tasks]):
        yield Problem((*at, *problem.path), problem.text)
    with_gpus = [number for number, task in enumerate(group.tasks) if task.resources.gpus is not None]
    for number in with_gpus[1:]:
        yield Problem(
            (*at, "tasks", number, "resources", "gpus"),
            f"only one task of a group may ask for gpus, and '{group.tasks[with_gpus[0]].name}' does already",
        )
    for number, task in enumerate(group.tasks):
        yield from _task((*at, "tasks", number), task)
        yield from _placed(rollout_rules.health_rules((*at, "tasks", number), task, group))


def _gang(at: Path, group: GroupSpec, job_type: JobType) -> _Found:
    if group.gang is None:
        return
    if job_type is JobType.SYSTEM:
        yield Problem((*at, "gang"), "a system job runs once on every node: it cannot be a gang")
    elif group.count > limits.MAX_GANG:
        yield Problem(
            (*at, "count"),
            f"a gang has at most {limits.MAX_GANG} instances, for one entry of the log must hold it; not {group.count}",
        )
    if group.gang.domain is GangDomain.ISLAND and group.resources.gpus is None:
        yield Problem((*at, "gang", "domain"), "an island is one of GPUs: ask for gpus, or say 'node'")


def _ports(at: Path, ports: tuple[PortSpec, ...]) -> _Found:
    if len(ports) > limits.MAX_PORTS:
        yield Problem(at, f"at most {limits.MAX_PORTS} ports, not {len(ports)}")
    labels: set[str] = set()
    statics: set[tuple[int, int]] = set()
    for number, port in enumerate(ports):
        here = (*at, number)
        if not limits.PORT_LABEL.fullmatch(port.label):
            yield Problem((*here, "label"), f"expected {limits.PORT_LABEL_RULE}, got {_quoted(port.label)}")
        elif port.label.replace("-", "_") in labels:
            yield Problem((*here, "label"), f"port label '{port.label}' is used twice")
        labels.add(port.label.replace("-", "_"))
        if port.to:
            yield from _between((*here, "to"), port.to, 1, limits.MAX_PORT)
        if port.static:
            yield from _between((*here, "static"), port.static, 1, limits.MAX_PORT)
            if (port.static, port.protocol) in statics:
                yield Problem((*here, "static"), f"host port {port.static} is used twice")
            statics.add((port.static, port.protocol))


def _task(at: Path, task: TaskSpec) -> _Found:
    yield from _name((*at, "name"), task.name)
    yield from _what_runs(at, task)
    yield from _environment(at, task)
    yield from _resources((*at, "resources"), task.resources)
    yield from _placed(batch_rules.task_rules(at, task))
    if task.stop.signal not in limits.SIGNALS:
        hint = near_miss(task.stop.signal, limits.SIGNALS)
        yield Problem((*at, "stop", "signal"), f"no such signal {_quoted(task.stop.signal)}{hint}")
    yield from _between(
        (*at, "stop", "timeout_ms"), task.stop.timeout_ms, 0, limits.MAX_STOP_TIMEOUT_MS, "must be from 0 to 1h", " ms"
    )
    if task.work_dir:
        yield from _absolute((*at, "work_dir"), task.work_dir)
    if task.user and not _is_user(task.user):
        yield Problem(
            (*at, "user"), f"expected a user such as '1000', '1000:1000' or 'nobody', got {_quoted(task.user)}"
        )
    yield from _placed(container_rules.task_rules(at, task, near_miss))


def _what_runs(at: Path, task: TaskSpec) -> _Found:
    if not task.image and not task.command:
        if task.driver == "process" and not task.command:
            yield Problem((*at, "command"), "the process driver needs a command")
        else:
            yield Problem(at, "a task needs an image or a command")
    if task.driver:
        yield from _name((*at, "driver"), task.driver)
    if task.driver == "docker" and not task.image and task.command:
        yield Problem((*at, "driver"), "the docker driver needs an image")
    if task.driver == "process" and task.image:
        yield Problem((*at, "driver"), "the process driver runs commands, not images: leave out one of them")
    if task.image and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}", task.image):
        yield Problem((*at, "image"), f"expected an image such as 'nginx:1.27', got {_quoted(task.image)}")
    for field in ("command", "args"):
        words: tuple[str, ...] = getattr(task, field)
        if len(words) > limits.MAX_ARGUMENTS:
            yield Problem((*at, field), f"at most {limits.MAX_ARGUMENTS} words, not {len(words)}")
        for number, word in enumerate(words):
            if "\0" in word:
                yield Problem((*at, field, number), "must not contain a NUL character")
            elif len(word.encode("utf-8", "replace")) >= limits.MAX_ARGUMENT_BYTES:
                yield Problem((*at, field, number), f"must be shorter than {limits.MAX_ARGUMENT_BYTES} bytes")
    if task.command and not task.command[0]:
        yield Problem((*at, "command", 0), "must not be empty")


def _environment(at: Path, task: TaskSpec) -> _Found:
    if len(task.env) + len(task.variables) > limits.MAX_ENV:
        yield Problem((*at, "env"), f"at most {limits.MAX_ENV} entries, not {len(task.env) + len(task.variables)}")
    size = sum(len(name) + len(value.encode("utf-8", "replace")) + 2 for name, value in task.env)
    if size > limits.MAX_ENV_BYTES:
        yield Problem((*at, "env"), f"at most {limits.MAX_ENV_BYTES} bytes in all, not {size}")
    names = {name for name, _ in task.env}
    for name, value in task.env:
        yield from _env_name((*at, "env", name), name)
        if "\0" in value:
            yield Problem((*at, "env", name), "must not contain a NUL character")
        elif len(name) + len(value.encode("utf-8", "replace")) + 2 > limits.MAX_ARGUMENT_BYTES:
            yield Problem((*at, "env", name), f"must be shorter than {limits.MAX_ARGUMENT_BYTES} bytes")
    for name, variable in task.variables:
        yield from _env_name((*at, "variables", name), name)
        if name in names:
            yield Problem((*at, "variables", name), f"'{_short(name)}' is set in 'env' too")
        if not limits.VARIABLE_NAME.fullmatch(variable):
            yield Problem((*at, "variables", name), f"expected {limits.VARIABLE_NAME_RULE}, got {_quoted(variable)}")


def _env_name(at: Path, name: str) -> _Found:
    if not limits.ENV_NAME.fullmatch(name):
        yield Problem(at, f"expected a name of {limits.ENV_NAME_RULE}, got {_quoted(name)}")
    elif name.startswith(limits.RESERVED_ENV_PREFIX):
        yield Problem(at, f"names beginning with {limits.RESERVED_ENV_PREFIX} are set by Raftsman itself")


def _resources(at: Path, resources: Resources) -> _Found:
    yield from _between(
        (*at, "cpu_millis"), resources.cpu_millis, 1, limits.MAX_CPU_MILLIS, "must be between 1m and 10000 cores", "m"
    )
    yield from _between(
        (*at, "memory_mib"), resources.memory_mib, 1, limits.MAX_MEMORY_MIB, "must be from 1Mi to 1Pi", "Mi"
    )
    yield from _between((*at, "disk_mib"), resources.disk_mib, 0, limits.MAX_DISK_MIB, "must be from 0 to 1Pi", "Mi")
    yield from _placed(placement_rules.custom_rules((*at, "custom"), resources.custom))
    gpus = resources.gpus
    if gpus is None:
        return
    yield from _between((*at, "gpus", "count"), gpus.count, 1, limits.MAX_DEVICES)
    yield from _between(
        (*at, "gpus", "gpu_millis"), gpus.gpu_millis, 1, WHOLE_DEVICE, "must be from 1m to 1 (one whole device)", "m"
    )
    if gpus.count > 1 and 0 < gpus.gpu_millis < WHOLE_DEVICE:
        yield Problem((*at, "gpus", "gpu_millis"), "a share is of one device: leave it out, or ask for 'count: 1'")
    yield from _between((*at, "gpus", "memory_mib"), gpus.memory_mib, 0, limits.MAX_MEMORY_MIB)
    for field in ("compute_capability", "driver_version"):
        said = getattr(gpus, field)
        if said and (len(said) > limits.MAX_CONDITION or not is_condition(said)):
            yield Problem((*at, "gpus", field), f"expected a condition such as '>= 8.0', got {_quoted(said)}")
    if gpus.mig and not MIG_PROFILE.fullmatch(gpus.mig):
        yield Problem((*at, "gpus", "mig"), f"expected a MIG profile such as '1g.10gb', got {_quoted(gpus.mig)}")
    if gpus.count == 1 and gpus.link is not Link.ANY:
        yield Problem((*at, "gpus", "link"), "a link is between devices: ask for more than one, or leave it out")
    if len(gpus.models) > limits.MAX_DEVICES:
        yield Problem((*at, "gpus", "models"), f"at most {limits.MAX_DEVICES} models")
    for number, model in enumerate(gpus.models):
        if not model.strip() or len(model) > 128:
            yield Problem((*at, "gpus", "models", number), f"expected a model such as 'A100', got {_quoted(model)}")


_COMPARES = (
    ConstraintOperator.GREATER,
    ConstraintOperator.LESS,
    ConstraintOperator.GREATER_EQUAL,
    ConstraintOperator.LESS_EQUAL,
)
_PATTERNS = (ConstraintOperator.MATCHES, ConstraintOperator.NOT_MATCHES)
_ONE_VALUE = (ConstraintOperator.EQUAL, ConstraintOperator.NOT_EQUAL, *_COMPARES, *_PATTERNS)
_NO_VALUE = (ConstraintOperator.EXISTS, ConstraintOperator.NOT_EXISTS)


def _constraints(at: Path, constraints: tuple[Constraint, ...]) -> Iterable[Problem]:
    return _each_constraint(at, constraints) if constraints else ()


def _each_constraint(at: Path, constraints: tuple[Constraint, ...]) -> _Found:
    if len(constraints) > limits.MAX_CONSTRAINTS:
        yield Problem(at, f"at most {limits.MAX_CONSTRAINTS} constraints, not {len(constraints)}")
    for number, constraint in enumerate(constraints):
        here = (*at, number)
        if not limits.ATTRIBUTE.fullmatch(constraint.attribute):
            yield Problem(
                (*here, "attribute"), f"expected {limits.ATTRIBUTE_RULE}, got {_quoted(constraint.attribute)}"
            )
        values, operator = constraint.values, constraint.operator
        if operator in _ONE_VALUE and len(values) != 1:
            yield Problem((*here, "values"), f"expected one value, got {len(values)}")
        elif operator in _NO_VALUE and values:
            yield Problem((*here, "values"), f"expected no value, got {len(values)}")
        elif not values and operator not in _NO_VALUE:
            yield Problem((*here, "values"), "expected at least one value")
        if operator in _COMPARES and len(values) == 1 and not re.fullmatch(r"-?\d{1,18}(\.\d{1,9})?", values[0]):
            hint = (
                f"; did you mean '{constraint.attribute} version ...'?" if "." in values[0] or "," in values[0] else ""
            )
            yield Problem((*here, "values"), f"expected a number to compare with, got {_quoted(values[0])}{hint}")
        for path, text in placement_rules.constraint_rules(constraint):
            yield Problem((*here, *path), text)
        if len(values) > limits.MAX_CONSTRAINT_VALUES:
            yield Problem((*here, "values"), f"at most {limits.MAX_CONSTRAINT_VALUES} values, not {len(values)}")
        if any(len(value) > limits.MAX_TEXT for value in values):
            yield Problem((*here, "values"), f"a value has at most {limits.MAX_TEXT} characters")


def _placed(found: placement_rules.Found) -> _Found:
    for path, text in found:
        yield Problem(path, text)


def _metadata(at: Path, metadata: StrMap) -> _Found:
    if len(metadata) > limits.MAX_METADATA:
        yield Problem(at, f"at most {limits.MAX_METADATA} entries, not {len(metadata)}")
    size = sum(len(key.encode("utf-8", "replace")) + len(value.encode("utf-8", "replace")) for key, value in metadata)
    if size > limits.MAX_METADATA_BYTES:
        yield Problem(at, f"at most {limits.MAX_METADATA_BYTES} bytes in all, not {size}")
    for key, _ in metadata:
        if not key or len(key) > 253:
            yield Problem((*at, key), "expected a key of 1 to 253 characters")


# ---------------------------------------------------------------------------- small rules


def name_problem(name: str) -> str:
    """What is wrong with a name, or nothing."""
    if not name:
        return "is missing"
    if not limits.NAME.fullmatch(name):
        return f"expected {limits.NAME_RULE}, got {_quoted(name)}{_name_hint(name)}"
    return ""


def _name(at: Path, name: str) -> _Few:
    text = name_problem(name)
    return (Problem(at, text),) if text else ()


def _name_hint(name: str) -> str:
    guess = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-")
    return f"; did you mean '{guess}'?" if guess and limits.NAME.fullmatch(guess) else ""


def _unique(field: str, what: str, names: list[str]) -> _Found:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name and name in seen:
            yield Problem((field, number, "name"), f"{what} '{_short(name)}' is there twice")
        seen.add(name)


def _between(at: Path, value: int, low: int, high: int, text: str = "", unit: str = "") -> _Few:
    if low <= value <= high:
        return ()
    return (Problem(at, f"{text or f'must be from {low} to {high}'}, not {value}{unit}"),)


def _is_user(user: str) -> bool:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}(:[A-Za-z0-9_.-]{1,64})?", user):
        return False
    # The highest number means "as it is" to the kernel; above it there is none.
    return all(not part.isdigit() or int(part) < 2**32 - 1 for part in user.split(":"))


def _absolute(at: Path, path: str) -> _Found:
    if not container_rules.is_absolute(path):
        yield Problem(at, f"expected an absolute path without '..', got {_quoted(path)}")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _quoted(text: str) -> str:
    return repr(_short(text))
