from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.api import control
from orchestrator.contract.errors import (
    ConflictError,
    InvalidError,
    NoLeaderError,
    NotFoundError,
    PreconditionError,
    RaftsmanError,
)
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1 import types_pb2 as types
from orchestrator.state.commands import SetFeatureLevel
from orchestrator.state.features import TMPFS_OWNERS
from tests.unit.api.harness import Api, call, job


@pytest.fixture
def api() -> Api:
    return Api()


async def test_a_submitted_job_gets_a_uid_and_version_1(api: Api) -> None:
    answer = await api.submit("web")
    assert answer.changed
    assert answer.version == 1
    assert api.state.jobs[answer.uid].spec.name == "web"
    assert api.state.jobs[answer.uid].create_time_ms == api.now_ms


async def test_an_equal_job_changes_nothing_and_another_makes_a_version(api: Api) -> None:
    first = await api.submit("web")
    same = await api.submit("web")
    assert (same.uid, same.version, same.changed) == (first.uid, 1, False)
    other = await api.submit("web", priority=7)
    assert (other.uid, other.version, other.changed) == (first.uid, 2, True)


async def test_a_repeated_request_gets_the_first_answer(api: Api) -> None:
    first = await api.submit("web", request_id="r1")
    await api.writes.remove_job(pb.RemoveJobRequest(job={"name": "web"}), call())
    again = await api.submit("web", request_id="r1")
    assert again == first
    assert not api.state.jobs


async def test_a_request_id_with_another_body_is_refused(api: Api) -> None:
    await api.submit("web", request_id="r1")
    with pytest.raises(RaftsmanError) as caught:
        await api.submit("web", request_id="r1", count=2)
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_request_ids_of_two_callers_do_not_meet(api: Api) -> None:
    request = pb.PutVariableRequest(request_id="r1", name="a", value="1")
    first = await api.writes.put_variable(request, call("client:one"))
    second = await api.writes.put_variable(request, call("client:two"))
    assert second.index > first.index


async def test_the_digest_ignores_the_order_of_maps(api: Api) -> None:
    for order in (["a", "b", "c"], ["c", "a", "b"]):
        request = pb.SubmitJobRequest(request_id="r1", job=job("web"))
        for key in order:
            request.job.metadata[key] = key
        answer = await api.writes.submit_job(request, call())
    assert answer.changed


async def test_expect_version_holds_or_conflicts(api: Api) -> None:
    request = pb.SubmitJobRequest(job=job("web"), expect_version=0)
    await api.writes.submit_job(request, call())
    with pytest.raises(RaftsmanError) as caught:
        await api.writes.submit_job(pb.SubmitJobRequest(job=job("web", priority=3), expect_version=0), call())
    assert isinstance(caught.value, ConflictError) or caught.value.reason == "ALREADY_EXISTS"
    with pytest.raises(InvalidError, match="expect_version"):
        await api.writes.submit_job(pb.SubmitJobRequest(job=job("web"), expect_version=-1), call())


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"name": "../x"}, "name"),
        ({"name": ""}, "name"),
        ({"namespace": "A B"}, "namespace"),
        ({"placement": "bogus"}, "placement"),
        ({"priority": 101}, "priority"),
        ({"groups": []}, "groups"),
        ({"group": {"count": -1}}, "count"),
        ({"group": {"count": 10**9}}, "count"),
        ({"task": {"command": [], "image": ""}}, "command"),
        ({"task": {"resources": {"cpu_millis": -5}}}, "cpu"),
        ({"type": 99}, "type"),
        ({"metadata": {"a": "x" * (1 << 20)}}, "bytes"),
    ],
)
async def test_a_bad_job_is_refused_with_the_place(api: Api, fields: dict[str, Any], place: str) -> None:
    request = pb.SubmitJobRequest(job=job(**{"name": "web", **fields}))
    with pytest.raises(InvalidError) as caught:
        await api.writes.submit_job(request, call())
    assert place in caught.value.message
    assert not api.state.jobs


async def test_privileges_take_the_operators_policy() -> None:
    privileged = pb.SubmitJobRequest(job=job("web", task={"privileged": True, "image": "i"}))
    mounted = pb.SubmitJobRequest(job=job("web2", task={"image": "i", "mounts": [{"source": "/a", "target": "/b"}]}))
    refusing, allowing = Api(), Api(allow_privileged=True, allow_host_paths=True)
    with pytest.raises(PreconditionError, match="--allow-privileged"):
        await refusing.writes.submit_job(privileged, call())
    with pytest.raises(PreconditionError, match="--allow-host-paths"):
        await refusing.writes.submit_job(mounted, call())
    assert (await allowing.writes.submit_job(privileged, call())).changed
    assert (await allowing.writes.submit_job(mounted, call())).changed


