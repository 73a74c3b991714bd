"""Settings are read in a child: the agent has what they say, and not what reading them took."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from agent import reading
from agent.config import AgentSettings, load

FLAGS = {
    "peers": "a:7400,b:7400",
    "data": "/data",
    "insecure": True,
    "gpu": ("count=2,model=A100",),
    "taint": ("gpu=only:NoSchedule",),
    "label": ("tier=gold",),
    "allow_cap": "NET_ADMIN",
}


def in_a_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """It has not loaded pydantic, as an agent that starts."""
    code = f"import sys\nfrom agent.reading import read\nfrom pathlib import Path\nFLAGS = {FLAGS!r}\n{code}"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_they_are_those_that_loading_them_here_gives_and_nothing_of_it_stays(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("zone: z7\ncpu: 2\n")
    done = in_a_process(
        "found = read(FLAGS, file=Path(sys.argv[1]))\n"
        "print(sorted(vars(found).items()))\n"
        "print(sys.modules.keys() & {'pydantic', 'pydantic_settings', 'yaml'})",
        str(file),
    )
    assert done.stderr == ""
    settings = load(FLAGS, file=file)
    said, loaded = done.stdout.splitlines()
    assert said == str(sorted((name, getattr(settings, name)) for name in AgentSettings.model_fields))
    assert loaded == "set()"
    assert asdict(settings.gpu[0])["count"] == 2, "none of them is a string or a number only"


def test_what_is_wrong_with_them_is_told_as_if_they_had_been_read_here() -> None:
    done = in_a_process("read({**FLAGS, 'cpu': 'much'})")
    assert "StartupError: --cpu: 'much'; expected cores, for example 2, 1.5 or 500m" in done.stderr.splitlines()[-1]


def test_a_child_that_breaks_is_told_with_what_it_said() -> None:
    done = in_a_process("sys.modules['agent.config'] = None\nread(FLAGS)")
    assert "import of agent.config halted" in done.stderr
    assert "the settings could not be read" in done.stderr.splitlines()[-1]


def test_what_the_parent_was_to_write_is_written_once() -> None:
    done = in_a_process("print('once')\nread(FLAGS)")
    assert (done.stdout, done.stderr) == ("once\n", "")


def test_who_has_loaded_it_all_already_forks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fork", None)
    assert reading.read(FLAGS).peers == ("a:7400", "b:7400")
