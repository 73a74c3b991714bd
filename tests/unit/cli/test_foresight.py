"""``plan``, ``what-if``, ``rebalance`` and ``why --at``: what they ask, what they print, what they exit with."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from orchestrator.cli import rebalance as rebalance_module
from orchestrator.cli.past import parse_moment
from orchestrator.contract import answers, foresight, model
from orchestrator.contract.errors import NotFoundError, OutOfRangeError, PreconditionError
from orchestrator.contract.foresight import Balance, FieldChange, Move, Outcome, PendingGroup, Rebalance, WhatIf
from orchestrator.contract.model import AllocationId, AllocState
from tests.unit.cli.conftest import Cli
from tests.unit.client.fake import FakePeer, World

WEB = AllocationId(namespace="default", job="web", group="main", ordinal=0)
MOVED = Outcome(
    id=WEB, kind="moved", from_node="one", to_node="two", to_devices=("gpu-3",), reason="its node is drained"
)
WAITS = answers.GroupExplanation(
    group="main",
    pending=2,
    rejections=(answers.Rejection(constraint="cpu", text="cpu: short by 300m at best (one)", nodes=2),),
    remedy=(
        answers.RemedyStep(kind="request", what="cpu_millis", before="500", after="200", text="ask for 300m less cpu"),
    ),
    remedy_node="one",
    blocked_by="quota",
    blocked_text="namespace default has 4 of 4 cores",
    remarks=("waiting for 2 allocations to stop on one",),
)


@pytest.fixture
def job_file(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text("name: web\nimage: nginx\n")
    return str(path)


# ---------------------------------------------------------------------------- plan


def planned(world: World, change: str) -> None:
    world.plan = foresight.JobPlan(
        change=change,
        version=3,
        next_version=3 if change == "none" else 4,
        fields=(
            ()
            if change == "none"
            else (
                FieldChange(path="groups.main.tasks.main.image", kind="changed", before="nginx:1", after="nginx"),
                FieldChange(path="groups.main.tasks.main.env.A", kind="added", after="1"),
                FieldChange(path="groups.old", kind="removed"),
            )
        ),
        what_if=WhatIf(outcomes=() if change == "none" else (MOVED,)),
    )


def test_a_plan_shows_fields_and_places_and_writes_nothing(
    cli: Cli, world: World, peer: FakePeer, job_file: str
) -> None:
    planned(world, "update")
    code, out, err = cli("plan", job_file)
    assert (code, err) == (0, "")
    for line in (
        "~ job web would change (version 3 -> 4)",
        "  ~ groups.main.tasks.main.image: nginx:1 -> nginx",
        "  + groups.main.tasks.main.env.A: 1",
        "  - groups.old",
        "1 moved; pending 0 -> 0; nodes in use 0 -> 0.",
    ):
        assert line in out.splitlines()
    assert "gpu-3" in out
    assert "raftsman run" in out
    assert "--expect-version 3" in out
    assert world.writes == 0
    assert [method for method, _ in peer.calls] == ["PlanJob"]


def test_the_time_that_a_change_takes_is_told(cli: Cli, world: World, job_file: str) -> None:
    planned(world, "update")
    assert "It takes" not in cli("plan", job_file)[1]
    world.plan = replace(world.plan, what_if=replace(world.plan.what_if, takes_ms=95_000))
    said = cli("plan", job_file)[1].splitlines()
    assert "It takes 95s at least, beside starting and stopping: somebody waits for time." in said


@pytest.mark.parametrize(("change", "expected"), [("none", 0), ("create", 1), ("update", 1), ("restart", 1)])
def test_the_exit_code_of_a_plan_says_whether_something_changes(
    cli: Cli, world: World, job_file: str, change: str, expected: int
) -> None:
    planned(world, change)
    assert cli("plan", job_file, "--exit-code")[0] == expected
    assert cli("plan", job_file)[0] == 0


def test_an_error_is_not_taken_for_a_change(
    cli: Cli, world: World, peer: FakePeer, job_file: str, tmp_path: Path
) -> None:
    planned(world, "update")
    peer.fail("PlanJob", NotFoundError("nothing"), NotFoundError("nothing"))
    code, _, err = cli("plan", job_file, "--exit-code")
    assert (code, err) == (255, "raftsman: nothing\n")
    assert cli("plan", job_file)[0] == 1
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: web\nimagee: nginx\n")
    code, _, err = cli("plan", str(bad), "--exit-code")
    assert code == 2
    assert "did you mean 'image'?" in err


def test_structured_answers_hold_everything(cli: Cli, world: World, job_file: str) -> None:
    planned(world, "update")
    value = json.loads(cli("plan", job_file, "-o", "json")[1])
    assert value["change"] == "update"
    assert value["fields"][0]["path"] == "groups.main.tasks.main.image"
    assert value["what_if"]["outcomes"][0]["to_node"] == "two"
    assert cli("plan", job_file, "-o", "name")[1] == "web/main/0\n"


# ---------------------------------------------------------------------------- what-if


def asked(peer: FakePeer) -> Any:
    ((_, request),) = peer.calls
    (change,) = request.changes
    return change


def test_what_if_says_who_moves_and_who_waits_and_why(cli: Cli, world: World, peer: FakePeer) -> None:
    world.what_if = WhatIf(
        outcomes=(MOVED, replace(MOVED, kind="stopped", to_node="", anyway=True)),
        pending=(PendingGroup(namespace="default", job="big", before=0, after=2, why=WAITS),),
        pending_after=2,
        nodes_used_before=2,
        nodes_used_after=1,
    )
    code, out, _ = cli("what-if", "drain", "one")
    assert code == 0
    assert "1 moved (1 more would change anyway); pending 0 -> 2; nodes in use 2 -> 1." in out
    assert "smallest change: ask for 300m less cpu; then it fits on one" in out
    assert "held back by quota: namespace default has 4 of 4 cores" in out
    assert "\n  waiting for 2 allocations to stop on one\n" in out
    assert asked(peer).drain == "one"
    assert world.writes == 0


def test_an_answer_that_is_not_complete_says_so(cli: Cli, world: World) -> None:
    world.what_if = WhatIf(settled=False, rounds=7)
    assert "did not come to rest within 7 rounds" in cli("what-if", "lose", "one")[1]


def test_a_new_node_is_written_in_one_line_in_a_file_or_as_one_like_another(
    cli: Cli, peer: FakePeer, tmp_path: Path
) -> None:
    line = "cpu=8,memory=32Gi,gpus=4xA100:40Gi,labels=zone=b;rack=r1,drivers=docker"
    assert cli("what-if", "add-node", line, "--count", "3")[0] == 0
    change = asked(peer)
    assert change.count == 3
    spec = change.add_node
    assert (spec.capacity.cpu_millis, spec.capacity.memory_mib) == (8_000, 32_768)
    assert [(one.model, one.memory_mib) for one in spec.devices] == [("A100", 40_960)] * 4
    assert dict(spec.labels) == {"zone": "b", "rack": "r1"}
    assert list(spec.drivers) == ["docker"]

    peer.calls.clear()
    path = tmp_path / "node.yaml"
    path.write_text(
        "cpu: 8\nmemory: 32Gi\ngpus: {count: 4, model: A100, memory: 40Gi}\nlabels: {zone: b, rack: r1}\n"
        "drivers: [docker]\n"
    )
    assert cli("what-if", "add-node", str(path))[0] == 0
    assert asked(peer).add_node == spec

    peer.calls.clear()
    assert cli("what-if", "add-node", "like", "one")[0] == 0
    assert asked(peer).like == "one"


@pytest.mark.parametrize(
    "text", ["cpu: " + "[" * 100_000, "cpu: 2020-99-99", "cpu: [", "- 1"], ids=lambda text: text[:12]
)
def test_a_nodes_file_that_is_none_is_refused_by_name(cli: Cli, tmp_path: Path, text: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(text)
    code, out, err = cli("what-if", "add-node", str(path))
    assert (code, out) == (2, "")
    assert err.startswith(f"raftsman: {path}: ")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("cpu=8", "memory: is missing"),
        ("cpu=8,memory=32", "did you mean 32Mi?"),
        ("cpu=8,memory=1Gi,gpu=4", "gpu: unknown key; did you mean 'gpus'?"),
        ("cpu=8,memory=1Gi,gpus=many", "expected a count"),
        ("cpu=8,memory=1Gi,gpus=0x10", "expected a count"),
        ("cpu=8,memory=1Gi,gpus=0xA100", "expected a count"),
        ("cpu=8,memory=1Gi,gpus=²", "expected a count"),
        ("cpu=8,memory=1Gi,labels=zone", "labels: expected NAME=VALUE"),
        ("cpu=8,cpu=9,memory=1Gi", "cpu: is there twice"),
        ("big", "expected KEY=VALUE pairs"),
        ("missing.yaml", "cannot read missing.yaml"),
    ],
)
def test_a_node_that_cannot_be_read_is_refused_with_the_key(cli: Cli, peer: FakePeer, spec: str, words: str) -> None:
    code, out, err = cli("what-if", "add-node", spec)
    assert (code, out) == (2, "")
    assert words in err
    assert peer.calls == []


def test_submit_sends_the_job(cli: Cli, peer: FakePeer, job_file: str) -> None:
    assert cli("what-if", "submit", job_file)[0] == 0
    assert asked(peer).submit.name == "web"


# ---------------------------------------------------------------------------- rebalance


def one_of(ordinal: int, node: str, attempt: int = 1, state: AllocState = AllocState.RUNNING) -> model.Allocation:
    return model.Allocation(
        id=replace(WEB, ordinal=ordinal), job_uid="u", attempt=attempt, node_id=node, node_name=node, state=state
    )


def move_of(ordinal: int, to: str = "two", attempt: int = 1) -> Move:
    return Move(id=replace(WEB, ordinal=ordinal), attempt=attempt, from_node="one", to_node=to)


BEFORE, AFTER = Balance(nodes_used=2, nodes=3, highest=700_000), Balance(nodes_used=1, nodes=3, highest=900_000)


@pytest.fixture
def uneven(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Two instances on node one that go to node two as soon as they are told to."""
    monkeypatch.setattr(rebalance_module, "PAUSE_S", 0.0)
    monkeypatch.setattr(rebalance_module, "POLL_S", 0.0)
    world.allocations = [one_of(0, "one"), one_of(1, "one")]
    world.rebalances = [
        Rebalance(moves=(move_of(0), move_of(1)), before=BEFORE, after=AFTER),
        Rebalance(before=AFTER, after=AFTER),
    ]
    lands(world)
    return world


