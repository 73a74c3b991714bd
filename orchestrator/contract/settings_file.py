"""The YAML file with a daemon's settings (``--config``).

Owns: reading it, and what is wrong with it as a whole. Leaves to others: what the settings are (``config``, the
agent's). The rule: YAML is loaded only where there is a file.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from orchestrator.contract.errors import StartupError


def read_settings_file(file: Path, known: Collection[str]) -> dict[str, Any]:
    """What ``file`` says, by name (``-`` is ``_``). Raises ``StartupError``, also for a name that is not ``known``."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"--config {file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StartupError(f"--config {file}: not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise StartupError(f"--config {file}: expected a mapping of settings")
    found = {str(key).replace("-", "_"): value for key, value in content.items()}
    unknown = sorted(found.keys() - set(known))
    if unknown:
        raise StartupError(f"--config {file}: unknown key {unknown[0]!r}; expected one of {', '.join(known)}")
    return found
