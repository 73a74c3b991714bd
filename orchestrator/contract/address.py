"""``host:port``: what a peer is dialled at.

Owns: what may stand there. The rule: a mistake is found before anybody waits for an address that nothing answers at.
"""

from __future__ import annotations

import re

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+):([0-9]{1,5})")


def problem(address: object) -> str:
    """Why it cannot be dialled, "" if it can: ``host:port``, of an IPv6 address ``[::1]:port``."""
    match = _HOST_PORT.fullmatch(address) if isinstance(address, str) else None
    if match is not None and 0 < int(match.group(2)) < 65_536:
        return ""
    hint = "; without a scheme such as http://" if isinstance(address, str) and "://" in address else ""
    return f"expected HOST:PORT, as in 10.0.0.1:7400 or [::1]:7400, got {str(address)[:80]!r}{hint}"
