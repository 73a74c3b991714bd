"""Makes a script run in the project's own virtual environment, so that `scripts/bench_x.py` works as it stands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_GO_ON = '. scripts/lib/venv.sh && ensure_venv dev && cd "$1" && shift && exec "$0" "$@"'


def go_on() -> None:
    """Return if this is the project's Python; else make ``.venv`` where it is missing and start again in it."""
    python = ROOT / ".venv" / "bin" / "python"
    if Path(sys.prefix).resolve() == (ROOT / ".venv").resolve():
        return
    script = str(Path(sys.argv[0]).resolve())
    here = Path.cwd()
    os.chdir(ROOT)
    os.execvp("bash", ["bash", "-c", _GO_ON, str(python), str(here), script, *sys.argv[1:]])
