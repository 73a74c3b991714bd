"""Settings of an agent: flag over environment (``RAFTSMAN_AGENT_*``) over YAML file, and the units users write.

Owns: ``AgentSettings`` and parsing ``2``, ``500m``, ``16Gi``, ``count=2,model=A100,memory=80Gi``. Leaves to others: the
flags (``daemon``), measuring what was not declared (``inventory``). The rule: every problem is found before anything is
opened, and each message names the setting, what was expected and one example.

A running agent does not load this (``reading``).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from agent.defaults import AT_BRIDGE, DEFAULT_PORTS, PULL_STALL_S
from agent.inventory.gpu import DeclaredGpus
from orchestrator.contract.address import is_address
from orchestrator.contract.capabilities import parse_allowed
from orchestrator.contract.devices import MIG_PROFILE
from orchestrator.contract.model import MAX_DEVICES, Taint
from orchestrator.contract.settings import load_settings, path_of, short
from orchestrator.contract.taints import parse as parse_taint

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
RESOURCE = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
DATASET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,253}")
PULL_STALL_BOUNDS_S = (5.0, 86_400.0)
"""An engine tells how a pull goes about once a second; below some seconds an ordinary pause would end it."""
DRIVER_NAMES = ("auto", "docker", "process", "fake")
MAX_CPU_MILLIS = 10_000 * 1000
MAX_SIZE_MIB = 2**30
"""10,000 cores and 1 Pi: what a task may ask for at most; of a node that says more, something else is meant."""
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_./-]{0,251}[A-Za-z0-9])?")
MAX_LABELS = 1_000
MAX_LABEL_VALUE = 4_096
HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*(Ki|Mi|Gi|Ti|K|M|G|T|)(?:B|)")
_UNIT_BYTES = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}


NO_GPUS = "none"
"""As ``--gpu``: this node has no GPUs, whatever NVML says."""


class AgentSettings(BaseSettings):
    """Everything that an agent can be told. Empty or 0 where there is something to measure or to choose."""

    model_config = SettingsConfigDict(env_prefix="RAFTSMAN_AGENT_", frozen=True, extra="forbid")

    name: str = ""
    peers: Annotated[tuple[str, ...], NoDecode]
    api: str = ""
    data: Path
    tls: Path | None = None
    tls_pool: Path | None = None
    insecure: bool = False
    driver: Annotated[tuple[str, ...], NoDecode] = ("auto",)
    cpu: Annotated[int, NoDecode] = 0  # thousandths of a core
    memory: Annotated[int, NoDecode] = 0  # MiB
    disk: Annotated[int, NoDecode] = 0  # MiB
    gpu: Annotated[tuple[DeclaredGpus, ...], NoDecode] = ()
    label: Annotated[dict[str, str], NoDecode] = {}
    resource: Annotated[dict[str, int], NoDecode] = {}
    taint: Annotated[tuple[Taint, ...], NoDecode] = ()
    dataset: Annotated[tuple[str, ...], NoDecode] = ()
    datacenter: str = ""
    region: str = ""
    zone: str = ""
    rack: str = ""
    address: str = ""
    publish_address: str = ""
    reach: str = ""
    http: str = ""
    ports: Annotated[tuple[int, int], NoDecode] = DEFAULT_PORTS
    dns: str = "auto"
    dns_upstream: str = ""
    workload_dir: Path | None = None
    allow_privileged: bool = False
    allow_host_paths: bool = False
    allow_host_network: bool = False
    allow_cap: Annotated[frozenset[str], NoDecode] = frozenset()
    pull_stall: Annotated[float, NoDecode] = PULL_STALL_S  # seconds
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @pydantic.field_validator("peers", mode="before")
    @classmethod
    def _peers(cls, value: object) -> object:
        parts = _parts(value)
        addresses = tuple(part.rpartition("=")[2] for part in parts)
        if not addresses:
            raise ValueError("is empty; expected host:port of every peer, for example 10.0.0.1:7400,10.0.0.2:7400")
        for address in addresses:
            if not is_address(address):
                raise ValueError(f"{short(address)}; expected host:port, for example 10.0.0.1:7400")
        return addresses

    @pydantic.field_validator("data", "tls", "tls_pool", "workload_dir", mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        return path_of(value)

    @pydantic.field_validator("data", "tls", "tls_pool", "workload_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        """What runs as a process starts in a directory of its own: a relative path would lead elsewhere there."""
        return value.expanduser().absolute() if value is not None else None

    @pydantic.field_validator("driver", mode="before")
    @classmethod
    def _driver(cls, value: object) -> object:
        names = tuple(dict.fromkeys(_parts(value)))
        for name in names:
            if name not in DRIVER_NAMES:
                raise ValueError(f"{short(name)}; expected {', '.join(DRIVER_NAMES)}")
        if not names:
            raise ValueError(f"is empty; expected {', '.join(DRIVER_NAMES)}")
        return names

    @pydantic.field_validator("cpu", mode="before")
    @classmethod
    def _cpu(cls, value: object) -> object:
        return parse_cpu(number_of(value))

    @pydantic.field_validator("memory", "disk", mode="before")
    @classmethod
    def _size(cls, value: object) -> object:
        return parse_size(number_of(value))

    @pydantic.field_validator("gpu", mode="before")
    @classmethod
    def _gpu(cls, value: object) -> object:
        said = [value] if isinstance(value, str) else value
        if not isinstance(said, list | tuple) or not all(isinstance(one, str) for one in said):
            raise ValueError(f"{short(value)}; expected text such as count=2,model=A100,memory=80Gi")
        groups = [part for one in said for part in one.split(";")]
        if NO_GPUS in groups:
            if any(one and one != NO_GPUS for one in groups):
                raise ValueError(f"{NO_GPUS!r} and others; expected one or the other")
            return (DeclaredGpus(count=0),)
        parsed = tuple(parse_gpu(one) for one in groups if one)
        if sum(group.count for group in parsed) > MAX_DEVICES:
            raise ValueError(f"declares more than {MAX_DEVICES} devices; that is the most that one node can have")
        return parsed

    @pydantic.field_validator("label", mode="before")
    @classmethod
    def _label(cls, value: object) -> object:
        if isinstance(value, dict):
            return value
        labels: dict[str, str] = {}
        for part in _parts(value):
            key, equals, content = part.partition("=")
            if not equals or not key:
                raise ValueError(f"{short(part)}; expected key=value, for example zone=a")
            labels[key] = content
        return labels

    @pydantic.field_validator("label")
    @classmethod
    def _labels(cls, value: dict[str, str]) -> dict[str, str]:
        if len(value) > MAX_LABELS:
            raise ValueError(f"{len(value)} labels; expected at most {MAX_LABELS:,}")
        for key, content in value.items():
            if not LABEL.fullmatch(key):
                raise ValueError(f"{short(key)}; expected a key of letters, digits, '.', '_', '-' and '/', at most 253")
            if len(content) > MAX_LABEL_VALUE or not (content.isprintable() or not content):
                raise ValueError(f"{key}={short(content)}; expected printable text of at most {MAX_LABEL_VALUE:,}")
        return value

    @pydantic.field_validator("api")
    @classmethod
    def _api(cls, value: str) -> str:
        addresses = _parts(value)
        for address in addresses:
            if not is_address(address):
                raise ValueError(f"{short(address)}; expected host:port, for example 10.0.0.1:7400,10.0.0.2:7400")
        return ",".join(addresses)

    @pydantic.field_validator("address")
    @classmethod
    def _host(cls, value: str) -> str:
        if value and not HOST.fullmatch(value) and not _is_ip(value):
            raise ValueError(f"{short(value)}; expected an address or a host without a port, for example 10.0.0.5")
        return value

    @pydantic.field_validator("publish_address")
    @classmethod
    def _ip(cls, value: str) -> str:
        if value and not _is_ip(value):
            raise ValueError(f"{short(value)}; expected an IP address of this machine, for example 10.0.0.5")
        return value

    @pydantic.field_validator("resource", mode="before")
    @classmethod
    def _resource(cls, value: object) -> object:
        if isinstance(value, dict):
            value = [f"{key}={amount}" for key, amount in value.items()]
        amounts = {}
        for part in _parts(value):
            key, _, amount = part.partition("=")
            if not RESOURCE.fullmatch(key) or not re.fullmatch(r"[0-9]{1,9}", amount):
                raise ValueError(f"{short(part)}; expected name=whole number, for example licenses=5")
            amounts[key] = int(amount)
        return amounts

    @pydantic.field_validator("taint", mode="before")
    @classmethod
    def _taint(cls, value: object) -> object:
        found = {}
        for part in _parts(value):
            taint = parse_taint(part)
            if (taint.key, taint.effect) in found:
                raise ValueError(f"{short(part)}; this key has that effect already")
            found[taint.key, taint.effect] = taint
        return tuple(found.values())

    @pydantic.field_validator("dataset", mode="before")
    @classmethod
    def _dataset(cls, value: object) -> object:
        names = tuple(dict.fromkeys(_parts(value)))
        for name in names:
            if not DATASET.fullmatch(name):
                raise ValueError(f"{short(name)}; expected letters, digits, '.', '_', '-' and '/'")
        return names

    @pydantic.field_validator("pull_stall", mode="before")
    @classmethod
    def _pull_stall(cls, value: object) -> object:
        seconds = parse_seconds(str(value))
        if not PULL_STALL_BOUNDS_S[0] <= seconds <= PULL_STALL_BOUNDS_S[1]:
            raise ValueError(f"{short(value)}; expected 5s to 24h, for example 2m")
        return seconds

    @pydantic.field_validator("allow_cap", mode="before")
    @classmethod
    def _allow_cap(cls, value: object) -> object:
        return parse_allowed(_parts(list(value) if isinstance(value, frozenset) else value))

    @pydantic.field_validator("datacenter", "region", "zone", "rack")
    @classmethod
    def _place(cls, value: str) -> str:
        if value and not NAME.fullmatch(value):
            raise ValueError(f"{short(value)}; expected letters, digits, '.', '_', '-', at most 63")
        return value

    @pydantic.field_validator("ports", mode="before")
    @classmethod
    def _ports(cls, value: object) -> object:
        if isinstance(value, list | tuple) and len(value) == 2:  # the default, or a pair in a file
            value = f"{value[0]}-{value[1]}"
        match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", value.strip()) if isinstance(value, str) else None
        if match is None or not 1 <= int(match[1]) <= int(match[2]) <= 65535:
            raise ValueError(f"{short(value)}; expected first-last, for example 20000-31999")
        return int(match[1]), int(match[2])

    @pydantic.field_validator("http")
    @classmethod
    def _http(cls, value: str) -> str:
        if value and not is_address(value, any_port=True):
            raise ValueError(f"{short(value)}; expected host:port, for example 127.0.0.1:7481")
        return value

    @pydantic.field_validator("reach")
    @classmethod
    def _reach(cls, value: str) -> str:
        value = value.strip("[]")
        if value and not is_address(f"{value}:1") and not _is_ip(value):
            raise ValueError(f"{value!r}; expected an address without port, for example 10.0.0.1, or machine")
        return value

    @pydantic.field_validator("dns", "dns_upstream")
    @classmethod
    def _dns(cls, value: str, info: pydantic.ValidationInfo) -> str:
        words = ("auto", "off", AT_BRIDGE) if info.field_name == "dns" else ("", "system")
        host, _, _ = value.rpartition(":")
        if value in words:
            return value
        names = info.field_name == "dns" and HOST.fullmatch(host)
        if not is_address(value, any_port=info.field_name == "dns") or not (names or _is_ip(host.strip("[]"))):
            known = f"auto, off, {AT_BRIDGE}" if info.field_name == "dns" else "system"
            raise ValueError(f"{short(value)}; expected {known} or address:port, for example 127.0.0.1:8600")
        return value

    @pydantic.field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if value and not NAME.fullmatch(value):
            raise ValueError(f"{short(value)}; expected letters, digits, '.', '_', '-', at most 63")
        return value

    @pydantic.model_validator(mode="after")
    def _together(self) -> AgentSettings:
        if "auto" in self.driver and len(self.driver) > 1:
            raise ValueError("--driver auto chooses by itself; leave out either auto or the others")
        given = [name for name, on in (("--tls", self.tls), ("--tls-pool", self.tls_pool)) if on]
        given += ["--insecure"] if self.insecure else []
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; leave one out")
        if not given:
            raise ValueError(
                "--tls DIR is missing (ca.pem, cert.pem and key.pem; `raftsman certs` makes them); "
                "--tls-pool DIR claims one of several, --insecure runs without, for tests on loopback only"
            )
        return self


def load(flags: Mapping[str, Any], *, file: Path | None = None) -> AgentSettings:
    """The settings from ``flags`` (None: not given), the environment and the YAML ``file``; raises ``StartupError``."""
    return load_settings(AgentSettings, flags, file=file)


def number_of(value: object) -> str:
    """What was written, of a flag or in a YAML file, where ``cpu: 2`` means the same as ``--cpu 2``."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{short(value)}; expected a number, with its unit where it has one")
    return str(value)


