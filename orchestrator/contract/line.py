"""``Line``: the way to one peer, which may die and come back.

Owns: one channel per peer, and dialling again after a failed connect. Leaves to others: addresses and certificates
(its arguments), what a failed call means (``contract.status``), whether to repeat it (``client``, ``api.forward``).
The rule: a call fails for want of a connection only if connecting was tried for it, or a moment before.

gRPC alone does not keep it: after a refused connect a channel pauses for a second or more, and answers every call
meanwhile with the error of that old attempt, although the peer may long be back.
"""

from __future__ import annotations

import asyncio
import time

import grpc
import grpc.aio

from orchestrator.contract.channel import TlsFiles, dial

REDIAL_S = 0.05
"""Between two attempts: however many calls there are for a dead peer, it is not dialled more often."""
DRAIN_S = 30.0
"""Calls that still run over the dying connection of a channel that was replaced may take so long to end."""


class Line:
    """The way to the peer at ``address`` (``host:port``); dialled on first use. For one event loop."""

    def __init__(self, address: str, tls: TlsFiles | None) -> None:
        self.address = address
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None
        self._dialled_at = 0.0  # time.monotonic
        self._replaced: dict[asyncio.Task[None], grpc.aio.Channel] = {}

    async def channel(self) -> grpc.aio.Channel:
        """A channel that is connected, connecting, or about to connect; waits at most ``REDIAL_S``.

        Raises OSError when the PEM files cannot be read.
        """
        while (channel := self._channel) is not None:
            if channel.get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                return channel
            pause_s = self._dialled_at + REDIAL_S - time.monotonic()
            if pause_s <= 0:
                self._replace(channel)
                break
            await asyncio.sleep(pause_s)  # another call may dial meanwhile
        self._channel = dial(self.address, self._tls)
        self._dialled_at = time.monotonic()
        return self._channel

    async def close(self) -> None:
        """Ends every call. The line can be used again afterwards."""
        channels = list(self._replaced.values())
        for task in self._replaced:
            task.cancel()
        if self._channel is not None:
            channels.append(self._channel)
            self._channel = None
        for channel in channels:
            await channel.close(None)

    def _replace(self, channel: grpc.aio.Channel) -> None:
        self._channel = None
        task = asyncio.ensure_future(channel.close(DRAIN_S))
        self._replaced[task] = channel
        task.add_done_callback(self._replaced.pop)
