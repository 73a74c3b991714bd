"""What goes on between the agent and the tasks that it runs, beside running them.

Owns: what a run is told at its start (endpoint, token, needed services, resolver), that it hears of its end before the
signal, what is kept over an agent's restart, what is reported. Leaves to others: when (``supervisor``), the parts
(``board``, ``ports``, ``endpoint``, ``discovery``). The rule: a task that knows nothing of all this runs as if it were
not there, and a stop never takes longer than the job's own grace.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric

from agent.discovery import Directory
from agent.dns.told import Telling, told_nothing
from agent.driver import SANDBOX, RunId, RunSpec, StartError
from agent.records import Record
from agent.workload import place
from agent.workload.board import Board
from agent.workload.endpoint import SOCKET, Endpoint, NotKeptError
from agent.workload.ports import PortLeases, shared_locks
from orchestrator.contract.containers import HOST
from orchestrator.contract.model import (
    AssignmentKey,
    LeasedPort,
    Protocol,
    Service,
    TaskMetric,
    TaskReport,
    WorkloadReport,
    str_map,
)
from orchestrator.contract.services import ENV_INSTANCES, env_name, parse_need

NEEDS_S = 60.0
"""So long a start waits for the services that it needs; then it has failed, with the reason."""
NOTICE_S = 1.0
"""A task that listens for its end and does not ask for its grace gets the signal so long after the notice."""
HEARS_S = 3.0
"""A task that listened comes back within this to an agent that has just restarted."""
DONE_S = 1.0
"""Who said that it is done has so long to leave by itself."""
LAST_S = 0.5
"""Of a grace that was asked for this much is left between signal and kill."""
INSIDE = "/run/raftsman"
"""Where containers find the endpoint."""
SAVE_S = 0.05
AGAIN_S = 1.0
"""After a save that failed."""

log = structlog.get_logger("agent.workload")


@dataclass(slots=True)
class _Saving:
    """One that comes: what waits for it, and how it went."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    problem: str = ""


