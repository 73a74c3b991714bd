"""DNS where every container finds it: at this machine's address in the engine's bridge network, port 53.

Owns: having that address or knowing who has it, taking it over, whether containers of this agent may be sent there.
Leaves to others: answering (``server``), which address it is (the Docker driver). The rule: agents of one cluster that
share a machine share that address; one of them has it, each of the others asks whether it is one of theirs before it
sends a container there, and whoever comes first has it when it is free. Nobody is sent to another cluster's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Awaitable, Callable

import structlog

from agent.dns.server import DnsServer, of_cluster
from agent.driver import DriverUnavailableError
from agent.other_network import bound_at, datagrams_to

PORT = 53
"""The only port that a container's resolver asks at."""
AGAIN_S = 1.0
"""How often who has it not tries: a resolver asks again after 2 to 5 s, so nobody notices a change of hands."""
LATER_S = 10.0
"""Where nobody can have it: the engine is down, or has no such address here, or this user may not listen there."""
SURE_S = 1.0
"""An answer of who has it holds so long."""

log = structlog.get_logger("agent.dns")


class BridgeDns:
    """``address`` asks for the address ("": there is none now); ``machine``: it is one of the machine's network, not of
    the agent's own. ``port`` is for tests."""

    def __init__(
        self,
        server: DnsServer,
        address: Callable[[], Awaitable[str]],
        *,
        cluster_id: Callable[[], str],
        machine: bool,
        port: int = PORT,
    ) -> None:
        self._server = server
        self._ask_address = address
        self._cluster_id = cluster_id
        self._machine = machine
        self._port = port
        self._address = ""
        self._held = False
        self._ours: tuple[float, bool] = (-SURE_S, False)  # when it was asked who has it, and whether one of ours
        self._said = ""
        self._taking = asyncio.Lock()

    async def keep_trying(self) -> None:
        """Until this agent has the address."""
        while not await self.take():
            await asyncio.sleep(AGAIN_S if self._address else LATER_S)

    async def take(self) -> bool:
        """Whether this agent has it now."""
        async with self._taking:
            if self._held:
                return True
            try:
                if not self._address:
                    self._address = await self._ask_address()
                if not self._address:
                    self._warn("the engine has no bridge network")
                    return False
                sockets = await bound_at(self._address, self._port, machine=self._machine)
            except DriverUnavailableError as error:
                self._warn(str(error))
                return False
            except OSError as error:
                if error.errno != errno.EADDRINUSE:  # the engine may have another one by now
                    self._warn(f"{self._address}:{self._port}: {error.strerror}")
                    self._address = ""
                return False
            await self._server.serve(*sockets)
            self._held = True
            log.info("dns_at_bridge", address=f"{self._address}:{self._port}")
            return True

    async def resolver(self) -> str:
        """The address to give to containers now, "": none, for nobody of this cluster answers there."""
        if await self.take():
            return self._address
        if not self._address or not self._cluster_id():  # whose it is can be asked once this agent is somebody's
            return ""
        asked_s, ours = self._ours
        if time.monotonic() - asked_s >= SURE_S:
            ours = await self._is_ours()
            self._ours = time.monotonic(), ours
        if not ours:
            self._warn(f"{self._address}:{self._port} is somebody else's, who is no agent of this cluster")
        return self._address if ours else ""

    async def _is_ours(self) -> bool:
        with contextlib.suppress(OSError):
            asking = await datagrams_to(self._address, self._port, machine=self._machine)
            return await of_cluster(asking, self._cluster_id())
        return False

    def _warn(self, why: str) -> None:
        if why != self._said:
            self._said = why
            log.warning("dns_not_at_bridge", reason=why, then="containers are not sent to this agent's DNS meanwhile")
