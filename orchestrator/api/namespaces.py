"""Namespaces with their quotas, and the cluster's settings: reads and writes.

Owns: which namespaces there are to see, checking names. Leaves to others: deciding (``state.apply_namespaces``),
counting (``state.usage``). The rule: a namespace is listed as soon as anything is in it, whoever did not create it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from orchestrator.api.forward import Call
from orchestrator.api.requests import write
from orchestrator.contract import codec
from orchestrator.contract.answers import NamespaceStatus
from orchestrator.contract.errors import InvalidError
from orchestrator.contract.model import DEFAULT_NAMESPACE, Namespace, Quota, SettingsChange
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.jobfile import limits
from orchestrator.replication.propose import Proposer
from orchestrator.state import commands as cmd
from orchestrator.state.state import State


class Namespaces:
    """``info`` waits until this peer may answer a read (``Reads.info``)."""

    def __init__(
        self, proposer: Proposer, state: Callable[[], State], info: Callable[[Any, Call], Awaitable[pb.ReadInfo]]
    ) -> None:
        self._proposer = proposer
        self._state = state
        self._info = info

    async def list_namespaces(self, request: pb.ListNamespacesRequest, call: Call) -> pb.ListNamespacesResponse:
        response = pb.ListNamespacesResponse(read=await self._info(request.read, call))
        for status in statuses(self._state()):
            codec.encode(status, response.namespaces.add())
        return response

    async def create_namespace(self, request: pb.NamespaceRequest, call: Call) -> pb.WriteResponse:
        return await self._write(request, call, cmd.NamespaceWrite.CREATE)

    async def set_namespace(self, request: pb.NamespaceRequest, call: Call) -> pb.WriteResponse:
        return await self._write(request, call, cmd.NamespaceWrite.SET)

    async def delete_namespace(self, request: pb.NamespaceRequest, call: Call) -> pb.WriteResponse:
        return await self._write(request, call, cmd.NamespaceWrite.DELETE)

    async def get_settings(self, request: pb.GetSettingsRequest, call: Call) -> pb.GetSettingsResponse:
        response = pb.GetSettingsResponse(read=await self._info(request.read, call))
        codec.encode(self._state().settings, response.settings)
        return response

    async def set_settings(self, request: pb.SetSettingsRequest, call: Call) -> pb.WriteResponse:
        change = codec.decode(SettingsChange, request.change)
        if change == SettingsChange():
            raise InvalidError("change: names no setting", field="change")
        return await self._change(request, call, cmd.SetSettings(change=change))

    async def _write(self, request: pb.NamespaceRequest, call: Call, kind: cmd.NamespaceWrite) -> pb.WriteResponse:
        if not limits.NAME.fullmatch(request.name):
            raise InvalidError(f"name: {request.name[:80]!r}; expected {limits.NAME_RULE}", field="name")
        quota = codec.decode(Quota, request.quota)
        if kind is cmd.NamespaceWrite.SET and quota == Quota():
            raise InvalidError("quota: names no limit to change", field="quota")
        return await self._change(request, call, cmd.WriteNamespace(name=request.name, kind=kind, quota=quota))

    async def _change(self, request: Any, call: Call, command: cmd.Command) -> pb.WriteResponse:
        done, answer = await write(self._proposer, request, call, command, cmd.WriteAnswer)
        return pb.WriteResponse(index=done.index, changed=answer.changed)


def statuses(state: State) -> list[NamespaceStatus]:
    """Every namespace that was created or holds something, and ``default``; by name."""
    names = {DEFAULT_NAMESPACE, *state.namespaces, *state.usage.jobs_in, *(space for space, _ in state.variables)}
    return [
        NamespaceStatus(namespace=state.namespaces.get(name, Namespace(name=name)), used=state.usage.of(name))
        for name in sorted(names)
    ]
