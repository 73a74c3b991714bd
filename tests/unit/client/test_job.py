"""Jobs in Python mean what job files mean."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.contract.errors import InvalidError
from orchestrator.jobfile.file import load
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


def test_a_mistake_is_told_with_its_path() -> None:
    with pytest.raises(InvalidError, match=r"resources\.memory: expected an amount with its unit"):
        Job("web", image="nginx", memory="256")


def test_an_unknown_keyword_is_refused() -> None:
    with pytest.raises(TypeError, match="imge"):
        Job("web", imge="nginx")
    with pytest.raises(TypeError, match="not both"):
        Job("web", image="nginx", tasks=[Task(image="x")])


def test_the_package_offers_both_clients_and_loads_nothing_before_use() -> None:
    assert (Client.__module__, SyncClient.__module__) == ("orchestrator.client.aio", "orchestrator.client.sync")
    code = "import sys, raftsman; print(sorted({'grpc', 'pydantic', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
