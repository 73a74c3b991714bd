"""Settings of an agent: units, precedence, and what bad ones are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.config import load, parse_cpu, parse_gpu, parse_size
from agent.inventory.gpu import DeclaredGpus, declared
from orchestrator.contract.errors import StartupError
from orchestrator.contract.taints import describe

GOOD: dict[str, Any] = {"peers": "a:7400,b:7400", "data": Path("/data"), "insecure": True}


@pytest.mark.parametrize(("text", "millis"), [("2", 2000), ("1.5", 1500), ("500m", 500), ("0.25", 250)])
def test_cpu_is_written_in_cores_or_thousandths(text: str, millis: int) -> None:
    assert parse_cpu(text) == millis


@pytest.mark.parametrize(
    ("text", "mib"), [("512", 512), ("512Mi", 512), ("1.5Gi", 1536), ("2G", 1907), ("1Ti", 1 << 20)]
)
def test_sizes_have_units_and_plain_numbers_are_mib(text: str, mib: int) -> None:
    assert parse_size(text) == mib


def test_declared_gpus_have_defaults() -> None:
    assert parse_gpu("count=2,model=A100,memory=80Gi,island=1") == DeclaredGpus(
        count=2, model="A100", memory_mib=80 * 1024, island=1
    )
    assert parse_gpu("memory=8Gi") == DeclaredGpus(count=1, memory_mib=8 * 1024)


def test_the_gpus_of_a_machine_can_be_left_to_others() -> None:
    (none,) = load({**GOOD, "gpu": "none"}).gpu
    assert declared((none,), "n1") == ()
    with pytest.raises(StartupError, match="--gpu: 'none' and others; expected one or the other"):
        load({**GOOD, "gpu": ("none", "count=1")})


def test_capabilities_are_allowed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFTSMAN_AGENT_ALLOW_CAP", "cap_net_admin, SYS_PTRACE")
    assert load(GOOD).allow_cap == {"NET_ADMIN", "SYS_PTRACE"}
    assert load({**GOOD, "allow_cap": "all"}).allow_cap == {"ALL"}
    with pytest.raises(StartupError, match="--allow-cap: 'NET_AMDIN' is no capability; expected ALL, or one of AUDIT"):
        load({**GOOD, "allow_cap": "NET_AMDIN"})


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("2m", 120), ("1.5h", 5400), ("30", 30)])
def test_a_pull_may_be_silent_for_as_long_as_it_is_said(text: str, seconds: float) -> None:
    assert load(GOOD).pull_stall == 120
    assert load({**GOOD, "pull_stall": text}).pull_stall == seconds


@pytest.mark.parametrize("text", ["1s", "25h", "soon", "-5s", "2 m"])
def test_a_pull_stall_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(StartupError, match=r"--pull-stall: .*; expected .*, for example"):
        load({**GOOD, "pull_stall": text})


@pytest.mark.parametrize(
    ("line", "setting", "means"),
    [
        ("cpu: 2", "cpu", 2000),
        ("cpu: 1.5", "cpu", 1500),
        ("memory: 512", "memory", 512),
        ("pull-stall: 90", "pull_stall", 90),
        ("ports: [30000, 30100]", "ports", (30_000, 30_100)),
    ],
)
def test_a_number_in_the_file_means_what_the_flag_means(tmp_path: Path, line: str, setting: str, means: object) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(line)
    assert getattr(load(GOOD, file=file), setting) == means


def test_the_file_can_be_named_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("zone: z7\n")
    monkeypatch.setenv("RAFTSMAN_AGENT_CONFIG", str(file))
    assert load(GOOD).zone == "z7"
    other = tmp_path / "other.yaml"
    other.write_text("zone: z8\n")
    assert load(GOOD, file=other).zone == "z8"


def test_a_slip_in_a_variables_name_is_told_and_others_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFTSMAN_AGENT_SERVICE_HOST", "10.0.0.1")  # Kubernetes sets such for a service of that name
    load(GOOD)
    monkeypatch.setenv("RAFTSMAN_AGENT_LABELS", "zone=a")
    with pytest.raises(StartupError, match=r"RAFTSMAN_AGENT_LABELS: .*; did you mean RAFTSMAN_AGENT_LABEL\?"):
        load(GOOD)


BAD_IN_A_FILE = [
    ("cpu: true", "--cpu (of FILE): True; expected a number"),
    ("cpu: -1", "'-1'; expected cores"),
    ("cpu: 10001", "expected at most 10000 cores"),
    (f"cpu: '{'9' * 400}'", "expected cores"),
    (f"memory: '{'9' * 400}'", "expected a size"),
    ("memory: 2000000000000Ti", "expected 1Mi to 1024Ti"),
    ("disk: 1K", "'1K'; expected 1Mi to 1024Ti, or 0 for what is there"),
    ("gpu: [1]", "[1]; expected text such as count=2"),
    ("gpu: count=\u00b2", "expected 1 to 64"),
    ("ports: [0, 70000]", "expected first-last"),
    ("zone: 1", "--zone (of FILE): 1; expected text: put it in quotes"),
    ("insecure: maybe", "--insecure (of FILE): 'maybe'; expected true or false"),
    ("data: ''", "--data (of FILE): ''; expected a directory"),
    ('tls: "\\0"', "expected a directory"),
    ("workload-dir: 7", "--workload-dir (of FILE): 7; expected a directory"),
    ("label: {gen: 3}", "--label (of FILE): gen: 3; expected text"),
    ("label: {'a b': x}", "'a b'; expected a key of letters"),
    ('label: {a: "\\0"}', "expected printable text"),
    ('api: "a:1,b"', "'b'; expected host:port"),
    ("address: 10.0.0.1:80", "expected an address or a host without a port"),
    ("publish-address: localhost", "expected an IP address"),
    ("x: 2020-99-99", "not YAML"),
    (f"name: {'a' * 5000}", "aaa...; expected letters"),
]


@pytest.mark.parametrize(("line", "text"), BAD_IN_A_FILE)
def test_what_is_wrong_in_a_file_is_told_with_its_place(tmp_path: Path, line: str, text: str) -> None:
    file = tmp_path / "agent.yaml"
    flags = {name: value for name, value in GOOD.items() if not line.startswith(name)}
    file.write_text(line, encoding="utf-8")
    with pytest.raises(StartupError) as caught:
        load(flags, file=file)
    assert text.replace("FILE", str(file)) in caught.value.message
    assert len(caught.value.message) < 400


def test_flags_win_over_the_environment_and_that_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("cpu: '1'\nmemory: 1Gi\ndisk: 1Gi\nlog-level: debug\n")
    monkeypatch.setenv("RAFTSMAN_AGENT_CPU", "2")
    monkeypatch.setenv("RAFTSMAN_AGENT_MEMORY", "2Gi")
    monkeypatch.setenv("RAFTSMAN_AGENT_GPU", "count=1,model=A100;count=2,model=H100")
    monkeypatch.setenv("RAFTSMAN_AGENT_LABEL", "zone=a,disk=ssd")
    monkeypatch.setenv("RAFTSMAN_AGENT_PORTS", "30000-30100")
    settings = load({**GOOD, "cpu": "3", "memory": None}, file=file)
    assert (settings.cpu, settings.memory, settings.disk, settings.log_level) == (3000, 2048, 1024, "debug")
    assert [(group.count, group.model) for group in settings.gpu] == [(1, "A100"), (2, "H100")]
    assert settings.label == {"zone": "a", "disk": "ssd"}
    assert settings.ports == (30_000, 30_100)


def test_relative_directories_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = load({"peers": "a:7400", "data": Path("data/n1"), "tls": Path("~/tls")})
    assert (settings.data, settings.tls) == (tmp_path / "data" / "n1", tmp_path / "home" / "tls")


def test_peers_may_be_written_as_for_a_peer() -> None:
    assert load({**GOOD, "peers": "p1=a:7400,p2=b:7400"}).peers == ("a:7400", "b:7400")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"peers": None}, "--peers is missing (or RAFTSMAN_AGENT_PEERS)"),
        ({"peers": "a"}, "--peers: 'a'; expected host:port"),
        ({"peers": ","}, "--peers: is empty; expected host:port of every peer"),
        ({"cpu": "two"}, "--cpu: 'two'; expected cores, for example 2, 1.5 or 500m"),
        ({"memory": "2Zi"}, "--memory: '2Zi'; expected a size, for example 512Mi or 16Gi"),
        ({"gpu": ("count=99",)}, "--gpu: count='99'; expected 1 to 64"),
        ({"gpu": ("modle=A100",)}, "--gpu: 'modle=A100'; expected one of count=, model=, memory=, island="),
        ({"gpu": ("count=40", "count=40")}, "--gpu: declares more than 64 devices"),
        ({"driver": ("podman",)}, "--driver: 'podman'; expected auto, docker, process, fake"),
        ({"driver": ("auto,docker",)}, "--driver auto chooses by itself"),
        ({"label": ("zone",)}, "--label: 'zone'; expected key=value"),
        ({"ports": "9-1"}, "--ports: '9-1'; expected first-last"),
        ({"http": "7481"}, "--http: '7481'; expected host:port"),
        ({"name": "a b"}, "--name: 'a b'; expected letters"),
        ({"insecure": None}, "--tls DIR is missing"),
        ({"tls": Path("/tls")}, "--tls and --insecure exclude each other"),
    ],
)
def test_bad_settings_say_what_was_expected(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(StartupError) as caught:
        load({**GOOD, **flags})
    assert caught.value.message.startswith(message)


def test_an_unknown_key_in_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("memroy: 1Gi\n")
    with pytest.raises(StartupError, match="unknown key 'memroy'"):
        load(GOOD, file=file)


def test_what_a_node_is_and_has_can_be_declared_by_flag_environment_and_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("region: eu\nzone: z0\nresource: {licenses: 5, cards: 1}\n")
    monkeypatch.setenv("RAFTSMAN_AGENT_ZONE", "z1")
    monkeypatch.setenv("RAFTSMAN_AGENT_TAINT", "gpu=only:NoSchedule,old:PreferNoSchedule")
    monkeypatch.setenv("RAFTSMAN_AGENT_DATASET", "imagenet,team/corpus")
    settings = load({**GOOD, "rack": "r7", "datacenter": "dc1"}, file=file)
    assert (settings.region, settings.datacenter, settings.zone, settings.rack) == ("eu", "dc1", "z1", "r7")
    assert settings.resource == {"licenses": 5, "cards": 1}
    assert [describe(taint) for taint in settings.taint] == ["gpu=only:NoSchedule", "old:PreferNoSchedule"]
    assert settings.dataset == ("imagenet", "team/corpus")


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("resource", ("licenses=many",), "expected name=whole number, for example licenses=5"),
        ("resource", ("licenses",), "expected name=whole number"),
        ("taint", ("gpu",), "expected key=value:Effect"),
        ("taint", ("gpu:NoExecute,gpu=x:NoExecute",), "has that effect already"),
        ("dataset", ("a b",), "expected letters"),
        ("zone", "a b", "expected letters"),
    ],
)
def test_bad_declarations_are_told_by_name(flag: str, value: Any, says: str) -> None:
    with pytest.raises(StartupError, match=flag) as caught:
        load({**GOOD, flag: value})
    assert says in caught.value.message


@pytest.mark.parametrize("where", ["auto", "off", "bridge", "127.0.0.1:0", "[::1]:53", "dns-1:53"])
def test_dns_listens_at_a_word_or_an_address_with_its_port(where: str) -> None:
    assert load({**GOOD, "dns": where}).dns == where


@pytest.mark.parametrize("where", ["10.0.0.1", "10.0.0.1:99999", "a b:53", "-x:53", ":53"])
def test_dns_that_listens_nowhere_is_refused_with_the_words_that_there_are(where: str) -> None:
    with pytest.raises(StartupError, match=r"--dns: .*; expected auto, off, bridge or address:port"):
        load({**GOOD, "dns": where})
    with pytest.raises(StartupError, match=r"--dns-upstream: .*; expected system or address:port"):
        load({**GOOD, "dns_upstream": "resolver:53"})