async def test_what_peers_of_before_would_drop_waits_until_all_are_new() -> None:
    api = Api()
    owned = {"image": "i", "container": {"tmpfs": [{"target": "/run", "size_mib": 1, "uid": 7}]}}
    plain = {"image": "i", "container": {"tmpfs": [{"target": "/run", "size_mib": 1}]}}
    with pytest.raises(
        PreconditionError, match=r"'web', group 'main', task 'main': a tmpfs with mode, uid or gid: not every peer"
    ):
        await api.writes.submit_job(pb.SubmitJobRequest(job=job("web", task=owned)), call())
    assert (await api.writes.submit_job(pb.SubmitJobRequest(job=job("web", task=plain)), call())).changed
    await api.proposer.propose(SetFeatureLevel(level=TMPFS_OWNERS))
    assert (await api.writes.submit_job(pb.SubmitJobRequest(job=job("web", task=owned)), call())).changed


async def test_capabilities_beyond_dockers_defaults_take_the_operators_policy() -> None:
    def asks(name: str, *capabilities: str) -> pb.SubmitJobRequest:
        return pb.SubmitJobRequest(job=job(name, task={"image": "i", "container": {"cap_add": capabilities}}))

    refusing, allowing = Api(), Api(allow_caps=frozenset({"NET_ADMIN"}))
    assert (await refusing.writes.submit_job(asks("usual", "cap_chown", "NET_BIND_SERVICE"), call())).changed
    for api, wanted in ((refusing, "NET_ADMIN"), (allowing, "SYS_ADMIN"), (allowing, "ALL")):
        with pytest.raises(PreconditionError, match=f"the capability {wanted}, .* with --allow-cap {wanted}"):
            await api.writes.submit_job(asks("web", "CHOWN", wanted), call())
    assert (await allowing.writes.submit_job(asks("web", "CHOWN", "NET_ADMIN"), call())).changed
    everything = Api(allow_caps=frozenset({"ALL"}))
    assert (await everything.writes.submit_job(asks("web", "ALL"), call())).changed


async def test_many_jobs_are_all_checked_before_the_first_is_taken(api: Api) -> None:
    request = pb.SubmitJobsRequest(jobs=[job("a"), job("b", priority=1000)])
    with pytest.raises(InvalidError, match=r"jobs\[1\]"):
        await api.writes.submit_jobs(request, call())
    with pytest.raises(InvalidError, match=r"jobs\[1\].*jobs\[0\]"):
        await api.writes.submit_jobs(pb.SubmitJobsRequest(jobs=[job("a"), job("a")]), call())
    with pytest.raises(InvalidError, match="empty"):
        await api.writes.submit_jobs(pb.SubmitJobsRequest(), call())
    assert not api.state.jobs


async def test_a_large_submit_is_cut_and_a_repetition_completes_it(api: Api) -> None:
    number = 2 * control.CHUNK_JOBS + 10
    request = pb.SubmitJobsRequest(request_id="many", jobs=[job(f"j{place}") for place in range(number)])
    before = api.log.status().index
    first = await api.writes.submit_jobs(request, call(timeout_s=60))
    assert api.log.status().index == before + 3
    assert [answer.version for answer in first.jobs] == [1] * number
    assert len({answer.uid for answer in first.jobs}) == number
    again = await api.writes.submit_jobs(request, call(timeout_s=60))
    assert [answer.uid for answer in again.jobs] == [answer.uid for answer in first.jobs]
    assert len(api.state.jobs) == number


async def test_what_does_not_exist_is_not_found(api: Api) -> None:
    key = {"name": "nope"}
    calls: list[tuple[Any, Any]] = [
        (api.writes.stop_job, pb.StopJobRequest(job=key)),
        (api.writes.scale_job, pb.ScaleJobRequest(job=key, count=1)),
        (api.writes.restart_job, pb.RestartJobRequest(job=key)),
        (api.writes.remove_job, pb.RemoveJobRequest(job=key)),
        (api.writes.cordon_node, pb.NodeRequest(node="nope")),
        (api.writes.forget_node, pb.NodeRequest(node="nope")),
    ]
    for method, request in calls:
        with pytest.raises(NotFoundError):
            await method(request, call())


async def test_a_count_out_of_bounds_is_refused(api: Api) -> None:
    await api.submit("web")
    for count in (-1, 10**6):
        with pytest.raises(InvalidError, match="count"):
            await api.writes.scale_job(pb.ScaleJobRequest(job={"name": "web"}, count=count), call())


