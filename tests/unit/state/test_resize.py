"""A new version that changes only cpu and memory: what runs goes on with it where there is room."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import plan
from orchestrator.contract.model import (
    AllocState,
    Constraint,
    ConstraintOperator,
    ContainerSpec,
    GangSpec,
    GroupSpec,
    JobSpec,
    JobType,
    NodeSpec,
    Quota,
    TaskSpec,
)
from orchestrator.contract.rollouts import RolloutAction, UpdateSpec
from orchestrator.state import views
from orchestrator.state.commands import (
    Applied,
    DrainNode,
    EndRollouts,
    JobSubmission,
    MarkNodes,
    NamespaceWrite,
    NodeMark,
    PinImage,
    RollbackJob,
    RolloutVerdict,
    SetFeatureLevel,
    SteerRollout,
    StopJob,
    SubmitJobs,
    WriteNamespace,
)
from orchestrator.state.features import HELD_VERSIONS, HIGHEST, RESIZED_TWINS
from orchestrator.state.resize import may_resize
from orchestrator.state.snapshot import capture, restore
from tests.unit.state.kit import Kit, Placement, group, job, node

DIGEST, OTHER = (f"sha256:{digit * 64}" for digit in "ab")
ELSEWHERE = (Constraint(attribute="zone", operator=ConstraintOperator.EQUAL, values=("b",)),)


def submit(kit: Kit, spec: JobSpec, *, in_place: bool = True) -> None:
    outcome = kit.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"uid-{kit.state.index}", in_place=in_place),)))
    assert isinstance(outcome, Applied), outcome


def running(*, count: int = 2, kind: JobType = JobType.SERVICE, gang: GangSpec | None = None) -> Kit:
    """Two nodes with 1000 millicores each, and instances of 400 on the first."""
    kit = Kit()
    kit.register(node("n1"))
    kit.register(node("n2"))
    submit(kit, job("web", group(count=1 if kind is JobType.SYSTEM else count, cpu=400, gang=gang), kind=kind))
    kit.plan(*(Placement(f"web/api/{ordinal}", "n1") for ordinal in range(count)))
    for ordinal in range(count):
        kit.observe(f"web/api/{ordinal}", AllocState.RUNNING)
    return kit


def sizes(kit: Kit) -> list[tuple[int, int]]:
    """(version, cpu) of the job's live rows."""
    table = kit.state.table
    rows = kit.state.live_rows(0)
    return list(zip(table.version[rows].tolist(), table.cpu_millis[rows].tolist(), strict=True))


def outdated(kit: Kit) -> int:
    found = kit.state.find_job("default", "web")
    assert found is not None
    return sum(version < found.group_versions[0] for version, _ in sizes(kit))


def test_what_runs_belongs_to_the_new_version_and_its_agent_hears_of_it() -> None:
    kit = running()
    before = views.assignment(kit.state, kit.row("web/api/0"))
    submit(kit, job("web", group(count=2, cpu=500, memory=128)))
    assert sizes(kit) == [(2, 500), (2, 500)]
    assert outdated(kit) == 0
    after = views.assignment(kit.state, kit.row("web/api/0"))
    assert (after.key, after.job_version) == (before.key, 2)
    assert after.modify_index > before.modify_index
    assert after.group.tasks[0].resources.memory_mib == 128
    assert int(kit.state.ledger.cpu_millis[0]) == 1000
    restored = restore(capture(kit.state))
    assert restored.ledger.cpu_millis[0] == 1000
    assert [event.message for event in kit.state.events.after(0) if event.kind == "job.resized"] == [
        "version 2: 2 instances go on with the new cpu and memory"
    ]


def test_what_its_node_has_no_room_for_stays_outdated() -> None:
    kit = running()
    submit(kit, job("web", group(count=2, cpu=600)))
    assert sizes(kit) == [(2, 600), (1, 400)]
    assert outdated(kit) == 1


