"""Namespaces over the API: what is listed, what is refused, and quotas under callers at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.contract.errors import ExistsError, InvalidError, NotFoundError, PreconditionError, QuotaError
from orchestrator.contract.v1 import control_pb2 as pb
from tests.unit.api.harness import Api, call


@pytest.fixture
def api() -> Api:
    return Api()


async def create(api: Api, name: str, **quota: int) -> pb.WriteResponse:
    return await api.namespaces.create_namespace(pb.NamespaceRequest(name=name, quota=quota), call())


async def listed(api: Api) -> dict[str, Any]:
    answer = await api.namespaces.list_namespaces(pb.ListNamespacesRequest(), call())
    return {one.namespace.name: one for one in answer.namespaces}


async def test_default_is_always_listed_and_so_is_whatever_holds_something(api: Api) -> None:
    assert list(await listed(api)) == ["default"]
    await api.submit("web", namespace="shop", count=3)
    await api.writes.put_variable(pb.PutVariableRequest(namespace="vars", name="a", value="1"), call())
    await create(api, "team", cpu_millis=500)
    found = await listed(api)
    assert list(found) == ["default", "shop", "team", "vars"]
    assert (found["shop"].used.allocations, found["shop"].used.cpu_millis) == (3, 300)
    assert [name for name, one in found.items() if one.namespace.create_index] == ["team"]


async def test_of_many_submits_at_the_same_time_exactly_the_quota_goes_in(api: Api) -> None:
    await create(api, "team", cpu_millis=700)
    outcomes = await asyncio.gather(
        *(api.submit(f"j{at}", namespace="team", count=1) for at in range(30)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, QuotaError)]
    assert len(refused) == 23
    assert len(api.state.jobs) == 7
    assert refused[0].reason == "QUOTA_EXCEEDED"
    assert refused[0].metadata["limit"] == "700m"


async def test_what_cannot_be_is_refused_with_its_reason(api: Api) -> None:
    await create(api, "team", jobs=1)
    with pytest.raises(ExistsError, match="namespace set"):
        await create(api, "team", jobs=2)
    with pytest.raises(InvalidError, match="name"):
        await create(api, "Team")
    with pytest.raises(InvalidError, match="no limit"):
        await api.namespaces.set_namespace(pb.NamespaceRequest(name="team"), call())
    with pytest.raises(NotFoundError):
        await api.namespaces.delete_namespace(pb.NamespaceRequest(name="other"), call())
    with pytest.raises(PreconditionError, match="always there"):
        await api.namespaces.delete_namespace(pb.NamespaceRequest(name="default"), call())
    with pytest.raises(InvalidError, match="no setting"):
        await api.namespaces.set_settings(pb.SetSettingsRequest(), call())


async def test_settings_come_back_as_they_were_set(api: Api) -> None:
    before = await api.namespaces.get_settings(pb.GetSettingsRequest(), call())
    assert (before.settings.preemption, before.settings.strict_namespaces) == (True, False)
    request = pb.SetSettingsRequest(change={"strict_namespaces": True})
    assert (await api.namespaces.set_settings(request, call())).changed
    after = await api.namespaces.get_settings(pb.GetSettingsRequest(), call())
    assert (after.settings.preemption, after.settings.strict_namespaces) == (True, True)
    with pytest.raises(PreconditionError, match="strict"):
        await api.submit("web", namespace="typo")


async def test_a_system_job_waits_for_the_quota_and_the_explanation_says_so(api: Api) -> None:
    await create(api, "team", cpu_millis=250)
    for node in ("n1", "n2", "n3"):
        await api.register(node, identity=f"agent:{node}")
    system: Any = 3
    await api.submit("logs", namespace="team", type=system)
    assert await api.place() == 2
    assert await api.place() == 0
    answer = await api.explain.explain_job(pb.ExplainJobRequest(job={"namespace": "team", "name": "logs"}), call())
    (group,) = answer.groups
    assert group.pending == 1
    assert group.summary.startswith("1 held back by quota of namespace team: cpu 200m of 250m in use")
    assert "raftsman namespace set team" in group.hint
    assert (group.blocked_by, group.blocked_text[:9]) == ("quota", "quota of ")
