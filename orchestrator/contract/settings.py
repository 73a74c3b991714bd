"""How a daemon reads its settings: flags over environment over a YAML file, with errors in the words of the flags.

Owns: the layering and the messages, for peers and agents alike. Leaves to others: which settings there are (their
pydantic models). The rule: only daemons import this; the command line starts without pydantic.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import pydantic
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from orchestrator.contract.errors import StartupError

S = TypeVar("S", bound=BaseSettings)


def load_settings(kind: type[S], flags: Mapping[str, Any], *, file: Path | None = None) -> S:
    """A ``kind`` from ``flags`` (None: not given), the environment and the YAML ``file``; raises ``StartupError``."""
    prefix = kind.model_config.get("env_prefix", "")
    _check_environment(prefix, kind.model_fields)
    named = os.environ.get(f"{prefix}CONFIG")
    file = file or (Path(named) if named else None)
    from_file = _read(file) if file is not None else {}
    unknown = sorted(from_file.keys() - kind.model_fields.keys())
    if unknown:
        raise StartupError(
            f"--config {file}: unknown key {short(unknown[0])}; expected one of {', '.join(kind.model_fields)}"
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
    said = {name: value for name, value in flags.items() if value is not None}
    environment = {name.upper() for name in os.environ}

    def where(setting: str) -> str:
        flag = f"--{setting.replace('_', '-')}"
        if setting in said:
            return flag
        if f"{prefix}{setting.upper()}" in environment:
            return f"{flag} (of {prefix}{setting.upper()})"
        return f"{flag} (of {file})" if setting in from_file else flag

    try:
        return cast(S, layered(**said))
    except pydantic.ValidationError as error:
        raise StartupError("; ".join(_told(problem, prefix, where) for problem in error.errors())) from None


def path_of(value: object) -> object:
    """A path that names something (nothing would be the working directory); raises ``ValueError``."""
    if value == "" or "\0" in str(value):
        raise ValueError(f"{short(value)}; expected a directory")
    return value


def short(value: object) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_environment(prefix: str, known: Collection[str]) -> None:
    """A variable that is nearly one of ours is a slip of the pen; others may be somebody else's."""
    ours = {f"{prefix}{name.upper()}" for name in (*known, "config")}
    for name in sorted(os.environ):
        upper = name.upper()
        if upper.startswith(prefix) and upper not in ours:
            close = difflib.get_close_matches(
                upper.removeprefix(prefix), {one.removeprefix(prefix) for one in ours}, 1, 0.8
            )
            if close:
                raise StartupError(f"{name}: there is no such setting; did you mean {prefix}{close[0]}?")


def _read(file: Path) -> dict[str, Any]:
    import yaml  # most daemons have no file, and start sooner without

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"--config {file}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, a date that is none, NUL
        raise StartupError(f"--config {file}: not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise StartupError(f"--config {file}: expected a mapping of settings")
    return {str(key).replace("-", "_"): value for key, value in content.items()}


_EXPECTED = {
    "string_type": "expected text: put it in quotes",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "path_type": "expected a directory, in quotes where it looks like a number",
    "dict_type": "expected a mapping",
}
"""What pydantic's own kinds of problems are to somebody who writes YAML."""


def _told(problem: Any, prefix: str, where: Callable[[str], str]) -> str:
    text = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return text
    setting, *inside = (str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{where(setting)} is missing (or {prefix}{setting.upper()})"
    if problem["type"] in _EXPECTED:
        text = f"{short(problem['input'])}; {_EXPECTED[problem['type']]}"
    place = f"{where(setting)}: {'.'.join(short(part)[1:-1] for part in inside)}".rstrip(": ")
    return f"{place}: {text}"
