"""What tasks say and lease, how their end is told, and the socket that they say it over."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.discovery import Directory
from agent.dns.told import Told
from agent.driver import RunId, StartError
from agent.records import Record
from agent.runspec import NodeFacts, run_spec
from agent.workload import place
from agent.workload import side as sides
from agent.workload.board import METRICS_MAX, Board, SaysError
from agent.workload.endpoint import SOCKET, Endpoint
from agent.workload.ports import NoPortError, PortLeases
from agent.workload.side import WorkloadSide
from orchestrator.contract.model import (
    AllocationId,
    AllocState,
    AssignmentKey,
    LeasedPort,
    PortBinding,
    Protocol,
    Service,
    ServiceInstance,
    ServiceName,
    WorkloadSpec,
)
from tests.integration.agent_fakes import assignment_of, key_of, task_of, until

KEY = key_of()
TCP, UDP = Protocol.TCP, Protocol.UDP


def record_of(key: AssignmentKey = KEY, *, needs: tuple[str, ...] = (), **task: Any) -> Record:
    spec = replace(task_of("sleep", "1"), **task)
    assignment = assignment_of(key, spec, ports=(PortBinding(label="http", host_port=15_000),))
    assignment = replace(assignment, group=replace(assignment.group, needs=needs))
    return Record(assignment=assignment, state=AllocState.RUNNING)


def run_of(record: Record) -> RunId:
    return RunId(key=record.key, restarts=record.restarts, task="main")


class Side:
    """A workload side on a directory of the test's own."""

    def __init__(self, directory: Path, *records: Record, saved: dict[str, Any] | None = None) -> None:
        self.records = {record.key: record for record in records}
        self.saved: dict[str, Any] = saved or {}
        self.services = Directory(first_s=0.01)
        self.listening: list[asyncio.Task[tuple[int, Any]]] = []
        self.side = WorkloadSide(
            cluster_id=lambda: "c",
            records=lambda: self.records,
            data=directory.parent,
            directory=directory,
            mounted=lambda: True,
            services=self.services,
            reserved=((20_000, 31_999),),
            saved=self.saved,
            save=self.saved.update,
            needs_s=0.05,
        )

    async def call(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, Any]:
        (record, *_) = self.records.values()
        data = b"" if body is None else json.dumps(body).encode()
        said = self.side.board.token(run_of(record)) if token is None else token
        head = f"{method} {path} HTTP/1.1\r\nAuthorization: Bearer {said}\r\nContent-Length: {len(data)}\r\n\r\n"
        return await self.raw(head.encode() + data)

    async def raw(self, data: bytes) -> tuple[int, Any]:
        reader, writer = await asyncio.open_unix_connection(self.side._directory / SOCKET)
        try:
            writer.write(data)
            answer = await reader.read()
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)


@pytest.fixture
async def side(tmp_path: Path) -> AsyncIterator[Side]:
    made = Side(tmp_path / "s", record_of())
    await made.side.start()
    yield made
    for call in made.listening:
        call.cancel()
    await asyncio.gather(*made.listening, return_exceptions=True)
    await made.side.close()


# ---------------------------------------------------------------------------- tokens and what is said


def test_a_token_is_of_one_run_and_survives_the_agent() -> None:
    record = record_of()
    records = {record.key: record}
    board = Board(b"secret", lambda: "c", lambda: records)
    token = board.token(run_of(record))
    assert board.find(token) == run_of(record)
    assert Board(b"secret", lambda: "c", lambda: records).find(token) == run_of(record)
    assert Board(b"other", lambda: "c", lambda: records).find(token) is None
    records[record.key] = replace(record, restarts=1)
    assert board.find(token) is None  # an earlier run's
    again = board.token(run_of(records[record.key]))
    assert again != token and board.find(again) is not None
    records[record.key] = replace(record, state=AllocState.STOPPED)
    assert board.find(again) is None


