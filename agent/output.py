"""The output of a task's run, found for whoever asks, and waited for by whoever follows.

Owns: which run is meant, why there is none, and waiting for one that has yet to begin. Leaves to others: reading it
(drivers), sending it (``log_server``). The rule: who follows sees the run from its first byte to its end, however early
it was asked for; who does not hears at once what there is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

from agent.answering import in_time, pieces_while_answering
from agent.driver import Driver, InstanceState, LogChunk, LogsGoneError, RunId, run_name
from agent.records import Record
from orchestrator.contract.model import AssignmentKey

LOOK_S = 0.2
"""From one look at a run that has yet to begin to the next."""
HEARD_S = 5.0
"""A placement may take so long from the peer to this agent."""


async def output(
    records: Mapping[AssignmentKey, Record],
    drivers: Mapping[str, Driver],
    key: AssignmentKey,
    task: str,
    *,
    cluster_id: str,
    node: str,
    previous: bool,
    follow: bool,
    tail_lines: int,
    offset: int,
    since_ms: int,
) -> AsyncIterator[LogChunk]:
    """What ``Supervisor.logs`` gives. Raises ``LogsGoneError``, ``DriverUnavailableError``."""
    record = await _record(records, key, HEARD_S if follow else 0.0)
    if record is None:
        raise LogsGoneError(f"{key.id} attempt {key.attempt} is unknown on node {node}")
    names = [spec.name for spec in record.assignment.group.tasks]
    wanted = task or (names[0] if names else "")
    if wanted not in names:
        raise LogsGoneError(f"{key.id} has no task {wanted!r}; it has {', '.join(names)}")
    spec = next(one for one in record.assignment.group.tasks if one.name == wanted)
    restarts = record.restarts - 1 if previous else record.restarts
    if restarts < 0:
        raise LogsGoneError(f"{key.id} has no previous run: it was not restarted in attempt {key.attempt}")
    driver = drivers.get(spec.driver_name)
    name = run_name(cluster_id, RunId(key=key, restarts=restarts, task=wanted))
    while True:
        instance = await in_time(driver, driver.inspect(name)) if driver is not None else None
        if instance is not None and instance.state is not InstanceState.CREATED:
            break
        record = records.get(key, record)
        to_come = record.wanted and record.restarts == restarts and record.cause is None
        if not (follow and to_come and driver is not None):
            break
        await asyncio.sleep(LOOK_S)
    if driver is None or instance is None:
        why = f": {record.reason}" if record.reason else ""
        before = "; the run before it may have: --previous" if record.restarts and not previous else ""
        raise LogsGoneError(f"{key.id} task {wanted} has no output (state {record.state.name}{why}){before}")
    said = driver.logs(name, follow=follow, tail_lines=tail_lines, offset=offset)
    async for chunk in pieces_while_answering(driver, said):
        if not chunk.time_ms or chunk.time_ms >= since_ms:
            yield chunk


async def _record(records: Mapping[AssignmentKey, Record], key: AssignmentKey, patience_s: float) -> Record | None:
    until = time.monotonic() + patience_s
    while key not in records and time.monotonic() < until:
        await asyncio.sleep(LOOK_S)
    return records.get(key)
