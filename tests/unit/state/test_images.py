"""Digests that are settled once per version of a group, and what is told of starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.replication.snapshot_codec import decode_snapshot, encode_snapshot
from orchestrator.state import views
from orchestrator.state.commands import (
    Applied,
    PinAnswer,
    PinImage,
    RestartJob,
    ScaleJob,
)
from orchestrator.state.snapshot import capture, restore, state_hash
from tests.unit.state.kit import Kit, group, job, node

OLD, NEW, OTHER = (f"sha256:{digit * 64}" for digit in "abc")


@pytest.fixture
def kit() -> Kit:
    made = Kit()
    made.register(node("n1", cpu=10_000, memory=10_000))
    made.submit(job("web", group(count=2)))
    return made


def uid(kit: Kit) -> str:
    found = kit.state.find_job("default", "web")
    assert found is not None
    return found.uid


def settle(kit: Kit, digest: str, *, version: int = 1, image: str = "nginx") -> str:
    outcome = kit.do(PinImage(job_uid=uid(kit), group="api", version=version, image=image, digest=digest))
    assert isinstance(outcome, Applied), outcome
    assert isinstance(outcome.answer, PinAnswer)
    return outcome.answer.digest


def told(kit: Kit, alloc: str) -> dict[str, str]:
    return dict(views.assignment(kit.state, kit.row(alloc)).digests)


def test_the_first_digest_counts_and_everybody_hears_it(kit: Kit) -> None:
    kit.place("web/api/0", "n1")
    assert told(kit, "web/api/0") == {}
    assert settle(kit, OLD) == OLD
    assert settle(kit, NEW) == OLD
    kit.place("web/api/1", "n1")
    assert told(kit, "web/api/0") == told(kit, "web/api/1") == {"nginx": OLD}
    assert [event.message for event in kit.state.events.after(0) if event.kind == "image.settled"] == [
        f"group api: nginx is {OLD}"
    ]


def test_what_scaling_adds_runs_what_its_siblings_run_and_a_restart_settles_anew(kit: Kit) -> None:
    kit.place("web/api/0", "n1")
    settle(kit, OLD)
    kit.ok(ScaleJob(namespace="default", name="web", group="", count=3))
    kit.place("web/api/2", "n1")
    assert told(kit, "web/api/2") == {"nginx": OLD}
    assert settle(kit, NEW, version=2) == OLD
    kit.ok(RestartJob(namespace="default", name="web"))
    assert settle(kit, NEW, version=3) == NEW
    assert settle(kit, OTHER, version=1) == OLD  # of the old version something still runs
    assert told(kit, "web/api/0") == {"nginx": OLD}
    kit.place("web/api/1", "n1")
    assert told(kit, "web/api/1") == {"nginx": NEW}


def test_pins_are_forgotten_with_the_versions_that_nobody_runs(kit: Kit) -> None:
    for version in range(1, 6):
        settle(kit, OLD, version=version)
        kit.ok(RestartJob(namespace="default", name="web"))
    found = kit.state.find_job("default", "web")
    assert found is not None
    assert len(found.pins) <= 1


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (PinImage(job_uid="nobody", group="api", version=1, image="nginx", digest=OLD), "NOT_FOUND"),
        (PinImage(job_uid="", group="api", version=1, image="nginx", digest="latest"), "INVALID"),
        (PinImage(job_uid="", group="api", version=1, image="apache", digest=OLD), "NOT_FOUND"),
        (PinImage(job_uid="", group="gone", version=1, image="nginx", digest=OLD), "NOT_FOUND"),
        (PinImage(job_uid="", group="api", version=7, image="nginx", digest=OLD), "NOT_FOUND"),
    ],
)
def test_what_no_version_runs_cannot_be_settled(kit: Kit, command: PinImage, reason: str) -> None:
    assert kit.refused(replace(command, job_uid=command.job_uid or uid(kit))).reason == reason


def test_pins_survive_a_snapshot_and_are_of_a_format_that_older_peers_do_not_read(kit: Kit) -> None:
    before = b"".join(encode_snapshot(capture(kit.state)))
    assert before[6] == 2
    settle(kit, OLD)
    data = b"".join(encode_snapshot(capture(kit.state)))
    assert data[6] == 5
    restored = restore(decode_snapshot(data))
    assert state_hash(restored) == state_hash(kit.state)
    found = restored.find_job("default", "web")
    assert found is not None
    assert [pin.digest for pin in found.pins] == [OLD]
