"""``Found``: what drivers run for this node's allocations, as it was seen last.

Owns: instances by allocation and by name, and telling who waits for the end of one. Leaves to others: looking
(``lookout``), what follows from it (``supervisor``). The rule: it holds what drivers said and concludes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from agent.driver import Instance, InstanceState
from orchestrator.contract.model import AssignmentKey


class Found:
    def __init__(self) -> None:
        self._by_key: dict[AssignmentKey, dict[str, Instance]] = {}
        self._keys: dict[str, AssignmentKey] = {}  # by name
        self._onlookers: dict[str, set[asyncio.Event]] = {}  # by name

    def of(self, key: AssignmentKey) -> list[Instance]:
        return list(self._by_key.get(key, {}).values())

    def get(self, name: str) -> Instance | None:
        key = self._keys.get(name)
        return self._by_key[key][name] if key is not None else None

    def names_of(self, driver: str) -> set[str]:
        return {one.name for one in self if one.driver == driver}

    def __iter__(self) -> Iterator[Instance]:
        return (one for found in self._by_key.values() for one in found.values())

    def running_allocations(self) -> int:
        return sum(any(one.running for one in found.values()) for found in self._by_key.values())

    def put(self, one: Instance) -> None:
        self._by_key.setdefault(one.run.key, {})[one.name] = one
        self._keys[one.name] = one.run.key
        if one.state is InstanceState.EXITED:
            self._tell(one.name)

    def drop(self, name: str) -> Instance | None:
        """What is there no more, if it was known."""
        self._tell(name)
        key = self._keys.pop(name, None)
        if key is None:
            return None
        found = self._by_key[key]
        gone = found.pop(name)
        if not found:
            del self._by_key[key]
        return gone

    async def seen_ended(self, name: str, timeout_s: float) -> None:
        """Until a run was seen to have ended, or is gone, from now on; or ``timeout_s``."""
        event = asyncio.Event()
        self._onlookers.setdefault(name, set()).add(event)
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._onlookers[name].discard(event)
            if not self._onlookers[name]:
                del self._onlookers[name]

    def _tell(self, name: str) -> None:
        for event in self._onlookers.get(name, ()):
            event.set()
