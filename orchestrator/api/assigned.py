"""Rows of the allocation table as the messages that their agents are told, thousands at a time.

Owns: filling ``Assignment`` messages. Leaves to others: which rows, and when (``agents``); what an assignment says
(``state.views.assignment``, which gives the same one by one). The rule: what rows of one group have in common is made
once, and a row costs a few assignments of numbers and one copy inside protobuf.
"""

from __future__ import annotations

from typing import Any

from orchestrator.contract import codec
from orchestrator.contract.model import GroupSpec
from orchestrator.contract.v1 import agent_pb2 as pb
from orchestrator.contract.v1 import types_pb2
from orchestrator.state import views
from orchestrator.state.state import Rows, State

CACHED_GROUPS = 2_000


class AssignmentWriter:
    """Keeps the messages of group specs, which most rows share and which are most of the bytes."""

    def __init__(self) -> None:
        self._groups: dict[int, tuple[GroupSpec, types_pb2.GroupSpec]] = {}

    def write(self, state: State, rows: Rows, into: Any) -> None:
        """Append one message per row to ``into`` (a repeated field of ``Assignment``), in this order."""
        table = state.table
        floor = state.attempt_floor
        templates: dict[tuple[int, int, int], pb.Assignment] = {}
        for row, job, version, group, ordinal, attempt, desired, told, mask in zip(
            rows.tolist(),
            table.job[rows].tolist(),
            table.version[rows].tolist(),
            table.group[rows].tolist(),
            table.ordinal[rows].tolist(),
            table.attempt[rows].tolist(),
            table.desired[rows].tolist(),
            table.told[rows].tolist(),
            table.device_mask[rows].tolist(),
            strict=True,
        ):
            template = templates.get((job, version, group))
            if template is None:
                template = templates[(job, version, group)] = self._template(state, row)
            template.key.id.ordinal = ordinal
            template.key.attempt = attempt
            template.desired = desired
            template.modify_index = told
            template.adopt_only = attempt <= floor
            if mask or row in table.ports:
                one = pb.Assignment()
                one.CopyFrom(template)
                found = views.assignment(state, row)
                one.device_ids.extend(found.device_ids)
                one.gpu_millis = found.gpu_millis
                for port in found.ports:
                    codec.encode(port, one.ports.add())
                into.append(one)
            else:
                into.append(template)

    def _template(self, state: State, row: int) -> pb.Assignment:
        """What all rows of this row's group and version have in common, without devices and ports."""
        found = views.assignment(state, row)
        which = found.key.id
        message = pb.Assignment(
            key=pb.AssignmentKey(
                id=types_pb2.AllocationId(namespace=which.namespace, job=which.job, group=which.group),
                job_uid=found.key.job_uid,
            ),
            group=self._group(found.group),
            on_disconnect=int(found.on_disconnect),  # type: ignore[arg-type]
            job_type=int(found.job_type),  # type: ignore[arg-type]
            job_version=found.job_version,
        )
        if found.variables:
            message.variables.update(found.variables)
        if found.origin is not None:
            codec.encode(found.origin, message.origin)
        if found.digests:
            message.digests.update(found.digests)
        return message

    def _group(self, group: GroupSpec) -> types_pb2.GroupSpec:
        known = self._groups.get(id(group))
        if known is None:
            if len(self._groups) >= CACHED_GROUPS:
                self._groups.clear()
            known = (group, codec.encode(group, types_pb2.GroupSpec()))
            self._groups[id(group)] = known  # holds the group, so that its id stays its own
        return known[1]
