"""Which drivers exist: the name that a task may ask for, and how to build it.

Owns: the table. A new driver is one file in ``agent.drivers`` and one line here. The rule: building is lazy, so an
agent that runs processes only never imports the Docker SDK.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent import lean
from agent.defaults import PULL_STALL_S
from agent.driver import Driver


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSettings:
    """What an operator decides for all drivers of one agent."""

    data: Path
    publish: tuple[str, ...] = ("127.0.0.1",)
    reach: str = ""
    allow_privileged: bool = False
    allow_host_paths: bool = False
    allow_host_network: bool = False
    allow_caps: frozenset[str] = frozenset()
    pull_stall_s: float = PULL_STALL_S


def _docker(settings: DriverSettings) -> Driver:
    lean.load_requests()
    from agent.drivers.docker import DockerDriver

    return DockerDriver(
        publish=settings.publish,
        reach=settings.reach,
        allow_privileged=settings.allow_privileged,
        allow_host_paths=settings.allow_host_paths,
        allow_host_network=settings.allow_host_network,
        allow_caps=settings.allow_caps,
        pull_silence_s=settings.pull_stall_s,
    )


def _process(settings: DriverSettings) -> Driver:
    from agent.drivers.process import ProcessDriver

    return ProcessDriver(settings.data / "process")


def _fake(settings: DriverSettings) -> Driver:
    from agent.drivers.fake import FakeDriver

    return FakeDriver()


DRIVERS: dict[str, Callable[[DriverSettings], Driver]] = {"docker": _docker, "process": _process, "fake": _fake}