def parse_cpu(text: str) -> int:
    """``2``, ``1.5`` or ``500m`` as thousandths of a core."""
    match = re.fullmatch(r"([0-9]{1,18})m|([0-9]{1,18}(?:\.[0-9]{1,3})?)", text.strip())
    if match is None:
        raise ValueError(f"{short(text)}; expected cores, for example 2, 1.5 or 500m")
    millis = int(match[1]) if match[1] is not None else round(float(match[2]) * 1000)
    if millis > MAX_CPU_MILLIS:
        raise ValueError(f"{short(text)}; expected at most {MAX_CPU_MILLIS // 1000} cores")
    return millis


def parse_size(text: str) -> int:
    """``16Gi``, ``512Mi`` or plain MiB as MiB, rounded down: nothing is offered that is not there."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{short(text)}; expected a size, for example 512Mi or 16Gi")
    size = float(match[1]) * (_UNIT_BYTES[match[2]] / 2**20 if match[2] else 1)
    if 0 < size < 1 or size > MAX_SIZE_MIB:
        raise ValueError(f"{short(text)}; expected 1Mi to 1024Ti, or 0 for what is there")
    return int(size)


_SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse_seconds(text: str) -> float:
    """``90s``, ``2m``, ``1h``, or plain seconds."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(s|m|h|)", text.strip())
    if match is None:
        raise ValueError(f"{short(text)}; expected a time, for example 90s or 2m")
    return float(match[1]) * _SECONDS[match[2] or "s"]


