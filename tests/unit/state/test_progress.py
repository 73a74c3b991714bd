"""What is told of starts: a reason until the allocation runs, of its own node and attempt, nobody else's business."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import AllocState
from orchestrator.state.commands import RecordProgress, StartProgress
from orchestrator.state.model import MAX_COMMAND_ROWS
from tests.unit.state.kit import Kit, group, job, node

TEXT = "pulling nginx: 1 of 2 MiB"


@pytest.fixture
def kit() -> Kit:
    made = Kit()
    for name in ("n1", "n2"):
        made.register(node(name, cpu=10_000, memory=10_000))
    made.submit(job("web", group(count=2)))
    for ordinal in (0, 1):
        made.place(f"web/api/{ordinal}", "n1")
    return made


def said(kit: Kit, text: str = TEXT) -> StartProgress:
    found = kit.state.find_job("default", "web")
    assert found is not None
    return StartProgress(job_uid=found.uid, group="api", ordinal=0, attempt=1, text=text)


def tell(kit: Kit, *progress: StartProgress, node_id: str = "n1") -> bool:
    """Whether anything changed."""
    return bool(kit.ok(RecordProgress(node_id=node_id, progress=progress)).answer.changed)  # type: ignore[union-attr]


def events(kit: Kit) -> list[tuple[str, str, str, int]]:
    found = [event for event in kit.state.events.after(0) if event.kind == "alloc.progress"]
    return [(event.allocation, event.node_id, event.message, event.attempt) for event in found]


def test_a_text_is_the_reason_until_it_runs_and_is_told_once(kit: Kit) -> None:
    assert tell(kit, said(kit))
    assert kit.alloc("web/api/0").reason == TEXT
    assert kit.alloc("web/api/0").modify_index == kit.state.index
    assert not tell(kit, said(kit))
    kit.observe("web/api/0", AllocState.STARTING)
    assert tell(kit, said(kit, "extracting"))
    kit.observe("web/api/0", AllocState.RUNNING)
    assert not tell(kit, said(kit))
    assert kit.alloc("web/api/0").reason == ""
    assert events(kit) == [("web/api/0", "n1", TEXT, 1), ("web/api/0", "n1", "extracting", 1)]


def test_an_empty_text_takes_the_one_before_back(kit: Kit) -> None:
    assert not tell(kit, said(kit, ""))
    tell(kit, said(kit))
    assert tell(kit, said(kit, ""))
    assert kit.alloc("web/api/0").reason == ""


def test_what_is_said_of_anything_else_is_ignored_and_the_rest_counts(kit: Kit) -> None:
    good = said(kit)
    others = [
        replace(good, job_uid="nobody", text="no such job"),
        replace(good, group="gone", text="no such group"),
        replace(good, ordinal=9, attempt=0, text="no such instance"),
        replace(good, attempt=2, text="another attempt"),
    ]
    before = dict(kit.state.table.reasons)
    assert not tell(kit, *others)
    assert not tell(kit, replace(good, text="said by another node"), node_id="n2")
    assert kit.state.table.reasons == before
    assert tell(kit, *others, good)
    assert [message for _, _, message, _ in events(kit)] == [TEXT]


def test_too_many_texts_and_an_unknown_node_are_refused(kit: Kit) -> None:
    tell(kit, *[said(kit)] * MAX_COMMAND_ROWS)
    too_many = RecordProgress(node_id="n1", progress=(said(kit, "more"),) * (MAX_COMMAND_ROWS + 1))
    assert kit.refused(too_many).reason == "INVALID"
    assert kit.refused(RecordProgress(node_id="n9", progress=())).reason == "NOT_FOUND"
    assert kit.alloc("web/api/0").reason == TEXT
