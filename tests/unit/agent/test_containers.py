"""What containers get before an engine is asked: env files, files, arguments, the network's holder, settled digests."""

from __future__ import annotations

import io
import struct
import tarfile
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import env_file, pins
from agent.driver import InlineFile, RunId, RunSpec, StartError
from agent.drivers import docker_arguments, docker_files, docker_networks, docker_sandbox, docker_start
from agent.drivers.docker_arguments import Engine, repository
from agent.drivers.docker_images import _failed, _Progress
from agent.drivers.fake import FakeDriver
from agent.drivers.process import ProcessDriver
from agent.records import Record
from agent.runspec import NodeFacts, run_spec
from orchestrator.contract.model import (
    AssignmentKey,
    ContainerSpec,
    FileSpec,
    MountSpec,
    PortBinding,
    RegistryAuth,
    StopPolicy,
    TaskSpec,
    TmpfsSpec,
)
from tests.integration.agent_fakes import assignment_of, key_of, task_of

NODE = NodeFacts(node_id="id", name="n1", address="10.0.0.1", api="10.0.0.9:7400")


def spec_of(task: TaskSpec, **details: object) -> RunSpec:
    run = RunId(key=key_of(), restarts=0, task=task.name)
    return replace(RunSpec(cluster_id="0123456789", node_id="n", run=run, task=task), **details)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------- env files


def test_env_files_are_read_as_compose_reads_them() -> None:
    text = """
# a comment
export A=1
B = two words  # said later
C='single # quoted'
D="line\\nbreak \\"quoted\\"" # and a comment
E=
F=a#b
"""
    assert env_file.parse(text) == {
        "A": "1",
        "B": "two words",
        "C": "single # quoted",
        "D": 'line\nbreak "quoted"',
        "E": "",
        "F": "a#b",
    }


@pytest.mark.parametrize("line", ["hunter2", "1A=hunter2", "A='hunter2", 'A="hunter2" hunter2', "A=hunter2\0"])
def test_a_bad_line_is_named_and_not_quoted(line: str) -> None:
    with pytest.raises(ValueError, match="line 2: ") as caught:
        env_file.parse(f"OK=1\n{line}")
    assert "hunter2" not in str(caught.value)


@given(st.text(st.characters(exclude_characters="'\0", exclude_categories=["Cs", "Cc", "Zl", "Zp"])))
def test_whatever_is_in_single_quotes_stays_as_it_is(value: str) -> None:
    assert env_file.parse(f"A='{value}'") == {"A": value}


# ---------------------------------------------------------------------------- variables


def record_of(task: TaskSpec, **variables: str) -> Record:
    assignment = replace(assignment_of(key_of(), task), variables=tuple(sorted(variables.items())))
    return Record(assignment=assignment)


def test_variables_become_environment_files_and_logins_and_are_not_shown() -> None:
    container = ContainerSpec(
        env_files=("base", "more"),
        files=(FileSpec(target="/a", content="x"), FileSpec(target="/b", variable="file", mode=0o600)),
        auth=RegistryAuth(username="bot", password_variable="token"),
    )
    task = replace(task_of("run", image="x", env={"B": "own"}), container=container)
    record = record_of(task, base="A=1\nB=1", more="A=2", file="secret", token="hunter2\n")
    spec = run_spec(record, task, "cluster", NODE)
    env = dict(spec.env)
    assert (env["A"], env["B"]) == ("2", "own")
    assert [(file.target, file.data, file.mode) for file in spec.files] == [
        ("/a", b"x", 0o444),
        ("/b", b"secret", 0o600),
    ]
    assert spec.login is not None
    assert (spec.login.username, spec.login.password) == ("bot", "hunter2")
    assert "hunter2" not in repr(spec)


@pytest.mark.parametrize("missing", ["base", "file", "token"])
def test_a_variable_that_is_missing_is_the_reason(missing: str) -> None:
    container = ContainerSpec(
        env_files=("base",),
        files=(FileSpec(target="/b", variable="file"),),
        auth=RegistryAuth(username="bot", password_variable="token"),
    )
    task = replace(task_of("run", image="x"), container=container)
    known = {name: "A=1" for name in ("base", "file", "token") if name != missing}
    with pytest.raises(StartError, match=f"variable '{missing}' does not exist .* raftsman var put {missing} VALUE"):
        run_spec(record_of(task, **known), task, "cluster", NODE)


def test_an_env_file_that_is_none_is_the_reason_for_good() -> None:
    task = replace(task_of("run", image="x"), container=ContainerSpec(env_files=("base",)))
    with pytest.raises(StartError, match="variable 'base', used as an env file: line 1") as caught:
        run_spec(record_of(task, base="hunter2"), task, "cluster", NODE)
    assert caught.value.permanent
    assert "hunter2" not in caught.value.reason


