"""Job files of batch jobs: order, schedules, dispatch, timeouts; both ways, and with the place of what is wrong."""

from __future__ import annotations

import pytest

from orchestrator.contract.batch import After, AfterCondition, Missed, Overlap, PayloadRule
from orchestrator.contract.errors import InvalidError
from orchestrator.contract.place import split_place
from orchestrator.contract.services import default_name
from orchestrator.jobfile.dump import dump
from orchestrator.jobfile.file import load

HEAD = "name: work\ntype: batch\n"
ONE = HEAD + "command: [true]\n"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a", (After(group="a"),)),
        ("[a, b]", (After(group="a"), After(group="b"))),
        ("{a: any, b: success}", (After(group="a", condition=AfterCondition.ANY), After(group="b"))),
        ("[{group: a, condition: any}]", (After(group="a", condition=AfterCondition.ANY),)),
        ("{group: a}", (After(group="a"),)),
    ],
)
def test_the_order_of_groups_may_be_written_in_several_ways(written: str, meant: tuple[After, ...]) -> None:
    spec = load(
        HEAD + f"groups:\n  a: {{command: [x]}}\n  b: {{command: [x]}}\n  c: {{command: [x], after: {written}}}"
    )
    assert spec.groups[2].after == meant
    assert load(dump(spec)) == spec


def test_a_schedule_and_a_timeout() -> None:
    spec = load(
        ONE + "timeout: 90s\nperiodic: {cron: ['0 3 * * *', '@weekly'], time_zone: Europe/Berlin, overlap: replace, "
        "missed: once, paused: true}"
    )
    periodic = spec.periodic
    assert periodic is not None and periodic.cron == ("0 3 * * *", "@weekly")
    assert (periodic.overlap, periodic.missed, periodic.paused) == (Overlap.REPLACE, Missed.ONCE, True)
    assert spec.groups[0].tasks[0].timeout_ms == 90_000
    assert load(dump(spec)) == spec
    short = load(ONE + "periodic: '@daily'")
    assert short.periodic is not None and load(dump(short)) == short


def test_what_a_dispatch_brings() -> None:
    spec = load(ONE + "parameterized: {payload: required, meta_required: [url], meta_optional: [n]}")
    rule = spec.parameterized
    assert rule is not None and (rule.payload, rule.meta_required) == (PayloadRule.REQUIRED, ("url",))
    assert load(dump(spec)) == spec
    assert load(dump(load(ONE + "parameterized: true"))).parameterized is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ONE + "periodic: '61 * * * *'", "4:11: periodic.cron: minute: expected 0 to 59, got '61'"),
        (ONE + "periodic:\n  cron: '@daily'\n  time_zone: Mars/Base", "6:14: periodic.time_zone: no such time zone"),
        (ONE + "periodic:\n  cron: '@daily'\n  timezone: UTC", "did you mean 'time_zone'?"),
        (ONE + "periodic:\n  cron: '@daily'\n  overlap: forbidden", "did you mean 'forbid'?"),
        ("name: work\ncommand: [x]\nperiodic: '@daily'", "only a batch job can be periodic: say 'type: batch'"),
        (ONE + "periodic: '@daily'\nparameterized: true", "a job is periodic or parameterized, not both"),
        (ONE + "parameterized: {meta_required: ['no no']}", "expected a key such as input_url, got 'no no'"),
        (ONE + "parameterized: {meta_required: [a-b], meta_optional: [A_B]}", "'A_B' is there twice"),
        (ONE + "timeout: 1ms", "4:10: "),
        (ONE + "after: nothing", "no such group 'nothing' (others: there is no other)"),
        (
            HEAD + "groups:\n  a: {command: [x], after: b}\n  b: {command: [x], after: a}",
            "in a circle: a after b after a",
        ),
        (HEAD + "groups:\n  a: {command: [x], after: a}", "in a circle: a after a"),
        ("name: w\ngroups:\n  a: {command: [x]}\n  b: {command: [x], after: a}", "groups of a service job do not end"),
        (HEAD + "groups:\n  a: {command: [x]}\n  b: {command: [x], after: {a: maybe}}", "expected one of success, any"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InvalidError) as caught:
        load(text)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("web", ["web"]),
        ("web/api/0", ["web", "api", "0"]),
        ("web/dispatch-1700000000-0a1b2c3d", ["web/dispatch-1700000000-0a1b2c3d"]),
        ("web/periodic-1700000000/main/3", ["web/periodic-1700000000", "main", "3"]),
        ("web/periodic/0", ["web", "periodic", "0"]),
    ],
)
def test_the_name_of_a_run_keeps_its_slash(text: str, parts: list[str]) -> None:
    assert split_place(text) == parts


def test_a_run_offers_its_services_under_the_name_of_its_template() -> None:
    assert default_name("work/dispatch-1700000000-0a1b2c3d", "main") == "work"
    assert default_name("work/periodic-1700000000", "api") == "work-api"
