"""What apply rechecks of devices and of gangs, beside what ``apply_plan`` counts: the words, and what is whole.

Owns: whether the devices of a row are still what its group asked for and may be given away; whether the rows of a gang
make it whole. Leaves to others: refusing (``apply_plan``), where a gang belongs (``scheduling.gangs``). The rule: a
gang that restarts as one has all of its members from one command, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from orchestrator.contract.devices import set_problem
from orchestrator.contract.model import AllocState, Desired, DeviceRequest, GangFailure, JobType
from orchestrator.state.allocations import LAST_LIVE
from orchestrator.state.commands import ApplyPlan, Int32Array
from orchestrator.state.model import Job
from orchestrator.state.state import Rows, State
from orchestrator.state.versions import counted


def device_refusals(
    state: State,
    command: ApplyPlan,
    slots: Rows,
    places: npt.NDArray[np.intp],
    asked: Callable[[int], DeviceRequest | None],
) -> Iterator[tuple[int, str]]:
    """(place, reason) for each of these rows whose devices, all of which exist, must not be given to its group.
    ``asked``: by place, what the group asks for at the version of the row."""
    columns = command.placements
    known: dict[tuple[int, int, int, int, int], str] = {}
    for place in places.tolist():
        of = int(columns.job[place]), int(columns.group[place]), int(columns.version[place])
        key = (int(slots[place]), int(columns.device_mask[place]), *of)
        if key not in known:
            known[key] = _device_refusal(state, asked(place), key[0], key[1])
        if known[key]:
            yield place, known[key]


def _device_refusal(state: State, request: DeviceRequest | None, slot: int, mask: int) -> str:
    node = state.node_at[slot]
    if request is None:
        return "its group asks for no devices"
    devices = [device for at, device in enumerate(node.spec.devices) if mask >> at & 1]
    if node.closed_devices:
        closed = next((device.id for device in devices if device.id in node.closed_devices), "")
        if closed:
            how = "cordoned" if closed in node.cordoned_devices else "sick"
            return f"device {closed} of node {node.spec.id} is {how}"
    return set_problem(devices, request)


def gang_refusal(state: State, job: Job, group: int, ordinals: Int32Array) -> str:
    """Why a gang would not be whole with instances of these ordinals, each of which may go in by itself; "" = it is.
    The job's group is a gang.

    A gang whose members are replaced one by one is whole enough: what it has stays.
    """
    facts = state.facts(job)[group]
    assert facts.gang is not None
    if facts.gang.on_failure is not GangFailure.RESTART:
        return ""
    table, index = state.table, state.ordinals
    newest = np.full(facts.instances, -1, dtype=np.int32)
    have = min(facts.instances, int(index.size[facts.gid]))
    base = int(index.base[facts.gid])
    newest[:have] = index.newest[base : base + have]
    every = index.newest[base : base + int(index.size[facts.gid])]
    if np.any(table.state[every[every >= 0]] <= LAST_LIVE):
        return "its gang goes in together, and a member of it is live"
    there = newest >= 0
    done = np.zeros(facts.instances, dtype=np.bool_)
    if job.spec.type is JobType.BATCH:
        rows = newest[there]
        fresh = counted(job, group, table.version[rows], state.feature_level) & (table.desired[rows] == Desired.RUN)
        done[there] = fresh & (table.state[rows] == AllocState.COMPLETE)
    done[ordinals] = True
    missing = int((~done).sum())
    return f"its gang goes in together, and {missing} of {facts.instances} are missing in the plan" if missing else ""
