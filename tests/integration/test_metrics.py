"""Every metric that is declared moves: on real processes while they work, break and die, or it has no business here.

A recorder scrapes every process of a cluster all the while, as Prometheus would; a family has moved when one of its
samples on one process differs from what that process began with: zero for what counts, else its first scrape. What a
healthy cluster cannot be made to show on demand (a bug in a round, a plan overtaken by a write, an engine that goes
away) has a test of its own here.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import orchestrator.daemon  # noqa: F401  declares what a peer counts
from agent.metrics import Metrics
from orchestrator import plan
from orchestrator.api.admission import CALLS, Admission, Lane
from orchestrator.api.metrics import PeerCollector
from orchestrator.contract.errors import OverloadedError, RaftsmanError
from orchestrator.contract.model import GroupSpec, JobSpec, JobType, Resources, RestartPolicy, TaskSpec
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1.session_pb2 import ClientFrame, SessionOpen
from orchestrator.gateway.metrics import GatewayMetrics
from orchestrator.leader import loop as leader_loop
from orchestrator.ops.dev import LocalCluster
from orchestrator.state.views import ClusterView
from tests.unit.api.harness import Api, call
from tests.unit.leader.test_loop import Decided, Leader, leading

# What the cluster test below does not show -> the test here that does.
SHOWN_ALONE = {
    "raftsman_leader_loop_failures": "test_a_round_that_fails_is_counted",
    "raftsman_plan_rows_rejected": "test_rows_of_a_plan_that_came_too_late_are_counted",
    "raftsman_agent_driver_available": "test_an_engine_that_goes_away_shows_on_its_agent",
    "raftsman_calls_refused": "test_a_refused_call_is_counted",
    "raftsman_watchers_cut": "test_a_watcher_that_is_too_slow_is_counted",
    "raftsman_sessions": "test_sessions_are_counted_while_they_last",
}


def families(text: str) -> dict[str, dict[str, float]]:
    """Of an exposition: family -> sample with its labels -> value; ours only, without times of creation."""
    return {
        family.name: {
            f"{sample.name}{sorted(sample.labels.items())}": sample.value
            for sample in family.samples
            if not sample.name.endswith("_created")
        }
        for family in text_string_to_metric_families(text)
        if family.name.startswith("raftsman_") and not family.name.endswith("_created")
    }


def declared() -> dict[str, str]:
    """Every family that the code of peers, agents and gateways can show, and its type."""
    api = Api()
    peer = CollectorRegistry()
    peer.register(PeerCollector(api.log.status, api.state_now, clock=lambda: 0.0))
    registries = (REGISTRY, peer, Metrics().registry, GatewayMetrics().registry)
    return {
        family.name: family.type
        for registry in registries
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        if family.name.startswith("raftsman_") and not family.name.endswith("_created")
    }


class Recorder:
    """Scrapes all processes of a cluster; knows which families moved, and the newest values."""

    def __init__(self, cluster: LocalCluster, http: httpx.AsyncClient) -> None:
        self._cluster = cluster
        self._http = http
        self._counting = {name for name, kind in declared().items() if kind != "gauge"}
        self._first: dict[tuple[str, int], dict[str, dict[str, float]]] = {}
        self.moved: set[str] = set()
        self.newest: dict[str, dict[str, dict[str, float]]] = {}

    async def run(self) -> None:
        while True:
            for member in self._cluster.record.members:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await self._http.get(f"http://{member.http}/metrics", timeout=2)
                    if answer.status_code == 200:
                        self._note(member.name, member.pid, families(answer.text))
            await asyncio.sleep(0.1)

    def _note(self, name: str, pid: int, found: dict[str, dict[str, float]]) -> None:
        # By process: what a restart resets has not moved.
        first = self._first.setdefault((name, pid), found)
        self.newest[name] = found
        for family, samples in found.items():
            began = dict.fromkeys(samples, 0.0) if family in self._counting else first.get(family)
            if samples != began:
                self.moved.add(family)

    def total(self, family: str, sample: str = "") -> float:
        """The sum over all processes of the samples whose name and labels contain ``sample``."""
        return sum(
            value
            for found in self.newest.values()
            for name, value in found.get(family, {}).items()
            if sample in name
        )  # fmt: skip


async def until(check: Callable[[], bool], what: str, *, within_s: float = 60) -> None:
    try:
        async with asyncio.timeout(within_s):
            while not check():
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"not within {within_s} s: {what}")


def job(name: str, *command: str, type: JobType = JobType.SERVICE, count: int = 1) -> JobSpec:
    task = TaskSpec(name="main", command=command, resources=Resources(cpu_millis=10, memory_mib=16))
    restart = RestartPolicy(attempts=0)
    return JobSpec(name=name, type=type, groups=(GroupSpec(name="main", count=count, tasks=(task,), restart=restart),))


@contextlib.asynccontextmanager
async def recorded(cluster: LocalCluster) -> AsyncIterator[tuple[Recorder, httpx.AsyncClient]]:
    async with httpx.AsyncClient() as http:
        recorder = Recorder(cluster, http)
        work = asyncio.create_task(recorder.run())
        try:
            yield recorder, http
            assert not work.done(), work
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work


async def health(http: httpx.AsyncClient, address: str) -> tuple[int, str]:
    """Status and reason of ``/healthz``."""
    answer = await http.get(f"http://{address}/healthz", timeout=5)
    return answer.status_code, answer.json()["reason"]


async def becomes(http: httpx.AsyncClient, address: str, status: int) -> str:
    """Wait for that health; its reason."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.TransportError):  # it may be starting
                seen, reason = await health(http, address)
                if seen == status:
                    return reason
            await asyncio.sleep(0.05)


