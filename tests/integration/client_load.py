"""Clients that use a cluster while something is done to it, and remember every answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from orchestrator.client.aio import Client
from orchestrator.contract.errors import RaftsmanError
from orchestrator.ops.dev import LocalCluster


class Load:
    """For every peer a writer and a reader that ask that peer first, and one watcher.

    ``failures``: every call that did not get its answer, as text. ``written``: variable -> value, acknowledged.
    ``watched``: names of variables in the order in which the watcher saw them change.
    """

    def __init__(self, cluster: LocalCluster) -> None:
        self._clients = []
        self.failures: list[str] = []
        self.written: dict[str, str] = {}
        self.watched: list[str] = []
        self.reads = 0
        self._tasks: list[asyncio.Task[None]] = []
        endpoints = list(cluster.endpoints)
        for number in range(len(endpoints)):
            client = Client(endpoints[number:] + endpoints[:number], tls=cluster.tls, timeout_s=15)
            self._clients.append(client)
            self._spawn(self._write(client, number))
            self._spawn(self._read(client))
        self._spawn(self._watch(self._clients[0]))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _write(self, client: Client, number: int) -> None:
        count = 0
        while True:
            name = f"roll-{number}-{count:05d}"
            try:
                answer = await client.create_variable(name, str(count))
                if not answer.hit:
                    self.failures.append(f"{name} was there before it was created")
                self.written[name] = str(count)
            except RaftsmanError as error:
                self.failures.append(f"create {name}: {type(error).__name__} {error.reason} {error.message}")
            count += 1
            await asyncio.sleep(0.01)

    async def _read(self, client: Client) -> None:
        while True:
            wanted = next(reversed(self.written), "")
            try:
                found = await client.get_variable(wanted or "roll-0-00000")
                if wanted and (found.variable is None or found.variable.value != self.written[wanted]):
                    self.failures.append(f"read {wanted}: {found}")
                self.reads += 1
            except RaftsmanError as error:
                self.failures.append(f"read {wanted}: {type(error).__name__} {error.reason} {error.message}")
            await asyncio.sleep(0.01)

    async def _watch(self, client: Client) -> None:
        async for event in client.watch_events(after_index=1, kinds=["variable.changed"]):
            if event.message.startswith("roll-"):
                self.watched.append(event.message)

    async def started(self) -> None:
        await self.more()

    async def more(self) -> None:
        """Until every writer, the readers and the watcher have done something more."""
        written, reads = len(self.written), self.reads
        async with asyncio.timeout(60):
            while len(self.written) < written + 30 or self.reads < reads + 30 or len(self.watched) < written:
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Let every call that was begun end; then the watcher must have seen all that was acknowledged."""
        watcher = self._tasks[-1]
        for task in self._tasks[:-1]:
            task.cancel()
        await asyncio.gather(*self._tasks[:-1], return_exceptions=True)
        async with asyncio.timeout(30):
            while not set(self.written) <= set(self.watched):
                if watcher.done():
                    watcher.result()
                await asyncio.sleep(0.02)
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        for client in self._clients:
            await client.close()
