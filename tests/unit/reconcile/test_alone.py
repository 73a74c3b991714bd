"""Jobs that can be decided about by themselves, and that new fields of the model are not among what is known."""

from __future__ import annotations

import dataclasses

import pytest

from orchestrator.contract.model import GroupSpec, JobSpec, Resources, TaskSpec
from orchestrator.reconcile import alone as module
from orchestrator.reconcile.alone import alone

JOB = JobSpec(
    name="web",
    priority=80,
    groups=(GroupSpec(name="a", count=3, tasks=(TaskSpec(name="t", resources=Resources(cpu_millis=1)),)),),
)


def test_a_job_that_asks_for_room_alone_is_decided_about_by_itself() -> None:
    assert alone(JOB)


@pytest.mark.parametrize(("kind", "field", "value"), [(JobSpec, "priority", 50), (GroupSpec, "count", 1)])
def test_a_field_that_is_not_known_needs_a_look_at_everything_once_it_is_used(
    monkeypatch: pytest.MonkeyPatch, kind: type, field: str, value: int
) -> None:
    """As if the field were new: ``value`` is its default."""
    monkeypatch.setitem(module._OTHERS, kind, ((field, value),))
    assert not alone(JOB)
    group = dataclasses.replace(JOB.groups[0], count=1)
    assert alone(dataclasses.replace(JOB, priority=50, groups=(group,)))


def test_what_is_known_exists() -> None:
    for kind, names in module._KNOWN.items():
        assert names <= {field.name for field in dataclasses.fields(kind)}