def test_metrics_are_bounded_in_number_and_none_is_taken_of_a_bad_report() -> None:
    board = Board(b"s", lambda: "c", dict)
    run = run_of(record_of())
    board.report(run, {f"m{number}": number for number in range(METRICS_MAX)})
    with pytest.raises(SaysError, match="at most 64 metrics"):
        board.report(run, {"m0": 5, "more": 1})
    assert board.of(run).metrics["m0"] == 0
    for bad in ({"a b": 1}, {"x" * 65: 1}, {"m1": float("nan")}, {"m1": 10**400}, {"m1": True}, {"m1": "1"}):
        with pytest.raises(SaysError):
            board.report(run, bad)
    board.ended(run)
    assert board._series == 0 and board.known(run) is None


def test_nothing_is_kept_of_runs_that_are_over() -> None:
    record = record_of()
    records = {record.key: record}
    board = Board(b"s", lambda: "c", lambda: records)
    first = run_of(record)
    board.token(first)
    board.ended(first)
    board.report(first, {"late": 1})  # a request that was under way
    records[record.key] = replace(record, restarts=1)
    second = run_of(records[record.key])
    board.token(second)
    board.ready(second, True)
    board.ended(replace(second, task="other"))
    assert [run for run, _ in board.runs()] == [second]
    assert (set(board._tokens.values()), board._series) == ({second}, 0)


async def test_readiness_wakes_who_waits_for_it() -> None:
    board = Board(b"s", lambda: "c", dict)
    run = run_of(record_of())
    waiting = asyncio.ensure_future(board.changed(run, 60))
    await asyncio.sleep(0)
    assert board.ready(run, True) and not board.ready(run, True)
    await asyncio.wait_for(waiting, 5)
    assert board.is_ready(run)


# ---------------------------------------------------------------------------- over the socket


async def test_a_task_says_that_it_is_ready_beats_and_reports(side: Side) -> None:
    run = run_of(record_of())
    assert await side.call("POST", "/api/v1/ready", {"alloc_id": "web/main/0", "status": "ready"}) == (
        200,
        {"ready": True},
    )
    assert side.side.board.is_ready(run)
    assert (await side.call("POST", "/api/v1/ready", {"ready": False}))[0] == 200
    assert not side.side.board.is_ready(run)
    assert (await side.call("POST", "/api/v1/heartbeat"))[0] == 200
    assert (await side.call("POST", "/api/v1/metrics", {"queue": 3.5}))[0] == 200
    (told,) = side.side.report(side.records[KEY]).tasks
    assert (told.heartbeat_age_ms >= 0, [(one.name, one.value) for one in told.metrics]) == (True, [("queue", 3.5)])
    (family,) = side.side.collect()
    assert (family.name, family.samples[0].value, family.samples[0].labels["job"]) == (
        "raftsman_workload_queue",
        3.5,
        "web",
    )
    status, facts = await side.call("GET", "/api/v1/allocation")
    assert (status, facts["allocation"]["job"], facts["task"]) == (200, "web", "main")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /api/v1/allocation HTTP/1.1\r\nAuthorization: Bearer no\r\n\r\n", 401),
        (b"POST /api/v1/ready HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST /api/v1/ready HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /api/v1/ready HTTP/1.1\r\nContent-Length: 3\r\n\r\n[1]", 400),
        (b"POST /api/v1/ready HTTP/1.1\r\nContent-Length: 3\r\n\r\n{{{", 400),
        (b"POST /api/v1/ready HTTP/1.1\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60_000, 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 413),
    ],
)
async def test_what_is_no_request_of_a_task_is_refused(side: Side, request_bytes: bytes, status: int) -> None:
    assert (await side.raw(request_bytes))[0] == status


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("POST", "/api/v1/nothing", {}, 404, "there is no POST"),
        ("DELETE", "/api/v1/ready", None, 405, "there is no DELETE"),
        ("POST", "/api/v1/ready", {"ready": 1}, 400, "true or false"),
        ("POST", "/api/v1/metrics", {"x": "y"}, 400, "finite number"),
        ("POST", "/api/v1/shutdown", {"status": "perhaps"}, 400, "'draining' or 'done'"),
        ("POST", "/api/v1/ports", {"first": "a"}, 400, "port numbers"),
        ("POST", "/api/v1/ports", {"protocols": ["sctp"]}, 400, "'tcp' and 'udp'"),
        ("POST", "/api/v1/ports", {"first": 20_000, "end": 20_100}, 409, "the cluster's own"),
        ("GET", "/api/v1/shutdown?wait=soon", None, 400, "wait: expected a number"),
        ("GET", "/api/v1/services/db", None, 503, "no peer has answered"),
    ],
)
async def test_a_wrong_request_is_told_why(
    side: Side, method: str, path: str, body: Any, status: int, text: str
) -> None:
    got, answer = await side.call(method, path, body)
    assert (got, text in answer["error"]) == (status, True), answer


