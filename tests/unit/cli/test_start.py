"""The program itself: what it loads, and how it ends when nobody reads."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.contract import answers, model
from orchestrator.contract.model import Event
from tests.unit.client.fake import FakePeer, World, job_spec

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-c", "from orchestrator.cli.main import main; main()"]


def environment(peer: FakePeer) -> dict[str, str]:
    return {**os.environ, "RAFTSMAN_ENDPOINTS": peer.address, "RAFTSMAN_CONFIG_DIR": "/nonexistent"}


def test_ps_loads_nothing_that_it_does_not_need() -> None:
    peer = FakePeer(World())
    try:
        code = (
            "import sys; from orchestrator.cli import main; main.run(['ps']);"
            "print(sorted({'pydantic', 'numpy', 'yaml', 'rich', 'structlog'} & set(sys.modules)), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment(peer), capture_output=True, text=True, check=True
        )
    finally:
        peer.kill()
    assert (done.stdout, done.stderr) == ("No jobs yet.\n", "[]\n")


def test_a_broken_pipe_is_quiet() -> None:
    world = World()
    for number in range(3_000):
        spec = job_spec(f"job-{number}")
        world.jobs[("default", spec.name)] = answers.JobStatus(spec=spec, state="running")
    peer = FakePeer(world)
    try:
        done = subprocess.run(
            ["bash", "-c", '"$@" | head -n 1', "bash", *PROGRAM, "ps"],
            cwd=ROOT,
            env=environment(peer),
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        peer.kill()
    assert done.stdout.startswith("JOB")
    assert done.stderr == ""


def test_whoever_follows_ends_with_its_reader_and_not_with_the_next_event() -> None:
    world = World()
    world.events = [Event(index=1, sequence=0, time_ms=1, kind="node.lost", message="one")]
    peer = FakePeer(world)
    try:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", '"$@" | head -n 1', "bash", *PROGRAM, "events", "-f", "--after", "0"],
            cwd=ROOT,
            env=environment(peer),
            capture_output=True,
            text=True,
            check=False,
            timeout=20,  # the fake peer has no second event, and keeps its streams for longer
        )
    finally:
        peer.kill()
    assert "node.lost" in done.stdout
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        (["peer", "--help"], "numpy", "peer"),
        (["dev", "--help"], "psutil", "all"),
        (["certs", "--help"], "cryptography", "peer"),
        (["agent", "--help"], "psutil", "agent"),
        (["gateway", "--endpoints", "127.0.0.1:1", "--insecure", "--listen", "127.0.0.1:0"], "uvicorn", "gateway"),
    ],
)
@pytest.mark.soak
def test_a_client_install_says_what_a_command_needs(command: list[str], missing: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules['{missing}'] = None; from orchestrator.cli import main; sys.exit(main.run({command}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"raftsman: '{command[0]}' needs more than a client install has ({missing} is missing): "
        f"pip install 'raftsman[{extra}]'\n"
    )


def test_a_client_install_says_what_a_local_cluster_needs() -> None:
    code = "import sys; sys.modules['psutil'] = None; from raftsman import LocalCluster"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "pip install 'raftsman[all]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_reason_to_fail(closed: str) -> None:
    line = f"{shlex.quote(sys.executable)} -m orchestrator.cli.main version {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("var", "get", "v"), b"\xfc \\u03b1\n"),
        (("var", "get", "v", "-o", "json"), b'"value": "\\u00fc \\u03b1"'),
        (("var", "get", "v", "-o", "yaml"), b'value: "\\xFC \\u03B1"'),
    ],
)
def test_a_locale_that_lacks_a_letter_ends_no_command(words: tuple[str, ...], expected: bytes) -> None:
    world = World()
    world.variables["default", "v"] = model.Variable(
        namespace="default", name="v", value="\u00fc \u03b1", version=1, create_index=1, modify_index=1
    )
    peer = FakePeer(world)
    try:
        environ = {**environment(peer), "PYTHONIOENCODING": "latin-1"}
        done = subprocess.run([*PROGRAM, *words], cwd=ROOT, env=environ, capture_output=True, check=False)
    finally:
        peer.kill()
    assert (done.returncode, done.stderr) == (0, b"")
    assert expected in done.stdout


@pytest.mark.parametrize(
    ("environ", "flags", "colored"),
    [
        ({"TERM": "xterm"}, (), True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, (), False),
        ({"TERM": "xterm", "NO_COLOR": ""}, (), True),
        ({"TERM": "xterm"}, ("--no-color",), False),
        ({"TERM": "dumb"}, (), False),
    ],
)
def test_a_terminal_gets_colours_unless_it_has_none_or_nobody_wants_them(
    environ: dict[str, str], flags: tuple[str, ...], colored: bool
) -> None:
    world = World()
    world.jobs["default", "web"] = answers.JobStatus(spec=job_spec(), state="running")
    peer = FakePeer(world)
    main_end, ours = os.openpty()
    try:
        inherited = {name: value for name, value in environment(peer).items() if name not in ("NO_COLOR", "TERM")}
        words = [*PROGRAM, "ps", *flags]
        subprocess.run(words, cwd=ROOT, env=inherited | environ, stdout=ours, stderr=subprocess.PIPE, check=True)
        os.close(ours)
        said = os.read(main_end, 65_536)
    finally:
        peer.kill()
        os.close(main_end)
    assert b"web" in said and (b"\x1b[" in said) is colored


def test_a_full_disk_behind_stdout_is_said_in_words() -> None:
    peer = FakePeer(World())
    try:
        words = ["sh", "-c", '"$@" > /dev/full', "sh", *PROGRAM, "ps"]
        done = subprocess.run(words, cwd=ROOT, env=environment(peer), stderr=subprocess.PIPE, text=True, check=False)
    finally:
        peer.kill()
    assert (done.returncode, done.stderr) == (1, "raftsman: No space left on device\n")
