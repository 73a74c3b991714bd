"""The Docker driver asks no more than it has to, and an answer is never older than the question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import docker
import docker.errors
import pytest
import requests

from agent.driver import DriverUnavailableError, Instance, InstanceState, Login, RunId, RunSpec, StartError
from agent.drivers import docker as docker_driver
from agent.drivers import docker_images, docker_start
from agent.drivers.docker import DockerDriver
from agent.drivers.docker_arguments import Engine as Engines
from agent.drivers.docker_arguments import labels
from agent.drivers.docker_images import Images
from agent.drivers.docker_start import create_and_start
from orchestrator.contract.model import ContainerSpec, PullPolicy
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


async def test_a_hundred_instances_ask_a_registry_once_for_each_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each asked by itself, and registries count who asks too often."""
    asked: list[Login | None] = []

    def ask(_api: object, image: str, login: Login | None) -> str:
        asked.append(login)
        return f"sha256:{len(asked)}"

    monkeypatch.setattr(docker_images, "_ask_registry", ask)
    engine = Engine()
    images = Images(engine.call, engine.call, silence_s=1.0)
    joe = Login(username="joe", password="secret")
    asking = [
        asyncio.ensure_future(images.resolve(replace(spec_of(ordinal), login=joe if ordinal % 2 else None)))
        for ordinal in range(100)
    ]
    await settled()
    engine.let.set()
    assert await asyncio.gather(*asking) == 50 * ["sha256:1", "sha256:2"]
    assert asked == [None, joe]
    assert await images.resolve(spec_of()) == "sha256:3"  # nothing is remembered


AWAY = 'Get "http://r:5000/v2/": dial tcp 10.0.0.1:5000: connect: connection refused'