async def test_who_says_it_again_is_answered_no_sooner(side: Side) -> None:
    first, second = await asyncio.gather(
        side.call("POST", "/api/v1/ready", {}), _then(side.saved, side.call("POST", "/api/v1/ready", {}))
    )
    assert (first[0], second[0][0]) == (200, 200)
    assert [one["ready"] for one in second[1]["runs"]] == [True]


async def _then(saved: dict[str, Any], call: Any) -> tuple[Any, dict[str, Any]]:
    """Its answer, and what was saved when it came."""
    answer = await call
    return answer, dict(saved)


async def test_what_a_full_disk_cannot_keep_was_not_heard(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "AGAIN_S", 0.01)
    save, full = side.side._save, True

    def refuse(value: dict[str, Any]) -> None:
        if full:
            raise OSError(28, "No space left on device")
        save(value)

    side.side._save = refuse
    for path, body in (("ready", {}), ("ports", {"protocols": ["udp"]})):
        status, answer = await side.call("POST", f"/api/v1/{path}", body)
        assert status == 503 and "cannot keep what was said: [Errno 28] No space left" in answer["error"]
    assert side.side.ports.of(run_of(record_of())) == ()
    full = False
    await until(lambda: [one["ready"] for one in side.saved.get("runs", ())] == [True], "it tries again by itself")


