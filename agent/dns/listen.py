"""Where an agent's DNS listens, and who is sent to it.

Owns: what ``--dns`` and ``--dns-upstream`` mean. Leaves to others: serving (``server``), sharing the bridge's address
(``bridge``). The rule: what an operator named is used or refused; what nobody named never keeps an agent from starting.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from agent.defaults import AT_BRIDGE
from agent.dns.bridge import PORT, BridgeDns
from agent.dns.server import DnsServer, Lookup, system_resolver
from agent.dns.told import Telling, Told, told_nothing
from agent.driver import DriverUnavailableError
from orchestrator.contract.address import split_address
from orchestrator.contract.errors import StartupError

USUAL = ("127.0.0.1", 8600)

log = structlog.get_logger("agent.dns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """For ``--dns bridge``: how to ask for the address, whether it is of the machine's network, of which cluster this
    agent is."""

    address: Callable[[], Awaitable[str]]
    machine: bool
    cluster_id: Callable[[], str]


async def serve_dns(
    stack: contextlib.AsyncExitStack, where: str, upstream: str, lookup: Lookup, bridge: Bridge | None = None
) -> Telling:
    """Listen until ``stack`` is closed. Raises ``StartupError``."""
    if where == "off":
        return told_nothing
    if where == AT_BRIDGE:
        return await _serve_bridge(stack, upstream, lookup, bridge)
    server = DnsServer(lookup, upstream=_above(upstream, USUAL if where == "auto" else split_address(where)))
    try:
        bound = await _listen(server, where)
    except OSError as error:
        if where != "auto":
            raise StartupError(f"cannot listen on --dns {where}: {error.strerror}") from error
        log.warning("dns_off", reason=error.strerror)
        return told_nothing
    stack.push_async_callback(server.close)
    return _always(Told(address=bound, resolver=_resolver_for_containers(bound, upstream)))


def _above(upstream: str, own: tuple[str, int]) -> tuple[str, int] | None:
    if not upstream:
        return None
    above = system_resolver() if upstream == "system" else split_address(upstream)
    if above is None:
        raise StartupError("--dns-upstream system: /etc/resolv.conf names no nameserver; name one: address:port")
    if above == own:
        raise StartupError(f"--dns-upstream {upstream} is this agent's own --dns: it would ask itself for ever")
    return above


async def _serve_bridge(
    stack: contextlib.AsyncExitStack, upstream: str, lookup: Lookup, bridge: Bridge | None
) -> Telling:
    """Containers ask it everything, so without another word it passes on what is not its own as this machine does."""
    if bridge is None:
        raise StartupError(
            f"--dns {AT_BRIDGE} takes --driver docker: the address is one of the engine's bridge network"
        )
    known = ""
    with contextlib.suppress(DriverUnavailableError):
        known = await bridge.address()
    above = _above(upstream or ("system" if system_resolver() else ""), (known, PORT))
    server = DnsServer(lookup, upstream=above, cluster_id=bridge.cluster_id)
    stack.push_async_callback(server.close)
    there = BridgeDns(server, bridge.address, cluster_id=bridge.cluster_id, machine=bridge.machine)
    trying = asyncio.get_running_loop().create_task(there.keep_trying())
    stack.callback(trying.cancel)

    async def told() -> Told:
        resolver = await there.resolver()
        return Told(address=f"{resolver}:{PORT}" if resolver else "", resolver=resolver)

    return told


def _always(told: Told) -> Telling:
    async def now() -> Told:
        return told

    return now


async def _listen(server: DnsServer, where: str) -> str:
    if where != "auto":
        return await server.start(*split_address(where))
    try:
        return await server.start(*USUAL)
    except OSError:  # another agent on this machine has it
        return await server.start(USUAL[0], 0)


def _resolver_for_containers(bound: str, upstream: str) -> str:
    """The address to give to containers, or "": it must be one that they reach, at the port that they ask, and it must
    answer their other questions, too."""
    if not bound or not upstream:
        return ""
    host, port = split_address(bound)
    address = ipaddress.ip_address(host)
    if port != PORT or address.is_loopback or address.is_unspecified:
        return ""
    return host
