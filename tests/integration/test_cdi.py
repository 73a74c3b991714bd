"""GPUs by CDI on a real engine of the tests' own, with specifications that set variables in place of device files."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.driver import StartError
from agent.drivers.docker import DockerDriver
from orchestrator.ops.drill_tools import MissingError, tool
from orchestrator.ops.own_engine import OwnEngine
from tests.integration.agent_fakes import task_of
from tests.integration.test_driver_contract import Kit
from tests.integration.test_engine_trouble import start_with_image

pytestmark = pytest.mark.docker

ONE, OTHER, UNKNOWN = "GPU-11111111", "GPU-22222222", "GPU-33333333"
FIRST_WITH_CDI = 25


def version_here() -> int:
    said = subprocess.run(
        [tool("dockerd", "docker.io"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"version (\d+)\.", said)
    assert found is not None, said
    return int(found[1])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngine]:
    specifications = tmp_path_factory.mktemp("cdi")
    devices = [
        {"name": id_, "containerEdits": {"env": [f"INJECTED_{place}={id_}"]}} for place, id_ in enumerate((ONE, OTHER))
    ]
    text = json.dumps({"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": devices})
    (specifications / "nvidia.json").write_text(text)
    settings = {"features": {"cdi": True}, "cdi-spec-dirs": [str(specifications)]}
    own = OwnEngine(tmp_path_factory.mktemp("e") / "engine", settings=settings)

    try:
        if (version := version_here()) < FIRST_WITH_CDI:
            pytest.skip(f"CDI came with Docker {FIRST_WITH_CDI}, and dockerd here is of version {version}")
        asyncio.run(start_with_image(own))
    except MissingError as error:
        pytest.skip(error.message)
    yield own
    asyncio.run(own.stop())


async def test_a_container_gets_its_devices_by_name_and_no_other(
    engine: OwnEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    kit = Kit(DockerDriver(), os.urandom(8).hex())
    try:
        for count, ids in enumerate(((OTHER,), (ONE, OTHER), ())):
            spec = replace(kit.spec(task_of("env", image=kit.image), restarts=count), device_ids=ids)
            await kit.start(spec)
            await kit.ended(spec.name)
            text = (await kit.text(spec.name)).decode()
            assert set(re.findall(r"^INJECTED_\d=(.*)$", text, re.MULTILINE)) == set(ids)
        with pytest.raises(StartError, match="nvidia-ctk cdi generate") as refused:
            await kit.start(replace(kit.sleeper(restarts=3), device_ids=(ONE, UNKNOWN)))
        assert refused.value.permanent
    finally:
        for instance in await kit.driver.list(kit.cluster):
            await kit.driver.remove(instance.name)
        await kit.driver.close()
