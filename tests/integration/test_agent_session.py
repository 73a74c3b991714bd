"""The agent's session against pretended peers: registering, following the leader, reporting, outages, logs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.asking import Asking
from agent.driver import RunSpec
from agent.drivers.fake import FakeDriver
from agent.metrics import Metrics
from agent.outbox import Outbox
from agent.runspec import NodeFacts
from agent.session import CONTACT_MS, REFUSED_S, UNEXPLAINED, Session
from agent.sessions import SessionServer
from agent.store import Store
from agent.supervisor import Supervisor
from agent.usage import Usage
from orchestrator.contract.errors import ExistsError, StartupError
from orchestrator.contract.model import AllocState, NodeSpec, OnDisconnect, Resources, TaskSpec
from tests.integration.agent_fakes import FakePeer, assignment_of, key_of, task_of, until


class Clock:
    """The boot clock, moved by hand on top of the real one's standstill."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


class Stack:
    """Everything of an agent but its process."""

    def __init__(self, directory: Path, peers: tuple[str, ...]) -> None:
        self.driver = FakeDriver()
        self.store = Store(directory)
        self.outbox = Outbox()
        self.asking = Asking(lambda: self.store.node_id, every_s=0.01)
        self.metrics = Metrics()
        self.clock = Clock()
        facts = NodeFacts(node_id=self.store.node_id, name="n1", address="127.0.0.1", api=",".join(peers))
        self.supervisor = Supervisor(
            store=self.store,
            drivers={"fake": self.driver},
            node=facts,
            metrics=self.metrics,
            report=self.outbox.add,
            acknowledged=lambda key: not self.outbox.has(key),
            settle=self.asking.settle,
            progress=self.asking.tell,
            refresh_s=0.05,
        )
        self.session = Session(
            peers=peers,
            tls=None,
            store=self.store,
            supervisor=self.supervisor,
            outbox=self.outbox,
            asking=self.asking,
            node=self.node,
            sessions=SessionServer(self.supervisor, node_id=self.store.node_id, node_name="n1"),
            usage=Usage(self.supervisor, data=directory),
            metrics=self.metrics,
            boot_id="boot-1",
            clock_ms=self.clock,
        )
        self.task: asyncio.Task[None] | None = None

    def node(self) -> NodeSpec:
        drivers = tuple(sorted(name for name, on in self.supervisor.lookout.available.items() if on))
        return NodeSpec(
            id=self.store.node_id, name="n1", drivers=drivers, capacity=Resources(cpu_millis=1000, memory_mib=1024)
        )

    async def start(self) -> None:
        await self.supervisor.start()
        self.task = asyncio.get_running_loop().create_task(self.session.run())

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, StartupError):
                await self.task
        await self.supervisor.close()
        self.store.close()


@pytest.fixture
async def peers() -> AsyncIterator[list[FakePeer]]:
    """Three of them; the first leads."""
    three = [FakePeer() for _ in range(3)]
    for one in three:
        await one.start()
    for one in three:
        one.leader_address = three[0].address
    yield three
    for one in three:
        await one.stop()


@pytest.fixture
async def agent(peers: list[FakePeer], tmp_path: Path) -> AsyncIterator[Stack]:
    one = Stack(tmp_path / "data", tuple(peer.address for peer in peers))
    await one.start()
    yield one
    await one.close()


def elect(peers: list[FakePeer], leader: FakePeer) -> None:
    for one in peers:
        one.leader_address = leader.address


def fake_task(**env: str) -> TaskSpec:
    return task_of("run", driver="fake", env=env)


async def test_it_registers_anywhere_and_goes_to_the_leader(peers: list[FakePeer], agent: Stack) -> None:
    await until(lambda: agent.session.connected_to == peers[0].address and peers[0].streams, "the leader's session")
    registered = [node for peer in peers for node in peer.nodes.values()]
    assert {node.id for node in registered} == {agent.store.node_id}
    assert registered[0].drivers == ("fake",)
    assert agent.store.cluster_id == peers[0].cluster_id


