"""Reflection answers as if it had been there from the start, over and over, and leaves other calls alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from orchestrator.api.reflection import SERVICE_NAME, Reflection

HEALTH = "grpc.health.v1.Health"


async def ask(stub: Any, **what: str) -> Any:
    async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(**what)

    [answer] = [answer async for answer in stub.ServerReflectionInfo(requests())]
    return answer


async def test_services_are_listed_and_described_at_the_first_call_and_later() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Reflection((HEALTH, SERVICE_NAME)),))
    health_pb2_grpc.add_HealthServicer_to_server(health_pb2_grpc.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            for _ in range(2):
                listed = (await ask(stub, list_services="")).list_services_response.service
                assert [service.name for service in listed] == [HEALTH, SERVICE_NAME]
            file = (await ask(stub, file_containing_symbol=HEALTH)).file_descriptor_response
            assert b"HealthCheckRequest" in file.file_descriptor_proto[0]
    finally:
        await server.stop(None)


def test_other_methods_are_not_its_own() -> None:
    assert Reflection(()).service(SimpleNamespace(method=f"/{SERVICE_NAME}/Other")) is None
    assert Reflection(()).service(SimpleNamespace(method=f"/{HEALTH}/Check")) is None
