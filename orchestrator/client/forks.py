"""What a fork leaves of clients: nothing that works.

gRPC's threads do not go along into a child, and it cannot begin anew there as long as it believes that they run: a call
would wait for them, whichever client makes it. They end some time after the last client was closed, and nobody can know
when: with a client that was closed just before, one child in three waited in vain. So only where the parent has never
used one may a child use its own.

Owns: knowing that this process was forked from one that had used a client. The rule: a child is told so by its first
call, before anybody waits.
"""

from __future__ import annotations

import os
import weakref

from orchestrator.contract.errors import PreconditionError

FORKED = "FORKED"
"""Reason of what every call raises in a process that was forked from one that had used a client."""


class _Clients:
    def __init__(self) -> None:
        self.connected: weakref.WeakSet[object] = weakref.WeakSet()
        self.used = self.lost = False

    def left_behind(self) -> None:
        self.lost = self.used
        for owner in list(self.connected):
            keep(owner)


_clients = _Clients()
os.register_at_fork(after_in_child=_clients.left_behind)


def keep(owner: object) -> None:
    """Never collected, nor is what it holds: a gRPC channel that is in a child ends the process by SIGSEGV."""
    from ctypes import py_object, pythonapi

    pythonapi.Py_IncRef(py_object(owner))


def connects(owner: object) -> None:
    """``owner`` is about to make connections, until ``ends``, or until nobody has it any more."""
    _clients.used = True
    _clients.connected.add(owner)


def ends(owner: object) -> None:
    """``owner`` has closed its connections."""
    _clients.connected.discard(owner)


def require_none_lost() -> None:
    """Raises ``PreconditionError`` (``FORKED``) in a process in which no client can work."""
    if _clients.lost:
        raise lost()


def lost() -> PreconditionError:
    return PreconditionError(
        "this process was forked from one that had used a client, and gRPC does not outlive that: fork before the "
        "first client is used, or start processes otherwise (multiprocessing.get_context('spawn'))",
        reason=FORKED,
    )