def test_on_the_hosts_network_a_task_listens_on_the_hosts_port() -> None:
    task = task_of("run", image="x")
    assignment = assignment_of(key_of(), task, ports=(PortBinding(label="http", host_port=20_001, to=80),))
    host = replace(assignment, group=replace(assignment.group, network_mode="host"))
    spec = run_spec(Record(assignment=host), task, "cluster", NODE)
    assert (dict(spec.env)["RAFTSMAN_PORT_HTTP"], spec.ports, spec.network_mode) == ("20001", (), "host")


async def test_a_process_driver_refuses_what_takes_a_container(tmp_path: Path) -> None:
    task = replace(task_of("run"), driver="process", container=ContainerSpec(read_only=True))
    with pytest.raises(StartError, match="has no 'read_only'") as caught:
        await ProcessDriver(tmp_path).prepare(spec_of(task))
    assert caught.value.permanent


# ---------------------------------------------------------------------------- files, volumes, the holder


def names(archive: bytes) -> list[tuple[str, int]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(member.name, member.mode) for member in tar.getmembers()]


def test_files_go_where_they_lie_also_where_nothing_else_can_be_written() -> None:
    files = (InlineFile(target="/etc/app/a", data=b"1"), InlineFile(target="/data/x/b", data=b"2", mode=0o600))
    task = replace(task_of("run", image="x"), mounts=(MountSpec(source="v", target="/data", read_only=False),))
    plain = spec_of(task, files=files)
    assert docker_files.own_volumes(plain) == []
    assert [(root, names(data)) for root, data in docker_files.archives(plain)] == [
        ("/", [("etc/app/a", 0o444)]),
        ("/data", [("x/b", 0o600)]),
    ]
    written = (InlineFile(target="//etc/./app/a", data=b"1"), InlineFile(target="//data/./x/b", data=b"2", mode=0o600))
    odd = replace(task, mounts=(MountSpec(source="v", target="/data/", read_only=False),))
    assert [(root, names(data)) for root, data in docker_files.archives(replace(plain, task=odd, files=written))] == [
        ("/", [("etc/app/a", 0o444)]),
        ("/data/", [("x/b", 0o600)]),
    ]
    sealed = replace(plain, task=replace(task, container=ContainerSpec(read_only=True)))
    assert docker_files.own_volumes(sealed) == ["/etc/app"]
    assert [root for root, _ in docker_files.archives(sealed)] == ["/data", "/etc/app"]


def test_directories_of_a_volume_are_made_one_within_the_other() -> None:
    assert [name for name, _ in names(docker_files.directory_tar("a/b/c"))] == ["a", "a/b", "a/b/c"]


def test_an_engine_that_can_mounts_a_directory_of_a_volume_itself() -> None:
    mount = MountSpec(source="v", target="/data", read_only=True, sub_path="a/b")
    host = MountSpec(source="/srv", target="/srv", sub_path="x")
    task = replace(task_of("run", image="x"), mounts=(mount, host))
    made = docker_arguments.arguments(spec_of(task), Engine(), ["127.0.0.1"], {})["host"]
    assert made["mounts"] == [
        {
            "Type": "volume",
            "Source": "raftsman-01234567-default-v",
            "Target": "/data",
            "ReadOnly": True,
            "VolumeOptions": {"Subpath": "a/b"},
        }
    ]
    assert made["binds"] == ["/srv/x:/srv:ro"]


def test_paths_in_memory_have_the_size_the_mode_and_the_owner_that_were_asked_for() -> None:
    paths = (TmpfsSpec(target="/run"), TmpfsSpec(target="/x", size_mib=1, mode=0o750, uid=7, gid=8))
    task = replace(task_of("run", image="x"), container=ContainerSpec(tmpfs=paths))
    made = docker_arguments.arguments(spec_of(task), Engine(), ["127.0.0.1"], {})["host"]
    assert made["tmpfs"] == {"/run": "", "/x": "size=1048576,mode=750,uid=7,gid=8"}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('exec: "run": executable file not found in $PATH', "command 'run' not found in image x: "),
        ('exec: "/run": stat /run: no such file or directory', "command 'run' not found in image x: "),
        ('exec: "/etc": permission denied', "command 'run' cannot be run in image x: "),
        (
            'error mounting "tmpfs" to rootfs at "/proc/x": mkdir /merged/proc/x: no such file or directory',
            "a volume or tmpfs cannot be mounted where it was asked for: ",
        ),
        ("source /merged/etc/passwd is not directory", "a volume or tmpfs cannot be mounted where it was asked for: "),
        (
            'exec failed: chdir to cwd ("/root") set in config.json failed: permission denied',
            "the working directory '/root' cannot be entered: ",
        ),
    ],
)
def test_what_keeps_a_container_from_starting_is_told_for_what_it_is(said: str, reason: str) -> None:
    error = docker_start._start_error(spec_of(replace(task_of("run", image="x"), work_dir="/root")), said)
    assert (error.reason, error.permanent) == (reason + said, True)


