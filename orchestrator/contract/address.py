"""``host:port``: where a process listens, and what a peer is dialled at.

Owns: what may stand there, for settings, clients and the replicated state alike. The rules: a mistake is found before
anybody waits for an address that nothing answers at; and since ``state.peers`` judges by ``is_address``, what that
accepts is part of what equal logs mean: another judgement needs a feature level.
"""

from __future__ import annotations

import errno
import re

_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:]{2,45}\]|[^:\s\[\]/]{1,253}):([0-9]{1,5})")
PORT_MAX = 65_535


def is_address(address: object, *, any_port: bool = False) -> bool:
    """Whether it is ``host:port``, of an IPv6 address ``[::1]:port``. ``any_port``: port 0 is one, too (to listen)."""
    match = _HOST_PORT.fullmatch(address) if isinstance(address, str) else None
    return match is not None and (0 if any_port else 1) <= int(match.group(2)) <= PORT_MAX


def problem(address: object, *, any_port: bool = False) -> str:
    """Why it cannot be dialled (``any_port``: or listened at), "" if it can."""
    if is_address(address, any_port=any_port):
        return ""
    hint = "; without a scheme such as http://" if isinstance(address, str) and "://" in address else ""
    return f"expected HOST:PORT, as in 10.0.0.1:7400 or [::1]:7400, got {str(address)[:80]!r}{hint}"


def split_address(address: str) -> tuple[str, int]:
    """Host (without brackets) and port of a checked ``host:port``."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def not_bound(error: BaseException) -> str:
    """Why nothing can listen at an address, and what to do about it."""
    number = getattr(error, "errno", None)
    if number == errno.EACCES:
        return (
            "Permission denied: a port below 1024 is for root, or for who has CAP_NET_BIND_SERVICE (systemd: "
            "AmbientCapabilities); choose another one, or give it that"
        )
    if number == errno.EADDRNOTAVAIL:
        return "it is no address of this machine: choose another one, such as 0.0.0.0 for all that it has"
    why = getattr(error, "strerror", None) or str(error)
    return f"{why}: another process listens there; stop it, or choose another address"
