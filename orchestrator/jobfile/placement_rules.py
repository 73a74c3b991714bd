"""Rules on where a group wants to go: affinity, spread, tolerations, data, custom resources.

Owns: these rules, for ``check``. The rule: as there, it never raises, whatever the spec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.contract import patterns, taints, versions
from orchestrator.contract.constraints import NODE_ATTRIBUTES
from orchestrator.contract.model import (
    Affinity,
    Constraint,
    ConstraintOperator,
    GroupSpec,
    IntMap,
    JobSpec,
    JobType,
    Spread,
    TaintEffect,
    Toleration,
)
from orchestrator.jobfile import limits

Path = tuple[str | int, ...]
Found = Iterator[tuple[Path, str]]
"""Where, and what is wrong."""
_CLOSED = frozenset({"name", "id", "arch", "os", "datacenter", "region", "zone", "rack"})


def job_rules(spec: JobSpec) -> Found:
    if spec.type is JobType.SYSTEM:
        yield from _not_for_system((), spec)
    yield from wishes((), spec)


def group_rules(at: Path, group: GroupSpec, job_type: JobType) -> Found:
    if job_type is JobType.SYSTEM:
        yield from _not_for_system(at, group)
        if group.locality:
            yield (*at, "locality"), "a system job runs on every matching node: it has no choice"
    yield from wishes(at, group)
    if len(group.datasets) > limits.MAX_DATASETS:
        yield (*at, "datasets"), f"at most {limits.MAX_DATASETS} datasets, not {len(group.datasets)}"
    for number, dataset in enumerate(group.datasets):
        if not limits.VARIABLE_NAME.fullmatch(dataset):
            yield (*at, "datasets", number), f"expected {limits.VARIABLE_NAME_RULE}, got {_quoted(dataset)}"
    if not 0 <= group.locality <= limits.MAX_WEIGHT:
        yield (*at, "locality"), f"must be from 0 to {limits.MAX_WEIGHT}, not {group.locality}"
    elif group.datasets and not group.locality:
        yield (*at, "datasets"), "with 'locality: 0' they decide nothing: leave them out, or give locality a weight"


def _not_for_system(at: Path, spec: JobSpec | GroupSpec) -> Found:
    for key in ("affinity", "spread"):
        if getattr(spec, key):
            yield (*at, key), "a system job runs on every matching node: use 'constraints' to choose which match"


def wishes(at: Path, spec: JobSpec | GroupSpec) -> Found:
    for key, most in (
        ("affinity", limits.MAX_AFFINITIES),
        ("spread", limits.MAX_SPREADS),
        ("tolerations", limits.MAX_TOLERATIONS),
    ):
        many = len(getattr(spec, key))
        if many > most:
            yield (*at, key), f"at most {most}, not {many}"
    for number, affinity in enumerate(spec.affinity):
        yield from _affinity((*at, "affinity", number), affinity)
    for number, spread in enumerate(spec.spread):
        yield from _spread((*at, "spread", number), spread)
    for number, toleration in enumerate(spec.tolerations):
        yield from _toleration((*at, "tolerations", number), toleration)


def _affinity(at: Path, one: Affinity) -> Found:
    if not -limits.MAX_WEIGHT <= one.weight <= limits.MAX_WEIGHT or not one.weight:
        yield (*at, "weight"), f"must be from -{limits.MAX_WEIGHT} to {limits.MAX_WEIGHT} and not 0, not {one.weight}"
    if one.constraint is not None:
        for path, text in constraint_rules(one.constraint):
            yield (*at, "constraint", *path), text
        if one.required:
            yield (*at, "required"), "a condition on nodes belongs to 'constraints'"
        if one.job or one.group or one.topology != "node.id":
            yield at, "expected a constraint, or a job with group and topology"
        return
    for key, name in (("job", one.job), ("group", one.group)):
        if name and not limits.NAME.fullmatch(name):
            yield (*at, key), f"expected {limits.NAME_RULE}, got {_quoted(name)}"
    yield from _topology((*at, "topology"), one.topology)


def _spread(at: Path, one: Spread) -> Found:
    yield from _topology((*at, "over"), one.attribute)
    if not 1 <= one.max_skew <= limits.MAX_SKEW:
        yield (*at, "max_skew"), f"must be from 1 to {limits.MAX_SKEW}, not {one.max_skew}"
    if not 1 <= one.weight <= limits.MAX_WEIGHT:
        yield (*at, "weight"), f"must be from 1 to {limits.MAX_WEIGHT}, not {one.weight}"
    elif one.required and one.weight != Spread(attribute=one.attribute).weight:
        yield (*at, "weight"), "nothing is weighed against what must hold: leave it out, or say 'place-anyway'"


def _topology(at: Path, attribute: str) -> Found:
    if not limits.ATTRIBUTE.fullmatch(attribute):
        yield at, f"expected {limits.ATTRIBUTE_RULE}, got {_quoted(attribute)}"


def _toleration(at: Path, one: Toleration) -> Found:
    if one.key and not taints.KEY.fullmatch(one.key):
        yield (*at, "key"), f"expected the key of a taint, got {_quoted(one.key)}"
    if one.value is not None and not taints.VALUE.fullmatch(one.value):
        yield (*at, "value"), f"expected the value of a taint, got {_quoted(one.value)}"
    if one.delay_ms is None:
        return
    if one.effect not in (None, TaintEffect.NO_EXECUTE):
        yield (*at, "for"), "only NoExecute drives anything away that could stay a while"
    if not 0 <= one.delay_ms <= limits.MAX_DELAY_MS * 366:
        yield (*at, "for"), "must be from 0 to a year"


def custom_rules(at: Path, custom: IntMap) -> Found:
    if len(custom) > limits.MAX_CUSTOM:
        yield at, f"at most {limits.MAX_CUSTOM} resources, not {len(custom)}"
    for name, amount in custom:
        if not limits.RESOURCE.fullmatch(name):
            yield (*at, name), f"expected {limits.RESOURCE_RULE}, got {_quoted(name)}"
        elif name in ("cpu", "memory", "disk", "gpus"):
            yield (*at, name), f"'{name}' stands beside 'custom', not in it"
        elif not 1 <= amount <= limits.MAX_CUSTOM_AMOUNT:
            yield (*at, name), f"must be from 1 to {limits.MAX_CUSTOM_AMOUNT}, not {amount}"


def constraint_rules(constraint: Constraint) -> Found:
    """What is special to an operator."""
    rule = _OPERATORS.get(constraint.operator)
    if rule is not None:
        for value in constraint.values:
            text = rule(value)
            if text:
                yield ("values",), text
    name = constraint.attribute
    if name.startswith("node.") and name not in NODE_ATTRIBUTES and name.lower().removeprefix("node.") in _CLOSED:
        yield ("attribute",), f"no such attribute '{name}'; did you mean '{name.lower()}'?"


_OPERATORS: dict[ConstraintOperator, Callable[[str], str]] = {
    ConstraintOperator.VERSION: versions.problem,
    ConstraintOperator.MATCHES: patterns.problem,
    ConstraintOperator.NOT_MATCHES: patterns.problem,
}


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
