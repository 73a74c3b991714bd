"""What of an engine's networks concerns a container: where this machine is in them. Everything here blocks.

Owns: asking the engine. Leaves to others: publishing ports and naming the resolver (``docker_arguments``).
"""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import replace

import docker
import docker.errors

from agent.driver import RunSpec
from orchestrator.contract.containers import BRIDGE, HOST, NONE


def gateway(api: docker.APIClient) -> str:
    """The machine's IPv4 address in the bridge network that containers are in when nothing else is said; "" = there
    is no such network (``"bridge": "none"`` in ``daemon.json``). Raises the SDK's errors."""
    try:
        found = api.inspect_network(BRIDGE)
    except docker.errors.NotFound:
        return ""
    for one in (found.get("IPAM") or {}).get("Config") or ():
        with contextlib.suppress(ValueError):
            if address := str(one.get("Gateway") or ""):
                if ipaddress.ip_address(address).version == 4:
                    return address
            elif (subnet := ipaddress.ip_network(str(one.get("Subnet")))).version == 4:
                return str(subnet[1])  # engines leave out what they chose themselves
    return ""


def reaches_gateway(api: docker.APIClient, spec: RunSpec) -> RunSpec:
    """The same, without a resolver that it could not reach: from a network that leads nowhere (``--internal``), or one
    that the machine itself is not in (macvlan, ipvlan, an overlay). Raises the SDK's errors."""
    if not spec.resolver or spec.sandbox or spec.network_mode in (BRIDGE, HOST, NONE):
        return spec
    try:
        found = api.inspect_network(spec.network_mode)
    except docker.errors.NotFound:
        return spec  # the engine says so when it is started
    return spec if found.get("Driver") == BRIDGE and not found.get("Internal") else replace(spec, resolver="")
