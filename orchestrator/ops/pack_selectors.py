"""On which nodes a Kubernetes pod may run: its node selector, its required node affinity, and taints.

Owns: judging these, once per distinct text of them. Leaves to others: room. The rule: as the Kubernetes scheduler has
it: terms are alternatives, the expressions of a term must all hold, preferences do not matter, and of taints those with
NoSchedule and NoExecute repel whoever does not tolerate them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.ops.pack_json import At

_CORDON = "node.kubernetes.io/unschedulable"  # is what ``spec.unschedulable`` says already
_NAME = "metadata.name"
_WHOLE = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    labels: Mapping[str, str]
    taints: tuple[tuple[str, str, str], ...]


class Selectors:
    def __init__(self, nodes: Sequence[At]) -> None:
        self._nodes = [_node(node) for node in nodes]
        self._known: dict[str, frozenset[int] | None] = {}

    def nodes(self, spec: At) -> frozenset[int] | None:
        """The numbers of the nodes that will do for a pod's spec; None: all. Raises ``PackError``."""
        affinity = spec.maybe("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
        parts = (spec.maybe("nodeSelector"), affinity, spec.maybe("tolerations"))
        key = json.dumps([None if part is None else part.value for part in parts], sort_keys=True)
        if key not in self._known:
            found = frozenset(number for number, node in enumerate(self._nodes) if _suits(spec, affinity, node))
            self._known[key] = None if len(found) == len(self._nodes) else found
        return self._known[key]


def _node(node: At) -> _Node:
    return _Node(
        name=node.text("metadata", "name"),
        labels={name: value.text() for name, value in node.fields("metadata", "labels").items()},
        taints=tuple(
            (taint.text("key"), taint.text("value"), taint.text("effect"))
            for taint in node.each("spec", "taints")
            if taint.text("effect") in ("NoSchedule", "NoExecute") and taint.text("key") != _CORDON
        ),
    )


def _suits(spec: At, affinity: At | None, node: _Node) -> bool:
    if any(node.labels.get(label) != value.text() for label, value in spec.fields("nodeSelector").items()):
        return False
    if affinity is not None:
        verdicts = [_term(term, node) for term in affinity.each("nodeSelectorTerms")]  # all, to find every mistake
        if not any(verdicts):
            return False
    tolerations = list(spec.each("tolerations"))
    return all(any(_tolerates(one, taint) for one in tolerations) for taint in node.taints)


def _term(term: At, node: _Node) -> bool:
    labels = [_holds(one, node.labels.get(one.text("key"))) for one in term.each("matchExpressions")]
    fields = []
    for one in term.each("matchFields"):
        if one.text("key") != _NAME:
            one.refuse(f"key {one.text('key')!r}: expected {_NAME}")
        fields.append(_holds(one, node.name))
    verdicts = labels + fields
    return bool(verdicts) and all(verdicts)  # an empty term matches nothing


def _holds(expression: At, value: str | None) -> bool:
    values = [one.text() for one in expression.each("values")]
    operator = expression.text("operator")
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if operator not in ("Gt", "Lt"):
        expression.refuse(f"operator {operator!r}: expected In, NotIn, Exists, DoesNotExist, Gt or Lt")
    if len(values) != 1 or not _WHOLE.fullmatch(values[0]):
        expression.refuse(f"values {', '.join(values)!r}: expected one whole number")
    if value is None or not _WHOLE.fullmatch(value):
        return False
    here, bound = int(value), int(values[0])
    return here > bound if operator == "Gt" else here < bound


def _tolerates(toleration: At, taint: tuple[str, str, str]) -> bool:
    key, value, effect = taint
    if toleration.text("effect") not in ("", effect):
        return False
    if toleration.text("key") not in ("", key):
        return False
    if toleration.text("operator") == "Exists":
        return True
    return toleration.text("key") == key and toleration.text("value") == value
