"""Whole lives of jobs of every kind: whatever follows on whatever, nothing raises, and it comes to rest as it should.

Other properties hold one subject against its bounds (rollouts, gangs, periodic jobs, drains); here the subjects meet.
Jobs change their type, groups and wishes while they are rolled out, drained, preempted and reverted; agents obey late
and badly; peers change, start from snapshots, and wake late. Every plan is held against what a version must not do that
waits for its promotion: only its canaries run it; ``CanaryLife`` has many of these. A failure prints its seed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest

from orchestrator import plan
from orchestrator.contract import health
from orchestrator.contract.batch import After, AfterCondition, Missed, Overlap, ParameterizedSpec, PeriodicSpec
from orchestrator.contract.model import (
    Affinity,
    AllocState,
    AssignmentKey,
    Constraint,
    ConstraintOperator,
    Desired,
    Device,
    DeviceRequest,
    Disruption,
    GangDomain,
    GangFailure,
    GangSpec,
    GroupSpec,
    JobSpec,
    JobType,
    Limits,
    Link,
    NodeSpec,
    NodeStatus,
    Observation,
    OnDisconnect,
    PortSpec,
    Quota,
    Resources,
    RestartMode,
    RestartPolicy,
    SettingsChange,
    Spread,
    Taint,
    TaintEffect,
    TaintKey,
    TaskSpec,
    Toleration,
)
from orchestrator.contract.rollouts import RolloutAction, UpdateSpec
from orchestrator.leader.cluster import StateCluster
from orchestrator.leader.schedule import Timetable
from orchestrator.reconcile.sight import Sight
from orchestrator.replication.codec import decode_entry, encode_entry
from orchestrator.replication.snapshot_codec import decode_snapshot, encode_snapshot
from orchestrator.state import views
from orchestrator.state.apply import apply
from orchestrator.state.commands import (
    Applied,
    ApplyPlan,
    Collect,
    Command,
    CordonDevice,
    CordonNode,
    DispatchJob,
    DrainNode,
    EndRollouts,
    Entry,
    ForceRun,
    ForgetNode,
    JobSubmission,
    MarkNodes,
    MoveAllocation,
    NamespaceWrite,
    NodeMark,
    Outcome,
    PlanAnswer,
    RecordStatuses,
    RegisterNode,
    RemoveJob,
    RestartJob,
    RollbackJob,
    ScaleJob,
    SetFeatureLevel,
    SetSettings,
    SteerRollout,
    StopJob,
    SubmitJobs,
    TaintNode,
    WriteNamespace,
)
from orchestrator.state.features import HIGHEST
from orchestrator.state.invariants import check
from orchestrator.state.model import Job
from orchestrator.state.snapshot import capture, image_hash, restore
from orchestrator.state.state import State, new_state
from orchestrator.state.status import job_status
from tests.effort import seeds

T = TypeVar("T")
START_MS = 1_790_000_000_000
NAMES = ("a", "b", "c")
GROUPS = ("x", "y", "z")
NODES = ("n1", "n2", "n3", "n4")
KEEPS = Limits(
    allocations_per_ordinal=3,
    allocation_age_ms=600_000,
    stopped_job_age_ms=1_200_000,
    events=300,
    answers=50,
    answer_age_ms=600_000,
)
STEPS = 160
ROUNDS_MAX = 400
"""After the last disturbance: nothing here needs so many, unless it never comes to rest."""


class Life:
    """One replicated state, the peers that lead in turn, and agents of four nodes."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.state: State = new_state(KEEPS)
        self.now_ms = START_MS
        self.minted = 0
        self.sequence = 0
        self.log: list[bytes] = []
        self.met: Counter[str] = Counter()
        self.lead_anew()
        self.do(SetFeatureLevel(level=HIGHEST))
        for name in NODES:
            self.do(RegisterNode(node=self.node(name), identity=f"agent:{name}"))

    # ------------------------------------------------------------------------ the log

    def do(self, command: Command) -> Outcome:
        payload = encode_entry(Entry(identity="t", request_id="", digest=b"", time_ms=self.now_ms, command=command))
        self.log.append(payload)
        before = {key: len(found) for key, found in self.canaries().items()}
        outcome = apply(self.state, decode_entry(payload))
        assert check(self.state) == [], command
        if isinstance(command, ApplyPlan):
            self.held_to_canaries(before)
        return outcome

    def canaries(self) -> dict[tuple[str, str], set[int]]:
        """By uid and group, of jobs whose newest version waits for its promotion: the ordinals of which something of
        it lives that the version before has not like that."""
        found: dict[tuple[str, str], set[int]] = {}
        table = self.state.table
        for job, before in self.unpromoted():
            for group in job.spec.groups:
                rows = self.rows_of(job, group.name)
                rows = [row for row in rows if table.is_live(row) and table.ordinal[row] < group.count]
                live = [row for row in rows if not self.runs(job, row, before, group.name)]
                newer = {int(table.ordinal[row]) for row in live if self.runs(job, row, job.spec, group.name)}
                found[job.uid, group.name] = newer
        return found

    def held_to_canaries(self, before: dict[tuple[str, str], int]) -> None:
        """Before its promotion no more than the canaries run the newest version, and whatever is placed besides is of
        the version before. ``before``: how many there were (another count or policy may leave too many)."""
        now = self.canaries()
        for job, base in self.unpromoted():
            names = {group.name for group in job.spec.groups}
            for group in (*job.spec.groups, *(one for one in base.groups if one.name not in names)):
                most = group.update.canaries if group.update is not None and group.gang is None else 0
                newer = now.get((job.uid, group.name), set())
                assert len(newer) <= max(most, before.get((job.uid, group.name), 0)), (job.spec.name, group.name)
                for row in self.rows_of(job, group.name):
                    if int(self.state.table.create_index[row]) != self.state.index:
                        continue
                    known = self.runs(job, row, base, group.name)
                    self.met["canary" if not known else "held"] += 1
                    assert known or int(self.state.table.ordinal[row]) in newer, (job.spec.name, group.name, row)

    def unpromoted(self) -> list[tuple[Job, JobSpec]]:
        """Jobs whose newest version waits for its promotion, each with what it was before."""
        waiting = []
        for job in self.state.jobs.values():
            if job.rollout is not None and not job.rollout.promoted and job.rollout.base_version and not job.stopped:
                waiting.append((job, dict(job.specs)[job.rollout.base_version]))
        return waiting

    def rows_of(self, job: Job, group: str) -> list[int]:
        gid = self.state.ordinals.gids[(job.slot, group)]
        rows = self.state.rows_that_count([gid])
        found: list[int] = rows.tolist()
        return found

    def runs(self, job: Job, row: int, spec: JobSpec, name: str) -> bool:
        """Whether a row runs the group as this spec has it."""
        of = dict(job.specs)[int(self.state.table.version[row])]
        if (of.type, of.constraints) != (spec.type, spec.constraints):
            return False
        mine = of.groups[int(self.state.table.group[row])]
        there = [one for one in spec.groups if one.name == name]
        return bool(there) and replace(mine, count=0, update=None) == replace(there[0], count=0, update=None)

    def mint(self) -> str:
        self.minted += 1
        return f"{self.minted:032x}"

    # ------------------------------------------------------------------------ who leads

    def lead_anew(self) -> None:
        """Another peer leads, which remembers nothing."""
        cluster = StateCluster(lambda: self.state)
        self.sight = Sight(cluster)
        self.planner = plan.Planner()
        self.timetable = Timetable(cluster, mint=self.mint)

    def from_snapshot(self) -> None:
        before = image_hash(capture(self.state))
        self.state = restore(decode_snapshot(b"".join(encode_snapshot(capture(self.state)))))
        assert image_hash(capture(self.state)) == before
        self.lead_anew()

    def round(self) -> bool:
        """One round of the leader's loop, as ``leader.loop`` does it; whether it did anything."""
        due = self.timetable.due(self.now_ms)
        if due is not None:
            outcome = self.do(due)
            return bool(getattr(getattr(outcome, "answer", None), "changed", True))
        view = self.sight.look(self.now_ms)
        if view is None:
            return False
        decision = self.planner.decide(view, self.now_ms)
        if decision.blind:
            self.sight.forget()
            view = self.sight.look(self.now_ms)
            assert view is not None
            decision = self.planner.decide(view, self.now_ms)
        self.sight.decided(
            view, pending=decision.pending, more=decision.more, left=decision.left, wake_at_ms=decision.wake_at_ms
        )
        if decision.verdicts:
            self.do(EndRollouts(verdicts=tuple(decision.verdicts)))
            self.sight.forget()
        for one in decision.plans:
            outcome = self.do(one)
            assert isinstance(outcome, Applied), outcome
            assert isinstance(outcome.answer, PlanAnswer)
            if outcome.answer.rejected:
                self.sight.forget()
        return bool(decision.plans) or bool(decision.verdicts) or decision.more or view.held is not None

    # ------------------------------------------------------------------------ agents

    def observe(self, row: int, after: AllocState, *, ready: bool = True, failed: bool = False, again: int = 0) -> None:
        seen = views.allocation(self.state, row)
        self.sequence += 1
        one = Observation(
            key=AssignmentKey(id=seen.id, job_uid=seen.job_uid, attempt=seen.attempt),
            restarts=seen.restarts + again,
            state=after,
            exit_code=1 if after is AllocState.FAILED else 0,
            start_failed=failed,
            health=health.word(self.sequence, ready) if after is AllocState.RUNNING else 0,
        )
        self.do(RecordStatuses(node_id=seen.node_id, observations=(one,)))

    def reachable(self, row: int) -> bool:
        node = self.state.node_at.get(int(self.state.table.node[row]))
        return node is not None and node.status is NodeStatus.READY

    def obey(self, row: int) -> bool:
        """The agent does what it is told, well; whether there was anything."""
        table = self.state.table
        if not self.reachable(row):
            return False
        state = AllocState(int(table.state[row]))
        if table.desired[row] == int(Desired.STOP) or state is AllocState.STOPPING:
            self.observe(row, AllocState.STOPPED)
        elif state in (AllocState.PENDING, AllocState.STARTING):
            self.observe(row, AllocState.RUNNING)
        elif state is AllocState.RUNNING and self.state.job_at[int(table.job[row])].spec.type is JobType.BATCH:
            self.observe(row, AllocState.COMPLETE)
        elif state is AllocState.RUNNING and not health.is_ready(int(table.health[row])):
            self.observe(row, AllocState.RUNNING)
        else:
            return False
        return True

    def live(self) -> list[int]:
        found: list[int] = self.state.table.live_rows().tolist()
        return found

    # ------------------------------------------------------------------------ what people want

    def node(self, name: str) -> NodeSpec:
        dice = self.dice
        gpus = dice.choice((0, 2, 4))
        return NodeSpec(
            id=name,
            name=name,
            drivers=dice.choice((("docker",), ("docker", "process"))),
            engine_id=dice.choice(("", "e1")),
            labels=(("disk", dice.choice(("ssd", "hdd"))),),
            zone=dice.choice(("", "za", "zb")),
            rack=dice.choice(("", "r1", "r2")),
            capacity=Resources(
                cpu_millis=dice.choice((500, 1_000, 2_000)),
                memory_mib=2_000,
                disk_mib=1_000,
                custom=(("licenses", 2),) if dice.random() < 0.5 else (),
            ),
            devices=tuple(
                Device(id=f"{name}-{place}", model=dice.choice(("T4", "A100")), memory_mib=16_000, island=place // 2)
                for place in range(gpus)
            ),
            taints=(Taint(key="gone", effect=dice.choice(tuple(TaintEffect))),) if dice.random() < 0.1 else (),
            datasets=("set",) if dice.random() < 0.3 else (),
        )

    def group(self, name: str, kind: JobType) -> GroupSpec:
        dice = self.dice
        gpus = dice.choice((0, 0, 0, 1, 2))
        need = DeviceRequest(
            count=gpus,
            gpu_millis=dice.choice((1_000, 500)) if gpus == 1 else 1_000,
            models=dice.choice(((), (), ("T4",))),
            link=dice.choice((Link.ANY, Link.ANY, *Link)),
        )
        resources = Resources(
            cpu_millis=dice.choice((0, 50, 100, 300)),
            memory_mib=dice.choice((0, 10, 200)),
            gpus=need if gpus else None,
            custom=(("licenses", 1),) if dice.random() < 0.1 else (),
        )
        first = TaskSpec(name="t0", image=dice.choice(("web:1", "web:2")), resources=resources)
        beside = TaskSpec(name="t1", image="side:1", resources=Resources(cpu_millis=10, memory_mib=10))
        tasks = (first, beside) if dice.random() < 0.2 else (first,)
        gang = None
        if kind is not JobType.SYSTEM and dice.random() < 0.2:
            gang = GangSpec(domain=dice.choice(tuple(GangDomain)), on_failure=dice.choice(tuple(GangFailure)))
        return GroupSpec(
            name=name,
            count=dice.choice((0, 1, 1, 2, 3, 5)),
            tasks=tasks,
            ports=tuple(
                PortSpec(label=f"p{place}", static=dice.choice((0, 0, 80))) for place in range(dice.choice((0, 0, 1)))
            ),
            restart=RestartPolicy(
                attempts=dice.choice((0, 2)), delay_ms=dice.choice((0, 5_000)), mode=dice.choice(tuple(RestartMode))
            ),
            constraints=self.some(
                Constraint(attribute="disk", operator=ConstraintOperator.EQUAL, values=("ssd",)), 0.15
            ),
            affinity=self.some(
                dice.choice(
                    (
                        Affinity(job=dice.choice(NAMES), weight=dice.choice((-80, 60)), required=dice.random() < 0.5),
                        Affinity(
                            constraint=Constraint(attribute="disk", operator=ConstraintOperator.EQUAL, values=("hdd",)),
                            weight=dice.choice((-50, 50)),
                        ),
                    )
                ),
                0.2,
            ),
            spread=self.some(
                Spread(attribute=dice.choice(("node.zone", "node.id", "disk")), required=dice.random() < 0.5), 0.2
            ),
            tolerations=dice.choice(
                ((), (), (Toleration(key="gone"),), (Toleration(delay_ms=dice.choice((0, 9_000))),))
            ),
            datasets=("set",) if dice.random() < 0.1 else (),
            locality=dice.choice((0, 0, 50)),
            gang=gang,
            update=self.update(),
        )

    def some(self, one: T, chance: float) -> tuple[T, ...]:
        return (one,) if self.dice.random() < chance else ()

    def update(self) -> UpdateSpec | None:
        dice = self.dice
        if dice.random() < 0.3:
            return None
        return UpdateSpec(
            max_surge=dice.choice((0, 1, 2)),
            max_unavailable=dice.choice((0, 1, 2)),
            canaries=dice.choice((0, 0, 1, 2)),
            min_ready_ms=dice.choice((0, 0, 3_000)),
            progress_deadline_ms=dice.choice((0, 20_000, 60_000)),
            auto_revert=dice.random() < 0.5,
        )

    def job(self, name: str) -> JobSpec:
        dice = self.dice
        kind = dice.choice((JobType.SERVICE, JobType.SERVICE, JobType.BATCH, JobType.BATCH, JobType.SYSTEM))
        names = dice.sample(GROUPS, dice.choice((1, 1, 2, 3)))
        groups = [self.group(one, kind) for one in names]
        periodic = parameterized = None
        if kind is JobType.BATCH:
            for place in range(1, len(groups)):
                if dice.random() < 0.5:
                    after = After(group=names[dice.randrange(place)], condition=dice.choice(tuple(AfterCondition)))
                    groups[place] = replace(groups[place], after=(after,))
            template = dice.random()
            if template < 0.15:
                periodic = PeriodicSpec(
                    cron=("* * * * *",), overlap=dice.choice(tuple(Overlap)), missed=dice.choice(tuple(Missed))
                )
            elif template < 0.3:
                parameterized = ParameterizedSpec()
        return JobSpec(
            name=name,
            namespace=dice.choice(("default", "default", "default", "team")),
            type=kind,
            priority=dice.choice((20, 50, 50, 80)),
            groups=tuple(groups),
            placement=dice.choice(("", "", "spread", "binpack", "fragmentation")),
            on_disconnect=dice.choice(tuple(OnDisconnect)),
            disruption=dice.choice((None, Disruption(max_unavailable=1), Disruption(max_unavailable=50, percent=True))),
            unpreemptible=dice.random() < 0.2,
            periodic=periodic,
            parameterized=parameterized,
        )

    # ------------------------------------------------------------------------ what happens

    def disturb(self) -> None:
        dice, name, node = self.dice, self.dice.choice(NAMES), self.dice.choice(NODES)
        namespace = dice.choice(("default", "default", "default", "team"))
        if self.state.jobs and dice.random() < 0.9:
            known_job = dice.choice(list(self.state.jobs.values()))
            name, namespace = known_job.spec.name, known_job.spec.namespace
        rows = self.live()
        row = dice.choice(rows) if rows else -1
        known = self.state.nodes.get(node)
        index = known.register_index if known is not None else 0
        what = dice.randrange(36)
        if what < 9:
            self.submit(dice.choice(NAMES))
        elif what < 11:
            group = dice.choice(("", *GROUPS))
            self.do(ScaleJob(namespace=namespace, name=name, group=group, count=dice.choice((0, 1, 2, 4))))
        elif what < 12:
            self.do(RestartJob(namespace=namespace, name=name))
        elif what < 14:
            self.do(RollbackJob(namespace=namespace, name=name, version=dice.choice((0, 0, 1, 2, 3))))
        elif what < 17:
            self.do(SteerRollout(namespace=namespace, name=name, action=dice.choice(tuple(RolloutAction))))
        elif what < 18:
            self.do(StopJob(namespace=namespace, name=name))
        elif what < 19:
            self.do(RemoveJob(namespace=namespace, name=name))
        elif what < 20:
            self.do(ForceRun(namespace=namespace, name=self.template(name), uid=self.mint()))
        elif what < 22:
            name = self.template(name)
            self.do(DispatchJob(namespace=namespace, name=name, uid=self.mint()))
        elif what < 23:
            self.do(CordonNode(node_id=node, cordoned=dice.random() < 0.5))
        elif what < 25:
            cancel = dice.random() < 0.4
            deadline_ms = 0 if cancel else dice.choice((0, 5_000, 30_000))
            self.do(DrainNode(node_id=node, deadline_after_ms=deadline_ms, cancel=cancel, keep_cordoned=False))
        elif what < 27:
            mark = (NodeMark(node_id=node, register_index=index, reason="silent"),)
            self.do(MarkNodes(lost=mark) if dice.random() < 0.5 else MarkNodes(back=mark))
        elif what < 28:
            self.do(RegisterNode(node=self.node(node), identity=f"agent:{node}"))
        elif what < 29:
            self.do(ForgetNode(node_id=node))
        elif what < 30:
            taint = Taint(key=dice.choice(("gone", "slow")), effect=dice.choice(tuple(TaintEffect)))
            put = (taint,) if dice.random() < 0.5 else ()
            self.do(TaintNode(node_id=node, put=put, drop=() if put else (TaintKey(key=taint.key),)))
        elif what < 31:
            self.do(CordonDevice(node_id=node, device_id=f"{node}-0", cordoned=dice.random() < 0.5))
        elif what < 32:
            if row >= 0:
                one = views.allocation(self.state, row).id
                attempt = int(self.state.table.attempt[row])
                self.do(
                    MoveAllocation(
                        namespace=one.namespace, name=one.job, group=one.group, ordinal=one.ordinal, attempt=attempt
                    )
                )
        elif what < 33:
            quota = Quota(cpu_millis=dice.choice((None, 300)), allocations=dice.choice((None, 4)))
            self.do(WriteNamespace(name="team", kind=dice.choice(tuple(NamespaceWrite)), quota=quota))
        elif what < 34:
            change = SettingsChange(preemption=dice.random() < 0.7, strict_namespaces=dice.random() < 0.2)
            self.do(SetSettings(change=change))
        elif what < 35:
            self.do(Collect())
        else:
            self.from_snapshot()

    def template(self, name: str) -> str:
        """The job, or what it is a run of."""
        return name.partition("/")[0]

    def submit(self, name: str) -> None:
        spec = self.job(name)
        known = self.state.find_job(spec.namespace, name)
        if known is not None and self.dice.random() < 0.5:  # a small change of what is there
            new, place = spec.groups[0], self.dice.randrange(len(known.spec.groups))
            groups = list(known.spec.groups)
            groups[place] = replace(new, name=groups[place].name, after=groups[place].after)
            spec = replace(known.spec, groups=tuple(groups), priority=spec.priority, on_disconnect=spec.on_disconnect)
        remember, in_place = self.dice.random() < 0.7, self.dice.random() < 0.5
        self.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=self.mint(), remember=remember, in_place=in_place),)))

    def agents(self) -> None:
        """Some of them do something: mostly what they were told."""
        for row in self.live():
            if self.dice.random() < 0.5 or not self.reachable(row):
                continue
            luck = self.dice.random()
            running = self.state.table.state[row] == int(AllocState.RUNNING)
            if luck < 0.75:
                self.obey(row)
            elif luck < 0.8 and running:
                self.observe(row, AllocState.RUNNING, ready=False)
            elif luck < 0.85 and running:
                self.observe(row, AllocState.RUNNING, again=1)
            elif luck < 0.95:
                self.observe(row, AllocState.FAILED, failed=self.dice.random() < 0.5)
            else:
                self.observe(row, AllocState.COMPLETE)

    def look(self) -> None:
        """What people ask for at any time."""
        for job in self.state.jobs.values():
            job_status(self.state, job)
        view = views.cluster_view(self.state)
        uids = sorted(self.state.jobs)
        plan.explain_many(view, uids, self.now_ms)
        plan.pending(view, self.now_ms)

    def come_to_rest(self) -> None:
        """Nobody disturbs, agents obey, and time goes on: within some rounds there is nothing left to do now."""
        for slot in sorted(self.state.periodic):  # runs for ever
            job = self.state.job_at[slot]
            self.do(StopJob(namespace=job.spec.namespace, name=job.spec.name))
        idle = 0
        for _ in range(ROUNDS_MAX):
            did = self.round()
            for row in self.live():
                did = self.obey(row) or did
            idle = 0 if did else idle + 1
            if idle == 2:
                wake = self.sight.wake_at_ms
                if wake is None or wake > self.now_ms + 3_600_000:
                    return
                self.now_ms = max(wake, self.now_ms + 1)
                idle = 0
        raise AssertionError(f"still at work: {self.state.events.after(0)[-12:]}")


