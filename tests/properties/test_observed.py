"""Reports in columns do exactly what the same observations do one after the other."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given

from orchestrator.api.observed import recorded
from orchestrator.contract import codec
from orchestrator.contract.model import AllocationId, AllocState, AssignmentKey, Observation
from orchestrator.contract.v1 import agent_pb2 as pb
from orchestrator.replication.codec import decode_entry
from orchestrator.replication.machine import ClusterMachine
from orchestrator.state.apply import apply
from orchestrator.state.commands import Entry, RecordObserved, RecordStatuses
from orchestrator.state.invariants import check
from orchestrator.state.snapshot import capture, image_hash
from orchestrator.state.state import State
from tests.properties.test_apply import NODES, QUIET, SEEDS, SMALL, STEPS, _payload, _prologue

FORWARD = (AllocState.STARTING, AllocState.RUNNING, AllocState.RUNNING, AllocState.COMPLETE, AllocState.FAILED)


@given(SEEDS)
@QUIET
def test_columns_do_what_single_observations_do(seed: int) -> None:
    dice = Random(seed)
    rows, columns = ClusterMachine(SMALL), ClusterMachine(SMALL)
    clock = 1_000
    prologue = _prologue(dice)
    for step in range(STEPS):
        clock += dice.choice((0, 1, 5))
        payload = prologue[step] if step < len(prologue) else _payload(dice, rows.state, clock)
        assert rows.apply(payload) == columns.apply(payload)
        decoded = decode_entry(payload)
        node_id = dice.choice(NODES)
        report = _report(dice, rows.state, node_id)
        entry = Entry(identity="c", request_id="", digest=b"", time_ms=decoded.time_ms, command=report)
        told = [codec.encode(one, pb.Observation()) for one in report.observations]
        other = Entry(identity="c", request_id="", digest=b"", time_ms=decoded.time_ms, command=recorded(node_id, told))
        assert apply(rows.state, entry) == apply(columns.state, other)
        assert rows.state.events.records() == columns.state.events.records()
        assert check(columns.state) == []
        np.testing.assert_array_equal(rows.state.table.told, columns.state.table.told)
    assert image_hash(capture(rows.state)) == image_hash(capture(columns.state))


def test_both_kinds_of_report_reach_the_state() -> None:
    """The property above would hold if nothing was ever recorded."""
    recorded_rows = 0
    for seed in range(20):
        dice = Random(seed)
        machine = ClusterMachine(SMALL)
        for payload in _prologue(dice):
            machine.apply(payload)
        for _ in range(40):
            machine.apply(_payload(dice, machine.state, 2_000))
            node_id = dice.choice(NODES)
            report = recorded(node_id, [codec.encode(o, pb.Observation()) for o in _forward(machine.state, node_id)])
            before = machine.state.events.records()[-1:]  # old ones fall out, so their number says little
            apply(machine.state, Entry(identity="", request_id="", digest=b"", time_ms=2_000, command=report))
            recorded_rows += machine.state.events.records()[-1:] != before
    assert recorded_rows > 20, recorded_rows


def test_a_report_whose_columns_do_not_fit_is_refused() -> None:
    machine = ClusterMachine()
    good = recorded("n1", [])
    for broken in (
        {"job": np.zeros(1, dtype=np.int32)},
        {name: np.zeros(1, dtype=np.int32) for name in good.rows.__slots__},
    ):
        rows = {name: getattr(good.rows, name) for name in good.rows.__slots__} | broken
        command = RecordObserved(node_id="n1", jobs=(), groups=(), reasons=(), rows=type(good.rows)(**rows))
        outcome = apply(machine.state, Entry(identity="", request_id="", digest=b"", time_ms=1, command=command))
        assert getattr(outcome, "reason", "") == "INVALID"


def _forward(state: State, node_id: str) -> list[Observation]:
    rows = [row for row in state.table.used().tolist() if state.node_at[int(state.table.node[row])].spec.id == node_id]
    return [_observation(state, row, 0, AllocState.RUNNING) for row in rows]


def _report(dice: Random, state: State, node_id: str) -> RecordStatuses:
    """Mostly sensible (most are taken in one go), now and then nonsense, the same row twice or an old attempt."""
    used = state.table.used().tolist()
    observations = []
    for row in dice.sample(used, min(len(used), dice.choice((0, 1, 3, 8)))):
        observations.append(_observation(state, row, dice.choice((0, 0, 0, 1)), dice.choice(FORWARD)))
    if observations and dice.random() < 0.2:
        observations.append(dice.choice(observations))
    if used and dice.random() < 0.2:
        odd = dice.choice((-1, 2**33, 0))
        observations.append(_observation(state, dice.choice(used), odd, dice.choice(list(AllocState))))
    return RecordStatuses(node_id=node_id, observations=tuple(observations))


def _observation(state: State, row: int, restarts: int, after: AllocState) -> Observation:
    table = state.table
    known = state.job_at[int(table.job[row])]
    dice = Random(row * 1000 + restarts + int(after))
    return Observation(
        key=AssignmentKey(
            id=AllocationId(
                namespace="default",
                job=known.spec.name,
                group=state.ordinals.names[int(table.gid[row])][1],
                ordinal=int(table.ordinal[row]),
            ),
            job_uid=known.uid,
            attempt=int(table.attempt[row]),
        ),
        restarts=restarts,
        state=after,
        exit_code=dice.choice((0, 1, 2**40, -(2**40))),
        reason=dice.choice(("", "", "exit 1", "x" * 2_000)),
        start_failed=dice.random() < 0.5,
    )
