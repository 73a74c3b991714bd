"""Messages that are filled for thousands of rows say what ``views.assignment`` says of each."""

from __future__ import annotations

from random import Random

from hypothesis import given

from orchestrator.api.assigned import AssignmentWriter
from orchestrator.contract import codec
from orchestrator.contract.v1 import agent_pb2 as pb
from orchestrator.replication.machine import ClusterMachine
from orchestrator.state import views
from tests.properties.test_apply import QUIET, SEEDS, SMALL, _payload, _prologue


@given(SEEDS)
@QUIET
def test_rows_written_together_are_the_rows_written_one_by_one(seed: int) -> None:
    dice = Random(seed)
    machine = ClusterMachine(SMALL)
    writer = AssignmentWriter()
    for payload in _prologue(dice):
        machine.apply(payload)
    for step in range(30):
        machine.apply(_payload(dice, machine.state, 2_000))
        state = machine.state
        if step % 7 == 6:
            state.attempt_floor = dice.choice((0, 1, 2))  # as after a restore: older attempts are only taken up
        rows = state.table.live_rows()
        written = pb.AssignmentsUpdate()
        writer.write(state, rows, written.assignments)
        expected = [codec.encode(views.assignment(state, row), pb.Assignment()) for row in rows.tolist()]
        assert list(written.assignments) == expected


def test_the_property_sees_devices_ports_and_restored_attempts() -> None:
    seen = {"devices": 0, "ports": 0, "rows": 0}
    for seed in range(30):
        dice = Random(seed)
        machine = ClusterMachine(SMALL)
        for payload in _prologue(dice):
            machine.apply(payload)
        for _ in range(30):
            machine.apply(_payload(dice, machine.state, 2_000))
            for row in machine.state.table.live_rows().tolist():
                found = views.assignment(machine.state, row)
                seen["devices"] += bool(found.device_ids)
                seen["ports"] += bool(found.ports)
                seen["rows"] += 1
    assert all(seen.values()), seen
