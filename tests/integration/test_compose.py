"""The compose file, for real: built, started, used, scaled and hurt. One cluster for all tests of this module."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "raftsman-test"
IMAGE = "raftsman-test:busybox"


def engine_answers() -> bool:
    return (
        shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


def compose_command() -> list[str]:
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    return []


COMPOSE = compose_command() if engine_answers() else []
pytestmark = [
    pytest.mark.compose,
    pytest.mark.docker,
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not COMPOSE, reason="no Docker engine answers, or there is no docker-compose"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(check: Callable[[], Any], *, within_s: float = 60.0) -> Any:
    """What ``check`` returns once it is true; fails with its last answer or error."""
    deadline = time.monotonic() + within_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = check()
            if last:
                return last
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"not within {within_s} s; last: {last!r}")


class Project:
    """One compose project with ports and a client folder of its own, so that a user's cluster is left alone."""

    def __init__(self, folder: Path, name: str = PROJECT) -> None:
        self.folder = folder
        self.name = name
        self.files: tuple[Path, ...] = (ROOT / "docker-compose.yml",)
        self.profile: tuple[str, ...] = ()
        client = folder / ".raftsman" / "compose"
        client.mkdir(parents=True)
        self.gateway = f"http://127.0.0.1:{(port := free_port())}"
        self.env = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": name,
            "CLIENT_DIR": str(client),
            "GATEWAY_PORT": str(port),
            "RAFTSMAN_CONFIG_DIR": str(folder / "config"),
        }
        for name in ("P1", "P2", "P3"):
            self.env[f"{name}_PORT"] = str(free_port())
            self.env[f"{name}_METRICS_PORT"] = str(free_port())

    def compose(self, *arguments: str) -> str:
        files = [word for file in self.files for word in ("-f", str(file))]
        command = [*COMPOSE, *files, "--project-directory", str(ROOT), *self.profile, *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def raftsman(self, *arguments: str) -> Any:
        """JSON of a command in the project's folder, as an operator would type it."""
        command = [sys.executable, "-m", "orchestrator.cli.main", "--context", "compose", "-o", "json", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env={**self.env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise ValueError(f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def container(self, service: str, number: int = 1) -> str:
        return docker(
            "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}",
            "--filter", f"label=com.docker.compose.service={service}",
            "--filter", f"label=com.docker.compose.container-number={number}",
        )  # fmt: skip

    def http(self, path: str, body: Any = None, method: str | None = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.gateway + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None

    def ready_nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.raftsman("nodes")["nodes"] if node["status"] == "ready"]


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def base_image() -> str:
    """What the Dockerfile can build on here: the default where it is (or can be had), else one made from Debian."""
    if subprocess.run(["docker", "image", "inspect", "python:3.11-slim"], capture_output=True).returncode == 0:
        return "python:3.11-slim"
    if subprocess.run(["docker", "pull", "-q", "python:3.11-slim"], capture_output=True).returncode == 0:
        return "python:3.11-slim"
    subprocess.run([str(ROOT / "scripts" / "make_base")], check=True, capture_output=True)
    return "raftsman-base:local"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("compose"))
    project.env["BASE"] = base_image()
    subprocess.run([str(ROOT / "scripts" / "lib" / "test_image.sh")], check=True, capture_output=True)
    try:
        project.compose("up", "-d", "--build")
        eventually(lambda: len(project.ready_nodes()) == 3, within_s=240)
        yield project
    finally:
        ids = cluster_containers(project)
        project.compose("down", "-v", "--remove-orphans", "--timeout", "5")
        if ids:
            docker("rm", "-f", *ids)


def cluster_containers(project: Project) -> list[str]:
    """Those that this project's agents started (other clusters may share the engine)."""
    try:
        cluster = project.raftsman("peers")["cluster_id"]
    except ValueError:
        return []
    return docker("ps", "-aq", "--filter", f"label=raftsman.cluster={cluster}").split()


@pytest.mark.parametrize("profile", [[], ["--profile", "dind"]], ids=["shared engine", "dind"])
def test_the_file_parses(profile: list[str]) -> None:
    command = [*COMPOSE, "-f", str(ROOT / "docker-compose.yml"), *profile, "config"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not profile or "agent-dind-3" in done.stdout


def test_three_peers_agree_and_three_agents_offer_what_was_declared(project: Project) -> None:
    peers = project.raftsman("peers")["peers"]
    assert sorted(peer["role"] for peer in peers) == ["follower", "follower", "leader"]
    for node in project.ready_nodes():
        assert node["spec"]["capacity"]["cpu_millis"] == 2000
        assert len(node["devices"]) == 2
    assert len({node["spec"]["name"] for node in project.ready_nodes()}) == 3
    # One engine: host ports must be unique over all three.
    assert len({node["spec"]["engine_id"] for node in project.ready_nodes()}) == 1


def test_peers_have_no_privilege_and_agents_no_authority(project: Project) -> None:
    assert docker("exec", project.container("p1"), "id", "-u") == "10001"
    for service in ("agent", "p1", "gateway"):
        mounts = json.loads(docker("inspect", "-f", "{{json .Mounts}}", project.container(service)))
        assert not [mount for mount in mounts if "authority" in (mount.get("Name") or "")]


def test_the_predecessors_readme_calls_work(project: Project) -> None:
    body = {"name": "test-task", "image": IMAGE, "command": ["echo", "hello world"]}
    status, task = project.http("/api/v1/tasks", {**body, "resources": {"cpu": 500, "memory": 256}})
    assert (status, task["name"]) == (201, "test-task")
    done = eventually(lambda: (t := project.http(f"/api/v1/tasks/{task['id']}")[1])["state"] == "COMPLETED" and t)
    assert done["exit_code"] == 0
    assert task["id"] in [row["id"] for row in project.http("/api/v1/tasks")[1]]
    assert len(project.http("/api/v1/nodes")[1]) == 3
    assert project.http(f"/api/v1/tasks/{task['id']}", method="DELETE")[0] == 204


def test_killing_any_agent_or_peer_leaves_the_containers_alone(project: Project) -> None:
    project.raftsman(
        "run", "--name", "steady", "--type", "service", "--image", IMAGE, "--count", "2", "--", "sleep", "1000"
    )
    label = "label=raftsman.job=steady"
    before = sorted(docker("ps", "-q", "--filter", label).split())
    assert len(before) == 2
    for service, number in (("agent", 1), ("agent", 2), ("agent", 3), ("p1", 1), ("p2", 1), ("p3", 1)):
        victim = project.container(service, number)
        docker("kill", victim)
        docker("start", victim)
        eventually(lambda: len(project.ready_nodes()) == 3)
    eventually(lambda: len([p for p in project.raftsman("peers")["peers"] if p["connected"]]) == 3)
    assert sorted(docker("ps", "-q", "--filter", label).split()) == before
    project.raftsman("rm", "-y", "steady")
    eventually(lambda: not docker("ps", "-q", "--filter", label))


def test_a_task_reaches_neither_a_peer_nor_the_gateway(project: Project) -> None:
    project.raftsman("run", "--name", "inside", "--type", "service", "--image", IMAGE, "--", "sleep", "1000")
    (task,) = docker("ps", "-q", "--filter", "label=raftsman.job=inside").split()
    for service, port in (("p1", "7400"), ("gateway", "8080")):
        where = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = docker("inspect", "-f", where, project.container(service))
        dial = f"import socket; socket.create_connection(('{address}', {port}), 10)"
        docker("exec", project.container("agent"), "/opt/venv/bin/python", "-S", "-c", dial)
        knock = ["docker", "exec", task, "nc", "-w", "2", address, port]
        assert subprocess.run(knock, stdin=subprocess.DEVNULL, capture_output=True).returncode != 0
    project.raftsman("rm", "-y", "inside")


def test_checks_and_port_forward_reach_a_task_on_the_machines_loopback(project: Project) -> None:
    job = project.folder / "checked.yaml"
    job.write_text(
        f"name: checked\nimage: {IMAGE}\n"
        "command: [sh, -c, 'echo found > /tmp/index.html; exec httpd -f -p 80 -h /tmp']\n"
        "ports: [{label: http, to: 80}]\nhealth: {http: http/, interval: 1s}\nresources: {cpu: 100m, memory: 32Mi}\n"
    )
    project.raftsman("run", str(job))  # until it is ready
    local = free_port()
    command = [sys.executable, "-m", "orchestrator.cli.main", "--context", "compose", "port-forward", "checked"]
    environment = {**project.env, "PYTHONPATH": str(ROOT)}
    forwarding = subprocess.Popen([*command, f"{local}:80"], cwd=project.folder, env=environment)
    try:

        def page() -> bytes:
            with urllib.request.urlopen(f"http://127.0.0.1:{local}/", timeout=10) as answer:
                return bytes(answer.read())

        assert eventually(page) == b"found\n"
    finally:
        forwarding.terminate()
        forwarding.wait()
    project.raftsman("rm", "-y", "checked")


ASKS = """
name: asks-{number}
type: batch
count: 6
placement: spread
needs: [web]
network_mode: {network}
tasks:
  first: {{role: init, image: {image}, command: [sh, -c, 'true'], resources: {{cpu: 50m, memory: 16Mi}}}}
  asks:
    image: {image}
    command:
    - sh
    - -c
    - set -e; wget -qO- http://web.service.raftsman:$WEB_SERVICE_PORT/; wget -qO- http://web:$WEB_SERVICE_PORT/
    resources: {{cpu: 50m, memory: 32Mi}}
"""


def test_tasks_find_each_other_by_name_whichever_agent_runs_them(project: Project) -> None:
    holders = agents_at_the_bridge(project)
    if not holders:
        pytest.skip("port 53 of the engine's bridge is somebody else's, for example another compose cluster's")
    (holder,) = holders
    network = f"{PROJECT}-named"
    docker("network", "create", network)
    try:
        web = project.folder / "web.yaml"
        web.write_text(
            f"name: web\nimage: {IMAGE}\nports: [{{label: http, to: 80}}]\n"
            "command: [sh, -c, 'echo found > /tmp/index.html; exec httpd -f -p 80 -h /tmp']\n"
            "resources: {cpu: 100m, memory: 32Mi}\n"
        )
        project.raftsman("run", str(web))
        for number, where in enumerate(("bridge", network)):
            all_hear(project, number, where)
        docker("kill", holder)  # another one answers in its stead
        eventually(lambda: agents_at_the_bridge(project))
        all_hear(project, 2, "bridge")
        docker("start", holder)
        eventually(lambda: len(project.ready_nodes()) == 3)
        project.raftsman("rm", "-y", "web")
    finally:
        for task in docker("ps", "-aq", "--filter", f"network={network}").split():
            docker("rm", "-f", task)
        docker("network", "rm", network)


def all_hear(project: Project, number: int, network: str) -> None:
    """Six instances, on every agent that is there."""
    job = project.folder / "asks.yaml"
    job.write_text(ASKS.format(number=number, image=IMAGE, network=network))
    project.raftsman("run", str(job))  # until all have ended well
    project.raftsman("rm", "-y", f"asks-{number}")


def agents_at_the_bridge(project: Project) -> list[str]:
    """Containers of agents that have the bridge's address, as each has said since it was started last."""
    running = docker(
        "ps", "-q", "--filter", f"label=com.docker.compose.project={project.name}",
        "--filter", "label=com.docker.compose.service=agent",
    ).split()  # fmt: skip
    found = []
    for one in running:
        since = docker("inspect", "-f", "{{.State.StartedAt}}", one).strip()
        logs = subprocess.run(["docker", "logs", "--since", since, one], capture_output=True, text=True).stderr
        if '"dns_at_bridge"' in logs:
            found.append(one)
    return found


def test_agents_can_be_scaled(project: Project) -> None:
    project.compose("up", "-d", "--no-build", "--scale", "agent=5")
    eventually(lambda: len(project.ready_nodes()) == 5)
    assert len({node["spec"]["name"] for node in project.ready_nodes()}) == 5


def test_a_leader_of_the_compose_cluster_can_be_drilled(project: Project) -> None:
    command = [sys.executable, "-m", "orchestrator.cli.main", "--context", "compose", "drill", "kill-leader"]
    done = subprocess.run(
        [*command, "--rounds", "2", "--json"],
        cwd=project.folder, env={**project.env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert verdict["writes_lost"] == verdict["writes_duplicated"] == verdict["requests_failed"] == 0
    assert verdict["containers_restarted"] == verdict["containers_doubled"] == 0
