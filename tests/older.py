"""An older version of this program, taken from the repository's history, to run beside the present one.

The rule: whoever needs one is skipped, with the reason, where there is no history (a copy without ``.git``, a shallow
clone).
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "662500c42d558f5a29c914d6fbefb17a23c3d883"
LEVEL = 3
"""The highest feature level that ``COMMIT`` knows: below those whose rules the tests are about."""


@cache
def _archive() -> bytes | str:
    """The sources of ``COMMIT`` as a tar file, or why there are none."""
    argv = ["git", "-C", str(ROOT), "archive", "--format=tar", COMMIT, "orchestrator", "agent", "raftsman"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=60)
    except OSError as error:
        return f"git cannot be run: {error}"
    return done.stdout if done.returncode == 0 else f"no commit {COMMIT[:7]} here: {done.stderr.decode().strip()}"


def older_tree(directory: Path) -> Path:
    """Unpack it below ``directory``; skips the test where there is no history."""
    archive = _archive()
    if isinstance(archive, str):
        pytest.skip(f"needs the repository's history: {archive}")
    directory.mkdir()
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive, check=True, timeout=60)
    return directory


def environment(tree: Path) -> dict[str, str]:
    """With it a process that this interpreter starts runs that version. Its working directory must hold no other."""
    return {**os.environ, "PYTHONPATH": str(tree), "GRPC_ENABLE_FORK_SUPPORT": "0"}
