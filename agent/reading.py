"""Reads the settings of an agent without keeping what that takes: pydantic and YAML, 13 MiB for one look at some words.

Owns: reading them in a child of a fork, which hands them over and ends. Leaves to others: what they mean (``config``).
The rule: what the child says is what ``config.load`` says, errors included. Where forking is not safe, or nothing
would be spared by it, they are read here.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn, cast

from orchestrator.contract.errors import StartupError

if TYPE_CHECKING:
    from agent.config import AgentSettings


def read(flags: Mapping[str, Any], *, file: Path | None = None) -> AgentSettings:
    """As ``config.load``; raises ``StartupError``. The result has the fields of ``AgentSettings``, and may have nothing
    else of it. To be called before anything else runs."""
    if "pydantic" in sys.modules or threading.active_count() > 1 or not hasattr(os, "fork"):
        from agent.config import load

        return load(flags, file=file)
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        _hand_over(there, flags, file)
    os.close(there)
    with open(here, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if not said:
        raise StartupError("the settings could not be read: the process that read them has ended")
    found = pickle.loads(said)  # noqa: S301  of this program's own child
    if isinstance(found, str):
        raise StartupError(found)
    return cast("AgentSettings", SimpleNamespace(**found))


def _hand_over(there: int, flags: Mapping[str, Any], file: Path | None) -> NoReturn:
    """In the child: nothing of the parent's must be run or written a second time."""
    said: dict[str, Any] | str
    try:
        from agent.config import AgentSettings, load

        try:
            settings = load(flags, file=file)
            said = {name: getattr(settings, name) for name in AgentSettings.model_fields}
        except StartupError as error:
            said = error.message
        with open(there, "wb") as pipe:
            pipe.write(pickle.dumps(said))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)
