from __future__ import annotations

import pytest

from orchestrator.api import reads
from orchestrator.contract.errors import InvalidError, NoLeaderError, NotFoundError
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1 import types_pb2
from orchestrator.state.commands import MarkNodes, NodeMark
from orchestrator.state.features import HIGHEST
from tests.unit.api.harness import Api, call

RUNNING, FAILED = 30, 70
STALE = {"stale": True}


@pytest.fixture
def api() -> Api:
    return Api()


async def placed(api: Api, name: str = "web", *, count: int = 2) -> list[types_pb2.Allocation]:
    if not api.state.nodes:
        await api.register("node-1")
    await api.submit(name, count=count)
    assert await api.place() == count
    answer = await api.reads.list_allocations(pb.ListAllocationsRequest(job=name), call())
    return list(answer.allocations)


async def test_a_job_is_read_with_its_counts_and_the_index_that_answered(api: Api) -> None:
    await placed(api)
    answer = await api.reads.get_job(pb.GetJobRequest(job={"name": "web"}), call())
    assert (answer.job.spec.name, answer.job.groups[0].count, answer.job.groups[0].starting) == ("web", 2, 2)
    assert (answer.read.index, answer.read.stale, answer.read.peer_id) == (api.state.index, False, "p1")


async def test_a_missing_job_names_the_namespace_that_has_one(api: Api) -> None:
    await api.submit("web", namespace="other")
    with pytest.raises(NotFoundError, match="namespace 'other'"):
        await api.reads.get_job(pb.GetJobRequest(job={"name": "web"}), call())


async def test_a_run_that_is_kept_no_more_says_how_many_are(api: Api) -> None:
    await api.submit("nightly")
    with pytest.raises(NotFoundError, match=r"of the runs of 'nightly' the last 100 that have ended are kept"):
        await api.reads.get_job(pb.GetJobRequest(job={"name": "nightly/periodic-1767225600"}), call())
    with pytest.raises(NotFoundError, match=r"no job 'weekly/periodic-1767225600' in namespace 'default'$"):
        await api.reads.get_job(pb.GetJobRequest(job={"name": "weekly/periodic-1767225600"}), call())


async def test_a_listing_is_of_one_namespace_or_of_all(api: Api) -> None:
    for namespace, name in (("default", "b"), ("default", "a"), ("other", "c")):
        await api.submit(name, namespace=namespace)

    async def names(namespace: str) -> list[str]:
        answer = await api.reads.list_jobs(pb.ListJobsRequest(namespace=namespace), call())
        return [one.spec.name for one in answer.jobs]

    assert await names("") == ["a", "b"]
    assert await names("other") == ["c"]
    assert await names("*") == ["a", "b", "c"]
    with pytest.raises(InvalidError, match="namespace"):
        await names("A B")


async def test_allocations_are_listed_by_job_node_and_life(api: Api) -> None:
    first, second = await placed(api)
    assert [(one.id.job, one.id.ordinal, one.attempt) for one in (first, second)] == [("web", 0, 1), ("web", 1, 1)]
    key = {"id": first.id, "job_uid": first.job_uid, "attempt": 1}
    await api.report("node-1", key, FAILED)

    async def listed(**fields: object) -> list[int]:
        answer = await api.reads.list_allocations(pb.ListAllocationsRequest(**fields), call())  # type: ignore[arg-type]
        return [one.id.ordinal for one in answer.allocations]

    assert await listed() == [0, 1]
    assert await listed(live_only=True) == [1]
    assert await listed(job="other") == []
    assert await listed(node_id="name-node-1") == [0, 1]
    assert await listed(namespace="empty") == []
    with pytest.raises(NotFoundError, match="no node"):
        await listed(node_id="nope")


async def test_a_listing_longer_than_one_slice_is_whole_and_in_order(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "SLICE", 3)
    for number in range(10):
        await api.submit(f"j{number}")
    jobs = await api.reads.list_jobs(pb.ListJobsRequest(), call())
    assert [one.spec.name for one in jobs.jobs] == [f"j{number}" for number in range(10)]
    await api.register("node-1")
    await api.place()
    answer = await api.reads.list_allocations(pb.ListAllocationsRequest(), call())
    assert [one.id.job for one in answer.allocations] == [f"j{number}" for number in range(10)]
    monkeypatch.setattr(reads, "MAX_ROWS", 9)
    with pytest.raises(InvalidError, match="at most 9"):
        await api.reads.list_allocations(pb.ListAllocationsRequest(), call())


async def test_an_allocation_is_read_by_attempt_or_the_newest(api: Api) -> None:
    (only,) = await placed(api, count=1)
    answer = await api.reads.get_allocation(pb.GetAllocationRequest(id=only.id), call())
    assert answer.allocation == only
    assert answer.allocation.node_name == "name-node-1"
    for request, text in (
        (pb.GetAllocationRequest(id=only.id, attempt=2), "no attempt 2"),
        (pb.GetAllocationRequest(id={"job": "web", "group": "main", "ordinal": 5}), "has no instance 5; it has only 0"),
        (pb.GetAllocationRequest(id={"job": "web", "group": "nope"}), "no group 'nope'"),
        (pb.GetAllocationRequest(id={"job": "nope", "group": "main"}), "no job 'nope'"),
    ):
        with pytest.raises(NotFoundError, match=text):
            await api.reads.get_allocation(request, call())
    with pytest.raises(InvalidError, match="web/api/0"):
        await api.reads.get_allocation(pb.GetAllocationRequest(id={"job": "web"}), call())


