"""Put a peer's data aside, so that the peer comes back with an empty disk and catches up from the others.

Owns: the order of the moves. Leaves to others: whether the data is damaged (``peer_disk``), asking the operator
(``reset_command``). The rule: nothing is ever deleted, and a crash at any point leaves the old directory, a directory
that the peer refuses to start with (then reset again), or an empty one; never a part that votes as if it were whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

from orchestrator.contract.errors import StartupError
from orchestrator.replication.datadir import IDENTITY
from orchestrator.replication.disk import Disk, RealDisk

ASIDE = ".reset-"
"""In the name of what was put aside: ``<data>.reset-<time>`` beside the directory, ``.reset-<time>`` within it."""

_CANNOT_MOVE = (errno.EBUSY, errno.EACCES, errno.EPERM, errno.EXDEV, errno.EROFS)


def put_aside(path: Path, stamp: str, disk: Disk | None = None) -> Path:
    """Move the contents of the data directory away and leave an empty one; returns where they are now.

    As a whole, beside it; where that cannot be (a mounted volume, a parent of another user), into a folder within it.
    The caller holds the directory. Raises ``StartupError`` if neither can be done; nothing was changed then.
    """
    disk = disk if disk is not None else RealDisk()
    aside = path.with_name(path.name + ASIDE + stamp)
    try:
        owner = path.stat()
        if path.is_mount():
            raise OSError(errno.EBUSY, "it is mounted")
        disk.rename(path, aside)
        disk.fsync_dir(path.parent)
    except OSError as error:
        if error.errno not in _CANNOT_MOVE:
            raise StartupError(f"{path} cannot be moved: {error.strerror}") from error
        return _within(path, path / (ASIDE + stamp), disk)
    # The peer may run as somebody who may not make directories there.
    path.mkdir(mode=owner.st_mode & 0o7777)
    with contextlib.suppress(PermissionError):
        os.chown(path, owner.st_uid, owner.st_gid)
    disk.fsync_dir(path.parent)
    return aside


def _within(path: Path, aside: Path, disk: Disk) -> Path:
    try:
        disk.makedirs(aside)
        disk.fsync_dir(path)
        for name in in_order(disk.listdir(path)):
            disk.rename(path / name, aside / name)
            # One by one: the order is what makes a crash in between harmless.
            disk.fsync_dir(path)
        disk.fsync_dir(aside)
    except OSError as error:
        raise StartupError(
            f"the contents of {path} cannot be moved ({error.strerror}): run this as the user that owns them"
        ) from error
    return aside


def in_order(names: Iterable[str]) -> list[str]:
    """What is moved: the identity first, for a peer refuses whatever is stored without one, and journal and snapshots
    last. What was put aside before and the lock stay.
    """

    def rank(name: str) -> int:
        if name == IDENTITY:
            return 0
        return 2 if name.startswith("journal") or name == "snapshots" else 1

    return sorted((name for name in names if name != "lock" and not name.startswith(ASIDE)), key=lambda n: (rank(n), n))