@pytest.mark.cluster
async def test_every_metric_moves_and_health_is_true_while_a_cluster_works_breaks_and_dies(tmp_path: Path) -> None:
    cluster = LocalCluster(3, 3, driver="process", data=tmp_path / "dev", gateway=True)
    await cluster.start()  # not ready yet: the recorder sees the beginning
    try:
        async with recorded(cluster) as (recorder, http):
            await cluster.wait_ready()
            for member in (*cluster.peers, *cluster.agents):
                assert await becomes(http, member.http, 200) == "", member.name  # an election may lie between
            await work(cluster, recorder)
            await die(cluster, recorder, http)
            missing = declared().keys() - SHOWN_ALONE.keys() - recorder.moved
            assert not missing, f"declared, but never moved: {sorted(missing)}"
    finally:
        await cluster.stop()


async def work(cluster: LocalCluster, recorder: Recorder) -> None:
    """Jobs that run, end, fail to start and are stopped; a refused write; a page that is open."""
    client = cluster.client
    await client.submit(job("web", "sleep", "600", count=2))
    await client.submit(job("quick", "true", type=JobType.BATCH))
    await client.submit(job("broken", "/no/such/program", type=JobType.BATCH))
    with pytest.raises(RaftsmanError):
        await client.submit(job("web", "sleep", "601"), expect_version=7)
    await until(lambda: recorder.total("raftsman_agent_container_running") == 2, "two run")
    await until(lambda: recorder.total("raftsman_agent_container_starts") == 3, "three were started")
    await until(lambda: recorder.total("raftsman_agent_container_exits") == 1, "one ended")
    await until(lambda: recorder.total("raftsman_agent_container_start_errors") >= 1, "one could not start")
    peers = len(cluster.peers)
    await until(lambda: recorder.total("raftsman_jobs", "'running'") == peers, "each peer counts one running job")
    await until(lambda: recorder.total("raftsman_jobs", "'complete'") == peers, "and a complete one")
    await until(lambda: recorder.total("raftsman_allocations", "'running'") == 2 * peers, "and two allocations")
    assert recorder.total("raftsman_placements") >= 4
    assert recorder.total("raftsman_leader") == 1
    await client.scale_job("web", 1)
    await until(lambda: recorder.total("raftsman_agent_container_stops") == 1, "one was stopped")

    async with (
        httpx.AsyncClient() as browser,
        browser.stream("GET", f"{cluster.gateway_url}/api/v1/overview/stream", timeout=60),
    ):
        await until(lambda: recorder.total("raftsman_status_pages") == 1, "one page is open")
        await until(lambda: recorder.total("raftsman_watchers") >= 1, "the gateway watches events for it")
    await until(lambda: recorder.total("raftsman_status_pages") == 0, "no page is open")


async def die(cluster: LocalCluster, recorder: Recorder, http: httpx.AsyncClient) -> None:
    """The leader, then the agents, then the majority, then the rest."""
    term = max(recorder.newest[peer]["raftsman_term"]["raftsman_term[]"] for peer in cluster.peer_names())
    killed = await cluster.kill_leader()
    leader = await cluster.leader()
    assert leader != killed
    await until(lambda: recorder.newest[leader]["raftsman_term"]["raftsman_term[]"] > term, "a later term")
    await until(lambda: recorder.newest[leader]["raftsman_elections"]["raftsman_elections_total[]"] >= 1, "an election")
    await cluster.restart(killed)
    await cluster.wait_ready()

    added = await cluster.add_peer()
    await until(lambda: recorder.newest[leader]["raftsman_epoch"]["raftsman_epoch[]"] == 2, "the next epoch")
    await cluster.remove_peer(added)

    nodes = {agent.name: agent for agent in cluster.agents}
    for name in nodes:
        await cluster.kill_agent(name)
    await until(lambda: recorder.total("raftsman_mass_loss_brake") == 1, "whoever leads by now brakes")
    for name in nodes:
        await cluster.restart_agent(name)
    await until(lambda: recorder.total("raftsman_agent_container_adoptions") >= 1, "what ran was adopted")
    for agent in nodes.values():
        await becomes(http, agent.http, 200)
    await cluster.wait_ready()

    survivor, *others = cluster.peers
    for peer in others:
        await cluster.kill_peer(peer.name)
    assert "majority" in await becomes(http, survivor.http, 503)
    await cluster.kill_peer(survivor.name)
    for agent in nodes.values():
        assert "no session with a peer" in await becomes(http, agent.http, 503)
    await until(lambda: recorder.total("raftsman_agent_connected") == 0, "no agent is connected")
    assert recorder.total("raftsman_agent_container_running") == 1, "what ran goes on without any peer"
    for peer in cluster.peers:
        await cluster.restart(peer.name)
    for member in (*cluster.peers, *nodes.values()):
        await becomes(http, member.http, 200)


