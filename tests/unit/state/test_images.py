"""Digests that are settled once per version of a group, and what is told of starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import GroupSpec
from orchestrator.replication.snapshot_codec import decode_snapshot, encode_snapshot
from orchestrator.state import images, views
from orchestrator.state.commands import (
    Applied,
    PinAnswer,
    PinImage,
    RestartJob,
    ScaleJob,
)
from orchestrator.state.features import RESIZED_TWINS
from orchestrator.state.model import ImagePin, Job
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


# ---------------------------------------------------------------------------- as values


def of(*pins: ImagePin, groups: tuple[GroupSpec, ...], begun: tuple[int, ...], named: tuple[int, ...]) -> Job:
    """A job whose groups' content began at the versions ``begun``; rows name the versions ``named``."""
    made = Kit()
    made.submit(job("web", *groups))
    (known,) = made.state.jobs.values()
    specs = tuple((version, known.spec) for version in named)
    return replace(known, version=max(named), group_versions=begun, specs=specs, pins=pins)


def settled(group_: str, version: int, digest: str = OLD, image: str = "nginx") -> ImagePin:
    return ImagePin(group=group_, version=version, image=image, digest=digest)


def test_each_group_and_each_task_has_its_own(kit: Kit) -> None:
    (task,) = group().tasks
    two = replace(group("two"), tasks=(task, replace(task, name="side", image="apache")))
    kit.submit(job("web", group(), two))
    for name, image, digest in (("api", "nginx", OLD), ("two", "nginx", NEW), ("two", "apache", OTHER)):
        kit.ok(PinImage(job_uid=uid(kit), group=name, version=2, image=image, digest=digest))
    for alloc in ("web/api/0", "web/two/0"):
        kit.place(alloc, "n1")
    assert told(kit, "web/api/0") == {"nginx": OLD}
    assert told(kit, "web/two/0") == {"nginx": NEW, "apache": OTHER}


@pytest.mark.parametrize(
    ("version", "begun"), [(1, 1), (2, 1), (3, 1), (4, 4), (5, 4), (6, 6), (7, 6)], ids=lambda value: str(value)
)
def test_a_version_of_a_group_began_where_its_content_changed_last(version: int, begun: int) -> None:
    """As far as anything was settled for it then: of versions before the present one only pins tell."""
    pins = (settled("api", 1), settled("api", 4), settled("side", 3))
    web = of(*pins, groups=(group("side"), group("api")), begun=(1, 6), named=(1, 7))
    assert images.since(web, "api", version) == begun


def test_of_what_nothing_was_settled_each_version_stands_for_itself() -> None:
    web = of(settled("side", 2), groups=(group("side"), group("api")), begun=(1, 6), named=(1, 7))
    assert [images.since(web, "api", version) for version in (3, 5, 6, 7)] == [3, 5, 6, 6]


@pytest.mark.parametrize(
    ("named", "kept"),
    [((1, 7), (1, 4, 6)), ((3, 7), (1, 4, 6)), ((4, 7), (4, 6)), ((5, 7), (4, 6)), ((6, 7), (6,)), ((7,), (6,))],
)
def test_what_rows_may_still_ask_for_is_kept(named: tuple[int, ...], kept: tuple[int, ...]) -> None:
    pins = tuple(settled("api", version) for version in (1, 4, 6))
    web = of(*pins, groups=(group("api"),), begun=(6,), named=named)
    assert tuple(one.version for one in images.kept(web)) == kept


def test_what_is_kept_of_one_group_says_nothing_of_another() -> None:
    pins = (settled("api", 1), settled("side", 1), settled("side", 3))
    web = of(*pins, groups=(group("api"), group("side")), begun=(1, 3), named=(4,))
    assert [(one.group, one.version) for one in images.kept(web)] == [("api", 1), ("side", 3)]


def test_where_nothing_was_settled_nothing_is_kept() -> None:
    assert images.kept(of(groups=(group("api"),), begun=(1,), named=(1,))) == ()


@pytest.mark.parametrize(("level", "nginx"), [(RESIZED_TWINS - 1, OLD), (RESIZED_TWINS, OTHER)])
def test_what_goes_on_takes_its_digests_along_to_the_version_that_it_is_of_then(level: int, nginx: str) -> None:
    """All but those of other groups and versions, and what is settled there already stays."""
    pins = (
        settled("api", 1),
        settled("api", 1, NEW, "apache"),
        settled("api", 2, NEW),
        settled("api", 3, OTHER),
        settled("side", 1, NEW),
        settled("side", 3, NEW, "apache"),
    )
    found = images.carried(pins, "api", 1, 3, level=level)
    assert set(pins) <= set(found)
    web = of(*found, groups=(group("api"), group("side")), begun=(3, 3), named=(1, 3))
    assert dict(images.digests(web, "api", 3)) == {"nginx": nginx, "apache": NEW}
    assert dict(images.digests(web, "api", 1)) == {"nginx": OLD, "apache": NEW}
    assert dict(images.digests(web, "side", 3)) == {"apache": NEW}
    assert len(found) == len(pins) + (1 if level == RESIZED_TWINS else 2)
    assert [(one.group, one.version) for one in found] == sorted((one.group, one.version) for one in found)
