"""Errors cross a real gRPC connection and come back as themselves."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.contract import errors
from orchestrator.contract.status import UNCONNECTED, from_rpc_error, to_status
from orchestrator.contract.v1 import control_pb2, control_pb2_grpc

MADE: list[errors.RaftsmanError] = [
    errors.InvalidError("job.yaml:1:1: no"),
    errors.NotFoundError("no job 'web'", name="web"),
    errors.ConflictError("version is 3"),
    errors.NotLeaderError("ask n2", leader_id="n2"),
    errors.NoLeaderError("no majority"),
    errors.OverloadedError("queue full", retry_after_ms=250),
    errors.UnknownOutcomeError("perhaps"),
    errors.PermissionError_("agents may not"),
    errors.OutOfRangeError("index 4 is collected"),
]


class _Failing(control_pb2_grpc.ControlServicer):
    def __init__(self) -> None:
        self.error: errors.RaftsmanError = MADE[0]

    async def GetJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        await context.abort_with_status(to_status(self.error))


async def _call(error: errors.RaftsmanError) -> errors.RaftsmanError:
    server = grpc.aio.server()
    servicer = _Failing()
    servicer.error = error
    control_pb2_grpc.add_ControlServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await control_pb2_grpc.ControlStub(channel).GetJob(control_pb2.GetJobRequest())
            return from_rpc_error(caught.value)
    finally:
        await server.stop(None)


@pytest.mark.parametrize("error", MADE, ids=lambda error: error.reason)
async def test_an_error_arrives_as_itself(error: errors.RaftsmanError) -> None:
    arrived = await _call(error)
    assert type(arrived) is type(error)
    assert arrived.reason == error.reason
    assert arrived.message == error.message
    assert arrived.metadata == error.metadata


async def test_the_longest_message_and_metadata_fit_into_the_headers() -> None:
    arrived = await _call(errors.InvalidError("ü\n" * 5_000, **{f"key{n}": "ü" * 900 for n in range(9)}))
    assert isinstance(arrived, errors.InvalidError)
    assert arrived.message.startswith("ü\nü")
    assert arrived.message.endswith("…")


async def test_a_peer_that_is_not_there_leaves_the_outcome_unknown() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await control_pb2_grpc.ControlStub(channel).GetJob(control_pb2.GetJobRequest())
    error = from_rpc_error(caught.value)
    assert isinstance(error, errors.UnknownOutcomeError)
    assert error.reason == UNCONNECTED
    assert error.retryable


class _Refused:
    """What a caller catches when gRPC's core refused a call before the peer's loop saw it."""

    def code(self) -> Any:
        return grpc.StatusCode.RESOURCE_EXHAUSTED

    def details(self) -> Any:
        return "Too many pending requests for this server"

    def trailing_metadata(self) -> Any:
        return ()


def test_a_call_that_grpc_itself_refused_was_not_begun_and_may_be_repeated() -> None:
    error = from_rpc_error(_Refused())
    assert isinstance(error, errors.OverloadedError)
    assert error.retryable
    assert error.retry_after_ms > 0


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.CANCELLED, "CANCELLED"),
        # Of a stream on which the caller was just writing when its connection broke.
        (grpc.StatusCode.INTERNAL, "Internal error from Core"),
    ],
)
async def test_a_call_that_the_other_side_left_has_an_unknown_outcome(code: grpc.StatusCode, details: str) -> None:
    class Left:
        def code(self) -> grpc.StatusCode:
            return code

        def details(self) -> str:
            return details

        def trailing_metadata(self) -> tuple[()]:
            return ()

    error = from_rpc_error(Left())
    assert isinstance(error, errors.UnknownOutcomeError)
    assert (error.reason, error.retryable) == (UNCONNECTED, True)