def test_smaller_always_fits_and_frees_room() -> None:
    kit = running()
    submit(kit, job("web", group(count=2, cpu=100)))
    assert sizes(kit) == [(2, 100), (2, 100)]
    assert int(kit.state.ledger.cpu_millis[0]) == 200


def test_a_count_may_change_with_it_and_surplus_keeps_its_version() -> None:
    kit = running()
    submit(kit, job("web", group(count=1, cpu=500)))
    assert sizes(kit) == [(2, 500), (1, 400)]


def test_limits_of_containers_are_part_of_it() -> None:
    kit = running()
    (one,) = group(count=2, cpu=400).tasks
    larger = replace(group(count=2, cpu=400), tasks=(replace(one, container=ContainerSpec(memory_max_mib=512)),))
    submit(kit, job("web", larger))
    assert outdated(kit) == 0


def _with(**change: object) -> GroupSpec:
    base = group(count=2, cpu=500)
    return replace(base, tasks=(replace(base.tasks[0], **change),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "after",
    [
        _with(image="apache"),
        _with(env=(("A", "b"),)),
        _with(container=ContainerSpec(read_only=True)),
        _with(driver="process", image="", command=("run",)),
        replace(group(count=2, cpu=500), tasks=(*group(cpu=500).tasks, TaskSpec(name="more", image="x"))),
    ],
    ids=["image", "environment", "other-setting", "driver", "another-task"],
)
def test_any_other_change_replaces_as_ever(after: GroupSpec) -> None:
    kit = running()
    submit(kit, job("web", after))
    assert outdated(kit) == 2


def _processes(memory: int) -> GroupSpec:
    base = group(count=2, cpu=400, memory=memory)
    return replace(base, tasks=(replace(base.tasks[0], image="", command=("run",)),))


def test_processes_go_on_only_where_their_node_can_change_them() -> None:
    kit = Kit()
    kit.register(replace(node("n1"), drivers=("process",), resizes_processes=True))
    kit.register(replace(node("n2"), drivers=("process",)))
    submit(kit, job("web", _processes(64)))
    kit.plan(Placement("web/api/0", "n1"), Placement("web/api/1", "n2"))
    for ordinal in range(2):
        kit.observe(f"web/api/{ordinal}", AllocState.RUNNING)
    submit(kit, job("web", _processes(128)))
    assert sizes(kit) == [(2, 400), (1, 400)]
    assert outdated(kit) == 1
    assert views.assignment(kit.state, kit.row("web/api/0")).group.tasks[0].resources.memory_mib == 128


def test_gangs_and_what_did_not_ask_for_it_are_replaced() -> None:
    gang = running(gang=GangSpec())
    submit(gang, job("web", group(count=2, cpu=500, gang=GangSpec())))
    assert outdated(gang) == 2
    unasked = running()
    submit(unasked, job("web", group(count=2, cpu=500)), in_place=False)
    assert outdated(unasked) == 2


def test_what_is_being_stopped_or_is_on_a_lost_node_is_left_alone() -> None:
    kit = running()
    kit.stop("web/api/0")
    submit(kit, job("web", group(count=2, cpu=450)))
    assert sizes(kit) == [(1, 400), (2, 450)]


def test_system_jobs_grow_in_place_where_no_quota_counts_them() -> None:
    kit = running(count=1, kind=JobType.SYSTEM)
    submit(kit, job("web", group(count=1, cpu=500), kind=JobType.SYSTEM))
    assert outdated(kit) == 0
    kit.ok(WriteNamespace(name="default", kind=NamespaceWrite.SET, quota=Quota(cpu_millis=550)))
    submit(kit, job("web", group(count=1, cpu=600), kind=JobType.SYSTEM))
    assert outdated(kit) == 1


def test_what_goes_on_and_what_is_replaced_run_the_same_digest() -> None:
    kit = running()
    found = kit.state.find_job("default", "web")
    assert found is not None
    kit.ok(PinImage(job_uid=found.uid, group="api", version=1, image="nginx", digest=DIGEST))
    submit(kit, job("web", group(count=2, cpu=600)))
    for ordinal in range(2):
        assert dict(views.assignment(kit.state, kit.row(f"web/api/{ordinal}")).digests) == {"nginx": DIGEST}


def test_a_rollout_that_only_resizes_is_over_at_once_and_remembers_what_was() -> None:
    kit = running()

    def remembered(spec: JobSpec) -> None:
        one = JobSubmission(spec=spec, uid=f"uid-{kit.state.index}", in_place=True, remember=True)
        kit.ok(SubmitJobs(jobs=(one,)))

    remembered(job("web", group(count=2, cpu=500)))
    found = kit.state.find_job("default", "web")
    assert found is not None
    assert found.rollout is not None
    assert [revision.version for revision in found.history] == [1]
    decision = plan.decide(views.cluster_view(kit.state), kit.now_ms)
    assert decision.plans == ()
    assert [(one.version, one.succeeded) for one in decision.verdicts] == [(2, True)]


def test_canaries_are_looked_at_first() -> None:
    kit = running()
    kit.submit(job("web", replace(group(count=2, cpu=400), update=UpdateSpec(canaries=1))))
    submit(kit, job("web", replace(group(count=2, cpu=300), update=UpdateSpec(canaries=1))))
    assert outdated(kit) == 2


def remembering(update: UpdateSpec | None = None, *, level: int = HELD_VERSIONS) -> Kit:
    """As ``running``, and the job remembers its versions."""
    kit = Kit()
    kit.ok(SetFeatureLevel(level=level))
    kit.register(node("n1"))
    kit.register(node("n2"))
    change(kit, 400, update)
    kit.plan(*(Placement(f"web/api/{ordinal}", "n1") for ordinal in range(2)))
    for ordinal in range(2):
        kit.observe(f"web/api/{ordinal}", AllocState.RUNNING)
    return kit


def change(kit: Kit, cpu: int, update: UpdateSpec | None = None, image: str = "nginx") -> None:
    spec = job("web", replace(group(count=2, cpu=cpu, image=image), update=update))
    one = JobSubmission(spec=spec, uid=f"uid-{kit.state.index}", in_place=True, remember=True)
    kit.ok(SubmitJobs(jobs=(one,)))


def attempts(kit: Kit) -> list[int]:
    found: list[int] = kit.state.table.attempt[kit.state.live_rows(0)].tolist()
    return found


@pytest.mark.parametrize("version", [0, 1])
def test_going_back_to_other_sizes_restarts_nothing_either(version: int) -> None:
    """It replaced what a submission of the same text leaves running."""
    kit = remembering()
    change(kit, 300)
    kit.ok(RollbackJob(namespace="default", name="web", version=version))
    assert sizes(kit) == [(3, 400), (3, 400)]
    assert outdated(kit) == 0 and attempts(kit) == [1, 1]
    assert int(kit.state.ledger.cpu_millis[0]) == 800
    decision = plan.decide(views.cluster_view(kit.state), kit.now_ms)
    assert decision.plans == () and [one.succeeded for one in decision.verdicts] == [True]


def test_before_all_peers_know_of_it_going_back_replaces_what_runs() -> None:
    kit = remembering(level=HELD_VERSIONS - 1)
    change(kit, 300)
    kit.ok(RollbackJob(namespace="default", name="web"))
    assert sizes(kit) == [(2, 300), (2, 300)] and outdated(kit) == 2


def test_what_waits_is_resized_once_it_is_promoted_and_goes_on_not_before() -> None:
    update = UpdateSpec(canaries=1)
    kit = remembering(update)
    change(kit, 300, update)
    seen = []
    for action in ("PAUSE", "RESUME", "PAUSE", "PROMOTE", "RESUME"):
        kit.ok(SteerRollout(namespace="default", name="web", action=RolloutAction[action]))
        seen.append(sizes(kit))
    assert seen == [[(1, 400)] * 2] * 4 + [[(2, 300)] * 2]


def test_what_is_known_needs_no_canary_to_go_back_in_place() -> None:
    update = UpdateSpec(canaries=1)
    kit = remembering(update)
    change(kit, 300, update)
    assert outdated(kit) == 2, "canaries come first"
    kit.ok(SteerRollout(namespace="default", name="web", action=RolloutAction.PROMOTE))
    kit.ok(RollbackJob(namespace="default", name="web"))
    assert sizes(kit) == [(3, 400), (3, 400)] and attempts(kit) == [1, 1]


def outdated_now(kit: Kit) -> int:
    """By the twins of the present version, too."""
    found = kit.state.find_job("default", "web")
    assert found is not None
    twins = found.twins[0] if found.twins else ()
    return sum(version < found.group_versions[0] and version not in twins for version, _ in sizes(kit))


@pytest.mark.parametrize("canaries", [0, 1])
def test_a_failed_change_of_sizes_is_taken_back_in_place(canaries: int) -> None:
    update = UpdateSpec(auto_revert=True, canaries=canaries)
    kit = remembering(update)
    change(kit, 550, update)  # n1 has room for one of them
    if canaries:
        kit.ok(SteerRollout(namespace="default", name="web", action=RolloutAction.PROMOTE))
    assert sorted(sizes(kit)) == [(1, 400), (2, 550)]
    found = kit.state.find_job("default", "web")
    assert found is not None and found.rollout is not None
    verdict = RolloutVerdict(
        uid=found.uid, version=2, succeeded=False, reason="no", progress_ms=found.rollout.progress_ms
    )
    kit.ok(EndRollouts(verdicts=(verdict,)))
    assert sorted(sizes(kit)) == [(1, 400), (3, 400)]
    assert attempts(kit) == [1, 1] and outdated_now(kit) == 0


def test_nothing_is_resized_before_its_version_is_promoted_and_what_waited_is_then() -> None:
    """Whatever the canaries were to show: the others of their group and of others go on with the new sizes."""
    update = UpdateSpec(canaries=1, max_unavailable=1)
    kit = remembering(update)

    def together(cpu: int, side: int) -> None:
        spec = job("web", replace(group(count=2, cpu=cpu), update=update), group("side", count=1, cpu=side))
        kit.ok(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="uid-x", in_place=True, remember=True),)))

    together(400, 100)
    kit.plan(Placement("web/side/0", "n2"))
    kit.observe("web/side/0", AllocState.RUNNING)
    together(300, 200)
    assert sorted(sizes(kit)) == [(1, 400), (1, 400), (2, 100)]
    kit.observe("web/api/0", AllocState.STOPPED)
    kit.plan(Placement("web/api/0", "n1"))
    kit.observe("web/api/0", AllocState.RUNNING)
    assert sorted(sizes(kit)) == [(1, 400), (2, 100), (3, 300)]
    kit.ok(SteerRollout(namespace="default", name="web", action=RolloutAction.PROMOTE))
    assert sorted(sizes(kit)) == [(3, 200), (3, 300), (3, 300)]
    restored = restore(capture(kit.state))
    assert int(restored.ledger.cpu_millis[0]) == 600 and int(restored.ledger.cpu_millis[1]) == 200


