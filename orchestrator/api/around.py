"""A state machine around another: what it passes on as it is.

Owns: that. Leaves to others: what happens at ``apply`` and ``prepare`` besides (``watch``, ``past``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from orchestrator.replication.log import StateMachine

M = TypeVar("M", bound=StateMachine)


class Around(Generic[M]):
    def __init__(self, machine: M) -> None:
        self._machine = machine

    @property
    def index(self) -> int:
        return self._machine.index

    def make_room(self) -> Callable[[], None]:
        return self._machine.make_room()

    def capture(self) -> Callable[[], Iterable[bytes]]:
        return self._machine.capture()

    def state_hash(self) -> str:
        return self._machine.state_hash()

    def admitted(self) -> dict[str, str]:
        return self._machine.admitted()

    def cluster_id(self) -> str:
        return self._machine.cluster_id()

    def epoch(self) -> int:
        return self._machine.epoch()

    def addresses(self) -> dict[str, str]:
        return self._machine.addresses()

    def feature_level(self) -> int:
        return self._machine.feature_level()
