"""What tasks are told: environment, ports, devices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.driver import StartError, run_name
from agent.reconcile import SANDBOX_TASK
from agent.records import Record
from agent.runspec import NodeFacts, rather_elsewhere, run_spec
from orchestrator.contract.model import (
    DeviceRequest,
    PortBinding,
    PortSpec,
    Resources,
    RestartMode,
    RestartPolicy,
    TaskSpec,
)
from tests.integration.agent_fakes import assignment_of, key_of, task_of

NODE = NodeFacts(node_id="id", name="n1", address="10.0.0.1", api="10.0.0.9:7400")
PORTS = (PortBinding(label="http-api", host_port=20_001, to=80),)


def env_of(task: TaskSpec, *tasks: TaskSpec, record: Record | None = None) -> dict[str, str]:
    known = record or Record(assignment=assignment_of(key_of(), *(tasks or (task,)), ports=PORTS), restarts=2)
    return dict(run_spec(known, task, "cluster", NODE).env)


def test_every_task_is_told_who_and_where_it_is() -> None:
    env = env_of(task_of("run", env={"MINE": "x", "RAFTSMAN_NODE": "forged"}))
    assert env["MINE"] == "x"
    expected = {
        "API": "10.0.0.9:7400",
        "ALLOC_ID": "web/main/0",
        "NAMESPACE": "default",
        "ORDINAL": "0",
        "COUNT": "1",
        "ATTEMPT": "1",
        "RESTARTS": "2",
        "TASK_NAME": "main",
        "NODE": "n1",
    }
    assert {name: env["RAFTSMAN_" + name] for name in expected} == expected


def test_a_port_is_the_hosts_for_a_process_and_the_inner_one_in_a_container() -> None:
    assert env_of(task_of("run"))["RAFTSMAN_PORT_HTTP_API"] == "20001"
    assert env_of(task_of("run", image="x"))["RAFTSMAN_PORT_HTTP_API"] == "80"


def test_ports_are_published_once_by_the_only_container_or_by_the_sandbox_of_several() -> None:
    process, a, b = task_of("run", name="process"), task_of(name="a", image="x"), task_of(name="b", image="x")
    alone = Record(assignment=assignment_of(key_of(), process, a, ports=PORTS))
    assert [run_spec(alone, task, "cluster", NODE).ports for task in (process, a)] == [(), PORTS]
    together = Record(assignment=assignment_of(key_of(), process, a, b, ports=PORTS))
    specs = [run_spec(together, task, "cluster", NODE) for task in (SANDBOX_TASK, process, a, b)]
    assert [spec.ports for spec in specs] == [PORTS, (), (), ()]
    assert [spec.sandbox for spec in specs] == ["", "", specs[0].name, specs[0].name]


def test_a_process_may_listen_on_what_was_picked_unless_something_of_its_group_ran_already() -> None:
    fixed = PortBinding(label="dns", host_port=53)
    process, container = task_of("run", name="process"), task_of(name="container", image="x")
    assigned = assignment_of(key_of(), process, container, ports=(*PORTS, fixed))
    group = replace(assigned.group, ports=(PortSpec(label="http-api", to=80), PortSpec(label="dns", static=53)))
    first = Record(assignment=replace(assigned, group=group))
    assert [run_spec(first, task, "cluster", NODE).listens for task in (process, container)] == [PORTS, ()]
    assert run_spec(replace(first, launched=("container",)), process, "cluster", NODE).listens == ()


@pytest.mark.parametrize(
    ("taken", "used", "mode", "leaves"),
    [
        ({20_001}, 0, RestartMode.FAIL, True),
        ({53}, 1, RestartMode.FAIL, False),
        ({53}, 2, RestartMode.DELAY, True),
        ({53, 20_001}, 1, RestartMode.DELAY, False),
    ],
)
def test_who_may_have_another_port_leaves_at_once_and_who_named_it_tries_here_first(
    taken: set[int], used: int, mode: RestartMode, leaves: bool
) -> None:
    policy = RestartPolicy(attempts=2, mode=mode)
    assigned = assignment_of(key_of(), task_of("run"), ports=(*PORTS, PortBinding(label="dns", host_port=53)))
    group = replace(assigned.group, ports=(PortSpec(label="dns", static=53),), restart=policy)
    assert rather_elsewhere(Record(assignment=replace(assigned, group=group), used=used), taken) is leaves


def test_devices_go_to_the_task_that_asked_for_them() -> None:
    plain = task_of("run", name="plain")
    asking = replace(task_of("run", name="asking"), resources=Resources(gpus=DeviceRequest(count=2)))
    assignment = replace(assignment_of(key_of(), plain, asking), device_ids=("GPU-1", "GPU-2"), gpu_millis=1000)
    record = Record(assignment=assignment)
    assert env_of(asking, record=record)["NVIDIA_VISIBLE_DEVICES"] == "GPU-1,GPU-2"
    assert "NVIDIA_VISIBLE_DEVICES" not in env_of(plain, record=record)
    assert run_spec(record, plain, "cluster", NODE).device_ids == ()


def test_on_a_node_with_gpus_a_program_sees_no_others_than_its_own() -> None:
    """Whatever its image or its own environment says."""
    own = {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "NVIDIA_VISIBLE_DEVICES": "all"}
    node = replace(NODE, nvidia_driver=True)

    def seen(*, image: str, asks: bool) -> list[str | None]:
        task = task_of("run", image=image, env=own)
        if asks:
            task = replace(task, resources=Resources(gpus=DeviceRequest(count=2)))
        assignment = replace(assignment_of(key_of(), task), device_ids=("GPU-1", "GPU-2"))
        env = dict(run_spec(Record(assignment=assignment), task, "cluster", node).env)
        return [env.get(name) for name in own]

    assert seen(image="", asks=True) == ["GPU-1,GPU-2"] * 2
    assert seen(image="", asks=False) == ["", "void"]
    # CUDA numbers what is in the container.
    assert seen(image="x", asks=True) == ["0,1,2,3", "GPU-1,GPU-2"]
    assert seen(image="x", asks=False) == ["0,1,2,3", "void"]
    assert env_of(task_of("run")).keys().isdisjoint(own), "a node without GPUs is left alone"


def test_variables_get_the_names_that_the_task_gave_them() -> None:
    task = replace(task_of("run"), variables=(("PASSWORD", "db-password"),))
    assignment = replace(assignment_of(key_of(), task), variables=(("db-password", "secret"),))
    assert env_of(task, record=Record(assignment=assignment))["PASSWORD"] == "secret"
    with pytest.raises(StartError, match="'db-password' does not exist in namespace default"):
        env_of(task)


def test_names_differ_by_attempt_restart_task_and_life_of_the_job() -> None:
    record = Record(assignment=assignment_of(key_of(), task_of("run")))
    spec = run_spec(record, task_of("run"), "0123456789", NODE)
    assert spec.name.startswith("raftsman-01234567-default-web-main-0-1-main-")
    others = {
        run_name("0123456789", run)
        for run in (
            replace(spec.run, restarts=1),
            replace(spec.run, task="side"),
            replace(spec.run, key=key_of(attempt=2)),
            replace(spec.run, key=key_of(uid="uid-2")),
        )
    }
    assert len({spec.name, *others}) == 5
    assert any("-main-r1-" in name for name in others)
