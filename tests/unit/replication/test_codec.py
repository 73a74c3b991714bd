"""Commands and snapshots as bytes: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from orchestrator.api.observed import recorded
from orchestrator.contract import codec as contract_codec
from orchestrator.contract.codec import CodecError
from orchestrator.contract.errors import CorruptError
from orchestrator.contract.health import CheckKind, CheckSpec, HealthSpec
from orchestrator.contract.model import (
    AllocationId,
    AllocState,
    AssignmentKey,
    Constraint,
    ConstraintOperator,
    Device,
    DeviceRequest,
    Disruption,
    GroupSpec,
    JobSpec,
    JobType,
    LimitsChange,
    MountSpec,
    NodeSpec,
    Observation,
    OnDisconnect,
    PortSpec,
    Protocol,
    Quota,
    Resources,
    RestartMode,
    RestartPolicy,
    SettingsChange,
    StopPolicy,
    Taint,
    TaintEffect,
    TaintKey,
    TaskObservation,
    TaskSpec,
)
from orchestrator.contract.rollouts import RolloutAction, UpdateSpec
from orchestrator.contract.v1 import agent_pb2
from orchestrator.replication.codec import FORMAT, decode_entry, encode_entry
from orchestrator.replication.log import FutureFormatError, StateMachine
from orchestrator.replication.machine import ClusterMachine, admission_payload
from orchestrator.replication.v1 import log_pb2
from orchestrator.state import apply as state_apply
from orchestrator.state import commands as cmd
from orchestrator.state.features import HIGHEST, LIMIT
from tests.unit.state.kit import job

SPEC = JobSpec(
    namespace="team",
    name="web",
    type=JobType.BATCH,
    priority=7,
    groups=(
        GroupSpec(
            name="api",
            count=3,
            tasks=(
                TaskSpec(
                    name="main",
                    driver="docker",
                    image="nginx",
                    command=("sh", "-c"),
                    args=("é",),
                    env=(("A", "1"), ("B", "")),
                    resources=Resources(
                        cpu_millis=1,
                        memory_mib=2,
                        disk_mib=3,
                        gpus=DeviceRequest(count=1, gpu_millis=500, memory_mib=4, models=("T4",)),
                    ),
                    stop=StopPolicy(signal="SIGINT", timeout_ms=5),
                    variables=(("TOKEN", "token"),),
                    work_dir="/w",
                    user="1000",
                    privileged=True,
                    mounts=(MountSpec(source="/a", target="/b", read_only=False),),
                    health=HealthSpec(
                        liveness=CheckSpec(kind=CheckKind.HTTP, port="http", path="/", headers=(("A", "b"),), tls=True),
                        readiness=CheckSpec(kind=CheckKind.EXEC, command=("true",), grace_ms=4),
                    ),
                ),
            ),
            ports=(PortSpec(label="http", to=80, static=8080, protocol=Protocol.UDP),),
            restart=RestartPolicy(attempts=9, delay_ms=8, mode=RestartMode.DELAY),
            update=UpdateSpec(max_surge=25, surge_percent=True, max_unavailable=0, canaries=1, auto_revert=True),
            constraints=(Constraint(attribute="zone", operator=ConstraintOperator.IN, values=("a", "b")),),
        ),
    ),
    placement="spread",
    on_disconnect=OnDisconnect.KEEP,
    constraints=(Constraint(attribute="gpu", operator=ConstraintOperator.EXISTS),),
    metadata=(("owner", "me"),),
    disruption=Disruption(max_unavailable=25, percent=True),
    unpreemptible=True,
)
NODE = NodeSpec(
    id="n1",
    name="one",
    address="10.0.0.1",
    engine_id="e",
    drivers=("docker", "process"),
    labels=(("zone", "a"),),
    capacity=Resources(cpu_millis=1, memory_mib=2, disk_mib=3),
    devices=(Device(id="g", model="T4", memory_mib=5, island=1, numa=1),),
    port_min=1,
    port_max=2,
    version="v",
    boot_id="b",
)
KEY = AssignmentKey(id=AllocationId(namespace="d", job="j", group="g", ordinal=4), job_uid="u", attempt=5)
OBSERVATION = Observation(
    key=KEY,
    restarts=1,
    state=AllocState.FAILED,
    exit_code=-1,
    reason="oom",
    start_failed=True,
    tasks=(TaskObservation(task="t", state=AllocState.FAILED, exit_code=137, restarts=2, oom_killed=True),),
)


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int32)


PLAN = cmd.ApplyPlan(
    based_on=9,
    jobs=("u",),
    nodes=("n1", "n2"),
    reasons=("lost",),
    actions=cmd.ActionColumns(
        job=ints(0), group=ints(1), ordinal=ints(2), attempt=ints(3), action=ints(1), reason=ints(0), version=ints(4)
    ),
    placements=cmd.PlacementColumns(
        job=ints(0, 0),
        group=ints(0, 1),
        ordinal=ints(5, 99_999),
        attempt=ints(1, 2**31 - 1),
        version=ints(1, 1),
        node=ints(0, 1),
        device_mask=np.array([2**63, 1], dtype=np.uint64),
        gpu_millis=ints(500, 0),
        ports=ints(80, 81),
        port_offsets=ints(0, 2, 2),
    ),
)
NONE = ints()
COMMANDS: tuple[cmd.Command, ...] = (
    cmd.SubmitJobs(
        jobs=(cmd.JobSubmission(spec=SPEC, uid="u", expect_version=0), cmd.JobSubmission(spec=job("b"), uid="v"))
    ),
    cmd.StopJob(namespace="d", name="j"),
    cmd.ScaleJob(namespace="d", name="j", group="g", count=-1),
    cmd.RestartJob(namespace="d", name="j"),
    cmd.SubmitJobs(jobs=(cmd.JobSubmission(spec=SPEC, uid="u", remember=True),)),
    cmd.SteerRollout(namespace="d", name="j", action=RolloutAction.PROMOTE),
    cmd.LaunchRuns(launches=(cmd.Launch(uid="u", version=2, after_ms=3, due_ms=4, child_uid="c", skip="s"),)),
    cmd.DispatchJob(namespace="d", name="j", uid="c", meta=(("k", "v"),), payload=b"\0p"),
    cmd.ForceRun(namespace="d", name="j", uid="c"),
    cmd.RollbackJob(namespace="d", name="j", version=3),
    cmd.EndRollouts(verdicts=(cmd.RolloutVerdict(uid="u", version=2, succeeded=False, reason="r", progress_ms=9),)),
    cmd.RemoveJob(namespace="d", name="j"),
    cmd.MoveAllocation(namespace="d", name="j", group="g", ordinal=2, attempt=3),
    cmd.PinImage(job_uid="u", group="g", version=2, image="nginx:1", digest="sha256:é"),
    cmd.RecordProgress(
        node_id="n", progress=(cmd.StartProgress(job_uid="u", group="g", ordinal=1, attempt=2, text="1 of 2 MiB"),)
    ),
    cmd.RegisterNode(node=NODE, identity="agent:n1"),
    cmd.CordonNode(node_id="n", cordoned=True),
    cmd.CordonDevice(node_id="n", device_id="GPU-é", cordoned=True),
    cmd.TaintNode(
        node_id="n",
        put=(Taint(key="gpu", value="only", effect=TaintEffect.NO_SCHEDULE),),
        drop=(TaintKey(key="old"), TaintKey(key="bad", effect=TaintEffect.NO_EXECUTE)),
    ),
    cmd.DrainNode(node_id="n"),
    cmd.DrainNode(node_id="n", deadline_after_ms=5_000, cancel=True, keep_cordoned=True),
    cmd.ForgetNode(node_id="n"),
    cmd.MarkNodes(lost=(cmd.NodeMark(node_id="n", register_index=3, reason="r"),)),
    PLAN,
    replace(PLAN, actions=replace(PLAN.actions, version=None)),
    cmd.RecordStatuses(node_id="n", observations=(OBSERVATION,)),
    recorded("n", [contract_codec.encode(OBSERVATION, agent_pb2.Observation())]),
    recorded("n", [contract_codec.encode(replace(OBSERVATION, health=2**42 + 1), agent_pb2.Observation())]),
    cmd.WriteVariable(namespace="d", name="v", value="", expectation=cmd.Expectation.VALUE, expected="x"),
    cmd.WriteVariable(namespace="d", name="v", value=None),
    cmd.WriteVariables(writes=(cmd.WriteVariable(namespace="d", name="v", value="1"),) * 2),
    cmd.Collect(max_rows=7),
    cmd.AdmitPeers(cluster_id="c", incarnations=(("a", "1"), ("b", "2"))),
    cmd.ChangePeers(expected_epoch=1, addresses=(("a", "h:1"), ("c", "h:2")), incarnations=(("a", "1"), ("c", "3"))),
    cmd.SetFeatureLevel(level=3),
    cmd.SetLimits(change=LimitsChange(events=0, answers=7)),
    cmd.WriteNamespace(name="a", kind=cmd.NamespaceWrite.SET, quota=Quota(cpu_millis=0, jobs=-1)),
    cmd.SetSettings(change=SettingsChange(preemption=False)),
)


def entry(command: cmd.Command) -> cmd.Entry:
    return cmd.Entry(identity="client:é", request_id="r", digest=b"\x00\xff", time_ms=12, command=command)


def plain(value: Any) -> Any:
    """Dataclasses and arrays as tuples, so that they can be compared."""
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.tolist())
    if is_dataclass(value):
        return (type(value), *(plain(getattr(value, field.name)) for field in fields(value)))
    return value


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_a_command_comes_out_as_it_went_in(command: cmd.Command) -> None:
    payload = encode_entry(entry(command))
    assert plain(decode_entry(payload)) == plain(entry(command))
    assert encode_entry(decode_entry(payload)) == payload


def test_every_command_is_tried() -> None:
    assert {type(command) for command in COMMANDS} == set(cmd.Command.__args__)


@pytest.mark.parametrize("name", ["job", "device_mask", "ports"])
def test_a_column_with_half_a_number_is_malformed(name: str) -> None:
    message = log_pb2.LogEntry.FromString(encode_entry(entry(PLAN)))
    columns = message.apply_plan.placements
    setattr(columns, name, getattr(columns, name)[:-1])
    with pytest.raises(CodecError, match=name):
        decode_entry(message.SerializeToString())


def test_an_unknown_enumeration_number_names_its_field() -> None:
    message = log_pb2.LogEntry.FromString(encode_entry(entry(COMMANDS[0])))
    message.submit_jobs.jobs[0].spec.type = 77  # type: ignore[assignment]
    with pytest.raises(CodecError, match=r"jobs\[0\].spec.type: expected"):
        decode_entry(message.SerializeToString())


def test_a_missing_part_is_malformed() -> None:
    message = log_pb2.LogEntry.FromString(encode_entry(entry(COMMANDS[0])))
    message.submit_jobs.jobs[0].ClearField("spec")
    with pytest.raises(CodecError, match="spec"):
        decode_entry(message.SerializeToString())


def test_an_entry_without_a_command_or_magic_is_malformed() -> None:
    message = log_pb2.LogEntry.FromString(encode_entry(entry(COMMANDS[1])))
    message.ClearField("stop_job")
    with pytest.raises(CodecError, match="no command"):
        decode_entry(message.SerializeToString())
    message = log_pb2.LogEntry.FromString(encode_entry(entry(COMMANDS[1])))
    message.ClearField("magic")
    with pytest.raises(CodecError):
        decode_entry(message.SerializeToString())


def test_a_newer_format_stops_the_peer_before_anything_is_applied() -> None:
    message = log_pb2.LogEntry.FromString(encode_entry(entry(COMMANDS[1])))
    message.format = FORMAT + 1
    machine = ClusterMachine()
    with pytest.raises(FutureFormatError, match="newer version"):
        machine.apply(message.SerializeToString())
    assert machine.index == 0


def test_a_value_that_does_not_fit_its_field_is_refused_before_it_is_proposed() -> None:
    with pytest.raises(CodecError, match="SetFeatureLevel"):
        encode_entry(entry(cmd.SetFeatureLevel(level=2**70)))


def test_the_machine_is_what_the_log_expects() -> None:
    machine: StateMachine = ClusterMachine()
    assert (machine.index, machine.cluster_id(), machine.admitted()) == (0, "", {})
    outcome = machine.apply(admission_payload("c1", {"b": "2", "a": "1"}))
    assert isinstance(outcome, cmd.Applied)
    assert (machine.index, machine.cluster_id(), machine.admitted()) == (1, "c1", {"a": "1", "b": "2"})
    other = ClusterMachine()
    other.restore(b"".join(machine.capture()()))
    assert other.state_hash() == machine.state_hash()
    assert other.admitted() == {"a": "1", "b": "2"}


def test_a_mistake_in_apply_is_answered_and_does_not_hold_the_peer_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(state: object, command: object) -> None:
        raise KeyError("planted")

    monkeypatch.setitem(state_apply._APPLY, cmd.StopJob, broken)
    machine = ClusterMachine()
    outcome = machine.apply(encode_entry(entry(cmd.StopJob(namespace="d", name="j"))))
    assert isinstance(outcome, cmd.Rejected)
    assert (outcome.reason, outcome.index, machine.index) == ("INTERNAL", 1, 1)
    assert "planted" in outcome.message


def test_the_hash_that_is_computed_later_is_of_the_moment_of_the_copy() -> None:
    machine = ClusterMachine()
    machine.apply(admission_payload("c1", {"a": "1"}))
    expected = machine.state_hash()
    later = machine.capture_hash()
    machine.apply(admission_payload("c1", {"a": "2"}))
    assert later() == expected
    assert machine.state_hash() != expected


def test_arrays_of_another_width_are_stored_as_the_column_says() -> None:
    wide = replace(PLAN, placements=replace(PLAN.placements, job=np.array([0, 0], dtype=np.int64)))
    command = decode_entry(encode_entry(entry(wide))).command
    assert isinstance(command, cmd.ApplyPlan)
    assert command.placements.job.dtype == np.int32
    assert contract_codec.CodecError is CodecError


def test_a_peer_that_does_not_know_all_that_is_said_of_a_node_stops_before_it() -> None:
    (known,) = [command for command in COMMANDS if isinstance(command, cmd.RegisterNode)]
    assert log_pb2.LogEntry.FromString(encode_entry(entry(known))).format == 1
    for news in ({"sick_devices": (("GPU-1", "XID 79"),)}, {"resizes_processes": True}):
        told = replace(known, node=replace(known.node, **news))
        assert log_pb2.LogEntry.FromString(encode_entry(entry(told))).format == 4
        assert decode_entry(encode_entry(entry(told))).command == told


def test_a_peer_that_knows_no_moves_stops_before_one() -> None:
    (move,) = [command for command in COMMANDS if isinstance(command, cmd.MoveAllocation)]
    assert log_pb2.LogEntry.FromString(encode_entry(entry(move))).format == 3


def test_only_a_drain_that_an_older_peer_would_misread_is_of_a_newer_format() -> None:
    for drain, wanted in (
        (cmd.DrainNode(node_id="n"), 1),
        (cmd.DrainNode(node_id="n", deadline_after_ms=1), 4),
        (cmd.DrainNode(node_id="n", cancel=True), 4),
    ):
        assert log_pb2.LogEntry.FromString(encode_entry(entry(drain))).format == wanted


def test_a_feature_level_that_this_version_does_not_know_stops_it_before_it_judges_otherwise_than_the_others() -> None:
    machine = ClusterMachine()
    level_up = encode_entry(entry(cmd.SetFeatureLevel(level=HIGHEST + 1)))
    with pytest.raises(FutureFormatError, match=f"is {HIGHEST + 1}, this version of raftsman knows up to {HIGHEST}"):
        machine.apply(level_up)
    assert (machine.index, machine.feature_level()) == (0, 0)
    assert isinstance(machine.apply(encode_entry(entry(cmd.SetFeatureLevel(level=LIMIT + 1)))), cmd.Rejected)
    machine.apply(encode_entry(replace(entry(cmd.SetFeatureLevel(level=HIGHEST)), request_id="")))
    machine.state.feature_level += 1  # as a newer version has it
    newer = b"".join(machine.capture()())
    mine = ClusterMachine()
    with pytest.raises(CorruptError, match="start the newer version on this data directory"):
        mine.restore(newer)
    assert mine.index == 0