def test_groups_that_start_together_make_the_image_of_their_networks_holder_once() -> None:
    class Slow:
        """An engine that takes in an image while others ask for it."""

        def __init__(self) -> None:
            self.imports = 0
            self.asked = 0
            self.lock = threading.Lock()
            self.asking = threading.Barrier(4)

        def inspect_image(self, _name: str) -> None:
            if self.imports:
                return
            with self.lock:
                first = self.asked < 4
                self.asked += 1
            if first:
                self.asking.wait(10)  # all see that it is not there
            raise docker.errors.NotFound("no such image")

        def import_image_from_data(self, *_image: object, **_names: object) -> None:
            self.imports += 1

    engine = Slow()
    threads = [threading.Thread(target=docker_sandbox.make_image, args=(engine, "amd64")) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert engine.imports == 1


# ---------------------------------------------------------------------------- networks


class Networks:
    """As far as an engine tells of them."""

    def __init__(self, **known: dict[str, Any]) -> None:
        self.known = known
        self.asked: list[str] = []

    def inspect_network(self, name: str) -> dict[str, Any]:
        self.asked.append(name)
        if name not in self.known:
            raise docker.errors.NotFound(f"network {name} not found")
        return self.known[name]


@pytest.mark.parametrize(
    ("config", "address"),
    [
        ([{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}], "172.17.0.1"),
        ([{"Subnet": "10.9.0.0/24"}], "10.9.0.1"),
        ([{"Subnet": "fd00::/64", "Gateway": "fd00::1"}, {"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.7"}], "10.9.0.7"),
        ([{"Subnet": "fd00::/64"}], ""),
        (None, ""),
    ],
)
def test_where_the_machine_is_in_the_bridge_network(config: Any, address: str) -> None:
    assert docker_networks.gateway(Networks(bridge={"IPAM": {"Config": config}})) == address  # type: ignore[arg-type]


def test_an_engine_without_a_bridge_network_has_no_address_there() -> None:
    assert docker_networks.gateway(Networks()) == ""  # type: ignore[arg-type]


def test_containers_ask_the_agent_for_names_where_they_reach_it() -> None:
    engine = Networks(
        mine={"Driver": "bridge", "Internal": False},
        walled={"Driver": "bridge", "Internal": True},
        beside={"Driver": "macvlan", "Internal": False},
    )
    asked = {}
    for mode in ("bridge", "host", "none", "mine", "walled", "beside", "absent"):
        spec = spec_of(task_of("run", image="x"), resolver="172.17.0.1", network_mode=mode)
        spec = docker_networks.reaches_gateway(engine, spec)  # type: ignore[arg-type]
        host = docker_arguments.arguments(spec, Engine(), ["127.0.0.1"], {})["host"]
        assert ("dns_search" in host) == ("dns" in host)
        asked[mode] = host.get("dns")
    there = ["172.17.0.1"]
    assert asked == {
        "bridge": there, "host": None, "none": None, "mine": there, "walled": None, "beside": None, "absent": there,
    }  # fmt: skip
    assert engine.asked == ["mine", "walled", "beside", "absent"], "the engine is asked only where it may be otherwise"


def test_a_port_binds_every_address_that_it_is_published_at() -> None:
    spec = spec_of(task_of("run", image="x"), ports=(PortBinding(label="http", host_port=20_000, to=80),))
    host = docker_arguments.arguments(spec, Engine(), ["127.0.0.1", "172.17.0.1"], {})["host"]
    assert host["port_bindings"] == {"80/tcp": [("127.0.0.1", 20_000), ("172.17.0.1", 20_000)]}


@pytest.mark.parametrize(("signal", "asked"), [("SIGTERM", None), ("SIGINT", "SIGINT")])
def test_an_image_says_how_it_is_stopped_unless_the_job_does(signal: str, asked: str | None) -> None:
    task = replace(task_of("run", image="x"), stop=StopPolicy(signal=signal))
    assert docker_arguments.arguments(spec_of(task), Engine(), ["127.0.0.1"], {})["stop_signal"] == asked


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("manifest unknown", "image x:1 not found: manifest unknown"),
        (
            "dial tcp: lookup r on 1.1.1.1:53: no such host",
            "image x:1 not found: no such registry: dial",
        ),
        (
            "dial tcp: lookup r on 1.1.1.1:53: server misbehaving",
            "image x:1 cannot be had: its registry does not answer: dial",
        ),
        ("no matching manifest for linux/amd64", "image x:1 cannot be pulled: no matching manifest"),
        (
            "failed to register layer: write /x: no space left on device",
            "the disk of this node's Docker engine is full: failed",
        ),
    ],
)
def test_a_registry_that_cannot_be_asked_has_not_said_that_there_is_no_such_image(said: str, told: str) -> None:
    assert _failed("x:1", said, None).reason.startswith(told)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("nginx", "nginx"),
        ("nginx:1.27", "nginx"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b"),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b"),
        ("ghcr.io/a/b:1@sha256:00", "ghcr.io/a/b"),
    ],
)
def test_the_repository_of_an_image(image: str, name: str) -> None:
    assert repository(image) == name


