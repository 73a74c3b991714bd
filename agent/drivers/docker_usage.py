"""What containers use: their control groups where this machine shows them, else the engine's own figures at once.

The rule: nothing here takes a second, as ``docker stats`` does; its ``one-shot`` does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent.driver import DriverUnavailableError, Instance
from agent.drivers import docker_http
from agent.drivers.docker_http import EngineError
from agent.inventory import cgroups
from agent.usage import Counters

AT_ONCE = 8


async def measure(instances: Sequence[Instance]) -> dict[str, Counters]:
    found: dict[str, Counters] = {}
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(one: Instance) -> None:
        async with turns:
            found[one.name] = await _asked(one)

    rest = []
    for one in instances:
        used = cgroups.read(cgroups.of_container(one.runtime_id))
        if used is None:
            rest.append(one)
        else:
            found[one.name] = Counters(
                cpu_ns=used.cpu_ns,
                memory_bytes=used.memory_bytes,
                limit_bytes=used.limit_bytes,
                processes=used.processes,
                source="cgroup",
            )
    await asyncio.gather(*(ask(one) for one in rest))
    return found


async def _asked(one: Instance) -> Counters:
    try:
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
    except (EngineError, DriverUnavailableError, KeyError, TypeError) as error:
        return Counters(why=f"the engine does not tell: {error}")
