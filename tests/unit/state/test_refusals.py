"""Every "no" of ``apply`` has its reason, which callers act on; and every "nothing to do" says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.contract.model import AllocationId, AllocState, AssignmentKey, Limits, Observation
from orchestrator.state.apply import apply
from orchestrator.state.commands import (
    Applied,
    Command,
    CordonNode,
    DrainNode,
    Entry,
    ForgetNode,
    JobSubmission,
    MarkNodes,
    NodeMark,
    Outcome,
    RecordStatuses,
    RegisterNode,
    Rejected,
    RemoveJob,
    RestartJob,
    ScaleJob,
    StopJob,
    SubmitJobs,
    WriteAnswer,
    WriteVariable,
)
from orchestrator.state.invariants import check
from orchestrator.state.model import MAX_COMMAND_ROWS
from tests.unit.state.kit import Kit, group, job, node

D = "default"


def prepared() -> Kit:
    """``running`` runs on n1 and has groups x and y; ``stopped`` is stopped; ``removing`` still runs on n1."""
    kit = Kit(Limits(variable_bytes=10))
    kit.register(node("n1"))
    kit.submit(job("running", group("x"), group("y")), job("stopped"), job("removing"))
    kit.place("running/x/0", "n1")
    kit.place("removing/api/0", "n1")
    kit.ok(StopJob(namespace=D, name="stopped"))
    kit.ok(RemoveJob(namespace=D, name="removing"))
    return kit


def submission(name: str = "new", uid: str = "u", expect: int | None = None) -> JobSubmission:
    return JobSubmission(spec=job(name), uid=uid, expect_version=expect)


SEEN = Observation(
    key=AssignmentKey(id=AllocationId(namespace=D, job="a", group="x", ordinal=0), job_uid="u", attempt=1),
    restarts=0, state=AllocState.RUNNING, exit_code=0, reason="", start_failed=False,
)  # fmt: skip

REFUSED: list[tuple[str, str, Command]] = [
    ("no job at all", "INVALID", SubmitJobs(jobs=())),
    ("too many jobs", "INVALID", SubmitJobs(jobs=(submission(),) * (MAX_COMMAND_ROWS + 1))),
    ("one name twice", "INVALID", SubmitJobs(jobs=(submission(uid="u1"), submission(uid="u2")))),
    ("one uid twice", "INVALID", SubmitJobs(jobs=(submission("a"), submission("b")))),
    ("no uid", "INVALID", SubmitJobs(jobs=(submission(uid=""),))),
    ("uid with a space", "INVALID", SubmitJobs(jobs=(submission(uid="a b"),))),
    ("expected, but not there", "CONFLICT", SubmitJobs(jobs=(submission(expect=1),))),
    ("there, but not expected", "CONFLICT", SubmitJobs(jobs=(submission("running", expect=0),))),
    ("another version", "CONFLICT", SubmitJobs(jobs=(submission("running", expect=2),))),
    ("submit: being removed", "FAILED_PRECONDITION", SubmitJobs(jobs=(submission("removing"),))),
    ("stop: no such job", "NOT_FOUND", StopJob(namespace=D, name="nobody")),
    ("stop: another namespace", "NOT_FOUND", StopJob(namespace="other", name="running")),
    ("scale: no such job", "NOT_FOUND", ScaleJob(namespace=D, name="nobody", group="", count=1)),
    ("scale: being removed", "FAILED_PRECONDITION", ScaleJob(namespace=D, name="removing", group="", count=1)),
    ("scale: stopped", "FAILED_PRECONDITION", ScaleJob(namespace=D, name="stopped", group="", count=1)),
    ("scale: negative", "INVALID", ScaleJob(namespace=D, name="running", group="x", count=-1)),
    ("scale: which group", "INVALID", ScaleJob(namespace=D, name="running", group="", count=1)),
    ("scale: no such group", "NOT_FOUND", ScaleJob(namespace=D, name="running", group="z", count=1)),
    ("restart: no such job", "NOT_FOUND", RestartJob(namespace=D, name="nobody")),
    ("restart: being removed", "FAILED_PRECONDITION", RestartJob(namespace=D, name="removing")),
    ("restart: stopped", "FAILED_PRECONDITION", RestartJob(namespace=D, name="stopped")),
    ("remove: no such job", "NOT_FOUND", RemoveJob(namespace=D, name="nobody")),
    ("register: no identity", "INVALID", RegisterNode(node=node("n2"), identity="")),
    ("register: another's node", "PERMISSION_DENIED", RegisterNode(node=node("n1"), identity="agent:n2")),
    ("cordon: no such node", "NOT_FOUND", CordonNode(node_id="nowhere", cordoned=True)),
    ("drain: no such node", "NOT_FOUND", DrainNode(node_id="nowhere")),
    ("forget: no such node", "NOT_FOUND", ForgetNode(node_id="nowhere")),
    ("forget: it runs something", "FAILED_PRECONDITION", ForgetNode(node_id="n1")),
    ("too many marks", "INVALID", MarkNodes(lost=(NodeMark(node_id="n1", register_index=1),) * 20_001)),
    (
        "too many marks together",
        "INVALID",
        MarkNodes(
            lost=(NodeMark(node_id="n1", register_index=1),) * 10_001,
            back=(NodeMark(node_id="n1", register_index=1),) * 10_000,
        ),
    ),
    ("observe: no such node", "NOT_FOUND", RecordStatuses(node_id="nowhere", observations=())),
    ("too many observations", "INVALID", RecordStatuses(node_id="n1", observations=(SEEN,) * (MAX_COMMAND_ROWS + 1))),
    ("variable: namespace", "INVALID", WriteVariable(namespace="a b", name="v", value="x")),
    ("variable: name", "INVALID", WriteVariable(namespace=D, name="a b", value="x")),
    ("variable: too large", "INVALID", WriteVariable(namespace=D, name="v", value="x" * 11)),
    ("variable: too large in bytes", "INVALID", WriteVariable(namespace=D, name="v", value="é" * 6)),
]


def do(kit: Kit, command: Command) -> Outcome:
    """Past the codec: ``apply`` is total by itself."""
    return apply(kit.state, Entry(identity="i", request_id="", digest=b"", time_ms=kit.now_ms, command=command))


@pytest.mark.parametrize(("reason", "command"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refusal_has_its_reason_and_changes_nothing(reason: str, command: Command) -> None:
    kit = prepared()
    before = kit.state.events.after(0), dict(kit.state.jobs), dict(kit.state.nodes), dict(kit.state.variables)
    outcome = do(kit, command)
    assert isinstance(outcome, Rejected), outcome
    assert outcome.reason == reason
    assert outcome.message
    assert (kit.state.events.after(0), kit.state.jobs, kit.state.nodes, kit.state.variables) == before
    assert check(kit.state) == []


def test_conflict_says_which_version_there_is() -> None:
    kit = prepared()
    for name, expect, version in (("new", 3, "0"), ("running", 0, "1"), ("running", 7, "1")):
        outcome = do(kit, SubmitJobs(jobs=(submission(name, expect=expect),)))
        assert isinstance(outcome, Rejected)
        assert outcome.metadata == (("version", version),)


ACCEPTED: list[tuple[str, bool, Command]] = [
    ("stop", True, StopJob(namespace=D, name="running")),
    ("stop what is stopped", False, StopJob(namespace=D, name="stopped")),
    ("scale", True, ScaleJob(namespace=D, name="running", group="y", count=2)),
    ("scale to nothing", True, ScaleJob(namespace=D, name="running", group="x", count=0)),
    ("scale to the same count", False, ScaleJob(namespace=D, name="running", group="x", count=1)),
    ("restart", True, RestartJob(namespace=D, name="running")),
    ("remove", True, RemoveJob(namespace=D, name="running")),
    ("remove what is stopped", True, RemoveJob(namespace=D, name="stopped")),
    ("remove what is being removed", False, RemoveJob(namespace=D, name="removing")),
    ("register a new node", True, RegisterNode(node=node("n2"), identity="agent:n2")),
    ("register a changed node", True, RegisterNode(node=node("n1", cpu=5000), identity="agent:n1")),
    ("register again", False, RegisterNode(node=node("n1"), identity="agent:n1")),
    ("cordon", True, CordonNode(node_id="n1", cordoned=True)),
    ("uncordon what is not cordoned", False, CordonNode(node_id="n1", cordoned=False)),
    ("drain", True, DrainNode(node_id="n1")),
    ("no mark", False, MarkNodes()),
    ("the brake alone", True, MarkNodes(brake="3 of 4 nodes are silent")),
    ("mark an unknown node", False, MarkNodes(lost=(NodeMark(node_id="nowhere", register_index=1),))),
    ("no observation", False, RecordStatuses(node_id="n1", observations=())),
]


@pytest.mark.parametrize(("changed", "command"), [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_answer_says_whether_anything_changed(changed: bool, command: Command) -> None:
    kit = prepared()
    outcome = kit.ok(command)
    assert outcome.answer == WriteAnswer(changed=changed)


def test_draining_what_is_draining_changes_nothing() -> None:
    kit = prepared()
    assert kit.ok(DrainNode(node_id="n1")).answer == WriteAnswer(changed=True)
    before = kit.state.nodes["n1"]
    assert kit.ok(DrainNode(node_id="n1")).answer == WriteAnswer(changed=False)
    assert kit.state.nodes["n1"] is before


def test_bounds_of_a_request_are_part_of_what_is_allowed() -> None:
    kit = prepared()
    kit.ok(SubmitJobs(jobs=(submission("running", expect=1),)))  # at the version that it has
    kit.ok(SubmitJobs(jobs=(submission("new", expect=0),)))
    kit.ok(WriteVariable(namespace=D, name="v", value="é" * 5))  # 10 bytes
    # No character, but text as Python has it; the codec would not let it through.
    assert isinstance(do(kit, WriteVariable(namespace=D, name="v", value="\ud800")), Applied)
    marks = tuple(NodeMark(node_id="n1", register_index=99) for _ in range(10_000))
    assert isinstance(do(kit, MarkNodes(lost=marks, back=marks)), Applied)
    many = RecordStatuses(node_id="n1", observations=(SEEN,) * MAX_COMMAND_ROWS)
    assert isinstance(do(kit, many), Applied)


@pytest.mark.parametrize(
    ("time_ms", "accepted"),
    [(0, True), (281_474_976_710_656, True), (281_474_976_710_657, False), (-1, False)],
    ids=["0", "the year 10889", "later", "negative"],
)
def test_time_of_a_proposer_is_bounded(time_ms: int, accepted: bool) -> None:
    kit = Kit()
    entry = Entry(
        identity="", request_id="", digest=b"", time_ms=time_ms, command=CordonNode(node_id="n", cordoned=True)
    )
    outcome = apply(kit.state, entry)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == ("NOT_FOUND" if accepted else "INVALID")
    assert kit.state.time_ms == (time_ms if accepted else 0)


def test_only_the_group_that_is_named_is_scaled() -> None:
    kit = prepared()
    kit.ok(ScaleJob(namespace=D, name="running", group="y", count=5))
    known = kit.state.find_job(D, "running")
    assert known is not None
    assert [(part.name, part.count) for part in known.spec.groups] == [("x", 1), ("y", 5)]


def _events(kit: Kit, run: Callable[[], object]) -> list[tuple[str, str]]:
    before = kit.state.index
    run()
    return [
        (event.kind, event.job or event.node_id) for event in kit.state.events.after(before) if event.index > before
    ]


def test_each_change_of_a_job_is_told_once() -> None:
    kit = prepared()
    told = [
        _events(kit, lambda: kit.ok(RestartJob(namespace=D, name="running"))),
        _events(kit, lambda: kit.ok(ScaleJob(namespace=D, name="running", group="x", count=2))),
        _events(kit, lambda: kit.submit(job("running", group("x", image="new")))),
        _events(kit, lambda: kit.ok(StopJob(namespace=D, name="running"))),
        _events(kit, lambda: kit.submit(job("running", group("x", image="new")))),
        _events(kit, lambda: kit.ok(RemoveJob(namespace=D, name="running"))),
        _events(kit, lambda: kit.ok(RemoveJob(namespace=D, name="stopped"))),
    ]
    assert told == [
        [("job.restarted", "running")],
        [("job.scaled", "running")],
        [("job.updated", "running")],
        [("job.stopped", "running")],
        [("job.submitted", "running")],
        [("job.stopped", "running")],
        [("job.removed", "stopped")],
    ]


def test_each_change_of_a_node_is_told_once() -> None:
    kit = prepared()
    kit.observe("running/x/0", AllocState.STOPPED)
    kit.observe("removing/api/0", AllocState.STOPPED)

    def lost() -> None:
        mark = NodeMark(node_id="n1", register_index=kit.state.nodes["n1"].register_index, reason="silent")
        kit.ok(MarkNodes(lost=(mark,)))

    told = [
        _events(kit, lambda: kit.register(node("n2"))),
        _events(kit, lambda: kit.register(node("n2"))),
        _events(kit, lambda: kit.register(node("n2", cpu=7))),
        _events(kit, lambda: kit.ok(CordonNode(node_id="n1", cordoned=True))),
        _events(kit, lambda: kit.ok(DrainNode(node_id="n1"))),
        _events(kit, lambda: kit.ok(CordonNode(node_id="n1", cordoned=False))),
        _events(kit, lost),
        _events(kit, lambda: kit.register(node("n1"))),
        _events(kit, lambda: kit.ok(MarkNodes(brake="half of them"))),
        _events(kit, lambda: kit.ok(ForgetNode(node_id="n1"))),
    ]
    assert told == [
        [("node.registered", "n2")],
        [],
        [("node.registered", "n2")],
        [("node.cordoned", "n1")],
        [("node.draining", "n1")],
        [("node.uncordoned", "n1")],
        [("node.lost", "n1")],
        [("node.back", "n1")],
        [("node.braked", "")],
        [("node.forgotten", "n1")],
    ]
