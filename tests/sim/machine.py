"""``ListMachine``: the smallest state machine: it remembers what was applied, in order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from orchestrator.contract.errors import CorruptError
from orchestrator.replication.log import FutureFormatError

ADMIT = b"admit:"


def admission_payload(cluster_id: str, admissions: dict[str, str]) -> bytes:
    return ADMIT + json.dumps([cluster_id, admissions]).encode()


class ListMachine:
    """The outcome of a command is its position among those applied."""

    def __init__(self, admitted: dict[str, str] | None = None) -> None:
        self.applied: list[bytes] = []
        self._index = 0
        self._cluster_id = "" if admitted is None else "cluster"
        self._admitted = dict(admitted or {})
        self.restores = 0

    @property
    def index(self) -> int:
        return self._index

    def apply(self, payload: bytes) -> object:
        if payload.startswith(b"future:"):
            raise FutureFormatError("a command from the future")
        self._index += 1
        if payload.startswith(ADMIT):
            self._cluster_id, self._admitted = json.loads(payload[len(ADMIT) :])
        else:
            self.applied.append(payload)
        return self._index

    def make_room(self) -> Callable[[], None]:
        return lambda: None

    def capture(self) -> Callable[[], list[bytes]]:
        state = [self._index, self._cluster_id, dict(self._admitted), [row.decode("latin-1") for row in self.applied]]
        return lambda: [json.dumps(state).encode()]

    def prepare(self, data: bytes) -> Callable[[], None]:
        try:
            index, cluster_id, admitted, applied = json.loads(data)
        except ValueError as error:
            raise CorruptError(f"not a snapshot: {error}") from error

        def put() -> None:
            self._index, self._cluster_id, self._admitted = index, cluster_id, admitted
            self.applied = [row.encode("latin-1") for row in applied]
            self.restores += 1

        return put

    def state_hash(self) -> str:
        return hashlib.sha256(b"".join(self.capture()())).hexdigest()

    def admitted(self) -> dict[str, str]:
        return self._admitted

    def cluster_id(self) -> str:
        return self._cluster_id
