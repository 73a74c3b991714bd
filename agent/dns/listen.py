"""Where an agent's DNS listens, and who is sent to it.

Owns: what ``--dns`` and ``--dns-upstream`` mean. Leaves to others: serving (``server``). The rule: what an operator
named is used or refused; what nobody named never keeps an agent from starting.
"""

from __future__ import annotations

import contextlib
import ipaddress

import structlog

from agent.dns.server import DnsServer, Lookup, system_resolver
from orchestrator.contract.address import split_address
from orchestrator.contract.errors import StartupError

USUAL = ("127.0.0.1", 8600)
PORT = 53
"""The only port that a container's resolver asks at."""

log = structlog.get_logger("agent.dns")


async def serve_dns(stack: contextlib.AsyncExitStack, where: str, upstream: str, lookup: Lookup) -> str:
    """Listen until ``stack`` is closed; returns the address, "" where nobody listens. Raises ``StartupError``."""
    if where == "off":
        return ""
    above = None
    if upstream:
        above = system_resolver() if upstream == "system" else split_address(upstream)
        if above is None:
            raise StartupError("--dns-upstream system: /etc/resolv.conf names no nameserver; name one: address:port")
        if above == (USUAL if where == "auto" else split_address(where)):
            raise StartupError(f"--dns-upstream {upstream} is this agent's own --dns: it would ask itself for ever")
    server = DnsServer(lookup, upstream=above)
    try:
        bound = await _listen(server, where)
    except OSError as error:
        if where != "auto":
            raise StartupError(f"cannot listen on --dns {where}: {error.strerror}") from error
        log.warning("dns_off", reason=error.strerror)
        return ""
    stack.push_async_callback(server.close)
    return bound


async def _listen(server: DnsServer, where: str) -> str:
    if where != "auto":
        return await server.start(*split_address(where))
    try:
        return await server.start(*USUAL)
    except OSError:  # another agent on this machine has it
        return await server.start(USUAL[0], 0)


def resolver_for_containers(bound: str, upstream: str) -> str:
    """The address to give to containers, or "": it must be one that they reach, at the port that they ask, and it must
    answer their other questions, too."""
    if not bound or not upstream:
        return ""
    host, port = split_address(bound)
    address = ipaddress.ip_address(host)
    if port != PORT or address.is_loopback or address.is_unspecified:
        return ""
    return host


def reached_from_containers(bound: str) -> bool:
    """Whether that address means the same within a network of their own: their loopback is not the agent's."""
    address = ipaddress.ip_address(split_address(bound)[0])
    return not (address.is_loopback or address.is_unspecified)