async def test_it_goes_on_with_the_next_leader_after_a_kill_and_reports_what_happened_meanwhile(
    peers: list[FakePeer], agent: Stack
) -> None:
    key = key_of()
    for one in peers:
        one.assign(assignment_of(key, fake_task()))
    await until(lambda: peers[0].last(key) and peers[0].streams, "the first report")
    for one in peers[1:]:
        one.nodes.update(peers[0].nodes)
    elect(peers, peers[1])
    await peers[0].stop()
    observed = await peers[1].wait_state(key, AllocState.RUNNING)
    assert observed.restarts == 0
    assert len(agent.driver.starts) == 1


async def test_everything_runs_on_while_no_peer_answers(peers: list[FakePeer], agent: Stack) -> None:
    key = key_of()
    peers[0].assign(assignment_of(key, fake_task()))
    await peers[0].wait_state(key, AllocState.RUNNING)
    for one in peers:
        one.refuse = True
        one.end_streams()
    await until(lambda: not agent.session.connected_to, "the session's end")
    assert agent.supervisor.running_count() == 1
    for one in peers:
        one.refuse = False
    await until(lambda: agent.session.connected_to, "the next session")
    assert agent.driver.stops == []
    assert len(agent.driver.starts) == 1


async def test_a_batch_of_reports_is_repeated_with_its_request_id_until_acknowledged(
    peers: list[FakePeer], agent: Stack
) -> None:
    key = key_of()
    await until(lambda: peers[0].streams, "the session")
    for one in peers:
        one.fail_reports = 1
    peers[0].assign(assignment_of(key, fake_task()))
    observed = await peers[0].wait_state(key, AllocState.RUNNING)
    assert observed.tasks[0].runtime_id == "fake-1"
    assert peers[0].states(key).count((0, AllocState.RUNNING)) == 1
    await until(lambda: not agent.outbox.has(key), "the acknowledgement")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No heartbeat is given up on a machine that is slow: where sessions are counted."""
    monkeypatch.setattr(Session, "_answer_s", lambda _: 60.0)


async def test_a_leader_with_too_much_to_do_is_asked_again_and_not_left(
    patient: None, peers: list[FakePeer], agent: Stack
) -> None:
    """Another session would be more work for it, and a heartbeat given up might cost the node."""
    await until(lambda: peers[0].streams and peers[0].heartbeats, "the session")
    sessions, beats = [one.streams for one in peers], peers[0].heartbeats
    peers[0].busy = 5
    await until(lambda: peers[0].heartbeats > beats, "the heartbeat that was refused")
    assert peers[0].busy == 0
    assert [one.attended for one in peers] == [sessions[0] + 5, 0, 0]


@pytest.mark.parametrize("knows", [False, True])
async def test_a_leader_that_has_too_much_to_do_at_first_is_asked_again_and_not_left(
    patient: None, peers: list[FakePeer], agent: Stack, knows: bool
) -> None:
    """It would be no place to be hinted at for half a minute then."""
    await until(lambda: peers[0].streams and peers[0].heartbeats, "the session")
    reconnects = agent.metrics.reconnects._value.get()
    if not knows:
        peers[0].nodes.clear()  # so that it must register
    peers[0].busy = 5
    peers[0].end_streams()
    beats = peers[0].heartbeats
    await until(lambda: peers[0].heartbeats > beats + 1 and not peers[0].busy, "heartbeats")
    await until(lambda: agent.session.connected_to == peers[0].address, "the session there")
    assert agent.metrics.reconnects._value.get() <= reconnects + 2
    assert agent.session._bad_hints == {}


async def test_a_stream_that_ends_for_no_reason_told_is_tried_again(
    patient: None, peers: list[FakePeer], agent: Stack
) -> None:
    await until(lambda: peers[0].streams and peers[0].heartbeats, "the session")
    reconnects, beats = agent.metrics.reconnects._value.get(), peers[0].heartbeats
    peers[0].unexplained, peers[0].busy = 2, 1  # the latter ends the present one
    await until(lambda: peers[0].heartbeats > beats and not peers[0].unexplained, "heartbeats")
    assert agent.metrics.reconnects._value.get() == reconnects
    peers[0].unexplained, peers[0].busy = UNEXPLAINED + 1, 1
    await until(lambda: agent.metrics.reconnects._value.get() > reconnects, "another session, after some tries")


async def test_heartbeats_and_assignments_take_one_stream_where_the_leader_is_reached(
    peers: list[FakePeer], agent: Stack
) -> None:
    key = key_of()
    peers[0].assign(assignment_of(key, fake_task(LONG="x" * 1000)))
    await peers[0].wait_state(key, AllocState.RUNNING)
    await until(lambda: peers[0].heartbeats > 5, "heartbeats")
    assert (peers[0].attended, peers[0].streams) == (1, 1)
    assert peers[0].arrived == sorted(peers[0].arrived), "marks are said back in the order in which they came"
    assert len(peers[0].arrived) > 10


async def test_a_peer_that_does_not_know_that_stream_is_served_by_two_calls(
    peers: list[FakePeer], agent: Stack
) -> None:
    await until(lambda: peers[0].attended and peers[0].heartbeats, "the session")
    for one in peers:
        one.knows_attending = False
    streams, reconnects = peers[0].streams, agent.metrics.reconnects._value.get()
    peers[0].busy = 1  # ends the stream, not the session
    await until(lambda: peers[0].streams > streams, "the stream of assignments alone")
    beats, key = peers[0].heartbeats, key_of()
    peers[0].assign(assignment_of(key, fake_task()))
    await peers[0].wait_state(key, AllocState.RUNNING)
    peers[0].busy = 3  # costs neither the session nor that stream
    await until(lambda: not peers[0].busy and peers[0].heartbeats > beats + 3, "heartbeats one by one")
    assert (peers[0].attended, peers[0].streams) == (1, streams + 1)
    assert agent.metrics.reconnects._value.get() == reconnects


async def test_a_follower_that_comes_to_lead_gets_the_one_stream(peers: list[FakePeer], agent: Stack) -> None:
    for one in peers:
        one.leader_address = "127.0.0.1:1"
        one.end_streams()
    await until(lambda: any(one.heartbeats and not one.attended for one in peers), "a session through a follower")
    for one in peers:
        one.leader_address = one.address
    await until(lambda: any(one.attended for one in peers if one.address == agent.session.connected_to), "the stream")


async def test_a_node_that_was_forgotten_registers_again(peers: list[FakePeer], agent: Stack) -> None:
    await until(lambda: peers[0].streams and peers[0].heartbeats, "the session")
    for one in peers:
        one.nodes.clear()
    await until(lambda: peers[0].nodes, "the second registration")


async def test_a_driver_that_goes_down_is_reported_by_registering_anew(peers: list[FakePeer], agent: Stack) -> None:
    await until(lambda: peers[0].streams, "the session")
    agent.driver.set_available(False)
    await until(lambda: any(node.drivers == () for node in peers[0].nodes.values()), "the registration without it")
    agent.driver.set_available(True)
    await until(lambda: any(node.drivers == ("fake",) for node in peers[0].nodes.values()), "the one with it")


async def test_a_leader_that_hangs_is_left(peers: list[FakePeer], agent: Stack) -> None:
    await until(lambda: peers[0].streams and agent.session.connected_to == peers[0].address, "the leader's session")
    for one in peers[1:]:
        one.nodes.update(peers[0].nodes)
    elect(peers, peers[2])
    peers[0].silent = True
    await until(lambda: agent.session.connected_to == peers[2].address, "the other peer's session")


async def test_a_leader_that_cannot_be_reached_from_here_is_served_through_a_follower(
    peers: list[FakePeer], agent: Stack
) -> None:
    for one in peers:
        one.leader_address = "127.0.0.1:1"
    key = key_of()
    for one in peers:
        one.assign(assignment_of(key, fake_task()))
    await until(lambda: any(one.last(key) for one in peers), "a report to some peer")


async def test_without_contact_for_8_s_what_asked_for_it_stops_and_returns_with_the_next_full_set(
    peers: list[FakePeer], agent: Stack
) -> None:
    careful, other = key_of("careful"), key_of("other")
    for one in peers:
        one.assign(
            assignment_of(careful, fake_task(), on_disconnect=OnDisconnect.STOP), assignment_of(other, fake_task())
        )
    await until(lambda: peers[0].last(careful) and peers[0].last(other), "both to be reported")
    for one in peers:
        one.silent = True
    agent.clock.ms += CONTACT_MS - 1
    for _ in range(20):
        await asyncio.sleep(0)
    assert agent.driver.stops == []
    agent.clock.ms += 1
    await until(lambda: agent.driver.stops, "the stop")
    assert [name for name, _, _ in agent.driver.stops] == [agent.driver.starts[0]]
    for one in peers:
        one.silent = False
        one.end_streams()
    await until(lambda: len(agent.driver.starts) == 3, "the restart")
    await until(lambda: any((1, AllocState.RUNNING) in one.states(careful) for one in peers), "its report")


async def test_the_last_contact_survives_the_agent_but_not_the_machines_restart(
    peers: list[FakePeer], agent: Stack
) -> None:
    await until(lambda: peers[0].heartbeats and not agent.session.contact_lost, "an answered heartbeat")
    assert agent.store.load_contact("boot-1") == agent.clock.ms
    assert agent.store.load_contact("boot-2") is None


async def test_peers_of_another_cluster_are_refused(peers: list[FakePeer], tmp_path: Path) -> None:
    one = Stack(tmp_path / "data", tuple(peer.address for peer in peers))
    one.store.join("some-other-cluster")
    await one.start()
    try:
        assert one.task is not None
        with pytest.raises(StartupError, match="belongs to cluster some-other-cluster"):
            await one.task
    finally:
        await one.close()


async def test_a_node_that_the_control_plane_refuses_does_not_start(peers: list[FakePeer], tmp_path: Path) -> None:
    one = Stack(tmp_path / "data", tuple(peer.address for peer in peers))
    for peer in peers:
        peer.refuse_node = "node belongs to agent:other: give this agent its own data directory"
    await one.start()
    try:
        assert one.task is not None
        with pytest.raises(StartupError, match="refuses this node: node belongs to agent:other"):
            await one.task
    finally:
        await one.close()


async def test_a_taken_name_is_told_once_and_tried_again_after_a_while(
    peers: list[FakePeer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try is an entry of the log: eleven a second were, and as many lines here."""
    one, pauses, sleep = Stack(tmp_path / "data", tuple(peer.address for peer in peers)), [], asyncio.sleep

    async def quickly(delay: float, result: object = None) -> object:
        pauses.append(delay)
        return await sleep(min(delay, 0.01), result)

    for peer in peers:
        peer.refuse_node, peer.refuse_as = "another node is called 'n1'", ExistsError
    with capture_logs() as told:
        await one.start()
        try:
            monkeypatch.setattr(asyncio, "sleep", quickly)
            await until(lambda: sum(len(peer.refusals) for peer in peers) > 12, "many tries")
            waits = [pause for pause in pauses if pause > 0.7 * REFUSED_S]
            assert len(waits) >= 12
            ended = [line for line in told if line["event"] == "session_ended"]
            assert [(line["log_level"], line["times"]) for line in ended] == [("warning", 1)]
            for peer in peers:
                peer.refuse_node = ""
            await until(lambda: one.session.connected_to, "the session once the name is free")
        finally:
            await one.close()


