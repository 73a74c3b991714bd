"""Health and update in job files: the short forms, Orbit's words, what is refused and where, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.errors import InvalidError
from orchestrator.contract.health import CheckKind, CheckSpec, HealthSpec
from orchestrator.contract.model import GroupSpec, JobSpec, PortSpec, TaskSpec
from orchestrator.contract.rollouts import UpdateSpec, surge, unavailable
from orchestrator.jobfile.check import normalise, problems
from orchestrator.jobfile.dump import dump
from orchestrator.jobfile.file import load

HEAD = "name: web\ncount: 4\ncommand: [sleep, '1']\nports: {http: 80}\n"


def health_of(text: str) -> HealthSpec | None:
    return load(HEAD + text).groups[0].tasks[0].health


def update_of(text: str) -> UpdateSpec | None:
    return load(HEAD + text).groups[0].update


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("http: http/healthz", CheckSpec(kind=CheckKind.HTTP, port="http", path="/healthz")),
        ("http: 80", CheckSpec(kind=CheckKind.HTTP, port="80", path="/")),
        ("http: {port: 80, path: /a, tls: true, headers: {Host: me}}",
         CheckSpec(kind=CheckKind.HTTP, port="80", path="/a", tls=True, headers=(("Host", "me"),))),
        ("tcp: http", CheckSpec(kind=CheckKind.TCP, port="http")),
        ("grpc: 80/my.Service", CheckSpec(kind=CheckKind.GRPC, port="80", service="my.Service")),
        ("exec: test -e /tmp/ok", CheckSpec(kind=CheckKind.EXEC, command=("test", "-e", "/tmp/ok"))),
    ],
)  # fmt: skip
def test_each_kind_of_check_has_a_short_form(text: str, check: CheckSpec) -> None:
    found = health_of(f"health: {{readiness: {{{text}}}}}")
    assert found == HealthSpec(readiness=check)


def test_a_check_alone_stands_for_readiness_and_liveness() -> None:
    check = CheckSpec(kind=CheckKind.TCP, port="http", interval_ms=1_000, failures=5)
    assert health_of("health: {tcp: http, interval: 1s, failures: 5}") == HealthSpec(readiness=check, liveness=check)


def test_orbits_words_mean_what_they_did_there() -> None:
    found = health_of(
        "health_check: {startup_timeout: 60s, startup_failure_threshold: 4, liveness_period: 7s, "
        "liveness_failure_threshold: 2, tcp_check: {port: 80, timeout: 1s, period: 9s, failure_threshold: 5}}"
    )
    assert (
        found is not None and found.startup is not None and found.liveness is not None and found.readiness is not None
    )
    seen = [
        (one.interval_ms, one.failures, one.timeout_ms, one.port)
        for one in (found.startup, found.liveness, found.readiness)
    ]
    assert seen == [(15_000, 4, 1_000, "80"), (7_000, 2, 1_000, "80"), (9_000, 5, 1_000, "80")]
    assert update_of("rolling_update_config: {timeout: 30s}") == UpdateSpec(
        max_surge=1, max_unavailable=1, progress_deadline_ms=30_000
    )


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("{}", (0, 1)),
        ("{max_surge: 2}", (2, 0)),
        ("{max_surge: 1, max_unavailable: 1}", (1, 1)),
        ("{max_unavailable: 3}", (0, 3)),
        ("{max_surge: 30%}", (2, 0)),
        ("{max_unavailable: 30%}", (0, 1)),
        ("{max_unavailable: 10%}", (0, 1)),
    ],
)
def test_a_surge_alone_needs_nothing_unavailable_and_something_can_always_move(
    text: str, bounds: tuple[int, int]
) -> None:
    update = update_of(f"update: {text}")
    assert (surge(update, 4), unavailable(update, 4)) == bounds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("health: {}\nhealth_check: {tcp_check: {port: 80}}", "6:15: health_check: another word for 'health'"),
        (
            "health: {readiness: {interval: 1s}}",
            "5:21: health.readiness: expected exactly one of http, tcp, grpc and exec",
        ),
        ("health_check: {tcp_check: {port: 80, period: 0}}", "health_check.tcp_check.period: must be at least 1"),
        ("health_check: {liveness_failure_threshold: 0, tcp_check: {port: 80}}", "threshold: must be at least 1"),
        ("health: {readiness: {tcp: \u00b2}}", "expected a number, or the label"),
        (f"health: {{readiness: {{tcp: '{'9' * 5000}'}}}}", "expected a number, or the label"),
        ("health: {readiness: {tcp: 80, exec: [x]}}", "got tcp and exec"),
        ("health: {readiness: {tcp: nobody}}", "label of one of the group's ports, got 'nobody'; the group has http"),
        ("health: {readiness: {http: /healthz}}", "expected a port and a path such as 8080/healthz"),
        ("health: {readiness: {exec: []}}", "expected exactly one of"),
        ("health: {liveness: {tcp: 80, interval: 1ms}}", "health.liveness.interval: must be from 100 ms"),
        ("health: {liveness: {tcp: 80, successes: 2}}", "only failures count"),
        ("health: {liveness: {tcp: 80, failures: 0}}", "health.liveness.failures"),
        ("health: {liveness: {tcp: 80, interval: 0}}", "health.liveness.interval"),
        ("health: {ready: {tcp: 80}}", "unknown key 'ready'"),
        ("tasks: [{name: a, role: init, command: [x], health: {tcp: 80}}, {name: b, command: [x]}]", "an init task"),
        ("update: {max_surge: 0, max_unavailable: 0}", "nothing could ever be replaced"),
        ("update: {max_surge: 101%}", "must be from 0 to 100%, not 101"),
        ("update: {max_surge: lots}", "expected a number of instances such as 1, or a share such as 25%"),
        ("update: {canaries: 5}", "must be from 0 to the count (4), not 5"),
        ("update: {min_ready: 11m}", "must be shorter than progress_deadline"),
        ("type: batch\nupdate: {}", "only services are rolled out by it"),
        ("gang: true\nupdate: {}", "a gang is replaced as a whole"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, says: str) -> None:
    with pytest.raises(InvalidError) as error:
        load(HEAD + text)
    assert says in str(error.value)


def test_a_port_of_a_container_has_to_be_published() -> None:
    with pytest.raises(InvalidError, match="port 9000 of the container is not published"):
        load("name: web\nimage: nginx\nports: [80]\nhealth: {tcp: 9000}\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("health_check:\n  tcp_check:\n    port: 81", "f:6:11: health_check.tcp_check.port: port 81 of the container"),
        ("health: {http: 81}", "f:4:16: health.http.port: port 81 of the container"),
        (
            "rolling_update_config: {max_surge: 0, max_unavailable: 0}",
            "f:4:56: rolling_update_config.max_unavailable: with max_surge 0",
        ),
        ("groups: {a: {tasks: {m: {image: x, health_check: {tcp_check: {port: 81}}}}}}", "tcp_check.port: port 81"),
    ],
)
def test_a_mistake_is_told_once_in_the_words_of_the_file(text: str, says: str) -> None:
    """A check that stands for two or three was wrong so many times, at the first line of the file."""
    head = "name: web\n" if "groups" in text else "name: web\nimage: nginx\nports: [80]\n"
    with pytest.raises(InvalidError) as error:
        load(head + text, "f")
    (only,) = str(error.value).splitlines()
    assert says in only


def test_numbers_that_a_client_left_out_get_their_defaults_at_the_server() -> None:
    bare = CheckSpec(kind=CheckKind.HTTP, port="80", interval_ms=0, timeout_ms=0, successes=0, failures=0)
    task = TaskSpec(name="main", command=("x",), health=HealthSpec(readiness=bare))
    spec = normalise(JobSpec(name="web", groups=(GroupSpec(name="main", tasks=(task,)),)))
    assert spec.groups[0].tasks[0].health == HealthSpec(readiness=CheckSpec(kind=CheckKind.HTTP, port="80", path="/"))


checks = st.builds(
    CheckSpec,
    kind=st.just(CheckKind.HTTP),
    port=st.sampled_from(["http", "80"]),
    path=st.sampled_from(["/", "/a?b=c"]),
    headers=st.sampled_from([(), (("A", "b c"),)]),
    tls=st.booleans(),
    interval_ms=st.integers(100, 100_000),
    timeout_ms=st.integers(1, 100_000),
    failures=st.integers(1, 9),
    grace_ms=st.integers(0, 9_999),
) | st.builds(CheckSpec, kind=st.just(CheckKind.EXEC), command=st.sampled_from([("a",), ("a b", "'")]))
healths = st.builds(HealthSpec, startup=st.none() | checks, liveness=st.none() | checks, readiness=st.none() | checks)
updates = st.builds(
    UpdateSpec,
    max_surge=st.integers(0, 100),
    surge_percent=st.booleans(),
    max_unavailable=st.integers(1, 100),
    unavailable_percent=st.booleans(),
    canaries=st.integers(0, 3),
    min_ready_ms=st.integers(0, 9_999),
    progress_deadline_ms=st.sampled_from([0, 10_000, 600_000]),
    auto_revert=st.booleans(),
)


@given(st.none() | healths, st.none() | updates)
def test_what_is_written_is_read_back_equal(health: HealthSpec | None, update: UpdateSpec | None) -> None:
    task = TaskSpec(name="main", command=("x",), health=health)
    ports = (PortSpec(label="http", to=80),)
    spec = normalise(
        JobSpec(name="web", groups=(GroupSpec(name="main", count=4, tasks=(task,), ports=ports, update=update),))
    )
    if not problems(spec, placements=None):
        assert load(dump(spec)) == spec