class CanaryLife(Life):
    """Services that ask for canaries, mostly: small ones that find room, and changes that nobody promotes for long."""

    def group(self, name: str, kind: JobType) -> GroupSpec:
        group = super().group(name, kind)
        if self.dice.random() < 0.2:
            return group
        plain = GroupSpec(name=name, count=group.count, tasks=group.tasks, restart=group.restart, update=group.update)
        small = Resources(cpu_millis=self.dice.choice((10, 20)), memory_mib=10)
        return replace(plain, tasks=(replace(group.tasks[0], resources=small),))

    def update(self) -> UpdateSpec | None:
        update = super().update() or UpdateSpec()
        return replace(update, canaries=self.dice.choice((0, 1, 1, 2)), auto_revert=self.dice.random() < 0.2)

    def job(self, name: str) -> JobSpec:
        job = super().job(name)
        if self.dice.random() < 0.1:
            return job
        groups = tuple(replace(group, after=()) for group in job.groups)
        return replace(job, type=JobType.SERVICE, groups=groups, periodic=None, parameterized=None, namespace="default")

    def disturb(self) -> None:
        waiting = [job for job, _ in self.unpromoted()]
        if not waiting or self.dice.random() < 0.5:
            super().disturb()
            return
        job = self.dice.choice(waiting)
        node, index = self.dice.choice([(one.spec.id, one.register_index) for one in self.state.nodes.values()])
        what = self.dice.randrange(8)
        mark = (NodeMark(node_id=node, register_index=index, reason="silent"),)
        if what < 2:
            self.do(MarkNodes(lost=mark))
        elif what < 4:
            self.do(MarkNodes(back=mark))
        elif what < 5:
            self.do(DrainNode(node_id=node, cancel=self.dice.random() < 0.5, keep_cordoned=False))
        elif what < 6:
            group = self.dice.choice(job.spec.groups).name
            count = self.dice.choice((0, 1, 3, 5))
            self.do(ScaleJob(namespace=job.spec.namespace, name=job.spec.name, group=group, count=count))
        elif what < 7:
            action = self.dice.choice((RolloutAction.PAUSE, RolloutAction.RESUME))
            self.do(SteerRollout(namespace=job.spec.namespace, name=job.spec.name, action=action))
        else:
            self.round()