class WorkloadSide:
    """``data``: the agent's directory; ``directory``: of the endpoint; ``mounted``: whether containers can be given it;
    ``needed``: the operator named it. ``dns``: what tasks are told of DNS."""

    def __init__(
        self,
        *,
        cluster_id: Callable[[], str],
        records: Callable[[], Mapping[AssignmentKey, Record]],
        data: Path,
        directory: Path,
        mounted: Callable[[], bool],
        services: Directory,
        reserved: Collection[tuple[int, int]],
        saved: Mapping[str, Any],
        save: Callable[[dict[str, Any]], None],
        dns: Telling = told_nothing,
        needed: bool = False,
        needs_s: float = NEEDS_S,
    ) -> None:
        self._records = records
        self._data = data
        self._directory = directory
        self._mounted = mounted
        self._services = services
        self._save = save
        self._secret = str(saved.get("secret") or secrets.token_hex(32))
        self._saved = saved
        self._dns = dns
        self._needed = needed
        self._needs_s = needs_s
        self._listens = False
        self.board = Board(bytes.fromhex(self._secret), cluster_id, records)
        self.ports = PortLeases(reserved=reserved, given=self._given, locks=shared_locks(Path(tempfile.gettempdir())))
        self._endpoint = Endpoint(self.board, self.ports, lookup=services.ask, kept=self._kept)
        self._saving: asyncio.TimerHandle | None = None
        self._next = _Saving()
        self._closed = False

    async def start(self) -> None:
        """Take up what was kept, and listen. Where that is impossible: raises OSError if it is ``needed``."""
        for one in self._saved.get("runs", ()):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                run = self.board.find(str(one["token"]))
                if run is None:
                    continue
                self.board.ready(run, bool(one["ready"]))
                self.board.of(run).listens = bool(one["listens"])
                for port, protocol in one["ports"]:
                    self.ports.restore(run, LeasedPort(port=int(port), protocol=Protocol(protocol)))
        self._keep()
        try:
            place.make(self._directory, self._data)
            await self._endpoint.start(self._directory)
            self._listens = True
        except OSError as error:
            if self._needed:
                raise
            log.warning("workload_endpoint_off", directory=str(self._directory), error=str(error))

    async def close(self) -> None:
        self._closed = True
        if self._saving is not None:
            self._saving.cancel()
            self._keep()
        await self._endpoint.close()
        self.ports.close()
        if not any(record.live for record in self._records().values()):
            place.remove(self._directory)

    # ------------------------------------------------------------------------ a run begins

    async def prepare(self, record: Record, tell: Callable[[str], None] = lambda _text: None) -> bool:
        """True once the services that it needs are there; ``tell`` hears what it waits for. Raises ``StartError`` when
        they do not come."""
        group = record.assignment.group
        names = {text: parse_need(text, record.key.id.namespace) for text in group.needs}
        missing = dict(names)
        try:
            async with asyncio.timeout(self._needs_s):
                for text, name in names.items():
                    async for service in self._services.watch(name):
                        if service.instances:
                            del missing[text]
                            break
                        tell(f"waits for service {text!r}, of which no instance is ready")
        except TimeoutError:
            text = next(iter(missing))
            raise StartError(
                f"it needs service {text!r}, of which no instance is ready: see raftsman services {names[text].name}"
            ) from None
        return True

    async def dress(self, spec: RunSpec, record: Record) -> RunSpec:
        """The same run, told where its agent is and who is there. Raises ``StartError`` where it cannot be."""
        dns = await self._dns()
        if spec.run.task == SANDBOX:  # it holds the network that the others use
            return replace(spec, resolver=dns.resolver)
        env = dict(spec.env)
        docker = spec.task.driver_name == "docker"
        mounted = docker and self._listens and self._mounted()
        if mounted or (self._listens and not docker):
            env["RAFTSMAN_WORKLOAD_SOCKET"] = f"{INSIDE if docker else self._directory}/{SOCKET}"
            env["RAFTSMAN_WORKLOAD_TOKEN"] = self.board.token(spec.run)
        elif spec.task.workload is not None:
            raise StartError(
                f"task {spec.task.name} has 'workload', and this node's agent has no directory that it could be given: "
                "start the agent with --workload-dir, for containers one that the engine finds under the same path",
                permanent=True,
            )
        if dns.address and (not docker or spec.network_mode == HOST or dns.reached_from_containers):
            env["RAFTSMAN_DNS"] = dns.address
        for text in record.assignment.group.needs:
            known = self._services.known(parse_need(text, record.key.id.namespace))
            if known is not None and known.instances:
                env = _addresses(text, known) | env  # what the job says itself stays
        return replace(
            spec,
            env=str_map(env),
            workload_dir=str(self._directory) if mounted else "",
            resolver=dns.resolver if docker else "",
        )

    # ------------------------------------------------------------------------ a run ends

    async def before_stop(self, run: RunId, timeout_ms: int) -> int:
        """Let a task that listens know; what is left of its grace for the signal, in milliseconds.

        Who asks for its whole grace gets no signal until it is done, or nearly all of the grace is over.
        """
        said = self.board.known(run)
        if said is None:
            return timeout_ms
        began = time.monotonic()
        if said.deadline_s is None:
            said.deadline_s = began + timeout_ms / 1000
        said.notice.set()
        if not (said.listens or said.draining) or said.ended or timeout_ms <= 0:
            return timeout_ms
        last_s = min(LAST_S, timeout_ms / 4000)
        half_s = timeout_ms / 2000
        done_s = began
        while not said.ended:
            if not said.done:
                done_s = time.monotonic()
            until_s = began + min(HEARS_S, half_s)
            if said.heard_s is not None:
                until_s = max(began, said.heard_s) + min(NOTICE_S, half_s)
            if said.draining:
                until_s = began + timeout_ms / 1000 - last_s
            if said.done:  # it leaves by itself now, with the exit code that it wants
                until_s = min(until_s, done_s + DONE_S)
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                break
            said.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await said.changed.wait()
        spent_ms = int((time.monotonic() - began) * 1000)
        return max(int(last_s * 1000), timeout_ms - spent_ms)

    def ended(self, run: RunId) -> None:
        """It runs no more: what it leased is free."""
        released = self.ports.release_all(run)
        said = self.board.ended(run)
        if released or (said is not None and (said.ready or said.listens)):
            self._soon()

    # ------------------------------------------------------------------------ what is told of it

    def report(self, record: Record) -> WorkloadReport:
        """Of the present run of an allocation."""
        return WorkloadReport(
            tasks=tuple(
                self._report(RunId(key=record.key, restarts=record.restarts, task=task.name))
                for task in record.assignment.group.tasks
            )
        )

    def _report(self, run: RunId) -> TaskReport:
        said = self.board.known(run)
        if said is None:
            return TaskReport(task=run.task)
        return TaskReport(
            task=run.task,
            ready=said.ready,
            heartbeat_age_ms=-1 if said.beat_s is None else int((time.monotonic() - said.beat_s) * 1000),
            metrics=tuple(TaskMetric(name=name, value=value) for name, value in sorted(said.metrics.items())),
            ports=self.ports.of(run),
            stopping=said.deadline_s is not None,
            draining=said.draining,
            done=said.done,
        )

    def collect(self) -> Iterable[Metric]:
        """What tasks report, for the agent's own ``/metrics``."""
        families: dict[str, GaugeMetricFamily] = {}
        labels = ("namespace", "job", "group", "ordinal", "attempt", "task")
        for run, said in self.board.runs():
            id_ = run.key.id
            values = (id_.namespace, id_.job, id_.group, str(id_.ordinal), str(run.key.attempt), run.task)
            for name, value in said.metrics.items():
                family = families.get(name)
                if family is None:
                    text = "Reported by tasks through the workload kit"
                    family = families[name] = GaugeMetricFamily(f"raftsman_workload_{name}", text, labels=labels)
                family.add_metric(values, value)
        return [families[name] for name in sorted(families)]

    # ------------------------------------------------------------------------ inside

    def _given(self) -> set[int]:
        return {
            port.host_port for record in self._records().values() if record.live for port in record.assignment.ports
        }

    def _soon(self) -> None:
        if self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(SAVE_S, self._keep)

    async def _kept(self, news: bool) -> None:
        """Once what is known now has been saved; who says something within ``SAVE_S`` of another waits with it."""
        if news:
            self._soon()
        elif self._saving is None:
            return
        saving = self._next
        await saving.done.wait()
        if saving.problem:
            raise NotKeptError(saving.problem)

    def _keep(self) -> None:
        self._saving = None
        saving, self._next = self._next, _Saving()
        runs = [
            {
                "token": self.board.token(run),
                "ready": said.ready,
                "listens": said.listens,
                "ports": [[port.port, int(port.protocol)] for port in self.ports.of(run)],
            }
            for run, said in self.board.runs()
            if said.ready or said.listens or self.ports.of(run)
        ]
        try:
            self._save({"secret": self._secret, "runs": runs})
        except OSError as error:
            log.warning("workload_not_saved", error=str(error))
            saving.problem = str(error)
            if not self._closed:
                self._saving = asyncio.get_running_loop().call_later(AGAIN_S, self._keep)
        finally:
            saving.done.set()


def _addresses(need: str, service: Service) -> dict[str, str]:
    """What the environment says of a needed service, as of now."""
    name = env_name(need.partition(".")[0])
    shown = service.instances[:ENV_INSTANCES]
    written = [f"[{one.address}]:{one.port}" if ":" in one.address else f"{one.address}:{one.port}" for one in shown]
    return {
        f"RAFTSMAN_SERVICE_{name}": ",".join(written),
        f"{name}_SERVICE_HOST": shown[0].address,
        f"{name}_SERVICE_PORT": str(shown[0].port),
    }