def lands(world: World, node: str = "two", state: AllocState = AllocState.RUNNING) -> None:
    def go(id: model.AllocationId) -> None:
        world.allocations = [
            one if one.id != id else one_of(id.ordinal, node, one.attempt + 1, state) for one in world.allocations
        ]

    world.on_move = go


def moved(peer: FakePeer) -> list[int]:
    return [request.id.ordinal for method, request in peer.calls if method == "MoveAllocation"]


def test_a_dry_run_shows_moves_and_measures_and_moves_nothing(cli: Cli, uneven: World, peer: FakePeer) -> None:
    code, out, _ = cli("rebalance", "--dry-run", "--goal", "spread", "--moves", "7")
    assert code == 0
    assert [line.split() for line in out.splitlines()][1:3] == [
        ["web/main/0", "one", "two"],
        ["web/main/1", "one", "two"],
    ]
    assert ["nodes", "in", "use", "2", "of", "3", "1", "of", "3"] in [line.split() for line in out.splitlines()]
    ((_, request),) = peer.calls
    assert (request.goal, request.moves_max) == ("spread", 7)
    assert uneven.writes == 0


def test_moves_are_made_one_after_the_other(cli: Cli, uneven: World, peer: FakePeer) -> None:
    code, out, err = cli("rebalance", "-y", "-o", "json")
    assert code == 0
    assert moved(peer) == [0, 1]
    assert "web/main/0: one -> two (1 done)" in err
    value = json.loads(out)
    assert [one["to_node"] for one in value["moves"]] == ["two", "two"]
    assert (value["before"]["nodes_used"], value["after"]["nodes_used"]) == (2, 1)
    methods = [method for method, _ in peer.calls]
    assert methods.index("GetAllocation") < len(methods) - 1 - methods[::-1].index("MoveAllocation"), (
        "no waiting between"
    )


