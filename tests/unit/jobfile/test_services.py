"""Services, needs and what tasks promise to say, in job files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.errors import InvalidError
from orchestrator.contract.model import GroupSpec, JobSpec, PortSpec, ServiceSpec, TaskSpec, WorkloadSpec
from orchestrator.contract.services import default_name, env_name, offered, parse_need
from orchestrator.jobfile.check import find, normalise
from orchestrator.jobfile.dump import dump
from orchestrator.jobfile.file import load
from orchestrator.replication.codec import encode_entry
from orchestrator.replication.v1 import log_pb2
from orchestrator.state.commands import Entry, JobSubmission, SubmitJobs

BASE = "name: web\nimage: x\n"


def group_of(text: str) -> GroupSpec:
    spec = load(BASE + text)
    assert load(dump(spec)) == spec
    return spec.groups[0]


@pytest.mark.parametrize(
    ("written", "services"),
    [
        ("services: [shop]\n", (ServiceSpec(name="shop", port="http"),)),
        ("services: {shop: admin}\n", (ServiceSpec(name="shop", port="admin"),)),
        ("services:\n  shop:\n", (ServiceSpec(name="shop", port="http"),)),
        ("services: [{port: admin}]\n", (ServiceSpec(name="web", port="admin"),)),
    ],
)
def test_short_forms_are_filled_in(written: str, services: tuple[ServiceSpec, ...]) -> None:
    assert group_of(f"ports: {{http: 80, admin: 81}}\n{written}").services == services


def test_a_group_with_ports_offers_its_first_one_under_its_jobs_name() -> None:
    assert offered("web", group_of("ports: {http: 80, admin: 81}\n")) == (ServiceSpec(name="web", port="http"),)
    assert offered("web", group_of("")) == ()
    assert (default_name("web", "main"), default_name("web", "api")) == ("web", "web-api")


def test_what_a_task_promises_to_say() -> None:
    assert group_of("workload: ready\n").tasks[0].workload == WorkloadSpec(ready=True)
    assert group_of("workload: {heartbeat: 30s}\n").tasks[0].workload == WorkloadSpec(heartbeat_ms=30_000)
    assert group_of("needs: [db, cache.infra]\n").needs == ("db", "cache.infra")


@pytest.mark.parametrize(
    ("written", "place", "text"),
    [
        ("services: [shop]\n", "3:12", "give the group 'ports'"),
        ("ports: {a: 1}\nservices: {x: b}\n", "4:15", "no port has the label 'b' (there are: a)"),
        ("ports: {a: 1}\nservices: [x, x]\n", "4:15", "service 'x' is there twice"),
        ("ports: {a: 1}\nservices: [X_Y]\n", "4:12", "expected 1 to 63 lower-case letters"),
        ("services:\n  - {nam: x}\n", "4:6", "unknown key 'nam'; did you mean 'name'?"),
        ("ports: {a: 1}\nneeds: [web]\n", "4:9", "the group itself is service 'web'"),
        ("needs: [a.b.c]\n", "3:9", "expected a service such as 'db'"),
        ("needs: [db, db.default]\n", "3:13", "service 'db.default' is there twice"),
        ("depends_on: [db]\n", "3:1", "did you mean 'needs'?"),
        ("workload: {}\n", "3:11", "says nothing"),
        ("workload: {heartbeat: 10ms}\n", "3:23", "must be from 1s to 24h"),
        ("workload: {redy: true}\n", "3:12", "unknown key 'redy'; did you mean 'ready'?"),
    ],
)
def test_a_mistake_is_told_with_its_place(written: str, place: str, text: str) -> None:
    with pytest.raises(InvalidError) as refused:
        load(BASE + written)
    assert f"job.yaml:{place}: " in refused.value.message
    assert text in refused.value.message


TEXT = st.text(max_size=70)


@given(
    st.lists(st.builds(ServiceSpec, name=TEXT, port=TEXT), max_size=3),
    st.lists(TEXT, max_size=3),
    st.lists(st.builds(PortSpec, label=TEXT), max_size=2),
    st.builds(WorkloadSpec, ready=st.booleans(), heartbeat_ms=st.integers(-(2**63), 2**63)),
)
def test_the_rules_never_raise_and_what_passes_can_be_offered(
    services: list[ServiceSpec], needs: list[str], ports: list[PortSpec], workload: WorkloadSpec
) -> None:
    task = TaskSpec(name="main", image="x", workload=workload)
    group = GroupSpec(name="main", tasks=(task,), services=tuple(services), needs=tuple(needs), ports=tuple(ports))
    spec = normalise(JobSpec(name="web", groups=(group,)))
    if find(spec, placements=None):
        return
    assert normalise(spec) == spec
    labels = {port.label for port in spec.groups[0].ports}
    assert all(one.name and one.port in labels for one in offered("web", spec.groups[0]))
    assert all(parse_need(need, "default").name for need in needs)
    assert all(env_name(need.partition(".")[0]).replace("_", "A").isalnum() for need in needs)


@pytest.mark.parametrize("written", ["ports: {a: 1}\nservices: [x]\n", "needs: [db]\n", "workload: ready\n"])
def test_a_peer_that_would_drop_it_stops_before_it(written: str) -> None:
    def format_of(text: str) -> int:
        jobs = (JobSubmission(spec=load(BASE + text), uid="u"),)
        entry = Entry(identity="t", request_id="", digest=b"", time_ms=1, command=SubmitJobs(jobs=jobs))
        return log_pb2.LogEntry.FromString(encode_entry(entry)).format

    assert format_of(written) == 4
    assert format_of("ports: {a: 1}\n") == 1
