"""The observers: what the engine's events and the services' own records say about starts and overlaps."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.ops.drill import each_once
from orchestrator.ops.drill_facts import Facts, Run, judge
from orchestrator.ops.drill_jobs import SERVICE_SCRIPT
from orchestrator.ops.drill_watch import (
    ALLOCATION_LABEL,
    HttpLoad,
    RecordObserver,
    runs_of_events,
    runs_of_record,
)
from orchestrator.ops.engine import ContainerEvent
from orchestrator.ops.http import answered, probe
from orchestrator.ops.ports import Ports

S = 1_000_000_000
WEB0 = {ALLOCATION_LABEL: "web/main/0"}


def test_a_run_lasts_from_start_to_die() -> None:
    events = [
        ContainerEvent("c1", "create", WEB0, 1 * S),
        ContainerEvent("c1", "start", WEB0, 2 * S),
        ContainerEvent("c1", "die", WEB0, 5 * S),
        ContainerEvent("c1", "destroy", WEB0, 6 * S),
    ]
    assert runs_of_events(events) == [Run("web/main/0", "c1", 2.0, 5.0)]


def test_a_restarted_container_is_two_runs() -> None:
    events = [ContainerEvent("c1", action, WEB0, at * S) for at, action in enumerate(["start", "die", "start"], 1)]
    assert judge(Facts(runs=runs_of_events(events))).containers_restarted == 1


def test_two_containers_of_one_instance_at_once_are_a_double() -> None:
    events = [
        ContainerEvent("c1", "start", WEB0, 1 * S),
        ContainerEvent("c2", "start", WEB0, 2 * S),
        ContainerEvent("c1", "die", WEB0, 4 * S),
    ]
    verdict = judge(Facts(runs=runs_of_events(events)))
    assert (verdict.containers_doubled, verdict.double_seconds) == (1, 2.0)


def test_events_that_arrive_out_of_order_are_put_in_order() -> None:
    events = [ContainerEvent("c1", "die", WEB0, 5 * S), ContainerEvent("c1", "start", WEB0, 2 * S)]
    assert runs_of_events(events) == [Run("web/main/0", "c1", 2.0, 5.0)]


def test_a_start_that_found_the_lock_free_ends_the_run_before() -> None:
    runs = runs_of_record("w", "start 11 1000000000\nstart 12 3000000000\n")
    assert runs == [Run("w", "11", 1.0, 3.0), Run("w", "12", 3.0, None)]


def test_a_double_lasts_until_the_lock_was_got() -> None:
    text = "start 11 1000000000\nstart 12 3000000000\ndouble-begin 12 3000000000\ndouble-end 12 4500000000\n"
    runs = runs_of_record("w", text)
    assert runs == [Run("w", "11", 1.0, 4.5), Run("w", "12", 3.0, None)]
    verdict = judge(Facts(runs=runs))
    assert (verdict.containers_doubled, verdict.double_seconds) == (1, 1.5)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Start the drill's service on a port, as the process driver would."""
    started: list[subprocess.Popen[bytes]] = []

    def run(port: int) -> subprocess.Popen[bytes]:
        env = {**os.environ, "RAFTSMAN_ALLOC_ID": "web/main/0", "RAFTSMAN_PORT_HTTP": str(port)}
        command = [sys.executable, "-I", "-S", str(SERVICE_SCRIPT), str(tmp_path)]
        started.append(subprocess.Popen(command, env=env))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


async def test_two_services_at_once_are_noticed_by_the_second(
    start: Callable[[int], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    ports = Ports()
    first, second = ports.pick(), ports.pick()
    one = start(first)
    await answered(f"127.0.0.1:{first}", 10)
    start(second)
    await answered(f"127.0.0.1:{second}", 10)
    one.send_signal(signal.SIGKILL)
    one.wait()
    observer = RecordObserver(tmp_path)
    async with asyncio.timeout(10):
        while (runs := await observer.runs())[0].ended_s is None:
            await asyncio.sleep(0.01)
    verdict = judge(Facts(runs=runs))
    assert {run.instance for run in runs} == {"web/main/0"}
    assert (verdict.containers_doubled, verdict.containers_restarted) == (1, 1)
    assert verdict.double_seconds > 0


async def test_one_service_after_the_other_is_a_restart_only(
    start: Callable[[int], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    port = Ports().pick()
    for _ in range(2):
        service = start(port)
        await answered(f"127.0.0.1:{port}", 10)
        service.kill()
        service.wait()
    verdict = judge(Facts(runs=await RecordObserver(tmp_path).runs()))
    assert (verdict.containers_restarted, verdict.containers_doubled) == (1, 0)


async def test_load_counts_requests_and_failures(start: Callable[[int], subprocess.Popen[bytes]]) -> None:
    ports = Ports()
    good, dead = f"127.0.0.1:{ports.pick()}", f"127.0.0.1:{ports.pick()}"
    start(int(good.rpartition(":")[2]))
    await answered(good, 10)
    assert await probe(good, 1.0) == ""
    load = HttpLoad(interval_s=0.001)
    load.aim([good])
    async with asyncio.timeout(10):
        while load.requests < 20:
            await asyncio.sleep(0.01)
    assert load.failed == 0
    load.aim([good, dead])
    async with asyncio.timeout(10):
        while load.failed < 3:
            await asyncio.sleep(0.01)
    await load.stop()
    assert all(failure.startswith(dead) for failure in load.failures)
    assert load.failures.total() == load.failed


def test_what_went_wrong_a_hundred_times_is_told_once() -> None:
    failures = Counter({"127.0.0.1:1: refused": 100, "127.0.0.1:2: HTTP 500": 1})
    assert each_once(Counter(["lost: a"]) + failures) == [
        "lost: a",
        "127.0.0.1:1: refused (100 times)",
        "127.0.0.1:2: HTTP 500",
    ]
