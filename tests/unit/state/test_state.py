"""The state's own moves: what it finds of jobs, nodes and rows, and what it forgets with them.

That its indexes agree with the tables is checked after every command (``invariants``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.contract import health
from orchestrator.contract.batch import Origin, PeriodicSpec
from orchestrator.contract.model import (
    AllocState,
    Device,
    DeviceRequest,
    Disruption,
    GangSpec,
    GroupSpec,
    JobType,
    NodeSpec,
    Observation,
    Resources,
    Toleration,
)
from orchestrator.contract.rollouts import Rollout, RolloutStatus, UpdateSpec
from orchestrator.state.commands import (
    Action,
    DrainNode,
    ForgetNode,
    JobSubmission,
    MarkNodes,
    NodeMark,
    RecordStatuses,
    RemoveJob,
    SetFeatureLevel,
    StopJob,
    SubmitJobs,
)
from orchestrator.state.features import HIGHEST
from orchestrator.state.invariants import check
from orchestrator.state.model import Job
from orchestrator.state.snapshot import capture, restore
from orchestrator.state.state import GroupFacts, State, new_state, under_way
from tests.unit.state.kit import Kit, Placement, group, job, node

SURGING = UpdateSpec(max_surge=4, max_unavailable=0)


def the(kit: Kit, name: str = "web") -> Job:
    found = kit.state.find_job("default", name)
    assert found is not None
    return found


def api(image: str = "one", count: int = 4) -> GroupSpec:
    return replace(group("api", count, image=image), update=SURGING)


def rolling() -> Kit:
    """Four of version 1 run in rows 0 to 3, and version 2 is rolled out."""
    kit = Kit()
    kit.ok(SetFeatureLevel(level=HIGHEST))
    for name in ("n1", "n2"):
        kit.register(node(name, cpu=100_000, memory=100_000))
    submit(kit, api())
    for ordinal in range(4):
        run(kit, ordinal)
    submit(kit, api("two"))
    return kit


def submit(kit: Kit, *groups: GroupSpec) -> None:
    kit.ok(SubmitJobs(jobs=(JobSubmission(spec=job("web", *groups), uid="uid-web", remember=True),)))


def run(kit: Kit, ordinal: int) -> int:
    """Its next attempt runs; returns the row."""
    alloc = f"web/api/{ordinal}"
    assert kit.place(alloc, "n1").placed == 1
    kit.observe(alloc, AllocState.RUNNING, attempt=kit.attempts(alloc)[0])
    return kit.row(alloc)


def end(kit: Kit, alloc: str, attempt: int, how: AllocState = AllocState.STOPPED) -> None:
    kit.observe(alloc, how, attempt=attempt)


# ---------------------------------------------------------------------------- new


def test_a_new_state_is_at_the_beginning_of_everything() -> None:
    state = new_state()
    assert (state.index, state.shown_index, state.time_ms, state.cluster_id) == (0, 0, 0, "")
    assert (state.feature_level, state.epoch, state.attempt_floor) == (0, 0, 0)
    assert (state.draining, state.periodic_index) == (0, 0)
    assert check(state) == []


def test_a_refusal_is_short_enough_to_be_stored() -> None:
    refusal = new_state().reject("WHY", "x" * 3_000, b="2", a="1")
    assert (len(refusal.message), refusal.metadata) == (2_000, (("a", "1"), ("b", "2")))


# ---------------------------------------------------------------------------- jobs


def test_a_job_that_is_removed_leaves_its_place_to_the_next() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("web", group(cpu=100)), job("other"))
    kit.place("web/api/0", "n1")
    slot = the(kit).slot
    kit.ok(RemoveJob(namespace="default", name="web"))
    assert the(kit).removing
    kit.state.remove_if_done(slot)
    assert the(kit).removing, "something of it lives"
    kit.observe("web/api/0", AllocState.STOPPED)
    assert kit.state.find_job("default", "web") is None
    assert kit.state.table.count == 0
    assert [(one.kind, one.job) for one in kit.state.events.after(0)][-1] == ("job.removed", "web")
    kit.state.remove_if_done(slot)
    kit.submit(job("new", group(cpu=777)))
    assert the(kit, "new").slot == slot
    (facts,) = kit.state.facts(the(kit, "new"))
    assert facts.cpu_millis == 777


ORIGIN = Origin(job="nightly", uid="u", version=1)
PERIODIC = PeriodicSpec(cron=("@daily",))


def test_templates_and_their_runs_are_found_and_forgotten_with_them() -> None:
    kit = Kit()
    template = replace(job("nightly", kind=JobType.BATCH), periodic=PERIODIC)
    kit.submit(job("plain"))
    assert (kit.state.periodic, kit.state.periodic_index) == ({}, 0)
    kit.submit(template)
    first = kit.state.index
    assert (list(kit.state.periodic), kit.state.periodic_index) == ([the(kit, "nightly").slot], first)
    kit.submit(job("plain", group(image="two")))
    assert kit.state.periodic_index == first
    names = [f"nightly/periodic-{number}" for number in (3, 1, 2)]
    for name in names:
        kit.state.put_job(
            replace(
                the(kit, "plain"),
                uid=name,
                slot=kit.state.take_job_slot(),
                create_index=kit.state.index + len(name),
                spec=replace(job(name, kind=JobType.BATCH), origin=ORIGIN),
            )
        )
    kit.state.put_job(replace(the(kit, names[0]), create_index=1_000))
    assert [one.spec.name for one in kit.state.runs_of("default", "nightly")] == [names[1], names[2], names[0]]
    assert kit.state.runs_of("default", "plain") == kit.state.runs_of("elsewhere", "nightly") == []
    kit.state.remove_job(the(kit, names[1]))
    assert [one.spec.name for one in kit.state.runs_of("default", "nightly")] == [names[2], names[0]]
    for name in (names[0], names[2]):
        kit.state.remove_job(the(kit, name))
    assert kit.state.children == {}
    kit.submit(job("nightly", kind=JobType.BATCH))
    assert kit.state.periodic == {}, "it is no template any more"
    kit.submit(template)
    kit.ok(RemoveJob(namespace="default", name="nightly"))
    assert kit.state.periodic == {}


def test_a_version_is_known_as_long_as_a_row_is_of_it() -> None:
    kit = rolling()
    assert [version for version, _ in the(kit).specs] == [1, 2]
    assert [kit.state.spec_of(the(kit), version).groups[0].tasks[0].image for version in (1, 2, 9)] == [
        "one", "two", "two",
    ]  # fmt: skip
    submit(kit, api("three"))
    kit.place("web/api/0", "n2")
    submit(kit, api("four"))
    submit(kit, api("five"))
    assert [version for version, _ in the(kit).specs] == [1, 3, 4, 5], "4 is the one before"
    end(kit, "web/api/0", 2)
    assert [version for version, _ in the(kit).specs] == [1, 3, 4, 5]
    kit.state.drop_rows(np.array([4], dtype=np.int32))
    assert [version for version, _ in the(kit).specs] == [1, 4, 5]


def test_what_checking_a_placement_needs_is_summed_over_the_tasks() -> None:
    (task,) = group().tasks
    need = Resources(cpu_millis=1, memory_mib=2, disk_mib=3, custom=(("licenses", 4),))
    gpus = DeviceRequest(count=2, gpu_millis=500)
    none = DeviceRequest(count=0, gpu_millis=500)
    one = replace(group("one", 3, ports=(0, 80)), tasks=(replace(task, resources=need),), gang=GangSpec())
    two = replace(one, name="two", ports=(), gang=None, tolerations=(Toleration(key="b"),), tasks=(
        replace(task, resources=need), replace(task, name="second", resources=replace(need, gpus=gpus)),
    ))  # fmt: skip
    bare = replace(group("bare", cpu=1), tasks=(replace(task, resources=Resources(gpus=none)),))
    kit = Kit()
    kit.submit(replace(job("web", one, two, bare), tolerations=(Toleration(key="a"),)))
    gids = [kit.state.ordinals.gids[(the(kit).slot, name)] for name in ("one", "two", "bare")]
    a, b = Toleration(key="a"), Toleration(key="b")
    assert kit.state.facts(the(kit)) == (
        GroupFacts(gids[0], 3, 1, 2, 3, 0, 0, (0, 80), None, GangSpec(), (("licenses", 4),), (a,)),
        GroupFacts(gids[1], 3, 2, 4, 6, 2, 500, (), gpus, None, (("licenses", 8),), (a, b)),
        GroupFacts(gids[2], 1, 0, 0, 0, 0, 0, (), None, None, (), (a,)),
    )
    older = replace(the(kit), version=9, spec=replace(the(kit).spec, groups=(bare,)))
    assert len(kit.state.facts(older)) == 1, "of another version"
    assert len(kit.state.facts(the(kit))) == 3
    assert kit.state.facts(the(kit)) is kit.state.facts(the(kit)), "once per version"


# ---------------------------------------------------------------------------- nodes


def gpu(*numbers: int) -> tuple[Device, ...]:
    return tuple(Device(id=f"GPU-{number}") for number in numbers)


def machine(name: str, *numbers: int, engine: str = "e") -> NodeSpec:
    return replace(node(name, engine=engine), devices=(*gpu(*numbers), Device(id="declared")))


def lose(kit: Kit, name: str) -> None:
    mark = NodeMark(node_id=name, register_index=kit.state.nodes[name].register_index)
    kit.ok(MarkNodes(lost=(mark,)))


def test_real_devices_are_found_where_they_are_now() -> None:
    kit = Kit()
    kit.register(machine("n1", 1, 2))
    kit.register(machine("n2", 3))
    assert kit.state.device_nodes == {"GPU-1": [0], "GPU-2": [0], "GPU-3": [1]}
    kit.register(machine("n1", 2, 4))
    assert kit.state.device_nodes == {"GPU-2": [0], "GPU-4": [0], "GPU-3": [1]}
    lose(kit, "n1")
    kit.ok(ForgetNode(node_id="n1"))
    assert kit.state.device_nodes == {"GPU-3": [1]}


def test_a_forgotten_node_keeps_its_place_while_rows_speak_of_it() -> None:
    kit = Kit()
    kit.register(machine("n1"))
    kit.register(machine("n2"))
    kit.submit(job("web", group(count=2)))
    kit.place("web/api/0", "n1")
    end(kit, "web/api/0", 1, AllocState.FAILED)
    lose(kit, "n1")
    kit.ok(ForgetNode(node_id="n1"))
    assert (list(kit.state.forgotten), kit.state.engine_nodes) == ([0], {"e": [0, 1]})
    kit.register(machine("n3"))
    assert kit.state.nodes["n3"].slot == 2
    kit.state.drop_rows(np.array([0], dtype=np.int32))
    assert (kit.state.forgotten, sorted(kit.state.node_at), kit.state.engine_nodes) == ({}, [1, 2], {"e": [1, 2]})
    kit.register(machine("n4"))
    assert kit.state.nodes["n4"].slot == 0
    lose(kit, "n4")
    kit.ok(ForgetNode(node_id="n4"))
    assert (kit.state.forgotten, sorted(kit.state.node_at)) == ({}, [1, 2])


def test_nodes_that_drain_are_counted() -> None:
    kit = Kit()
    for name in ("n1", "n2"):
        kit.register(node(name))
        kit.submit(job(name, group(count=1)))
        kit.place(f"{name}/api/0", name)
        kit.ok(DrainNode(node_id=name))
    assert kit.state.draining == 2
    kit.ok(DrainNode(node_id="n1", cancel=True))
    assert kit.state.draining == 1
    kit.register(node("n2"))
    lose(kit, "n2")
    kit.lose("n2/api/0")
    kit.ok(ForgetNode(node_id="n2"))
    assert kit.state.draining == 0


# ---------------------------------------------------------------------------- rows


def paired() -> Kit:
    """Of 0 the first and the second attempt live, of 1 only the second, of 2 only the first (its second has ended), of
    3 there was one."""
    kit = rolling()
    for ordinal in (0, 1, 2):
        run(kit, ordinal)
    end(kit, "web/api/1", 1)
    end(kit, "web/api/2", 2)
    return kit


def seen(state: State, rows: Sequence[int]) -> list[tuple[int, int]]:
    """(ordinal, attempt) of each."""
    return [(int(state.table.ordinal[row]), int(state.table.attempt[row])) for row in rows]


@pytest.mark.parametrize("stopping", [False, True])
@pytest.mark.parametrize("restored", [False, True])
def test_of_instances_with_two_attempts_those_that_live_and_those_that_count_are_found(
    stopping: bool, restored: bool
) -> None:
    kit = paired()
    if stopping:
        for attempt in (1, 2):
            kit.plan(actions=[(Action.STOP, f"web/api/0#{attempt}", "no more")])
            kit.observe("web/api/0", AllocState.STOPPING, attempt=attempt)
        kit.stop("web/api/2")
        kit.observe("web/api/2", AllocState.STOPPING, attempt=1)
    kit.submit(job("plain", group(count=2)))
    kit.place("plain/api/1", "n1")
    state = restore(capture(kit.state)) if restored else kit.state
    slot, gid = the(kit).slot, state.ordinals.gids[(the(kit).slot, "api")]
    assert seen(state, state.live_rows(slot).tolist()) == [(0, 2), (1, 2), (2, 1), (3, 1), (0, 1)]
    assert seen(state, state.seconds(state.ordinals.rows(gid)).tolist()) == [(0, 1)]
    counting = state.rows_that_count([gid]).tolist()
    assert seen(state, counting) == [(0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (3, 1)]
    every = seen(state, state.job_rows(slot).tolist())
    assert every == [(0, 2), (1, 2), (2, 1), (3, 1), (0, 1), (1, 1), (2, 2)]
    plain = state.ordinals.gids[(the(kit, "plain").slot, "api")]
    assert seen(state, state.rows_that_count([plain]).tolist()) == [(1, 1)]
    assert seen(state, state.live_rows(the(kit, "plain").slot).tolist()) == [(1, 1)]
    assert gid in state.ordinals.paired
    assert plain not in state.ordinals.paired
    assert state.live_rows(99).tolist() == state.job_rows(99).tolist() == []


def test_the_attempts_of_an_instance_are_in_order_the_live_ones_first() -> None:
    kit = rolling()
    run(kit, 1)
    end(kit, "web/api/1", 2, AllocState.FAILED)
    assert kit.attempts("web/api/1") == [1, 2]
    run(kit, 1)
    assert kit.attempts("web/api/1") == [3, 1, 2]
    end(kit, "web/api/1", 1)
    assert kit.attempts("web/api/1") == [3, 2, 1]
    end(kit, "web/api/1", 3)
    assert kit.attempts("web/api/1") == [3, 2, 1]
    run(kit, 1)
    assert kit.attempts("web/api/1") == [4, 3, 2, 1]
    assert check(kit.state) == []


def test_a_pair_that_is_not_known_as_one_is_found_by_the_invariants() -> None:
    kit = paired()
    kit.state.ordinals.paired.clear()
    assert any("two attempts" in problem for problem in check(kit.state))


def test_forgotten_attempts_leave_the_others_in_their_order() -> None:
    kit = rolling()
    for attempt in (2, 3, 4):
        run(kit, 0)
        end(kit, "web/api/0", attempt)
    assert kit.attempts("web/api/0") == [1, 4, 3, 2]
    chain = [kit.row("web/api/0")]
    while kit.state.table.prev[chain[-1]] >= 0:
        chain.append(int(kit.state.table.prev[chain[-1]]))
    kit.state.drop_rows(np.array([], dtype=np.int32))
    kit.state.drop_rows(np.array([chain[1], chain[2]], dtype=np.int32))
    assert kit.attempts("web/api/0") == [1, 2]
    assert kit.attempts("web/api/1") == [1]
    assert check(kit.state) == []


def test_rows_of_lost_nodes_are_found_at_every_index() -> None:
    kit = Kit()
    for name in ("n1", "n2", "n3"):
        kit.register(node(name, cpu=10_000, memory=10_000))
    kit.submit(job("web", group(count=6)))
    kit.plan(*(Placement(f"web/api/{ordinal}", f"n{1 + ordinal % 3}") for ordinal in range(6)))
    assert kit.state.lost_rows([0, 1, 2]).tolist() == []
    for name in ("n1", "n3"):
        lose(kit, name)
    for ordinal in (5, 0, 2):
        kit.lose(f"web/api/{ordinal}")
    assert [kit.state.lost_rows([slot]).tolist() for slot in (0, 1, 2)] == [[0], [], [2, 5]]
    assert kit.state.lost_rows([2, 0]).tolist() == [0, 2, 5]
    assert kit.state.lost_rows([]).tolist() == []
    kit.lose("web/api/3")
    assert kit.state.lost_rows([2, 0]).tolist() == [0, 2, 3, 5]
    kit.state.drop_rows(np.array([2], dtype=np.int32))
    kit.do(SetFeatureLevel(level=HIGHEST))
    assert kit.state.lost_rows([2, 0]).tolist() == [0, 3, 5]


def test_what_has_ended_has_no_health_and_its_agent_heard_of_it() -> None:
    kit = rolling()
    word = health.word(5, True)
    mine = Observation(key=kit.key("web/api/1", 1), restarts=0, state=AllocState.RUNNING, health=word)
    kit.ok(RecordStatuses(node_id="n1", observations=(mine,)))
    assert kit.state.table.healths() == {1: word}
    end(kit, "web/api/1", 1)
    assert kit.state.table.healths() == {}
    row = run(kit, 1)
    assert int(kit.state.table.told[row]) == int(kit.state.table.create_index[row]) == kit.state.index - 1


# ---------------------------------------------------------------------------- what there is to decide


@pytest.mark.parametrize(
    ("change", "news"),
    [
        ("nothing", False),
        ("drain", True),
        ("version", True),
        ("budget", True),
        ("rollout", True),
    ],
)
def test_that_something_runs_is_news_to_a_job_that_changes_or_may_not_lose_more(change: str, news: bool) -> None:
    kit = Kit()
    for name in ("n1", "n2"):
        kit.register(node(name, cpu=10_000, memory=10_000))
    spec = job("web", group(count=2))
    kit.submit(replace(spec, disruption=Disruption()) if change == "budget" else spec)
    kit.plan(Placement("web/api/0", "n1"), Placement("web/api/1", "n1"))
    if change == "version":
        kit.submit(job("web", group(count=2, image="two")))
    if change == "drain":
        kit.ok(DrainNode(node_id="n2"))
    if change == "rollout":
        rollout = Rollout(version=1, began_version=1, status=RolloutStatus.RUNNING)
        kit.state.put_job(replace(the(kit), rollout=rollout))
    kit.observe("web/api/0", AllocState.RUNNING)
    assert (kit.state.changes.since(kit.state.index - 1) == [the(kit).slot]) is news


def test_only_a_rollout_that_runs_is_under_way() -> None:
    assert not under_way(None)
    found = [Rollout(version=1, began_version=1, status=status) for status in RolloutStatus]
    assert [one.status for one in found if under_way(one)] == [RolloutStatus.RUNNING]


# ---------------------------------------------------------------------------- from a snapshot


def rich() -> Kit:
    kit = paired()
    kit.register(machine("n3", 1, 2))
    kit.register(replace(node("n4", licenses=9), engine_id="e"))
    kit.submit(job("paying", group("plain", 1), group(count=3, licenses=2)), job("gone"))
    kit.submit(replace(job("nightly", kind=JobType.BATCH), periodic=PERIODIC))
    kit.place("gone/api/0", "n3")
    end(kit, "gone/api/0", 1, AllocState.FAILED)
    kit.place("paying/api/0", "n4")
    kit.place("paying/plain/0", "n4")
    kit.place("paying/api/2", "n4")
    end(kit, "paying/api/2", 1, AllocState.FAILED)
    kit.ok(DrainNode(node_id="n2"))
    lose(kit, "n3")
    kit.ok(ForgetNode(node_id="n3"))
    kit.ok(StopJob(namespace="default", name="gone"))
    return kit


def test_all_that_is_not_stored_is_made_anew_from_what_is() -> None:
    """Twice: what stood in the indexes before is gone."""
    kit = rich()
    mine = kit.state
    again = restore(capture(mine))
    for place in range(2):
        for name in ("job_at", "job_names", "node_at", "node_names", "engine_nodes", "device_nodes", "children",
                     "periodic", "draining", "forgotten", "_version_rows"):  # fmt: skip
            assert getattr(again, name) == getattr(mine, name), name
        rows = mine.table.used()
        assert again.table.prev[rows].tolist() == mine.table.prev[rows].tolist()
        assert all(again.ordinals.rows(gid).tolist() == mine.ordinals.rows(gid).tolist() for gid in mine.ordinals.names)
        assert again.ordinals.paired == mine.ordinals.paired
        assert again.table.custom == mine.table.custom
        assert len(again.table.custom) == 2
        assert (again.table.told[rows] == mine.index).all(), "every agent hears of all again"
        assert again.changes.since(mine.index - 1) is None, "every job is looked at again"
        assert (again.take_job_slot(), again.take_node_slot()) == (len(mine.jobs), 4)
        assert check(again) == []
        if not place:
            again.children[("default", "x")], again.periodic[77], again._version_rows[7, 7] = {7: None}, None, 7
            again.node_names["x"], again.engine_nodes["x"], again.device_nodes["x"] = [7], [7], [7]
            again.table.custom[0] = (("licenses", 7),)
            again.ledger.cpu_millis[0] += 7
            again.draining = 7
            again.table.prev[rows] = rows
            again.rebuild()
