"""How the engine is asked for GPUs: by CDI where it finds every one of them by its id, else through the toolkit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from agent.driver import RunId, RunSpec, StartError
from agent.drivers import docker as docker_driver
from agent.drivers import docker_cdi, docker_start
from agent.drivers.docker import DockerDriver
from agent.drivers.docker_arguments import Engine as Facts
from agent.drivers.docker_arguments import arguments, real_devices
from tests.integration.agent_fakes import key_of, task_of

ONE, OTHER, SLICE = "GPU-11111111-2222-3333-4444-555555555555", "GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "MIG-1"
TOOLKIT = {"Driver": "", "Count": 0, "DeviceIDs": [ONE, OTHER], "Capabilities": [["gpu"]], "Options": {}}
BY_CDI = {
    "Driver": "cdi",
    "Count": 0,
    "DeviceIDs": [f"nvidia.com/gpu={ONE}", f"nvidia.com/gpu={OTHER}"],
    "Capabilities": [],
    "Options": {},
}


def spec_of(*device_ids: str) -> RunSpec:
    run = RunId(key=key_of(), restarts=0, task="main")
    task = task_of("run", driver="docker", image="x:1")
    return RunSpec(cluster_id="c", node_id="n", run=run, task=task, device_ids=device_ids)


def discovered(*ids: str, source: str = "cdi") -> dict[str, Any]:
    found = [{"Source": source, "ID": f"nvidia.com/gpu={id_}"} for id_ in ids]
    return {"CDISpecDirs": ["/etc/cdi"], "DiscoveredDevices": found}


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({}, TOOLKIT),  # Docker 24 and older
        ({"CDISpecDirs": None}, TOOLKIT),
        ({"CDISpecDirs": []}, TOOLKIT),  # switched off
        (discovered(ONE, OTHER, "0", "all"), BY_CDI),
        (discovered("0", "1", "all"), TOOLKIT),  # specifications by index only: which is which?
        (discovered(ONE), TOOLKIT),  # one of two: not half this way and half the other
        (discovered(ONE, OTHER, source="else"), TOOLKIT),
        ({"CDISpecDirs": ["/etc/cdi"], "DiscoveredDevices": []}, TOOLKIT),
    ],
)
def test_cdi_is_used_when_the_engine_has_found_every_device(info: dict[str, Any], expected: dict[str, Any]) -> None:
    assert docker_cdi.request([ONE, OTHER], info) == expected


@pytest.mark.parametrize("ending", ["json", "yaml", "yml"])
def test_engines_that_only_say_where_they_look_are_looked_over_the_shoulder(tmp_path: Path, ending: str) -> None:
    etc, run = tmp_path / "etc", tmp_path / "run"
    etc.mkdir()
    run.mkdir()
    # JSON is YAML, too.
    of_one = {
        "cdiVersion": "0.6.0",
        "kind": "nvidia.com/gpu",
        "devices": [{"name": "0"}, {"name": ONE}, {"name": SLICE}],
    }
    (etc / f"nvidia.{ending}").write_text(json.dumps(of_one))
    info = {"CDISpecDirs": [str(etc), str(run), str(tmp_path / "none")]}
    assert docker_cdi.request([ONE], info)["Driver"] == "cdi"
    assert docker_cdi.request([SLICE], info)["DeviceIDs"] == [f"nvidia.com/gpu={SLICE}"]
    assert docker_cdi.request([ONE, OTHER], info) == TOOLKIT
    (run / "more.yaml").write_text(f"kind: nvidia.com/gpu\ndevices:\n- name: {OTHER}\n")
    assert docker_cdi.request([ONE, OTHER], info) == BY_CDI


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "kind: nvidia.com/gpu",
        f"kind: nvidia.com/gpu\ndevices: {ONE}",
        f"kind: nvidia.com/gpu\ndevices: [{ONE}]",
        f"kind: vendor.com/gpu\ndevices: [{{name: {ONE}}}]",
        "\x00\xff",
    ],
)
def test_what_is_no_specification_of_the_device_counts_for_nothing(tmp_path: Path, text: str) -> None:
    for name in ("a.json", "b.yaml"):
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    (tmp_path / "nvidia.yaml.old").write_text(f"kind: nvidia.com/gpu\ndevices:\n- name: {ONE}\n")
    (tmp_path / "c.yaml").mkdir()
    assert docker_cdi.request([ONE], {"CDISpecDirs": [str(tmp_path)]})["Driver"] == ""


def test_a_container_gets_its_devices_and_declared_ones_are_asked_of_nobody() -> None:
    spec = spec_of(ONE, "fake-n1-0", OTHER)
    assert real_devices(spec) == [ONE, OTHER]
    made = docker_cdi.request(real_devices(spec), discovered(ONE, OTHER))
    assert arguments(spec, Facts(), (), {}, made)["host"]["device_requests"] == [BY_CDI]
    assert "device_requests" not in arguments(spec_of("fake-n1-0"), Facts(), (), {})["host"]


class Engine:
    """As much of the SDK's client as a start needs; what a container is made of is remembered."""

    def __init__(self) -> None:
        self.infos = 0
        self.made: list[Any] = []

    def create_host_config(self, **host: Any) -> dict[str, Any]:
        return host

    def create_container(self, *, host_config: dict[str, Any], **_: Any) -> None:
        self.made.append(host_config)

    def start(self, name: str) -> None:
        response = type("Response", (), {"status_code": 500, "reason": "x", "url": "x"})()
        raise docker.errors.APIError(
            "500", response, explanation='could not select device driver "" with capabilities: [[gpu]]'
        )

    def remove_container(self, name: str, **_: Any) -> None:
        pass


async def test_the_engine_is_asked_at_each_start_with_gpus_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, driver = Engine(), DockerDriver()
    driver._engine = Facts(cpus=2)

    async def call(work: Any, *, slow: bool = False) -> Any:
        return work(engine)

    def info(api: Engine) -> dict[str, Any]:
        api.infos += 1
        return discovered(ONE, OTHER) if api.infos == 1 else {}

    monkeypatch.setattr(driver, "_call", call)
    monkeypatch.setattr(docker_driver, "_info", info)
    for ids in ((), ("fake-n1-0",), (ONE, OTHER), (ONE, OTHER)):
        with pytest.raises(StartError):
            await driver.start(spec_of(*ids))
    assert engine.infos == 2
    asked = [host.get("device_requests") for host in engine.made]
    assert asked == [None, None, [BY_CDI], [TOOLKIT]]


@pytest.mark.parametrize(
    "said",
    [
        'could not select device driver "" with capabilities: [[gpu]]',
        f"CDI device injection failed: unresolvable CDI devices nvidia.com/gpu={ONE}",
    ],
)
def test_an_engine_that_has_no_way_to_give_gpus_is_told_with_the_remedy(said: str) -> None:
    error = docker_start._start_error(spec_of(ONE), said)
    assert "nvidia-ctk cdi generate" in error.reason
    assert said in error.reason
    assert error.permanent
