"""Server reflection, for ``grpcurl`` and its like: loaded when somebody first asks.

Owns: when. Leaves what is answered to gRPC's own servicer. The rule: nobody who asks can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

SERVICE_NAME = "grpc.reflection.v1alpha.ServerReflection"
_METHOD = f"/{SERVICE_NAME}/ServerReflectionInfo"


class Reflection(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """``names``: the services that are listed."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._handler: Any = None

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method != _METHOD:
            return None
        if self._handler is None:
            self._handler = _load(self._names)
        return self._handler


def _load(names: Sequence[str]) -> Any:
    """Costs some 15 ms, once: gRPC's servicer and the descriptions of descriptions."""
    from grpc_reflection.v1alpha import reflection, reflection_pb2

    return grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,  # type: ignore[attr-defined]
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