def live(seed: int, steps: int = STEPS, kind: type[Life] = Life) -> Life:
    life = kind(seed)
    dice = life.dice
    for _ in range(steps):
        life.now_ms += dice.choice((0, 0, 100, 1_000, 1_000, 5_000, 30_000))
        turn = dice.random()
        if turn < 0.35:
            life.disturb()
        elif turn < 0.7:
            life.round()
        elif turn < 0.97:
            life.agents()
        else:
            life.look()
    return life


@pytest.mark.parametrize("seed", seeds(range(24), fast={17}))
def test_whatever_follows_on_whatever_it_comes_to_rest(seed: int) -> None:
    comes_to_rest(live(seed))


@pytest.mark.parametrize("seed", seeds(range(20), fast={4}))
def test_whatever_happens_while_canaries_wait_only_they_run_the_newest_version(seed: int) -> None:
    """Every plan is held against that (``Life.held_to_canaries``)."""
    comes_to_rest(live(seed, kind=CanaryLife))


def comes_to_rest(life: Life) -> None:
    life.come_to_rest()
    life.look()
    view = views.cluster_view(life.state)
    assert plan.decide(view, life.now_ms).plans == (), "who looks at everything finds something to do"

    again = new_state(KEEPS)
    for place, payload in enumerate(life.log):
        if place % 50 == 49:
            again = restore(decode_snapshot(b"".join(encode_snapshot(capture(again)))))
        apply(again, decode_entry(payload))
    assert image_hash(capture(again)) == image_hash(capture(life.state))
