"""``ListMachine``: the smallest state machine: it remembers what was applied, in order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from orchestrator.contract.errors import CorruptError
from orchestrator.replication.log import FutureFormatError

ADMIT = b"admit:"
CHANGE = b"change:"


def admission_payload(cluster_id: str, admissions: dict[str, str]) -> bytes:
    return ADMIT + json.dumps([cluster_id, admissions]).encode()


def change_payload(expected_epoch: int, addresses: dict[str, str], admissions: dict[str, str]) -> bytes:
    return CHANGE + json.dumps([expected_epoch, addresses, admissions]).encode()


class ListMachine:
    """The outcome of a command is its position among those applied."""

    def __init__(self, admitted: dict[str, str] | None = None) -> None:
        self.applied: list[bytes] = []
        self._index = 0
        self._cluster_id = "" if admitted is None else "cluster"
        self._admitted = dict(admitted or {})
        self._epoch = 1 if admitted else 0
        self._addresses: dict[str, str] = {}
        self.restores = 0

    @property
    def index(self) -> int:
        return self._index

    def apply(self, payload: bytes) -> object:
        if payload.startswith(b"future:"):
            raise FutureFormatError("a command from the future")
        self._index += 1
        if payload.startswith(ADMIT):
            cluster_id, admitted = json.loads(payload[len(ADMIT) :])
            if self._epoch and not admitted.keys() <= self._admitted.keys():
                return "no peer of this epoch"
            self._cluster_id, self._admitted, self._epoch = cluster_id, {**self._admitted, **admitted}, self._epoch or 1
        elif payload.startswith(CHANGE):
            expected, addresses, admitted = json.loads(payload[len(CHANGE) :])
            if expected != self._epoch:
                return "another epoch"
            self._epoch, self._addresses, self._admitted = expected + 1, addresses, admitted
        else:
            self.applied.append(payload)
        return self._index

    def make_room(self) -> Callable[[], None]:
        return lambda: None

    def capture(self) -> Callable[[], list[bytes]]:
        peers = [self._epoch, dict(self._addresses), dict(self._admitted)]
        state = [self._index, self._cluster_id, peers, [row.decode("latin-1") for row in self.applied]]
        return lambda: [json.dumps(state).encode()]

    def prepare(self, data: bytes) -> Callable[[], None]:
        try:
            index, cluster_id, (epoch, addresses, admitted), applied = json.loads(data)
        except ValueError as error:
            raise CorruptError(f"not a snapshot: {error}") from error

        def put() -> None:
            self._index, self._cluster_id, self._admitted = index, cluster_id, admitted
            self._epoch, self._addresses = epoch, addresses
            self.applied = [row.encode("latin-1") for row in applied]
            self.restores += 1

        return put

    def state_hash(self) -> str:
        return hashlib.sha256(b"".join(self.capture()())).hexdigest()

    def admitted(self) -> dict[str, str]:
        return self._admitted

    def cluster_id(self) -> str:
        return self._cluster_id

    def epoch(self) -> int:
        return self._epoch

    def addresses(self) -> dict[str, str]:
        return self._addresses

    def feature_level(self) -> int:
        return 0
