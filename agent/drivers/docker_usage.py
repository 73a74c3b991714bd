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

AT_ONCE = 128
"""Each waits for the engine's next look, so they wait together, but each with a connection of its own: not all."""
ASK_S = 1.2
"""For all of them: what the engine has not told by then is unknown. Peers wait for 2 s (``GetUsage``)."""


class Measured:
    """One per driver: it remembers where the control groups of containers are."""

    def __init__(self) -> None:
        self._groups: dict[str, cgroups.Directories] = {}  # by container; nothing: this machine does not show them
        self._round = 0
        self._turns: dict[str, int] = {}  # by container: the round in which it last had its turn

    async def measure(self, instances: Sequence[Instance]) -> dict[str, Counters]:
        """There may be too many for one round: those come first that had no turn for longest. Who is asked about at the
        round's begin has had its turn whatever the engine says, who is asked about later only if it tells."""
        self._groups = {one.runtime_id: known for one in instances if (known := self._groups.get(one.runtime_id))}
        turns = self._turns = {one.runtime_id: self._turns.get(one.runtime_id, 0) for one in instances}
        self._round += 1
        this_round = self._round
        found: dict[str, Counters] = {}
        unknown: list[Instance] = []
        for one in instances:
            counted = _read(self._groups.get(one.runtime_id) or cgroups.of_container(one.runtime_id))
            if counted is not None:
                found[one.name] = counted
            else:
                unknown.append(one)
        at_once = asyncio.Semaphore(AT_ONCE)
        told: dict[str, Counters] = {}

        async def ask(one: Instance) -> None:
            async with at_once:
                told[one.name] = await self._ask(one)
            turns[one.runtime_id] = this_round

        unknown.sort(key=lambda one: turns[one.runtime_id])
        turns.update((one.runtime_id, this_round) for one in unknown[:AT_ONCE])
        asking = [asyncio.ensure_future(ask(one)) for one in unknown]
        try:
            if asking:
                await asyncio.wait(asking, timeout=ASK_S)
        finally:
            late = [task for task in asking if not task.done()]
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for task in asking:
            if not task.cancelled():
                task.result()
        why = f"the Docker engine does not answer (no word for {ASK_S:g} s)"
        if told:
            why = f"in {ASK_S:g} s the Docker engine told of {len(told)} of {len(asking)} tasks; ask again"
        return {one.name: Counters(why=why) for one in unknown} | found | told

    async def _ask(self, one: Instance) -> Counters:
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
