"""Tools of the machine that drills use, and what is said where one is missing.

Owns: finding and running them. The rule: whatever does not work is a ``MissingError`` that says what, and what would
change it; a drill that gets one is skipped, not failed.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from orchestrator.contract.errors import RaftsmanError


class MissingError(RaftsmanError):
    """The machine lacks something; the message says what, and what would change it."""

    reason = "DRILL_NEEDS"


def tool(name: str, package: str) -> str:
    """Its path. Raises ``MissingError`` with Debian's package."""
    # Administrators' tools are in sbin, which users do not always search.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise MissingError(f"{name} is not installed (Debian: apt-get install {package})")
    return found


def run_tool(argv: Sequence[str], *, stdin: str = "") -> str:
    """Its stdout. Raises ``MissingError`` with what it said when it fails."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().replace("\n", "; ") or f"exit status {done.returncode}"
        raise MissingError(f"`{' '.join(argv)}` does not work here: {said}")
    return done.stdout