@pytest.mark.parametrize("policy", [PullPolicy.ALWAYS, PullPolicy.MISSING])
async def test_a_registry_that_is_away_for_a_while_fails_no_start(
    policy: PullPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that was restarted failed every instance that began meanwhile, for good after 14 s."""
    monkeypatch.setattr(docker_images, "AGAIN_S", (0.0, 0.0))
    engine = Engine()
    told: list[str] = []
    engine.let.set()
    away = [4]

    def answer() -> None:
        if away[0]:
            away[0] -= 1
            raise docker.errors.APIError("500", explanation=AWAY)

    def ask(*_: object) -> str:
        answer()
        return "sha256:1"

    def pull(*_: object) -> None:
        answer()
        engine.has.add("x:1")

    monkeypatch.setattr(docker_images, "_ask_registry", ask)
    monkeypatch.setattr(docker_images, "_pull", pull)
    images = Images(engine.call, engine.call, silence_s=60.0)
    spec = replace(spec_of(), progress=told.append)
    spec = replace(spec, task=replace(spec.task, container=ContainerSpec(pull_policy=policy)))
    if policy is PullPolicy.ALWAYS:
        assert await images.resolve(spec) == "sha256:1"
    else:
        await images.ensure(spec)
        assert "x:1" in engine.has
    assert away == [0]
    assert told == 4 * [f"image x:1 cannot be had: its registry does not answer: {AWAY}; asked again until it does"]


def refusing(monkeypatch: pytest.MonkeyPatch, said: str, *, takes_s: float) -> tuple[Engine, list[float]]:
    """An engine whose every pull ends with that, after so long on its clock, and when they ended."""
    now, ended = [0.0], []

    def pull(*_: object) -> None:
        now[0] += takes_s
        ended.append(now[0])
        raise docker.errors.APIError("500", explanation=said)

    monkeypatch.setattr(docker_images, "_pull", pull)
    monkeypatch.setattr(docker_images, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(docker_images, "AGAIN_S", (0.001, 0.001))
    engine = Engine()
    engine.let.set()
    return engine, ended


async def test_a_registry_is_waited_for_no_longer_than_a_pull_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked = refusing(monkeypatch, AWAY, takes_s=40.0)
    with pytest.raises(StartError, match="does not answer") as caught:
        await Images(engine.call, engine.call, silence_s=100.0).ensure(spec_of())
    assert caught.value.permanent  # another node may reach it
    assert asked == [40.0, 80.0, 120.0]


@pytest.mark.parametrize(
    "said",
    ["manifest unknown", "denied", "x509: certificate signed by unknown authority", "lookup r.invalid: no such host"],
)
async def test_what_a_registry_says_for_good_is_not_asked_again(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked = refusing(monkeypatch, said, takes_s=1.0)
    with pytest.raises(StartError):
        await Images(engine.call, engine.call, silence_s=60.0).ensure(spec_of())
    assert len(asked) == 1


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


async def test_a_container_that_was_renamed_gets_the_name_back_by_which_it_is_found() -> None:
    given: list[tuple[str, str]] = []

    class Renaming(Engine):
        def rename(self, id_: str, name: str) -> None:
            if name == taken.name:
                raise docker.errors.APIError("the name is in use")
            given.append((id_, name))

    engine = Renaming()
    engine.let.set()
    same, moved, taken = (spec_of(ordinal) for ordinal in range(3))
    for spec, name in ((same, same.name), (moved, "mine"), (taken, "yours")):
        engine.rows.append({"Id": f"id-{name}", "Names": [f"/{name}"], "State": "running", "Labels": labels(spec)})
    engine.rows.append({"Id": "x", "Names": ["/x"], "State": "running", "Labels": {"raftsman.cluster": CLUSTER}})
    driver = DockerDriver()
    driver._call = engine.call  # type: ignore[assignment]
    assert {one.name for one in await driver.list(CLUSTER)} == {same.name, moved.name, "yours"}
    assert given == [("id-mine", moved.name)]


class Making:
    """An engine that has given the name of a container away and tells of it after so many looks."""

    def __init__(self, spec: RunSpec, looks: int) -> None:
        self.spec, self.looks = spec, looks

    def create_host_config(self) -> dict[str, Any]:
        return {}

    def create_container(self, **_: Any) -> None:
        answer = requests.Response()
        answer.status_code = 409
        raise docker.errors.APIError("conflict", answer, "the name is in use")

    def inspect_container(self, name: str) -> dict[str, Any]:
        self.looks -= 1
        if self.looks >= 0:
            raise docker.errors.NotFound(name)
        return {
            "Name": f"/{self.spec.name}", "Id": "id", "Config": {"Labels": labels(self.spec)},
            "State": {"Status": "running"},
        }  # fmt: skip


@pytest.mark.parametrize("looks", [0, 3])
def test_what_an_earlier_call_is_just_having_made_is_no_stranger_with_our_name(
    monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    monkeypatch.setattr(docker_start, "MADE_PAUSE_S", 0.001)
    spec = spec_of()
    engine = cast(docker.APIClient, Making(spec, looks))
    assert create_and_start(engine, spec, {"host": {}, "limits": {}}) == replace(started(spec), runtime_id="id")


def test_a_name_that_nobody_is_found_under_is_taken_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_start, "MADE_S", 0.01)
    spec = spec_of()
    with pytest.raises(StartError, match=r"the container name .* is taken"):
        create_and_start(cast(docker.APIClient, Making(spec, 10**9)), spec, {"host": {}, "limits": {}})


class Slow:
    """An engine that carries out starts when it likes: each call ends as ``says`` it does, and it tells of starts."""

    def __init__(self) -> None:
        self.says: list[Any] = []
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __call__(self, work: Callable[[Any], Any], *, slow: bool = False) -> Any:
        said = self.says.pop(0)
        if said is None:
            await asyncio.Event().wait()
        if isinstance(said, Exception):
            raise said
        return said

    async def stream(self, open_: Callable[[Any], Any], *, first: Any) -> AsyncIterator[Any]:
        yield first
        while True:
            yield await self.events.get()

    def starts(self, spec: RunSpec) -> None:
        self.events.put_nowait(
            {"Action": "start", "Actor": {"ID": f"id-{spec.name}", "Attributes": {"name": spec.name}}}
        )


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> tuple[DockerDriver, Slow]:
    driver, engine = DockerDriver(), Slow()
    monkeypatch.setattr(driver, "_call", engine)
    monkeypatch.setattr(driver, "_engine", Engines(cpus=1))
    return driver, engine


def started(spec: RunSpec) -> Instance:
    return Instance(
        name=spec.name, driver="docker", cluster_id=CLUSTER, node_id="node-1", run=spec.run,
        runtime_id=f"id-{spec.name}", state=InstanceState.RUNNING, exit=None,
    )  # fmt: skip


async def test_what_nobody_may_know_of_is_told_at_once(
    slow: tuple[DockerDriver, Slow],
) -> None:
    driver, engine = slow
    silent, odd, left, good, again = (spec_of(ordinal) for ordinal in range(5))
    engine.says = [DriverUnavailableError("silent"), docker.errors.APIError("odd"), None, started(good)]
    for spec in (silent, odd):
        with pytest.raises(DriverUnavailableError):
            await driver.start(spec)
    leaving = asyncio.ensure_future(driver.start(left))
    await settled()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await driver.start(good)
    engine.says = [DriverUnavailableError("silent"), started(again)]
    with pytest.raises(DriverUnavailableError):
        await driver.start(again)
    await driver.start(again)

    changes = driver.changes()
    assert await anext(changes) == ""
    told = []
    for spec in (good, again, silent, odd, left, silent):
        engine.starts(spec)
    for action, name in (("rename", "anything"), ("destroy", "the last")):
        engine.events.put_nowait({"Action": action, "Actor": {"ID": "x", "Attributes": {"name": name}}})
    while (name := await anext(changes)) != "the last":
        told.append(name)
    assert told == ["", "", "", ""], "a doubt for each that nobody may know of, once, and for what was renamed"


async def test_not_every_start_that_was_ever_given_up_is_remembered(
    slow: tuple[DockerDriver, Slow], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, engine = slow
    monkeypatch.setattr(docker_driver, "LATE", 2)
    for ordinal in range(4):
        engine.says = [DriverUnavailableError("silent")]
        with pytest.raises(DriverUnavailableError):
            await driver.start(spec_of(ordinal))
    assert list(driver._late) == [spec_of(2).name, spec_of(3).name]
