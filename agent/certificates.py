"""Which certificate this agent uses: its own directory, or one claimed from a pool that several agents share.

Owns: the claim. Leaves to others: issuing (``raftsman certs``). The rule: a claim is a lock on the certificate's
directory, held for the life of the process, so a dead agent's certificate is free again and nothing is ever moved.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.errors import StartupError


@dataclass(slots=True)
class Claim:
    name: str
    files: TlsFiles
    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)


def claim(pool: Path, preferred: str) -> Claim:
    """Lock a free certificate of ``pool``, the ``preferred`` one if it is free. Raises ``StartupError``."""
    try:
        names = sorted(path.name for path in pool.iterdir() if (path / "key.pem").is_file())
    except OSError as error:
        raise StartupError(f"cannot read the certificates in {pool}: {error.strerror}") from error
    names = [name for name in names if not name.startswith(".")]
    names.sort(key=lambda name: (name != preferred, _number(name), name))
    for name in names:
        descriptor = os.open(pool / name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            continue
        return Claim(name, TlsFiles.in_directory(pool / name), descriptor)
    raise StartupError(
        f"all {len(names)} certificates in {pool} are in use; issue more with `raftsman certs init --agents N`"
    )


def _number(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0
