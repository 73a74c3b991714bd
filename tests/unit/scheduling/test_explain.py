"""``why``: the words for what keeps a group without a node, or from running."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from orchestrator.contract.answers import GroupExplanation
from orchestrator.contract.model import (
    AllocState,
    Constraint,
    ConstraintOperator,
    DeviceRequest,
    JobType,
    NodeStatus,
    OnDisconnect,
)
from orchestrator.plan import explain
from orchestrator.scheduling import registry
from orchestrator.scheduling.explain import amount, first_refusal
from orchestrator.scheduling.filters import has_room, suitable
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import wish_of
from tests.effort import examples
from tests.properties.test_scheduling import clusters
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec

NOW = 1_000_000


def why(cluster: Cluster, job: str, group: int = 0) -> GroupExplanation:
    return explain(cluster.view(), f"uid-{job}", NOW)[group]


def texts(explanation: GroupExplanation) -> dict[str, int]:
    return {rejection.text: rejection.nodes for rejection in explanation.rejections}


def test_an_unknown_job_has_no_explanation() -> None:
    assert explain(Cluster().view(), "nobody", NOW) == ()


def test_no_nodes_at_all_is_said_with_the_way_to_have_one() -> None:
    cluster = Cluster()
    cluster.job("web")
    said = why(cluster, "web")
    assert said.pending == 1
    assert said.summary == "1 without a node: there are no nodes"
    assert said.hint == "start an agent: `raftsman agent`"


def test_a_placement_that_the_leader_does_not_have_is_said() -> None:
    cluster = Cluster()
    cluster.node("a")
    job = cluster.job("web", group_spec(cpu=100), placement="from-elsewhere")
    said = "placement from-elsewhere is not installed on the leading peer: placed by binpack"
    assert said in why(cluster, "web").summary
    cluster.change(job, spec=replace(job.spec, placement="spread"))
    assert "not installed" not in why(cluster, "web").summary


def test_each_node_is_counted_under_the_first_thing_that_rules_it_out() -> None:
    cluster = Cluster()
    for at in range(3):
        cluster.node(f"small-{at}", memory=1024 + at, labels={"zone": "b"})
    cluster.node("big", memory=6000, labels={"zone": "b"})
    cluster.node("elsewhere", labels={"zone": "a"})
    cluster.node("nowhere")
    cluster.node("leaving", draining=True)
    cluster.node("gone", status=NodeStatus.LOST)
    in_b = Constraint(attribute="zone", operator=ConstraintOperator.EQUAL, values=("b",))
    cluster.job("web", group_spec(memory=8192), constraints=(in_b,))
    said = why(cluster, "web")
    assert texts(said) == {
        "memory: short by 2.1 GiB at best (big)": 4,
        "label zone = b: not so": 2,
        "draining": 1,
        "lost": 1,
    }
    assert said.rejections[0].constraint == "memory"
    assert said.summary.startswith("1 without a node: 4 of 8 nodes: memory: short by 2.1 GiB at best (big); 2: label")
    assert said.nearest == "big: memory short by 2.1 GiB"
    assert said.hint == "ask for 2.1 GiB less memory, or add a larger node"


def test_a_label_that_no_node_has_is_called_missing() -> None:
    cluster = Cluster()
    cluster.node("a")
    cluster.job("web", constraints=(Constraint(attribute="zone", operator=ConstraintOperator.EQUAL, values=("b",)),))
    said = why(cluster, "web")
    assert texts(said) == {"label zone = b: missing": 1}
    assert "zone = b" in said.hint


def test_room_that_others_hold_can_be_freed_and_the_hint_says_how_much() -> None:
    cluster = Cluster()
    node = cluster.node("a", cpu=2000)
    cluster.alloc(cluster.job("other", group_spec(cpu=1500)), node)
    cluster.job("web", group_spec(cpu=800))
    said = why(cluster, "web")
    assert texts(said) == {"cpu: short by 300m at best (a)": 1}
    assert said.hint == "ask for 300m less cpu, free 300m of cpu on a, or add a node"


def test_whole_cores_are_not_called_cpu_twice() -> None:
    cluster = Cluster()
    cluster.alloc(cluster.job("other", group_spec(cpu=1000)), cluster.node("a", cpu=2000))
    cluster.job("web", group_spec(cpu=2000))
    said = why(cluster, "web")
    assert said.hint == "ask for 1 cpu less, free 1 cpu on a, or add a node"
    assert said.remedy[0].text == "ask for 1 cpu less (1 cpu)"


def test_the_nearest_miss_names_everything_that_is_short() -> None:
    cluster = Cluster()
    cluster.node("a", cpu=900, memory=200)
    cluster.node("b", cpu=100, memory=8000)
    cluster.job("web", group_spec(cpu=1000, memory=256))
    assert why(cluster, "web").nearest == "a: cpu short by 100m, memory short by 56 MiB"


def test_gpus_say_whether_they_are_taken_or_of_the_wrong_kind() -> None:
    cluster = Cluster()
    cluster.node("old", devices=gpus(4, model="Tesla T4"))
    busy = cluster.node("busy", devices=gpus(2))
    holder = cluster.job("holder", group_spec(gpu=DeviceRequest(count=1)))
    cluster.alloc(holder, busy, device_mask=0b01, gpu_millis=1000)
    cluster.job("train", group_spec(gpu=DeviceRequest(count=2, models=("h100",))))
    said = why(cluster, "train")
    assert texts(said) == {
        "gpus: 1 of 2 free at best (busy)": 1,
        "gpus: has 0 of 2 GPUs of model h100 (4 of another model) at best (old)": 1,
    }
    assert said.nearest == "busy: gpus 1 of 2 free"


def test_a_taken_port_is_named() -> None:
    cluster = Cluster()
    node = cluster.node("a")
    cluster.alloc(cluster.job("first", group_spec(ports=(8080,))), node, ports=(8080,))
    cluster.job("second", group_spec(ports=(8080,)))
    said = why(cluster, "second")
    assert texts(said) == {"port 8080 is taken": 1}
    assert said.hint == "ask for another host port, free port 8080 on a, or add a node"


def test_a_missing_driver_is_named() -> None:
    cluster = Cluster()
    record = cluster.node("a")
    cluster.change(record, spec=replace(record.spec, drivers=("docker",)))
    cluster.job("web")
    assert texts(why(cluster, "web")) == {"driver process missing": 1}


def test_a_cordoned_node_that_would_do_is_the_hint() -> None:
    cluster = Cluster()
    cluster.node("a", cordoned=True)
    cluster.job("web")
    assert why(cluster, "web").hint == "raftsman node uncordon a"


def test_the_queue_position_counts_groups_that_wait_before_it() -> None:
    cluster = Cluster()
    cluster.node("a", cpu=100)
    cluster.job("late")
    cluster.job("urgent", priority=90)
    cluster.job("early")
    cluster.change(cluster.jobs[0], submit_index=50)
    assert [why(cluster, name).queue_position for name in ("urgent", "early", "late")] == [1, 2, 3]


def test_what_the_round_places_first_takes_the_room_that_is_explained() -> None:
    cluster = Cluster()
    cluster.node("a", cpu=1000)
    cluster.job("first", group_spec(cpu=800))
    cluster.job("second", group_spec(cpu=800))
    assert why(cluster, "first").pending == 0
    assert why(cluster, "first").summary == "1 being placed now"
    assert texts(why(cluster, "second")) == {"cpu: short by 600m at best (a)": 1}


def test_a_missing_variable_blocks_and_the_hint_puts_it() -> None:
    cluster = Cluster()
    cluster.node("a")
    cluster.job("web", group_spec(count=2, variables={"T": "token"}))
    said = why(cluster, "web")
    assert (said.pending, said.summary, said.hint) == (2, "variable token missing", "raftsman var put token VALUE")


def test_backoff_says_when_it_ends() -> None:
    cluster = Cluster(time_ms=NOW)
    cluster.alloc(
        cluster.job("web"),
        cluster.node("a"),
        state=AllocState.FAILED,
        start_failed=True,
        failures=2,
        modify_time_ms=NOW - 1_000,
        reason="image 'nope' not found",
    )
    said = why(cluster, "web")
    assert said.pending == 1
    assert said.summary == "1 could not start: image 'nope' not found (try 2 of 4; the next in 3 s)"


def test_what_failed_for_good_says_its_reason_and_the_way_on() -> None:
    cluster = Cluster()
    cluster.alloc(
        cluster.job("web"),
        cluster.node("a"),
        state=AllocState.FAILED,
        start_failed=True,
        failures=4,
        reason="image 'nope' not found",
    )
    said = why(cluster, "web")
    assert said.pending == 0
    assert (
        said.summary
        == "1 failed for good: image 'nope' not found (it never started; try 4 of 4, as restart.attempts says)"
    )
    assert said.hint == "change the job, or `raftsman restart web`"


def test_a_halted_rollout_says_how_many_still_run_the_old_version() -> None:
    cluster = Cluster()
    node = cluster.node("a")
    job = cluster.job("web", group_spec(count=3))
    for ordinal in range(3):
        cluster.alloc(job, node, ordinal)
    cluster.new_version(job, job.spec)
    cluster.rows[0].update(version=2, state=AllocState.BACKOFF, reason="exit code 1")
    said = why(cluster, "web")
    assert "the rollout is halted: 1 replaced instance(s) do not start; 2 still run the version before" in said.summary
    assert "1 restarting on a: exit code 1" in said.summary


def test_what_keep_holds_on_a_lost_node_says_so() -> None:
    cluster = Cluster()
    node = cluster.node("a", status=NodeStatus.LOST)
    cluster.alloc(cluster.job("db", on_disconnect=OnDisconnect.KEEP), node, state=AllocState.STARTING)
    assert "on a, which is lost (`raftsman node forget a` if it is gone for good)" in why(cluster, "db").summary


@pytest.mark.parametrize(
    ("flag", "words"), [("stopped", "the job is stopped"), ("removing", "the job is being removed")]
)
def test_a_stopped_job_says_that_it_is_stopped(flag: str, words: str) -> None:
    cluster = Cluster()
    cluster.job("web", **{flag: True})
    assert why(cluster, "web").summary == words


def test_a_job_that_runs_has_nothing_missing() -> None:
    cluster = Cluster()
    cluster.alloc(cluster.job("web"), cluster.node("a"))
    said = why(cluster, "web")
    assert (said.pending, said.summary, said.rejections) == (0, "nothing is missing", ())


def test_a_system_job_explains_the_nodes_without_room() -> None:
    cluster = Cluster()
    cluster.node("a")
    cluster.node("b", cpu=10)
    cluster.job("log", type=JobType.SYSTEM)
    said = why(cluster, "log")
    assert said.pending == 1
    assert "cpu: short by 490m at best (b)" in texts(said)


@pytest.mark.parametrize(
    ("dimension", "value", "words"),
    [(0, 500, "500m"), (0, 2000, "2 cpu"), (1, 512, "512 MiB"), (1, 2150, "2.1 GiB"), (2, 1024, "1.0 GiB")],
)
def test_amounts_read_as_users_write_them(dimension: int, value: int, words: str) -> None:
    assert amount(dimension, value) == words


@given(cluster=clusters())
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_node_is_refused_in_words_exactly_when_the_filters_refuse_it(cluster: Cluster) -> None:
    problem = Problem(cluster.view())
    everybody = np.arange(len(problem), dtype=np.int64)
    for job in cluster.jobs:
        for group in job.spec.groups:
            wish = wish_of(job.spec, group, policy=registry.chooser(""))
            fits = suitable(problem, wish) & has_room(problem, wish, everybody)
            assert [first_refusal(problem, wish, node) is None for node in everybody.tolist()] == fits.tolist()
