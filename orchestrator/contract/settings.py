"""How a daemon reads its settings: flags over environment over a YAML file, with errors in the words of the flags.

Owns: the layering and the messages, for peers and agents alike. Leaves to others: which settings there are (their
pydantic models). The rule: only daemons import this; the command line starts without pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import pydantic
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from orchestrator.contract.errors import StartupError

S = TypeVar("S", bound=BaseSettings)


def load_settings(kind: type[S], flags: Mapping[str, Any], *, file: Path | None = None) -> S:
    """A ``kind`` from ``flags`` (None: not given), the environment and the YAML ``file``; raises ``StartupError``."""
    from_file = _read(file) if file is not None else {}
    unknown = sorted(from_file.keys() - kind.model_fields.keys())
    if unknown:
        raise StartupError(
            f"--config {file}: unknown key {unknown[0]!r}; expected one of {', '.join(kind.model_fields)}"
        )

    def sources(
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, InitSettingsSource(settings_cls, from_file))

    layered = type(kind.__name__, (kind,), {"__module__": kind.__module__, "settings_customise_sources": sources})
    try:
        return cast(S, layered(**{name: value for name, value in flags.items() if value is not None}))
    except pydantic.ValidationError as error:
        prefix = kind.model_config.get("env_prefix", "")
        raise StartupError("; ".join(_told(problem, prefix) for problem in error.errors())) from None


def _read(file: Path) -> dict[str, Any]:
    import yaml  # most daemons have no file, and start sooner without

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
    return {str(key).replace("-", "_"): value for key, value in content.items()}


def _told(problem: Any, prefix: str) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    text = str(problem["msg"]).removeprefix("Value error, ")
    flag = where.replace("_", "-")
    if problem["type"] == "missing":
        return f"--{flag} is missing (or {prefix}{where.upper()})"
    return f"--{flag}: {text}" if where else text
