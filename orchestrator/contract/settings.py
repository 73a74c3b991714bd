"""How an agent reads its settings: flags over environment over a YAML file, with errors in the words of the flags.

Owns: the layering and the messages. Leaves to others: which settings there are (a pydantic model), the file
(``settings_file``). The rule: only the agent imports this; the command line starts without pydantic, and so do peers,
whose start is an outage when all start together (``orchestrator.config`` has few settings and no use for it).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import pydantic
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from orchestrator.contract.errors import StartupError
from orchestrator.contract.settings_file import read_settings_file

S = TypeVar("S", bound=BaseSettings)


def load_settings(kind: type[S], flags: Mapping[str, Any], *, file: Path | None = None) -> S:
    """A ``kind`` from ``flags`` (None: not given), the environment and the YAML ``file``; raises ``StartupError``."""
    from_file = read_settings_file(file, kind.model_fields) if file is not None else {}

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


def _told(problem: Any, prefix: str) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    text = str(problem["msg"]).removeprefix("Value error, ")
    flag = where.replace("_", "-")
    if problem["type"] == "missing":
        return f"--{flag} is missing (or {prefix}{where.upper()})"
    return f"--{flag}: {text}" if where else text
