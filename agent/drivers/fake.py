"""The fake driver: runs nothing, in memory, as told. For tests and for clusters of many pretended nodes.

Owns: a table of instances and a script per task. Nothing survives the agent. A task's environment scripts it:
``FAKE_EXIT_AFTER_MS`` (it ends that long after its start), ``FAKE_EXIT_CODE``, ``FAKE_START_ERROR`` (a reason),
``FAKE_START_NEVER`` (likewise, but as of an unknown image: no use in trying here again), ``FAKE_OUTPUT`` (what it says
at once), ``FAKE_CHECK`` (exit code of every command in it). The rule: it passes the same contract tests as the real
drivers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from agent.driver import (
    DriverInfo,
    DriverUnavailableError,
    Exit,
    Instance,
    InstanceState,
    LogChunk,
    LogsGoneError,
    Ran,
    RunSpec,
    StartError,
)
from agent.drivers import fake_hands
from agent.drivers.fake_hands import FakeHands
from agent.hands import Command, Connection, Entered, Incoming
from orchestrator.contract.tree import Target


@dataclass(slots=True)
class _Run:
    instance: Instance
    output: list[LogChunk] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    timer: asyncio.TimerHandle | None = None


class FakeDriver:
    name = "fake"

    def __init__(self) -> None:
        self.available = True
        self.starts: list[str] = []
        self.stops: list[tuple[str, str, int]] = []
        self.removals: list[str] = []
        self.resizes: list[tuple[str, int, int]] = []  # name, cpu, memory
        self.refuse_resize = ""
        self.hold_prepare: asyncio.Event | None = None
        self.ignore_stop = False
        self.keeps_runs = True
        self.fail_list: Exception | None = None  # once
        self.check_codes: dict[str, int] = {}  # by run: what commands in it exit with
        self._runs: dict[str, _Run] = {}
        self._hands: dict[str, FakeHands] = {}
        self._changed: asyncio.Queue[str | None] = asyncio.Queue()
        self._numbers = 0

    async def probe(self) -> DriverInfo:
        reason = "nothing really runs" if self.available else "the fake engine is down"
        return DriverInfo(available=self.available, keeps_runs=self.keeps_runs, version="1", reason=reason)

    async def prepare(self, spec: RunSpec) -> None:
        self._check()
        if self.hold_prepare is not None:
            await self.hold_prepare.wait()
        if not (spec.task.command or spec.task.args or spec.task.image):
            raise StartError("has neither image nor command", permanent=True)

    async def start(self, spec: RunSpec) -> Instance:
        self._check()
        known = self._runs.get(spec.name)
        if known is not None:
            return known.instance
        env = dict(spec.env)
        if reason := env.get("FAKE_START_ERROR"):
            raise StartError(reason)
        if reason := env.get("FAKE_START_NEVER"):
            raise StartError(reason, permanent=True)
        self.check_codes.setdefault(spec.name, int(env.get("FAKE_CHECK", "0")))
        self._numbers += 1
        instance = Instance(
            name=spec.name,
            driver=self.name,
            cluster_id=spec.cluster_id,
            node_id=spec.node_id,
            run=spec.run,
            runtime_id=f"fake-{self._numbers}",
            state=InstanceState.RUNNING,
        )
        run = self._runs[spec.name] = _Run(instance)
        self.starts.append(spec.name)
        if output := env.get("FAKE_OUTPUT"):
            self.say(spec.name, output.encode())
        if after := env.get("FAKE_EXIT_AFTER_MS"):
            code = int(env.get("FAKE_EXIT_CODE", "0"))
            loop = asyncio.get_running_loop()
            run.timer = loop.call_later(int(after) / 1000, self.end, spec.name, Exit(code=code))
        return instance

    async def resize(self, spec: RunSpec) -> None:
        self._check()
        if self.refuse_resize:
            raise StartError(self.refuse_resize)
        if spec.name in self._runs:
            need = spec.task.resources
            self.resizes.append((spec.name, need.cpu_millis, need.memory_mib))

    async def stop(self, name: str, *, signal: str, timeout_ms: int) -> None:
        self._check()
        run = self._runs.get(name)
        if run is None or not run.instance.running:
            return
        self.stops.append((name, signal, timeout_ms))
        if self.ignore_stop:
            while run.instance.state is InstanceState.RUNNING:
                run.changed.clear()
                await run.changed.wait()
            return
        number = 9 if signal == "SIGKILL" else 15
        self.end(name, Exit(code=128 + number, signal=number))

    async def remove(self, name: str) -> None:
        self._check()
        run = self._runs.pop(name, None)
        if run is not None:
            self.removals.append(name)
            if run.timer is not None:
                run.timer.cancel()
            run.instance = replace(run.instance, state=InstanceState.EXITED, exit=Exit(code=137, signal=9))
            run.changed.set()
            self._changed.put_nowait(name)

    async def inspect(self, name: str) -> Instance | None:
        self._check()
        run = self._runs.get(name)
        return run.instance if run is not None else None

    async def list(self, cluster_id: str) -> tuple[Instance, ...]:
        self._check()
        if self.fail_list is not None:
            error, self.fail_list = self.fail_list, None
            raise error
        return tuple(run.instance for run in self._runs.values() if run.instance.cluster_id == cluster_id)

    async def changes(self) -> AsyncIterator[str]:
        while True:
            name = await self._changed.get()
            if name is None:
                raise DriverUnavailableError("the fake engine has gone")
            yield name

    async def logs(self, name: str, *, follow: bool, tail_lines: int, offset: int) -> AsyncIterator[LogChunk]:
        self._check()
        run = self._runs.get(name)
        if run is None:
            raise LogsGoneError(f"{name} is unknown on this node")
        place = max(0, len(run.output) - tail_lines) if tail_lines > 0 else 0
        while True:
            for chunk in run.output[place:]:
                place += 1
                if chunk.offset + len(chunk.data) > offset:
                    skip = max(0, offset - chunk.offset)
                    yield replace(chunk, data=chunk.data[skip:], offset=chunk.offset + skip)
            if not follow or not run.instance.running:
                return
            run.changed.clear()
            await run.changed.wait()

    # ------------------------------------------------------------------------ hands on it

    def hands(self, name: str) -> FakeHands:
        return self._hands.setdefault(name, FakeHands())

    async def enter(self, name: str, command: Command) -> Entered:
        self._check()
        return self.hands(name).enter(command)

    async def copy_out(self, name: str, path: str) -> tuple[str, AsyncIterator[bytes]]:
        self._check()
        return self.hands(name).copy_out(path)

    async def copy_in(self, name: str, target: Target) -> tuple[str, Incoming]:
        self._check()
        return self.hands(name).copy_in(target)

    async def connect(self, name: str, port: int) -> Connection:
        self._check()
        return fake_hands.connect(port)

    async def run_in(self, name: str, command: tuple[str, ...], *, timeout_ms: int) -> Ran:
        self._check()
        run = self._runs.get(name)
        if run is None or not run.instance.running:
            return Ran(code=-1, output=f"{name} does not run")
        return Ran(code=self.check_codes.get(name, 0), output=" ".join(command))

    async def close(self) -> None:
        for run in self._runs.values():
            if run.timer is not None:
                run.timer.cancel()

    # ------------------------------------------------------------------------ what tests do to it

    def say(self, name: str, data: bytes, *, stderr: bool = False) -> None:
        """Append output, one chunk per line."""
        run = self._runs[name]
        for line in data.splitlines(keepends=True):
            start = run.output[-1].offset + len(run.output[-1].data) if run.output else 0
            run.output.append(LogChunk(data=line, offset=start, stderr=stderr))
        run.changed.set()

    def end(self, name: str, exit_: Exit) -> None:
        """The run ends by itself."""
        run = self._runs.get(name)
        if run is None or not run.instance.running:
            return
        ended = replace(exit_, ended_ms=exit_.ended_ms or int(time.time() * 1000))
        run.instance = replace(run.instance, state=InstanceState.EXITED, exit=ended)
        run.changed.set()
        self._changed.put_nowait(name)

    def plant(self, instance: Instance) -> None:
        """A run that was there before the agent."""
        self._runs[instance.name] = _Run(instance)

    def revive(self, name: str) -> None:
        """Somebody started it again behind the agent's back."""
        run = self._runs[name]
        run.instance = replace(run.instance, state=InstanceState.RUNNING, exit=None)
        self._changed.put_nowait(name)

    def vanish(self, name: str) -> None:
        """Somebody removed it behind the agent's back."""
        del self._runs[name]
        self._changed.put_nowait(name)

    def tell(self, name: str) -> None:
        """That it may have changed; "": anything may have."""
        self._changed.put_nowait(name)

    def go(self) -> None:
        """The engine ends: its notices break off. ``set_available`` brings it back."""
        self.available = False
        self._changed.put_nowait(None)

    def set_available(self, available: bool) -> None:
        self.available = available

    def _check(self) -> None:
        if not self.available:
            raise DriverUnavailableError("the fake engine is down")
