"""Keys of a job file that say where a group goes: affinity, spread, tolerations; and how a spec is written in them.

Owns: these keys both ways. Leaves to others: constraints (``models``), rules on values (``placement_rules``). The rule:
each has a short form for the common case and a mapping for the rest.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from orchestrator.contract import model as nouns
from orchestrator.contract import taints
from orchestrator.jobfile import limits, units
from orchestrator.jobfile.leaves import (
    Constrained,
    Duration,
    Keys,
    Name,
    Or,
    Text,
    Truth,
    Whole,
    one_of,
    word,
)

# ---------------------------------------------------------------------------- tolerations

_EFFECTS = taints.EFFECTS
Effect = Annotated[nouns.TaintEffect, *word(_EFFECTS)]
_TOLERATION_EXPECTED = (
    "expected a toleration such as 'gpu=only:NoSchedule', 'gpu', 'broken:NoExecute for 5m' or '*' for all taints"
)
_TOLERATION = re.compile(r"\s*([^\s=:]+)(?:=([^\s:]*))?(?::(\S+))?(?:\s+for\s+(.+?))?\s*")


def _toleration(value: object) -> object:
    """``gpu=only:NoSchedule``, ``gpu``, ``broken:NoExecute for 5m``, ``*``, or a mapping."""
    if isinstance(value, dict):
        return value
    match = _TOLERATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_TOLERATION_EXPECTED}, got {units.shown(value)}")
    made: dict[str, object] = {} if match[1] == "*" else {"key": match[1]}
    if match[2] is not None:
        made["value"] = match[2]
    if match[3] is not None:
        one_of(match[3], _EFFECTS)
        made["effect"] = match[3]
    if match[4] is not None:
        units.parse_duration(match[4])
        made["for"] = match[4]
    return made


class TolerationKeys(Keys):
    key: Text = Field(default="", description="Of the taint; any when left out.")
    value: Text | None = Field(default=None, description="Of the taint; any when left out.")
    effect: Effect | None = Field(
        default=None, description="NoSchedule, PreferNoSchedule or NoExecute; any when left out."
    )
    for_: Duration | None = Field(
        default=None,
        alias="for",
        description="How long it stays after a NoExecute taint appears; for ever when left out.",
    )

    def build(self) -> nouns.Toleration:
        return nouns.Toleration(key=self.key, value=self.value, effect=self.effect, delay_ms=self.for_)


# ---------------------------------------------------------------------------- affinity


class AffinityKeys(Keys):
    """Exactly one of node, job and own."""

    node: Constrained | None = Field(default=None, description="A constraint: to be where it holds.")
    job: Name | None = Field(default=None, description="To be where instances of this job are.")
    group: Name | None = Field(default=None, description="Of that job; all its groups when left out.")
    own: Truth = Field(default=False, description="To be where other instances of this group are.")
    topology: Text = Field(default="node.id", description="The attribute that must be the same; node.id: one node.")
    weight: Whole = Field(default=50, description="-100 to 100; below 0: rather not there.")
    required: Truth = Field(default=False, description="Not a preference but a condition.")

    def build(self) -> nouns.Affinity:
        return nouns.Affinity(
            constraint=self.node.build() if self.node is not None else None,
            job=self.job or "",
            group=self.group or "",
            topology=self.topology,
            weight=self.weight,
            required=self.required,
        )


def _affinity(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError(
            f"expected an affinity such as {{node: 'disk = ssd', weight: 50}} or {{job: db, topology: node.rack}}, "
            f"got {units.shown(value)}"
        )
    given = [name for name in ("node", "job", "own") if value.get(name)]
    if len(given) != 1:
        raise ValueError("expected exactly one of 'node', 'job' and 'own'")
    if "node" in given and ("topology" in value or "group" in value):
        raise ValueError("'topology' and 'group' go with 'job' or 'own', not with 'node'")
    return value


# ---------------------------------------------------------------------------- spread

_UNSATISFIABLE = {"wait": True, "place-anyway": False}
WhenUnsatisfiable = Annotated[bool, *word(_UNSATISFIABLE)]


def _spread(value: object) -> object:
    """``node.zone``, or a mapping."""
    return {"over": value} if isinstance(value, str) else value


class SpreadKeys(Keys):
    over: Text = Field(description="Node label or attribute, such as node.zone.")
    max_skew: Whole = Field(default=1, description="How many more the fullest value may have than the emptiest.")
    when_unsatisfiable: WhenUnsatisfiable = Field(default=True, description="wait, or place-anyway.")
    weight: Whole = Field(default=50, description="With place-anyway: 1 to 100.")

    def build(self) -> nouns.Spread:
        return nouns.Spread(
            attribute=self.over, max_skew=self.max_skew, required=self.when_unsatisfiable, weight=self.weight
        )


Affinities = list[Annotated[AffinityKeys, BeforeValidator(_affinity)]]
Spreads = list[Annotated[SpreadKeys, BeforeValidator(_spread), Or({"type": "string", "examples": ["node.zone"]})]]
Tolerations = list[
    Annotated[TolerationKeys, BeforeValidator(_toleration), Or({"type": "string", "examples": ["gpu=only:NoSchedule"]})]
]
DISTINCT = nouns.Affinity(topology="node.id", weight=-100, required=True)
"""What ``distinct_hosts: true`` means."""


# ---------------------------------------------------------------------------- writing


def written(spec: nouns.JobSpec | nouns.GroupSpec, constraint: Any) -> dict[str, Any]:
    """The keys as a file has them; ``constraint`` writes one constraint."""
    made: dict[str, Any] = {}
    distinct = isinstance(spec, nouns.GroupSpec) and spec.affinity[-1:] == (DISTINCT,)
    affinity = spec.affinity[:-1] if distinct else spec.affinity
    if affinity:
        made["affinity"] = [_written_affinity(one, constraint) for one in affinity]
    if distinct:
        made["distinct_hosts"] = True
    if spec.spread:
        made["spread"] = [_written_spread(one) for one in spec.spread]
    if spec.tolerations:
        made["tolerations"] = [_written_toleration(one) for one in spec.tolerations]
    if isinstance(spec, nouns.GroupSpec):
        if spec.datasets:
            made["datasets"] = list(spec.datasets)
        if spec.locality != (limits.DEFAULT_LOCALITY if spec.datasets else 0):
            made["locality"] = spec.locality
    return made


def _written_affinity(one: nouns.Affinity, constraint: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if one.constraint is not None:
        made["node"] = constraint(one.constraint)
    elif one.job:
        made["job"] = one.job
    else:
        made["own"] = True
    if one.group:
        made["group"] = one.group
    if one.topology != "node.id":
        made["topology"] = one.topology
    if one.weight != 50:
        made["weight"] = one.weight
    if one.required:
        made["required"] = True
    return made


def _written_spread(one: nouns.Spread) -> Any:
    unsaid = nouns.Spread(attribute=one.attribute)
    if one == unsaid:
        return one.attribute
    made: dict[str, Any] = {"over": one.attribute}
    if one.max_skew != unsaid.max_skew:
        made["max_skew"] = one.max_skew
    if not one.required:
        made["when_unsatisfiable"] = "place-anyway"
    if one.weight != unsaid.weight:
        made["weight"] = one.weight
    return made


def _written_toleration(one: nouns.Toleration) -> Any:
    made: dict[str, Any] = {}
    if one.key:
        made["key"] = one.key
    if one.value is not None:
        made["value"] = one.value
    if one.effect is not None:
        made["effect"] = taints.effect_name(one.effect)
    if one.delay_ms is not None:
        made["for"] = units.format_duration(one.delay_ms)
    return made or "*"