_GPU_KEYS = {
    "count": "1",
    "model": "fake",
    "memory": "16Gi",
    "island": "",
    "pcie": "0",
    "numa": "0",
    "capability": "",
    "driver": "",
    "mig": "",
}
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,7}")


def parse_gpu(text: str) -> DeclaredGpus:
    """``count=2,model=A100,memory=80Gi[,island=0|each][,pcie=1][,numa=0][,capability=8.0][,driver=535.1][,mig=1g.10gb]``."""
    values = dict(_GPU_KEYS)
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or key not in values:
            raise ValueError(f"{short(part)}; expected one of {'=, '.join(values)}=, as in count=2,memory=80Gi")
        values[key] = value or values[key]
    if not _is_number(values["count"]) or not 1 <= int(values["count"]) <= MAX_DEVICES:
        raise ValueError(f"count={short(values['count'])}; expected 1 to {MAX_DEVICES}")
    if not values["model"].isprintable() or len(values["model"]) > 128:
        raise ValueError(f"model={short(values['model'])}; expected a model such as A100")
    for key in ("island", "pcie", "numa"):
        if values[key] and not _is_number(values[key]) and (key, values[key]) != ("island", "each"):
            raise ValueError(f"{key}={short(values[key])}; expected a number")
    for key in ("capability", "driver"):
        if values[key] and not _VERSION.fullmatch(values[key]):
            raise ValueError(f"{key}={short(values[key])}; expected a version such as 8.0")
    if values["mig"] and not MIG_PROFILE.fullmatch(values["mig"]):
        raise ValueError(f"mig={short(values['mig'])}; expected a MIG profile such as 1g.10gb")
    each = values["island"] == "each"
    return DeclaredGpus(
        count=int(values["count"]),
        model=values["model"],
        memory_mib=parse_size(values["memory"]),
        island=int(values["island"]) if values["island"] and not each else None,
        each_alone=each,
        pcie=int(values["pcie"]),
        numa=int(values["numa"]),
        compute_capability=values["capability"],
        driver_version=values["driver"],
        mig=values["mig"],
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _parts(value: object) -> list[str]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list")
    return [part.strip() for one in value for part in str(one).split(",") if part.strip()]
