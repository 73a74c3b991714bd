"""Templates: a due time becomes one run or is skipped and says why; what a dispatch must bring; a run by force."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.batch import (
    MAX_META,
    MAX_META_BYTES,
    MAX_PAYLOAD_BYTES,
    Origin,
    Overlap,
    ParameterizedSpec,
    PayloadRule,
    PeriodicSpec,
)
from orchestrator.contract.model import AllocState, JobSpec, JobType, Quota, RestartPolicy
from orchestrator.state.commands import (
    DispatchJob,
    ForceRun,
    JobAnswer,
    JobsAnswer,
    Launch,
    LaunchRuns,
    NamespaceWrite,
    RemoveJob,
    StopJob,
    WriteNamespace,
)
from orchestrator.state.model import MAX_COMMAND_ROWS, Job, Schedule
from tests.unit.state.kit import Kit, group, job, node

RUN = f"{1:032x}"
FORCED = ForceRun(namespace="default", name="tick", uid=RUN)
ONCE = replace(group("main"), restart=RestartPolicy(attempts=0))
SCHEDULE = PeriodicSpec(cron=("@every 30s",))
RULE = ParameterizedSpec(meta_required=("url",), meta_optional=("n",))


def periodic(overlap: Overlap = Overlap.ALLOW, *, paused: bool = False) -> JobSpec:
    spec = job("tick", ONCE, kind=JobType.BATCH)
    return replace(spec, periodic=replace(SCHEDULE, overlap=overlap, paused=paused))


def parameterized(rule: ParameterizedSpec = RULE, name: str = "work") -> JobSpec:
    return replace(job(name, ONCE, kind=JobType.BATCH), parameterized=rule)


def kit_with(*specs: JobSpec) -> Kit:
    kit = Kit()
    kit.register(node("n1", cpu=100_000, memory=100_000))
    kit.submit(*specs)
    return kit


def template(kit: Kit, name: str = "tick") -> Job:
    found = kit.state.find_job("default", name)
    assert found is not None
    return found


def schedule(kit: Kit, name: str = "tick") -> Schedule:
    found = template(kit, name).schedule
    assert found is not None
    return found


def runs(kit: Kit, name: str = "tick") -> list[Job]:
    return kit.state.runs_of("default", name)


def due(kit: Kit, number: int = 1, **said: object) -> Launch:
    """What a leader would say at the very time that is due."""
    known = template(kit)
    one = Launch(
        uid=known.uid,
        version=known.version,
        after_ms=schedule(kit).handled_ms,
        due_ms=kit.now_ms + 1,
        child_uid=f"{number:032x}",
    )
    return replace(one, **said)  # type: ignore[arg-type]


def launch(kit: Kit, *launches: Launch) -> bool:
    """Whether anything changed."""
    return bool(kit.ok(LaunchRuns(launches=launches)).answer.changed)  # type: ignore[union-attr]


def told(kit: Kit) -> list[tuple[str, str, str]]:
    kinds = ("periodic.", "job.dispatched")
    return [(one.kind, one.job, one.message) for one in kit.state.events.after(0) if one.kind.startswith(kinds)]


# ---------------------------------------------------------------------------- due times


def test_a_due_time_becomes_one_run_and_the_template_says_so() -> None:
    kit = kit_with(periodic())
    one = due(kit)
    assert launch(kit, one)
    name = f"tick/periodic-{one.due_ms // 1000}"
    (run,) = runs(kit)
    known = template(kit)
    assert (run.uid, run.spec.name, run.spec.periodic, run.version) == (RUN, name, None, 1)
    assert run.spec.origin == Origin(job="tick", uid=known.uid, version=1, due_ms=one.due_ms)
    made = schedule(kit)
    assert (made.runs, made.last_job, made.last_ms, made.skipped) == (1, name, one.due_ms, 0)
    assert told(kit) == [("periodic.launched", "tick", name)]
    assert not launch(kit, one)
    assert (len(runs(kit)), schedule(kit)) == (1, made)


@pytest.mark.parametrize(
    "said",
    [
        {"uid": "nobody"},
        {"version": 2},
        {"after_ms": 7},
        {"due_ms": 1_000_002},  # the time that was dealt with last
        {"due_ms": 1_000_005},  # a time that is to come
    ],
    ids=["no such job", "another version", "another leader was there before", "dealt with", "not yet"],
)
def test_what_was_dealt_with_or_is_not_due_changes_nothing_and_the_others_run(said: dict[str, object]) -> None:
    kit = kit_with(periodic())
    assert (schedule(kit).handled_ms, kit.now_ms) == (1_000_002, 1_000_002)
    void = due(kit, **said)  # type: ignore[arg-type]
    assert not launch(kit, void)
    assert (runs(kit), told(kit), schedule(kit).handled_ms) == ([], [], 1_000_002)
    assert launch(kit, due(kit), void)
    kit.now_ms += 10_000
    assert launch(kit, void, due(kit, 2))
    assert len(runs(kit)) == 2


def test_a_stopped_or_paused_schedule_and_a_job_without_one_run_nothing() -> None:
    kit = kit_with(periodic(), parameterized())
    elsewhere = replace(due(kit), uid=template(kit, "work").uid, after_ms=schedule(kit, "work").handled_ms)
    assert not launch(kit, elsewhere)
    kit.ok(StopJob(namespace="default", name="tick"))
    assert not launch(kit, due(kit))
    kit.submit(periodic(paused=True))
    kit.now_ms += 10
    assert not launch(kit, due(kit))
    assert not runs(kit)
    assert not runs(kit, "work")


def test_a_job_without_a_schedule_runs_nothing() -> None:
    kit = kit_with(job("tick", ONCE, kind=JobType.BATCH))
    known = template(kit)
    assert not launch(kit, Launch(uid=known.uid, version=1, after_ms=0, due_ms=kit.now_ms, child_uid=RUN))


def test_one_to_20_000_due_times_a_command() -> None:
    kit = kit_with(periodic())
    assert kit.refused(LaunchRuns(launches=())).reason == "INVALID"
    assert kit.refused(LaunchRuns(launches=(due(kit),) * (MAX_COMMAND_ROWS + 1))).reason == "INVALID"
    assert not runs(kit)
    assert launch(kit, *[due(kit)] * MAX_COMMAND_ROWS)
    assert len(runs(kit)) == 1


def test_a_time_that_is_skipped_is_dealt_with_and_the_template_says_why() -> None:
    kit = kit_with(periodic())
    one = due(kit, skip="x" * 600)
    assert launch(kit, one)
    kept = schedule(kit)
    assert (kept.skipped, kept.runs, kept.last_ms, kept.last_job) == (1, 0, one.due_ms, "")
    assert kept.last_skipped == "x" * 500
    assert told(kit) == [("periodic.skipped", "tick", f"due at 1970-01-01 00:16:40 UTC: {'x' * 500}")]
    assert not runs(kit)
    launch(kit, due(kit, skip="missed"))
    assert (schedule(kit).skipped, schedule(kit).last_skipped) == (2, "missed")


def test_a_run_that_has_not_ended_forbids_the_next_where_the_job_says_so() -> None:
    kit = kit_with(periodic(Overlap.FORBID))
    first = due(kit)
    launch(kit, first)
    kit.now_ms += 10_000
    assert launch(kit, due(kit, 2))  # the first one waits for its place: it has not ended
    name = f"tick/periodic-{first.due_ms // 1000}"
    assert schedule(kit).last_skipped == f"{name} has not ended"
    assert launch(kit, due(kit, 3, skip="missed"))
    assert schedule(kit).last_skipped == "missed"
    assert len(runs(kit)) == 1
    kit.ok(StopJob(namespace="default", name=name))  # nothing of it was placed: it is over
    assert launch(kit, due(kit, 4))
    assert [run.uid for run in runs(kit)] == [RUN, f"{4:032x}"]


def test_a_run_lives_as_long_as_something_of_it_runs_and_is_over_once_it_is_complete() -> None:
    kit = kit_with(periodic(Overlap.FORBID))
    launch(kit, due(kit))
    (run,) = runs(kit)
    first = f"{run.spec.name}/main/0"
    kit.place(first, "n1")
    kit.ok(StopJob(namespace="default", name=run.spec.name))
    kit.now_ms += 10_000
    launch(kit, due(kit, 2))
    assert (schedule(kit).runs, schedule(kit).skipped) == (1, 1)  # told to stop, and still there
    kit.observe(first, AllocState.STOPPED)
    launch(kit, due(kit, 3))
    assert (schedule(kit).runs, schedule(kit).skipped) == (2, 1)
    second = f"{runs(kit)[1].spec.name}/main/0"
    kit.place(second, "n1")
    kit.observe(second, AllocState.RUNNING)
    kit.observe(second, AllocState.COMPLETE)
    kit.now_ms += 10_000
    launch(kit, due(kit, 4))
    assert (schedule(kit).runs, schedule(kit).skipped) == (3, 1)


def test_where_runs_may_overlap_nobody_is_stopped() -> None:
    kit = kit_with(periodic(Overlap.ALLOW))
    launch(kit, due(kit))
    kit.now_ms += 10_000
    launch(kit, due(kit, 2))
    assert [(run.stopped, run.spec.origin.replaces) for run in runs(kit)] == [(False, ())] * 2  # type: ignore[union-attr]


def test_a_run_that_replaces_others_stops_all_and_waits_for_the_newest_100() -> None:
    kit = kit_with(periodic(Overlap.REPLACE))
    forced = [f"{number:08x}" for number in range(101)]
    for uid in forced:
        kit.ok(ForceRun(namespace="default", name="tick", uid=uid))
    kit.now_ms += 10_000
    assert launch(kit, due(kit, 999))
    *before, last = runs(kit)
    assert all(run.stopped for run in before)
    assert not last.stopped
    assert last.spec.origin is not None
    assert last.spec.origin.replaces == tuple(run.uid for run in before)[-100:]


def test_a_run_for_which_there_is_no_quota_is_skipped_and_stops_nobody() -> None:
    kit = kit_with(periodic(Overlap.REPLACE))
    launch(kit, due(kit))
    kit.ok(WriteNamespace(name="default", kind=NamespaceWrite.SET, quota=Quota(jobs=1)))
    kit.now_ms += 10_000
    launch(kit, due(kit, 2))
    assert "quota" in schedule(kit).last_skipped
    assert [run.stopped for run in runs(kit)] == [False]


def test_a_run_that_is_there_already_is_no_second_one() -> None:
    kit = kit_with(periodic())
    launch(kit, due(kit))
    second = due(kit, 2)  # in the same second, of which the run is named
    assert second.due_ms // 1000 == runs(kit)[0].spec.origin.due_ms // 1000  # type: ignore[union-attr]
    launch(kit, second)
    assert "is there already" in schedule(kit).last_skipped
    kit.now_ms += 10_000
    launch(kit, due(kit))  # with the uid of the first one
    assert "is there already" in schedule(kit).last_skipped
    assert (len(runs(kit)), schedule(kit).skipped) == (1, 2)


# ---------------------------------------------------------------------------- dispatch


def dispatch(kit: Kit, uid: str = RUN, **said: object) -> DispatchJob:
    fresh = DispatchJob(namespace="default", name="work", uid=uid, meta=(("url", "x"),))
    return replace(fresh, **said)  # type: ignore[arg-type]


def test_a_dispatch_is_a_run_with_what_it_brought_and_the_template_says_so() -> None:
    kit = kit_with(parameterized())
    answer = kit.ok(dispatch(kit, meta=(("url", "x"), ("n", "1")), payload=b"p")).answer
    name = f"work/dispatch-{kit.state.time_ms // 1000}-{RUN[:8]}"
    assert answer == JobsAnswer(jobs=(JobAnswer(uid=RUN, version=1, changed=True, name=name),))
    (run,) = runs(kit, "work")
    assert run.spec.origin == Origin(
        job="work", uid=template(kit, "work").uid, version=1, meta=(("n", "1"), ("url", "x")), payload=b"p"
    )
    assert (schedule(kit, "work").runs, schedule(kit, "work").last_job) == (1, name)
    assert told(kit) == [("job.dispatched", "work", name)]


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ((PayloadRule.OPTIONAL, b""), ""),
        ((PayloadRule.OPTIONAL, b"p"), ""),
        ((PayloadRule.REQUIRED, b""), "job 'work': the job requires a payload"),
        ((PayloadRule.REQUIRED, b"p"), ""),
        ((PayloadRule.FORBIDDEN, b""), ""),
        ((PayloadRule.FORBIDDEN, b"p"), "job 'work': the job takes no payload"),
        ((PayloadRule.REQUIRED, b"p" * MAX_PAYLOAD_BYTES), ""),
        ((PayloadRule.FORBIDDEN, b"p" * (MAX_PAYLOAD_BYTES + 1)), "job 'work': length of the payload must be"),
    ],
)
def test_a_payload_is_as_the_job_says(payload: tuple[PayloadRule, bytes], problem: str) -> None:
    rule, sent = payload
    kit = kit_with(parameterized(replace(RULE, payload=rule)))
    outcome = kit.do(dispatch(kit, payload=sent))
    assert getattr(outcome, "reason", "") == ("INVALID" if problem else "")
    assert getattr(outcome, "message", "").startswith(problem)
    assert len(runs(kit, "work")) == (not problem)


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        ((), "job 'work': meta: url missing"),
        ((("n", "1"),), "job 'work': meta: url missing"),
        ((("url", "x"), ("k", "v")), "job 'work': meta: k unknown; the job takes: url, n"),
        ((("url", "x" * (MAX_META_BYTES - 3)),), ""),
        ((("url", "x" * (MAX_META_BYTES - 2)),), "job 'work': size of meta in bytes must be"),
        ((("url", "\N{EURO SIGN}" * (MAX_META_BYTES // 3)),), "job 'work': size of meta in bytes must be"),
    ],
)
def test_meta_is_what_the_job_takes(meta: tuple[tuple[str, str], ...], problem: str) -> None:
    kit = kit_with(parameterized())
    outcome = kit.do(dispatch(kit, meta=meta, payload=b"p" * (MAX_PAYLOAD_BYTES + 1) if problem else b""))
    assert getattr(outcome, "reason", "") == ("INVALID" if problem else "")
    assert getattr(outcome, "message", "").startswith(problem)


def test_what_is_said_of_meta_comes_before_a_payload_that_is_missing() -> None:
    kit = kit_with(parameterized(replace(RULE, payload=PayloadRule.REQUIRED)))
    assert kit.refused(dispatch(kit, meta=())).message == "job 'work': meta: url missing"


def test_64_keys_of_meta_are_taken_and_a_job_that_takes_none_needs_none() -> None:
    keys = tuple(f"k{place}" for place in range(MAX_META))
    kit = kit_with(parameterized(ParameterizedSpec(meta_optional=keys)), parameterized(ParameterizedSpec(), "bare"))
    meta = tuple((key, "") for key in keys)
    kit.ok(dispatch(kit, meta=meta))
    assert "at most 64 different keys" in kit.refused(dispatch(kit, meta=(*meta, ("more", "")))).message
    kit.ok(dispatch(kit, f"{2:032x}", name="bare", meta=()))
    assert kit.refused(dispatch(kit, name="bare")).message.endswith("meta: url unknown; the job takes: none")


def test_a_run_by_hand_is_of_a_template_of_its_kind_that_is_at_work() -> None:
    kit = kit_with(periodic(), parameterized(), job("plain"))
    for command, other, said in (
        (dispatch(kit), "tick", "not parameterized: it is periodic, 'raftsman job periodic force' runs it"),
        (FORCED, "work", "not periodic: it is parameterized, 'raftsman job dispatch' runs it"),
    ):
        assert kit.refused(replace(command, name="nobody")).reason == "NOT_FOUND"
        wrong = [kit.refused(replace(command, name=name)) for name in ("plain", other)]
        assert [one.reason for one in wrong] == ["FAILED_PRECONDITION"] * 2
        assert [one.message for one in wrong] == [
            f"job 'plain' is {said.partition(':')[0]}", f"job '{other}' is {said}"
        ]  # fmt: skip
    for command in (dispatch(kit), FORCED):
        kit.ok(StopJob(namespace="default", name=command.name))
        assert kit.refused(command).reason == "FAILED_PRECONDITION"
    assert not runs(kit)
    assert not runs(kit, "work")


def test_a_forced_run_asks_neither_the_schedule_nor_who_runs_and_deals_with_no_due_time() -> None:
    kit = kit_with(periodic(Overlap.FORBID))
    before = schedule(kit)
    kit.ok(ForceRun(namespace="default", name="tick", uid="00000001" + RUN))
    answer = kit.ok(ForceRun(namespace="default", name="tick", uid="00000002" + RUN)).answer
    name = f"tick/periodic-{kit.state.time_ms // 1000}-00000002"
    assert answer == JobsAnswer(jobs=(JobAnswer(uid="00000002" + RUN, version=1, changed=True, name=name),))
    run = runs(kit)[-1]
    assert run.spec.name == name
    assert run.spec.origin is not None
    assert run.spec.origin.due_ms == kit.state.time_ms
    assert schedule(kit) == replace(before, runs=2, last_job=name)
    assert told(kit)[-1] == ("periodic.launched", "tick", name)


def test_a_run_needs_a_fresh_uid_of_which_a_name_can_be_made() -> None:
    kit = kit_with(parameterized(), job("plain"))
    kit.ok(dispatch(kit))
    for uid, reason in (
        (RUN, "ALREADY_EXISTS"),
        (RUN + "1", "ALREADY_EXISTS"),  # another uid, but the same name
        (template(kit, "plain").uid, "INVALID"),
        ("not hexadecimal", "INVALID"),
        ("z" * 32, "INVALID"),
        ("0000000a" + "x" * 300, "INVALID"),
    ):
        assert kit.refused(dispatch(kit, uid)).reason == reason, uid
    kit.now_ms += 10_000
    assert kit.refused(dispatch(kit)).reason == "ALREADY_EXISTS"  # another name, but the same uid
    assert len(runs(kit, "work")) == schedule(kit, "work").runs == 1


def test_a_run_for_which_there_is_no_quota_is_refused() -> None:
    kit = kit_with(parameterized())
    kit.ok(WriteNamespace(name="default", kind=NamespaceWrite.SET, quota=Quota(jobs=0)))
    assert kit.refused(dispatch(kit)).reason == "QUOTA_EXCEEDED"
    assert schedule(kit, "work").runs == 0


# ---------------------------------------------------------------------------- what runs


def test_what_ran_before_a_job_became_a_template_does_not_come_back_while_it_is_removed() -> None:
    kit = kit_with(job("tick", group("main"), kind=JobType.BATCH))
    kit.place("tick/main/0", "n1")
    kit.submit(periodic())
    one = due(kit)
    kit.ok(RemoveJob(namespace="default", name="tick"))
    assert template(kit).removing
    assert not launch(kit, one)