async def test_a_node_is_found_by_id_by_name_and_by_the_beginning_of_its_id(api: Api) -> None:
    await api.register("abc-1")
    await api.register("abd-2")
    for text in ("abc-1", "name-abc-1", "abc"):
        await api.writes.cordon_node(pb.NodeRequest(node=text), call())
        assert api.state.nodes["abc-1"].cordoned
        await api.writes.uncordon_node(pb.NodeRequest(node=text), call())
        assert not api.state.nodes["abc-1"].cordoned
    with pytest.raises(InvalidError, match="2 nodes"):
        await api.writes.cordon_node(pb.NodeRequest(node="ab"), call())
    with pytest.raises(InvalidError, match="empty"):
        await api.writes.cordon_node(pb.NodeRequest(), call())


async def test_a_device_is_found_by_id_by_place_and_by_the_beginning_of_its_id(api: Api) -> None:
    await api.register("abc-1", devices=[{"id": "GPU-aa"}, {"id": "GPU-ab"}, {"id": "MIG-1"}])
    for text, device in (("GPU-ab", "GPU-ab"), ("1", "GPU-ab"), ("MIG", "MIG-1")):
        request = pb.NodeDeviceRequest(node="abc-1", device=text)
        assert (await api.writes.cordon_device(request, call())).changed
        assert api.state.nodes["abc-1"].cordoned_devices == (device,)
        assert not (await api.writes.cordon_device(request, call())).changed
        assert (await api.writes.uncordon_device(request, call())).changed
        assert not api.state.nodes["abc-1"].cordoned_devices
    with pytest.raises(InvalidError, match="2 ids"):
        await api.writes.cordon_device(pb.NodeDeviceRequest(node="abc-1", device="GPU-"), call())
    with pytest.raises(InvalidError, match="empty"):
        await api.writes.cordon_device(pb.NodeDeviceRequest(node="abc-1"), call())
    with pytest.raises(NotFoundError, match="has no device 'GPU-z'"):
        await api.writes.cordon_device(pb.NodeDeviceRequest(node="abc-1", device="GPU-z"), call())


async def test_a_taint_is_put_on_a_node_by_name_and_a_bad_one_is_refused(api: Api) -> None:
    await api.register("abc-1")
    gpu = types.Taint(key="gpu", value="only", effect=types.TAINT_EFFECT_NO_SCHEDULE)
    answer = await api.writes.taint_node(pb.TaintNodeRequest(node="name-abc-1", put=[gpu]), call())
    assert answer.changed
    (found,) = api.state.nodes["abc-1"].taints
    assert (found.taint.key, found.taint.value, found.since_ms) == ("gpu", "only", api.state.time_ms)
    assert not (await api.writes.taint_node(pb.TaintNodeRequest(node="abc", put=[gpu]), call())).changed
    gone = await api.writes.taint_node(pb.TaintNodeRequest(node="abc", drop=[pb.TaintKey(key="gpu")]), call())
    assert gone.changed
    assert not api.state.nodes["abc-1"].taints
    with pytest.raises(InvalidError, match=r"^put\[0\]\.effect: expected NO_SCHEDULE"):
        await api.writes.taint_node(pb.TaintNodeRequest(node="abc", put=[types.Taint(key="gpu")]), call())
    with pytest.raises(InvalidError, match="1 to 64"):
        await api.writes.taint_node(pb.TaintNodeRequest(node="abc"), call())
    with pytest.raises(NotFoundError):
        await api.writes.taint_node(pb.TaintNodeRequest(node="nope", put=[gpu]), call())


async def test_forgetting_a_node_twice_with_one_request_id_gives_the_first_answer(api: Api) -> None:
    await api.register("abc-1")
    request = pb.NodeRequest(request_id="r1", node="abc-1")
    first = await api.writes.forget_node(request, call())
    assert not api.state.nodes
    assert await api.writes.forget_node(request, call()) == first


async def test_compare_and_set_says_whether_it_hit_and_what_is_there(api: Api) -> None:
    await api.writes.create_variable(pb.PutVariableRequest(name="a", value="1"), call())
    missed = await api.writes.create_variable(pb.PutVariableRequest(name="a", value="2"), call())
    assert (missed.hit, missed.variable.value) == (False, "1")
    cas = pb.CompareAndSetVariableRequest(name="a", expect="0", value="2")
    assert not (await api.writes.compare_and_set_variable(cas, call())).hit
    cas = pb.CompareAndSetVariableRequest(name="a", expect="1", value="2")
    hit = await api.writes.compare_and_set_variable(cas, call())
    assert (hit.hit, hit.variable.value, hit.variable.version) == (True, "2", 2)
    absent = pb.CompareAndSetVariableRequest(name="b", value="1")
    assert (await api.writes.compare_and_set_variable(absent, call())).hit
    gone = await api.writes.delete_variable(pb.DeleteVariableRequest(name="a", expect="1"), call())
    assert not gone.hit
    gone = await api.writes.delete_variable(pb.DeleteVariableRequest(name="a"), call())
    assert gone.hit
    assert not gone.HasField("variable")


