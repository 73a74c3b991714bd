"""Which images a node tells of, and how seldom."""

from __future__ import annotations

import platform
from types import SimpleNamespace
from typing import Any, cast

from agent.images import LOOK_EVERY_S, TELL_EVERY_S, ToldImages
from agent.inventory import machine
from orchestrator.contract import codec
from orchestrator.contract.images import IMAGES_MAX
from orchestrator.contract.model import NodeSpec
from orchestrator.contract.v1 import types_pb2


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_changes_are_told_at_most_every_five_minutes_and_the_last_state_is_not_lost() -> None:
    clock = Clock()
    images = ToldImages(clock)
    assert images.found("docker", ["a:1"])
    assert list(images.told) == ["a:1"]
    assert not images.found("docker", ["a:1", "b:1"])
    clock.now += TELL_EVERY_S - 1
    assert not images.found("docker", ["a:1", "b:1", "c:1"])
    assert list(images.told) == ["a:1"]
    clock.now += 1
    assert images.found("docker", ["a:1", "b:1", "c:1"])
    assert list(images.told) == ["a:1", "b:1", "c:1"]
    clock.now += 10 * TELL_EVERY_S
    assert not images.found("docker", ["c:1", "b:1", "a:1"])


def test_an_engine_is_asked_once_a_minute() -> None:
    clock = Clock()
    images = ToldImages(clock)
    assert [images.due("docker"), images.due("docker"), images.due("other")] == [True, False, True]
    clock.now += LOOK_EVERY_S
    assert images.due("docker")


def test_a_registration_with_all_images_is_below_5_kib() -> None:
    images = tuple(f"registry.example.com/team/application-{n:03}:2026.11.{n}@0123456789ab" for n in range(IMAGES_MAX))
    spec = NodeSpec(id="x" * 36, name="node-1", images=images)
    without = NodeSpec(id="x" * 36, name="node-1")
    size = codec.encode(spec, types_pb2.NodeSpec()).ByteSize()
    assert size < 5 * 1024
    assert codec.encode(without, types_pb2.NodeSpec()).ByteSize() < 100


def test_the_largest_named_images_of_an_engine_are_told() -> None:
    from agent.drivers.docker_images import named

    listed: list[dict[str, Any]] = [
        {"Id": "1", "Size": 5, "RepoTags": ["nginx:1.27"], "RepoDigests": ["nginx@sha256:0123456789abcdef"]},
        {"Id": "2", "Size": 9, "RepoTags": ["<none>:<none>"], "RepoDigests": None},
        {"Id": "3", "Size": 1, "RepoTags": None, "RepoDigests": ["redis@sha256:ff"]},
        *({"Id": f"x{n}", "Size": 10 + n, "RepoTags": [f"big-{n}:1"]} for n in range(IMAGES_MAX - 1)),
        {"Id": "z", "Size": 2, "RepoTags": ["small:1"]},
    ]
    found = named(listed)
    assert len(found) == IMAGES_MAX
    assert "nginx:1.27@0123456789ab" in found
    assert "small:1" not in found


def test_a_machine_says_what_it_is_as_images_name_it() -> None:
    uname = SimpleNamespace(machine="x86_64", system="Linux", release="6.8.0-45-generic")
    found = machine.system(lambda: cast(platform.uname_result, uname))
    assert found == machine.System(arch="amd64", os="linux", kernel="6.8.0")
    odd = SimpleNamespace(machine="riscv64", system="Plan9", release="unknown")
    assert machine.system(lambda: cast(platform.uname_result, odd)) == ("riscv64", "plan9", "")
