"""``--profile dind``: three agents with an engine each, real containers inside, no engine within a task's reach."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_compose import COMPOSE, IMAGE, ROOT, Project, base_image, docker, eventually

PROJECT = "raftsman-test-dind"
ENGINES = ("engine-1", "engine-2", "engine-3")

pytestmark = [
    pytest.mark.compose,
    pytest.mark.docker,
    pytest.mark.cluster,
    pytest.mark.slow,  # four engines on one machine
    pytest.mark.timeout(600),
    pytest.mark.skipif(not COMPOSE, reason="no Docker engine answers, or there is no docker-compose"),
]


def privileged_containers_start() -> bool:
    """Whether this engine may give all capabilities; one inside a smaller sandbox may not."""
    return subprocess.run(["docker", "run", "--rm", "--privileged", IMAGE, "true"], capture_output=True).returncode == 0


def engine_image() -> str:
    """The default where it is or can be had, else one made from Debian's packages."""
    if subprocess.run(["docker", "image", "inspect", "docker:27-dind"], capture_output=True).returncode == 0:
        return "docker:27-dind"
    if subprocess.run(["docker", "pull", "-q", "docker:27-dind"], capture_output=True).returncode == 0:
        return "docker:27-dind"
    return debian_engine()


def debian_engine() -> str:
    subprocess.run([str(ROOT / "scripts" / "make_dind_base")], check=True, capture_output=True)
    return "raftsman-dind:local"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("dind"), PROJECT)
    project.profile = ("--profile", "dind")
    project.env |= {"BASE": base_image(), "DIND_ARGS": "--storage-driver=vfs"}
    subprocess.run([str(ROOT / "scripts" / "lib" / "test_image.sh")], check=True, capture_output=True)
    if privileged_containers_start():
        project.env["DIND_IMAGE"] = engine_image()
    else:
        project.env["DIND_IMAGE"] = debian_engine()
        project.files = (*project.files, ROOT / "scripts" / "lib" / "dind_capabilities.yml")
    try:
        project.compose("up", "-d", "--build", "--scale", "agent=0")
        eventually(lambda: len(project.ready_nodes()) == 3, within_s=120)
        yield project
    finally:
        project.compose("down", "-v", "--remove-orphans", "--timeout", "2")


def inside(project: Project, engine: str, *arguments: str) -> str:
    """A ``docker`` command at an inner engine."""
    return docker("exec", project.container(engine), "docker", *arguments)


def containers(project: Project, engine: str) -> list[str]:
    return inside(project, engine, "ps", "-q", "--filter", "label=raftsman.job=everywhere").split()


def test_three_nodes_have_three_engines_and_run_a_spread_job_inside_them(project: Project) -> None:
    assert not project.container("agent"), "--scale agent=0 leaves no agent on the host's engine"
    host = docker("info", "-f", "{{.ID}}")
    engines = {node["spec"]["engine_id"] for node in project.ready_nodes()}
    assert len(engines) == 3
    assert engines == {inside(project, one, "info", "-f", "{{.ID}}") for one in ENGINES}
    assert host not in engines

    saved = subprocess.run(["docker", "save", IMAGE], check=True, capture_output=True).stdout
    for one in ENGINES:
        load = ["docker", "exec", "-i", project.container(one), "docker", "load"]
        subprocess.run(load, input=saved, check=True, capture_output=True)

    file = project.folder / "job.yaml"
    file.write_text(
        f"name: everywhere\nimage: {IMAGE}\ncount: 3\nplacement: spread\n"
        "command: [sh, -c, 'echo I am here > /tmp/index.html; httpd -f -p $RAFTSMAN_PORT_HTTP -h /tmp']\n"
        "resources: {cpu: 100m, memory: 32Mi}\nports: [{label: http}]\n"
        "health: {tcp: http, interval: 1s}\n"
    )
    project.raftsman("run", str(file))
    found = {one: containers(project, one) for one in ENGINES}
    assert [len(ids) for ids in found.values()] == [1, 1, 1], found
    assert not docker("ps", "-q", "--filter", "label=raftsman.job=everywhere"), "one of them runs on the host's engine"

    # From each engine the others are reached by name.
    file.write_text(
        f"name: asks\ntype: batch\nimage: {IMAGE}\ncount: 3\nplacement: spread\nneeds: [everywhere]\n"
        "command: [sh, -c, 'wget -qO- http://everywhere.service.raftsman:$EVERYWHERE_SERVICE_PORT/']\n"
        "resources: {cpu: 100m, memory: 32Mi}\n"
    )
    project.raftsman("run", str(file))  # until all have ended well

    # An agent's death touches nothing: the next one finds its engine and adopts.
    victim = project.container("agent-dind-1")
    docker("kill", victim)
    docker("start", victim)
    eventually(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", victim) == "healthy")
    assert {one: containers(project, one) for one in ENGINES} == found

    # A task cannot reach the engine that runs it: there is no port to knock at.
    for port in ("2375", "2376"):
        task = found["engine-1"][0]
        gate = inside(
            project, "engine-1", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", task
        )
        knock = ["docker", "exec", project.container("engine-1"), "docker", "exec", task, "nc", "-w", "2", gate, port]
        assert subprocess.run(knock, stdin=subprocess.DEVNULL, capture_output=True).returncode != 0

    # Nor a peer or the gateway, as on a shared engine.
    for service, port in (("p1", "7400"), ("gateway", "8080")):
        where = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = docker("inspect", "-f", where, project.container(service))
        dial = f"import socket; socket.create_connection(('{address}', {port}), 10)"
        docker("exec", project.container("agent-dind-1"), "/opt/venv/bin/python", "-S", "-c", dial)
        knock = ["docker", "exec", project.container("engine-1"), "docker", "exec", found["engine-1"][0], "nc"]
        knock += ["-w", "2", address, port]
        assert subprocess.run(knock, stdin=subprocess.DEVNULL, capture_output=True).returncode != 0

    project.raftsman("rm", "-y", "everywhere")
    eventually(lambda: not any(containers(project, one) for one in ENGINES))


def test_the_capability_file_names_every_engine(tmp_path: Path) -> None:
    files = ["-f", str(ROOT / "docker-compose.yml"), "-f", str(ROOT / "scripts" / "lib" / "dind_capabilities.yml")]
    command = [*COMPOSE, *files, "--profile", "dind", "config"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "privileged: true" not in done.stdout
    assert done.stdout.count("seccomp:unconfined") == len(ENGINES)