def in_this_process(family: str) -> dict[str, float]:
    return families(generate_latest(REGISTRY).decode())[family]


async def test_a_round_that_fails_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_loop, "PAUSE_S", 0.001)
    before = in_this_process("raftsman_leader_loop_failures")

    def decide(view: ClusterView, now_ms: int) -> leader_loop.Plan:
        raise ZeroDivisionError("a bug")

    async with leading(Leader(decide)) as leader:
        await leader.until(lambda: leader.rounds > 1)
    assert in_this_process("raftsman_leader_loop_failures") != before


async def test_rows_of_a_plan_that_came_too_late_are_counted() -> None:
    before = in_this_process("raftsman_plan_rows_rejected")

    def decide(view: ClusterView, now_ms: int) -> leader_loop.Plan:
        found = plan.decide(view, now_ms).plans
        return Decided(plans=(*found, *found))  # the second time, everything is placed already

    async with leading(Leader(decide)) as leader:
        await leader.api.register("a")
        await leader.api.submit("web", count=3)
        await leader.until(lambda: in_this_process("raftsman_plan_rows_rejected") != before)
        assert len(leader.api.state.table.live_rows()) == 3


def test_a_refused_call_is_counted() -> None:
    before = in_this_process("raftsman_calls_refused")
    one = Admission()
    with contextlib.ExitStack() as held:
        for _ in range(CALLS[Lane.CLIENT]):
            held.enter_context(one.hold(Lane.CLIENT, 0))
        with pytest.raises(OverloadedError), one.hold(Lane.CLIENT, 0):
            pass
    assert in_this_process("raftsman_calls_refused") != before


async def test_a_watcher_that_is_too_slow_is_counted() -> None:
    before = in_this_process("raftsman_watchers_cut")
    api = Api()  # its feed keeps 20 events
    stream = api.watch.watch_events(pb.WatchEventsRequest(after_index=api.state.index, namespace="*"), call())

    async def first() -> bytes:
        return await anext(stream)

    waiting = asyncio.create_task(first())
    for _ in range(3):
        await asyncio.sleep(0)  # it waits for the next event now
    await api.submit("seen")
    await waiting
    for number in range(30):
        await api.submit(f"j{number}")
    with pytest.raises(OverloadedError):
        await anext(stream)
    assert in_this_process("raftsman_watchers_cut") != before


async def test_sessions_are_counted_while_they_last() -> None:
    api = Api()
    before = in_this_process("raftsman_sessions")
    waiting = asyncio.Event()

    async def ups() -> AsyncIterator[ClientFrame]:
        yield ClientFrame(open=SessionOpen(id={"job": "web", "group": "main"}, exec={"command": ["x"]}))
        await waiting.wait()

    await api.register("a")
    await api.submit("web")
    await api.place()
    session: asyncio.Future[object] = asyncio.ensure_future(anext(aiter(api.sessions.session(ups(), call()))))
    async with asyncio.timeout(10):
        while in_this_process("raftsman_sessions") == before:
            await asyncio.sleep(0)
    session.cancel()
    await asyncio.gather(session, return_exceptions=True)
    assert in_this_process("raftsman_sessions") == before


def engine_answers() -> bool:
    return (
        shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


class Wire:
    """A unix socket that leads to the engine's, until it is cut."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path = path
        self._engine = engine
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        self.path.unlink(missing_ok=True)
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        there, back = await asyncio.open_unix_connection(self._engine)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, back))
                group.create_task(_pump(there, writer))
        except* OSError:
            pass
        finally:
            self._open.discard(task)
            writer.transport.abort()
            back.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


@pytest.mark.cluster
@pytest.mark.docker
@pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers")
async def test_an_engine_that_goes_away_shows_on_its_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(tmp_path / "engine.sock", "/var/run/docker.sock")
    await wire.connect()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{wire.path}")
    available = "raftsman_agent_driver_available"
    try:
        async with (
            LocalCluster(1, 1, driver="docker", data=tmp_path / "dev") as cluster,
            recorded(cluster) as (recorder, http),
        ):
            (agent,) = cluster.agents
            await until(lambda: recorder.total(available, "docker") == 1, "the engine is there")
            assert await health(http, agent.http) == (200, "")
            await wire.cut()
            await until(lambda: recorder.total(available, "docker") == 0, "the engine is gone")
            assert "docker" in await becomes(http, agent.http, 503)
            await wire.connect()
            await until(lambda: recorder.total(available, "docker") == 1, "the engine is back")
            await becomes(http, agent.http, 200)
            assert available in recorder.moved
    finally:
        await wire.cut()


def test_every_exception_of_the_cluster_test_is_declared_and_has_its_test() -> None:
    assert SHOWN_ALONE.keys() <= declared().keys()
    assert all(callable(globals().get(name)) for name in SHOWN_ALONE.values())
