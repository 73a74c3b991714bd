"""Jobs in Python mean what job files mean."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest

import raftsman
from orchestrator.contract.errors import InvalidError
from orchestrator.jobfile.file import load, schema
from raftsman import Client, Job, SyncClient, Task


def test_keywords_mean_what_the_keys_of_a_file_mean() -> None:
    job = Job("web", image="nginx", count=2, cpu="500m", memory="1Gi", ports={"http": 80}, env={"A": "1"}, gpus=1)
    text = """
        name: web
        image: nginx
        count: 2
        resources: {cpu: 500m, memory: 1Gi, gpus: 1}
        ports: {http: 80}
        env: {A: 1}
    """
    assert job.spec() == load(text)


def test_several_tasks_make_one_group() -> None:
    job = Job("web", tasks=[Task(name="a", image="x"), Task(name="b", command=["ls"], stop_timeout="3s")])
    assert job.spec() == load("name: web\ntasks: {a: {image: x}, b: {command: [ls], stop: {timeout: 3s}}}")


def test_settings_of_containers_have_the_same_names_as_in_a_file() -> None:
    job = Job(
        "web",
        image="nginx",
        network_mode="none",
        init=False,
        read_only=True,
        pull_policy="always",
        files={"/etc/app/a": "x"},
        volumes=["data:/data"],
        memory_max="1Gi",
        tmpfs="/run",
    )
    text = """
        name: web
        image: nginx
        network_mode: none
        init: false
        read_only: true
        pull_policy: always
        files: {/etc/app/a: x}
        volumes: ["data:/data"]
        resources: {memory_max: 1Gi}
        tmpfs: /run
    """
    assert job.spec() == load(text)


def test_every_key_of_a_job_file_is_a_keyword() -> None:
    """But Orbit's words for our own, and ``after``, which only says something where there are several groups."""
    known = schema()
    task_keys, job_keys = known["$defs"]["Task"]["properties"].keys(), known["properties"].keys()
    flat = {*known["$defs"]["ResourceKeys"]["properties"], "stop_signal", "stop_timeout"}
    otherwise = {"resources", "stop", "health_check", "rolling_update_config", "after"}
    assert {field.name for field in fields(Task)} == task_keys - otherwise | flat
    said = inspect.signature(Job).parameters.keys() - {"task"}
    assert said | task_keys - otherwise | flat == job_keys - otherwise | flat


def test_where_when_and_with_whom_it_runs_is_said_as_in_a_file() -> None:
    job = Job(
        "web",
        command="serve",
        ports={"http": 80},
        timeout="30m",
        workload={"heartbeat": "30s"},
        custom={"licenses": 2},
        affinity=[{"job": "db", "weight": 10}],
        distinct_hosts=True,
        spread=["node.zone"],
        tolerations=["*"],
        datasets=["imagenet"],
        locality=10,
        services={"web": "http"},
        needs=["db"],
    )
    text = """
        name: web
        command: serve
        ports: {http: 80}
        timeout: 30m
        workload: {heartbeat: 30s}
        resources: {custom: {licenses: 2}}
        affinity: [{job: db, weight: 10}]
        distinct_hosts: true
        spread: [node.zone]
        tolerations: ["*"]
        datasets: [imagenet]
        locality: 10
        services: {web: http}
        needs: [db]
    """
    assert job.spec() == load(text)
    nightly = Job("nightly", type="batch", command="x", periodic="0 3 * * *", gang="node")
    assert nightly.spec() == load("{name: nightly, type: batch, command: x, periodic: 0 3 * * *, gang: node}")
    made = Job("made", type="batch", command="x", parameterized={"payload": "required"})
    assert made.spec() == load("{name: made, type: batch, command: x, parameterized: {payload: required}}")


def test_several_groups_are_written_as_in_a_file_with_tasks_of_either_kind() -> None:
    job = Job(
        "etl",
        type="batch",
        groups=[{"name": "a", "count": 2, "tasks": [Task(command="x")]}, {"name": "b", "command": "y", "after": "a"}],
    )
    text = """
        name: etl
        type: batch
        groups:
        - {name: a, count: 2, tasks: [{command: x}]}
        - {name: b, command: y, after: a}
    """
    assert job.spec() == load(text)
    with pytest.raises(TypeError, match="not both"):
        Job("etl", command="x", groups=[{"name": "a", "command": "x"}])
    with pytest.raises(TypeError, match="each group has its own"):
        Job("etl", count=2, groups=[{"name": "a", "command": "x"}])


@pytest.mark.parametrize("command", [b"ls", object(), {"a", "b"}])
def test_what_is_neither_text_nor_a_list_is_refused(command: Any) -> None:
    with pytest.raises(InvalidError, match="expected text, numbers, lists and mappings, got "):
        Job("web", command=command)


def test_a_mistake_is_told_with_its_path() -> None:
    with pytest.raises(InvalidError, match=r"resources\.memory: expected an amount with its unit"):
        Job("web", image="nginx", memory="256")
    with pytest.raises(InvalidError, match=r"^update: unknown key 'max_surg'; did you mean 'max_surge'\?"):
        Job("web", image="nginx", update={"max_surg": 1})


def test_an_unknown_keyword_is_refused() -> None:
    with pytest.raises(TypeError, match="imge"):
        Job("web", imge="nginx")
    with pytest.raises(TypeError, match="not both"):
        Job("web", image="nginx", tasks=[Task(image="x")])


def test_the_package_offers_both_clients_and_loads_nothing_before_use() -> None:
    assert (Client.__module__, SyncClient.__module__) == ("orchestrator.client.aio", "orchestrator.client.sync")
    assert all(getattr(raftsman, name) is not None for name in raftsman.__all__)
    assert issubclass(raftsman.errors.NotFoundError, raftsman.errors.RaftsmanError)
    code = "import sys, raftsman; print(sorted({'grpc', 'pydantic', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
