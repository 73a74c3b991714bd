"""Periodic jobs over changes of the leader: each due time comes to one run, whoever leads, however stale and wrong its
clock; overlap and order of groups hold at every entry."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import plan
from orchestrator.contract.batch import (
    After,
    AfterCondition,
    Missed,
    Overlap,
    ParameterizedSpec,
    PeriodicSpec,
)
from orchestrator.contract.cron import Schedule
from orchestrator.contract.model import (
    AllocState,
    AssignmentKey,
    GroupSpec,
    JobSpec,
    JobType,
    Limits,
    NodeSpec,
    Observation,
    Resources,
    RestartPolicy,
    TaskSpec,
)
from orchestrator.leader.schedule import Timetable
from orchestrator.reconcile.periodic import LATE_MS
from orchestrator.replication.codec import decode_entry, encode_entry
from orchestrator.replication.snapshot_codec import decode_snapshot, encode_snapshot
from orchestrator.state import views
from orchestrator.state.apply import apply
from orchestrator.state.apply_batch import live_runs
from orchestrator.state.commands import (
    Applied,
    Collect,
    Command,
    DispatchJob,
    Entry,
    JobsAnswer,
    JobSubmission,
    LaunchRuns,
    Outcome,
    RecordStatuses,
    RegisterNode,
    Rejected,
    SubmitJobs,
)
from orchestrator.state.invariants import check
from orchestrator.state.model import Job
from orchestrator.state.snapshot import capture, restore, state_hash
from orchestrator.state.state import new_state
from orchestrator.state.status import job_status
from tests.effort import examples

START_MS = 1_790_000_000_000
TASK = TaskSpec(name="main", command=("true",), resources=Resources(cpu_millis=10, memory_mib=10))


def group(name: str, count: int = 1, after: tuple[After, ...] = ()) -> GroupSpec:
    return GroupSpec(name=name, count=count, tasks=(TASK,), restart=RestartPolicy(attempts=0), after=after)


class World:
    """One peer's state, which any number of leaders look at, and agents that obey late."""

    def __init__(self, seed: int = 0, limits: Limits | None = None) -> None:
        self.random = random.Random(seed)
        self.state = new_state(limits)
        self.now_ms = START_MS
        self.minted = 0
        room = Resources(cpu_millis=100_000, memory_mib=100_000, disk_mib=1_000)
        spec = NodeSpec(id="n1", name="n1", drivers=("process",), capacity=room)
        self.do(RegisterNode(node=spec, identity="agent:n1"))

    def do(self, command: Command, *, skew_ms: int = 0) -> Outcome:
        entry = Entry(identity="t", request_id="", digest=b"", time_ms=self.now_ms + skew_ms, command=command)
        return apply(self.state, decode_entry(encode_entry(entry)))

    def submit(self, spec: JobSpec) -> Outcome:
        return self.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=self.mint(), remember=True),)))

    def mint(self) -> str:
        self.minted += 1
        return f"{self.minted:032x}"

    def again(self) -> None:
        """From its snapshot, as a peer that was away."""
        before = state_hash(self.state)
        self.state = restore(decode_snapshot(b"".join(encode_snapshot(capture(self.state)))))
        assert state_hash(self.state) == before

    def due(self, *, skew_ms: int = 0, seen: list[Job] | None = None, time_ms: int | None = None) -> LaunchRuns | None:
        """What a new leader finds due: by its own clock, from what it saw last."""
        state = self.state

        class Seen:
            periodic_index = 1

            def __init__(self) -> None:
                self.time_ms = state.time_ms if time_ms is None else time_ms

            def periodic_jobs(self) -> list[Job]:
                return [state.job_at[slot] for slot in sorted(state.periodic)] if seen is None else seen

        return Timetable(Seen(), mint=self.mint).due(self.now_ms + skew_ms)

    def plan(self) -> None:
        for one in plan.decide(views.cluster_view(self.state), self.now_ms).plans:
            self.do(one)

    def observe(self, row: int, after: AllocState) -> None:
        seen = views.allocation(self.state, row)
        key = AssignmentKey(id=seen.id, job_uid=seen.job_uid, attempt=seen.attempt)
        self.do(RecordStatuses(node_id="n1", observations=(Observation(key=key, restarts=0, state=after),)))

    def live(self) -> list[int]:
        found: list[int] = self.state.table.live_rows().tolist()
        return found

    def agent(self) -> None:
        for row in self.live():
            seen = views.allocation(self.state, row)
            if seen.desired.name == "STOP":
                self.observe(row, AllocState.STOPPED)
            elif seen.state is AllocState.PENDING:
                self.observe(row, AllocState.RUNNING)
            else:
                self.observe(row, self.random.choice([AllocState.COMPLETE, AllocState.FAILED]))

    def job(self, name: str) -> Job:
        found = self.state.find_job("default", name)
        assert found is not None, name
        return found

    def runs(self, name: str = "tick") -> list[Job]:
        return self.state.runs_of("default", name)


