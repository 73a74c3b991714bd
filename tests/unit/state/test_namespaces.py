"""Namespaces and quotas: exactly what there is goes in, growth alone is refused, and a refusal says what would help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import (
    AllocState,
    JobSpec,
    JobType,
    Namespace,
    Quota,
    SettingsChange,
    Usage,
)
from orchestrator.state.commands import (
    Action,
    JobSubmission,
    NamespaceWrite,
    Outcome,
    RegisterNode,
    Rejected,
    RemoveJob,
    RestartJob,
    ScaleJob,
    SetSettings,
    StopJob,
    SubmitJobs,
    WriteNamespace,
    WriteVariable,
)
from orchestrator.state.snapshot import capture, restore, state_hash
from orchestrator.state.usage import RESOURCES
from tests.unit.state.kit import Kit, Placement, group, job, node


def namespace(name: str, kind: NamespaceWrite = NamespaceWrite.CREATE, **quota: int) -> WriteNamespace:
    return WriteNamespace(name=name, kind=kind, quota=Quota(**quota))


def with_quota(**quota: int) -> Kit:
    kit = Kit()
    kit.ok(namespace("default", NamespaceWrite.SET, **quota))
    return kit


def submit(kit: Kit, *specs: JobSpec) -> Outcome:
    return kit.do(SubmitJobs(jobs=tuple(JobSubmission(spec=spec, uid=f"uid-{spec.name}") for spec in specs)))


def test_submits_in_any_number_admit_exactly_the_quota() -> None:
    kit = with_quota(cpu_millis=1_000)
    outcomes = [submit(kit, job(f"j{at}", group(cpu=100, count=2))) for at in range(20)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Rejected)]
    assert len(refused) == 15
    assert {outcome.reason for outcome in refused} == {"QUOTA_EXCEEDED"}
    assert kit.state.usage.of("default").cpu_millis == 1_000


def test_the_refusal_says_which_resource_what_is_used_asked_and_allowed_and_what_would_help() -> None:
    kit = with_quota(memory_mib=1024)
    submit(kit, job("a", group(memory=512, count=1)))
    outcome = submit(kit, job("b", group(memory=512, count=3)))
    assert isinstance(outcome, Rejected)
    assert dict(outcome.metadata) == {
        "namespace": "default", "resource": "memory", "used": "512Mi", "asked": "1536Mi", "limit": "1Gi",
    }  # fmt: skip
    assert "memory 512Mi of 1Gi in use, 1536Mi more asked for" in outcome.message
    assert "raftsman namespace set default --quota memory=2Gi" in outcome.message


@pytest.mark.parametrize(
    ("resource", "limit"),
    [("cpu_millis", 300), ("memory_mib", 192), ("gpu_millis", 1_500), ("allocations", 3), ("jobs", 1)],
)
def test_every_resource_is_held_against_its_limit(resource: str, limit: int) -> None:
    kit = with_quota(**{resource: limit})
    fits = job("a", group(cpu=100, memory=64, gpus=1, share=500, count=3))
    assert not isinstance(submit(kit, fits), Rejected)
    assert getattr(kit.state.usage.of("default"), resource) == limit
    one_more = submit(kit, job("b", group(cpu=100, memory=64, gpus=1, share=500)))
    assert isinstance(one_more, Rejected)


def test_jobs_of_one_submission_are_judged_together() -> None:
    kit = with_quota(allocations=3)
    assert isinstance(submit(kit, job("a", group(count=2)), job("b", group(count=2))), Rejected)
    assert kit.state.jobs == {}
    assert not isinstance(submit(kit, job("a", group(count=2)), job("b", group(count=1))), Rejected)


def test_scaling_up_and_a_larger_version_are_growth_and_scaling_down_is_always_possible() -> None:
    kit = with_quota(cpu_millis=400)
    submit(kit, job("a", group(cpu=100, count=3)))
    scale = ScaleJob(namespace="default", name="a", group="", count=5)
    assert kit.refused(scale).reason == "QUOTA_EXCEEDED"
    kit.ok(replace(scale, count=4))
    assert isinstance(submit(kit, job("a", group(cpu=200, count=4))), Rejected)
    kit.ok(namespace("default", NamespaceWrite.SET, cpu_millis=100))  # below what is in use: stops nothing
    assert kit.refused(replace(scale, count=5)).reason == "QUOTA_EXCEEDED"
    kit.ok(replace(scale, count=2))
    assert not isinstance(submit(kit, job("a", group(cpu=90, count=2))), Rejected)
    assert kit.state.usage.of("default").cpu_millis == 180


def test_another_resource_may_grow_while_one_is_over_its_quota() -> None:
    kit = with_quota(cpu_millis=400, memory_mib=1_000)
    submit(kit, job("a", group(cpu=100, memory=64, count=4)))
    kit.ok(namespace("default", NamespaceWrite.SET, cpu_millis=100))
    assert not isinstance(submit(kit, job("a", group(cpu=100, memory=128, count=4))), Rejected)


def test_what_is_stopped_or_removed_gives_its_share_back_and_must_ask_again() -> None:
    kit = with_quota(jobs=1)
    submit(kit, job("a"))
    kit.ok(StopJob(namespace="default", name="a"))
    assert not isinstance(submit(kit, job("b")), Rejected)
    assert isinstance(submit(kit, job("a")), Rejected)
    kit.ok(RemoveJob(namespace="default", name="b"))
    assert not isinstance(submit(kit, job("a")), Rejected)


def test_what_a_batch_job_has_finished_does_not_count_and_a_restart_asks_for_it_again() -> None:
    kit = with_quota(allocations=2, jobs=1)
    kit.ok(RegisterNode(node=node("n1"), identity="agent:n1"))
    submit(kit, job("sum", group(count=2), kind=JobType.BATCH))
    kit.plan(Placement("sum/api/0", "n1"), Placement("sum/api/1", "n1"))
    for ordinal in (0, 1):
        assert isinstance(submit(kit, job("web", group(count=2))), Rejected)
        kit.observe(f"sum/api/{ordinal}", AllocState.RUNNING)
        kit.observe(f"sum/api/{ordinal}", AllocState.COMPLETE)
        assert kit.state.usage.of("default").allocations == 1 - ordinal
    assert kit.state.usage.of("default") == Usage()
    assert not isinstance(submit(kit, job("web", group(count=2))), Rejected)
    assert kit.refused(RestartJob(namespace="default", name="sum")).reason == "QUOTA_EXCEEDED"


def test_system_jobs_count_where_they_are_placed_and_are_refused_there() -> None:
    kit = with_quota(cpu_millis=250)
    for name in ("n1", "n2", "n3"):
        kit.ok(RegisterNode(node=node(name), identity=f"agent:{name}"))
    submit(kit, job("log", group(cpu=100), kind=JobType.SYSTEM))
    assert kit.state.usage.of("default") == Usage(jobs=1)
    answer = kit.plan(*(Placement(f"log/api/{at}", f"n{at + 1}") for at in range(3)))
    assert (answer.placed, len(answer.rejected)) == (2, 1)
    assert answer.rejected[0] == "log/api/2: quota of namespace default: cpu 200m of 250m in use"
    assert isinstance(submit(kit, job("web", group(cpu=100))), Rejected)
    kit.plan(actions=[(Action.STOP, "log/api/0", "surplus")])
    kit.observe("log/api/0", AllocState.STOPPED)
    assert kit.state.usage.of("default").cpu_millis == 100


# ---------------------------------------------------------------------------- namespaces themselves


def test_a_namespace_is_created_once_and_its_quota_changes_by_parts() -> None:
    kit = Kit()
    kit.ok(namespace("team", cpu_millis=1_000, jobs=3))
    assert kit.ok(namespace("team", cpu_millis=1_000, jobs=3)).answer.changed is False  # type: ignore[union-attr]
    assert kit.refused(namespace("team", cpu_millis=2_000)).reason == "ALREADY_EXISTS"
    kit.ok(namespace("team", NamespaceWrite.SET, jobs=-1, allocations=5))
    assert kit.state.namespaces["team"].quota == Quota(cpu_millis=1_000, allocations=5)
    assert kit.refused(namespace("team", NamespaceWrite.CREATE, jobs=-1)).reason == "INVALID"
    assert kit.refused(namespace("Not a name!")).reason == "INVALID"
    assert kit.kinds()[-2:] == ["namespace.created", "namespace.changed"]


def test_a_namespace_goes_only_when_it_is_empty_and_default_never() -> None:
    kit = Kit()
    kit.ok(namespace("team"))
    kit.do(SubmitJobs(jobs=(JobSubmission(spec=replace(job("a"), namespace="team"), uid="u"),)))
    assert (
        "holds 1 job: remove them first (raftsman -n team rm JOB...)"
        in kit.refused(namespace("team", NamespaceWrite.DELETE)).message
    )
    kit.ok(RemoveJob(namespace="team", name="a"))
    kit.ok(namespace("team", NamespaceWrite.DELETE))
    assert kit.refused(namespace("team", NamespaceWrite.DELETE)).reason == "NOT_FOUND"
    assert kit.refused(namespace("default", NamespaceWrite.DELETE)).reason == "FAILED_PRECONDITION"


def told(kit: Kit) -> list[tuple[str, str, str]]:
    """(kind, namespace, message) of what was said of namespaces and settings."""
    kinds = ("namespace.", "settings.")
    return [(one.kind, one.namespace, one.message) for one in kit.state.events.after(0) if one.kind.startswith(kinds)]


def test_events_say_what_became_of_a_namespace() -> None:
    kit = Kit()
    kit.ok(namespace("team"))
    kit.ok(namespace("team", NamespaceWrite.SET, cpu_millis=8_000, memory_mib=16 * 1024))
    kit.ok(namespace("team", NamespaceWrite.SET, cpu_millis=-1, memory_mib=-1))
    kit.ok(namespace("team", NamespaceWrite.DELETE))
    assert told(kit) == [
        ("namespace.created", "team", "no quota"),
        ("namespace.changed", "team", "cpu=8, memory=16Gi"),
        ("namespace.changed", "team", "no quota"),
        ("namespace.deleted", "team", ""),
    ]


def test_a_namespace_that_holds_variables_stays_and_says_how_many_and_how_to_remove_them() -> None:
    kit = Kit()
    for space, name in (("team", "a"), ("team", "b"), ("other", "a")):
        kit.ok(namespace(space, NamespaceWrite.SET))
        kit.ok(WriteVariable(namespace=space, name=name, value="1"))
    refused = kit.refused(namespace("team", NamespaceWrite.DELETE))
    assert refused.reason == "FAILED_PRECONDITION"
    assert "'team' holds 2 variables: remove them first (raftsman -n team var delete NAME)" in refused.message
    for name in ("a", "b"):
        kit.ok(WriteVariable(namespace="team", name=name, value=None))
    kit.ok(namespace("team", NamespaceWrite.DELETE))
    assert sorted(kit.state.namespaces) == ["other"]


def test_limits_of_a_quota_are_0_to_2_to_the_53_and_a_change_may_lift_them() -> None:
    kit = Kit()
    kit.ok(namespace("team", jobs=0, cpu_millis=2**53))
    assert kit.refused(namespace("other", jobs=2**53 + 1)).reason == "INVALID"
    assert kit.refused(namespace("other", jobs=-1)).reason == "INVALID"
    assert kit.refused(namespace("team", NamespaceWrite.SET, jobs=-2)).reason == "INVALID"
    assert kit.refused(namespace("team", NamespaceWrite.SET, jobs=2**53 + 1)).reason == "INVALID"
    kit.ok(namespace("team", NamespaceWrite.SET, jobs=-1, memory_mib=0))
    assert kit.state.namespaces["team"].quota == Quota(cpu_millis=2**53, memory_mib=0)


def test_there_are_at_most_10_000_namespaces() -> None:
    kit = Kit()
    kit.state.namespaces.update(
        (name, Namespace(name=name, quota=Quota(), create_index=1, modify_index=1))
        for name in (f"n{at}" for at in range(9_999))
    )
    kit.ok(namespace("last"))
    assert kit.refused(namespace("one-more")).reason == "FAILED_PRECONDITION"
    kit.ok(namespace("n0", NamespaceWrite.SET, jobs=1))  # those that are there may be changed
    kit.ok(namespace("n1", NamespaceWrite.DELETE))
    kit.ok(namespace("one-more"))


def test_settings_that_are_set_already_change_nothing_and_say_nothing() -> None:
    kit = Kit()
    kit.ok(SetSettings(change=SettingsChange(strict_namespaces=True, preemption=False)))
    again = kit.ok(SetSettings(change=SettingsChange(preemption=False)))
    assert again.answer.changed is False  # type: ignore[union-attr]
    assert told(kit) == [("settings.changed", "", "preemption off, strict_namespaces on")]


def test_any_namespace_may_be_used_until_they_are_strict() -> None:
    kit = Kit()

    def use(name: str, space: str) -> Outcome:
        spec = replace(job(name), namespace=space)
        return kit.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"{space}-{name}"),)))

    assert not isinstance(use("a", "typo"), Rejected)
    kit.ok(SetSettings(change=SettingsChange(strict_namespaces=True)))
    refused = use("b", "typo")
    assert isinstance(refused, Rejected)
    assert "raftsman namespace create typo" in refused.message
    assert not isinstance(use("a", "typo"), Rejected)  # what is there goes on, and may be changed
    assert not isinstance(use("c", "default"), Rejected)
    variable = WriteVariable(namespace="other", name="x", value="1")
    assert kit.refused(variable).reason == "FAILED_PRECONDITION"
    kit.ok(namespace("other"))
    kit.ok(variable)


def test_variables_that_are_there_may_be_changed_and_any_may_be_removed_where_namespaces_are_strict() -> None:
    kit = Kit()
    kit.ok(WriteVariable(namespace="typo", name="x", value="1"))
    kit.ok(SetSettings(change=SettingsChange(strict_namespaces=True)))
    kit.ok(WriteVariable(namespace="typo", name="x", value="2"))
    kit.ok(WriteVariable(namespace="nowhere", name="x", value=None))
    kit.ok(WriteVariable(namespace="typo", name="x", value=None))
    assert kit.refused(WriteVariable(namespace="typo", name="x", value="3")).reason == "FAILED_PRECONDITION"


def test_namespaces_and_settings_are_part_of_the_snapshot_and_of_the_hash() -> None:
    kit = with_quota(cpu_millis=1_000)
    submit(kit, job("a"))
    kit.ok(SetSettings(change=SettingsChange(preemption=False)))
    again = restore(capture(kit.state))
    assert again.namespaces["default"] == Namespace(
        name="default", quota=Quota(cpu_millis=1_000), create_index=1, modify_index=1
    )
    assert again.settings.preemption is False
    assert again.usage.of("default") == kit.state.usage.of("default")
    before = state_hash(kit.state)
    again.namespaces["default"] = replace(again.namespaces["default"], quota=Quota(cpu_millis=2_000))
    assert state_hash(again) != before


def test_the_resources_of_quotas_and_usage_are_the_same() -> None:
    assert set(RESOURCES) == set(Quota.__dataclass_fields__) == set(Usage.__dataclass_fields__)
