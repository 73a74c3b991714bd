"""What a job file means."""

from __future__ import annotations

import pytest

from orchestrator.contract.model import (
    Constraint,
    ConstraintOperator,
    DeviceRequest,
    Disruption,
    JobType,
    MountSpec,
    OnDisconnect,
    PortSpec,
    Protocol,
    RestartMode,
    RestartPolicy,
    StopPolicy,
)
from orchestrator.jobfile.dump import dump
from orchestrator.jobfile.file import load

FULL = """
name: web
namespace: shop
type: service
priority: 70
count: 3
image: nginx:1.27
command: [nginx]
args: ["-g", "daemon off;"]
env: {VERSION: 1.10, DEBUG: true, EMPTY: "", ON: on, OCTAL: 010}
variables: {TOKEN: shop/token}
resources:
  cpu: 1.5
  memory: 1.5Gi
  disk: 1G
  gpus: {count: 1, models: [A100, H100], memory: 40Gi, share: 500m}
ports:
- 8080
- "8443:443"
- 53/udp
- {label: metrics, to: 9090, static: 9091}
restart: {attempts: 5, delay: 1m30s, mode: delay}
stop: {signal: int, timeout: 0.5}
placement: spread
on_disconnect: stop
constraints:
- zone = eu
- disk in [ssd, nvme]
- tier not in [old]
- cores > 4
- gpu exists
- {attribute: rack, operator: "!=", value: r1}
work_dir: /srv
user: 1000:1000
volumes: ["/data:/data", "/var/lib/x:/x:rw"]
metadata: {team: web}
"""


def test_every_key_arrives_in_the_spec() -> None:
    spec = load(FULL)
    (group,) = spec.groups
    (task,) = group.tasks
    assert (spec.name, spec.namespace, spec.type, spec.priority) == ("web", "shop", JobType.SERVICE, 70)
    assert (spec.placement, spec.on_disconnect) == ("spread", OnDisconnect.STOP)
    assert spec.metadata == (("team", "web"),)
    assert (group.name, task.name, group.count) == ("main", "main", 3)
    assert dict(task.env) == {"VERSION": "1.10", "DEBUG": "true", "EMPTY": "", "ON": "on", "OCTAL": "010"}
    assert task.variables == (("TOKEN", "shop/token"),)
    assert (task.resources.cpu_millis, task.resources.memory_mib, task.resources.disk_mib) == (1500, 1536, 954)
    assert task.resources.gpus == DeviceRequest(count=1, gpu_millis=500, memory_mib=40960, models=("A100", "H100"))
    assert group.ports == (
        PortSpec(label="8080", to=8080),
        PortSpec(label="443", to=443, static=8443),
        PortSpec(label="53", to=53, protocol=Protocol.UDP),
        PortSpec(label="metrics", to=9090, static=9091),
    )
    assert group.restart == RestartPolicy(attempts=5, delay_ms=90_000, mode=RestartMode.DELAY)
    assert task.stop == StopPolicy(signal="SIGINT", timeout_ms=500)
    assert [constraint.operator for constraint in group.constraints] == [
        ConstraintOperator.EQUAL,
        ConstraintOperator.IN,
        ConstraintOperator.NOT_IN,
        ConstraintOperator.GREATER,
        ConstraintOperator.EXISTS,
        ConstraintOperator.NOT_EQUAL,
    ]
    assert group.constraints[1] == Constraint(attribute="disk", operator=ConstraintOperator.IN, values=("ssd", "nvme"))
    assert task.mounts == (
        MountSpec(source="/data", target="/data", read_only=True),
        MountSpec(source="/var/lib/x", target="/x", read_only=False),
    )


@pytest.mark.parametrize(
    ("written", "number"), [("low", 20), ("normal", 50), ("high", 80), ("critical", 95), ("7", 7), ('"7"', 7)]
)
def test_a_priority_is_a_number_or_the_name_of_a_class(written: str, number: int) -> None:
    assert load(f"name: a\nimage: b\npriority: {written}\n").priority == number


