"""How many files and connections this process may have open.

Owns: raising the soft limit to the hard one. The rule: only processes that start nothing for others do so. Each agent
and each watcher is a connection, and the soft limit that shells and systemd give, 1024, is there for programs that use
``select``; whatever an agent starts may be one.
"""

from __future__ import annotations

import contextlib
import resource


def raise_limit() -> int:
    """The soft limit from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # the kernel's own bound may be lower than "unlimited"
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
