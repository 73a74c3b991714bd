"""Linux capabilities: their names, what containers may have unless an operator says otherwise, and reading names.

Owns: the names and the two sets. Leaves to others: who allows what (peers' and agents' settings), giving them
(``agent.drivers``). The rule: a container has none unless its task asks by name; what Docker gives to every container
by default may be asked for everywhere, everything else takes the operator's word on the peers and on the node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

ALL = "ALL"
DEFAULT = frozenset({
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
})  # fmt: skip
"""What Docker gives to a container of which nothing is said."""
KNOWN = tuple(sorted({
    *DEFAULT,
    "AUDIT_CONTROL", "AUDIT_READ", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH", "IPC_LOCK",
    "IPC_OWNER", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "NET_ADMIN", "NET_BROADCAST", "PERFMON",
    "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE",
    "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
}))  # fmt: skip


def normal(names: Iterable[str]) -> tuple[str, ...]:
    """As they are kept: in capitals, without ``CAP_``, sorted, each once. Whether they exist is not asked."""
    return tuple(sorted({name.upper().removeprefix("CAP_") for name in names}))


def parse_allowed(names: Iterable[str]) -> frozenset[str]:
    """What an operator allows beyond the default; raises ``ValueError``."""
    found = normal(names)
    for name in found:
        if name != ALL and name not in KNOWN:
            raise ValueError(f"{name[:40]!r} is no capability; expected ALL, or one of {', '.join(KNOWN)}")
    return frozenset(found)


def refused(wanted: Iterable[str], allowed: Collection[str]) -> str:
    """The first of the wanted ones that nobody allowed; "" where all may be had."""
    if ALL in allowed:
        return ""
    return next((name for name in wanted if name not in DEFAULT and name not in allowed), "")