@pytest.mark.parametrize(
    ("written", "budget"),
    [
        ("1", Disruption(max_unavailable=1)),
        ("25%", Disruption(max_unavailable=25, percent=True)),
        ("{max_unavailable: 0}", Disruption(max_unavailable=0)),
        ("{max_unavailable: 50 %}", Disruption(max_unavailable=50, percent=True)),
    ],
)
def test_a_budget_is_a_number_or_a_share_and_survives_a_dump(written: str, budget: Disruption) -> None:
    spec = load(f"name: a\nimage: b\ndisruption: {written}\npreemptible: false\n")
    assert (spec.disruption, spec.unpreemptible) == (budget, True)
    assert load(dump(spec)) == spec


def test_who_says_nothing_may_be_preempted_without_a_budget() -> None:
    spec = load("name: a\nimage: b\n")
    assert (spec.priority, spec.disruption, spec.unpreemptible) == (50, None, False)


def test_two_lines_are_a_job_with_defaults() -> None:
    spec = load("name: web\nimage: nginx\n")
    (task,) = spec.groups[0].tasks
    assert (task.resources.cpu_millis, task.resources.memory_mib) == (100, 128)
    assert (spec.namespace, spec.groups[0].count, task.driver_name) == ("default", 1, "docker")


def test_a_line_of_text_is_split_into_a_command() -> None:
    spec = load("name: a\ncommand: sh -c 'echo hello world'\n")
    assert spec.groups[0].tasks[0].command == ("sh", "-c", "echo hello world")
    assert spec.groups[0].tasks[0].driver_name == "process"


def test_groups_and_tasks_may_be_lists_or_mappings() -> None:
    listed = load("name: a\ngroups:\n- name: b\n  tasks:\n  - {name: c, image: x}\n  - {name: d, image: y}\n")
    mapped = load("name: a\ngroups:\n  b:\n    tasks:\n      c: {image: x}\n      d: {image: y}\n")
    assert listed == mapped
    assert [task.name for task in listed.groups[0].tasks] == ["c", "d"]


def test_ports_may_be_a_mapping_of_labels() -> None:
    spec = load("name: a\nimage: x\nports: {http: 80, dns: 53/udp, fixed: '8080:80', any: {}}\n")
    assert spec.groups[0].ports == (
        PortSpec(label="http", to=80),
        PortSpec(label="dns", to=53, protocol=Protocol.UDP),
        PortSpec(label="fixed", to=80, static=8080),
        PortSpec(label="any"),
    )


def test_constraints_beside_groups_hold_for_all_of_them() -> None:
    spec = load("name: a\nconstraints: [zone = eu]\ngroups: {b: {image: x}}\n")
    assert spec.constraints == (Constraint(attribute="zone", operator=ConstraintOperator.EQUAL, values=("eu",)),)
    assert spec.groups[0].constraints == ()


def test_anchors_may_repeat_a_part() -> None:
    spec = load("name: a\ngroups:\n  b: {image: x, env: &e {A: 1}}\n  c: {image: x, env: *e}\n")
    assert spec.groups[1].tasks[0].env == (("A", "1"),)


def test_merge_keys_give_what_a_mapping_does_not_say() -> None:
    text = """
        name: web
        groups:
          a:
            tasks:
              main: &main
                image: nginx
                env: &env {A: "1", B: "2"}
                resources: {cpu: 500m}
          b:
            tasks:
              main:
                <<: *main
                env: {B: mine, <<: [*env, {A: later, C: "3"}]}
    """
    first, second = load(text).groups
    assert (second.tasks[0].image, second.tasks[0].resources.cpu_millis) == ("nginx", 500)
    assert (first.tasks[0].env, second.tasks[0].env) == (
        (("A", "1"), ("B", "2")),
        (("A", "1"), ("B", "mine"), ("C", "3")),
    )


@pytest.mark.parametrize("short", ["gpus: 2", "gpus: {count: 2}", "gpus: {count: 2, share: 1}"])
def test_gpus_may_be_a_number(short: str) -> None:
    spec = load(f"name: a\nimage: x\nresources: {{{short}}}\n")
    assert spec.groups[0].tasks[0].resources.gpus == DeviceRequest(count=2)


def test_zero_gpus_are_none() -> None:
    assert load("name: a\nimage: x\nresources: {gpus: 0}\n").groups[0].tasks[0].resources.gpus is None


def test_a_dumped_job_reads_back_the_same() -> None:
    for text in (FULL, "name: a\ngroups: {b: {tasks: {c: {image: x}, d: {image: y}}, count: 0}}\n"):
        spec = load(text)
        assert load(dump(spec)) == spec