def tick(cron: str = "@every 30s", **said: object) -> JobSpec:
    periodic = replace(PeriodicSpec(cron=(cron,)), **said)  # type: ignore[arg-type]
    return JobSpec(name="tick", type=JobType.BATCH, groups=(group("main"),), periodic=periodic)


@settings(max_examples=examples(25))
@given(
    seed=st.integers(0, 2**32),
    cron=st.sampled_from(["@every 30s", "@every 7s", "* * * * *", "*/2 * * * *"]),
    overlap=st.sampled_from(list(Overlap)),
    missed=st.sampled_from(list(Missed)),
)
def test_each_due_time_comes_to_at_most_one_run_and_none_is_made_up(
    seed: int, cron: str, overlap: Overlap, missed: Missed
) -> None:
    world = World(seed)
    world.submit(tick(cron, overlap=overlap, missed=missed))
    due_times: list[int] = []
    old: list[tuple[LaunchRuns, int]] = []
    for _ in range(40):
        world.now_ms += world.random.choice([100, 1_000, 5_000, 20_000, 90_000])
        skew_ms = world.random.choice([0, 0, -3_000, 3_000])
        step = world.random.random()
        if step < 0.5:
            command = world.due(skew_ms=skew_ms)
            if command is not None:
                before = {run.uid for run in world.runs()}
                live = live_runs(world.state, world.job("tick"))
                world.do(command, skew_ms=skew_ms)
                old.append((command, skew_ms))
                made = [run for run in world.runs() if run.uid not in before]
                assert len(made) <= 1
                for run in made:
                    assert run.spec.origin is not None
                    due_times.append(run.spec.origin.due_ms)
                    assert not (live and overlap is Overlap.FORBID)
                    if overlap is Overlap.REPLACE:
                        assert all(world.job(one.spec.name).stopped for one in live)
        elif step < 0.7 and old:
            # A leader that was deposed, or a proposal that came through after all.
            count = len(world.runs())
            command, skew_ms = world.random.choice(old)
            world.do(command, skew_ms=skew_ms)
            assert len(world.runs()) == count
        elif step < 0.8:
            world.again()
        elif step < 0.9:
            world.plan()
        else:
            world.agent()
    assert not check(world.state)
    assert len(set(due_times)) == len(due_times) and due_times == sorted(due_times)
    schedule = Schedule((cron,))
    assert all(schedule.after(due - 1) == due and START_MS < due <= world.state.time_ms for due in due_times)


def test_a_leader_in_time_misses_no_due_time() -> None:
    world = World()
    world.submit(tick("* * * * *"))
    for _ in range(30):
        world.now_ms += 20_000
        command = world.due()
        if command is not None:
            world.do(command)
    expected, due = [], Schedule(("* * * * *",)).after(START_MS)
    while due is not None and due <= world.now_ms:
        expected.append(due)
        due = Schedule(("* * * * *",)).after(due)
    assert [run.spec.origin.due_ms for run in world.runs() if run.spec.origin is not None] == expected


@pytest.mark.parametrize(("missed", "runs"), [(Missed.SKIP, 0), (Missed.ONCE, 1)])
def test_what_was_missed_is_skipped_or_runs_once(missed: Missed, runs: int) -> None:
    world = World()
    world.submit(tick("0 * * * *", missed=missed))
    world.now_ms += 10 * 3_600_000 + LATE_MS + 3_600_000 - START_MS % 3_600_000 - 60_000 + 61_000
    command = world.due()
    assert command is not None and len(command.launches) == 1
    world.do(command)
    assert len(world.runs()) == runs
    schedule = world.job("tick").schedule
    assert schedule is not None and schedule.skipped == 1 - runs
    assert world.due() is None


@pytest.mark.parametrize(("missed", "skipped"), [(Missed.SKIP, 1), (Missed.ONCE, 0)])
def test_what_was_missed_is_said_also_where_the_latest_due_time_can_still_run(missed: Missed, skipped: int) -> None:
    """Three hours without a leader that end just after a full hour: two runs were left out, and nobody was told."""
    world = World()
    world.submit(tick("0 * * * *", missed=missed))
    world.now_ms += 4 * 3_600_000 - START_MS % 3_600_000 + 20_000
    command = world.due()
    assert command is not None
    world.do(command)
    (run,) = world.runs()
    assert run.spec.origin is not None and run.spec.origin.due_ms == world.now_ms - 20_000
    schedule = world.job("tick").schedule
    assert schedule is not None and (schedule.runs, schedule.skipped) == (1, skipped)
    if skipped:
        assert schedule.last_skipped == "missed by 3620 s, as were those before it: nobody could start it then"
    assert world.due() is None


def test_a_schedule_that_was_paused_or_stopped_makes_up_for_nothing() -> None:
    world = World()
    world.submit(tick(paused=True, missed=Missed.ONCE))
    world.now_ms += 3_600_000
    assert world.due() is None
    world.submit(tick(missed=Missed.ONCE))
    assert world.due() is None
    world.now_ms += 30_000
    assert world.due() is not None


