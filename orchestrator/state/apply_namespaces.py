"""What commands about namespaces and the cluster's settings do.

The rules: ``default`` is always there. A namespace that nobody created is there as long as jobs or variables name it,
without a quota, unless the operator made namespaces strict: then only created ones take anything new. A quota may be
set below what is in use: it stops nothing, it refuses growth (``quota``).
"""

from __future__ import annotations

from dataclasses import fields, replace

from orchestrator.contract.model import DEFAULT_NAMESPACE, Namespace, Quota
from orchestrator.state.check import name_problem, range_problem
from orchestrator.state.commands import NamespaceWrite, Outcome, Rejected, SetSettings, WriteNamespace
from orchestrator.state.quota import SPELLED, amount
from orchestrator.state.state import State
from orchestrator.state.usage import RESOURCES

MAX_LIMIT = 2**53
"""Beyond it JSON numbers lose digits."""
MAX_NAMESPACES = 10_000


def write(state: State, command: WriteNamespace) -> Outcome:
    problem = name_problem("namespace", command.name) or _quota_problem(command)
    if problem:
        return state.reject("INVALID", problem)
    known = state.namespaces.get(command.name)
    if command.kind is NamespaceWrite.DELETE:
        return _delete(state, command.name, known)
    if known is None and len(state.namespaces) >= MAX_NAMESPACES:
        return state.reject("FAILED_PRECONDITION", f"there are {MAX_NAMESPACES} namespaces: delete one first")
    before = known.quota if known is not None else Quota()
    quota = _changed(before if command.kind is NamespaceWrite.SET else Quota(), command.quota)
    if known is not None:
        if quota == before:
            return state.changed(False)
        if command.kind is NamespaceWrite.CREATE:
            return state.reject(
                "ALREADY_EXISTS",
                f"namespace {command.name!r} exists with another quota: `raftsman namespace set` changes it",
            )
        state.namespaces[command.name] = replace(known, quota=quota, modify_index=state.index)
    else:
        state.namespaces[command.name] = Namespace(
            name=command.name, quota=quota, create_index=state.index, modify_index=state.index
        )
    kind = "namespace.changed" if known is not None else "namespace.created"
    state.events.emit(kind, namespace=command.name, message=describe(quota))
    return state.changed()


def _quota_problem(command: WriteNamespace) -> str:
    # In a change -1 lifts a limit; a new quota says nothing instead.
    low = -1 if command.kind is NamespaceWrite.SET else 0
    for name in RESOURCES:
        value = getattr(command.quota, name)
        if value is not None:
            problem = range_problem(f"quota of {SPELLED[name]}", value, low, MAX_LIMIT)
            if problem:
                return problem
    return ""


def _changed(quota: Quota, change: Quota) -> Quota:
    given = {name: value for name in RESOURCES if (value := getattr(change, name)) is not None}
    return replace(quota, **{name: None if value < 0 else value for name, value in given.items()})


def describe(quota: Quota) -> str:
    """``cpu=8, memory=16Gi``; "no quota" where nothing is limited."""
    told = [
        f"{SPELLED[name]}={amount(name, limit)}" for name in RESOURCES if (limit := getattr(quota, name)) is not None
    ]
    return ", ".join(told) or "no quota"


def _delete(state: State, name: str, known: Namespace | None) -> Outcome:
    if name == DEFAULT_NAMESPACE:
        return state.reject("FAILED_PRECONDITION", "namespace 'default' is always there: lift its quota instead")
    jobs = state.usage.jobs_in.get(name, 0)
    variables = sum(1 for space, _ in state.variables if space == name)
    if jobs or variables:
        kinds = [(jobs, "job", "rm JOB..."), (variables, "variable", "var delete NAME")]
        held = " and ".join(f"{count} {noun}{'s' * (count != 1)}" for count, noun, _ in kinds if count)
        ways = ", ".join(f"raftsman -n {name} {way}" for count, _, way in kinds if count)
        return state.reject("FAILED_PRECONDITION", f"namespace {name!r} holds {held}: remove them first ({ways})")
    if known is None:
        return state.reject("NOT_FOUND", f"there is no namespace {name[:128]!r}")
    del state.namespaces[name]
    state.events.emit("namespace.deleted", namespace=name)
    return state.changed()


def unknown_namespace(state: State, name: str) -> Rejected | None:
    """The refusal of something new in a namespace (a good name) that nobody created, where the settings are strict."""
    if not state.settings.strict_namespaces or name == DEFAULT_NAMESPACE or name in state.namespaces:
        return None
    return state.reject(
        "FAILED_PRECONDITION",
        f"there is no namespace {name!r}, and this cluster's namespaces are strict: create it "
        f"(raftsman namespace create {name}), or use one that exists",
        namespace=name,
    )


def set_settings(state: State, command: SetSettings) -> Outcome:
    given = {
        field.name: value
        for field in fields(command.change)
        if (value := getattr(command.change, field.name)) is not None
    }
    settings = replace(state.settings, **given)
    if settings == state.settings:
        return state.changed(False)
    state.settings = settings
    told = ", ".join(f"{name} {'on' if value else 'off'}" for name, value in sorted(given.items()))
    state.events.emit("settings.changed", message=told)
    return state.changed()
