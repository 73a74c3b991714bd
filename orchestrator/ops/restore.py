"""From a backup to a data directory."""

from __future__ import annotations

from pathlib import Path

from orchestrator.contract.errors import CorruptError
from orchestrator.replication.machine import ClusterMachine
from orchestrator.state.state import State


def load(file: Path, data: bytes) -> State:
    """The state in a backup's bytes. Raises ``CorruptError``."""
    machine = ClusterMachine()
    try:
        machine.restore(data)
    except CorruptError as error:
        raise CorruptError(f"{file} holds no state that this raftsman can use: {error.__cause__}") from error
    return machine.state