def test_a_run_that_replaces_another_starts_when_that_has_stopped() -> None:
    world = World()
    world.submit(tick(overlap=Overlap.REPLACE))
    for _ in range(2):
        world.now_ms += 30_000
        command = world.due()
        assert command is not None
        world.do(command)
        world.plan()
    first, second = world.runs()
    assert first.stopped and not len(world.state.live_rows(second.slot)) and len(world.live()) == 1
    explained = plan.explain(views.cluster_view(world.state), second.uid, world.now_ms)
    assert f"waits until {first.spec.name}, which it replaces, has stopped" in explained[0].summary
    world.plan()
    world.agent()
    world.plan()
    assert len(world.state.live_rows(second.slot)) == 1


def test_ended_runs_go_beyond_the_number_that_is_kept_and_after_their_time() -> None:
    world = World(limits=Limits(children_per_job=3, child_age_ms=600_000))
    world.submit(tick())
    for _ in range(6):
        world.now_ms += 30_000
        command = world.due()
        assert command is not None
        world.do(command)
        for _ in range(3):
            world.plan()
            world.agent()
    names = [run.spec.name for run in world.runs()]
    world.do(Collect())
    assert [run.spec.name for run in world.runs()] == names[-3:]
    status = job_status(world.state, world.job("tick")).template
    assert status is not None and status.runs == 6 and status.complete + status.failed == 3
    world.now_ms += 700_000
    world.do(Collect())
    assert not world.runs() and world.job("tick").schedule is not None


# ---------------------------------------------------------------------------- dispatch


def parameterized() -> JobSpec:
    rule = ParameterizedSpec(meta_required=("url",), meta_optional=("n",))
    return JobSpec(name="work", type=JobType.BATCH, groups=(group("main"),), parameterized=rule)


def test_a_dispatch_is_a_job_of_its_own_with_what_it_brought() -> None:
    world = World()
    world.submit(parameterized())
    world.plan()
    assert not world.live()
    command = DispatchJob(namespace="default", name="work", uid=world.mint(), meta=(("url", "x"),), payload=b"p")
    outcome = world.do(command)
    assert isinstance(outcome, Applied) and isinstance(outcome.answer, JobsAnswer)
    name = outcome.answer.jobs[0].name
    assert name.startswith("work/dispatch-")
    world.plan()
    (row,) = world.live()
    origin = views.assignment(world.state, row).origin
    assert origin is not None and (origin.job, origin.meta, origin.payload) == ("work", (("url", "x"),), b"p")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"meta": ()}, "meta: url missing"),
        ({"meta": (("url", "x"), ("k", "v"))}, "meta: k unknown; the job takes: url, n"),
        ({"payload": b"x" * 20_000}, "length of the payload"),
        ({"name": "nobody"}, "there is no job 'nobody'"),
        ({"name": "tick"}, "'raftsman job periodic force' runs it"),
    ],
)
def test_a_dispatch_that_does_not_suit_is_refused(said: dict[str, object], reason: str) -> None:
    world = World()
    world.submit(parameterized())
    world.submit(tick())
    fresh = DispatchJob(namespace="default", name="work", uid=world.mint(), meta=(("url", "x"),))
    outcome = world.do(replace(fresh, **said))  # type: ignore[arg-type]
    assert isinstance(outcome, Rejected) and reason in outcome.message
    assert not world.runs("work")


# ---------------------------------------------------------------------------- groups after others


@settings(max_examples=examples(25))
@given(seed=st.integers(0, 2**32), size=st.integers(2, 5))
def test_no_group_starts_before_its_turn_and_every_job_ends(seed: int, size: int) -> None:
    world = World(seed)
    names = [f"g{place}" for place in range(size)]
    groups = []
    for place, name in enumerate(names):
        before = [one for one in names[:place] if world.random.random() < 0.6]
        after = tuple(After(group=one, condition=world.random.choice(list(AfterCondition))) for one in before)
        groups.append(group(name, world.random.randint(1, 2), after))
    world.random.shuffle(groups)
    world.submit(JobSpec(name="order", type=JobType.BATCH, groups=tuple(groups)))
    by_name = {one.name: one for one in groups}
    for _ in range(6 * size):
        known = set(world.live())
        before_status = {one.group: one for one in job_status(world.state, world.job("order")).groups}
        world.plan()
        for row in set(world.live()) - known:
            for one in by_name[views.allocation_id(world.state, row).group].after:
                seen = before_status[one.group]
                if one.condition is AfterCondition.SUCCESS:
                    assert seen.complete == seen.count
                else:
                    assert seen.complete + seen.failed + seen.skipped == seen.count
        if world.random.random() < 0.2:
            world.again()
        world.agent()
    assert not check(world.state)
    status = job_status(world.state, world.job("order"))
    assert status.state == ("failed" if any(one.failed + one.skipped for one in status.groups) else "complete")
    assert all(one.complete + one.failed + one.skipped == one.count for one in status.groups)
    assert all("which it comes after" in said.waits for said in status.groups if said.skipped)
