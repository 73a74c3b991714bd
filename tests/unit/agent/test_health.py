"""What answers to checks come to, and what the agent makes of it: ready or not, and dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import grpc.aio
import pytest

from agent.checks import ask, port_of
from agent.driver import Exit, Ran
from agent.health import Tally, next_word
from orchestrator.contract.health import CheckKind, CheckSpec, HealthSpec
from orchestrator.contract.model import AllocState, PortBinding, RestartPolicy, TaskSpec
from tests.integration.agent_fakes import assignment_of, key_of, until
from tests.unit.agent.conftest import Bench
from tests.unit.agent.test_supervisor import fake_task, name_of

QUICK = CheckSpec(kind=CheckKind.EXEC, command=("check",), interval_ms=10, timeout_ms=1_000, failures=2)


def checked_task(**health: CheckSpec) -> TaskSpec:
    return replace(fake_task(), health=HealthSpec(**health))


# ---------------------------------------------------------------------------- counting


@pytest.mark.parametrize(
    ("answers", "passing"),
    [("", None), ("g", None), ("gg", True), ("gbg", None), ("bb", None), ("bbb", False), ("ggbb", True),
     ("ggbbb", False), ("bbbg", False), ("bbbgg", True)],
)  # fmt: skip
def test_only_answers_in_a_row_change_anything(answers: str, passing: bool | None) -> None:
    tally = Tally(CheckSpec(kind=CheckKind.TCP, successes=2, failures=3))
    for answer in answers:
        tally.count(answer == "g", 0)
    assert tally.passing is passing


def test_during_its_grace_only_good_answers_count() -> None:
    tally = Tally(CheckSpec(kind=CheckKind.TCP, failures=1, grace_ms=1_000))
    seen = []
    for good, ran_ms in ((False, 999), (False, 1_000), (True, 1_001)):
        changed = tally.count(good, ran_ms)
        seen.append((changed, tally.passing))
    assert seen == [(False, None), (True, False), (True, True)]


def test_words_rise_whatever_the_clock_says() -> None:
    first = next_word(0, False, 1_000)
    second = next_word(first, True, 500)
    assert (first >> 1, first & 1) == (1_000, 0) and (second >> 1, second & 1) == (1_001, 1)


# ---------------------------------------------------------------------------- asking


@asynccontextmanager
async def answering(said: bytes) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\n\r\n", ""),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "status 503"),
        (b"SSH-2.0\r\n", "no HTTP"),
        (b"", "closed without an answer"),
    ],
)
async def test_http_is_good_from_200_to_399(answer: bytes, said: str) -> None:
    async with answering(answer) as port:
        check = CheckSpec(kind=CheckKind.HTTP, port=str(port), path="/")
        assert await ask(check, assignment_of(key_of(), fake_task()), "127.0.0.1", None, "") == said


async def test_tcp_wants_a_connection_and_silence_has_a_deadline() -> None:
    assignment = assignment_of(key_of(), fake_task())
    async with answering(b"") as port:
        assert await ask(CheckSpec(kind=CheckKind.TCP, port=str(port)), assignment, "127.0.0.1", None, "") == ""
    refused = await ask(CheckSpec(kind=CheckKind.TCP, port=str(port)), assignment, "127.0.0.1", None, "")
    assert "refused" in refused or "onnect" in refused

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        check = CheckSpec(kind=CheckKind.HTTP, port=str(port), timeout_ms=50)
        assert await ask(check, assignment, "127.0.0.1", None, "") == "no answer within 50 ms"


async def test_grpc_asks_the_standard_health_service() -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined]

    servicer = health_aio.HealthServicer()
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        await servicer.set("web", health_pb2.HealthCheckResponse.NOT_SERVING)
        assignment = assignment_of(key_of(), fake_task())

        async def said(service: str) -> str:
            check = CheckSpec(kind=CheckKind.GRPC, port=str(port), service=service, timeout_ms=10_000)
            return await ask(check, assignment, "127.0.0.1", None, "")

        assert await said("") == ""
        assert await said("web") == "it says NOT_SERVING"
        assert (await said("nobody")).startswith("NOT_FOUND")
        await servicer.set("web", health_pb2.HealthCheckResponse.SERVING)
        assert await said("web") == ""
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    ("ran", "said"),
    [
        (Ran(code=0, output="well"), ""),
        (Ran(code=1), "exit code 1"),
        (Ran(code=1, output="not\nyet"), "exit code 1: not yet"),
        (Ran(code=-1, output="web is paused"), "web is paused"),
    ],
)
async def test_what_a_command_says_is_told_and_why_it_never_ran(ran: Ran, said: str) -> None:
    class Inside:
        async def run_in(self, name: str, command: tuple[str, ...], *, timeout_ms: int) -> Ran:
            return ran

    check = CheckSpec(kind=CheckKind.EXEC, command=("true",))
    assert await ask(check, assignment_of(key_of(), fake_task()), "127.0.0.1", Inside(), "run") == said


def test_a_port_is_a_label_or_a_number_in_the_task_or_on_the_host() -> None:
    ports = (PortBinding(label="web", host_port=20_001, to=80), PortBinding(label="admin", host_port=20_002))
    assignment = replace(assignment_of(key_of(), fake_task()), ports=ports)
    found = [port_of(wanted, assignment) for wanted in ("web", "80", "20001", "admin", "20002", "9000", "nobody")]
    assert found == [20_001, 20_001, 20_001, 20_002, 20_002, 9_000, None]


# ---------------------------------------------------------------------------- the agent


def words(bench: Bench, restarts: int = 0) -> list[int]:
    running = [one for one in bench.reported if one.state is AllocState.RUNNING and one.restarts == restarts]
    return [one.health for one in running]


async def until_ready(bench: Bench, ready: bool, restarts: int = 0) -> None:
    await until(lambda: words(bench, restarts) and words(bench, restarts)[-1] & 1 == ready, f"ready {ready}")


async def test_it_runs_first_and_is_ready_once_its_check_is_good_and_the_words_rise(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, checked_task(readiness=QUICK)))
    await until_ready(bench, True)
    assert words(bench)[0] & 1 == 0, "it was ready before anybody asked"
    bench.driver.check_codes[name_of(key)] = 1
    await until_ready(bench, False)
    said = bench.reported[-1]
    assert said.state is AllocState.RUNNING and "readiness check of main (exec check): exit code 1" in said.reason
    bench.driver.check_codes[name_of(key)] = 0
    await until_ready(bench, True)
    assert words(bench) == sorted(words(bench)) and len(set(words(bench))) == len(words(bench))
    assert bench.driver.starts == [name_of(key)], "readiness restarts nothing"
    assert bench.reported[-1].reason == ""


async def test_a_dead_one_is_restarted_by_the_policy_and_then_fails_with_the_reason(bench: Bench) -> None:
    key = key_of()
    spec = checked_task(liveness=QUICK)
    await bench.assign(assignment_of(key, spec, restart=RestartPolicy(attempts=1, delay_ms=1)))
    await bench.wait_state(key, AllocState.RUNNING)
    assert words(bench) == [0], "without a readiness check it is ready when it runs"
    bench.driver.check_codes[name_of(key)] = 3
    backoff = await bench.wait_state(key, AllocState.BACKOFF)
    assert "liveness check of main failed (exec check): exit code 3" in backoff.reason
    await bench.wait_state(key, AllocState.RUNNING, restarts=1)
    bench.driver.check_codes[name_of(key, restarts=1)] = 3
    failed = await bench.wait_state(key, AllocState.FAILED, restarts=1)
    assert "liveness check" in failed.reason and not failed.start_failed


async def test_the_others_wait_for_the_startup_check_and_one_that_never_comes_up_is_dead(bench: Bench) -> None:
    key = key_of()
    spec = checked_task(startup=replace(QUICK, failures=3), readiness=QUICK, liveness=QUICK)
    never = replace(spec, env=(("FAKE_CHECK", "1"),))
    await bench.assign(assignment_of(key, never, restart=RestartPolicy(attempts=0)))
    failed = await bench.wait_state(key, AllocState.FAILED)
    assert "startup check of main failed" in failed.reason
    assert not any(word & 1 for word in words(bench))


async def test_what_a_startup_check_sees_is_told_before_it_is_over(bench: Bench) -> None:
    """For as long as a slow start may take there was no reason but that it starts."""
    spec = replace(checked_task(startup=replace(QUICK, failures=1000)), env=(("FAKE_CHECK", "7"),))
    await bench.assign(assignment_of(key_of(), spec))
    said = "main is starting up, startup check (exec check): exit code 7"
    await until(lambda: bench.reported and bench.reported[-1].reason.startswith(said), "the reason")
    assert bench.reported[-1].state is AllocState.RUNNING


async def test_an_agent_that_comes_back_goes_on_with_what_was_ready_and_above_what_it_said(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, checked_task(readiness=QUICK)))
    await until_ready(bench, True)
    before = words(bench)[-1]
    await bench.restart()
    assert bench.supervisor.records[key].health == before
    bench.driver.check_codes[name_of(key)] = 1
    await until_ready(bench, False)
    assert words(bench)[0] > before, "it was taken out of service for the restart of its agent"


async def test_whatever_has_ended_is_asked_no_more(bench: Bench) -> None:
    key = key_of()
    await bench.assign(
        assignment_of(key, checked_task(readiness=QUICK, liveness=QUICK), restart=RestartPolicy(attempts=0))
    )
    await until_ready(bench, True)
    assert len(bench.supervisor._prober) == 1
    bench.driver.end(name_of(key), Exit(code=1))
    await bench.wait_state(key, AllocState.FAILED)
    assert len(bench.supervisor._prober) == 0


async def test_an_engine_that_does_not_answer_says_nothing_about_health(bench: Bench) -> None:
    key = key_of()
    await bench.assign(assignment_of(key, checked_task(readiness=QUICK, liveness=QUICK)))
    await until_ready(bench, True)
    bench.driver.set_available(False)
    await until(lambda: not bench.supervisor.lookout.available["fake"], "the engine to be missed")
    bench.driver.set_available(True)
    await until(lambda: bench.supervisor.lookout.available["fake"], "the engine to be back")
    assert words(bench)[-1] & 1 and bench.driver.starts == [name_of(key)]


async def test_a_check_that_breaks_is_told_and_the_others_go_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """All checks of the allocation ended with it, unsaid: it was never ready, and liveness was asked no more."""

    async def broken(*_: object, **__: object) -> Ran:
        raise ValueError("unexpected kwargs: user")

    key = key_of()
    works = bench.driver.run_in
    monkeypatch.setattr(bench.driver, "run_in", broken)
    await bench.assign(assignment_of(key, checked_task(readiness=QUICK, liveness=QUICK)))
    await until(lambda: bench.reported and "it cannot be asked: ValueError" in bench.reported[-1].reason, "the reason")
    assert bench.reported[-1].state is AllocState.RUNNING
    monkeypatch.setattr(bench.driver, "run_in", works)
    await until_ready(bench, True)
