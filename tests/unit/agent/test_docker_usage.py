"""What only the engine can measure: whose turn it is, what is said of the others, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from agent.driver import Instance, InstanceState, RunId
from agent.drivers import docker_usage
from agent.drivers.docker_usage import Measured
from agent.usage import Counters
from tests.integration.agent_fakes import key_of, until

TOLD = Counters(cpu_ns=1, source="engine")


def instances(count: int) -> list[Instance]:
    return [
        Instance(
            name=f"t{number}",
            driver="docker",
            cluster_id="c",
            node_id="n",
            run=RunId(key=key_of(), restarts=0, task=f"t{number}"),
            runtime_id=f"no-such-container-{number}",
            state=InstanceState.RUNNING,
        )
        for number in range(count)
    ]


class Engine:
    """Tells of ``tells`` containers, and nothing more until it is asked again; who was asked about, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tells = 0
        self.asked: list[str] = []
        self.under_way = 0
        monkeypatch.setattr(Measured, "_ask", lambda _self, one: self._tell(one))

    async def _tell(self, one: Instance) -> Counters:
        self.asked.append(one.name)
        self.under_way += 1
        try:
            if len(self.asked) > self.tells:
                await asyncio.Event().wait()
            return TOLD
        finally:
            self.under_way -= 1


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(docker_usage, "AT_ONCE", 2)
    monkeypatch.setattr(docker_usage, "ASK_S", 0.05)
    yield Engine(monkeypatch)


@pytest.mark.parametrize("count", [4, 6])
async def test_every_container_has_its_turn_and_who_had_none_is_told_so(engine: Engine, count: int) -> None:
    measured, all_ = Measured(), instances(count)
    engine.tells = 2
    known: set[str] = set()
    for _ in range(count // 2):
        engine.asked.clear()
        found = await measured.measure(all_)
        now = {name for name, counters in found.items() if counters is TOLD}
        known |= now
        assert (len(now), set(found)) == (2, {one.name for one in all_})
        (why,) = {counters.why for counters in found.values() if counters is not TOLD}
        assert why == f"in 0.05 s the Docker engine told of 2 of {count} tasks; ask again"
        assert engine.under_way == 0
    assert known == {one.name for one in all_}


async def test_an_engine_that_tells_of_nothing_does_not_answer(engine: Engine) -> None:
    (found,) = set((await Measured().measure(instances(3))).values())
    assert found.why == "the Docker engine does not answer (no word for 0.05 s)"


async def test_what_nobody_waits_for_any_more_is_not_asked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_usage, "ASK_S", 3600.0)
    measuring = asyncio.ensure_future(Measured().measure(instances(3)))
    await until(lambda: engine.under_way == 2)
    measuring.cancel()
    await asyncio.gather(measuring, return_exceptions=True)
    assert engine.under_way == 0