async def test_output_is_served_over_the_stream_that_the_agent_opened(peers: list[FakePeer], agent: Stack) -> None:
    key = key_of()
    peers[0].assign(assignment_of(key, fake_task(FAKE_OUTPUT="one\ntwo\n")))
    await peers[0].wait_state(key, AllocState.RUNNING)
    stream, queue = await peers[0].open_logs(key, follow=True)
    name = agent.driver.starts[0]
    got = [bytes((await queue.get()).data), bytes((await queue.get()).data)]
    agent.driver.say(name, b"three\n")
    data = await queue.get()
    assert [*got, bytes(data.data)] == [b"one\n", b"two\n", b"three\n"]
    assert (data.offset, data.stream_id, data.task) == (8, stream, "main")
    tail = await peers[0].read_logs(key, tail_lines=1)
    assert [bytes(one.data) for one in tail] == [b"three\n", b""]


async def test_output_that_is_not_here_ends_with_a_reason(peers: list[FakePeer], agent: Stack) -> None:
    await until(lambda: peers[0].streams, "the session")
    (end,) = await peers[0].read_logs(key_of("nothing"))
    assert end.end
    assert end.error_reason == "NOT_FOUND"
    assert "unknown on node n1" in end.error


async def test_heartbeats_sessions_and_acknowledged_reports_are_counted(peers: list[FakePeer], agent: Stack) -> None:
    def value(name: str, **labels: str) -> float:
        return agent.metrics.registry.get_sample_value(f"raftsman_agent_{name}", labels) or 0.0

    key = key_of()
    peers[0].assign(assignment_of(key, fake_task()))
    await peers[0].wait_state(key, AllocState.RUNNING)
    await until(lambda: value("heartbeats_total", outcome="acknowledged") >= 2, "heartbeats")
    await until(lambda: value("observations_total") >= 1, "acknowledged reports")
    assert (value("connected"), value("driver_available", driver="fake")) == (1, 1)
    sessions = value("reconnects_total")
    assert sessions >= 1
    peers[0].end_streams()
    await until(lambda: value("reconnects_total") > sessions, "the next session")


