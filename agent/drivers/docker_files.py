"""Files of a job file within containers: written between a container's creation and its start, through the engine.

Owns: archives and where each file goes in. The rule: nothing is mounted from the agent's disk, which the engine may not
even see; a container that is made anew, here or elsewhere, gets the same files again from its job.

A container whose own files are read-only takes files only where a volume is mounted, so the directory of each file
becomes a volume of its own there, which is removed with the container.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterable, Sequence

from agent.driver import InlineFile, RunSpec


def own_volumes(spec: RunSpec) -> list[str]:
    """Directories that need a volume before files can be put there."""
    container = spec.task.container
    if container is None or not container.read_only:
        return []
    targets = [mount.target for mount in spec.task.mounts]
    return sorted({posixpath.dirname(_plain(file.target)) for file in spec.files if not _around(file.target, targets)})


def archives(spec: RunSpec) -> list[tuple[str, bytes]]:
    """(directory that exists in the container, tar archive to unpack there), one for each volume and for the rest."""
    targets = [mount.target for mount in spec.task.mounts] + own_volumes(spec)
    by_root: dict[str, list[InlineFile]] = {}
    for file in spec.files:
        by_root.setdefault(_around(file.target, targets) or "/", []).append(file)
    return [(root, _tar(root, files)) for root, files in sorted(by_root.items())]


def directory_tar(path: str) -> bytes:
    """An archive that holds the directories of a relative path, and nothing in them."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        _directories(tar, path.strip("/").split("/"))
    return made.getvalue()


def _tar(root: str, files: Sequence[InlineFile]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for file in files:
            entry = tarfile.TarInfo(posixpath.relpath(file.target, root))
            entry.size, entry.mode = len(file.data), file.mode
            tar.addfile(entry, io.BytesIO(file.data))
    return made.getvalue()


def _directories(tar: tarfile.TarFile, parts: Sequence[str]) -> None:
    for count in range(1, len(parts) + 1):
        entry = tarfile.TarInfo("/".join(parts[:count]))
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)


def _around(path: str, targets: Iterable[str]) -> str:
    """The longest of the mounted targets that the path lies in, or nothing."""
    plain = _plain(path)
    return max((target for target in targets if plain.startswith(f"{_plain(target)}/")), key=len, default="")


def _plain(path: str) -> str:
    return posixpath.normpath(f"/{path.lstrip('/')}")
