"""Namespaces of a drill's own: a network in which packets may be dropped, mounts that nobody else sees.

Owns: entering them. The rule: who drops packets or mounts disks asks ``inside`` first, so that it can never happen to
the machine's own network or mounts. An iptables chain in the machine's own network, or a mount among its own, would
have to be removed by us, and a drill can be killed at any time; a namespace goes with its last process.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

from orchestrator.ops.drill_tools import MissingError

# Numbers of Linux' interfaces (sched.h, sys/mount.h, linux/sockios.h, net/if.h); Python has them from 3.12 on.
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40
_IFREQ = struct.Struct("16sH14x")

_entered = {"network": False, "mounts": False}


def inside(what: str) -> bool:
    """Whether this process is in a namespace of its own: ``network`` or ``mounts``."""
    return _entered[what]


def enter(*, network: bool, mounts: bool) -> None:
    """Leave the machine's namespaces for new ones; processes and threads started from now on are in them.

    Raises ``MissingError``. Once inside, asking again does nothing.
    """
    network, mounts = network and not inside("network"), mounts and not inside("mounts")
    flags = (_CLONE_NEWNET if network else 0) | (_CLONE_NEWNS if mounts else 0)
    if not flags:
        return
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        unshare, mount = libc.unshare, libc.mount
    except AttributeError:
        raise MissingError("namespaces are Linux's; this system has none") from None
    if unshare(flags) != 0:
        names = " and ".join(name for name, wanted in (("network", network), ("mount", mounts)) if wanted)
        raise MissingError(f"a {names} namespace needs root (CAP_SYS_ADMIN): {os.strerror(ctypes.get_errno())}")
    if mounts:
        # Mounts would else travel back to the machine through shared subtrees.
        if mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
            raise MissingError(f"mounts cannot be made private: {os.strerror(ctypes.get_errno())}")
        _entered["mounts"] = True
    if network:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", _IFF_UP | _IFF_RUNNING))
        _entered["network"] = True
