"""The Docker driver asks no more than it has to, and an answer is never older than the question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import docker.errors

from agent.driver import InstanceState, RunId, RunSpec
from agent.drivers.docker import DockerDriver
from agent.drivers.docker_arguments import labels
from agent.drivers.docker_images import Images
from tests.integration.agent_fakes import CLUSTER, key_of, task_of


def spec_of(ordinal: int = 0) -> RunSpec:
    run = RunId(key=key_of(ordinal=ordinal), restarts=0, task="main")
    return RunSpec(cluster_id=CLUSTER, node_id="node-1", run=run, task=task_of("run", driver="docker", image="x:1"))


class Engine:
    """Answers as the SDK's client does; an answer is on its way until ``let``."""

    def __init__(self) -> None:
        self.has: set[str] = set()
        self.asked: list[str] = []
        self.let = asyncio.Event()
        self.rows: list[dict[str, Any]] = []

    async def call(self, work: Callable[[Any], Any], *, slow: bool = False) -> Any:
        try:
            answer = work(self)
        except docker.errors.APIError as error:
            await self.let.wait()
            raise error
        await self.let.wait()
        return answer

    def inspect_image(self, image: str) -> dict[str, Any]:
        self.asked.append(image)
        if image not in self.has:
            raise docker.errors.NotFound(image)
        return {"RepoDigests": [f"x@sha256:{len(self.asked)}"]}

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return self.rows


async def settled() -> None:
    """Everything that can go on has done so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_hundred_instances_ask_for_their_image_once() -> None:
    engine = Engine()
    engine.has.add("x:1")
    images = Images(engine.call, engine.call, silence_s=1.0)
    asking = [asyncio.ensure_future(images.resolve(spec_of(ordinal))) for ordinal in range(100)]
    await settled()
    engine.let.set()
    assert await asyncio.gather(*asking) == 100 * ["sha256:1"]
    assert engine.asked == ["x:1"]
    assert await images.resolve(spec_of()) == "sha256:2"  # nothing is remembered


async def test_who_asks_after_an_image_came_does_not_hear_that_it_is_not_there() -> None:
    engine = Engine()
    images = Images(engine.call, engine.call, silence_s=1.0)
    early = asyncio.ensure_future(images._here("x:1"))
    await settled()
    assert engine.asked == ["x:1"]
    engine.has.add("x:1")
    late = asyncio.ensure_future(images._here("x:1"))
    await settled()
    engine.let.set()
    assert await early is None
    assert await late is not None


async def test_a_question_that_its_asker_gave_up_is_answered_to_the_others() -> None:
    engine = Engine()
    engine.has.add("x:1")
    images = Images(engine.call, engine.call, silence_s=1.0)
    asking = [asyncio.ensure_future(images._here("x:1")) for _ in range(3)]
    await settled()
    asking[0].cancel()
    asking[1].cancel()
    await settled()
    engine.let.set()
    assert await asking[2] is not None
    assert await images._here("x:1") is not None


async def test_what_was_created_and_not_started_is_listed_without_a_question_for_each() -> None:
    engine = Engine()
    engine.let.set()
    specs = [spec_of(ordinal) for ordinal in range(3)]
    for spec, state in zip(specs, ("created", "running", "created"), strict=True):
        engine.rows.append({"Id": spec.name, "Names": [f"/{spec.name}"], "State": state, "Labels": labels(spec)})
    driver = DockerDriver()
    driver._call = engine.call  # type: ignore[assignment]
    found = await driver.list(CLUSTER)
    assert {one.name: one.state for one in found} == {
        specs[0].name: InstanceState.CREATED,
        specs[1].name: InstanceState.RUNNING,
        specs[2].name: InstanceState.CREATED,
    }
