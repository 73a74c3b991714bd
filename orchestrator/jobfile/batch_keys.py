"""Keys of a job file about batch jobs: ``after``, ``periodic``, ``parameterized``; and how a spec is written in them.

Owns: these keys both ways. Leaves to others: rules on values (``batch_rules``).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from orchestrator.contract import batch
from orchestrator.jobfile.leaves import Keys, Or, Text, TextList, Truth, word

_CONDITIONS = {one.name.lower(): one for one in batch.AfterCondition}
_OVERLAPS = {one.name.lower(): one for one in batch.Overlap}
_MISSED = {one.name.lower(): one for one in batch.Missed}
_PAYLOADS = {one.name.lower(): one for one in batch.PayloadRule}
Condition = Annotated[batch.AfterCondition, *word(_CONDITIONS)]
Overlap = Annotated[batch.Overlap, *word(_OVERLAPS)]
Missed = Annotated[batch.Missed, *word(_MISSED)]
Payload = Annotated[batch.PayloadRule, *word(_PAYLOADS)]

# ---------------------------------------------------------------------------- after


class AfterKeys(Keys):
    group: Text = Field(description="Another group of the job.")
    condition: Condition = Field(
        default_factory=lambda: batch.AfterCondition.SUCCESS,
        description="success: all its instances are complete; any: all have ended, also if they failed.",
    )

    def build(self) -> batch.After:
        return batch.After(group=self.group, condition=self.condition)


def _afters(value: object) -> object:
    """``load``, ``[load, clean]``, ``{load: success, clean: any}``, or a list of mappings."""
    if isinstance(value, dict) and not ("group" in value and set(value) <= {"group", "condition"}):
        return [{"group": name, "condition": condition} for name, condition in value.items()]
    listed = value if isinstance(value, list) else [value]
    return [one if isinstance(one, dict) else {"group": one} for one in listed]


_AFTER_SHORT = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "additionalProperties": {"enum": list(_CONDITIONS)}},
    ]
}
Afters = Annotated[list[AfterKeys], BeforeValidator(_afters), Or(_AFTER_SHORT)]

# ---------------------------------------------------------------------------- templates


def _periodic(value: object) -> object:
    """``periodic: "@daily"`` means ``periodic: {cron: "@daily"}``."""
    return value if isinstance(value, dict) else {"cron": value}


class PeriodicKeys(Keys):
    cron: TextList = Field(description="'0 3 * * *', '@daily', '@every 10m'; or several.")
    time_zone: Text = Field(default=batch.UTC, description="Such as Europe/Berlin.")
    overlap: Overlap = Field(
        default_factory=lambda: batch.Overlap.ALLOW,
        description="While an earlier run has not ended: allow both, forbid the new one, or replace the earlier one.",
    )
    missed: Missed = Field(
        default_factory=lambda: batch.Missed.SKIP,
        description="Times at which nobody could start it: skip them, or run once for all of them.",
    )
    paused: Truth = Field(default=False, description="Nothing is due while this is true.")

    def build(self) -> batch.PeriodicSpec:
        return batch.PeriodicSpec(
            cron=tuple(self.cron),
            time_zone=self.time_zone,
            overlap=self.overlap,
            missed=self.missed,
            paused=self.paused,
        )


_CRON_SHORT = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
Periodic = Annotated[PeriodicKeys, BeforeValidator(_periodic), Or(_CRON_SHORT)]


def _parameterized(value: object) -> object:
    """``parameterized: true``: no meta, a payload if one likes."""
    if isinstance(value, bool):
        return {} if value else None
    return value


class ParameterizedKeys(Keys):
    payload: Payload = Field(default_factory=lambda: batch.PayloadRule.OPTIONAL, description="Of each dispatch.")
    meta_required: TextList = Field(default=[], description="Keys that each dispatch must bring.")
    meta_optional: TextList = Field(default=[], description="Keys that it may bring.")

    def build(self) -> batch.ParameterizedSpec:
        return batch.ParameterizedSpec(
            payload=self.payload, meta_required=tuple(self.meta_required), meta_optional=tuple(self.meta_optional)
        )


Parameterized = Annotated[ParameterizedKeys | None, BeforeValidator(_parameterized), Or({"type": "boolean"})]

# ---------------------------------------------------------------------------- written


def written_after(afters: tuple[batch.After, ...]) -> Any:
    if all(one.condition is batch.AfterCondition.SUCCESS for one in afters):
        names = [one.group for one in afters]
        return names[0] if len(names) == 1 else names
    return {one.group: one.condition.name.lower() for one in afters}


def written_periodic(spec: batch.PeriodicSpec) -> Any:
    cron = spec.cron[0] if len(spec.cron) == 1 else list(spec.cron)
    made: dict[str, Any] = {"cron": cron}
    if spec.time_zone != batch.UTC:
        made["time_zone"] = spec.time_zone
    if spec.overlap is not batch.Overlap.ALLOW:
        made["overlap"] = spec.overlap.name.lower()
    if spec.missed is not batch.Missed.SKIP:
        made["missed"] = spec.missed.name.lower()
    if spec.paused:
        made["paused"] = True
    return cron if len(made) == 1 else made


def written_parameterized(spec: batch.ParameterizedSpec) -> Any:
    made: dict[str, Any] = {}
    if spec.payload is not batch.PayloadRule.OPTIONAL:
        made["payload"] = spec.payload.name.lower()
    if spec.meta_required:
        made["meta_required"] = list(spec.meta_required)
    if spec.meta_optional:
        made["meta_optional"] = list(spec.meta_optional)
    return made or True