def pin(kit: Kit, version: int, digest: str) -> None:
    (uid,) = kit.state.jobs
    kit.ok(PinImage(job_uid=uid, group="api", version=version, image="nginx", digest=digest))


@pytest.mark.parametrize("level", [RESIZED_TWINS - 1, RESIZED_TWINS])
def test_what_still_runs_an_older_version_with_the_content_of_now_is_resized_too(level: int) -> None:
    """Version 2 was taken back before anything was replaced: both run version 1, which is what 3 is."""
    kit = remembering(level=level)
    pin(kit, 1, DIGEST)
    change(kit, 400, image="apache")
    change(kit, 400)
    assert outdated_now(kit) == 0
    change(kit, 300)
    done = level == RESIZED_TWINS
    assert sizes(kit) == [(4, 300) if done else (1, 400)] * 2
    assert outdated_now(kit) == (0 if done else 2)
    assert int(kit.state.ledger.cpu_millis[0]) == (600 if done else 800)
    if done:
        kit.observe("web/api/1", AllocState.STOPPED)
        kit.plan(Placement("web/api/1", "n2"))
        for ordinal in range(2):
            assert views.assignment(kit.state, kit.row(f"web/api/{ordinal}")).digests == (("nginx", DIGEST),)


def test_of_two_digests_that_go_on_together_the_newer_counts() -> None:
    kit = remembering(level=RESIZED_TWINS)
    pin(kit, 1, DIGEST)
    change(kit, 400, image="apache")
    change(kit, 400)
    kit.observe("web/api/1", AllocState.STOPPED)
    kit.plan(Placement("web/api/1", "n1"))
    pin(kit, 3, OTHER)
    change(kit, 300)
    assert sizes(kit) == [(4, 300)] * 2
    for ordinal in range(2):
        assert views.assignment(kit.state, kit.row(f"web/api/{ordinal}")).digests == (("nginx", OTHER),)
    (found,) = kit.state.jobs.values()
    assert [one.digest for one in found.pins if one.version == 4] == [OTHER]


