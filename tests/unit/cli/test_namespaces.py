"""``namespace`` and ``settings`` against a fake peer."""

from __future__ import annotations

import json

import pytest

from orchestrator.contract import answers, model
from orchestrator.contract.errors import QuotaError
from tests.unit.cli.conftest import Cli
from tests.unit.client.fake import FakePeer, World


def held(name: str, used: model.Usage | None = None, **quota: int) -> answers.NamespaceStatus:
    namespace = model.Namespace(name=name, quota=model.Quota(**quota), create_index=7 if quota else 0)
    return answers.NamespaceStatus(namespace=namespace, used=used or model.Usage())


@pytest.fixture
def team(world: World) -> World:
    used = model.Usage(cpu_millis=6_000, memory_mib=2_048, gpu_millis=1_500, jobs=2, allocations=9)
    world.namespaces = {"default": held("default"), "team": held("team", used, cpu_millis=8_000, gpu_millis=2_000)}
    return world


def test_the_list_shows_use_beside_the_quota(cli: Cli, team: World) -> None:
    code, out, _ = cli("namespace", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["NAMESPACE", "default", "team"]
    assert "6 of 8" in out and "1.5 of 2" in out and "2Gi" in out
    assert cli("namespace", "list", "-o", "name")[1] == "default\nteam\n"


def test_one_namespace_is_shown_with_what_is_left(cli: Cli, team: World) -> None:
    code, out, _ = cli("namespace", "show", "team")
    assert code == 0
    assert ["cpu", "6", "8", "2"] in [line.split() for line in out.splitlines()]
    assert ["jobs", "2"] in [line.split() for line in out.splitlines()]
    shown = json.loads(cli("namespace", "show", "team", "-o", "json")[1])
    assert shown["used"]["allocations"] == 9
    code, _, err = cli("namespace", "show", "nowhere")
    assert code == 1 and "namespace list" in err


def test_a_quota_is_written_as_in_a_job_file(cli: Cli, world: World, peer: FakePeer) -> None:
    text = "cpu=8,memory=16Gi,disk=1Ti,gpus=1.5,jobs=10,allocations=100"
    code, out, err = cli("namespace", "create", "team", "--quota", text)
    assert (code, out, err) == (0, "", "team: created\n")
    quota = model.Quota(
        cpu_millis=8_000, memory_mib=16_384, disk_mib=1_048_576, gpu_millis=1_500, jobs=10, allocations=100
    )
    assert world.namespaces["team"].namespace.quota == quota
    assert cli("namespace", "create", "free")[0] == 0
    assert cli("namespace", "set", "team", "--quota", "cpu=none", "--quota", "jobs=3")[0] == 0
    assert peer.calls[-1][1].quota.cpu_millis == -1
    assert not peer.calls[-1][1].quota.HasField("memory_mib")
    assert cli("namespace", "delete", "team")[0] == 0
    code, _, err = cli("namespace", "delete", "team")
    assert code == 1 and "no namespace" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cpus=8", "one of cpu, memory, disk, gpus, jobs, allocations"),
        ("cpu", "expected RESOURCE=AMOUNT"),
        ("memory=16", "did you mean 16Mi"),
        ("jobs=many", "expected a whole number"),
        ("jobs=-1", "expected a whole number"),
        ("cpu=1,cpu=2", "there twice"),
    ],
)
def test_a_bad_quota_is_wrong_use_and_says_what_was_expected(cli: Cli, peer: FakePeer, text: str, said: str) -> None:
    code, _, err = cli("namespace", "create", "team", "--quota", text)
    assert code == 2
    assert said in err
    assert peer.calls == []


def test_settings_are_shown_and_changed(cli: Cli, world: World) -> None:
    code, out, _ = cli("settings", "get")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["preemption", "on"], ["strict_namespaces", "off"]]
    code, _, err = cli("settings", "set", "preemption=off", "strict_namespaces=on")
    assert (code, err) == (0, "preemption: off\nstrict_namespaces: on\n")
    assert world.settings == model.Settings(preemption=False, strict_namespaces=True)
    assert "(as it was)" in cli("settings", "set", "preemption=off")[2]
    code, _, err = cli("settings", "set", "preemption=maybe")
    assert code == 2 and "SETTING=on" in err


def test_a_job_over_its_quota_is_refused_with_the_servers_words(cli: Cli, peer: FakePeer) -> None:
    peer.fail("SubmitJob", QuotaError("quota of namespace 'team': cpu 8 of 8 in use, 2 more asked for"))
    code, _, err = cli("run", "--detach", "--name", "web", "--", "true")
    assert code == 1
    assert "cpu 8 of 8 in use" in err
