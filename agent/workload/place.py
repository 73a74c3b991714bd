"""Where the socket that tasks speak to lies, and whether containers can be given it.

Owns: the choice of its directory, and taking away those whose agents are gone for good. The rule: a path that is short
enough for a socket, that any user may walk to, and that stays while an agent restarts, for containers have it mounted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import struct
import tempfile
from pathlib import Path

RUN = Path("/run/raftsman")
PROC = Path("/proc")
MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""In a container there is one of them."""
PATH_MAX = 90
"""A Unix socket's path has at most 107 bytes, with its name."""


def socket_directory(data: Path, named: Path | None = None, node_id: str = "") -> Path:
    """Where the endpoint of the agent with this data directory is: short enough, and open to walk through for the users
    that tasks run as, which a data directory is not. In a directory that was ``named`` each node has its own."""
    if named is not None:
        return named / node_id[:13]
    name = hashlib.sha256(str(data).encode()).hexdigest()[:12]
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return RUN / name
    if len(str(data)) < PATH_MAX - len("/workload"):
        return data / "workload"
    return Path(tempfile.gettempdir()) / f"raftsman-{name}-{os.geteuid()}"


def make(directory: Path, data: Path) -> None:
    """Make it, and take away those beside it whose agents' data directories are no more. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    directory.chmod(0o711)
    if directory.parent != RUN:
        return
    RUN.chmod(0o755)
    _owner(directory).write_text(str(data))
    for note in RUN.glob("*.owner"):
        with contextlib.suppress(OSError):
            if not Path(note.read_text()).exists():
                remove(note.with_suffix(""))


def remove(directory: Path) -> None:
    """Nobody has it mounted."""
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        _owner(directory).unlink()


def _owner(directory: Path) -> Path:
    return directory.with_suffix(".owner")


def shares_paths() -> bool:
    """Whether the engine of this machine sees the paths that this agent sees: an agent in a container may speak to the
    engine that runs the container. Who listens on the engine's socket is then a process that has no number here, or,
    where the machine's processes are shown to it, one with other mounts."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not address.startswith("unix://"):
        return False
    if not any(mark.exists() for mark in MARKS):
        return True
    with socket.socket(socket.AF_UNIX) as engine:
        engine.settimeout(1.0)
        try:
            engine.connect(address.removeprefix("unix://"))
            pid, _, _ = struct.unpack("3i", engine.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return bool(pid) and (PROC / f"{pid}/ns/mnt").readlink() == (PROC / "self/ns/mnt").readlink()
        except (OSError, AttributeError):
            return False
