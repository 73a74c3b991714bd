"""Settings of a peer: what they are, where they come from, and what is wrong with them.

Owns: ``PeerSettings`` and the precedence flag over environment (``RAFTSMAN_PEER_*``) over YAML file. Leaves to others:
the flags themselves (``daemon``), using the values. The rule: every problem is found before anything is opened, and
each message names the setting, what was expected and one example.

Plain Python: pydantic, which reads job files, would be a sixth of what a starting peer has to load, for this alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from orchestrator.contract.capabilities import parse_allowed
from orchestrator.contract.errors import StartupError
from orchestrator.contract.settings_file import read_settings_file

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:\s\[\]/]+):([0-9]{1,5})")
MAX_PEERS = 9
ENVIRONMENT = "RAFTSMAN_PEER_"
LOG_LEVELS = ("debug", "info", "warning", "error")
_YES = ("true", "1", "yes", "on", "y", "t")
_NO = ("false", "0", "no", "off", "n", "f")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """Everything that a peer can be told. Addresses are ``host:port``; IPv6 hosts stand in brackets."""

    id: str
    peers: Mapping[str, str]
    listen: str = "0.0.0.0:7400"
    http: str = "0.0.0.0:7480"
    data: Path
    cluster: str = "raftsman"
    tls: Path | None = None
    insecure: bool = False
    fast_failover: bool = False
    dev: bool = False
    allow_privileged: bool = False
    allow_host_paths: bool = False
    allow_host_network: bool = False
    allow_cap: frozenset[str] = frozenset()
    log_level: str = "info"


def load(flags: Mapping[str, Any], *, file: Path | None = None) -> PeerSettings:
    """The settings from ``flags`` (None: not given), the environment and the YAML ``file``; raises ``StartupError``."""
    given = read_settings_file(file, _READ) if file is not None else {}
    environment = {name.upper(): value for name, value in os.environ.items()}
    values: dict[str, Any] = {}
    problems = []
    for field in fields(PeerSettings):
        name, variable = field.name, ENVIRONMENT + field.name.upper()
        value = flags.get(name)
        if value is None:
            value = environment.get(variable, given.get(name))
        flag = "--" + name.replace("_", "-")
        if value is not None:
            try:
                values[name] = _READ[name](value)
            except ValueError as error:
                problems.append(f"{flag}: {error}")
        elif field.default is MISSING:
            problems.append(f"{flag} is missing (or {variable})")
    if not problems:
        settings = PeerSettings(**values)
        problems = _together(settings)
        if not problems:
            return settings
    raise StartupError("; ".join(problems))


def _together(settings: PeerSettings) -> list[str]:
    """What is wrong between settings that are right one by one."""
    if settings.id not in settings.peers:
        known = ", ".join(sorted(settings.peers))
        return [f"--id {settings.id} is not among --peers ({known}); the list holds every peer, this one too"]
    if settings.tls is None and not settings.insecure:
        return [
            "--tls DIR is missing (ca.pem, cert.pem and key.pem; `raftsman certs` makes them); "
            "--insecure runs without, for tests on loopback only"
        ]
    if settings.tls is not None and settings.insecure:
        return ["--tls and --insecure exclude each other; leave one out"]
    return []


# ---------------------------------------------------------------------------- one setting each; raise ``ValueError``


def _name(value: object) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(f"{value!r}; expected a-z, 0-9, '.', '_', '-', at most 63")
    return value


def _peers(value: object) -> dict[str, str]:
    found = parse_peers(value) if isinstance(value, str) else value
    if not isinstance(found, Mapping):
        raise ValueError(f"{value!r}; expected id=host:port,..., for example p1=10.0.0.1:7400,p2=10.0.0.2:7400")
    if not found:
        raise ValueError("is empty; expected every peer, this one too: p1=host:7400,p2=host:7400,p3=host:7400")
    if len(found) > MAX_PEERS:
        raise ValueError(f"has {len(found)} peers; expected at most {MAX_PEERS} (three or five are right)")
    for peer_id, address in found.items():
        if not isinstance(peer_id, str) or not NAME.fullmatch(peer_id):
            raise ValueError(f"{peer_id!r} is no peer id; expected a-z, 0-9, '.', '_', '-', at most 63")
        if not isinstance(address, str) or not is_address(address):
            raise ValueError(f"{peer_id}={address!r}; expected host:port, for example {peer_id}=10.0.0.1:7400")
    addresses = list(found.values())
    twice = sorted({address for address in addresses if addresses.count(address) > 1})
    if twice:
        raise ValueError(f"{twice[0]} is the address of two peers")
    return dict(found)


def _address(value: object) -> str:
    if not isinstance(value, str) or not is_address(value):
        raise ValueError(f"{value!r}; expected host:port, for example 0.0.0.0:7400")
    return value


def _directory(value: object) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError(f"{value!r}; expected a directory, for example /var/lib/raftsman")
    return Path(value)


def _yes_or_no(value: object) -> bool:
    text = str(value).lower()
    if text not in _YES and text not in _NO:
        raise ValueError(f"{value!r}; expected true or false")
    return text in _YES


def _capabilities(value: object) -> frozenset[str]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple | frozenset):
        raise ValueError("expected a list of capabilities, for example NET_ADMIN,SYS_PTRACE")
    return frozenset(parse_allowed(name for one in names if (name := str(one).strip())))


def _log_level(value: object) -> str:
    if not isinstance(value, str) or value not in LOG_LEVELS:
        raise ValueError(f"{value!r}; expected one of {', '.join(LOG_LEVELS)}")
    return value


_READ: dict[str, Callable[[object], Any]] = {
    "id": _name,
    "peers": _peers,
    "listen": _address,
    "http": _address,
    "data": _directory,
    "cluster": _name,
    "tls": _directory,
    "insecure": _yes_or_no,
    "fast_failover": _yes_or_no,
    "dev": _yes_or_no,
    "allow_privileged": _yes_or_no,
    "allow_host_paths": _yes_or_no,
    "allow_host_network": _yes_or_no,
    "allow_cap": _capabilities,
    "log_level": _log_level,
}


def parse_peers(text: str) -> dict[str, str]:
    """``p1=host:port,p2=host:port``; raises ``ValueError`` with the part that is wrong."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        peer_id, equals, address = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r}; expected id=host:port, for example p1=10.0.0.1:7400")
        if peer_id in found:
            raise ValueError(f"{peer_id} is there twice")
        found[peer_id] = address
    return found


def is_address(text: str) -> bool:
    match = ADDRESS.fullmatch(text)
    return match is not None and 0 <= int(match.group(2)) <= 65535


def split_address(text: str) -> tuple[str, int]:
    """Host (without brackets) and port of a checked ``host:port``."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
