"""Carries out what ``agent.reconcile`` decides: one worker per allocation, so that a slow image holds up nobody else.

Owns: the records (with ``agent.store``), the workers, what follows from what was seen. Leaves to others: deciding
(``reconcile``), looking at drivers (``lookout``), talking to peers (``session``), running (``drivers``). The rule: it
works the same with and without a control plane. After a restart it goes on from its records; a missing answer of an
engine says nothing about tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import structlog

from agent import across, pins, reconcile, records
from agent.clearing import SUPERSEDED_GRACE_MS, Clearing
from agent.driver import (
    Driver,
    DriverInfo,
    DriverUnavailableError,
    Instance,
    InstanceState,
    LogChunk,
    LogsGoneError,
    PortTakenError,
    Resizes,
    StartError,
)
from agent.found import Found
from agent.lookout import REFRESH_S, RETRY_S, Lookout
from agent.metrics import Metrics
from agent.output import output
from agent.prober import Prober, Run
from agent.reconcile import Remove, Resize, Start, Stop
from agent.records import Hold, Record
from agent.repeats import Repeats
from agent.runs import TaskRun, find_run
from agent.runspec import NodeFacts, rather_elsewhere, run_spec
from agent.steady import wall_ms
from agent.store import Store
from agent.turns import Turns
from agent.workload.side import WorkloadSide
from orchestrator.contract import codec
from orchestrator.contract.model import (
    AllocationId,
    AllocState,
    Assignment,
    AssignmentKey,
    Desired,
    Observation,
    OnDisconnect,
)
from orchestrator.contract.v1 import agent_pb2

EXPIRE_S = 60.0
SHUTDOWN_MS = 15_000
"""An engine that is told to end ends what it runs first; its own end is seen so much later at most."""

T = TypeVar("T")
log = structlog.get_logger("agent.supervisor")


def _goes_back(before: Instance, now: Instance) -> bool:
    """No run does so by itself: it is created, runs, and ends."""
    return (before.state is InstanceState.EXITED and now.running) or (
        before.state is not InstanceState.CREATED and now.state is InstanceState.CREATED
    )


def _said(record: Record) -> tuple[AllocState, int, int]:
    """What is news to the control plane when it changes."""
    return record.state, record.restarts, record.health


@dataclass(slots=True)
class _Worker:
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


async def _as_found(_key: AssignmentKey, _version: int, _image: str, digest: str) -> str:
    return digest


class Supervisor:
    """``report`` gets every observation worth sending; ``acknowledged`` says whether a key has none waiting; ``settle``
    is ``pins.Settle``; ``progress`` hears how far the start of an allocation has come. ``now_ms`` measures (an agent's:
    ``SteadyClock``); ``noted_ms`` is the clock on the wall, by which engines note when something ended."""

    def __init__(
        self,
        *,
        store: Store,
        drivers: Mapping[str, Driver],
        node: NodeFacts,
        metrics: Metrics,
        report: Callable[[Observation], None],
        acknowledged: Callable[[AssignmentKey], bool] = lambda _key: True,
        settle: pins.Settle = _as_found,
        progress: Callable[[AssignmentKey, str], None] = lambda _key, _text: None,
        now_ms: Callable[[], int] = wall_ms,
        noted_ms: Callable[[], int] = wall_ms,
        refresh_s: float = REFRESH_S,
        check_host: str = "127.0.0.1",
        workload: Callable[[Callable[[], Mapping[AssignmentKey, Record]]], WorkloadSide] | None = None,
    ) -> None:
        self.records: dict[AssignmentKey, Record] = {}
        self._store = store
        self._drivers = drivers
        self._node = node
        self._metrics = metrics
        self._report = report
        self._acknowledged = acknowledged
        self._settle = settle
        self._progress = progress
        self._now_ms = now_ms
        self._noted_ms = noted_ms
        self._found = Found()
        self._starting: set[str] = set()
        self._siblings: dict[AllocationId, set[AssignmentKey]] = {}
        self._workers: dict[AssignmentKey, _Worker] = {}
        self._repeats = Repeats()
        self._turns = Turns()
        self._background: set[asyncio.Task[None]] = set()
        self._index = 0
        self._complete = False  # a full set was taken up, so what has no record is nobody's
        self._closing = False
        self.workload = workload(lambda: self.records) if workload is not None else None
        self.lookout = Lookout(
            drivers,
            self,
            cluster_id=lambda: store.cluster_id,
            metrics=metrics,
            now_ms=noted_ms,
            refresh_s=refresh_s,
        )
        self._clearing = Clearing(drivers, self.lookout, lambda: store.cluster_id, self.records)
        self._prober = Prober(
            drivers=drivers,
            host=check_host,
            cluster_id=lambda: store.cluster_id,
            now_ms=now_ms,
            ready=self._checked,
            dead=self._unwell,
            says=self.workload.board if self.workload is not None else None,
        )
        metrics.running.set_function(lambda: sum(one.running for one in self._found))
        for state in AllocState:
            metrics.allocations.labels(state.name.lower()).set_function(functools.partial(self._count, state))

    def _count(self, state: AllocState) -> int:
        return sum(record.state is state for record in self.records.values())

    @property
    def index(self) -> int:
        """Of the newest assignments that were taken up."""
        return self._index

    async def start(self, *, without_contact: bool = False) -> None:
        """Read the records, look at what runs, and take it up; ``without_contact``: as ``contact_lost`` says."""
        known, damaged = self._store.load()
        for text in damaged:
            log.warning("record_unreadable", record=text)
        for record in known:
            self._remember(record)
        if without_contact:
            self.contact_lost()
        if self.workload is not None:
            await self.workload.start()
        for name in self._drivers:
            await self.lookout.refresh(name)
        for one in self._found:
            if one.running:
                self._metrics.adopted.labels(one.driver).inc()
        for key in list(self.records):
            self._wake(key)
        for name in self._drivers:
            self._spawn(self.lookout.watch(name))
            self._spawn(self.lookout.keep_refreshing(name))
        self._spawn(self._keep_expiring())
        log.info("supervisor_started", records=len(self.records), running=self.running_count())

    async def close(self) -> None:
        """Stop supervising. What runs goes on, and is adopted by the next agent on this data directory."""
        self._closing = True
        tasks = [*self._background, *(worker.task for worker in self._workers.values() if worker.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._prober.close()
        if self.workload is not None:
            await self.workload.close()
        for driver in self._drivers.values():
            await driver.close()

    # ------------------------------------------------------------------------ what the control plane says

    async def apply(
        self,
        *,
        index: int,
        full: bool,
        assignments: Iterable[Assignment],
        removed: Iterable[AssignmentKey] = (),
        superseded: Iterable[AssignmentKey] = (),
    ) -> bool:
        """Take up an update. False: it is older than what is known, and nothing was done.

        All of it is known at once, so that no allocation starts beside one that the same update ends; saving it and
        waking the workers goes on piece by piece. Given up in between, the next full set makes up for the rest.
        """
        if index < self._index:
            return False
        self._index = index
        superseded = tuple(superseded)
        if superseded:
            self._clearing.begin(superseded)
            self._spawn(self._clearing.clear(superseded))
        woken: dict[AssignmentKey, bool] = {}  # and whether to save it first
        listed = list(assignments)
        for assignment in listed:
            before = self.records.get(assignment.key)
            record = records.assigned(before, assignment)
            if full:
                record = records.reconnected(record)
            if before is not None and not record.live:
                self._report(records.observation(record))  # the control plane missed how it ended
            self._remember(record)
            woken[record.key] = record != before
        forgotten = [key for key in removed if key in self.records]
        if full:
            keys = [assignment.key for assignment in listed]
            instances = list(self._found)
            self._complete = True
            unlisted, unknown = across.surplus(keys, self.records, instances, self._node.node_id)
            for key in unlisted:
                log.info("allocation_unknown_to_control_plane", allocation=str(key.id), attempt=key.attempt)
            forgotten += unlisted
            if unknown:
                self._spawn(self._end_all(unknown, remove=True))
        for key in forgotten:
            self._remember(records.forgotten(self.records[key]))
            woken[key] = False
        for key, save in woken.items():
            await self._turns.mine()
            record_now = self.records.get(key)
            if save and record_now is not None:
                self._store.save(record_now)
            self._wake_siblings(key.id)
        return True

    def contact_lost(self) -> None:
        """Too long without a majority: stop what must not run twice. Stopping has a time to keep, so it goes first."""
        held = []
        for key, record in list(self.records.items()):
            if record.assignment.on_disconnect is OnDisconnect.STOP and record.live and record.hold is Hold.NONE:
                log.warning("stopped_without_contact", allocation=str(key.id), attempt=key.attempt)
                self._remember(records.disconnected(record))
                self._wake(key)
                held.append(key)
        if held:
            self._spawn(self._save_all(held))

    async def _save_all(self, keys: Iterable[AssignmentKey]) -> None:
        for key in keys:
            await self._turns.mine()
            if key in self.records:
                self._store.save(self.records[key])

    def observations(self, *, everything: bool) -> list[Observation]:
        """How things are now: of live allocations, or of all that are known."""
        return [
            records.observation(record)
            for record in self.records.values()
            if (everything or record.live) and record.hold is not Hold.FORGOTTEN
        ]

    def learn_peers(self, peers: Sequence[str]) -> None:
        """What starts from now on is told these addresses of the control plane, unless the operator named others."""
        if self._node.api_follows_peers:
            self._node = replace(self._node, api=",".join(peers))

    def starts_under_way(self) -> int:
        """Runs that their driver was told to start and that it has not started yet."""
        return len(self._starting)

    def all_started(self) -> bool:
        """Whether no allocation is on its way to run."""
        return not any(record.state <= AllocState.STARTING for record in self.records.values())

    def running_count(self) -> int:
        """Allocations with something running."""
        return self._found.running_allocations()

    def logs(
        self,
        key: AssignmentKey,
        task: str,
        *,
        previous: bool,
        follow: bool,
        tail_lines: int,
        offset: int,
        since_ms: int = 0,
    ) -> AsyncIterator[LogChunk]:
        """Output of a task's present (or previous) run, as far as it is not known to be older than ``since_ms``.

        Following waits for a run that has yet to begin, and ends with the run.
        Raises ``LogsGoneError``, ``DriverUnavailableError``.
        """
        return output(
            self.records,
            self._drivers,
            key,
            task,
            cluster_id=self._store.cluster_id,
            node=self._node.name,
            previous=previous,
            follow=follow,
            tail_lines=tail_lines,
            offset=offset,
            since_ms=since_ms,
        )

    # ------------------------------------------------------------------------ people who look in

    def run_of(self, key: AssignmentKey, task: str) -> TaskRun | str:
        """The present run of a task ("": the first), or why there is none."""
        record = self.records.get(key)
        return find_run(record, self._drivers, key, task, cluster_id=self._store.cluster_id, node=self._node.name)

    async def seen_ended(self, name: str, timeout_s: float) -> None:
        await self._found.seen_ended(name, timeout_s)

    @property
    def node_id(self) -> str:
        return self._node.node_id

    @property
    def node_name(self) -> str:
        return self._node.name

    def running_by_driver(self) -> list[tuple[Driver, list[Instance]]]:
        """What runs now for this node's allocations: their tasks, and no helpers of a driver."""
        running: dict[str, list[Instance]] = {}
        for one in self._found:
            record = self.records.get(one.run.key)
            tasks = record.assignment.group.tasks if record is not None else ()
            if one.running and any(task.name == one.run.task for task in tasks):
                running.setdefault(one.driver, []).append(one)
        return [(self._drivers[name], instances) for name, instances in sorted(running.items())]

    def devices_of(self, key: AssignmentKey, task: str) -> tuple[str, ...]:
        """Ids of the devices that a task was given."""
        record = self.records.get(key)
        if record is None:
            return ()
        spec = next((one for one in record.assignment.group.tasks if one.name == task), None)
        return record.assignment.device_ids if spec is not None and spec.resources.gpus is not None else ()

    def workload_report(self, key: AssignmentKey) -> bytes:
        """What its tasks said of themselves, as the bytes of a ``WorkloadReport``. Raises ``LogsGoneError``."""
        record = self.records.get(key)
        if record is None or self.workload is None:
            raise LogsGoneError(f"{key.id} attempt {key.attempt} is unknown on node {self._node.name}")
        return codec.encode(self.workload.report(record), agent_pb2.WorkloadReport()).SerializeToString()

    # ------------------------------------------------------------------------ workers

    def _remember(self, record: Record) -> None:
        self.records[record.key] = record
        self._siblings.setdefault(record.key.id, set()).add(record.key)

    def _wake_siblings(self, id_: AllocationId) -> None:
        for key in self._siblings.get(id_, ()):
            if key in self.records:
                self._wake(key)

    def _wake(self, key: AssignmentKey) -> None:
        if self._closing or key not in self.records:
            return
        worker = self._workers.get(key)
        if worker is None:
            worker = self._workers[key] = _Worker()
            worker.task = asyncio.get_running_loop().create_task(self._work(key, worker))
        worker.wake.set()

    async def _work(self, key: AssignmentKey, worker: _Worker) -> None:
        """Step until the allocation is forgotten or has ended; a later wake begins anew."""
        try:
            while True:
                await self._turns.mine()
                if key not in self.records:
                    return
                worker.wake.clear()
                try:
                    wait_s = await self._step(key, worker)
                except DriverUnavailableError as error:
                    if times := self._repeats.due((key, str(error)), time.monotonic()):
                        log.warning("driver_unavailable", allocation=str(key.id), error=str(error), times=times)
                    # Whoever wakes it meanwhile, and looking at that driver does: it was asked a moment ago.
                    await asyncio.sleep(RETRY_S)
                    continue
                record = self.records.get(key)
                if record is None or (not record.live and wait_s is None and not worker.wake.is_set()):
                    return
                if wait_s is None:
                    await worker.wake.wait()
                elif wait_s > 0 and not worker.wake.is_set():
                    try:
                        async with asyncio.timeout(wait_s):
                            await worker.wake.wait()
                    except TimeoutError:
                        pass
        except Exception:
            # A bug in one allocation's road must not end the others; the refresh wakes it again.
            log.exception("worker_failed", allocation=str(key.id), attempt=key.attempt)
        finally:
            if self._workers.get(key) is worker:
                del self._workers[key]

    async def _step(self, key: AssignmentKey, worker: _Worker) -> float | None:
        """One round. Returns seconds until the next one: 0 = at once, None = when something changes."""
        record = self.records[key]
        used = {task.driver_name for task in record.assignment.group.tasks} & set(self._drivers)
        if not all(self.lookout.is_known(name) for name in used):
            return RETRY_S  # nobody knows what runs: neither start nor judge
        blockers: list[Instance] = []
        if record.wanted:
            around = [one for other in self._siblings.get(key.id, ()) for one in self._found.of(other)]
            blockers = across.fenced(record, around, self.records)
            unowned = [one for one in blockers if one.run.key not in self.records]
            if unowned:
                await self._end_all(unowned, remove=True)
                return 0.0
        found = self._found.of(key)
        step = reconcile.step(record, found, self._now_ms(), blockers=[one.name for one in blockers])
        self._put(step.record)
        for stop in (action for action in step.actions if isinstance(action, Stop)):
            log.info("stopping", name=stop.instance.name, signal=stop.signal, timeout_ms=stop.timeout_ms)
        await asyncio.gather(*(self._stop(action) for action in step.actions if isinstance(action, Stop)))
        for action in step.actions:
            if isinstance(action, Remove):
                await self._remove(action.instance)
            elif isinstance(action, Start) and not await self._start(key, action, worker):
                break
        resizes = [action for action in step.actions if isinstance(action, Resize)]
        if resizes:
            await self._resize(key, resizes)
        if step.forget:
            self._forget(key)
            return None
        if any(isinstance(action, Stop | Start | Resize) for action in step.actions):
            return 0.0
        return max(0.0, (step.wake_ms - self._now_ms()) / 1000) if step.wake_ms else None

    async def _start(self, key: AssignmentKey, action: Start, worker: _Worker) -> bool:
        """Start one task. False: the rest of this round is void."""
        await self._clearing.until_clear(key.id)
        record = self.records[key]
        if not record.wanted:
            return False
        task = action.task
        driver = self._drivers.get(task.driver_name)
        try:
            if driver is None:
                has = ", ".join(sorted(self._drivers)) or "none"
                raise StartError(f"this node has no driver {task.driver_name!r} (it has {has})", permanent=True)
            tell = self._teller(key)
            if self.workload is not None:
                needs = self.workload.prepare(record, tell)
                if not await self._while_wanted(key, worker, needs):
                    return False  # nothing came of it while it was wanted
            spec = run_spec(record, task, self._store.cluster_id, self._node)
            if self.workload is not None:
                spec = await self.workload.dress(spec, record)
            spec = replace(spec, progress=tell)
            preparing = pins.prepare(driver, spec, record.assignment.job_version, self._settle)
            ready = await self._while_wanted(key, worker, preparing)
            if ready is None:
                return False
            if ready.digest and ready.digest != spec.digest:
                self._put(records.settled(self.records[key], task.image, ready.digest))
            spec = ready
            self._starting.add(spec.name)
            try:
                instance = await driver.start(spec)
                self.see(instance, wake=False)
            finally:
                self._starting.discard(spec.name)
        except StartError as error:
            self._metrics.start_errors.labels(task.driver_name).inc()
            log.warning("start_failed", allocation=str(key.id), attempt=key.attempt, task=task.name, error=error.reason)
            now = self.records.get(key)
            if now is not None:
                leave = error.permanent or (isinstance(error, PortTakenError) and rather_elsewhere(now, error.ports))
                self._put(records.start_failed(now, task.name, error.reason, permanent=leave))
            return False
        except DriverUnavailableError:
            self.lookout.look_at(task.driver_name)
            raise
        self._metrics.starts.labels(task.driver_name).inc()
        log.info("started", name=instance.name, runtime_id=instance.runtime_id)
        now = self.records.get(key)
        if now is None:
            return False
        # Of a lone task the next step follows at once, and saves that it runs. An agent that dies before finds it.
        self._put(records.started(now, task.name), save=len(now.assignment.group.tasks) != 1)
        return True

    async def _resize(self, key: AssignmentKey, resizes: Sequence[Resize]) -> None:
        """Give what runs its new cpu and memory; where that cannot be done, the group starts again with them."""
        record = self.records[key]  # a newer version may have come since the step: its limits count
        names = {one.task.name for one in resizes}
        for task in record.assignment.group.tasks:
            if task.name not in names:
                continue
            driver = self._drivers[task.driver_name]
            try:
                if not isinstance(driver, Resizes):
                    raise StartError(f"driver {task.driver_name} changes nothing that runs")
                await driver.resize(run_spec(record, task, self._store.cluster_id, self._node))
            except StartError as error:
                log.warning("resize_failed", allocation=str(key.id), task=task.name, error=error.reason)
                self._put(records.not_resized(self.records[key], task.name, error.reason))
                return
            except DriverUnavailableError:
                self.lookout.look_at(task.driver_name)
                raise
        log.info("resized", allocation=str(key.id), attempt=key.attempt, version=record.assignment.job_version)
        self._put(records.resized(self.records[key], record.assignment.job_version))

    def _teller(self, key: AssignmentKey) -> Callable[[str], None]:
        """For threads: how far the start has come."""
        loop = asyncio.get_running_loop()

        def tell(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._progress, key, text)

        return tell

    async def _while_wanted(self, key: AssignmentKey, worker: _Worker, slow: Coroutine[Any, Any, T]) -> T | None:
        """Await something that may take long, but not for longer than the allocation should run (then None)."""
        doing = asyncio.get_running_loop().create_task(slow)
        try:
            while not doing.done():
                waking = asyncio.get_running_loop().create_task(worker.wake.wait())
                await asyncio.wait({doing, waking}, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                if doing.done():
                    break
                worker.wake.clear()
                record = self.records.get(key)
                if record is None or not record.wanted:
                    return None
            return await doing
        finally:
            worker.wake.set()  # whoever woke us meant the worker's next round, too
            if not doing.done():
                doing.cancel()
                await asyncio.gather(doing, return_exceptions=True)

    async def _stop(self, action: Stop) -> None:
        one = action.instance
        driver = self._drivers[one.driver]
        timeout_ms = action.timeout_ms
        if self.workload is not None and action.signal != "SIGKILL":
            timeout_ms = await self.workload.before_stop(one.run, timeout_ms)
        try:
            await driver.stop(one.name, signal=action.signal, timeout_ms=timeout_ms)
            self._metrics.stops.labels(one.driver).inc()
            after = await driver.inspect(one.name)
        except DriverUnavailableError:
            self.lookout.look_at(one.driver)
            raise
        if after is not None:
            self.see(after)
        else:
            self.unsee(one.name)

    async def _remove(self, one: Instance) -> None:
        await self._drivers[one.driver].remove(one.name)
        self.unsee(one.name)

    async def _end_all(self, instances: Iterable[Instance], *, remove: bool) -> None:
        async def end(one: Instance) -> None:
            log.info("ending", name=one.name, node=one.node_id, remove=remove)
            await self._stop(Stop(instance=one, signal="SIGTERM", timeout_ms=SUPERSEDED_GRACE_MS))
            if remove:
                await self._remove(one)

        try:
            await asyncio.gather(*(end(one) for one in instances))
        except DriverUnavailableError as error:
            log.warning("driver_unavailable", error=str(error))

    def _put(self, record: Record, *, save: bool = True) -> None:
        before = self.records.get(record.key)
        self.records[record.key] = record
        self._prober.follow(record)
        if before == record:
            return
        if save and (before is None or replace(before, tasks=(), cause=None) != replace(record, tasks=(), cause=None)):
            self._store.save(record)
        if record.state is AllocState.PENDING or record.hold is Hold.FORGOTTEN:
            return
        if before is None or _said(before) != _said(record):
            log.info(
                "allocation",
                allocation=str(record.key.id),
                attempt=record.key.attempt,
                restarts=record.restarts,
                state=record.state.name,
                reason=record.reason,
            )
            self._report(records.observation(record))

    def _checked(self, run: Run, ready: bool, reason: str) -> None:
        record = self.records.get(run.key)
        if record is not None:
            self._put(records.checked(record, run.restarts, ready=ready, reason=reason, now_ms=self._now_ms()))

    def _unwell(self, run: Run, reason: str) -> None:
        record = self.records.get(run.key)
        if record is not None:
            log.warning("check_failed", allocation=str(run.key.id), attempt=run.key.attempt, reason=reason)
            self._put(records.unwell(record, run.restarts, reason=reason, now_ms=self._now_ms()))
            self._wake(run.key)

    def _forget(self, key: AssignmentKey) -> None:
        record = self.records.pop(key, None)
        if record is not None:
            self._prober.follow(records.forgotten(record))
        self._store.forget(key)
        if not self._found.of(key):
            self._drop_sibling(key)
        self._wake_siblings(key.id)

    def _drop_sibling(self, key: AssignmentKey) -> None:
        siblings = self._siblings.get(key.id)
        if siblings is not None:
            siblings.discard(key)
            if not siblings:
                del self._siblings[key.id]

    # ------------------------------------------------------------------------ what runs

    def see(self, one: Instance, *, wake: bool = True, sure: bool = False) -> None:
        """``sure``: it was asked for after what is known of it was known."""
        if one.node_id != self._node.node_id:
            return
        key = one.run.key
        before = self._found.get(one.name)
        if not sure and before is not None and _goes_back(before, one):
            # An old answer that came late, or somebody started it again behind our back: only a new look can tell.
            self._spawn(self._look_again(one))
            return
        if before is not None and before.exit is not None and one.exit == replace(before.exit, with_engine=False):
            one = replace(one, exit=before.exit)  # a notice of the same end, which does not know whose doing it was
        self._found.put(one)
        if one.state is InstanceState.EXITED and self.workload is not None:
            self.workload.ended(one.run)
        self._siblings.setdefault(key.id, set()).add(key)
        if before is None or before.state is not one.state:
            # What had ended before this agent came was counted by its predecessor; a short task ends within its start.
            if one.state is InstanceState.EXITED and (before is not None or one.name in self._starting):
                self._metrics.exits.labels(one.driver).inc()
            if wake:
                self._wake_siblings(key.id)

    async def _look_again(self, one: Instance) -> None:
        try:
            found = await self._drivers[one.driver].inspect(one.name)
        except DriverUnavailableError:
            return  # everything is looked at again when it is back
        if found is not None:
            self.see(found, sure=True)

    def unsee(self, name: str) -> None:
        gone = self._found.drop(name)
        if gone is None:
            return
        if self.workload is not None:
            self.workload.ended(gone.run)
        key = gone.run.key
        if not self._found.of(key) and key not in self.records:
            self._drop_sibling(key)
        self._wake_siblings(key.id)

    def concerns(self, name: str) -> bool:
        return self._found.get(name) is not None or name in self._starting

    def names_of(self, driver: str) -> set[str]:
        return self._found.names_of(driver)

    def seen_all(self, listed: Sequence[Instance]) -> None:
        """A call that was given up may still have been carried out, for an allocation that is forgotten by now."""
        if self._complete:
            unknown = [one for one in listed if one.node_id == self._node.node_id and one.run.key not in self.records]
            if unknown:
                self._spawn(self._end_all(unknown, remove=True))
        if left := across.left_over(listed, self._node.node_id, self._noted_ms()):
            self._spawn(self._take_away(left))
        for key, record in list(self.records.items()):
            if record.live and key not in self._workers:
                self._wake(key)  # its worker failed

    async def _take_away(self, ended: Iterable[Instance]) -> None:
        try:
            for one in ended:
                log.info("taken_away", name=one.name, node=one.node_id)
                await self._drivers[one.driver].remove(one.name)
        except DriverUnavailableError as error:
            log.warning("driver_unavailable", error=str(error))

    def driver_back(self) -> None:
        for key in list(self.records):
            if self.records[key].live:
                self._wake(key)

    def judged(self, one: Instance, gone_ms: int | None, info: DriverInfo) -> Instance:
        """What an engine that was restarted took along did not end by itself."""
        if gone_ms is None or info.keeps_runs or one.exit is None or one.exit.code == 0 or one.exit.oom_killed:
            return one
        record = self.records.get(one.run.key)
        if one.exit.ended_ms < gone_ms - SHUTDOWN_MS or record is None or record.restarts != one.run.restarts:
            return one
        judged = records.ended_with_engine(record, self._now_ms())
        if judged != record:
            log.info("ended_with_engine", name=one.name)
            self._put(judged)
            self._wake(record.key)
        return replace(one, exit=replace(one.exit, with_engine=True))

    async def _keep_expiring(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_S)
            self.expire()

    def expire(self) -> None:
        """Forget ended allocations that nobody needs any more, once the control plane knows how they ended."""
        for key in across.expired(self.records.values(), self._now_ms()):
            if self._acknowledged(key) or self.records[key].assignment.desired is Desired.STOP:
                self._remember(records.forgotten(self.records[key]))
                self._wake(key)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