async def test_nodes_show_use_and_the_age_of_the_heartbeat(api: Api) -> None:
    await placed(api)
    answer = await api.reads.list_nodes(pb.ListNodesRequest(), call())
    (found,) = answer.nodes
    assert (found.used.cpu_millis, found.allocations) == (200, 2)
    assert found.heartbeat_age_ms >= 0
    api.liveness.end()
    answer = await api.reads.list_nodes(pb.ListNodesRequest(read=STALE), call())
    assert answer.nodes[0].heartbeat_age_ms == -1


async def test_a_stale_read_answers_without_a_leader_and_says_how_old_it_is(api: Api) -> None:
    await api.submit("web")
    api.log.lead(False)
    with pytest.raises(NoLeaderError):
        await api.reads.list_jobs(pb.ListJobsRequest(), call())
    answer = await api.reads.list_jobs(pb.ListJobsRequest(read=STALE), call())
    assert [one.spec.name for one in answer.jobs] == ["web"]
    assert answer.read.stale
    assert answer.read.age_ms == -1


async def test_variables_are_listed_by_prefix(api: Api) -> None:
    for name in ("a/1", "a/2", "b/1"):
        await api.writes.put_variable(pb.PutVariableRequest(name=name, value=name), call())
    answer = await api.reads.list_variables(pb.ListVariablesRequest(prefix="a/"), call())
    assert [one.name for one in answer.variables] == ["a/1", "a/2"]
    missing = await api.reads.get_variable(pb.GetVariableRequest(name="nope"), call())
    assert not missing.hit
    assert not missing.HasField("variable")


async def test_the_cluster_says_who_leads_and_what_it_holds(api: Api) -> None:
    await placed(api)
    status = await api.reads.cluster_status(pb.ClusterStatusRequest(), call())
    assert (status.leader_id, status.cluster_name, status.dev) == ("p1", "test", True)
    assert (status.jobs, status.nodes, status.allocations) == (1, 1, 2)
    (peer,) = status.peers
    assert (peer.role, peer.connected, peer.lag, peer.version, peer.cert_expires_ms) == ("leader", True, 0, "1.2.3", 7)


async def test_previous_logs_are_of_the_run_before_or_of_the_attempt_before(api: Api) -> None:
    (only,) = await placed(api, count=1)
    which = {"job": "web", "group": "main"}
    with pytest.raises(NotFoundError, match="no previous run"):
        await api.reads.log_target(pb.LogsRequest(id=which, previous=True), call())
    key = {"id": only.id, "job_uid": only.job_uid, "attempt": 1}
    await api.report("node-1", key, RUNNING, restarts=1)
    target = await api.reads.log_target(pb.LogsRequest(id=which, previous=True), call())
    assert (target.previous, target.key.attempt, target.node_id) == (True, 1, "node-1")
    index = api.state.nodes["node-1"].register_index
    await api.proposer.propose(MarkNodes(lost=(NodeMark(node_id="node-1", register_index=index, reason="silent"),)))
    await api.register("node-2", identity="agent:n2")
    assert await api.place() == 1
    target = await api.reads.log_target(pb.LogsRequest(id=which, previous=True), call())
    assert (target.previous, target.key.attempt) == (False, 1)
    api.log.lead(False)
    assert (await api.reads.log_target(pb.LogsRequest(id=which), call())).key.attempt == 2


async def test_previous_logs_of_what_outlived_its_successor_are_the_successors(api: Api) -> None:
    """They were those of the attempt before both, or it was said that there were none."""
    first, second = await placed(api)
    for one in (first, second):
        await api.report("node-1", {"id": one.id, "job_uid": one.job_uid, "attempt": 1}, RUNNING)
    await api.submit("web", count=2, task={"env": {"VERSION": "2"}}, group={"update": {"max_surge": 1}})
    assert await api.place() == 1
    which = {"job": "web", "group": "main"}
    asked = pb.LogsRequest(id=which, previous=True)
    assert (await api.reads.log_target(asked, call())).key.attempt == 1
    await api.report("node-1", {"id": first.id, "job_uid": first.job_uid, "attempt": 2}, FAILED)
    assert (await api.reads.log_target(pb.LogsRequest(id=which), call())).key.attempt == 1
    assert (await api.reads.log_target(asked, call())).key.attempt == 2
    with pytest.raises(NotFoundError, match="no previous run"):
        await api.reads.log_target(pb.LogsRequest(id=which, previous=True, attempt=1), call())


async def test_a_version_that_waits_for_its_promotion_is_told_from_the_one_that_is_held_to(api: Api) -> None:
    api.state.feature_level = HIGHEST
    await placed(api)
    canary = {"update": {"canaries": 1, "max_unavailable": 1}}

    async def held() -> tuple[list[int], int, int]:
        answer = await api.reads.list_job_versions(pb.ListJobVersionsRequest(job={"name": "web"}), call())
        return [one.version for one in answer.versions], answer.held_version, answer.base_version

    assert await held() == ([1], 0, 0)
    await api.submit("web", count=2, task={"command": ["sleep", "2"]}, group=canary)
    assert await held() == ([2, 1], 2, 1)
    request = pb.SteerRolloutRequest(job={"name": "web"}, action=types_pb2.ROLLOUT_ACTION_PROMOTE)
    await api.writes.steer_rollout(request, call())
    assert await held() == ([2, 1], 0, 0)


async def test_a_peer_that_answers_elsewhere_than_the_cluster_remembers_is_told(api: Api) -> None:
    async def found_at() -> str:
        answer = await api.reads.cluster_status(pb.ClusterStatusRequest(), call())
        (peer,) = answer.peers
        return peer.found_at

    assert await found_at() == ""
    (peer,) = api.log.status().peers
    api.reads._reached = lambda: {"p1": peer.address}
    assert await found_at() == ""
    api.reads._reached = lambda: {"p1": "10.9.9.9:7400"}
    assert await found_at() == "10.9.9.9:7400"
