"""Digests that agents settle and progress that they tell, through the calls of ``Agents``."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.contract import codec
from orchestrator.contract.errors import InvalidError, NotFoundError, PermissionError_
from orchestrator.contract.model import Resources
from orchestrator.contract.v1 import agent_pb2 as pb
from orchestrator.contract.v1 import control_pb2
from orchestrator.jobfile.file import load
from tests.unit.api.harness import Api, call

AGENT = call("agent:n1")
FIRST, SECOND = (f"sha256:{digit * 64}" for digit in "ab")


@pytest.fixture
async def api() -> Api:
    made = Api()
    await made.register("a", drivers=["docker"])
    request = control_pb2.SubmitJobRequest()
    codec.encode(load("name: web\nimage: nginx:1\n"), request.job)
    await made.writes.submit_job(request, call("client:x"))
    return made


def asked(api: Api, digest: str, *, node: str = "a", image: str = "nginx:1") -> pb.PinImageRequest:
    (job,) = api.state.jobs.values()
    key = {"id": {"namespace": "default", "job": "web", "group": "main"}, "job_uid": job.uid, "attempt": 1}
    return pb.PinImageRequest(node_id=node, key=key, job_version=1, image=image, digest=digest)


async def test_agents_that_ask_at_once_all_hear_one_digest(api: Api) -> None:
    answers = await asyncio.gather(*(api.agents.pin_image(asked(api, one), AGENT) for one in (FIRST, SECOND) * 5))
    assert {answer.digest for answer in answers} == {FIRST}
    index = api.state.index
    assert (await api.agents.pin_image(asked(api, SECOND), AGENT)).digest == FIRST
    assert api.state.index == index  # what is settled costs no entry


async def test_only_the_nodes_own_agent_settles_what_a_job_runs(api: Api) -> None:
    with pytest.raises(PermissionError_):
        await api.agents.pin_image(asked(api, FIRST), call("agent:n2"))
    with pytest.raises(NotFoundError, match="runs no image 'apache'"):
        await api.agents.pin_image(asked(api, FIRST, image="apache"), AGENT)
    with pytest.raises(InvalidError, match="64 hexadecimal digits"):
        await api.agents.pin_image(asked(api, "latest"), AGENT)


async def test_progress_becomes_the_reason(api: Api) -> None:
    await api.place()
    said = pb.ReportProgressRequest(node_id="a", progress=[{"key": asked(api, FIRST).key, "text": "1 of 2 MiB"}])
    await api.agents.report_progress(said, AGENT)
    assert list(api.state.table.reasons.values()) == ["1 of 2 MiB"]
    with pytest.raises(InvalidError, match="at most 1000"):
        await api.agents.report_progress(pb.ReportProgressRequest(node_id="a", progress=[{}] * 1001), AGENT)


async def test_a_submit_that_changes_only_a_size_says_so_in_its_command(api: Api) -> None:
    await api.place()
    request = control_pb2.SubmitJobRequest()
    larger = load("name: web\nimage: nginx:1\nresources: {memory: 200Mi}\n")
    codec.encode(larger, request.job)
    await api.writes.submit_job(request, call("client:x"))
    (job,) = api.state.jobs.values()
    rows = api.state.live_rows(job.slot)
    assert api.state.table.memory_mib[rows].tolist() == [200]
    assert api.state.table.version[rows].tolist() == [2]
    assert larger.groups[0].resources == Resources(cpu_millis=100, memory_mib=200)