def batch(*writes: Mapping[str, object], request_id: str = "r1") -> pb.PutVariablesRequest:
    return pb.PutVariablesRequest(request_id=request_id, writes=writes)


async def test_many_writes_are_done_in_order_each_with_its_own_index_and_answer(api: Api) -> None:
    request = batch(
        {"name": "a", "value": "1", "absent": True},
        {"name": "a", "value": "2", "expect": "1"},
        {"name": "a", "value": "3", "expect": "1"},
        {"name": "b", "value": "4"},
        {"name": "b"},
    )
    answers = (await api.writes.put_variables(request, call())).answers
    assert [answer.hit for answer in answers] == [True, True, False, True, True]
    assert [answer.variable.value for answer in answers] == ["1", "2", "2", "4", ""]
    first = answers[0].index
    assert [answer.index for answer in answers] == list(range(first, first + 5))
    assert {name: variable.value for (_, name), variable in api.state.variables.items()} == {"a": "2"}


async def test_many_writes_repeated_get_their_first_answers(api: Api) -> None:
    request = batch({"name": "a", "value": "1", "absent": True}, {"name": "b", "value": "2", "absent": True})
    first = await api.writes.put_variables(request, call())
    await api.writes.delete_variable(pb.DeleteVariableRequest(name="a"), call())
    assert await api.writes.put_variables(request, call()) == first
    assert {name for _, name in api.state.variables} == {"b"}
    with pytest.raises(RaftsmanError) as caught:
        await api.writes.put_variables(batch({"name": "a", "value": "other"}), call())
    assert caught.value.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (batch(), "writes: is empty"),
        (batch({"name": "a", "value": "1"}, {"name": "a b", "value": "1"}), r"writes\[1\].name: 'a b'"),
        (batch(*({"name": f"v{at}", "value": ""} for at in range(257))), "writes: 257 with"),
        (batch(*({"name": f"v{at}", "value": "x" * 60_000} for at in range(20))), "at most 256 with 1048576"),
    ],
    ids=["empty", "bad name", "too many", "too large"],
)
async def test_many_writes_are_checked_before_the_first_is_done(
    api: Api, request_: pb.PutVariablesRequest, problem: str
) -> None:
    with pytest.raises(InvalidError, match=problem):
        await api.writes.put_variables(request_, call())
    assert not api.state.variables


async def test_of_many_writes_the_state_refuses_one_by_its_place(api: Api) -> None:
    with pytest.raises(InvalidError, match=r"writes\[1\]: the value of 'b' is larger"):
        await api.writes.put_variables(batch({"name": "a", "value": "1"}, {"name": "b", "value": "x" * 65_537}), call())
    assert {name for _, name in api.state.variables} == {"a"}


async def test_a_bad_or_large_variable_is_refused(api: Api) -> None:
    with pytest.raises(InvalidError, match="name"):
        await api.writes.put_variable(pb.PutVariableRequest(name="a b", value="1"), call())
    with pytest.raises(InvalidError):
        await api.writes.put_variable(pb.PutVariableRequest(name="a", value="x" * 65_537), call())
    with pytest.raises(InvalidError, match="request_id"):
        await api.writes.put_variable(pb.PutVariableRequest(request_id="r" * 129, name="a"), call())


async def test_without_a_leader_nothing_is_written(api: Api) -> None:
    api.log.lead(False)
    with pytest.raises(NoLeaderError):
        await api.submit("web")
    assert api.log.status().index == 0


async def test_the_default_placement_must_exist_here_and_may_be_taken_back(api: Api) -> None:
    def change(name: str) -> pb.SetLimitsRequest:
        request = pb.SetLimitsRequest()
        request.change.default_placement = name
        return request

    with pytest.raises(InvalidError, match="no such placement 'sprea'"):
        await api.writes.set_limits(change("sprea"), call())
    await api.writes.set_limits(change("spread"), call())
    assert api.state.limits.default_placement == "spread"
    await api.writes.set_limits(change(""), call())
    assert api.state.limits.default_placement == ""