def test_without_a_terminal_it_takes_a_yes(cli: Cli, uneven: World, peer: FakePeer) -> None:
    code, _, err = cli("rebalance")
    assert code == 2
    assert "Repeat with -y" in err
    assert moved(peer) == []


def test_what_lands_elsewhere_has_the_rest_worked_out_afresh(cli: Cli, uneven: World, peer: FakePeer) -> None:
    lands(uneven, "three")
    uneven.rebalances.insert(1, Rebalance(before=BEFORE, after=BEFORE))
    code, out, _ = cli("rebalance", "-y", "-o", "name")
    assert (code, out) == (0, "web/main/0\n")
    assert moved(peer) == [0]


def test_a_move_that_is_refused_has_the_rest_worked_out_afresh(cli: Cli, uneven: World, peer: FakePeer) -> None:
    peer.fail("MoveAllocation", PreconditionError("web/main/0 cannot move: one at a time"))
    uneven.rebalances.insert(1, Rebalance(moves=(move_of(1),), before=BEFORE, after=AFTER))
    code, _, err = cli("rebalance", "-y")
    assert code == 0
    assert "one at a time; working out the rest afresh" in err
    assert moved(peer) == [0, 1]  # the first of them was refused


def test_a_cluster_that_refuses_for_ever_ends_it(cli: Cli, uneven: World, peer: FakePeer) -> None:
    uneven.rebalances = uneven.rebalances[:1]
    peer.fail("MoveAllocation", *[PreconditionError("no")] * 50)
    code, _, err = cli("rebalance", "-y")
    assert code == 1
    assert "changes too fast" in err
    assert len(moved(peer)) == rebalance_module.REFUSALS_MAX


