"""Settings of a peer: what they are, where they come from, and what is wrong with them.

Owns: ``PeerSettings`` and the precedence flag over environment (``RAFTSMAN_PEER_*``) over YAML file. Leaves to others:
the flags themselves (``daemon``), using the values. The rule: every problem is found before anything is opened, and
each message names the setting, what was expected and one example.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from orchestrator.contract.address import is_address
from orchestrator.contract.capabilities import parse_allowed
from orchestrator.contract.settings import load_settings, path_of, short

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
MAX_PEERS = 9
PAST_BYTES = 16 * 2**20
PAST_BOUNDS = (2**20, 64 * 2**30)
_SIZE = re.compile(r"([0-9]{1,6})(Mi|Gi)")


class PeerSettings(BaseSettings):
    """Everything that a peer can be told. Addresses are ``host:port``; IPv6 hosts stand in brackets."""

    model_config = SettingsConfigDict(env_prefix="RAFTSMAN_PEER_", frozen=True, extra="forbid")

    id: str
    peers: Annotated[dict[str, str], NoDecode]
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
    allow_cap: Annotated[frozenset[str], NoDecode] = frozenset()
    past: Annotated[int, NoDecode] = PAST_BYTES  # bytes of memory
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @pydantic.field_validator("peers", mode="before")
    @classmethod
    def _peers(cls, value: object) -> object:
        return parse_peers(value) if isinstance(value, str) else value

    @pydantic.field_validator("peers")
    @classmethod
    def _peer_list(cls, value: dict[str, str]) -> dict[str, str]:
        if not value:
            raise ValueError("is empty; expected every peer, this one too: p1=host:7400,p2=host:7400,p3=host:7400")
        if len(value) > MAX_PEERS:
            raise ValueError(f"has {len(value)} peers; expected at most {MAX_PEERS} (three or five are right)")
        for peer_id, address in value.items():
            if not NAME.fullmatch(peer_id):
                raise ValueError(f"{short(peer_id)} is no peer id; expected a-z, 0-9, '.', '_', '-', at most 63")
            if not is_address(address):
                raise ValueError(f"{peer_id}={short(address)}; expected host:port, for example {peer_id}=10.0.0.1:7400")
        addresses = list(value.values())
        twice = sorted({address for address in addresses if addresses.count(address) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is the address of two peers")
        return value

    @pydantic.field_validator("data", "tls", mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        return path_of(value)

    @pydantic.field_validator("listen", "http")
    @classmethod
    def _address(cls, value: str) -> str:
        if not is_address(value, any_port=True):
            raise ValueError(f"{short(value)}; expected host:port, for example 0.0.0.0:7400")
        return value

    @pydantic.field_validator("allow_cap", mode="before")
    @classmethod
    def _allow_cap(cls, value: object) -> object:
        names = value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list | tuple | frozenset):
            raise ValueError("expected a list of capabilities, for example NET_ADMIN,SYS_PTRACE")
        return parse_allowed(name for one in names if (name := str(one).strip()))

    @pydantic.field_validator("past", mode="before")
    @classmethod
    def _past(cls, value: object) -> object:
        if value == PAST_BYTES:  # the default is looked at, too
            return value
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        size = int(match[1]) * 2 ** (20 if match[2] == "Mi" else 30) if match is not None else 0
        if not PAST_BOUNDS[0] <= size <= PAST_BOUNDS[1]:
            raise ValueError(f"{short(value)}; expected 1Mi to 64Gi, for example 16Mi")
        return size

    @pydantic.field_validator("id", "cluster")
    @classmethod
    def _name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(f"{short(value)}; expected a-z, 0-9, '.', '_', '-', at most 63")
        return value

    @pydantic.model_validator(mode="after")
    def _together(self) -> PeerSettings:
        if self.id not in self.peers:
            known = ", ".join(sorted(self.peers))
            raise ValueError(f"--id {self.id} is not among --peers ({known}); the list holds every peer, this one too")
        if self.tls is None and not self.insecure:
            raise ValueError(
                "--tls DIR is missing (ca.pem, cert.pem and key.pem; `raftsman certs` makes them); "
                "--insecure runs without, for tests on loopback only"
            )
        if self.tls is not None and self.insecure:
            raise ValueError("--tls and --insecure exclude each other; leave one out")
        return self


def load(flags: Mapping[str, Any], *, file: Path | None = None) -> PeerSettings:
    """The settings from ``flags`` (None: not given), the environment and the YAML ``file``; raises ``StartupError``."""
    return load_settings(PeerSettings, flags, file=file)


def parse_peers(text: str) -> dict[str, str]:
    """``p1=host:port,p2=host:port``; raises ``ValueError`` with the part that is wrong."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        peer_id, equals, address = part.partition("=")
        if not equals:
            raise ValueError(f"{short(part)}; expected id=host:port, for example p1=10.0.0.1:7400")
        if peer_id in found:
            raise ValueError(f"{peer_id} is there twice")
        found[peer_id] = address
    return found