async def test_peers_that_name_each_other_as_leader_are_not_asked_without_a_breath(
    peers: list[FakePeer], agent: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    await until(lambda: peers[0].streams, "the session")
    breaths: list[float] = []

    def jitter(low: float, high: float) -> float:
        breaths.append(high)
        return low

    monkeypatch.setattr("agent.session.random.uniform", jitter)
    for one in peers[1:]:
        one.nodes.update(peers[0].nodes)
    peers[0].leader_address, peers[1].leader_address = peers[1].address, peers[0].address
    await until(lambda: len(breaths) >= 2, "a breath between the rounds")


async def test_it_follows_when_all_peers_are_replaced_and_finds_them_after_a_restart(tmp_path: Path) -> None:
    """The old ones tell of the new ones, then they are gone; what the agent was started with leads nowhere any more."""
    old, new = FakePeer(), FakePeer()
    for one in (old, new):
        await one.start()
    agent = Stack(tmp_path / "data", (old.address,))
    await agent.start()
    try:
        await until(lambda: agent.session.connected_to == old.address)
        old.present_peers = new.present_peers = [new.address]
        await until(lambda: agent.store.noted("peers") == new.address, "it remembers the new peer")
        await old.stop()
        await until(lambda: agent.session.connected_to == new.address, "it goes to the new peer")
        await agent.close()
        agent = Stack(tmp_path / "data", (old.address,))
        await agent.start()
        await until(lambda: agent.session.connected_to == new.address, "it finds the new peer again")
    finally:
        await agent.close()
        await new.stop()


class Registrar(FakeDriver):
    """A fake driver whose images have a digest, and say how far their pulls are."""

    async def resolve(self, spec: RunSpec) -> str:
        return f"sha256:{'a' * 64}"

    async def prepare(self, spec: RunSpec) -> None:
        if spec.progress is not None:
            spec.progress("pulling x: 1 of 2 MiB")


async def test_a_digest_is_settled_by_whoever_leads_and_kept_for_the_next_start(
    peers: list[FakePeer], tmp_path: Path
) -> None:
    theirs = f"sha256:{'b' * 64}"
    for one in peers:
        one.settled[("uid-1", "main", 1, "x")] = theirs
    agent = Stack(tmp_path / "data", tuple(peer.address for peer in peers))
    driver = Registrar()
    agent.supervisor._drivers["fake"] = driver  # type: ignore[index]
    await agent.start()
    try:
        await until(lambda: agent.session.connected_to == peers[0].address, "the leader's session")
        key = key_of()
        peers[0].assign(assignment_of(key, replace(fake_task(), image="x")))
        await peers[0].wait_state(key, AllocState.RUNNING)
        assert dict(agent.supervisor.records[key].digests) == {"x": theirs}
        await until(lambda: (key, "pulling x: 1 of 2 MiB") in peers[0].progress, "progress")
        await peers[0].stop()
        elect(peers, peers[1])
        other = key_of("other")
        waiting = asyncio.create_task(agent.asking.settle(other, 1, "y", theirs))
        assert await asyncio.wait_for(waiting, 20) == theirs
        assert ("uid-1", "main", 1, "y") in peers[1].settled
    finally:
        await agent.close()


async def test_a_peer_that_settles_nothing_leaves_every_node_its_own(peers: list[FakePeer], agent: Stack) -> None:
    await until(lambda: agent.session.connected_to == peers[0].address, "the leader's session")
    peers[0].knows_images = False
    assert await agent.asking.settle(key_of(), 1, "x", "sha256:mine") == "sha256:mine"
