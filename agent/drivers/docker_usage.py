"""What containers use: their control groups where this machine shows them, else the engine's own figures.

Owns: finding a container's control groups (where Docker puts them by default, else by its process, which the engine
names once), and asking the engine where its containers are on another machine. The rule: nothing here takes much more
than a second, as ``docker stats`` does; the engine's ``one-shot`` figures wait for its next look, once a second. An
engine that hangs costs only the figures that it alone could tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent.driver import DriverUnavailableError, Instance
from agent.drivers import docker_http, docker_processes
from agent.drivers.docker_http import EngineError
from agent.inventory import cgroups
from agent.usage import Counters

AT_ONCE = 64
"""Each waits for the engine's next look, so they wait together."""
ASK_S = 1.2
"""For all of them: what the engine has not told by then is unknown. Peers wait for 2 s (``GetUsage``)."""


class Measured:
    """One per driver: it remembers where the control groups of containers are."""

    def __init__(self) -> None:
        self._groups: dict[str, cgroups.Directories] = {}  # by container; nothing: this machine does not show them

    async def measure(self, instances: Sequence[Instance]) -> dict[str, Counters]:
        self._groups = {one.runtime_id: known for one in instances if (known := self._groups.get(one.runtime_id))}
        found: dict[str, Counters] = {}
        turns = asyncio.Semaphore(AT_ONCE)

        async def ask(one: Instance) -> None:
            async with turns:
                found[one.name] = await self._asked(one)

        asking = []
        for one in instances:
            groups = self._groups.get(one.runtime_id) or cgroups.of_container(one.runtime_id)
            counted = _read(groups)
            if counted is not None:
                found[one.name] = counted
            else:
                asking.append(asyncio.ensure_future(ask(one)))
        if asking:
            _, late = await asyncio.wait(asking, timeout=ASK_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            for task in asking:
                if not task.cancelled():
                    task.result()
            silent = Counters(why=f"the Docker engine does not answer (no word for {ASK_S:g} s)")
            for one in instances:
                found.setdefault(one.name, silent)
        return found

    async def _asked(self, one: Instance) -> Counters:
        try:
            facts = await docker_http.ask("GET", f"/containers/{one.runtime_id}/json")
            pid = int(facts["State"].get("Pid") or 0)
            if docker_processes.is_of(pid, one.runtime_id):
                groups = cgroups.of_process(pid)
                counted = _read(groups)
                if counted is not None:
                    self._groups[one.runtime_id] = groups
                    return counted
            return await _told(one)
        except (EngineError, DriverUnavailableError, KeyError, TypeError) as error:
            return Counters(why=f"the engine does not tell: {error}")


def _read(groups: cgroups.Directories) -> Counters | None:
    used = cgroups.read(groups)
    if used is None:
        return None
    return Counters(
        cpu_ns=used.cpu_ns,
        memory_bytes=used.memory_bytes,
        limit_bytes=used.limit_bytes,
        processes=used.processes,
        source="cgroup",
    )


async def _told(one: Instance) -> Counters:
    facts = await docker_http.ask(
        "GET", f"/containers/{one.runtime_id}/stats", query={"stream": "false", "one-shot": "true"}
    )
    memory = facts["memory_stats"]
    cached = memory.get("stats", {}).get("inactive_file", memory.get("stats", {}).get("total_inactive_file", 0))
    return Counters(
        cpu_ns=int(facts["cpu_stats"]["cpu_usage"]["total_usage"]),
        memory_bytes=max(0, int(memory["usage"]) - int(cached)),
        limit_bytes=int(memory.get("limit", 0)),
        processes=int(facts.get("pids_stats", {}).get("current", -1)),
        source="engine",
    )
