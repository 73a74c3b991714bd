"""Bad input and what it gets, on one real cluster: the command line's words and exit codes, and what any client gets.

Jobs that are wrong are refused with the place; jobs that cannot run say why and `run` exits truthfully; processes that
must not run refuse and say how to proceed. What the disk can do to a peer stands in ``test_bad_disk``.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import grpc
import pytest

from orchestrator.contract.channel import CHANNEL_OPTIONS, PEER_SERVER_NAME, channel_credentials
from orchestrator.contract.status import from_rpc_error
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1 import control_pb2_grpc as rpc
from orchestrator.contract.v1 import types_pb2
from orchestrator.ops import certs
from orchestrator.ops.dev import LocalCluster
from tests.integration.running import running

pytestmark = pytest.mark.cluster

IMAGE = "raftsman-test:busybox"
MIB = 1024 * 1024


def docker_answers() -> bool:
    try:
        engine = docker.from_env()
        try:
            engine.images.get(IMAGE)
        finally:
            engine.close()
    except docker.errors.DockerException:
        return False
    return True


needs_docker = [
    pytest.mark.docker,
    pytest.mark.skipif(not docker_answers(), reason=f"no Docker engine answers, or it has no {IMAGE}"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with running(LocalCluster(peers=3, agents=2, driver="auto")) as made:
        yield made


def dial(cluster: LocalCluster) -> grpc.Channel:
    options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", PEER_SERVER_NAME))
    return grpc.secure_channel(cluster.endpoints[0], channel_credentials(cluster.tls), options=options)


@pytest.fixture
def control(cluster: LocalCluster) -> Iterator[rpc.ControlStub]:
    """What a client in any language has: a stub, and one peer."""
    with dial(cluster) as channel:
        yield rpc.ControlStub(channel)


class Shell:
    """``raftsman`` as a user types it."""

    def __init__(self, cluster: LocalCluster, directory: Path) -> None:
        self.directory = directory
        self.env = {
            **os.environ,
            "RAFTSMAN_CONFIG_DIR": str(directory / "config"),
            "RAFTSMAN_ENDPOINTS": ",".join(cluster.endpoints),
            "RAFTSMAN_TLS_DIR": str(cluster.tls_directory),
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "orchestrator.cli.main", *words]
        return subprocess.run(argv, env=self.env, cwd=self.directory, capture_output=True, text=True, timeout=120)

    def job(self, text: str, *words: str) -> subprocess.CompletedProcess[str]:
        (self.directory / "job.yaml").write_text(text)
        return self.run("run", "job.yaml", *words)


@pytest.fixture
def shell(cluster: LocalCluster, tmp_path: Path) -> Shell:
    return Shell(cluster, tmp_path)


@pytest.fixture
def name() -> str:
    return f"job-{secrets.token_hex(3)}"


# ---------------------------------------------------------------------------- wrong jobs: files

GOOD = "name: web\ncommand: [sleep, '60']\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [web\n", "job.yaml:2:1: not YAML"),
        ("name: web\nimge: nginx\n", "job.yaml:2:1: unknown key 'imge'; did you mean 'image'?"),
        (GOOD + "resources: {memory: 5Mx}\n", "job.yaml:3:21: resources.memory: "),
        (GOOD + "resources: {cpu: -1}\n", "job.yaml:3:18: resources.cpu: "),
        (GOOD + "count: -1\n", "job.yaml:3:8: count: must be at least 0, got -1"),
        (GOOD + "count: 99999999999\n", "job.yaml:3:8: count: must be at most 100000"),
        (GOOD + "resources: {gpus: 1000}\n", "job.yaml:3:"),
        ("name: ../x\ncommand: ['true']\n", "job.yaml:1:7: name: expected 1 to 63 lower-case letters"),
        (
            "name: web\ngroups:\n- {name: a, command: ['true']}\n- {name: a, command: ['true']}\n",
            "job.yaml:4:10: groups[1].name: ",
        ),
        ("name: web\nname: web\ncommand: ['true']\n", "job.yaml:2:1: key 'name' is there twice"),
    ],
)
def test_a_wrong_job_file_is_refused_with_its_place(shell: Shell, text: str, said: str) -> None:
    result = shell.job(text)
    assert result.returncode == 2, result.stderr
    assert said in result.stderr


def test_a_job_file_over_one_mebibyte_is_refused(shell: Shell) -> None:
    result = shell.job(f"name: web\ncommand: ['true']\nenv: {{A: {'x' * MIB}}}\n")
    assert result.returncode == 2
    assert "1 MiB" in result.stderr or str(MIB) in result.stderr, result.stderr


# ---------------------------------------------------------------------------- wrong jobs: any client


def spec(name: str = "web", **task: Any) -> types_pb2.JobSpec:
    return types_pb2.JobSpec(
        name=name,
        type=types_pb2.JOB_TYPE_SERVICE,
        groups=[types_pb2.GroupSpec(name="main", count=1, tasks=[types_pb2.TaskSpec(command=["sleep", "60"], **task)])],
    )


def changed(change: Callable[[types_pb2.JobSpec], object]) -> types_pb2.JobSpec:
    made = spec()
    change(made)
    return made


WRONG = {
    "a path as its name": (spec("../x"), "name: "),
    "no name": (spec(""), "name: "),
    "nothing to run": (types_pb2.JobSpec(name="web"), "groups: "),
    "a negative count": (changed(lambda job: setattr(job.groups[0], "count", -1)), "groups[0].count: "),
    "an absurd count": (changed(lambda job: setattr(job.groups[0], "count", 1 << 60)), "groups[0].count: "),
    "negative memory": (
        spec(resources=types_pb2.Resources(memory_mib=-5)),
        "groups[0].tasks[0].resources.memory_mib: ",
    ),
    "absurd memory": (
        spec(resources=types_pb2.Resources(memory_mib=1 << 62)),
        "groups[0].tasks[0].resources.memory_mib: ",
    ),
    "a type of tomorrow": (changed(lambda job: setattr(job, "type", 77)), "type"),
    "two groups of one name": (changed(lambda job: job.groups.append(job.groups[0])), "groups[1].name: "),
    "two tasks of one name": (
        changed(lambda job: job.groups[0].tasks.append(job.groups[0].tasks[0])),
        "groups[0].tasks",
    ),
    "a policy that is none": (changed(lambda job: setattr(job, "placement", "binpak")), "did you mean 'binpack'?"),
    "a variable of ours": (spec(env={"RAFTSMAN_NODE": "me"}), "RAFTSMAN_NODE"),
    "too large": (spec(args=["x" * 100_000] * 11), f"at most {MIB}"),
}


@pytest.mark.parametrize(("job", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_job_is_an_invalid_argument_with_its_place(
    control: rpc.ControlStub, job: types_pb2.JobSpec, said: str
) -> None:
    for call, request in (
        (control.SubmitJob, pb.SubmitJobRequest(request_id=secrets.token_hex(8), job=job)),
        (control.SubmitJobs, pb.SubmitJobsRequest(request_id=secrets.token_hex(8), jobs=[spec("fine"), job])),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=20)
        error = from_rpc_error(caught.value)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, error.message
        assert error.reason == "INVALID"
        assert said in error.message
        assert call is control.SubmitJob or error.message.startswith("jobs[1]: ")
    with pytest.raises(grpc.RpcError) as missing:
        control.GetJob(pb.GetJobRequest(job=pb.JobKey(name="fine")), timeout=20)
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND, "all or none"


def test_two_jobs_of_one_name_in_one_submit_are_refused(control: rpc.ControlStub) -> None:
    request = pb.SubmitJobsRequest(request_id=secrets.token_hex(8), jobs=[spec("twin"), spec("other"), spec("twin")])
    with pytest.raises(grpc.RpcError) as caught:
        control.SubmitJobs(request, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "jobs[2].name: 'twin' is also the name of jobs[0]" in from_rpc_error(caught.value).message


# ---------------------------------------------------------------------------- jobs that cannot run


@pytest.mark.parametrize("kind", ["service", "batch"])
def test_an_unknown_command_is_tried_again_by_policy_then_stays_failed(shell: Shell, name: str, kind: str) -> None:
    text = f"name: {name}\ntype: {kind}\ncommand: [no-such-command]\nrestart: {{attempts: 2}}\n"
    result = shell.job(text)
    assert result.returncode == 4, result.stderr
    # Between its tries it waits for 2 s and for 4 s: a slow machine may see only the second wait.
    assert re.search(r"try [12] of 3", result.stderr), result.stderr
    assert f"{name}/main/0" in result.stderr
    assert "cannot run 'no-such-command': No such file or directory" in result.stderr
    assert re.search(rf"{name}/main/0 +failed +n\d +3 ", result.stdout), result.stdout
    why = shell.run("why", name)
    assert "it never started; try 3 of 3, as restart.attempts says" in why.stdout


def test_a_command_that_is_not_executable_fails_with_the_reason(shell: Shell, name: str) -> None:
    (shell.directory / "data.txt").write_text("no program\n")
    result = shell.job(f"name: {name}\ncommand: [{shell.directory}/data.txt]\nrestart: {{attempts: 0}}\n")
    assert result.returncode == 4, result.stderr
    assert "Permission denied" in result.stderr


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("image: no.such.registry.invalid/nothing:1\n", "image no.such.registry.invalid/nothing:1 not found: "),
        (f"image: {IMAGE}\ncommand: [no-such-command]\n", f"command not found in image {IMAGE}"),
    ],
    ids=["image", "command"],
)
@pytest.mark.parametrize("mark", [pytest.param(None, marks=needs_docker)], ids=["docker"])
def test_an_unknown_image_or_command_in_it_stays_failed_after_its_tries(
    shell: Shell, name: str, task: str, said: str, mark: None
) -> None:
    text = f"name: {name}\n{task}restart: {{attempts: 1}}\n"
    result = shell.job(text)
    if result.returncode == 0:  # its engine was slow to say that it had ended, so it was up for two seconds
        result = shell.job(text)
    assert result.returncode == 4, result.stderr
    assert said in result.stderr
    assert re.search(rf"{name}/main/0 +failed +n\d +2 ", result.stdout), result.stdout


def test_a_batch_job_that_fails_is_restarted_by_policy_and_shows_its_last_lines(shell: Shell, name: str) -> None:
    command = "[sh, -c, 'echo computed; echo but wrongly >&2; exit 3']"
    policy = "{attempts: 1, delay: 1s}"
    result = shell.job(f"name: {name}\ntype: batch\ncommand: {command}\nrestart: {policy}\n")
    assert result.returncode == 4, result.stderr
    assert f"{name}/main/0" in result.stderr
    assert "exit code 3 (restarted 1 time)" in result.stderr
    assert "| computed\n" in result.stderr
    assert "| but wrongly\n" in result.stderr


def test_a_job_without_room_is_pending_with_why_and_exits_3_at_its_timeout(shell: Shell, name: str) -> None:
    result = shell.job(f"name: {name}\ncommand: [sleep, '60']\nresources: {{memory: 500Ti}}\n", "--timeout", "2s")
    assert result.returncode == 3, result.stderr
    assert "memory: short by" in result.stderr
    assert "to change it: " in result.stderr
    why = shell.run("why", name)
    assert why.returncode == 0
    assert "memory: short by" in why.stdout
    assert shell.run("rm", "-y", name).returncode == 0


def test_out_of_time_while_a_start_is_tried_again_is_5_and_no_lack_of_room(shell: Shell, name: str) -> None:
    text = f"name: {name}\ncommand: [no-such-command]\nrestart: {{attempts: 8}}\n"
    result = shell.job(text, "--timeout", "4s")
    assert result.returncode == 5, result.stderr
    assert "No such file or directory" in result.stderr
    assert shell.run("rm", "-y", name).returncode == 0


def test_detached_a_job_that_cannot_run_is_accepted(shell: Shell, name: str) -> None:
    assert shell.job(f"name: {name}\ncommand: [no-such-command]\n", "--detach").returncode == 0
    assert shell.run("rm", "-y", name).returncode == 0


@pytest.mark.parametrize(
    ("key", "flag"),
    [
        ("privileged: true", "--allow-privileged"),
        ("volumes: ['/etc:/x']", "--allow-host-paths"),
        ("cap_add: [SYS_ADMIN]", "--allow-cap SYS_ADMIN"),
    ],
)
def test_privileges_and_host_paths_are_refused_with_the_policy_that_allows_them(
    shell: Shell, name: str, key: str, flag: str
) -> None:
    result = shell.job(f"name: {name}\nimage: {IMAGE}\n{key}\n")
    assert result.returncode == 1, result.stderr
    assert "policy" in result.stderr
    assert f"start the peers with {flag}" in result.stderr


# ---------------------------------------------------------------------------- processes that must not run


def refusal(argv: tuple[str, ...], **flags: str) -> str:
    """What the process says instead of running."""
    words = list(argv)
    for flag, value in flags.items():
        words[words.index(f"--{flag}") + 1] = value
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1, done.stderr
    return next(line for line in done.stderr.splitlines() if line.startswith("raftsman "))


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def argv_of(cluster: LocalCluster, member: str) -> tuple[str, ...]:
    found = cluster.record.find(member)
    assert found is not None
    return found.argv


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """Flags of a further process that takes nothing from those that run."""
    return {"listen": free_address(), "http": free_address(), "data": str(tmp_path / "data")}


def test_a_taken_port_is_named(cluster: LocalCluster, elsewhere: dict[str, str]) -> None:
    taken = cluster.endpoints[0]
    said = refusal(argv_of(cluster, "p1"), **{**elsewhere, "listen": taken})
    assert f"--listen {taken}" in said
    assert "choose another address" in said


def test_a_data_directory_in_use_is_refused(cluster: LocalCluster, elsewhere: dict[str, str]) -> None:
    del elsewhere["data"]
    said = refusal(argv_of(cluster, "p1"), **elsewhere)
    assert "is in use by process" in said
    del elsewhere["listen"]
    assert "in use" in refusal(argv_of(cluster, "n1"), **elsewhere)


def test_a_data_directory_of_another_peer_or_cluster_is_refused(
    cluster: LocalCluster, elsewhere: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(cluster.data / "peers" / "p2", tmp_path / "data")
    said = refusal(argv_of(cluster, "p1"), **elsewhere)
    assert "belongs to peer 'p2'" in said
    assert "name another data directory" in said
    certs.create_authority(tmp_path / "tls", "other")
    other = str(certs.issue(tmp_path / "tls", "peer", "p2"))
    said = refusal(argv_of(cluster, "p2"), **elsewhere, cluster="other", tls=other)
    assert f"of cluster '{cluster.name}'" in said


def test_a_peer_with_another_peer_list_refuses_to_run(cluster: LocalCluster, elsewhere: dict[str, str]) -> None:
    peers = list(zip(cluster.peer_names(), cluster.endpoints, strict=True))
    # p9 stands in the place of p3, as after a copied command line.
    wrong = ",".join(f"{name}={address}" for name, address in [*peers[:2], ("p9", elsewhere["listen"])])
    tls = str(certs.issue(cluster.data / "tls", "peer", "p9"))
    before = cluster_status(cluster)
    said = refusal(argv_of(cluster, "p1"), **elsewhere, id="p9", peers=wrong, tls=tls)
    assert "this peer cannot take part" in said
    assert "peer list" in said or "is not in this peer's list" in said
    assert "then start it again" in said
    after = cluster_status(cluster)
    assert (after.term, after.leader_id) == (before.term, before.leader_id), "nobody else noticed"


def test_a_peer_with_a_foreign_certificate_refuses_to_run(
    cluster: LocalCluster, elsewhere: dict[str, str], tmp_path: Path
) -> None:
    certs.create_authority(tmp_path / "tls", cluster.name)
    foreign = str(certs.issue(tmp_path / "tls", "peer", "p1"))
    said = refusal(argv_of(cluster, "p1"), **elsewhere, tls=foreign)
    assert "its certificate is not of the authority in this peer's ca.pem" in said


def test_an_agent_with_a_foreign_certificate_refuses_to_run(
    cluster: LocalCluster, elsewhere: dict[str, str], tmp_path: Path
) -> None:
    certs.create_authority(tmp_path / "tls", cluster.name)
    foreign = str(certs.issue(tmp_path / "tls", "agent", "n1"))
    del elsewhere["listen"]
    said = refusal(argv_of(cluster, "n1"), **elsewhere, tls=foreign)
    assert "certificates are not of the authority in ca.pem" in said
    assert "raftsman certs" in said


# ---------------------------------------------------------------------------- too much at once


def cluster_status(cluster: LocalCluster) -> Any:
    with dial(cluster) as channel:
        return rpc.ControlStub(channel).ClusterStatus(pb.ClusterStatusRequest(), timeout=20)


@pytest.mark.slow
def test_a_job_of_twenty_thousand_without_room_waits_and_changes_no_term(
    cluster: LocalCluster, control: rpc.ControlStub
) -> None:
    before = cluster_status(cluster)
    pids = [member.pid for member in cluster.record.members]
    large = spec("large", resources=types_pb2.Resources(cpu_millis=1000, memory_mib=1 << 20))
    large.groups[0].count = 20_000
    control.SubmitJob(pb.SubmitJobRequest(request_id=secrets.token_hex(8), job=large), timeout=60)
    until = time.monotonic() + 3  # several election timeouts
    while time.monotonic() < until:
        now = cluster_status(cluster)
        assert (now.term, now.leader_id) == (before.term, before.leader_id)
        time.sleep(0.2)
    assert [member.pid for member in cluster.record.members if member.alive] == pids
    shown = control.GetJob(pb.GetJobRequest(job=pb.JobKey(name="large")), timeout=20)
    assert shown.job.groups[0].pending == 20_000
