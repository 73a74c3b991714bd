"""An agent's report as the command that the log carries: columns, made straight from the message.

Owns: checking each observation and packing what the state keeps. Leaves to others: whose node it is (``agents``), what
it means (``state.apply_observed``). The rule: a report has hundreds of rows and there are thousands of agents, so a row
costs a few attribute reads and no objects.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orchestrator.contract.errors import InvalidError
from orchestrator.contract.model import AllocState
from orchestrator.contract.v1 import agent_pb2 as pb
from orchestrator.state.commands import ObservationColumns, RecordObserved

_STATES = frozenset(int(state) for state in AllocState)
_INT32 = 2**31 - 1


def recorded(node_id: str, observations: Iterable[pb.Observation]) -> RecordObserved:
    """The command of one batch. Raises ``InvalidError`` for an observation that says nothing."""
    jobs: dict[str, int] = {}
    groups: dict[str, int] = {}
    reasons: dict[str, int] = {}
    rows: list[tuple[int, ...]] = []
    healths: list[int] = []
    for place, one in enumerate(observations):
        key = one.key
        which = key.id
        state = one.state
        if state not in _STATES or not one.HasField("key") or not key.HasField("id"):
            raise InvalidError(f"observations[{place}]: expected a key with an id, and a known state")
        healths.append(max(0, one.health))
        ordinal, attempt, restarts, exit_code = which.ordinal, key.attempt, one.restarts, one.exit_code
        rows.append(
            (
                jobs.setdefault(key.job_uid, len(jobs)),
                groups.setdefault(which.group, len(groups)),
                # What no row can have is found in none.
                ordinal if 0 <= ordinal <= _INT32 else -1,
                attempt if 0 <= attempt <= _INT32 else -1,
                restarts if 0 <= restarts <= _INT32 else -1,
                state,
                exit_code if -_INT32 <= exit_code <= _INT32 else (_INT32 if exit_code > 0 else -_INT32),
                reasons.setdefault(one.reason, len(reasons)),
                one.start_failed,
            )
        )
    columns = np.array(rows, dtype=np.int32).reshape(len(rows), 9)
    job, group, ordinals, attempts, restart, states, exit_codes, reason, start_failed = (
        np.ascontiguousarray(column) for column in columns.T
    )
    return RecordObserved(
        node_id=node_id,
        jobs=tuple(jobs),
        groups=tuple(groups),
        reasons=tuple(reasons),
        rows=ObservationColumns(
            job=job,
            group=group,
            ordinal=ordinals,
            attempt=attempts,
            restarts=restart,
            state=states,
            exit_code=exit_codes,
            reason=reason,
            start_failed=start_failed,
            health=np.array(healths, dtype=np.int64) if any(healths) else None,
        ),
    )
