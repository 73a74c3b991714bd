"""The cluster at a glance, live: one collector feeds every open status page.

Owns: the snapshot that the page shows, and the gap probe of the "kill the leader" button. The rule: the collector runs
only while somebody watches, asks stale reads first (so the page goes on while nobody leads) and never more than a few
times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from orchestrator.client.aio import Client
from orchestrator.contract.answers import JobStatus
from orchestrator.contract.errors import RaftsmanError
from orchestrator.contract.plain import plain

REFRESH_S = 1.0
REFRESH_WITHOUT_LEADER_S = 0.2
EVENTS_SHOWN = 60
EXPLAINED_AT_MOST = 8
STALE_S, FRESH_S, EXPLAIN_S = 2.0, 0.5, 1.0
GAP_NAMESPACE = "raftsman-page"
GAP_PAUSE_S = 0.02


class Overview:
    """``subscribe`` yields JSON texts: first the whole picture, then a new one whenever it changed."""

    def __init__(self, client: Client, *, kill_leader: Callable[[], Awaitable[dict[str, Any]]] | None = None) -> None:
        self._client = client
        self._kill_leader = kill_leader
        self._queues: set[asyncio.Queue[str]] = set()
        self._collector: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_SHOWN)
        self._gap: dict[str, Any] = {}
        self._gap_task: asyncio.Task[None] | None = None
        self._last = ""

    @property
    def watchers(self) -> int:
        return len(self._queues)

    @property
    def can_kill(self) -> bool:
        return self._kill_leader is not None

    async def subscribe(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue(maxsize=4)
        self._queues.add(queue)
        if self._collector is None:
            self._collector = asyncio.create_task(self._collect())
        elif self._last:
            queue.put_nowait(self._last)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)
            if not self._queues:
                await self._stop_collector()

    async def close(self) -> None:
        await self._stop_collector()
        if self._gap_task is not None:
            await _cancel(self._gap_task)

    async def kill_leader(self) -> dict[str, Any]:
        """Kill the leader of this dev cluster and measure until the next acknowledged write."""
        if self._kill_leader is None:
            raise RuntimeError("not a dev cluster")
        if self._gap_task is not None and not self._gap_task.done():
            return self._gap
        # A first write shows that the way to the leader is open, so that the gap is the leader's and not ours.
        await self._write_gap("before")
        self._gap = {"state": "open", "killed": "the leader", "ms": 0}
        killing = asyncio.ensure_future(self._kill_leader())
        self._gap_task = asyncio.create_task(self._measure_gap(killing))
        killed = await asyncio.shield(killing)
        self._gap = {**self._gap, "killed": killed.get("killed", "")}
        return self._gap

    async def _measure_gap(self, killing: asyncio.Future[dict[str, Any]]) -> None:
        """Write all the while; the gap is the longest time between two acknowledgements until one follows the kill."""
        last = time.monotonic()
        longest = 0
        while True:
            killed = killing.done()
            write = asyncio.create_task(self._write_gap(f"after {time.time_ns()}"))
            while not write.done():
                await asyncio.wait({write}, timeout=0.1)
                longest = max(longest, round((time.monotonic() - last) * 1000))
                self._gap = {**self._gap, "ms": longest}
                self._wake.set()
            last = time.monotonic()
            try:
                write.result()
                if not killed:
                    await asyncio.sleep(GAP_PAUSE_S)
                    continue
                error = killing.exception()
                state = {"state": "closed"} if error is None else {"state": "failed", "error": str(error)}
            except RaftsmanError as error:
                state = {"state": "failed", "error": error.message}
            self._gap = {**self._gap, **state, "ms": longest}
            self._wake.set()
            return

    async def _write_gap(self, value: str) -> None:
        await self._client.at_most(30.0).put_variable("gap", value, namespace=GAP_NAMESPACE)

    async def _stop_collector(self) -> None:
        collector, self._collector = self._collector, None
        if collector is not None:
            await _cancel(collector)
        self._last = ""

    async def _collect(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_events())
            while True:
                picture = await self._picture()
                text = json.dumps(picture, sort_keys=True)
                if text != self._last:
                    self._last = text
                    self._publish(text)
                pause = REFRESH_S if picture["leader"] else REFRESH_WITHOUT_LEADER_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(0.05)  # a burst of events is one picture

    def _publish(self, text: str) -> None:
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()  # a slow page needs only the newest picture
            queue.put_nowait(text)

    async def _follow_events(self) -> None:
        self._events.clear()
        after = -1
        while True:
            try:
                async for event in self._client.watch_events(after_index=after, namespace="*"):
                    after = event.index
                    if event.namespace == GAP_NAMESPACE:
                        continue  # our own writes
                    self._events.append(plain(event))
                    self._wake.set()
            except RaftsmanError:
                await asyncio.sleep(REFRESH_S)

    async def _picture(self) -> dict[str, Any]:
        client = self._client.at_most(STALE_S)
        try:
            status = await client.cluster_status(stale=True)
            if status.leader_id:
                with contextlib.suppress(RaftsmanError):  # only the leader knows how far behind the others are
                    status = await self._client.at_most(FRESH_S).cluster_status()
        except RaftsmanError as error:
            return {"leader": "", "error": error.message, "gap": self._gap, "events": list(self._events)}
        # What only a leader knows is left out while there is none: the page must never wait for an election.
        nodes, jobs = await asyncio.gather(
            client.list_nodes(stale=True),
            client.list_jobs(namespace="*", stale=True),
            return_exceptions=True,
        )
        shown_jobs = () if isinstance(jobs, BaseException) else jobs.jobs
        return {
            "cluster": status.cluster_name or status.cluster_id,
            "leader": status.leader_id,
            "term": status.term,
            "commit_index": status.commit_index,
            "peers": [_without(plain(peer), "last_contact_ms") for peer in status.peers],
            "nodes": []
            if isinstance(nodes, BaseException)
            else [_without(plain(node), "heartbeat_age_ms") for node in nodes.nodes],
            "jobs": [_job_row(job) for job in shown_jobs],
            "pending": await self._pending(shown_jobs) if status.leader_id else [],
            "events": list(self._events),
            "gap": self._gap,
            "can_kill": self.can_kill,
        }

    async def _pending(self, jobs: tuple[JobStatus, ...]) -> list[dict[str, Any]]:
        waiting = [job for job in jobs if not job.stopped and any(group.pending for group in job.groups)]
        rows: list[dict[str, Any]] = []
        for job in waiting[:EXPLAINED_AT_MOST]:
            name, namespace = job.spec.name, job.spec.namespace
            try:
                explanation = await self._client.at_most(EXPLAIN_S).explain_job(name, namespace=namespace)
            except RaftsmanError as error:
                rows.append({"namespace": namespace, "job": name, "why": error.message, "hint": ""})
                continue
            rows.extend(
                {
                    "namespace": namespace,
                    "job": f"{name}/{group.group}",
                    "pending": group.pending,
                    "why": group.summary,
                    "hint": group.hint,
                }
                for group in explanation.groups
                if group.pending
            )
        if len(waiting) > EXPLAINED_AT_MOST:
            rows.append({"namespace": "", "job": f"and {len(waiting) - EXPLAINED_AT_MOST} more", "why": "", "hint": ""})
        return rows


def _job_row(job: JobStatus) -> dict[str, Any]:
    return {
        "namespace": job.spec.namespace,
        "name": job.spec.name,
        "type": job.spec.type.name.lower(),
        "state": job.state,
        "version": job.version,
        "groups": plain(job.groups),
    }


def _without(row: dict[str, Any], key: str) -> dict[str, Any]:
    """Leave out what changes with every heartbeat: it would make every picture a new one."""
    row.pop(key, None)
    return row


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