@given(data=st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    async def read() -> None:
        endpoint = Endpoint(Board(b"s", lambda: "c", dict), object(), lookup=object(), kept=object())  # type: ignore[arg-type]
        reader = asyncio.StreamReader(limit=8192)
        reader.feed_data(data)
        reader.feed_eof()
        try:
            status, answer = await endpoint._answer(reader)
        except asyncio.IncompleteReadError:
            return
        assert status in (400, 401, 404, 405, 413) and answer["error"]

    asyncio.run(read())


async def test_what_was_said_and_leased_survives_the_agent(side: Side, tmp_path: Path) -> None:
    """Even one that is killed the moment after it answered."""
    await side.call("POST", "/api/v1/ready", {})
    assert [one["ready"] for one in side.saved["runs"]] == [True]
    _, leased = await side.call("POST", "/api/v1/ports", {"protocols": ["udp"]})
    killed = dict(side.saved)
    await side.side.close()
    again = Side(tmp_path / "s", record_of(), saved=killed)
    await again.side.start()
    try:
        run = run_of(record_of())
        assert again.side.board.is_ready(run)
        assert again.side.ports.of(run) == (LeasedPort(port=leased["port"], protocol=UDP),)
        again.side.ended(run)
        assert again.side.ports.of(run) == () and not again.side.board.is_ready(run)
    finally:
        await again.side.close()


# ---------------------------------------------------------------------------- ports


def leases(tmp_path: Path, *, taken: tuple[int, ...] = (), given: tuple[int, ...] = ()) -> PortLeases:
    return PortLeases(
        reserved=((20_000, 31_999),), given=lambda: given, locks=tmp_path, can_bind=lambda port, _: port not in taken
    )


def test_two_tasks_never_get_one_port_and_agents_of_one_host_see_each_other(tmp_path: Path) -> None:
    first, second = leases(tmp_path), leases(tmp_path)
    mine, other = run_of(record_of()), run_of(record_of(key_of("db")))
    ports = [(first if number % 2 else second).lease(mine, first=100, end=104, protocols=[TCP]) for number in range(4)]
    assert sorted(ports) == [100, 101, 102, 103]
    for one in (first, second):
        with pytest.raises(NoPortError, match="No available ports in range 100-104"):
            one.lease(other, first=100, end=104, protocols=[TCP])
    with pytest.raises(NoPortError, match="Port 100 "):
        first.lease(other, first=100, end=101, protocols=[TCP])
    assert first.lease(other, first=100, end=101, protocols=[UDP]) == 100  # another protocol is another port
    holder = first if first.release(mine, 101, [TCP, UDP]) else second
    assert holder is first or second.release(mine, 101, [TCP, UDP])
    assert second.lease(other, first=101, end=102, protocols=[TCP]) == 101
    assert not first.release(mine, 9, [TCP])  # unknown: nothing happens
    first.close()
    second.close()


def test_ports_of_the_cluster_of_allocations_and_of_others_are_left_alone(tmp_path: Path) -> None:
    ports = leases(tmp_path, taken=(19_999,), given=(19_998,))
    run = run_of(record_of())
    with pytest.raises(NoPortError, match="Port 19999 unavailable"):
        ports.lease(run, first=19_999, end=20_000, protocols=[TCP])
    with pytest.raises(NoPortError, match="No available ports in range 19998-20005"):
        ports.lease(run, first=19_998, end=20_005, protocols=[TCP])
    with pytest.raises(NoPortError, match=r"the cluster's own \(it hands out 20000 to 31999\)"):
        ports.lease(run, first=20_000, end=20_005, protocols=[TCP])
    assert ports.lease(run, first=19_990, end=20_005, protocols=[TCP, UDP]) in range(19_990, 19_998)
    with pytest.raises(NoPortError, match="expected a range"):
        ports.lease(run, first=5, end=5, protocols=[TCP])
    ports.close()


# ---------------------------------------------------------------------------- the end


async def stopped(side: Side, timeout_ms: int = 10_000) -> asyncio.Task[int]:
    task = asyncio.ensure_future(side.side.before_stop(run_of(record_of()), timeout_ms))
    await asyncio.sleep(0)
    return task


async def listens(side: Side, more: str = "") -> asyncio.Task[tuple[int, Any]]:
    task = asyncio.ensure_future(side.call("GET", f"/api/v1/shutdown?wait=30{more}"))
    side.listening.append(task)
    said = side.side.board.of(run_of(record_of()))
    while not said.listens:
        await asyncio.sleep(0.005)
    return task


async def test_a_task_that_does_not_listen_is_stopped_as_ever(side: Side) -> None:
    assert await (await stopped(side)) == 10_000
    await side.call("POST", "/api/v1/ready", {})
    assert await (await stopped(side)) == 10_000


async def test_a_task_learns_its_end_before_the_signal_and_gets_it_when_it_is_done(side: Side) -> None:
    notice = await listens(side)
    stopping = await stopped(side)
    status, told = await asyncio.wait_for(notice, 5)
    assert (status, told["stopping"]) == (200, True) and 9 < told["grace_s"] <= 10
    await side.call("POST", "/api/v1/shutdown", {"status": "draining"})
    (report,) = side.side.report(side.records[KEY]).tasks
    assert report.stopping and report.draining and not report.done and not stopping.done()
    await side.call("POST", "/api/v1/shutdown", {"status": "done"})
    assert 0 < await asyncio.wait_for(stopping, 5) < 10_000


async def test_a_listener_may_ask_for_its_grace_with_the_question_itself(side: Side) -> None:
    notice = await listens(side, "&hold=true")
    stopping = await stopped(side)
    await asyncio.wait_for(notice, 5)
    (report,) = side.side.report(side.records[KEY]).tasks
    assert report.draining and not stopping.done()
    await side.call("POST", "/api/v1/shutdown", {"status": "done"})
    assert await asyncio.wait_for(stopping, 5) > 0


async def test_a_run_that_ends_is_waited_for_no_longer(side: Side) -> None:
    notice = await listens(side)
    stopping = await stopped(side)
    await notice
    await side.call("POST", "/api/v1/shutdown", {"status": "draining"})
    side.side.ended(run_of(record_of()))
    assert await asyncio.wait_for(stopping, 5) > 0


async def test_the_whole_grace_is_the_bound(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    await listens(side)
    stopping = await stopped(side, 200)
    await side.call("POST", "/api/v1/shutdown", {"status": "draining"})
    left = await asyncio.wait_for(stopping, 5)
    assert 0 < left <= 200 * 3 // 4


async def test_a_listener_that_does_not_ask_for_its_grace_gets_the_signal_soon(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "NOTICE_S", 0.01)
    await listens(side)
    assert await asyncio.wait_for(await stopped(side), 5) > 5_000


# ---------------------------------------------------------------------------- the start


DB = Service(
    namespace="default",
    name="my-db",
    declared=True,
    instances=tuple(
        ServiceInstance(
            allocation=AllocationId(namespace="default", job="db", group="main", ordinal=number),
            attempt=1,
            address=address,
            port=5432,
        )
        for number, address in enumerate(("10.0.0.1", "fd00::1"))
    ),
)


async def test_a_start_waits_for_what_it_needs_and_then_says_where_it_is(side: Side) -> None:
    record = record_of(needs=("my-db",), env=(("MY_DB_SERVICE_PORT", "mine"),))
    with pytest.raises(StartError, match="needs service 'my-db', of which no instance is ready") as refused:
        await side.side.prepare(record)
    assert not refused.value.permanent
    side.side._needs_s = 30.0
    told: list[str] = []
    waiting = asyncio.ensure_future(side.side.prepare(record, told.append))
    await asyncio.sleep(0)
    side.services._hear(replace(DB, instances=()))
    side.services._wake()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert told == ["waits for service 'my-db', of which no instance is ready"]
    side.services._hear(DB)
    side.services._wake()
    await asyncio.wait_for(waiting, 5)
    spec = run_spec(
        record, record.assignment.group.tasks[0], "c", NodeFacts(node_id="n", name="n", address="a", api="")
    )
    env = dict((await side.side.dress(spec, record)).env)
    assert env["RAFTSMAN_SERVICE_MY_DB"] == "10.0.0.1:5432,[fd00::1]:5432"
    assert (env["MY_DB_SERVICE_HOST"], env["MY_DB_SERVICE_PORT"]) == ("10.0.0.1", "mine")
    assert side.side.board.find(env["RAFTSMAN_WORKLOAD_TOKEN"]) == run_of(record)


async def test_a_container_that_could_never_say_it_is_ready_is_not_started(tmp_path: Path) -> None:
    record = record_of(image="web", workload=WorkloadSpec(ready=True))
    made = Side(tmp_path / "s", record)
    await made.side.start()
    made.side._mounted = lambda: False
    facts = NodeFacts(node_id="n", name="n", address="a", api="")
    spec = run_spec(record, record.assignment.group.tasks[0], "c", facts)
    with pytest.raises(StartError, match="--workload-dir") as refused:
        await made.side.dress(spec, record)
    assert refused.value.permanent
    made.side._mounted = lambda: True
    dressed = await made.side.dress(spec, record)
    assert dressed.workload_dir == str(tmp_path / "s")
    assert dict(dressed.env)["RAFTSMAN_WORKLOAD_SOCKET"] == "/run/raftsman/agent.sock"
    await made.side.close()


@pytest.mark.parametrize(
    ("dns", "image", "network", "told"),
    [
        ("127.0.0.1:8600", "", "", True),
        ("127.0.0.1:8600", "web", "", False),  # the container's own loopback, where nobody answers
        ("0.0.0.0:8600", "web", "mine", False),
        ("127.0.0.1:8600", "web", "host", True),
        ("172.17.0.1:53", "web", "", True),
    ],
)
async def test_a_task_is_told_of_dns_where_it_can_ask_there(
    side: Side, dns: str, image: str, network: str, told: bool
) -> None:
    record = record_of(image=image)
    group = replace(record.assignment.group, network_mode=network)
    record = replace(record, assignment=replace(record.assignment, group=group))

    async def as_said() -> Told:
        return Told(address=dns)

    side.side._dns = as_said
    facts = NodeFacts(node_id="n", name="n", address="a", api="")
    spec = run_spec(record, record.assignment.group.tasks[0], "c", facts)
    assert dict((await side.side.dress(spec, record)).env).get("RAFTSMAN_DNS") == (dns if told else None)


async def test_an_agent_without_a_place_for_its_socket_works_without_one_unless_it_was_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = Side(tmp_path / "file" / "s", record_of())
    await made.side.start()
    spec = run_spec(record_of(), task_of("x"), "c", NodeFacts(node_id="n", name="n", address="a", api=""))
    assert "RAFTSMAN_WORKLOAD_SOCKET" not in dict((await made.side.dress(spec, record_of())).env)
    await made.side.close()
    made = Side(tmp_path / "file" / "s", record_of())
    made.side._needed = True
    with pytest.raises(OSError):
        await made.side.start()


@pytest.mark.parametrize(
    ("container", "mounts", "shared"),
    [(False, None, True), (True, "mnt:[1]", True), (True, "mnt:[2]", False), (True, None, False)],
)
def test_an_engine_sees_the_paths_of_an_agent_in_a_container_only_with_the_same_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: bool, mounts: str | None, shared: bool
) -> None:
    for pid, where in (("self", "mnt:[1]"), (str(os.getpid()), mounts)):
        (tmp_path / pid / "ns").mkdir(parents=True)
        if where is not None:  # else nobody may look at it
            (tmp_path / pid / "ns" / "mnt").symlink_to(where)
    monkeypatch.setattr(place, "PROC", tmp_path)
    monkeypatch.setattr(place, "MARKS", (tmp_path / "self",) if container else ())
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as engine:
        engine.bind(f"{short}/engine")
        engine.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{short}/engine")
        assert place.shares_paths() is shared


# ---------------------------------------------------------------------------- what is known of services


async def test_what_was_known_outlives_the_agent_and_says_how_old_it_is() -> None:
    now_ms = 1_000_000
    saved: dict[str, Any] = {}
    name = ServiceName(namespace="default", name="my-db")
    first = Directory(save=saved.update, now_ms=lambda: now_ms, first_s=0.0)
    assert await first.ask(name) is None
    first._hear(DB)
    first._live, first._confirmed_ms = True, now_ms
    known = await first.ask(name)
    assert known is not None and (known.service, known.age_ms) == (DB, 0)
    first._keep()
    now_ms += 60_000
    second = Directory(saved=json.loads(json.dumps(saved)), now_ms=lambda: now_ms, first_s=0.0)
    known = await second.ask(name)
    assert known is not None and (known.service, known.age_ms) == (DB, 60_000)
    damaged = Directory(saved={"confirmed_ms": 1, "services": [{"instances": 5}]}, first_s=0.0)
    assert await damaged.ask(name) is None


def test_the_socket_of_a_long_path_would_be_refused_so_it_is_not_used() -> None:
    path = place.socket_directory(Path("/tmp") / ("x" * 200)) / SOCKET
    assert len(str(path).encode()) < 108
    assert place.socket_directory(Path("/data"), Path("/shared"), "0123456789abcdef") == Path("/shared/0123456789abc")


def test_a_directory_is_taken_away_once_its_agents_data_is_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "RUN", tmp_path / "run")
    data = tmp_path / "data"
    data.mkdir()
    place.make(tmp_path / "run" / "old", data)
    place.make(tmp_path / "run" / "other", tmp_path)
    assert (tmp_path / "run" / "old").is_dir()
    data.rmdir()
    place.make(tmp_path / "run" / "new", tmp_path)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["new", "new.owner", "other", "other.owner"]