@pytest.mark.parametrize(("level", "digest"), [(RESIZED_TWINS - 1, DIGEST), (HIGHEST, OTHER)])
def test_the_digest_that_canaries_settled_stays_when_the_others_become_of_their_version(
    level: int, digest: str
) -> None:
    """It was given up for that of the version before, so a canary was told another one than it runs."""
    update = UpdateSpec(canaries=1, max_unavailable=1)
    kit = remembering(update, level=level)
    pin(kit, 1, DIGEST)
    change(kit, 300, update)
    kit.observe("web/api/0", AllocState.STOPPED)
    kit.plan(Placement("web/api/0", "n1"))
    pin(kit, 2, OTHER)
    kit.ok(SteerRollout(namespace="default", name="web", action=RolloutAction.PROMOTE))
    assert sorted(sizes(kit)) == [(2, 300)] * 2
    for ordinal in range(2):
        assert dict(views.assignment(kit.state, kit.row(f"web/api/{ordinal}")).digests) == {"nginx": digest}


# ---------------------------------------------------------------------------- what fits, and what is not looked at


@pytest.mark.parametrize(
    ("cpu", "memory", "moved"),
    [
        (500, 64, 2),
        (501, 64, 1),
        (601, 64, 0),
        (400, 512, 2),
        (400, 513, 1),
        (400, 961, 0),
        (500, 512, 2),
        (600, 961, 0),
    ],
)
def test_rows_move_one_by_one_as_far_as_their_node_has_the_difference(cpu: int, memory: int, moved: int) -> None:
    """The node has 1000 millicores and 1024 MiB; two instances hold 400 and 64 of it each."""
    kit = running()
    submit(kit, job("web", group(count=2, cpu=cpu, memory=memory)))
    assert sizes(kit) == [(2, cpu)] * moved + [(1, 400)] * (2 - moved)
    used = (int(kit.state.ledger.cpu_millis[0]), int(kit.state.ledger.memory_mib[0]))
    assert used == (800 + moved * (cpu - 400), 128 + moved * (memory - 64))


