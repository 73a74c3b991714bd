"""Contexts: which cluster the command line and ``Client.from_context`` talk to.

Owns: ``contexts.json`` in the configuration directory, and the order in which things decide: an explicit name, then the
environment, then the current context. Leaves to others: making certificates (``ops``). The rule: the file is replaced
atomically, and readable by its owner only.

Environment: ``RAFTSMAN_CONFIG_DIR``; ``RAFTSMAN_CONTEXT`` (a name); ``RAFTSMAN_ENDPOINTS`` (host:port, comma separated)
with ``RAFTSMAN_TLS_DIR`` (a directory with ca.pem, cert.pem and key.pem; unset: no TLS, which only tests serve).

A folder brings contexts of its own: ``.raftsman/NAME/context.json`` in the working directory or above it (compose
writes one, paths in it are relative to the file). They can be named, are never the current one by themselves, and a
saved context of the same name wins.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.errors import InvalidError, NotFoundError, StartupError


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """``kind``: ``dev``, ``compose`` or ``remote``; drills refuse a remote one. ``data``: a dev cluster's directory."""

    name: str
    endpoints: tuple[str, ...]
    ca: str = ""
    cert: str = ""
    key: str = ""
    kind: str = "remote"
    data: str = ""

    @property
    def tls(self) -> TlsFiles | None:
        if not self.ca:
            return None
        return TlsFiles(Path(self.ca), Path(self.cert), Path(self.key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    current: str = ""
    contexts: dict[str, Context] = field(default_factory=dict)


def config_dir() -> Path:
    said = os.environ.get("RAFTSMAN_CONFIG_DIR")
    if said:
        return Path(said)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "raftsman"


def path() -> Path:
    return config_dir() / "contexts.json"


def load() -> Contexts:
    """What is saved; empty where nothing is. Raises StartupError when the file is damaged."""
    file = path()
    try:
        raw = json.loads(file.read_text("utf-8"))
        made = {name: _context(name, values) for name, values in raw["contexts"].items()}
        return Contexts(current=str(raw.get("current", "")), contexts=made)
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror or error}; it is to be this user's") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StartupError(
            f"{file} holds no contexts ({type(error).__name__}: {error}): repair it, or remove it and add them again"
        ) from None


def _context(name: str, values: dict[str, Any]) -> Context:
    return Context(
        name=name,
        endpoints=tuple(str(endpoint) for endpoint in values["endpoints"]),
        **{key: str(values.get(key, "")) for key in ("ca", "cert", "key", "data")},
        kind=str(values.get("kind", "remote")),
    )


def of_folder(start: Path | None = None) -> dict[str, Context]:
    """The contexts that the working directory (or ``start``), or the nearest folder above it that has any, brings.

    Raises StartupError when one of them is damaged.
    """
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        files = sorted((folder / ".raftsman").glob("*/context.json"))
        if files:
            return {file.parent.name: _of_file(file) for file in files}
    return {}


def _of_file(file: Path) -> Context:
    try:
        context = _context(file.parent.name, json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StartupError(f"cannot read {file}: {type(error).__name__}: {error}; remove it to do without") from None
    ca, cert, key = (str(file.parent / name) if name else "" for name in (context.ca, context.cert, context.key))
    return replace(context, ca=ca, cert=cert, key=key)


def available() -> dict[str, Context]:
    """Every context that can be named: the folder's and the saved ones."""
    return of_folder() | load().contexts


def save(contexts: Contexts) -> None:
    """Replace the file, atomically."""
    import tempfile  # only writers pay for it: `ps` reads

    directory = config_dir()
    directory.mkdir(parents=True, exist_ok=True)
    raw = {
        "current": contexts.current,
        "contexts": {name: _plain(context) for name, context in sorted(contexts.contexts.items())},
    }
    handle, temporary = tempfile.mkstemp(prefix=".contexts-", dir=directory)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(raw, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path())
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _plain(context: Context) -> dict[str, Any]:
    values: dict[str, Any] = {"endpoints": list(context.endpoints), "kind": context.kind}
    values |= {key: getattr(context, key) for key in ("ca", "cert", "key", "data") if getattr(context, key)}
    return values


def add(context: Context, *, use: bool = True) -> None:
    """Add or replace a context; it becomes the current one unless ``use`` is False (the first always does)."""
    if not context.endpoints:
        raise InvalidError("a context needs at least one endpoint (host:port)")
    known = load()
    current = context.name if use or not known.current else known.current
    save(replace(known, current=current, contexts=known.contexts | {context.name: context}))


def remove(name: str) -> None:
    """Forget a context; raises NotFoundError."""
    known = load()
    if name not in known.contexts:
        raise _unknown(name, known.contexts)
    left = {key: context for key, context in known.contexts.items() if key != name}
    current = known.current if known.current != name else next(iter(sorted(left)), "")
    save(replace(known, current=current, contexts=left))


def use(name: str) -> None:
    """Make a context the current one; raises NotFoundError."""
    known = load()
    everything = available()
    if name not in everything:
        raise _unknown(name, everything)
    # A folder's context that is chosen is kept: it goes on working from elsewhere.
    save(replace(known, current=name, contexts=known.contexts | {name: everything[name]}))


def resolve(name: str | None = None) -> Context:
    """The context to talk to. Raises NotFoundError with what to do when there is none."""
    if not name:
        from_environment = _from_environment()
        if from_environment is not None:
            return from_environment
        name = os.environ.get("RAFTSMAN_CONTEXT") or None
    known = load()
    wanted = name or known.current
    if not wanted:
        raise NotFoundError(
            "no cluster to talk to: start one with 'raftsman dev', or name one with 'raftsman context add'",
            reason="NO_CONTEXT",
        )
    found = known.contexts.get(wanted) or of_folder().get(wanted)
    if found is None:
        raise _unknown(wanted, available())
    return found


def _from_environment() -> Context | None:
    endpoints = tuple(part.strip() for part in os.environ.get("RAFTSMAN_ENDPOINTS", "").split(",") if part.strip())
    if not endpoints:
        return None
    directory = os.environ.get("RAFTSMAN_TLS_DIR")
    if not directory:
        return Context(name="environment", endpoints=endpoints)
    tls = TlsFiles.in_directory(directory)
    return Context(name="environment", endpoints=endpoints, ca=str(tls.ca), cert=str(tls.cert), key=str(tls.key))


def _unknown(name: str, known: dict[str, Context]) -> NotFoundError:
    names = ", ".join(sorted(known)) or "none"
    return NotFoundError(f"no context '{name}' (there are: {names})", reason="NO_CONTEXT")
