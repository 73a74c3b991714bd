"""Whatever the log holds: apply never raises, invariants hold, and equal logs give equal states."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import (
    AllocationId,
    AllocState,
    AssignmentKey,
    Disruption,
    JobType,
    Limits,
    LimitsChange,
    Observation,
    OnDisconnect,
    Quota,
    SettingsChange,
    Taint,
    TaintEffect,
    TaintKey,
    Toleration,
)
from orchestrator.contract.rollouts import RolloutAction, UpdateSpec
from orchestrator.replication.codec import encode_entry
from orchestrator.replication.log import FutureFormatError
from orchestrator.replication.machine import ClusterMachine
from orchestrator.state.commands import (
    ActionColumns,
    AdmitPeers,
    Applied,
    ApplyPlan,
    ChangePeers,
    Collect,
    Command,
    CordonNode,
    DrainNode,
    EndRollouts,
    Entry,
    Expectation,
    ForgetNode,
    JobSubmission,
    MarkNodes,
    MoveAllocation,
    NamespaceWrite,
    NodeMark,
    PinImage,
    PlacementColumns,
    RecordProgress,
    RecordStatuses,
    RegisterNode,
    Rejected,
    RemoveJob,
    RestartJob,
    RollbackJob,
    RolloutVerdict,
    ScaleJob,
    SetFeatureLevel,
    SetLimits,
    SetSettings,
    StartProgress,
    SteerRollout,
    StopJob,
    SubmitJobs,
    TaintNode,
    VariablesAnswer,
    WriteNamespace,
    WriteVariable,
    WriteVariables,
)
from orchestrator.state.invariants import check
from orchestrator.state.snapshot import capture, image_hash
from orchestrator.state.state import State
from orchestrator.state.status import job_status
from orchestrator.state.views import assignments_for, cluster_view
from tests.effort import examples, seeds
from tests.unit.state.kit import group, job, node

JOBS = ("a", "b")
GROUPS = ("x", "y")
NODES = ("n1", "n2", "n3")
SMALL = Limits(
    allocations_per_ordinal=2,
    allocation_age_ms=50,
    stopped_job_age_ms=80,
    events=40,
    answers=6,
    answer_age_ms=100,
    answer_bytes=4_000,
    variable_bytes=100,
)
STEPS = 40
SEEDS = st.integers(0, 2**32)
PARTS = 4
"""Of the longest test, so that several workers share it."""
"""Commands are drawn by a seeded generator: Hypothesis' own draws prefer small and equal values, so that hardly a plan
would find a job that still exists. A failure prints its seed."""
QUIET = settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(st.binary(max_size=200))
@settings(max_examples=examples(300), deadline=None)
def test_any_bytes_in_the_log_are_answered(payload: bytes) -> None:
    machine = ClusterMachine()
    assert isinstance(machine.apply(payload), Rejected)
    assert machine.index == 1


@given(SEEDS)
@QUIET
def test_damaged_commands_are_answered_and_break_nothing(seed: int) -> None:
    dice = Random(seed)
    machine = ClusterMachine(SMALL)
    prologue = _prologue(dice)
    for step in range(20):
        payload = bytearray(prologue[step] if step < len(prologue) else _payload(dice, machine.state, 2_000))
        for _ in range(dice.randint(0, 3)):
            place = dice.randint(0, len(payload) - 1)
            payload[place] = dice.randint(0, 255)
        before = machine.index
        try:
            outcome = machine.apply(bytes(payload))
        except FutureFormatError:
            assert machine.index == before
            continue
        answer = outcome.answer if isinstance(outcome, Applied) else None
        assert machine.index == before + (len(answer.outcomes) if isinstance(answer, VariablesAnswer) else 1)
        assert getattr(outcome, "reason", "") != "INTERNAL", outcome
        assert check(machine.state) == []


@pytest.mark.parametrize("part", seeds(range(PARTS), fast={0, 1}))
@given(SEEDS)
@settings(QUIET, max_examples=examples(50) // PARTS + 1)
def test_any_commands_keep_the_invariants_and_equal_logs_give_equal_bytes(part: int, seed: int) -> None:
    dice = Random(seed * PARTS + part)
    machine = ClusterMachine(SMALL)
    log: list[bytes] = []
    clock = 1_000
    outcomes = []
    prologue = _prologue(dice)
    for step in range(STEPS):
        clock += dice.choice((0, 1, 1, 5, 60))
        log.append(prologue[step] if step < len(prologue) else _payload(dice, machine.state, clock))
        outcomes.append(machine.apply(log[-1]))
        assert check(machine.state) == [], outcomes[-1]
        assert getattr(outcomes[-1], "reason", "") != "INTERNAL", outcomes[-1]
        if step % 8 == 7:  # most of the time would go into hashing
            before = image_hash(capture(machine.state))
            _look(machine.state)
            assert image_hash(capture(machine.state)) == before, "looking changes nothing"
        else:
            _look(machine.state)

    again = ClusterMachine(SMALL)
    assert [again.apply(payload) for payload in log] == outcomes
    assert again.state_hash() == machine.state_hash()
    assert b"".join(again.capture()()) == b"".join(machine.capture()())

    # A peer that starts from a snapshot before every single command goes on exactly like the others.
    hopping = ClusterMachine(SMALL)
    for payload, outcome in zip(log, outcomes, strict=True):
        restored = ClusterMachine()
        restored.restore(b"".join(hopping.capture()()))
        hopping = restored
        assert hopping.apply(payload) == outcome
    assert hopping.state_hash() == machine.state_hash()
    assert b"".join(hopping.capture()()) == b"".join(machine.capture()())


@given(st.binary(max_size=60), SEEDS)
@settings(max_examples=examples(100), deadline=None)
def test_a_damaged_snapshot_leaves_the_state_as_it_was(noise: bytes, seed: int) -> None:
    dice = Random(seed)
    machine = ClusterMachine()
    machine.apply(_entry(SubmitJobs(jobs=(JobSubmission(spec=job("a", group("x", 3)), uid="u1"),)), 5))
    machine.apply(_entry(RegisterNode(node=node("n1"), identity="agent:n1"), 6))
    machine.apply(_entry(_plan(dice, machine.state), 7))
    good = b"".join(machine.capture()())
    place = dice.randint(0, len(good))
    damaged = good[:place] + noise + good[place + len(noise) :]
    other = ClusterMachine()
    before = other.state
    try:
        other.restore(damaged)
    except Exception as error:
        assert type(error).__name__ == "CorruptError", error
        assert other.state is before


def _look(state: State) -> None:
    """Views are total too, and share nothing that changes."""
    view = cluster_view(state)
    assert view.index == state.index
    assert len(view.allocations) == len(set(view.allocations.row.tolist()))
    for one in state.jobs.values():
        job_status(state, one)
    for node_id in NODES:
        update = assignments_for(state, node_id)
        assert update.full
        assignments_for(state, node_id, max(1, state.index - 3))


def _entry(command: Command, time_ms: int, request_id: str = "", digest: bytes = b"d", identity: str = "c") -> bytes:
    return encode_entry(
        Entry(identity=identity, request_id=request_id, digest=digest, time_ms=time_ms, command=command)
    )


def _prologue(dice: Random) -> list[bytes]:
    """Something to work on: nodes and jobs that mostly fit. Without it few plans would find anything to place."""
    nodes = [RegisterNode(node=node(name, gpus=2, engine=dice.choice(("", "e1"))), identity="i1") for name in NODES]
    jobs = SubmitJobs(jobs=tuple(replace(_submission(dice, name, 0), expect_version=0) for name in JOBS))
    commands: tuple[Command, ...] = (*nodes, jobs)
    return [_entry(command, 1_000) for command in commands]


def _payload(dice: Random, state: State, clock: int) -> bytes:
    return _entry(
        _command(dice, state),
        clock,
        dice.choice(("",) * 9 + ("r1", "r2", "r3")),
        dice.choice((b"1", b"2")),
    )


def _command(dice: Random, state: State) -> Command:
    name = dice.choice(JOBS)
    node_id = dice.choice(NODES)
    kind = dice.choice(_KINDS)
    if kind is SubmitJobs:
        names = dice.choices(JOBS, k=dice.choice((1, 1, 1, 2)))
        return SubmitJobs(jobs=tuple(_submission(dice, name, state.index + place) for place, name in enumerate(names)))
    if kind is ScaleJob:
        wanted = dice.choice(("", *GROUPS))
        return ScaleJob(namespace="default", name=name, group=wanted, count=dice.randint(-1, 4))
    if kind is SteerRollout:
        return SteerRollout(namespace="default", name=name, action=dice.choice(list(RolloutAction)))
    if kind is RollbackJob:
        return RollbackJob(namespace="default", name=name, version=dice.choice((0, 0, 1, 2, 3, -1, 2**40)))
    if kind is EndRollouts:
        return _verdicts(dice, state)
    if kind in (StopJob, RestartJob, RemoveJob):
        made: StopJob | RestartJob | RemoveJob = kind(namespace="default", name=name)
        return made
    if kind is PinImage:
        return PinImage(
            job_uid=dice.choice([*sorted(state.jobs), "nobody"]),
            group=dice.choice(GROUPS),
            version=dice.randint(1, 6),
            image="nginx",
            digest=f"sha256:{dice.choice('ab') * 64}",
        )
    if kind is RecordProgress:
        return RecordProgress(
            node_id=dice.choice(NODES),
            progress=tuple(
                StartProgress(
                    job_uid=uid, group=dice.choice(GROUPS), ordinal=dice.randint(0, 2), attempt=1, text=f"{number} MiB"
                )
                for number, uid in enumerate(sorted(state.jobs))
            ),
        )
    if kind is MoveAllocation:
        rows = state.table.live_rows().tolist()
        row = dice.choice(rows) if rows and dice.random() < 0.8 else -1
        return MoveAllocation(
            namespace="default",
            name=state.job_at[int(state.table.job[row])].spec.name if row >= 0 else name,
            group=state.ordinals.names[int(state.table.gid[row])][1] if row >= 0 else dice.choice((*GROUPS, "")),
            ordinal=int(state.table.ordinal[row]) if row >= 0 else dice.choice((-1, 0, 2**40)),
            attempt=int(state.table.attempt[row]) if row >= 0 else dice.choice((-1, 0, 1, 2**40)),
        )
    if kind is RegisterNode:
        spec = node(
            node_id,
            cpu=dice.choice((100, 300, 1000)),
            gpus=dice.randint(0, 2),
            engine=dice.choice(("", "e1", "e1")),
            licenses=dice.choice((0, 1, 3)),
        )
        if dice.random() < 0.2:
            spec = replace(spec, taints=(Taint(key="a", effect=dice.choice(list(TaintEffect))),))
        return RegisterNode(node=spec, identity=dice.choice(("i1",) * 9 + ("i2",)))
    if kind is CordonNode:
        return CordonNode(node_id=node_id, cordoned=dice.random() < 0.3)
    if kind is TaintNode:
        some = [Taint(key=dice.choice(("a", "b c")), effect=effect) for effect in dice.sample(list(TaintEffect), 1)]
        return TaintNode(
            node_id=node_id,
            put=tuple(some) if dice.random() < 0.4 else (),
            drop=(TaintKey(key="a", effect=dice.choice((None, *TaintEffect))),) if dice.random() < 0.7 else (),
        )
    if kind is DrainNode:
        cancel = dice.random() < 0.3
        return DrainNode(
            node_id=node_id,
            deadline_after_ms=0 if cancel else dice.choice((0, 0, -1, 1, 60_000)),
            cancel=cancel,
            keep_cordoned=dice.random() < 0.5,
        )
    if kind is ForgetNode:
        return ForgetNode(node_id=node_id)
    if kind is MarkNodes:
        known = state.nodes.get(node_id)
        index = known.register_index if known and dice.choice((True, False)) else dice.randint(0, 30)
        verdict = (NodeMark(node_id=node_id, register_index=index, reason="silent"),)
        return MarkNodes(lost=verdict) if dice.choice((True, False)) else MarkNodes(back=verdict)
    if kind is ApplyPlan:
        return _plan(dice, state)
    if kind is RecordStatuses:
        return _statuses(dice, state, node_id)
    if kind is WriteVariable:
        return _write(dice)
    if kind is WriteVariables:
        return WriteVariables(writes=tuple(_write(dice) for _ in range(dice.randint(0, 3))))
    if kind is Collect:
        return Collect(max_rows=dice.randint(-1, 5))
    if kind is ChangePeers:
        names = dice.sample(("a", "b", "c", "d e", ""), dice.randint(0, 4))
        return ChangePeers(
            expected_epoch=dice.choice((0, 1, 1, 1, 2, -1)),
            addresses=tuple((name, dice.choice((f"h{name}:1", "h:70000", "h:1", ""))) for name in names),
            incarnations=tuple((name, dice.choice((f"i{name}", "i", ""))) for name in names[dice.randint(0, 1) :]),
            known=dice.choice(((), (), tuple(sorted(state.admitted.items())), (("a", "i"),))),
        )
    if kind is AdmitPeers:
        return AdmitPeers(
            cluster_id=dice.choice(("c", "c", "d", "")),
            incarnations=(
                (
                    dice.choice(("p1", "p2")),
                    dice.choice(("i", "j")),
                ),
            ),
        )
    if kind is SetLimits:
        return SetLimits(
            change=LimitsChange(events=dice.choice((None, 99, 100, 120)), answers=dice.choice((None, 100)))
        )
    if kind is WriteNamespace:
        return WriteNamespace(
            name=dice.choice(("default", "default", "team", "bad name")),
            kind=dice.choice(list(NamespaceWrite)),
            quota=Quota(
                cpu_millis=dice.choice((None, -1, 0, 200, 2**60)), allocations=dice.choice((None, None, 2, 5, -1))
            ),
        )
    if kind is SetSettings:
        change = SettingsChange(
            preemption=dice.choice((None, True, True, False)), strict_namespaces=dice.choice((None, True, False))
        )
        return SetSettings(change=change)
    return SetFeatureLevel(level=dice.randint(-1, 3))


def _write(dice: Random) -> WriteVariable:
    return WriteVariable(
        namespace="default",
        name=dice.choice(("v", "w", "bad name")),
        value=dice.choice((None, "", "x", "é", "x" * 101)),
        expectation=dice.choice(list(Expectation)),
        expected=dice.choice(("", "x")),
    )


_KINDS: tuple[type, ...] = (
    *(ApplyPlan,) * 24, *(RecordStatuses,) * 9, SubmitJobs, SubmitJobs, RegisterNode, RegisterNode, RegisterNode,
    MarkNodes, MarkNodes, CordonNode, CordonNode, CordonNode, ScaleJob, StopJob, RestartJob, RemoveJob, DrainNode,
    MoveAllocation, MoveAllocation, SteerRollout, SteerRollout, RollbackJob, RollbackJob, EndRollouts, EndRollouts,
    PinImage, RecordProgress,
    ForgetNode, TaintNode, TaintNode,
    WriteVariable, WriteVariables, Collect, Collect, AdmitPeers, ChangePeers, SetFeatureLevel, SetLimits,
    WriteNamespace, WriteNamespace, SetSettings,
)  # fmt: skip


def _submission(dice: Random, name: str, number: int) -> JobSubmission:
    names = dice.sample(GROUPS, k=dice.randint(1, 2))
    groups = tuple(
        group(
            group_name,
            dice.choice((0, 1, 2, 2, 3)),
            cpu=dice.choice((0, 100)),
            gpus=dice.choice((0, 0, 1)),
            share=dice.choice((500, 1000)),
            ports=dice.choice(((), (), (0,), (80,))),
            licenses=dice.choice((0, 0, 1, 2)),
            tolerations=dice.choice(((), (), (Toleration(key="a"),), (Toleration(delay_ms=1_000),))),
        )
        for group_name in names
    )
    groups = tuple(replace(one, update=dice.choice(_UPDATES)) for one in groups)
    spec = job(name, *groups, kind=dice.choice((*JobType, JobType.SERVICE)))
    spec = replace(
        spec,
        on_disconnect=dice.choice(list(OnDisconnect)),
        priority=dice.choice((20, 50, 80)),
        unpreemptible=dice.random() < 0.2,
        disruption=dice.choice(
            (None, None, Disruption(max_unavailable=1), Disruption(max_unavailable=50, percent=True))
        ),
    )
    return JobSubmission(
        spec=spec,
        uid=f"u{number}-{name}",
        expect_version=dice.choice((None, None, None, None, 0, 1, 2)),
        remember=dice.random() < 0.6,
        in_place=dice.random() < 0.7,
    )


_UPDATES = (
    None,
    UpdateSpec(max_surge=1, max_unavailable=0, auto_revert=True),
    UpdateSpec(max_surge=50, surge_percent=True, max_unavailable=1, canaries=1),
    UpdateSpec(max_unavailable=10_000, auto_revert=True),
)


def _verdicts(dice: Random, state: State) -> EndRollouts:
    found = []
    for uid in dice.sample([*sorted(state.jobs), "nobody"], 1):
        known = state.jobs.get(uid)
        rollout = known.rollout if known else None
        found.append(
            RolloutVerdict(
                uid=uid,
                version=rollout.version if rollout and dice.random() < 0.9 else dice.randint(-1, 3),
                succeeded=dice.random() < 0.4,
                reason=dice.choice(("", "late")),
                progress_ms=rollout.progress_ms if rollout and dice.random() < 0.9 else dice.randint(-1, 3),
            )
        )
    return EndRollouts(verdicts=tuple(found))


def _plan(dice: Random, state: State) -> ApplyPlan:
    """Rows that are mostly plausible: real jobs, next attempts; some that are not."""
    uids = [*sorted(state.jobs), *(["nobody"] if dice.randint(0, 4) == 0 or not state.jobs else [])]
    nodes = [*NODES, *(["nowhere"] if dice.randint(0, 4) == 0 else [])]
    rows, masks, ports, offsets = [], [], [], [0]
    for _ in range(dice.randint(0, 4)):
        place = dice.randint(0, len(uids) - 1)
        known = state.jobs.get(uids[place])
        number = dice.randint(0, len(known.spec.groups) - 1) if known and dice.random() < 0.9 else 1
        ordinal = dice.choice((0, 0, 1, 1, 2, 3))
        attempt, version, millis, mask, count = 1, 1, 0, 0, 0
        if known is not None and number < len(known.spec.groups):
            wanted = known.spec.groups[number]
            attempts = state.ordinals.attempts(state.ordinals.gids[(known.slot, wanted.name)])
            attempt = int(attempts[ordinal]) + 1 if ordinal < len(attempts) else 1
            version = known.version
            need = wanted.resources.gpus
            millis = need.gpu_millis if need else 0
            mask = dice.choice((1, 2)) if need else 0
            count = len(wanted.ports)
            offered = [spec.static or dice.choice((80, 81, 82)) for spec in wanted.ports]
        else:
            offered = []
        if dice.randint(0, 9) == 0:
            attempt, version, mask = (dice.randint(0, 3) for _ in range(3))
        ports.extend(offered[:count])
        offsets.append(len(ports))
        rows.append((place, number, ordinal, attempt, version, dice.randint(0, len(nodes) - 1), millis))
        masks.append(mask)
    acts = []
    live = state.table.live_rows().tolist()
    for _ in range(dice.randint(0, 2) if live or dice.random() < 0.1 else 0):
        action = dice.choice((1, 2, 3, 3, 4, 4, 5))
        if live:
            row = dice.choice(live)
            table = state.table
            uid = state.job_at[int(table.job[row])].uid
            cells = (int(table.group[row]), int(table.ordinal[row]), int(table.attempt[row]))
            acts.append((uids.index(uid), *cells, action, 0, int(table.version[row])))
        else:
            acts.append((dice.randint(0, len(uids) - 1), 0, 0, 1, action, 0, 1))
    placed = np.array(rows, dtype=np.int32).reshape(-1, 7)
    acted = np.array(acts, dtype=np.int32).reshape(-1, 7)
    for_whom = np.array([dice.randint(-1, len(uids) - 1) for _ in acts], dtype=np.int32)
    return ApplyPlan(
        based_on=dice.randint(0, 5),
        jobs=tuple(uids),
        nodes=tuple(nodes),
        reasons=("because",),
        actions=ActionColumns(
            job=acted[:, 0].copy(),
            group=acted[:, 1].copy(),
            ordinal=acted[:, 2].copy(),
            attempt=acted[:, 3].copy(),
            action=acted[:, 4].copy(),
            reason=acted[:, 5].copy(),
            version=acted[:, 6].copy() if dice.choice((True, False)) else None,
            by=for_whom if dice.randint(0, 5) else None,
        ),
        placements=PlacementColumns(
            job=placed[:, 0].copy(),
            group=placed[:, 1].copy(),
            ordinal=placed[:, 2].copy(),
            attempt=placed[:, 3].copy(),
            version=placed[:, 4].copy(),
            node=placed[:, 5].copy(),
            device_mask=np.array(masks, dtype=np.uint64),
            gpu_millis=placed[:, 6].copy(),
            ports=np.array(ports, dtype=np.int32),
            port_offsets=np.array(offsets, dtype=np.int32),
        ),
    )


def _statuses(dice: Random, state: State, node_id: str) -> RecordStatuses:
    table = state.table
    observations = []
    used = table.used().tolist()
    for _ in range(dice.randint(0, 3) if used else 0):
        row = dice.choice(used)
        known = state.job_at[int(table.job[row])]
        node_id = state.node_at[int(table.node[row])].spec.id if dice.randint(0, 5) else node_id
        group_name = state.ordinals.names[int(table.gid[row])][1]
        alloc = AllocationId(
            namespace="default", job=known.spec.name, group=group_name, ordinal=int(table.ordinal[row])
        )
        observations.append(
            Observation(
                key=AssignmentKey(
                    id=alloc,
                    job_uid=known.uid,
                    attempt=int(table.attempt[row]) + dice.choice((0, 0, 0, 1, -1)),
                ),
                restarts=dice.choice((0, 0, 1, -1, 2**40)),
                state=dice.choice(list(AllocState)),
                exit_code=dice.choice((0, 1, -(2**40))),
                reason=dice.choice(("", "exit 1")),
                start_failed=dice.choice((True, False)),
                health=dice.choice((0, 0, 2, 3, 4, 5, 9, -1, 2**62 + 1)),
            )
        )
    return RecordStatuses(node_id=node_id, observations=tuple(observations))
