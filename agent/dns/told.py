"""What tasks are told of their agent's DNS. Values only."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orchestrator.contract.address import split_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What tasks are told of DNS. ``address``: where it answers, host:port; "" = nowhere; ``resolver``: the address of
    the one that containers ask all their questions, "" = the engine's own choice."""

    address: str = ""
    resolver: str = ""

    @property
    def reached_from_containers(self) -> bool:
        """Whether that address means the same within a network of their own: their loopback is not the agent's."""
        if not self.address:
            return False
        address = ipaddress.ip_address(split_address(self.address)[0])
        return not (address.is_loopback or address.is_unspecified)


Telling = Callable[[], Awaitable[Told]]
"""As of now."""


async def told_nothing() -> Told:
    return Told()
