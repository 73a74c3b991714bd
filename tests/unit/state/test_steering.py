"""What people and the leader may say of a rollout, where it stands; going back by itself, and when not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.api.observed import recorded
from orchestrator.contract import codec
from orchestrator.contract.model import AllocState, Desired, JobSpec, JobType, Observation, Quota
from orchestrator.contract.rollouts import Rollout, RolloutAction, RolloutStatus, UpdateSpec
from orchestrator.contract.v1 import agent_pb2
from orchestrator.state import views
from orchestrator.state.commands import (
    Action,
    EndRollouts,
    JobAnswer,
    JobsAnswer,
    JobSubmission,
    NamespaceWrite,
    PlanAnswer,
    RestartJob,
    RollbackJob,
    RolloutVerdict,
    ScaleJob,
    SetFeatureLevel,
    SteerRollout,
    StopJob,
    SubmitJobs,
    WriteNamespace,
)
from orchestrator.state.features import HELD_VERSIONS, PAUSED_PROMOTIONS
from orchestrator.state.model import Job
from tests.unit.state.kit import Kit, Placement, group, job, node

PAUSE, RESUME, PROMOTE = RolloutAction.PAUSE, RolloutAction.RESUME, RolloutAction.PROMOTE
RUNNING, PAUSED, SUCCEEDED, FAILED = (
    RolloutStatus.RUNNING,
    RolloutStatus.PAUSED,
    RolloutStatus.SUCCEEDED,
    RolloutStatus.FAILED,
)
REVERTS = UpdateSpec(auto_revert=True)


def web(image: str, *, count: int = 2, update: UpdateSpec | None = None, cpu: int = 100) -> JobSpec:
    return job("web", replace(group(count=count, image=image, cpu=cpu), update=update))


def submit(kit: Kit, spec: JobSpec) -> None:
    kit.ok(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="uid-web", remember=True),)))


def rolling(
    update: UpdateSpec | None = None, *, level: int = PAUSED_PROMOTIONS, placed: bool = True, cpu: int = 100
) -> Kit:
    """Version 2 of a service of two is rolled out (which asks for ``cpu``); version 1 runs."""
    kit = Kit()
    kit.ok(SetFeatureLevel(level=level))
    kit.register(node("n1", cpu=100_000, memory=100_000))
    submit(kit, web("one", update=update))
    if placed:
        run(kit)
    submit(kit, web("two", update=update, cpu=cpu))
    return kit


def run(kit: Kit) -> None:
    kit.plan(Placement("web/api/0", "n1"), Placement("web/api/1", "n1"))
    for ordinal in (0, 1):
        kit.observe(f"web/api/{ordinal}", AllocState.RUNNING)


def the(kit: Kit) -> Job:
    found = kit.state.find_job("default", "web")
    assert found is not None
    return found


def rollout(kit: Kit) -> Rollout:
    found = the(kit).rollout
    assert found is not None
    return found


def stand(kit: Kit, **said: object) -> None:
    """The rollout stands so."""
    kit.state.put_job(replace(the(kit), rollout=replace(rollout(kit), **said)))  # type: ignore[arg-type]


def steer(action: RolloutAction) -> SteerRollout:
    return SteerRollout(namespace="default", name="web", action=action)


def told(kit: Kit) -> list[tuple[str, str]]:
    kinds = ("rollout.", "job.rolled-back")
    return [(one.kind, one.message) for one in kit.state.events.after(0) if one.kind.startswith(kinds)]


# ---------------------------------------------------------------------------- people


@pytest.mark.parametrize(
    ("status", "action", "after", "kind"),
    [
        (RUNNING, PAUSE, PAUSED, "rollout.paused"),
        (PAUSED, RESUME, RUNNING, "rollout.resumed"),
        (FAILED, RESUME, RUNNING, "rollout.resumed"),
        (RUNNING, PROMOTE, RUNNING, "rollout.promoted"),
        (PAUSED, PROMOTE, PAUSED, "rollout.promoted"),
    ],
)
def test_a_rollout_is_steered_and_counts_its_time_from_then_on(
    status: RolloutStatus, action: RolloutAction, after: RolloutStatus, kind: str
) -> None:
    kit = rolling()
    stand(kit, status=status, reason="it was so", promoted=False)
    kit.ok(steer(action))
    found = rollout(kit)
    assert (found.status, found.promoted) == (after, action is PROMOTE)
    assert found.reason == ("" if action is RESUME else "it was so")
    assert found.progress_ms == kit.state.time_ms
    assert the(kit).modify_index == kit.state.index
    assert told(kit) == [(kind, "version 2")]


@pytest.mark.parametrize(("status", "action"), [(PAUSED, PAUSE), (RUNNING, RESUME)])
def test_what_stands_so_already_changes_nothing(status: RolloutStatus, action: RolloutAction) -> None:
    kit = rolling()
    stand(kit, status=status)
    before = rollout(kit)
    assert kit.ok(steer(action)).answer.changed is False  # type: ignore[union-attr]
    assert (rollout(kit), told(kit)) == (before, [])


@pytest.mark.parametrize(
    ("status", "action", "word"),
    [
        (SUCCEEDED, PAUSE, "has succeeded"),
        (FAILED, PAUSE, "has failed"),
        (SUCCEEDED, RESUME, "has succeeded"),
        (SUCCEEDED, PROMOTE, "has succeeded"),
        (FAILED, PROMOTE, "has failed"),
    ],
)
def test_what_has_ended_is_not_steered(status: RolloutStatus, action: RolloutAction, word: str) -> None:
    kit = rolling()
    stand(kit, status=status, promoted=False)
    before = rollout(kit)
    refused = kit.refused(steer(action))
    assert (refused.reason, refused.message) == (
        "FAILED_PRECONDITION",
        f"job 'web': the rollout of version 2 {word}",
    )
    assert (rollout(kit), told(kit)) == (before, [])


def test_canaries_are_promoted_once_and_a_promotion_ended_a_pause_before_all_peers_knew_better() -> None:
    kit = rolling()
    stand(kit, promoted=True)
    refused = kit.refused(steer(PROMOTE))
    assert (refused.reason, refused.message) == ("FAILED_PRECONDITION", "job 'web' has no canaries that wait")
    kit = rolling(level=PAUSED_PROMOTIONS - 1)
    stand(kit, status=PAUSED, promoted=False)
    kit.ok(steer(PROMOTE))
    assert (rollout(kit).status, rollout(kit).promoted) == (RUNNING, True)


def test_only_a_job_at_work_of_which_something_is_rolled_out_is_steered() -> None:
    kit = rolling()
    assert kit.refused(replace(steer(PAUSE), name="nobody")).reason == "NOT_FOUND"
    kit.ok(StopJob(namespace="default", name="web"))
    assert kit.refused(steer(PAUSE)).reason == "FAILED_PRECONDITION"
    kit = Kit()
    kit.submit(web("one"))
    refused = kit.refused(steer(PAUSE))
    assert (refused.reason, refused.message) == ("FAILED_PRECONDITION", "job 'web': nothing is being rolled out")


def test_a_job_from_before_rollouts_were_remembered_is_steered_while_something_of_it_is_outdated() -> None:
    kit = Kit()
    kit.register(node("n1", cpu=100_000, memory=100_000))
    kit.submit(web("one"))
    run(kit)
    kit.submit(web("two"))
    assert the(kit).rollout is None
    kit.ok(steer(PAUSE))
    now_ms = kit.state.time_ms
    assert rollout(kit) == Rollout(version=2, began_version=2, status=PAUSED, began_ms=now_ms, progress_ms=now_ms)
    assert the(kit).tracked


# ---------------------------------------------------------------------------- back


def test_a_rollback_is_a_version_of_its_own_that_waits_for_no_canaries() -> None:
    kit = rolling(UpdateSpec(canaries=1))
    assert not rollout(kit).promoted
    answer = kit.ok(RollbackJob(namespace="default", name="web")).answer
    assert answer == JobsAnswer(jobs=(JobAnswer(uid="uid-web", version=3, changed=True),))
    assert the(kit).spec.groups[0].tasks[0].image == "one"
    assert rollout(kit).promoted
    assert told(kit) == [("job.rolled-back", "version 3, as version 1 was")]
    assert end(kit, verdict(kit, succeeded=True)), "what still runs version 1 is as it should be"


@pytest.mark.parametrize("level", [HELD_VERSIONS - 1, HELD_VERSIONS])
def test_a_rollback_that_replaces_nothing_leaves_no_canary_waiting(level: int) -> None:
    """The version that is left only added a group: nothing of what remains is changed by going back."""
    kit = Kit()
    kit.ok(SetFeatureLevel(level=level))
    submit(kit, job("web", group("api")))
    submit(kit, job("web", group("api"), replace(group("side"), update=UpdateSpec(canaries=1))))
    assert not rollout(kit).promoted
    kit.ok(RollbackJob(namespace="default", name="web", version=1))
    assert [one.name for one in the(kit).spec.groups] == ["api"]
    assert (rollout(kit).promoted, the(kit).modify_index) == (True, kit.state.index)


def test_a_version_that_was_of_another_type_is_gone_back_to_and_is_rolled_out_no_more() -> None:
    kit = Kit()
    submit(kit, job("web", kind=JobType.BATCH))
    submit(kit, job("web"))
    kit.ok(RollbackJob(namespace="default", name="web", version=1))
    assert (the(kit).spec.type, the(kit).rollout) == (JobType.BATCH, None)


CAREFUL = UpdateSpec(canaries=1)


@pytest.mark.parametrize(
    ("first", "second", "third", "waits"),
    [
        (("api",), ("api", "side"), ("api",), False),
        (("api", "db"), ("api", "side"), ("api",), True),
        (("api",), ("api two", "side"), ("api two",), True),
    ],
    ids=["all is as before", "a group that is gone would go", "another group waits, too"],
)
def test_a_submission_that_takes_back_what_waits_ends_the_wait_unless_something_else_does(
    first: tuple[str, ...], second: tuple[str, ...], third: tuple[str, ...], waits: bool
) -> None:
    kit = Kit()
    kit.ok(SetFeatureLevel(level=HELD_VERSIONS))
    for names in (first, second, third):
        groups = [group(name.split()[0], image=name) for name in names]
        submit(kit, job("web", *(replace(one, update=CAREFUL) for one in groups)))
    assert (the(kit).version, rollout(kit).promoted) == (3, not waits)


def test_one_plan_places_as_many_canaries_as_may_be_and_the_rest_at_the_version_before() -> None:
    groups = [group("api", count=3), group("db", count=3)]
    kit = Kit()
    kit.ok(SetFeatureLevel(level=HELD_VERSIONS))
    kit.register(node("n1", cpu=100_000, memory=100_000))
    submit(kit, job("web", *(replace(one, update=CAREFUL) for one in groups)))
    changed = [replace(group(one.name, count=3, image="two"), update=CAREFUL) for one in groups]
    submit(kit, job("web", *changed))
    asked = [Placement(f"web/{name}/{ordinal}", "n1") for name in ("api", "db") for ordinal in range(2)]
    kit.submit(job("plain"))
    before = (Placement(f"web/{name}/2", "n1", version=1) for name in ("api", "db"))
    answer = kit.plan(Placement("plain/api/0", "n1"), *asked, *before)
    assert answer.placed == 5
    assert [text.partition(":")[0] for text in answer.rejected] == ["web/api/1", "web/db/1"]
    assert all("waits for its promotion: 1 of 3 may be of it" in text for text in answer.rejected)
    kit.ok(steer(PROMOTE))
    (text,) = kit.plan(Placement("web/api/1", "n1", version=1)).rejected
    assert text.startswith("web/api/1: "), "nothing is placed at the version before any more"
    assert kit.plan(*asked[1::2]).placed == 2


def test_rows_of_two_versions_in_one_plan_hold_what_each_asks_for_and_are_named_by_it() -> None:
    kit = Kit()
    kit.ok(SetFeatureLevel(level=HELD_VERSIONS))
    kit.register(node("n1", cpu=100_000, memory=100_000))
    careful = replace(group("api", count=3, cpu=10, ports=(0,)), update=CAREFUL)
    submit(kit, job("web", group("old", 2, cpu=30), careful))
    submit(kit, job("web", replace(careful, tasks=group("api", cpu=200, gpus=0, image="two").tasks, ports=())))
    answer = kit.plan(
        Placement("web/api/0", "n1"),
        Placement("web/old/0", "n1", version=1),  # the first group of that version
        Placement("web/old/5", "n1", version=1),
        Placement("web/old/1", "n1", version=1),
    )
    assert answer == PlanAnswer(placed=3, acted=0, rejected=("web/old/5: the ordinal is not below the count",))
    rows = [(kit.alloc(name).job_version, kit.alloc(name).resources.cpu_millis) for name in ("web/api/0", "web/old/1")]
    assert rows == [(2, 200), (1, 30)]
    told = [(one.allocation, one.attempt) for one in kit.state.events.after(0) if one.kind == "alloc.placed"]
    assert told == [("web/api/0", 1), ("web/old/0", 1), ("web/old/1", 1)]


def test_only_the_version_that_is_held_is_placed_beside_the_newest_and_by_its_own_groups() -> None:
    kit = Kit()
    kit.ok(SetFeatureLevel(level=HELD_VERSIONS))
    kit.register(node("n1", cpu=100_000, memory=100_000))
    careful = replace(group("api"), update=CAREFUL)
    submit(kit, job("web", careful, group("old")))
    submit(kit, job("web", replace(group("api", image="two"), update=CAREFUL)))
    for version, number, said in (
        (1, 1, ()),
        (3, 0, "another version"),
        (2, 1, "no such group"),
        (1, 2, "no such group"),
    ):
        plan = kit.make_plan(Placement("web/old/0", "n1", version=version))
        numbers = np.array([number], dtype=np.int32)
        answer = kit.ok(replace(plan, placements=replace(plan.placements, group=numbers))).answer
        assert isinstance(answer, PlanAnswer)
        assert answer.placed == (1 if not said else 0)
        assert not said or said in answer.rejected[0]


def test_a_group_of_none_needs_no_canary() -> None:
    kit = Kit()
    for image in ("one", "two"):
        submit(kit, web(image, count=0, update=CAREFUL))
    assert rollout(kit).promoted


def test_a_restart_replaces_everything_of_a_job_that_remembers_too() -> None:
    kit = rolling(placed=False)
    run(kit)
    kit.ok(RestartJob(namespace="default", name="web"))
    assert (the(kit).version, the(kit).group_versions) == (3, (3,))
    assert not end(kit, verdict(kit, succeeded=True)), "all of it is outdated"


def test_there_is_a_version_to_go_back_to_or_the_rollback_is_refused() -> None:
    kit = rolling()
    back = RollbackJob(namespace="default", name="web")
    assert kit.refused(replace(back, name="nobody")).reason == "NOT_FOUND"
    refused = kit.refused(replace(back, version=7))
    assert (refused.reason, "version 7 of job 'web' is not remembered" in refused.message) == (
        "FAILED_PRECONDITION",
        True,
    )
    kit.ok(back)  # version 3 is what version 1 was
    refused = kit.refused(replace(back, version=1))
    assert (refused.reason, refused.message) == ("FAILED_PRECONDITION", "version 1 is what job 'web' is now")
    kit.ok(WriteNamespace(name="default", kind=NamespaceWrite.SET, quota=Quota(cpu_millis=50)))
    submit(kit, web("small", cpu=10))
    assert kit.refused(replace(back, version=2)).reason == "QUOTA_EXCEEDED"
    assert the(kit).version == 4


# ---------------------------------------------------------------------------- the leader's verdicts


def verdict(kit: Kit, *, succeeded: bool = False, **said: object) -> RolloutVerdict:
    one = RolloutVerdict(
        uid="uid-web", version=rollout(kit).version, succeeded=succeeded, progress_ms=rollout(kit).progress_ms
    )
    return replace(one, **said)  # type: ignore[arg-type]


def end(kit: Kit, *verdicts: RolloutVerdict) -> bool:
    """Whether anything changed."""
    return bool(kit.ok(EndRollouts(verdicts=verdicts)).answer.changed)  # type: ignore[union-attr]


def test_a_rollout_has_succeeded_once_nothing_is_outdated() -> None:
    kit = rolling()
    assert not end(kit, verdict(kit, succeeded=True))
    for ordinal in (0, 1):
        kit.observe(f"web/api/{ordinal}", AllocState.STOPPED)
    run(kit)
    assert end(kit, verdict(kit, succeeded=True, progress_ms=0))
    assert (rollout(kit).status, rollout(kit).promoted, the(kit).stable_version) == (SUCCEEDED, True, 2)
    assert the(kit).modify_index == kit.state.index
    assert told(kit) == [("rollout.succeeded", "version 2")]
    assert not end(kit, verdict(kit, succeeded=True))


@pytest.mark.parametrize(
    ("base", "promoted", "succeeds"), [(1, False, False), (1, True, True), (0, False, True), (0, True, True)]
)
def test_what_is_held_back_has_not_succeeded_before_its_promotion(base: int, promoted: bool, succeeds: bool) -> None:
    """Nothing is outdated; of a rollout from before versions were held back, that is all there is to know."""
    kit = rolling(UpdateSpec(canaries=1), placed=False, level=HELD_VERSIONS if base else HELD_VERSIONS - 1)
    assert (rollout(kit).base_version, rollout(kit).promoted) == (base, False)
    stand(kit, promoted=promoted)
    assert end(kit, verdict(kit, succeeded=True)) is succeeds
    if succeeds:
        assert (rollout(kit).status, rollout(kit).promoted, rollout(kit).base_version) == (SUCCEEDED, True, 0)
        assert the(kit).stable_version == 2


def test_what_runs_of_a_group_that_is_gone_is_outdated() -> None:
    kit = Kit()
    kit.register(node("n1", cpu=100_000, memory=100_000))
    submit(kit, job("web", group("gone"), group("api")))
    kit.plan(Placement("web/gone/0", "n1"), Placement("web/api/0", "n1"))
    submit(kit, job("web", group("api", image="two")))
    kit.observe("web/api/0", AllocState.STOPPED)
    kit.place("web/api/0", "n1")
    assert not end(kit, verdict(kit, succeeded=True))
    kit.observe("web/gone/0", AllocState.STOPPED)
    assert end(kit, verdict(kit, succeeded=True))


@pytest.mark.parametrize("said", [{"uid": "nobody"}, {"version": 1}, {"progress_ms": 1}])
def test_a_verdict_about_what_is_no_more_does_nothing_and_the_others_count(said: dict[str, object]) -> None:
    for order in (1, -1):
        kit = rolling()
        void = verdict(kit, **said)  # type: ignore[arg-type]
        assert not end(kit, void)
        assert rollout(kit).status is RUNNING
        assert end(kit, *(void, verdict(kit, reason="none came up"))[::order])
        assert (rollout(kit).status, rollout(kit).reason) == (FAILED, "none came up")
        assert told(kit) == [("rollout.failed", "version 2: none came up")]


def test_a_job_that_is_stopped_or_a_rollout_that_stands_still_hears_no_verdict() -> None:
    for status in (PAUSED, FAILED, SUCCEEDED):
        kit = rolling()
        stand(kit, status=status)
        assert not end(kit, verdict(kit))
    kit = rolling()
    kit.ok(StopJob(namespace="default", name="web"))
    assert not end(kit, verdict(kit))
    kit = Kit()
    kit.submit(web("one"))
    uid = the(kit).uid
    assert not end(kit, RolloutVerdict(uid=uid, version=1, succeeded=True))


def test_why_it_failed_is_kept_so_far() -> None:
    kit = rolling()
    end(kit, verdict(kit, reason="x" * 2_000))
    assert rollout(kit).reason == "x" * 1_000


# ---------------------------------------------------------------------------- back by itself


def test_a_version_that_failed_goes_back_to_the_one_that_was_good_and_says_why() -> None:
    kit = rolling(REVERTS)
    assert end(kit, verdict(kit, reason="none came up"))
    found = rollout(kit)
    assert the(kit).version == 3
    assert the(kit).spec.groups[0].tasks[0].image == "one"
    assert (found.version, found.reverts, found.reason, found.status, found.promoted) == (
        3, 2, "none came up", RUNNING, True
    )  # fmt: skip
    assert told(kit) == [
        ("rollout.failed", "version 2: none came up"),
        ("job.rolled-back", "version 3, as version 1 was: none came up"),
    ]
    # What takes a version back is not taken back in turn.
    assert end(kit, verdict(kit, reason="this one neither"))
    assert (the(kit).version, rollout(kit).status) == (3, FAILED)
    assert told(kit)[2:] == [("rollout.failed", "version 3: this one neither")]


def test_it_goes_back_only_where_the_policy_of_a_group_that_changed_says_so() -> None:
    kit = rolling(UpdateSpec(auto_revert=False))
    end(kit, verdict(kit))
    assert the(kit).version == 2
    for changed, version in (("api", 3), ("db", 2)):
        kit = Kit()
        kit.register(node("n1", cpu=100_000, memory=100_000))
        groups = {"api": replace(group("api"), update=REVERTS), "db": group("db")}
        submit(kit, job("web", *groups.values()))
        for name in groups:
            kit.place(f"web/{name}/0", "n1")
            kit.observe(f"web/{name}/0", AllocState.RUNNING)
        groups[changed] = replace(group(changed, image="two"), update=groups[changed].update)
        submit(kit, job("web", *groups.values()))
        end(kit, verdict(kit))
        assert the(kit).version == version, changed


@pytest.mark.parametrize("promoted", [False, True])
def test_a_change_that_still_waits_for_its_promotion_is_taken_back_with_the_next(promoted: bool) -> None:
    """Version 2 brought canaries of the group that says so, version 3 fails because of another group."""
    kit = Kit()
    kit.ok(SetFeatureLevel(level=HELD_VERSIONS))
    kit.register(node("n1", cpu=100_000, memory=100_000))
    cautious = UpdateSpec(canaries=1, auto_revert=True)
    for api, db in (("one", "one"), ("two", "one"), ("two", "two")):
        submit(kit, job("web", replace(group("api", image=api), update=cautious), group("db", image=db)))
        if the(kit).version == 1:
            for name in ("api", "db"):
                kit.place(f"web/{name}/0", "n1")
                kit.observe(f"web/{name}/0", AllocState.RUNNING)
    assert (rollout(kit).began_version, rollout(kit).base_version, rollout(kit).promoted) == (3, 1, False)
    stand(kit, promoted=promoted)
    assert end(kit, verdict(kit, reason="none came up"))
    assert (the(kit).version, [one.tasks[0].image for one in the(kit).spec.groups]) == (
        (3, ["two", "two"]) if promoted else (4, ["one", "one"])
    )


def test_a_failed_canary_of_a_group_that_is_not_to_revert_is_left_whatever_the_policy_of_others_says() -> None:
    kit = Kit()
    kit.ok(SetFeatureLevel(level=HELD_VERSIONS))
    kit.register(node("n1", cpu=100_000, memory=100_000))
    for image in ("one", "two"):
        db = replace(group("db", image=image), update=UpdateSpec(canaries=1))
        submit(kit, job("web", replace(group("api"), update=REVERTS), db))
        if image == "one":
            for name in ("api", "db"):
                kit.place(f"web/{name}/0", "n1")
                kit.observe(f"web/{name}/0", AllocState.RUNNING)
    assert not rollout(kit).promoted
    assert end(kit, verdict(kit))
    assert the(kit).version == 2


def test_a_count_that_changed_meanwhile_does_not_keep_it_from_going_back() -> None:
    kit = rolling(REVERTS)
    kit.ok(ScaleJob(namespace="default", name="web", group="api", count=3))
    assert (rollout(kit).version, rollout(kit).began_version) == (3, 2)
    end(kit, verdict(kit))
    assert the(kit).version == 4
    assert (the(kit).spec.groups[0].tasks[0].image, the(kit).spec.groups[0].count) == ("one", 3)
    assert end(kit, verdict(kit, succeeded=True)), "what still runs version 1 is as it should be"


def test_it_says_why_it_does_not_go_back() -> None:
    kit = rolling(REVERTS, placed=False)  # nobody ever saw version 1 run
    end(kit, verdict(kit, reason="none came up"))
    assert told(kit)[-1] == ("rollout.not-reverted", "no version before was good")
    assert the(kit).version == 2

    kit = rolling(REVERTS, cpu=10)
    kit.ok(WriteNamespace(name="default", kind=NamespaceWrite.SET, quota=Quota(cpu_millis=50)))
    end(kit, verdict(kit))
    assert told(kit)[-1][0] == "rollout.not-reverted"
    assert "quota" in told(kit)[-1][1]
    assert the(kit).version == 2

    kit = rolling(REVERTS)
    kit.state.put_job(replace(the(kit), history=()))
    end(kit, verdict(kit))
    assert told(kit)[-1] == ("rollout.not-reverted", "job 'web' remembers no version with other content")


def test_work_of_a_batch_job_is_not_done_a_second_time() -> None:
    kit = rolling(REVERTS)
    (revision,) = the(kit).history
    kit.state.put_job(replace(the(kit), history=(replace(revision, spec=replace(revision.spec, type=JobType.BATCH)),)))
    end(kit, verdict(kit))
    assert told(kit)[-1] == ("rollout.not-reverted", "version 1 was a batch job")
    assert the(kit).version == 2


# ---------------------------------------------------------------------------- replacing


def test_who_is_replaced_is_told_to_stop_and_why_and_no_more_at_a_time_than_may_be_missing() -> None:
    kit = rolling()
    answer = kit.plan(
        actions=[(Action.REPLACE, "web/api/0", "outdated"), (Action.REPLACE, "web/api/1", "outdated as well")]
    )
    assert (answer.acted, answer.rejected) == (1, ("web/api/1 stays: 1 of 2 are ready, and 1 have to be",))
    gone, stays = kit.alloc("web/api/0"), kit.alloc("web/api/1")
    assert (gone.desired, gone.reason, gone.modify_index) == (Desired.STOP, "outdated", kit.state.index)
    assert stays.desired is Desired.RUN
    heard = views.assignments_for(kit.state, "n1", kit.state.index - 1).assignments
    assert [(one.key.id.ordinal, one.desired) for one in heard] == [(0, Desired.STOP)]
    (event,) = [one for one in kit.state.events.after(0) if one.kind == "alloc.stop"]
    assert (event.allocation, event.message) == ("web/api/0", "outdated")


def test_a_replacement_is_news_to_its_job() -> None:
    kit = rolling()
    kit.plan(actions=[(Action.REPLACE, "web/api/0", "outdated")])
    assert kit.state.changes.since(kit.state.index - 1) == [the(kit).slot]


# ---------------------------------------------------------------------------- progress


def report(kit: Kit, *allocs: str) -> None:
    """All of these run."""
    seen = [Observation(key=kit.key(alloc), restarts=0, state=AllocState.RUNNING) for alloc in allocs]
    messages = [codec.encode(one, agent_pb2.Observation()) for one in seen]
    kit.ok(recorded("n1", messages))


def test_who_is_ready_at_the_version_that_is_rolled_out_is_progress_whoever_else_is_in_the_report() -> None:
    kit = rolling()
    kit.submit(job("another"), job("zebra"))
    for alloc in ("another/api/0", "zebra/api/0"):
        kit.place(alloc, "n1")
    kit.observe("web/api/0", AllocState.STOPPED)
    kit.place("web/api/0", "n1")
    before = rollout(kit).progress_ms
    report(kit, "another/api/0", "web/api/0", "zebra/api/0")
    assert rollout(kit).progress_ms == kit.state.time_ms > before


def test_what_runs_of_a_group_that_is_gone_is_no_progress() -> None:
    kit = Kit()
    kit.register(node("n1", cpu=100_000, memory=100_000))
    submit(kit, job("web", group("gone"), group("api")))
    submit(kit, job("web", group("gone", image="two"), group("api", image="two")))
    kit.place("web/gone/0", "n1")
    submit(kit, job("web", group("api", image="two")))
    assert rollout(kit).status is RUNNING
    before = rollout(kit).progress_ms
    report(kit, "web/gone/0")
    assert rollout(kit).progress_ms == before


@pytest.mark.parametrize("status", [PAUSED, SUCCEEDED, FAILED])
def test_a_rollout_that_stands_still_has_no_progress_beside_one_that_goes_on(status: RolloutStatus) -> None:
    kit = rolling()
    for image in ("one", "two"):
        spec = job("other", group(image=image))
        kit.ok(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="uid-other", remember=True),)))
    other = kit.state.jobs["uid-other"]
    assert other.rollout is not None
    still = replace(other.rollout, status=status)
    kit.state.put_job(replace(other, rollout=still))
    kit.place("other/api/0", "n1")
    kit.observe("web/api/0", AllocState.STOPPED)
    kit.place("web/api/0", "n1")
    report(kit, "other/api/0", "web/api/0")
    assert rollout(kit).progress_ms == kit.state.time_ms
    assert kit.state.jobs["uid-other"].rollout == still