@pytest.mark.parametrize(
    ("smaller", "cpu", "memory"),
    [
        (node("n1", cpu=500), 400, 128),
        (node("n1", cpu=500), 300, 128),
        (node("n1", memory=100), 450, 64),
        (node("n1", memory=100), 450, 32),
    ],
)
def test_of_what_a_node_has_too_little_only_more_is_refused(smaller: NodeSpec, cpu: int, memory: int) -> None:
    """It came back smaller than what it holds, which is 800 millicores and 128 MiB."""
    kit = running()
    kit.register(smaller)
    submit(kit, job("web", group(count=2, cpu=cpu, memory=memory)))
    assert sizes(kit) == [(2, cpu)] * 2


def test_what_is_on_a_lost_node_is_left_as_it_was() -> None:
    kit = running(count=1)
    registered = kit.state.nodes["n1"].register_index
    kit.ok(MarkNodes(lost=(NodeMark(node_id="n1", register_index=registered),)))
    submit(kit, job("web", group(count=1, cpu=300)))
    assert sizes(kit) == [(1, 400)]


def test_a_service_may_be_resized_whatever_quota_its_namespace_has() -> None:
    """What it asks for is held against it when it is submitted."""
    kit = running()
    kit.ok(WriteNamespace(name="default", kind=NamespaceWrite.SET, quota=Quota(cpu_millis=900)))
    submit(kit, job("web", group(count=2, cpu=450)))
    assert sizes(kit) == [(2, 450)] * 2