@pytest.mark.parametrize(
    ("state", "attempt", "expected"),
    [(AllocState.FAILED, 2, 4), (AllocState.STARTING, 2, 5), (AllocState.STOPPED, 1, 3)],
)
def test_an_instance_that_does_not_come_up_ends_it(
    cli: Cli, uneven: World, peer: FakePeer, state: AllocState, attempt: int, expected: int
) -> None:
    uneven.on_move = lambda id: uneven.allocations.__setitem__(0, one_of(0, "two", attempt, state))
    code, _, err = cli("rebalance", "-y", "--timeout", "200ms")
    assert code == expected
    assert "web/main/0" in err
    assert moved(peer) == [0], "nothing more is moved then"


def test_no_move_is_said_and_is_no_failure(cli: Cli, world: World) -> None:
    world.rebalances = [Rebalance(before=AFTER, after=AFTER)]
    code, out, _ = cli("rebalance")
    assert code == 0
    assert "No move would make it better." in out
    world.rebalances = [Rebalance(more=True)]
    assert "No move would make it better within --moves and --timeout." in cli("rebalance")[1]
    world.rebalances = [Rebalance(note="the cluster is on the move")]
    assert "Nothing to show: the cluster is on the move." in cli("rebalance")[1]


# ---------------------------------------------------------------------------- why --at

NOW = datetime(2026, 5, 6, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "index", "moment"),
    [
        ("1234", 1234, None),
        ("11:30", 0, NOW.replace(hour=11, minute=30)),
        ("11:30:15", 0, NOW.replace(hour=11, minute=30, second=15)),
        ("23:00", 0, NOW.replace(day=5, hour=23)),
        ("5m", 0, NOW - timedelta(minutes=5)),
        ("1h30m ago", 0, NOW - timedelta(minutes=90)),
        ("2026-05-01T10:00", 0, datetime(2026, 5, 1, 10, tzinfo=UTC)),
        ("2026-05-01T10:00:00+02:00", 0, datetime(2026, 5, 1, 8, tzinfo=UTC)),
    ],
)
def test_moments_as_people_write_them(text: str, index: int, moment: datetime | None) -> None:
    expected = 0 if moment is None else int(moment.timestamp() * 1000)
    assert parse_moment(text, NOW) == (index, expected)


@pytest.mark.parametrize("text", ["yesterday", "0", "25:00", "", "-3", "9" * 30, "99999999999999d"])
def test_other_moments_are_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="--at"):
        parse_moment(text, NOW)


def test_why_then_says_what_was_in_the_way_and_what_is_known(cli: Cli, world: World, peer: FakePeer) -> None:
    span = foresight.KnownSpan(first_index=7, first_time_ms=1_000, last_index=90, last_time_ms=9_000)
    read = answers.ReadInfo(peer_id="p2", index=90)
    world.past = foresight.PastExplanation(groups=(WAITS,), index=42, time_ms=5_000, known=(span,), read=read)
    code, out, _ = cli("why", "web", "--at", "42")
    assert code == 0
    assert "At index 42 (" in out
    assert "2 nodes: cpu: short by 300m at best (one)" in out
    assert "Peer p2 knows this from index 7 (" in out
    assert ") on." in out
    world.past = replace(world.past, read=replace(read, index=91))
    assert ") to 90." in cli("why", "web", "--at", "42")[1]
    request = peer.calls[0][1]
    assert (request.job.name, request.at_index, request.at_time_ms) == ("web", 42, 0)
    assert json.loads(cli("why", "web", "--at", "42", "-o", "json")[1])["known"][0]["first_index"] == 7
    peer.fail("ExplainPast", OutOfRangeError("p1 knows from index 7 (...) to 90"))
    code, _, err = cli("why", "web", "--at", "3")
    assert (code, err) == (1, "raftsman: p1 knows from index 7 (...) to 90\n")


@pytest.mark.parametrize("command", [("why", "web"), ("what-if", "drain", "one"), ("rebalance", "--dry-run")])
def test_without_a_majority_one_peer_works_it_out_from_what_it_knows(
    cli: Cli, peer: FakePeer, world: World, command: tuple[str, ...]
) -> None:
    world.rebalances = [Rebalance(before=BEFORE, after=BEFORE)]
    peer.no_quorum = True
    code, _, err = cli(*command, "--timeout", "300ms")
    assert code == 0
    assert "no leader: this is what peer p1 knows (4.2 s old)" in err
