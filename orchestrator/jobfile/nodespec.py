"""A machine that is not there yet, as people write it: ``cpu=8,memory=32Gi,gpus=4xA100,labels=zone=b`` or a YAML file.

Owns: the keys and how they become a ``NodeSpec``. Leaves to others: names and ids (minted where it is asked about),
machines like one that is there (``foresight``). The rule: an unknown key or a value that does not parse is an
``InvalidError`` that names it and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.contract.errors import InvalidError
from orchestrator.contract.model import MAX_DEVICES, Device, NodeSpec, Resources, str_map
from orchestrator.jobfile.check import near_miss
from orchestrator.jobfile.units import parse_cpu, parse_memory

KEYS = ("name", "cpu", "memory", "disk", "gpus", "labels", "drivers")
DRIVERS = ("docker", "process")
EXPECTED = "expected KEY=VALUE pairs such as cpu=8,memory=32Gi,gpus=4xA100,labels=zone=b"
GPUS_EXPECTED = "expected a count, such as 4, 4xA100 or 4xA100:40Gi"


def parse_node(text: str) -> NodeSpec:
    """From one line. ``labels=a=b`` may stand several times, or as ``labels=a=b;c=d``; ``drivers=docker+process``."""
    said: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or not key:
            raise InvalidError(f"{part.strip()!r}: {EXPECTED}")
        if key == "labels":
            labels = said.setdefault("labels", {})
            for pair in value.split(";"):
                name, sign, content = pair.partition("=")
                if not sign or not name.strip():
                    raise InvalidError(f"labels: expected NAME=VALUE, got {pair!r}")
                labels[name.strip()] = content.strip()
        elif key in said:
            raise InvalidError(f"{key}: is there twice")
        else:
            said[key] = value.strip().split("+") if key == "drivers" else value.strip()
    return _node(said)


def load_node(text: str, filename: str) -> NodeSpec:
    """From YAML: a mapping of the same keys; ``gpus`` may be a mapping of count, model and memory."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date or a number that is none
        raise InvalidError(f"{filename}: {error}") from None
    if not isinstance(value, dict):
        raise InvalidError(f"{filename}: expected a mapping with the keys {', '.join(KEYS)}")
    labels, drivers = value.get("labels", {}), value.get("drivers", [])
    if not isinstance(labels, dict):
        raise InvalidError(f"{filename}: labels: expected a mapping of names to values")
    if not isinstance(drivers, list):
        raise InvalidError(f"{filename}: drivers: expected a list of names")
    if isinstance(value.get("gpus"), dict):
        value = {**value, "gpus": _gpus_text(value["gpus"], filename)}
    try:
        return _node({**value, "labels": {str(key): str(item) for key, item in labels.items()}, "drivers": drivers})
    except InvalidError as error:
        raise InvalidError(f"{filename}: {error.message}") from None


def _gpus_text(gpus: dict[Any, Any], filename: str) -> str:
    unknown = sorted(str(key) for key in gpus.keys() - {"count", "model", "memory"})
    if unknown or "count" not in gpus:
        raise InvalidError(f"{filename}: gpus: expected count, and perhaps model and memory")
    memory = f":{gpus['memory']}" if "memory" in gpus else ""
    return f"{gpus['count']}x{gpus.get('model', '')}{memory}"


def _node(said: dict[str, Any]) -> NodeSpec:
    for key in said:
        if key not in KEYS:
            close = near_miss(str(key), KEYS) or f"; the keys are {', '.join(KEYS)}"
            raise InvalidError(f"{key}: unknown key{close}")
    for key in ("cpu", "memory"):
        if key not in said:
            raise InvalidError(f"{key}: is missing; {EXPECTED}")
    return NodeSpec(
        id="",
        name=str(said.get("name", "")),
        drivers=tuple(str(one) for one in said.get("drivers") or DRIVERS),
        labels=str_map(dict(said.get("labels", {}))),
        capacity=Resources(
            cpu_millis=_amount("cpu", said["cpu"], parse_cpu),
            memory_mib=_amount("memory", said["memory"], parse_memory),
            disk_mib=_amount("disk", said.get("disk", "1Ti"), parse_memory),
        ),
        devices=_devices(str(said.get("gpus", "0"))),
    )


def _amount(key: str, value: object, parse: Callable[[object], int]) -> int:
    try:
        return parse(value)
    except ValueError as error:
        raise InvalidError(f"{key}: {error}") from None


def _devices(text: str) -> tuple[Device, ...]:
    count, times, kind = text.partition("x")
    model, _, memory = kind.partition(":")
    # None of a model is a slip, such as 0x4 for 4: it would be taken for a node without any.
    none_of_a_kind = bool(times) and not count.strip().strip("0")
    if not count.strip().isdecimal() or int(count.strip()[:9]) > MAX_DEVICES or none_of_a_kind:
        raise InvalidError(f"gpus: {GPUS_EXPECTED} (at most {MAX_DEVICES}), got {text[:80]!r}")
    mib = _amount("gpus", memory, parse_memory) if memory else 0
    return tuple(Device(id=f"gpu-{number}", model=model.strip(), memory_mib=mib) for number in range(int(count)))