@pytest.mark.parametrize(
    "after",
    [
        replace(job("web", group(count=2, cpu=300)), constraints=ELSEWHERE),
        job("web", group(count=2, cpu=300), kind=JobType.BATCH),
        job("web", group("other", count=2, cpu=300)),
    ],
    ids=["constraints", "type", "no such group before"],
)
def test_a_job_that_changes_in_other_ways_is_replaced(after: JobSpec) -> None:
    kit = running()
    submit(kit, after)
    assert sizes(kit) == [(1, 400)] * 2


def test_a_count_alone_moves_nothing() -> None:
    kit = running()
    submit(kit, job("web", group(count=3, cpu=400)))
    assert sizes(kit) == [(1, 400)] * 2
    assert "job.resized" not in kit.kinds()


def test_a_policy_without_canaries_is_no_reason_to_replace() -> None:
    kit = running()
    submit(kit, job("web", replace(group(count=2, cpu=300), update=UpdateSpec(max_unavailable=1))))
    assert sizes(kit) == [(2, 300)] * 2


WEB = job("web", group(cpu=400), group("side", cpu=100))


@pytest.mark.parametrize(
    ("spec", "may"),
    [
        (WEB, False),
        (job("web", group(cpu=300), group("side", cpu=100)), True),
        (job("web", group(cpu=400), group("side", cpu=200)), True),
        (job("web", group(cpu=300), group("new", cpu=100)), True),
        (job("web", group(cpu=400), group("new", cpu=100)), False),
        (job("web", group(cpu=300, image="apache"), group("side", cpu=100)), False),
        (job("none", group(cpu=300)), False),
    ],
    ids=["equal", "first", "second", "first, beside a new one", "a new one", "image, too", "no such job"],
)
def test_a_proposer_asks_for_it_where_a_group_that_is_there_changes_in_size_alone(spec: JobSpec, may: bool) -> None:
    kit = Kit()
    kit.submit(WEB)
    assert may_resize(kit.state, spec) is may


def test_a_proposer_does_not_ask_for_it_of_a_job_that_is_stopped() -> None:
    kit = Kit()
    kit.submit(WEB)
    kit.ok(StopJob(namespace="default", name="web"))
    assert not may_resize(kit.state, job("web", group(cpu=300), group("side", cpu=100)))


# ---------------------------------------------------------------------------- what is promoted

CAREFUL = UpdateSpec(canaries=1, max_unavailable=1)


def api(cpu: int, *, count: int = 2, image: str = "nginx", update: UpdateSpec = CAREFUL) -> GroupSpec:
    return replace(group(count=count, cpu=cpu, image=image), update=update)