@pytest.mark.parametrize(("architecture", "machine"), [("x86_64", 62), ("amd64", 62), ("aarch64", 183), ("arm64", 183)])
def test_the_holder_of_a_network_is_a_program_for_the_engines_processor(architecture: str, machine: int) -> None:
    data = docker_sandbox.image_tar(architecture)
    assert data is not None
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        (member,) = tar.getmembers()
        content = tar.extractfile(member)
        assert content is not None
        program = content.read()
    assert (member.name, member.mode, program[:4]) == ("pause", 0o755, b"\x7fELF")
    assert struct.unpack_from("<HH", program, 16) == (2, machine)
    (entry,) = struct.unpack_from("<Q", program, 24)
    offset, base, _, in_file, in_memory = struct.unpack_from("<QQQQQ", program, 64 + 8)
    assert offset + entry - base < in_file == in_memory == len(program)
    assert docker_sandbox.image_tar("riscv64") is None


def test_progress_counts_the_bytes_of_layers() -> None:
    progress = _Progress("nginx:1")
    for line in (
        {"status": "Pulling fs layer", "id": "a"},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 1 << 20, "total": 4 << 20}},
        {"status": "Downloading", "id": "b", "progressDetail": {"current": 1 << 20, "total": 2 << 20}},
        {"status": "Download complete", "id": "a"},
        {"status": "Extracting", "id": "a", "progressDetail": {"current": 5, "total": 9}},
    ):
        progress.take(line)
    assert progress.text() == "pulling nginx:1: 5 of 6 MiB"


# ---------------------------------------------------------------------------- settled digests


class Registrar(FakeDriver):
    """A fake driver whose images have digests; ``answers``: what a name means, one time after the other."""

    def __init__(self, *answers: str | None) -> None:
        super().__init__()
        self.answers = list(answers)
        self.prepared: list[str] = []

    async def resolve(self, spec: RunSpec) -> str | None:
        return self.answers.pop(0)

    async def prepare(self, spec: RunSpec) -> None:
        self.prepared.append(spec.digest)


def settling(digest: str) -> Callable[[AssignmentKey, int, str, str], Awaitable[str]]:
    async def settle(_key: AssignmentKey, _version: int, _image: str, _digest: str) -> str:
        return digest

    return settle


async def test_what_was_settled_is_fetched_and_not_what_this_node_found() -> None:
    driver = Registrar("sha256:mine")
    ready = await pins.prepare(driver, spec_of(task_of("run", image="x")), 1, settling("sha256:theirs"))
    assert (ready.digest, driver.prepared) == ("sha256:theirs", ["sha256:theirs"])


async def test_a_digest_that_is_known_only_after_the_pull_is_settled_then() -> None:
    driver = Registrar(None, "sha256:mine")
    ready = await pins.prepare(driver, spec_of(task_of("run", image="x")), 1, settling("sha256:theirs"))
    assert (ready.digest, driver.prepared) == ("sha256:theirs", ["", "sha256:theirs"])


async def test_what_has_no_digest_and_what_is_settled_already_asks_nobody() -> None:
    unknown = Registrar("")
    ready = await pins.prepare(unknown, spec_of(task_of("run", image="x")), 1, settling("never"))
    assert (ready.digest, unknown.prepared) == ("", [""])
    known = Registrar()
    spec = spec_of(task_of("run", image="x"), digest="sha256:kept")
    assert (await pins.prepare(known, spec, 1, settling("never"))).digest == "sha256:kept"
