"""Which control groups an agent finds, and what is written into them, on machines that we do not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.drivers import confinement
from agent.drivers.confinement import Confinement, Limits, shares_of

SOME = Limits(memory_bytes=64 << 20, cpu_millis=1500, cpu_quota_millis=2000, pids=100)
NONE = Limits()


def machine(tmp_path: Path, mounts: list[str], joined: list[str]) -> Confinement:
    (tmp_path / "mountinfo").write_text("".join(f"{line}\n" for line in mounts))
    (tmp_path / "cgroup").write_text("".join(f"{line}\n" for line in joined))
    return confinement.find(tmp_path / "mountinfo", tmp_path / "cgroup")


def group(directory: Path, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_text(content)
    return directory


def test_version_2_is_used_where_its_controllers_reach_the_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "_write", lambda *_: None)  # the kernel's files say what is, not what was written
    root = group(tmp_path / "cg", cgroup__subtree_control="cpu io memory pids")
    group(root / "raftsman", cgroup__subtree_control="cpu memory pids")
    found = machine(
        tmp_path, [f"30 23 0:26 / {root} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"], ["0::/system.slice/x"]
    )
    assert found.version == 2
    assert (found.limits, found.missing) == (("memory", "cpu", "pids"), ())
    assert found.directories("a") == (root / "raftsman" / "a",)


def test_an_agent_that_may_write_only_below_its_own_group_makes_groups_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "_write", lambda *_: None)
    root = tmp_path / "cg"
    mine = group(root / "user.slice" / "me", cgroup__subtree_control="memory")
    group(mine / "raftsman", cgroup__subtree_control="memory pids")
    (root / "raftsman").write_text("no directory can be made here")
    found = machine(tmp_path, [f"30 23 0:26 / {root} rw - cgroup2 cgroup2 rw"], ["0::/user.slice/me"])
    assert found.directories("a") == (mine / "raftsman" / "a",)
    assert (found.limits, found.missing) == (("memory", "pids"), ("cpu",))


def test_version_1_is_used_where_the_controllers_are_there(tmp_path: Path) -> None:
    for controller, file in (("memory", "memory.limit_in_bytes"), ("cpu,cpuacct", "cpu.shares")):
        (group(tmp_path / "cg" / controller / "raftsman") / file).write_text("1")
    mounts = [
        f"31 30 0:27 / {tmp_path}/cg/memory rw - cgroup cgroup rw,memory",
        f"32 30 0:28 / {tmp_path}/cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
        f"33 30 0:29 / {tmp_path}/cg/unified rw - cgroup2 cgroup2 rw",
    ]
    found = machine(tmp_path, mounts, ["2:memory:/", "1:cpu,cpuacct:/", "0::/"])
    assert found.version == 1
    assert (found.limits, found.missing) == (("memory", "cpu"), ("pids",))
    assert [str(directory.relative_to(tmp_path / "cg")) for directory in found.directories("a")] == [
        "memory/raftsman/a",
        "cpu,cpuacct/raftsman/a",
    ]


def test_a_machine_without_any_has_none(tmp_path: Path) -> None:
    found = machine(tmp_path, ["20 1 8:1 / / rw - ext4 /dev/sda rw", "garbage"], ["", "x"])
    assert (found.version, found.limits, found.directories("a")) == (0, (), ())
    assert confinement.find(tmp_path / "absent", tmp_path / "absent").version == 0


@pytest.mark.parametrize(
    ("version", "files", "limits"),
    [
        (
            2,
            {"memory.max": str(64 << 20), "memory.swap.max": "0", "memory.oom.group": "1", "cpu.weight": "59",
             "cpu.max": "200000 100000", "pids.max": "100"},
            SOME,
        ),
        (
            2,
            {"memory.max": "max", "memory.swap.max": "max", "cpu.weight": "1", "cpu.max": "max 100000",
             "pids.max": "max"},
            NONE,
        ),
        (
            1,
            {"memory.limit_in_bytes": str(64 << 20), "memory.memsw.limit_in_bytes": str(64 << 20), "cpu.shares": "1536",
             "cpu.cfs_quota_us": "200000", "pids.max": "100"},
            SOME,
        ),
        (1, {"memory.limit_in_bytes": "-1", "cpu.shares": "2", "cpu.cfs_quota_us": "-1", "pids.max": "max"}, NONE),
    ],
)  # fmt: skip
def test_limits_are_written_as_the_kernel_wants_them(
    tmp_path: Path, version: int, files: dict[str, str], limits: Limits
) -> None:
    for name in files:
        (group(tmp_path / "run") / name).write_text("")
    made = Confinement(version=version, parents=dict.fromkeys(("", "memory", "cpu", "pids"), tmp_path))
    assert made.create("run", limits) == (tmp_path / "run",)
    assert {name: (tmp_path / "run" / name).read_text() for name in files} == files


def test_a_kernel_without_swap_accounting_is_no_error_but_one_without_the_limit_is(tmp_path: Path) -> None:
    made = Confinement(version=2, parents={"memory": tmp_path})
    (group(tmp_path / "run") / "memory.max").write_text("")
    made.create("run", SOME)
    with pytest.raises(FileNotFoundError):
        made.create("other", SOME)


def test_shares_are_dockers_and_within_what_the_kernel_takes() -> None:
    assert [shares_of(millis) for millis in (0, 1, 1000, 2500, 10_000_000)] == [2, 2, 1024, 2560, 262_144]