def versions(*specs: JobSpec, level: int = RESIZED_TWINS) -> Kit:
    """The first one runs with all its instances on n1; the others are submitted one after the other."""
    kit = Kit()
    kit.ok(SetFeatureLevel(level=level))
    kit.register(node("n1"))
    kit.register(node("n2"))
    for number, spec in enumerate(specs):
        kit.ok(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="uid-web", in_place=True, remember=True),)))
        if not number:
            names = [f"web/{one.name}/{ordinal}" for one in spec.groups for ordinal in range(one.count)]
            kit.plan(*(Placement(name, "n1") for name in names))
            for name in names:
                kit.observe(name, AllocState.RUNNING)
    return kit


def promote(kit: Kit) -> None:
    kit.ok(SteerRollout(namespace="default", name="web", action=RolloutAction.PROMOTE))


OLD = job("web", api(400), group("side", cpu=100))


@pytest.mark.parametrize(
    ("before", "after", "then"),
    [
        (OLD, job("web", api(300), group("side", cpu=100)), [(2, 300), (2, 300), (1, 100)]),
        (OLD, job("web", api(300), group("side", cpu=50)), [(2, 300), (2, 300), (2, 50)]),
        (OLD, job("web", api(300, count=1), group("side", cpu=100)), [(2, 300), (1, 400), (1, 100)]),
        (OLD, job("web", api(300), group("side", cpu=50, image="apache")), [(2, 300), (2, 300), (1, 100)]),
        (
            OLD,
            replace(job("web", api(300), group("side", cpu=50)), constraints=ELSEWHERE),
            [(1, 400), (1, 400), (1, 100)],
        ),
        (
            job("web", group(count=2, cpu=400), group("side", cpu=100), kind=JobType.BATCH),
            job("web", api(300), group("side", cpu=50)),
            [(1, 400), (1, 400), (1, 100)],
        ),
    ],
    ids=["one group", "both", "fewer", "image of one", "constraints", "type"],
)  # fmt: skip
def test_a_promotion_gives_the_new_sizes_to_what_differs_in_nothing_else(
    before: JobSpec, after: JobSpec, then: list[tuple[int, int]]
) -> None:
    kit = versions(before, after)
    was = sizes(kit)
    assert [version for version, _ in was] == [1, 1, 1]
    promote(kit)
    assert sizes(kit) == then
    moved = sum(version == 2 for version, _ in then)
    said = "1 instance goes" if moved == 1 else f"{moved} instances go"
    assert [event.message for event in kit.state.events.after(0) if event.kind == "job.resized"] == (
        [f"version 2: {said} on with the new cpu and memory"] if moved else []
    )


def test_where_a_drain_has_brought_a_successor_neither_of_the_two_is_resized() -> None:
    """One of them goes; the other one is replaced as in any rollout."""
    surging = UpdateSpec(canaries=1, max_surge=1, max_unavailable=0)
    kit = versions(job("web", api(400, update=surging)))
    kit.ok(DrainNode(node_id="n1"))
    kit.place("web/api/0", "n2")
    kit.ok(SubmitJobs(jobs=(JobSubmission(spec=job("web", api(300, update=surging)), uid="uid-web", remember=True),)))
    assert sorted(sizes(kit)) == [(1, 400)] * 3
    promote(kit)
    assert sorted(sizes(kit)) == [(1, 400), (1, 400), (2, 300)]
    assert [kit.alloc("web/api/0", attempt).job_version for attempt in (1, 2)] == [1, 1]


def test_before_versions_were_held_back_only_groups_with_canaries_waited_and_promoting_resized_none() -> None:
    kit = versions(OLD, job("web", api(300), group("side", cpu=50)), level=HELD_VERSIONS - 1)
    assert sizes(kit) == [(1, 400), (1, 400), (2, 50)]
    promote(kit)
    assert sizes(kit) == [(1, 400), (1, 400), (2, 50)]
